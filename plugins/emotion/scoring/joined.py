"""Tables of a batch that are joined part by part, so that memory holds one part of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from emotion.scoring.listing import TEMPORARY
from emotion.scoring.plan import Plan, part_keys
from emotion.scoring.summary import UNCOUNTED
from emotion.scoring.tables import CHALLENGER_COLUMNS, for_spreadsheets, prediction_columns
from emotion.store import Store
from emotion.vocabulary import emotions_of, probability_columns


class JoinedTable:
    """A table that is written as its parts come, as Parquet and as a CSV that is safe to open in a spreadsheet.

    Parameters
    ----------
    folder : Path
        On this machine, for the unfinished files.

    Examples
    --------
    >>> store = Store("memory://joined-example")
    >>> with joined_table() as table:
    ...     table.add(pd.DataFrame({"path": ["a.wav"], "confidence": [0.5]}))
    ...     table.add(pd.DataFrame({"path": ["b.wav"], "confidence": [0.75]}))
    ...     table.write(store, "scores/one/predictions")
    >>> store.read_table("scores/one/predictions.parquet")["confidence"].tolist()
    [0.5, 0.75]
    >>> store.read_bytes("scores/one/predictions.csv").decode().split()
    ['path,confidence', 'a.wav,0.5', 'b.wav,0.75']
    """

    def __init__(self, folder: Path):
        self._parquet, self._csv = folder / "table.parquet", folder / "table.csv"
        self._writer: ParquetWriter | None = None
        self._without_rows: pd.DataFrame | None = None
        self.rows = 0

    def add(self, table: pd.DataFrame) -> None:
        """Append rows; all must have the columns of the first ones."""
        if table.empty:  # its columns have no types
            self._without_rows = table
            return
        if self._writer is None:
            self._begin(table)
        assert self._writer is not None
        self._writer.write_table(pa.Table.from_pandas(table, schema=self._schema, preserve_index=False))
        for_spreadsheets(table).to_csv(self._csv, index=False, header=False, mode="a")
        self.rows += len(table)

    def _begin(self, table: pd.DataFrame) -> None:
        self._schema = pa.Schema.from_pandas(table, preserve_index=False)
        self._writer = ParquetWriter(self._parquet, self._schema)
        for_spreadsheets(table.head(0)).to_csv(self._csv, index=False)

    def write(self, store: Store, stem: str) -> None:
        """Write ``<stem>.parquet`` and ``<stem>.csv`` to the artifact store."""
        if self._writer is None and self._without_rows is not None:
            self._begin(self._without_rows)
        self.close()
        store.write_file(f"{stem}.parquet", self._parquet)
        store.write_file(f"{stem}.csv", self._csv)

    def close(self) -> None:
        """End the Parquet file; nothing happens if that was done."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@contextmanager
def joined_table() -> Iterator[JoinedTable]:
    """A table whose unfinished files are deleted after the block."""
    with tempfile.TemporaryDirectory(prefix="emotion-") as folder:
        table = JoinedTable(Path(folder))
        try:
            yield table
        finally:
            table.close()


def join_parts(store: Store, plan: Plan, read: Callable[[str], pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the tables of predictions and timelines of a batch, part by part.

    Parameters
    ----------
    store : Store
    plan : Plan
    read : callable
        Gives the table of a part.

    Returns
    -------
    tuple of pandas.DataFrame
        The rows of all parts, without the columns that no figure needs; and path and message of the files that are left
        for the next sweep.
    """
    folder = f"scores/{plan['batch']}"
    answered, left = [], []
    with joined_table() as predictions, joined_table() as timelines:
        for part in part_keys(plan):
            table = read(part)
            is_left = table["error"] == TEMPORARY
            left.append(table.loc[is_left, ["path", "message"]])
            columns = prediction_columns(emotions_of(table)) + CHALLENGER_COLUMNS * (len(plan["models"]) > 1)
            table = table[~is_left].sort_values("path", kind="stable")
            predictions.add(table[columns])
            answered.append(table.drop(columns=[*UNCOUNTED, *probability_columns(emotions_of(table))]))
            timelines.add(_timeline(store, part).sort_values(["path", "start", "channel"]))
        predictions.write(store, f"{folder}/predictions")
        if timelines.rows:
            timelines.write(store, f"{folder}/timeline")
    return pd.concat(answered, ignore_index=True), pd.concat(left, ignore_index=True)


def _timeline(store: Store, part: str) -> pd.DataFrame:
    table = store.read_table(f"{part}-timeline.parquet")
    # A part of an earlier release, taken over from a dead batch, lacks this column.
    table["channel"] = table.get("channel", pd.Series("", table.index)).fillna("")
    return table


def select_rows(store: Store, key: str, wanted: pd.Index) -> pd.DataFrame:
    """The rows of a Parquet table with these numbers, in their order; one row group is in memory at a time."""
    parts, start = [], 0
    with store.open(key) as handle:
        file = ParquetFile(handle)
        for number in range(file.num_row_groups):
            end = start + file.metadata.row_group(number).num_rows
            rows = wanted[(wanted >= start) & (wanted < end)]
            if len(rows):
                parts.append(file.read_row_group(number).to_pandas().set_index(pd.RangeIndex(start, end)).loc[rows])
            start = end
        empty = file.schema_arrow.empty_table().to_pandas()
    return pd.concat(parts).loc[wanted] if parts else empty
