"""Download of an entry's archives: resumed where it stopped, and checked against the catalogue before it is read.

A download gives up in good time, with a message that says what to do instead.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import requests

from emotion.datasets.archives import checksums
from emotion.datasets.catalogue import ZenodoEntry
from emotion.datasets.http_client import FailedAttempt, HttpClient, Retry, cause
from emotion.datasets.zenodo import ListedArchive, client_for, listed_archives
from emotion.errors import ConfigurationError, DataError
from emotion.progress import Progress, StageProgress, no_progress
from emotion.settings import Settings

log = logging.getLogger(__name__)

PIECE = 1 << 14
"""Bytes that are written at a time. Of a broken connection, the piece that was under way is lost."""
DISK_MARGIN = 64 << 20
"""Bytes that must stay free on a disk."""


def fetch_archives(
    settings: Settings,
    entry: ZenodoEntry,
    folder: Path,
    *,
    room_for: int = 0,
    progress: StageProgress = no_progress,
    session: requests.Session | None = None,
    retry: Retry | None = None,
) -> list[Path]:
    """Download an entry's archives into a local folder and check them; what is there is not fetched again.

    Parameters
    ----------
    folder : Path
        Where whole and partial archives lie. One process at a time.
    room_for : int
        Bytes that the folder's disk must take besides the archives.
    progress : callable
        Called as ``progress("download", bytes so far, bytes in all, "B")``.
    session : requests.Session, optional
        For proxies and certificates of your own.

    Returns
    -------
    list of Path
        The archives, in the catalogue's order, each of the catalogue's size and checksums, or of the record's where
        the catalogue has none.

    Raises
    ------
    DownloadError
        If the host cannot be reached or keeps failing; a later attempt goes on where this one stopped.
    DataError
        If the host's archive is not the catalogue's.
    ConfigurationError
        If the disk is too small or EMOTION_ZENODO_URL is no URL.
    """
    client = client_for(settings, entry, session=session, retry=retry or Retry())
    listed = cache(partial(client.with_retries, partial(listed_archives, client, settings, entry)))
    archives = _expectations(entry, listed)
    paths = [folder / f"{archive.md5}-{archive.key}" for archive in archives]
    total = sum(archive.bytes for archive in archives)
    check_disk(folder, max(total - sum(_size(path) + _size(_part(path)) for path in paths), 0) + room_for)
    before = 0
    for number, (archive, path) in enumerate(zip(archives, paths, strict=True)):
        if path.exists() and _checksum_difference(path, archive):
            path.unlink()
        if not path.exists():
            fetch = _Fetch(client, listed()[number].url, archive, _part(path), _share(progress, before, total))
            fetch.complete_as(path)
        before += archive.bytes
        progress("download", before, total, "B")
    return paths


@dataclass(frozen=True)
class _Expected:
    """What an archive must be: as the catalogue says, or where it does not know, as the record lists it."""

    key: str
    bytes: int
    md5: str
    sha256: str | None


def _expectations(entry: ZenodoEntry, list_archives: Callable[[], list[ListedArchive]]) -> list[_Expected]:
    """What the archives of an entry must be; the host is asked only if the catalogue does not know it."""
    known = [
        _Expected(archive.key, archive.bytes, archive.md5, archive.sha256)
        for archive in entry.archives
        if archive.bytes is not None and archive.md5 is not None
    ]
    if len(known) == len(entry.archives):
        return known
    return [
        _Expected(archive.key, listed.bytes, listed.md5, archive.sha256)
        for archive, listed in zip(entry.archives, list_archives(), strict=True)
    ]


def check_disk(folder: Path, needed: int) -> None:
    """Compare the room on a folder's disk with what is needed.

    Raises
    ------
    ConfigurationError
        If the disk has less room than ``needed`` bytes and a margin.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + DISK_MARGIN:
        raise ConfigurationError(
            f"{folder} has {free / 1e6:,.0f} MB free; {(needed + DISK_MARGIN) / 1e6:,.0f} MB are needed. "
            "Make room, or set EMOTION_HOME to a folder on a larger disk"
        )


