"""The alerts as Grafana's alert rules, and the file that provisions them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from alerts import Alert, alerts
from grafana_foundation_sdk.builders import alerting as alert
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import alerting as alert_model
from panels import DATASOURCE, Query

FOLDER = "emotion"
RUNBOOK = "${EMOTION_AIRFLOW_URL}/emotion/runbook#"
"""Grafana replaces the variable by its environment's value when it provisions the rules."""


@dataclass
class _Model(variants.Dataquery):
    body: dict

    def build(self) -> _Model:
        return self

    def to_json(self) -> dict:
        return self.body


def _expression(ref_id: str, body: dict) -> dict:
    return {"refId": ref_id, "datasource": {"type": "__expr__", "uid": "__expr__"}} | body


def _steps(definition: Alert) -> list[tuple[str, str, dict]]:
    """(name, data source, model) of the query A, the reduction B of A, and the threshold C on B."""
    kind, parameters = definition.evaluator
    reduction = {
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
    return [
        ("A", DATASOURCE, Query(definition.target).to_json()),
        ("B", "__expr__", _expression("B", reduction)),
        ("C", "__expr__", _expression("C", threshold)),
    ]


def rule(definition: Alert, panel_ids: dict[tuple[str, str], int]) -> dict:
    """The rule in the form of Grafana's API.

    Parameters
    ----------
    definition : Alert
    panel_ids : dict
        (dashboard, title of a panel) → id of the panel.
    """
    dashboard, title = definition.panel
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
        .labels({"severity": definition.severity, "project": FOLDER})
        .annotations(
            {
                "summary": definition.summary,
                "runbook": definition.runbook,
                "runbook_url": RUNBOOK + re.sub("[^a-z0-9 -]", "", definition.title.lower()).replace(" ", "-"),
                "__dashboardUid__": f"emotion-{dashboard}",
                "__panelId__": str(panel_ids[dashboard, title]),
            }
        )
    )
    for ref_id, source, body in _steps(definition):
        window = alert_model.RelativeTimeRange(from_val=definition.window, to=0)
        built.with_query(alert.Query(ref_id).datasource_uid(source).model(_Model(body)).relative_time_range(window))
    return json.loads(json.dumps(built.build(), cls=JSONEncoder))


def rules_file(dashboards: dict[str, dict]) -> dict:
    """The content of the file that provisions the rules.

    It differs from the API's form: the group names folder and organization once, and a rule has the keys of its panel.
    """
    panel_ids = {
        (name, panel["title"]): panel["id"]
        for name, dashboard in dashboards.items()
        for panel in dashboard["panels"]
        if "title" in panel
    }
    rules = [rule(definition, panel_ids) for definition in alerts()]
    for entry in rules:
        for key in ("folderUID", "ruleGroup", "orgID"):
            del entry[key]
        entry["dashboardUid"] = entry["annotations"]["__dashboardUid__"]
        entry["panelId"] = int(entry["annotations"]["__panelId__"])
    group = {"orgId": 1, "name": "emotion", "folder": "Speech emotion", "interval": "1m", "rules": rules}
    return {"apiVersion": 1, "groups": [group]}
