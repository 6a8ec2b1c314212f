"""Databases in audformat: headers and tables as its reference implementation (1.4) writes them."""

import io

import pandas as pd
import pytest

from dataset_files import own_folder, recordings, with_catalogue, write
from emotion.datasets.importing import obtain, read_manifest
from emotion.errors import DataError
from small_data import wav, write_zip

HEADER = """name: mini
source: here
usage: research
languages: [deu]
media:
  microphone: {type: audio, format: wav, channels: 1, sampling_rate: 16000}
raters:
  gold: {type: human}
schemes:
  age: {dtype: int, minimum: 0}
  confidence: {dtype: float}
  emotion:
    dtype: str
    labels:
      anger: {de: Ärger}
      boredom: {de: Langeweile}
      happiness: {}
  gender:
    dtype: str
    labels: [female, male]
  speaker: {dtype: str, labels: speaker}
tables:
  emotion:
    type: filewise
    media_id: microphone
    columns:
      emotion: {scheme_id: emotion, rater_id: gold}
      emotion.confidence: {scheme_id: confidence}
  files:
    type: filewise
    columns:
      speaker: {scheme_id: speaker}
      duration: {}
misc_tables:
  speaker:
    levels: {speaker: str}
    columns:
      gender: {scheme_id: gender}
      age: {scheme_id: age}
"""
EMOTION = """file,emotion,emotion.confidence
wav/03a01Wa.wav,anger,0.9
wav/08a01Fa.wav,happiness,0.8
wav/08a01La.wav,boredom,1.0
wav/03a02Xa.wav,,
"""
FILES = """file,speaker,duration
wav/03a01Wa.wav,3,0 days 00:00:01.500000
wav/08a01Fa.wav,8,0 days 00:00:02
wav/08a01La.wav,8,0 days 00:00:02
wav/03a02Xa.wav,3,0 days 00:00:02
"""
SPEAKER = "speaker,gender,age\n3,male,31\n8,female,34\n"
SEGMENTS = HEADER.replace("type: filewise\n    media_id", "type: segmented\n    media_id")
LABELS = {"anger": "angry", "happiness": "happy", "boredom": None}


def database(**changes: str) -> dict[str, str | bytes]:
    names = ("03a01Wa", "08a01Fa", "08a01La", "03a02Xa")
    files = {f"wav/{name}.wav": wav(seed) for seed, name in enumerate(names)}
    tables = {"db.yaml": HEADER, "db.emotion.csv": EMOTION, "db.files.csv": FILES, "db.speaker.csv": SPEAKER}
    return (
        files | tables | {f"db.{name}.csv" if name != "header" else "db.yaml": text for name, text in changes.items()}
    )


@pytest.fixture
def place(local):
    settings, store = local
    return with_catalogue(settings, {"mine": {"kind": "folder", "labels": LABELS}}), store


def rows(store) -> list[tuple[str, str, str, str]]:
    manifest = read_manifest(store, "mine")
    return list(manifest[["path", "emotion", "speaker", "gender"]].itertuples(index=False, name=None))


EXPECTED = [("wav/03a01Wa.wav", "angry", "mine:3", "male"), ("wav/08a01Fa.wav", "happy", "mine:8", "female")]


@pytest.mark.parametrize("form", ["csv", "parquet", "zip"])
def test_emotion_speaker_and_gender_come_from_the_tables(place, form):
    settings, store = place
    files = database()
    if form == "parquet":
        for name, category in (("emotion", "emotion"), ("files", "speaker"), ("speaker", "gender")):
            table = pd.read_csv(io.StringIO(files.pop(f"db.{name}.csv")), dtype={"speaker": "string"})
            table[category] = table[category].astype("category")
            buffer = io.BytesIO()
            table.to_parquet(buffer)
            files[f"db.{name}.parquet"] = buffer.getvalue()
    if form == "zip":
        encoded = {f"mini/{path}": data.encode() if isinstance(data, str) else data for path, data in files.items()}
        source = write_zip(recordings(settings) / "mini.zip", encoded)
    else:
        source = own_folder(settings, files | {"wav/more.wav": wav(99)})
    facts = obtain(store, settings, "mine", source=source).facts
    assert rows(store) == EXPECTED
    assert facts["left_out"] == {"(none)": 1, "boredom": 1}
    assert facts["warnings"] == ([] if form == "zip" else ["1 recordings are not in db.yaml and are left out."])


