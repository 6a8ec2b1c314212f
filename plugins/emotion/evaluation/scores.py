"""The scores of a set of predictions: overall, per emotion, per slice, calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from emotion.vocabulary import EMOTIONS

SLICES = ("gender", "intensity", "statement")
CALIBRATION_BINS = 10


def compute_scores(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Everything said of one set of predictions.

    Parameters
    ----------
    labels : array of str, shape (n_clips,)
    probabilities : float array, shape (n_clips, 8)
        In the order of :data:`emotion.vocabulary.EMOTIONS`.

    Returns
    -------
    dict
        ``n``; ``accuracy``, ``precision_macro``, ``recall_macro``, ``f1_macro`` and ``uar`` (unweighted average
        recall) over the emotions that occur in ``labels``; ``log_loss`` (nats, probabilities clipped at 1e-15);
        ``ece`` (expected calibration error of the top class over 10 equal bins; Guo et al. 2017, "On calibration
        of modern neural networks"); ``confusion`` (8 × 8 counts, rows true); ``per_emotion`` (precision, recall,
        f1, support); ``confidence`` (mean, p10, p50, p90, histogram of 10 equal bins) and ``reliability``
        (bins' count, mean confidence, accuracy).
    """
    order = {emotion: index for index, emotion in enumerate(EMOTIONS)}
    true = np.array([order[label] for label in labels])
    predicted = probabilities.argmax(axis=1)
    present = np.unique(true)
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=np.arange(len(EMOTIONS)), zero_division=0
    )
    confidence = probabilities.max(axis=1)
    right = predicted == true
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    reliability = []
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
    p10, p50, p90 = np.quantile(confidence, [0.1, 0.5, 0.9])
    return {
        "n": len(true),
        "accuracy": float(right.mean()),
        "precision_macro": float(precision[present].mean()),
        "recall_macro": float(recall[present].mean()),
        "f1_macro": float(f1[present].mean()),
        "uar": float(recall[present].mean()),
        "log_loss": float(-np.log(np.clip(probabilities[np.arange(len(true)), true], 1e-15, 1)).mean()),
        "ece": float(
            sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in reliability if row["count"])
            / len(true)
        ),
        "confusion": confusion_matrix(true, predicted, labels=np.arange(len(EMOTIONS))).tolist(),
        "per_emotion": {
            emotion: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, emotion in enumerate(EMOTIONS)
        },
        "confidence": {
            "mean": float(confidence.mean()),
            "p10": float(p10),
            "p50": float(p50),
            "p90": float(p90),
            "histogram": [row["count"] for row in reliability],
        },
        "reliability": reliability,
    }


def slice_scores(table: pd.DataFrame, probabilities: np.ndarray) -> dict:
    """Accuracy, macro F1 and UAR per gender, intensity and statement, and the widest gap of each.

    ``table`` has the columns of :data:`SLICES` and ``emotion``, rows as in ``probabilities`` (n_clips, 8); clips
    whose value is unknown (empty) are left out of that slice.
    """
    found = {}
    for column in SLICES:
        values = {}
        for value in sorted(set(table[column].astype(str)) - {""}):
            inside = (table[column].astype(str) == value).to_numpy()
            figures = compute_scores(table["emotion"].to_numpy()[inside], probabilities[inside])
            values[value] = {key: figures[key] for key in ("n", "accuracy", "f1_macro", "uar")}
        if len(values) > 1:
            accuracies = [figures["accuracy"] for figures in values.values()]
            found[column] = {"values": values, "accuracy_gap": max(accuracies) - min(accuracies)}
    return found


def fold_summary(per_fold: list[dict]) -> dict:
    """Mean, standard deviation, least and largest accuracy and macro F1 over folds' scores, and each fold's."""
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
    """Wilson score interval of an accuracy (Wilson 1927) from a bool array, shape (n_clips,)."""
    from scipy.stats import binomtest

    interval = binomtest(int(right.sum()), len(right)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
