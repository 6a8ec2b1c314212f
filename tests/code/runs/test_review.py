"""The review within a scoring run, and deletion on request of all that a run has stored."""

import io
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from emotion.commands.main import main
from emotion.errors import ConfigurationError
from emotion.features import feature_table
from emotion.metrics import Emitter
from emotion.review import clips, labels, making, queue, settled
from emotion.review.deletion import delete
from emotion.review.labels import Label
from emotion.runs.deleting import delete_recording
from emotion.runs.folder_scoring import score_folder
from emotion.runs.scoring_run import ScoringRun
from emotion.scoring.options import Options
from emotion.settings import Settings
from emotion.store import Store
from small_models import trained_store  # noqa: F401


def settings_of(folder):
    places = {"EMOTION_HOME": str(folder / "home"), "EMOTION_INBOXES": str(folder / "inbox")}
    return Settings.from_environment(places | {"EMOTION_REVIEW_DAYS": "30"})


def fill(box, trained, count):
    """Put short recordings into an inbox, with other samples than in training: they are asked for."""
    voices = [Path(trained.root, key) for key in trained.list("corpus", "*.wav")][:count]
    random = np.random.default_rng(0)
    sounds = []
    box.mkdir()
    for number, path in enumerate(voices):
        samples, rate = soundfile.read(path)
        sounds.append(samples + random.normal(0, 0.001, len(samples)))
        soundfile.write(box / f"{number:02}.wav", sounds[-1], rate)
    return sounds, rate


@pytest.fixture(scope="module")
def scored(trained_store, tmp_path_factory):  # noqa: F811
    """A folder with an artifact store and an inbox: 14 short recordings and a call of two channels, scored."""
    folder = tmp_path_factory.mktemp("scored")
    shutil.copytree(f"{trained_store.root}/models", folder / "home/models", copy_function=os.link)
    sounds, rate = fill(folder / "inbox", trained_store, 14)
    pause = np.zeros(rate)
    line = np.concatenate([part for sound in sounds[:7] for part in (sound, pause)])
    other = np.concatenate([part for sound in sounds[7:] for part in (pause, sound)])
    length = min(len(line), len(other))
    (folder / "inbox/calls").mkdir()
    soundfile.write(folder / "inbox/calls/=call <1>.wav", np.stack([line[:length], other[:length]], axis=1), rate)
    options = Options(settle_seconds=0, channels="separate", segments="utterances", review_clips=18)
    summary = score_folder(
        settings_of(folder), folder / "inbox", batch="one", options=options, challenger="first/random_forest"
    )
    return folder, summary


@pytest.fixture
def store(scored, tmp_path):
    """A copy of the store in which a batch is scored."""
    shutil.copytree(scored[0] / "home", tmp_path / "home", copy_function=os.link)
    return Store(str(tmp_path / "home"))


@pytest.fixture
def home(trained_store, tmp_path):  # noqa: F811
    """Settings with the small models and an inbox of five recordings, which are not scored."""
    shutil.copytree(f"{trained_store.root}/models", tmp_path / "home/models", copy_function=os.link)
    fill(tmp_path / "inbox", trained_store, 5)
    return settings_of(tmp_path)


def test_a_batch_has_a_queue_of_its_clips_and_of_parts_of_its_calls(store, scored):
    summary = scored[1]
    made = queue.read(store, "one")
    timeline = store.read_table("scores/one/timeline.parquet")
    assert summary["review"] == {"clips": 18} == {"clips": len(made.items)} and not summary["failures"]
    assert made.candidates == 14 + int((timeline["error"] == "").sum())
    table = store.read_table("scores/one/predictions.parquet").set_index(["path", "channel"])
    for item in made.items:
        with clips.open_audio(store, item) as handle:
            info = soundfile.info(io.BytesIO(handle.read()))
        assert info.duration == pytest.approx(item.duration, abs=1e-3) and info.channels == 1
        row = table.loc[(item.path, item.channel)]
        if item.start is None:
            assert item.answer["emotion"] == row["emotion"] and item.challenger["emotion"] == row["challenger_emotion"]
        else:
            assert item.speaker == row["speaker"] == f"calls/=call <1>.wav#{item.channel}" and item.challenger is None
    assert {item.start is None for item in made.items} == {True, False}


