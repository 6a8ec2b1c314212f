"""Labels and speakers of the files to score, where they are known."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from emotion import bucket
from emotion.datasets.label_table import LabelRow, read_label_table
from emotion.datasets.ravdess import ravdess_emotion
from emotion.errors import DataError
from emotion.scoring import inbox
from emotion.settings import Folder

log = logging.getLogger(__name__)

MAX_LABELS_BYTES = 64 << 20


def find_labels(folder: Folder, name: str | None, inboxes: tuple[Path, ...]) -> Folder | None:
    """The real path, or the URL, of a folder's table of labels; None if the folder has none.

    A folder of a bucket is not asked: whether it has one is seen when the table is read.

    Raises
    ------
    DataError
        If it is no regular file of an inbox, or too long.
    """
    if not name:
        return None
    if isinstance(folder, str):
        return f"{folder}/{name}"
    if not os.path.lexists(folder / name):
        return None
    file = Path(os.path.realpath(folder / name))
    if not file.is_file() or not any(file.is_relative_to(os.path.realpath(root)) for root in inboxes):
        raise DataError(
            f"{folder / name} is no regular file of the inbox; expected a CSV with the columns path and emotion"
        )
    if file.stat().st_size > MAX_LABELS_BYTES:
        raise DataError(f"{folder / name} has {file.stat().st_size:,} bytes; expected at most {MAX_LABELS_BYTES:,}")
    return file


def _content(file: Folder) -> bytes | None:
    """The content of a table of labels; None if it is an object that is not there."""
    try:
        if isinstance(file, str):
            data = bucket.read_object(file, most=MAX_LABELS_BYTES + 1)
        else:
            with inbox.open_regular(str(file)) as handle:  # it may have become a pipe since it was found
                data = handle.read(MAX_LABELS_BYTES + 1)
    except OSError as error:
        if isinstance(file, str) and isinstance(error, FileNotFoundError):
            return None
        if isinstance(file, str) and not isinstance(error, PermissionError):
            raise  # the server fails at the moment: the task is tried again
        raise DataError(f"{file} cannot be read ({error.strerror or error})") from None
    if len(data) > MAX_LABELS_BYTES:
        raise DataError(f"{file} is too long, or has grown while it was read; expected {MAX_LABELS_BYTES:,} bytes")
    return data


def read_labels(file: Folder, translations: Mapping[str, str | None]) -> dict[str, LabelRow]:
    """What a table of labels says, by path. It has the column ``path``, and ``emotion`` or ``speaker`` or both.

    Parameters
    ----------
    file : Path or str
        A real path, or a URL. An object that is not there says nothing.
    translations : mapping
        Words for emotions (lower case) and the emotions that they stand for; a recording whose word stands for None has
        no label.

    Raises
    ------
    DataError
        If the table cannot be used; see :func:`emotion.datasets.label_table.read_label_table`.
    """
    data = _content(file)
    if data is None:
        return {}
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
