"""The processes that answer, and the model that they hold: the champion, or a fixed one."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
import os
import socket
import sys
import time
from dataclasses import dataclass
from typing import NamedTuple

from emotion import metrics
from emotion.errors import EmotionError, describe_failure
from emotion.metrics import Emitter
from emotion.serving.answerer import LENGTHS, encode
from emotion.serving.limits import Limits, Refused

log = logging.getLogger(__name__)
START_SECONDS = 120.0
"""How long a process may take to import its libraries and load a model from a slow store."""
RETRY_SECONDS = 30.0
"""How long until a model that could not be loaded is tried again."""
BUFFER_BYTES = 1 << 20
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Each process has one thread: all cores are busy with clips, and not with parts of one."""


class Reply(NamedTuple):
    """What a process replies: the answer as JSON, or why there is none."""

    status: str
    """``answered``, ``refused`` (the recording cannot be used) or ``failed``."""
    reason: str | None
    """Of a refusal, or of a window that cannot be used."""
    content: bytes


@dataclass(frozen=True)
class Served:
    """The model that answers."""

    version: str
    family: str
    since: str | None
    """When it became the champion; None of a fixed model."""
    loaded: str

    @property
    def name(self) -> str:
        """As ``emotion predict --model`` takes it."""
        return f"{self.version}/{self.family}"


