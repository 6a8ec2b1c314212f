"""How much of a figure, or of a difference, is chance: a bootstrap over speakers.

Clips of one speaker are not independent: a model that misreads a voice misreads most of its clips. So whole speakers
are drawn with replacement, and all clips of a speaker that is drawn count (cluster bootstrap: Davison & Hinkley 1997,
"Bootstrap methods and their application", section 3.8). For two models, the same speakers are drawn for both: the
comparison is *paired*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from emotion.vocabulary import emotion_codes

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 4000
FEW_SPEAKERS = 5
"""With fewer speakers the intervals are too narrow: the few voices say little about others."""
LEAST_PROBABILITY = 0.9
"""From this probability on, one model counts as better than another by default."""
_QUANTILES = (0.025, 0.975)
_BLOCK = 500


class Intervals(TypedDict):
    """95 % intervals of a model's scores, each [low, high]."""

    accuracy_interval: list[float]
    f1_macro_interval: list[float]


class EmotionDifference(TypedDict):
    """The difference in F1 of one emotion, second model minus first, and its 95 % interval [low, high]."""

    difference: float
    interval: list[float]


class Lead(TypedDict):
    """How much better the second of two models is.

    ``difference`` in a score, second minus first, with its 95 % ``interval``; ``probability`` that the second is
    better for speakers like these (the share of draws in which it is; a draw without difference counts half);
    the numbers of ``speakers``, ``clips`` (under all conditions together, each clip once) and ``draws``.
    """

    difference: float
    interval: list[float]
    probability: float
    speakers: int
    clips: int
    draws: int


class Difference(Lead):
    """A :class:`Lead` in macro F1, and the difference ``per_emotion`` for each emotion that occurs."""

    per_emotion: dict[str, EmotionDifference]


class PairedAnswers(NamedTuple):
    """The answers of two models for the same clips: ``clips`` (their names), ``labels`` and ``speakers`` of shape
    (n_clips,); the probabilities of the ``first`` and of the ``second`` model, shape (n_clips, n_emotions); the
    ``emotions`` in the order of their columns; the dataset of each clip, None where all are of one; and the weight of
    each clip in the figures of its dataset, None where all weigh the same."""

    clips: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    first: np.ndarray
    second: np.ndarray
    emotions: tuple[str, ...]
    datasets: np.ndarray | None = None
    weights: np.ndarray | None = None


def draw_weights(table: pd.DataFrame) -> np.ndarray | None:
    """The weight of each clip in a comparison, shape (n_clips,); None where no clip was drawn by the review.

    The review prefers clips on which the champion was in doubt. On such clips any other model looks better than it is.
    So a clip that was drawn with probability p weighs 1 / p, relative to the mean of the drawn clips (Hájek 1971).
    Other clips weigh 1.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip; ``drawn``, if it is there, is NaN for clips that were not drawn.

    Examples
    --------
    >>> import pandas as pd
    >>> draw_weights(pd.DataFrame({"drawn": [np.nan, 0.25, 0.75]})).tolist()
    [1.0, 1.5, 0.5]
    """
    if "drawn" not in table or table["drawn"].isna().all():
        return None
    weights = 1 / table["drawn"].to_numpy(dtype=float)
    return np.where(np.isnan(weights), 1.0, weights / np.nanmean(weights))


def by_dataset(test: PairedAnswers) -> list[PairedAnswers]:
    """The answers for the clips of each dataset, in the order in which the datasets occur.

    >>> clips, both = np.array(["1", "2"]), np.eye(2)
    >>> test = PairedAnswers(clips, clips, clips, both, both, ("happy", "sad"), np.array(["nemo", "emodb"]))
    >>> [part.clips.tolist() for part in by_dataset(test)]
    [['1'], ['2']]
    """
    if test.datasets is None:
        return [test]
    parts = []
    for dataset in dict.fromkeys(map(str, test.datasets)):
        rows = test.datasets == dataset
        parts.append(
            PairedAnswers(
                test.clips[rows],
                test.labels[rows],
                test.speakers[rows],
                test.first[rows],
                test.second[rows],
                test.emotions,
                weights=None if test.weights is None else test.weights[rows],
            )
        )
    return parts


