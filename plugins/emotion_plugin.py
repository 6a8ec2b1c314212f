"""The Airflow plugin: the tab *Emotion report* on the pages of the two DAGs and of their runs.

The only file below ``plugins/`` that Airflow loads by itself. Every process of Airflow loads it; it therefore imports
the pages only when the API server asks for them.
"""

import os
from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/emotion"
"""Path of the pages on Airflow's API server."""


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
    ]

    @cached_property  # Airflow only reads it
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The application, made when the API server asks for it: no other process needs what it imports."""
        from emotion_airflow.report_pages import application

        return [{"app": application(PREFIX), "url_prefix": PREFIX, "name": "Speech emotion: reports"}]

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The check of the Host header, where the Makefile started this Airflow for one person."""
        if "EMOTION_LOCAL_AIRFLOW" not in os.environ:
            return []
        from emotion_airflow.host_check import LoopbackHostOnly

        return [{"middleware": LoopbackHostOnly, "args": [], "kwargs": {}, "name": "Speech emotion: host check"}]
