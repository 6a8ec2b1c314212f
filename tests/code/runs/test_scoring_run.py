import csv
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from io import FileIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from markupsafe import escape

from emotion import features, metrics
from emotion.audio import decode
from emotion.errors import ConfigurationError, DataError, StoreError
from emotion.explanation.values import Explainer
from emotion.features import quality
from emotion.inference import CustomEmotionModel
from emotion.inference.adapting import MIN_BATCH_CLIPS
from emotion.metrics import Emitter
from emotion.models import bundle, registry
from emotion.monitoring import changes, drift
from emotion.monitoring.drift import Sketch
from emotion.monitoring.reference import Reference
from emotion.reports import batch_report, players
from emotion.runs import listening
from emotion.runs.folder_scoring import score_folder
from emotion.runs.scoring_run import DAG, ScoringRun
from emotion.scoring import batches, inbox, ledger
from emotion.scoring import shard as shard_module
from emotion.scoring.ledger import LEASE_SECONDS, PARTS_BEFORE_MERGING
from emotion.scoring.options import NothingToScore, Options
from emotion.scoring.shard import FileScorer, start_scorer
from emotion.scoring.summary import _compare
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, probability_columns
from emotion.workers import Died
from small_models import trained_store  # noqa: F401

PROBABILITIES = probability_columns(EMOTIONS)

NOW = Options(settle_seconds=0)


@pytest.fixture
def home(trained_store, tmp_path):  # noqa: F811
    """Settings with the small models, an empty inbox, and nothing scored yet."""
    shutil.copytree(f"{trained_store.root}/models", tmp_path / "home/models", copy_function=os.link)
    (tmp_path / "inbox").mkdir()
    return Settings.from_environment(
        {"EMOTION_HOME": str(tmp_path / "home"), "EMOTION_INBOXES": str(tmp_path / "inbox")}
    )


@pytest.fixture
def box(home):
    return home.inboxes[0]


@pytest.fixture
def voices(trained_store):  # noqa: F811
    """Paths of the corpus the small models were trained on, actor by actor."""
    return [Path(trained_store.root, key) for key in trained_store.list("corpus", "*.wav")]


def dag_run(settings, run_id="manual__1", *, emitter=None, **arguments):
    run = ScoringRun(settings, run_id, emitter or Emitter(None))
    for shard in run.find_new_audio(**{"folder": None, "options": NOW} | arguments):
        run.score(part=shard["part"])
    run.collect_predictions()
    run.watch_drift()
    return run


def predictions(settings, batch):
    return Store(settings.home).read_table(f"scores/{batch}/predictions.parquet").set_index("path")


def test_answers_are_those_of_the_model(home, box, voices):
    for path in voices[:12]:
        shutil.copy(path, box)
    summary = score_folder(
        home, box, batch="one", options=Options(settle_seconds=0, files_per_shard=5, adaptation="none")
    )
    scored = predictions(home, "one")
    model = CustomEmotionModel(settings=home)
    assert sorted(scored.index) == sorted(path.name for path in voices[:12])
    for name, row in scored.iterrows():
        answer = model.predict_emotion_from_file(box / name)
        assert row["emotion"] == answer["emotion"]
        assert row[PROBABILITIES].tolist() == pytest.approx(list(answer["probabilities"].values()), abs=1e-6)
        assert row["duration"] == answer["duration"]
        assert row["needs_listener"] == (answer["confidence"] < 0.5)
        assert (row["model"], row["family"], row["mode"]) == ("first", "logistic_regression", "plain")
        assert row["sha256"] == hashlib.sha256((box / name).read_bytes()).hexdigest()
    assert summary["scored"] == summary["files"] == 12
    assert sum(summary["emotions"].values()) == sum(summary["confidence"]["histogram"]) == 12
    assert summary["accuracy"]["n"] == 12
    written = Store(home.home).list("scores/one")
    assert {key.rpartition("/")[2] for key in written if "/progress/" not in key} == {
        "plan.json", "0001.parquet", "0002.parquet", "0003.parquet", "predictions.csv", "predictions.parquet",
        "drift.json", "report.html", "summary.json",
    }  # fmt: skip


def test_speakers_with_enough_clips_are_normalized_by_them(home, box, voices):
    by_actor = {actor: [path for path in voices if path.parent.name == actor] for actor in ("Actor_01", "Actor_02")}
    paths = by_actor["Actor_01"][:12] + by_actor["Actor_02"][:3]
    for path in paths:
        (box / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, box / path.parent.name)
    options = Options(settle_seconds=0, speakers="subfolder", files_per_shard=13, adaptation="speaker")
    name = "first/random_forest"  # its answers to a mix of the clips differ enough to show the mix
    summary = score_folder(home, box, batch="one", model=name, options=options)
    scored = predictions(home, "one")
    relative = [f"{path.parent.name}/{path.name}" for path in paths]
    answers = CustomEmotionModel.named(Store(home.home), name).predict_batch(
        [box / path for path in relative], speakers=[path.split("/")[0] for path in relative], adaptation="speaker"
    )
    for path, answer in zip(relative, answers, strict=True):
        assert scored.loc[path, "mode"] == answer["mode"]
        assert scored.loc[path, PROBABILITIES].tolist() == pytest.approx(list(answer["probabilities"].values()))
    assert summary["modes"] == {"plain": 3, "batch": 0, "speaker": 12}
    html = Store(home.home).read_bytes("scores/one/report.html").decode()
    assert html.count("<audio ") == 12 and "by speaker" in html


def test_a_folder_is_normalized_by_all_its_clips_whatever_its_shards(home, box, voices):
    for number, path in enumerate(voices[:30]):
        (box / f"day-{number % 2}").mkdir(exist_ok=True)
        shutil.copy(path, box / f"day-{number % 2}")
    tables = []
    for files_per_shard in (4, 100):
        options = Options(settle_seconds=0, files_per_shard=files_per_shard, adaptation="batch", rescore=True)
        summary = score_folder(home, box, batch=f"shards-{files_per_shard}", options=options)
        tables.append(predictions(home, f"shards-{files_per_shard}"))
        assert summary["modes"] == {"plain": 0, "batch": 30, "speaker": 0} and summary["failures"] == []
        assert [(group["name"], group["clips"], group["used"]) for group in summary["adaptation"]] == [
            ("day-0", 15, True), ("day-1", 15, True),
        ]  # fmt: skip
    np.testing.assert_allclose(*(table[PROBABILITIES] for table in tables), atol=1e-6)
    day = [box / path for path in tables[0].index if path.startswith("day-0")]
    answers = CustomEmotionModel(settings=home).predict_batch(day, adaptation="batch")
    for path, answer in zip(day, answers, strict=True):
        row = tables[0].loc[f"day-0/{path.name}"]
        assert row[PROBABILITIES].tolist() == pytest.approx(list(answer["probabilities"].values()), abs=1e-6)
    page = Store(home.home).read_bytes("scores/shards-4/report.html").decode()
    assert page.count("15 clips: normalized by these clips.") == 2


def test_a_normalized_clip_stays_unfamiliar_and_is_left_to_a_listener_by_the_limit_of_its_mode(home, box, voices):
    entry = Path(home.home, "models/first/version.json")
    facts = json.loads(entry.read_text())
    curves = facts["coverage"]["logistic_regression"]
    curves["speaker_independent_batch"] = [{"coverage": 0.4, "confidence": 0.9, "accuracy": 0.9}]
    entry.unlink()  # it is a link to the entry that all tests share
    entry.write_text(json.dumps(facts))
    for path in voices[:29]:
        shutil.copy(path, box)
    soundfile.write(box / "tone.wav", 0.3 * np.sin(np.arange(32_000) / 6), 16_000)
    tables = {}
    for mode, adaptation in (("plain", "none"), ("batch", "batch")):
        options = Options(settle_seconds=0, adaptation=adaptation, least_accuracy=0.85, rescore=True)
        summary = score_folder(home, box, batch=mode, options=options)
        assert summary["modes"][mode] == 30 and summary["unfamiliar"] == 1
        tables[mode] = table = predictions(home, mode)
        limit = {"plain": 0.7, "batch": 0.9}[mode]
        assert summary["listener_limits"][mode] == limit
        assert table["needs_listener"].equals((table["confidence"] < limit) | table["unfamiliar"])
        assert table["needs_listener"].sum() == summary["needs_listener"]
    columns = ["unfamiliar", "unfamiliarity", *quality.COLUMNS]
    pd.testing.assert_frame_equal(tables["plain"][columns], tables["batch"][columns])


