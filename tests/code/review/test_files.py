import csv
import io
import json
import shutil
import time
from pathlib import Path

import pytest

from emotion.commands.main import main
from emotion.errors import ConfigurationError, DataError
from emotion.review import clips, files, labels, queue
from emotion.review.files import Imported, export, import_labels
from emotion.review.labels import Label
from review_batches import add_queue


@pytest.fixture
def box(tmp_path):
    return tmp_path / "inbox"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "to hear"


def read_rows(folder):
    return list(csv.DictReader(io.StringIO((folder / "labels.csv").read_text("utf-8-sig"), newline="")))


def filled(rows, *, delimiter=",", newline="\r\n", encoding="utf-8-sig"):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator=newline)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(encoding)


def take(store, data, *, person="ann", translations=None):
    return import_labels(store, data, "labels.csv", person=person, translations=translations or {})


def test_a_folder_has_the_audio_and_a_table_that_does_not_tell_the_answer(store, box, folder):
    made = add_queue(store, box)
    assert export(store, folder, person="ann") == 5
    rows = read_rows(folder)
    assert list(rows[0]) == ["item", "file", "emotion", "speaker", "note"]
    by_name = {f"{item.audio[:16]}/monday": item for item in made.items}
    for row in rows:
        item = by_name.pop(row["item"])
        assert (folder / row["file"]).read_bytes() == (box / item.path).read_bytes()
        assert row["emotion"] == row["speaker"] == row["note"] == ""
    assert not by_name
    readme = (folder / "README.txt").read_text()
    assert "neutral, calm, happy" in readme and "no_speech" in readme and "5 clips" in readme
    assert {path.name for path in folder.iterdir()} == {"audio", "labels.csv", "README.txt"}


def test_only_what_the_person_can_still_label_is_exported(store, box, folder, tmp_path):
    first = add_queue(store, box)
    add_queue(store, box, batch="tuesday", seed=1)
    labels.add(store, Label("monday", first.items[0].audio, "ann", "sad"))
    store.delete(clips.key_of(first.items[1].audio, first.items[1].suffix))
    assert export(store, folder, person="ann", batch="monday") == 3
    assert export(store, tmp_path / "all", person="ann") == 8
    with pytest.raises(ConfigurationError, match="not empty"):
        export(store, folder, person="ann")
    with pytest.raises(DataError, match="batch nowhere has no queue"):
        export(store, tmp_path / "new", person="ann", batch="nowhere")
    assert not (tmp_path / "new").exists()


def test_nothing_to_export_is_said(store, folder):
    with pytest.raises(DataError, match="nothing is left that ann could label"):
        export(store, folder, person="ann")
    assert not folder.exists()


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"delimiter": ";", "newline": "\n", "encoding": "utf-8"},
        {"delimiter": "\t", "encoding": "utf-16"},
    ],
    ids=["as written", "semicolons", "UTF-16 with tabs"],
)
def test_a_filled_table_becomes_labels_once(store, box, folder, form):
    add_queue(store, box)
    export(store, folder, person="ann")
    rows = read_rows(folder)
    rows[0] |= {"emotion": "Angry ", "speaker": "'+49 170", "note": 'said "no",\r\ntwice; 🎤'}
    rows[1] |= {"emotion": "no speech"}
    rows[2] |= {"emotion": "Wut", "note": "'quoted'"}
    data = filled(rows, **form)
    assert take(store, data, translations={"wut": "angry"}) == Imported(added=3, known=0, empty=2)
    assert take(store, data, translations={"wut": "angry"}) == Imported(added=0, known=3, empty=2)
    added = {f"{label.audio[:16]}/{label.batch}": label for label in labels.read(store)}
    first, second, third = (added[row["item"]] for row in rows[:3])
    assert (first.label, first.speaker, first.note) == ("angry", "+49 170", 'said "no",\ntwice; 🎤')
    assert (second.label, third.label, third.note) == ("no_speech", "angry", "'quoted'")
    assert all(label.blind and label.person == "ann" for label in added.values())
    rows[0]["emotion"], rows[3]["emotion"] = "sad", "cannot_tell"
    assert take(store, filled(rows), translations={"wut": "angry"}) == Imported(added=2, known=2, empty=1)
    assert take(store, filled(rows), person="ben", translations={"wut": "angry"}).added == 4
    standing = labels.standing(labels.read(store))
    assert standing[first.key]["ann"].label == "sad" and len(standing[first.key]) == 2


