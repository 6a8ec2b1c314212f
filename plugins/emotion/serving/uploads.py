"""Receives a recording over HTTP, in a form or as the body itself: never beyond the limits, never on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from emotion.serving.limits import Limits, Refused, Share

FIELD = "file"
"""The name of the form's field."""
OTHER_FIELDS, OTHER_BYTES = 10, 1 << 16
"""How many fields a form may have besides, and their largest size in bytes."""
LONGEST_NAME = 255
"""Characters of a file's name, as on most file systems."""
LONGEST_NUMBER = 18
"""Digits of a length. Python turns no text of over 4,300 digits into a number."""
LINGER_SECONDS = 2.0


class Upload(NamedTuple):
    """A recording that was received."""

    content: bytes
    name: str
    """As the client calls it, never used as a path; ``""`` for a body that is the recording itself."""


class Body:
    """The body of a request as it comes.

    Parameters
    ----------
    receive : callable
        Of ASGI.

    Attributes
    ----------
    is_complete : bool
        Whether all of it has come.
    """

    def __init__(self, receive: Receive):
        self._receive = receive
        self.is_complete = False

    async def chunks(self, limits: Limits, share: Share) -> AsyncGenerator[bytes, None]:
        """Its parts; ``share`` gets their bytes. Raises Refused as soon as there are too many."""
        while not self.is_complete:
            chunk = await self.next()
            if share.held + len(chunk) > limits.body_bytes:
                raise _too_large(limits)
            share.take(len(chunk))
            yield chunk

    async def next(self) -> bytes:
        """The next part. Raises ClientDisconnect if the client goes away."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.is_complete = not message.get("more_body", False)
        return message.get("body", b"")


async def receive_upload(headers: Headers, body: Body, limits: Limits, share: Share) -> Upload:
    """Receive the recording of a request.

    Parameters
    ----------
    headers : Headers
    body : Body
    limits : Limits
    share : Share
        Gets the bytes that are held.

    Raises
    ------
    Refused
        413, 408, 415 or 400: see ``docs/serving.md``; 503 where all requests together hold too much.
    starlette.requests.ClientDisconnect
        If the client goes away.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    declared = headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > LONGEST_NUMBER or int(declared) > limits.body_bytes):
        raise _too_large(limits)
    stream = body.chunks(limits, share)
    try:
        async with asyncio.timeout(limits.upload_seconds):
            if kind == "multipart/form-data":
                return await _read_form(headers, stream, limits)
            if kind.startswith("audio/") or kind == "application/octet-stream":
                return Upload(b"".join([chunk async for chunk in stream]), "")
    except TimeoutError:
        seconds = limits.upload_seconds
        raise Refused(408, "too_slow", f"the upload did not end within {seconds:g} s") from None
    raise Refused(
        415,
        "unsupported_type",
        f"the content type is {kind[:100]!r}; expected multipart/form-data with the field {FIELD!r}, or the recording "
        "as the body, as audio/* or application/octet-stream",
    )


def _too_large(limits: Limits) -> Refused:
    return Refused(413, "too_large", f"the upload is larger than {limits.body_bytes / 1e6:g} MB")


async def _read_form(headers: Headers, stream: AsyncGenerator[bytes, None], limits: Limits) -> Upload:
    parser = MultiPartParser(headers, stream, max_files=1, max_fields=OTHER_FIELDS, max_part_size=OTHER_BYTES)
    parser.spool_max_size = limits.body_bytes + 1  # in memory, never in a temporary file
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        raise Refused(400, "bad_form", f"the form cannot be read: {getattr(error, 'message', error)}") from None
    file = form.get(FIELD)
    if not isinstance(file, UploadFile):
        raise Refused(400, "no_file", f"the form has no file in its field {FIELD!r}, or was cut off")
    name = file.filename or ""
    if len(name) > LONGEST_NAME:
        raise Refused(
            400, "bad_name", f"the name of the file has {len(name)} characters; expected at most {LONGEST_NAME}"
        )
    content = await file.read()
    await form.close()
    return Upload(content, name)


class Refusal(JSONResponse):
    """The response to a request that is refused.

    Where its body is still coming, the connection is closed afterwards. A client that still sends when it is closed
    would lose the response; so what it sends is read, and thrown away, for a moment.

    Parameters
    ----------
    refused : Refused
    body : Body
        Of the request.
    """

    def __init__(self, refused: Refused, body: Body):
        self._rest = body
        close = {} if body.is_complete else {"Connection": "close"}
        retry = {"Retry-After": "1"} if refused.status == 503 else {}
        super().__init__(refused.content, refused.status, close | retry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, and read on for :data:`LINGER_SECONDS`."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._rest.is_complete:
                    await self._rest.next()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
