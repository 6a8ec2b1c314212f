"""The review without a page: a folder with audio and a CSV to fill, and the filled CSV read again."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emotion.datasets.field_types import normal_word
from emotion.datasets.label_table import read_csv
from emotion.errors import ConfigurationError, DataError
from emotion.review import assignment, clips, labels, queue
from emotion.review.labels import SPECIAL, Label
from emotion.review.queue import Item, Queue
from emotion.store import Store

COLUMNS = ("item", "file", "emotion", "speaker", "note")
TABLE = "labels.csv"
_SHOWN_DIGITS = 16
"""Digits of the checksum that name a clip in the table."""
_GUARDED = re.compile(r"'[=+\-@\t\r]")
"""How a text begins that was guarded against being taken for a formula; see
:func:`emotion.scoring.tables.for_spreadsheets`."""
_README = """\
{count} clips to listen to, and {table} to fill.

Write what you hear into the column emotion of each clip, before you look at what the model says:
  {emotions}
or, in place of an emotion:
  several         more than one emotion, one after the other or at once
  none_of_these   an emotion that is not in the list
  no_speech       nobody speaks
  cannot_tell     the emotion cannot be told
  skip            not now
Leave the cell empty for clips that you have not heard. The columns speaker (who is heard, if you know) and note may
stay empty. Leave the column item as it is. Then run

  emotion review import {table}

