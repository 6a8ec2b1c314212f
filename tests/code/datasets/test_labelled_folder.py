"""Recordings of your own: in folders or in a table of labels."""

import pandas as pd
import pytest
import yaml

from dataset_files import OWN, own_folder, recordings, stored_paths, with_catalogue
from emotion.datasets.importing import obtain, read_manifest
from emotion.errors import ConfigurationError, DataError
from small_data import wav, write_zip

TABLE = "path,emotion,speaker\n"


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
    assert (
        "Anger (1 clips; first: Anger/anna/1.wav), joy (1 clips; first: joy/ben/1.wav). Expected neutral, calm,"
        in str(caught.value)
    )
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
def test_too_few_speakers_give_a_warning(local, files, warning):
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
        (
            {"glad/1.wav": b"1", "sad/1.wav": b"2"},
            r"glad \(1 clips; first: glad/1.wav\).*under labelled-folder, as in labels: {glad: angry}",
        ),
        (
            {"happy/1.wav": b"1", "sad/1.wav": b"1"},
            r"happy/1.wav \(happy\) and sad/1.wav \(sad\) are the same",
        ),
        ({"labels.csv": ""}, "has the columns none; expected path, emotion"),
        ({"labels.csv": "path|emotion\na.wav|sad\n"}, "has the columns path|emotion".replace("|", "[|]")),
        ({"labels.csv": "path,speaker\n"}, "has the columns path, speaker"),
        ({"labels.csv": "path,emotions,gendre\n"}, "has the columns path, emotions, gendre"),
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
        ({"labels.csv": TABLE + ",sad,anna\n"}, "line 2: no path"),
        ({"a.wav": b"1", "labels.csv": TABLE + "a.wav,,a\n"}, r"\(none\) \(1 clips; first: line 2\)"),
        (
            {"a.wav": b"1", "b.wav": b"2", "labels.csv": TABLE + "a.wav,sad,a\nb.wav,calm,\n"},
            "1 of 2 clips have no",
        ),
        ({"a.wav": b"1", "labels.csv": "path,emotion\n"}, "0 recordings of fewer than two emotions"),
    ],
)
def test_own_recordings_that_cannot_be_used_are_refused_with_the_reason(local, files, message):
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


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_table_as_spreadsheets_write_it_is_read(local, separator, encoding, line_end):
    settings, store = local
    lines = [
        ["speaker", "Age", "PATH ", "Emotion", ""],
        ["Zoë", "31", "a.wav", "Happy", ""],
        ["ben", "", "b.wav", "sad", ""],
    ]
    text = line_end.join(separator.join(line) for line in [*lines, ["", "", "", "", ""]]) + line_end
    source = own_folder(settings, {"a.wav": wav(1), "b.wav": wav(2), "labels.csv": text.encode(encoding)})
    facts = obtain(store, settings, OWN, source=source).facts
    assert read_manifest(store, OWN)[["path", "emotion", "actor"]].values.tolist() == [
        ["a.wav", "happy", "Zoë"],
        ["b.wav", "sad", "ben"],
    ]
    assert facts["warnings"] == [
        "labels.csv has columns that are not read: age; read are path, emotion, speaker, gender, intensity, statement."
    ]


def test_a_quoted_value_may_hold_what_separates_values(local):
    settings, store = local
    table = 'path;emotion;speaker;statement\n"a;1.wav";sad;"ann, b";"one\ntwo"\nb.wav;calm;c;\n'
    obtain(store, settings, OWN, source=own_folder(settings, {"a;1.wav": wav(1), "b.wav": wav(2), "labels.csv": table}))
    assert read_manifest(store, OWN)[["path", "actor", "statement"]].values.tolist() == [
        ["a;1.wav", "ann, b", "one\ntwo"],
        ["b.wav", "c", ""],
    ]


@pytest.mark.parametrize("form", ["folders", "table"])
def test_a_word_that_the_catalogue_maps_to_null_is_left_out_and_counted(local, form):
    settings, store = local
    document = {OWN: {"kind": "folder", "labels": {"Boredom": None, "anger": "angry"}, "emotions": {"polite": None}}}
    settings = with_catalogue(settings, document)
    clips = [("anger", "a"), ("Polite", "b"), ("boredom", "a"), ("boredom", "")]  # what is left out needs no speaker
    if form == "folders":
        files = {f"{word}/{speaker or '.'}/{n}.wav": wav(n) for n, (word, speaker) in enumerate(clips)}
    else:
        files = {f"{n}.wav": wav(n) for n in range(4)}
        rows = [f"{n}.wav,{word},{speaker}\n" for n, (word, speaker) in enumerate(clips)]
        files["labels.csv"] = TABLE + "".join(rows)
    facts = obtain(store, settings, OWN, source=own_folder(settings, files)).facts
    assert facts["left_out"] == {"boredom": 2} and facts["clips"] == 2 and facts["warnings"] == []
    assert {word: count for word, count in facts["emotions"].items() if count} == {"angry": 1, "polite": 1}
    assert facts["emotion_colours"] == {}


def test_a_table_that_is_given_as_the_source_comes_before_a_rule_and_a_database(local):
    settings, store = local
    settings = with_catalogue(settings, {OWN: {"kind": "folder", "rule": {"pattern": "(?P<emotion>x)"}}})
    files = {"a.wav": wav(1), "b.wav": wav(2), "db.yaml": b"x", "mine.csv": TABLE + "a.wav,sad,a\nb.wav,calm,b\n"}
    obtain(store, settings, OWN, source=own_folder(settings, files) / "mine.csv")
    assert read_manifest(store, OWN)["emotion"].tolist() == ["sad", "calm"]
