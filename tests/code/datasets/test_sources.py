"""Sources on a disk: RAVDESS in its forms, and where a source may lie."""

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from dataset_files import BOTH, SPEECH, recordings, stored_paths, write
from emotion.datasets.importing import audio_folder, is_ready, load, obtain
from emotion.errors import ConfigurationError, DataError
from emotion.vocabulary import EMOTIONS
from small_data import ravdess_clips, ravdess_names, ravdess_zip, wav, write_zip

# RAVDESS


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


def test_a_part_of_ravdess_is_taken_with_a_warning(local, caplog):
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


def test_the_same_clips_in_another_archive_do_not_stand_for_the_download(zenodo):
    settings, store, _server = zenodo
    source = ravdess_zip(recordings(settings) / "again.zip")
    with zipfile.ZipFile(source, "a") as archive:
        archive.comment = b"packed again"
    assert obtain(store, settings, SPEECH, source=source).facts["complete"]
    assert not is_ready(store, settings, SPEECH)


def test_a_source_is_imported_again_only_if_it_changed(place):
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
        ({"hello.wav": b"x"}, r"1 recordings do not have RAVDESS's names, such as hello.wav"),
        ({"01-01-01-01-01-01-01.wav": b"x"}, "do not have"),
        ({"03-03-01-01-01-01-01.wav": b"x"}, "do not have"),
        ({"03-01-09-01-01-01-01.wav": b"x"}, "do not have"),
        ({"03-01-01-02-01-01-01.wav": b"x"}, "do not have"),  # neutral is never strong
        ({"03-01-02-01-01-01-00.wav": b"x"}, "do not have"),
        (
            {"Actor_01/03-01-02-01-01-01-01.wav": b"x", "03-01-02-01-01-01-01.wav": b"y"},
            "of the same name and differ",
        ),
        ({"readme.txt": b"x"}, "no speech clips of RAVDESS are there"),
    ],
)
def test_recordings_that_are_not_ravdess_are_refused(local, files, message):
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
