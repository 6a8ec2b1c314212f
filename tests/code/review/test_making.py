import datetime as dt
import hashlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile

from emotion.audio import decode
from emotion.errors import DataError
from emotion.review import assignment, clips, deletion, labels, making, queue, settled
from emotion.review.clips import Span
from emotion.review.labels import Label
from emotion.review.making import make_queue
from emotion.scoring import ledger
from emotion.scoring.tables import timeline_table
from emotion.store import Store
from emotion.vocabulary import EMOTIONS
from review_batches import add_batch, add_queue, predictions, write_recording


@pytest.fixture
def box(tmp_path):
    return tmp_path / "inbox"


def one_table(box, count=3, **recording):
    table = predictions(count)
    table["sha256"] = [write_recording(box / path, seed=n, **recording) for n, path in enumerate(table["path"])]
    return table


def long_call(box, *, channel=""):
    """The tables of one stereo call of 12 s in four windows."""
    table = one_table(box, 1, seconds=12, channels=2)
    table.loc[0, ["windows", "channel"]] = [4, channel]
    place = table.loc[0, ["path", "sha256", "channel"]].to_dict()
    answer = {"emotion": "sad", "confidence": 0.4} | {f"p_{emotion}": 0.125 for emotion in EMOTIONS}
    rows = [place | answer | {"start": 3.0 * n, "end": 3.0 * n + 3, "error": ""} for n in range(4)]
    return table, timeline_table(rows, emotions=EMOTIONS)


def test_a_whole_recording_is_kept_byte_for_byte(store, box):
    table = one_table(box, channels=2)
    made = make_queue(store, add_batch(store, "one", box, table), size=20, drift="ok")
    assert made == queue.read(store, "one") and made.candidates == 3 and len(made.items) == 3
    for item in made.items:
        assert item.audio == item.sha256 and item.suffix == "wav" and item.batch == "one"
        with clips.open_audio(store, item) as handle:
            assert handle.read() == (box / item.path).read_bytes()
    assert made.label_set == EMOTIONS and made.model == {"version": "first", "family": "ensemble"}
    stored = store.read_json("reviews/queues/one.json")
    assert stored["format"] == 1 and "batch" not in stored["items"][0]


def test_parts_of_a_call_are_cut_out_of_their_channel(store, box):
    table, timeline = long_call(box, channel="2")
    made = make_queue(store, add_batch(store, "one", box, table, timeline), size=20, drift="ok")
    samples, rate = soundfile.read(box / table.loc[0, "path"], dtype="float32")
    assert sorted(item.start for item in made.items) == [0, 3, 6, 9]
    for item in made.items:
        with clips.open_audio(store, item) as handle:
            data = handle.read()
        part, part_rate = soundfile.read(io.BytesIO(data), dtype="float32")
        assert part_rate == rate and part.ndim == 1 and item.suffix == "flac"
        expected = samples[round(item.start * rate) : round(item.end * rate), 1]
        assert np.abs(part - expected).max() < 2**-22
        assert hashlib.sha256(data).hexdigest() == item.audio != item.sha256


def test_what_is_kept_is_bounded(box, monkeypatch):
    write_recording(box / "a.wav", seed=0, seconds=3, rate=192_000, channels=2)
    with open(box / "a.wav", "rb") as file:
        (data,) = clips.cut_out(file, [Span(None, None, None)])
    info = soundfile.info(io.BytesIO(data))
    assert (info.samplerate, info.channels, info.subtype, info.duration) == (48_000, 1, "PCM_24", 3.0)
    assert len(data) < 3 * 48_000 * 3 * 1.1


def test_a_large_file_is_kept_as_the_mean_of_its_channels(store, box, monkeypatch):
    monkeypatch.setattr(clips, "LARGEST", 10_000)
    table = one_table(box, 1, channels=2)
    (item,) = make_queue(store, add_batch(store, "one", box, table), size=20, drift="ok").items
    assert item.suffix == "flac" and item.audio != item.sha256
    with clips.open_audio(store, item) as handle:
        kept = decode.load(handle)
    assert np.abs(kept.samples - decode.load(box / item.path).samples).max() < 1e-5


def test_audio_beyond_full_scale_is_scaled_and_not_clipped(box):
    box.mkdir()
    loud = np.sin(np.arange(8000) / 9).astype(np.float32) * 4
    soundfile.write(box / "a.wav", loud, 8000, subtype="FLOAT")
    with open(box / "a.wav", "rb") as file:
        (data,) = clips.cut_out(file, [Span(1, None, None)])
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    assert np.abs(samples * np.abs(loud).max() - loud).max() < 1e-5