class Answerer:
    """One process that answers, as the service sees it: see :mod:`emotion.serving.answerer`."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls, home: str, name: str) -> tuple[Answerer, dict]:
        """A process that has loaded a model, and its version and family. Raises EmotionError if it could not."""
        try:
            answerer = await cls._spawn(home, name)
        except OSError as error:  # no memory, or too many open files
            raise EmotionError(f"no process could be started with {name}: {describe_failure(error)}") from error
        try:
            async with asyncio.timeout(START_SECONDS):
                header, content = await answerer._read()
            if header["status"] != "ready":
                raise EmotionError(content.decode())
        except (TimeoutError, OSError, EOFError) as error:
            await answerer.end()
            raise EmotionError(f"no process could be started with {name}: {describe_failure(error)}") from error
        except BaseException:
            await answerer.end()
            raise
        return answerer, header

    @classmethod
    async def _spawn(cls, home: str, name: str) -> Answerer:
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):  # most clips go through in one piece
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "emotion.serving.answerer", str(theirs.fileno()), home, name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if sys.stderr else asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | dict.fromkeys(THREADS, "1"),
            )
        return cls(process, *await asyncio.open_connection(sock=ours))

    async def _read(self) -> tuple[dict, bytes]:
        size, content_size = LENGTHS.unpack(await self._reader.readexactly(LENGTHS.size))
        message = await self._reader.readexactly(size + content_size)
        return json.loads(message[:size]), message[size:]

    async def ask(self, header: dict, content: bytes) -> Reply:
        """The reply to a message.

        Raises
        ------
        OSError
            If the process has ended before it took the whole message: the socket is closed with bytes unread.
        EOFError
            If the process has ended after that.
        """
        self._writer.writelines(encode(header, content))
        await self._writer.drain()
        reply, answer = await self._read()
        return Reply(reply["status"], reply["reason"], answer)

    @property
    def has_ended(self) -> bool:
        """Whether the process is no longer there."""
        return self._reader.at_eof()

    async def end(self) -> None:
        """End the process, whatever it does."""
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Answerers:
    """All processes, and what they are asked.

    Parameters
    ----------
    home : str
        The artifact store.
    model : str
        ``champion``, which is replaced when another model becomes the champion; or a name that
        :meth:`emotion.inference.CustomEmotionModel.named` takes, which stays.
    processes : int
    limits : Limits
    emitter : Emitter
    """

    def __init__(self, home: str, model: str, *, processes: int, limits: Limits, emitter: Emitter):
        self._home, self._model, self._count = home, model, processes
        self._limits, self._emitter = limits, emitter
        self._idle: asyncio.Queue[Answerer] = asyncio.Queue()
        self._all: set[Answerer] = set()
        self._waiting = 0
        self._lacking = asyncio.Event()
        self._tried, self._has_failed, self._retry = "", False, 0.0
        self._watcher: asyncio.Task | None = None
        self.served: Served | None = None
        self.problem: str | None = None

    async def start(self) -> None:
        """Load the model, if there is one, and watch for another champion."""
        self._send_load()  # it is expected from now on, also if it does not get further
        await self._check()
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End all processes."""
        if self._watcher:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        await asyncio.gather(*(answerer.end() for answerer in self._all))
        self._emitter.gauge(metrics.SERVING_LOAD, 0, figure="expected")  # nobody has to look why it is silent

    def health(self) -> dict:
        """The model and the state of the service; ``problem`` says what is wrong, or is None."""
        state = {"status": "ok" if self._all else "unavailable"}
        served = self.served
        model = {key: getattr(served, key, None) for key in ("version", "family", "since", "loaded")}
        return state | model | {"processes": len(self._all), "waiting": self._waiting, "problem": self.problem}

    async def ask(self, header: dict, content: bytes) -> Reply:
        """The reply of the next free process.

        Raises
        ------
        Refused
            Status 503: no model is loaded, too many clips wait, or the process ended or took too long. A process that
            ended before it took the message says nothing about the message: another one is asked, once.
        """
        if not self._all and (self.problem or not self.served):  # else a process is on its way
            raise Refused(503, "no_model", self.problem or "no process is ready yet; try again in some seconds")
        if self._waiting >= self._limits.waiting and header["kind"] == "clip":  # a stream has one window at a time
            raise Refused(503, "busy", f"{self._waiting} clips are waiting already; try again in a second")
        for _ in range(2):
            try:
                return await self._ask(await self._wait_for_idle(), header, content)
            except OSError:
                log.warning("a process had ended before it took a recording; it is replaced")
        raise Refused(503, "crashed", "two processes ended before they took the recording; try again in a second")

    async def _wait_for_idle(self) -> Answerer:
        began = time.perf_counter()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                answerer = await self._next_idle()
        except TimeoutError:
            raise Refused(503, "busy", "no process was free in time; try again in a second") from None
        finally:
            self._waiting -= 1
        self._emitter.timing(metrics.SERVING_LATENCY, time.perf_counter() - began, stage="queue")
        return answerer

    async def _next_idle(self) -> Answerer:
        while True:
            answerer = await self._idle.get()
            if answerer in self._all and not answerer.has_ended:
                return answerer
            self._all.discard(answerer)  # it was ended from outside, such as for want of memory
            self._lacking.set()
            await answerer.end()

    async def _ask(self, answerer: Answerer, header: dict, content: bytes) -> Reply:
        began = time.perf_counter()
        is_sound = False
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                reply = await answerer.ask(header, content)
            is_sound = True
        except TimeoutError:
            seconds = self._limits.answer_seconds
            raise Refused(
                503, "timeout", f"there was no answer within {seconds:g} s; the audio may be damaged"
            ) from None
        except EOFError:
            log.warning("a process ended while it answered; it is replaced")
            raise Refused(503, "crashed", "the process that answered has ended; the audio may be damaged") from None
        finally:
            if is_sound and answerer in self._all:
                self._idle.put_nowait(answerer)
            else:  # it was replaced meanwhile, or its state is unknown
                self._all.discard(answerer)
                self._lacking.set()
                await answerer.end()
        self._emitter.timing(metrics.SERVING_LATENCY, time.perf_counter() - began, stage="answer")
        return reply

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lacking.wait(), self._limits.check_seconds)
            self._send_load()
            try:
                await self._check()
            except Exception:  # this loop must go on: it replaces processes that have ended
                log.exception("the service could not look after its processes")
                await asyncio.sleep(self._limits.check_seconds)

    def _send_load(self) -> None:
        load = {
            "processes": len(self._all),
            "expected": self._count,
            "waiting": self._waiting,
            "problem": self.problem is not None,
        }
        for figure, count in load.items():
            self._emitter.gauge(metrics.SERVING_LOAD, count, figure=figure)

    async def _check(self) -> None:
        """Load another champion, and start processes that are lacking."""
        self._lacking.clear()
        try:
            wanted = await asyncio.to_thread(self._find_other)
        except Exception as error:  # also one of an object store's client
            self._note(describe_failure(error))
        else:
            if wanted:
                await self._replace(*wanted)
            elif not self._has_failed:
                self.problem = None
        if self.served and len(self._all) < self._count:
            await self._fill(self.served.name)

    def _find_other(self) -> tuple[str, str, str | None] | None:
        """Another model to load: a text that changes with it, its name, and since when it is the champion; or None."""
        from emotion.errors import ConfigurationError
        from emotion.inference import CHAMPION
        from emotion.models import registry
        from emotion.store import Store

        is_due = self._has_failed and time.monotonic() > self._retry
        if self._model != CHAMPION:
            return (self._model, self._model, None) if self._tried != self._model or is_due else None
        store = Store(self._home)
        keys = (registry.CHAMPION, registry.HISTORY)
        stamp = " ".join(store.stamp(key) if store.exists(key) else "" for key in keys)
        if stamp == self._tried and not is_due:
            return None
        pointer = registry.champion(store)
        if pointer is None:
            raise ConfigurationError(
                f"there is no champion in {store.root}: train with make train or the DAG emotion_training, or promote "
                "a version"
            )
        registry.champion_entry(store, pointer)  # the bundle must be the one that was promoted
        name, since = f"{pointer['version']}/{pointer['family']}", pointer["since"]
        if self.served and not self._has_failed and (self.served.name, self.served.since) == (name, since):
            self._tried = stamp  # a decision that kept the champion
            return None
        return stamp, name, since

    async def _replace(self, stamp: str, name: str, since: str | None) -> None:
        """Replace all processes by ones with another model, or keep them all where that cannot be loaded."""
        self._tried = stamp
        before = frozenset(self._all)
        try:
            first, facts = await Answerer.start(self._home, name)
        except EmotionError as error:
            self._has_failed, self._retry = True, time.monotonic() + RETRY_SECONDS
            self._note(f"{name} cannot be loaded: {error}")
            return
        loaded = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self.served = Served(facts["version"], facts["family"], since, loaded)
        self._add(first)
        self._emitter.count(metrics.SERVING_LOADED)
        log.info("the model is %s", self.served.name)
        self._has_failed, self.problem = False, None
        # One after the other: there may be no memory for more than one extra process.
        remaining = set(before)
        try:
            while remaining:
                await self._retire(remaining.pop())
                if len(self._all - remaining) < self._count:
                    await self._start_one(self.served.name)
        except EmotionError as error:
            self._note(f"{name} cannot be loaded again: {error}")
        finally:
            for answerer in remaining:
                await self._retire(answerer)

    async def _retire(self, answerer: Answerer) -> None:
        """End a process once it has answered."""
        self._all.discard(answerer)
        for each in [self._idle.get_nowait() for _ in range(self._idle.qsize())]:
            if each is answerer:
                await each.end()
            else:
                self._idle.put_nowait(each)

    async def _fill(self, name: str) -> None:
        """Start the processes that are lacking, side by side."""
        lacking = self._count - len(self._all)
        starting = [asyncio.create_task(self._start_one(name)) for _ in range(lacking)]
        try:
            results = await asyncio.gather(*starting, return_exceptions=True)
        finally:
            for task in starting:
                task.cancel()  # where the service is stopped meanwhile
        if failures := [result for result in results if isinstance(result, BaseException)]:
            self._note(f"{name} cannot be loaded again: {failures[0]}")
            await asyncio.sleep(self._limits.check_seconds)

    async def _start_one(self, name: str) -> None:
        answerer, _ = await Answerer.start(self._home, name)
        self._add(answerer)

    def _add(self, answerer: Answerer) -> None:
        self._all.add(answerer)
        self._idle.put_nowait(answerer)

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s%s", problem, f"; {self.served.name} goes on" if self._all and self.served else "")
        self.problem = problem