def test_collecting_again_gives_the_same(home, box, voices):
    for path in voices[:20]:
        shutil.copy(path, box)
    run = ScoringRun(home, "manual__1", Emitter(None))
    options = Options(settle_seconds=0, files_per_shard=6, adaptation="batch")
    for shard in run.find_new_audio(folder=None, options=options):
        run.score(part=shard["part"])
    tables = []
    for _ in range(2):
        run.collect_predictions()
        tables.append(predictions(home, run.name))
    assert set(tables[0]["mode"]) == {"batch"}
    pd.testing.assert_frame_equal(*tables)


def test_clips_that_cannot_be_judged_keep_their_plain_answers(home, box, voices, monkeypatch):
    for path in voices[:MIN_BATCH_CLIPS]:
        shutil.copy(path, box)

    def fail(*_, **__):
        raise ArithmeticError("no figure")

    monkeypatch.setattr("emotion.inference.adapting.judge_group", fail)
    summary = score_folder(home, box, batch="one", options=NOW)
    assert summary["modes"]["plain"] == summary["scored"] == MIN_BATCH_CLIPS
    assert any(failure["step"] == "adaptation" for failure in summary["failures"])


def test_each_file_is_scored_once(home, box, voices):
    names = []
    for path in voices[:6]:
        shutil.copy(path, box)
        names.append(path.name)
    dag_run(home, "first")
    with pytest.raises(NothingToScore, match="6 files are known"):
        dag_run(home, "second")
    assert not Store(home.home).list("scores/second"), "an empty sweep leaves nothing behind"
    os.utime(box / names[0])  # the same content with another time
    shutil.copy(voices[7], box / names[1])  # another content at the same path
    shutil.copy(voices[0], box / "again.wav")  # the same content at another path
    dag_run(home, "third")
    assert sorted(predictions(home, "third").index) == sorted([names[1], "again.wav"])
    with pytest.raises(NothingToScore, match="7 files are known"):
        dag_run(home, "fourth")
    dag_run(home, "fifth", options=Options(settle_seconds=0, rescore=True))
    assert len(predictions(home, "fifth")) == 7
    dag_run(home, "sixth", model="second/random_forest")
    assert set(predictions(home, "sixth")["family"]) == {"random_forest"} and len(predictions(home, "sixth")) == 7


def test_a_sweep_of_known_files_reads_none_of_them(home, box, voices, monkeypatch):
    for path in voices[:5]:
        shutil.copy(path, box)
    dag_run(home, "first")
    monkeypatch.setattr(inbox, "open_regular", lambda place: pytest.fail(f"{place} was opened"))
    with pytest.raises(NothingToScore):
        dag_run(home, "second")


def test_the_ledger_is_merged_and_forgets_nothing(home):
    store = Store(home.home)
    for number in range(PARTS_BEFORE_MERGING + 3):
        ledger.record(store, "v/f", f"b{number}", [{"place": f"{number}", "stamp": "s", "sha256": "c" * (number % 2)}])
    before = ledger.read(store, "v/f")
    assert len(store.list("ledger/known/v/f")) == PARTS_BEFORE_MERGING + 3, "reading writes nothing"
    ledger.merge_parts(store, "v/f")
    assert len(store.list("ledger/known/v/f")) == 1
    assert ledger.read(store, "v/f") == before
    ledger.merge_parts(store, "v/f")
    assert len(store.list("ledger/known/v/f")) == 1
    assert len(before.stamps) == PARTS_BEFORE_MERGING + 3
    assert before.has("1", "other", "c") and not before.has("1", "other", None) and not before.has("0", "other", "")


def test_files_still_being_copied_are_left_alone(home, box, voices):
    shutil.copy(voices[0], box / "settled.wav")
    os.utime(box / "settled.wav", (1e9, 1e9))
    shutil.copy(voices[1], box / "fresh.wav")
    shutil.copy(voices[2], box / "half.wav.part")
    shutil.copy(voices[3], box / ".rsync.wav.Ax3")
    shutil.copy(voices[4], box / "future.wav")
    os.utime(box / "future.wav", (4e9, 4e9))
    run = dag_run(home, "first", options=Options(settle_seconds=60))
    assert sorted(predictions(home, "first").index) == ["future.wav", "settled.wav"]
    summary = run.store.read_json("scores/first/summary.json")
    assert summary["left_for_next_sweep"] == {"unsettled": 1, "unfinished_name": 2}


def test_a_file_that_grows_between_two_looks_is_left_alone(home, box, voices, monkeypatch):
    shutil.copy(voices[0], box / "growing.wav")
    hashed = inbox._sha256

    def grow(handle):
        digest = hashed(handle)
        with open(box / "growing.wav", "ab") as file:
            file.write(b"more")
        return digest

    monkeypatch.setattr(inbox, "_sha256", grow)
    with pytest.raises(NothingToScore, match="1 are left for the next sweep"):
        dag_run(home)


def test_a_file_that_changes_or_is_away_after_it_was_listed_is_taken_next_time(home, box, voices):
    for name, voice in zip(("a.wav", "b.wav", "c.wav"), voices, strict=False):
        shutil.copy(voice, box / name)
    run = ScoringRun(home, "first", Emitter(None))
    (shard,) = run.find_new_audio(folder=None, options=NOW)
    shutil.copy(voices[2], box / "a.wav")
    os.utime(box / "b.wav")
    (box / "c.wav").rename(box.parent / "away.wav")
    run.score(part=shard["part"])
    run.collect_predictions()
    run.watch_drift()
    assert predictions(home, "first")["error"].to_dict() == {"b.wav": ""}
    left = {
        file["path"]: file["message"] for file in run.store.read_json("scores/first/summary.json")["temporary_errors"]
    }
    assert "changed after it was listed; the next sweep scores it" in left["a.wav"] and "c.wav" in left
    shutil.copy(voices[0], box / "a.wav")  # both come back as they were
    (box.parent / "away.wav").rename(box / "c.wav")
    dag_run(home, "second")
    assert predictions(home, "second")["error"].to_dict() == {"a.wav": "", "c.wav": ""}


