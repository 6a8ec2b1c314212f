"""The folds of every protocol: which clips a model is fitted on, and which it is tested on.

:data:`emotion.vocabulary.PROTOCOLS` says what each protocol stands for. Nothing here fits a model.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from emotion.errors import DataError

Fold = tuple[np.ndarray, np.ndarray]
"""Row numbers of the training side and of the test side."""
RANDOM_FOLDS = 5
SPEAKER_FOLDS = 6
LEAST_SPEAKERS = 3
LEAST_TRAINING_SPEAKERS = 2
"""The fit leaves each training speaker out in turn (:mod:`emotion.models.projection`), so it needs two of them."""


def splits(table: pd.DataFrame, *, seed: int, published: tuple[tuple[str, ...], ...] | None) -> dict[str, list[Fold]]:
    """The folds of every protocol, and the single 80/20 split.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip: emotion, speaker.
    seed : int
    published : tuple of tuples of str, or None
        See :func:`speaker_folds`.

    Returns
    -------
    dict of list of Fold
        By protocol; ``split_80_20`` has one fold. A protocol and its adapted forms have the same folds.

    Raises
    ------
    DataError
        As :func:`random_split`, :func:`random_folds` and :func:`speaker_folds` do.

    Examples
    --------
    >>> table = pd.DataFrame({"emotion": ["sad", "happy"] * 9, "speaker": np.repeat(["a", "b", "c"], 6)})
    >>> folds = splits(table, seed=0, published=None)
    >>> {protocol: len(folds[protocol]) for protocol in ("split_80_20", "random", "speaker_independent")}
    {'split_80_20': 1, 'random': 5, 'speaker_independent': 3}
    >>> folds["speaker_independent_batch"] is folds["speaker_independent"]
    True
    """
    labels, speakers = table["emotion"].to_numpy(), table["speaker"].to_numpy()
    by_speaker = speaker_folds(labels, speakers, seed=seed, published=published)
    random = random_folds(labels, seed=seed)
    return {
        "split_80_20": [random_split(labels, seed=seed)],
        "random": random,
        "random_adapted": random,
        "speaker_independent": by_speaker,
        "speaker_independent_batch": by_speaker,
        "speaker_independent_adapted": by_speaker,
    }


def random_split(labels: np.ndarray, *, seed: int, test_size: float = 0.2) -> Fold:
    """One stratified random split; the same speakers are on both sides.

    Raises DataError if there are fewer than two emotions, or fewer than two clips of one.

    >>> train, test = random_split(np.array(["sad", "happy"] * 10), seed=0)
    >>> len(train), len(test)
    (16, 4)
    """
    _require_clips_per_emotion(labels, 2, "a random split")
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    return next(splitter.split(labels, labels))


def random_folds(labels: np.ndarray, *, seed: int) -> list[Fold]:
    """Five stratified random folds; the same speakers are on both sides.

    Raises DataError if there are fewer than two emotions, or fewer than five clips of one.

    >>> [len(test) for _, test in random_folds(np.array(["sad", "happy"] * 10), seed=0)]
    [4, 4, 4, 4, 4]
    """
    _require_clips_per_emotion(labels, RANDOM_FOLDS, f"{RANDOM_FOLDS}-fold cross-validation")
    return list(StratifiedKFold(RANDOM_FOLDS, shuffle=True, random_state=seed).split(labels, labels))


def speaker_folds(
    labels: np.ndarray, speakers: np.ndarray, *, seed: int, published: tuple[tuple[str, ...], ...] | None = None
) -> list[Fold]:
    """Folds that hold out whole speakers.

    Parameters
    ----------
    labels, speakers : array of str, shape (n_clips,)
    seed : int
        Used where no folds are published.
    published : tuple of tuples of str, optional
        Speakers of each fold as published for the dataset (EmoBox for RAVDESS). They may list speakers that the data
        do not have. Without it, up to six stratified grouped folds are drawn.

    Raises
    ------
    DataError
        If there are fewer than three speakers, a clip without a speaker, a speaker in no published fold or in two, or
        a published fold that leaves fewer than two speakers to train on.

    Examples
    --------
    >>> labels, speakers = np.array(["sad", "happy"] * 6), np.repeat(["a", "b", "c"], 4)
    >>> [sorted(set(speakers[test].tolist())) for _, test in speaker_folds(labels, speakers, seed=0)]
    [['c'], ['b'], ['a']]
    >>> published = (("a", "not in these data"), ("b",), ("c",))
    >>> folds = speaker_folds(labels, speakers, seed=0, published=published)
    >>> [sorted(set(speakers[test].tolist())) for _, test in folds]
    [['a'], ['b'], ['c']]
    """
    known = sorted(set(map(str, speakers)))
    if "" in known:
        raise DataError(
            f"{int((speakers == '').sum())} of {len(speakers)} clips have no speaker; expected one for each, because "
            "models are chosen by their scores on unheard speakers: add a speaker column or a subfolder per speaker"
        )
    if len(known) < LEAST_SPEAKERS:
        raise DataError(
            f"found {len(known)} speaker(s); expected at least {LEAST_SPEAKERS}, better {SPEAKER_FOLDS}: one speaker "
            f"is held out to test on, and the fit on the others leaves out each of them in turn: add recordings of "
            "more speakers"
        )
    if published is None:
        splitter = StratifiedGroupKFold(min(SPEAKER_FOLDS, len(known)), shuffle=True, random_state=seed)
        return list(splitter.split(labels, labels, groups=speakers))
    return _published_folds(speakers, known, published)


def _published_folds(speakers: np.ndarray, known: list[str], published: tuple[tuple[str, ...], ...]) -> list[Fold]:
    listed = [speaker for fold in published for speaker in fold]
    if missing := sorted(set(known) - set(listed)):
        raise DataError(
            f"the published folds do not list the speakers {', '.join(missing)}; expected every speaker in one fold: "
            "add them in the catalogue"
        )
    if repeated := sorted({speaker for speaker in listed if listed.count(speaker) > 1}):
        raise DataError(
            f"the published folds list the speakers {', '.join(repeated)} more than once; expected every speaker in "
            "one fold: correct the catalogue"
        )
    masks = [np.isin(speakers, fold) for fold in published]
    folds = [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in masks if mask.any()]
    if any(len(set(speakers[train])) < LEAST_TRAINING_SPEAKERS for train, _ in folds):
        raise DataError(
            f"a published fold leaves fewer than {LEAST_TRAINING_SPEAKERS} of the speakers {', '.join(known)} to train "
            "on; expected at least that many: choose grouped folds"
        )
    return folds


def _require_clips_per_emotion(labels: np.ndarray, least: int, purpose: str) -> None:
    emotions, counts = np.unique(labels, return_counts=True)
    if len(emotions) < 2:
        raise DataError(
            f"found clips of {len(emotions)} emotion(s) ({', '.join(emotions)}); expected at least 2: add recordings "
            "of another emotion"
        )
    if counts.min() < least:
        raise DataError(
            f"{purpose} needs {least} clips of each emotion; found {counts.min()} of {emotions[counts.argmin()]}: add "
            "recordings of it"
        )
