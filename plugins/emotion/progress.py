"""How far a piece of work is: the callables that long functions report to, and a record of each stage of a run.

A function takes ``progress`` and calls it as it goes. A function with one stage takes a :data:`Progress`, a function
with several stages takes a :data:`StageProgress`. :func:`no_progress` is the default of both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from emotion.store import Store

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``: how much is done, of how much. ``total`` is 0 where it is not known."""

StageProgress = Callable[[str, int, int, str], None]
"""Called as ``progress(stage, done, total, unit)``, for example ``progress("download", 4096, 10_000, "B")``. ``stage``
is a short lower-case name, with ``_`` between words; ``unit`` is what is counted."""

WRITE_INTERVAL = 0.5
"""Seconds between two writes of a stage's record."""
LOG_INTERVAL = 5.0
"""Seconds between two log lines of a stage."""


def no_progress(*report: object) -> None:
    """Report to nobody: the default of every ``progress`` parameter.

    >>> no_progress(1, 2)
    >>> no_progress("download", 4096, 10_000, "B")
    """


def stage_of(progress: StageProgress, stage: str, unit: str) -> Progress:
    """The progress of one stage, for a function that has one stage.

    >>> report = stage_of(lambda *report: print(report), "check", "clips")
    >>> report(3, 10)
    ('check', 3, 10, 'clips')
    """
    return lambda done, total: progress(stage, done, total, unit)


class StageRecord:
    """A :data:`Progress` that keeps the state of one stage in the artifact store, and logs it.

    ``<prefix>/<stage>.json``, or ``<prefix>/<stage>-<label>.json``, holds stage, label, done, total, unit, started and
    finished (Unix seconds; finished is None until the stage has succeeded). A call writes at most twice a second.

    Parameters
    ----------
    store : Store
    prefix : str
        The folder of the records of one run.
    stage : str
    label : str
        Distinguishes tasks that share a stage, such as the number of a shard.
    unit : str
        What is counted.

    Examples
    --------
    >>> store = Store("memory://progress-example")
    >>> progress = StageRecord(store, "runs/1/progress", "featurize", label="0", unit="clips")
    >>> progress(360, 360)
    >>> state = store.read_json("runs/1/progress/featurize-0.json")
    >>> state["done"], state["total"], state["unit"], state["finished"]
    (360, 360, 'clips', None)
    """

    def __init__(self, store: Store, prefix: str, stage: str, *, label: str = "", unit: str = ""):
        self._store = store
        self._key = f"{prefix}/{stage}{'-' + label if label else ''}.json"
        self._state: dict[str, Any] = {"stage": stage, "label": label, "unit": unit, "done": 0, "total": 0}
        self._state |= {"started": time.time(), "finished": None}
        self._written = self._logged = 0.0
        self._write()

    def __call__(self, done: int, total: int) -> None:
        self._state |= {"done": int(done), "total": int(total)}
        moment = time.monotonic()
        if done >= total or moment - self._written >= WRITE_INTERVAL:
            self._write()
        if done >= total or moment - self._logged >= LOG_INTERVAL:
            self._logged = moment
            log.info("%s %s: %d of %d %s", self._state["stage"], self._state["label"], done, total, self._state["unit"])

    def finish(self) -> float:
        """Record that the stage has succeeded; returns the seconds it took."""
        self._state["finished"] = time.time()
        self._write()
        return self._state["finished"] - self._state["started"]

    def _write(self) -> None:
        self._written = time.monotonic()
        self._store.write_json(self._key, self._state)


class StageRecords:
    """A :data:`StageProgress` that keeps a :class:`StageRecord` of each stage, one stage after the other.

    Parameters
    ----------
    store : Store
    prefix : str
        The folder of the records of one run.
    first : str
        The stage that is at work until another is reported.

    Examples
    --------
    >>> store = Store("memory://stages-example")
    >>> progress = StageRecords(store, "runs/1/progress", "download")
    >>> progress("download", 10_000, 10_000, "B")
    >>> progress("import", 9, 9, "clips")
    >>> [(state["stage"], state["done"], state["total"]) for state in read(store, "runs/1/progress")]
    [('download', 10000, 10000), ('import', 9, 9)]
    """

    def __init__(self, store: Store, prefix: str, first: str):
        self._store, self._prefix = store, prefix
        self._begin(first, "")

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        if stage != self._stage:
            self._record.finish()
        if (stage, unit) != (self._stage, self._unit):
            self._begin(stage, unit)
        self._record(done, total)

    def finish(self) -> None:
        """Record that the last stage has succeeded."""
        self._record.finish()

    def _begin(self, stage: str, unit: str) -> None:
        self._stage, self._unit = stage, unit
        self._record = StageRecord(self._store, self._prefix, stage, unit=unit)


def read(store: Store, prefix: str) -> list[dict]:
    """The state of every stage below ``prefix``, in the order in which they started."""
    return sorted((store.read_json(key) for key in store.list(prefix, "*.json")), key=lambda state: state["started"])


def busy_seconds(states: list[dict]) -> float:
    """Wall time in seconds during which at least one stage was at work; the scheduler spent the rest of the run.

    >>> busy_seconds(
    ...     [
    ...         {"started": 0.0, "finished": 10.0},
    ...         {"started": 5.0, "finished": 12.0},
    ...         {"started": 20.0, "finished": 21.0},
    ...     ]
    ... )
    13.0
    """
    busy, until = 0.0, 0.0
    for state in sorted(states, key=lambda state: state["started"]):
        finished = state["finished"] or state["started"]
        busy += max(0.0, finished - max(until, state["started"]))
        until = max(until, finished)
    return busy
