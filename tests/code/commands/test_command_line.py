"""The ``emotion`` command, as a person or a script uses it."""

from __future__ import annotations

import http.server
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import graphite_stack
from emotion.commands import console, doctor, main
from emotion.datasets.synthesis import NOTICE
from emotion.errors import DataError
from emotion.explanation.values import Explainer
from emotion.inference import CustomEmotionModel
from emotion.models import registry
from emotion.settings import PROJECT, Settings
from emotion.store import Store
from emotion.vocabulary import EMOTIONS

pytest_plugins = ("small_models",)


@pytest.fixture
def home(trained_store, tmp_path, monkeypatch) -> Path:
    """An EMOTION_HOME with two versions, which the test may change."""
    folder = tmp_path / "home"
    shutil.copytree(trained_store.root, folder)
    monkeypatch.setenv("EMOTION_HOME", str(folder))
    for name in (
        "EMOTION_STATSD",
        "EMOTION_GRAPHITE",
        "EMOTION_INBOXES",
        "EMOTION_RECORDINGS",
        "EMOTION_DATASETS",
    ):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """An EMOTION_HOME without anything in it."""
    monkeypatch.setenv("EMOTION_HOME", str(tmp_path / "empty"))
    return tmp_path / "empty"


@pytest.fixture
def clips(home) -> list[str]:
    return sorted(map(str, (home / "corpus").rglob("*.wav")))


