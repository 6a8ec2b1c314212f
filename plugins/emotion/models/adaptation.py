"""Normalization of features by the clips of one speaker, or of one batch that was recorded under one condition.

Normalization removes what is common to all clips of a group. That helps if this is the recording condition or the
voice. It harms if all clips show one emotion, as the emotion is then removed too. :func:`judge_group` tells the two
apart without labels.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import entr

from emotion.models.sums import Rows
from emotion.vocabulary import MODES, probabilities_of

if TYPE_CHECKING:
    import pandas as pd

PRIOR_CLIPS = 5
"""A batch's statistics are drawn towards training's as if so many training clips were part of the batch."""
LEAST_PLAIN_SHARE = 0.48
"""The share of a typical mix's information that the plain answers to many clips of a mix reach. Many clips of one
emotion have about 0.38, and a mix of emotions in another language and another room 0.55."""
FEW_CLIPS = 2.2
"""Divided by the number of clips, this is added to the required share: few clips of one emotion may look like a mix."""
LEAST_BATCH_SHARE = 0.95
"""Or the share that the answers by batch reach. Clips of one emotion have 0.6, and hardly ever more than 0.9."""
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


def measure(features: np.ndarray | Rows) -> Statistics:
    """The statistics of clips, from their features (n, n_features), which are read block by block; :class:`Statistics`
    shows an example."""
    rows = Rows.of(features)
    blocks = (rows[part].astype(np.float64) for part in rows.blocks())
    return reduce(merge, (Statistics(len(block), block.mean(axis=0), block.std(axis=0)) for block in blocks))


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


def information(probabilities: np.ndarray) -> float:
    """How much the answers (n, n_emotions) differ from clip to clip, in nats; 0 for one clip.

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

    ``predictions``: held-out predictions of a model, with protocol, fold and probabilities.
    """
    rows = predictions[predictions["protocol"] == MODES["batch"]]
    return float(np.mean([information(probabilities_of(fold)) for _, fold in rows.groupby("fold")]))


class Judgement(NamedTuple):
    """Whether the clips of a group show a mix of emotions, and the figures behind it (see :func:`judge_group`)."""

    shows_mix: bool
    plain_share: float
    required_plain_share: float
    batch_share: float


def judge_group(plain: np.ndarray, batch: np.ndarray, *, typical: float) -> Judgement:
    """Whether clips show a mix of emotions, so that they may be normalized by their own statistics.

    Answers to a mix differ from clip to clip: their :func:`information` is high. Plain answers to clips of one emotion
    are alike. Answers by batch tell less, as normalization spreads clips of one emotion; but where the recording
    condition is so foreign that all plain answers are the same, they still show a mix. Either is enough.

    Parameters
    ----------
    plain, batch : float array, shape (n, n_emotions)
        Probabilities of the clips: by the plain model, and by the model for batches on features normalized by the
        clips' own (shrunk) statistics.
    typical : float
        From :func:`typical_information`.

    Examples
    --------
    >>> mix, one_emotion = np.eye(8), np.eye(8)[[0] * 8]
    >>> judge_group(mix, mix, typical=1.2).shows_mix, judge_group(one_emotion, one_emotion, typical=1.2).shows_mix
    (True, False)
    """
    plain_share, batch_share = (information(each) / typical if typical else 0.0 for each in (plain, batch))
    required = LEAST_PLAIN_SHARE + FEW_CLIPS / len(plain)
    shows_mix = plain_share >= required or batch_share >= LEAST_BATCH_SHARE
    return Judgement(bool(shows_mix), plain_share, required, batch_share)


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
