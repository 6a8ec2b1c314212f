"""Accuracy in use from a store: labels of a real queue, the champion's figures, metrics, and what is damaged."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from emotion import metrics
from emotion.metrics import Emitter
from emotion.models import decisions, registry
from emotion.monitoring.drift import not_judged
from emotion.review import labels, queue
from emotion.review.labels import Label
from emotion.runs import accuracy_in_use, scoring_metrics
from emotion.runs.accuracy_in_use import ACCURACY, measure_accuracy, of_batch, read_accuracy
from emotion.store import Store
from review_batches import add_queue, predictions
from small_models import trained_store  # noqa: F401


class Client:
    """Keeps what is sent."""

    def __init__(self):
        self.gauges, self.counts = {}, {}

    def gauge(self, name, value):
        self.gauges[name.removeprefix("emotion.")] = value

    def incr(self, name, count):
        self.counts[name.removeprefix("emotion.")] = count


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def store(trained_store, tmp_path):  # noqa: F811
    """The versions of small models, ``first/ensemble`` the champion, and a queue of its answers with 24 labels."""
    shutil.copytree(f"{trained_store.root}/models", tmp_path / "home" / "models", copy_function=os.link)
    store = Store(str(tmp_path / "home"))
    decisions.promote_by_hand(store, version="first", family="ensemble", reason="for the tests")
    made = add_queue(store, tmp_path / "inbox", clips=30, size=24)
    for number, item in enumerate(made.items):
        heard = item.answer["emotion"] if number % 2 else "none_of_these"
        labels.add(store, Label(made.batch, item.audio, "anna", heard))
    return store


def test_the_champion_is_measured_by_its_labels(store, client):
    brief = measure_accuracy(store, Emitter(client))
    assert brief["name"] == "first/ensemble" and brief["labels"] == 24 and not brief["fell"]
    assert 0.2 < brief["accuracy"]["low"] < brief["accuracy"]["value"] < brief["accuracy"]["high"] < 0.9
    assert brief["promised"] is None and "more for ±5 points" in brief["message"]
    assert client.gauges["accuracy.realized.champion.value"] == brief["accuracy"]["value"]
    assert client.gauges["accuracy.realized.first_ensemble.labels"] == 24
    assert client.gauges["accuracy.short_by"] == 0 and "accuracy.realized.champion.promised" not in client.gauges
    written = read_accuracy(store)
    assert list(written["models"]) == ["first/ensemble"]
    assert written["champion"]["figures"]["accuracy"] == brief["accuracy"]
    assert json.dumps(written, allow_nan=False)


def test_a_champion_without_labels_ends_the_alarm_of_the_one_before(store, client, monkeypatch):
    entry = registry.entry(store, "first")
    entry["scores"]["ensemble"]["speaker_independent"]["accuracy"] = 0.99
    monkeypatch.setattr(accuracy_in_use.registry, "entry", lambda store, version: entry)
    assert measure_accuracy(store, Emitter(client))["fell"] and client.gauges["accuracy.short_by"] > 0
    decisions.promote_by_hand(store, version="second", family="ensemble", reason="for the tests")
    brief = measure_accuracy(store, Emitter(client))
    assert brief["name"] == "second/ensemble" and brief["labels"] == 0 and brief["accuracy"] is None
    assert client.gauges["accuracy.short_by"] == 0


def test_old_batches_do_not_count_for_the_champions_metrics(store, client, monkeypatch):
    monkeypatch.setattr(accuracy_in_use, "RECENT_DAYS", 0)
    assert measure_accuracy(store, Emitter(client))["labels"] == 0
    assert read_accuracy(store)["models"]["first/ensemble"]["labels"] == 24


def test_an_empty_store_and_a_version_that_is_gone(store, client, tmp_path):
    assert measure_accuracy(Store(str(tmp_path / "empty")), Emitter(client)) == {} and not client.gauges
    made = queue.read(store, "monday")
    gone = made.to_json() | {"model": {"version": "gone", "family": "ensemble"}}
    store.write_json(queue.key_of("monday"), gone)
    assert measure_accuracy(store, Emitter(client))["labels"] == 0
    assert read_accuracy(store)["models"]["gone/ensemble"]["promised"] is None
    assert store.exists(ACCURACY)


def test_the_figures_of_a_batch_say_why_there_is_no_estimate(store, client):
    model = {"version": "first", "family": "ensemble", "scores": {"speaker_independent": {"accuracy": 0.7}}}
    figures, failures = of_batch(store, model, predictions(40), drift={"verdict": "ok"})
    assert not failures and figures["estimated_accuracy"]["promised"] == 0.7
    assert "3 speakers: too few" in figures["estimated_accuracy"]["withheld"]
    assert "3 speakers: too few" in figures["emotion_mix"]["withheld"]
    assert figures["realized_accuracy"]["labels"] == 24
    scoring_metrics.emit_accuracy(Emitter(client), figures)
    assert client.counts == {"scoring.estimates.withheld": 1} and not client.gauges
    heard = predictions(40).assign(heard_in_training="yes")
    figures, _ = of_batch(store, model, heard, drift=not_judged("No clip."))
    assert figures["estimated_accuracy"]["clips"] == 0 and figures["estimated_accuracy"]["promised"] is None


def test_what_is_damaged_costs_no_batch(store):
    store.write_bytes("models/first/drift_reference.npz", b"no reference")
    store.write_bytes("reviews/queues/damaged.json", b"{}")
    model = {"version": "first", "family": "ensemble"}
    figures, failures = of_batch(store, model, predictions(40), drift={"verdict": "ok"})
    assert len(failures) == 2 and figures["realized_accuracy"] is None
    assert "could not be estimated" in figures["estimated_accuracy"]["withheld"]
    assert json.dumps(figures, allow_nan=False)


def test_a_given_estimate_is_sent(client):
    share = {"value": 0.7, "low": 0.6, "high": 0.8}
    estimate = {"withheld": None, "accuracy": share, "f1_macro": None, "promised": 0.65}
    mix = {"corrected": {"sad": share}}
    scoring_metrics.emit_accuracy(Emitter(client), {"estimated_accuracy": estimate, "emotion_mix": mix})
    assert client.counts == {metrics.ESTIMATES.path(outcome="given").removeprefix("emotion."): 1}
    assert client.gauges == {
        "scoring.estimated_accuracy.value": 0.7,
        "scoring.estimated_accuracy.low": 0.6,
        "scoring.estimated_accuracy.high": 0.8,
        "scoring.estimated_accuracy.promised": 0.65,
        "scoring.emotion_mix.sad": 0.7,
    }
