"""`emotion serve`, as a person or a supervisor starts and stops it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

from emotion.commands import main


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


def test_an_address_that_cannot_be_used_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOTION_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for options in (["--port", str(taken.getsockname()[1])], ["--host", "192.0.2.1"], ["--host", "no such host"]):
            assert main.main(["serve", *options]) == 1
            err = capsys.readouterr().err
            assert err.startswith("emotion: ") and err.count("\n") == 1 and "cannot be listened on" in err