def score_intervals(
    labels: np.ndarray, speakers: np.ndarray, probabilities: np.ndarray, *, emotions: Sequence[str], seed: int
) -> Intervals:
    """95 % intervals of accuracy and macro F1, by drawing speakers.

    Parameters
    ----------
    labels, speakers : array of str, shape (n_clips,)
    probabilities : float array, shape (n_clips, n_emotions)
    emotions : sequence of str
        In the order of the columns of ``probabilities``.
    seed : int

    Examples
    --------
    >>> labels, speakers = np.tile(["happy", "sad"], 20), np.repeat(list("abcdefghij"), 4)
    >>> emotions, always_happy = ("happy", "sad"), np.eye(2)[np.zeros(40, dtype=int)]
    >>> score_intervals(labels, speakers, always_happy, emotions=emotions, seed=0)["accuracy_interval"]
    [0.5, 0.5]
    """
    counts = _counts_by_speaker(labels, speakers, probabilities.argmax(axis=1), emotions)
    accuracy, f1_macro = [], []
    for weights in _draw_speakers(len(counts), seed):
        drawn = _weighted(weights, counts)
        accuracy.append(np.trace(drawn, axis1=1, axis2=2) / drawn.sum(axis=(1, 2)))
        f1_macro.append(_macro(*_f1(drawn)))
    return {"accuracy_interval": _interval(accuracy), "f1_macro_interval": _interval(f1_macro)}


def difference(
    labels: np.ndarray,
    speakers: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    emotions: Sequence[str],
    seed: int,
) -> Difference:
    """How much better the second model is in macro F1, and whether that may be chance: a paired bootstrap.

    Parameters
    ----------
    labels, speakers : array of str, shape (n_clips,)
    first, second : float array, shape (n_clips, n_emotions)
        The probabilities of the two models for the same clips.
    emotions : sequence of str
        In the order of the columns of both.
    seed : int

    Examples
    --------
    >>> labels, speakers = np.tile(["happy", "sad"], 20), np.repeat(list("abcdefghij"), 4)
    >>> always_right, always_happy = np.eye(2)[np.tile([0, 1], 20)], np.eye(2)[np.zeros(40, dtype=int)]
    >>> emotions = ("happy", "sad")
    >>> result = difference(labels, speakers, always_happy, always_right, emotions=emotions, seed=0)
    >>> round(result["difference"], 3), result["probability"], result["per_emotion"]["sad"]["interval"]
    (0.667, 1.0, [1.0, 1.0])
    >>> difference(labels, speakers, always_right, always_right, emotions=emotions, seed=0)["probability"]
    0.5
    """
    counts = [_counts_by_speaker(labels, speakers, model.argmax(axis=1), emotions) for model in (first, second)]
    whole = [_f1(each.sum(axis=0)[None]) for each in counts]
    per_emotion, macro = [], []
    for weights in _draw_speakers(len(counts[0]), seed):
        (first_f1, present), (second_f1, _) = (_f1(_weighted(weights, each)) for each in counts)
        per_emotion.append(np.where(present, second_f1 - first_f1, np.nan))
        macro.append(_macro(second_f1, present) - _macro(first_f1, present))
    macro_draws, emotion_draws = np.concatenate(macro), np.concatenate(per_emotion)
    change = whole[1][0][0] - whole[0][0][0]
    present = whole[0][1][0]
    return {
        "difference": float(change[present].mean()),
        "interval": _interval(macro),
        "probability": _probability(macro_draws),
        "per_emotion": {
            emotions[int(code)]: {"difference": float(change[code]), "interval": _interval([emotion_draws[:, code]])}
            for code in np.flatnonzero(present)
        },
        "speakers": len(counts[0]),
        "clips": len(labels),
        "draws": len(macro_draws),
    }


def mean_lead(tests: Sequence[tuple[float, PairedAnswers]], *, score: str = "f1_macro", seed: int) -> Lead:
    """How much better the second model is in the weighted mean of a score over several tests, by the same draws.

    A draw of speakers without any clip of a test counts as no difference in that test.

    Parameters
    ----------
    tests : sequence of (float, PairedAnswers)
        The weight of each test, which add up to 1, and both models' answers in it.
    score : str
        ``f1_macro`` or ``accuracy``.
    seed : int

    Examples
    --------
    The second model is right on clean clips, where the first is right for half; under noise it is the reverse.

    >>> labels, speakers = np.tile(["happy", "sad"], 20), np.repeat(list("abcdefghij"), 4)
    >>> always_right, always_happy = np.eye(2)[np.tile([0, 1], 20)], np.eye(2)[np.zeros(40, dtype=int)]
    >>> clean = PairedAnswers(np.arange(40), labels, speakers, always_happy, always_right, ("happy", "sad"))
    >>> noise = clean._replace(first=always_right, second=always_happy)
    >>> lead = mean_lead([(0.75, clean), (0.25, noise)], score="accuracy", seed=0)
    >>> lead["difference"], lead["interval"], lead["clips"]
    (0.25, [0.25, 0.25], 40)
    """
    names = np.unique(np.concatenate([test.speakers for _, test in tests]))
    changes = []
    for weight, test in tests:
        counts = [
            _counts_by_speaker(
                test.labels, test.speakers, model.argmax(axis=1), test.emotions, names=names, weights=test.weights
            )
            for model in (test.first, test.second)
        ]
        drawn = [
            _mean_score(np.concatenate([each.sum(axis=0)[None], *_draws_of(each, seed)]), score) for each in counts
        ]
        changes.append(weight * (drawn[1] - drawn[0]))
    whole, *draws = np.sum(changes, axis=0)
    return {
        "difference": float(whole),
        "interval": _interval([np.array(draws)]),
        "probability": _probability(np.array(draws)),
        "speakers": len(names),
        "clips": len(set().union(*(test.clips for _, test in tests))),
        "draws": len(draws),
    }


