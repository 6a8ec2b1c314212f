"""The web pages of the tab *Emotion report*: the report of a run, and a link to Grafana; and two pages to which Grafana
links: the run that was at work at a time, and what to do about alerts.

A report shows the names of files that somebody sent in. It is therefore served with a policy that runs no script,
loads nothing and gives the page no origin: whatever the report contains cannot use the reader's session.

``EMOTION_GRAFANA_URL`` is the address of Grafana as a browser sees it; if it is not set, there is no link.
"""

import os
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import quote, urlencode

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models import DagRun
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import or_, select

from emotion.runs.run import run_folder
from emotion.settings import INCLUDE
from emotion.store import Store
from emotion_airflow.runbook import runbook_html
from emotion_airflow.store_access import say_what_fails, settings

FOLDERS = {"emotion_training": "runs", "emotion_scoring": "scores"}
"""DAG → folder of the artifact store in which its runs write their reports."""
DASHBOARDS = {"emotion_training": "emotion-training", "emotion_scoring": "emotion-scoring"}
"""DAG → uid of its Grafana dashboard."""
MARGIN_MS = 10 * 60 * 1000
"""Grafana shows this much time before and after a run, in milliseconds, so that no point lies on the edge."""
LATEST_MS = 4_102_444_800_000
"""The year 2100: later times of a point are refused."""
NEWEST_RUNS = 50
"""The page of a DAG looks for a report among this many runs."""
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
PAGE_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
TEMPLATES = Environment(loader=FileSystemLoader(INCLUDE), autoescape=True, undefined=StrictUndefined)


def report_key(dag_id: str, run_id: str) -> str:
    """The key of a run's report in the artifact store.

    >>> report_key("emotion_training", "manual__2026-01-02")
    'runs/manual__2026-01-02/report.html'
    """
    return f"{FOLDERS[dag_id]}/{run_folder(run_id)}/report.html"


def grafana_link(grafana: str, run: DagRun, *, airflow: str) -> str:
    """The URL of the DAG's dashboard, for the time of the run; while the run lasts, up to now."""
    start = run.start_date or run.run_after
    query = {
        "from": int(start.timestamp() * 1000) - MARGIN_MS,
        "to": int(run.end_date.timestamp() * 1000) + MARGIN_MS if run.end_date else "now",
        "var-airflow": airflow,
    }
    return f"{grafana.rstrip('/')}/d/{DASHBOARDS[run.dag_id]}?{urlencode(query)}"


def find_run(session: SessionDep, dag_id: str, run_id: str) -> DagRun:
    """The run, from Airflow's database.

    Raises
    ------
    HTTPException
        404 if there is no such run, or if the DAG writes no reports.
    """
    run = None
    if dag_id in FOLDERS:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise HTTPException(404, f"There is no run {run_id!r} of {dag_id!r} with a report")
    return run


def run_at(session: SessionDep, dag_id: str, when: datetime) -> DagRun:
    """The run of a DAG that was at work at the time of a point of a dashboard.

    Graphite rounds the time of a point down to a minute, or to an hour where the point is old, and StatsD sends what it
    got up to ten seconds late. So the first of these counts: the first run that was at work in the minute that begins
    at ``when``; the last one that ended in the minute before; the last one that started in the hour after.

    Raises
    ------
    HTTPException
        404 if there is none.
    """
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    start, end = DagRun.start_date, DagRun.end_date
    of_dag = select(DagRun).where(DagRun.dag_id == dag_id)
    choices = (
        of_dag.where(start < when + minute, or_(end.is_(None), end >= when)).order_by(start),
        of_dag.where(end < when, end >= when - minute).order_by(end.desc()),
        of_dag.where(start >= when, start < when + hour).order_by(start.desc()),
    )
    for choice in choices:
        if run := session.scalar(choice.limit(1)):
            return run
    raise HTTPException(404, f"No run of {dag_id!r} was at work at {when:%Y-%m-%d %H:%M} UTC")