def score(home, **options):
    return score_folder(home, home.inboxes[0], batch="one", options=Options(settle_seconds=0, **options))


def test_no_clips_no_queue(home):
    assert score(home, review_clips=0)["review"] == {"clips": 0}
    assert not Store(home.home).list("reviews")


def test_a_queue_that_fails_costs_no_prediction(home, monkeypatch):
    def fail(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making.clips, "keep", fail)
    summary = score(home)
    (failure,) = summary["failures"]
    assert failure["step"] == "review" and "No space left" in failure["message"]
    assert summary["scored"] == 5 and summary["review"] == {"clips": 0}
    assert "No space left" in Store(home.home).read_bytes("scores/one/report.html").decode()


def test_a_stage_that_is_tried_again_keeps_the_queue_also_with_a_plan_of_an_earlier_release(home, monkeypatch):
    run = ScoringRun(home, "one", Emitter(None))
    store = run.store
    shards = run.find_new_audio(folder=None, options=Options(settle_seconds=0))
    plan = store.read_json("scores/one/plan.json")
    del plan["options"]["review_clips"]
    store.write_json("scores/one/plan.json", plan)
    for shard in shards:
        run.score(part=shard["part"])
    run.collect_predictions()
    monkeypatch.setattr(ScoringRun, "_write_report", lambda self, plan, summary: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.watch_drift()
    made = queue.read(store, "one")
    monkeypatch.undo()
    (home.inboxes[0] / "00.wav").unlink()
    ScoringRun(home, "one", Emitter(None)).watch_drift()
    assert queue.read(store, "one") == made and len(made.items) == 5
    assert store.read_json("scores/one/summary.json")["review"] == {"clips": 5}


def store_features(store, path, sha256):
    """Features of a recording as a training run stores them, with another recording, and under a condition."""
    rows = pd.DataFrame(
        {name: [""] * 2 for name in feature_table.KEYS if name != "sha256"} | {"sha256": [sha256, "other"]}
    )
    store.write_table("features/v2/one.parquet", rows)
    store.write_table("features/v2/alone.parquet", rows[:1])
    talkers = pd.DataFrame({"sha256": ["other", "third"], "condition": "babble", "talkers": [f"x {sha256}", "x y"]})
    store.write_table("conditions/v2/1/one.parquet", talkers)
    manifest = "path,sha256,bytes,emotion,intensity,statement,repetition,speaker,actor,gender,channel,duration,rate,"
    manifest += f"channels,duplicate_of\n1.wav,{sha256},9,sad,,,,ann,,,,1.0,16000,1,\n"
    for name in ("reviewed", "our-calls"):
        store.write_bytes(f"datasets/{name}/manifest.csv", manifest.encode())
        store.write_bytes(f"datasets/{name}/audio/1.wav", path.read_bytes())


def places_with(store, text):
    """The files of a store that hold a text, in their names or in their content."""
    root = Path(store.root)
    found = []
    for path in (path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = pd.read_parquet(path).to_csv().encode()
        if text in str(path.relative_to(root)) or text.encode() in content:
            found.append(str(path.relative_to(root)))
    return found


def test_a_recording_is_deleted_on_request_with_all_that_is_stored_of_it(store, scored):
    items = queue.read(store, "one").items
    item = min((item for item in items if item.start is None), key=lambda item: item.answer["confidence"])
    other = next(other for other in items if other.start is None and other != item)
    for clip in (item, other):
        labels.add(store, Label(*clip.key, "ann", "sad", note="a note"))
    store_features(store, scored[0] / "inbox" / item.path, item.sha256)
    page = store.read_bytes("scores/one/report.html").decode()
    assert page.count("<audio ") == 12 and item.path in page
    before = len(store.read_table("scores/one/predictions.parquet"))

    deleted = delete_recording(store, item.sha256.upper())
    assert {place.partition("/")[0] for place in places_with(store, item.sha256)} == {"datasets", "ledger"}
    assert not clips.is_kept(store, item) and clips.is_kept(store, other)
    assert [label.audio for label in labels.read(store)] == [other.audio] == settled.table(store)["audio"].tolist()
    assert len(queue.read(store, "one").items) == len(items) - 1
    assert len(store.read_table("scores/one/predictions.parquet")) == before - 1
    page = store.read_bytes("scores/one/report.html").decode()
    assert "<audio " not in page and "data:audio" not in page and "one" in page
    assert store.read_table("features/v2/one.parquet")["sha256"].tolist() == ["other"]
    assert store.read_table("conditions/v2/1/one.parquet")["sha256"].tolist() == ["third"]
    assert not store.list("datasets/reviewed") and not store.exists("features/v2/alone.parquet")
    assert deleted.batches == ["one"]
    remains = " ".join(deleted.remains)
    assert "the recording in the dataset our-calls" in remains and "inbox" in remains and "counts" in remains

    again = delete_recording(store, item.sha256)
    assert not again.removed and not again.batches


def test_one_clip_of_a_call_is_deleted_and_the_call_stays(store):
    items = queue.read(store, "one").items
    part, other = [item for item in items if item.start is not None][:2]
    labels.add(store, Label(*part.key, "ann", "sad"))
    deleted = delete_recording(store, part.audio)
    assert not places_with(store, part.audio) and clips.is_kept(store, other) and not deleted.batches
    assert labels.read(store) == []
    call = delete_recording(store, part.sha256)
    assert call.batches == ["one"] and not [item for item in queue.read(store, "one").items if item.start is not None]
    assert not store.read_table("scores/one/timeline.parquet")["sha256"].eq(part.sha256).any()
    assert {place.partition("/")[0] for place in places_with(store, part.sha256)} == {"ledger"}
    assert not places_with(store, "=call <1>")


def test_a_deletion_that_was_killed_is_completed_by_the_next_one(store, monkeypatch):
    item = queue.read(store, "one").items[0]
    labels.add(store, Label(*item.key, "ann", "sad"))
    steps = [0]

    def count_down(method):
        def call(self, key, *arguments):
            steps[0] -= 1
            if not steps[0]:
                raise KeyboardInterrupt
            return method(self, key, *arguments)

        return call

    for name in ("write_bytes", "delete"):
        monkeypatch.setattr(Store, name, count_down(getattr(Store, name)))
    for writes in range(1, 100):
        steps[0] = writes
        try:
            delete(store, item.sha256)
            break
        except KeyboardInterrupt:
            kills = writes
    assert 5 < kills < 99
    assert {place.partition("/")[0] for place in places_with(store, item.sha256)} == {"ledger"}


def test_a_model_that_was_trained_on_it_is_named(store):
    item = queue.read(store, "one").items[0]
    kept = pd.DataFrame({"sha256": [item.sha256], "family": "ensemble"})
    store.write_table("models/later/held_out_predictions.parquet", kept)
    remains = " ".join(delete_recording(store, item.sha256).remains)
    assert "models that were trained on it: later" in remains


def test_the_command_deletes_and_says_what_remains(store, monkeypatch, capsys):
    monkeypatch.setenv("EMOTION_HOME", store.root)
    sha256 = queue.read(store, "one").items[0].sha256
    assert main(["review", "delete", sha256]) == 0
    output = capsys.readouterr().out
    assert (
        "Removed: audio that was kept for the review (1)" in output and "Remains: the recording in the inbox" in output
    )
    assert main(["review", "delete", sha256]) == 0
    assert "Nothing was removed" in capsys.readouterr().out
    assert main(["review", "delete", "abc"]) == 1
    assert "'abc' is no sha256" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="no sha256"):
        delete(store, "../x")


def test_options_of_the_review_are_checked():
    assert asdict(Options())["review_clips"] == 20
    for wrong in (-1, 1001):
        with pytest.raises(ConfigurationError, match="clips to review; expected 0 to 1,000"):
            Options(review_clips=wrong)
    for text, days in (("30", 30), ("", None), ("1.5", 1.5)):
        assert Settings.from_environment({"EMOTION_REVIEW_DAYS": text}).review_days == days
    for text in ("0", "-3", "soon", "inf", "nan"):
        with pytest.raises(ConfigurationError, match="EMOTION_REVIEW_DAYS is"):
            Settings.from_environment({"EMOTION_REVIEW_DAYS": text})
