"""From a host to the disk, and out of an archive: the two places where strangers' bytes come in.

Downloads go on where they stopped, are checked against the catalogue before anything reads them, and give up
in good time, with a message that says what to do. Archives are looked through whole before one file of theirs
is used.
"""

from __future__ import annotations

import email.utils
import errno
import json
import logging
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import requests

from emotion.datasets.archives import checksums
from emotion.datasets.catalogue import Archive, ZenodoEntry
from emotion.errors import ConfigurationError, DataError, DownloadError
from emotion.settings import Settings

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int, str], None]
"""Called as ``progress(stage, done, total, unit)``; a stage's total may be 0 where it is not known."""
Result = TypeVar("Result")
CHUNK = 1 << 20
PIECE = 1 << 14  # of a download; of a broken connection, the piece that was under way is lost
MAX_RECORD_BYTES = 8 << 20
DISK_MARGIN = 64 << 20


@dataclass(frozen=True)
class Retry:
    """How patient a download is; all times in seconds.

    Attributes
    ----------
    attempts : int
        Failures in a row, with less than 1 MiB got between them, after which it gives up.
    first_delay, longest_delay : float
        The delay before another attempt doubles from the first to the longest; half of it is random.
    longest_retry_after : float
        A host's Retry-After is honoured up to this.
    connect_timeout, read_timeout : float
        For a connection, and between two pieces of an answer.
    silent_for : float
        Without a sign of life from the host for so long (name look-up included), it gives up.
    """

    attempts: int = 6
    first_delay: float = 1.0
    longest_delay: float = 15.0
    longest_retry_after: float = 60.0
    connect_timeout: float = 6.0
    read_timeout: float = 20.0
    silent_for: float = 38.0


QUICK = Retry(connect_timeout=5.0, read_timeout=8.0, silent_for=12.0)


def check_reachable(
    settings: Settings, entry: ZenodoEntry, *, session: requests.Session | None = None, retry: Retry = QUICK
) -> None:
    """Ask the host for the record, within about 12 seconds, before anything long is started.

    A host that answers that it is busy counts as reachable.

    Raises
    ------
    DownloadError
        If it cannot be reached or does not speak Zenodo's record API.
    DataError
        If it has no such record, or archives of another size or checksum than the catalogue's.
    """
    client = _Client(session or requests.Session(), retry, _remedy(settings, entry))
    try:
        _published(client, settings, entry)
    except _Failed as failure:
        if failure.status is None:
            raise client.given_up(failure) from None


def fetch_archives(
    settings: Settings,
    entry: ZenodoEntry,
    folder: Path,
    *,
    room_for: int = 0,
    progress: Progress | None = None,
    session: requests.Session | None = None,
    retry: Retry | None = None,
) -> list[Path]:
    """Download an entry's archives into a local folder and check them; what is there is not fetched again.

    Parameters
    ----------
    folder : Path
        Where the archives, and what there is of them, lie. One process at a time.
    room_for : int
        Bytes that the folder's disk must take besides.
    progress : callable, optional
        Called as ``progress("download", bytes so far, bytes in all, "B")``.

    Returns
    -------
    list of Path
        The archives, in the catalogue's order, each of the catalogue's size and checksums.

    Raises
    ------
    DownloadError
        If the host cannot be reached or keeps failing; a later attempt goes on where this one stopped.
    DataError
        If the host's archive is not the catalogue's.
    ConfigurationError
        If the disk is too small or EMOTION_ZENODO_URL is no URL.
    """
    client = _Client(session or requests.Session(), retry or Retry(), _remedy(settings, entry))
    paths = [folder / f"{archive.md5}-{archive.key}" for archive in entry.archives]
    total = sum(archive.bytes for archive in entry.archives)
    there = sum(_size(path) + _size(_part(path)) for path in paths)
    check_disk(folder, max(total - there, 0) + room_for)
    links: dict[str, str] = {}
    done = 0
    for archive, path in zip(entry.archives, paths, strict=True):

        def report(got: int, before: int = done) -> None:
            if progress:
                progress("download", before + got, total, "B")

        if path.exists() and _checksum_complaint(path, archive):
            path.unlink()
        if not path.exists():
            links = links or client.patiently(partial(_published, client, settings, entry))
            _download(client, links[archive.key], path, archive, report)
        report(archive.bytes)
        done += archive.bytes
    return paths


def check_disk(folder: Path, needed: int) -> None:
    """Raise ConfigurationError if a folder's disk has less room than ``needed`` bytes and a margin."""
    free = shutil.disk_usage(folder).free
    if free < needed + DISK_MARGIN:
        raise ConfigurationError(
            f"{folder} has {free / 1e6:,.0f} MB free; {(needed + DISK_MARGIN) / 1e6:,.0f} MB are needed. "
            "Make room, or set EMOTION_HOME to a folder on a larger disk"
        )


