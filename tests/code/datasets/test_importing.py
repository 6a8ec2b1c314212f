"""The import: what lies in the store afterwards, what is done again, and what a kill leaves."""

import csv
import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from dataset_files import BOTH, OWN, SPEECH, own_folder, recordings, stored_paths, with_catalogue, write
from emotion.datasets import synthesis
from emotion.datasets.http_client import Retry
from emotion.datasets.importing import audio_folder, is_ready, load, obtain, read_manifest
from emotion.datasets.manifest import MANIFEST
from emotion.datasets.synthesis import NOTICE
from emotion.errors import ConfigurationError, DataError, DownloadError
from emotion.settings import PROJECT
from emotion.store import Store
from emotion.vocabulary import EMOTIONS
from small_data import make_settings, ravdess_clips, ravdess_names, ravdess_zip, wav, write_zip
from zenodo_server import ZenodoServer, catalogue

# From Zenodo


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


def test_a_stored_dataset_is_returned_without_the_network(zenodo):
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
        new = obtain(store, settings.model_copy(update={"zenodo_url": other.url}), SPEECH)
    assert new.facts["fingerprint"] != old.facts["fingerprint"]
    assert stored_paths(store, SPEECH) == sorted(ravdess_names(range(3, 4)))


def test_texts_follow_the_catalogue_without_another_download(zenodo):
    settings, store, server = zenodo
    obtain(store, settings, SPEECH)
    document = yaml.safe_load(settings.catalogue.read_text())
    document[SPEECH]["title"] = "Another title"
    settings, before = with_catalogue(settings, document), len(server.log)
    assert is_ready(store, settings, SPEECH)
    assert load(store, SPEECH).facts["title"] != "Another title", "asking whether it is ready writes nothing"
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
def test_an_archive_whose_clips_differ_from_the_catalogue_is_refused(zenodo, change, message):
    settings, store, _ = zenodo
    document = yaml.safe_load(settings.catalogue.read_text())
    document[SPEECH]["archives"][0] |= change
    settings = with_catalogue(settings, document)
    with pytest.raises(DataError, match=message):
        obtain(store, settings, SPEECH)
    assert store.list(f"datasets/{SPEECH}") == []


def test_a_host_that_cannot_be_reached_leaves_the_store_empty(zenodo):
    settings, store, _ = zenodo
    with pytest.raises(DownloadError, match="RAVDESS_DIR"):
        obtain(
            store,
            settings.model_copy(update={"zenodo_url": "http://127.0.0.1:9"}),
            SPEECH,
            retry=Retry(attempts=1),
        )
    assert store.list(f"datasets/{SPEECH}") == []
    with pytest.raises(DataError, match="is not there"):
        load(store, SPEECH)


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


# Names that cannot be stored, a disk that is full

