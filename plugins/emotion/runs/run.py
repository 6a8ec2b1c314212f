"""What the stages of every kind of run share: a folder in the artifact store, progress, duration and resources."""

from __future__ import annotations

import hashlib
import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from emotion import metrics
from emotion.metrics import Emitter, Metric
from emotion.progress import Progress, StageProgress, StageRecord, StageRecords, no_progress
from emotion.settings import Settings
from emotion.store import Store

LONGEST_NAME = 200
"""Characters of a run's folder; file systems allow 255 bytes, and some names get an ending."""


def run_folder(run_id: str) -> str:
    """The name of a run's folder, from Airflow's run id: safe as a file name, and different for each id.

    >>> run_folder("demo-1")
    'demo-1'
    >>> run_folder("manual__2026-01-02T03:04:05+00:00")
    'manual__2026-01-02T03-04-05-00-00-422e87'
    >>> len(run_folder("x" * 250))
    207
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "-", run_id)[:LONGEST_NAME]
    return name if name == run_id else f"{name}-{hashlib.sha256(run_id.encode()).hexdigest()[:6]}"


class Run:
    """A run. Each stage is a method that takes and returns small values; artifacts go through the store.

    Parameters
    ----------
    settings : Settings
    run_id : str
        From the orchestrator. Runs of the same id share their artifacts.
    emitter : Emitter
        Where metrics go.
    progress : callable
        Called with stage, done, total and unit as each stage goes on; the artifact store has a record of it in any
        case.
    """

    folder: str
    """The folder of the artifact store that holds the folders of these runs."""

    duration: Metric
    """The timer of a stage."""

    def __init__(self, settings: Settings, run_id: str, emitter: Emitter, progress: StageProgress = no_progress):
        self.settings = settings
        self.store = Store(settings.home)
        self.name = run_folder(run_id)
        self.run_id = run_id
        self.emitter = emitter
        self.progress = progress

    def _key(self, name: str) -> str:
        return f"{self.folder}/{self.name}/{name}"

    @contextmanager
    def _stage(self, stage: str, *, label: str = "", unit: str = "") -> Iterator[Progress]:
        """Progress, duration and resources of one stage; yields the callable that the stage reports to."""
        with self._measured(stage):
            record = StageRecord(self.store, self._key("progress"), stage, label=label, unit=unit)

            def progress(done: int, total: int) -> None:
                record(done, total)
                self.progress(stage, done, total, unit)

            yield progress
            record.finish()

    @contextmanager
    def _stages(self, first: str) -> Iterator[StageProgress]:
        """As :meth:`_stage`, for work of several stages: a record of each. The metrics are of all, named ``first``."""
        with self._measured(first):
            records = StageRecords(self.store, self._key("progress"), first)

            def progress(stage: str, done: int, total: int, unit: str) -> None:
                records(stage, done, total, unit)
                self.progress(stage, done, total, unit)

            yield progress
            records.finish()

    @contextmanager
    def _measured(self, stage: str) -> Iterator[None]:
        """Send the duration and the resources of the block, if it did not fail."""
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.emitter.timing(self.duration, time.perf_counter() - start, stage=stage)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.emitter.gauge(metrics.RESOURCE, peak, stage=stage, resource="peak_memory_bytes")
        self.emitter.gauge(metrics.RESOURCE, time.process_time() - cpu, stage=stage, resource="cpu_seconds")
