"""The statistics of drift: population stability index, Kolmogorov-Smirnov, shift of means."""

from __future__ import annotations

import numpy as np
from scipy.stats import kstwobign

from emotion.vocabulary import EMOTIONS

PSI_BINS = 10
CONFIDENCE_BINS = 100
PRIOR_COUNT = 0.5
"""Added to each PSI bin (Jeffreys' prior), so that an empty bin costs much but not infinitely much."""
SHIFT_QUANTILE = 0.99
LARGEST_SHIFT = 1000.0


def emotion_counts(probabilities: np.ndarray) -> np.ndarray:
    return np.bincount(probabilities.argmax(axis=1), minlength=len(EMOTIONS))


def confidence_counts(probabilities: np.ndarray) -> np.ndarray:
    bins = np.minimum((probabilities.max(axis=1) * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    return np.bincount(bins, minlength=CONFIDENCE_BINS)


def stability_index(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Population stability index along the last axis, of counts."""
    found, expected = found + PRIOR_COUNT, expected + PRIOR_COUNT
    found = found / found.sum(axis=-1, keepdims=True)
    expected = expected / expected.sum(axis=-1, keepdims=True)
    return ((found - expected) * np.log(found / expected)).sum(axis=-1)


def ks_statistic(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Two-sample Kolmogorov–Smirnov statistic at the bins' edges, along the last axis, of counts."""
    found = found.cumsum(axis=-1) / found.sum(axis=-1, keepdims=True)
    expected = expected.cumsum(axis=-1) / expected.sum(axis=-1, keepdims=True)
    return np.abs(found - expected).max(axis=-1)


def confidence_drop(found: np.ndarray, expected: np.ndarray) -> float:
    """The one-sided KS statistic of confidence: by how much more of the batch lies below some confidence."""
    return float((found.cumsum() / found.sum() - expected.cumsum() / expected.sum()).max())


def ks_p(statistic: np.ndarray, clips: int, reference_clips: int) -> np.ndarray:
    """Its p-value (Stephens 1970)."""
    root = np.sqrt(clips * reference_clips / (clips + reference_clips))
    return kstwobign.sf((root + 0.12 + 0.11 / root) * statistic)


def mean_shift(
    batch_mean: np.ndarray, clips: int, mean: np.ndarray, deviation: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    scale = np.sqrt(spread**2 + deviation**2 / clips)
    away = batch_mean - mean
    rounding = 1e-5 * np.abs(mean) + 1e-12  # of float32 features that never varied in training
    return np.clip(away / np.maximum(scale, rounding), -LARGEST_SHIFT, LARGEST_SHIFT)


def overall_shift(shift: np.ndarray) -> float:
    return float(np.quantile(np.abs(shift), SHIFT_QUANTILE))
