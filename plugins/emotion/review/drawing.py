"""Draws the clips of a batch that a person should hear: one sample in which each clip has a known probability.

A clip with the probability p of being drawn stands for 1/p clips. So the share of right answers among all clips can be
estimated from the drawn ones without bias, although doubtful clips are drawn more often (J. Hájek, Comment on "An Essay
on the Logical Foundations of Survey Sampling", 1971).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from emotion.review.queue import Reason
from emotion.scoring.adapted import folder_of
from emotion.scoring.tables import HEARD, words
from emotion.vocabulary import probability_columns

BY_CHANCE = 0.5
"""The share of the sample that is drawn by chance; the rest is drawn by doubt."""
FOR_TWO = 0.1
"""The share of the clips that two persons should label."""
UNFAMILIAR_DOUBT = 0.25
DISAGREEMENT_DOUBT = 0.25
"""What an unfamiliar clip, or one on which champion and challenger disagree, adds to the doubt of
:func:`doubt`: as much as a confidence of 0.5."""
DRIFTING = ("watch", "alarm")


def candidates(table: pd.DataFrame, timeline: pd.DataFrame, emotions: Sequence[str]) -> pd.DataFrame:
    """The clips of a batch that can be drawn: short recordings, and the usable parts of long ones.

    Left out are clips that a model was trained on, and copies of a file.

    Parameters
    ----------
    table, timeline : pandas.DataFrame
        What ``predictions.parquet`` and ``timeline.parquet`` hold; those of earlier releases lack some columns.
    emotions : sequence of str
        Those that the model knows.

    Returns
    -------
    pandas.DataFrame
        path, sha256, channel, start and end (NaN for a whole recording), speaker, duration, emotion, confidence,
        the probabilities, mode, unfamiliar, challenger_emotion (``""`` where there is none) and
        challenger_confidence. The order depends on the content of the batch alone.
    """
    shown = ["path", "sha256", "channel", "start", "end", "speaker", "duration", "emotion", "confidence"]
    shown += [*probability_columns(emotions), "mode", "unfamiliar", "challenger_emotion", "challenger_confidence"]
    table = table.reindex(columns=list(dict.fromkeys((*table.columns, *shown, "heard_in_training"))))
    for name in ("channel", "challenger_emotion", "heard_in_training"):
        table[name] = words(table[name])
    table["unfamiliar"] = table["unfamiliar"].eq(True)
    table = table[(table["error"] == "") & (table["heard_in_training"] != HEARD)]
    short, long = table[table["windows"] == 0], table[table["windows"] > 0]
    parts = _parts(timeline, long[["path", "sha256", "channel", "speaker", "mode"]])
    clips = pd.concat([short[shown], parts.reindex(columns=shown)] if len(parts) else [short[shown]])
    clips["challenger_emotion"] = words(clips["challenger_emotion"])
    clips["unfamiliar"] = clips["unfamiliar"].eq(True)
    place = ["sha256", "channel", "start", "end"]
    return clips.sort_values([*place, "path"], kind="stable").drop_duplicates(place, ignore_index=True)


def _parts(timeline: pd.DataFrame, long: pd.DataFrame) -> pd.DataFrame:
    """The usable parts of the long recordings, each with the speaker and the mode of its recording."""
    if not len(timeline) or not len(long):
        return pd.DataFrame()
    parts = timeline.assign(duration=timeline["end"] - timeline["start"])
    return parts[parts["error"] == ""].merge(long, on=["path", "sha256", "channel"])


def doubt(clips: pd.DataFrame, drift: str) -> np.ndarray:
    """How much there is to doubt in the answer for each clip, relative to the others; above 0.

    The square of 1 minus the confidence; more for a clip that is unfamiliar, or on which the models disagree. In a
    batch that drifts, the confidence means less: all clips get the mean doubt on top.

    >>> clips = pd.DataFrame({"confidence": [0.5, 0.9, 0.5], "unfamiliar": [False, False, True], "emotion": "sad"})
    >>> clips["challenger_emotion"] = ""
    >>> doubt(clips, "ok").round(2).tolist()
    [0.25, 0.01, 0.5]
    """
    values = np.square(1 - clips["confidence"].to_numpy(dtype=float)) + 1e-6
    values = values + UNFAMILIAR_DOUBT * clips["unfamiliar"].to_numpy(dtype=bool)
    values = values + DISAGREEMENT_DOUBT * _disagree(clips)
    return values + values.mean() if drift in DRIFTING else values


def _disagree(clips: pd.DataFrame) -> np.ndarray:
    challenger = clips["challenger_emotion"]
    return ((challenger != "") & (challenger != clips["emotion"])).to_numpy()


def inclusion_probabilities(doubts: np.ndarray, size: int) -> np.ndarray:
    """With which probability each clip is drawn, where :data:`BY_CHANCE` of the sample is drawn by chance.

    The probabilities add up to ``size``, or are all 1 where there are no more clips than that. No clip has less than
    half of what it would have by chance alone.

    >>> inclusion_probabilities(np.array([1.0, 1.0, 2.0, 4.0]), 2).tolist()
    [0.375, 0.375, 0.5, 0.75]
    >>> inclusion_probabilities(np.array([1.0, 1.0, 98.0]), 2).tolist()
    [0.5, 0.5, 1.0]
    """
    if size >= len(doubts):
        return np.ones(len(doubts))
    probabilities = size * _shares(doubts).sum(axis=0)
    while (probabilities > 1).any():  # each pass caps one clip or more
        capped = probabilities >= 1
        rest = probabilities[~capped]
        probabilities[capped] = 1
        probabilities[~capped] = rest * (size - capped.sum()) / rest.sum()
    return probabilities


def _shares(doubts: np.ndarray) -> np.ndarray:
    """The share of the sample that each clip has by chance, and by doubt: shape (2, n)."""
    by_chance = np.full(len(doubts), BY_CHANCE / len(doubts))
    return np.stack([by_chance, (1 - BY_CHANCE) * doubts / doubts.sum()])


def systematic_sample(probabilities: np.ndarray, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw rows, each with its probability, by equal steps along an order (systematic sampling, W. G. Madow 1949).

    Neighbours in the order are rarely drawn together, so every stretch of it is represented.

    Parameters
    ----------
    probabilities : float array, shape (n,)
        Their sum is the number of rows that are drawn, up to rounding.
    order : int array, shape (n,)
        The rows in their order.
    random : numpy.random.Generator

    Examples
    --------
    >>> systematic_sample(np.array([0.5, 0.5, 1.0]), np.arange(3), np.random.default_rng(0)).tolist()
    [1, 2]
    """
    ends = np.cumsum(probabilities[order])
    steps = np.arange(round(ends[-1])) + random.random()
    rows = np.searchsorted(ends * (round(ends[-1]) / ends[-1]), steps, side="right")
    return order[np.unique(rows)]


