"""What the stages of every kind of run share: a folder in the artifact store, progress, duration,
resources."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from emotion import metrics
from emotion.metrics import Emitter, Metric
from emotion.progress import StageRecord
from emotion.settings import Settings
from emotion.store import Store, run_folder


class Run:
    """A run, each stage of which is a method of paths and small values.

    Parameters
    ----------
    settings : Settings
    run_id : str
        The orchestrator's; runs of the same id share their artifacts.
    emitter : Emitter
        Where metrics go.
    """

    folder: str
    """The folder of the artifact store in which such runs have theirs."""

    duration: Metric
    """The timer of a stage."""

    def __init__(self, settings: Settings, run_id: str, emitter: Emitter):
        self.settings = settings
        self.store = Store(settings.home)
        self.name = run_folder(run_id)
        self.run_id = run_id
        self.emitter = emitter

    def _key(self, name: str) -> str:
        return f"{self.folder}/{self.name}/{name}"

    @contextmanager
    def _stage(self, stage: str, *, label: str = "", unit: str = "") -> Iterator[StageRecord]:
        """Progress, duration and resources of one stage."""
        cpu = time.process_time()
        progress = StageRecord(self.store, self._key("progress"), stage, label=label, unit=unit)
        yield progress
        self.emitter.timing(self.duration, progress.finish(), stage=stage)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.emitter.gauge(metrics.RESOURCE, peak, stage=stage, resource="peak_memory_bytes")
        self.emitter.gauge(metrics.RESOURCE, time.process_time() - cpu, stage=stage, resource="cpu_seconds")
