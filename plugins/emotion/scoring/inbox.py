"""Folders that strangers drop recordings into: what lies there, listed and opened so that nothing harms or
hangs.

Names may be any bytes; links may lead anywhere; a pipe, a device or a half-copied file may stand where a
recording should. Every entry below the folder ends up either listed as found, listed with an error, or
counted as left alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from emotion.errors import AudioError, ConfigurationError

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
"""Names that programs give to files they are still writing."""
READ_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class File:
    """An entry of an inbox.

    Attributes
    ----------
    path : str
        Relative to the folder that was listed; a name that is no UTF-8 is shown with ``\\xNN`` for what is
        not.
    place : str
        Its absolute path, as hexadecimal bytes: any name survives.
    stamp : str
        Size and times of last change, to tell cheaply that a file is as it was. ctime is part of it: a copy
        that sets an old mtime cannot fake it, and a mended permission shows.
    sha256 : str
        Of the content; "" where there is an error.
    error, message : str
        Why it cannot be read at all: ``outside_inbox``, ``not_file`` or ``unreadable``; "" otherwise.
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
        """The absolute path, to open it with."""
        return os.fsdecode(bytes.fromhex(self.place))


@dataclass
class Listing:
    """What a look into a folder found: files to score, the number already known, and those left for the next
    sweep by reason (``unsettled``, ``unfinished_name``, ``over_limit``)."""

    files: list[File] = field(default_factory=list)
    known: int = 0
    left: dict[str, int] = field(default_factory=dict)

    def leave(self, reason: str) -> None:
        """Count one more that is left alone."""
        self.left[reason] = self.left.get(reason, 0) + 1


