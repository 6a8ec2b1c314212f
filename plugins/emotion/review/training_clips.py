"""The clips that persons have labelled, as a dataset to train on: the dataset ``reviewed`` of the catalogue.

A clip can be used if all who labelled it agree on an emotion. Clips on which two persons disagree are left out: in
simulations, soft labels did not measure better (``docs/benchmarks/review.py``).

Clips of one speaker, of one call or of one batch are alike in more than their emotion. So those that share any of
these, directly or by way of others, are one *group*, and a fold holds out whole groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from emotion.datasets.catalogue import ReviewedEntry
from emotion.datasets.clips import SourceClip, SourceClips, speaker_name
from emotion.errors import ConfigurationError
from emotion.review import clips, settled
from emotion.store import Store

LEAST_CLIPS = 5
"""Of an emotion. The random folds of a training run need as many; an emotion with fewer clips is left out."""
FOLDS = 6
"""At most so many; fewer where there are fewer groups."""
GROUPS = "groups of speakers, calls and batches"
"""Name of the scheme of these folds."""
DOUBTFUL = (
    "Half of the reviewed clips were chosen because a model was in doubt, so figures on them are lower than in use. "
    "The report of a scoring run has the accuracy in use. Champion and challenger are compared with weights that "
    "undo the choice."
)
ALONE = (
    "The reviewed clips are one group: all share a speaker, a call or a batch with each other. They are held out as a "
    "whole; review clips of more batches for a better test."
)


def usable(labelled: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`emotion.review.settled.table` that can be trained on, one for each audio, sorted by it.

    An audio that has different emotions in two batches is left out; so is an emotion with fewer than
    :data:`LEAST_CLIPS` clips.

    Examples
    --------
    >>> rows = pd.DataFrame({"audio": list("abcdefg"), "batch": "b", "label": ["sad"] * 5 + ["happy", ""]})
    >>> usable(rows.assign(outcome=["emotion"] * 6 + ["disagree"]))["audio"].tolist()
    ['a', 'b', 'c', 'd', 'e']
    """
    rows = labelled[labelled["outcome"] == "emotion"]
    agreed = rows.groupby("audio")["label"].transform("nunique") == 1
    rows = rows[agreed].sort_values(["audio", "batch"]).drop_duplicates("audio")
    return rows[rows.groupby("label")["audio"].transform("size") >= LEAST_CLIPS].reset_index(drop=True)


def trainable(store: Store) -> pd.DataFrame:
    """The :func:`usable` labels of the store whose audio is still kept: what an import of the dataset takes."""
    rows = usable(settled.table(store))
    kept = set(store.list(clips.AUDIO))
    is_kept = np.array([clips.key_of(row.audio, row.suffix) in kept for row in rows.itertuples()], dtype=bool)
    return rows[is_kept].reset_index(drop=True)


def can_be_used(rows: pd.DataFrame) -> bool:
    """Whether :func:`trainable` rows make a dataset: they show two emotions or more.

    >>> can_be_used(pd.DataFrame({"label": ["sad", "sad"]})), can_be_used(pd.DataFrame({"label": ["sad", "happy"]}))
    (False, True)
    """
    return rows["label"].nunique() > 1


def speakers_of(rows: pd.DataFrame) -> np.ndarray:
    """The name by which each clip's speaker is held out, shape (n_clips,) of str.

    Where no speaker is known, a part of a long recording is named by its call and channel, and any other clip by its
    batch.

    Examples
    --------
    >>> rows = pd.DataFrame({"speaker": ["anna", "", ""], "sha256": "0f" * 32, "channel": ["", "2", ""]})
    >>> speakers_of(rows.assign(start=[np.nan, 3.0, np.nan], batch="monday")).tolist()
    ['anna', 'call 0f0f0f0f0f0f 2', 'batch monday']
    """
    call = ("call " + rows["sha256"].str[:12] + " " + rows["channel"].astype(str)).str.strip()
    unknown = np.where(rows["start"].notna(), call, "batch " + rows["batch"])
    return np.where(rows["speaker"] != "", rows["speaker"], unknown)


def groups_of(*keys: Sequence[Hashable]) -> np.ndarray:
    """The number of each row's group, shape (n_rows,): rows that have a key in common are of one group.

    Parameters
    ----------
    *keys : sequences, of length n_rows
        Values by which rows belong together; ``""`` belongs to nothing.

    Examples
    --------
    >>> groups_of(["anna", "anna", "", "ben"], ["monday", "tuesday", "tuesday", "friday"]).tolist()
    [0, 0, 0, 1]
    """
    count = len(keys[0])
    nodes: dict[tuple[int, Hashable], int] = {}
    links = [
        (row, nodes.setdefault((number, value), count + len(nodes)))
        for number, values in enumerate(keys)
        for row, value in enumerate(values)
        if value != ""
    ]
    rows, others = np.array(links).T if links else np.empty((2, 0), dtype=int)
    size = count + len(nodes)
    graph = coo_matrix((np.ones(len(rows)), (rows, others)), shape=(size, size))
    return connected_components(graph, directed=False)[1][:count]


def folds_of(speakers: Iterable[str], groups: np.ndarray) -> list[list[str]]:
    """The speakers that each fold holds out: whole groups, the largest first, each to the fold with the fewest clips.

    >>> folds_of(["anna", "ben", "anna", "carla"], np.array([0, 0, 0, 1]))
    [['anna', 'ben'], ['carla']]
    """
    sizes = Counter(groups.tolist())
    folds: list[set[int]] = [set() for _ in range(min(FOLDS, len(sizes)))]
    clips_of_fold = [0] * len(folds)
    for group, size in sizes.most_common():
        smallest = clips_of_fold.index(min(clips_of_fold))
        folds[smallest].add(group)
        clips_of_fold[smallest] += size
    names = list(zip(speakers, groups.tolist(), strict=True))
    return [sorted({speaker for speaker, group in names if group in fold}) for fold in folds]


def source_clips(store: Store, entry: ReviewedEntry) -> SourceClips:
    """The clips that can be trained on and whose audio is still kept, with their folds; in the order of their audio.

    Raises
    ------
    ConfigurationError
        If there are clips of fewer than two emotions.
    """
    rows = trainable(store)
    if not can_be_used(rows):
        labelled = len(settled.table(store))
        raise ConfigurationError(
            f"{entry.name} has {len(rows)} clips of {rows['label'].nunique()} emotions to train on, of {labelled} "
            f"that were labelled; expected two emotions or more, each with {LEAST_CLIPS} clips on which all who "
            "labelled them agree: label more on the page Emotion review"
        )
    names = speakers_of(rows)
    speakers = [speaker_name(entry, name) for name in names]
    groups = groups_of(names.tolist(), rows["sha256"].tolist(), rows["batch"].tolist())
    folds = folds_of(speakers, groups)
    return SourceClips(
        [
            SourceClip(
                f"{row.audio}.{row.suffix}",
                {
                    "emotion": row.label,
                    "speaker": speaker,
                    "actor": row.speaker,
                    "repetition": None,
                    "drawn": row.probability,
                },
                0,
                partial(_read, store, clips.key_of(row.audio, row.suffix)),
            )
            for row, speaker in zip(rows.itertuples(), speakers, strict=True)
        ],
        origin=f"labels of {rows['batch'].nunique()} batches",
        warnings=(DOUBTFUL, ALONE) if len(folds) == 1 else (DOUBTFUL,),
        folds=tuple(map(tuple, folds)),
        folds_scheme=GROUPS,
    )


def _read(store: Store, key: str) -> bytes:
    return store.read_bytes(key)
