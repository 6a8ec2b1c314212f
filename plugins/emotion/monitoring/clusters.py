"""The 95 % interval of a share that was measured on clips which are not independent: few speakers, few batches.

A model that misreads a voice, or a line, misreads most of its clips. So what varies is summed up by *cluster* (a
speaker, a file, a batch) before it is squared (the linearized, or "sandwich", variance of survey statistics; Särndal,
Swensson & Wretman 1992, "Model assisted survey sampling", chapter 5). A few clusters give a rough variance themselves.
It is therefore drawn towards the variance that clips have whose clusters correlate as is usual (:data:`USUAL`, worth
:data:`PRIOR_CLUSTERS` clusters; Smyth 2004 does so for features), and the interval has Student's quantile for that many
degrees of freedom. Clips have several kinds of clusters at once; the kind that gives the widest interval counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np

from emotion.monitoring.statistics import student_quantile

USUAL = {"voice": 0.05, "file": 0.05, "batch": 0.02}
"""The usual correlation of being right between two clips of one cluster, by kind: actors of RAVDESS have 0.07, the
speakers of nEMO less than 0.01."""
PRIOR_CLUSTERS = 6
"""Degrees of freedom that the usual correlation is worth."""
LABELS_OF_BATCH = 20
"""So many labels are expected of each further cluster at most: a scoring run asks for 20 of a batch by default."""
LEVEL = 0.975


class Interval(TypedDict):
    """A share and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Measured:
    """A share in the making.

    Attributes
    ----------
    value : float
    influence : float array, shape (n,)
        How much each clip moves the share: for a weighted mean, its weight × (its value - the mean) / all weights.
    weights : float array, shape (n,)
        They add up to 1.
    clusters : mapping of arrays, shape (n,)
        Kind of clusters (of :data:`USUAL`) → the cluster of each clip.

    Examples
    --------
    >>> right, speakers = np.array([1, 1, 1, 1, 0, 0, 1, 1.0]), np.repeat(list("abcd"), 2)
    >>> share = weighted_mean(right, np.ones(8), {"voice": speakers})
    >>> {name: round(value, 2) for name, value in interval(share).items()}
    {'value': 0.75, 'low': 0.28, 'high': 0.96}
    """

    value: float
    influence: np.ndarray
    weights: np.ndarray
    clusters: Mapping[str, np.ndarray]


def weighted_mean(values: np.ndarray, weights: np.ndarray, clusters: Mapping[str, np.ndarray]) -> Measured:
    """The mean of values (n,) by weights (n,); with 1 / probability as weights, Hájek's (1971) estimate."""
    shares = weights / weights.sum()
    mean = float((shares * values).sum())
    return Measured(mean, shares * (values - mean), shares, clusters)


def interval(share: Measured) -> Interval:
    """The share and its interval; :class:`Measured` shows an example.

    The interval is Wilson's (1927), for as many independent clips as would vary as much, with Student's quantile.
    """
    widest = max(
        (_bounds(share, _variance(share, kind)) for kind in share.clusters), key=lambda bounds: bounds[1] - bounds[0]
    )
    return {"value": share.value, "low": widest[0], "high": widest[1]}


def labels_for(share: Measured, half_width: float) -> int:
    """How many clips in all would make the interval this narrow (± ``half_width``).

    Further clips are expected in further clusters, of as many clips as those that are there have, but at most of
    :data:`LABELS_OF_BATCH`.

    >>> share = weighted_mean(np.tile([1.0, 0.0], 50), np.ones(100), {"file": np.arange(100)})
    >>> 380 < labels_for(share, 0.05) < 420
    True
    """
    return max(_needed(_variance(share, kind), half_width, len(share.weights)) for kind in share.clusters)


class _Variance(NamedTuple):
    """Of a share: the variance if clips were independent, and what clusters add; how many clusters there are, and the
    sum of their squared weights; ``freedom``: how well the variance is known."""

    independent: float
    between: float
    clusters: int
    concentration: float
    freedom: int


def _variance(share: Measured, kind: str) -> _Variance:
    """The variance of a share by one kind of clusters."""
    clips, usual = len(share.weights), USUAL[kind]
    _, codes = np.unique(share.clusters[kind], return_inverse=True)
    count = int(codes.max()) + 1
    squares = float((share.weights**2).sum())
    concentration = float((np.bincount(codes, weights=share.weights) ** 2).sum())
    likely = (clips * share.value + 1) / (clips + 2)  # where all were right so far, the next may not be
    spread = max(float((share.influence**2).sum()), 0.5 * likely * (1 - likely) * squares)
    independent = spread * clips / max(clips - 1, 1)
    expected = independent * (1 + usual * (concentration / squares - 1))
    measured = float((np.bincount(codes, weights=share.influence) ** 2).sum()) * count / max(count - 1, 1)
    freedom = PRIOR_CLUSTERS + count - 1
    variance = (PRIOR_CLUSTERS * expected + (count - 1) * measured) / freedom
    return _Variance(independent, variance - independent, count, concentration, freedom)


def _needed(variance: _Variance, half_width: float, clips: int) -> int:
    size = min(clips / variance.clusters, LABELS_OF_BATCH)
    number = clips
    while True:
        fewer = min(size / number / variance.concentration, 1.0)  # how much less concentrated the clips are then
        expected = max(variance.independent * clips / number + variance.between * fewer, 1e-12)
        freedom = variance.freedom + (number - clips) / size
        if student_quantile(LEVEL, freedom) * np.sqrt(expected) <= half_width:
            return number
        number = int(np.ceil(number * 1.02))


def _bounds(share: Measured, variance: _Variance) -> tuple[float, float]:
    total = max(variance.independent + variance.between, 1e-12)
    clips = len(share.weights)
    inside = min(max(share.value, 0.5 / clips), 1 - 0.5 / clips)  # all right, or all wrong, is no certainty
    effective = min(inside * (1 - inside) / total, float(clips))
    extra = student_quantile(LEVEL, variance.freedom) ** 2 / effective
    centre = (share.value + extra / 2) / (1 + extra)
    half = np.sqrt(share.value * (1 - share.value) * extra + extra**2 / 4) / (1 + extra)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)
