"""Progress: a stage's record in the artifact store, and the time during which stages were at work."""

from __future__ import annotations

import pytest

from emotion import progress
from emotion.progress import StageRecord


def test_a_record_holds_the_state_of_its_stage_until_it_has_finished(store):
    record = StageRecord(store, "runs/1/progress", "featurize", label="3", unit="clips")
    begun = store.read_json("runs/1/progress/featurize-3.json")
    assert begun | {"started": 0} == {
        "stage": "featurize",
        "label": "3",
        "unit": "clips",
        "done": 0,
        "total": 0,
        "started": 0,
        "finished": None,
    }
    record(40, 40)
    assert store.read_json("runs/1/progress/featurize-3.json") == begun | {"done": 40, "total": 40}
    seconds = record.finish()
    finished = store.read_json("runs/1/progress/featurize-3.json")
    assert finished["finished"] == pytest.approx(begun["started"] + seconds) and seconds >= 0


def test_a_record_is_written_at_most_twice_a_second_but_for_its_last_state(store, monkeypatch):
    moments = iter([0.0, 0.1, 0.3, 0.6, 0.6, 0.7, 0.8, 0.8])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(moments))
    record = StageRecord(store, "progress", "import")  # written at 0.0
    states = []
    for done in (1, 2, 3, 4, 5):
        record(done, 5)
        states.append(store.read_json("progress/import.json")["done"])
    assert states == [0, 0, 3, 3, 5]


def test_states_are_read_in_the_order_of_their_start(store):
    for stage in ("z_first", "a_second"):
        StageRecord(store, "progress", stage)
    assert [state["stage"] for state in progress.read(store, "progress")] == ["z_first", "a_second"]


def test_a_stage_that_failed_adds_no_busy_time():
    failed, succeeded = {"started": 5.0, "finished": None}, {"started": 0.0, "finished": 3.0}
    assert progress.busy_seconds([failed, succeeded]) == 3.0
