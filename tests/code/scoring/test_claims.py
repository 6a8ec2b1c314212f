"""Claims of batches where several processes, on several machines, take over what a dead one left."""

from __future__ import annotations

import threading

import pytest

from emotion.errors import StoreError
from emotion.scoring import ledger
from emotion.store import Store


@pytest.fixture(params=["folder", "s3"])
def shared(request, tmp_path) -> Store:
    """A store that several processes share."""
    if request.param == "folder":
        return Store(str(tmp_path))
    return Store(f"{request.getfixturevalue('bucket')}/home")


def test_of_sweeps_that_take_over_a_dead_batch_at_once_one_does_it(shared):
    ledger.claim(shared, "dead", "gone", has_lock=True)
    outcomes, barrier = [], threading.Barrier(4)

    def take_over(number: int) -> None:
        ledger.claim(shared, f"sweep-{number}", "here", has_lock=True)
        barrier.wait()
        try:
            ledger.give_up(shared, "dead", successor=f"sweep-{number}", dead=["dead"])
            outcomes.append(f"sweep-{number}")
        except StoreError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=take_over, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    winner = ledger.successor(shared, "dead")
    assert sorted(outcomes)[3] == winner and outcomes.count(winner) == 1
    assert all(
        f"was taken over by batch {winner} meanwhile; start again" in text for text in outcomes if text != winner
    )
    ledger.give_up(shared, "dead", successor=winner, dead=["dead"])  # a task that is tried again
    assert ledger.successor(shared, "dead") == winner


def test_what_a_dead_batch_had_taken_over_can_be_taken_over_again(shared):
    for batch in ("first", "second", "third"):
        ledger.claim(shared, batch, "gone", has_lock=True)
    ledger.give_up(shared, "first", successor="second", dead=["first"])
    ledger.give_up(shared, "first", successor="third", dead=["first", "second"])
    assert ledger.successor(shared, "first") == "third"
    ledger.release(shared, "third")  # it is closed, and nobody is left who would score the files of the first
    ledger.give_up(shared, "first", successor="second", dead=["first"])
    assert ledger.successor(shared, "first") == "second"


def test_a_record_that_is_deleted_after_it_was_listed_is_left_out(shared, monkeypatch):
    for name in ("a", "b", "c"):
        ledger.claim(shared, name, "here", has_lock=True)
        ledger.note_memory_errors(shared, name, "sha256", 1)
        ledger.give_up(shared, name, successor="z")
    listed = Store.list

    def list_and_delete(store: Store, prefix: str, pattern: str = "*") -> list[str]:
        keys = listed(store, prefix, pattern)
        store.delete(keys[0])
        return keys

    monkeypatch.setattr(Store, "list", list_and_delete)
    assert [claim["batch"] for claim in ledger.claims(shared)] == ["b", "c"]
    assert len(ledger.memory_errors(shared)) == 2
    assert ledger.predecessors(shared, "z") == ["b", "c"]
    monkeypatch.setattr(ledger, "REMEMBERED_SECONDS", -1)
    assert ledger.forget_taken_over(shared) == ["c"]


def test_in_a_bucket_the_batch_of_another_machine_is_seen_to_live_and_to_be_dead(bucket):
    store = Store(f"{bucket}/home")
    ledger.claim(store, "a", "another machine", has_lock=True)
    (claim,) = ledger.claims(store)
    assert ledger.is_dead(store, claim) and store.list("locks") == []
    with Store(f"{bucket}/home").lock(ledger.batch_lock("a")):
        assert not ledger.is_dead(store, claim)
    stamp = store.stamp("locks/scoring/batch-a.json")
    assert ledger.is_dead(store, claim)
    assert store.stamp("locks/scoring/batch-a.json") == stamp, "who looks takes no lock, which would refuse its owner"


def test_in_a_bucket_the_batch_of_a_machine_that_is_cut_off_is_dead_once_its_lease_is_over(bucket):
    store = Store(f"{bucket}/home")
    ledger.claim(store, "a", "another machine", has_lock=True)
    (claim,) = ledger.claims(store)
    key = f"locks/{ledger.batch_lock('a')}.json"
    store.write_json(key, {"token": "of another", "seconds": 60})
    assert not ledger.is_dead(store, claim)
    store.write_json(key, {"token": "of another", "seconds": -1})
    assert ledger.is_dead(store, claim)


def test_in_a_bucket_a_batch_of_the_dag_which_holds_no_lock_is_not_taken_for_dead(bucket):
    store = Store(f"{bucket}/home")
    ledger.claim(store, "a", "emotion_scoring", has_lock=False)
    (claim,) = ledger.claims(store)
    assert not ledger.is_dead(store, claim) and ledger.is_dead(store, claim, alone_as="emotion_scoring")
    assert ledger.is_dead(store, claim | {"claimed": claim["claimed"] - ledger.LEASE_SECONDS - 1})
