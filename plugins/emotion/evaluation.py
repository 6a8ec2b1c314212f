"""The same figures for every model, and the splits they are taken on.

Every figure names its protocol (see :data:`emotion.labels.PROTOCOLS`). Nothing here fits anything.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from emotion.errors import DataError
from emotion.labels import EMOTIONS

Fold = tuple[np.ndarray, np.ndarray]
"""Row numbers of the training side and of the test side."""

SLICES = ("gender", "intensity", "statement")
RANDOM_FOLDS = 5
SPEAKER_FOLDS = 6
CALIBRATION_BINS = 10


def random_split(labels: np.ndarray, *, seed: int, test_size: float = 0.2) -> Fold:
    """One stratified random split; the same speakers are on both sides."""
    _require_per_emotion(labels, 2, "a random split")
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    return next(splitter.split(labels, labels))


def random_folds(labels: np.ndarray, *, seed: int) -> list[Fold]:
    """Five stratified random folds; the same speakers are on both sides."""
    _require_per_emotion(labels, RANDOM_FOLDS, f"{RANDOM_FOLDS}-fold cross-validation")
    return list(StratifiedKFold(RANDOM_FOLDS, shuffle=True, random_state=seed).split(labels, labels))


def speaker_folds(
    labels: np.ndarray, speakers: np.ndarray, *, seed: int, published: tuple[tuple[str, ...], ...] | None = None
) -> list[Fold]:
    """Folds that hold out whole speakers.

    Parameters
    ----------
    labels, speakers : array of str, shape (n_clips,)
    seed : int
        For grouped folds.
    published : tuple of tuples of str, optional
        Speakers of each fold as published for the dataset (EmoBox for RAVDESS). Speakers that the data
        lack are left out of them. Without it, up to six stratified grouped folds are drawn.

    Raises
    ------
    DataError
        If there are fewer than three speakers, a clip without speaker, a speaker in no published fold, or a published
        fold that leaves fewer than two speakers to learn from.
    """
    known = sorted(set(map(str, speakers)))
    if "" in known:
        raise DataError(
            f"{int((speakers == '').sum())} of {len(speakers)} clips have no speaker; expected one for each, as "
            "models are chosen by how they do on speakers they have not heard: add a speaker column or subfolders"
        )
    if len(known) < 3:
        raise DataError(
            f"found {len(known)} speaker(s); expected at least 3, better 6: one to be held out, and two or more to "
            "learn from, of whom each is held out in turn within the fit"
        )
    if published is None:
        splitter = StratifiedGroupKFold(min(SPEAKER_FOLDS, len(known)), shuffle=True, random_state=seed)
        return list(splitter.split(labels, labels, groups=speakers))
    listed = [speaker for fold in published for speaker in fold]
    strangers = sorted(set(known) - set(listed))
    if strangers or len(listed) != len(set(listed)):
        raise DataError(f"speakers {strangers} are in none, or some in two, of the published folds: mend the catalogue")
    masks = [np.isin(speakers, fold) for fold in published]
    folds = [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in masks if mask.any()]
    if any(len(set(speakers[train])) < 2 for train, _ in folds):
        raise DataError(
            f"the published folds leave fewer than 2 of the speakers {known} to learn from; choose grouped folds"
        )
    return folds


def _require_per_emotion(labels: np.ndarray, least: int, what: str) -> None:
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise DataError(f"found clips of {len(names)} emotion(s) ({', '.join(names)}); expected at least 2")
    if counts.min() < least:
        raise DataError(
            f"{what} needs {least} clips of each emotion; found {counts.min()} of {names[counts.argmin()]}"
        )


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Everything said of one set of predictions.

    Parameters
    ----------
    labels : array of str, shape (n_clips,)
    probabilities : float array, shape (n_clips, 8)
        In the order of :data:`emotion.labels.EMOTIONS`.

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
            figures = scores(table["emotion"].to_numpy()[inside], probabilities[inside])
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