def draw(
    table: pd.DataFrame,
    timeline: pd.DataFrame,
    *,
    size: int,
    emotions: Sequence[str],
    drift: str,
    seed: int,
) -> list[dict[str, Any]]:
    """Draw the clips of a batch that a person should hear.

    Parameters
    ----------
    table, timeline : pandas.DataFrame
        What ``predictions.parquet`` and ``timeline.parquet`` hold.
    size : int
        How many clips to draw; all of them where there are no more.
    emotions : sequence of str
        Those that the model knows.
    drift : str
        The verdict on the batch.
    seed : int
        With the same seed, the same clips are drawn.

    Returns
    -------
    list of dict
        Fields of :class:`emotion.review.queue.Item` without ``batch``, ``audio`` and ``suffix``, in a random order.
    """
    clips = candidates(table, timeline, emotions)
    if not len(clips) or size < 1:
        return []
    random = np.random.default_rng(seed)
    doubts = doubt(clips, drift)
    probabilities = inclusion_probabilities(doubts, size)
    order = np.lexsort((random.random(len(clips)), clips["speaker"], clips["emotion"]))
    rows = random.permutation(systematic_sample(probabilities, order, random))
    by_chance, by_doubt = _shares(doubts)
    is_by_chance = random.random(len(clips)) < by_chance / (by_chance + by_doubt)
    reasons = _doubt_reasons(clips, drift)
    for_two = np.arange(len(rows)) < np.floor(FOR_TWO * len(rows) + random.random())
    return [
        _item(clips.iloc[row], emotions)
        | {
            "probability": float(probabilities[row]),
            "reasons": ["chance"] if is_by_chance[row] else reasons[row],
            "people": 2 if needs_two else 1,
        }
        for row, needs_two in zip(rows, for_two, strict=True)
    ]


def _doubt_reasons(clips: pd.DataFrame, drift: str) -> list[list[Reason]]:
    """What there is to doubt in each answer; a confidence is low where it is below the median of the batch, or where
    there is nothing else."""
    marks: list[tuple[Reason, np.ndarray]] = [
        ("low_confidence", (clips["confidence"] < clips["confidence"].median()).to_numpy()),
        ("unfamiliar", clips["unfamiliar"].to_numpy(dtype=bool)),
        ("models_disagree", _disagree(clips)),
        ("drift", np.full(len(clips), drift in DRIFTING)),
    ]
    return [[reason for reason, holds in marks if holds[row]] or ["low_confidence"] for row in range(len(clips))]


def _item(clip: pd.Series, emotions: Sequence[str]) -> dict[str, Any]:
    is_part = bool(pd.notna(clip["start"]))
    has_challenger = clip["challenger_emotion"] != ""
    challenger = {"emotion": clip["challenger_emotion"], "confidence": float(clip["challenger_confidence"])}
    return {
        "path": clip["path"],
        "sha256": clip["sha256"],
        "channel": clip["channel"],
        "start": float(clip["start"]) if is_part else None,
        "end": float(clip["end"]) if is_part else None,
        "folder": folder_of(clip["path"]),
        "speaker": clip["speaker"],
        "duration": float(clip["duration"]),
        "answer": {
            "emotion": clip["emotion"],
            "confidence": float(clip["confidence"]),
            "probabilities": {emotion: float(clip[f"p_{emotion}"]) for emotion in emotions},
            "mode": clip["mode"],
        },
        "challenger": challenger if has_challenger else None,
        "unfamiliar": bool(clip["unfamiliar"]),
    }