def hostile(box: Path, outside: Path, voice: Path) -> tuple[dict[str, str], set[str]]:
    """Fill an inbox; returns the expected error by shown path, and the paths of good recordings."""
    samples, rate = soundfile.read(voice, dtype="float32")
    data = voice.read_bytes()
    good: set[str] = set()
    bad: dict[str, str] = {}

    def write(name, values, rate=rate, **format):
        soundfile.write(box / name, values, rate, **format)

    for cut in (1, 4, 8, 12, 16, 20, 22, 24, 28, 32, 34, 36, 40):
        (box / f"cut_{cut:02d}.wav").write_bytes(data[:cut])
        bad[f"cut_{cut:02d}.wav"] = "not_audio" if cut < 12 else "truncated"
    (box / "empty.wav").touch()
    (box / "half.wav").write_bytes(data[: len(data) // 2])
    (box / "text.wav").write_text("this is no recording")
    (box / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(4096))
    write("silence.wav", np.zeros(rate))
    write("dc.wav", np.full(16_000, 0.3), rate=16_000)
    write("nan.wav", np.where(np.arange(rate) == 99, np.nan, 0.1), subtype="FLOAT")
    write("infinite.wav", np.where(np.arange(rate) == 99, np.inf, 0.1), subtype="FLOAT")
    write("one_sample.wav", [0.5])
    bad |= {"empty.wav": "empty", "half.wav": "truncated", "text.wav": "not_audio", "noise.mp3": "not_audio"}
    bad |= {
        "silence.wav": "silent",
        "dc.wav": "silent",
        "nan.wav": "not_finite",
        "infinite.wav": "not_finite",
    }
    bad |= {"one_sample.wav": "too_short"}
    os.mkfifo(box / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(box / "socket.wav"))
    os.symlink(voice, box / "way_out.wav")
    os.symlink(outside, box / "folder_out")
    os.symlink("loop.wav", box / "loop.wav")
    os.symlink("nowhere.wav", box / "broken.wav")
    bad |= {"pipe.wav": "not_file", "socket.wav": "not_file", "way_out.wav": "outside_inbox"}
    bad |= {"folder_out": "outside_inbox", "loop.wav": "unreadable", "broken.wav": "unreadable"}

    names = [
        "new\nline \"quote' 🎤.wav",
        "=cmd|' calc'!A0.wav",
        "<script>alert(1)</script>.wav".replace("/", "∕"),
    ]
    for name in [*names, "x" * 250 + ".wav", "wrong.txt"]:
        shutil.copy(voice, box / name)
        good.add(name)
    latin = os.fsencode(box) + b"/M\xfcller.wav"
    shutil.copy(voice, latin)
    good.add("M\\xfcller.wav")
    (box / "folder.wav").mkdir()
    os.symlink("../wrong.txt", box / "folder.wav/link.wav")
    write("eight.wav", np.tile(samples[:, None], 8))
    write("eight_bit.wav", samples, subtype="PCM_U8")
    write("voice.flac", samples)
    write("voice.ogg", samples)
    write("voice.mp3", samples)
    good |= {"folder.wav/link.wav", "eight.wav", "eight_bit.wav", "voice.flac", "voice.ogg", "voice.mp3"}
    return bad, good


def test_a_hostile_inbox(home, box, voices, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(voices[1], outside / "secret.wav")
    bad, good = hostile(box, outside, voices[0])
    assert len(bad) + len(good) >= 40
    run = dag_run(home, "first", options=Options(settle_seconds=0, files_per_shard=9))
    scored = predictions(home, "first")
    assert scored["error"].to_dict() == bad | dict.fromkeys(good, "")
    assert (scored.loc[list(bad), "message"].str.len() > 10).all()
    model = CustomEmotionModel(settings=home)
    whole = model.predict_emotion_from_file(voices[0])
    for name in good - {"eight_bit.wav", "voice.ogg", "voice.mp3"}:
        assert scored.loc[name, PROBABILITIES].tolist() == pytest.approx(
            list(whole["probabilities"].values()), abs=1e-4
        )
    for name in ("eight_bit.wav", "voice.ogg", "voice.mp3"):
        assert scored.loc[name, "emotion"] == model.predict_emotion_from_file(box / name)["emotion"]
    with open(run.store.path("scores/first/predictions.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    paths = {row["path"] for row in rows}
    assert len(rows) == len(scored) and "./=cmd|' calc'!A0.wav" in paths and "new\nline \"quote' 🎤.wav" in paths
    assert not any(cell[:1] in "=+-@\t\r" and not _is_number(cell) for row in rows for cell in row.values() if cell)
    html = run.store.read_bytes("scores/first/report.html").decode()
    assert "<script>" not in html and "secret.wav" not in html
    summary = run.store.read_json("scores/first/summary.json")
    assert summary["scored"] == len(good) and sum(summary["rejected"].values()) == len(bad)
    with pytest.raises(NothingToScore):
        dag_run(home, "second")


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_a_bug_on_one_file_does_not_keep_the_others_from_being_scored(home, box, voices, monkeypatch):
    for path in voices[:3]:
        shutil.copy(path, box)
    extract, calls = features.extract, []

    def broken(samples):
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("oh")
        return extract(samples)

    monkeypatch.setattr(features, "extract", broken)
    score_folder(home, box, batch="one", options=NOW)
    scored = predictions(home, "one")
    assert scored["error"].value_counts().to_dict() == {"": 2, "internal": 1}
    assert scored.loc[scored["error"] == "internal", "message"].item() == "ZeroDivisionError: oh"


def start(settings, name):
    run = ScoringRun(settings, name, Emitter(None))
    return run, run.find_new_audio(folder=None, options=NOW)


def finish(run, shards):
    for shard in shards:
        run.score(part=shard["part"])
    run.collect_predictions()
    run.watch_drift()
    return run.store.read_json(f"scores/{run.name}/summary.json")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale file handle"), MemoryError("no memory")],
    ids=["I/O error", "stale handle", "no memory"],
)
def test_a_temporary_error_leaves_the_file_for_the_next_sweep(home, box, voices, monkeypatch, error):
    for name, path in zip(("a.wav", "b.wav", "c.wav"), voices, strict=False):
        shutil.copy(path, box / name)
    run, shards = start(home, "first")
    read = shard_module.read

    def broken(handle, **options):
        if handle.name.endswith("b.wav"):
            raise error
        return read(handle, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shard_module, "read", broken)
        summary = finish(run, shards)
    assert predictions(home, "first")["error"].to_dict() == {"a.wav": "", "c.wav": ""}
    assert (summary["files"], summary["scored"], summary["rejected"]) == (2, 2, {})
    assert summary["left_for_next_sweep"] == {"temporary_error": 1}
    assert [file["path"] for file in summary["temporary_errors"]] == ["b.wav"]
    assert error.args[-1] in summary["temporary_errors"][0]["message"]
    assert "b.wav: " in run.store.read_bytes("scores/first/report.html").decode()
    dag_run(home, "second")
    assert predictions(home, "second")["error"].to_dict() == {"b.wav": ""}
    with pytest.raises(NothingToScore, match="3 files are known"):
        dag_run(home, "third")


def test_a_file_for_which_memory_always_runs_out_is_refused_until_it_changes(home, box, voices, monkeypatch):
    for name, path in zip(("a.wav", "b.wav"), voices, strict=False):
        shutil.copy(path, box / name)
    read = shard_module.read

    def large(handle, **options):
        if handle.name.endswith("b.wav"):
            raise MemoryError("no memory")
        return read(handle, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shard_module, "read", large)
        errors = []
        for batch in ("first", "second", "third"):
            errors.append(finish(*start(home, batch))["left_for_next_sweep"])
        assert errors == [{"temporary_error": 1}, {"temporary_error": 1}, {}]
        assert predictions(home, "third")["error"].to_dict() == {"b.wav": "too_large"}
        message = predictions(home, "third").loc["b.wav", "message"]
        assert "memory ran out 3 times" in message and "Split the recording" in message
        with pytest.raises(NothingToScore, match="2 files are known"):
            start(home, "fourth")
        shutil.copy(voices[2], box / "b.wav")
        assert finish(*start(home, "fifth"))["left_for_next_sweep"] == {"temporary_error": 1}
    assert Store(home.home).list("ledger/memory_errors")
    dag_run(home, "sixth")
    assert predictions(home, "sixth")["error"].to_dict() == {"b.wav": ""}
    assert not Store(home.home).list("ledger/memory_errors")


def test_a_read_that_fails_inside_the_decoder_is_no_truncated_file(home, box, voices, monkeypatch):
    """libsndfile takes a failed read for the end of the file."""
    for name, path in zip(("a.wav", "b.wav"), voices, strict=False):
        shutil.copy(path, box / name)
    run, shards = start(home, "first")

    class BrokenDisk(FileIO):
        def readinto(self, buffer):
            if str(self.name).endswith("b.wav") and self.tell() > 40_000:
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "_Reader", type("Reader", (inbox._Reader, BrokenDisk), {}))
        summary = finish(run, shards)
    assert summary["left_for_next_sweep"] == {"temporary_error": 1} and summary["scored"] == 1
    assert dag_run(home, "second") and predictions(home, "second")["error"].to_dict() == {"b.wav": ""}


@pytest.mark.parametrize("step", ["hash", "stat", "list"])
def test_a_temporary_error_while_files_are_listed(home, box, voices, monkeypatch, step):
    (box / "sub").mkdir()
    shutil.copy(voices[0], box / "a.wav")
    shutil.copy(voices[1], box / "sub/b.wav")
    place, name = {"hash": (inbox, "open_regular"), "stat": (os, "lstat"), "list": (os, "scandir")}[step]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, failing(getattr(place, name), "sub" if step == "list" else "b.wav", errno.EIO))
        run, shards = start(home, "first")
    summary = finish(run, shards)
    assert summary["left_for_next_sweep"] == {"temporary_error": 1} and summary["scored"] == 1
    dag_run(home, "second")
    assert predictions(home, "second")["error"].to_dict() == {"sub/b.wav": ""}


def test_a_batch_of_which_nothing_can_be_read_for_now(home, box, voices, monkeypatch):
    shutil.copy(voices[0], box / "a.wav")
    run, shards = start(home, "first")
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "open_regular", failing(inbox.open_regular, "a.wav", errno.EMFILE))
        summary = finish(run, shards)
    assert summary["files"] == 0 and summary["left_for_next_sweep"] == {"temporary_error": 1}
    dag_run(home, "second")
    assert predictions(home, "second")["error"].to_dict() == {"a.wav": ""}


def test_features_that_are_not_finite_cost_no_other_file_its_answer(home, box, voices, monkeypatch):
    for name, path in zip(("a.wav", "b.wav"), voices, strict=False):
        shutil.copy(path, box / name)
    extract, calls = features.extract, []
    monkeypatch.setattr(
        features, "extract", lambda samples: extract(samples) * (np.nan if calls else calls.append(1) or 1)
    )
    dag_run(home)
    assert predictions(home, "manual__1")["error"].to_dict() == {"a.wav": "", "b.wav": "internal"}


# --- a failure of explanation, drift or report costs no prediction -------------------------------------------


def broken(*arguments, **options):
    raise ZeroDivisionError("it <broke>")


@pytest.mark.parametrize(
    ("place", "name", "step"),
    [
        (Explainer, "explain_probabilities", "explanation"),
        (listening, "_explain", "explanation"),
        (drift, "judge", "drift"),
        (Sketch, "merge", "drift"),
        (Sketch, "add_clips", "drift"),
        (Reference, "from_bytes", "drift"),
        (changes, "note_batch", "last_batches"),
        (batch_report, "render", "report"),
    ],
)
def test_a_batch_survives_what_fails_after_the_predictions(home, box, voices, monkeypatch, place, name, step):
    for path in voices[::12]:  # four clips, the fewest for which drift is judged
        shutil.copy(path, box)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, broken)
        run = dag_run(home, "first")
    summary = run.store.read_json("scores/first/summary.json")
    assert summary["scored"] == 4 and (predictions(home, "first")["error"] == "").all()
    steps = [failure["step"] for failure in summary["failures"]]
    if name == "from_bytes":  # accuracy in use is estimated from the reference too
        steps.remove("accuracy")
    assert set(steps) == {step} and len(steps) == (4 if step == "explanation" else 1)
    html = run.store.read_bytes("scores/first/report.html").decode()
    if name == "add_clips":
        assert "the log of the task collect_predictions says why" in summary["failures"][0]["message"]
    else:
        assert summary["failures"][0]["message"] == "ZeroDivisionError: it <broke>"
        assert "ZeroDivisionError: it &lt;broke&gt;" in html
    assert summary["drift"]["verdict"] == ("unknown" if step == "drift" else "ok")
    assert run.store.read_json("scores/first/drift.json") == summary["drift"]
    with pytest.raises(NothingToScore, match="4 files are known"):
        dag_run(home, "second")


