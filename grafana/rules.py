"""The alert rules."""

from __future__ import annotations

import json
from dataclasses import dataclass

from grafana_foundation_sdk.builders import alerting as alert
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import alerting as alert_model
from panels import DATASOURCE, DAY, Query
from queries import ROOTS, SCHEDULER_BEAT, TASK_FINISHED, age, condensed, named, or_zero, path

from emotion import metrics
from emotion.evaluation.selection import PROTOCOL, SCORE

FOLDER = "emotion"


@dataclass(frozen=True)
class Alert:
    """Fires where the last value, or the sum, of a series of ``target`` over ``window`` seconds is beyond a threshold.

    ``reducer`` and ``evaluator`` (type, parameters) are Grafana's; ``panel``: dashboard and title. A window does not
    fit into the points that Grafana asks for: ``target`` is condensed, else a new value is averaged with those before.
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


def against_best(expression: str) -> str:
    """How far each series is below the highest it was."""
    return f"diffSeriesLists(aggregateLine({expression}, 'max', true), keepLastValue({expression}))"


def _top_features() -> str:
    """The five features of each model that were ever the highest within the window."""
    model_node = f"{ROOTS['gauge']}.{metrics.PREFIX}.{metrics.SHAP.name}".split(".").index("{model}")
    return f"applyByNode({path(metrics.SHAP)}, {model_node}, \"highest(%.*, 5, 'max')\")"


def alerts() -> list[Alert]:
    f1 = (
        f"group({path(metrics.CHAMPION_SCORE, protocol=PROTOCOL, score=SCORE)}, "
        f"{path(metrics.SCORE, protocol=PROTOCOL, score=SCORE)})"
    )
    p95 = path(metrics.LATENCY_QUANTILE, stage="total", quantile="p95")
    confidence = path(metrics.BATCH_CONFIDENCE, statistic="mean")
    top = _top_features()
    halved = f"divideSeriesLists(keepLastValue({top}), aggregateLine({top}, 'max', true))"
    doubled = f"divideSeriesLists(aggregateLine({top}, 'min', true), keepLastValue({top}))"
    return [
        Alert(
            uid="emotion-no-training",
            title="No successful training in 8 days",
            target=condensed(age(metrics.RUN_FINISHED), "last"),
            window=30 * DAY,
            evaluator=("gt", [8 * DAY]),
            no_data="Alerting",
            pending="1h",
            severity="critical",
            summary="No training run has succeeded for more than 8 days (or none is known at all).",
            runbook="Open the runs of emotion_training in Airflow: is the DAG unpaused, did the last run "
            "fail, and where? Clear the failed task, or trigger a run. No run at all: check the "
            "scheduler's heartbeat.",
            panel=("training", "Last success"),
        ),
        Alert(
            uid="emotion-f1-fell",
            title="F1 fell by more than 0.05",
            target=f"aliasByNode({condensed(against_best(f1), 'last')}, 4, 6)",
            window=30 * DAY,
            evaluator=("gt", [0.05]),
            severity="critical",
            summary="The champion's or a challenger's macro F1 on speakers held out is more than 0.05 "
            "below its best of the last 30 days: {{ .Labels.name }}.",
            runbook="Compare the run's report with that of the run before: did the data change (clips "
            "used, rejected, fingerprint), the features or the packages? A bad champion: `emotion promote` "
            "an earlier version.",
            panel=("training", "Champion over time"),
        ),
        Alert(
            uid="emotion-latency",
            title="Inference p95 over twice its 7-day median",
            target=condensed(f"divideSeries(keepLastValue({p95}), aggregateLine({p95}, 'median', true))", "last"),
            window=7 * DAY,
            evaluator=("gt", [2]),
            summary="Scoring a clip takes more than twice as long as is usual over 7 days (p95 of the last batch).",
            runbook="Which stage grew (decode, features, model)? Decode: longer clips or slow storage. "
            "Features or model: is the machine busy with training, is a bigger model champion since then?",
            panel=("scoring", "Latency p50 and p95 by stage"),
        ),
        Alert(
            uid="emotion-confidence",
            title="Confidence is not as usual",
            target=condensed(
                f"absolute(diffSeries(keepLastValue({confidence}), aggregateLine({confidence}, 'median', true)))",
                "last",
            ),
            window=7 * DAY,
            evaluator=("gt", [0.1]),
            summary="The last batch's mean confidence differs by more than 0.1 from its 7-day median.",
            runbook="Lower: listen to the least certain clips of the batch's report; look at drift. "
            "Higher: look at the mix of emotions, the clips may all be alike. Since a promotion: the new "
            "model is calibrated differently.",
            panel=("scoring", "Confidence over time"),
        ),
        Alert(
            uid="emotion-drift",
            title="Drift alarm",
            target=condensed(path(metrics.DRIFT_VERDICT), "last"),
            window=2 * DAY,
            evaluator=("gt", [1.5]),
            summary="The last batch scored is unlike the data that the champion was trained on.",
            runbook="See which features moved. Level or spectrum: microphone, codec or gain changed. "
            "Pitch: other speakers. If the new kind of audio is here to stay, label some of it and train "
            "on it.",
            panel=("scoring", "Features that moved most"),
        ),
        Alert(
            uid="emotion-importance",
            title="Importance of a top feature halved or doubled",
            target=named(metrics.SHAP, "model", "feature", of=f"aggregateSeriesLists({halved}, {doubled}, 'min')"),
            window=60 * DAY,
            evaluator=("lt", [0.5]),
            summary="The share of SHAP importance of a top feature is less than half of its highest or "
            "more than twice its lowest of 60 days: {{ .Labels.name }}.",
            runbook="Same data, same recipe? If the data grew, look whether scores rose too: then the "
            "model learnt something. If not, suspect the audio of the new clips, and compare the runs' "
            "reports.",
            panel=("explanation", "Importance over runs"),
        ),
        Alert(
            uid="emotion-task-failures",
            title="Task failures",
            target=or_zero(named(TASK_FINISHED, "dag", "task", of=path(TASK_FINISHED, state="failed")), "none"),
            window=3600,
            reducer="sum",
            evaluator=("gt", [0]),
            summary="A task has failed for good within the last hour: {{ .Labels.name }}.",
            runbook="Open the run in Airflow and read the task's log: errors of this project say what was "
            "found, what was expected and what to do. Fix it and clear the task: what is done is not done "
            "again.",
            panel=("airflow", "Task failures by task"),
        ),
        Alert(
            uid="emotion-scheduler",
            title="No scheduler heartbeat",
            target=condensed(path(SCHEDULER_BEAT), "sum"),
            window=300,
            reducer="sum",
            evaluator=("lt", [1]),
            no_data="Alerting",
            pending="1m",
            severity="critical",
            summary="The scheduler has not reported for 5 minutes: nothing is scheduled (or StatsD is down).",
            runbook="`docker compose ps` and `docker compose logs airflow-scheduler`; restart it. If it is "
            "healthy, look at graphite: without StatsD no metric arrives.",
            panel=("airflow", "Heartbeats per minute"),
        ),
    ]


def _expression(ref_id: str, body: dict) -> dict:
    return {"refId": ref_id, "datasource": {"type": "__expr__", "uid": "__expr__"}} | body


@dataclass
class _Model(variants.Dataquery):
    body: dict

    def build(self) -> _Model:
        return self

    def to_json(self) -> dict:
        return self.body


def rule(definition: Alert, panels: dict[tuple[str, str], int]) -> dict:
    """The rule as Grafana's API has it."""
    kind, parameters = definition.evaluator
    where, title = definition.panel
    query = Query(definition.target).to_json()
    reduce = {
        "type": "reduce",
        "expression": "A",
        "reducer": definition.reducer,
        "settings": {"mode": "dropNN"},
    }
    threshold = {
        "type": "threshold",
        "expression": "B",
        "conditions": [{"evaluator": {"type": kind, "params": parameters}}],
    }
    parts = [
        ("A", DATASOURCE, query),
        ("B", "__expr__", _expression("B", reduce)),
        ("C", "__expr__", _expression("C", threshold)),
    ]
    built = (
        alert.Rule(definition.title)
        .uid(definition.uid)
        .condition("C")
        .folder_uid(FOLDER)
        .rule_group("emotion")
        .org_id(1)
        .for_val(definition.pending)
        .no_data_state(definition.no_data)
        .exec_err_state("Error")
        .labels({"severity": definition.severity})
        .annotations(
            {
                "summary": definition.summary,
                "runbook": definition.runbook,
                "__dashboardUid__": f"emotion-{where}",
                "__panelId__": str(panels[where, title]),
            }
        )
    )
    for ref_id, source, body in parts:
        window = alert_model.RelativeTimeRange(from_val=definition.window, to=0)
        built.with_query(alert.Query(ref_id).datasource_uid(source).model(_Model(body)).relative_time_range(window))
    return json.loads(json.dumps(built.build(), cls=JSONEncoder))


def rules_file(dashboards: dict[str, dict]) -> dict:
    """The file that provisions the rules: the API's, in a group that says folder and organization once."""
    panels = {
        (name, panel["title"]): panel["id"]
        for name, found in dashboards.items()
        for panel in found["panels"]
        if "title" in panel
    }
    found = [rule(definition, panels) for definition in alerts()]
    for entry in found:
        for key in ("folderUID", "ruleGroup", "orgID"):
            del entry[key]
        entry["dashboardUid"] = entry["annotations"]["__dashboardUid__"]
        entry["panelId"] = int(entry["annotations"]["__panelId__"])
    group = {"orgId": 1, "name": "emotion", "folder": "Speech emotion", "interval": "1m", "rules": found}
    return {"apiVersion": 1, "groups": [group]}
