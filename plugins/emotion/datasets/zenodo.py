"""Zenodo's record API: whether a record can be reached, and where the archives of an entry lie."""

from __future__ import annotations

import re
from dataclasses import dataclass

import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion.datasets.catalogue import Archive, ZenodoEntry
from emotion.datasets.http_client import QUICK, FailedAttempt, HttpClient, Retry
from emotion.datasets.rules import RAVDESS
from emotion.errors import DataError, DownloadError
from emotion.settings import Settings


class _Links(BaseModel):
    content: str = Field(alias="self")


class _File(BaseModel):
    model_config = ConfigDict(strict=True)

    key: str
    size: int
    checksum: str
    links: _Links


class _Record(BaseModel):
    """What is read of a record; there is more in it."""

    files: list[_File]


@dataclass(frozen=True)
class ListedArchive:
    """An archive of an entry as its record lists it: its size, its MD5 and its URL."""

    bytes: int
    md5: str
    url: str


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
    client = client_for(settings, entry, session=session, retry=retry)
    try:
        listed_archives(client, settings, entry)
    except FailedAttempt as failure:
        if failure.status is None:
            raise client.given_up(failure) from None


def client_for(settings: Settings, entry: ZenodoEntry, *, session: requests.Session | None, retry: Retry) -> HttpClient:
    """A client whose errors say how to do without the host."""
    archives = " and ".join(archive.key for archive in entry.archives)
    command = "RAVDESS_DIR=…" if entry.naming == RAVDESS else f"DATASET={entry.name} SOURCE=…"
    remedy = (
        f"fetch {archives} by hand from {entry.source} and give the file, or the folder it lies in, as in "
        f"`make train {command}`; or name a host that speaks Zenodo's record API in EMOTION_ZENODO_URL "
        f"(now {settings.zenodo_url})"
    )
    return HttpClient(session or requests.Session(), retry, remedy)


def listed_archives(client: HttpClient, settings: Settings, entry: ZenodoEntry) -> list[ListedArchive]:
    """The archives of an entry, in its order, once the record is known to hold what the catalogue says of them.

    Raises
    ------
    DataError
        If the record, or an archive in it, is missing, or an archive has another size or checksum.
    DownloadError
        If the answer is no record.
    FailedAttempt
        If the host cannot be reached, or is busy.
    """
    url = f"{settings.zenodo_url}/api/records/{entry.record}"
    document = client.json(url)
    try:
        files = {file.key: file for file in _Record.model_validate(document).files}
    except ValidationError:
        raise DownloadError(
            f"{url} is not a Zenodo record: expected files[] with key, size, checksum and links.self; {client.remedy}"
        ) from None
    return [_listed(archive, files, url, settings) for archive in entry.archives]


def _listed(archive: Archive, files: dict[str, _File], url: str, settings: Settings) -> ListedArchive:
    if archive.key not in files:
        raise DataError(f"{url} has no {archive.key}; it has {', '.join(files) or 'no file'}")
    file = files[archive.key]
    algorithm, _, md5 = file.checksum.partition(":")
    if algorithm != "md5" or not re.fullmatch("[0-9a-f]{32}", md5):
        raise DataError(f"{url}: {archive.key} has checksum {file.checksum}; expected md5: and 32 hexadecimal digits")
    facts = (("bytes", file.size, archive.bytes), ("checksum", file.checksum, archive.md5 and f"md5:{archive.md5}"))
    for what, listed, expected in facts:
        if expected is not None and listed != expected:
            raise DataError(
                f"{url}: {archive.key} has {what} {listed}; the catalogue {settings.catalogue} expects "
                f"{expected}. One of the two is of another version"
            )
    return ListedArchive(file.size, md5, file.links.content)