@pytest.fixture
def run(capsys):
    """Run a command in this process: exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main.main(list(map(str, arguments)))
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call


def process(*arguments: str, **options) -> subprocess.Popen:
    """The command in a process of its own, which SIGINT interrupts even where whoever started the tests ignores it."""
    return subprocess.Popen(
        [sys.executable, "-m", "emotion", *arguments],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "plugins")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


# --- help and usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [[], ["predict"], ["score"], ["models"], ["promote"], ["rollback"], ["doctor"], ["serve"], ["export"], ["mirror"]],
)
def test_help_answers_without_the_heavy_imports(command):
    code = (
        f"import sys; sys.argv = ['emotion', *{command}, '--help']\n"
        "from emotion.commands import main\n"
        "try: main.main()\n"
        "finally: print('heavy', {'numpy', 'pandas', 'sklearn', 'shap', 'librosa', 'tqdm'} & sys.modules.keys())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "plugins")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "usage: emotion" in result.stdout
    assert "heavy set()" in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["sing"],
        ["predict"],
        ["predict", "a.wav", "--window", "long"],
        ["predict", "a.wav", "--hop", "1"],
        ["predict", "a.wav", "--window", "3", "--explain"],
        ["promote", "first"],
        ["promote", "first", "--reason", "x", "--family", "oracle"],
        ["serve", "--port", "70000"],
        ["serve", "--processes", "0"],
    ],
)
def test_wrong_usage_exits_with_2(run, empty, command):
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert "usage: emotion" in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["predict", "a.wav"], "no champion"),
        (["predict", "a.wav", "--model", "third"], "no model version 'third'"),
        (["predict", "a.wav", "--model", "gone/random_forest_emotion_model.pkl"], "is not there"),
        (["promote", "third", "--reason", "x"], "no model version 'third'"),
        (["rollback"], "no earlier champion"),
        (["score", "nowhere"], "nowhere"),
    ],
)
def test_an_error_is_one_line(run, empty, command, message):
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert err.startswith("emotion: ") and err.count("\n") == 1 and message in err


def test_a_wrong_setting_is_one_line(run, monkeypatch):
    monkeypatch.setenv("EMOTION_STATSD", "nonsense")
    code, _, err = run("models")
    assert (
        code == 1
        and err.startswith("emotion: EMOTION_STATSD is 'nonsense'; expected host:port with a port")
        and err.count("\n") == 1
    )


# --- what is damaged, full or closed ------------------------------------------------------------------------


def test_a_setting_that_cannot_be_used_is_one_line(run, monkeypatch, empty):
    for name, value in {
        "EMOTION_HOME": "~nosuchuser/x",
        "EMOTION_STATSD": "localhost:²",
        "EMOTION_RECORDINGS": "[1]",
    }.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            code, out, err = run("models")
        assert (code, out) == (1, "") and err.startswith(f"emotion: {name} is ") and err.count("\n") == 1


def edit(home: Path, name: str, **changes: object) -> None:
    """Change keys of a JSON document of the store; None deletes the key."""
    file = home / "models" / name
    document = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not KeyError}))


DAMAGE = {
    "champion.json, cut off": lambda models: (models / "champion.json").write_text('{"version": "fi'),
    "champion.json, empty": lambda models: (models / "champion.json").write_text(""),
    "champion.json, a list": lambda models: (models / "champion.json").write_text("[]"),
    "champion.json, null": lambda models: (models / "champion.json").write_text("null"),
    "champion.json without family": lambda models: edit(models.parent, "champion.json", family=KeyError),
    "champion.json with version 3": lambda models: edit(models.parent, "champion.json", version=3),
    "version.json, cut off": lambda models: (models / "first/version.json").write_text('{"version": "first", "fil'),
    "version.json, a text": lambda models: (models / "first/version.json").write_text('"first"'),
    "version.json without packages": lambda models: edit(models.parent, "first/version.json", packages=KeyError),
    "version.json with files null": lambda models: edit(models.parent, "first/version.json", files=None),
    "version.json with a file null": lambda models: edit(
        models.parent, "first/version.json", files={"logistic_regression_emotion_model.pkl": None}
    ),
    "promotions.jsonl, cut off": lambda models: (models / "promotions.jsonl").write_text('{"decision": "pro'),
    "promotions.jsonl, a number": lambda models: (models / "promotions.jsonl").write_text("1\n"),
    "promotions.jsonl without version": lambda models: (models / "promotions.jsonl").write_text(
        '{"decision": "promoted"}\n'
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_document_of_the_registry_is_one_line(run, home, damage):
    DAMAGE[damage](home / "models")
    command = ["rollback"] if damage.startswith("promotions") else ["predict", "a.wav"]
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert err.startswith("emotion: ") and err.count("\n") == 1
    assert damage.replace(",", " ").split()[0] in err and "is damaged: " in err


FACTS = {
    "recipe": KeyError,
    "selected": KeyError,
    "scores": KeyError,
    "dataset": KeyError,
    "dataset: notice": {"dataset": {"name": "calls", "synthesized": False}},
    "dataset: name": {"dataset": {"notice": "", "synthesized": False}},
    "scores: logistic_regression": {"scores": {}},
    "speaker_independent": {"scores": {"logistic_regression": {}}},
    "f1_macro": {"scores": {"logistic_regression": {"speaker_independent": {"f1_macro": None}}}},
}
"""What is damaged in a version.json: a key without its value, or changed keys."""


@pytest.mark.parametrize("fault", FACTS)
@pytest.mark.parametrize(
    "command",
    [["models"], ["predict", "--model", "second", "a.wav"], ["promote", "second", "--reason", "better"]],
    ids=lambda command: command[0],
)
def test_a_version_without_its_facts_is_one_line(run, home, command, fault):
    changes = FACTS[fault]
    edit(home, "second/version.json", **({fault: changes} if changes is KeyError else changes))
    code, out, err = run(*command)
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert "second/version.json" in err and "is damaged" in err
    assert all(word in err for word in fault.split(": "))


def test_a_store_that_is_a_file_is_one_line(run, tmp_path, monkeypatch):
    (tmp_path / "home").write_bytes(b"")
    for place, message in (("home", "is a file; expected a folder"), ("home/below", "Not a directory")):
        monkeypatch.setenv("EMOTION_HOME", str(tmp_path / place))
        code, out, err = run("score", str(tmp_path))
        assert (code, out) == (1, "") and err.startswith("emotion: ") and message in err and err.count("\n") == 1


def test_a_full_disk_is_one_line(home, clips):
    """The limit on the size of a file is an error of the same kind, which a test can set."""
    command = [sys.executable, "-m", "emotion", "score", str(Path(clips[0]).parent)]
    result = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "plugins"), "EMOTION_INBOXES": str(home)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]  # joblib warns that it cannot make its semaphores
    assert re.fullmatch(f"emotion: {home}/.*: File too large. Free some space, or set EMOTION_HOME to .*", last)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("redirection", "message"),
    [(">/dev/full", "the output cannot be written: No space left on device"), (">&-", "the standard output is closed")],
)
def test_an_output_that_takes_nothing_is_one_line(home, redirection, message):
    result = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m emotion models {redirection}"],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "plugins")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"emotion: {message}") and result.stderr.count("\n") == 1


def test_a_closed_error_output_disturbs_nothing(home):
    command = f"{sys.executable} -m emotion rollback 2>&-; echo $?"
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "plugins")}
    assert subprocess.run(["sh", "-c", command], env=environment, capture_output=True).stdout == b"1\n"


def test_an_unknown_module_of_features_is_one_line(home):
    result = subprocess.run(
        [sys.executable, "-m", "emotion", "predict", "a.wav"],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "plugins"), "EMOTION_FEATURES": "no_such_module"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("emotion: EMOTION_FEATURES names 'no_such_module', which cannot be imported")
    assert result.stderr.count("\n") == 1


def test_a_file_named_minus_is_a_file(home, clips, tmp_path, monkeypatch):
    """libsndfile takes this name for standard input."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_bytes(Path(clips[0]).read_bytes())
    command = [sys.executable, "-m", "emotion", "predict", "--json", "--", "-"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "plugins")}
    result = subprocess.run(command, env=environment, input=b"nothing", capture_output=True)
    assert json.loads(result.stdout)["path"] == "./-" and result.returncode == 0