def test_recordings_that_vanished_are_left_out_before_drawing(store, box):
    table = one_table(box, 12)
    plan = add_batch(store, "one", box, table)
    for path in table["path"][:4]:
        (box / path).unlink()
    (box / table["path"][4]).write_bytes(b"another recording")
    made = make_queue(store, plan, size=5, drift="ok")
    assert made.candidates == 7 and len(made.items) == 5
    assert not {item.path for item in made.items} & set(table["path"][:5])
    alone = make_queue(store, add_batch(store, "two", box, table[5:]), size=5, drift="ok")
    assert made.candidates == alone.candidates
    total = sum(1 / item.probability for item in made.items)
    assert 4 < total < 12  # the weights stand for the 7 clips that could be heard


def test_a_recording_that_vanishes_while_audio_is_kept_is_drawn_around(store, box, monkeypatch):
    table = one_table(box, 12)
    plan = add_batch(store, "one", box, table)
    cut, removed = making._Recordings._cut, []

    def cut_and_remove(self, file, drawn):
        if len(removed) < 2:
            removed.append(file.path)
            (box / file.path).unlink()
        return cut(self, file, drawn)

    monkeypatch.setattr(making._Recordings, "_cut", cut_and_remove)
    made = make_queue(store, plan, size=5, drift="ok")
    assert made.candidates == 10 and len(made.items) == 5 and not {item.path for item in made.items} & set(removed)
    assert all(clips.is_kept(store, item) for item in made.items)


def test_recordings_that_go_on_vanishing_are_an_error(store, box, monkeypatch):
    plan = add_batch(store, "one", box, one_table(box, 12))

    def missing(self, file, drawn):
        raise FileNotFoundError(file.path)

    monkeypatch.setattr(making._Recordings, "_cut", missing)
    monkeypatch.setattr(making, "MOST_DRAWS", 2)
    with pytest.raises(DataError, match="not in the inbox any more, whatever is drawn"):
        make_queue(store, plan, size=5, drift="ok")
    assert not store.list("reviews")


def test_a_batch_whose_recordings_are_all_gone_has_no_queue(store, box):
    table = one_table(box, 2)
    plan = add_batch(store, "one", box, table)
    for path in table["path"]:
        (box / path).unlink()
    assert make_queue(store, plan, size=5, drift="ok") is None
    assert not store.list("reviews")


def test_two_files_with_the_same_audio_are_one_item(store, box):
    table, timeline = long_call(box, channel="2")
    copy = table.assign(path="copy.flac")
    samples, rate = soundfile.read(box / table.loc[0, "path"], dtype="int16")
    soundfile.write(box / "copy.flac", samples, rate)
    copy["sha256"] = hashlib.sha256((box / "copy.flac").read_bytes()).hexdigest()
    again = timeline.assign(path="copy.flac", sha256=copy.loc[0, "sha256"])
    plan = add_batch(store, "one", box, pd.concat([table, copy]), pd.concat([timeline, again]))
    made = make_queue(store, plan, size=20, drift="ok")
    assert len(made.items) == 4 == len({item.audio for item in made.items})


def test_audio_that_has_a_label_is_not_asked_for_again(store, box):
    table = one_table(box, 4)
    call, timeline = long_call(box / "calls")
    call["path"] = timeline["path"] = "calls/" + call.loc[0, "path"]
    both = pd.concat([table, call], ignore_index=True)
    made = make_queue(store, add_batch(store, "one", box, both, timeline), size=20, drift="ok")
    whole = next(item for item in made.items if item.start is None)
    part = next(item for item in made.items if item.start == 3.0)
    skipped = next(item for item in made.items if item.start == 9.0)
    for item, word in ((whole, "sad"), (part, "no_speech"), (skipped, "skip")):
        labels.add(store, Label("one", item.audio, "ann", word))
    timeline["end"] -= 0.5  # another model cut the call in another way
    again = make_queue(store, add_batch(store, "two", box, both, timeline), size=20, drift="ok")
    assert {item.audio for item in again.items if item.start is None} == {
        item.audio for item in made.items if item.start is None
    } - {whole.audio}
    assert sorted(item.start for item in again.items if item.start is not None) == [0.0, 6.0, 9.0]
    labels.withdraw(store, "one", whole.audio, "ann")
    third = make_queue(store, add_batch(store, "three", box, both, timeline), size=20, drift="ok")
    assert whole.audio in {item.audio for item in third.items}


def test_tables_that_an_earlier_release_collected_are_drawn_from(store, box):
    table, timeline = long_call(box)
    old = table.drop(columns=["heard_in_training", "channel", "unfamiliar", "unfamiliarity", "snr_db", "is_right"])
    plan = add_batch(store, "one", box, old, timeline.drop(columns="channel"))
    made = make_queue(store, plan, size=20, drift="unknown")
    assert sorted(item.start for item in made.items) == [0, 3, 6, 9]
    assert {(item.channel, item.unfamiliar) for item in made.items} == {("", False)}