@pytest.mark.parametrize(
    ("place", "name"),
    [(drift, "judge"), (changes, "note_batch"), (listening, "_explain"), (batch_report, "render")],
)
def test_a_store_that_fails_at_the_moment_costs_no_verdict(home, box, voices, monkeypatch, place, name):
    def failing(*_, **__):
        raise StoreError("the server does not answer")

    for path in voices[::12]:
        shutil.copy(path, box)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, failing)
        with pytest.raises(StoreError):
            dag_run(home, "first")
    summary = dag_run(home, "first").store.read_json("scores/first/summary.json")  # as when the task is tried again
    assert summary["failures"] == [] and summary["drift"]["verdict"] == "ok"


def test_a_clip_without_excerpt_is_in_the_report(home, box, voices, monkeypatch):
    for path in voices[:2]:
        shutil.copy(path, box)
    monkeypatch.setattr(players, "excerpt", broken)
    run = dag_run(home, "first")
    assert "No excerpt: ZeroDivisionError" in run.store.read_bytes("scores/first/report.html").decode()


def test_a_batch_that_an_explanation_ended_is_completed_by_the_next_sweep(home, box, voices, monkeypatch):
    """The parts of the dead batch are taken over, even after the recording is gone."""
    for name, path in zip(("a.wav", "b.wav"), voices, strict=False):
        shutil.copy(path, box / name)
    run, (shard,) = start(home, "first")
    run.score(part=shard["part"])
    run.collect_predictions()  # its watch_drift failed, in code that let an explanation end it
    os.unlink(box / "b.wav")
    monkeypatch.setattr(Explainer, "explain_probabilities", broken)
    dag_run(home, "second")
    assert predictions(home, "second")["error"].to_dict() == {"a.wav": "", "b.wav": ""}
    shutil.copy(voices[2], box / "c.wav")
    dag_run(home, "third")
    assert predictions(home, "third")["error"].to_dict() == {"c.wav": ""}
    assert not ledger.claims(run.store)


class Killed(BaseException):
    """Stands for a process that ends where it stands."""


@pytest.mark.parametrize("batch", ["first", "second"], ids=["the same run again", "the next sweep"])
@pytest.mark.parametrize(
    ("write", "computed"),
    [
        ("ledger/open/first.json", 2),
        ("scores/first/plan/0002.parquet", 2),
        ("scores/first/plan.json", 2),
        ("scores/first/parts/0001.npy", 3),
        ("scores/first/parts/0001.parquet", 3),
        ("scores/first/parts/0002.parquet", 3),
        ("scores/first/parts/0001.npz", 2),
        ("scores/first/predictions.csv", 2),
        ("scores/first/figures.json", 2),
        ("scores/first/summary.json", 2),
        ("ledger/known/first/logistic_regression/first.parquet", 2),
    ],
)
def test_killed_at_a_write_each_file_is_in_one_batch_once(home, box, voices, monkeypatch, batch, write, computed):
    for path in voices[:2]:
        shutil.copy(path, box)
    options = Options(settle_seconds=0, files_per_shard=1)
    extract, counted = features.extract, []

    def dying(method):
        def dying_write(self, key, content):
            if key == write:
                raise Killed
            method(self, key, content)

        return dying_write

    monkeypatch.setattr(batch_report, "LISTEN", 0)  # the report takes most of the time
    monkeypatch.setattr(features, "extract", lambda samples: [counted.append(1), extract(samples)][1])
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_bytes", dying(Store.write_bytes))
        patch.setattr(Store, "write_file", dying(Store.write_file))
        with pytest.raises(Killed):
            dag_run(home, "first", options=options)
    try:
        dag_run(home, batch, options=options)
    except NothingToScore:
        assert batch == "second" and "known" in write, "all was there but the ledger's entry"
    assert len(counted) == computed, "nothing but the shard under way is computed again"
    store = Store(home.home)
    committed = [key.split("/")[1] for key in store.list("scores", "summary.json")]
    scored = pd.concat([predictions(home, name) for name in committed])
    assert sorted(scored.index) == sorted(path.name for path in voices[:2])
    with pytest.raises(NothingToScore, match="2 files are known"):
        dag_run(home, "third", options=options)
    assert not ledger.claims(store) and not store.list("scores", "*.npy")


