"""A version's held-out answers under recording conditions: kept with it, and compared with those of another version."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import pandas as pd

from emotion.audio.conditions import CLEAN, CONDITIONS_VERSION
from emotion.errors import EmotionError
from emotion.evaluation.bootstrap import Lead, PairedAnswers, mean_lead
from emotion.evaluation.selection import MODE, weighted_tests
from emotion.evaluation.shared_emotions import ModelAnswers, pair_answers
from emotion.models.kept_predictions import champion_predictions, predictions_file
from emotion.models.registry import ChampionPointer
from emotion.store import Store
from emotion.vocabulary import emotions_of, probability_columns

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
    >>> answer = pd.DataFrame({"p_happy": [0.75], "p_sad": [0.25], "mode": MODE, "condition": "mp3", "row": 0})
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
    answers = plain[["condition", "emotion", *probability_columns(emotions_of(plain))]].reset_index(drop=True)
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
    tests = _paired_tests(stored, challenger)
    if not tests:
        return None, "the champion's version was tested on other clips, or under other versions of the conditions"
    outside = [(1 / len(tests), test) for test in tests.values()]
    return {
        "overall": mean_lead(weighted_tests(clean, list(tests.values())), seed=seed),
        "outside": mean_lead(outside, score="accuracy", seed=seed),
        "champion_accuracy": float(np.mean([_accuracy(test, test.first) for test in tests.values()])),
        "challenger_accuracy": float(np.mean([_accuracy(test, test.second) for test in tests.values()])),
        "conditions": list(tests),
    }, ""


def _paired_tests(champion: pd.DataFrame, challenger: pd.DataFrame) -> dict[str, PairedAnswers]:
    """The answers of both by condition, without the clean clips, for the clips that both have answers for."""
    columns = probability_columns(emotions_of(champion))
    renamed = {column: f"champion_{column}" for column in columns}
    pairs = champion[[*KEYS, *columns]].rename(columns=renamed).merge(challenger, on=KEYS)
    tests = {}
    for condition, part in pairs.groupby("condition", sort=False):
        test = pair_answers(
            part["samples_sha256"].to_numpy(),
            part["emotion"].to_numpy(),
            part["speaker"].to_numpy(),
            ModelAnswers(part[list(renamed.values())].to_numpy(), emotions_of(champion)),
            ModelAnswers(part[probability_columns(emotions_of(challenger))].to_numpy(), emotions_of(challenger)),
        )
        if condition != CLEAN and len(test.clips):
            tests[str(condition)] = test
    return tests


def _accuracy(test: PairedAnswers, probabilities: np.ndarray) -> float:
    return float((np.array(test.emotions)[probabilities.argmax(axis=1)] == test.labels).mean())
