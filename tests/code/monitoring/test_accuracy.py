"""Realized accuracy by labels, estimated accuracy without, and the corrected mix: right on average, honest when not."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from emotion.features import feature_names
from emotion.features.quality import Quality
from emotion.monitoring import clusters, emotion_mix, estimated, realized
from emotion.monitoring.reference import Reference, build_reference
from emotion.vocabulary import MODES, probability_columns

EMOTIONS = ("happy", "sad", "angry", "bored")
OK = {"verdict": "ok"}
QUALITY = Quality(level_db=-36, snr_db=60, bandwidth_hz=7800, clipped_share=0, seconds_of_speech=2)


def labels_of(count: int, *, heard="sad", answered="sad", **others) -> pd.DataFrame:
    """Settled labels, each of a file of its own; ``others``: columns that differ from the usual."""
    files = [f"{heard}-{answered}-{number}{others.get('batch', '')}" for number in range(count)]
    rows = {"batch": "one", "made_at": "2026-01-05T10:00:00+00:00", "audio": files, "sha256": files, "speaker": ""}
    rows |= {"channel": "", "probability": 0.1, "version": "v", "family": "ensemble", "mode": "plain"}
    rows |= {"emotion": answered, "outcome": "emotion", "blind": True, "labelled_at": "2026-01-06T10:00:00+00:00"}
    rows |= {"labels": [[heard]] * count, "probabilities": [dict.fromkeys(EMOTIONS, 0.25)] * count}
    return pd.DataFrame(rows | others, index=range(count))


def together(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def test_a_label_counts_by_one_divided_by_its_probability():
    """Ten wrong clips that were drawn with 0.5 stand for 20, ten right ones that were drawn with 0.1 for 100."""
    settled = together(labels_of(10), labels_of(10, heard="happy", probability=0.5))
    figures = realized.realized_accuracy(settled, promised=None)
    assert figures["accuracy"]["value"] == pytest.approx(100 / 120)
    assert figures["confusion"]["shares"][EMOTIONS.index("happy")][1] == pytest.approx(20 / 120)
    assert figures["per_emotion"]["sad"]["recall"]["value"] == 1 and figures["per_emotion"]["angry"]["recall"] is None
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_macro_f1_is_that_of_the_weighted_confusion():
    settled = together(labels_of(20), labels_of(10, heard="happy"), labels_of(10, heard="happy", answered="happy"))
    figures = realized.realized_accuracy(settled, promised=None)
    assert figures["f1_macro"]["value"] == pytest.approx((2 * 20 / (20 + 30) + 2 * 10 / (20 + 10)) / 2)
    assert figures["f1_macro"]["low"] < figures["f1_macro"]["value"] < figures["f1_macro"]["high"]


def test_outcomes_count_as_they_are_meant():
    settled = together(
        labels_of(10),
        labels_of(4, heard="none_of_these", outcome="none_of_these"),
        labels_of(6, outcome="disagree", labels=[["sad", "angry"]] * 6, answered="sad", heard="x"),
        *(labels_of(3, heard=outcome, outcome=outcome) for outcome in realized.LEFT_OUT),
    )
    figures = realized.realized_accuracy(settled, promised=None)
    assert figures["labels"] == 20 and figures["left_out"] == dict.fromkeys(realized.LEFT_OUT, 3)
    assert figures["accuracy"]["value"] == pytest.approx((10 + 6 / 2) / 20)
    assert figures["confusion"]["heard"] == [*EMOTIONS[:3], "bored", "none_of_these"]
    assert [row["text"] for row in figures["disagreements"]] == [
        "Of 20 clips called sad, listeners heard angry in 6.",
        "Of 20 clips called sad, listeners heard none of these in 4.",
    ]


def test_an_emotion_that_the_model_does_not_know_is_an_error_of_the_model():
    figures = realized.realized_accuracy(together(labels_of(10), labels_of(10, heard="calm")), promised=None)
    assert figures["accuracy"]["value"] == 0.5 and "calm" in figures["confusion"]["heard"]


def test_without_enough_labels_it_says_how_many_more():
    assert realized.realized_accuracy(labels_of(1).head(0), promised=0.7)["message"].startswith("Not enough labels")
    few = realized.realized_accuracy(labels_of(9), promised=0.7)
    assert few["accuracy"] is None and few["more_labels"] == 375 and few["short_by"] == 0
    some = realized.realized_accuracy(together(labels_of(60), labels_of(60, heard="happy")), promised=0.7)
    assert 250 < some["more_labels"] < 700 and f"{some['more_labels']} more for ±5 points" in some["message"]
    weekly = [labels_of(60, heard=heard, batch=f"{number}") for number in range(30) for heard in ("sad", "happy")]
    assert realized.realized_accuracy(together(*weekly), promised=0.7)["message"] == ""


def test_accuracy_fell_where_the_whole_interval_is_below_the_promise():
    batches = [labels_of(10, heard=heard, batch=f"{n}") for n in range(20) for heard in ("sad", "happy")]
    settled = together(*batches)
    high = realized.realized_accuracy(settled, promised=None)["accuracy"]["high"]
    assert realized.realized_accuracy(settled, promised=high + 0.06)["short_by"] == pytest.approx(0.01)
    assert realized.realized_accuracy(settled, promised=high + 0.04)["short_by"] == 0


def test_weeks_are_those_in_which_the_clips_were_scored():
    later = labels_of(12, heard="happy", made_at="2026-01-12T10:00:00+00:00")
    weeks = realized.realized_accuracy(together(labels_of(11), later, labels_of(2)), promised=None)["over_time"]
    assert [(week["week"], week["labels"], round(week["value"], 9)) for week in weeks] == [
        ("2026-W02", 13, 1.0),
        ("2026-W03", 12, 0.0),
    ]


def test_a_recording_that_the_version_may_have_been_trained_on_does_not_count():
    old = labels_of(3, version="old")
    new = together(labels_of(3), labels_of(2, heard="happy")).assign(made_at="2026-03-01T10:00:00+00:00")
    settled = together(old, new)
    rows = realized.of_model(settled, version="v", family="ensemble", trained_at="2026-02-01T00:00:00+00:00")
    assert set(rows["sha256"]) == {"happy-sad-0", "happy-sad-1"}
    assert len(realized.of_model(settled, version="v", family="ensemble")) == 5
    assert len(realized.of_model(settled, version="old", family="ensemble", trained_at="2025-01-01T00:00:00Z")) == 3
    assert len(realized.of_model(settled.head(0), version="v", family="ensemble", trained_at="2026-02-01")) == 0


@pytest.mark.parametrize("between", [0.0, 0.15])
def test_the_interval_holds_the_accuracy_for_new_speakers(between):
    """200 times six speakers with 20 labels each; how often a speaker is understood varies by ``between``."""
    random, held = np.random.default_rng(1), 0
    for _ in range(200):
        by_speaker = np.clip(random.normal(0.6, between, 6), 0.02, 0.98).repeat(20)
        weights = random.uniform(1, 5, 120)
        right = (random.random(120) < by_speaker).astype(float)
        share = clusters.weighted_mean(right, weights, {"file": np.arange(120), "voice": np.arange(6).repeat(20)})
        bounds = clusters.interval(share)
        held += bounds["low"] <= 0.6 <= bounds["high"]
    assert held >= 0.9 * 200


def test_clips_of_one_speaker_say_less_than_clips_of_many():
    right = np.tile([1.0, 1.0, 1.0, 0.0], 25)
    many, one = (
        clusters.interval(clusters.weighted_mean(right, np.ones(100), {"voice": names}))
        for names in (np.arange(100), np.zeros(100, dtype=int))
    )
    assert one["high"] - one["low"] > 1.5 * (many["high"] - many["low"])
    all_right = clusters.interval(clusters.weighted_mean(np.ones(20), np.ones(20), {"file": np.arange(20)}))
    assert all_right["high"] == pytest.approx(1) and 0.75 < all_right["low"] < 0.9


def calibrated(count: int, *, seed: int, sharpness: float = 0.4, mix=None) -> pd.DataFrame:
    """Answers that are right as often as they say; ``mix``: the shares of the emotions, where they are not equal."""
    random = np.random.default_rng(seed)
    pool = random.dirichlet(np.full(len(EMOTIONS), sharpness), 20 * count)
    codes = (pool.cumsum(axis=1) < random.random((len(pool), 1))).sum(axis=1)
    weights = None if mix is None else np.array(mix)[codes] / np.bincount(codes)[codes]
    rows = random.choice(len(pool), count, replace=False, p=None if weights is None else weights / weights.sum())
    table = pd.DataFrame(pool[rows], columns=probability_columns(EMOTIONS))
    return table.assign(emotion=np.array(EMOTIONS)[codes[rows]], mode="plain", speaker="", unfamiliar=False)


def reference_of(speakers: int = 10) -> Reference:
    answers = calibrated(40 * speakers, seed=0).drop(columns=["mode", "speaker", "unfamiliar"])
    held_out = pd.concat([answers.assign(protocol=name, row=range(len(answers))) for name in MODES.values()])
    values = np.random.default_rng(0).normal(size=(len(answers), 1)).astype(np.float32)
    names = np.repeat([f"s{number}" for number in range(speakers)], 40)
    quality = pd.DataFrame([QUALITY] * len(answers))
    return build_reference(values, names, {"ensemble": held_out}, names=feature_names()[:1], quality=quality, seed=0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return reference_of()


def accuracy_of(clips: pd.DataFrame) -> float:
    answers = np.array(EMOTIONS)[clips[probability_columns(EMOTIONS)].to_numpy().argmax(axis=1)]
    return float((answers == clips["emotion"]).mean())


def test_the_estimate_is_the_accuracy_of_calibrated_answers(reference):
    errors = []
    for seed in range(1, 30):
        clips = calibrated(200, seed=seed)
        figures = estimated.estimate(clips, reference, family="ensemble", drift=OK)
        errors.append(figures["accuracy"]["value"] - accuracy_of(clips))
        assert figures["accuracy"]["low"] < accuracy_of(clips) < figures["accuracy"]["high"]
    assert abs(np.mean(errors)) < 0.02 and np.abs(errors).mean() < 0.05
    assert np.sum(figures["confusion"]["clips"]) == pytest.approx(200) and 0.4 < figures["f1_macro"] < 0.9
    assert figures["by_mode"] == {"plain": {"clips": 200, "value": figures["accuracy"]["value"]}}
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_more_known_speakers_make_the_estimate_narrower(reference):
    clips = calibrated(200, seed=1)
    spread = Reference(**(vars(reference) | {"calibration_spread": np.full(3, 0.07)}))
    one, many = (
        estimated.estimate(clips.assign(speaker=names), spread, family="ensemble", drift=OK)["accuracy"]
        for names in ("", np.arange(200).astype(str))
    )
    assert one["high"] - one["low"] > 1.5 * (many["high"] - many["low"])


def old_reference(reference: Reference) -> Reference:
    """As a version of an earlier release keeps it."""
    with np.load(io.BytesIO(reference.to_bytes())) as arrays:
        kept = {name: arrays[name] for name in arrays if name not in ("calibration_spread", "priors", "mix_spread")}
    buffer = io.BytesIO()
    np.savez(buffer, **kept)
    return Reference.from_bytes(buffer.getvalue())


def test_no_estimate_and_no_correction_where_the_calibration_cannot_hold(reference):
    clips = calibrated(100, seed=1)
    unfamiliar = clips.assign(unfamiliar=np.arange(100) < 11)
    cases = {
        "drift: alarm": (clips, reference, {"verdict": "alarm"}),
        "drift: watch": (clips, reference, {"verdict": "watch"}),
        "not compared": (clips, reference, {"verdict": "unknown"}),
        "11% of the clips are unfamiliar": (unfamiliar, reference, OK),
        "7 clips are too few": (clips.head(7), reference, OK),
        "0 clips are too few": (clips.head(0), reference, OK),
        "earlier release": (clips, old_reference(reference), OK),
    }
    for reason, (batch, known, drift) in cases.items():
        for figures in (
            estimated.estimate(batch, known, family="ensemble", drift=drift),
            emotion_mix.corrected(batch, known, family="ensemble", drift=drift),
        ):
            assert reason in figures["withheld"], reason
            assert figures.get("accuracy") is None and figures.get("corrected") is None
            assert json.dumps(figures, allow_nan=False)
    few = estimated.estimate(clips, reference_of(speakers=3), family="ensemble", drift=OK)
    assert "3 speakers: too few" in few["withheld"]


def test_the_corrected_mix_is_nearer_than_the_counted_one(reference):
    mix = [0.7, 0.1, 0.1, 0.1]
    errors, held = [], []
    for seed in range(1, 11):
        clips = calibrated(300, seed=seed, sharpness=0.8, mix=mix)
        figures = emotion_mix.corrected(clips, reference, family="ensemble", drift=OK)
        true = clips["emotion"].value_counts(normalize=True)
        for emotion in EMOTIONS:
            share = figures["corrected"][emotion]
            errors.append((abs(figures["raw"][emotion] - true[emotion]), abs(share["value"] - true[emotion])))
            held.append(share["low"] <= true[emotion] <= share["high"])
        assert sum(share["value"] for share in figures["corrected"].values()) == pytest.approx(1)
    counted, corrected = np.mean(errors, axis=0)
    assert corrected < counted / 2
    assert np.mean(held) >= 0.9
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
