"""Labels of the files to score: read by the rules of training, in words of the catalogue, from the inbox alone."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from emotion.datasets.catalogue import read_catalogue, shared_translations
from emotion.errors import DataError
from emotion.metrics import Emitter
from emotion.runs.scoring_run import ScoringRun
from emotion.scoring import labels
from emotion.scoring.labels import find_labels, label_and_speaker, read_labels
from emotion.scoring.options import Options
from emotion.settings import INCLUDE, Settings
from emotion.store import Store
from small_models import trained_store  # noqa: F401


def table(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder / "labels.csv"


def test_emotion_and_speaker_are_read_where_they_are_given(tmp_path):
    file = table(tmp_path, "Speaker,Path,emotion\nann,./calls/1.wav,SAD\n\nben,calls//2.wav,\n,3.wav,Anger\n")
    rows = read_labels(file, {"anger": "angry"})
    assert {path: (row.emotion, row.speaker) for path, row in rows.items()} == {
        "calls/1.wav": ("sad", "ann"),
        "calls/2.wav": ("", "ben"),
        "3.wav": ("angry", ""),
    }


@pytest.mark.parametrize("text", ["path,emotion\na.wav,sad\n", "path,speaker\na.wav,ann\n"])
def test_one_of_emotion_and_speaker_is_enough(tmp_path, text):
    assert list(read_labels(table(tmp_path, text), {})) == ["a.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na.wav\n", "has the columns path; expected path, emotion or speaker or both, and, where known, gender"),
        ("path,mood\na.wav,x\n", "has the columns path, mood"),
        ("path,emotion\na.wav\n", "line 2: 1 values; expected 2"),
        ("path,emotion\na.wav,sad\n./a.wav,sad\n", "line 3: a.wav is in line 2 already"),
        ("path,emotion\na.wav,glad\nb.wav,glad\n", r"glad \(2 clips; first: line 2\).*in an entry"),
    ],
)
def test_a_table_that_training_would_refuse_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_labels(table(tmp_path, text), {})


def test_a_folder_may_have_no_table(tmp_path):
    assert find_labels(tmp_path, "labels.csv", (tmp_path,)) is None
    assert find_labels(tmp_path, None, (tmp_path,)) is None
    file = table(tmp_path, "path,emotion\n")
    assert find_labels(tmp_path, "labels.csv", (tmp_path,)) == file


def test_a_table_outside_the_inbox_or_too_long_is_refused(tmp_path, monkeypatch):
    (tmp_path / "inbox").mkdir()
    os.symlink(table(tmp_path, "path,emotion\n"), tmp_path / "inbox/labels.csv")
    with pytest.raises(DataError, match="no regular file of the inbox"):
        find_labels(tmp_path / "inbox", "labels.csv", (tmp_path / "inbox",))
    monkeypatch.setattr(labels, "MAX_LABELS_BYTES", 5)
    with pytest.raises(DataError, match="has 13 bytes; expected at most 5"):
        find_labels(tmp_path, "labels.csv", (tmp_path,))


def test_the_table_comes_before_the_name_of_the_file(tmp_path):
    rows = read_labels(table(tmp_path, "path,emotion,speaker\nann/03-01-06-01-02-01-12.wav,sad,bea\n"), {})
    path = "ann/03-01-06-01-02-01-12.wav"
    assert label_and_speaker(path, rows, "labels") == {"label": "sad", "speaker": "bea"}
    assert label_and_speaker(path, rows, "subfolder") == {"label": "sad", "speaker": "ann"}
    assert label_and_speaker(path, {}, "labels") == {"label": "fearful", "speaker": ""}
    assert label_and_speaker("1.wav", rows, "subfolder") == {"label": "", "speaker": ""}


def test_a_scoring_run_translates_the_words_of_the_catalogue(trained_store, tmp_path):  # noqa: F811
    shutil.copytree(f"{trained_store.root}/models", tmp_path / "home/models", copy_function=os.link)
    box = tmp_path / "inbox"
    box.mkdir()
    shutil.copy(Path(trained_store.root, trained_store.list("corpus", "*.wav")[0]), box / "a.wav")
    entries = yaml.safe_load((INCLUDE / "datasets.yaml").read_text(encoding="utf-8"))
    entries["calls"] = entries["labelled-folder"] | {"labels": {"anger": "angry", "mad": "angry"}}
    entries["films"] = entries["labelled-folder"] | {"labels": {"mad": "disgust"}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    settings = Settings.from_environment(
        {
            "EMOTION_HOME": str(tmp_path / "home"),
            "EMOTION_INBOXES": str(box),
            "EMOTION_DATASETS": str(tmp_path / "datasets.yaml"),
        }
    )
    table(box, "path,emotion\na.wav,mad\n")
    ScoringRun(settings, "one", Emitter(None)).find_new_audio(folder=None, options=Options(settle_seconds=0))
    (refused,) = Store(settings.home).read_json("scores/one/plan.json")["labels_refused"]
    assert re.search(r"mad \(1 clips; first: line 2\).*two entries translate differently", refused["message"])
    table(box, "path,emotion\na.wav,Anger\n")
    ScoringRun(settings, "two", Emitter(None)).find_new_audio(
        folder=None, options=Options(settle_seconds=0, rescore=True)
    )
    (file,) = Store(settings.home).read_table("scores/two/plan/0001.parquet").to_dict("records")
    assert file["label"] == "angry"


def test_words_of_the_corpora_in_the_catalogue_are_understood_and_their_codes_are_not(tmp_path, caplog):
    words = shared_translations(read_catalogue(INCLUDE / "datasets.yaml").values())
    text = "Emotion;note;path\nAnger;x;1.wav\nhappiness;;2.wav\n\tsad;;3.wav\n"
    (tmp_path / "labels.csv").write_bytes(text.encode("utf-16"))
    rows = read_labels(tmp_path / "labels.csv", words)
    assert [row.emotion for row in rows.values()] == ["angry", "happy", "sad"]
    assert "columns that are not read: note" in caplog.text
    for code in ("W", "ANG", "ps", "f", "su", "01"):
        with pytest.raises(DataError, match=f"{code} .1 clips; first: line 2"):
            read_labels(table(tmp_path, f"path,emotion\na.wav,{code}\n"), words)


def test_a_word_that_the_catalogue_leaves_out_is_no_label_and_a_declared_emotion_is_one(tmp_path):
    file = table(tmp_path, "path,emotion\n1.wav,Boredom\n2.wav,bored\n")
    rows = read_labels(file, {"boredom": None, "bored": "bored"})
    assert [row.emotion for row in rows.values()] == ["", "bored"]


def test_a_word_that_is_left_out_beats_the_name_of_the_file(tmp_path):
    """A row without a word says nothing of the emotion, and the name counts."""
    names = [f"03-01-05-01-01-01-{actor:02d}.wav" for actor in range(1, 5)]
    file = table(tmp_path, f"path,emotion,speaker\n{names[0]},laughter,ann\n{names[1]},,ann\n{names[2]},sad,ben\n")
    rows = read_labels(file, {"laughter": None})
    known = [label_and_speaker(name, rows, "labels") for name in names]
    assert [each["label"] for each in known] == ["", "angry", "sad", "angry"]
    assert [each["speaker"] for each in known] == ["ann", "ann", "ben", ""]
