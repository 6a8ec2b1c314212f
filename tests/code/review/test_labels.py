import multiprocessing
import time

import pandas as pd
import pytest

from emotion.errors import DataError
from emotion.review import assignment, labels, queue, settled
from emotion.review.labels import SPECIAL, Label
from emotion.review.queue import Item, Queue
from emotion.review.status import status
from emotion.store import Store
from emotion.vocabulary import EMOTIONS

HOSTILE = "</script><img src=x onerror=alert(1)> '\"; DROP TABLE x; \u202e {{ 7*7 }} 🎤"


def make_queue(
    store, batch="one", *, people=(1, 1, 2), emotions=EMOTIONS, made_at="2026-01-02T03:04:05+00:00", **fields
):
    answer = {"emotion": "sad", "confidence": 0.7, "probabilities": dict.fromkeys(emotions, 0.1), "mode": "plain"}
    facts = {"suffix": "wav", "path": "a.wav", "channel": "", "start": None, "end": None, "folder": ".", "speaker": ""}
    facts |= {"duration": 2.0, "probability": 0.25, "reasons": ("chance",), "answer": answer, "challenger": None}
    items = [
        Item(
            batch=batch,
            audio=f"{number:064x}",
            sha256=f"{number:064x}",
            people=count,
            unfamiliar=False,
            **facts | fields,
        )
        for number, count in enumerate(people)
    ]
    made = Queue(batch, made_at, {"version": "v1", "family": "ensemble"}, tuple(emotions), 90, tuple(items))
    queue.write(store, made)
    return made


def say(store, item, person, word, **fields):
    return labels.add(store, Label(*item.key, person, word, **fields))


def test_a_label_is_stored_with_who_when_and_what_was_shown(store):
    item = make_queue(store).items[0]
    label = say(store, item, "ann", "angry", note="loud\n\tand fast", speaker="ben", blind=False)
    assert labels.read(store) == labels.read(store, "one") == [label]
    assert label.shown == {"emotion": "sad", "confidence": 0.7, "version": "v1", "family": "ensemble"}
    assert len(label.id) == 32 and label.at.endswith("+00:00")
    assert store.list("reviews/labels") == [f"reviews/labels/one/{label.id}.json"]
    assert labels.read(store, "two") == []


@pytest.mark.parametrize("word", [*SPECIAL, *EMOTIONS, "bored"])
def test_emotions_of_the_model_standard_ones_and_special_words_are_labels(store, word):
    item = make_queue(store, emotions=("happy", "bored")).items[0]
    assert say(store, item, "ann", word).label == word


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": "bored"}, "none of neutral, calm"),
        ({"label": ""}, "none of"),
        ({"batch": "two"}, "batch two has no queue"),
        ({"batch": "../../etc/passwd"}, "no name of a batch"),
        ({"audio": "ff" * 32}, "has no clip"),
        ({"audio": "../x"}, "has no clip"),
        ({"person": " "}, "without a person"),
        ({"person": "ann\x00"}, "control character"),
        ({"person": "x" * 201}, "201 characters"),
        ({"speaker": "a\nb"}, "control character"),
        ({"note": "x" * 2001}, "2001 characters"),
        ({"note": "\x1b[31mred"}, "control character"),
        ({"note": "\ud800"}, "control character"),
        ({"label": "", "withdraws": "0" * 32}, "nothing was taken back"),
        ({"label": "sad", "withdraws": "0" * 32}, "is empty"),
    ],
)
def test_a_label_that_cannot_be_is_refused_and_nothing_is_written(store, fields, message):
    item = make_queue(store).items[0]
    with pytest.raises(DataError, match=message):
        labels.add(store, Label(**{"batch": "one", "audio": item.audio, "person": "ann", "label": "sad"} | fields))
    assert not store.list("reviews/labels")


def test_hostile_text_is_kept_as_it_is(store):
    item = make_queue(store).items[0]
    say(store, item, HOSTILE, "sad", note=HOSTILE, speaker=HOSTILE)
    (label,) = labels.read(store)
    assert label.note == label.speaker == label.person == HOSTILE
    assert settled.table(store).loc[0, "speaker"] == HOSTILE