It says what is wrong, if anything is, and then takes nothing. You can fill the table bit by bit and import it again.
"""


@dataclass(frozen=True)
class Imported:
    """How many rows of a table became labels, how many said what is known already, and how many have no label yet."""

    added: int
    known: int
    empty: int


def export(store: Store, folder: Path, *, person: str, batch: str | None = None) -> int:
    """Write the clips that a person may still label into a folder, with a table to fill; returns how many.

    The table does not tell what the model has answered.

    Parameters
    ----------
    store : Store
    folder : Path
        A new or empty folder.
    person : str
    batch : str, optional
        Default: all batches.

    Raises
    ------
    ConfigurationError
        If the folder is there and not empty.
    DataError
        If nothing is left for the person to label, or there is no such batch.
    """
    items = [item for item in assignment.open_items(store, batch, person) if clips.is_kept(store, item)]
    if not items:
        raise DataError(f"nothing is left that {person} could label; `emotion review status` shows the queues")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is there and not empty; expected a new folder")
    (folder / "audio").mkdir(parents=True)
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    for number, item in enumerate(items, start=1):
        file = f"audio/{number:04}-{item.audio[:8]}.{item.suffix}"
        with clips.open_audio(store, item) as source, open(folder / file, "wb") as target:
            shutil.copyfileobj(source, target)
        writer.writerow([_name_of(item), file, "", "", ""])
    emotions = dict.fromkeys(
        word for name in {item.batch for item in items} for word in labels.words_for(queue.read(store, name).label_set)
    )
    readme = _README.format(
        count=len(items), table=TABLE, emotions=", ".join(word for word in emotions if word not in SPECIAL)
    )
    (folder / "README.txt").write_text(readme, encoding="utf-8")
    # with a byte order mark, by which a spreadsheet sees that it is UTF-8
    (folder / TABLE).write_bytes(b"\xef\xbb\xbf" + table.getvalue().encode())
    return len(items)


def _name_of(item: Item) -> str:
    """What names an item in the table: no spreadsheet takes it for a number, a date or a formula."""
    return f"{item.audio[:_SHOWN_DIGITS]}/{item.batch}"


def import_labels(
    store: Store, data: bytes, name: str, *, person: str, translations: Mapping[str, str | None]
) -> Imported:
    """Add the labels of a filled table; none if any row is wrong.

    A row that says what the person's label for the clip says already adds nothing. Rows without an emotion are left
    for later.

    Parameters
    ----------
    store : Store
    data : bytes
        The content of the table: as :func:`emotion.datasets.label_table.read_csv` reads it, with the columns item and
        emotion and, optionally, speaker and note.
    name : str
        How errors name the file.
    person : str
        Who listened.
    translations : mapping
        Further words for emotions, of the dataset catalogue.

    Raises
    ------
    DataError
        If the table cannot be read, or rows are wrong; the message names them all.
    """
    header, records = read_csv(data, name, COLUMNS)
    columns = [column for column in header if column in COLUMNS]
    if not {"item", "emotion"} <= set(columns) or len(set(columns)) < len(columns):
        raise DataError(
            f"{name} has the columns {', '.join(header) or 'none'}; expected item and emotion and, if you like, "
            "speaker and note, each once"
        )
    rows = _Rows(store, person, translations)
    for line, values in records:
        rows.add(line, header, values)
    rows.raise_wrong(name)
    standing = labels.standing(labels.read(store))
    known = 0
    for label in rows.labels:
        earlier = standing.get(label.key, {}).get(person)
        if earlier and (earlier.label, earlier.speaker, earlier.note) == (label.label, label.speaker, label.note):
            known += 1
        else:
            labels.add(store, label)
    return Imported(added=len(rows.labels) - known, known=known, empty=rows.empty)


class _Rows:
    """The rows of a table on their way to labels; ``wrong``: the lines by what is wrong with them."""

    def __init__(self, store: Store, person: str, translations: Mapping[str, str | None]):
        self._store = store
        self._person = person
        self._translations = translations
        self._queues: dict[str, Queue] = {}
        self._lines: dict[tuple[str, str], int] = {}
        self.labels: list[Label] = []
        self.empty = 0
        self.wrong: dict[str, list[int]] = {}

    def add(self, line: int, header: list[str], values: list[str]) -> None:
        """Make a label of a row, or note what is wrong with it."""
        try:
            if len(values) != len(header):
                raise DataError(f"{len(values)} values; expected {len(header)}")
            cells = dict(zip(header, map(_unguarded, values), strict=True))
            self._add(line, cells)
        except DataError as error:
            self.wrong.setdefault(str(error), []).append(line)

    def _add(self, line: int, cells: dict[str, str]) -> None:
        clips_of_batch, item = self._find(cells["item"])
        speaker, note = cells.get("speaker", ""), cells.get("note", "").replace("\r\n", "\n")
        if not cells["emotion"]:
            if speaker or note:
                raise DataError("a speaker or a note and no emotion; expected an emotion")
            self.empty += 1
            return
        if item.key in self._lines:
            raise DataError(f"the clip is in line {self._lines[item.key]} already; expected each clip once")
        self._lines[item.key] = line
        word = _label_of(cells["emotion"], labels.words_for(clips_of_batch.label_set), self._translations)
        label = Label(*item.key, self._person, word, note=note, speaker=speaker)
        labels.check(label, clips_of_batch)
        self.labels.append(label)

    def _find(self, name: str) -> tuple[Queue, Item]:
        """The clip that the column item names, and its queue."""
        digits, _, batch = name.partition("/")
        if not re.fullmatch(rf"[0-9a-f]{{{_SHOWN_DIGITS},64}}", digits):
            raise DataError(f"the item {name!r} is none; expected it as `emotion review export` wrote it")
        if batch not in self._queues:
            self._queues[batch] = queue.read(self._store, batch)
        items = [item for item in self._queues[batch].items if item.audio.startswith(digits)]
        if len(items) != 1:
            raise DataError(f"the item {name!r} is no clip of a queue; it may have been deleted on request")
        return self._queues[batch], items[0]

    def raise_wrong(self, name: str) -> None:
        """Raise DataError that names all wrong rows, if there are any."""
        if self.wrong:
            listed = [
                f"line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines))}: {reason}"
                for reason, lines in self.wrong.items()
            ]
            raise DataError(f"{name}: nothing was taken, as rows are wrong:\n  " + "\n  ".join(listed))


def _unguarded(text: str) -> str:
    text = text.strip()
    return text[1:] if _GUARDED.match(text) else text


def _label_of(word: str, words: tuple[str, ...], translations: Mapping[str, str | None]) -> str:
    """The label that a word stands for; the word itself if it stands for none.

    >>> _label_of("No speech", ("sad", "no_speech"), {}), _label_of("Anger", ("angry",), {"anger": "angry"})
    ('no_speech', 'angry')
    """
    normal = normal_word(word)
    for candidate in (normal, translations.get(normal), re.sub(r"[ -]+", "_", normal)):
        if candidate in words:
            return str(candidate)
    return word
