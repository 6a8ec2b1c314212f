"""Labels and speakers of the files to score, where they are known."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from emotion.datasets.label_table import LabelRow, read_label_table
from emotion.datasets.ravdess import ravdess_emotion
from emotion.errors import DataError
from emotion.scoring import inbox

log = logging.getLogger(__name__)

MAX_LABELS_BYTES = 64 << 20


def find_labels(folder: Path, name: str | None, inboxes: tuple[Path, ...]) -> Path | None:
    """The real path of a folder's table of labels; None if the folder has none.

    Raises
    ------
    DataError
        If it is no regular file of an inbox, or too long.
    """
    if not name or not os.path.lexists(folder / name):
        return None
    file = Path(os.path.realpath(folder / name))
    if not file.is_file() or not any(file.is_relative_to(os.path.realpath(root)) for root in inboxes):
        raise DataError(
            f"{folder / name} is no regular file of the inbox; expected a CSV with the columns path and emotion"
        )
    if file.stat().st_size > MAX_LABELS_BYTES:
        raise DataError(f"{folder / name} has {file.stat().st_size:,} bytes; expected at most {MAX_LABELS_BYTES:,}")
    return file


def read_labels(file: Path, translations: Mapping[str, str | None]) -> dict[str, LabelRow]:
    """What a table of labels says, by path. It has the column ``path``, and ``emotion`` or ``speaker`` or both.

    Parameters
    ----------
    file : Path
        A real path.
    translations : mapping
        Words for emotions (lower case) and the emotions that they stand for; a recording whose word stands for None has
        no label.

    Raises
    ------
    DataError
        If the table cannot be used; see :func:`emotion.datasets.label_table.read_label_table`.
    """
    try:
        with inbox.open_regular(str(file)) as handle:  # it may have become a pipe since it was found
            data = handle.read(MAX_LABELS_BYTES + 1)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    if len(data) > MAX_LABELS_BYTES:
        raise DataError(f"{file} has grown beyond {MAX_LABELS_BYTES:,} bytes while it was read")
    table = read_label_table(
        data,
        str(file),
        translations=translations,
        translated_in="in an entry (a word that two entries translate differently is not translated)",
        needs_emotions=False,
    )
    if warning := table.warning(str(file)):
        log.warning("%s", warning)
    return {row.path: row for row in table.rows}


def label_and_speaker(path: str, labels: Mapping[str, LabelRow], speakers: str) -> dict[str, str]:
    """What is known of a file without listening to it: ``label`` and ``speaker``, ``""`` where unknown.

    Where the table says no word for the emotion of a file, the file's name counts, if it is one of RAVDESS.

    Parameters
    ----------
    path : str
        Relative to the folder that is scored.
    labels : mapping
        The rows of the folder's table of labels, by path.
    speakers : str
        ``labels``, ``subfolder`` or ``none``; see :class:`emotion.scoring.options.Options`.

    Examples
    --------
    >>> label_and_speaker("ann/03-01-06-01-02-01-12.wav", {}, "subfolder")
    {'label': 'fearful', 'speaker': 'ann'}
    """
    row = labels.get(path)
    subfolder = Path(path).parts[0] if len(Path(path).parts) > 1 else ""
    speaker = {"labels": row.speaker if row else "", "subfolder": subfolder, "none": ""}[speakers]
    label = row.emotion if row and row.word else ravdess_emotion(Path(path).stem)
    return {"label": label, "speaker": speaker}
