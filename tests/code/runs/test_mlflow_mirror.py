"""Versions in a tracking server: complete, once, with an alias that follows the champion; and never in the way."""

from __future__ import annotations

import base64
import logging
import shutil
from pathlib import Path

import pytest

from emotion.commands import main
from emotion.models import registry
from emotion.runs import mlflow_mirror
from emotion.runs.mlflow_mirror import MirrorError, mirror_after_change, mirror_all
from emotion.settings import Settings
from emotion.store import Store
from mlflow_server import Tracking, mlflow_server

pytest_plugins = ("small_models",)
FAMILIES = {"logistic_regression", "random_forest", "gradient_boosting", "ensemble"}


@pytest.fixture
def store(trained_store, tmp_path) -> Store:
    """Two versions; the first has a report, and its logistic regression is the champion."""
    home = tmp_path / "home"
    shutil.copytree(Path(trained_store.root) / "models", home / "models")
    store = Store(str(home))
    store.write_bytes("runs/first/report.html", b"<h1>Report</h1>")
    return store


@pytest.fixture
def tracking(monkeypatch, store):
    with mlflow_server() as (address, tracking):
        monkeypatch.setenv("EMOTION_HOME", store.root)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield tracking


def settings() -> Settings:
    return Settings.from_environment()


def champion_of(tracking: Tracking) -> str | None:
    return tracking.aliases.get(("emotion", "champion"))


def test_all_versions_are_mirrored_once(store, tracking, capsys):
    for _ in range(2):
        assert main.main(["mirror"]) == 0
        assert "2 versions are in MLflow: first, second" in capsys.readouterr().out
    assert tracking.experiments == {"emotion": "1"} and len(tracking.runs) == 2
    first = next(run for run in tracking.runs.values() if run["info"]["run_name"] == "first")
    entry = registry.entry(store, "first")
    assert first["info"]["status"] == "FINISHED"
    assert first["tags"]["emotion.files"] == store.url("models/first")
    assert entry["dataset"]["notice"] in first["tags"]["mlflow.note.content"]
    assert first["params"]["recipe"] == entry["recipe"] and first["params"]["selected"] == entry["selected"]
    scores = {
        f"{family}/{protocol}/{score}": value
        for family, protocols in entry["scores"].items()
        for protocol, values in protocols.items()
        for score, value in values.items()
    }
    assert first["metrics"] == scores and scores
    models = [each["description"] for each in tracking.models["emotion"]]
    assert sorted(models) == sorted(f"{version}/{family}" for version in ("first", "second") for family in FAMILIES)
    place = f"1/{first['info']['run_id']}/artifacts/"
    assert tracking.artifacts[place + "report.html"] == b"<h1>Report</h1>"
    assert tracking.artifacts[place + "model_card.md"] == store.read_bytes("models/first/model_card.md")
    assert not any(name.endswith(".pkl") for name in tracking.artifacts)
    assert champion_of(tracking) == "first/logistic_regression"


def test_the_alias_follows_promotions_and_roll_backs(store, tracking):
    assert main.main(["promote", "second", "--family", "ensemble", "--reason", "test"]) == 0
    assert champion_of(tracking) == "second/ensemble" and len(tracking.runs) == 1
    assert main.main(["rollback"]) == 0
    assert champion_of(tracking) == "first/logistic_regression" and len(tracking.runs) == 2
    for key in (registry.CHAMPION, registry.HISTORY):
        store.delete(key)
    mirror_all(store, settings())
    assert champion_of(tracking) is None


@pytest.mark.parametrize("place", ["log-batch", "mlflow-artifacts", "model-versions/create", "runs/update", "alias"])
def test_what_was_mirrored_in_part_is_completed(store, tracking, place):
    tracking.fails_at = place
    with pytest.raises(MirrorError, match="status 500"):
        mirror_all(store, settings())
    tracking.fails_at = ""
    mirror_all(store, settings())
    assert len(tracking.runs) == 2 and len(tracking.models["emotion"]) == 8
    assert all(run["metrics"] and run["info"]["status"] == "FINISHED" for run in tracking.runs.values())
    assert champion_of(tracking) == "first/logistic_regression"


