"""Writes the report of a scoring run, from those rows of its tables that the report shows."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd
from pyarrow.parquet import ParquetFile

from emotion.inference import CustomEmotionModel
from emotion.inference.adapting import Groups
from emotion.reports import batch_report
from emotion.runs import listening
from emotion.scoring.joined import select_rows
from emotion.scoring.plan import Plan
from emotion.scoring.summary import LISTED
from emotion.store import Store


class ReportRows(NamedTuple):
    """What a report shows of the tables of a batch."""

    table: pd.DataFrame
    """Rows of ``predictions.parquet``."""
    timeline: pd.DataFrame
    """Rows of ``timeline.parquet``."""
    rejected: int
    """How many rows of the whole table have an error."""
    long_files: int
    """How many files of the whole table have a timeline."""


def report_rows(store: Store, batch: str) -> ReportRows:
    """The rows that the report of a batch shows, without those of the clips to hear: of 100,000 files, some hundreds.

    Where a batch has no table of timelines, ``timeline`` is empty.
    """
    key = f"scores/{batch}/predictions.parquet"
    table = store.read_table(key, ["path", "sha256", "error", "windows", "duration"])
    rejected = table.index[table["error"] != ""]
    with_timeline = table[table["windows"] > 0]
    long = with_timeline.groupby(["path", "sha256"], sort=False)["duration"].max()
    drawn = set(long.nlargest(batch_report.TIMELINES, keep="first").index)
    is_drawn = [place in drawn for place in zip(with_timeline["path"], with_timeline["sha256"], strict=True)]
    return ReportRows(
        table=select_rows(store, key, rejected[:LISTED].union(with_timeline.index[np.array(is_drawn, dtype=bool)])),
        timeline=_timelines(store, f"scores/{batch}/timeline.parquet", {path for path, _ in drawn}),
        rejected=len(rejected),
        long_files=len(long),
    )


def _timelines(store: Store, key: str, paths: Collection[str]) -> pd.DataFrame:
    """The timelines of some files."""
    if not paths or not store.exists(key):
        return pd.DataFrame()
    with store.open(key) as handle:
        file = ParquetFile(handle)
        groups = (file.read_row_group(number).to_pandas() for number in range(file.num_row_groups))
        return pd.concat([group[group["path"].isin(paths)] for group in groups], ignore_index=True)


def render(
    store: Store, plan: Plan, summary: dict, model: CustomEmotionModel, groups: Groups | None, failures: list[dict]
) -> str:
    """The page; adds to ``failures`` the clips whose answers get no explanation. Arguments as for
    :func:`emotion.runs.listening.least_confident_clips`."""
    key = f"scores/{plan['batch']}/predictions.parquet"
    first = listening.least_confident(store.read_table(key, ["error", "windows", "unfamiliar", "confidence"]))
    heard = select_rows(store, key, first.index)
    clips = list(listening.least_confident_clips(store, plan, heard, model, groups))
    failures += [
        {"step": "explanation", "path": clip["path"], "message": clip["no_explanation"]}
        for clip in clips
        if clip["no_explanation"]
    ]
    return batch_report.render(summary, **report_rows(store, plan["batch"])._asdict(), listen=clips)
