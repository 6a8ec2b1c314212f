"""Connections: closes those on which no request comes, and refuses requests of web pages of other sites."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from emotion.serving.limits import Refused

HEADER_BYTES = 1 << 16
"""Of all headers of a request; uvicorn has no limit of its own."""
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine as ``Host`` has them."""


def protocol(header_seconds: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol of HTTP, with limits on headers, on trailers, and on the time until headers are there.

    Without these limits, a client could send one header a minute, or headers without end. Beyond them, the connection
    is closed.
    """

    class Protocol(HttpToolsProtocol):
        deadline: asyncio.TimerHandle | None = None
        overhead = body = 0  # bytes of this request so far

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect_headers()

        def data_received(self, data: bytes) -> None:
            self.overhead += len(data)
            super().data_received(data)
            if self.overhead > HEADER_BYTES + self.body:  # chunks of a body have headers of their own
                self.transport.abort()
            is_idle = self.cycle is None or self.cycle.response_complete
            if is_idle and not self.deadline and self.transport.get_protocol() is self:
                self._expect_headers()  # these bytes have ended uvicorn's own limit for an idle connection

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.overhead = self.body = 0
            self._expect_headers()

        def on_headers_complete(self) -> None:
            self._forget_deadline()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self.overhead -= len(body)
            self.body += len(body)
            super().on_body(body)

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_deadline()
            super().connection_lost(exc)

        def _expect_headers(self) -> None:
            self._forget_deadline()
            self.deadline = self.loop.call_later(header_seconds, self.transport.abort)

        def _forget_deadline(self) -> None:
            if self.deadline:
                self.deadline.cancel()
                self.deadline = None

    return Protocol


class OwnSiteOnly:
    """ASGI middleware: refuses what a web page of another site makes a browser send.

    A browser names the page's site as ``Origin``; it must be the host that the request is for. A page can also let its
    own host name resolve to this machine (DNS rebinding). So where the service is bound to the loopback interface, the
    ``Host`` must be one of some names. Programs other than browsers send no ``Origin``.

    Parameters
    ----------
    app : ASGI application
    hosts : sequence of str, or None
        The names that ``Host`` may have, without a port; None: any.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str] | None):
        self._app = app
        names = "|".join(map(re.escape, hosts or ()))
        self._host = None if hosts is None else re.compile(rf"({names})(:[0-9]{{1,5}})?", re.IGNORECASE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 421 or 403."""
        if scope["type"] == "lifespan" or (refused := self._judge(Headers(scope=scope))) is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # before it is accepted, the client gets status 403
            await WebSocketClose(code=1008, reason=refused.reason)(scope, receive, send)
        else:
            await JSONResponse(refused.content, refused.status, {"Connection": "close"})(scope, receive, send)

    def _judge(self, headers: Headers) -> Refused | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if self._host and not (len(hosts) == 1 and self._host.fullmatch(hosts[0])):
            message = "this service has no login and answers only under names of this machine, or those of --allow-host"
            return Refused(421, "other_host", message)
        if any(origin.partition("://")[2].lower() != host.lower() for origin in origins for host in hosts):
            return Refused(403, "other_site", "a web page of another site may not use this service")
        return None
