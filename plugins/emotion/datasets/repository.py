"""Download of the archive of one commit of a repository.

A host of repositories makes such an archive when it is asked for: it tells neither its length nor a checksum, and does
not send a part of it. What arrives must be a whole zip; a checksum is compared where the catalogue has one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from functools import partial
from pathlib import Path

import requests

from emotion.datasets.archives import checksums, open_zip
from emotion.datasets.catalogue import RepositoryEntry
from emotion.datasets.download import PIECE, check_disk, full_disk_explained
from emotion.datasets.http_client import QUICK, FailedAttempt, HttpClient, Retry, cause
from emotion.errors import DataError
from emotion.progress import StageProgress, no_progress
from emotion.settings import Settings

log = logging.getLogger(__name__)


def fetch_repository(
    settings: Settings,
    entry: RepositoryEntry,
    folder: Path,
    *,
    room_for: int = 0,
    progress: StageProgress = no_progress,
    session: requests.Session | None = None,
    retry: Retry | None = None,
) -> list[Path]:
    """Download an entry's archive into a local folder; a whole one that is there is not fetched again.

    Parameters
    ----------
    folder, room_for, progress, session
        As for :func:`emotion.datasets.download.fetch_archives`.

    Returns
    -------
    list of Path
        The one archive: a whole zip, with the catalogue's SHA-256 if it has one.

    Raises
    ------
    DownloadError
        If the host cannot be reached or keeps failing.
    DataError
        If the host has no such archive, or it is longer than the catalogue allows or of another checksum.
    ConfigurationError
        If the disk is too small.
    """
    client = _client(entry, session, retry or Retry())
    path = folder / f"{hashlib.sha256(entry.archive.encode()).hexdigest()[:16]}-{entry.name}.zip"
    check_disk(folder, room_for)
    if not path.exists():
        part = path.with_name(path.name + ".part")
        client.with_retries(partial(_attempt, client, entry, part, progress))
        digest = checksums(part)["sha256"]
        if entry.sha256 not in (None, digest):
            part.unlink()
            raise DataError(
                f"{entry.archive} has the SHA-256 {digest}; the catalogue {settings.catalogue} expects {entry.sha256}. "
                "Hosts may pack the same commit in another way: look at what it holds, then correct the catalogue, or "
                f"{client.remedy}"
            )
        log.info("%s: the archive has the SHA-256 %s", entry.name, digest)
        os.replace(part, path)
    return [path]


def check_reachable(entry: RepositoryEntry, *, session: requests.Session | None = None, retry: Retry = QUICK) -> None:
    """Ask the host for the archive, within about 12 seconds, before anything long is started.

    A host that answers, if only that it is busy, counts as reachable. Raises DownloadError if it cannot be reached.
    """
    client = _client(entry, session, retry)

    def ask() -> None:
        client.within_patience(
            partial(client.open, entry.archive, {"Accept-Encoding": "identity"}), entry.archive
        ).close()

    try:
        ask()
    except FailedAttempt as failure:
        if failure.status is None:
            raise client.given_up(failure) from None


def _client(entry: RepositoryEntry, session: requests.Session | None, retry: Retry) -> HttpClient:
    """A client whose errors say how to do without the host."""
    remedy = (
        f"fetch it by hand from {entry.source} and give the zip, or the folder that it unpacks to, as in "
        f"`make train DATASET={entry.name} SOURCE=…`"
    )
    return HttpClient(session or requests.Session(), retry, remedy)


def _attempt(client: HttpClient, entry: RepositoryEntry, part: Path, progress: StageProgress) -> None:
    """Bring the whole archive into the partial file, in one request."""
    url = entry.archive
    response = client.within_patience(partial(client.open, url, {"Accept-Encoding": "identity"}), url)
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else 0
    done = 0
    with response, full_disk_explained(part), open(part, "wb") as handle:
        try:
            for block in response.iter_content(PIECE):
                if not done % (PIECE << 10):
                    check_disk(part.parent, 0)
                handle.write(block)
                done += len(block)
                if entry.expanded_bytes and done > entry.expanded_bytes:
                    raise DataError(f"{url} sends more than {entry.expanded_bytes:,} bytes, which the catalogue allows")
                client.last_answer = time.monotonic()
                progress("download", done, total or done, "B")
        except requests.RequestException as error:
            raise FailedAttempt(f"{url} broke off after {done:,} bytes: {cause(error)}") from None
    if total and done != total:
        raise FailedAttempt(f"{url} ended after {done:,} of {total:,} bytes")
    try:
        open_zip(part).close()
    except DataError as error:
        raise FailedAttempt(f"{url} sent what is no whole zip: {error}") from None
