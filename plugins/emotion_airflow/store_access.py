"""How tasks and pages reach an artifact store in a bucket, and what a page says where they do not.

The library finds credentials as every AWS client does: in the environment, a profile, the role of the machine. Where
Airflow has the connection ``emotion_store``, this module puts it into the environment of the process first.
"""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING

from emotion.errors import ConfigurationError, StoreError
from emotion.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

CONNECTION = "emotion_store"
"""A connection of type *aws* or *generic*: login and password are the key and its secret; extra may have
``endpoint_url``, ``region_name`` and ``aws_session_token``."""


def settings() -> Settings:
    """The settings of the environment. For a bucket, the connection :data:`CONNECTION` is put into the environment."""
    environment = Settings.from_environment()
    if environment.home.startswith(("s3://", "s3a://")):
        _use_connection()
    return environment


def _use_connection() -> None:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = BaseHook.get_connection(CONNECTION)
    except AirflowNotFoundException:
        return
    extra = connection.extra_dejson
    variables = {
        "AWS_ACCESS_KEY_ID": connection.login,
        "AWS_SECRET_ACCESS_KEY": connection.password,
        "AWS_SESSION_TOKEN": extra.get("aws_session_token"),
    }
    if not (connection.login and connection.password):
        if connection.login or connection.password:
            raise ConfigurationError(
                f"the connection {CONNECTION} has a login or a password, and not both; expected the key as login and "
                "its secret as password, or neither"
            )
        variables = {}  # the connection only says where the server is
    for name, value in variables.items():
        if value:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
    for name, value in (
        ("AWS_ENDPOINT_URL", extra.get("endpoint_url")),
        ("AWS_DEFAULT_REGION", extra.get("region_name")),
    ):
        if value:
            os.environ[name] = value


def say_what_fails(app: FastAPI) -> None:
    """Let the pages of an application say in one sentence that the artifact store cannot be reached."""
    from fastapi import Request
    from fastapi.responses import HTMLResponse

    def say(_: Request, error: Exception) -> HTMLResponse:
        return HTMLResponse(f"<p>The artifact store cannot be used: {html.escape(str(error))}</p>", status_code=503)

    app.add_exception_handler(StoreError, say)
    app.add_exception_handler(ConfigurationError, say)
