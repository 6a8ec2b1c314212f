import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from emotion.datasets import synthesis
from emotion.datasets.download import Retry
from emotion.datasets.importing import MANIFEST, audio_folder, is_ready, load, obtain, read_manifest
from emotion.datasets.synthesis import NOTICE
from emotion.errors import ConfigurationError, DataError, DownloadError
from emotion.settings import PROJECT
from emotion.store import Store
from emotion.vocabulary import EMOTIONS
from small_data import make_settings, ravdess_clips, ravdess_names, ravdess_zip, wav, write_zip
from zenodo_server import ZenodoServer, catalogue

SPEECH, BOTH, OWN = "ravdess-speech", "ravdess-speech-song", "labelled-folder"


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path, monkeypatch):
    """Settings and a store, once in a folder and once in an object store."""
    settings = make_settings(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "memory":
        settings = replace(settings, home=f"memory://{tmp_path.name}-{os.getpid()}")
    return settings, Store(settings.home)


@pytest.fixture
def local(tmp_path):
    settings = make_settings(tmp_path)
    return settings, Store(settings.home)


def recordings(settings) -> Path:
    return settings.recordings[0]


def with_catalogue(settings, document: dict):
    file = recordings(settings).parent / "catalogue.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return replace(settings, catalogue=file)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def stored_paths(store: Store, name: str) -> list[str]:
    folder = audio_folder(name)
    return [key.removeprefix(f"{folder}/") for key in store.list(folder)]


# From Zenodo


@pytest.fixture
def zenodo(place, tmp_path):
    """A host with the speech and the song of two actors, and a catalogue that says so."""
    settings, store = place
    zips = [
        ravdess_zip(tmp_path / "Speech.zip"),
        ravdess_zip(tmp_path / "Song.zip", channel="02", emotions=range(1, 7)),
    ]
    with ZenodoServer(zips) as server:
        yield replace(with_catalogue(settings, catalogue(zips)), zenodo_url=server.url), store, server


def test_a_dataset_from_zenodo(zenodo):
    settings, store, server = zenodo
    seen = []
    assert not is_ready(store, settings, BOTH)
    dataset = obtain(store, settings, BOTH, progress=lambda *step: seen.append(step))
    assert {(stage, total, unit) for stage, _, total, unit in seen} == {
        ("download", sum(path.stat().st_size for path in server.files.values()), "B"),
        ("import", 56, "clips"),
    }
    facts = dataset.facts
    assert (facts["clips"], facts["unique"], facts["speakers"], facts["unreadable"]) == (56, 56, 2, 0)
    assert facts["complete"] and facts["warnings"] == [] and facts["notice"] == ""
    assert facts["kind"] == "zenodo" and not facts["synthesized"] and facts["commercial_use"] is False
    assert facts["emotions"] == {e: 8 if e not in ("disgust", "surprised") else 4 for e in EMOTIONS}
    assert facts["licence"]["id"] == "CC-BY-NC-SA-4.0"
    assert facts["folds_scheme"] == "emobox"
    assert facts["folds"][0] == ["ravdess:01", "ravdess:11", "ravdess:20", "ravdess:21"]
    assert [archive["key"] for archive in facts["archives"]] == ["Speech.zip", "Song.zip"]
    assert facts["origin"] == f"{server.url}/records/1188976"
    assert json.loads(json.dumps(facts)) == facts
    assert load(store, BOTH) == dataset
    manifest = read_manifest(store, BOTH)
    assert manifest["path"].tolist() == stored_paths(store, BOTH)
    assert manifest["channel"].value_counts().to_dict() == {"speech": 32, "song": 24}
    for path, sha256 in zip(manifest["path"], manifest["sha256"], strict=True):
        assert hashlib.sha256(store.read_bytes(f"{audio_folder(BOTH)}/{path}")).hexdigest() == sha256


def test_what_is_there_is_returned_without_the_network(zenodo):
    settings, store, server = zenodo
    dataset = obtain(store, settings, SPEECH)
    before = len(server.log)
    assert is_ready(store, settings, SPEECH)
    assert obtain(store, settings, SPEECH) == dataset
    assert len(server.log) == before
    assert not list(store.scratch("datasets").glob("*/*.zip*")), "the archive is not kept beside its clips"


def test_another_archive_in_the_catalogue_is_fetched_and_replaces_the_old_one(zenodo, tmp_path):
    settings, store, _ = zenodo
    old = obtain(store, settings, SPEECH)
    (tmp_path / "new").mkdir()
    path = ravdess_zip(tmp_path / "new" / "Speech.zip", actors=range(3, 4))
    settings = with_catalogue(settings, catalogue([path]))
    assert not is_ready(store, settings, SPEECH)
    with ZenodoServer([path]) as other:
        new = obtain(store, replace(settings, zenodo_url=other.url), SPEECH)
    assert new.facts["fingerprint"] != old.facts["fingerprint"]
    assert stored_paths(store, SPEECH) == sorted(ravdess_names(range(3, 4)))


def test_texts_follow_the_catalogue_without_another_download(zenodo):
    settings, store, server = zenodo
    obtain(store, settings, SPEECH)
    document = yaml.safe_load(settings.catalogue.read_text())
    document[SPEECH]["title"] = "Another title"
    settings, before = with_catalogue(settings, document), len(server.log)
    assert obtain(store, settings, SPEECH).facts["title"] == "Another title"
    assert load(store, SPEECH).facts["title"] == "Another title"
    assert len(server.log) == before


def test_clips_deleted_from_the_store_come_back(zenodo):
    settings, store, _ = zenodo
    dataset = obtain(store, settings, SPEECH)
    store.delete(f"{audio_folder(SPEECH)}/{ravdess_names(range(1, 2))[0]}")
    assert not is_ready(store, settings, SPEECH)
    assert obtain(store, settings, SPEECH) == dataset
    assert len(stored_paths(store, SPEECH)) == 32


@pytest.mark.parametrize(
    "change, message",
    [
        ({"clips": 33}, "32 of 33 speech clips"),
        ({"actors": [1, 2, 3], "clips": 48}, r"32 of 48 speech clips \(none of actors 3\)"),
        (
            {"actors": [1]},
            r"32 of 32 speech clips \(16 of 32 of actor 1; 16 of actor 2, who is not expected\)",
        ),
        ({"expanded_bytes": 1000}, "the catalogue allows 1,000"),
    ],
)
def test_an_archive_that_holds_not_what_the_catalogue_says_is_refused(zenodo, change, message):
    settings, store, _ = zenodo
    document = yaml.safe_load(settings.catalogue.read_text())
    document[SPEECH]["archives"][0] |= change
    settings = with_catalogue(settings, document)
    with pytest.raises(DataError, match=message):
        obtain(store, settings, SPEECH)
    assert store.list(f"datasets/{SPEECH}") == []


def test_a_host_that_cannot_be_reached_leaves_nothing(zenodo):
    settings, store, _ = zenodo
    with pytest.raises(DownloadError, match="RAVDESS_DIR"):
        obtain(
            store,
            replace(settings, zenodo_url="http://127.0.0.1:9"),
            SPEECH,
            retry=Retry(attempts=1),
        )
    assert store.list(f"datasets/{SPEECH}") == []
    with pytest.raises(DataError, match="is not there"):
        load(store, SPEECH)


# RAVDESS from a disk


@pytest.mark.parametrize("form", ["folder", "zip", "folder of zips", "mirror"])
def test_ravdess_in_every_form_on_a_disk_is_the_same_dataset(local, form):
    settings, store = local
    clips = ravdess_clips(range(1, 3))
    fingerprint = hashlib.sha256(
        "\n".join(
            sorted(
                f"{hashlib.sha256(data).hexdigest()} {EMOTIONS[int(name[15:17]) - 1]} ravdess:{name[-6:-4]}"
                for name, data in clips.items()
            )
        ).encode()
    ).hexdigest()
    root = recordings(settings)
    source = {
        "folder": lambda: write(root / "a", {f"deep/{name}": data for name, data in clips.items()}),
        "zip": lambda: write_zip(root / "a.zip", clips),
        "folder of zips": lambda: (write_zip(write(root / "a", {}) / "Audio_Speech_Actors_01-24.zip", clips).parent),
        "mirror": lambda: write_zip(
            root / "a.zip",
            clips | {f"audio_speech_actors_01-24/{name}": data for name, data in clips.items()},
        ),
    }
    (root / "a").mkdir()
    dataset = obtain(store, settings, SPEECH, source=source[form]())
    assert dataset.facts["fingerprint"] == fingerprint
    assert stored_paths(store, SPEECH) == sorted(clips)


def test_a_part_of_ravdess_is_taken_and_said_loudly_to_be_one(local, caplog):
    settings, store = local
    clips = ravdess_clips(range(3, 5))
    del clips["Actor_04/03-01-01-01-01-01-04.wav"]
    dataset = obtain(store, settings, SPEECH, source=write(recordings(settings) / "some", clips))
    facts = dataset.facts
    assert facts["complete"] is False
    assert facts["warnings"] == [facts["notice"]]
    assert facts["notice"].startswith(
        "Not the whole dataset: some has 31 of 1,440 speech clips (none of actors 1, 2, 5,"
    )
    assert "15 of 60 of actor 4" in facts["notice"]
    assert facts["notice"] in caplog.text
    assert facts["origin"] == str(recordings(settings) / "some")


def test_a_part_is_never_taken_for_the_whole(zenodo):
    settings, store, server = zenodo
    source = write(recordings(settings) / "some", ravdess_clips(range(1, 2)))
    assert obtain(store, settings, SPEECH, source=source).facts["clips"] == 16
    assert not is_ready(store, settings, SPEECH)
    assert obtain(store, settings, SPEECH).facts["clips"] == 32
    assert len(server.asked()) == 1
    assert not is_ready(store, settings, SPEECH, source=source)


def test_the_published_archive_fetched_by_hand_stands_for_the_download(zenodo):
    settings, store, server = zenodo
    source = recordings(settings) / "by-hand.zip"
    shutil.copy(server.files["Speech.zip"], source)
    dataset = obtain(store, settings, SPEECH, source=source)
    assert dataset.facts["complete"]
    assert obtain(store, settings, SPEECH) == dataset
    assert server.log == []


def test_the_same_clips_in_another_archive_do_not(zenodo):
    settings, store, server = zenodo
    source = ravdess_zip(recordings(settings) / "again.zip")
    with zipfile.ZipFile(source, "a") as archive:
        archive.comment = b"packed again"
    assert obtain(store, settings, SPEECH, source=source).facts["complete"]
    assert not is_ready(store, settings, SPEECH)


def test_an_unchanged_source_costs_a_look_and_a_changed_one_an_import(place):
    settings, store = place
    source = write(recordings(settings) / "some", ravdess_clips(range(1, 3)))
    first = obtain(store, settings, SPEECH, source=source)
    seen = []
    assert obtain(store, settings, SPEECH, source=source, progress=lambda *step: seen.append(step)) == first
    assert seen == []
    (source / "Actor_02/03-01-08-01-01-02-02.wav").unlink()
    (source / "Actor_01/03-01-01-01-01-01-01.wav").write_bytes(wav(999))
    second = obtain(store, settings, SPEECH, source=source, progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[1] == 1] == [("check", 1, 31, "clips"), ("import", 1, 31, "clips")]
    assert second.facts["fingerprint"] != first.facts["fingerprint"]
    assert len(stored_paths(store, SPEECH)) == 31
    assert store.read_bytes(f"{audio_folder(SPEECH)}/Actor_01/03-01-01-01-01-01-01.wav") == wav(999)


def test_a_bad_source_does_not_cost_a_good_dataset(place):
    settings, store = place
    first = obtain(store, settings, SPEECH, source=write(recordings(settings) / "some", ravdess_clips(range(1, 2))))
    bad = write_zip(recordings(settings) / "bad.zip", ravdess_clips(range(2, 4)))
    data = bytearray(bad.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
    bad.write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        obtain(store, settings, SPEECH, source=bad)
    assert load(store, SPEECH) == first
    assert stored_paths(store, SPEECH) == ravdess_names(range(1, 2))


def test_song_is_left_out_of_speech_and_other_files_of_both(local):
    settings, store = local
    files = ravdess_clips(range(1, 2)) | ravdess_clips(range(1, 2), channel="02")
    files |= {"README.txt": b"x", "Actor_01/02-01-01-01-01-01-01.mp4": b"x", "Actor_01/._03-01-01.wav": b"x"}
    source = write(recordings(settings) / "all", files)
    assert obtain(store, settings, SPEECH, source=source).facts["clips"] == 16
    facts = obtain(store, settings, BOTH, source=source).facts
    assert facts["clips"] == 32
    assert "16 of 1,440 speech clips" in facts["notice"] and "16 of 1,012 song clips" in facts["notice"]


@pytest.mark.parametrize(
    "files, message",
    [
        ({"hello.wav": b"x"}, r"1 recordings do not bear RAVDESS's names, such as hello.wav"),
        ({"01-01-01-01-01-01-01.wav": b"x"}, "do not bear"),
        ({"03-03-01-01-01-01-01.wav": b"x"}, "do not bear"),
        ({"03-01-09-01-01-01-01.wav": b"x"}, "do not bear"),
        ({"03-01-01-02-01-01-01.wav": b"x"}, "do not bear"),  # neutral is never strong
        ({"03-01-02-01-01-01-00.wav": b"x"}, "do not bear"),
        (
            {"Actor_01/03-01-02-01-01-01-01.wav": b"x", "03-01-02-01-01-01-01.wav": b"y"},
            "of the same name and differ",
        ),
        ({"readme.txt": b"x"}, "no speech clips of RAVDESS are there"),
    ],
)
def test_what_is_not_ravdess_is_refused(local, files, message):
    settings, store = local
    with pytest.raises(DataError, match=message):
        obtain(store, settings, SPEECH, source=write(recordings(settings) / "some", files))


def test_the_same_recording_with_two_emotions_is_refused(local):
    settings, store = local
    files = {"03-01-02-01-01-01-01.wav": wav(1), "03-01-03-01-01-01-01.wav": wav(1)}
    with pytest.raises(
        DataError, match=r"Actor_01/03-01-02-.* \(calm\) and Actor_01/03-01-03-.* \(happy\) are the same"
    ):
        obtain(store, settings, SPEECH, source=write(recordings(settings) / "some", files))


# Where a source may lie


def test_a_source_outside_the_recordings_is_refused(local, tmp_path):
    settings, store = local
    outside = write(tmp_path / "elsewhere", ravdess_clips(range(1, 2)))
    link = recordings(settings) / "link"
    link.symlink_to(outside)
    for source in (outside, link, recordings(settings) / ".." / "elsewhere", Path("../elsewhere"), Path("/")):
        with pytest.raises(ConfigurationError, match="outside the folders.*EMOTION_RECORDINGS"):
            obtain(store, settings, SPEECH, source=source)


def test_a_file_linked_from_outside_is_refused_one_from_inside_taken(local, tmp_path):
    settings, store = local
    source = write(recordings(settings) / "some", ravdess_clips(range(1, 2)))
    inside = write(recordings(settings) / "other", {"a.wav": wav(77)})
    clip = source / "Actor_01/03-01-01-01-01-01-01.wav"
    clip.unlink()
    clip.symlink_to(inside / "a.wav")
    assert obtain(store, settings, SPEECH, source=source).facts["clips"] == 16
    clip.unlink()
    clip.symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="link to /etc/passwd, outside"):
        obtain(store, settings, SPEECH, source=source)


def test_linked_folders_pipes_and_names_that_cannot_be_stored_are_refused(local):
    settings, store = local
    source = write(recordings(settings) / "some", ravdess_clips(range(1, 2)))
    (source / "more").symlink_to(source / "Actor_01")
    with pytest.raises(DataError, match="is a link to a folder"):
        obtain(store, settings, SPEECH, source=source)
    (source / "more").unlink()
    os.mkfifo(source / "pipe.wav")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        obtain(store, settings, SPEECH, source=source)
    (source / "pipe.wav").unlink()
    (source / "back\\slash.wav").write_bytes(b"x")
    with pytest.raises(DataError, match="backslash or an unprintable"):
        obtain(store, settings, SPEECH, source=source)


def test_a_source_that_is_not_there_or_not_a_zip(local):
    settings, store = local
    with pytest.raises(ConfigurationError, match="is not there; expected a folder, a zip or a CSV"):
        obtain(store, settings, SPEECH, source=Path("nowhere"))
    (recordings(settings) / "a.wav").write_bytes(wav(0))
    with pytest.raises(DataError, match="is not a whole zip file"):
        obtain(store, settings, SPEECH, source=Path("a.wav"))


def test_a_disk_too_small_for_a_source_is_noticed_first(local, monkeypatch):
    settings, store = local
    source = write(recordings(settings) / "some", ravdess_clips(range(1, 2)))
    usage = shutil.disk_usage(source)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(ConfigurationError, match="EMOTION_HOME"):
        obtain(store, settings, SPEECH, source=source)
    assert store.list(f"datasets/{SPEECH}") == []


# Synthesized


def test_the_synthesized_corpus(local):
    settings, store = local
    document = yaml.safe_load(settings.catalogue.read_text())
    document["synthesized"]["speakers"] = 1
    settings = with_catalogue(settings, document)
    facts = obtain(store, settings, "synthesized").facts
    assert facts["synthesized"] and facts["complete"] and facts["notice"] == NOTICE
    manifest = read_manifest(store, "synthesized")
    assert manifest["path"].tolist() == sorted(synthesis.names(speakers=1))
    assert set(manifest["speaker"]) == {"synthesized:01"}
    assert set(manifest["channel"]) == {"speech"}
    assert facts["folds"] is None
    with pytest.raises(ConfigurationError, match="takes no source"):
        obtain(store, settings, "synthesized", source=Path("x"))


# One's own recordings

TABLE = "path,emotion,speaker\n"


def own_folder(settings, files: dict[str, bytes | str], name: str = "mine") -> Path:
    encoded = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    folder = recordings(settings) / name
    folder.mkdir(exist_ok=True)
    return write(folder, encoded)


def test_own_recordings_in_a_folder_per_emotion(place):
    settings, store = place
    source = own_folder(
        settings,
        {
            "happy/anna/1.wav": wav(1),
            "happy/ben/first day/1.wav": wav(2),
            "Sad/anna/1.WAV": wav(3),
            "sad/notes.txt": b"x",
            "notes/a.txt": b"x",
            ".hidden/a.wav": b"x",
        },
    )
    facts = obtain(store, settings, OWN, source=source).facts
    assert facts["warnings"] == [] and facts["complete"]
    assert {emotion: count for emotion, count in facts["emotions"].items() if count} == {"happy": 2, "sad": 1}
    manifest = read_manifest(store, OWN)
    assert manifest["path"].tolist() == ["Sad/anna/1.WAV", "happy/anna/1.wav", "happy/ben/first day/1.wav"]
    assert manifest["emotion"].tolist() == ["sad", "happy", "happy"]
    assert manifest["speaker"].tolist() == [
        "labelled-folder:anna",
        "labelled-folder:anna",
        "labelled-folder:ben",
    ]
    assert manifest["actor"].tolist() == ["anna", "anna", "ben"]
    assert set(manifest["gender"]) == {""} and manifest["repetition"].isna().all()


@pytest.mark.parametrize("form", ["folder", "csv", "zip", "zip of the folder"])
def test_own_recordings_in_a_table(local, form):
    settings, store = local
    files = {
        "a.wav": wav(1),
        "deep/b.flac": b"no audio",
        "c.wav": wav(3),
        "labels.csv": "\ufeffPath, Emotion,speaker,gender,intensity,statement\n"
        'a.wav,Happy,anna,female,strong,"good, morning"\n'
        "\n"
        "./deep/b.flac,sad,ben,male,,\n",
    }
    root = recordings(settings)
    encoded = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    source = {
        "folder": lambda: own_folder(settings, files),
        "csv": lambda: own_folder(settings, files) / "labels.csv",
        "zip": lambda: write_zip(root / "mine.zip", encoded),
        "zip of the folder": lambda: write_zip(
            root / "m.zip", {f"mine/{path}": data for path, data in encoded.items()}
        ),
    }[form]()
    facts = obtain(store, settings, OWN, source=source).facts
    assert facts["warnings"] == ["1 recordings are not in labels.csv and are left out."]
    assert facts["unreadable"] == 1
    rows = read_manifest(store, OWN).set_index("path")
    assert stored_paths(store, OWN) == rows.index.tolist() == ["a.wav", "deep/b.flac"]
    assert rows.loc["a.wav", ["emotion", "speaker", "gender", "intensity", "statement"]].tolist() == [
        "happy",
        "labelled-folder:anna",
        "female",
        "strong",
        "good, morning",
    ]
    assert pd.isna(rows.loc["deep/b.flac", "duration"]) and rows["rate"].isna().tolist() == [False, True]


def test_a_zip_of_one_emotions_folder_keeps_it(local):
    settings, store = local
    source = write_zip(recordings(settings) / "m.zip", {"happy/a.wav": wav(1)})
    with pytest.raises(DataError, match="fewer than two emotions"):
        obtain(store, settings, OWN, source=source)


def test_own_words_are_mapped_by_the_catalogue_and_a_new_mapping_imports_again(local):
    settings, store = local
    source = own_folder(settings, {"Anger/anna/1.wav": wav(1), "joy/ben/1.wav": wav(2), "sad/ben/1.wav": wav(3)})
    with pytest.raises(DataError) as caught:
        obtain(store, settings, OWN, source=source)
    assert "Anger (1 clips), joy (1 clips). Expected neutral, calm," in str(caught.value)
    document = yaml.safe_load(settings.catalogue.read_text())
    for joy in ("happy", "surprised"):
        document[OWN] |= {"labels": {"anger": "angry", "Joy": joy}, "folder": "mine"}
        settings = with_catalogue(settings, document)
        obtain(store, settings, OWN)
        assert read_manifest(store, OWN)["emotion"].tolist() == ["angry", joy, "sad"]


@pytest.mark.parametrize(
    "files, warning",
    [
        ({"happy/1.wav": wav(1), "sad/1.wav": wav(2)}, "No speaker is known: none can be held out"),
        ({"happy/anna/1.wav": wav(1), "sad/anna/1.wav": wav(2)}, "All clips are of one speaker"),
    ],
)
def test_what_too_few_speakers_mean_is_said(local, files, warning):
    settings, store = local
    facts = obtain(store, settings, OWN, source=own_folder(settings, files)).facts
    assert facts["notice"].startswith(warning) and "speaker-independent protocols" in facts["notice"]


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "0 recordings of fewer than two emotions"),
        ({"happy/1.wav": b"1"}, "1 recordings of fewer than two emotions"),
        ({"happy/1.wav": b"1", "loose.wav": b"1"}, "loose.wav lies in no emotion's folder"),
        ({"happy/anna/1.wav": b"1", "sad/1.wav": b"2"}, "1 of 2 clips have no speaker, such as sad/1.wav"),
        ({"glad/1.wav": b"1", "sad/1.wav": b"2"}, r"glad \(1 clips\).*labels: {glad: angry}"),
        (
            {"happy/1.wav": b"1", "sad/1.wav": b"1"},
            r"happy/1.wav \(happy\) and sad/1.wav \(sad\) are the same",
        ),
        ({"labels.csv": ""}, "has the columns none; expected path, emotion"),
        ({"labels.csv": "path;emotion\na.wav;sad\n"}, "has the columns path;emotion"),
        ({"labels.csv": "path,speaker\n"}, "has the columns path, speaker"),
        ({"labels.csv": "path,emotion,gendre\n"}, "has the columns path, emotion, gendre"),
        ({"labels.csv": "path,emotion,path\n"}, "has the columns path, emotion, path"),
        ({"labels.csv": b"path,emotion\n\xff,sad\n"}, "labels.csv cannot be read"),
        ({"labels.csv": 'path,emotion\n"a.wav,sad\n'}, "labels.csv cannot be read"),
        ({"labels.csv": TABLE + "a.wav,sad\n"}, "line 2: 2 values; expected 3"),
        ({"labels.csv": TABLE + "a.wav,sad,anna,x\n"}, "line 2: 4 values; expected 3"),
        ({"labels.csv": TABLE + "a.wav,sad,anna\n"}, "1 files that are not there, such as line 2: a.wav"),
        ({"labels.csv": TABLE + "../../x.wav,sad,anna\n"}, r"not there, such as line 2: \.\./\.\./x.wav"),
        ({"labels.csv": TABLE + "/etc/passwd,sad,anna\n"}, "not there, such as line 2: /etc/passwd"),
        (
            {"a.wav": b"1", "labels.csv": TABLE + "a.wav,sad,a\n./a.wav,sad,a\n"},
            "line 3: a.wav is in line 2 already",
        ),
        ({"a.wav": b"1", "labels.csv": TABLE + "a.wav,,a\n"}, r"\(none\) \(1 clips\)"),
        (
            {"a.wav": b"1", "b.wav": b"2", "labels.csv": TABLE + "a.wav,sad,a\nb.wav,calm,\n"},
            "1 of 2 clips have no",
        ),
        ({"a.wav": b"1", "labels.csv": "path,emotion\n"}, "0 recordings of fewer than two emotions"),
    ],
)
def test_what_is_wrong_with_own_recordings_is_said(local, files, message):
    settings, store = local
    with pytest.raises(DataError, match=message):
        obtain(store, settings, OWN, source=own_folder(settings, files))
    assert store.list(f"datasets/{OWN}") == []


