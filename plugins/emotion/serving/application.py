"""The application: what each address of the service answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response

from emotion import metrics
from emotion.metrics import Emitter
from emotion.serving.connections import OwnSiteOnly, protocol
from emotion.serving.limits import Limits, Memory, Refused
from emotion.serving.processes import Answerers
from emotion.serving.streams import Streams
from emotion.serving.uploads import Body, Refusal, receive_upload

STOP_SECONDS = 30
"""How long requests under way may take once the service is stopped."""
KEEP_SECONDS = 30
"""How long a connection stays open without a request."""
STATUS = {"answered": 200, "refused": 422, "failed": 503}
ADDRESSES = """\
The emotion in recordings of speech.

POST /predict          a recording: the field "file" of a form, or the body as audio/* or application/octet-stream
                       ?explain=true adds an explanation
WebSocket /stream      live audio: a JSON header, then samples, then "end"; an answer per window
GET /health            the model, and whether it answers
GET /openapi.json      this as OpenAPI
"""


def server(answerers: Answerers, *, limits: Limits, emitter: Emitter, hosts: Sequence[str] | None) -> uvicorn.Server:
    """The server of :func:`create`'s application, with the limits on its connections."""
    config = uvicorn.Config(
        create(answerers, limits=limits, emitter=emitter, hosts=hosts),
        http=protocol(limits.header_seconds),
        ws_max_size=limits.message_bytes,
        ws_per_message_deflate=False,  # a small message could unpack to a large one
        limit_concurrency=limits.connections,
        timeout_keep_alive=KEEP_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    return uvicorn.Server(config)


def create(answerers: Answerers, *, limits: Limits, emitter: Emitter, hosts: Sequence[str] | None) -> FastAPI:
    """The application.

    Parameters
    ----------
    answerers : Answerers
        Started and stopped with the application.
    limits : Limits
    emitter : Emitter
    hosts : sequence of str, or None
        The names under which it answers; None: any.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await answerers.start()
        yield
        await answerers.stop()

    # its pages of documentation load scripts from the internet
    application = FastAPI(title="Emotion", lifespan=lifespan, docs_url=None, redoc_url=None)
    application.add_middleware(OwnSiteOnly, hosts=hosts)
    memory = Memory(limits.bytes_in_memory)
    streams = Streams(answerers, limits, memory, emitter)
    uploads = Uploads(answerers, limits, memory, emitter)
    _add_refusals(application)

    @application.get("/", response_class=PlainTextResponse)
    async def addresses() -> str:
        """The addresses of the service, as text."""
        return ADDRESSES

    @application.get("/health", response_class=JSONResponse)
    async def health() -> JSONResponse:
        """The model, and whether it answers: status 503 if not."""
        state = answerers.health() | {"streams": streams.open}
        return JSONResponse(state, 200 if state["status"] == "ok" else 503)

    @application.post("/predict", response_class=Response)
    async def predict(request: Request, explain: bool = False) -> Response:
        """The emotion of a recording of at most 60 s: a field `file` of a form, or the body itself."""
        return await uploads.answer(request, explain=explain)

    @application.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        await streams.serve(websocket)

    return application


class Uploads:
    """Answers uploaded recordings; parameters as of :class:`emotion.serving.streams.Streams`."""

    def __init__(self, answerers: Answerers, limits: Limits, memory: Memory, emitter: Emitter):
        self._answerers, self._limits, self._memory, self._emitter = answerers, limits, memory, emitter

    async def answer(self, request: Request, *, explain: bool) -> Response:
        """Receive a recording and answer for it; the reason if there is no answer."""
        began, body = time.perf_counter(), Body(request.receive)
        try:
            with self._memory.share() as share:
                upload = await receive_upload(request.headers, body, self._limits, share)
                header = {"kind": "clip", "name": upload.name, "explain": explain}
                reply = await self._answerers.ask(header, upload.content)
        except Refused as refused:
            self._count("failed" if refused.status == 503 else "refused", refused.reason)
            return Refusal(refused, body)
        except ClientDisconnect:
            self._count("refused", "disconnected")
            return Response(status_code=400)  # nobody reads it
        self._count(reply.status, reply.reason)
        self._emitter.timing(metrics.SERVING_LATENCY, time.perf_counter() - began, stage="total")
        retry = {"Retry-After": "1"} if reply.status == "failed" else None
        return Response(reply.content, STATUS[reply.status], retry, media_type="application/json")

    def _count(self, outcome: str, reason: str | None) -> None:
        self._emitter.count(metrics.SERVING_REQUESTS, outcome=outcome)
        if reason:
            self._emitter.count(metrics.SERVING_REFUSED, reason=reason)


def _add_refusals(application: FastAPI) -> None:
    """Word what FastAPI refuses by itself as all refusals are."""

    @application.exception_handler(RequestValidationError)
    async def refuse_query(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        refused = Refused(400, "bad_query", f"{first['loc'][-1]}: {first['msg']}")
        return Refusal(refused, Body(request.receive))

    @application.exception_handler(HTTPException)
    async def refuse(_: Request, error: HTTPException) -> Response:
        content = {"reason": "no_such_address", "message": str(error.detail)}
        return JSONResponse(content, error.status_code, {**(error.headers or {}), "Connection": "close"})
