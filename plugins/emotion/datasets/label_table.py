"""Tables of labels: a CSV with a row per recording. Training and scoring read it by the same rules.

The words for emotions are those of :data:`emotion.vocabulary.EMOTIONS`, or words that the dataset catalogue declares or
translates. Upper and lower case are the same.
"""

from __future__ import annotations

import csv
import io
import posixpath
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from emotion.datasets.field_types import normal_word
from emotion.errors import DataError
from emotion.vocabulary import EMOTIONS

LABELS_FILE = "labels.csv"
"""The usual name of a table of labels in a folder of recordings."""
LABEL_COLUMNS = ("path", "emotion", "speaker", "gender", "intensity", "statement")
"""The columns that are read, in any order; others are ignored."""
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What the table says of one recording.

    Attributes
    ----------
    line : int
        The line of the file, from 1.
    path : str
        Relative to the folder of the table, with ``/`` and without ``.`` and needless ``..``.
    word : str
        The word for its emotion, as the table has it; ``""`` where none is given.
    emotion : str
        What the word stands for; ``""`` where none is given, or the catalogue leaves clips with this word out.
    speaker : str
        ``""`` where none is given.
    details : dict
        The other columns: gender, intensity and statement, as far as the table has them.
    """

    line: int
    path: str
    word: str
    emotion: str
    speaker: str
    details: dict[str, str]


@dataclass(frozen=True)
class LabelTable:
    """A table of labels: its rows, and the names of the columns that are ignored."""

    rows: list[LabelRow]
    ignored: tuple[str, ...]

    def warning(self, name: str) -> str:
        """A sentence on the columns that are ignored; ``""`` if there are none."""
        if not self.ignored:
            return ""
        return f"{name} has columns that are not read: {', '.join(self.ignored)}; read are {', '.join(LABEL_COLUMNS)}."


def read_label_table(
    data: bytes, name: str, *, translations: Mapping[str, str | None], translated_in: str, needs_emotions: bool
) -> LabelTable:
    """Read a table of labels: a line of column names, then a line per recording.

    The text is UTF-8, or UTF-16 with a byte order mark. Commas, semicolons or tabs separate the values: what separates
    the names of the columns separates all.

    Parameters
    ----------
    data : bytes
        The content of the file.
    name : str
        How errors name the file.
    translations : mapping
        Words for emotions (lower case) and the emotions that they stand for; None: such clips are left out.
    translated_in : str
        Where in the catalogue a person can add a translation; a part of the sentence on an unknown word.
    needs_emotions : bool
        Whether each row must have an emotion. If not, the table needs a column ``emotion`` or ``speaker``, and both
        may be empty.

    Raises
    ------
    DataError
        If the file is no such table, lacks a column or has one twice, lists a path twice, or has a word that is no
        emotion.

    Examples
    --------
    >>> text = b"Path;speaker;emotion;age\\n./calls/1.wav;ann;Anger;31\\ncalls/2.wav;ben;sad;40\\n"
    >>> table = read_label_table(
    ...     text,
    ...     "labels.csv",
    ...     translations={"anger": "angry"},
    ...     translated_in="under our-calls",
    ...     needs_emotions=True,
    ... )
    >>> [(row.line, row.path, row.emotion, row.speaker) for row in table.rows]
    [(2, 'calls/1.wav', 'angry', 'ann'), (3, 'calls/2.wav', 'sad', 'ben')]
    >>> table.ignored
    ('age',)
    """
    header, records = read_csv(data, name, LABEL_COLUMNS)
    _check_columns(header, name, needs_emotions)
    rows = _rows(header, records, name)
    words = [(row.word, f"line {row.line}") for row in rows if row.word or needs_emotions]
    check_emotions(words, translations, source=name, translated_in=translated_in)
    return LabelTable(
        [replace(row, emotion=emotion_of(row.word, translations) or "") for row in rows],
        ignored=tuple(column for column in header if column and column not in LABEL_COLUMNS),
    )


def emotion_of(word: str, translations: Mapping[str, str | None]) -> str | None:
    """The emotion that a word stands for; ``""`` if the catalogue leaves its clips out, None if it is not known.

    >>> emotion_of("Anger", {"anger": "angry"}), emotion_of("SAD", {}), emotion_of("glad", {})
    ('angry', 'sad', None)
    >>> emotion_of("boredom", {"boredom": None})
    ''
    """
    word = normal_word(word)
    if word in translations:
        return translations[word] or ""
    return word if word in EMOTIONS else None


def check_emotions(
    words: Iterable[tuple[str, str]], translations: Mapping[str, str | None], *, source: str, translated_in: str
) -> None:
    """Compare the words of a source with the emotions.

    Parameters
    ----------
    words : iterable of (str, str)
        A word for each clip, and where it stands in the source.
    translations, translated_in
        As for :func:`read_label_table`.
    source : str
        How the error names the source.

    Raises
    ------
    DataError
        If a word stands for no emotion; the message lists all such words.
    """
    unknown: dict[str, list[str]] = {}
    for word, place in words:
        if emotion_of(word, translations) is None:
            unknown.setdefault(word, []).append(place)
    if unknown:
        listed = ", ".join(
            f"{word or '(none)'} ({len(places)} clips; first: {places[0]})" for word, places in sorted(unknown.items())
        )
        known = dict.fromkeys((*EMOTIONS, *filter(None, translations.values())))
        raise DataError(
            f"{source} has labels that are no emotions known here: {listed}. Expected {', '.join(known)}; map your "
            f"own words to them in the catalogue, {translated_in}, as in labels: {{{min(unknown) or 'anger'}: angry}}, "
            "or to null to leave such clips out; further emotions are declared there under emotions"
        )


def _rows(header: list[str], records: list[tuple[int, list[str]]], name: str) -> list[LabelRow]:
    """The rows of the file; ``emotion`` is not known yet."""
    lines: dict[str, int] = {}
    rows = []
    for line, values in records:
        if len(values) != len(header):
            raise DataError(f"{name}, line {line}: {len(values)} values; expected {len(header)}")
        cells = {column: value.strip() for column, value in zip(header, values, strict=True) if column in LABEL_COLUMNS}
        path = posixpath.normpath(cells.pop("path"))
        if path == ".":
            raise DataError(f"{name}, line {line}: no path; expected the path of a recording")
        if path in lines:
            raise DataError(f"{name}, line {line}: {path} is in line {lines[path]} already; expected each clip once")
        lines[path] = line
        rows.append(LabelRow(line, path, cells.pop("emotion", ""), "", cells.pop("speaker", ""), cells))
    return rows


def read_csv(data: bytes, name: str, columns: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a table that a person may have edited with a spreadsheet: see :func:`read_label_table` for its form.

    Parameters
    ----------
    data : bytes
    name : str
        How errors name the file.
    columns : sequence of str
        The names of columns that may be there. What separates values is what finds most of them in the first line.

    Returns
    -------
    tuple
        The names of the columns that are there, in lower case, and the lines with their numbers; lines without any
        value are left out.

    Raises
    ------
    DataError
        If the file is no such text.

    Examples
    --------
    >>> read_csv(b"Path;Emotion\\n1.wav;sad\\n;\\n", "labels.csv", ["path", "emotion"])
    (['path', 'emotion'], [(2, ['1.wav', 'sad'])])
    """
    try:
        text = data.decode("utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=_delimiter(text, columns))
        header = _columns(next(reader, []))
        return header, [(reader.line_num, values) for values in reader if any(value.strip() for value in values)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{name} cannot be read: {error}; expected text in UTF-8, or in UTF-16 with a byte order mark, separated "
            "by commas, semicolons or tabs"
        ) from None


def _delimiter(text: str, columns: Sequence[str]) -> str:
    """What separates the names of the columns: that which finds most of those that are known."""

    def known_columns(delimiter: str) -> int:
        header = _columns(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), []))
        return len(set(columns) & set(header))

    return max(DELIMITERS, key=known_columns)


def _columns(header: list[str]) -> list[str]:
    return [column.strip().lower() for column in header]


def _check_columns(header: list[str], name: str, needs_emotions: bool) -> None:
    columns = [column for column in header if column in LABEL_COLUMNS]
    complete = "path" in columns and ("emotion" in columns or (not needs_emotions and "speaker" in columns))
    if not complete or len(set(columns)) < len(columns):
        needed = "path, emotion" if needs_emotions else "path, emotion or speaker or both,"
        others = [column for column in LABEL_COLUMNS if column not in needed.replace(",", "").split()]
        raise DataError(
            f"{name} has the columns {', '.join(header) or 'none'}; expected {needed} and, where known, "
            f"{', '.join(others)}, each once"
        )
