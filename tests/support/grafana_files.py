"""The committed dashboards and alert rules, and what Grafana would make of them with the values of a Graphite."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import yaml

from graphite_stack import Graphite

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "grafana"
NAMES = ("overview", "training", "explanation", "scoring", "airflow")
DASHBOARDS = {name: json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text()) for name in NAMES}
RULES = yaml.safe_load((GRAFANA / "provisioning/alerting/rules.yaml").read_text())["groups"][0]["rules"]
RULE_OF = {rule["uid"].removeprefix("emotion-"): rule for rule in RULES}
POINTS = (50, 100, 500, 43_200)
"""Older versions of Grafana ask for 500 points of a series, later ones for 43,200."""


def panels(name: str) -> list[dict]:
    """The panels of a dashboard that ask Graphite: without rows, and without the list of alerts."""
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] not in ("row", "alertlist")]


# --- Queries ------------------------------------------------------------------------------------------------


def filled(dashboard: dict, text: str, find: Callable[[str], list[str]], *, repeated: str = "") -> list[str]:
    """A query with its variables filled in: first as the dashboard opens, then with each other choice once.

    ``find`` gives the values that the query of a variable finds. ``repeated``: the variable for each value of which
    the panel is repeated, so that it has one value at a time.
    """
    texts = [text]
    for variable in dashboard["templating"]["list"]:
        holder = re.compile(r"\$\{?" + variable["name"] + r"\b\}?")
        if not holder.search(text):
            continue
        if variable["type"] == "query":
            values = find(variable["query"])
            assert values, f"the variable {variable['name']} finds nothing: {variable['query']}"
            choices = values if variable["name"] == repeated else [variable["allValue"], "{" + ",".join(values) + "}"]
        else:
            choices = [variable["current"]["value"], *(option["value"] for option in variable["options"])]
        texts = [holder.sub(choice, each) for each in texts for choice in dict.fromkeys(choices)]
    return texts


def queries(find: Callable[[str], list[str]]) -> list[tuple[str, str, str]]:
    """(place, query, since) of every panel, annotation and alert rule, with variables filled in."""
    asked = []
    for name, dashboard in DASHBOARDS.items():
        since = dashboard["time"]["from"].removeprefix("now")
        for panel in panels(name):
            for target in panel["targets"]:
                for text in filled(dashboard, target["target"], find, repeated=panel.get("repeat", "")):
                    asked.append((f"{name}: {panel['title']}", text, since))
        for annotation in dashboard["annotations"].get("list", ()):
            asked.append((f"{name}: {annotation['name']}", annotation["target"]["target"], since))
    for rule in RULES:
        query = rule["data"][0]
        asked.append((rule["title"], query["model"]["target"], f"-{query['relativeTimeRange']['from']}s"))
    return asked


def has_values(series: list[dict]) -> bool:
    """Whether an answer of Graphite has any value."""
    return any(value is not None for each in series for value, _ in each["datapoints"])


def unanswered(graphite: Graphite) -> list[str]:
    """The queries of all panels, annotations and alerts to which Graphite answers no value at all."""
    return [
        f"{place}: {target}"
        for place, target, since in queries(graphite.find)
        if not has_values(graphite.render(target, since=since))
    ]


# --- Colours ------------------------------------------------------------------------------------------------

GREY = "#6e7178"


def colour(panel: dict, series: str, value: float | None) -> str:
    """The colour of a value: the fixed one of the series, else that of the thresholds, whose first is for no value.

    ``palette`` where Grafana takes any colour of its palette.
    """
    for override in panel["fieldConfig"]["overrides"]:
        pattern = override["matcher"]["options"]
        assert override["matcher"]["id"] == "byRegexp" and pattern[0] == pattern[-1] == "/"
        if series and re.search(pattern[1:-1], series):
            return override["properties"][0]["value"]["fixedColor"]
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["color"]["mode"] != "thresholds":
        return "palette"
    first, *higher = defaults["thresholds"]["steps"]
    return [first, *(step for step in higher if value is not None and value >= step["value"])][-1]["color"]


Tile = tuple[float | None, str, str]
"""Value, name and colour that a stat panel shows of a series."""


def tiles(graphite: Graphite, dashboard: dict, panel: dict, *, points: int = 500) -> list[Tile]:
    """What a stat panel shows: its value, or values, and its age."""
    since = panel.get("timeFrom", dashboard["time"]["from"].removeprefix("now-"))
    seconds = int(since[:-1]) * {"m": 60, "h": 3600, "d": 86_400}[since[-1]]
    texts = [filled(dashboard, target["target"], lambda query: ["*"])[0] for target in panel["targets"]]
    answers = [graphite.render(text, since=f"-{seconds}s", points=points) for text in texts]
    series = [each for answer in answers for each in answer if has_values([each])]
    if not series:
        return [(None, panel["fieldConfig"]["defaults"]["noValue"], colour(panel, "", None))]
    shown = []
    for each in series:
        values = [value for value, _ in each["datapoints"] if value is not None]
        [calculation] = panel["options"]["reduceOptions"]["calcs"]
        value = {"lastNotNull": values[-1], "sum": sum(values), "mean": sum(values) / len(values)}[calculation]
        shown.append((value, each["target"], colour(panel, each["target"], value)))
    return shown


def tile(graphite: Graphite, dashboard: dict, panel: dict, *, points: int = 500) -> Tile:
    """The first value of a stat panel."""
    return tiles(graphite, dashboard, panel, points=points)[0]


# --- Alerts -------------------------------------------------------------------------------------------------

REDUCERS = {"last": lambda values: values[-1], "sum": sum}
EVALUATORS = {"gt": lambda value, limit: value > limit, "lt": lambda value, limit: value < limit}


def state(graphite: Graphite, rule: dict) -> str:
    """``firing`` or ``quiet``: what follows from the query, reduction, threshold and no-data state of a rule.

    Raises
    ------
    AssertionError
        If the state depends on the number of points, or if two series have the same tags or name: Grafana would refuse
        them as duplicates.
    """
    states = {points: _state(graphite, rule, points) for points in POINTS}
    assert len(set(states.values())) == 1, states
    return states[500]


def identities(graphite: Graphite, rule: dict, at: float) -> set[str]:
    """What Grafana tells the instances of an alert apart by, at the Unix time ``at``: their labels.

    The labels are the tags of a series; the tag ``name`` is the name of the series, which an alias replaces.
    """
    query = rule["data"][0]
    since = str(int(at) - query["relativeTimeRange"]["from"])
    series = graphite.render(query["model"]["target"], since=since, until=str(int(at)), points=POINTS[-1])
    return {json.dumps(each["tags"] | {"name": each["target"]}, sort_keys=True) for each in series}


def _state(graphite: Graphite, rule: dict, points: int) -> str:
    query, reduction, threshold = (part["model"] for part in rule["data"])
    since = f"-{rule['data'][0]['relativeTimeRange']['from']}s"
    series = graphite.render(query["target"], since=since, points=points)
    for names in (
        [json.dumps(each["tags"], sort_keys=True) for each in series],
        [each["target"] for each in series],
    ):
        assert len(set(names)) == len(names), f"series that Grafana cannot tell apart: {names}"
    assert reduction["expression"] == "A" and reduction["settings"] == {"mode": "dropNN"}
    assert threshold["expression"] == "B" and rule["condition"] == "C"
    values = [[value for value, _ in each["datapoints"] if value is not None] for each in series]
    reduced = [REDUCERS[reduction["reducer"]](each) for each in values if each]
    if not reduced:
        return {"Alerting": "firing", "OK": "quiet"}[rule["noDataState"]]
    evaluator = threshold["conditions"][0]["evaluator"]
    fires = [EVALUATORS[evaluator["type"]](value, *evaluator["params"]) for value in reduced]
    return "firing" if any(fires) else "quiet"


def panel_of_rule(rule: dict) -> tuple[dict, dict]:
    """The dashboard and the panel that a rule points to."""
    dashboard = DASHBOARDS[rule["dashboardUid"].removeprefix("emotion-")]
    [panel] = [panel for panel in dashboard["panels"] if panel["id"] == rule["panelId"]]
    return dashboard, panel


def is_beyond_limit(graphite: Graphite, rule: dict) -> bool:
    """Whether the panel of an alert shows that its limit is passed: a red tile, or a line beyond one of its limits."""
    dashboard, panel = panel_of_rule(rule)
    if panel["type"] == "stat":
        return tile(graphite, dashboard, panel)[2] == "red"
    since = dashboard["time"]["from"].removeprefix("now")
    last = {}
    for target in panel["targets"]:
        for series in graphite.render(
            filled(dashboard, target["target"], graphite.find)[0], since=since, points=43_200
        ):
            values = [value for value, _ in series["datapoints"] if value is not None]
            last |= {series["target"]: values[-1]} if values else {}
    limits = [re.fullmatch("alert: (.+) (above|below)", name) for name in last]
    for limit in filter(None, limits):
        value = last[limit[1]]
        if value > last[limit[0]] if limit[2] == "above" else value < last[limit[0]]:
            return True
    lines = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]
    return any(value < line["value"] for value in last.values() for line in lines)
