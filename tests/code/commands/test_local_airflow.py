"""The local Airflow of the Makefile: its environment, its port, and how it shows the progress of a run."""

from __future__ import annotations

import http.server
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from emotion import progress
from emotion.commands import local_run
from emotion.commands.local_airflow import (
    MARK,
    AirflowBusy,
    AirflowProblem,
    LocalAirflow,
    end_leftovers,
    environment,
    free_port,
    leftovers,
)
from emotion.commands.local_run import add_up, describe
from emotion.errors import ConfigurationError
from emotion.settings import PROJECT, Settings


def state(stage: str, done: int = 0, total: int = 0, *, unit: str = "clips", finished: float | None = None) -> dict:
    counts = {"unit": unit, "done": done, "total": total}
    return {"stage": stage, "label": "", **counts, "started": 0.0, "finished": finished}


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ([], ""),
        ([state("collect", finished=1.0)], ""),
        ([state("collect")], "collect"),
        ([state("download", 3_000_000, 208_000_000, unit="B")], "download 3 of 208 MB"),
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
def test_stages_at_work_in_one_line(states, text):
    assert describe(add_up(states)) == text


def test_a_stage_is_finished_when_all_its_tasks_are():
    tasks = [state("featurize", 5, 5, finished=7.0), state("featurize", 5, 5, finished=9.0)]
    assert [stage.finished for stage in add_up(tasks)] == [9.0]
    assert [stage.finished for stage in add_up([*tasks, state("featurize", 0, 5)])] == [None]


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


def test_recorded_progress_can_be_read_and_described(store):
    stage = progress.StageRecord(store, "runs/1/progress", "featurize", label="0001", unit="clips")
    assert describe(add_up(progress.read(store, "runs/1/progress"))) == "featurize"
    stage(5, 5)
    assert describe(add_up(progress.read(store, "runs/1/progress"))) == "featurize 5 of 5 clips"
    assert stage.finish() >= 0
    assert describe(add_up(progress.read(store, "runs/1/progress"))) == ""


DISPLAY = """
import time
from emotion.commands.local_run import RunDisplay
states = [
    {"stage": "collect", "unit": "", "done": 0, "total": 0, "started": 0.0, "finished": 3.0},
    {"stage": "featurize", "unit": "clips", "done": 125, "total": 280, "started": time.time(), "finished": None},
    {"stage": "train_a", "unit": "fits", "done": 2, "total": 20, "started": time.time(), "finished": None},
]
display = RunDisplay()
display.show(states)
time.sleep(2)
display.show(states)
display.close()
print("the report")
"""


def test_a_run_has_a_bar_per_stage_on_a_terminal():
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    try:
        out = subprocess.run(
            [sys.executable, "-c", DISPLAY], stdout=subprocess.PIPE, stderr=terminal, check=True
        ).stdout
        received = os.read(controller, 1_000_000).decode()
    finally:
        os.close(terminal)
        os.close(controller)
    assert out == b"the report\n"
    lines = [line.rstrip("\r").split("\r")[-1] for line in received.rstrip().split("\n")[-3:]]
    assert re.fullmatch(r"\[ +3 s\] collect *", lines[0])
    assert re.fullmatch(r"\[ +\d s\] featurize +█+\S* +125/280 clips", lines[1].rstrip())
    assert re.fullmatch(r"\[ +\d s\] train_a +█+\S* +2/20 fits", lines[2].rstrip())
    assert max(map(len, lines)) <= 80


