"""Dashboards and alerts: their form by Grafana's published schemas, their queries on a real Graphite."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import shutil
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

import graphite_stack
from emotion import metrics
from emotion.vocabulary import EMOTIONS, FAMILIES, PROTOCOLS
from graphite_stack import Graphite, wait_for

ROOT = Path(__file__).resolve().parents[3]
GRAFANA = ROOT / "grafana"
SCHEMAS = ROOT / "tests" / "support" / "schemas"  # of the Grafana Foundation SDK, Apache-2.0
NAMES = ("training", "explanation", "scoring", "airflow")
DASHBOARDS = {name: json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text()) for name in NAMES}
RULES = yaml.safe_load((GRAFANA / "provisioning/alerting/rules.yaml").read_text())["groups"][0]["rules"]
RULE_OF = {rule["uid"].removeprefix("emotion-"): rule for rule in RULES}
HOUR, DAY = 3600, 86_400


@pytest.fixture(scope="module")
def generator():
    """``grafana/generate.py`` and the modules beside it, which are scripts in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(GRAFANA))
        yield importlib.import_module("generate")


def panels(name: str) -> list[dict]:
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


# --- What is committed --------------------------------------------------------------------------------------


def test_the_committed_files_are_what_the_table_gives(generator):
    for name, content in generator.generate().items():
        assert (GRAFANA / name).read_text() == content, f"{name}: run python grafana/generate.py"


