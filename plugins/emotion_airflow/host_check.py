"""Refuses requests that name another host than this machine's loopback interface.

The Airflow of ``make airflow`` has no login and listens on 127.0.0.1. A web page on the internet can let its own host
name resolve to 127.0.0.1 (DNS rebinding). The browser then takes Airflow for a part of that page's site, and lets the
page read from it and write to it. Such a request still carries the page's host name in its Host header.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
REFUSAL = (
    "This Airflow has no login and is for one person's machine: it answers only as localhost, 127.0.0.1 or [::1]. "
    "Open it under one of these names. For other machines, run the stack of containers (make up) behind a proxy.\n"
)


class LoopbackHostOnly:
    """ASGI middleware: a request passes if its one Host header names the loopback interface, with any port or none.

    Any other request gets status 421 (Misdirected Request) and a sentence that says why.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [] if scope["type"] == "lifespan" else Headers(scope=scope).getlist("host")
        if scope["type"] == "lifespan" or (len(hosts) == 1 and LOOPBACK.fullmatch(hosts[0])):
            await self.app(scope, receive, send)
        else:
            await PlainTextResponse(REFUSAL, status_code=421)(scope, receive, send)