@pytest.mark.parametrize("window", ["0", "-1", "nan", "inf"])
def test_a_window_that_is_none_is_one_line(run, home, clips, window):
    code, out, err = run("predict", clips[0], "--window", window, "--json")
    assert (code, out) == (1, "") and "window" in err and err.count("\n") == 1


def test_a_batch_with_a_long_name_is_scored(run, home, clips):
    code, out, _err = run("score", str(Path(clips[0]).parent), "--batch", "b" * 300)
    assert code == 0 and "files scored" in out
    (folder,) = (home / "scores").glob("b*")
    assert (folder / "report.html").exists() and f"scores/{folder.name}/report.html" in out


# --- predict ------------------------------------------------------------------------------------------------


def test_predict_shows_all_emotions_of_one_file(run, clips):
    code, out, err = run("predict", clips[0])
    assert (code, err) == (0, "")
    model, head, *rows = out.splitlines()
    assert model == f"Model first/logistic_regression {NOTICE}"
    answer = CustomEmotionModel().predict_emotion_from_file(clips[0])
    assert head == f"{clips[0]} ({answer['duration']:.1f} s): {answer['emotion']}"
    assert [row.split()[0] for row in rows] == sorted(EMOTIONS, key=lambda emotion: -answer["probabilities"][emotion])
    shares = [float(row.split()[-1]) for row in rows]
    assert shares == [round(share, 2) for share in sorted(answer["probabilities"].values(), reverse=True)]
    lengths = [row.count("█") for row in rows]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > 0


def test_predict_gives_each_of_several_files_a_row(run, clips, tmp_path):
    strange = tmp_path / "a\nb \x1b[31m\udcff🎤.wav"
    shutil.copy(clips[0], strange)
    code, out, err = run("predict", clips[1], str(strange), "/dev/zero", "/nowhere")
    assert code == 1
    lines = out.splitlines()
    assert lines[1].endswith(clips[1])
    assert lines[2].endswith(r"a\nb \x1b[31m\udcff🎤.wav")
    assert lines[3].startswith("/dev/zero: no answer (not_file)")
    assert lines[4].startswith("/nowhere: no answer (unreadable)")
    assert len(lines) == 5 and "\x1b" not in out
    assert err == "emotion: no answer for 2 of 4 files\n"


def test_predict_in_json_is_the_models_answer(run, clips):
    code, out, _err = run("predict", "--json", *clips[:3], "/nowhere")
    assert code == 1
    answers = list(map(json.loads, out.splitlines()))
    assert answers == list(CustomEmotionModel().predict_batch([*clips[:3], "/nowhere"]))


