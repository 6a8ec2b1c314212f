"""Send metrics through Airflow's own StatsD client. This is the one module of the library that imports Airflow."""

from __future__ import annotations

from airflow.sdk.observability import stats

from emotion.metrics import Emitter


def task_emitter() -> Emitter:
    """An emitter for use inside an Airflow task. Airflow's ``[metrics]`` settings decide where it sends."""
    return Emitter(stats)