def contents(store):
    return {key: store.read_bytes(key) for key in store.list("")}


def test_looking_at_other_batches_writes_nothing(home, box, voices):
    """A batch is committed once it has a summary, dead once nobody works on it, and live otherwise."""
    shutil.copy(voices[0], box)
    store = Store(home.home)
    ScoringRun(home, "dead", Emitter(None)).find_new_audio(folder=None, options=NOW)
    plan = store.read_json("scores/dead/plan.json")
    for batch, owner in (("committed", DAG), ("live", "another machine")):
        ledger.claim(store, batch, owner, has_lock=True)
        store.write_json(f"scores/{batch}/plan.json", plan | {"batch": batch})
    store.write_json("scores/committed/summary.json", {})
    ledger.claim(store, "without_plan", DAG, has_lock=False)
    for number in range(PARTS_BEFORE_MERGING):
        ledger.record(store, "v/f", f"b{number}", [{"place": f"{number}", "stamp": "s", "sha256": ""}])
    before = contents(store)
    others = batches.look_at_others(store, "new", alone_as=DAG)
    ledger.read(store, "v/f")
    assert contents(store) == before
    assert [plan["batch"] for plan in others.committed] == ["committed"]
    assert [plan["batch"] for plan in others.live] == ["live"]
    assert sorted(others.dead) == ["dead", "without_plan"] and others.dead["without_plan"] is None


@pytest.mark.parametrize("batch", ["first", "second"], ids=["the same run again", "the next sweep"])
def test_a_plan_of_an_earlier_release_is_continued(home, box, voices, monkeypatch, batch):
    """It holds its files itself."""
    monkeypatch.setattr(batch_report, "LISTEN", 0)
    for path in voices[:3]:
        shutil.copy(path, box)
    run = ScoringRun(home, "first", Emitter(None))
    options = Options(settle_seconds=0, files_per_shard=2)
    shards = run.find_new_audio(folder=None, options=options)
    plan = run.store.read_json("scores/first/plan.json")
    files = [
        entry | {"part": shard["part"]}
        for shard in plan["shards"]
        for entry in run.store.read_table(shard["list"]).drop(columns="memory_errors").to_dict("records")
    ]
    del plan["shards"]
    run.store.write_json("scores/first/plan.json", plan | {"files": files})
    run.store.delete("scores/first/plan")
    run.score(part=shards[1]["part"])
    dag_run(home, batch, options=options)
    assert len(predictions(home, batch)) == 3 and not ledger.claims(run.store)
    with pytest.raises(NothingToScore, match="3 files are known"):
        dag_run(home, "third", options=options)


def test_progress_counts_the_files_of_all_shards(home, box, voices):
    for path in voices[:5]:
        shutil.copy(path, box)
    reports = []
    score_folder(
        home,
        box,
        options=Options(settle_seconds=0, files_per_shard=2),
        progress=lambda *report: reports.append(report),
    )
    assert reports == [(stage, done, 5, "files") for stage in ("find_new_audio", "score") for done in (1, 2, 3, 4, 5)]


def test_a_run_whose_files_were_taken_over_says_so(home, box, voices):
    shutil.copy(voices[0], box)
    run = ScoringRun(home, "first", Emitter(None))
    (shard,) = run.find_new_audio(folder=None, options=NOW)
    dag_run(home, "second")
    with pytest.raises(DataError, match="taken over by batch second"):
        run.score(part=shard["part"])
    with pytest.raises(DataError, match="taken over"):
        run.find_new_audio(folder=None, options=NOW)


def test_the_folders_of_batches_that_were_taken_over_are_removed(home, box, voices, monkeypatch):
    """The second dies too; the third has the parts of both. The first is alive after all, and writes once more."""
    options = Options(settle_seconds=0, files_per_shard=1)
    monkeypatch.setattr(batch_report, "LISTEN", 0)
    for path in voices[:2]:
        shutil.copy(path, box)
    slow = ScoringRun(home, "first", Emitter(None))
    shards = slow.find_new_audio(folder=None, options=options)
    slow.score(part=shards[0]["part"])
    shutil.copy(voices[2], box)
    dying = ScoringRun(home, "second", Emitter(None))
    dying.score(part=dying.find_new_audio(folder=None, options=options)[1]["part"])
    store = Store(home.home)
    store.write_json("scores/first/progress/score-0002.json", {})
    ledger.claim(store, "no-plan", DAG, has_lock=False)
    store.write_json("scores/no-plan/progress/find_new_audio.json", {})
    dag_run(home, "third", options=options)
    assert {key.split("/")[1] for key in store.list("scores")} == {"third"}
    assert len(predictions(home, "third")) == 3
    with pytest.raises(DataError, match="taken over by batch second"):
        slow.score(part=shards[1]["part"])
    store.write_json("scores/first/progress/score-0002.json", {})  # it was in mid-shard
    monkeypatch.setattr(ledger, "REMEMBERED_SECONDS", 0.0)
    with pytest.raises(NothingToScore, match="3 files are known"):
        dag_run(home, "fourth", options=options)
    assert {key.split("/")[1] for key in store.list("scores")} == {"third"}
    assert not store.list("ledger/taken_over")


@pytest.mark.parametrize("step", ["score", "watch_drift"])
def test_a_batch_that_was_started_anew_under_the_name_of_a_dead_one_is_kept(home, box, voices, step):
    """The run died before its plan, was given up, and is cleared before its successor is complete."""
    store = Store(home.home)
    shutil.copy(voices[0], box)
    ledger.claim(store, "first", DAG, has_lock=False)
    second = ScoringRun(home, "second", Emitter(None))
    (shard,) = second.find_new_audio(folder=None, options=NOW)
    shutil.copy(voices[1], box)
    plan = store.read_json("scores/second/plan.json")
    ledger.claim(store, "second", "another machine", has_lock=True)  # so that it counts as live
    if step == "score":
        ScoringRun(home, "first", Emitter(None)).find_new_audio(folder=None, options=NOW)
    else:
        dag_run(home, "first", options=NOW)
    assert plan["took_over"] == ["first"]
    second.score(part=shard["part"])
    second.collect_predictions()
    second.watch_drift()
    assert store.exists("scores/first/plan.json") and store.exists("scores/second/summary.json")