def test_predict_explains(run, clips):
    code, out, _ = run("predict", "--explain", clips[0])
    assert code == 0
    (answer,) = map(json.loads, run("predict", "--explain", "--json", clips[0])[1].splitlines())
    explanation = answer["explanation"]
    assert f"  {explanation['sentence']}\n" in out and explanation["sentence"].startswith(answer["emotion"])
    reasons = re.findall(r"^    +([+-]\d\.\d\d)  ([\w ]+): (.+)$", out, re.MULTILINE)
    assert [reason[1:] for reason in reasons] == [(group["group"], group["words"]) for group in explanation["groups"]]
    printed = sum(float(contribution) for contribution, _, _ in reasons)
    assert printed + explanation["base_value"] == pytest.approx(answer["confidence"], abs=0.04)
    detailed = run("predict", "--explain", "--features", clips[0])[1]
    assert len(re.findall(r"^        [+-]\d\.\d{3}  \w+ = \S+: .+$", detailed, re.MULTILINE)) == 5 * len(reasons)


def test_predict_writes_a_page(run, clips, tmp_path):
    page = tmp_path / "page.html"
    name = tmp_path / "<script>alert(1).wav"
    name.write_bytes(Path(clips[0]).read_bytes())
    assert run("predict", "--explain", "--html", page, name, clips[1], tmp_path / "none.wav")[0] == 1
    html = page.read_text()
    assert "<script" not in html and "&lt;script&gt;" in html and "default-src 'none'" in html
    assert html.count('class="fall"') == html.count('class="wave"') == html.count("<audio") == 2
    assert "No answer (unreadable)" in html


@pytest.mark.parametrize("option", ["--features", "--html=page.html"])
def test_details_of_an_explanation_need_one(run, clips, option):
    code, _, errors = run("predict", option, clips[0])
    assert code == 2 and f"{option.partition('=')[0]} needs --explain" in errors


def test_a_page_has_so_many_clips(run, clips, tmp_path):
    code, _, errors = run("predict", "--explain", "--html", tmp_path / "page.html", *[clips[0]] * 101)
    assert code == 2 and "100 files at most, found 101" in errors


@pytest.mark.parametrize("name", ["call.wav", "folder.html", "page"])
def test_a_page_never_takes_the_place_of_a_recording(run, clips, tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "call.wav").write_bytes(b"a recording")
    code, _, errors = run("predict", "--explain", "--html", tmp_path / name, clips[0])
    assert code == 2 and "expected the name of a file that ends in .html" in errors
    assert (tmp_path / "call.wav").read_bytes() == b"a recording"


def test_a_page_that_cannot_be_written(run, clips, tmp_path):
    code, _, errors = run("predict", "--explain", "--html", tmp_path / "none" / "page.html", clips[0])
    assert code != 0 and "none" in errors and "Traceback" not in errors


def test_predict_answers_without_an_explanation_where_that_fails(run, clips, monkeypatch):
    def fail(*arguments, **options):
        raise DataError("the contributions miss the model's output")

    monkeypatch.setattr(Explainer, "explain_probabilities", fail)
    code, out, _ = run("predict", "--explain", *clips[:2])
    assert code == 0 and out.count("no explanation: the contributions miss") == 2
    code, out, _ = run("predict", "--explain", "--json", *clips[:2])
    answers = list(map(json.loads, out.splitlines()))
    assert code == 0 and [answer["explanation"] for answer in answers] == [None, None]
    assert all(answer["no_explanation"] and answer["emotion"] for answer in answers)


def test_predict_explains_a_tone(run, clips, tmp_path):
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(48_000) / 16_000)
    soundfile.write(tmp_path / "tone.wav", tone, 16_000)
    model = "second/ensemble"
    code, out, _ = run("predict", "--explain", "--json", "--model", model, tmp_path / "tone.wav", clips[0])
    assert code == 0 and all(json.loads(line)["explanation"]["towards"] for line in out.splitlines())


def test_predict_with_a_bundle_from_elsewhere(run, home, clips, tmp_path):
    for name in ("version.json", "ensemble_emotion_model.pkl"):
        (tmp_path / name).write_bytes((home / "models/second" / name).read_bytes())
    (home / "models/second/version.json").unlink()
    command = ("predict", "--model", tmp_path / "ensemble_emotion_model.pkl", clips[0])
    code, _, errors = run(*command)
    assert code != 0 and "emotion predict --trust" in errors
    assert run(*command, "--trust")[0] == 0


