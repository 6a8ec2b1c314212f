"""The scores of a set of predictions: overall, per emotion, per slice, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import pandas as pd
from scipy.special import ndtri  # scipy.stats takes longer to import than a batch to judge

from emotion.vocabulary import emotion_codes

SLICES = ("gender", "intensity", "statement")
CALIBRATION_BINS = 10


class ReliabilityBin(TypedDict):
    """The predictions whose confidence lies in one tenth of 0 … 1; None where there are none."""

    count: int
    confidence: float | None
    accuracy: float | None


def compute_scores(labels: np.ndarray, probabilities: np.ndarray, emotions: Sequence[str]) -> dict:
    """All scores of one set of predictions.

    Parameters
    ----------
    labels : array of str, shape (n_clips,)
        Each is one of ``emotions``; any other raises ValueError.
    probabilities : float array, shape (n_clips, n_emotions)
    emotions : sequence of str
        The label set: the emotions in the order of the columns of ``probabilities``.

    Returns
    -------
    dict
        ``n``; the scores of :data:`emotion.vocabulary.SCORES`: ``accuracy``; ``precision_macro``, ``recall_macro``,
        ``f1_macro`` and ``uar`` (unweighted average recall) over the emotions that occur in ``labels``; ``log_loss``
        (nats, probabilities clipped at 1e-15); ``ece`` (expected calibration error of the top class over 10 equal
        bins; Guo et al. 2017, "On calibration of modern neural networks"); ``confusion`` (counts, rows true, in the
        order of ``emotions``);
        ``per_emotion`` (precision, recall, f1, support); ``confidence`` (mean, p10, p50, p90, histogram of 10 equal
        bins) and ``reliability`` (bins' count, mean confidence, accuracy).

    Examples
    --------
    >>> certain = np.eye(2)[[0, 1, 1]]
    >>> figures = compute_scores(np.array(["happy", "sad", "happy"]), certain, ("happy", "sad"))
    >>> round(figures["accuracy"], 3), figures["uar"], figures["per_emotion"]["sad"]["precision"]
    (0.667, 0.75, 0.5)
    """
    codes = np.arange(len(emotions))
    true = np.array(emotion_codes(labels, emotions))
    predicted = probabilities.argmax(axis=1)
    present = np.unique(true)
    per_emotion, confusion = _by_emotion(true, predicted, codes)
    precision, recall, f1, _ = per_emotion
    confidence = probabilities.max(axis=1)
    reliability = _reliability(confidence, predicted == true)
    return {
        "n": len(true),
        "accuracy": float((predicted == true).mean()),
        "precision_macro": float(precision[present].mean()),
        "recall_macro": float(recall[present].mean()),
        "f1_macro": float(f1[present].mean()),
        "uar": float(recall[present].mean()),
        "log_loss": float(-np.log(np.clip(probabilities[np.arange(len(true)), true], 1e-15, 1)).mean()),
        "ece": _calibration_error(reliability),
        "confusion": confusion.tolist(),
        "per_emotion": {
            emotion: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
            for emotion, p, r, f, n in zip(emotions, *per_emotion, strict=True)
        },
        "confidence": _spread(confidence) | {"histogram": [row["count"] for row in reliability]},
        "reliability": reliability,
    }


def _by_emotion(true: np.ndarray, predicted: np.ndarray, codes: np.ndarray) -> tuple[tuple, np.ndarray]:
    """Precision, recall, F1 and support of each emotion, and the confusion matrix."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # slow to import

    per_emotion = precision_recall_fscore_support(true, predicted, labels=codes, zero_division=0)
    return per_emotion, confusion_matrix(true, predicted, labels=codes)


def _reliability(confidence: np.ndarray, right: np.ndarray) -> list[ReliabilityBin]:
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    reliability: list[ReliabilityBin] = []
    for number in range(CALIBRATION_BINS):
        inside = bins == number
        count = int(inside.sum())
        reliability.append(
            {
                "count": count,
                "confidence": float(confidence[inside].mean()) if count else None,
                "accuracy": float(right[inside].mean()) if count else None,
            }
        )
    return reliability


def _calibration_error(reliability: list[ReliabilityBin]) -> float:
    """The mean over clips of how far their bin's accuracy lies from its confidence."""
    total = sum(
        row["count"] * abs(row["accuracy"] - row["confidence"])
        for row in reliability
        if row["accuracy"] is not None and row["confidence"] is not None
    )
    return float(total / sum(row["count"] for row in reliability))


def _spread(confidence: np.ndarray) -> dict:
    p10, p50, p90 = np.quantile(confidence, [0.1, 0.5, 0.9])
    return {"mean": float(confidence.mean()), "p10": float(p10), "p50": float(p50), "p90": float(p90)}


def slice_scores(table: pd.DataFrame, probabilities: np.ndarray, emotions: Sequence[str]) -> dict[str, dict]:
    """Accuracy, macro F1 and UAR per gender, intensity and statement, and the widest accuracy gap of each.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip: ``emotion`` and the columns of :data:`SLICES`. Clips whose value is unknown (empty) are left
        out of that slice; a slice with fewer than two values is left out.
    probabilities : float array, shape (n_clips, n_emotions)
        Rows as in ``table``.
    emotions : sequence of str
        As for :func:`compute_scores`.

    Examples
    --------
    >>> table = pd.DataFrame({"emotion": ["happy", "sad"], "gender": ["female", "male"]})
    >>> table = table.assign(intensity="", statement="kids")
    >>> slices = slice_scores(table, np.eye(2)[[0, 0]], ("happy", "sad"))
    >>> list(slices), slices["gender"]["accuracy_gap"], slices["gender"]["values"]["female"]["accuracy"]
    (['gender'], 1.0, 1.0)
    """
    slices = {}
    for column in SLICES:
        by_value = {}
        for value in sorted(set(table[column].astype(str)) - {""}):
            inside = (table[column].astype(str) == value).to_numpy()
            figures = compute_scores(table["emotion"].to_numpy()[inside], probabilities[inside], emotions)
            by_value[value] = {key: figures[key] for key in ("n", "accuracy", "f1_macro", "uar")}
        if len(by_value) > 1:
            accuracies = [figures["accuracy"] for figures in by_value.values()]
            slices[column] = {"values": by_value, "accuracy_gap": max(accuracies) - min(accuracies)}
    return slices


def fold_summary(per_fold: list[dict]) -> dict[str, dict]:
    """Mean, standard deviation, minimum and maximum of the folds' accuracy and macro F1, and each fold's value.

    >>> folds = [{"accuracy": 0.5, "f1_macro": 0.25}, {"accuracy": 1.0, "f1_macro": 0.75}]
    >>> fold_summary(folds)["accuracy"]
    {'mean': 0.75, 'std': 0.25, 'min': 0.5, 'max': 1.0, 'folds': [0.5, 1.0]}
    """
    summary = {}
    for score in ("accuracy", "f1_macro"):
        values = np.array([fold[score] for fold in per_fold])
        summary[score] = {
            "mean": float(values.mean()),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "folds": values.tolist(),
        }
    return summary


def accuracy_interval(right: np.ndarray, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of an accuracy (Wilson 1927).

    ``right`` (n_clips,) bool: whether each clip was recognized.

    >>> low, high = accuracy_interval(np.arange(100) < 80)  # 80 of 100
    >>> round(low, 3), round(high, 3)
    (0.711, 0.867)
    """
    clips, accuracy = len(right), float(right.mean())
    squared = ndtri((1 + confidence) / 2) ** 2
    centre = accuracy + squared / (2 * clips)
    half = np.sqrt(squared * (accuracy * (1 - accuracy) / clips + squared / (4 * clips**2)))
    low, high = (centre - half) / (1 + squared / clips), (centre + half) / (1 + squared / clips)
    return max(float(low), 0.0), min(float(high), 1.0)
