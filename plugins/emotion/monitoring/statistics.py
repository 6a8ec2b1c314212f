"""The statistics of drift: population stability index, Kolmogorov-Smirnov, shift of means; and the mix of emotions."""

from __future__ import annotations

import numpy as np
from scipy.special import kolmogorov, stdtrit  # scipy.stats takes longer to import than a batch to judge

PSI_BINS = 10
CONFIDENCE_BINS = 100
LEAST_PRIOR = 1e-4
"""An emotion that a model hardly expects has this share, so that a division by it is defined."""
PRIOR_CLIPS = 1.0
"""Clips of each emotion that are added in each step of :func:`find_mix`, so that chance makes no emotion vanish."""
ROUNDS = 300
STEADY = 1e-5
MIX_DRAWS = 60
PRIOR_COUNT = 0.5
"""Added to each PSI bin (Jeffreys' prior), so that an empty bin gives a large PSI, but not an infinite one."""
SHIFT_QUANTILE = 0.99
LARGEST_SHIFT = 1000.0
"""Shifts are limited to this, so that a feature that never varied in training gives a finite one."""


def emotion_counts(probabilities: np.ndarray) -> np.ndarray:
    """How often each emotion is predicted, shape (n_emotions,) int, from probabilities (n_clips, n_emotions).

    >>> emotion_counts(np.eye(4)[[3, 3, 0]]).tolist()
    [1, 0, 0, 2]
    """
    return np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])