@pytest.mark.parametrize("name", ["second", "second/random_forest", "bundle"])
def test_predict_with_another_model(run, home, clips, name):
    model = home / "models/second/ensemble_emotion_model.pkl" if name == "bundle" else name
    expected = {"second": "logistic_regression", "bundle": "ensemble"}.get(name, "random_forest")
    code, out, _ = run("predict", "--json", "--model", model, clips[0])
    assert code == 0
    assert (json.loads(out)["model"], json.loads(out)["family"]) == ("second", expected)


@pytest.fixture
def long(clips, tmp_path) -> Path:
    samples, rate = soundfile.read(clips[0])
    path = tmp_path / "long.flac"
    soundfile.write(path, np.concatenate([np.tile(samples, 2)[: 3 * rate], np.zeros(2 * rate)]), rate)
    return path


def test_predict_gives_a_timeline(run, long):
    code, out, err = run("predict", "--window", "2", long)
    assert (code, err) == (0, "")
    spans = [line[:21] for line in out.splitlines()[1:]]
    assert spans == [f"0:00:0{start}.0 – 0:00:0{start + 2}.0" for start in range(4)]
    assert "silent" in out.splitlines()[-1]
    code, out, err = run("predict", "--window", "2", "--hop", "1.5", "--json", long)
    answers = list(map(json.loads, out.splitlines()))
    expected = CustomEmotionModel().predict_timeline(long, window=2, hop=1.5)
    assert code == 0 and answers == [{"path": str(long)} | answer for answer in expected]


def test_a_timeline_goes_on_after_a_bad_file(run, long):
    code, out, err = run("predict", "--window", "2", "--json", "/nowhere", long)
    answers = list(map(json.loads, out.splitlines()))
    assert code == 1 and "1 of 2" in err
    assert answers[0]["error"] == "unreadable" and len(answers) == 5


def test_a_file_too_long_for_one_answer_is_an_error(run, home, tmp_path):
    path = tmp_path / "minutes.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 8_000 * 61), 8_000)
    code, out, _ = run("predict", path)
    assert code == 1 and "too_long" in out and "timeline" in out


# --- signals, pipes, terminals ------------------------------------------------------------------------------


def test_a_reader_that_closes_the_pipe_ends_the_command_silently(home, clips):
    running = process("predict", "--json", *clips * 5, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert json.loads(running.stdout.readline())["path"] == clips[0]
    running.stdout.close()
    errors = running.stderr.read()
    assert re.sub(rb"predict: \d+ of \d+ files\n", b"", errors) == b"", "progress alone, where reading takes long"
    assert running.wait(60) == 141


def test_an_interruption_is_quiet(home, clips):
    arguments = ["--json", "--adaptation", "none"]  # the first answers come while other files are unread
    running = process("predict", *arguments, *clips * 200, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in err


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(home, clips, tmp_path):
    many = clips * 40
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    logs = (tmp_path / "err").open("wb"), (tmp_path / "out").open("wb")
    on_terminal = process("predict", "--json", *many, stdout=logs[1], stderr=terminal)
    elsewhere = process("predict", "--json", *many, stdout=subprocess.DEVNULL, stderr=logs[0])
    os.close(terminal)
    shown, end = b"", time.monotonic() + 300
    try:
        while time.monotonic() < end and not re.search(rb"\d+%", shown):
            if select.select([controller], [], [], 0.5)[0]:
                shown += os.read(controller, 1000)
        while time.monotonic() < end and not (tmp_path / "err").read_bytes():
            time.sleep(0.2)
    finally:
        for running in (on_terminal, elsewhere):
            running.kill()
            running.wait()
        os.close(controller)
        for log in logs:
            log.close()
    assert re.search(rb"predict: +\d+%\|", shown)
    lines = (tmp_path / "err").read_text().splitlines()
    assert re.fullmatch(rf"predict: \d+ of {len(many)} files", lines[0])


def test_a_terminal_without_the_characters_of_a_bar_gets_question_marks(home, clips):
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "plugins"), "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(
        [sys.executable, "-m", "emotion", "predict", clips[0]],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    bars = re.findall(r"^  \w+ +(\S*) +\d\.\d\d$", result.stdout, re.MULTILINE)
    assert len(bars) == 8 and all(set(bar) <= {"?"} for bar in bars) and max(map(len, bars)) >= 3


def test_progress_starts_after_two_seconds_and_never_on_standard_output(monkeypatch, capsys):
    moment = 100.0
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: moment))
    progress = console.ConsoleProgress()
    shown = {}
    for seconds, stage in [
        (0.0, "check"),
        (1.9, "check"),
        (2.0, "check"),
        (6.9, "check"),
        (7.0, "check"),
        (9.0, "read"),
    ]:
        moment = 100.0 + seconds
        progress(stage, int(seconds), 10, "clips")
        shown[seconds] = capsys.readouterr()
    lines = {2.0: "check: 2 of 10 clips\n", 7.0: "check: 7 of 10 clips\n"}
    assert shown == {seconds: ("", lines.get(seconds, "")) for seconds in shown}


