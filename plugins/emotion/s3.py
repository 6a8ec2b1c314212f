"""S3 as the artifact store needs it: a slow or failing server is tried again, and an error says what to do.

s3fs tries again for less than a second if a connection breaks, and not at all after HTTP 500. If the bucket is missing,
it says that the file is not there. It ignores errors of a deletion. :class:`S3` corrects all of this.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import botocore.exceptions as boto
import tenacity
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem
from s3fs.core import _error_wrapper

from emotion.errors import ConfigurationError, StoreError

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
"""How long a request is tried again while the server fails."""
LONGEST_WAIT = 10.0
"""Seconds between two tries, at most; random below a bound that doubles."""
CONNECT_SECONDS, READ_SECONDS = 10, 30
READ_AT_ONCE = 100
PART_BYTES = 16 * 2**20
"""A file of twice this size or more is sent in parts; it appears when the last part has been sent."""
GUIDE = "see “Artifacts in a bucket” in docs/deployment.md"

TEMPORARY_CODES = {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "ConditionalRequestConflict"}
TEMPORARY_CODES |= {"InternalError", "ServiceUnavailable", "OperationAborted", "RequestThrottled", "408", "429", "409"}
TEMPORARY_ERRORS = (boto.HTTPClientError, boto.ConnectionError, ResponseParserError, aiohttp.ClientError, TimeoutError)
NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
    boto.UnauthorizedSSOTokenError,
)
REFUSED_KEYS = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
"""The server's codes for keys that are wrong or have expired."""
WRONG_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
CHANGED_MEANWHILE = {"PreconditionFailed", "412"}


def error_code(error: BaseException) -> tuple[str, int]:
    """The server's code for an error, and its HTTP status; ``("", 0)`` where the server did not answer."""
    for each in (error, error.__cause__):
        if isinstance(each, boto.ClientError):
            code = str(each.response.get("Error", {}).get("Code", ""))
            return code, each.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return "", 0


