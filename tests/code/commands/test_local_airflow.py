"""What surrounds a local Airflow: its environment, its port, what it says of progress."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from emotion import progress
from emotion.commands import local_run
from emotion.commands.local_airflow import AirflowProblem, LocalAirflow, environment, free_port
from emotion.commands.local_run import describe
from emotion.settings import PROJECT


def state(stage: str, done: int = 0, total: int = 0, *, unit: str = "clips", finished: float | None = None) -> dict:
    return {"stage": stage, "label": "", "unit": unit, "done": done, "total": total, "finished": finished}


@pytest.mark.parametrize(
    ("states", "says"),
    [
        ([], ""),
        ([state("collect", finished=1.0)], ""),
        ([state("collect")], "collect"),
        ([state("download", 3_000_000, 208_000_000, unit="bytes")], "download 3 of 208 MB"),
        (
            [
                state("featurize", 100, 100, finished=1.0),
                state("featurize", 20, 100),
                state("featurize", 5, 80),
            ],
            "featurize 125 of 280 clips",
        ),
        (
            [state("collect", finished=1.0), state("train_a", 2, 20), state("train_b")],
            "train_a 2 of 20 clips · train_b",
        ),
    ],
)
def test_describe(states, says):
    assert describe(states) == says


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0),
        ([(0, 3)], 3),
        ([(0, 3), (1, 2)], 3),
        ([(4, 6), (0, 3)], 5),
        ([(0, 3), (2, 5), (2, 4), (7, 8)], 6),
        ([(0, 3), (5, None)], 3),
    ],
)
def test_busy_seconds_count_no_moment_twice(spans, seconds):
    states = [{"started": 1000.0 + start, "finished": end and 1000.0 + end} for start, end in spans]
    assert progress.busy_seconds(states) == seconds


def test_progress_is_there_to_be_read(store):
    stage = progress.StageRecord(store, "runs/1/progress", "featurize", label="0001", unit="clips")
    assert describe(progress.read(store, "runs/1/progress")) == "featurize"
    stage(5, 5)
    assert describe(progress.read(store, "runs/1/progress")) == "featurize 5 of 5 clips"
    assert stage.finish() >= 0
    assert describe(progress.read(store, "runs/1/progress")) == ""


def test_free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port
    assert 1024 < free_port() < 65536


def test_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", "/somewhere/else")
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "7")
    found = environment(tmp_path, 1234)
    assert found["AIRFLOW_HOME"] == str(tmp_path), "the home and the port that it was made for"
    assert found["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:1234/execution/"
    assert found["AIRFLOW__CORE__PARALLELISM"] == "7", "what the user has set herself wins"
    assert Path(found["AIRFLOW__CORE__DAGS_FOLDER"]) == PROJECT / "dags"
    assert found["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_airflow_home(tmp_path, monkeypatch):
    monkeypatch.delenv("AIRFLOW_HOME")
    assert local_run.airflow_home() == PROJECT / ".airflow"
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert local_run.airflow_home() == tmp_path


def test_one_airflow_a_home(tmp_path):
    """The second says so and starts nothing."""
    import fcntl

    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        airflow = LocalAirflow(tmp_path, 1)
        with (
            pytest.raises(AirflowProblem, match="another Airflow already runs"),
            airflow.running(),
        ):
            pass
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_an_unknown_dataset_is_said_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOTION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    assert local_run.main(["train", "--dataset", "nonsense"]) == 1
    assert "ERROR: " in capsys.readouterr().err and not (tmp_path / "airflow").exists()
