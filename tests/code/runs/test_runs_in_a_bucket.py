"""Runs whose artifacts lie in a bucket of a server that fails one call in ten, beside the same in a folder."""

from __future__ import annotations

import threading
from dataclasses import replace

import pandas as pd
import pytest

from emotion.datasets import importing
from emotion.metrics import Emitter
from emotion.models import decisions, registry
from emotion.review import assignment, labels, queue
from emotion.review.labels import Label
from emotion.runs.training_run import TrainingRun
from emotion.settings import Settings
from emotion.store import Store
from object_store import Server, new_bucket, s3_server
from review_queues import simple_queue
from small_data import make_settings, wav
from small_models import version_facts

DATASET = "labelled-folder"


@pytest.fixture
def server() -> Server:
    """A server that fails one call in ten."""
    return Server(fail_every=10)


@pytest.fixture
def remote(server, tmp_path, monkeypatch) -> Settings:
    """Settings with artifacts in a bucket of that server, and recordings in a folder."""
    with s3_server(server) as environment:
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        yield make_settings(tmp_path).model_copy(update={"home": f"{new_bucket()}/home"})


def record(settings: Settings, seeds: range) -> None:
    folder = settings.recordings[0] / "mine"
    folder.mkdir(exist_ok=True)
    for number in seeds:
        (folder / f"{number}.wav").write_bytes(wav(number))
    rows = [f"{path.name},{('happy', 'sad')[int(path.stem) % 2]},a" for path in sorted(folder.glob("*.wav"))]
    (folder / "labels.csv").write_text("\n".join(["path,emotion,speaker", *rows]) + "\n")


def features(settings: Settings) -> pd.DataFrame:
    run = TrainingRun(settings, "one", Emitter(None))
    run.download(datasets=[DATASET], sources={DATASET: "mine"})
    for shard in run.plan_shards(clips_per_shard=4, min_seconds=0.2, max_seconds=60):
        run.featurize(shard=shard["shard"], max_seconds=60)
    assert run.collect(max_rejected_share=0.05) == {"used": 8, "rejected": 0, "duplicates": 0}
    return run.store.read_table("runs/one/table.parquet")


def test_features_are_the_same_as_in_a_folder(remote, server, tmp_path):
    record(remote, range(8))
    local = remote.model_copy(update={"home": str(tmp_path / "folder")})
    pd.testing.assert_frame_equal(features(remote), features(local))
    assert sum(server.failures.values()) >= 10


def test_a_decision_and_a_roll_back(remote):
    store = Store(remote.home)
    for version in ("one", "two"):
        facts = version_facts(version) | {"recipe": "recipe", "selected": "random_forest"}
        files = {registry.bundle_name("random_forest"): version.encode()}
        registry.register(store, version, files=files, card="# Card", facts=facts)
        made = {"decision": "promoted", "version": version, "family": "random_forest", "reasons": []}
        assert decisions.decide(store, made, compared_with=registry.champion(store))["decision"] == "promoted"
    decisions.rollback(store, reason="worse")
    assert registry.champion(store) == store.read_json(registry.CHAMPION)
    assert [past["version"] for past in registry.history(store)] == ["one", "two", "one"]


def test_an_import_that_ends_between_two_renames_is_made_again(remote, monkeypatch):
    """A bucket has no rename: a copy and a deletion stand for it."""
    store = Store(remote.home)
    record(remote, range(4))
    source = remote.recordings[0] / "mine"
    importing.obtain(store, remote, DATASET, source=source)
    record(remote, range(4, 8))
    rename = Store.rename

    class Killed(BaseException):
        pass

    def stop_at_last(self, key, new_key):
        rename(self, key, new_key)
        if key.endswith("6.wav"):
            raise Killed

    monkeypatch.setattr(Store, "rename", stop_at_last)
    with pytest.raises(Killed):
        importing.obtain(store, remote, DATASET, source=source)
    assert not store.exists(f"datasets/{DATASET}/dataset.json")
    monkeypatch.undo()
    importing.obtain(Store(remote.home), remote, DATASET, source=source)
    assert store.read_json(f"datasets/{DATASET}/dataset.json")["clips"] == len(store.list("datasets", "*.wav")) == 8
    assert store.list(f"datasets/{DATASET}/incoming") == []


def test_persons_who_label_at_once_lose_nothing(remote):
    """The same clip too; meanwhile the queue itself is changed twice."""
    store = Store(remote.home)
    items = simple_queue(store, "monday", 4, people=2)

    def listen(person: str) -> None:
        own = Store(remote.home)
        while item := assignment.next_item(own, "monday", person):
            labels.add(own, Label("monday", item.audio, person, "sad"))

    def change(number: int) -> None:
        queue.change(Store(remote.home), "monday", lambda now: replace(now, candidates=now.candidates + number))

    threads = [threading.Thread(target=listen, args=(person,)) for person in ("ann", "ben")]
    threads += [threading.Thread(target=change, args=(number,)) for number in (1000, 20_000)]
    before = queue.read(store, "monday").candidates
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    standing = labels.standing(labels.read(store, "monday"))
    assert {key: set(given) for key, given in standing.items()} == {item.key: {"ann", "ben"} for item in items}
    assert queue.read(store, "monday").candidates == before + 21_000