def confidence_counts(probabilities: np.ndarray) -> np.ndarray:
    """Histogram of the confidence over 0 … 1, shape (CONFIDENCE_BINS,) int, from probabilities (n_clips,
    n_emotions).

    >>> np.flatnonzero(confidence_counts(np.array([[0.25, 0.75]]))).tolist()
    [75]
    """
    bins = np.minimum((probabilities.max(axis=1) * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    return np.bincount(bins, minlength=CONFIDENCE_BINS)


def stability_index(counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Population stability index of two histograms, along the last axis.

    It is 0 where both are the same; by convention, 0.1 is a small change and 0.25 a large one.

    >>> float(stability_index(np.array([50, 50]), np.array([500, 500])))
    0.0
    >>> float(stability_index(np.array([80, 20]), np.array([500, 500])).round(2))
    0.41
    """
    counts, expected = counts + PRIOR_COUNT, expected + PRIOR_COUNT
    shares = counts / counts.sum(axis=-1, keepdims=True)
    expected_shares = expected / expected.sum(axis=-1, keepdims=True)
    return ((shares - expected_shares) * np.log(shares / expected_shares)).sum(axis=-1)


def ks_statistic(counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Two-sample Kolmogorov–Smirnov statistic of two histograms, taken at the bins' edges, along the last axis.

    >>> float(ks_statistic(np.array([80, 20]), np.array([500, 500])).round(2))
    0.3
    """
    cumulative = counts.cumsum(axis=-1) / counts.sum(axis=-1, keepdims=True)
    expected_cumulative = expected.cumsum(axis=-1) / expected.sum(axis=-1, keepdims=True)
    return np.abs(cumulative - expected_cumulative).max(axis=-1)


def confidence_drop(counts: np.ndarray, expected: np.ndarray) -> float:
    """One-sided KS statistic of two histograms of confidence.

    It is the largest difference, over all levels of confidence, between the batch's share of clips below the level and
    the expected share. It is 0 where the batch has the higher confidence throughout.

    >>> confidence_drop(np.array([3, 1]), np.array([1, 3])), confidence_drop(np.array([1, 3]), np.array([3, 1]))
    (0.5, 0.0)
    """
    return float((counts.cumsum() / counts.sum() - expected.cumsum() / expected.sum()).max())


def ks_p(statistic: np.ndarray, clips: int, reference_clips: int) -> np.ndarray:
    """The p-value of a KS statistic between so many clips and so many reference clips (Stephens 1970).

    >>> bool(ks_p(np.array(0.1), 100, 1000) > 0.2 > 0.01 > ks_p(np.array(0.3), 100, 1000))
    True
    """
    root = np.sqrt(clips * reference_clips / (clips + reference_clips))
    return kolmogorov((root + 0.12 + 0.11 / root) * statistic)


def false_discovery(p: np.ndarray) -> np.ndarray:
    """The p-values of many features, adjusted for their number (Benjamini & Hochberg 1995), shape (n_features,).

    >>> false_discovery(np.array([0.04, 0.01, 0.03])).round(3).tolist()
    [0.04, 0.03, 0.04]
    """
    falling = np.argsort(p)[::-1]
    adjusted = np.empty(len(p))
    adjusted[falling] = np.minimum.accumulate(p[falling] * len(p) / np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1.0)


def student_quantile(level: float, freedom: float) -> float:
    """The quantile of Student's t distribution.

    >>> round(student_quantile(0.975, 4), 2)
    2.78
    """
    return float(stdtrit(freedom, level))


def mean_shift(
    batch_mean: np.ndarray, clips: int, mean: np.ndarray, deviation: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """The shift of each feature: how far a batch's mean lies from the mean in training.

    The unit is the standard deviation of the mean of so many clips of one new speaker.

    Parameters
    ----------
    batch_mean : float64 array, shape (n_features,)
    clips : int
        Of the batch.
    mean, deviation : float64 array, shape (n_features,)
        Of the training clips.
    spread : float64 array, shape (n_features,)
        Standard deviation of one new speaker's mean about ``mean``.

    Returns
    -------
    float64 array, shape (n_features,)
        Between -:data:`LARGEST_SHIFT` and :data:`LARGEST_SHIFT`.

    Examples
    --------
    >>> mean, deviation, spread = np.array([200.0]), np.array([40.0]), np.array([30.0])  # f0 in Hz
    >>> mean_shift(np.array([250.0]), 1, mean, deviation, spread).tolist()  # one clip: 50 / √(30² + 40²)
    [1.0]
    """
    scale = np.sqrt(spread**2 + deviation**2 / clips)
    distance = batch_mean - mean
    rounding = 1e-5 * np.abs(mean) + 1e-12  # of float32 features that never varied in training
    return np.clip(distance / np.maximum(scale, rounding), -LARGEST_SHIFT, LARGEST_SHIFT)


def overall_shift(shift: np.ndarray) -> float:
    """The 99th percentile of the features' absolute shifts: 1 % of the features have a larger one.

    >>> overall_shift(np.linspace(-1, 1, 201)).__round__(2)
    0.99
    """
    return float(np.quantile(np.abs(shift), SHIFT_QUANTILE))


def evidence_of(probabilities: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """What the sound of each clip says of its emotion, whatever mix is expected: probabilities (n, n_emotions) divided
    by the mix that they take for granted, of all clips or of each."""
    return probabilities / np.maximum(prior, LEAST_PRIOR)


def find_mix(evidence: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """The mix of emotions under which the probabilities of all clips agree (Saerens, Latinne & Decaestecker 2002).

    Parameters
    ----------
    evidence : float array, shape (n, n_emotions)
        From :func:`evidence_of`.
    counts : float array, shape (..., n), optional
        How often each clip counts, for one mix or for several at once.

    Returns
    -------
    float array, shape (..., n_emotions)

    Examples
    --------
    The model expects that half of the clips are sad, and is right in nine of ten clips of either emotion. It called 26
    of 100 clips sad: 18 of the 20 that were, and 8 of the 80 others.

    >>> probabilities = np.array([[0.9, 0.1]] * 74 + [[0.1, 0.9]] * 26)
    >>> find_mix(evidence_of(probabilities, np.array([0.5, 0.5]))).round(2).tolist()
    [0.79, 0.21]
    """
    counts = np.ones(len(evidence)) if counts is None else counts
    mix = np.full((*counts.shape[:-1], evidence.shape[1]), 1 / evidence.shape[1])
    for _ in range(ROUNDS):
        expected = (counts / (mix @ evidence.T)) @ evidence * mix + PRIOR_CLIPS
        new = expected / expected.sum(axis=-1, keepdims=True)
        if np.abs(new - mix).max() < STEADY:
            return new
        mix = new
    return mix


def mix_deviation(evidence: np.ndarray, seed: int) -> np.ndarray:
    """The standard deviation that chance gives each share of :func:`find_mix`, by drawing clips with replacement.

    >>> evidence = evidence_of(np.array([[0.9, 0.1], [0.1, 0.9]] * 50), np.array([0.5, 0.5]))
    >>> bool(0.04 < mix_deviation(evidence, 0)[0] < 0.08)
    True
    """
    clips = len(evidence)
    counts = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=MIX_DRAWS)
    return find_mix(evidence, counts.astype(float)).std(axis=0)
