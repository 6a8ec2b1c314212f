"""Folders of S3 buckets that other people write to: listed page by page, and read once, as a copy on this machine.

A folder is a URL such as ``s3://calls/inbox``: a bucket and the beginning of the keys of its objects. The artifact
store has its own way to a bucket, as it alone writes there: :mod:`emotion.store`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import tenacity

from emotion.errors import ConfigurationError

SCHEME = "s3://"
BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""Schemes of URLs of buckets that can hold the artifact store."""
DATE = re.compile(r"\{date(?::((?:%[YymdjGV]|[A-Za-z0-9_/-])+))?\}")
"""Stands for a day in the URL of a folder: ``{date}``, or ``{date:%Y/%m/%d}`` with codes of strftime."""
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes whose objects must be restored before they can be read."""
ARCHIVED = "-archived"
"""End of the stamp of an object in an archive."""
MAX_OBJECT_BYTES = 4 << 30
"""The largest object that is copied: the size of the longest WAV file."""
PATIENCE_SECONDS = 5.0
"""How long a call is tried again. The next sweep tries again too."""
_BLOCK = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


class ChangedObject(OSError):
    """An object was written again since it was listed."""


class ArchivedObject(OSError):
    """An object lies in an archive such as Glacier, from which it must be restored before it can be read."""


@dataclass(frozen=True)
class Object:
    """An object of a bucket.

    Attributes
    ----------
    bucket, key : str
    size : int
        Bytes.
    etag : str
        Changes when the object is written again with another content.
    storage : str
        Its storage class, such as ``STANDARD``.
    """

    bucket: str
    key: str
    size: int
    etag: str
    storage: str

    @property
    def url(self) -> str:
        """Its address, such as ``s3://calls/inbox/a.wav``."""
        return f"{SCHEME}{self.bucket}/{self.key}"

    @property
    def stamp(self) -> str:
        """A cheap test of whether it is unchanged. An object in an archive and its restored copy differ."""
        return f"{self.size}-{self.etag}{ARCHIVED if self.is_archived else ''}"

    @property
    def is_archived(self) -> bool:
        """Whether it must be restored before it can be read."""
        return self.storage in ARCHIVES