# --- models, promote, rollback ------------------------------------------------------------------------------


def test_models_lists_versions_and_the_champion(run, home):
    code, out, _ = run("models")
    assert code == 0
    head, first, second = out.splitlines()[:3]
    assert head.split() == ["VERSION", "CREATED", "DATASET", "MODEL", "MACRO", "F1", "*"]
    assert first.split()[:1] + first.split()[2:5] == ["first", "synthesized", "logistic_regression", "0.500"]
    assert "champion since" in first and "champion" not in second
    assert out.endswith(f"\n{NOTICE}\n")


def test_models_of_an_empty_home(run, empty):
    code, out, _ = run("models")
    assert code == 0 and "no models" in out


@pytest.mark.parametrize("gone", ["the version", "its bundle"])
def test_a_champion_that_is_gone_is_named_and_another_can_be_promoted(run, home, gone):
    if gone == "the version":
        shutil.rmtree(home / "models/first")
    else:
        (home / "models/first/logistic_regression_emotion_model.pkl").unlink()
    cause = {"the version": "no model version 'first'", "its bundle": "model.pkl is not there"}[gone]
    code, out, _ = run("models")
    assert code == 0 and "second" in out and cause in out.splitlines()[-1]
    code, out, _ = run("doctor")
    assert code == 1 and findings(out)["champion"] == "✗" and cause in out and "emotion promote" in out
    assert run("promote", "second", "--reason", "first is gone")[0] == 0
    code, _, err = run("rollback")
    assert code == 1 and cause in err and "The previous champion, first" in err and "emotion promote" in err
    assert CustomEmotionModel().version == "second" and len(registry.history(Store(str(home)))) == 2


def test_promote_and_rollback_are_recorded(run, home):
    store = Store(str(home))
    code, out, _ = run("promote", "second", "--family", "ensemble", "--reason", "read its report")
    assert (code, out) == (0, "The champion is now second (ensemble).\n")
    assert CustomEmotionModel().name == "second/ensemble"
    assert registry.history(store)[-1]["reasons"] == ["read its report"]
    assert registry.history(store)[-1]["by"] == "a person"
    code, _, err = run("promote", "second", "--family", "ensemble", "--reason", "again")
    assert code == 1 and "is the champion already" in err
    assert "ensemble" in run("models")[1].splitlines()[2]
    code, out, _ = run("rollback", "--reason", "it was worse")
    assert (code, out) == (0, "The champion is now first (logistic_regression).\n")
    assert CustomEmotionModel().name == "first/logistic_regression"
    assert registry.history(store)[-1]["decision"] == "rolled_back"
    assert registry.history(store)[-1]["reasons"] == ["it was worse"]
    assert run("rollback")[0] == 1


def test_what_cannot_be_loaded_is_not_promoted(run, home):
    path = home / "models/second/random_forest_emotion_model.pkl"
    path.write_bytes(path.read_bytes()[:-1])
    code, _, err = run("promote", "second", "--family", "random_forest", "--reason", "x")
    assert code == 1 and "changed or damaged" in err
    assert CustomEmotionModel().name == "first/logistic_regression"


