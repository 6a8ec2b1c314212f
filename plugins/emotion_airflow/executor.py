"""Airflow's LocalExecutor without a race that loses the answer to a question, and with packages imported once.

A task that pauses, for a person's answer or for a trigger, ends its process. When the pause is over, Airflow runs the
same try in a new process. The LocalExecutor of Airflow 3.3.2 does not keep track of what it runs. If the new process
starts before the end of the old one is reported, the scheduler takes the report for the new one's, finds a task that
"finished" while it is queued, and fails the try (https://github.com/apache/airflow/issues/72716).

A task is forked from a process of the executor, and has what that process had imported. The packages of
:data:`PRELOADED` take a task one to three seconds, and a training run has a dozen tasks one after the other. The
project's own code is not among them: a task runs the code that is on the disk when the task starts.
"""

from __future__ import annotations

import multiprocessing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.executors import local_executor
from airflow.utils.state import TaskInstanceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.executors.workloads import ExecutorWorkload
    from airflow.executors.workloads.types import WorkloadKey, WorkloadState

PRELOADED = (
    "airflow.sdk.execution_time.task_runner",
    "jinja2",
    "joblib",
    "numba",
    "pandas",
    "pyarrow.parquet",
    "scipy.ndimage",
    "scipy.signal",
    "scipy.stats",
    "sklearn.decomposition",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "sklearn.pipeline",
    "soundfile",
    "soxr",
)
"""Imported before the processes that run tasks are forked."""


class LocalExecutor(local_executor.LocalExecutor):
    """Starts a try again only when the end of its previous process has been reported, and imports :data:`PRELOADED`.

    Until then the task stays in the executor's queue, and the scheduler recognizes the report as an old one.
    """

    def start(self) -> None:
        self._unreported: set[WorkloadKey] = set()
        if multiprocessing.get_start_method() == "fork":
            for module in PRELOADED:
                import_module(module)
        super().start()

    def _get_workloads_to_schedule(self, open_slots: int) -> list[tuple[WorkloadKey, ExecutorWorkload]]:
        workloads = super()._get_workloads_to_schedule(open_slots)
        return [(key, workload) for key, workload in workloads if key not in self._unreported]

    def _process_workloads(self, workload_list: Sequence[ExecutorWorkload]) -> None:
        self._unreported.update(workload.key for workload in workload_list)
        super()._process_workloads(workload_list)

    def change_state(
        self, key: WorkloadKey, state: WorkloadState, info: Any = None, remove_running: bool = True
    ) -> None:
        if state != TaskInstanceState.RUNNING:
            self._unreported.discard(key)
        super().change_state(key, state, info, remove_running)
