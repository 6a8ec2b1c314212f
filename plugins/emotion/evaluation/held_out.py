"""Scores by protocol, from the predictions of models for clips they were not fitted on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from emotion.evaluation import scores
from emotion.vocabulary import PROBABILITIES


def protocol_scores(table: pd.DataFrame, predictions: pd.DataFrame) -> dict:
    """Scores by protocol from held-out predictions: over all folds together, per fold and per slice.

    The ``random`` entry also holds ``split_80_20``.
    """
    found = {}
    for protocol, rows in predictions.groupby("protocol", sort=False):
        probabilities = rows[PROBABILITIES].to_numpy()
        found[protocol] = scores.compute_scores(rows["emotion"].to_numpy(), probabilities)
        if protocol == "split_80_20":
            continue
        per_fold = [
            scores.compute_scores(fold["emotion"].to_numpy(), fold[PROBABILITIES].to_numpy())
            for _, fold in rows.groupby("fold")
        ]
        found[protocol]["cv"] = scores.fold_summary(per_fold)
        clips = table.iloc[rows["row"]].reset_index(drop=True)
        found[protocol]["slices"] = scores.slice_scores(clips, probabilities)
    found["random"]["split_80_20"] = found.pop("split_80_20")
    return found


def soft_vote(predictions: list[pd.DataFrame]) -> pd.DataFrame:
    """The soft vote of several models' held-out predictions on the same splits: mean probabilities."""
    first = predictions[0]
    for other in predictions[1:]:
        if not other[["protocol", "fold", "row", "emotion"]].equals(first[["protocol", "fold", "row", "emotion"]]):
            raise ValueError("the predictions are not of the same clips on the same splits")
    return first.assign(
        **{column: np.mean([frame[column].to_numpy() for frame in predictions], axis=0) for column in PROBABILITIES}
    )