def test_a_process_killed_in_mid_batch(home, box, voices, tmp_path):
    for number in range(30):
        shutil.copy(voices[number % 10], box / f"{number:02d}.wav")
    script = (
        "import sys, time; from emotion.settings import Settings\n"
        "from emotion.runs.folder_scoring import score_folder\n"
        "from emotion.scoring.options import Options\n"
        "def slowly(stage, done, total, unit):\n"
        "    print(stage, done, flush=True); time.sleep(60 * (stage == 'score' and done == 13))\n"
        "score_folder(Settings.from_environment(), sys.argv[1], progress=slowly, batch=sys.argv[2],\n"
        "                     options=Options(settle_seconds=0, files_per_shard=5))"
    )
    environment = os.environ | {"EMOTION_HOME": home.home, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(box), "killed"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.split() == ["score", "13"]:
                with pytest.raises(ConfigurationError, match="another process is at work on batch killed"):
                    score_folder(home, box, batch="killed", options=NOW)
                with pytest.raises(NothingToScore, match="30 files are known"):  # claimed by a live one
                    score_folder(home, box, options=NOW)
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    summary = score_folder(home, box, batch="next", options=Options(settle_seconds=0, files_per_shard=5))
    assert summary["scored"] == 30 and sorted(predictions(home, "next").index) == [f"{n:02d}.wav" for n in range(30)]
    plan = Store(home.home).read_json("scores/next/plan.json")
    assert sum(shard["files"] for shard in plan["shards"] if shard["part"].startswith("scores/killed/")) == 10


def test_a_long_recording_gets_a_timeline(home, box, voices):
    parts = [soundfile.read(path) for path in voices[:8]]
    rate = parts[0][1]
    speech = np.concatenate([samples for samples, _ in parts])
    quiet = np.concatenate([speech, np.zeros(4 * rate), speech])
    soundfile.write(box / "long.flac", quiet, rate)
    soundfile.write(box / "mute.wav", np.zeros(30 * rate), rate)
    shutil.copy(voices[0], box / "short.wav")
    options = Options(settle_seconds=0, window_seconds=2)
    summary = score_folder(home, box, batch="one", challenger="latest", options=options)
    scored = predictions(home, "one")
    assert scored["error"].to_dict() == {"long.flac": "", "mute.wav": "silent", "short.wav": ""}
    timeline = pd.read_csv(Store(home.home).path("scores/one/timeline.csv"))
    rows = timeline[timeline["error"].isna()]
    model = CustomEmotionModel(settings=home)
    answers = list(model.predict_timeline(box / "long.flac", window=2, hop=2))
    assert timeline["start"].tolist() == [answer["start"] for answer in answers]
    assert timeline["error"].fillna("").tolist() == [answer.get("error", "") for answer in answers]
    assert "silent" in timeline["error"].tolist()
    assert rows["emotion"].tolist() == [answer["emotion"] for answer in answers if "emotion" in answer]
    weights = (rows["end"] - rows["start"]).to_numpy()
    mean = weights @ rows[PROBABILITIES].to_numpy() / weights.sum()
    assert scored.loc["long.flac", PROBABILITIES].tolist() == pytest.approx(mean.tolist())
    assert (
        scored.loc["long.flac", "emotion"] == EMOTIONS[mean.argmax()] == scored.loc["long.flac", "challenger_emotion"]
    )
    assert scored["windows"].to_dict() == {"long.flac": len(timeline), "mute.wav": 0, "short.wav": 0}
    assert summary["timelines"] == 1 and summary["comparison"]["agreement"] == 1
    assert "Long recordings" in Store(home.home).read_bytes("scores/one/report.html").decode()


def start_poisoned(home, plan, training_clips):
    """A scorer that dies of one file, as of one that takes all memory."""
    scorer = start_scorer(home, plan, training_clips)

    class Poisoned(FileScorer):
        def __call__(self, entry):
            if entry["path"] == "poison.wav":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(entry)

    scorer.__class__ = Poisoned
    return scorer


def test_two_processes_score_as_one_does_and_a_file_that_ends_one_is_named(home, box, voices, monkeypatch):
    for number, path in enumerate(voices[:12]):
        shutil.copy(path, box / f"{number}.wav")
    shutil.copy(voices[12], box / "poison.wav")
    (box / "no audio.wav").write_bytes(b"not audio")
    parts = [soundfile.read(path) for path in voices[:8]]
    soundfile.write(box / "long.flac", np.concatenate([samples for samples, _ in parts]), parts[0][1])
    monkeypatch.setattr(shard_module, "WORKER_FILES", 1)
    reports: list[tuple] = []
    options = Options(settle_seconds=0, window_seconds=2, files_per_shard=6, rescore=True)
    for jobs in (1, 2):
        score_folder(
            home, box, batch=f"by-{jobs}", options=options, jobs=jobs, progress=lambda *report: reports.append(report)
        )
    assert [report[1] for report in reports if report[0] == "score"] == 2 * list(range(1, 16))
    store = Store(home.home)
    for name in ("predictions.csv", "timeline.csv"):
        assert store.read_bytes(f"scores/by-1/{name}") == store.read_bytes(f"scores/by-2/{name}")
    monkeypatch.setattr(shard_module, "start_scorer", start_poisoned)
    for attempt in (1, 2, 3):
        summary = score_folder(home, box, batch=f"poisoned-{attempt}", options=options, jobs=2)
        assert summary["scored"] == 13
        if attempt < 3:
            ((path, message),) = [(file["path"], file["message"]) for file in summary["temporary_errors"]]
            assert path == "poison.wav" and "SIGKILL" in message
    refused = predictions(home, "poisoned-3").loc["poison.wav"]
    assert refused["error"] == "too_large" and "SIGKILL" in refused["message"]


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGKILL, "too_large"), (signal.SIGSEGV, "internal")])
def test_a_file_that_ends_its_process_is_refused_at_the_third_time(number, reason):
    model = {"version": "first", "family": "ensemble"}
    scorer = FileScorer({"models": [model], "inboxes": [], "options": {}}, None, list)
    entry = {"path": "a.wav", "sha256": "ab", "label": "", "speaker": ""}
    for count, error in ((0, "temporary_error"), (1, "temporary_error"), (2, reason)):
        scored = scorer.died(entry | {"memory_errors": count}, Died(-number))
        ((row,), left) = scored.rows, scored.memory_errors
        assert row["error"] == error and number.name in row["message"] and left == (count + 1) % 3


def test_two_models_side_by_side(home, box, voices):
    table = ["path,emotion,speaker"]
    for number, path in enumerate(voices[:24]):
        shutil.copy(path, box / f"{number:02d}.wav")
        table.append(f"{number:02d}.wav,{EMOTIONS[int(path.stem.split('-')[2]) - 1].upper()},")
    (box / "labels.csv").write_text("\n".join(table))
    summary = score_folder(home, box, batch="one", challenger="second/random_forest", options=NOW)
    scored = predictions(home, "one")
    assert len(scored) == 24, "the table of labels is no recording"
    compared = summary["comparison"]
    model_right, challenger_right = (
        scored["emotion"] == scored["label"],
        scored["challenger_emotion"] == scored["label"],
    )
    assert (
        compared["accuracy"]["value"] == model_right.mean()
        and compared["challenger_accuracy"]["value"] == challenger_right.mean()
    )
    assert compared["accuracy"]["low"] < compared["accuracy"]["value"] <= compared["accuracy"]["high"]
    assert compared["agreement"] == pytest.approx((scored["emotion"] == scored["challenger_emotion"]).mean())
    assert len(compared["listed"]) == compared["disagreements"] == round(24 * (1 - compared["agreement"]))
    forest = CustomEmotionModel.named(Store(home.home), "second/random_forest")
    answers = forest.predict_batch([box / name for name in scored.index])
    for (_, row), answer in zip(scored.iterrows(), answers, strict=True):
        assert (row["challenger_emotion"], row["challenger_confidence"]) == (
            answer["emotion"],
            pytest.approx(answer["confidence"], abs=0.02),  # float32 sums differ by batch size
        )
    with pytest.raises(NothingToScore):
        dag_run(home, "champion")
    with pytest.raises(NothingToScore):
        dag_run(home, "forest", model="second/random_forest")


