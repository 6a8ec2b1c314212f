"""Says in words how a batch differs: from the training set, and from the last batches of the same model.

The words are those of explanations (:mod:`emotion.explanation.words`). The unit is the distance of one new speaker's
mean from the mean of training, so that a batch of few clips is measured as one of many.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from emotion.explanation.words import describe_gauges, gauge_values, group_words
from emotion.features.groups import groups_of
from emotion.store import Store

AUDIBLE, MUCH = 0.75, 2.0
"""From these distances on, a gauge gets its word, and the word is said with *much*."""
KEPT = 20
"""Batches of a model whose gauges are kept."""
LAST = 5
"""So many of them at most, the newest, a batch is compared with."""

Gauges = dict[str, dict[str, float]]
"""Group → subgroup → its gauge, see :func:`emotion.explanation.words.gauge_values`."""


def group_drift(shift: np.ndarray, distances: np.ndarray, names: Sequence[str]) -> list[dict]:
    """How far each group of features has moved, the farthest first.

    Parameters
    ----------
    shift : float array, shape (n_features,)
        Of each feature, see :func:`emotion.monitoring.statistics.mean_shift`.
    distances : float array, shape (n_features,)
        How far the batch's mean lies from that of training, in the unit of this module.
    names : sequence of str, length n_features

    Returns
    -------
    list of dict
        ``group``, ``words``, ``shift`` (the mean size of the shifts of its features; 0.8 is a new speaker's) and
        ``gauges``, by subgroup.

    Examples
    --------
    >>> names = ("f0_semitone_voiced_mean", "f0_semitone_voiced_p50", "jitter", "shimmer_db")
    >>> drifted = group_drift(np.array([4.0, 4.0, 0.1, 0.1]), np.array([2.5, 2.5, 0.1, 0.1]), names)
    >>> [(group["group"], group["words"], group["shift"]) for group in drifted]
    [('pitch', 'much higher pitch', 4.0), ('voice quality', 'usual voice quality', 0.1)]
    """
    words = group_words(distances, names, audible=AUDIBLE, much=MUCH)
    gauges = gauge_values(distances, names)
    rows = [
        {
            "group": group,
            "words": words[group],
            "shift": float(np.abs(shift[np.concatenate(list(subgroups.values()))]).mean()),
            "gauges": gauges.get(group, {}),
        }
        for group, subgroups in groups_of(names).items()
    ]
    return sorted(rows, key=lambda row: -row["shift"])


def compare(gauges: Gauges, earlier: Sequence[Gauges]) -> list[dict]:
    """What has changed against earlier batches, in words: against the median of each gauge.

    Returns
    -------
    list of dict
        ``group`` and ``words`` of each group of which a gauge moved by :data:`AUDIBLE` or more, the farthest first.

    Examples
    --------
    >>> compare({"pitch": {"height": 1.5, "range": 0.1}}, [{"pitch": {"height": 0.2, "range": 0.0}}])
    [{'group': 'pitch', 'words': 'higher pitch'}]
    """
    found = []
    for group, values in gauges.items():
        known = [batch.get(group, {}) for batch in earlier]
        moved = {
            subgroup: value - float(np.median(values_before))
            for subgroup, value in values.items()
            if (values_before := [before[subgroup] for before in known if subgroup in before])
        }
        words = describe_gauges(group, moved, audible=AUDIBLE, much=MUCH)
        if words:
            found.append((max(map(abs, moved.values())), {"group": group, "words": words}))
    return [change for _, change in sorted(found, key=lambda item: -item[0])]


def note_batch(store: Store, version: str, batch: str, groups: Sequence[Mapping]) -> dict | None:
    """Keep the gauges of a batch, and compare them with those of the last batches of the version before it.

    Parameters
    ----------
    store : Store
    version : str
        Of the model that scored.
    batch : str
        A batch that is noted again, as its task is tried again, replaces its former self.
    groups : sequence of mapping
        From :func:`group_drift`.

    Returns
    -------
    dict or None
        ``batches`` (how many it is compared with) and ``changes`` (:func:`compare`); None for the first batch.

    Examples
    --------
    >>> store = Store("memory://note-batch")
    >>> note_batch(store, "one", "monday", [{"group": "pitch", "gauges": {"height": 0.0}}])
    >>> note_batch(store, "one", "tuesday", [{"group": "pitch", "gauges": {"height": -3.0}}])
    {'batches': 1, 'changes': [{'group': 'pitch', 'words': 'much lower pitch'}]}
    """
    gauges = {group["group"]: group["gauges"] for group in groups}
    key = f"scoring/last_batches/{version}.json"
    before: list[dict] = []

    def add(old: bytes | None) -> bytes:
        nonlocal before
        known = store.parse_json(key, old) if old is not None else []
        before = [entry for entry in known if entry["batch"] != batch]
        return store.format_json([*before, {"batch": batch, "time": time.time(), "gauges": gauges}][-KEPT:])

    store.update(key, add)
    last = before[-LAST:]
    if not last:
        return None
    return {"batches": len(last), "changes": compare(gauges, [entry["gauges"] for entry in last])}
