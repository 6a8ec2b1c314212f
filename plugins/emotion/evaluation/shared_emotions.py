"""Sets two models with different label sets against each other: on the emotions that both know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from emotion.evaluation.bootstrap import PairedAnswers
from emotion.vocabulary import emotion_codes, label_set

LEAST_SHARED = 2
"""Two models that share fewer emotions cannot be compared."""


class ModelAnswers(NamedTuple):
    """The ``probabilities`` that a model gives for some clips, shape (n_clips, n_emotions), and its ``emotions`` in the
    order of their columns."""

    probabilities: np.ndarray
    emotions: tuple[str, ...]


def shared_emotions(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    """The emotions of two label sets that are in both.

    >>> shared_emotions(["angry", "bored", "sad"], ["sad", "angry", "happy"])
    ('sad', 'angry')
    """
    return label_set(set(first) & set(second))


def restrict(probabilities: np.ndarray, emotions: Sequence[str], to: Sequence[str]) -> np.ndarray:
    """Probabilities of some of a model's emotions, as if it knew no others: they add up to 1.

    A row that has no probability left for them becomes uniform. Probabilities of all emotions stay as they are.

    Parameters
    ----------
    probabilities : float array, shape (n_clips, n_emotions)
    emotions : sequence of str
        In the order of the columns.
    to : sequence of str
        Some of ``emotions``, in the order of the columns of the result.

    Examples
    --------
    >>> restrict(np.array([[0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]), ("happy", "sad", "bored"), ("sad", "happy")).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    if tuple(emotions) == tuple(to):
        return probabilities
    part = probabilities[:, emotion_codes(to, emotions)]
    total = part.sum(axis=1, keepdims=True)
    return np.divide(part, total, out=np.full(part.shape, 1 / len(to)), where=total > 0)


def pair_answers(
    clips: np.ndarray,
    labels: np.ndarray,
    speakers: np.ndarray,
    first: ModelAnswers,
    second: ModelAnswers,
    datasets: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> PairedAnswers:
    """The answers of two models for the same clips, of the clips whose label both know, on the emotions that both know.

    Parameters
    ----------
    clips, labels, speakers, datasets, weights : array, shape (n_clips,)
    first, second : ModelAnswers
        For these clips.

    Examples
    --------
    >>> names, speakers = np.array(["1.wav", "2.wav"]), np.array(["anna", "ben"])
    >>> first = ModelAnswers(np.array([[0.5, 0.5], [1.0, 0.0]]), ("happy", "sad"))
    >>> second = ModelAnswers(np.array([[0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]), ("happy", "sad", "bored"))
    >>> pair = pair_answers(names, np.array(["sad", "bored"]), speakers, first, second)
    >>> pair.clips.tolist(), pair.second.tolist(), pair.emotions
    (['1.wav'], [[0.5, 0.5]], ('happy', 'sad'))
    """
    shared = shared_emotions(first.emotions, second.emotions)
    rows = np.isin(labels, shared)
    before, after = (restrict(model.probabilities, model.emotions, shared)[rows] for model in (first, second))
    of_dataset = None if datasets is None else datasets[rows]
    of_clips = None if weights is None else weights[rows]
    return PairedAnswers(clips[rows], labels[rows], speakers[rows], before, after, shared, of_dataset, of_clips)