def is_url(place: object) -> bool:
    """Whether a place is a URL and not a path.

    >>> is_url("s3://calls/inbox"), is_url("calls/inbox")
    (True, False)
    """
    return isinstance(place, str) and re.match("[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def without_password(text: str) -> str:
    """A text with a URL, for an error: without the user and the password of the URL.

    >>> without_password("s3://KEY:SECRET@calls/inbox"), without_password("s3://calls/a@b")
    ('s3://…@calls/inbox', 's3://calls/a@b')
    """
    return re.sub("([A-Za-z][A-Za-z0-9+.-]*:/*)[^@/]*:.*@", r"\1…@", text, flags=re.DOTALL)


def store_root(text: str) -> str:
    """The root of the artifact store in its usual form.

    Raises
    ------
    ConfigurationError
        If it is neither a folder nor the URL of a bucket, of a folder (``file://``) or of memory (``memory://``), or
        if it has a user or a password.

    Examples
    --------
    >>> store_root("s3://voices/emotion/"), store_root("/data/emotion")
    ('s3://voices/emotion', '/data/emotion')
    """
    begin = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(/*)([^/]*)", text.rpartition("::")[2])  # of dir::file://…, the last
    if begin and (shown := without_password(text)) != text:
        raise ConfigurationError(
            f"EMOTION_HOME is {shown!r}, with a user or a password; expected a URL without them: set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY"
        )
    if begin:
        scheme, slashes, bucket = begin.groups()
        of_s3 = scheme in ("s3", "s3a") and not bucket.startswith("arn:")  # another bucket has another form of name
        is_named = slashes == "//" and (re.fullmatch("[A-Za-z0-9._-]+", bucket) if of_s3 else bucket)
        if scheme in BUCKETS and not is_named:
            example = f"{scheme}://bucket/prefix"
            raise ConfigurationError(f"EMOTION_HOME is {text!r}; expected a bucket too, such as {example}")
        if slashes and scheme not in (*BUCKETS, "file", "local", "memory"):
            raise ConfigurationError(
                f"{text!r} cannot be the artifact store; expected a folder, or the URL of a bucket such as "
                "s3://bucket/prefix: set EMOTION_HOME"
            )
    return text.rstrip("/") or "/"


def folder_url(text: str) -> str:
    """The URL of a folder in its usual form.

    Raises
    ------
    ConfigurationError
        If it is no URL of an S3 bucket, or has parts such as ``..``, which some clients take for the folder above.

    Examples
    --------
    >>> folder_url("s3://calls/inbox/")
    's3://calls/inbox'
    """
    bucket, *parts = text.removeprefix(SCHEME).rstrip("/").split("/")
    if not text.startswith(SCHEME) or not _NAME.fullmatch(bucket) or not text.isprintable():
        raise ConfigurationError(
            f"{without_password(text)!r} is no folder of an S3 bucket; expected such as s3://bucket/folder"
        )
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigurationError(f"{text!r} has an empty part, '.' or '..'; expected such as s3://bucket/folder")
    if "{date" in DATE.sub("", text):
        raise ConfigurationError(f"{text!r} has no form of a date; expected such as s3://bucket/{{date:%Y/%m/%d}}")
    return "/".join([SCHEME + bucket, *parts])


def days_of(folder: str, today: dt.date, days: int) -> list[str]:
    """The folders that a URL with ``{date}`` stands for: of this day and of so many days before it, the oldest first.

    >>> days_of("s3://calls/{date}/in", dt.date(2026, 3, 1), 1)
    ['s3://calls/2026-02-28/in', 's3://calls/2026-03-01/in']
    >>> days_of("s3://calls/{date:%Y/%m}", dt.date(2026, 3, 1), 2), days_of("s3://calls", dt.date(2026, 3, 1), 7)
    (['s3://calls/2026/02', 's3://calls/2026/03'], ['s3://calls'])
    """
    moments = [today - dt.timedelta(days=days - number) for number in range(days + 1)]
    return list(dict.fromkeys(_of_day(folder, day) for day in moments))


def _of_day(folder: str, day: dt.date) -> str:
    return DATE.sub(lambda code: day.strftime(code[1] or "%Y-%m-%d"), folder)


def root_of(folder: str) -> str:
    """The part of a folder's URL that holds on every day.

    >>> root_of("s3://calls/in/day-{date}/x"), root_of("s3://calls/in")
    ('s3://calls/in', 's3://calls/in')
    """
    return folder[: match.start()].rpartition("/")[0] if (match := DATE.search(folder)) else folder


def is_inside(url: str, folder: str) -> bool:
    """Whether an object or a folder lies in a folder, or is it.

    >>> is_inside("s3://calls/in/a.wav", "s3://calls/in"), is_inside("s3://calls/inner/a.wav", "s3://calls/in")
    (True, False)
    """
    root = root_of(folder)
    return (url == root or url.startswith(f"{root}/")) and not {".", ".."} & set(url.split("/"))


def list_objects(folder: str, *, most: int | None = None, begin: str = "") -> Iterator[Object]:
    """The objects whose keys begin with a folder's, sorted by key; a page of 1,000 is asked for when it is needed.

    Parameters
    ----------
    folder : str
        A URL without ``{date}``.
    most : int, optional
        Ask for at most so many.
    begin : str
        How the paths in the folder must begin.

    Raises
    ------
    ConfigurationError
        If there is no such bucket, or nobody has granted access to it.
    OSError
        If the server fails at the moment.
    """
    bucket, _, prefix = folder.removeprefix(SCHEME).partition("/")
    beginning = f"{prefix}/{begin}" if prefix else begin
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": beginning, "MaxKeys": most or 1000}
    while True:
        try:
            page = _call("list_objects_v2", **request)
        except (FileNotFoundError, PermissionError) as error:
            raise ConfigurationError(
                f"{folder} cannot be listed: {_reason(error)}. Expected a bucket that is there, and credentials that "
                "may list and read it"
            ) from error
        for entry in page.get("Contents", []):
            storage = entry.get("StorageClass", "STANDARD")
            yield Object(bucket, entry["Key"], entry["Size"], entry["ETag"].strip('"'), storage)
        if most or not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def holds_objects(folder: str) -> bool:
    """Whether there is an object in a folder. Raises as :func:`list_objects`."""
    return any(True for _ in list_objects(folder, most=1))


@contextmanager
def copied(url: str, etag: str, size: int) -> Iterator[tuple[BinaryIO, str]]:
    """Copy an object to an unnamed file of this machine; yields that, and the sha256 of its content.

    The object is asked for once, and memory holds a piece of it.

    Parameters
    ----------
    url : str
    etag, size
        What the object must have.

    Raises
    ------
    ChangedObject, ArchivedObject
    OSError
        If it is not there any more, or cannot be read for now.
    """
    with tempfile.TemporaryFile(prefix="emotion-") as file:
        digest, length = hashlib.sha256(), 0
        for block in _blocks(url, etag):
            length += len(block)
            if length > size:
                break
            digest.update(block)
            file.write(block)
        if length != size:
            raise OSError(errno.EIO, f"{url} ended after {length:,} bytes; expected {size:,}")
        file.seek(0)
        yield file, digest.hexdigest()


def read_object(url: str, *, most: int) -> bytes:
    """The first bytes of an object, as many as there are up to ``most``; raises as :func:`copied`."""
    data = b""
    for block in _blocks(url):
        data += block
        if len(data) >= most:
            break
    return data[:most]


def _blocks(url: str, etag: str = "") -> Iterator[bytes]:
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    condition = {"IfMatch": f'"{etag}"'} if etag else {}
    try:
        body = _call("get_object", Bucket=bucket, Key=key, **condition)["Body"]
    except OSError as error:
        code = _code(error)
        if code in ("PreconditionFailed", "412"):
            raise ChangedObject(errno.ESTALE, f"{url} was written again since it was listed") from error
        if code == "InvalidObjectState":
            raise ArchivedObject(errno.EPERM, f"{url} lies in an archive") from error
        raise
    from fsspec.asyn import sync

    try:
        while True:
            with _as_os_errors():
                block = sync(_file_system().loop, body.read, _BLOCK)
            if not block:
                return
            yield block
    finally:
        body.close()


def _file_system() -> Any:
    import fsspec  # here, as most commands need no bucket

    try:
        return fsspec.filesystem("s3")
    except ImportError as error:
        raise ConfigurationError(f"folders of a bucket need the package s3fs ({error}); install it") from error


def _call(operation: str, **arguments: Any) -> dict[str, Any]:
    """One call of the S3 API, tried again for :data:`PATIENCE_SECONDS` while the server fails; then an OSError."""
    from emotion.s3 import is_temporary  # here, as most commands need no bucket

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_temporary),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
        stop=tenacity.stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
    )
    with _as_os_errors():
        return attempts(_file_system().call_s3, operation, **arguments)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError
    from fsspec.exceptions import FSTimeoutError

    try:
        yield
    except (BotoCoreError, ClientError, asyncio.IncompleteReadError, FSTimeoutError) as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


def _code(error: OSError) -> str:
    """What the server calls an error; "" where it did not answer."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _reason(error: OSError) -> str:
    return f"{_code(error)} {error}".strip()
