"""Batches are compared in words with the last ones of the same model."""

from __future__ import annotations

import pytest

from emotion.monitoring.changes import KEPT, LAST, compare, note_batch
from emotion.store import Store


def groups(height: float, rate: float = 0.0) -> list[dict]:
    return [{"group": "pitch", "gauges": {"height": height}}, {"group": "tempo", "gauges": {"rate": rate}}]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path))


def test_a_batch_is_compared_with_the_last_ones(store):
    assert note_batch(store, "v", "0", groups(9.0)) is None
    for number in range(1, LAST + 1):
        note_batch(store, "v", str(number), groups(0.0))
    # The first batch, whose pitch was high, is too long ago to count.
    compared = note_batch(store, "v", "last", groups(-2.5, rate=0.8))
    expected = [{"group": "pitch", "words": "much lower pitch"}, {"group": "tempo", "words": "faster speech"}]
    assert compared == {"batches": LAST, "changes": expected}


def test_another_version_has_batches_of_its_own(store):
    note_batch(store, "one", "a", groups(0.0))
    assert note_batch(store, "two", "b", groups(5.0)) is None


def test_a_batch_that_is_tried_again_is_not_compared_with_itself(store):
    note_batch(store, "v", "a", groups(0.0))
    first = note_batch(store, "v", "b", groups(3.0))
    assert note_batch(store, "v", "b", groups(3.0)) == first
    assert [entry["batch"] for entry in store.read_json("scoring/last_batches/v.json")] == ["a", "b"]


def test_so_many_batches_are_kept(store):
    for number in range(KEPT + 5):
        note_batch(store, "v", str(number), groups(0.0))
    assert [entry["batch"] for entry in store.read_json("scoring/last_batches/v.json")][0] == "5"


def test_gauges_that_earlier_batches_lack_do_not_count():
    """As after an update that adds a gauge, or where features are registered now."""
    assert compare({"pitch": {"height": 5.0}, "own features": {}}, [{"tempo": {"rate": 1.0}}]) == []
