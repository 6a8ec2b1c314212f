"""`emotion serve`, as a person or a supervisor starts and stops it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from emotion.commands import main
from emotion.models import registry
from emotion.store import Store


def serve(home: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "emotion", "serve", "--port", "0", "--processes", "1", *arguments],
        env=os.environ | {"EMOTION_HOME": str(home)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_a_champion_it_says_so_until_it_is_stopped(tmp_path):
    with serve(tmp_path, "--host", "0.0.0.0") as process:
        port = process.stdout.readline().strip().rpartition(":")[2]
        deadline = time.monotonic() + 60
        while True:
            try:
                response = requests.get(f"http://127.0.0.1:{port}/health", headers={"Host": "any.example"}, timeout=60)
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert response.status_code == 503
        assert response.json()["status"] == "unavailable" and "there is no champion" in response.json()["problem"]
        refused = requests.post(f"http://127.0.0.1:{port}/predict", data=b"x", headers={"Content-Type": "audio/wav"})
        assert (refused.status_code, refused.json()["reason"]) == (503, "no_model")
        assert "no champion" in refused.json()["message"]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert "there is no login" in err and "there is no champion" in err and "Traceback" not in err


@pytest.fixture
def store(tmp_path) -> Store:
    """Two versions, which nothing loads; neither has a gradient boosting."""
    store = Store(str(tmp_path))
    files = {registry.bundle_name(family): b"a pickle" for family in ("logistic_regression", "random_forest")}
    dataset = {"name": "calls", "notice": "", "synthesized": False}
    scores = {"random_forest": {"speaker_independent": {"f1_macro": 0.5}}}
    facts = {"recipe": "v1", "selected": "random_forest", "dataset": dataset, "scores": scores}
    for version in ("first", "second"):
        registry.register(store, version, files=files, card="# Card", facts=facts)
    return store


def test_a_version_that_is_not_there_is_waited_for(store):
    with serve(Path(store.root), "--model", "third") as process:
        assert process.stdout.readline().startswith("http://")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert err.startswith("emotion: --model third is not there yet: ") and "versions: first, second" in err


@pytest.mark.parametrize("name", ["first/deep", "first/random_forest/x", "../first", "/first", "model.pkl", "a\\b", ""])
def test_a_name_that_no_model_can_have_is_one_line(store, monkeypatch, capsys, name):
    monkeypatch.setenv("EMOTION_HOME", store.root)
    assert main.main(["serve", "--port", "0", "--model", name]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"emotion: {name!r} is no name of a model; expected champion, VERSION or VERSION/FAMILY")
    assert err.count("\n") == 1


def test_a_family_that_a_version_lacks_is_one_line(store, monkeypatch, capsys):
    monkeypatch.setenv("EMOTION_HOME", store.root)
    assert main.main(["serve", "--port", "0", "--model", "first/gradient_boosting"]) == 1
    err = capsys.readouterr().err
    assert "version first has no gradient_boosting_emotion_model.pkl" in err and err.count("\n") == 1


def test_an_address_that_cannot_be_used_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOTION_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for options in (["--port", str(taken.getsockname()[1])], ["--host", "192.0.2.1"], ["--host", "no such host"]):
            assert main.main(["serve", *options]) == 1
            err = capsys.readouterr().err
            assert err.startswith("emotion: ") and err.count("\n") == 1 and "cannot be listened on" in err
