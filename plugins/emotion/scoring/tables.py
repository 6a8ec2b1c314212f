"""The tables of predictions: their columns, rows from answers, and a CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from emotion.features import quality
from emotion.vocabulary import emotions_of, probability_columns

HEARD = "yes"
CHALLENGER_COLUMNS = ["challenger_emotion", "challenger_confidence"]
LATENCIES = ("decode", "features", "model", "total")
"""Stages of one clip; their time in ms is in the columns ``<stage>_ms`` of a shard's table."""
_FORMULA = re.compile(r"[=+\-@\t\r]")


def prediction_columns(emotions: Sequence[str]) -> list[str]:
    """The columns of ``predictions.parquet`` and ``predictions.csv``, for a model that knows these emotions.

    ``channel`` is counted from 1, and ``""`` where a file is one recording: mono, or its channels are mixed.
    ``heard_in_training`` is ``yes`` for a clip that one of the models was trained on, ``no`` for another clip, and
    ``""`` where that is not known, as for a long recording. ``unfamiliarity`` is the distance from all that training
    has shown, where 1 is the threshold of ``unfamiliar``. The last columns are
    :class:`emotion.features.quality.Quality`.

    >>> prediction_columns(["happy", "bored"])[:7]
    ['path', 'sha256', 'emotion', 'confidence', 'p_happy', 'p_bored', 'duration']
    """
    answer = ["emotion", "confidence", *probability_columns(emotions)]
    facts = ["duration", "model", "family", "mode", "windows", "needs_listener", "label", "speaker", "error", "message"]
    others = ["heard_in_training", "channel", "unfamiliar", "unfamiliarity", *quality.COLUMNS]
    return ["path", "sha256", *answer, *facts, *others]


def timeline_columns(emotions: Sequence[str]) -> list[str]:
    """The columns of ``timeline.parquet`` and ``timeline.csv``, for a model that knows these emotions.

    >>> timeline_columns(["happy", "bored"])[4:]
    ['emotion', 'confidence', 'p_happy', 'p_bored', 'error', 'channel']
    """
    answer = ["emotion", "confidence", *probability_columns(emotions)]
    return ["path", "sha256", "start", "end", *answer, "error", "channel"]


def answer_columns(answer: dict) -> dict:
    """The columns that an answer of a model fills: emotion, confidence and a probability for each emotion.

    Parameters
    ----------
    answer : dict
        With ``emotion``, ``confidence`` and ``probabilities`` by emotion; other keys are left out.

    Examples
    --------
    >>> answer = {"emotion": "sad", "confidence": 0.75, "probabilities": {"calm": 0.25, "sad": 0.75}, "mode": "plain"}
    >>> answer_columns(answer)
    {'emotion': 'sad', 'confidence': 0.75, 'p_calm': 0.25, 'p_sad': 0.75}
    """
    probabilities = {f"p_{emotion}": probability for emotion, probability in answer["probabilities"].items()}
    return {"emotion": answer["emotion"], "confidence": answer["confidence"]} | probabilities


def challenger_columns(answer: dict) -> dict:
    """The columns that an answer of the challenger fills."""
    return {"challenger_emotion": answer["emotion"], "challenger_confidence": answer["confidence"]}


def clip_table(rows: list[dict], *, emotions: Sequence[str], limits: Mapping[str, float]) -> pd.DataFrame:
    """The table of a shard, a row per file: missing numbers are NaN, missing words are "".

    ``emotions``: those that the model knows.

    ``vector`` is the row of the file's features in the shard's ``.npy`` file, -1 if it has none. An answer whose
    confidence is below the limit of its mode, or whose clip is unfamiliar, is marked ``needs_listener``.
    """
    latencies = [f"{stage}_ms" for stage in LATENCIES]
    table = pd.DataFrame(rows, columns=[*prediction_columns(emotions), *CHALLENGER_COLUMNS, "vector", *latencies])
    numbers = ["confidence", *probability_columns(emotions), "duration", "challenger_confidence", *latencies]
    numbers += ["unfamiliarity", *quality.COLUMNS]
    table[numbers] = table[numbers].astype(float)
    for column in ("emotion", "mode", "challenger_emotion", "heard_in_training"):
        table[column] = words(table[column])
    table["unfamiliar"] = table["unfamiliarity"] > 1
    table["needs_listener"] = needs_listener(table, limits)
    return table


def needs_listener(table: pd.DataFrame, limits: Mapping[str, float]) -> pd.Series:
    """Which answers are left to a listener, as bools: see :func:`clip_table`.

    >>> answers = {"error": "", "mode": ["plain", "batch", "plain"], "confidence": 0.6}
    >>> answers |= {"unfamiliar": [False, False, True]}
    >>> needs_listener(pd.DataFrame(answers), {"plain": 0.5, "batch": 0.7}).tolist()
    [False, True, True]
    """
    is_uncertain = table["confidence"] < table["mode"].map(limits)
    return (table["error"] == "") & (is_uncertain | table["unfamiliar"])


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """The stored table of a shard with all columns: a shard of an earlier release, taken over from a dead batch, lacks
    some of them. What was not measured there is NaN or "", and no clip is unfamiliar.

    >>> complete(pd.DataFrame({"path": ["a.wav"]}))[["unfamiliar", "snr_db", "channel"]].to_dict("records")
    [{'unfamiliar': False, 'snr_db': nan, 'channel': ''}]
    """
    columns = prediction_columns(emotions_of(table))
    table = table.reindex(columns=[*table, *(name for name in columns if name not in table)])
    for column in ("heard_in_training", "channel"):
        table[column] = words(table[column])
    numbers = ["unfamiliarity", *quality.COLUMNS]
    table[numbers] = table[numbers].astype(float)
    table["unfamiliar"] = table["unfamiliarity"] > 1
    return table


def timeline_table(rows: list[dict], *, emotions: Sequence[str]) -> pd.DataFrame:
    """The timelines of a shard's long recordings, a row per window: missing numbers are NaN, missing words are ""."""
    table = pd.DataFrame(rows, columns=timeline_columns(emotions))
    numbers = ["start", "end", "confidence", *probability_columns(emotions)]
    table[numbers] = table[numbers].astype(float)
    table["emotion"] = words(table["emotion"])
    return table


def words(column: pd.Series) -> pd.Series:
    """A column as text; what is missing is ``""``.

    >>> words(pd.Series(["sad", None, float("nan")])).tolist()
    ['sad', '', '']
    """
    return column.astype(object).where(column.notna(), "").astype(str)


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """A table in which a spreadsheet takes no text cell for a formula (CWE-1236).

    ``./`` is put before such a path, which still names the same file, and an apostrophe before any other such text.
    The Parquet file beside the CSV has the text as it is.

    >>> for_spreadsheets(pd.DataFrame({"path": ["=cmd.wav"], "speaker": ["+1"], "duration": [-1.0]})).to_dict("records")
    [{'path': './=cmd.wav', 'speaker': "'+1", 'duration': -1.0}]
    """
    guarded = table.copy()
    for column in guarded.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in guarded.dtypes]]:
        prefix = "./" if column == "path" else "'"
        guarded[column] = [
            prefix + text if isinstance(text, str) and _FORMULA.match(text) else text for text in guarded[column]
        ]
    return guarded