def test_a_label_is_taken_back_by_its_person_alone(store):
    item = make_queue(store).items[0]
    first = say(store, item, "ann", "sad")
    say(store, item, "ann", "angry")
    for expected in ("angry", "sad"):
        assert labels.standing(labels.read(store))[item.key]["ann"].label == expected
        with pytest.raises(DataError, match="ben has no label"):
            labels.withdraw(store, *item.key, "ben")
        labels.withdraw(store, *item.key, "ann")
    assert labels.standing(labels.read(store)) == {} and len(labels.read(store)) == 4
    with pytest.raises(DataError, match="nothing was taken back|no label"):
        labels.withdraw(store, *item.key, "ann")
    with pytest.raises(DataError, match="nothing was taken back"):
        say(store, item, "ben", "", withdraws=first.id)
    assert say(store, item, "ann", "happy") in labels.standing(labels.read(store))[item.key].values()


def _write_labels(root, person, count):
    store = Store(root)
    for item in queue.read(store, "one").items[:count]:
        labels.add(store, Label(*item.key, person, "sad"))


def test_labels_of_several_writers_are_all_kept(store):
    make_queue(store, people=(1,) * 50)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_labels, args=(store.root, f"p{n % 2}", 50)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(labels.read(store)) == 200 and {
        len(by_person) for by_person in labels.standing(labels.read(store)).values()
    } == {2}


def test_a_label_that_was_deleted_is_not_remembered(store):
    item = make_queue(store).items[0]
    label = say(store, item, "ann", "sad")
    assert len(labels.read(store)) == 1
    store.delete(labels.key_of(label))
    assert labels.read(store) == []


def test_a_queue_that_is_written_again_is_read_again(store):
    made = make_queue(store)
    assert queue.read(store, "one") == made
    assert make_queue(store, people=(2,)) == queue.read(store, "one")


def test_a_queue_that_is_deleted_after_it_was_listed_is_left_out_and_a_damaged_one_is_not(store, monkeypatch):
    make_queue(store), make_queue(store, "two")
    keys = [queue.key_of(batch) for batch in ("one", "gone", "two")]
    monkeypatch.setattr(Store, "list", lambda *_: keys)
    assert queue.batches(store) == ["two", "one"]
    store.write_bytes(keys[0], b"{")
    with pytest.raises(DataError, match="one.json is damaged"):
        queue.batches(store)


def test_thousands_of_labels_are_read_quickly(store):
    made = make_queue(store, people=(1,) * 50)
    first = say(store, made.items[0], "ann", "sad")
    text = store.read_bytes(labels.key_of(first)).decode()
    for number in range(2000):
        name = f"{number:032x}"
        store_path = store.path(f"reviews/labels/one/{name}.json")
        with open(store_path, "w") as file:
            file.write(text.replace(first.id, name))
    start = time.process_time()
    assert len(labels.read(store)) == 2001
    assert time.process_time() - start < 2  # about 0.1 s; 5,000 are read in 0.3 s


def test_a_person_gets_what_is_left_for_him_or_her(store):
    made = make_queue(store)
    one, other, double = made.items
    assert assignment.left(store, "one", "ann") == assignment.left(store, None, "ann") == 3
    say(store, one, "ann", "sad")
    say(store, double, "ann", "sad")
    assert assignment.open_items(store, "one", "ann") == [other]
    assert {item.audio for item in assignment.open_items(store, "one", "ben")} == {other.audio, double.audio}
    say(store, double, "ben", "calm")
    assert {item.audio for item in assignment.open_items(store, None, "cleo")} == {other.audio}
    labels.withdraw(store, *double.key, "ann")
    assert {item.audio for item in assignment.open_items(store, None, "cleo")} == {other.audio, double.audio}


def test_nobody_is_asked_twice_for_the_same_audio_in_two_batches(store):
    first, again = make_queue(store), make_queue(store, "again")
    say(store, first.items[0], "ann", "sad")
    say(store, first.items[1], "ann", "skip")
    offered = [item.audio for item in assignment.open_items(store, "again", "ann")]
    assert sorted(offered) == [item.audio for item in again.items[1:]]
    assert assignment.left(store, "again", "ben") == 3 and assignment.left(store, None, "ann") == 4


def test_a_skipped_clip_comes_back_when_nothing_else_is_left(store, monkeypatch):
    monkeypatch.setattr(assignment.clips, "is_kept", lambda store, item: True)
    made = make_queue(store)
    first = assignment.next_item(store, None, "ann")
    say(store, first, "ann", "skip")
    for _ in range(2):
        item = assignment.next_item(store, None, "ann")
        assert item != first
        say(store, item, "ann", "sad")
    assert assignment.next_item(store, None, "ann") == first and assignment.left(store, None, "ann") == 1
    assert assignment.next_item(store, None, "ben") is not None  # a skip is no label
    say(store, first, "ann", "sad")
    assert assignment.next_item(store, None, "ann") is None
    assert len(made.items) == 3