def test_own_recordings_need_a_source(local):
    settings, store = local
    with pytest.raises(ConfigurationError, match="labelled-folder needs a source.*EMOTION_RECORDINGS"):
        obtain(store, settings, OWN)


def test_a_clip_too_long_to_be_one_is_refused(local, monkeypatch):
    settings, store = local
    monkeypatch.setattr("emotion.datasets.clips.MAX_MEMBER_BYTES", 5000)
    source = own_folder(settings, {"happy/1.wav": wav(1), "sad/1.wav": wav(2)})
    with pytest.raises(DataError, match="is longer than 5,000 bytes"):
        obtain(store, settings, OWN, source=source)


# The manifest


def endless_flac() -> bytes:
    """A FLAC that does not tell its length, as one that was streamed."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(4000), 16_000, format="FLAC")
    data = bytearray(buffer.getvalue())
    data[21] &= 0xF0  # the number of samples: 36 bits from here
    data[22:26] = bytes(4)
    return bytes(data)


def test_the_manifest_is_read_as_it_was_written(place):
    settings, store = place
    chunk = wav(5, rate=48_000, channels=2, extra=bytes(4000))
    files = {
        "happy/NA/1.wav": wav(1, seconds=1 / 3),
        "happy/NA/2.wav": wav(1, seconds=1 / 3),
        "sad/null/chunk.wav": chunk,
        "sad/null/empty.wav": b"",
        "sad/null/endless.flac": endless_flac(),
        "sad/null/header.wav": wav(6, seconds=0),
    }
    facts = obtain(store, settings, OWN, source=own_folder(settings, files)).facts
    manifest = read_manifest(store, OWN)
    assert {column: str(dtype) for column, dtype in manifest.dtypes.items()} == MANIFEST
    assert manifest["actor"].tolist() == ["NA"] * 2 + ["null"] * 4, "texts that look like nothing stay texts"
    assert manifest["duplicate_of"].tolist() == ["", "happy/NA/1.wav", "", "", "", ""]
    rows = manifest.set_index("path")
    assert rows.loc["happy/NA/1.wav", "duration"] == 5333 / 16_000
    assert rows.loc["sad/null/chunk.wav", ["duration", "rate", "channels"]].tolist() == [0.25, 48_000, 2]
    assert store.read_bytes(f"{audio_folder(OWN)}/sad/null/chunk.wav") == chunk
    assert rows.loc["sad/null/empty.wav", ["duration", "rate", "channels"]].isna().all()
    assert rows.loc[["sad/null/endless.flac", "sad/null/header.wav"], "duration"].isna().all()
    assert rows.loc[["sad/null/endless.flac", "sad/null/header.wav"], "rate"].tolist() == [16_000, 16_000]
    assert (facts["clips"], facts["unique"], facts["unreadable"]) == (6, 5, 3)
    assert facts["bytes"] == manifest["bytes"].sum()
    text = store.read_bytes(f"datasets/{OWN}/manifest.csv").decode()
    assert next(csv.reader(io.StringIO(text))) == list(MANIFEST)


# Interruptions

OBTAIN = """
import sys, time; from pathlib import Path; from emotion.datasets import importing
from emotion.settings import Settings; from emotion.store import Store
settings = Settings.from_environment()
importing.obtain(Store(settings.home), settings, "ravdess-speech", source=Path(sys.argv[1]),
                progress=lambda stage, done, *_: time.sleep(60 * (stage == "import" and done == 10)))