def test_a_promotion_sends_metrics(run, home, monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(5)
        monkeypatch.setenv("EMOTION_STATSD", f"127.0.0.1:{statsd.getsockname()[1]}")
        assert run("promote", "second", "--reason", "x")[0] == 0
        assert statsd.recv(1000) == b"airflow.emotion.champion.score.speaker_independent.f1_macro:0.5|g"
        assert statsd.recv(1000).startswith(b"airflow.emotion.champion.since:")
        assert statsd.recv(1000).startswith(b"airflow.emotion.champion.is.second.")


# --- score --------------------------------------------------------------------------------------------------


def test_score_warns_of_a_table_of_labels_that_cannot_be_used(run, home, clips, tmp_path):
    folder = tmp_path / "calls"
    folder.mkdir()
    shutil.copy(clips[0], folder / "a.wav")
    (folder / "labels.csv").write_text("path,emotion\na.wav,gloomy\n")
    code, out, err = run("score", folder)
    assert code == 0 and out.startswith("1 of 1 files scored")
    assert "emotion: scored without labels: " in err and "gloomy (1 clips; first: line 2)" in err


def test_score_writes_a_batch_and_prints_a_summary(run, home, clips, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    for number, clip in enumerate(clips[:6]):
        shutil.copy(clip, folder / f"{number}.wav")
    (folder / "empty.wav").touch()
    code, out, _ = run("score", folder, "--batch", "monday")
    assert code == 1  # one file could not be scored
    assert out.startswith("6 of 7 files scored")
    assert "1 not scored: empty" in out
    for emotion in EMOTIONS:
        assert f"  {emotion}" in out
    report = home / "scores/monday/report.html"
    assert out.rstrip().endswith(f"See {report}") and report.exists()
    table = Store(str(home)).read_table("scores/monday/predictions.csv").set_index("path")
    for number, clip in enumerate(clips[:6]):
        assert table.loc[f"{number}.wav", "emotion"] == CustomEmotionModel().predict_emotion_from_file(clip)["emotion"]
    code, out, _ = run("score", folder)
    assert code == 0 and len(out.splitlines()) == 1  # nothing new


# --- doctor -------------------------------------------------------------------------------------------------


def findings(out: str) -> dict[str, str]:
    """Mark and message of each check."""
    return {name: mark for mark, name in re.findall(r"^([✓·✗]) ([^:]+):", out, re.MULTILINE)}


def test_doctor_finds_nothing_wrong_in_order(run, home, monkeypatch, tmp_path):
    pins = tmp_path / "requirements.txt"
    pins.write_text(f"numpy=={np.__version__}  # arrays\n\n# a comment\nsoundfile=={soundfile.__version__}\n")
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)
    for name in ("recordings", "inbox"):
        (home / name).mkdir()
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert findings(out) == dict.fromkeys(
        ["Python", "packages", "artifact store", "disk", "folders", "datasets", "audio formats", "champion"],
        "✓",
    ) | {"metrics": "·"}
    assert out.endswith("Nothing is broken.\n")
    assert "packages: 2 installed as pinned" in out
    assert not list(home.glob(".doctor-*"))


def test_doctor_names_what_is_missing(run, empty):
    code, out, _ = run("doctor")
    assert code == 0 and out.endswith("Nothing is broken.\n"), "a new installation is not broken"
    assert findings(out)["champion"] == "·" and "emotion_training" in out
    assert findings(out)["folders"] == "·" and str(empty / "inbox") in out


def test_doctor_reports_versions_of_which_none_is_the_champion(run, home):
    for name in ("champion.json", "promotions.jsonl"):
        (home / "models" / name).unlink()
    code, out, _ = run("doctor")
    assert code == 1 and findings(out)["champion"] == "✗" and "1 of 9 checks failed" in out


def test_doctor_compares_packages_with_their_pins(run, home, monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("numpy==0.0.1\nno-such-package==1.0\n")
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)
    code, out, _ = run("doctor")
    assert code == 1 and findings(out)["packages"] == "✗"
    assert f"numpy {np.__version__}, expected 0.0.1; no-such-package not installed, expected 1.0" in out


def test_doctor_leaves_out_the_pins_of_another_python(run, home, monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text(
        f'no-such-package==1.0; python_version < "3"\nnumpy=={np.__version__}; python_version >= "3"  # arrays\n'
    )
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)
    _, out, _ = run("doctor")
    assert "packages: 1 installed as pinned" in out


def test_doctor_compares_versions_not_their_spelling(run, home, monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("grafana-foundation-sdk==0.0.21\n")
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "v0.0.21")
    _, out, _ = run("doctor")
    assert "packages: 1 installed as pinned" in out


@pytest.mark.parametrize(
    ("version", "mark"),
    [((3, 10), doctor.BROKEN), ((3, 11), doctor.OK), ((3, 14), doctor.OK), ((3, 15), doctor.BROKEN)],
)
def test_doctor_knows_the_supported_pythons(monkeypatch, version, mark):
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(version_info=(*version, 0)))
    finding = doctor._check_python()
    assert finding.state == mark
    assert ("expected one of 3.11, 3.12, 3.13, 3.14" in finding.what) == (mark == doctor.BROKEN)