def _draws_of(counts: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """The confusion matrices of all draws, in blocks of shape (n, n_emotions, n_emotions)."""
    return (_weighted(weights, counts) for weights in _draw_speakers(len(counts), seed))


def _mean_score(confusion: np.ndarray, score: str) -> np.ndarray:
    """Accuracy or macro F1 of each confusion matrix, shape (n,); 0 where it has no clip."""
    if score == "accuracy":
        totals = confusion.sum(axis=(1, 2))
        return np.trace(confusion, axis1=1, axis2=2) / np.where(totals > 0, totals, 1)
    f1, present = _f1(confusion)
    return (f1 * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)


def macro_f1(test: PairedAnswers) -> tuple[float, float]:
    """The macro F1 of both models, with the weights of the clips.

    >>> labels, speakers, sure = np.array(["happy", "sad"]), np.array(["a", "b"]), np.eye(2)
    >>> test = PairedAnswers(labels, labels, speakers, sure[[0, 0]], sure, ("happy", "sad"))
    >>> [round(figure, 3) for figure in macro_f1(test)]
    [0.333, 1.0]
    >>> [round(figure, 3) for figure in macro_f1(test._replace(weights=np.array([3, 1])))]
    [0.429, 1.0]
    """
    first, second = (
        _counts_by_speaker(test.labels, test.speakers, model.argmax(axis=1), test.emotions, weights=test.weights).sum(
            axis=0
        )
        for model in (test.first, test.second)
    )
    return float(_mean_score(first[None], "f1_macro")[0]), float(_mean_score(second[None], "f1_macro")[0])


def mean_interval(values: np.ndarray, speakers: np.ndarray, *, seed: int = 0) -> tuple[float, float, float]:
    """95 % interval of a mean over clips, by drawing speakers, and the probability that the mean is above 0.

    ``values`` (a number per clip) and ``speakers`` have shape (n_clips,). A draw whose mean is 0 counts half.

    >>> mean_interval(np.array([1.0, 1.0, 1.0]), np.array(["a", "a", "b"]))
    (1.0, 1.0, 1.0)
    """
    _, codes = np.unique(speakers, return_inverse=True)
    totals = np.stack([np.bincount(codes, weights=values), np.bincount(codes)], axis=1)
    drawn = np.concatenate([weights @ totals for weights in _draw_speakers(len(totals), seed)])
    means = drawn[:, 0] / drawn[:, 1]
    low, high = _interval([means])
    return low, high, _probability(means)


def _counts_by_speaker(
    labels: np.ndarray,
    speakers: np.ndarray,
    predicted: np.ndarray,
    emotions: Sequence[str],
    *,
    names: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """A confusion matrix per speaker, rows true, shape (n_speakers, n_emotions, n_emotions); ``names``: all speakers,
    sorted; ``weights``: of the clips."""
    names = np.unique(speakers) if names is None else names
    codes = np.searchsorted(names, speakers)
    true, classes = np.array(emotion_codes(labels, emotions)), len(emotions)
    cells = (codes * classes + true) * classes + predicted
    return np.bincount(cells, weights, minlength=len(names) * classes**2).reshape(-1, classes, classes).astype(float)


def _draw_speakers(speakers: int, seed: int) -> Iterator[np.ndarray]:
    """How often each speaker is drawn: :data:`DRAWS` rows in blocks of shape (n, n_speakers)."""
    random = np.random.default_rng(seed)
    for _ in range(DRAWS // _BLOCK):
        yield random.multinomial(speakers, np.full(speakers, 1 / speakers), size=_BLOCK).astype(float)


def _weighted(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The confusion matrix of each draw, shape (n_draws, n_emotions, n_emotions)."""
    return (weights @ counts.reshape(len(counts), -1)).reshape(-1, *counts.shape[1:])


def _f1(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of each emotion (0 where it is never right), and whether the emotion occurs, each shape (n, n_emotions)."""
    right, true = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2)
    total = true + confusion.sum(axis=1)
    return np.divide(2 * right, total, out=np.zeros_like(right), where=total > 0), true > 0


def _macro(f1: np.ndarray, present: np.ndarray) -> np.ndarray:
    return (f1 * present).sum(axis=1) / present.sum(axis=1)


def _probability(differences: np.ndarray) -> float:
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


def _interval(draws: list[np.ndarray]) -> list[float]:
    return [float(value) for value in np.nanquantile(np.concatenate(draws), _QUANTILES)]
