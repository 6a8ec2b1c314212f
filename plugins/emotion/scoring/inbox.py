"""Lists and opens the recordings of an inbox, a folder that strangers may write to, without harm and without hanging.

File names may be any bytes, links may lead anywhere, and there may be a pipe, a device or a half-copied file in the
place of a recording. Every entry below the folder is listed, listed with an error, known already, or counted as left
for the next sweep.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from emotion.bucket import is_inside, is_url
from emotion.errors import AudioError, ConfigurationError
from emotion.progress import Progress, no_progress
from emotion.scoring import bucket_inbox
from emotion.scoring.listing import TEMPORARY, File, Listing, is_unfinished, shown
from emotion.settings import Folder

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

log = logging.getLogger(__name__)
FINAL_ERRORS = (
    0,  # raised here, see open_regular
    errno.EACCES,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENODEV,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
)
"""Errors of the operating system that lie in the file. A corrected permission or link changes the stamp of the file, so
that it is looked at again. All others, such as EIO, ESTALE or EMFILE, come from a disk, a network or this machine."""


def confine(folder: str, inboxes: tuple[Folder, ...]) -> Folder:
    """The real path, or the URL, of a folder that a user named; it must lie in one of the inboxes.

    Parameters
    ----------
    folder : str
        Relative to an inbox, absolute, or the URL of a folder of a bucket.
    inboxes : tuple of Path or str
        Folders, and URLs of folders of buckets. A relative folder is looked for in the former first.

    Raises
    ------
    ConfigurationError
        If the folder lies elsewhere, is not there, or is not a folder.
    """
    paths = () if is_url(folder) else paths_of(inboxes)
    places = (Path(os.path.realpath(inbox / folder)) for inbox in paths)
    inside = [place for inbox, place in zip(paths, places, strict=True) if _lies_in(place, inbox)]
    if inside and inside[0].is_dir():
        return inside[0]
    is_relative = not folder.startswith("/")
    if is_relative and (place := bucket_inbox.confine(folder, urls_of(inboxes))):
        return place
    if inside:
        raise ConfigurationError(f"{inside[0]} is not a folder; expected one with recordings")
    raise ConfigurationError(
        f"the folder {folder!r} lies outside the inboxes ({os.pathsep.join(map(str, inboxes))}); move it "
        "there, or add its parent to EMOTION_INBOXES"
    )


def _lies_in(place: Path, inbox: Path) -> bool:
    return place.is_relative_to(os.path.realpath(inbox))


def paths_of(inboxes: tuple[Folder, ...]) -> tuple[Path, ...]:
    """The inboxes that are folders of this machine."""
    return tuple(inbox for inbox in inboxes if isinstance(inbox, Path))


def urls_of(inboxes: tuple[Folder, ...]) -> tuple[str, ...]:
    """The inboxes that are folders of buckets."""
    return tuple(inbox for inbox in inboxes if isinstance(inbox, str))


def without_nested(folders: list[Folder]) -> list[Folder]:
    """Folders without those that lie in another of them, whose files would be listed twice.

    >>> without_nested(["s3://calls/in/2026-03-01", "s3://calls/in", Path("/in"), Path("/in")])
    ['s3://calls/in', PosixPath('/in')]
    """

    def lies_in(folder: Folder, other: Folder) -> bool:
        if isinstance(folder, Path) and isinstance(other, Path):
            return folder.is_relative_to(other)
        return isinstance(folder, str) and isinstance(other, str) and is_inside(folder, other)

    distinct = list(dict.fromkeys(folders))
    return [folder for folder in distinct if not any(lies_in(folder, other) for other in distinct if other != folder)]


def look(
    folder: Folder,
    listing: Listing,
    *,
    inboxes: tuple[Folder, ...],
    settle_seconds: float,
    is_known: Callable[[str, str, str | None], bool],
    on_restamped: Callable[[File], None],
    is_full: Callable[[], bool],
    skip: frozenset[str] = frozenset(),
    progress: Progress = no_progress,
) -> Iterator[File]:
    """The files below a folder that are not known yet, sorted by path, with their checksums. Nothing is written.

    Parameters
    ----------
    folder : Path or str
        A real path, or the URL of a folder of a bucket: :func:`emotion.scoring.bucket_inbox.look`.
    listing : Listing
        Counts what is known and left.
    inboxes : tuple
        Where links may lead.
    settle_seconds : float
        A file that changed less than this long ago is left, as it may still be copied; a time to come is ignored.
    is_known : callable
        Called with place, stamp and None, and, if the file is not known by these, again with its sha256.
    on_restamped : callable
        Called with each known file that has a new stamp: only its content is known.
    is_full : callable
        Whether those that follow are left for the next sweep.
    skip : frozenset of str
        Paths to leave out.
    progress : callable
        Called with files done, and files and folders seen.
    """
    if isinstance(folder, str):
        yield from bucket_inbox.look(folder, listing, is_known=is_known, is_full=is_full, skip=skip, progress=progress)
        return
    for file, real, changed in _walk(str(folder), paths_of(inboxes), listing, progress):
        if file.path in skip:
            continue
        age = time.time() - changed
        if is_known(file.place, file.stamp, None):
            listing.known += 1
        elif 0 <= age < settle_seconds:
            listing.leave("unsettled")
        elif is_full():
            listing.leave("over_limit")
        elif hashed := _hashed(file, real, listing):
            if hashed.sha256 and is_known(hashed.place, hashed.stamp, hashed.sha256):
                listing.known += 1
                on_restamped(hashed)
            else:
                yield hashed


def _hashed(file: File, real: str, listing: Listing) -> File | None:
    """A file (``real``: the real path of its content) with its checksum; None if it is left for the next sweep."""
    try:
        hashed = file if file.error else _with_checksum(file, real)
    except OSError as error:
        log.warning("%s: left for the next sweep (%s)", file.path, error)
        listing.leave(TEMPORARY)
        return None
    if hashed is None:
        listing.leave("unsettled")
    return hashed


def _walk(
    folder: str, inboxes: tuple[Path, ...], listing: Listing, progress: Progress
) -> Iterator[tuple[File, str, float]]:
    """Each entry that is not a folder, with the real path of its content and its time of change; sorted by path."""
    roots = tuple(os.path.realpath(inbox) for inbox in inboxes)
    waiting, done = [folder + os.sep], 0  # the next one is the last; only a folder ends with a separator
    while waiting:
        current = waiting.pop()
        if current.endswith(os.sep):
            try:
                waiting += _entries(current.rstrip(os.sep) or os.sep, listing)
                continue
            except OSError as error:
                if error.errno not in FINAL_ERRORS:
                    log.warning("%s: left for the next sweep (%s)", shown(current), error)
                    listing.leave(TEMPORARY)
                    continue
                message = f"the folder cannot be listed: {error.strerror}"
                yield _refused(folder, current.rstrip(os.sep), "unreadable", message)
        else:
            try:
                yield _file(folder, current, roots)
            except OSError as error:
                log.warning("%s: left for the next sweep (%s)", shown(current), error)
                listing.leave(TEMPORARY)
        done += 1
        progress(done, done + len(waiting))


def _entries(folder: str, listing: Listing) -> list[str]:
    """The paths in a folder, the last one first, those of folders with a separator at their end."""
    with os.scandir(folder) as entries:
        names = [entry.name + os.sep * _is_folder(entry) for entry in entries]
    finished = [name for name in names if not is_unfinished(name.rstrip(os.sep))]
    for _ in range(len(names) - len(finished)):
        listing.leave("unfinished_name")
    return [os.path.join(folder, name) for name in sorted(finished, key=shown, reverse=True)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # looking at it as a file says what is wrong with it
        return False


def _file(folder: str, place: str, roots: tuple[str, ...]) -> tuple[File, str, float]:
    """An entry that is not a folder; raises OSError if it cannot be looked at for now."""
    try:
        entry_status = os.lstat(place)
        real = os.path.realpath(place)
        if stat.S_ISLNK(entry_status.st_mode) and not any(Path(real).is_relative_to(root) for root in roots):
            return _refused(
                folder, place, "outside_inbox", "is a link that leads out of the inbox; it was not followed"
            )
        content_status = os.stat(real)
    except OSError as error:
        if error.errno not in FINAL_ERRORS:
            raise
        return _refused(folder, place, "unreadable", f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(content_status.st_mode):
        return _refused(folder, place, "not_file", "is a pipe, a device or a link to a folder; expected a regular file")
    file = File(*_names(folder, place), _stamp(content_status), content_status.st_size)
    return file, real, content_status.st_mtime


def _refused(folder: str, place: str, error: str, message: str) -> tuple[File, str, float]:
    path, hexadecimal = _names(folder, place)
    try:
        entry_status = os.lstat(place)
        stamp, changed = _stamp(entry_status), entry_status.st_mtime
    except OSError:
        stamp, changed = "", 0.0
    return File(path, hexadecimal, stamp, 0, error=error, message=f"{path} {message}"), place, changed


def _names(folder: str, place: str) -> tuple[str, str]:
    return shown(os.path.relpath(place, folder)), os.fsencode(place).hex()


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _with_checksum(file: File, real: str) -> File | None:
    """The file with its sha256, or with the reason why it cannot be read; None if it changed in the meantime.

    Raises OSError if it cannot be read for now.
    """
    try:
        with open_regular(real) as handle:
            digest = _sha256(handle)
            after = _stamp(os.fstat(handle.fileno()))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in FINAL_ERRORS:
            raise
        message = f"{file.path} cannot be read: {error.strerror}"
        return replace(file, error="unreadable", message=message)
    return replace(file, sha256=digest) if after == file.stamp else None


def _sha256(handle: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := handle.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


class _Reader(FileIO):
    """A file that keeps the error of a read: libsndfile takes a failed read for the end of the file."""

    failure: OSError | None = None

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """Read into a buffer, as any file does."""
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.failure = error
            raise


def open_regular(place: str) -> BufferedReader[_Reader]:
    """Open a regular file for reading; a link at the end of the path is not followed, and a pipe is not waited for."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    handle = BufferedReader(_Reader(place, opener=lambda path, mode: os.open(path, mode | flags)))
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise OSError(0, "it is not a regular file any more")
    return handle


