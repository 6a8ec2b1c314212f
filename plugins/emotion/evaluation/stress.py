"""The stress table: how a model answers for unheard speakers under each recording condition, in each mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from emotion.audio.conditions import CLEAN
from emotion.evaluation.scores import compute_scores
from emotion.vocabulary import MODES, emotions_of, probabilities_of

SUMMARIES = ("mean_accuracy", "mean_f1_macro", "worst_ece")
"""Figures of a mode over its conditions, which stand beside those of each condition."""


def stress_scores(predictions: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The stress table of one model.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Held-out predictions of a sample of clips: mode, condition, row, emotion and a probability for each
        emotion of the label set. See :class:`emotion.training.fitting.Trained`.

    Returns
    -------
    dict
        By mode (:data:`emotion.vocabulary.MODES`), then by condition, ``clean`` first: ``accuracy``; ``f1_macro``;
        ``ece``; ``confidence``, the mean; ``changed``, the share of answers that differ from the answer for the clean
        clip. Beside the conditions, ``mean_accuracy`` and ``mean_f1_macro`` over all conditions but ``clean``, and
        ``worst_ece``, the highest of all conditions.

    Examples
    --------
    >>> right = pd.DataFrame(np.eye(4), columns=["p_calm", "p_happy", "p_sad", "p_angry"])
    >>> right = right.assign(row=range(4), emotion=["calm", "happy", "sad", "angry"])
    >>> wrong = right.assign(p_sad=0.0, p_angry=right["p_angry"] + right["p_sad"])
    >>> parts = [right.assign(condition="clean"), wrong.assign(condition="mp3")]
    >>> table = stress_scores(pd.concat([part.assign(mode=mode) for mode in MODES for part in parts]))
    >>> table["plain"]["clean"]["accuracy"], table["plain"]["mp3"]["changed"], table["batch"]["mean_accuracy"]
    (1.0, 0.25, 0.75)
    """
    table: dict[str, dict[str, Any]] = {}
    for mode in MODES:
        of_mode = predictions[predictions["mode"] == mode]
        parts = {str(name): part.sort_values("row") for name, part in of_mode.groupby("condition", sort=False)}
        clean = _answers(parts[CLEAN])
        by_condition = {name: _figures(part, clean) for name, part in parts.items()}
        outside = [figures for name, figures in by_condition.items() if name != CLEAN]
        table[mode] = by_condition | {
            "mean_accuracy": float(np.mean([figures["accuracy"] for figures in outside])),
            "mean_f1_macro": float(np.mean([figures["f1_macro"] for figures in outside])),
            "worst_ece": max(figures["ece"] for figures in by_condition.values()),
        }
    return table


def _answers(part: pd.DataFrame) -> np.ndarray:
    return probabilities_of(part).argmax(axis=1)


def _figures(part: pd.DataFrame, clean: np.ndarray) -> dict[str, float]:
    scores = compute_scores(part["emotion"].to_numpy(), probabilities_of(part), emotions_of(part))
    return {score: scores[score] for score in ("accuracy", "f1_macro", "ece")} | {
        "confidence": scores["confidence"]["mean"],
        "changed": float((_answers(part) != clean).mean()),
    }
