"""Which features matter: for the answer for one clip, and over many clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emotion import features as acoustic
from emotion.explanation.values import Explanation
from emotion.vocabulary import label_set


def top_contributions(
    explanation: Explanation, row: int, emotion: str, k: int, *, feature_names: tuple[str, ...]
) -> dict[str, list[dict]]:
    """The features that spoke most ``towards`` one emotion for one clip, and most ``against`` it, strongest first.

    Parameters
    ----------
    explanation : Explanation
    row : int
        Which of the explained clips.
    emotion : str
    k : int
        The highest number of features of each kind.
    feature_names : tuple of str

    Returns
    -------
    dict of list
        ``{"feature", "description", "value", "contribution"}`` of each feature: its value for the clip, and its
        contribution on the scale of the explanation.

    Examples
    --------
    >>> explanation = Explanation(
    ...     emotions=("angry",), features=np.float32([[3, 7]]), values=np.array([[[0.5, -0.25]]]),
    ...     base_values=np.array([0.0]), outputs=np.array([[0.25]]), scale="log-odds",
    ... )
    >>> top = top_contributions(explanation, 0, "angry", 5, feature_names=("mfcc_01_mean", "mfcc_01_std"))
    >>> [(reason["feature"], reason["value"], reason["contribution"]) for reason in top["against"]]
    [('mfcc_01_std', 7.0, -0.25)]
    """
    values = explanation.values[row, explanation.emotions.index(emotion)]

    def strongest(sign: float) -> list[dict]:
        order = np.argsort(-sign * values, kind="stable")[:k]
        return [
            describe_contribution(explanation, values, row, i, feature_names) for i in order if sign * values[i] > 0
        ]

    return {"towards": strongest(1.0), "against": strongest(-1.0)}


def describe_contribution(
    explanation: Explanation, values: np.ndarray, row: int, column: int, feature_names: Sequence[str]
) -> dict:
    """A feature of a clip as an explanation lists it; ``values`` (n_features,): the contributions to one emotion."""
    return {
        "feature": feature_names[column],
        "description": acoustic.describe(feature_names[column]),
        "value": float(explanation.features[row, column]),
        "contribution": float(values[column]),
    }


FACTS = ("feature", "description", "mean_abs", "share")
"""The columns of :func:`importance` that come before those of the emotions."""


def importance(explanation: Explanation, *, feature_names: tuple[str, ...]) -> pd.DataFrame:
    """Mean absolute contribution of each feature over the clips, most important first.

    Columns: ``feature``, ``description``, ``mean_abs`` (mean over emotions too), ``share`` of the sum of that column,
    and one column per emotion.

    >>> explanation = Explanation(
    ...     emotions=("angry",), features=np.float32([[3, 7]]), values=np.array([[[0.25, -0.75]]]),
    ...     base_values=np.array([0.0]), outputs=np.array([[-0.5]]), scale="log-odds",
    ... )
    >>> ranking = importance(explanation, feature_names=("mfcc_01_mean", "mfcc_01_std"))
    >>> ranking[["feature", "share", "angry"]].to_dict("records")[0]
    {'feature': 'mfcc_01_std', 'share': 0.75, 'angry': 0.75}
    """
    by_emotion = np.abs(explanation.values).mean(axis=0)
    mean_abs = by_emotion.mean(axis=0)
    total = mean_abs.sum()
    frame = pd.DataFrame(
        {
            "feature": list(feature_names),
            "description": [acoustic.describe(name) for name in feature_names],
            "mean_abs": mean_abs,
            "share": mean_abs / total if total else mean_abs,
            **{emotion: by_emotion[explanation.emotions.index(emotion)] for emotion in ordered_emotions(explanation)},
        }
    )
    return frame.sort_values("mean_abs", ascending=False, kind="stable", ignore_index=True)


def ordered_emotions(explanation: Explanation) -> list[str]:
    """The emotions of an explanation in the order of every table and plot.

    >>> nothing = np.zeros(0)
    >>> ordered_emotions(Explanation(("angry", "calm"), nothing, nothing, nothing, nothing, "log-odds"))
    ['calm', 'angry']
    """
    return list(label_set(explanation.emotions))
