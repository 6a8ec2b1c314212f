"""Normalization of features by the clips of one speaker, or of one batch that was recorded under one condition.

Normalization removes what is common to all clips of a group. That helps if this is the recording condition or the
voice. It harms if all clips show one emotion, as the emotion is then removed too. :func:`judge_group` tells the two
apart without labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import entr

from emotion.vocabulary import MODES, PROBABILITIES

PRIOR_CLIPS = 5
"""A batch's statistics are drawn towards training's as if so many training clips were part of the batch."""
FAMILIAR, FOREIGN = 0.6, 1.2
"""Shifts (:func:`shift_beyond_emotions`) up to which a group was recorded as the training clips were, and from which it
was recorded in another way. Groups of held-out RAVDESS clips have 0.3 to 0.6; the same clips through a low-pass of
4 kHz and with noise have 1.3."""
SHARE_FAMILIAR, SHARE_FOREIGN = 0.92, 0.56
"""The share of a typical mix's information that a group must reach at these shifts. A group under a foreign condition
has less to lose, and its answers are less certain."""
ALLOWANCE = 1.05
"""Divided by the number of clips, this is taken from the required share, as few clips show less of a mix."""
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


def merge(first: Statistics, second: Statistics) -> Statistics:
    """The statistics of both sets of clips together (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample
    variance").

    Examples
    --------
    >>> whole, parts = np.array([[1.0], [2.0], [6.0]]), (np.array([[1.0], [2.0]]), np.array([[6.0]]))
    >>> bool(np.isclose(merge(*map(measure, parts)).scale, measure(whole).scale).all())
    True
    """
    clips = first.clips + second.clips
    share = second.clips / clips
    apart = second.centre - first.centre
    variance = (1 - share) * first.scale**2 + share * second.scale**2 + share * (1 - share) * apart**2
    return Statistics(clips, first.centre + share * apart, np.sqrt(variance))


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


class Training(NamedTuple):
    """What is kept of the training clips to judge a group of new clips by.

    Attributes
    ----------
    statistics : Statistics
        Of the clips as they are.
    emotion_axes : float64 array, shape (n_emotions - 1, n_features)
        Orthonormal axes that span the differences between the means of the emotions, in z-scored features.
    """

    statistics: Statistics
    emotion_axes: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray) -> Training:
        """From the features (n, n_features) and the emotions (n,) of the training clips."""
        statistics = measure(features)
        emotions = np.unique(labels)
        means = np.array([normalize(features[labels == emotion], statistics).mean(axis=0) for emotion in emotions])
        axes = np.linalg.svd((means - means.mean(axis=0)).astype(np.float64), full_matrices=False)[2]
        return cls(statistics, axes[: len(emotions) - 1])


def shift_beyond_emotions(batch: Statistics, training: Training) -> float:
    """How far a batch's mean lies from training's in directions in which emotions do not differ.

    Returns
    -------
    float
        Root mean square over features, in standard deviations of the training clips. A shift along the axes of the
        emotions is left out, as it may come from the mix of emotions in the batch.

    Examples
    --------
    >>> training = Training(Statistics(9, np.zeros(2), np.ones(2)), emotion_axes=np.array([[1.0, 0.0]]))
    >>> shift_beyond_emotions(Statistics(5, np.array([3.0, 0.0]), np.ones(2)), training)
    0.0
    """
    shift = normalize(batch.centre, training.statistics)
    rest = shift - (shift @ training.emotion_axes.T) @ training.emotion_axes
    return float(np.sqrt((rest**2).mean()))


def information(probabilities: np.ndarray) -> float:
    """How much the answers (n, 8) differ from clip to clip, in nats; 0 for one clip.

    It is the entropy of their mean minus their mean entropy, times n / (n - 1), as few clips show less of a mix.

    Examples
    --------
    >>> [round(information(answers), 4) for answers in (np.eye(2), np.full((2, 2), 0.5), np.eye(2)[:1])]
    [1.3863, 0.0, 0.0]
    """
    clips = len(probabilities)
    if clips < 2:
        return 0.0
    difference = entr(probabilities.mean(axis=0)).sum() - entr(probabilities).sum(axis=1).mean()
    return float(max(difference, 0.0) * clips / (clips - 1))


def typical_information(predictions: pd.DataFrame) -> float:
    """The :func:`information` of a mix of emotions: mean over the folds of the protocol ``speaker_independent_batch``.

    ``predictions``: held-out predictions of a model, with protocol, fold and eight probabilities.
    """
    rows = predictions[predictions["protocol"] == MODES["batch"]]
    return float(np.mean([information(fold[PROBABILITIES].to_numpy()) for _, fold in rows.groupby("fold")]))


class Judgement(NamedTuple):
    """Whether the clips of a group show a mix of emotions, and the figures behind it (see :func:`judge_group`)."""

    shows_mix: bool
    share: float
    required: float
    shift: float


def judge_group(probabilities: np.ndarray, batch: Statistics, training: Training, *, typical: float) -> Judgement:
    """Whether clips show a mix of emotions, so that they may be normalized by their own statistics.

    Answers by batch to a mix differ from clip to clip: their :func:`information` is high. Clips of one emotion, made to
    have the mean of a mix, get answers that are less certain and more alike. The information of such a group is about
    0.6 of that of a mix. Under a foreign recording condition all answers are less certain, so that less is required.

    Parameters
    ----------
    probabilities : float array, shape (n, 8)
        Of the clips, by the model for batches, on features normalized by their own (shrunk) statistics.
    batch : Statistics
        Of the clips as they are, not shrunk.
    training : Training
    typical : float
        From :func:`typical_information`.

    Examples
    --------
    >>> training = Training(Statistics(9, np.zeros(2), np.ones(2)), emotion_axes=np.array([[1.0, 0.0]]))
    >>> batch = Statistics(8, np.zeros(2), np.ones(2))
    >>> judge_group(np.eye(8), batch, training, typical=1.2).shows_mix
    True
    >>> judge_group(np.eye(8)[[0] * 8], batch, training, typical=1.2).shows_mix
    False
    """
    shift = shift_beyond_emotions(batch, training)
    required = float(np.interp(shift, (FAMILIAR, FOREIGN), (SHARE_FAMILIAR, SHARE_FOREIGN))) - ALLOWANCE / batch.clips
    share = information(probabilities) / typical if typical else 0.0
    return Judgement(bool(share >= required), share, required, shift)


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
    >>> normalize_by_batch(features, training).ravel()[:2].round(2).tolist()  # 40 / 45 of the shift are removed
    [10.11, 12.11]
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