def test_the_review_works_in_an_object_store(box):
    remote = Store("memory://review-test")
    made = add_queue(remote, box)
    for item in made.items:
        labels.add(remote, Label(*item.key, "ann", "sad"))
    assert len(labels.read(remote)) == len(settled.table(remote)) == 5 and assignment.left(remote, None, "ben") <= 1
    with clips.open_audio(remote, made.items[0]) as handle:
        assert handle.read() == (box / made.items[0].path).read_bytes()
    assert "labels (1)" in deletion.delete(remote, made.items[0].sha256).removed and len(labels.read(remote)) == 4
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=40)
    assert len(clips.expire(remote, 30, now=later)) == 4 and queue.read(remote, "monday").expired


def test_a_queue_is_written_once(store, box):
    plan = add_batch(store, "one", box, one_table(box, 30))
    made = make_queue(store, plan, size=5, drift="ok")
    assert make_queue(store, plan, size=25, drift="alarm") == made


KILLED = """
import os, signal, sys
from emotion.review import queue
from emotion.review.making import make_queue
from emotion.store import Store
store = Store(sys.argv[1])
queue.write = lambda store, made: os.kill(os.getpid(), signal.SIGKILL)
make_queue(store, store.read_json("scores/one/plan.json"), size=5, drift="ok")
"""


def test_a_kill_before_the_queue_is_written_changes_nothing(store, box):
    plan = add_batch(store, "one", box, one_table(box, 30))
    killed = subprocess.run([sys.executable, "-c", KILLED, store.root])
    assert killed.returncode == -signal.SIGKILL
    kept = store.list("reviews")
    assert len(kept) == 5 and all(key.startswith("reviews/audio/") for key in kept)
    made = make_queue(store, plan, size=5, drift="ok")
    assert sorted(kept) == sorted(clips.key_of(item.audio, item.suffix) for item in made.items)


def test_the_queue_of_a_dead_batch_is_taken_over(store, box):
    table = one_table(box, 3)
    dead = make_queue(store, add_batch(store, "dead", box, table), size=5, drift="ok")
    ledger.give_up(store, "dead", successor="next")
    plan = add_batch(store, "next", box, table)
    made = make_queue(store, plan, size=5, drift="ok")
    assert queue.batches(store) == ["next"]
    assert {item.audio for item in made.items} == {item.audio for item in dead.items}


def test_a_labelled_queue_of_a_dead_batch_stays(store, box):
    table = one_table(box, 3)
    dead = make_queue(store, add_batch(store, "dead", box, table), size=5, drift="ok")
    labels.add(store, Label("dead", dead.items[0].audio, "ann", "sad"))
    ledger.give_up(store, "dead", successor="next")
    made = make_queue(store, add_batch(store, "next", box, table), size=5, drift="ok")
    assert len(made.items) == 2 and len(queue.batches(store)) == 2


def test_audio_lives_as_long_as_a_queue_that_is_young_enough(store, box):
    old, young = add_queue(store, box, batch="old", clips=3), add_queue(store, box, batch="young", clips=2, seed=1)
    shared = replace(young, items=(*young.items, replace(old.items[0], batch="young")))
    queue.write(store, shared)
    queue.write(store, replace(old, made_at="2020-01-02T03:04:05+00:00"))
    for key in store.list("reviews/audio"):
        os.utime(store.path(key), (0, 0))
    assert clips.expire(store, None) == []
    gone = clips.expire(store, 30)
    assert sorted(gone) == sorted(clips.key_of(item.audio, item.suffix) for item in old.items[1:])
    assert queue.read(store, "old").expired and not queue.read(store, "young").expired
    assert clips.is_kept(store, old.items[0]) and not clips.is_kept(store, old.items[1])
    with pytest.raises(DataError, match="EMOTION_REVIEW_DAYS"):
        clips.open_audio(store, old.items[1])
    assert clips.expire(store, 30) == []


def test_audio_without_a_queue_is_deleted_after_a_day(store):
    audio = clips.keep(store, b"sound", "wav")
    assert clips.expire(store, None) == []
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(hours=25)
    assert clips.expire(store, None, now=tomorrow) == [clips.key_of(audio, "wav")]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 2}, "update this program"), ({"items": [{}]}, "damaged"), ({"items": None}, "damaged")],
)
def test_a_damaged_queue_is_named(store, box, change, message):
    made = add_queue(store, box)
    store.write_json("reviews/queues/monday.json", made.to_json() | change)
    with pytest.raises(DataError, match=message):
        queue.read(store, "monday")


@pytest.mark.parametrize("batch", ["", "../x", "a/b", "a b", "x" * 300, "none"])
def test_a_batch_without_a_queue_is_an_error(store, batch):
    with pytest.raises(DataError, match="batch"):
        queue.read(store, batch)