@pytest.mark.parametrize("place", ["file/home", "nowhere://home"])
def test_doctor_finds_a_home_that_cannot_be_written(run, tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMOTION_HOME", place if "://" in place else str(tmp_path / place))
    code, out, _ = run("doctor")
    assert code == 1 and findings(out)["artifact store"] == "✗" and "EMOTION_HOME" in out


def test_doctor_finds_a_full_disk(run, home, monkeypatch):
    monkeypatch.setattr(doctor, "FREE_BYTES", 10**18)
    code, out, _ = run("doctor")
    assert code == 1 and findings(out)["disk"] == "✗"


def test_doctor_finds_a_broken_catalogue(run, home, monkeypatch, tmp_path):
    (tmp_path / "datasets.yaml").write_text("[")
    monkeypatch.setenv("EMOTION_DATASETS", str(tmp_path / "datasets.yaml"))
    code, out, _ = run("doctor")
    assert code == 1 and findings(out)["datasets"] == "✗"


def test_doctor_finds_a_damaged_champion(run, home):
    path = home / "models/first/logistic_regression_emotion_model.pkl"
    path.write_bytes(b"")
    code, out, _ = run("doctor")
    assert code == 1 and findings(out)["champion"] == "✗" and "emotion rollback" in out


def test_doctor_finds_a_statsd_host_that_is_not_known(run, home, monkeypatch):
    monkeypatch.setenv("EMOTION_STATSD", "no-such-host.invalid:8125")
    code, out, _ = run("doctor")
    assert code == 1 and findings(out)["metrics"] == "✗" and "no-such-host.invalid" in out


def test_doctor_cannot_know_whether_udp_arrived(run, home, monkeypatch):
    monkeypatch.setenv("EMOTION_STATSD", "127.0.0.1:9")
    _, out, _ = run("doctor")
    assert findings(out)["metrics"] == "·" and "EMOTION_GRAPHITE" in out


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"[]", "does not hold it"),
        (b"<html>", "does not answer as Graphite"),
        (None, "does not answer as Graphite"),
    ],
)
def test_doctor_finds_that_metrics_do_not_arrive(run, home, monkeypatch, answer, message):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    if answer is None:
        server.server_close()
    else:
        thread.start()
    monkeypatch.setenv("EMOTION_STATSD", "127.0.0.1:9")
    monkeypatch.setattr(doctor, "ARRIVAL_SECONDS", 1.5)
    try:
        code, out, _ = run("doctor", "--graphite", f"http://127.0.0.1:{server.server_port}")
    finally:
        if answer is not None:
            server.shutdown()
            thread.join()
            server.server_close()
    assert code == 1 and findings(out)["metrics"] == "✗" and message in out


@pytest.mark.graphite
def test_doctor_follows_a_metric_through_statsd_to_graphite(run, home, monkeypatch, tmp_path):
    graphite_stack.require()
    with graphite_stack.running(tmp_path / "graphite") as stack:
        monkeypatch.setenv("EMOTION_STATSD", f"{stack.statsd[0]}:{stack.statsd[1]}")
        monkeypatch.setenv("EMOTION_GRAPHITE", stack.url)
        _, out, _ = run("doctor")
    assert findings(out)["metrics"] == "✓" and "in Graphite" in out


def test_the_command_line_reads_its_settings_from_the_environment(home):
    assert Settings.from_environment().home == str(home)


def test_an_answer_imports_nothing_that_is_slow_and_not_needed(home, trained_store):
    voice = trained_store.url(next(iter(trained_store.list("corpus", "*.wav"))))
    code = "import sys; from emotion.commands.main import main; main(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "predict", voice], capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    slow = {"sklearn", "pandas", "pyarrow", "scipy.signal", "scipy.stats", "scipy.optimize", "scipy.sparse", "librosa"}
    slow |= {"matplotlib", "shap", "jinja2", "airflow", "requests", "s3fs", "boto3", "aiohttp"}
    assert "emotion.inference.model" in imported and not imported & slow