@pytest.mark.parametrize("name", NAMES)
def test_dashboard_is_valid_by_grafanas_schema(name):
    schema = json.loads((SCHEMAS / "dashboard.jsonschema.json").read_text())
    jsonschema.validate(DASHBOARDS[name], schema)
    broken = json.loads(json.dumps(DASHBOARDS[name]))
    broken["panels"][1]["gridPos"]["width"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


@pytest.mark.parametrize("rule", RULES, ids=RULE_OF)
def test_alert_rule_is_valid_by_grafanas_schema(rule):
    definitions = json.loads((SCHEMAS / "alerting.jsonschema.json").read_text())["definitions"]
    schema = {"$ref": "#/definitions/Rule", "definitions": definitions}
    in_the_api = rule | {"folderUID": "emotion", "ruleGroup": "emotion", "orgID": 1}
    del in_the_api["dashboardUid"], in_the_api["panelId"]  # the file's; the API has them as annotations
    jsonschema.validate(in_the_api, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(in_the_api | {"noDataState": "Quiet"}, schema)


def test_contact_point_is_valid_by_grafanas_schema_and_the_policy_names_it():
    definitions = json.loads((SCHEMAS / "alerting.jsonschema.json").read_text())["definitions"]
    schema = {"$ref": "#/definitions/ContactPoint", "definitions": definitions}
    points = yaml.safe_load((GRAFANA / "provisioning/alerting/contact-points.yaml").read_text())["contactPoints"]
    for receiver in points[0]["receivers"]:
        jsonschema.validate(receiver, schema)
    policy = yaml.safe_load((GRAFANA / "provisioning/alerting/policies.yaml").read_text())["policies"][0]
    assert policy["receiver"] in {point["name"] for point in points}


def test_every_reference_is_to_the_provisioned_data_source():
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/graphite.yaml").read_text())["datasources"][0]
    assert source["isDefault"]  # variables and panels name none: Grafana 7.5 does not know references by uid there
    expected = {"type": source["type"], "uid": source["uid"]}
    targets = [target for name in NAMES for panel in panels(name) for target in panel["targets"]]
    targets += [rule["data"][0]["model"] for rule in RULES]
    assert targets and all(target["datasource"] == expected for target in targets)
    assert all(rule["data"][0]["datasourceUid"] == source["uid"] for rule in RULES)


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows(name):
    for panel in panels(name):
        assert panel["title"] and len(panel["description"]) > 8, panel["title"]
        assert panel["targets"], panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] and defaults["thresholds"]["steps"][0]["value"] is None, panel["title"]
    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_no_panel_lies_over_another(name):
    taken = set()
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", NAMES)
def test_grafana_7_5_has_everything_a_dashboard_uses(name):
    assert DASHBOARDS[name]["schemaVersion"] == 27
    for panel in panels(name):
        assert panel["type"] in {"stat", "bargauge", "timeseries", "table"}
        assert "datasource" not in panel
        assert {each["id"] for each in panel.get("transformations", ())} <= {"reduce", "organize"}
        for query in panel["targets"]:
            assert set(query) == {"refId", "datasource", "target"}


def test_dashboards_link_to_each_other_and_to_airflow():
    for name, found in DASHBOARDS.items():
        assert found["uid"] == f"emotion-{name}" and "emotion" in found["tags"]
        to_dashboards, to_airflow = found["links"]
        assert to_dashboards["tags"] == ["emotion"] and to_dashboards["includeVars"]
        assert to_airflow["url"].startswith("${airflow}")
    assert "airflow" in {variable["name"] for variable in DASHBOARDS["training"]["templating"]["list"]}


@pytest.mark.parametrize("rule", RULES, ids=RULE_OF)
def test_an_alert_says_what_to_do_and_where_to_look(rule):
    notes = rule["annotations"]
    assert len(notes["summary"]) > 20 and len(notes["runbook"]) > 40
    assert rule["uid"] in (ROOT / "docs/monitoring.md").read_text()
    dashboard = DASHBOARDS[notes["__dashboardUid__"].removeprefix("emotion-")]
    assert int(notes["__panelId__"]) in {panel["id"] for panel in dashboard["panels"] if panel["type"] != "row"}
    assert (rule["dashboardUid"], str(rule["panelId"])) == (notes["__dashboardUid__"], notes["__panelId__"])
    assert "$" not in yaml.safe_dump(rule), "Grafana would take it for an environment variable"


def test_every_metric_of_the_table_is_drawn():
    drawn = "\n".join(target["target"] for name in NAMES for panel in panels(name) for target in panel["targets"])
    for metric in metrics.TABLE:
        if metric in (metrics.DRIFT_SHARE, metrics.DOCTOR):
            continue  # drift's signals are looked for below; the probe only shows that StatsD can be reached
        pattern = re.sub(r"\\\{[^}]*\\\}", r"[^. ]+", re.escape(f"{metrics.PREFIX}.{metric.name}"))
        assert re.search(pattern + r"[\s,.)]", drawn), metric.name
    assert "drift.{features,emotions,confidence}" in drawn


def test_airflow_sends_every_name_that_is_drawn(generator):
    """Against the names read off the wire of a real Airflow 3.3.2."""
    kinds = {"g": "gauge", "c": "counter", "ms": "timer"}
    lines = (ROOT / "tests" / "support" / "airflow_metrics.txt").read_text().splitlines()
    seen = [line.split() for line in lines if not line.startswith("#")]
    for metric in importlib.import_module("queries").AIRFLOW:
        pattern = re.compile(re.sub(r"\\\{[^}]*\\\}", r"[^.]+", re.escape(metric.name)))
        found = {kinds[kind] for name, kind in seen if pattern.fullmatch(name)}
        assert found == {metric.kind}, metric.name


# --- Against a real Graphite --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running_graphite(tmp_path_factory):
    graphite_stack.require()
    with graphite_stack.running(tmp_path_factory.mktemp("graphite")) as found:
        yield found


@pytest.fixture
def graphite(running_graphite):
    """A Graphite without metrics; nothing is ever sent to its StatsD, which would go on repeating it."""
    for root in ("stats", "stats_counts"):
        shutil.rmtree(running_graphite.whisper / root, ignore_errors=True)
    return running_graphite


@pytest.fixture(scope="module")
def fed_graphite(running_graphite, tmp_path_factory):
    """A Graphite whose StatsD was sent every metric of the table, and Airflow's."""
    with graphite_stack.running(tmp_path_factory.mktemp("fed")) as found:
        for _ in range(3):  # UDP: a busy machine drops some
            emit_everything(found.statsd)
            emit_airflow(found.statsd)
            with contextlib.suppress(AssertionError):
                wait_for(lambda: not lost(found), 3 * graphite_stack.FLUSH_SECONDS, "StatsD to flush")
                break
        yield found


VALUES = {
    "model": (*FAMILIES, "ensemble"),
    "protocol": PROTOCOLS,
    "emotion": EMOTIONS,
    "score": ("accuracy", "precision_macro", "recall_macro", "f1_macro", "uar", "log_loss", "ece"),
    "kind": ("total", "stored", "missing", "rejected", "duplicates", "used"),
    "batch": ("single", "batch"),
    "feature": tuple(f"mfcc_{number:02d}_mean" for number in range(12)),
    "decision": ("promoted", "kept"),
    "reason": ("too_short", "silent"),
    "quantile": ("p50", "p95"),
    "signal": ("features", "shift", "emotions", "confidence"),
    "resource": ("peak_memory_bytes", "cpu_seconds"),
    "stage": ("download", "train_random_forest", "decode", "model", "total"),
    "statistic": ("mean", "std", "min", "max", "p10", "p50", "p90"),
}
OUTCOMES = {metrics.FEATURIZED: ("featurized", "rejected"), metrics.SCORED: ("scored", "rejected")}


def labellings(metric: metrics.Metric) -> list[dict[str, str]]:
    """Every combination of the labels of a metric, as the workflow sends them."""
    found = [{}]
    for label in metric.labels:
        values = OUTCOMES[metric] if label == "outcome" else VALUES[label]
        found = [{**one, label: value} for one in found for value in values]
    return found


def emit_everything(address: tuple[str, int]) -> None:
    """Send every metric of the table through the project's own emitter."""
    emitter = metrics.statsd_emitter(address)
    sent = 0
    for metric in metrics.TABLE:
        for number, labels in enumerate(labellings(metric)):
            if metric.kind == "counter":
                emitter.count(metric, 3 + number, **labels)
            elif metric.kind == "timer":
                emitter.timing(metric, 0.8 + 0.1 * number, **labels)
            else:
                seconds = metric in (metrics.RUN_FINISHED, metrics.CHAMPION_SINCE)
                emitter.gauge(metric, time.time() - 600 if seconds else 0.9 / (1 + number), **labels)
            sent += 1
            if sent % 50 == 0:
                time.sleep(0.01)  # UDP on loopback drops what the receiver has no room for


def lost(graphite: Graphite) -> list[str]:
    """The labellings of metrics of the table that have no series."""
    missing = []
    for metric in metrics.TABLE:
        root = {"gauge": "stats/gauges", "timer": "stats/timers", "counter": "stats_counts"}[metric.kind]
        for labels in labellings(metric):
            path = f"{root}/{metrics.PREFIX}/" + metric.path(**labels).replace(".", "/")
            path += "/mean.wsp" if metric.kind == "timer" else ".wsp"
            if not (graphite.whisper / path).exists():
                missing.append(path)
    return missing


def emit_airflow(address: tuple[str, int]) -> None:
    """What Airflow sent, as it was read off its wire, for the project's DAGs."""
    from statsd import StatsClient

    client = StatsClient(*address, prefix=metrics.PREFIX)
    for line in (ROOT / "tests" / "support" / "airflow_metrics.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, kind = line.split()
        for dag in ("emotion_training", "emotion_scoring"):
            send = {"g": client.gauge, "c": client.incr, "ms": client.timing}[kind]
            send(re.sub(r"toy_\w+", dag, name), 2)


def filled(dashboard: dict, text: str, find) -> list[str]:
    """A query with its variables filled in: at first as the dashboard opens, then each choice once.

    ``find``: from a variable's query to the values there are.
    """
    texts = [text]
    for variable in dashboard["templating"]["list"]:
        holder = re.compile(r"\$\{?" + variable["name"] + r"\b\}?")
        if not holder.search(text):
            continue
        if variable["type"] == "query":
            values = find(variable["query"])
            assert values, f"the variable {variable['name']} finds nothing: {variable['query']}"
            choices = [variable["allValue"], "{" + ",".join(values) + "}"]
        else:
            choices = [variable["current"]["value"], *(each["value"] for each in variable["options"])]
        texts = [holder.sub(choice, one) for one in texts for choice in dict.fromkeys(choices)]
    return texts


def queries(find) -> list[tuple[str, str, str]]:
    """(where, query, since) of every panel, annotation and alert rule, with variables filled in."""
    found = []
    for name, dashboard in DASHBOARDS.items():
        since = dashboard["time"]["from"].removeprefix("now")
        for panel in panels(name):
            for target in panel["targets"]:
                for text in filled(dashboard, target["target"], find):
                    found.append((f"{name}: {panel['title']}", text, since))
        for annotation in dashboard["annotations"].get("list", ()):
            found.append((f"{name}: {annotation['name']}", annotation["target"]["target"], since))
    for rule in RULES:
        query = rule["data"][0]
        found.append((rule["title"], query["model"]["target"], f"-{query['relativeTimeRange']['from']}s"))
    return found


def unanswered(graphite: Graphite) -> list[str]:
    """The queries, of every panel, annotation and alert, to which Graphite answers no value at all."""
    empty = []
    for where, target, since in queries(graphite.find):
        series = graphite.render(target, since=since)
        if not any(value is not None for one in series for value, _ in one["datapoints"]):
            empty.append(f"{where}: {target}")
    return empty


def assert_every_query_answers(graphite: Graphite) -> None:
    """The list of queries that return nothing is empty."""
    assert unanswered(graphite) == []


@pytest.mark.graphite
def test_every_query_of_every_panel_and_alert_answers(fed_graphite):
    assert_every_query_answers(fed_graphite)


@pytest.mark.graphite
def test_no_panel_has_two_series_of_one_name(fed_graphite):
    """They could not be told apart: a label is missing from the query or from the name."""
    for name, dashboard in DASHBOARDS.items():
        since = dashboard["time"]["from"].removeprefix("now")
        for panel in panels(name):
            drawn = []
            for target in panel["targets"]:
                text = filled(dashboard, target["target"], fed_graphite.find)[0]
                drawn += [series["target"] for series in fed_graphite.render(text, since=since)]
            assert len(set(drawn)) == len(drawn), f"{name}: {panel['title']}: {drawn}"


@pytest.mark.graphite
def test_no_metric_is_lost_on_its_way(fed_graphite):
    assert lost(fed_graphite) == []


@pytest.mark.graphite
def test_without_metrics_only_the_queries_that_then_say_zero_answer(graphite):
    """What the test above rests on: a query that finds nothing is found out."""
    asked = queries(lambda query: ["nothing"])
    answered = {
        target
        for _, target, since in asked
        if any(value is not None for one in graphite.render(target, since=since) for value, _ in one["datapoints"])
    }
    assert answered == {target for _, target, _ in asked if "constantLine(0)" in target}


@pytest.mark.graphite
def test_a_weekly_run_can_be_seen_for_two_years(graphite):
    """Through every roll-up: gauges, and the timers and counters whose points are otherwise averaged away."""
    now = time.time()
    score = "stats.gauges.airflow.emotion.training.score.random_forest.random.f1_macro"
    stage = "stats.timers.airflow.emotion.training.stage.download.duration.sum"
    promoted = "stats_counts.airflow.emotion.training.promotion.promoted"
    weeks = range(1, 104)
    points = [(path, 1 + week, now - week * 7 * DAY) for path in (score, stage, promoted) for week in weeks]
    graphite.feed(points)
    for path in (score, stage, promoted):
        [series] = graphite.render(path, since="-729d", points=100_000)
        values = sorted(value for value, _ in series["datapoints"] if value is not None)
        assert values == [1 + week for week in weeks], path


@pytest.mark.graphite
def test_the_age_of_the_last_success_is_right(graphite):
    now = time.time()
    graphite.feed([(FINISHED, now - 600, now - 600)])
    [panel] = [panel for panel in panels("training") if panel["title"] == "Last success"]
    [series] = graphite.render(panel["targets"][0]["target"], since="-90d")
    values = [value for value, _ in series["datapoints"] if value is not None]
    assert values and 300 <= values[-1] <= 900 and max(values) < HOUR


# --- Alerts -------------------------------------------------------------------------------------------------

REDUCERS = {"last": lambda values: values[-1], "sum": sum}
EVALUATORS = {"gt": lambda value, limit: value > limit, "lt": lambda value, limit: value < limit}


def state(graphite: Graphite, rule: dict) -> str:
    """``firing`` or ``quiet``: what Grafana makes of a rule's query, reduction, threshold and no-data state.

    Older Grafanas ask for 500 points, later ones for 43,200: it must come to the same for any number.

    Raises
    ------
    AssertionError
        If two series have the same tags or name: Grafana would refuse them as duplicates.
    """
    found = {points: _state(graphite, rule, points) for points in (50, 100, 500, 43_200)}
    assert len(set(found.values())) == 1, found
    return found[500]


def _state(graphite: Graphite, rule: dict, points: int) -> str:
    query, reduction, threshold = (part["model"] for part in rule["data"])
    since = f"-{rule['data'][0]['relativeTimeRange']['from']}s"
    series = graphite.render(query["target"], since=since, points=points)
    for names in (
        [json.dumps(one["tags"], sort_keys=True) for one in series],
        [one["target"] for one in series],
    ):
        assert len(set(names)) == len(names), f"series that Grafana cannot tell apart: {names}"
    assert reduction["expression"] == "A" and reduction["settings"] == {"mode": "dropNN"}
    assert threshold["expression"] == "B" and rule["condition"] == "C"
    values = [[value for value, _ in one["datapoints"] if value is not None] for one in series]
    reduced = [REDUCERS[reduction["reducer"]](each) for each in values if each]
    if not reduced:
        return {"Alerting": "firing", "OK": "quiet"}[rule["noDataState"]]
    evaluator = threshold["conditions"][0]["evaluator"]
    fires = [EVALUATORS[evaluator["type"]](value, *evaluator["params"]) for value in reduced]
    return "firing" if any(fires) else "quiet"


GAUGE, COUNT = "stats.gauges.airflow.emotion.", "stats_counts.airflow."
FINISHED = GAUGE + "training.finished"
CHAMPION = GAUGE + "champion.score.speaker_independent.f1_macro"
CHALLENGER = GAUGE + "training.score.random_forest.speaker_independent.f1_macro"
P95 = GAUGE + "scoring.latency_quantile.total.p95"
CONFIDENCE = GAUGE + "scoring.batch_confidence.mean"
VERDICT = GAUGE + "scoring.drift.verdict"
SHAP = GAUGE + "training.shap.random_forest."
FAILED = COUNT + "ti.finish.emotion_training.featurize.failed"
BEAT = COUNT + "scheduler_heartbeat"


def weekly(path: str, *values: float) -> list[tuple[str, float, float]]:
    """(path, value, days ago), a week apart, the last one an hour ago."""
    return [(path, value, 7 * (len(values) - 1 - week) + 1 / 24) for week, value in enumerate(values)]


def batches(path: str, usual: float, last: float) -> list[tuple[str, float, float]]:
    """A batch every two hours for a week, and the last one."""
    return [(path, usual, 2 * hours / 24) for hours in range(83, 0, -1)] + [(path, last, 0.01)]


def finished(days_ago: float) -> list[tuple[str, object, float]]:
    return [(FINISHED, lambda now: now - days_ago * DAY, days_ago)]


CASES = {
    "no-training": {
        "firing": {"8.3 days ago": finished(8.3), "20 days ago": finished(20), "never": []},
        "quiet": {"7.7 days ago": finished(7.7), "just now": finished(0.001)},
    },
    "f1-fell": {
        "firing": {
            "champion": weekly(CHAMPION, 0.71, 0.72, 0.66),
            "challenger": weekly(CHALLENGER, 0.71, 0.65) + weekly(CHAMPION, 0.71, 0.71),
            "little by little": weekly(CHAMPION, 0.72, 0.70, 0.68, 0.665),
        },
        "quiet": {
            "by 0.04": weekly(CHAMPION, 0.71, 0.67),
            "rose": weekly(CHALLENGER, 0.6, 0.7) + weekly(CHAMPION, 0.6, 0.7),
            "recovered": weekly(CHAMPION, 0.71, 0.6, 0.70),
            "first run": weekly(CHAMPION, 0.4),
            "no run": [],
        },
    },
    "latency": {
        "firing": {"2.2 times": batches(P95, 100, 220)},
        "quiet": {
            "1.8 times": batches(P95, 100, 180),
            "faster": batches(P95, 100, 20),
            "first batch": [(P95, 900, 0.01)],
        },
    },
    "confidence": {
        "firing": {"lower": batches(CONFIDENCE, 0.7, 0.58), "higher": batches(CONFIDENCE, 0.7, 0.83)},
        "quiet": {"as usual": batches(CONFIDENCE, 0.7, 0.63), "first batch": [(CONFIDENCE, 0.2, 0.01)]},
    },
    "drift": {
        "firing": {"alarm": [(VERDICT, 0, 0.5), (VERDICT, 2, 0.01)]},
        "quiet": {
            "ok": [(VERDICT, 0, 0.01)],
            "watch": [(VERDICT, 1, 0.01)],
            "over": [(VERDICT, 2, 0.5), (VERDICT, 0, 0.01)],
            "nothing scored": [],
        },
    },
    "importance": {
        "firing": {
            "halved": weekly(SHAP + "f0_mean", 0.05, 0.05, 0.02) + weekly(SHAP + "rms_mean", 0.04, 0.04, 0.04),
            "doubled": weekly(SHAP + "f0_mean", 0.02, 0.02, 0.05),
        },
        "quiet": {
            "a little": weekly(SHAP + "f0_mean", 0.05, 0.05, 0.03),
            "not a top feature": [
                *weekly(SHAP + "minor", 0.01, 0.01, 0.002),
                *(point for name in "abcde" for point in weekly(SHAP + name, 0.05, 0.05, 0.05)),
            ],
            "first run": weekly(SHAP + "f0_mean", 0.05),
            "no run": [],
        },
    },
    "task-failures": {
        "firing": {"one": [(FAILED, 1, 0.02)]},
        "quiet": {"yesterday": [(FAILED, 1, 0.9)], "none": [(FAILED, 0, 0.02)], "never": []},
    },
    "scheduler": {
        "firing": {"10 minutes ago": [(BEAT, 2, 10 / 1440)], "zeros": [(BEAT, 0, 1 / 1440)], "no metric": []},
        "quiet": {"just now": [(BEAT, 2, 0.5 / 1440)]},
    },
}


def test_every_alert_has_its_cases():
    assert set(CASES) == set(RULE_OF)


@pytest.mark.graphite
@pytest.mark.parametrize(
    ("uid", "expected", "case"),
    [(uid, expected, case) for uid in CASES for expected in CASES[uid] for case in CASES[uid][expected]],
)
def test_alert(graphite, uid, expected, case):
    now = time.time()
    points = [
        (path, value(now) if callable(value) else value, now - days * DAY)
        for path, value, days in CASES[uid][expected][case]
    ]
    if points:
        graphite.feed(sorted(points, key=lambda point: point[2]))
    assert state(graphite, RULE_OF[uid]) == expected


def test_metrics_cost_a_task_almost_nothing():
    """Tasks send up to some hundred values and take seconds to minutes: a thousandth of that, at most."""
    emitter = metrics.statsd_emitter(("127.0.0.1", 9))
    start = time.process_time()  # other processes at work do not count
    for _ in range(20):
        for score in VALUES["score"]:
            emitter.gauge(metrics.SCORE, 0.5, model="random_forest", protocol="random", score=score)
    each = (time.process_time() - start) / (20 * len(VALUES["score"]))
    assert each < 0.000_2
