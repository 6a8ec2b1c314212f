"""Live audio over a WebSocket: samples come in, an answer per window goes out."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from emotion import metrics
from emotion.audio.decode import RATES, to_mono
from emotion.errors import AudioError, ConfigurationError
from emotion.inference.cutting import Segment, WindowCutter
from emotion.inference.windows import WINDOW
from emotion.metrics import Emitter
from emotion.serving.limits import Limits, Memory, Refused, Share
from emotion.serving.processes import Answerers

SAMPLE_TYPES: dict[str, np.dtype] = {"pcm_s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
LEAST_HOP = 0.25
"""Seconds; each window costs an answer."""
HIGHEST_RATE = 192_000
NORMAL, INVALID, POLICY, TRY_LATER = 1000, 1007, 1008, 1013
"""Codes of RFC 6455 with which a stream is closed: its end, wrong data, a limit, no room."""
LONGEST_REASON = 120
"""Bytes of the reason for which a stream is closed; the protocol allows 123."""


class StreamHeader(BaseModel):
    """The first message of a stream, as JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sample_rate: int = Field(ge=RATES[0], le=HIGHEST_RATE)
    format: Literal["pcm_s16le", "f32le"]
    channels: Literal[1] = 1
    window: float = Field(WINDOW, allow_inf_nan=False)
    hop: float | None = Field(None, ge=LEAST_HOP, allow_inf_nan=False)
    """None: half a window, as of ``emotion predict --window``."""


class Closed(Exception):
    """The stream ends, with a code and a reason that the client gets."""

    def __init__(self, code: int, reason: str):
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:LONGEST_REASON].decode(errors="ignore")


class Streams:
    """All streams of the service.

    Parameters
    ----------
    answerers : Answerers
    limits : Limits
    memory : Memory
        Gets what each stream may hold at most.
    emitter : Emitter

    Attributes
    ----------
    open : int
        How many there are now.
    """

    def __init__(self, answerers: Answerers, limits: Limits, memory: Memory, emitter: Emitter):
        self._answerers, self.limits, self._memory, self._emitter = answerers, limits, memory, emitter
        self.open = 0

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one stream until its end."""
        await websocket.accept()
        outcome = "left"
        try:
            closed = await self._run(websocket)
            outcome = "refused" if closed.code != NORMAL else "ended"
            await websocket.close(closed.code, closed.reason)
        except WebSocketDisconnect:
            pass
        finally:
            self._emitter.count(metrics.SERVING_STREAMS, outcome=outcome)

    def _count(self, change: int) -> None:
        self.open += change
        self._emitter.gauge(metrics.SERVING_LOAD, self.open, figure="streams")

    async def _run(self, websocket: WebSocket) -> Closed:
        try:
            with self._memory.share() as share:
                await Stream(websocket, self, share).run()
        except Closed as closed:
            return closed
        except Refused as refused:
            return Closed(TRY_LATER, f"{refused.reason}: {refused.message}")
        return Closed(NORMAL, "")

    @contextmanager
    def admitted(self, header: StreamHeader, share: Share) -> Iterator[None]:
        """Count a stream as open for the block. Raises Refused if there is no room for it."""
        if self.open >= self.limits.streams:
            raise Refused(503, "busy", f"{self.limits.streams} streams are open already")
        if self._answerers.served is None:
            raise Refused(503, "no_model", self._answerers.problem or "no model is loaded")
        # windows are cut from float32 samples; the cutter joins what it holds
        share.take(round(2 * 4 * header.window * header.sample_rate) + self.limits.message_bytes)
        self._count(+1)
        try:
            yield
        finally:
            self._count(-1)

    async def answer(self, segment: Segment, rate: int) -> str:
        """The answer for a window, as JSON; one that gets none says why."""
        span = {"start": segment.start / rate, "end": segment.end / rate}
        assert segment.samples is not None, "a window has its samples"
        try:
            reply = await self._answerers.ask({"kind": "window", "rate": rate} | span, segment.samples.tobytes())
        except Refused as refused:  # the stream goes on
            self._emitter.count(metrics.SERVING_WINDOWS, outcome="failed")
            return json.dumps(span | {"error": refused.reason, "message": refused.message})
        outcome = "failed" if reply.status != "answered" else "refused" if reply.reason else "answered"
        self._emitter.count(metrics.SERVING_WINDOWS, outcome=outcome)
        if reply.status == "answered":
            return reply.content.decode()
        content = json.loads(reply.content)
        return json.dumps(span | {"error": content["reason"], "message": content["message"]})


class Stream:
    """One stream: its header, then samples, then its end."""

    def __init__(self, websocket: WebSocket, streams: Streams, share: Share):
        self._websocket, self._streams, self._share = websocket, streams, share
        self._end = time.monotonic() + streams.limits.stream_seconds

    async def run(self) -> None:
        """Answer each window once its last sample has come, and the rest when the client says that it has ended.

        The next message is read once the windows of the one before are answered: a client that sends faster has to
        wait. Raises Closed, or Refused where there is no room.
        """
        header = _header(await self._receive(self._streams.limits.header_seconds))
        hop = header.window / 2 if header.hop is None else header.hop
        try:
            cutter = WindowCutter(header.sample_rate, window=header.window, hop=hop)
        except ConfigurationError as error:
            raise Closed(INVALID, str(error)) from None
        with self._streams.admitted(header, self._share):
            await self._answer_samples(header, cutter)

    async def _answer_samples(self, header: StreamHeader, cutter: WindowCutter) -> None:
        kind = SAMPLE_TYPES[header.format]
        count = 0
        idle = self._streams.limits.idle_seconds
        while isinstance(message := await self._receive(idle), bytes):
            if len(message) % kind.itemsize:
                raise Closed(INVALID, f"a message has {len(message)} bytes; a sample has {kind.itemsize}")
            count += len(message) // kind.itemsize
            if count > self._streams.limits.stream_seconds * header.sample_rate:
                raise Closed(POLICY, f"the stream lasts over {self._streams.limits.stream_seconds:g} s")
            await self._send(cutter.add(to_mono(np.frombuffer(message, dtype=kind))), header)
        if message != "end":
            raise Closed(INVALID, "a text message came; expected samples, or 'end'")
        try:
            await self._send(cutter.finish(), header)
        except AudioError as error:
            await self._websocket.send_text(json.dumps({"error": error.reason, "message": str(error)}))

    async def _receive(self, seconds: float) -> str | bytes:
        """The next message. Raises Closed if it does not come in time, WebSocketDisconnect at the client's end."""
        try:
            async with asyncio.timeout(min(seconds, self._end - time.monotonic())):
                message = await self._websocket.receive()
        except TimeoutError:
            if time.monotonic() >= self._end:
                raise Closed(POLICY, "the stream was open for too long") from None
            raise Closed(POLICY, f"nothing came for {seconds:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        text = message.get("text")
        return message["bytes"] if text is None else text

    async def _send(self, segments: Iterator[Segment], header: StreamHeader) -> None:
        for segment in segments:
            answer = await self._streams.answer(segment, header.sample_rate)
            try:
                async with asyncio.timeout(self._streams.limits.idle_seconds):
                    await self._websocket.send_text(answer)
            except TimeoutError:
                raise Closed(POLICY, "the client does not read its answers") from None


def _header(message: str | bytes) -> StreamHeader:
    """The header of a stream. Raises Closed if it is none."""
    try:
        if isinstance(message, bytes):
            raise Closed(INVALID, "samples came before the header, a text message with JSON")
        return StreamHeader.model_validate_json(message)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the header"
        raise Closed(INVALID, f"{place}: {first['msg']}") from None