def test_a_gender_may_be_in_the_header_or_in_the_table_of_files(place):
    settings, store = place
    inline = HEADER.replace(
        "speaker: {dtype: str, labels: speaker}",
        "speaker:\n    dtype: int\n    labels:\n      3: {gender: male, age: 31}\n      8: {gender: female}",
    ).partition("misc_tables")[0]
    obtain(store, settings, "mine", source=own_folder(settings, database(header=inline)))
    assert rows(store) == EXPECTED
    header = HEADER.partition("misc_tables")[0].replace("duration: {}", "gender: {scheme_id: gender}")
    files = (
        FILES.replace("duration", "gender")
        .replace("3,0 days 00:00:01.500000", "3,male")
        .replace("8,0 days 00:00:02", "8,female")
    )
    files = files.replace("3,0 days 00:00:02", "3,male")
    obtain(store, settings, "mine", source=own_folder(settings, database(header=header, files=files), name="other"))
    assert rows(store) == EXPECTED


def test_tables_of_train_and_test_are_read_together(place):
    settings, store = place
    header = HEADER.replace("  emotion:\n    type", "  emotion.train:\n    type").replace(
        "tables:\n",
        "tables:\n  emotion.test:\n    type: filewise\n    columns:\n      emotion: {scheme_id: emotion}\n",
        1,
    )
    files = database(header=header)
    del files["db.emotion.csv"]
    files["db.emotion.train.csv"] = "file,emotion,emotion.confidence\nwav/03a01Wa.wav,anger,1\n"
    files["db.emotion.test.csv"] = "file,emotion\nwav/08a01Fa.wav,happiness\n"
    source = own_folder(settings, files)
    obtain(store, settings, "mine", source=source)
    assert rows(store) == EXPECTED
    write(source, {"db.emotion.test.csv": b"file,emotion\nwav/08a01Fa.wav,happiness\nwav/03a01Wa.wav,happiness\n"})
    with pytest.raises(DataError, match=r"03a01Wa.wav is .* in one table and .* in db.emotion.*; expected one emotion"):
        obtain(store, settings, "mine", source=source)


def test_segments_that_are_whole_files_are_taken(place):
    settings, store = place
    table = "file,start,end,emotion\nwav/03a01Wa.wav,0 days,,anger\nwav/08a01Fa.wav,0 days 00:00:00,,happiness\n"
    obtain(store, settings, "mine", source=own_folder(settings, database(header=SEGMENTS, emotion=table)))
    assert rows(store) == EXPECTED


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"header": SEGMENTS, "emotion": "file,start,end,emotion\nwav/03a01Wa.wav,0 days,0 days 00:00:01,anger\n"},
            "1 rows that are parts of files, such as wav/03a01Wa.wav from 0 days to 0 days 00:00:01; expected whole",
        ),
        (
            {"header": SEGMENTS, "emotion": "file,start,end,emotion\nwav/03a01Wa.wav,0 days 00:00:01,,anger\n"},
            "from 0 days 00:00:01 to its end",
        ),
        ({"header": SEGMENTS, "emotion": "file,start,end,emotion\nwav/03a01Wa.wav,soon,,anger\n"}, "from soon"),
        ({"header": "tables: ["}, "db.yaml cannot be read"),
        ({"header": "tables: !!timestamp soon"}, "db.yaml cannot be read"),
        ({"header": "- a"}, r"no table of db.yaml has a column emotion; it has \(no table\)"),
        ({"header": "tables: {files: {columns: {speaker: }}}"}, r"it has \(files: speaker\)"),
        ({"header": "tables: {other: {columns: {emotion: }}}"}, "expected db.other.csv or db.other.parquet beside it"),
        ({"emotion": "path,mood\na,b\n"}, "db.emotion has the columns path, mood; expected file and emotion"),
        ({"emotion": 'file,emotion\n"a,b\n'}, "db.emotion.csv cannot be read"),
        (
            {"emotion": "file,emotion\nwav/no.wav,anger\n"},
            "db.yaml names 1 files that are not there, such as file: wav/no",
        ),
        ({"emotion": "file,emotion\n../../x.wav,anger\n"}, "not there, such as file: ../../x.wav"),
        ({"emotion": EMOTION + "wav/03a01Wa.wav,anger,1\n"}, "db.emotion lists wav/03a01Wa.wav twice"),
        ({"emotion": EMOTION.replace("anger", "rage")}, r"rage \(1 clips; first: wav/03a01Wa.wav\)"),
        ({"files": FILES.replace("Wa.wav,3", "Wa.wav,")}, "1 of 2 clips have no speaker"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(place, changes, message):
    settings, store = place
    with pytest.raises(DataError, match=message):
        obtain(store, settings, "mine", source=own_folder(settings, database(**changes)))
    assert not store.list("datasets/mine")
