"""The 95 % interval of a share that was measured on clips which are not independent: few speakers, few batches.

A model that misreads a voice, or a line, misreads most of its clips. So what varies is summed up by *cluster* (a
speaker, a file, a batch) before it is squared (the linearized, or "sandwich", variance of survey statistics; Särndal,
Swensson & Wretman 1992, "Model assisted survey sampling", chapter 5). A few clusters give a rough variance themselves.
It is therefore drawn towards the variance that clips have whose clusters correlate as is usual (:data:`USUAL`, worth
:data:`PRIOR_CLUSTERS`; Smyth 2004 does so for features), and the interval has Student's quantile for that many degrees
of freedom. Clips have several kinds of clusters at once; the kind that gives the widest interval counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from scipy.stats import t as student

USUAL = 0.05
"""The usual correlation of being right between two clips of one cluster: actors of RAVDESS have 0.04 to 0.07."""
PRIOR_CLUSTERS = 6
"""Degrees of freedom that the usual correlation is worth."""
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
    clusters : sequence of arrays, shape (n,)
        The cluster of each clip, for each kind of clusters.

    Examples
    --------
    >>> right, speakers = np.array([1, 1, 1, 1, 0, 0, 1, 1.0]), np.repeat(list("abcd"), 2)
    >>> share = weighted_mean(right, np.ones(8), [speakers])
    >>> {name: round(value, 2) for name, value in interval(share).items()}
    {'value': 0.75, 'low': 0.28, 'high': 0.96}
    """

    value: float
    influence: np.ndarray
    weights: np.ndarray
    clusters: Sequence[np.ndarray]


def weighted_mean(values: np.ndarray, weights: np.ndarray, clusters: Sequence[np.ndarray]) -> Measured:
    """The mean of values (n,) by weights (n,); with 1 / probability as weights, Hájek's (1971) estimate."""
    shares = weights / weights.sum()
    mean = float((shares * values).sum())
    return Measured(mean, shares * (values - mean), shares, clusters)


def interval(share: Measured) -> Interval:
    """The share and its interval; :class:`Measured` shows an example.

    The interval is Wilson's (1927), for as many independent clips as would vary as much, with Student's quantile.
    """
    widest = max((_bounds(share, names) for names in share.clusters), key=lambda bounds: bounds[1] - bounds[0])
    return {"value": share.value, "low": widest[0], "high": widest[1]}


def labels_for(share: Measured, half_width: float) -> int:
    """How many clips in all would make the interval this narrow (± ``half_width``), if more come as those that are
    there: as many for each cluster, weighted alike.

    >>> share = weighted_mean(np.tile([1.0, 0.0], 50), np.ones(100), [np.arange(100)])
    >>> 380 < labels_for(share, 0.05) < 420
    True
    """
    clips = len(share.weights)
    return max(_needed(share, names, half_width, clips) for names in share.clusters)


def _needed(share: Measured, names: np.ndarray, half_width: float, clips: int) -> int:
    spread = share.value * (1 - share.value) / max(_effective(share, names), 1e-9) if 0 < share.value < 1 else 0.0
    variance = max(spread, 0.05 / clips)  # all right, or all wrong, so far: the next may not be
    clusters, factor = len(np.unique(names)), 1.0
    while student.ppf(LEVEL, PRIOR_CLUSTERS + factor * clusters - 1) * np.sqrt(variance / factor) > half_width:
        factor *= 1.02
    return int(np.ceil(factor * clips))


def _bounds(share: Measured, names: np.ndarray) -> tuple[float, float]:
    effective = _effective(share, names)
    quantile = student.ppf(LEVEL, PRIOR_CLUSTERS + len(np.unique(names)) - 1)
    extra = quantile**2 / effective
    centre = (share.value + extra / 2) / (1 + extra)
    half = np.sqrt(share.value * (1 - share.value) * extra + extra**2 / 4) / (1 + extra)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def _effective(share: Measured, names: np.ndarray) -> float:
    """How many independent clips would vary as much as these do, by one kind of clusters."""
    clips = len(share.weights)
    _, codes = np.unique(names, return_inverse=True)
    clusters = codes.max() + 1
    squares = (share.weights**2).sum()
    in_cluster = (np.bincount(codes, weights=share.weights) ** 2).sum()
    usual_effect = ((1 - USUAL) * squares + USUAL * in_cluster) / squares
    usual = (share.influence**2).sum() * clips / max(clips - 1, 1) * usual_effect
    measured = (np.bincount(codes, weights=share.influence) ** 2).sum() * clusters / max(clusters - 1, 1)
    variance = (PRIOR_CLUSTERS * usual + (clusters - 1) * measured) / (PRIOR_CLUSTERS + clusters - 1)
    most = clips / usual_effect if variance < 1e-12 else float(clips)
    return float(min(most, share.value * (1 - share.value) / max(variance, 1e-12)) if variance >= 1e-12 else most)
