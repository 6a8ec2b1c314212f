"""Accuracy against coverage: how accurate the answers are that remain when the least certain are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

STEPS = 20
"""Points of a curve: one for every twentieth of the clips."""
LEAST_CLIPS = 20
"""A point stands for at least so many clips: the accuracy of fewer says little."""
ALL = 1.01
"""A limit of the confidence that no answer reaches."""


class CoveragePoint(TypedDict):
    """The clips whose answer has at least this ``confidence``: their share (``coverage``) and their ``accuracy``."""

    coverage: float
    confidence: float
    accuracy: float


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> list[CoveragePoint]:
    """The accuracy of the most certain answers, from few of them to all (El-Yaniv & Wiener 2010).

    Parameters
    ----------
    confidence : float array, shape (n_clips,)
        Of held-out clips.
    right : bool array, shape (n_clips,)
        Whether the answer is right.

    Returns
    -------
    list of dict
        At most :data:`STEPS` points; the last one has a coverage of 1. Empty for fewer than :data:`LEAST_CLIPS` clips.

    Examples
    --------
    >>> confidence = np.linspace(0.2, 1, 100)
    >>> curve = coverage_curve(confidence, confidence > 0.5)
    >>> [round(curve[number]["accuracy"], 2) for number in (0, 10, -1)]
    [1.0, 0.89, 0.62]
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, hits = confidence[order], np.cumsum(right[order])
    points: list[CoveragePoint] = []
    for step in range(1, STEPS + 1):
        least = ranked[max(1, round(step * len(ranked) / STEPS)) - 1]
        kept = int(np.searchsorted(-ranked, -least, side="right"))  # clips of the same confidence stay together
        if kept >= LEAST_CLIPS and (not points or least < points[-1]["confidence"]):
            points.append(
                {
                    "coverage": kept / len(ranked),
                    "confidence": float(least),
                    "accuracy": float(hits[kept - 1] / kept),
                }
            )
    return points


def limit_for(curve: Sequence[CoveragePoint], accuracy: float) -> float:
    """The confidence below which answers are left out, so that the others are at least this accurate.

    0 where all answers together are; :data:`ALL` where no share of the answers is.

    >>> curve = [CoveragePoint(coverage=0.5, confidence=0.8, accuracy=0.9)]
    >>> curve += [CoveragePoint(coverage=1, confidence=0.2, accuracy=0.7)]
    >>> [limit_for(curve, accuracy) for accuracy in (0.6, 0.85, 0.95)]
    [0.0, 0.8, 1.01]
    """
    reached = [point for point in curve if point["accuracy"] >= accuracy]
    if not reached:
        return ALL
    widest = max(reached, key=lambda point: point["coverage"])
    return 0.0 if widest["coverage"] == 1 else widest["confidence"]
