"""Columns of the tables of predictions, and the CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import re

import pandas as pd

from emotion.vocabulary import PROBABILITIES

COLUMNS = [
    "path",
    "sha256",
    "emotion",
    "confidence",
    *PROBABILITIES,
    "duration",
    "model",
    "family",
    "mode",
    "windows",
] + ["needs_listener", "label", "speaker", "error", "message"]
CHALLENGER_COLUMNS = ["challenger_emotion", "challenger_confidence"]
TIMELINE_COLUMNS = ["path", "sha256", "start", "end", "emotion", "confidence", *PROBABILITIES, "error"]
LATENCIES = ("decode", "features", "model", "total")
_FORMULA = re.compile(r"[=+\-@\t\r]")


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose text cells no spreadsheet takes for a formula (CWE-1236).

    A path is led by ``./``, which leads to the same file; any other text by an apostrophe. The Parquet file
    beside the CSV has the text as it is.
    """
    guarded = table.copy()
    for column in guarded.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in guarded.dtypes]]:
        lead = "./" if column == "path" else "'"
        guarded[column] = [
            lead + text if isinstance(text, str) and _FORMULA.match(text) else text for text in guarded[column]
        ]
    return guarded