def test_where_speakers_are_known_they_are_drawn():
    """One of six speakers is read well by one model alone: forty clips, and no evidence about other speakers."""
    right, wrong = "sad", "calm"
    rows = [(right, wrong, "loud")] * 40 + [(right, right, name) for name in "abcde" for _ in range(40)]
    good = pd.DataFrame(rows, columns=["emotion", "challenger_emotion", "speaker"]).assign(
        label=right, path="x", channel="", confidence=0.5, challenger_confidence=0.5
    )
    comparison = _compare(good, good)
    assert comparison["mcnemar_p"] < 1e-10
    difference = comparison["difference"]
    assert difference["value"] == pytest.approx(-1 / 6) and difference["high"] == 0
    accuracy = comparison["challenger_accuracy"]
    assert accuracy["drawn"] == "speakers" and accuracy["low"] <= 0.5 and accuracy["high"] == 1
    unknown = _compare(good, good.assign(speaker=""))
    assert unknown["challenger_accuracy"]["drawn"] == "clips" and unknown["challenger_accuracy"]["low"] > 0.75


def test_mcnemar_by_hand():
    right, wrong = "sad", "calm"
    rows = [(right, right)] * 5 + [(right, wrong)] * 8 + [(wrong, right)] * 1 + [(wrong, wrong)] * 2
    good = pd.DataFrame(rows, columns=["emotion", "challenger_emotion"]).assign(
        label=right, path="x", channel="", confidence=0.5, challenger_confidence=0.5, speaker=""
    )
    comparison = _compare(good, good)
    assert comparison["difference"] is None and comparison["accuracy"]["drawn"] == "clips"
    assert (comparison["only_model_right"], comparison["only_challenger_right"]) == (8, 1)
    assert comparison["mcnemar_p"] == pytest.approx(2 * (1 + 9) / 2**9)
    # Wilson's interval of 13 of 16, from its formula
    n, p, z = 16, 13 / 16, 1.959964
    centre, half = p + z * z / 2 / n, z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert comparison["accuracy"]["low"] == pytest.approx((centre - half) / (1 + z * z / n), abs=1e-6)
    assert comparison["accuracy"]["high"] == pytest.approx((centre + half) / (1 + z * z / n), abs=1e-6)


