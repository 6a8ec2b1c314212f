"""The stages of the review DAG: when labels start a training, on which datasets, and that they do so once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emotion.metrics import Emitter
from emotion.models import decisions, registry
from emotion.review import clips, labels, queue
from emotion.runs.review_run import NothingToTrain, ReviewRun
from emotion.runs.training_run import TrainingRun
from emotion.settings import Settings
from emotion.vocabulary import REVIEWED
from review_data import label_all, make_queue
from small_data import make_settings, wav

FAMILY = "ensemble"
CORPUS = {"name": "ravdess-speech", "kind": "zenodo", "origin": "https://zenodo.org/records/1"}


@pytest.fixture
def run(settings) -> ReviewRun:
    return ReviewRun(settings, Emitter(None))


def promote(store, dataset: dict, *, version: str = "v", accuracy: float = 0.9) -> None:
    scores = {FAMILY: {"speaker_independent": {"accuracy": accuracy, "f1_macro": accuracy}}}
    facts = {"recipe": "v1", "selected": FAMILY, "dataset": {"notice": "", "synthesized": False} | dataset}
    files = {registry.bundle_name(FAMILY): version.encode()}
    registry.register(store, version, files=files, card="# Card", facts=facts | {"scores": scores})
    decisions.promote_by_hand(store, version=version, family=FAMILY, reason="for the tests")


def folder_of_calls(place: Path) -> Settings:
    """Settings with the dataset ``calls`` in the catalogue, and its recordings."""
    catalogue = {"calls": {"kind": "folder", "folder": "calls"}, REVIEWED: {"kind": "reviewed"}}
    settings = make_settings(place, catalogue=catalogue)
    for number in range(4):
        file = settings.recordings[0] / "calls" / ("sad", "happy")[number % 2] / f"speaker{number}" / "a.wav"
        file.parent.mkdir(parents=True)
        file.write_bytes(wav(100 + number))
    return settings


def label_batch(store, batch: str, seeds: range, words: list[str]):
    made = replace(make_queue(store, batch, seeds), made_at=registry.now())
    queue.write(store, made)
    label_all(store, made, words)
    return made


def test_labels_are_new_until_a_training_has_imported_them(run, store, settings):
    assert run.count_new_labels()["usable"] == 0
    label_batch(store, "monday", range(10), ["sad", "happy"] * 5)
    first = run.count_new_labels()
    assert (first["usable"], first["new"], first["emotions"]) == (10, 10, {"sad": 5, "happy": 5})
    assert run.count_new_labels() == first

    TrainingRun(settings, "first", Emitter(None)).download(datasets=[REVIEWED])
    assert run.count_new_labels() == first | {"new": 0}

    tuesday = label_batch(store, "tuesday", range(20, 23), ["sad", "happy", "cannot_tell"])
    assert run.count_new_labels()["new"] == 2
    labels.withdraw(store, "tuesday", tuesday.items[0].audio, "ann")
    assert run.count_new_labels()["new"] == 1
    assert run.count_new_labels()["fingerprint"] != first["fingerprint"]


def test_a_label_that_was_corrected_is_new_again(run, store, settings):
    made = label_batch(store, "monday", range(11), [*["sad", "happy"] * 5, "sad"])
    TrainingRun(settings, "first", Emitter(None)).download(datasets=[REVIEWED])
    labels.add(store, labels.Label("monday", made.items[10].audio, "ann", "happy"))
    assert run.count_new_labels()["new"] == 1


def test_labels_without_audio_start_no_training(run, store):
    promote(store, CORPUS)
    made = label_batch(store, "monday", range(10), ["sad", "happy"] * 5)
    for item in made.items:
        store.delete(clips.key_of(item.audio, item.suffix))
    assert run.count_new_labels()["new"] == 0


def test_enough_new_labels_are_worth_a_training_on_the_champions_data(run, store):
    label_batch(store, "monday", range(10), ["sad", "happy"] * 5)
    counted = run.count_new_labels()
    with pytest.raises(NothingToTrain, match="No champion yet"):
        run.plan_training(counted, least_new_labels=10)
    promote(store, CORPUS | {"name": "both", "datasets": [CORPUS, {"name": REVIEWED}, CORPUS | {"name": "nemo"}]})
    with pytest.raises(NothingToTrain, match="10 new labels since .* starts at 11. 10 labels"):
        run.plan_training(counted, least_new_labels=11)
    plan = run.plan_training(counted, least_new_labels=10)
    assert (plan["datasets"], plan["sources"]) == (["ravdess-speech", "nemo", REVIEWED], {})
    assert plan == run.plan_training(run.count_new_labels(), least_new_labels=1), "the same labels, the same run"
    assert plan["run_id"] == f"reviewed-10-labels-{counted['fingerprint'][:12]}"


def test_labels_of_one_emotion_start_no_training(run, store):
    promote(store, CORPUS)
    label_batch(store, "monday", range(6), ["sad"] * 6)
    with pytest.raises(NothingToTrain, match="The 6 labels .* all of one emotion"):
        run.plan_training(run.count_new_labels(), least_new_labels=5)


def test_recordings_from_a_disk_are_taken_from_there_where_the_store_cannot_do_without(tmp_path):
    settings = make_settings(tmp_path, catalogue={"own": {"kind": "folder"}, REVIEWED: {"kind": "reviewed"}})
    run, calls = ReviewRun(settings, Emitter(None)), settings.recordings[0] / "calls"
    own = {"name": "own", "kind": "folder", "origin": str(calls)}
    promote(run.store, {"name": "own + reviewed", "datasets": [own, {"name": REVIEWED, "origin": "labels"}]})
    label_batch(run.store, "monday", range(10), ["sad", "happy"] * 5)
    with pytest.raises(NothingToTrain, match="cannot be had: the source .*calls is not there"):
        run.plan_training(run.count_new_labels(), least_new_labels=10)
    calls.mkdir()
    plan = run.plan_training(run.count_new_labels(), least_new_labels=10)
    assert (plan["datasets"], plan["sources"]) == (["own", REVIEWED], {"own": str(calls)})


def test_a_source_outside_the_allowed_folders_is_left_alone_where_the_store_has_the_dataset(tmp_path):
    settings = folder_of_calls(tmp_path)
    run, elsewhere = ReviewRun(settings, Emitter(None)), {"name": "calls", "kind": "zenodo", "origin": str(tmp_path)}
    promote(run.store, elsewhere)
    label_batch(run.store, "monday", range(10), ["sad", "happy"] * 5)
    with pytest.raises(NothingToTrain, match="cannot be had: the source .* lies outside"):
        run.plan_training(run.count_new_labels(), least_new_labels=10)
    TrainingRun(settings, "a", Emitter(None)).download(datasets=["calls"])
    assert run.plan_training(run.count_new_labels(), least_new_labels=10)["sources"] == {}


@pytest.mark.parametrize("name", ["no-longer-there", REVIEWED])
def test_a_dataset_that_the_catalogue_has_no_more_starts_no_training(tmp_path, name):
    catalogue = {"calls": {"kind": "folder", "folder": "calls"}, REVIEWED: {"kind": "reviewed"}}
    catalogue.pop(name, None)
    run = ReviewRun(make_settings(tmp_path, catalogue=catalogue), Emitter(None))
    (tmp_path / "recordings" / "calls").mkdir()
    promote(run.store, {"name": "calls" if name == REVIEWED else name})
    label_batch(run.store, "monday", range(10), ["sad", "happy"] * 5)
    with pytest.raises(NothingToTrain, match=f"no dataset '{name}'"):
        run.plan_training(run.count_new_labels(), least_new_labels=10)


def test_a_scheduled_training_uses_the_labels_once_they_can_be_used(tmp_path):
    run = TrainingRun(folder_of_calls(tmp_path), "a", Emitter(None))
    assert run.download(datasets=["calls"], scheduled=True)["dataset"] == "calls"
    label_batch(run.store, "monday", range(10), ["sad", "happy"] * 5)
    assert run.download(datasets=["calls"])["dataset"] == "calls", "a person has chosen the datasets"
    assert run.download(datasets=["calls"], scheduled=True)["dataset"] == "calls + reviewed"
    assert run.download(datasets=[REVIEWED, "calls"], scheduled=True)["dataset"] == "reviewed + calls"
    calls = {"calls": {"kind": "folder", "folder": "calls"}}
    without = TrainingRun(make_settings(tmp_path, catalogue=calls), "b", Emitter(None))
    assert without.download(datasets=["calls"], scheduled=True)["dataset"] == "calls", "a catalogue of one's own"


def test_a_fall_of_the_accuracy_is_news_once(run, store):
    assert run.measure_accuracy() == {}
    promote(store, CORPUS, accuracy=0.9)
    nothing = run.measure_accuracy()
    assert (nothing["name"], nothing["labels"], nothing["is_news"]) == ("v/ensemble", 0, False)
    for number in range(4):
        label_batch(store, f"day-{number}", range(12 * number, 12 * number + 12), ["happy"] * 12)  # the answer was sad
    news = run.measure_accuracy()
    assert news["is_news"] and news["accuracy"]["high"] < 0.85 and news["promised"] == 0.9
    again = run.measure_accuracy()
    assert again["fell"] and not again["is_news"], "it was told already"
    promote(store, CORPUS, version="w")
    assert not run.measure_accuracy()["is_news"], "of the new champion nothing is known yet"
    decisions.rollback(store, reason="for the tests")
    assert run.measure_accuracy()["is_news"]
