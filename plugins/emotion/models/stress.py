"""A version's held-out answers under recording conditions: kept with it, and compared with those of another version."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import pandas as pd

from emotion.audio.conditions import CLEAN, CONDITIONS_VERSION
from emotion.errors import EmotionError
from emotion.evaluation.bootstrap import Lead, PairedAnswers, mean_lead
from emotion.evaluation.selection import MODE, weighted_tests
from emotion.models.kept_predictions import champion_predictions, predictions_file
from emotion.models.registry import ChampionPointer
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, PROBABILITIES

CONDITION_PREDICTIONS = "condition_predictions.parquet"
"""A version's plain held-out predictions under conditions: a row per family, condition and clip, with
conditions_version, samples_sha256, speaker, emotion and probabilities."""
KEYS = ["conditions_version", "condition", "samples_sha256"]
"""The columns that say which clip under which condition."""


class StressComparison(TypedDict):
    """Champion and challenger under recording conditions, on the clips that both have answers for.

    ``overall`` is the lead of the challenger in what models are judged by
    (:func:`emotion.evaluation.selection.figure`); ``outside``, the one in mean accuracy over the conditions but
    ``clean``; the two accuracies are such means.
    """

    overall: Lead
    outside: Lead
    champion_accuracy: float
    challenger_accuracy: float
    conditions: list[str]


def condition_file(table: pd.DataFrame, predictions: dict[str, pd.DataFrame]) -> bytes:
    """The content of :data:`CONDITION_PREDICTIONS`.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip: samples_sha256, speaker.
    predictions : dict of pandas.DataFrame
        By family, in all modes: see :class:`emotion.training.fitting.Trained`, ``condition_predictions``.

    Examples
    --------
    >>> import io
    >>> table = pd.DataFrame({"samples_sha256": ["a clip"], "speaker": ["anna"]})
    >>> answer = pd.DataFrame([[0.125] * 8], columns=PROBABILITIES).assign(mode=MODE, condition="mp3", row=0)
    >>> content = condition_file(table, {"ensemble": answer.assign(emotion="sad")})
    >>> pd.read_parquet(io.BytesIO(content)).loc[0, ["family", "condition", "samples_sha256", "speaker"]].tolist()
    ['ensemble', 'mp3', 'a clip', 'anna']
    """
    frames = [answers_by_clip(table, frame).assign(family=family) for family, frame in predictions.items()]
    return predictions_file(frames)


def answers_by_clip(table: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """One model's plain predictions under conditions, with :data:`KEYS` and the speaker in place of the row."""
    plain = predictions[predictions["mode"] == MODE]
    clips = table.iloc[plain["row"]][["samples_sha256", "speaker"]].reset_index(drop=True)
    answers = plain[["condition", "emotion", *PROBABILITIES]].reset_index(drop=True)
    return pd.concat([clips, answers], axis=1).assign(conditions_version=CONDITIONS_VERSION)


def compare(
    store: Store, champion: ChampionPointer, challenger: pd.DataFrame | None, clean: PairedAnswers, *, seed: int
) -> tuple[StressComparison | None, str]:
    """How the challenger compares with the champion under conditions; or None, and why they were not compared so.

    Parameters
    ----------
    store : Store
    champion : ChampionPointer
    challenger : pandas.DataFrame or None
        From :func:`answers_by_clip`; None where the run tested no clip under conditions.
    clean : PairedAnswers
        The answers of champion and challenger for clean clips.
    seed : int
        For drawing speakers.
    """
    if challenger is None:
        return None, "this run tested no clip under recording conditions"
    try:
        stored = champion_predictions(store, champion, CONDITION_PREDICTIONS)
    except EmotionError as error:
        return None, str(error)
    if stored is None:
        return None, "the champion's version keeps no predictions under recording conditions"
    pairs = stored.merge(challenger, on=KEYS, suffixes=("_first", ""))
    tests = {
        str(condition): PairedAnswers(
            part["samples_sha256"].to_numpy(),
            part["emotion"].to_numpy(),
            part["speaker"].to_numpy(),
            part[[f"{column}_first" for column in PROBABILITIES]].to_numpy(),
            part[PROBABILITIES].to_numpy(),
        )
        for condition, part in pairs.groupby("condition", sort=False)
        if condition != CLEAN
    }
    if not tests:
        return None, "the champion's version was tested on other clips, or under other versions of the conditions"
    outside = [(1 / len(tests), test) for test in tests.values()]
    return {
        "overall": mean_lead(weighted_tests(clean, list(tests.values())), seed=seed),
        "outside": mean_lead(outside, score="accuracy", seed=seed),
        "champion_accuracy": float(np.mean([_accuracy(test.labels, test.first) for test in tests.values()])),
        "challenger_accuracy": float(np.mean([_accuracy(test.labels, test.second) for test in tests.values()])),
        "conditions": list(tests),
    }, ""


def _accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float((np.array(EMOTIONS)[probabilities.argmax(axis=1)] == labels).mean())