"""


def test_an_import_that_is_killed_goes_on_with_what_is_there(local, monkeypatch):
    settings, store = local
    clips = ravdess_clips(range(1, 5))
    source = write(recordings(settings) / "some", clips)
    environ = os.environ | {
        "PYTHONPATH": str(PROJECT / "plugins"),
        "EMOTION_HOME": settings.home,
        "EMOTION_RECORDINGS": str(recordings(settings)),
    }
    process = subprocess.Popen([sys.executable, "-c", OBTAIN, str(source)], env=environ)
    deadline = time.monotonic() + 30
    while len(stored_paths(store, SPEECH)) < 5:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = stored_paths(store, SPEECH)
    assert 5 <= len(there) < len(clips)
    assert not store.exists(f"datasets/{SPEECH}/dataset.json")
    assert not is_ready(store, settings, SPEECH, source=source)
    written = []
    write_bytes = Store.write_bytes

    def note_and_write(self, key, data):
        written.append(key)
        write_bytes(self, key, data)

    monkeypatch.setattr(Store, "write_bytes", note_and_write)
    assert obtain(store, settings, SPEECH, source=source).facts["clips"] == 64
    assert sum(key.endswith(".wav") for key in written) == 64 - len(there), "what was there is not written again"
    assert stored_paths(store, SPEECH) == sorted(clips)


def test_two_at_once_do_the_work_once(local):
    settings, store = local
    source = write(recordings(settings) / "some", ravdess_clips(range(1, 3)))
    begun, steps = threading.Event(), ([], [])

    def slowly(*step):
        steps[0].append(step)
        begun.set()
        time.sleep(0.01)

    first = threading.Thread(
        target=obtain, args=(store, settings, SPEECH), kwargs={"source": source, "progress": slowly}
    )
    first.start()
    assert begun.wait(10)
    dataset = obtain(store, settings, SPEECH, source=source, progress=lambda *step: steps[1].append(step))
    first.join()
    assert dataset.facts["clips"] == 32
    assert (len(steps[0]), steps[1]) == (64, [])


# The real recordings


@pytest.fixture(scope="module")
def real(ravdess, tmp_path_factory):
    """Facts and manifest of actors 1, 5 and 7: three of the five stereo clips, and the identical pair."""
    home = tmp_path_factory.mktemp("real")
    settings = make_settings(home)
    source = recordings(settings) / "some"
    for actor in ("Actor_01", "Actor_05", "Actor_07"):
        (source / actor).mkdir(parents=True)
        for clip in (ravdess / actor).glob("*.wav"):
            (source / actor / clip.name).symlink_to(clip.resolve())
    settings = replace(settings, recordings=(*settings.recordings, ravdess))
    store = Store(settings.home)
    return obtain(store, settings, SPEECH, source=source).facts, read_manifest(store, SPEECH)


@pytest.mark.ravdess
def test_the_real_recordings(real):
    facts, manifest = real
    assert (facts["clips"], facts["unique"], facts["speakers"], facts["unreadable"]) == (180, 179, 3, 0)
    assert facts["emotions"] == {emotion: 12 if emotion == "neutral" else 24 for emotion in EMOTIONS}
    assert "none of actors 2, 3, 4, 6, 8, 9, 10," in facts["notice"]
    assert set(manifest["rate"]) == {48_000}
    assert manifest["duration"].between(2.9, 5.3).all()
    assert manifest.groupby("speaker").size().tolist() == [60, 60, 60]
    assert set(manifest["gender"]) == {"male"}
    for column in ("intensity", "statement", "repetition"):
        assert manifest[column].nunique() == 2


@pytest.mark.ravdess
def test_the_stereo_clips_and_the_identical_pair(real):
    _, manifest = real
    assert manifest.loc[manifest["channels"] == 2, "path"].tolist() == [
        "Actor_01/03-01-02-01-01-02-01.wav",
        "Actor_01/03-01-08-01-02-02-01.wav",
        "Actor_05/03-01-02-01-02-02-05.wav",
    ]
    copies = manifest.loc[manifest["duplicate_of"] != "", ["path", "duplicate_of"]].values.tolist()
    assert copies == [["Actor_07/03-01-03-01-02-02-07.wav", "Actor_07/03-01-03-01-02-01-07.wav"]]