def is_temporary(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    code, status = error_code(error)
    if code or status:
        return code in TEMPORARY_CODES or (status >= 500 and status != 501)  # 501: NotImplemented
    return isinstance(error, TEMPORARY_ERRORS) and not isinstance(error, boto.SSLError)


class S3(S3FileSystem):
    """S3, or a server that speaks its protocol; listings are never kept.

    Raises, besides OSError of s3fs:

    - ConfigurationError: no credentials, refused, no such bucket.
    - StoreError: the server kept failing for :data:`PATIENCE_SECONDS`.
    """

    retries = 3  # of reads of an open file that were cut off
    part_bytes = PART_BYTES

    def __init__(self, **options: Any):
        one_try = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"total_max_attempts": 1},
        }
        super().__init__(use_listings_cache=False, config_kwargs=one_try, **options)

    async def _call_s3(self, method: str, *arguments: Any, **parameters: Any) -> Any:
        tries = 0

        async def call() -> Any:
            nonlocal tries
            tries += 1
            await self.set_session()
            request = getattr(await self.get_s3(parameters.get("Bucket")), method)
            known = self._get_s3_method_kwargs(request, *arguments, **parameters)
            try:
                return await _error_wrapper(request, kwargs=known, retries=1)  # as s3fs does it, but for the retries
            except FileNotFoundError as error:
                is_second_end = tries > 1 and method == "complete_multipart_upload"
                if is_second_end and error_code(error)[0] == "NoSuchUpload":
                    return {}  # the try before has reached the server; only its answer was lost
                raise

        key = parameters.get("Key") or parameters.get("Prefix") or ""
        return await self._patiently(call, f"{method} s3://{parameters.get('Bucket', '')}/{key}")

    async def _patiently(self, call: Callable[[], Awaitable[Any]], what: str) -> Any:
        """The answer of a request, which is tried again while the server fails; ``what`` names it in errors."""

        def tell(state: tenacity.RetryCallState) -> None:
            assert state.outcome
            level = logging.WARNING if state.attempt_number == 3 else logging.INFO  # a warning once, for people
            cause = self._cause(state.outcome.exception())
            message = "%s: %s at try %d; it is tried again for up to %.0f s"
            log.log(level, message, what, cause, state.attempt_number, PATIENCE_SECONDS)

        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_temporary),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT),
            stop=tenacity.stop_after_delay(PATIENCE_SECONDS),
            before_sleep=tell,
            reraise=True,
        )
        try:
            return await attempts(call)
        except Exception as error:
            if explained := self._explained(error, what, attempts.statistics.get("attempt_number", 1)):
                raise explained from None
            raise

    def _explained(self, error: Exception, what: str, tries: int) -> Exception | None:
        """An error for a person, without credentials; None for one that says enough to the caller."""
        place, (code, status) = self._server(), error_code(error)
        if is_temporary(error):
            return StoreError(
                f"{what}: {place} keeps failing ({self._cause(error)}), {tries} tries in {PATIENCE_SECONDS:.0f} s or "
                "more; check the network, AWS_ENDPOINT_URL and the server, and start again"
            )
        if isinstance(error, NO_CREDENTIALS):
            return ConfigurationError(
                f"{what}: there are no credentials ({type(error).__name__}); expected AWS_ACCESS_KEY_ID and "
                f"AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of the machine: {GUIDE}"
            )
        if code == "NoSuchBucket":
            return ConfigurationError(
                f"{what}: there is no such bucket at {place}; make it, or correct EMOTION_HOME or AWS_ENDPOINT_URL"
            )
        if code in REFUSED_KEYS:
            return ConfigurationError(
                f"{what}: {place} refuses the credentials ({code}): they are wrong or have expired; expected valid "
                f"AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary ones, AWS_SESSION_TOKEN: {GUIDE}"
            )
        if code in WRONG_CLOCK:
            return ConfigurationError(
                f"{what}: {place} refuses this ({code}), as the clock of this machine is wrong; set it, and start again"
            )
        if status in (301, 400, 405, 501) and code != "KeyTooLongError":
            return ConfigurationError(
                f"{what}: {place} does not take this request ({self._cause(error)}); check AWS_DEFAULT_REGION and "
                f"AWS_ENDPOINT_URL, and whether the credentials have expired: {GUIDE}"
            )
        if isinstance(error, PermissionError) or status in (401, 403):
            return ConfigurationError(
                f"{what}: {place} refuses this ({code or status}); expected credentials that may list, read, write and "
                f"delete there: {GUIDE}"
            )
        if isinstance(error, (boto.BotoCoreError, boto.ClientError)):  # such as a name that no bucket can have
            return ConfigurationError(f"{what}: {place}: {self._cause(error)}; {GUIDE}")
        return None

    def _cause(self, error: BaseException | None) -> str:
        code, status = error_code(error) if error else ("", 0)
        return " ".join(dict.fromkeys([f"HTTP {status}", code])).strip() if status else type(error).__name__

    def _server(self) -> str:
        url = getattr(getattr(self._s3, "meta", None), "endpoint_url", "") or "the object store"
        return re.sub("//[^/@]*@", "//", url)

    async def _cat_file(
        self, path: str, version_id: str | None = None, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """A file, or some bytes of it, by a single request, so never parts of two versions."""
        limits = {} if start is None and end is None else {"Range": await self._process_limits(path, start, end)}
        return (await self._get(path, limits))[0]

    async def _get(self, path: str, limits: dict[str, str]) -> tuple[bytes, str]:
        """A file and its ETag."""
        bucket, key, _ = self.split_path(path)

        async def read() -> tuple[bytes, str]:
            answer = await self._call_s3("get_object", Bucket=bucket, Key=key, **limits)
            async with answer["Body"] as body:
                return await body.read(), answer["ETag"]

        # Around the reading too: an answer may be cut off.
        return await self._patiently(read, f"get_object s3://{bucket}/{key}")

    async def _read_many(self, paths: list[str]) -> list[bytes | None]:
        """The contents of files, many at a time; None for one that is not there."""

        async def read(path: str) -> bytes | None:
            try:
                return await self._cat_file(path)
            except FileNotFoundError:
                return None

        contents: list[bytes | None] = []
        for start in range(0, len(paths), READ_AT_ONCE):
            contents += await asyncio.gather(*map(read, paths[start : start + READ_AT_ONCE]))
        return contents

    read_many = sync_wrapper(_read_many)

    async def _read_with_version(self, path: str) -> tuple[bytes, str]:
        return await self._get(path, {})

    read_with_version = sync_wrapper(_read_with_version)

    async def _write_if(self, path: str, data: bytes, version: str | None) -> bool:
        """Write a file if it still has this version (None: if it is not there); returns whether it was written.

        A request whose answer was lost is tried again, and then meets the file that it has written itself. The
        metadata tell whose file it is.
        """
        bucket, key, _ = self.split_path(path)
        writer = uuid.uuid4().hex
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        metadata = {"writer": writer}
        try:
            await self._call_s3("put_object", Bucket=bucket, Key=key, Body=data, Metadata=metadata, **condition)
            return True
        except OSError as error:
            if isinstance(error, FileNotFoundError):  # deleted since it was read
                return False
            if not (error_code(error)[0] in CHANGED_MEANWHILE or isinstance(error, FileExistsError)):
                raise
        try:
            present = await self._call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        return present["Metadata"].get("writer") == writer

    write_if = sync_wrapper(_write_if)

    async def _keeps_conditions(self, path: str) -> bool:
        """Whether exactly one of several writes at once, on the same condition, succeeds; tried with this path.

        Some servers keep conditions only for requests that come one after the other.
        """
        created = await asyncio.gather(*(self._write_if(path, b"new %d" % number, None) for number in range(4)))
        version = (await self._read_with_version(path))[1]
        changed = await asyncio.gather(*(self._write_if(path, b"again %d" % number, version) for number in range(4)))
        late = await self._write_if(path, b"late", version)
        await self._rm_file(path)
        return (sum(created), sum(changed), late) == (1, 1, False)

    keeps_conditions = sync_wrapper(_keeps_conditions)

    async def _age(self, path: str) -> float:
        """Seconds since a file was written, by the clock of the server."""
        bucket, key, _ = self.split_path(path)
        answer = await self._call_s3("head_object", Bucket=bucket, Key=key)
        now = email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        written: dt.datetime = answer["LastModified"]
        return (now - written).total_seconds()

    age = sync_wrapper(_age)

    async def _bulk_delete(self, pathlist: list[str], **options: Any) -> list[str]:
        deleted = {"Objects": [{"Key": self.split_path(path)[1]} for path in pathlist], "Quiet": True}
        bucket = self.split_path(pathlist[0])[0]
        answer = await self._call_s3("delete_objects", options, Bucket=bucket, Delete=deleted)
        for refused in answer.get("Errors", []):
            if refused["Code"] in TEMPORARY_CODES:
                await self._rm_file(f"{bucket}/{refused['Key']}")
            else:
                raise ConfigurationError(
                    f"s3://{bucket}/{refused['Key']} cannot be deleted ({refused['Code']}); expected credentials that "
                    f"may delete: {GUIDE}"
                )
        return []

    async def _delete_tree(self, path: str) -> None:
        """Delete a file, and all files below it as a folder."""
        parent, _, name = path.rpartition("/")
        listed = await self._lsdir(parent, delimiter="", prefix=name)
        paths = [entry["name"] for entry in listed if entry["name"] == path or entry["name"].startswith(f"{path}/")]
        for start in range(0, len(paths), 1000):
            await self._bulk_delete(paths[start : start + 1000])

    delete_tree = sync_wrapper(_delete_tree)
