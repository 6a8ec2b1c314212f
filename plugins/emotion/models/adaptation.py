"""Normalization of features by the clips of one speaker, or of one batch that was recorded under one condition."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PRIOR_CLIPS = 10
"""A batch's statistics are drawn towards training's as if so many training clips were part of the batch."""
CONSTANT = 1e-8
"""A feature whose standard deviation is at most this is constant; its z-scores are 0."""


class Statistics(NamedTuple):
    """Of some clips: how many they are, and mean and standard deviation of each feature, float64 (n_features,).

    Examples
    --------
    >>> batch = measure(np.array([[1.0], [3.0]]))
    >>> batch
    Statistics(clips=2, centre=array([2.]), scale=array([1.]))
    >>> normalize(np.array([[1.0], [4.0]]), batch).ravel().tolist()
    [-1.0, 2.0]
    """

    clips: int
    centre: np.ndarray
    scale: np.ndarray


def measure(features: np.ndarray) -> Statistics:
    """The statistics of clips, from their features (n, n_features); :class:`Statistics` shows an example."""
    rows = features.astype(np.float64)
    return Statistics(len(rows), rows.mean(axis=0), rows.std(axis=0))


def normalize(features: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Features (n, n_features) z-scored by statistics, in their shape and dtype; a constant feature becomes 0."""
    scale = np.where(statistics.scale <= CONSTANT, np.inf, statistics.scale)
    return ((features - statistics.centre) / scale).astype(features.dtype)


def shrink(batch: Statistics, training: Statistics, *, prior_clips: float = PRIOR_CLIPS) -> Statistics:
    """A batch's statistics, drawn towards training's: with few clips more, with many hardly.

    Mean and variance are n / (n + k) of the batch's, and k / (n + k) of training's, for n clips of the batch and k =
    ``prior_clips``: the posterior mean where the prior is worth k clips.

    Examples
    --------
    >>> batch, training = Statistics(30, np.array([4.0]), np.array([1.0])), Statistics(900, np.zeros(1), np.ones(1))
    >>> shrink(batch, training, prior_clips=10).centre.tolist()
    [3.0]
    """
    share = batch.clips / (batch.clips + prior_clips)
    variance = share * batch.scale**2 + (1 - share) * training.scale**2
    return Statistics(batch.clips, share * batch.centre + (1 - share) * training.centre, np.sqrt(variance))


def normalize_by_batch(features: np.ndarray, training: Statistics) -> np.ndarray:
    """Features z-scored with mean and standard deviation of the same batch, drawn towards training's.

    A batch is a set of clips of one recording condition: one room, one microphone, one telephone line. It uses no
    label and no speaker.

    Parameters
    ----------
    features : float array, shape (n, n_features)
        All clips of the batch, as they are.
    training : Statistics
        Of the training clips, as they are.

    Returns
    -------
    array, shape and dtype of ``features``

    Examples
    --------
    >>> features = np.array([[101.0], [103.0]] * 20)
    >>> training = Statistics(900, np.array([2.0]), np.array([1.0]))
    >>> normalize_by_batch(features, training).ravel()[:2].round(2).tolist()  # 80 % of the shift is removed
    [18.8, 20.8]
    """
    return normalize(features, shrink(measure(features), training))


def normalize_by_speaker(features: np.ndarray, speakers: np.ndarray, *, known: np.ndarray | None = None) -> np.ndarray:
    """Features z-scored with the mean and standard deviation of the same speaker's rows.

    It uses no label; a speaker's unlabelled clips are enough (Busso et al. 2013, "Iterative feature normalization
    scheme for automatic emotion detection from speech").

    Parameters
    ----------
    features : float array, shape (n, n_features)
    speakers : array of str, shape (n,)
    known : bool array, shape (n,), optional
        The rows that means and deviations are taken of; by default, all rows.

    Returns
    -------
    array, shape and dtype of ``features``
        A feature that is constant in a speaker's known rows becomes 0, and so do all features of a speaker who has no
        known row.

    Examples
    --------
    >>> features = np.array([[1.0], [3.0], [100.0], [500.0]])
    >>> normalize_by_speaker(features, np.array(["anna", "anna", "ben", "ben"])).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    known = np.ones(len(features), dtype=bool) if known is None else known
    normalized = np.zeros_like(features)
    for speaker in np.unique(speakers):
        rows = speakers == speaker
        if (rows & known).any():
            normalized[rows] = normalize(features[rows], measure(features[rows & known]))
    return normalized