def shown(name: str) -> str:
    """A file name as text that can be stored and printed, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def confine(folder: str, inboxes: tuple[Path, ...]) -> Path:
    """A folder given by a user as a real path, below one of the inboxes.

    Raises ConfigurationError if it leads elsewhere, is not there or is no folder.
    """
    for inbox in inboxes:
        place = Path(os.path.realpath(inbox / folder))
        if place.is_relative_to(os.path.realpath(inbox)):
            break
    else:
        raise ConfigurationError(
            f"the folder {folder!r} lies outside the inboxes ({os.pathsep.join(map(str, inboxes))}); move it "
            "there, or add its parent to EMOTION_INBOXES"
        )
    if not place.is_dir():
        raise ConfigurationError(f"{place} is not a folder; expected one with recordings")
    return place


def look(
    folder: Path,
    *,
    inboxes: tuple[Path, ...],
    settle_seconds: float,
    is_known: Callable[[str, str, str | None], bool],
    skip: frozenset[str] = frozenset(),
    limit: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Listing:
    """List the files below a folder that are not known yet, with their checksums.

    Parameters
    ----------
    folder : Path
        A real path.
    inboxes : tuple of Path
        Where links may lead.
    settle_seconds : float
        A file changed less than so long ago is left alone: it may still be copied. So is one that changes
        between two looks. A time of change in the future says nothing and is not held against the file.
    is_known : callable
        Told place, stamp and, on a second call if that was not enough, sha256.
    skip : frozenset of str
        Paths to leave out, such as the table of labels.
    limit : int
        The most files to take.
    """
    roots = tuple(os.path.realpath(inbox) for inbox in inboxes)
    listing = Listing()
    fresh: list[tuple[File, str]] = []
    for found, real, changed in _walk(str(folder), roots, listing):
        if found.path in skip:
            continue
        age = time.time() - changed
        if is_known(found.place, found.stamp, None):
            listing.known += 1
        elif 0 <= age < settle_seconds:
            listing.leave("unsettled")
        elif len(fresh) == limit:
            listing.leave("over_limit")
        else:
            fresh.append((found, real))
    for number, (found, real) in enumerate(fresh):
        taken = found if found.error else _with_checksum(found, real)
        if taken is None:
            listing.leave("unsettled")
        elif taken.sha256 and is_known(taken.place, taken.stamp, taken.sha256):
            listing.known += 1
        else:
            listing.files.append(taken)
        progress(number + 1, len(fresh))
    return listing


def _walk(folder: str, roots: tuple[str, ...], listing: Listing) -> Iterator[tuple[File, str, float]]:
    """Each entry that is no folder, with the real path of its content and its time of change; by name."""
    waiting = [folder]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(inside) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield _refused(folder, inside, "unreadable", f"the folder cannot be listed: {error.strerror}")
            continue
        folders = []
        for entry in ordered:
            if entry.name.startswith(".") or entry.name.lower().endswith(UNFINISHED_SUFFIXES):
                listing.leave("unfinished_name")
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                yield _file(folder, entry.path, roots)
        waiting += reversed(folders)


def _file(folder: str, place: str, roots: tuple[str, ...]) -> tuple[File, str, float]:
    try:
        own = os.lstat(place)
        real = os.path.realpath(place)
        if stat.S_ISLNK(own.st_mode) and not any(Path(real).is_relative_to(root) for root in roots):
            return _refused(
                folder, place, "outside_inbox", "is a link that leads out of the inbox; it was not followed"
            )
        found = os.stat(real)
    except OSError as error:
        return _refused(folder, place, "unreadable", f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return _refused(folder, place, "not_file", "is a pipe, a device or a link to a folder; expected a regular file")
    return File(*_names(folder, place), _stamp(found), found.st_size), real, found.st_mtime


def _refused(folder: str, place: str, error: str, message: str) -> tuple[File, str, float]:
    path, hexadecimal = _names(folder, place)
    try:
        own = os.lstat(place)
        stamp, changed = _stamp(own), own.st_mtime
    except OSError:
        stamp, changed = "", 0.0
    return File(path, hexadecimal, stamp, 0, error=error, message=f"{path} {message}"), place, changed


def _names(folder: str, place: str) -> tuple[str, str]:
    return shown(os.path.relpath(place, folder)), os.fsencode(place).hex()


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"


def _with_checksum(found: File, real: str) -> File | None:
    """The file with its sha256, or with the reason why it cannot be read; None if it changed meanwhile."""
    try:
        with _open_regular(real) as handle:
            digest = _sha256(handle)
            after = _stamp(os.fstat(handle.fileno()))
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"{found.path} cannot be read: {error.strerror}"
        return File(found.path, found.place, found.stamp, found.size, error="unreadable", message=message)
    return File(found.path, found.place, after, found.size, digest) if after == found.stamp else None


def _sha256(handle: BinaryIO) -> str:
    return hashlib.file_digest(handle, "sha256").hexdigest()


def _open_regular(place: str) -> BinaryIO:
    """Open for reading without following a link at the end of the path, nor waiting on a pipe."""
    handle = open(place, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK))
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise OSError(0, "it is no regular file any more")
    return handle


@contextmanager
def reopen(found: File, *, inboxes: tuple[Path, ...]) -> Iterator[BinaryIO]:
    """Open a listed file, which must still be the one that was listed.

    Raises
    ------
    AudioError
        The file's own ``error``; ``outside_inbox`` if it has become a link out of the inbox; ``unreadable``;
        ``changed`` if its content differs from when it was listed.
    """
    if found.error:
        raise AudioError(found.error, found.message)
    real = os.path.realpath(found.where)
    if not any(Path(real).is_relative_to(os.path.realpath(inbox)) for inbox in inboxes):
        raise AudioError("outside_inbox", f"{found.path} now leads out of the inbox; it was not followed")
    try:
        handle = _open_regular(real)
    except OSError as error:
        raise AudioError("unreadable", f"{found.path} cannot be read: {error.strerror}") from error
    with handle:
        if _stamp(os.fstat(handle.fileno())) != found.stamp:
            if _sha256(handle) != found.sha256:
                raise AudioError("changed", f"{found.path} changed after it was listed; the next sweep takes it anew")
            handle.seek(0)
        yield handle