BAD_NAMES = {
    "a name of 304 bytes": ({f"happy/ann/{'n' * 300}.wav": wav(3)}, "nnn.wav has a name of more than 255 bytes"),
    "a file that is a folder too": (
        {"happy/ann/a.wav": wav(3), "happy/ann/a.wav/b.wav": wav(4)},
        r"happy/ann/a\.wav is a recording and also the folder of happy/ann/a\.wav/b\.wav",
    ),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_a_name_that_cannot_be_stored_costs_nothing_of_what_is_stored(place, case):
    settings, store = place
    files = {"happy/ann/1.wav": wav(1), "sad/ann/2.wav": wav(2)}
    before = obtain(store, settings, OWN, source=write_zip(recordings(settings) / "good.zip", files))
    more, message = BAD_NAMES[case]
    bad = write_zip(recordings(settings) / "bad.zip", {"happy/ann/1.wav": wav(9), "sad/ann/2.wav": wav(2)} | more)
    with pytest.raises(DataError, match=message):
        obtain(store, settings, OWN, source=bad)
    check_is_whole(store, before, files)


def check_is_whole(store: Store, dataset, files: dict[str, bytes]) -> None:
    assert load(store, OWN) == dataset
    assert read_manifest(store, OWN)["path"].tolist() == sorted(files) == stored_paths(store, OWN)
    for path, data in files.items():
        assert store.read_bytes(f"{audio_folder(OWN)}/{path}") == data
    assert store.list(f"datasets/{OWN}/incoming") == []


@pytest.mark.parametrize(
    "code, error", [(errno.ENOSPC, ConfigurationError), (errno.ENAMETOOLONG, DataError), (errno.EIO, OSError)]
)
def test_a_disk_that_fails_in_the_middle_costs_nothing_of_what_is_stored(place, monkeypatch, code, error):
    settings, store = place
    files = {"happy/1.wav": wav(1), "happy/2.wav": wav(2), "sad/3.wav": wav(3)}
    before = obtain(store, settings, OWN, source=own_folder(settings, files))
    new = {path: wav(number) for number, path in enumerate(files, start=7)}
    source = own_folder(settings, new, "new")
    write_bytes = Store.write_bytes

    def fail_at_sad(self, key, data):
        if "sad" in key:
            raise OSError(code, os.strerror(code))
        write_bytes(self, key, data)

    monkeypatch.setattr(Store, "write_bytes", fail_at_sad)
    with pytest.raises(error, match="sad/3.wav cannot be stored at "):
        obtain(store, settings, OWN, source=source)
    check_is_whole(store, before, files)
    monkeypatch.undo()
    check_is_whole(store, obtain(store, settings, OWN, source=source), new)


def test_a_recording_may_take_the_place_of_a_folder_and_a_folder_that_of_a_recording(place):
    settings, store = place
    old = {"happy/ann/a.wav/1.wav": wav(1), "happy/ann/b.wav": wav(2), "sad/ann/3.wav": wav(3)}
    new = {"happy/ann/a.wav": wav(1), "happy/ann/b.wav/deep/2.wav": wav(5), "sad/ann/3.wav": wav(3)}
    for name, files in (("old", old), ("new", new), ("old", old)):
        check_is_whole(store, obtain(store, settings, OWN, source=own_folder(settings, files, name)), files)


# Interruptions

REPLACE = """
import sys; from pathlib import Path; from emotion.datasets import importing
from emotion.settings import Settings; from emotion.store import Store
import os, signal
steps, kill_at = 0, int(sys.argv[2])
def count(method):
    def step(*arguments):
        global steps
        if steps == kill_at: os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        return method(*arguments)
    return step
for name in ("write_bytes", "rename", "delete"): setattr(Store, name, count(getattr(Store, name)))
settings = Settings.from_environment()
importing.obtain(Store(settings.home), settings, "labelled-folder", source=Path(sys.argv[1]))
"""


def test_a_replacement_killed_at_any_step_leaves_the_old_dataset_or_is_resumed(local):
    settings, store = local
    old = {"happy/1.wav": wav(1), "happy/2.wav": wav(2), "sad/3.wav": wav(3)}
    new = {"happy/1.wav": wav(7), "happy/4.wav": wav(4), "sad/3.wav": wav(3)}
    sources = own_folder(settings, old, "old"), own_folder(settings, new, "new")
    environ = os.environ | {
        "PYTHONPATH": str(PROJECT / "plugins"),
        "EMOTION_HOME": settings.home,
        "EMOTION_RECORDINGS": str(recordings(settings)),
    }
    whole = 0
    for kill_at in (0, 2, 3, 5, 6, 8):
        before = obtain(store, settings, OWN, source=sources[0])
        command = [sys.executable, "-c", REPLACE, str(sources[1]), str(kill_at)]
        assert subprocess.run(command, env=environ).returncode == -signal.SIGKILL
        if store.exists(f"datasets/{OWN}/dataset.json"):
            whole += 1
            assert load(store, OWN) == before and stored_paths(store, OWN) == sorted(old)
        check_is_whole(store, obtain(store, settings, OWN, source=sources[1]), new)
    assert 0 < whole < 6, "killed before and after the old dataset was given up"


OBTAIN = """
import sys, time; from pathlib import Path; from emotion.datasets import importing
from emotion.settings import Settings; from emotion.store import Store
settings = Settings.from_environment()
importing.obtain(Store(settings.home), settings, "ravdess-speech", source=Path(sys.argv[1]),
                progress=lambda stage, done, *_: time.sleep(60 * (stage == "import" and done == 10)))
"""


def test_a_killed_import_goes_on_with_what_is_stored(local, monkeypatch):
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
    settings = settings.model_copy(update={"recordings": (*settings.recordings, ravdess)})
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