def test_a_run_has_a_line_now_and_then_elsewhere(monkeypatch, capsys):
    """After two seconds, then every five, and at once when other stages are at work; all on standard error."""
    moment = 100.0
    monkeypatch.setattr(local_run, "time", SimpleNamespace(monotonic=lambda: moment))
    display = local_run.RunDisplay()
    lines = {}
    for seconds, states in [
        (1.9, [state("featurize", 1, 9)]),
        (2.0, [state("featurize", 2, 9)]),
        (6.9, [state("featurize", 3, 9)]),
        (7.0, [state("featurize", 4, 9)]),
        (8.0, [state("featurize", 9, 9, finished=8.0)]),
        (9.0, [state("featurize", 9, 9, finished=8.0), state("compare")]),
    ]:
        moment = 100.0 + seconds
        display.show(states)
        out, lines[seconds] = capsys.readouterr()
        assert out == ""
    assert lines == {
        1.9: "",
        2.0: "[   2 s] featurize 2 of 9 clips\n",
        6.9: "",
        7.0: "[   7 s] featurize 4 of 9 clips\n",
        8.0: "[   8 s] waiting for the scheduler\n",
        9.0: "[   9 s] compare\n",
    }


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
    variables = environment(tmp_path, 1234)
    assert variables["AIRFLOW_HOME"] == str(tmp_path), "the home and the port are fixed"
    assert variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:1234/execution/"
    assert variables["AIRFLOW__CORE__PARALLELISM"] == "7", "what the user has set takes precedence"
    assert Path(variables["AIRFLOW__CORE__DAGS_FOLDER"]) == PROJECT / "dags"
    assert variables["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_airflow_home(tmp_path, monkeypatch):
    monkeypatch.delenv("AIRFLOW_HOME")
    assert local_run.airflow_home() == PROJECT / ".airflow"
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert local_run.airflow_home() == tmp_path


def test_a_second_airflow_on_the_same_home_is_refused(tmp_path):
    """It starts nothing."""
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


def test_leftovers_are_the_marked_processes_of_the_same_home(tmp_path):
    """Neither those of another home, nor those of an Airflow that the Makefile did not start."""
    sleeping = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    variables = [
        {"AIRFLOW_HOME": str(tmp_path / "a"), MARK: "1"},
        {"AIRFLOW_HOME": str(tmp_path / "b"), MARK: "1"},
        {"AIRFLOW_HOME": str(tmp_path / "a")},
    ]
    processes = [
        subprocess.Popen(sleeping, env=os.environ | each, stdout=subprocess.PIPE, start_new_session=True)
        for each in variables
    ]
    try:
        for process in processes:
            process.stdout.readline()
        assert [process.pid for process in leftovers(tmp_path / "a")] == [processes[0].pid]
        end_leftovers(tmp_path / "a")
        assert processes[0].poll() is not None
        assert [process.poll() for process in processes[1:]] == [None, None]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_stops_airflow_like_a_request_to_end(number):
    code = (
        "import time\n"
        "from emotion.commands import local_run\n"
        "def serve():\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(600)\n"
        "    finally: print('stopped', flush=True)\n"
        "local_run.serve = serve\n"
        "local_run.main(['serve'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "stopped\n"
    assert process.returncode == 128 + number


@pytest.mark.parametrize("name", ["O'Brien", "a b", "a:b", 'x"; touch trap; "', "$(touch trap)", "ä;&|"])
@pytest.mark.parametrize("variable", ["SOURCE", "RAVDESS_DIR"])
def test_make_train_takes_any_path(tmp_path, variable, name):
    """The file named installed is newer than what it is made from, so that make installs nothing."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    python.chmod(0o755)
    (tmp_path / "installed").touch()
    path = f"{tmp_path}/{name}"
    escaped = path.replace("$", "$$")  # a dollar is make's own
    result = subprocess.run(
        [
            "make",
            "--no-print-directory",
            "--file",
            PROJECT / "Makefile",
            "--directory",
            PROJECT,
            f"VENV={tmp_path}",
            f"{variable}={escaped}",
            "train",
        ],
        env={key: value for key, value in os.environ.items() if key not in ("SOURCE", "RAVDESS_DIR", "DATASET")},
        capture_output=True,
        text=True,
    )
    arguments = json.loads(result.stdout.splitlines()[-1])
    assert arguments[2:] == ["train", "--dataset", "ravdess-speech", "--source", path]


@pytest.mark.parametrize("also", ["", "emodb, tess"])
def test_make_train_takes_several_datasets(tmp_path, also):
    """With blanks, an apostrophe and commas in a path, each variable is one argument."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    python.chmod(0o755)
    (tmp_path / "installed").touch()
    source = f"nemo={tmp_path}/O'Brien, all,ravdess-speech={tmp_path}/a b"
    variables = ["DATASET=nemo, ravdess-speech", f"SOURCE={source}", f"ALSO_TEST_ON={also}"]
    command = ["make", "--no-print-directory", "--file", PROJECT / "Makefile", "--directory", PROJECT]
    result = subprocess.run(
        [*command, f"VENV={tmp_path}", *variables, "train"],
        env={key: value for key, value in os.environ.items() if key not in ("SOURCE", "RAVDESS_DIR", "DATASET")},
        capture_output=True,
        text=True,
    )
    arguments = json.loads(result.stdout.splitlines()[-1])
    assert arguments[2:] == [
        *("train", "--dataset", "nemo, ravdess-speech", "--source", source),
        *(("--also-test-on", also) if also else ()),
    ]


@pytest.mark.parametrize(
    ("text", "datasets", "sources"),
    [
        ("", ["nemo", "emodb"], {}),
        ("/data/a, b", ["nemo"], {"nemo": "/data/a, b"}),
        ("nemo=/data/a, b", ["nemo"], {"nemo": "/data/a, b"}),
        ("/data/x=y", ["nemo"], {"nemo": "/data/x=y"}),
        (" nemo=/O'Brien,b,, emodb-2=/c d,emodb=/e", ["emodb", "emodb-2", "nemo"], None),
        ("emodb=/data/nemo=1", ["emodb", "nemo"], {"emodb": "/data/nemo=1"}),
        ("here", ["nemo"], {"nemo": f"{Path.cwd()}/here"}),
    ],
)
def test_what_a_person_types_as_sources(text, datasets, sources, monkeypatch):
    if sources is None:
        sources = {"nemo": "/O'Brien,b,", "emodb-2": "/c d", "emodb": "/e"}
    assert local_run.parse_sources(text, datasets) == sources


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/data/nemo", "does not say which dataset it is of; expected NAME=PATH,NAME=PATH with the names nemo, emodb"),
        ("/data,nemo=/a", "does not say which dataset"),
        ("tess=/data/tess", "does not say which dataset"),
        ("nemo=,emodb=/data", "has no path for one"),
        ("nemo=/a,emodb=/b,nemo=/c", "names a dataset twice"),
    ],
)
def test_sources_that_do_not_say_what_is_where_are_refused(text, message):
    with pytest.raises(ConfigurationError, match=message):
        local_run.parse_sources(text, ["nemo", "emodb"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nemo,emodb,nemo"], "nemo is named more than once"),
        (["--dataset", "nemo", "--also-test-on", "nemo"], "nemo is named more than once"),
        (["--dataset", " , "], "no dataset is named"),
        (["--dataset", "nemo emodb", "--source", "/somewhere"], "does not say which dataset it is of"),
        (["--dataset", "synthesized", "--also-test-on", "nonsense"], "no dataset 'nonsense'"),
    ],
)
def test_a_wrong_choice_of_datasets_is_an_error_before_anything_starts(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.setenv("EMOTION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    assert local_run.main(["train", *arguments]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "airflow").exists()


@pytest.mark.parametrize("before", [None, "/data/one", '["/data/a:b"]'])
def test_a_source_may_have_any_path(monkeypatch, tmp_path, before):
    monkeypatch.delenv("EMOTION_RECORDINGS", raising=False)
    if before:
        monkeypatch.setenv("EMOTION_RECORDINGS", before)
    sources = [tmp_path / "a:b" / "O'Brien", tmp_path / "a, b"]
    variables = local_run.training_variables(map(str, sources))
    allowed = Settings.from_environment(os.environ | variables).recordings
    earlier = {None: (), "/data/one": (Path("/data/one"),), '["/data/a:b"]': (Path("/data/a:b"),)}[before]
    assert allowed == (*earlier, *sources)


def test_no_schedule_makes_a_run_due_beside_the_training(monkeypatch):
    monkeypatch.setenv("EMOTION_SCORING_SCHEDULE", "* * * * *")
    schedules = ("EMOTION_TRAINING_SCHEDULE", "EMOTION_SCORING_SCHEDULE", "EMOTION_REVIEW_SCHEDULE")
    variables = environment(Path("/somewhere"), 1) | local_run.training_variables([])
    assert [variables[name] for name in schedules] == ["", "", ""]


@pytest.mark.parametrize("port", ["http", "-1", "65536", "²"])
def test_a_port_that_is_none_is_an_error_before_anything_starts(tmp_path, monkeypatch, capsys, port):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("PORT", port)
    assert local_run.main(["serve"]) == 1
    assert f"ERROR: PORT is {port!r}; expected a port" in capsys.readouterr().err
    assert not (tmp_path / "airflow").exists()


class SlowApi(http.server.BaseHTTPRequestHandler):
    """An API server that has no answer twice while a run is watched: a status of 5xx, a closed connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/auth/token":
            return self.answer(200, {"access_token": "t"})
        asked = self.server.asked = self.server.asked + 1
        if asked == 2:
            return self.answer(503, {"detail": "busy"})
        if asked == 3:
            self.close_connection = True
            return None
        return self.answer(200, {"state": "running" if asked < 5 else "success"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, {})

    do_PATCH = do_POST

    def answer(self, status: int, document: dict) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


def test_a_run_is_watched_on_while_the_api_server_has_no_answer(tmp_path, settings, store):
    for name in ("comparison", "decision"):
        store.write_json(f"runs/slow/{name}.json", {"name": name})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowApi) as server:
        server.asked = 0
        threading.Thread(target=server.serve_forever).start()
        try:
            airflow = LocalAirflow(tmp_path / "airflow", server.server_port)
            result = local_run.run_training(airflow, settings, {}, run_id="slow")
        finally:
            server.shutdown()
    assert server.asked == 5 and result.comparison == {"name": "comparison"}


def test_a_call_that_must_succeed_is_made_again_while_airflow_is_busy(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowApi) as server:
        server.asked = 1
        threading.Thread(target=server.serve_forever).start()
        try:
            airflow = LocalAirflow(tmp_path, server.server_port)
            with pytest.raises(AirflowBusy, match="HTTP 503"):
                airflow.api("GET", "/pools")
            assert airflow.api("GET", "/pools", patience=10) == {"state": "running"} and server.asked == 4
        finally:
            server.shutdown()


def test_an_api_server_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(AirflowProblem, match="GET /dags: no answer from Airflow's API server"):
        LocalAirflow(tmp_path, free_port()).api("GET", "/dags")


def test_an_unknown_dataset_is_an_error_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOTION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    assert local_run.main(["train", "--dataset", "nonsense"]) == 1
    assert "ERROR: " in capsys.readouterr().err and not (tmp_path / "airflow").exists()


@pytest.mark.parametrize(
    ("verdict", "policy", "expected"),
    [("ask", "auto", True), ("promote", "ask", True), ("promote", "auto", False), ("ask", "never", False)],
)
def test_a_person_is_told_that_the_run_waits_for_an_answer(store, verdict, policy, expected):
    assert not local_run.awaits_a_person(store, "runs/one", policy=policy)
    store.write_json("runs/one/challenge.json", {"verdict": verdict})
    assert local_run.awaits_a_person(store, "runs/one", policy=policy) == expected
    store.write_json("runs/one/decision.json", {})
    assert not local_run.awaits_a_person(store, "runs/one", policy=policy)
