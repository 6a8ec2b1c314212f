"""How tasks and pages get the credentials of a bucket, and what a page says where it cannot be used."""

from __future__ import annotations

import json
import logging
import os

import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from fastapi.testclient import TestClient

from emotion.commands import main
from emotion.errors import ConfigurationError
from emotion.s3 import S3
from emotion.store import Store
from emotion_airflow import review_pages, store_access

SECRET = "wJalr/a-secret+of-the-tests"
VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)


@pytest.fixture
def connect(monkeypatch):
    """Makes the connection ``emotion_store``, as people do without Airflow's pages; the environment is restored."""
    for name in VARIABLES:
        monkeypatch.setenv(name, os.environ.get(name, "before"))
    monkeypatch.setenv("EMOTION_HOME", "s3://voices/home")

    def make(**fields) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_EMOTION_STORE", json.dumps({"conn_type": "aws"} | fields))

    return make


def test_the_connection_is_in_the_environment_of_the_task(connect):
    extra = {"endpoint_url": "http://s3:8333", "region_name": "eu-central-1"}
    connect(login="a-key", password=SECRET, extra=extra)
    assert store_access.settings().home == "s3://voices/home"
    assert [os.environ.get(name) for name in VARIABLES] == ["a-key", SECRET, None, "http://s3:8333", "eu-central-1"]


def test_a_connection_without_keys_leaves_those_of_the_environment(connect):
    connect(extra={"endpoint_url": "http://s3:8333"})
    before = os.environ["AWS_ACCESS_KEY_ID"]
    store_access.settings()
    assert (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_ENDPOINT_URL"]) == (before, "http://s3:8333")


def test_half_a_pair_of_keys_is_an_error_that_does_not_say_it(connect):
    connect(password=SECRET)
    with pytest.raises(ConfigurationError, match="has a login or a password, and not both") as told:
        store_access.settings()
    assert SECRET not in str(told.value)


@pytest.mark.parametrize("home", ["s3://voices/home", "folder"])
def test_without_a_connection_or_a_bucket_nothing_changes(connect, monkeypatch, tmp_path, home):
    if home == "folder":
        connect(login="a-key", password=SECRET)
        monkeypatch.setenv("EMOTION_HOME", str(tmp_path))
    before = {name: os.environ[name] for name in VARIABLES}
    store_access.settings()
    assert before == {name: os.environ[name] for name in VARIABLES}


def test_a_page_says_in_one_sentence_that_the_bucket_is_not_there(s3_environment, connect, monkeypatch, caplog):
    monkeypatch.setenv("EMOTION_HOME", "s3://no-such-bucket/home")
    monkeypatch.setattr(DagModel, "get_team_name", lambda dag_id: None)  # in Airflow's database, which is not there
    create_auth_manager()
    app = review_pages.application("/emotion-review")
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="anna", role="USER")
    reply = TestClient(app, base_url="http://airflow.example").get("/api/next")
    assert reply.status_code == 503 and "there is no such bucket at http://127.0.0.1" in reply.text
    assert s3_environment["AWS_SECRET_ACCESS_KEY"] not in reply.text + caplog.text


@pytest.mark.parametrize("home", ["a good one", "s3://no-such-bucket/home"])
def test_the_secret_is_in_no_output_log_or_artifact(bucket, connect, monkeypatch, caplog, capsys, home):
    """With every line that the clients log."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("EMOTION_HOME", f"{bucket}/home" if home == "a good one" else home)
    S3.clear_instance_cache()
    caplog.set_level(logging.DEBUG)
    codes = [main.main(["models"]), main.main(["predict", "a.wav"]), main.main(["rollback"]), main.main(["doctor"])]
    output = "".join(capsys.readouterr())
    if home == "a good one":
        assert codes[0] == 0 and "its server keeps the conditions of a write" in output
        Store(f"{bucket}/home").update("models/promotions.jsonl", lambda _: b"")
        contents = Store(f"{bucket}/home").read_many(["models/promotions.jsonl"])
        assert not any(SECRET.encode() in content for content in contents.values())
    else:
        assert codes == [1, 1, 1, 1] and output.count("there is no such bucket at") >= 4
        assert "Traceback" not in output
    assert caplog.text.count("\n") > 50 and SECRET not in output + caplog.text
    S3.clear_instance_cache()