@pytest.fixture
def with_folds(home, voices):
    """Gives the version ``first`` fold models that have heard the first 12 voices."""
    store = Store(home.home)
    name = registry.fold_models_name("logistic_regression")
    clips = [decode.load(path).samples_sha256 for path in voices[:12]]
    folds = [{"speakers": [], "clips": clips[:5], "model": None}, {"speakers": [], "clips": clips[5:], "model": None}]
    data = bundle.dumps(folds)
    store.write_bytes(f"models/first/{name}", data)
    entry = registry.entry(store, "first")
    entry["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    store.write_json("models/first/version.json", entry)
    return store, f"models/first/{name}"


def test_clips_of_the_training_set_are_marked_and_do_not_count(home, box, voices, with_folds):
    store, _ = with_folds
    for number, path in enumerate(voices[8:24]):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(box / f"{number:02d}-{path.stem}.flac", samples, rate)
    rows = [f"{path.name},{EMOTIONS[int(path.stem.split('-')[3]) - 1]}" for path in sorted(box.iterdir())]
    (box / "labels.csv").write_text("\n".join(["path,emotion", *rows]))
    summary = score_folder(home, box, batch="one", challenger="first/random_forest", options=NOW)
    scored = predictions(home, "one")
    assert scored["heard_in_training"].tolist() == ["yes"] * 4 + ["no"] * 12
    assert (scored["error"] == "").all() and (scored["label"] != "").all()
    assert summary["heard_in_training"] == 4 and summary["scored"] == 16
    assert summary["accuracy"]["n"] == summary["comparison"]["labelled"] == 12 and summary["drift"]["clips"] == 12
    assert "4 files are clips that the model was trained on" in store.read_bytes("scores/one/report.html").decode()


def test_without_fold_models_nothing_is_said_of_training(home, box, voices, with_folds):
    store, key = with_folds
    store.write_bytes(key, b"damaged")
    shutil.copy(voices[0], box / "a.wav")
    summary = score_folder(home, box, batch="one", options=NOW)
    assert predictions(home, "one")["heard_in_training"].tolist() == [""] and summary["heard_in_training"] == 0


def test_parts_of_an_earlier_release_are_taken_over(home, box, voices):
    """They do not have the column ``heard_in_training``."""
    shutil.copy(voices[0], box / "a.wav")
    run, (shard,) = start(home, "first")
    run.score(part=shard["part"])
    table = run.store.read_table(f"{shard['part']}.parquet").drop(columns="heard_in_training")
    run.store.write_table(f"{shard['part']}.parquet", table)
    shutil.copy(voices[1], box / "b.wav")
    dag_run(home, "second")
    assert predictions(home, "second")["heard_in_training"].to_dict() == {"a.wav": "", "b.wav": ""}


class Recorder:
    def __init__(self):
        self.sent = {}

    def __getattr__(self, method):
        return lambda name, value: self.sent.setdefault(name, []).append(value)


def test_every_scoring_metric_of_the_table_is_sent(home, box, voices):
    for path in voices[:16]:
        shutil.copy(path, box)
    soundfile.write(box / "tone.wav", 0.3 * np.sin(np.arange(32_000) / 6), 16_000)
    (box / "empty.wav").touch()
    recorder = Recorder()
    dag_run(home, emitter=Emitter(recorder))
    sent = recorder.sent
    assert sent["emotion.scoring.clips.scored"] == [17] and sent["emotion.scoring.clips.rejected"] == [1]
    assert sent["emotion.scoring.rejected.empty"] == sent["emotion.scoring.unfamiliar"] == [1]
    assert sum(sum(values) for name, values in sent.items() if ".predicted." in name) == 17
    assert len(sent["emotion.scoring.latency.decode"]) == 17
    assert (
        sent["emotion.scoring.latency_quantile.total.p95"][0] >= sent["emotion.scoring.latency_quantile.total.p50"][0]
    )
    assert abs(sent["emotion.scoring.last_seen"][-1] - time.time()) < 600
    assert sent["emotion.scoring.drift.shift_alarm"][0] > sent["emotion.scoring.drift.shift_watch"][0] > 0
    pointer = registry.champion(Store(home.home))
    assert sent[metrics.CHAMPION.path(version=pointer["version"], family=pointer["family"])][0] < time.time()
    for metric in metrics.TABLE:
        # The DAG sends its schedule. The model is of too few speakers for an estimate (see test_accuracy_in_use.py).
        others = (metrics.SCORING_EVERY, metrics.ESTIMATED, metrics.EMOTION_MIX)
        if metric.name.startswith("emotion.scoring.") and metric not in others:
            start = metric.name.partition("{")[0]
            assert any(name.startswith(start) for name in sent), metric.name
    for stage in ("find_new_audio", "score", "collect_predictions", "watch_drift"):
        assert (
            f"emotion.process.{stage}.peak_memory_bytes" in sent and f"emotion.scoring.stage.{stage}.duration" in sent
        )


def test_what_a_sweep_does_without_a_champion_or_an_inbox(home, box):
    with pytest.raises(NothingToScore, match="Nothing new for first"):
        dag_run(home, scheduled=True)
    box.rmdir()
    with pytest.raises(NothingToScore, match="No inbox yet"):
        dag_run(home, scheduled=True)
    with pytest.raises(ConfigurationError, match="make it"):
        dag_run(home)
    for name in ("champion.json", "promotions.jsonl"):
        os.unlink(Path(home.home) / "models" / name)
    with pytest.raises(NothingToScore, match="No champion yet"):
        dag_run(home, scheduled=True)
    box.mkdir()
    with pytest.raises(ConfigurationError, match="no champion"):
        dag_run(home)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folder": "/etc"}, "outside the inboxes"),
        ({"folder": "../other"}, "outside the inboxes"),
        ({"folder": "way_out"}, "outside the inboxes"),
        ({"folder": "absent"}, "not a folder"),
        ({"model": "third"}, "no model version 'third'"),
        ({"model": "first/forest"}, "has no forest"),
        ({"challenger": "first"}, "compared with itself"),
    ],
)
def test_what_is_not_there_is_named(home, box, tmp_path, arguments, message):
    os.symlink(tmp_path, box / "way_out")
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigurationError, match=message):
        dag_run(home, **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"speakers": "face"}, "speakers from 'face'"), ({"window_seconds": 0.5}, "windows of 0.5 s")],
)
def test_options_are_checked(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        Options(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,emotion\na.wav,sad\n", "has the columns file, emotion"),
        ("path,emotion\na.wav,gloomy\n", r"gloomy \(1 clips; first: line 2\)\. Expected neutral, calm"),
        (b"path,emotion\n\xff\xfe,sad\n", "cannot be read: .*; expected text in UTF-8, or in UTF-16"),
        ("", "has the columns none; expected path, emotion or speaker"),
    ],
)
def test_a_labels_file_that_cannot_be_used(home, box, voices, text, message):
    shutil.copy(voices[0], box / "a.wav")
    (box / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    run = dag_run(home)
    labels_refused(run, message)


def labels_refused(run, message):
    """The summary and the report say why; the recording has an answer and no label."""
    summary = run.store.read_json(f"scores/{run.name}/summary.json")
    (refused,) = summary["labels_refused"]
    assert re.search(message, refused["message"]) and refused["folder"] == summary["folders"][0]
    html = run.store.read_bytes(f"scores/{run.name}/report.html").decode()
    assert "Scored without labels" in html and str(escape(refused["message"])) in html
    scored = predictions(run.settings, run.name)
    assert scored["error"].tolist() == [""] and scored["label"].tolist() == [""] and summary["accuracy"] is None


@pytest.mark.parametrize("kind", ["link out of the inbox", "pipe", "folder", "loop", "too large", "unreadable"])
def test_what_is_no_table_of_labels_is_refused(home, box, voices, tmp_path, monkeypatch, kind):
    shutil.copy(voices[0], box / "a.wav")
    (tmp_path / "labels.csv").write_text("path,emotion\na.wav,sad\n")
    table, message = box / "labels.csv", "no regular file of the inbox"
    if kind == "link out of the inbox":
        os.symlink(tmp_path / "labels.csv", table)
    elif kind == "pipe":
        os.mkfifo(table)
    elif kind == "folder":
        table.mkdir()
    elif kind == "loop":
        os.symlink("labels.csv", table)
    elif kind == "too large":
        with table.open("wb") as file:
            file.truncate(65 << 20)
        message = "expected at most 67,108,864"
    else:
        table.write_text("path,emotion\na.wav,sad\n")
        message = "Input/output error"
        monkeypatch.setattr(inbox, "open_regular", failing(inbox.open_regular, "labels.csv", errno.EIO))
    labels_refused(dag_run(home), message)


def failing(function, ending, number):
    """A function of a path that fails with an error of the operating system for paths with this ending."""

    def call(place, *arguments, **options):
        if os.fspath(place).endswith(ending):
            raise OSError(number, os.strerror(number), place)
        return function(place, *arguments, **options)

    return call


def test_a_bad_table_of_labels_in_one_inbox_stops_no_other(home, box, voices, tmp_path):
    (tmp_path / "second").mkdir()
    settings = Settings.from_environment(
        {"EMOTION_HOME": home.home, "EMOTION_INBOXES": f"{box}{os.pathsep}{tmp_path / 'second'}"}
    )
    shutil.copy(voices[0], box / "a.wav")
    shutil.copy(voices[1], tmp_path / "second/b.wav")
    (box / "labels.csv").write_text("path,emotion\na.wav,gloomy\n")
    (tmp_path / "second/labels.csv").write_text("path,emotion\nb.wav,sad\n")
    run = dag_run(settings, "first")
    assert predictions(settings, "first")["label"].to_dict() == {
        str(box / "a.wav"): "",
        str(tmp_path / "second/b.wav"): "sad",
    }
    assert [entry["folder"] for entry in run.store.read_json("scores/first/summary.json")["labels_refused"]] == [
        str(box)
    ]


def test_several_inboxes_are_swept_together(home, box, voices, tmp_path):
    (tmp_path / "second").mkdir()
    settings = Settings.from_environment(
        {"EMOTION_HOME": home.home, "EMOTION_INBOXES": f"{box}{os.pathsep}{tmp_path / 'second'}"}
    )
    shutil.copy(voices[0], box / "a.wav")
    shutil.copy(voices[1], tmp_path / "second/a.wav")
    dag_run(settings, "first")
    assert sorted(predictions(settings, "first").index) == sorted([str(box / "a.wav"), str(tmp_path / "second/a.wav")])


def test_summary_is_strict_json(home, box):
    (box / "empty.wav").touch()
    summary = score_folder(home, box, options=NOW)
    assert summary["scored"] == 0 and summary["confidence"]["mean"] is None and summary["drift"]["verdict"] == "unknown"
    json.dumps(summary, allow_nan=False)


def test_a_claim_of_another_machine_holds_for_its_lease(home):
    store = Store(home.home)
    claim = {"batch": "x", "owner": "elsewhere", "claimed": time.time()}
    assert not ledger.is_dead(store, claim)
    assert ledger.is_dead(store, claim, alone_as="elsewhere")
    assert ledger.is_dead(store, claim | {"claimed": time.time() - LEASE_SECONDS - 1})


def test_artifacts_may_lie_in_an_object_store(home, box, voices, trained_store):  # noqa: F811
    store = Store("memory://scoring-test")
    for key in trained_store.list("models"):
        store.write_bytes(key, trained_store.read_bytes(key))
    for path in voices[:5]:
        shutil.copy(path, box)
    settings = Settings.from_environment({"EMOTION_HOME": store.root, "EMOTION_INBOXES": str(box)})
    dag_run(settings, "first", options=Options(settle_seconds=0, files_per_shard=2))
    assert len(predictions(settings, "first")) == 5
    assert not store.list("scores/first/parts") and not ledger.claims(store)
    with pytest.raises(NothingToScore):
        dag_run(settings, "second")


def test_a_tone_is_unfamiliar_and_goes_to_the_listener_first(home, box, voices):
    for clip in voices[:6]:
        shutil.copy(clip, box / clip.name)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    soundfile.write(box / "tone.wav", tone, 16_000)
    summary = score_folder(home, box, batch="tone", options=Options(settle_seconds=0, min_confidence=0))
    table = Store(str(home.home)).read_table("scores/tone/predictions.parquet").set_index("path")
    assert table.index[table["unfamiliar"]].tolist() == table.index[table["needs_listener"]].tolist() == ["tone.wav"]
    assert table.loc["tone.wav", "unfamiliarity"] > 1 >= table["unfamiliarity"].drop("tone.wav").max()
    assert summary["unfamiliar"] == summary["needs_listener"] == 1
    assert table["snr_db"].drop("tone.wav").notna().any() and np.isnan(table.loc["tone.wav", "snr_db"])
    assert summary["quality"]["bandwidth_hz"] == table["bandwidth_hz"].median()
    html = Path(home.home, "scores/tone/report.html").read_text()
    section = html[html.index('<section id="listen">') :]
    assert section.index("tone.wav") < min(section.index(name) for name in table.index if name != "tone.wav")


def test_the_listener_gets_what_would_push_accuracy_below_a_given_one(home, box, voices):
    for clip in voices[:6]:
        shutil.copy(clip, box / clip.name)
    summary = score_folder(home, box, batch="sure", options=Options(settle_seconds=0, least_accuracy=0.85))
    table = Store(str(home.home)).read_table("scores/sure/predictions.parquet")
    assert summary["listener_limits"]["plain"] == 0.7
    assert (table["needs_listener"] == ((table["confidence"] < 0.7) | table["unfamiliar"])).all()
    with pytest.raises(ConfigurationError, match="expected 0 to 1"):
        Options(least_accuracy=85)