def test_all_wrong_rows_are_named_and_none_is_taken(store, box, folder):
    made = add_queue(store, box)
    export(store, folder, person="ann")
    rows = read_rows(folder)
    for row, changes in zip(
        rows,
        [
            {"emotion": "sad"},
            {"emotion": "hapy"},
            {"note": "?"},
            {"emotion": "hapy"},
            {"emotion": "sad", "speaker": "\x07"},
        ],
        strict=True,
    ):
        row |= changes
    rows += [rows[0], rows[0] | {"item": "=1+1"}, rows[0] | {"item": "0" * 16 + "/monday"}]
    rows += [rows[0] | {"item": f"{made.items[0].audio[:16]}/nowhere"}]
    with pytest.raises(DataError) as error:
        take(store, filled(rows))
    message = str(error.value)
    for part in (
        "lines 3, 5: the label 'hapy' is none of neutral",
        "line 4: a speaker or a note and no emotion",
        "line 6: the speaker has the control character",
        "line 7: the clip is in line 2 already",
        "line 8: the item '=1+1' is none",
        "line 9: the item '0000000000000000/monday' is no clip of a queue",
        "line 10: batch nowhere has no queue",
    ):
        assert part in message
    assert labels.read(store) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has the columns none"),
        (b"item,file\n", "expected item and emotion"),
        (b"item,emotion,emotion\n", "each once"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'item,emotion\n"x', "cannot be read"),
        (b"item,emotion\na,b,c\n", "line 2: 3 values; expected 2"),
    ],
)
def test_what_is_no_such_table_is_refused(store, data, message):
    with pytest.raises(DataError, match=message):
        take(store, data)


def test_columns_that_a_spreadsheet_adds_are_ignored(store, box):
    made = add_queue(store, box)
    data = f"Item;Emotion;;;rating\n{made.items[0].audio}/monday;sad;;;5\n;;;;\n".encode()
    assert take(store, data) == Imported(added=1, known=0, empty=0)


def test_an_import_that_was_killed_goes_on(store, box, folder, monkeypatch):
    add_queue(store, box)
    export(store, folder, person="ann")
    data = filled([row | {"emotion": "sad"} for row in read_rows(folder)])
    add, written = labels.add, []

    def killed(store, label):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(add(store, label))

    monkeypatch.setattr(files.labels, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        take(store, data)
    monkeypatch.undo()
    assert take(store, data) == Imported(added=3, known=2, empty=0)


def test_a_hundred_labels_are_imported_quickly(store, box):
    made = add_queue(store, box, clips=100, size=100)
    text = "item,emotion\n" + "".join(f"{item.audio}/monday,sad\n" for item in made.items)
    start = time.process_time()
    assert take(store, text.encode()).added == 100
    assert time.process_time() - start < 2


@pytest.fixture
def command(settings, monkeypatch, capsys):
    monkeypatch.setenv("EMOTION_HOME", settings.home)
    monkeypatch.setenv("LOGNAME", "ann")

    def run(*arguments):
        code = main(["review", *map(str, arguments)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_the_command_exports_imports_and_tells_the_status(store, box, folder, command):
    assert command("status") == (0, command("status")[1], "") and "no clips to review" in command("status")[1]
    made = add_queue(store, box)
    code, output, _ = command("export", folder)
    assert code == 0 and output.startswith("5 clips are in ")
    data = filled([row | {"emotion": "sad"} for row in read_rows(folder)])
    (folder / "labels.csv").write_bytes(data)
    assert command("import", folder / "labels.csv")[1].startswith("5 labels added, 0 known already")
    assert command("import", folder / "labels.csv", "--person", "ben")[1].startswith("5 labels added")
    assert {label.person for label in labels.read(store)} == {"ann", "ben"}
    code, output, _ = command("status")
    assert code == 0 and output.splitlines()[1].split() == ["monday", "5", "5", "0", "5"]
    figures = json.loads(command("status", "--json")[1])
    assert figures["all"] == {"items": 5, "labelled": 5, "done": 5, "left": 0, "double": 5, "alpha": None}
    assert len(made.items) == 5
    (folder / "labels.csv").write_bytes(data.replace(b"sad", b"sda"))
    code, _, errors = command("import", folder / "labels.csv")
    assert code == 1 and "lines 2, 3, 4, 5, 6: the label 'sda' is none of" in errors
    code, _, errors = command("import", folder / "missing.csv")
    assert code == 1 and "missing.csv: No such file or directory" in errors


def test_a_table_that_is_no_file_is_refused(command, folder):
    folder.mkdir()
    code, _, errors = command("import", folder)
    assert code == 1 and "Is a directory" in errors


def test_a_copied_store_is_read_where_it_is(store, box, tmp_path):
    made = add_queue(store, box)
    labels.add(store, Label(*made.items[0].key, "ann", "sad"))
    shutil.copytree(store.root, tmp_path / "copy")
    copy = type(store)(str(tmp_path / "copy"))
    assert labels.read(copy) == labels.read(store) and queue.read(copy, "monday") == made
    assert Path(copy.root) != Path(store.root)