@contextmanager
def reopen(file: File, *, inboxes: tuple[Folder, ...]) -> Iterator[tuple[BinaryIO, str]]:
    """Open a listed file, which must have the content that it had when it was listed; yields it with its sha256.

    Parameters
    ----------
    file : File
    inboxes : tuple
        Where links may lead, and where objects may lie.

    Raises
    ------
    AudioError
        The ``error`` of the file; ``outside_inbox`` if it has become a link out of the inbox; ``unreadable``;
        ``changed`` if its content differs from when it was listed.
    OSError
        If the file cannot be opened or read for now. Where a read fails in the block, this takes the place of what the
        block raises.
    """
    if file.error:
        raise AudioError(file.error, file.message)
    if file.is_object:
        with bucket_inbox.reopen(file, inboxes=urls_of(inboxes)) as (copy, sha256):
            yield copy, sha256
        return
    real = os.path.realpath(file.where)
    if not any(_lies_in(Path(real), inbox) for inbox in paths_of(inboxes)):
        raise AudioError("outside_inbox", f"{file.path} now leads out of the inbox; it was not followed")
    try:
        handle = open_regular(real)
    except OSError as error:
        if error.errno not in FINAL_ERRORS or isinstance(error, FileNotFoundError):  # it may come back as it was
            raise
        raise AudioError("unreadable", f"{file.path} cannot be read: {error.strerror}") from error
    with handle:
        try:
            if _stamp(os.fstat(handle.fileno())) != file.stamp:
                if _sha256(handle) != file.sha256:
                    raise AudioError("changed", f"{file.path} changed after it was listed; the next sweep scores it")
                handle.seek(0)
            yield handle, file.sha256
        finally:
            if failure := handle.raw.failure:
                raise failure
