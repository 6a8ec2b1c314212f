"""Graphite queries: the paths of the project's and of Airflow's own metrics, and functions applied to them."""

from __future__ import annotations

from emotion import metrics
from emotion.metrics import Metric


def _airflow(name: str, kind: str, unit: str, help: str) -> Metric:
    metric = Metric(name, kind, unit, help)
    AIRFLOW.append(metric)
    return metric


AIRFLOW: list[Metric] = []
"""Airflow's own metrics that the dashboards and alerts use."""
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

HOUR = 3600
ROOTS = {"gauge": "stats.gauges", "timer": "stats.timers", "counter": "stats_counts"}


def path(metric: Metric, field: str = "mean", /, **labels: str) -> str:
    """The Graphite path of a metric.

    Parameters
    ----------
    metric : Metric
    field : str
        For a timer: which of its values, such as ``mean``, ``sum`` or ``count``.
    **labels : str
        Values of labels; a label that is not given is ``*``, which matches every value.

    Examples
    --------
    >>> path(metrics.CHAMPION_SCORE, protocol="random")
    'stats.gauges.airflow.emotion.champion.score.random.*'
    >>> path(metrics.STAGE_DURATION, "sum", stage="compare")
    'stats.timers.airflow.emotion.training.stage.compare.duration.sum'
    """
    name = metric.name.format(**(dict.fromkeys(metric.labels, "*") | labels))
    return f"{ROOTS[metric.kind]}.{metrics.PREFIX}.{name}" + (f".{field}" if metric.kind == "timer" else "")


def condensed(expression: str, how: str) -> str:
    """How Graphite merges points that lie closer than a panel can draw: ``last``, ``sum`` …; otherwise their mean."""
    return f'consolidateBy({expression}, "{how}")'


def named(metric: Metric, *labels: str, of: str, condense: str = "") -> str:
    """Name each series of ``of``, an expression on ``metric``, by the values of ``labels``.

    ``condense``: how Graphite merges its points, where that is not usual for the kind of the metric: the rate of a
    counter is averaged, and not added up.

    >>> named(metrics.FIT_SECONDS, "model", of=path(metrics.FIT_SECONDS))
    'aliasByNode(consolidateBy(stats.gauges.airflow.emotion.training.fit_seconds.*, "last"), 6)'
    """
    nodes = f"{ROOTS[metric.kind]}.{metrics.PREFIX}.{metric.name}".split(".")
    if metric.kind != "timer" or condense:
        of = condensed(of, condense or ("last" if metric.kind == "gauge" else "sum"))
    return f"aliasByNode({of}, {', '.join(str(nodes.index(f'{{{label}}}')) for label in labels)})"


def alias(expression: str, name: str, *, condense: str = "last") -> str:
    """Give the only series of an expression a name."""
    return f'alias({condensed(expression, condense)}, "{name}")'


def summed(expression: str, *, every: str = "1h") -> str:
    """Sums per hour, so that a run is one point; or per another time, where a dashboard opens with some hours."""
    return condensed(f'summarize({expression}, "{every}", "sum")', "sum")


def total(metric: Metric, label: str, *, of: str) -> str:
    """The sum of each series of ``of`` over the time range, as a horizontal line, named by the value of ``label``."""
    return named(metric, label, of=f"maximumAbove(aggregateLine({of}, 'sum'), 0)")


def or_zero(expression: str, name: str, *, alive: str) -> str:
    """The expression, or 0 where ``alive`` has values, if it has no series: a counter has none before it is first
    counted up. Without values of ``alive`` nobody counted, and there is no 0."""
    return f"fallbackSeries({expression}, alias(scale({alive}, 0), '{name}'))"


def recent(expression: str, name: str, *, within: str) -> str:
    """The only series of an expression, named "none for …" if it has no value within the last hours or days.

    Parameters
    ----------
    within : str
        Number and unit, such as ``2 h`` or ``8 d``.
    """
    new = f"removeEmptySeries(timeSlice({expression}, '-{within.replace(' ', '')}'))"
    return f"fallbackSeries({alias(new, name)}, {alias(expression, 'none for ' + within)})"


def per_minute(expression: str) -> str:
    """Counts per interval as counts per minute."""
    return f"scaleToSeconds({expression}, 60)"


def latest_run(metric: Metric, **labels: str) -> str:
    """The series that the last run sent. A feature that is no longer a top feature has a series, but no new point."""
    hourly = f'summarize({path(metric, **labels)}, "1h", "last")'
    return f"currentAbove(transformNull({hourly}, -1, {hourly}), -0.5)"


def gated(condition: str, expression: str) -> str:
    """The expression if ``condition`` gives a series, else nothing."""
    return f'applyByNode({condition}, 0, "{expression}")'


