"""The alerts: what each one queries, when it fires, and what a person should then do."""

from __future__ import annotations

from dataclasses import dataclass

from panels import DAY
from queries import (
    HOUR,
    SCHEDULER_BEAT,
    TASK_FINISHED,
    age,
    alias,
    failed_share,
    named,
    or_zero,
    path,
    scoring_age,
    service_ready,
    service_stopped,
)

from emotion import metrics
from emotion.evaluation.selection import PROTOCOL, SCORE


@dataclass(frozen=True)
class Alert:
    """Fires if the last value, or the sum, of a series lies beyond a threshold.

    Attributes
    ----------
    uid, title : str
    target : str
        The Graphite query. It must reduce its own points with ``consolidateBy``: a window has more points than Grafana
        asks for, and Graphite would otherwise return the mean of a new value and those before it. It must give each
        series a name that does not change: Grafana makes the name a label, and takes other labels for another alert.
    window : int
        Seconds of data that are queried.
    evaluator : tuple
        Type (``gt`` or ``lt``) and parameters of Grafana's threshold.
    summary, runbook : str
        What happened, and what to do.
    panel : tuple of str
        Dashboard and title of the panel to look at.
    reducer : str
        What Grafana makes of a series: ``last`` or ``sum``.
    severity : str
        ``warning`` or ``critical``.
    no_data : str
        State if the query returns no value: ``OK`` or ``Alerting``.
    pending : str
        How long the condition must hold before the alert fires.
    """

    uid: str
    title: str
    target: str
    window: int
    evaluator: tuple[str, list[float]]
    summary: str
    runbook: str
    panel: tuple[str, str]
    reducer: str = "last"
    severity: str = "warning"
    no_data: str = "OK"
    pending: str = "0s"


def alerts() -> list[Alert]:
    """All alerts, in the order in which Grafana shows them."""
    return [
        _no_training(),
        _f1_fell(),
        _latency(),
        _confidence(),
        _drift(),
        _accuracy_fell(),
        _importance(),
        _task_failures(),
        _scheduler(),
        _scoring_stopped(),
        _service_silent(),
        _service_failing(),
    ]


def _no_training() -> Alert:
    return Alert(
        uid="emotion-no-training",
        title="No successful training in 8 days",
        target=alias(_training_age(), "training"),
        window=30 * DAY,
        evaluator=("gt", [8 * DAY]),
        no_data="Alerting",
        pending="1h",
        summary="No training run has succeeded in the last 8 days, or in a day more than lies between two scheduled "
        "runs; or none has ever succeeded.",
        runbook="Open the runs of emotion_training in Airflow. If the DAG is paused, unpause it. If the last run "
        "failed, read the log of the failed task and clear the task. If there is no run, check the heartbeat of "
        "the scheduler and trigger a run. Where no training is scheduled (EMOTION_TRAINING_SCHEDULE is empty), a "
        "scoring run says so in the metric training.every_days, and this alert stays quiet.",
        panel=("training", "Time since last success"),
    )


def _training_age() -> str:
    """Seconds since the last successful training, less what the schedule allows beyond a week; 0 without a schedule."""
    every = path(metrics.TRAINING_EVERY)
    beyond_a_week = f"scale(offset(aggregateLine({every}, 'last'), -7), {DAY})"
    return f"fallbackSeries(currentBelow({every}, 0), {age(metrics.RUN_FINISHED, less=beyond_a_week)})"


def _f1_fell() -> Alert:
    f1 = path(metrics.CHAMPION_SCORE, protocol=PROTOCOL, score=SCORE)
    below_best = f"diffSeriesLists(aggregateLine({f1}, 'max', true), keepLastValue({f1}))"
    return Alert(
        uid="emotion-f1-fell",
        title="Macro F1 of the champion fell by more than 0.05",
        target=alias(below_best, "champion"),
        window=30 * DAY,
        evaluator=("gt", [0.05]),
        severity="critical",
        summary="The macro F1 of the champion on unheard speakers is more than 0.05 below the highest value that a "
        "champion had in the last 30 days.",
        runbook="Compare the report of the last run with the report of the run before: clips used and rejected, "
        "fingerprint of the dataset, features, packages. If the champion fell on correct data, promote an earlier "
        "version with `emotion promote`.",
        panel=("training", "Champion over time"),
    )


