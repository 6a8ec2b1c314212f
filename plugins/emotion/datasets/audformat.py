"""A folder in audformat (https://audeering.github.io/audformat/): a header ``db.yaml`` and tables ``db.<table>.csv``.

What is read: the emotion of each file, from the tables with a column ``emotion``; its speaker and gender, from any
table of files, and the gender also from what the header or a table says of speakers. Tables may be CSV or Parquet.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from emotion.datasets.archives import Member
from emotion.datasets.catalogue import YAML_VALUE_ERRORS, FolderEntry
from emotion.datasets.labelled_files import LabelledFile, check_words, label
from emotion.datasets.labelled_folder import check_listed, unlisted_warning
from emotion.errors import DataError

HEADER_FILE = "db.yaml"
NO_WORD = "(none)"
"""How a file without an emotion is counted among those that are left out."""
_MAX_HEADER_BYTES = 8 << 20


@dataclass(frozen=True)
class _Database:
    """The header of a database, checked as far as it is used, and the files beside it."""

    columns: dict[str, list[str]]
    """The columns of each table of files, without its index."""
    segmented: frozenset[str]
    """The tables whose rows are parts of files."""
    schemes: Mapping[str, Any]
    misc_tables: Mapping[str, Any]
    members: Mapping[str, Member]

    def table(self, name: str) -> pd.DataFrame:
        """A table as texts; what is not known is ``""``.

        Raises
        ------
        DataError
            If it is not there, or cannot be read.
        """
        stem = f"db.{name}"
        for ending, read in ((".csv", _read_csv), (".parquet", _read_parquet)):
            if f"{stem}{ending}" in self.members:
                try:
                    return read(self.members[f"{stem}{ending}"].read())
                except (ValueError, OSError) as error:  # the errors of pandas and pyarrow are among these
                    raise DataError(f"{stem}{ending} cannot be read: {error}; expected a table of audformat") from None
        raise DataError(f"{HEADER_FILE} names the table {name}; expected {stem}.csv or {stem}.parquet beside it")


def files_of_database(entry: FolderEntry, members: dict[str, Member]) -> tuple[list[LabelledFile], tuple[str, ...]]:
    """The recordings of a database, and warnings.

    Files without an emotion are left out, as are those whose word the catalogue maps to null.

    Raises
    ------
    DataError
        If header or tables cannot be used, no table has a column ``emotion``, rows are parts of files, a file has two
        emotions, or files are not there.
    """
    database = _read_header(members)
    words = _emotions(database)
    speakers = _by_file(database, "speaker")
    genders = _by_file(database, "gender") or _gender_of_speakers(database, speakers)
    check_listed([(path, "file") for path in words], members, HEADER_FILE)
    check_words(entry, [(word, path) for path, word in words.items() if word], HEADER_FILE)
    files = [
        label(
            entry, members[path], {"emotion": word, "speaker": speakers.get(path, ""), "gender": genders.get(path, "")}
        )
        if word
        else LabelledFile(members[path], NO_WORD, {"emotion": ""})
        for path, word in words.items()
    ]
    return files, tuple(filter(None, [unlisted_warning(files, members, HEADER_FILE)]))


def _read_header(members: Mapping[str, Member]) -> _Database:
    data = members[HEADER_FILE].read()
    try:
        if len(data) > _MAX_HEADER_BYTES:
            raise ValueError(f"it has {len(data):,} bytes; at most {_MAX_HEADER_BYTES:,} are read")
        header = yaml.safe_load(data)
    except (yaml.YAMLError, *YAML_VALUE_ERRORS) as error:
        raise DataError(
            f"{HEADER_FILE} cannot be read: {error}; expected the header of an audformat database"
        ) from None
    parts = [_mapping(header, key) for key in ("tables", "schemes", "misc_tables")]
    tables = {name: table for name, table in parts[0].items() if isinstance(table, dict)}
    return _Database(
        columns={name: list(_mapping(table, "columns")) for name, table in tables.items()},
        segmented=frozenset(name for name, table in tables.items() if table.get("type") == "segmented"),
        schemes=parts[1],
        misc_tables=parts[2],
        members=members,
    )


def _mapping(holder: object, key: str) -> dict[str, Any]:
    """A mapping inside the header; empty where there is none."""
    value = holder.get(key) if isinstance(holder, dict) else None
    return {str(name): inner for name, inner in value.items()} if isinstance(value, dict) else {}


def _read_csv(data: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)


def _read_parquet(data: bytes) -> pd.DataFrame:
    frame = pd.read_parquet(io.BytesIO(data))
    return frame.apply(lambda column: column.astype("string").fillna("").astype(str))


def _emotions(database: _Database) -> dict[str, str]:
    """The word for the emotion of each file, ``""`` where none is given; from the table ``emotion``, or else from all
    tables that have the column."""
    tables = [name for name, columns in database.columns.items() if "emotion" in columns]
    if not tables:
        listed = "; ".join(f"{name}: {', '.join(columns) or 'none'}" for name, columns in database.columns.items())
        raise DataError(f"no table of {HEADER_FILE} has a column emotion; it has ({listed or 'no table'})")
    words: dict[str, str] = {}
    for name in ["emotion"] if "emotion" in tables else tables:
        for path, word in _column(database, name, "emotion").items():
            if words.get(path) and word and words[path] != word:
                raise DataError(f"{path} is {words[path]} in one table and {word} in db.{name}; expected one emotion")
            words[path] = word or words.get(path, "")
    return words


def _column(database: _Database, name: str, column: str) -> dict[str, str]:
    """A column of a table of files, by path."""
    table = database.table(name)
    if not {"file", column} <= set(table.columns):
        raise DataError(f"db.{name} has the columns {', '.join(table.columns)}; expected file and {column}")
    if name in database.segmented:
        _check_whole_files(table, name)
    if table["file"].duplicated().any():
        twice = table.loc[table["file"].duplicated(), "file"].iloc[0]
        raise DataError(f"db.{name} lists {twice} twice; expected each file once")
    return dict(zip(table["file"], table[column].str.strip(), strict=True))


def _check_whole_files(table: pd.DataFrame, name: str) -> None:
    """Raise DataError if a row of a segmented table is not a file from its start to its end."""
    starts = pd.to_timedelta(table.get("start", pd.Series("", table.index)).replace("", "0s"), errors="coerce")
    parts = table[(starts != pd.Timedelta(0)) | (table.get("end", pd.Series("", table.index)) != "")]
    if len(parts):
        raise DataError(
            f"db.{name} has {len(parts)} rows that are parts of files, such as {parts['file'].iloc[0]} from "
            f"{parts['start'].iloc[0]} to {parts['end'].iloc[0] or 'its end'}; expected whole files: cut the "
            "recordings into a file per segment"
        )


def _by_file(database: _Database, column: str) -> dict[str, str]:
    """What all tables of whole files say in a column, by path."""
    values: dict[str, str] = {}
    for name, columns in database.columns.items():
        if column in columns and name not in database.segmented:
            values |= {path: value for path, value in _column(database, name, column).items() if value}
    return values


def _gender_of_speakers(database: _Database, speakers: Mapping[str, str]) -> dict[str, str]:
    """The gender of each file by its speaker, from the labels of the scheme ``speaker`` or the table that it names."""
    scheme = _mapping(database.schemes, "speaker")
    genders = {speaker: str(facts.get("gender", "")) for speaker, facts in _mapping(scheme, "labels").items() if facts}
    name = scheme.get("labels") if isinstance(scheme.get("labels"), str) else "speaker"
    if not genders and "gender" in _mapping(_mapping(database.misc_tables, str(name)), "columns"):
        table = database.table(str(name))
        genders = dict(zip(table.iloc[:, 0], table["gender"], strict=True))
    return {path: genders.get(speaker, "") for path, speaker in speakers.items()}
