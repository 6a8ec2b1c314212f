"""What is asked of Graphite: paths of the project's metrics and of Airflow's, and expressions on them."""

from __future__ import annotations

from emotion import metrics
from emotion.metrics import Metric


def _airflow(name: str, kind: str, unit: str, help: str) -> Metric:
    metric = Metric(name, kind, unit, help)
    AIRFLOW.append(metric)
    return metric


AIRFLOW: list[Metric] = []
"""The metrics of Airflow's own that are drawn."""
RUN = _airflow("dagrun.duration.{outcome}.{dag}", "timer", "ms", "Runs that ended: success or failed")
TASK_DURATION = _airflow("dag.{dag}.{task}.duration", "timer", "ms", "Run time of a task")
TASK_WAIT = _airflow("dag.{dag}.{task}.scheduled_duration", "timer", "ms", "Time between scheduled and queued")
TASK_FINISHED = _airflow("ti.finish.{dag}.{task}.{state}", "counter", "tasks", "Task instances that ended")
TASK_STARTED = _airflow("ti.start.{dag}.{task}", "counter", "tasks", "Task instances that began")
SCHEDULER_BEAT = _airflow("scheduler_heartbeat", "counter", "beats", "Scheduler is alive")
PROCESSOR_BEAT = _airflow("dag_processor_heartbeat", "counter", "beats", "DAG processor is alive")
TRIGGERER_BEAT = _airflow("triggerer_heartbeat", "counter", "beats", "Triggerer is alive")
LOOP = _airflow("scheduler.scheduler_loop_duration", "timer", "ms", "One round of the scheduler")
STARVING = _airflow("scheduler.tasks.starving", "gauge", "tasks", "Tasks that no pool slot is free for")
EXECUTABLE = _airflow("scheduler.tasks.executable", "gauge", "tasks", "Tasks ready for the executor")
EXECUTOR_OPEN = _airflow("executor.open_slots", "gauge", "slots", "Free slots of the executor")
POOL = _airflow("pool.{slots}.{pool}", "gauge", "slots", "Slots of a pool by what they are used for")
IMPORT_ERRORS = _airflow("dag_processing.import_errors", "gauge", "files", "DAG files that cannot be imported")
DAGS = _airflow("dagbag_size", "gauge", "DAGs", "DAGs found")
PARSE = _airflow("dag_processing.total_parse_time", "gauge", "s", "Parsing all DAG files once")
PARSE_FILE = _airflow("dag_processing.last_duration.{bundle}.{file}", "timer", "s", "Parsing one file; seconds")
ASSET_UPDATES = _airflow("asset.updates", "counter", "updates", "Asset events")

ROOTS = {"gauge": "stats.gauges", "timer": "stats.timers", "counter": "stats_counts"}


def path(metric: Metric, field: str = "mean", /, **labels: str) -> str:
    """The Graphite path of a metric; a label that is not given is ``*``; ``field`` is one of a timer's."""
    name = metric.name.format(**({label: "*" for label in metric.labels} | labels))
    return f"{ROOTS[metric.kind]}.{metrics.PREFIX}.{name}" + (f".{field}" if metric.kind == "timer" else "")


def condensed(expression: str, how: str) -> str:
    """Points closer than the panel can draw become one: by default their mean, here their last or sum."""
    return f'consolidateBy({expression}, "{how}")'


def named(metric: Metric, *labels: str, of: str) -> str:
    """``of``, an expression on ``metric``, each series named by the values of ``labels``."""
    nodes = f"{ROOTS[metric.kind]}.{metrics.PREFIX}.{metric.name}".split(".")
    if metric.kind != "timer":
        of = condensed(of, "last" if metric.kind == "gauge" else "sum")
    return f"aliasByNode({of}, {', '.join(str(nodes.index(f'{{{label}}}')) for label in labels)})"


def alias(expression: str, name: str, *, condense: str = "last") -> str:
    return f'alias({condensed(expression, condense)}, "{name}")'


def summed(expression: str) -> str:
    """Totals per hour, so that what one run did is one point."""
    return condensed(f'summarize({expression}, "1h", "sum")', "sum")


def or_zero(expression: str, name: str) -> str:
    """What is only counted once it happens: 0 before that."""
    return f"fallbackSeries({expression}, alias(constantLine(0), '{name}'))"


def per_minute(expression: str) -> str:
    return f"scaleToSeconds({expression}, 60)"


def latest_run(metric: Metric, **labels: str) -> str:
    """The series that the last run sent: the features that are no longer among the top ones are left out."""
    every = f'summarize({path(metric, **labels)}, "1h", "last")'
    return f"currentAbove(transformNull({every}, -1, {every}), -0.5)"


def age(metric: Metric) -> str:
    """Seconds since the last Unix time that a gauge was set to, as a level line; nothing if it was not."""
    # A difference with a missing or empty series is the other one, 56 years: hence applyByNode and the 1.
    now, then = "aggregateLine(timeFunction('now'), 'max')", "aggregateLine(%, 'max')"
    gauge = path(metric)
    return f"applyByNode({gauge}, {gauge.count('.')}, \"aggregate(group({now}, {then}), 'diff', 1)\")"
