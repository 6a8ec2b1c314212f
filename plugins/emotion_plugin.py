"""A tab on the pages of the two DAGs and of their runs: the report, and the way to Grafana.

The only file below ``plugins/`` that Airflow loads by itself. ``EMOTION_GRAFANA_URL`` is Grafana's address
as a browser sees it; without it there is no link.

A report shows names of files that somebody sent in. It is therefore served with a policy that runs no
script, loads nothing and has no origin: whatever it holds can do nothing with its reader's session.
"""

import os
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from airflow.models import DagRun
    from fastapi import FastAPI

PREFIX = "/emotion"
FOLDERS = {"emotion_training": "runs", "emotion_scoring": "scores"}
"""Where a DAG's runs leave their report in the artifact store."""
DASHBOARDS = {"emotion_training": "emotion-training", "emotion_scoring": "emotion-scoring"}
"""The dashboards' uids."""
MARGIN_MS = 10 * 60 * 1000
"""Shown in Grafana before and after a run, so that its points do not lie on the edge."""
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
PAGE_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def report_key(dag_id: str, run_id: str) -> str:
    """Where a run's report lies in the artifact store."""
    from emotion.store import run_folder

    return f"{FOLDERS[dag_id]}/{run_folder(run_id)}/report.html"


def grafana_link(grafana: str, run: "DagRun", *, airflow: str) -> str:
    """The DAG's dashboard, from shortly before the run to shortly after it (to now while it runs)."""
    began = run.start_date or run.run_after
    window = {
        "from": int(began.timestamp() * 1000) - MARGIN_MS,
        "to": int(run.end_date.timestamp() * 1000) + MARGIN_MS if run.end_date else "now",
        "var-airflow": airflow,
    }
    return f"{grafana.rstrip('/')}/d/{DASHBOARDS[run.dag_id]}?{urlencode(window)}"


def application() -> "FastAPI":
    """``/dags/{dag_id}`` and ``/dags/{dag_id}/runs/{run_id}`` are the tabs, ``…/report`` is the report alone.

    Each asks Airflow's auth manager whether the person may see the DAG's runs.
    """
    import secrets

    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.common.db.common import SessionDep
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from airflow.models import DagRun
    from fastapi import Depends, FastAPI, HTTPException, Request
    from fastapi.responses import HTMLResponse, Response
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from sqlalchemy import select

    from emotion.settings import INCLUDE, Settings
    from emotion.store import Store

    app = FastAPI(
        title="Speech emotion: reports",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))],
    )
    store = Store(Settings.from_environment().home)
    templates = Environment(loader=FileSystemLoader(INCLUDE), autoescape=True, undefined=StrictUndefined)
    template = templates.get_template("run_page.html.j2")

    def find(session: SessionDep, dag_id: str, run_id: str) -> DagRun:
        run = None
        if dag_id in FOLDERS:
            run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None:
            raise HTTPException(404, f"There is no run {run_id!r} of {dag_id!r} with a report")
        return run

    def page(request: Request, dag_id: str, run: DagRun | None) -> HTMLResponse:
        grafana = os.environ.get("EMOTION_GRAFANA_URL")
        airflow = str(request.base_url).rstrip("/")
        report = None
        if run and store.exists(report_key(dag_id, run.run_id)):
            report = f"{airflow}{PREFIX}/dags/{quote(dag_id)}/runs/{quote(run.run_id, safe='')}/report"
        nonce = secrets.token_urlsafe(16)
        html = template.render(
            dag_id=dag_id,
            run=run,
            ours=dag_id in FOLDERS,
            report=report,
            grafana=grafana_link(grafana, run, airflow=airflow) if grafana and run else None,
            nonce=nonce,
        )
        policy = {"Content-Security-Policy": PAGE_POLICY.format(nonce=nonce)}
        return HTMLResponse(html, headers=HEADERS | policy)

    @app.get("/dags/{dag_id}/runs/{run_id}/report")
    def report(dag_id: str, run_id: str, session: SessionDep) -> Response:
        key = report_key(dag_id, find(session, dag_id, run_id).run_id)
        if not store.exists(key):
            raise HTTPException(404, "This run has no report (yet)")
        headers = HEADERS | {"Content-Security-Policy": REPORT_POLICY}
        return HTMLResponse(store.read_bytes(key), headers=headers)

    @app.get("/dags/{dag_id}/runs/{run_id}")
    def run_page(request: Request, dag_id: str, run_id: str, session: SessionDep) -> HTMLResponse:
        return page(request, dag_id, find(session, dag_id, run_id) if dag_id in FOLDERS else None)

    @app.get("/dags/{dag_id}")
    def dag_page(request: Request, dag_id: str, session: SessionDep) -> HTMLResponse:
        newest = select(DagRun).where(DagRun.dag_id == dag_id).order_by(DagRun.run_after.desc()).limit(50)
        runs = session.scalars(newest).all() if dag_id in FOLDERS else []
        with_report = (run for run in runs if store.exists(report_key(dag_id, run.run_id)))
        return page(request, dag_id, next(with_report, runs[0] if runs else None))

    return app


class EmotionPlugin(AirflowPlugin):
    """The tabs, and what they show."""

    name = "emotion"
    # Relative: Airflow's page has a <base>, so they hold below a path prefix too.
    external_views = [
        {
            "name": "Emotion report",
            "href": f"{PREFIX[1:]}/dags/{{DAG_ID}}",
            "destination": "dag",
            "url_route": "emotion_report",
        },
        {
            "name": "Emotion report",
            "href": f"{PREFIX[1:]}/dags/{{DAG_ID}}/runs/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "emotion_run_report",
        },
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict]:
        """Made when the API server asks for it: tasks load this file too, and need none of it."""
        return [{"app": application(), "url_prefix": PREFIX, "name": "Speech emotion: reports"}]
