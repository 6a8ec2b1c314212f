"""Scores by protocol, from held-out predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emotion.evaluation import scores
from emotion.evaluation.bootstrap import score_intervals
from emotion.evaluation.coverage import coverage_curve
from emotion.evaluation.folds import datasets_of
from emotion.vocabulary import SCORES, emotions_of, probabilities_of, probability_columns


def protocol_scores(table: pd.DataFrame, predictions: pd.DataFrame, *, seed: int) -> dict:
    """Scores by protocol: over all folds together, with intervals, per fold (``cv``) and per slice (``slices``).

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip, with the columns of :data:`emotion.evaluation.scores.SLICES`, ``emotion`` and ``speaker``.
    predictions : pandas.DataFrame
        Held-out predictions: protocol, fold, row (of ``table``), emotion and a probability for each emotion
        of the label set.
    seed : int
        For drawing the speakers of the intervals.

    Returns
    -------
    dict
        Protocol → :func:`emotion.evaluation.scores.compute_scores`, with ``accuracy_interval`` and
        ``f1_macro_interval`` (:func:`emotion.evaluation.bootstrap.score_intervals`), ``cv``, ``slices`` and
        ``coverage`` (:func:`emotion.evaluation.coverage.coverage_curve`). Where the table is of several datasets,
        ``datasets`` has the scores of each that was tested on, with ``n`` and the mean ``confidence``, and
        ``mean_of_datasets`` the mean of each score over them: a small dataset counts as much as a large one. The entry
        ``random`` also has ``split_80_20``, the scores of the single split.

    Examples
    --------
    >>> emotions = ["happy", "sad"]
    >>> table = pd.DataFrame({"emotion": emotions, "speaker": "anna", "gender": "", "intensity": "", "statement": ""})
    >>> right = pd.DataFrame({"p_happy": [1, 0], "p_sad": [0, 1], "fold": 0, "row": range(2), "emotion": emotions})
    >>> parts = [right.assign(protocol=protocol) for protocol in ("split_80_20", "random")]
    >>> by_protocol = protocol_scores(table, pd.concat(parts), seed=0)
    >>> list(by_protocol), by_protocol["random"]["cv"]["accuracy"]["mean"]
    (['random'], 1.0)
    """
    emotions = emotions_of(predictions)
    by_protocol: dict[str, dict] = {}
    for protocol, rows in predictions.groupby("protocol", sort=False):
        labels, probabilities = rows["emotion"].to_numpy(), probabilities_of(rows)
        figures = by_protocol[str(protocol)] = scores.compute_scores(labels, probabilities, emotions)
        if protocol == "split_80_20":
            continue
        per_fold = [
            scores.compute_scores(fold["emotion"].to_numpy(), probabilities_of(fold), emotions)
            for _, fold in rows.groupby("fold")
        ]
        figures["cv"] = scores.fold_summary(per_fold)
        clips = table.iloc[rows["row"]].reset_index(drop=True)
        speakers = clips["speaker"].to_numpy()
        figures |= score_intervals(labels, speakers, probabilities, emotions=emotions, seed=seed)
        right = np.array(emotions)[probabilities.argmax(axis=1)] == labels
        figures["coverage"] = coverage_curve(probabilities.max(axis=1), right)
        figures["slices"] = scores.slice_scores(clips, probabilities, emotions)
        if len(set(datasets_of(table))) > 1:
            figures |= _dataset_scores(clips, probabilities, emotions)
    by_protocol["random"]["split_80_20"] = by_protocol.pop("split_80_20")
    return by_protocol


def _dataset_scores(clips: pd.DataFrame, probabilities: np.ndarray, emotions: Sequence[str]) -> dict:
    """The scores of each dataset that was tested on, and their mean over these datasets."""
    datasets = datasets_of(clips)
    by_dataset = {}
    for dataset in dict.fromkeys(map(str, datasets)):
        rows = datasets == dataset
        figures = scores.compute_scores(clips["emotion"].to_numpy()[rows], probabilities[rows], emotions)
        by_dataset[dataset] = {key: figures[key] for key in ("n", *SCORES)} | {
            "confidence": figures["confidence"]["mean"]
        }
    means = {score: float(np.mean([figures[score] for figures in by_dataset.values()])) for score in SCORES}
    return {"datasets": by_dataset, "mean_of_datasets": means}


def soft_vote(predictions: list[pd.DataFrame]) -> pd.DataFrame:
    """The soft vote of several models: the mean of their held-out probabilities, clip by clip (and condition by
    condition, where the predictions are of several).

    Raises
    ------
    ValueError
        If the predictions are not of the same clips on the same folds, in the same order.

    Examples
    --------
    >>> clip = pd.DataFrame({"protocol": ["random"], "fold": [0], "row": [0], "emotion": ["sad"]})
    >>> sure, unsure = clip.assign(p_happy=0.0, p_sad=1.0), clip.assign(p_happy=0.5, p_sad=0.5)
    >>> float(soft_vote([sure, unsure])["p_sad"].iloc[0])
    0.75
    """
    first = predictions[0]
    columns = probability_columns(emotions_of(first))
    for other in predictions[1:]:
        if not other.drop(columns=columns).equals(first.drop(columns=columns)):
            raise ValueError("the predictions to be averaged are not of the same clips on the same folds")
    return first.assign(
        **{column: np.mean([frame[column].to_numpy() for frame in predictions], axis=0) for column in columns}
    )