def since_last(paths: str, *, least: float | None = None) -> str:
    """Seconds since a series of ``paths`` last had a value, as a horizontal line; no series if none had one.

    ``least``: values below it do not count, such as the 0 that StatsD sends for an idle counter.
    """
    counted = "%" if least is None else f"removeBelowValue(%, {least})"
    times = f"multiplySeries(timeFunction('then'), removeBelowValue(isNonNull({counted}), 1))"
    return f'minSeries(applyByNode({paths}, {paths.count(".")}, "{_seconds_since(times)}"))'


def aged(expression: str, *, within: str) -> str:
    """An age, named "ago"; or "no data for" if it is over a number of hours or days, such as ``2 h``."""
    number, unit = within.split()
    seconds = int(number) * {"min": 60, "h": HOUR, "d": 24 * HOUR}[unit]
    return (
        f"fallbackSeries({alias(f'currentBelow({expression}, {seconds})', 'ago')}, {alias(expression, 'no data for')})"
    )


def champion_age() -> str:
    """Seconds since the champion was promoted, named by its family and version.

    Each model that was ever the champion has a series; that of today's champion has the latest time.
    """
    every = path(metrics.CHAMPION)
    ages = f'applyByNode({every}, {every.count(".")}, "{_seconds_since("%")}", "%")'
    return named(metrics.CHAMPION, "family", "version", of=f"limit(sortByMinima({ages}), 1)")


def rejected_share() -> str:
    """Rejected files as a share of all that went through scoring in the time range; none if there were none."""
    scored, rejected = (path(metrics.SCORED, outcome=outcome) for outcome in ("scored", "rejected"))
    rejected = f"aggregateLine({or_zero(rejected, 'rejected', alive=scored)}, 'sum')"
    every = path(metrics.SCORED, outcome="{scored,rejected}")
    return f"divideSeries({rejected}, aggregateLine(sumSeries({every}), 'sum'))"


def failed_share() -> str:
    """Failed requests to the service as a share of all in the time range; no series if fewer than five failed."""
    every = f"aggregateLine(sumSeries({path(metrics.SERVING_REQUESTS)}), 'sum')"
    failed = f"aggregateLine({path(metrics.SERVING_REQUESTS, outcome='failed')}, 'sum')"
    return f"divideSeries(removeEmptySeries(removeBelowValue({failed}, 5)), {every})"


def service_stopped() -> str:
    """A series if the service said that it was stopped in good order, else none."""
    return f"currentBelow({path(metrics.SERVING_LOAD, figure='expected')}, 0)"


def service_ready() -> str:
    """Seconds since a process of the service was last ready."""
    return since_last(path(metrics.SERVING_LOAD, figure="processes"), least=1)


def usual(expression: str) -> str:
    """The median of the last seven days, at every time of a graph; of the last value of each quarter of an hour, which
    is how often scoring runs: a median of single minutes would take Graphite seconds."""
    return f"movingMedian(summarize({expression}, '15min', 'last'), '7d')"


def between(low: str, high: str) -> str:
    """Both series in one query."""
    return f"group({low}, {high})"


def scoring_age(*, late: bool = False) -> str:
    """Seconds since scoring was last seen at work; ``late``: less the time that lies between two scheduled runs."""
    scheduled = f"scale(aggregateLine({path(metrics.SCORING_EVERY)}, 'last'), {HOUR})"
    return age(metrics.SCORING_SEEN, less=scheduled if late else "")


def last_sweep() -> str:
    """:func:`scoring_age`, or the lateness, named "late by", if it is over an hour; 0 if no scoring is scheduled."""
    unscheduled = alias(f"currentBelow({path(metrics.SCORING_EVERY)}, 0)", "no schedule")
    late = alias(f"currentAbove({scoring_age(late=True)}, {HOUR})", "late by")
    return f"fallbackSeries({unscheduled}, fallbackSeries({late}, {alias(scoring_age(), 'ago')}))"


def age(metric: Metric, *, less: str = "") -> str:
    """Seconds since the Unix time that a gauge was last set to, as a horizontal line; no series if it never was.

    ``less``: an expression whose value is subtracted, if it has one.
    """
    gauge, seconds = path(metric), _seconds_since("%")
    if less:  # a difference to a series that is missing is the first series
        seconds = f"diffSeries({seconds}, {less})"
    return f'applyByNode({gauge}, {gauge.count(".")}, "{seconds}")'


def _seconds_since(times: str) -> str:
    """What ``applyByNode`` makes of a series %: the seconds since the latest of ``times``, Unix times.

    If one series of a difference is missing or empty, Graphite returns the other one, here 56 years. Therefore
    ``applyByNode``, which returns nothing if there is no series %, and the 1, which requires a value of both series.
    The last point of ``timeFunction`` lies up to a minute back, and Graphite cuts the time to whole seconds; the 61 s
    that are added keep the age above 0.
    """
    now = "aggregateLine(timeFunction('now'), 'max')"
    return f"offset(aggregate(group({now}, aggregateLine({times}, 'max')), 'diff', 1), 61)"
