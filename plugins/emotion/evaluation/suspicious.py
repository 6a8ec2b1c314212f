"""Labels that may be wrong: clips that a model which has not heard the speaker finds least likely to be what they are
called."""

from __future__ import annotations

import numpy as np
import pandas as pd

from emotion.evaluation.selection import PROTOCOL
from emotion.vocabulary import emotion_codes, emotions_of, probabilities_of

LISTED = 100
"""At most so many clips are listed."""


def suspicious_labels(table: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The clips whose label has the lowest held-out probability, the lowest first.

    A clip is listed where another emotion is more probable than its label, at most :data:`LISTED` of them. Most such
    answers are errors of the model; a person who listens finds the labels that are wrong among them (Northcutt, Jiang &
    Chuang 2021, "Confident learning: estimating uncertainty in dataset labels").

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip: path, key, speaker and, if there are several, dataset.
    predictions : pandas.DataFrame
        Held-out predictions of a model: protocol, row (of ``table``), emotion and probabilities.

    Returns
    -------
    pandas.DataFrame
        dataset, path, key, speaker, emotion (the label), p_label, predicted, p_predicted.

    Examples
    --------
    >>> table = pd.DataFrame({"path": ["a.wav", "b.wav"], "key": "", "speaker": "anna", "dataset": "calls"})
    >>> answers = pd.DataFrame({"p_happy": [0.9, 0.9], "p_sad": 0.1, "row": [0, 1], "emotion": ["happy", "sad"]})
    >>> suspicious_labels(table, answers.assign(protocol=PROTOCOL))[["path", "emotion", "p_label"]].values.tolist()
    [['b.wav', 'sad', 0.1]]
    """
    held_out = predictions[predictions["protocol"] == PROTOCOL]
    emotions, probabilities = emotions_of(held_out), probabilities_of(held_out)
    rows = np.arange(len(held_out))
    predicted = probabilities.argmax(axis=1)
    of_label = probabilities[rows, emotion_codes(held_out["emotion"], emotions)]
    clips = table.iloc[held_out["row"]].reset_index(drop=True)
    listed = pd.DataFrame(
        {
            "dataset": clips.get("dataset", ""),
            "path": clips["path"],
            "key": clips["key"],
            "speaker": clips["speaker"],
            "emotion": held_out["emotion"].to_numpy(),
            "p_label": of_label,
            "predicted": np.array(emotions)[predicted],
            "p_predicted": probabilities[rows, predicted],
        }
    )
    differs = listed["predicted"] != listed["emotion"]
    return listed[differs].sort_values(["p_label", "path"]).head(LISTED).reset_index(drop=True)
