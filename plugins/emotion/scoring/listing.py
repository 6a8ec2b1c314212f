"""What the listing of an inbox says of a file, whether it lies in a folder or in a bucket."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

UNFINISHED_SUFFIXES = (
    ".part",
    ".partial",
    ".tmp",
    ".temp",
    ".crdownload",
    ".download",
    ".filepart",
    ".swp",
    "~",
)
"""Endings of the names that programs give to files that they are still writing."""

TEMPORARY = "temporary_error"
"""Reason of a file that is left for the next sweep, as reading it failed and the file itself may be good."""


@dataclass(frozen=True)
class File:
    """An entry of an inbox.

    Attributes
    ----------
    path : str
        Relative to the folder that was listed. Bytes of the name that are not UTF-8 are shown as ``\\xNN``.
    place : str
        The absolute path, or the URL of an object, as hexadecimal bytes, so that no name is changed.
    stamp : str
        Size and times of last change: a cheap test of whether a file is unchanged. ctime is part of it, as a copy can
        set an old mtime but not an old ctime, and as a corrected permission changes it. Of an object: size, ETag and
        storage class.
    size : int
        Bytes.
    sha256 : str
        Of the content; "" where there is an error, and of an object that was not read yet.
    error, message : str
        Why the file cannot be read at all: ``outside_inbox``, ``not_file``, ``unreadable`` or ``too_large``; or "".

    Examples
    --------
    >>> File(path="a.wav", place="2f696e626f782f612e776176", stamp="9-1-1", size=9).where
    '/inbox/a.wav'
    """

    path: str
    place: str
    stamp: str
    size: int
    sha256: str = ""
    error: str = ""
    message: str = ""

    @property
    def where(self) -> str:
        """The absolute path or the URL, to open the file."""
        return os.fsdecode(bytes.fromhex(self.place))

    @property
    def is_object(self) -> bool:
        """Whether the file is an object of a bucket, whose ``where`` is a URL."""
        return not self.where.startswith("/")


@dataclass
class Listing:
    """Counts of the files of folders that are not scored now.

    Attributes
    ----------
    known : int
        Number of files that are known already.
    left : dict of int
        Number of files left for the next sweep, by reason: ``unsettled``, ``unfinished_name``, ``over_limit`` or
        ``temporary_error``. A folder that cannot be listed for now counts as one file.
    """

    known: int = 0
    left: dict[str, int] = field(default_factory=dict)

    def leave(self, reason: str) -> None:
        """Count one more file that is left for the next sweep."""
        self.left[reason] = self.left.get(reason, 0) + 1


def shown(name: str) -> str:
    r"""A file name as text that can be stored and printed, whatever its bytes are.

    >>> shown("M\udcfcller.wav")
    'M\\xfcller.wav'
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_unfinished(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or is still being written.

    >>> is_unfinished("call.wav"), is_unfinished("call.wav.part"), is_unfinished(".call.wav.Ax3")
    (False, True, True)
    """
    return name.startswith(".") or name.lower().endswith(UNFINISHED_SUFFIXES)
