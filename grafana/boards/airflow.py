"""The dashboard *Airflow*: do the scheduler, the DAG processor, the pools and the tasks work?"""

from __future__ import annotations

import queries
from grafana_foundation_sdk.builders import stat
from panels import NONE_IS_GOOD, STATES, stat_panel, time_panel
from queries import alias, named, or_zero, path, per_minute, summed

from boards.frame import choose, dashboard, link, run_durations, with_rows
from emotion.metrics import Metric

FAILED = path(queries.TASK_FINISHED, dag="$dag", state="failed")
POOL_STATES = "{running_slots,queued_slots,scheduled_slots,deferred_slots}"


def airflow() -> dict:
    """The JSON of the dashboard."""
    built = dashboard(
        "airflow",
        "Speech emotion: Airflow",
        "Heartbeats, runs, tasks, queues and pools: metrics that Airflow 3.3 sends.",
        since="now-6h",
        refresh="30s",
        variables=[
            choose("dag", "DAG", "DAGs to show", path(queries.TASK_STARTED).rsplit(".", 1)[0]),
            choose("pool", "Pool", "Pools to show", path(queries.POOL, slots="open_slots")),
        ],
    )
    built.link(link("Airflow", "${airflow}", tooltip="The Airflow UI"))
    return with_rows(
        built,
        {
            "Now": [*_now(), *_scheduler()],
            "Runs and tasks": _runs_and_tasks(),
            "Queues and pools": _queues_and_pools(),
            "DAG files and assets": _files_and_assets(),
        },
    )


def _now() -> list:
    def beat(metric: Metric, component: str) -> stat.Panel:
        return stat_panel(
            f"{component}: heartbeats/min",
            "About 12 per minute are normal. None: this component is down, or its metrics do not reach StatsD.",
            alias(per_minute(path(metric)), "mean of 2 min", condense="average"),
            decimals=0,
            steps=[(None, "red"), (1, "green")],
            calculation="mean",
            since="2m",
            no_data="none for 2 min",
        )

    return [
        beat(queries.SCHEDULER_BEAT, "Scheduler"),
        beat(queries.PROCESSOR_BEAT, "DAG processor"),
        beat(queries.TRIGGERER_BEAT, "Triggerer"),
        stat_panel(
            "Task failures",
            "Task instances in the time range that failed after their last retry.",
            alias(
                f"sumSeries({or_zero(FAILED, 'none', alive=path(queries.SCHEDULER_BEAT))})", "failed", condense="sum"
            ),
            calculation="sum",
            steps=NONE_IS_GOOD,
        ),
        stat_panel(
            "DAG files with errors",
            "DAG files that cannot be imported.",
            alias(path(queries.IMPORT_ERRORS), "errors"),
            steps=NONE_IS_GOOD,
            since="15m",
            no_data="no data for 15 min",
        ),
        stat_panel(
            "DAGs",
            "Number of DAGs found.",
            alias(path(queries.DAGS), "DAGs"),
            steps=[(None, "red"), (1, "green")],
            since="15m",
            no_data="no data for 15 min",
        ),
    ]


def _scheduler() -> list:
    beats = (queries.SCHEDULER_BEAT, queries.PROCESSOR_BEAT, queries.TRIGGERER_BEAT)
    return [
        time_panel(
            "Heartbeats per minute",
            "Heartbeats of the scheduler, the DAG processor and the triggerer. Red: under one of the scheduler in five "
            "minutes, the alert fires.",
            *(f"aliasByMetric({per_minute(path(metric))})" for metric in beats),
            steps=[(None, "red"), (0.2, "green")],
        ),
        time_panel(
            "Scheduler loop",
            "Mean duration of one loop of the scheduler. If it grows, runs and tasks start late.",
            alias(path(queries.LOOP), "loop", condense="average"),
            unit="ms",
            steps=[(None, "green"), (5000, "red")],
        ),
    ]


def _runs_and_tasks() -> list:
    run_counts = path(queries.RUN, "count", outcome="{success,failed}", dag="$dag")
    finished = summed(path(queries.TASK_FINISHED, dag="$dag"), every="10min")
    state_node = path(queries.TASK_FINISHED, state="state").split(".").index("state")
    return [
        run_durations("$dag"),
        time_panel(
            "Runs finished",
            "Runs per ten minutes, by DAG and outcome.",
            named(queries.RUN, "dag", "outcome", of=summed(run_counts, every="10min")),
            colours=STATES,
            style="bars",
            stacked=True,
        ),
        time_panel(
            "Tasks finished by state",
            "Task instances per ten minutes. failed: after the last retry.",
            f'groupByNode({finished}, {state_node}, "sum")',
            colours=STATES,
            style="bars",
            stacked=True,
        ),
        time_panel(
            "Task failures by task",
            "Task instances per ten minutes that failed after their last retry, by DAG and task. Each of them is an "
            "alert, for an hour.",
            or_zero(
                named(queries.TASK_FINISHED, "dag", "task", of=summed(FAILED, every="10min")),
                "none",
                alive=path(queries.SCHEDULER_BEAT),
            ),
            style="bars",
            stacked=True,
            colours={"/^none$/": "green", "/^(?!none$)/": "red"},
        ),
        time_panel(
            "Duration by task",
            "Run time of each task, one point per run. For a mapped task: the mean over its instances.",
            named(queries.TASK_DURATION, "dag", "task", of=path(queries.TASK_DURATION, dag="$dag")),
            unit="ms",
            style="points",
            size=(24, 10),
        ),
    ]


def _queues_and_pools() -> list:
    return [
        time_panel(
            "Waiting time by task",
            "Time from scheduled to queued: how long a task waited for a free slot before the executor got it.",
            named(queries.TASK_WAIT, "dag", "task", of=path(queries.TASK_WAIT, dag="$dag")),
            unit="ms",
            style="points",
        ),
        time_panel(
            "Tasks waiting",
            "executable: ready for the executor. starving: ready, but their pool has no free slot.",
            alias(path(queries.EXECUTABLE), "executable"),
            alias(path(queries.STARVING), "starving"),
        ),
        time_panel(
            "Pool slots",
            "Slots of each pool, by the state of the tasks in them. (With the LocalExecutor, Airflow's own count of "
            "running tasks stays at 0; the count of the pool does not.)",
            named(queries.POOL, "pool", "slots", of=path(queries.POOL, slots=POOL_STATES, pool="$pool")),
        ),
        time_panel(
            "Free slots",
            "Free slots of each pool and of the executor.",
            named(queries.POOL, "pool", of=path(queries.POOL, slots="open_slots", pool="$pool")),
            alias(path(queries.EXECUTOR_OPEN), "executor"),
        ),
    ]


def _files_and_assets() -> list:
    return [
        time_panel(
            "Parse time by file",
            "Duration of the last parse of each DAG file. Airflow sends it in seconds, and its other timers in "
            "milliseconds.",
            named(queries.PARSE_FILE, "file", of=path(queries.PARSE_FILE)),
            unit="s",
            steps=[(None, "green"), (30, "red")],
        ),
        time_panel(
            "Parse time of all files",
            "Duration of one pass through all DAG files.",
            alias(path(queries.PARSE), "all files"),
            unit="s",
            size=(6, 8),
        ),
        time_panel(
            "Asset updates",
            "Updates per ten minutes. A new champion is one update of the asset emotion_champion.",
            alias(summed(path(queries.ASSET_UPDATES), every="10min"), "updates", condense="sum"),
            style="bars",
            size=(6, 8),
        ),
    ]
