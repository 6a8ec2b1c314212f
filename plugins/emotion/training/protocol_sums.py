"""The sums that the fits of a protocol start from, computed once for all of its folds.

The rows of a protocol are read once, in parts: each fold leaves out another part. The sums of a training side are the
sums of its parts, added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add

import numpy as np

from emotion.models.adaptation import CONSTANT
from emotion.models.sums import Rows, Sums
from emotion.training.rows import ADAPTED_TO, TrainingRows, Variants, dataset_weights


def sums_of_sides(
    rows: TrainingRows, protocol: str, sides: Sequence[np.ndarray]
) -> Iterator[tuple[Variants, Sums | None]]:
    """For each training side (row numbers): the features that the protocol uses with it, and the sums over the rows of
    its clips and their copies, weighted by dataset; None where the rows are so few that no fit needs sums.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"emotion": ["happy", "sad", "sad"], "speaker": ["a", "b", "c"]})
    >>> rows = TrainingRows.from_table(table, np.float32([[1], [2], [9]]), None)
    >>> [sums.mean_and_scale()[0].item() for _, sums in sums_of_sides(rows, "random", [np.array([0, 1]), rows.clips])]
    [1.5, 4.0]
    """
    width = rows.plain[0].shape[1]
    if len(rows.plain) * max(map(len, sides)) <= width + 1:
        yield from ((rows.variants(protocol, side), None) for side in sides)
    elif protocol in ADAPTED_TO["batch"]:
        yield from _by_batch(rows, protocol, sides)
    elif protocol == "random_adapted":  # each fold has other features
        for side in sides:
            yield from _of_same_features(rows, rows.variants(protocol, side), [side])
    else:
        yield from _of_same_features(rows, rows.variants(protocol, sides[0]), sides)


def _of_same_features(
    rows: TrainingRows, variants: Variants, sides: Sequence[np.ndarray]
) -> Iterator[tuple[Variants, Sums]]:
    parts = _parts(rows, sides)
    of_parts = _sums_of_parts(rows, [variants.rows(clips) for clips, _ in parts], [clips for clips, _ in parts])
    for number, side in enumerate(sides):
        weights = _weight_by_dataset(rows, side)
        inside = [
            sums.weighted(weights[rows.datasets[clips[0]]])
            for (clips, members), sums in zip(parts, of_parts, strict=True)
            if members[number]
        ]
        yield variants, reduce(add, inside)


def _by_batch(rows: TrainingRows, protocol: str, sides: Sequence[np.ndarray]) -> Iterator[tuple[Variants, Sums]]:
    """Each training side of each dataset is z-scored by itself, in each variant. That is an affine map, so the sums of
    the z-scored features follow from those of the features as they are."""
    parts = _parts(rows, sides)
    normalized = [rows.variants(protocol, side) for side in sides]
    weights = [_weight_by_dataset(rows, side) for side in sides]
    totals: list[Sums | None] = [None] * len(sides)
    for number, plain in enumerate(rows.plain):
        of_parts = _sums_of_parts(rows, [Rows.of(plain).take(clips) for clips, _ in parts], [c for c, _ in parts])
        for side, variants in enumerate(normalized):
            for dataset, weight in weights[side].items():
                inside = [
                    (clips, sums)
                    for (clips, members), sums in zip(parts, of_parts, strict=True)
                    if members[side] and rows.datasets[clips[0]] == dataset
                ]
                statistics = variants.statistics(number, inside[0][0][0])
                scale = np.where(statistics.scale <= CONSTANT, np.inf, statistics.scale)
                sums = reduce(add, (sums for _, sums in inside)).relative_to(statistics.centre, scale).weighted(weight)
                total = totals[side]
                totals[side] = sums if total is None else total + sums
    for variants, total in zip(normalized, totals, strict=True):
        assert total is not None
        yield variants, total


def _parts(rows: TrainingRows, sides: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The largest sets of clips of one dataset that each side has all or none of: their row numbers, and which of the
    sides has them, bool (n_sides,)."""
    members = np.stack([np.isin(rows.clips, side) for side in sides], axis=1)
    _, datasets = np.unique(rows.datasets, return_inverse=True)
    kinds, kind_of_clip = np.unique(np.column_stack([datasets, members]), axis=0, return_inverse=True)
    parts = [(np.flatnonzero(kind_of_clip.ravel() == number), kind[1:] > 0) for number, kind in enumerate(kinds)]
    return [part for part in parts if part[1].any()]


def _sums_of_parts(rows: TrainingRows, parts: list[Rows], clips: list[np.ndarray]) -> list[Sums]:
    """The sums of the rows of each part; a part may have several rows of each of its clips."""
    emotions, codes = np.unique(rows.labels, return_inverse=True)
    return [
        Sums.of(part, np.tile(codes[of_part], len(part) // len(of_part)), len(emotions))
        for part, of_part in zip(parts, clips, strict=True)
    ]


def _weight_by_dataset(rows: TrainingRows, side: np.ndarray) -> dict[str, float]:
    """What each row of a dataset weighs in a fit on this training side."""
    datasets = rows.datasets[side]
    weights = dataset_weights(datasets)
    return dict(zip(datasets, np.ones(len(side)) if weights is None else weights, strict=True))
