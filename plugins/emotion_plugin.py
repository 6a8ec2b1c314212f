"""The Airflow plugin: the tabs *Emotion report* and *Emotion review* on the pages of DAGs and of their runs, and the
menu entry *Emotion review*.

The only file below ``plugins/`` that Airflow loads by itself. Every process of Airflow loads it; it therefore imports
the pages only when the API server asks for them.
"""

import os
from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/emotion"
"""Path of the report pages on Airflow's API server."""
REVIEW_PREFIX = "/emotion-review"
"""Path of the review pages."""


class EmotionPlugin(AirflowPlugin):
    """The tabs, and the application that serves their pages."""

    name = "emotion"
    # Relative: Airflow's page has a <base>, so the links also work where Airflow is served below a path.
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
        {
            "name": "Emotion review",
            "href": f"{REVIEW_PREFIX[1:]}/",
            "destination": "nav",
            "url_route": "emotion_review",
        },
        {
            "name": "Emotion review",
            "href": f"{REVIEW_PREFIX[1:]}/dags/{{DAG_ID}}",
            "destination": "dag",
            "url_route": "emotion_dag_review",
        },
        {
            "name": "Emotion review",
            "href": f"{REVIEW_PREFIX[1:]}/dags/{{DAG_ID}}/runs/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "emotion_run_review",
        },
    ]

    @cached_property  # Airflow only reads it
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The applications, made when the API server asks for them: no other process needs what they import."""
        from emotion_airflow import report_pages, review_pages

        return [
            {"app": report_pages.application(PREFIX), "url_prefix": PREFIX, "name": "Speech emotion: reports"},
            {
                "app": review_pages.application(REVIEW_PREFIX),
                "url_prefix": REVIEW_PREFIX,
                "name": "Speech emotion: review",
            },
        ]

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The check of the Host header, where the Makefile started this Airflow for one person."""
        if "EMOTION_LOCAL_AIRFLOW" not in os.environ:
            return []
        from emotion_airflow.host_check import LoopbackHostOnly

        return [{"middleware": LoopbackHostOnly, "args": [], "kwargs": {}, "name": "Speech emotion: host check"}]