def _latency() -> Alert:
    p95 = path(metrics.LATENCY_QUANTILE, stage="total", quantile="p95")
    return Alert(
        uid="emotion-latency",
        title="Latency p95 is over twice its 7-day median",
        target=alias(f"divideSeries(keepLastValue({p95}), aggregateLine({p95}, 'median', true))", "p95"),
        window=7 * DAY,
        evaluator=("gt", [2]),
        summary="In the last batch the 95th percentile of the scoring time per clip is more than twice its median "
        "of the last 7 days.",
        runbook="Find the stage that takes longer. decode: longer clips, another format or slow storage. features "
        "or model: the machine is busy, for example with a training run, or the champion is a slower model since "
        "the last promotion.",
        panel=("scoring", "Latency p50 and p95 by stage"),
    )


def _confidence() -> Alert:
    mean = path(metrics.BATCH_CONFIDENCE, statistic="mean")
    difference = f"absolute(diffSeries(keepLastValue({mean}), aggregateLine({mean}, 'median', true)))"
    return Alert(
        uid="emotion-confidence",
        title="Confidence differs from its 7-day median",
        target=alias(difference, "confidence"),
        window=7 * DAY,
        evaluator=("gt", [0.1]),
        summary="The mean confidence of the last batch differs by more than 0.1 from its median of the last 7 days.",
        runbook="Lower: listen to the least certain clips in the report of the batch, and look at the drift "
        "panels. Higher: look at the mix of predicted emotions; all clips may show the same emotion. Since a "
        "promotion: the new model is calibrated differently.",
        panel=("scoring", "Confidence over time"),
    )


def _drift() -> Alert:
    return Alert(
        uid="emotion-drift",
        title="Drift alarm",
        target=alias(path(metrics.DRIFT_VERDICT), "drift"),
        window=2 * DAY,
        evaluator=("gt", [1.5]),
        summary="The last batch differs strongly from the training set of the model: the drift verdict is alarm.",
        runbook="Find the features that drifted. Level or spectrum: another microphone, codec or gain. Pitch: "
        "other speakers. If this kind of audio will keep coming, label some of it and train on it.",
        panel=("scoring", "Shift of the features"),
    )


def _accuracy_fell() -> Alert:
    return Alert(
        uid="emotion-accuracy-fell",
        title="Accuracy in use fell",
        target=alias(path(metrics.ACCURACY_SHORT), "champion"),
        window=DAY,
        evaluator=("gt", [0]),
        severity="critical",
        summary="By the labels of listeners, the whole 95 % interval of the champion's accuracy lies more than 0.05 "
        "below the accuracy on unheard speakers that its training promised.",
        runbook="Open the report of the last batch: the section 'Accuracy in use' names what listeners heard in place "
        "of what the model answered, and the section on drift says whether the audio differs from that of training. "
        "Label more clips of it, and train on them together with the other datasets.",
        panel=("scoring", "Below the promised accuracy"),
    )


def _importance() -> Alert:
    share = path(metrics.SHAP_GROUP)
    fallen = f"divideSeriesLists(keepLastValue({share}), aggregateLine({share}, 'max', true))"
    risen = f"divideSeriesLists(aggregateLine({share}, 'min', true), keepLastValue({share}))"
    return Alert(
        uid="emotion-importance",
        title="Importance of a group of features changed",
        target=named(metrics.SHAP_GROUP, "model", "group", of=f"aggregateSeriesLists({fallen}, {risen}, 'min')"),
        window=60 * DAY,
        evaluator=("lt", [0.667]),
        summary="A model listens to other things than before: the share of a group of features in what speaks for or "
        "against the emotions is under two thirds of its highest, or over one and a half times its lowest, share of "
        "the last 60 days: {{ .Labels.name }}.",
        runbook="Check whether the data or the features changed with this run. If the dataset grew and the scores "
        "rose, the model learned from the new clips. If nothing changed, check the audio of the new clips, and "
        "compare the section Explanation of the reports of the runs.",
        panel=("explanation", "Importance against its extremes of 60 days"),
    )