def _checksum_complaint(path: Path, archive: Archive) -> str | None:
    found = checksums(path)
    for name, digest in found.items():
        expected = getattr(archive, name)
        if expected and digest != expected:
            return f"{archive.key} has the {name.upper()} {digest}; the catalogue expects {expected}"
    return None


def _remedy(settings: Settings, entry: ZenodoEntry) -> str:
    archives = " and ".join(archive.key for archive in entry.archives)
    return (
        f"fetch {archives} by hand from {entry.source} and give the file, or the folder it lies in, as in "
        "`make train RAVDESS_DIR=…`; or name a host that speaks Zenodo's record API in EMOTION_ZENODO_URL "
        f"(now {settings.zenodo_url})"
    )


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Failed(Exception):
    """One attempt that failed in a way that may pass; ``status`` is None where there was no answer at all."""

    def __init__(self, reason: str, *, status: int | None = None, retry_after: float | None = None):
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class _Client:
    """Requests to one host: what is tried again, after which delay, and when it is enough."""

    def __init__(self, session: requests.Session, retry: Retry, remedy: str):
        self.session = session
        self.retry = retry
        self.remedy = remedy
        self.heard = time.monotonic()

    def patiently(self, attempt: Callable[[], Result], got: Callable[[], int] = lambda: 0) -> Result:
        """Attempt until it succeeds or patience is at an end; ``got`` counts bytes, which renew patience."""
        failures = 0
        self.heard = time.monotonic()
        while True:
            before = got()
            try:
                return attempt()
            except _Failed as failure:
                failures = failures + 1 if got() - before < CHUNK else 1
                delay = min(self.retry.first_delay * 2 ** (failures - 1), self.retry.longest_delay)
                delay *= random.uniform(0.5, 1.0)
                asked = failure.retry_after is not None
                if asked:
                    delay = max(delay, min(failure.retry_after, self.retry.longest_retry_after))
                silence = time.monotonic() - self.heard
                if failures >= self.retry.attempts or (not asked and silence + delay > self.retry.silent_for):
                    raise self.given_up(failure) from None
                log.warning("%s; trying again in %.1f s", failure, delay)
                time.sleep(delay)
                if asked:
                    self.heard = time.monotonic()

    def given_up(self, reason: object) -> DownloadError:
        return DownloadError(f"{reason}. Given up: {self.remedy}")

    def open(self, url: str, headers: dict[str, str]) -> requests.Response:
        """One GET, its body unread. Raises _Failed, DataError, DownloadError or ConfigurationError."""
        timeout = (self.retry.connect_timeout, self.retry.read_timeout)
        try:
            response = self.session.get(url, headers=headers, stream=True, timeout=timeout)
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidSchema,
        ) as error:
            raise ConfigurationError(f"{url} is not, or leads to what is not, an http or https URL: {error}") from None
        except requests.exceptions.TooManyRedirects:
            raise self.given_up(f"{url} redirects without end") from None
        except requests.RequestException as error:
            raise _Failed(f"{url} cannot be reached: {_cause(error)}") from None
        if response.status_code in (200, 206):
            return response
        status = f"{url} answers {response.status_code} {response.reason}"
        wait = _retry_after(response)
        response.close()
        if response.status_code in (408, 416, 425, 429) or response.status_code >= 500:
            raise _Failed(status, status=response.status_code, retry_after=wait)
        if response.status_code in (404, 410):
            raise DataError(f"{status}; {self.remedy}")
        raise self.given_up(status)

    def limited(self, call: Callable[[], Result], url: str) -> Result:
        """Run a call, but no longer than patience lasts: name look-ups obey no timeout of requests'."""
        limit = max(self.retry.silent_for - (time.monotonic() - self.heard), 0.1)
        outcome: list[tuple[bool, object]] = []

        def run() -> None:
            try:
                outcome.append((True, call()))
            except BaseException as error:
                outcome.append((False, error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(limit)
        if not outcome:
            raise _Failed(f"{url} cannot be reached: no answer within {limit:.0f} s")
        succeeded, value = outcome[0]
        if not succeeded:
            if not (isinstance(value, _Failed) and value.status is None):
                self.heard = time.monotonic()
            raise value
        self.heard = time.monotonic()
        return value

    def json(self, url: str) -> object:
        """A JSON document of modest size."""

        def call() -> bytes:
            with self.open(url, {"Accept": "application/json"}) as response:
                try:
                    body = b"".join(_up_to(response.iter_content(CHUNK), MAX_RECORD_BYTES))
                except requests.RequestException as error:
                    raise _Failed(f"{url} broke off: {_cause(error)}") from None
                if "json" not in response.headers.get("Content-Type", ""):
                    kind = response.headers.get("Content-Type", "something without a type")
                    raise self.given_up(f"{url} answers with {kind}, not with Zenodo's JSON")
                return body

        body = self.limited(call, url)
        try:
            return json.loads(body)
        except ValueError:
            raise self.given_up(f"{url} answers with what is not valid JSON, or is too long") from None


def _up_to(blocks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    for block in blocks:
        yield block[:limit]
        limit -= len(block)
        if limit <= 0:
            return


def _cause(error: BaseException) -> str:
    """The innermost reason of an error that wraps others, without addresses of objects."""
    while True:
        inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            return re.sub(r"<[^>]*>:? ?|\w+\(host=[^)]*\):? ?", "", str(error)).strip() or type(error).__name__
        error = inner


def _retry_after(response: requests.Response) -> float | None:
    """Retry-After in seconds from now, from either of its forms; None if there is none that makes sense."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _published(client: _Client, settings: Settings, entry: ZenodoEntry) -> dict[str, str]:
    """Where each archive lies, once the record is seen to hold just what the catalogue says."""
    url = f"{settings.zenodo_url}/api/records/{entry.record}"
    record = client.json(url)
    try:
        files = {file["key"]: (file["size"], file["checksum"], file["links"]["self"]) for file in record["files"]}
    except (TypeError, KeyError):
        raise DownloadError(
            f"{url} is not a Zenodo record: expected files[] with key, size, checksum and links.self; "
            f"{_remedy(settings, entry)}"
        ) from None
    links = {}
    for archive in entry.archives:
        if archive.key not in files:
            raise DataError(f"{url} has no {archive.key}; it has {', '.join(files) or 'no file'}")
        size, checksum, link = files[archive.key]
        for what, found, expected in (
            ("bytes", size, archive.bytes),
            ("checksum", checksum, f"md5:{archive.md5}"),
        ):
            if found != expected:
                raise DataError(
                    f"{url}: {archive.key} has {what} {found}; the catalogue {settings.catalogue} expects "
                    f"{expected}. One of the two is of another version"
                )
        links[archive.key] = link
    return links


def _download(client: _Client, url: str, path: Path, archive: Archive, report: Callable[[int], None]) -> None:
    """Bring an archive under its final name: whole, and with the checksums of the catalogue."""
    part = _part(path)
    for _ in range(2):
        client.patiently(lambda: _fetch(client, url, part, archive, report), got=lambda: _size(part))
        complaint = _checksum_complaint(part, archive)
        if not complaint:
            os.replace(part, path)
            return
        log.warning("%s; thrown away", complaint)
        part.unlink()
    raise DataError(f"{url}: {complaint}, twice; {client.remedy}")


def _fetch(client: _Client, url: str, part: Path, archive: Archive, report: Callable[[int], None]) -> None:
    """Bring a partial file to its full size, from where it ends, in one request."""
    have = _size(part)
    if have > archive.bytes:
        part.unlink()
        have = 0
    if have == archive.bytes:
        return
    tag = part.with_name(part.name + ".etag")
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag.exists():
            headers["If-Range"] = tag.read_text()
    try:
        response = client.limited(lambda: client.open(url, headers), url)
    except _Failed as failure:
        if failure.status == 416:
            part.unlink(missing_ok=True)
        raise
    with response:
        if response.status_code == 206:
            where = response.headers.get("Content-Range", "")
            if not re.fullmatch(rf"bytes {have}-{archive.bytes - 1}/({archive.bytes}|\*)", where.strip()):
                part.unlink(missing_ok=True)
                raise _Failed(
                    f"{url} sends the range {where!r}; expected bytes {have}-{archive.bytes - 1}/"
                    f"{archive.bytes}; starting again"
                )
        else:
            length = response.headers.get("Content-Length", str(archive.bytes))
            if length != str(archive.bytes):
                raise _Failed(f"{url} sends {length} bytes; expected {archive.bytes}")
            have = 0
            tag.unlink(missing_ok=True)
            if response.headers.get("ETag", "").startswith('"'):
                tag.write_text(response.headers["ETag"])
        with _room_left(part), open(part, "ab" if have else "wb") as handle:
            try:
                for block in response.iter_content(PIECE):
                    have += len(block)
                    if have > archive.bytes:
                        break
                    handle.write(block)
                    client.heard = time.monotonic()
                    report(have)
            except requests.RequestException as error:
                raise _Failed(f"{url} broke off after {have:,} of {archive.bytes:,} bytes: {_cause(error)}") from None
    if have > archive.bytes:
        part.unlink()
        raise _Failed(f"{url} sends more than the {archive.bytes:,} bytes expected; starting again")
    if have < archive.bytes:
        raise _Failed(f"{url} ended after {have:,} of {archive.bytes:,} bytes")


@contextmanager
def _room_left(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigurationError(
            f"the disk is full: {path.parent}. Make room, or set EMOTION_HOME to a folder on a larger disk"
        ) from None
