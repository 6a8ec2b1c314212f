"""Tables of labels: a CSV with a row per recording. Training and scoring read it by the same rules.

The words for emotions are those of :data:`emotion.vocabulary.EMOTIONS`, or words that the dataset catalogue translates
to them. Upper and lower case are the same.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from emotion.errors import DataError
from emotion.vocabulary import EMOTIONS

LABELS_FILE = "labels.csv"
"""The usual name of a table of labels in a folder of recordings."""
LABEL_COLUMNS = ("path", "emotion", "speaker", "gender", "intensity", "statement")
"""The columns that the table may have."""


@dataclass(frozen=True)
class LabelRow:
    """What the table says of one recording.

    Attributes
    ----------
    line : int
        The line of the file, from 1.
    path : str
        Relative to the folder of the table, with ``/`` and without ``.`` and needless ``..``.
    emotion : str
        One of EMOTIONS; ``""`` where none is given.
    speaker : str
        ``""`` where none is given.
    details : dict
        The other columns: gender, intensity and statement, as far as the table has them.
    """

    line: int
    path: str
    emotion: str
    speaker: str
    details: dict[str, str]


def read_label_table(
    data: bytes, name: str, *, translations: Mapping[str, str], translated_in: str, needs_emotions: bool
) -> list[LabelRow]:
    """Read a table of labels, in UTF-8, separated by commas, with a line of column names.

    Parameters
    ----------
    data : bytes
        The content of the file.
    name : str
        How errors name the file.
    translations : mapping
        Words for emotions (lower case) and the emotions that they stand for.
    translated_in : str
        Where in the catalogue a person can add a translation; a part of the sentence on an unknown word.
    needs_emotions : bool
        Whether each row must have an emotion. If not, the table needs a column ``emotion`` or ``speaker``, and both
        may be empty.

    Raises
    ------
    DataError
        If the file is no such table, has other columns, lists a path twice, or has a word that is no emotion.

    Examples
    --------
    >>> table = b"Path,emotion,speaker\\n./calls/1.wav,Anger,ann\\ncalls/2.wav,sad,ben\\n"
    >>> rows = read_label_table(
    ...     table,
    ...     "labels.csv",
    ...     translations={"anger": "angry"},
    ...     translated_in="under our-calls",
    ...     needs_emotions=True,
    ... )
    >>> [(row.line, row.path, row.emotion, row.speaker) for row in rows]
    [(2, 'calls/1.wav', 'angry', 'ann'), (3, 'calls/2.wav', 'sad', 'ben')]
    """
    rows = _rows(data, name, needs_emotions)
    words = [(row.emotion, f"line {row.line}") for row in rows if row.emotion or needs_emotions]
    check_emotions(words, translations, source=name, translated_in=translated_in)
    return [replace(row, emotion=emotion_of(row.emotion, translations) or "") for row in rows]


def emotion_of(word: str, translations: Mapping[str, str]) -> str | None:
    """The emotion that a word stands for; None if it stands for none.

    >>> emotion_of("Anger", {"anger": "angry"}), emotion_of("SAD", {}), emotion_of("glad", {})
    ('angry', 'sad', None)
    """
    word = word.strip().lower()
    return translations.get(word, word if word in EMOTIONS else None)


def check_emotions(
    words: Iterable[tuple[str, str]], translations: Mapping[str, str], *, source: str, translated_in: str
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
        raise DataError(
            f"{source} has labels that are no emotions known here: {listed}. Expected {', '.join(EMOTIONS)}; map your "
            f"own words to them in the catalogue, {translated_in}, as in labels: {{{min(unknown) or 'anger'}: angry}}"
        )


def _rows(data: bytes, name: str, needs_emotions: bool) -> list[LabelRow]:
    """The rows of the file, with words for emotions as they stand in it."""
    header, records = _parse(data, name)
    _check_columns(header, name, needs_emotions)
    lines: dict[str, int] = {}
    rows = []
    for line, values in records:
        if len(values) != len(header):
            raise DataError(f"{name}, line {line}: {len(values)} values; expected {len(header)}")
        cells = dict(zip(header, (value.strip() for value in values), strict=True))
        path = posixpath.normpath(cells.pop("path"))
        if path == ".":
            raise DataError(f"{name}, line {line}: no path; expected the path of a recording")
        if path in lines:
            raise DataError(f"{name}, line {line}: {path} is in line {lines[path]} already; expected each clip once")
        lines[path] = line
        rows.append(LabelRow(line, path, cells.pop("emotion", ""), cells.pop("speaker", ""), cells))
    return rows


def _parse(data: bytes, name: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the lines with their numbers; empty lines are left out."""
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [column.strip().lower() for column in next(reader, [])]
        return header, [(reader.line_num, values) for values in reader if values]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{name} cannot be read: {error}; expected comma-separated text in UTF-8") from None


def _check_columns(header: list[str], name: str, needs_emotions: bool) -> None:
    columns = set(header)
    complete = "path" in columns and ("emotion" in columns or (not needs_emotions and "speaker" in columns))
    if not complete or not columns <= set(LABEL_COLUMNS) or len(columns) < len(header):
        needed = "path, emotion" if needs_emotions else "path, emotion or speaker or both,"
        others = [column for column in LABEL_COLUMNS if column not in needed.replace(",", "").split()]
        raise DataError(
            f"{name} has the columns {', '.join(header) or 'none'}; expected {needed} and, where known, "
            f"{', '.join(others)}, separated by commas"
        )