def run_url(request: Request, prefix: str, run: DagRun) -> str:
    """The URL of a run's page here."""
    airflow = str(request.base_url).rstrip("/")
    return f"{airflow}{prefix}/dags/{quote(run.dag_id, safe='')}/runs/{quote(run.run_id, safe='')}"


def runbook_page() -> HTMLResponse:
    """What to do about each alert."""
    nonce = secrets.token_urlsafe(16)
    html = TEMPLATES.get_template("runbook.html.j2").render(content=runbook_html(), nonce=nonce)
    return HTMLResponse(html, headers=HEADERS | {"Content-Security-Policy": PAGE_POLICY.format(nonce=nonce)})


def page(request: Request, prefix: str, dag_id: str, run: DagRun | None, *, has_report: bool) -> HTMLResponse:
    """The page around a report: a header with the links, and the report in a frame."""
    airflow = str(request.base_url).rstrip("/")
    grafana = os.environ.get("EMOTION_GRAFANA_URL")
    nonce = secrets.token_urlsafe(16)
    html = TEMPLATES.get_template("run_page.html.j2").render(
        dag_id=dag_id,
        run=run,
        writes_reports=dag_id in FOLDERS,
        report=f"{run_url(request, prefix, run)}/report" if run and has_report else None,
        grafana=grafana_link(grafana, run, airflow=airflow) if grafana and run else None,
        nonce=nonce,
    )
    return HTMLResponse(html, headers=HEADERS | {"Content-Security-Policy": PAGE_POLICY.format(nonce=nonce)})


def application(prefix: str) -> FastAPI:
    """``/dags/{dag_id}`` and ``/dags/{dag_id}/runs/{run_id}`` are the tabs; ``…/report`` is the report alone. From
    ``/dags/{dag_id}/at/{milliseconds}``, a Unix time, one is led to a run; ``/runbook`` says what to do about alerts.

    Every request asks Airflow's auth manager whether the person may see the runs of the DAG.

    Parameters
    ----------
    prefix : str
        Where Airflow's API server mounts the application, such as ``/emotion``.
    """
    app = FastAPI(
        title="Speech emotion: reports",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))],
    )
    say_what_fails(app)
    store = Store(settings().home)

    def has_report(run: DagRun) -> bool:
        return store.exists(report_key(run.dag_id, run.run_id))

    @app.get("/dags/{dag_id}/runs/{run_id}/report")
    def report(dag_id: str, run_id: str, session: SessionDep) -> Response:
        run = find_run(session, dag_id, run_id)
        if not has_report(run):
            raise HTTPException(404, "This run has no report (yet)")
        headers = HEADERS | {"Content-Security-Policy": REPORT_POLICY}
        return HTMLResponse(store.read_bytes(report_key(dag_id, run.run_id)), headers=headers)

    @app.get("/dags/{dag_id}/runs/{run_id}")
    def run_page(request: Request, dag_id: str, run_id: str, session: SessionDep) -> HTMLResponse:
        run = find_run(session, dag_id, run_id) if dag_id in FOLDERS else None
        return page(request, prefix, dag_id, run, has_report=run is not None and has_report(run))

    @app.get("/dags/{dag_id}/at/{milliseconds}")
    def run_at_time(
        request: Request, dag_id: str, milliseconds: Annotated[int, Path(ge=0, le=LATEST_MS)], session: SessionDep
    ) -> Response:
        run = run_at(session, dag_id, datetime.fromtimestamp(milliseconds / 1000, UTC))
        return RedirectResponse(run_url(request, prefix, run), headers=HEADERS)

    app.get("/runbook")(runbook_page)

    @app.get("/dags/{dag_id}")
    def dag_page(request: Request, dag_id: str, session: SessionDep) -> HTMLResponse:
        newest = select(DagRun).where(DagRun.dag_id == dag_id).order_by(DagRun.run_after.desc()).limit(NEWEST_RUNS)
        runs = session.scalars(newest).all() if dag_id in FOLDERS else []
        with_report = next((run for run in runs if has_report(run)), None)
        shown = with_report or (runs[0] if runs else None)
        return page(request, prefix, dag_id, shown, has_report=with_report is not None)

    return app