class _Fetch:
    """The download of one archive, into a partial file that survives the process."""

    def __init__(self, client: HttpClient, url: str, archive: _Expected, part: Path, progress: Progress):
        self._client = client
        self._url = url
        self._archive = archive
        self._part = part
        self._etag = part.with_name(part.name + ".etag")
        self._progress = progress

    def complete_as(self, path: Path) -> None:
        """Bring the archive under its final name: whole, and with the checksums of the catalogue."""
        for _ in range(2):
            self._client.with_retries(self._attempt, received=lambda: _size(self._part))
            difference = _checksum_difference(self._part, self._archive)
            if not difference:
                os.replace(self._part, path)
                return
            log.warning("%s; thrown away", difference)
            self._part.unlink()
        raise DataError(f"{self._url}: {difference}, twice; {self._client.remedy}")

    def _attempt(self) -> None:
        """Bring the partial file to its full size, from where it ends, in one request."""
        start = _size(self._part)
        if start > self._archive.bytes:
            self._part.unlink()
            start = 0
        if start == self._archive.bytes:
            return
        try:
            response = self._client.within_patience(
                partial(self._client.open, self._url, self._headers(start)), self._url
            )
        except FailedAttempt as failure:
            if failure.status == 416:  # the host has no such range
                self._part.unlink(missing_ok=True)
            raise
        with response:
            end = self._write(response, self._agreed_start(response, start))
        if end > self._archive.bytes:
            self._part.unlink()
            raise FailedAttempt(
                f"{self._url} sends more than the {self._archive.bytes:,} bytes expected; starting again"
            )
        if end < self._archive.bytes:
            raise FailedAttempt(f"{self._url} ended after {end:,} of {self._archive.bytes:,} bytes")

    def _headers(self, start: int) -> dict[str, str]:
        """Ask for the bytes from ``start`` on, if the file on the host is the one that the part is of."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self._etag.exists():
                headers["If-Range"] = self._etag.read_text()
        return headers

    def _agreed_start(self, response: requests.Response, start: int) -> int:
        """Where the host's answer starts: at ``start``, or at 0 where the host sends the whole file."""
        size = self._archive.bytes
        if response.status_code == 206:
            sent = response.headers.get("Content-Range", "")
            if not re.fullmatch(rf"bytes {start}-{size - 1}/({size}|\*)", sent.strip()):
                self._part.unlink(missing_ok=True)
                raise FailedAttempt(
                    f"{self._url} sends the range {sent!r}; expected bytes {start}-{size - 1}/{size}; starting again"
                )
            return start
        length = response.headers.get("Content-Length", str(size))
        if length != str(size):
            raise FailedAttempt(f"{self._url} sends {length} bytes; expected {size}")
        self._etag.unlink(missing_ok=True)
        if response.headers.get("ETag", "").startswith('"'):
            self._etag.write_text(response.headers["ETag"])
        return 0

    def _write(self, response: requests.Response, start: int) -> int:
        """Append to the partial file, or write it anew; returns where it ends, at most a piece too far."""
        end, size = start, self._archive.bytes
        with full_disk_explained(self._part), open(self._part, "ab" if start else "wb") as handle:
            try:
                for block in response.iter_content(PIECE):
                    end += len(block)
                    if end > size:
                        break
                    handle.write(block)
                    self._client.last_answer = time.monotonic()
                    self._progress(end, size)
            except requests.RequestException as error:
                raise FailedAttempt(f"{self._url} broke off after {end:,} of {size:,} bytes: {cause(error)}") from None
        return end


def _share(progress: StageProgress, before: int, total: int) -> Progress:
    """The progress of one archive, as a part of the progress of all."""
    return lambda done, _: progress("download", before + done, total, "B")


def _checksum_difference(path: Path, archive: _Expected) -> str | None:
    """How a file's checksums differ from the catalogue's; None if they do not."""
    expectations = {"md5": archive.md5, "sha256": archive.sha256}
    for name, digest in checksums(path).items():
        expected = expectations[name]
        if expected and digest != expected:
            return f"{archive.key} has the {name.upper()} {digest}; the catalogue expects {expected}"
    return None


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Turn the error of a full disk, while ``path`` is written, into one that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigurationError(
            f"the disk is full: {path.parent}. Make room, or set EMOTION_HOME to a folder on a larger disk"
        ) from None
