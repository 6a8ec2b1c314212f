"""Worker processes: one function for many items on all cores, with the results in the order of the items.

A worker is forked from a *fork server*, which has imported what workers need and runs no threads (multiprocessing's
``forkserver``). The process that asks for the work may therefore have threads, event loops and open connections.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

Start = Callable[..., Callable[[Any], Any]]
"""Called once in each worker; returns the function that is called with each item. It must be importable."""
WORKER_FILES = 100
"""Files for which one more worker pays off: it takes a second to start."""
AHEAD_SECONDS = 0.2
"""Seconds of work that a worker has queued, by its rate so far: it stays busy while nobody takes its results."""
MOST_QUEUED = 64
"""Most items that a worker has queued, and most results for each worker that wait for an earlier result."""
END_SECONDS = 2.0
"""Seconds that a worker may take to end by itself."""


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processes this one can keep busy: the processors that it may run on, or fewer if its container has a
    limit of processor time.

    >>> usable_cores() >= 1
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for limits in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # version 2, version 1
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in limits).split()
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


class Died(NamedTuple):
    """In place of a result: the worker ended while it was at work on the item."""

    exit_code: int
    """Negative: the number of the signal that ended it."""

    def __str__(self) -> str:
        try:
            return f"the process was ended by {signal.Signals(-self.exit_code).name}"
        except ValueError:
            return f"the process ended with exit code {self.exit_code}"


def start_server(modules: Sequence[str]) -> None:
    """Start the fork server, which imports ``modules``; if it runs already, this does nothing.

    A program that will need workers calls this first, so that its own imports and those of the server overlap.
    """
    get_context("forkserver").set_forkserver_preload(list(modules))
    resource_tracker.ensure_running()  # it would unblock SIGINT below
    # Ctrl-C reaches all processes of a terminal; the one that asked for the work ends the others.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Workers:
    """Processes that all apply one function. Use it in a ``with`` block, at whose end they are ended.

    Parameters
    ----------
    start : callable
        See :data:`Start`.
    arguments : tuple
        Of ``start``; they are pickled.
    count : int
        How many processes.

    Examples
    --------
    >>> from functools import partial
    >>> with Workers(partial, (round,), count=1) as workers:
    ...     list(workers.map([1.2, 3.8, 2.5]))
    [1, 4, 2]
    """

    def __init__(self, start: Start, arguments: tuple, *, count: int):
        self._start, self._arguments = start, arguments
        self._workers: list[_Worker] = []
        start_server([start.__module__])
        try:
            for _ in range(count):
                self._workers.append(_Worker(start, arguments))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.close()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def map(self, items: Iterable[Any]) -> Iterator[Any]:
        """The result for each item, in the order of the items, which are taken as workers have room for them.

        Yields
        ------
        object
            What the function returned; :class:`Died` if the worker ended while it was at work on the item. Then a new
            worker takes its place.

        Raises
        ------
        RuntimeError
            If the function raises, or a worker ends before it has begun.
        """
        fresh = enumerate(items)
        again = deque[tuple[int, Any]]()  # items of workers that died
        results: dict[int, Any] = {}
        following = 0
        while True:
            while again or len(results) < MOST_QUEUED * len(self._workers):
                with_room = [worker for worker in self._workers if worker.has_room]
                if not with_room or not (item := again.popleft() if again else next(fresh, None)):
                    break
                min(with_room, key=lambda worker: len(worker.queued)).send(*item)
            working = {worker.connection: worker for worker in self._workers if worker.queued}
            if not working:
                assert not results and not again
                return
            for connection in wait(working):
                if taken := self._take(working[connection], again):  # type: ignore[index]
                    number, result = taken
                    results[number] = result
            while following in results:
                yield results.pop(following)
                following += 1

    def _take(self, worker: _Worker, again: deque[tuple[int, Any]]) -> tuple[int, Any] | None:
        """The number and the result of the first item of a worker, or None if it has just begun. If it has died, a new
        worker takes its place."""
        try:
            return worker.take()
        except (EOFError, OSError):
            died = Died(worker.end())
        if not worker.has_begun:
            raise RuntimeError(f"a worker could not begin: {died}")
        number, *_ = worker.queued
        del worker.queued[number]
        again.extend(worker.queued.items())
        self._workers[self._workers.index(worker)] = _Worker(self._start, self._arguments)
        return number, died


class _Worker:
    """One process, and the items that were sent to it and have no result yet, by their numbers."""

    def __init__(self, start: Start, arguments: tuple):
        context = get_context("forkserver")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(start, arguments, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that the connection ends when the process does
        self.queued: dict[int, Any] = {}
        self.has_begun = False
        self._taken = 0
        self._since = time.monotonic()

    @property
    def has_room(self) -> bool:
        """Whether it should get another item."""
        rate = self._taken / max(time.monotonic() - self._since, 1e-9)
        return len(self.queued) < min(max(2, round(AHEAD_SECONDS * rate)), MOST_QUEUED)

    def send(self, number: int, item: Any) -> None:
        self.queued[number] = item
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died, as the end of its results will show
            self.connection.send(item)

    def take(self) -> tuple[int, Any] | None:
        """The number and the result of its first item, or None if it has just begun. Raises EOFError or OSError if the
        process has died."""
        if not self.has_begun:
            self._receive()
            self.has_begun, self._since = True, time.monotonic()
            return None
        result = self._receive()
        self._taken += 1
        number = next(iter(self.queued))
        del self.queued[number]
        return number, result

    def _receive(self) -> Any:
        failure, result = self.connection.recv()
        if failure:
            raise RuntimeError(f"a worker failed:\n{failure}")
        return result

    def close(self) -> None:
        """Ask the process to end."""
        self.connection.close()

    def end(self) -> int:
        """End the process; returns its exit code."""
        self.close()
        self._process.join(END_SECONDS)
        self._process.kill()
        self._process.join()
        return self._process.exitcode or 0


def _work(start: Start, arguments: tuple, connection: Connection) -> None:
    """What a worker does, until the connection ends."""
    items: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_receive_items, args=(connection, items), daemon=True).start()
    gc.freeze()  # nothing of what was imported becomes garbage
    try:
        work = start(*arguments)
        connection.send(("", None))
        while True:
            connection.send(("", work(items.get())))
    except (BrokenPipeError, ConnectionResetError):
        pass
    except Exception:
        connection.send((traceback.format_exc(), None))


def _receive_items(connection: Connection, items: SimpleQueue[Any]) -> None:
    """Queue items as they come, so that their sender never waits; end this process when the sender ends."""
    try:
        while True:
            items.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)
