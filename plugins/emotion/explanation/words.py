"""Says how a voice differs from what is usual, in words: from the values of features, not from their contributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from emotion.features import groups
from emotion.vocabulary import Mode

AUDIBLE = 0.5
"""From this distance from the usual on, in standard deviations, a gauge gets its word."""
MUCH = 2.0
"""From this distance on, the word is said with *much*."""
UNUSUAL = 1.2
"""The mean distance of a group's features from the usual, from which the group is called unusual where none of its
gauges has a word. Of normally distributed features it is 0.8."""
FAR = 10.0
"""Larger distances count as this one, so that one feature does not decide for a group."""
USUAL: dict[Mode, str] = {
    "plain": "than usual",
    "batch": "than usual in this batch",
    "speaker": "than this speaker's usual",
}
"""Mode of an answer → what its words compare with: the clips of training, of the batch or of the speaker."""


def gauge_values(distances: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """The gauges of each group, by subgroup: their mean distance from the usual.

    Parameters
    ----------
    distances : float array, shape (n_features,)
        How far each feature lies from what is usual, in standard deviations.
    names : sequence of str, length n_features
        A gauge whose features are not all among them has no value.

    Examples
    --------
    >>> gauge_values(np.array([1.0, 3.0]), ("jitter", "shimmer_db"))
    {'voice quality': {'roughness': 2.0}}
    """
    by_name = dict(zip(names, np.clip(distances, -FAR, FAR).tolist(), strict=True))
    values: dict[str, dict[str, float]] = {}
    for group in groups.GROUPS:
        for subgroup in group.subgroups:
            for gauge in subgroup.gauges:
                if all(name.removeprefix("-") in by_name for name in gauge.features):
                    parts = [_signed(name, by_name) for name in gauge.features]
                    values.setdefault(group.name, {})[subgroup.name] = float(np.mean(parts))
    return values


def _signed(name: str, by_name: Mapping[str, float]) -> float:
    return -by_name[name[1:]] if name.startswith("-") else by_name[name]


def group_words(
    distances: np.ndarray, names: Sequence[str], *, audible: float = AUDIBLE, much: float = MUCH
) -> dict[str, str]:
    """What each group of features says of a voice; parameters as in :func:`gauge_values`.

    A group without a gauge beyond ``audible`` is ``usual``, or ``unusual`` if its features lie far from the usual.

    >>> names = ("f0_semitone_voiced_mean", "f0_semitone_voiced_p50", "f0_semitone_voiced_std", "jitter", "shimmer_db")
    >>> group_words(np.array([2.5, 2.5, 0.9, 0.1, 0.2]), names)
    {'pitch': 'much higher and wider pitch', 'voice quality': 'usual voice quality'}
    """
    gauges = gauge_values(distances, names)
    words = {}
    for name, subgroups in groups.groups_of(names).items():
        phrase = describe_gauges(name, gauges.get(name, {}), audible=audible, much=much)
        if not phrase:
            columns = np.concatenate(list(subgroups.values()))
            mean_distance = np.minimum(np.abs(distances[columns]), FAR).mean()
            phrase = f"{'unusual' if mean_distance > UNUSUAL * audible / AUDIBLE else 'usual'} {name}"
        words[name] = phrase
    return words


def describe_gauges(group: str, values: Mapping[str, float], *, audible: float = AUDIBLE, much: float = MUCH) -> str:
    """The words of a group for the values of its gauges, by subgroup; ``""`` if none is audible.

    >>> describe_gauges("tempo", {"rate": -0.8, "pauses": 0.7})
    'slower speech and longer pauses'
    """
    by_noun: dict[str, list[str]] = {}
    subgroups = next((each.subgroups for each in groups.GROUPS if each.name == group), ())
    for subgroup in subgroups:
        for gauge in subgroup.gauges:
            value = values.get(subgroup.name, 0.0)
            if abs(value) >= audible:
                word = gauge.more if value > 0 else gauge.less
                by_noun.setdefault(gauge.noun, []).append(f"much {word}" if abs(value) >= much else word)
    return listing([f"{listing(words)} {noun}" for noun, words in by_noun.items()])


def listing(parts: Sequence[str]) -> str:
    """Parts of a sentence as one: with commas, and *and* before the last.

    >>> listing(["higher", "wider", "livelier"])
    'higher, wider and livelier'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def is_comparison(words: str) -> bool:
    """Whether *than usual* may follow the words.

    >>> is_comparison("higher pitch"), is_comparison("unusual timbre"), is_comparison("timbre in its details")
    (True, False, False)
    """
    return not words.startswith(("usual ", "unusual ")) and not words.endswith(" in its details")