def _task_failures() -> Alert:
    return Alert(
        uid="emotion-task-failures",
        title="Task failures",
        target=or_zero(
            named(TASK_FINISHED, "dag", "task", of=path(TASK_FINISHED, state="failed")),
            "none",
            alive=path(SCHEDULER_BEAT),
        ),
        window=3600,
        reducer="sum",
        evaluator=("gt", [0]),
        summary="In the last hour a task failed after its last retry: {{ .Labels.name }}.",
        runbook="Open the run in Airflow and read the log of the task. An error of this project says what was "
        "found, what was expected and what to do. Fix the cause and clear the task; finished stages are not "
        "repeated.",
        panel=("airflow", "Task failures by task"),
    )


def _scheduler() -> Alert:
    return Alert(
        uid="emotion-scheduler",
        title="No scheduler heartbeat",
        target=alias(path(SCHEDULER_BEAT), "scheduler", condense="sum"),
        window=300,
        reducer="sum",
        evaluator=("lt", [1]),
        no_data="Alerting",
        pending="1m",
        severity="critical",
        summary="The scheduler has sent no heartbeat for 5 minutes: it is down and starts no task, or StatsD is down.",
        runbook="`docker compose ps` and `docker compose logs airflow-scheduler`. If the scheduler is down, "
        "restart it. If it is healthy, restart graphite: without StatsD no metric arrives.",
        panel=("airflow", "Heartbeats per minute"),
    )


def _scoring_stopped() -> Alert:
    unscheduled = f"currentBelow({path(metrics.SCORING_EVERY)}, 0)"
    return Alert(
        uid="emotion-scoring-stopped",
        title="Scoring has stopped",
        target=alias(f"fallbackSeries({unscheduled}, {scoring_age(late=True)})", "scoring"),
        window=30 * DAY,
        evaluator=("gt", [HOUR]),
        pending="2m",
        severity="critical",
        summary="For over an hour more than lies between two scheduled runs, no scoring run has looked for new files "
        "and none has ended a shard.",
        runbook="Open the runs of emotion_scoring in Airflow. If the DAG is paused, unpause it. If the last run "
        "failed, read the log of the failed task and clear the task. If a run waits or hangs, look for free slots of "
        "the pool emotion_scoring. If there is no run, check the heartbeat of the scheduler. Where no scoring is "
        "scheduled (EMOTION_SCORING_SCHEDULE is empty), the next run of either DAG says so in the metric "
        "scoring.every_hours, and this alert ends.",
        panel=("scoring", "Time since last sweep"),
    )


def _service_silent() -> Alert:
    return Alert(
        uid="emotion-service-silent",
        title="Service does not answer",
        target=alias(f"fallbackSeries({service_stopped()}, {service_ready()})", "service"),
        window=9 * DAY,  # by the minute: of more days Graphite has a value an hour
        evaluator=("gt", [300]),
        pending="1m",
        severity="critical",
        summary="For 5 minutes no process of `emotion serve` has been ready: it has ended, or has no model.",
        runbook="Ask the service for /health. If it answers, the problem there says why there is no model. If it does "
        "not, look for its process and its log, and start it again. If it is healthy, its metrics do not arrive: see "
        "EMOTION_STATSD. A service that is stopped by SIGTERM or Ctrl-C says so, and this alert stays quiet.",
        panel=("scoring", "Service: last ready"),
    )


def _service_failing() -> Alert:
    return Alert(
        uid="emotion-service-failing",
        title="Requests to the service fail",
        target=alias(failed_share(), "service"),
        window=600,
        evaluator=("gt", [0.05]),
        summary="More than 5 % of the requests to `emotion serve` in the last 10 minutes failed, five or more.",
        runbook="See the reasons on the dashboard Scoring. busy: more is sent than the processors can answer; send "
        "less, or start it on a machine with more processors. no_model: /health says why. timeout, crashed or failed: "
        "the log of the service says what happened.",
        panel=("scoring", "Service: requests failed"),
    )
