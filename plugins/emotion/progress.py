"""How far each stage of a run is, for whoever watches: small JSON files in the artifact store, and log lines."""

from __future__ import annotations

import logging
import time

from emotion.store import Store

log = logging.getLogger(__name__)

INTERVAL = 0.5
LOG_INTERVAL = 5.0


class Progress:
    """Call it with how much is done, of how much; it writes at most twice a second.

    ``<prefix>/<name>.json`` holds stage, label, done, total, unit, started and finished (Unix seconds; finished is
    None until the stage has succeeded).
    """

    def __init__(self, store: Store, prefix: str, stage: str, *, label: str = "", unit: str = ""):
        self._store = store
        self._key = f"{prefix}/{stage}{'-' + label if label else ''}.json"
        self._state = {"stage": stage, "label": label, "unit": unit, "done": 0, "total": 0}
        self._state |= {"started": time.time(), "finished": None}
        self._written = self._logged = 0.0
        self._write()

    def __call__(self, done: int, total: int) -> None:
        self._state |= {"done": int(done), "total": int(total)}
        moment = time.monotonic()
        if done >= total or moment - self._written >= INTERVAL:
            self._write()
        if done >= total or moment - self._logged >= LOG_INTERVAL:
            self._logged = moment
            log.info("%s %s: %d of %d %s", self._state["stage"], self._state["label"], done, total, self._state["unit"])

    def finish(self) -> float:
        """Note that the stage has succeeded; returns the seconds it took."""
        self._state["finished"] = time.time()
        self._write()
        return self._state["finished"] - self._state["started"]

    def _write(self) -> None:
        self._written = time.monotonic()
        self._store.write_json(self._key, self._state)


def read(store: Store, prefix: str) -> list[dict]:
    """The state of every stage so far, by start."""
    return sorted((store.read_json(key) for key in store.list(prefix, "*.json")), key=lambda state: state["started"])


def busy_seconds(states: list[dict]) -> float:
    """Wall time during which at least one stage was at work: the rest of a run is its scheduler's."""
    busy, until = 0.0, 0.0
    for state in sorted(states, key=lambda state: state["started"]):
        finished = state["finished"] or state["started"]
        busy += max(0.0, finished - max(until, state["started"]))
        until = max(until, finished)
    return busy
