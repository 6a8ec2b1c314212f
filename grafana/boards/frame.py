"""What all dashboards have in common: links, variables, rows of panels, and the panels on the runs of a DAG."""

from __future__ import annotations

import json

from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from panels import STATES, Query, Steps, stat_panel, time_panel
from queries import RUN, aged, alias, named, path, recent, since_last

from emotion import metrics
from emotion.vocabulary import FAMILIES

SCHEMA_VERSION = 27
"""The schema of Grafana 7.5; later versions convert such a dashboard when they load it."""
MODELS = (*FAMILIES, "ensemble")
TRAINING_DAG, SCORING_DAG = "emotion_training", "emotion_scoring"
AIRFLOW_URL = "http://localhost:8080"
OUTCOMES = {1: "succeeded", 2: "failed"}
FAILED_IS_BAD: Steps = [(None, "green"), (2, "red")]


def link(title: str, url: str, *, tooltip: str) -> board.DashboardLink:
    """A link in the header of a dashboard, opened in a new tab."""
    return (
        board.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .icon("external link")
        .tooltip(tooltip)
        .url(url)
        .target_blank(True)
    )


def runs_link(dag: str) -> board.DashboardLink:
    """A link to the runs of a DAG in the time range, in the Airflow UI."""
    url = f"${{airflow}}/dags/{dag}/runs?run_after_gte=${{__from:date:iso}}&run_after_lte=${{__to:date:iso}}"
    return link(f"Airflow: runs of {dag}", url, tooltip="The runs in the time range, in the Airflow UI")


def report_link(dag: str) -> board.DashboardLink:
    """A link from a point to the report of the run that was at work at its time."""
    url = f"${{airflow}}/emotion/dags/{dag}/at/${{__value.time}}"
    return link(f"Report of the run of {dag} at this time", url, tooltip="")


def board_link(name: str, title: str) -> board.DashboardLink:
    """A link to another dashboard, with the same time range and variables."""
    url = f"/d/emotion-{name}?${{__url_time_range}}&${{__all_variables}}"
    return link(title, url, tooltip="").target_blank(False)


def promotions() -> board.AnnotationQuery:
    """Marks at the times at which a challenger became champion."""
    promoted = f"removeBelowValue({path(metrics.PROMOTION, decision='promoted')}, 1)"
    return (
        board.AnnotationQuery()
        .name("Promotions")
        .enable(True)
        .icon_color("purple")
        .target(Query(alias(promoted, "a new champion"), "Anno", {"fromAnnotations": True}))
    )


def choose(name: str, label: str, description: str, query: str) -> board.QueryVariable:
    """A variable whose values are found in Graphite; several can be selected, and all are at first."""
    return (
        board.QueryVariable(name)
        .label(label)
        .description(description)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value("*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def choose_one(name: str, label: str, description: str, values: tuple[str, ...], default: str) -> board.CustomVariable:
    """A variable with fixed values, of which one is selected."""
    return (
        board.CustomVariable(name)
        .label(label)
        .description(description)
        .values(",".join(values))
        .options([model.VariableOption(selected=value == default, text=value, value=value) for value in values])
        .current(model.VariableOption(selected=True, text=default, value=default))
    )


def airflow_address() -> board.TextBoxVariable:
    """The variable with the address of the Airflow UI."""
    default = model.VariableOption(selected=True, text=AIRFLOW_URL, value=AIRFLOW_URL)
    return (
        board.TextBoxVariable("airflow")
        .label("Airflow URL")
        .description("Address of the Airflow UI, which the links on this dashboard open")
        .default_value(AIRFLOW_URL)
        .current(default)
        .options([default])
    )


def dashboard(uid: str, title: str, description: str, *, since: str, refresh: str, variables: list) -> board.Dashboard:
    """A dashboard without panels.

    Parameters
    ----------
    uid : str
        Without the prefix ``emotion-``.
    since : str
        Start of the time range with which it opens, such as ``now-90d``.
    refresh : str
        How often it loads new values, such as ``5m``.
    variables : list
        Shown before the address of Airflow, which every dashboard has.
    """
    built = (
        board.Dashboard(title)
        .uid(f"emotion-{uid}")
        .description(description)
        .tags(["emotion"])
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh(refresh)
        .link(
            board.DashboardLink("Speech emotion")
            .type(model.DashboardLinkType.DASHBOARDS)
            .icon("dashboard")
            .tooltip("The other dashboards, with the same time range and Airflow URL")
            .tags(["emotion"])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in [*variables, airflow_address()]:
        built.with_variable(variable)
    return built


def with_rows(built: board.Dashboard, rows: dict[str, list], *, reports_of: str = "") -> dict:
    """The JSON of a dashboard with these rows: title of a row → its panels. An empty title makes no row.

    ``reports_of``: a DAG to the reports of whose runs the points of every time series lead.
    """
    for title, panels in rows.items():
        if title:
            built.with_row(board.Row(title))
        for panel in panels:
            built.with_panel(panel)
    finished = built.build()
    finished.schema_version = SCHEMA_VERSION
    for index, panel in enumerate(finished.panels, start=1):
        panel.id_val = index
        if reports_of and panel.type_val == "timeseries":
            defaults = panel.field_config.defaults
            defaults.links = [report_link(reports_of).build(), *(defaults.links or ())]
    for each in (*finished.links, *(finished.annotations.list_val or ())):
        each.placement = None  # the SDK's default hides them in a menu
    return json.loads(json.dumps(finished, cls=JSONEncoder))


def last_run(dag: str, *, within: str) -> str:
    """The query of how the last run of a DAG ended: 1 where it succeeded, 2 where it failed."""
    success, failed = (path(RUN, outcome=outcome, dag=dag) for outcome in ("success", "failed"))
    both = f"maxSeries(isNonNull({success}), scale(isNonNull({failed}), 2))"
    return recent(f"removeBelowValue({both}, 1)", "last run", within=within)


def run_state(dag: str, *, within: str, size: tuple[int, int] = (4, 4)) -> stat.Panel:
    """How the last run ended: 1 where a run succeeded, 2 where one failed; grey if it ended longer ago than ``within``.

    The panel looks at nine days, for which Graphite has a value a minute. Of more days it has a value an hour, and two
    runs that ended in the same hour could not be told apart.
    """
    ended = path(RUN, outcome="{success,failed}", dag=dag)
    return stat_panel(
        "Last run",
        f"How the last run of {dag} in the last nine days ended (1: succeeded; 2: failed), and how long ago. Grey if "
        f"no run ended for {within}.",
        last_run(dag, within=within),
        age=aged(since_last(ended), within=within),
        words=OUTCOMES,
        steps=FAILED_IS_BAD,
        since="9d",
        no_data="none for 9 d",
        size=size,
    )


def run_durations(dag: str, *, size: tuple[int, int] = (12, 8)) -> timeseries.Panel:
    """Points, never a line: between two runs there is no duration."""
    return time_panel(
        "Run duration",
        "Time from the start to the end of a run, one point per run. It includes the time that a run waits for the "
        "answer of a person.",
        named(RUN, "dag", "outcome", of=path(RUN, outcome="{success,failed}", dag=dag)),
        unit="ms",
        style="points",
        colours=STATES,
        links=[report_link(each) for each in (TRAINING_DAG, SCORING_DAG)] if "$" in dag else [runs_link(dag)],
        size=size,
    )
