"""Zenodo's record API: whether a record can be reached, and where the archives of an entry lie."""

from __future__ import annotations

import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion.datasets.catalogue import ZenodoEntry
from emotion.datasets.http_client import QUICK, FailedAttempt, HttpClient, Retry
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
        archive_urls(client, settings, entry)
    except FailedAttempt as failure:
        if failure.status is None:
            raise client.given_up(failure) from None


def client_for(settings: Settings, entry: ZenodoEntry, *, session: requests.Session | None, retry: Retry) -> HttpClient:
    """A client whose errors say how to do without the host."""
    archives = " and ".join(archive.key for archive in entry.archives)
    remedy = (
        f"fetch {archives} by hand from {entry.source} and give the file, or the folder it lies in, as in "
        "`make train RAVDESS_DIR=…`; or name a host that speaks Zenodo's record API in EMOTION_ZENODO_URL "
        f"(now {settings.zenodo_url})"
    )
    return HttpClient(session or requests.Session(), retry, remedy)


def archive_urls(client: HttpClient, settings: Settings, entry: ZenodoEntry) -> dict[str, str]:
    """The URL of each archive of an entry, by its key, once the record is known to hold what the catalogue says.

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
    for archive in entry.archives:
        if archive.key not in files:
            raise DataError(f"{url} has no {archive.key}; it has {', '.join(files) or 'no file'}")
        file = files[archive.key]
        for what, found, expected in (
            ("bytes", file.size, archive.bytes),
            ("checksum", file.checksum, f"md5:{archive.md5}"),
        ):
            if found != expected:
                raise DataError(
                    f"{url}: {archive.key} has {what} {found}; the catalogue {settings.catalogue} expects "
                    f"{expected}. One of the two is of another version"
                )
    return {archive.key: files[archive.key].links.content for archive in entry.archives}