@pytest.mark.parametrize("fault", ["refused", "broken", "slow", "no_server", "busy"])
def test_a_promotion_succeeds_without_the_server(store, tracking, monkeypatch, caplog, fault):
    monkeypatch.setattr(mlflow_mirror, "RUN_SECONDS", 1.0)
    if fault == "refused":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    elif fault == "broken":
        tracking.fails_at = "experiments"
    elif fault == "slow":
        tracking.delay = 0.4
    elif fault == "no_server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    with caplog.at_level(logging.WARNING), store.lock("mlflow-mirror" if fault == "busy" else "other"):
        assert main.main(["promote", "second", "--family", "ensemble", "--reason", "test"]) == 0
    assert registry.champion(store)["version"] == "second"
    assert "not mirrored to MLflow" in caplog.text and "emotion mirror" in caplog.text
    assert "secret" not in caplog.text
    if fault == "slow":
        assert "took over 1 s" in caplog.text or "does not answer" in caplog.text
        assert len(tracking.calls) < 5


def test_the_password_is_sent_and_never_shown(store, tracking, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    mirror_after_change(store, settings())
    assert tracking.authorizations == {"Basic " + base64.b64encode(b"me:secret").decode()}
    assert "secret" not in repr(settings())
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    tracking.authorizations.clear()
    mirror_after_change(store, settings())
    assert tracking.authorizations == {"Bearer token"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    assert main.main(["mirror"]) == 1
    err = capsys.readouterr().err
    assert "http://127.0.0.1:9 does not answer" in err and "secret" not in err


def test_the_token_is_sent_whatever_the_home_folder_has_for_the_host(store, tracking, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    mirror_after_change(store, settings())
    assert tracking.authorizations == {"Bearer token"}


def test_name_and_password_may_have_any_letters(store, tracking, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "Łucja")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "żółw")
    mirror_after_change(store, settings())
    assert tracking.authorizations == {"Basic " + base64.b64encode("Łucja:żółw".encode()).decode()}


@pytest.mark.parametrize(
    "address", ["http://me:secret@[::bad", "http://me:secret@host:port", "http://", "me:secret@host", "sqlite:///m.db"]
)
def test_an_address_that_is_none_is_shown_without_its_password(store, monkeypatch, capsys, address):
    monkeypatch.setenv("EMOTION_HOME", store.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert main.main(["mirror"]) == 1
    err, shown = capsys.readouterr().err, address.replace("me:secret@", "")
    assert err.startswith(f"emotion: MLFLOW_TRACKING_URI is {shown!r}; expected the address")
    assert err.count("\n") == 1


def test_a_host_that_only_urllib3_refuses_is_one_line(store, monkeypatch, capsys):
    monkeypatch.setenv("EMOTION_HOME", store.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{'a' * 64}.example")
    assert main.main(["mirror"]) == 1
    assert "does not answer (LocationParseError)" in capsys.readouterr().err


def test_a_token_that_no_header_can_have_is_refused_and_never_shown(store, tracking, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret\n")
    assert main.main(["mirror"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("emotion: MLFLOW_TRACKING_TOKEN has ") and "secret" not in err and not tracking.calls


@pytest.mark.parametrize("answer", [{}, {"error_code": "OTHER"}, [], "text"])
def test_another_server_is_an_error_of_one_line(store, tracking, capsys, answer):
    tracking.get_experiments_get_by_name = lambda experiment_name: answer
    tracking.post_experiments_create = lambda name, tags: answer
    assert main.main(["mirror"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_server_there_is_nothing_to_mirror_to(store, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SystemExit) as ended:
        main.main(["mirror"])
    assert ended.value.code == 2