def test_two_persons_who_work_at_once_rarely_get_the_same_clip(store):
    make_queue(store, people=(1,) * 40)
    orders = [[item.audio for item in assignment.open_items(store, "one", person)] for person in ("ann", "ben")]
    same = sum(first == second for first, second in zip(*orders, strict=True))
    assert same < 8 and orders[0] == [item.audio for item in assignment.open_items(store, None, "ann")]


def test_the_newest_batch_comes_first_and_an_expired_one_never(store, monkeypatch):
    monkeypatch.setattr(assignment.clips, "is_kept", lambda store, item: True)
    make_queue(store, "old", made_at="2026-01-01T00:00:00+00:00")
    new = make_queue(store, "new", made_at="2026-02-01T00:00:00+00:00")
    assert assignment.next_item(store, None, "ann").batch == "new"
    store.write_json("reviews/queues/new.json", new.to_json() | {"expired": True})
    assert assignment.next_item(store, None, "ann").batch == "old"
    assert assignment.left(store, None, "ann") == 3 and assignment.left(store, "new", "ann") == 0


def test_a_clip_without_audio_is_not_offered(store):
    make_queue(store)
    assert assignment.next_item(store, None, "ann") is None


def test_what_a_person_sees_before_the_choice_does_not_tell_the_answer(store):
    item = make_queue(store, challenger={"emotion": "calm", "confidence": 0.6}).items[0]
    blind = item.blind()
    assert blind["audio"] == item.audio and blind["batch"] == "one"
    assert not {"answer", "challenger", "reasons", "probability", "unfamiliar"} & set(blind)
    assert "sad" not in str(blind) and "calm" not in str(blind)


def test_settled_rows_say_what_the_labels_amount_to(store):
    made = make_queue(store, people=(1, 1, 2, 2, 1, 1, 1), speaker="s1")
    a, b, c, d, e, f, _ = made.items
    say(store, a, "ann", "angry", speaker="zoe")
    say(store, b, "ann", "no_speech")
    say(store, c, "ann", "angry", blind=False)
    say(store, c, "ben", "angry", speaker="tom")
    say(store, d, "ann", "angry", speaker="x")
    say(store, d, "ben", "cannot_tell", speaker="y")
    say(store, e, "ann", "skip")
    say(store, f, "ann", "skip")
    say(store, f, "ben", "none_of_these")
    table = settled.table(store)
    assert list(table.columns) == list(settled.COLUMNS)
    assert table["outcome"].tolist() == ["emotion", "no_speech", "emotion", "disagree", "none_of_these"]
    assert table["label"].tolist() == ["angry", "", "angry", "", ""]
    assert table["people"].tolist() == [1, 1, 2, 2, 1]
    assert table["labels"].tolist()[3] == ["angry", "cannot_tell"]
    assert table["blind"].tolist() == [True, True, False, True, True]
    assert table["speaker"].tolist() == ["zoe", "s1", "tom", "s1", "s1"]
    row = table.iloc[0]
    assert (row["version"], row["family"], row["mode"], row["emotion"]) == ("v1", "ensemble", "plain", "sad")
    assert (row["probability"], row["made_at"]) == (0.25, made.made_at) and row["probabilities"]["sad"] == 0.1
    assert pd.isna(row["start"]) and row["labelled_at"] == labels.read(store)[0].at


def test_nothing_is_settled_without_labels(store):
    make_queue(store)
    assert settled.table(store).empty and list(settled.table(store)) == list(settled.COLUMNS)


def test_status_counts_by_batch_and_in_all(store):
    assert status(store) == {
        "batches": [],
        "all": {"items": 0, "labelled": 0, "done": 0, "left": 0, "double": 0, "alpha": None},
    }
    made = make_queue(store, people=(2, 2, 2, 1, 1))
    make_queue(store, "two", made_at="2026-02-01T00:00:00+00:00")
    for item, words in zip(made.items, (["sad", "sad"], ["calm", "calm"], ["sad"], ["sad"], ["skip"]), strict=True):
        for person, word in zip(("ann", "ben"), words, strict=False):
            say(store, item, person, word)
    figures = status(store)
    assert [row["batch"] for row in figures["batches"]] == ["two", "one"]
    counts = {"items": 5, "labelled": 4, "done": 3, "left": 2, "double": 2, "alpha": 1.0}
    assert {name: figures["batches"][1][name] for name in counts} == counts
    assert figures["all"] == counts | {"items": 8, "left": 5}
