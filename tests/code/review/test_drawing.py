from collections import Counter

import numpy as np
import pandas as pd
import pytest

from emotion.review.drawing import candidates, doubt, draw, inclusion_probabilities, systematic_sample
from emotion.review.queue import REASONS
from emotion.scoring.tables import timeline_table
from emotion.vocabulary import EMOTIONS
from review_batches import predictions

DRAWS = 250
NO_TIMELINE = timeline_table([], emotions=EMOTIONS)


def drawn(table, *, timeline=NO_TIMELINE, size=20, drift="ok", seed=0, emotions=EMOTIONS):
    return draw(table, timeline, size=size, emotions=emotions, drift=drift, seed=seed)


def test_each_clip_is_drawn_as_often_as_its_probability_says():
    clips = candidates(predictions(60), NO_TIMELINE, EMOTIONS)
    probabilities = inclusion_probabilities(doubt(clips, "ok"), 12)
    assert probabilities.sum() == pytest.approx(12) and (probabilities < 1).all()
    random = np.random.default_rng(1)
    draws, counts = 4000, np.zeros(60)
    for _ in range(draws):
        order = np.lexsort((random.random(60), clips["speaker"], clips["emotion"]))
        rows = systematic_sample(probabilities, order, random)
        assert len(rows) == 12
        counts[rows] += 1
    error = np.sqrt(probabilities * (1 - probabilities) / draws)
    assert np.abs((counts / draws - probabilities) / error).max() < 4.5


def test_the_items_of_many_draws_give_the_accuracy_without_bias():
    table = predictions(150, seed=3)
    right, truth = dict(zip(table["sha256"], table["is_right"], strict=True)), table["is_right"].mean()
    seen, estimates, plain = Counter(), [], []
    for seed in range(DRAWS):
        items = drawn(table, seed=seed)
        seen.update(item["sha256"] for item in items)
        weights = np.array([1 / item["probability"] for item in items])
        values = np.array([right[item["sha256"]] for item in items])
        estimates.append(weights @ values / weights.sum())
        plain.append(values.mean())
    stated = {item["sha256"]: item["probability"] for seed in range(40) for item in drawn(table, seed=seed)}
    checked = [(seen[clip] / DRAWS, probability) for clip, probability in stated.items()]
    shares, probabilities = np.array(checked).T
    assert np.abs((shares - probabilities) / np.sqrt(probabilities * (1 - probabilities) / DRAWS)).max() < 4.5
    error = np.std(estimates) / np.sqrt(DRAWS)
    assert abs(np.mean(estimates) - truth) < 3 * error + 0.005  # Hájek's ratio has a bias of the order 1/size
    assert np.mean(plain) < truth - 0.02  # doubtful clips are drawn more often, so the plain mean is too low


def test_probabilities_are_capped_at_one_and_no_clip_has_none():
    doubts = np.array([100.0, 50.0, *[0.001] * 98])
    probabilities = inclusion_probabilities(doubts, 10)
    assert probabilities[:2].tolist() == [1, 1] and probabilities.sum() == pytest.approx(10)
    assert probabilities[2:] == pytest.approx(8 / 98)
    assert (inclusion_probabilities(np.random.default_rng(0).random(1000), 20) >= 0.5 * 20 / 1000).all()


@pytest.mark.parametrize("count", [1, 2, 19, 20])
def test_a_small_batch_is_drawn_as_a_whole(count):
    items = drawn(predictions(count))
    assert len(items) == count and {item["probability"] for item in items} == {1.0}


def test_the_size_is_kept_and_about_half_are_drawn_by_chance():
    table = predictions(400)
    items = [drawn(table, seed=seed) for seed in range(60)]
    assert {len(sample) for sample in items} == {20}
    reasons = Counter(reason for sample in items for item in sample for reason in item["reasons"])
    assert set(reasons) <= set(REASONS)
    assert 0.45 < reasons["chance"] / (60 * 20) < 0.55
    two = sum(item["people"] == 2 for sample in items for item in sample)
    assert two == 60 * 2


def test_the_same_seed_draws_the_same_in_whatever_order_the_rows_come():
    table = predictions(100)
    assert drawn(table, seed=5) == drawn(table.sample(frac=1, random_state=0), seed=5) != drawn(table, seed=6)


def test_refused_heard_and_copied_clips_are_not_drawn():
    table = predictions(6)
    table.loc[0, "error"] = "silent"
    table.loc[1, "heard_in_training"] = "yes"
    table.loc[5, "sha256"] = table.loc[2, "sha256"]
    assert {item["path"][6:] for item in drawn(table)} == {"00002.wav", "00003.wav", "00004.wav"}


def test_reasons_name_what_there_is_to_doubt():
    table = predictions(200)
    table["unfamiliar"] = np.arange(200) < 20
    table["challenger_emotion"] = [
        "sad" if number % 10 == 0 else emotion for number, emotion in enumerate(table["emotion"])
    ]
    table["challenger_confidence"] = 0.7
    median = table["confidence"].median()
    for seed in range(20):
        for item in drawn(table, drift="watch", seed=seed):
            reasons, answer = set(item["reasons"]), item["answer"]
            assert item["challenger"] == {"emotion": item["challenger"]["emotion"], "confidence": 0.7}
            if reasons != {"chance"}:
                assert "drift" in reasons and "chance" not in reasons
                assert ("low_confidence" in reasons) == (answer["confidence"] < median)
                assert ("unfamiliar" in reasons) == item["unfamiliar"]
                assert ("models_disagree" in reasons) == (item["challenger"]["emotion"] != answer["emotion"])


def test_drift_makes_the_probabilities_more_even():
    clips = candidates(predictions(100), NO_TIMELINE, EMOTIONS)
    spread = [np.std(inclusion_probabilities(doubt(clips, drift), 10)) for drift in ("ok", "unknown", "watch", "alarm")]
    assert spread[0] == spread[1] > spread[2] == spread[3]


def test_long_recordings_are_drawn_by_their_usable_parts():
    table = predictions(3)
    table.loc[1, ["windows", "channel", "speaker", "mode"]] = [4, "2", "ann#2", "speaker"]
    place = {"path": table.loc[1, "path"], "sha256": table.loc[1, "sha256"], "channel": "2"}
    answer = {"emotion": "sad", "confidence": 0.4} | {f"p_{emotion}": 0.125 for emotion in EMOTIONS}
    rows = [place | answer | {"start": 3.0 * n, "end": 3.0 * n + 3, "error": "silent" * (n == 2)} for n in range(4)]
    other = {"path": "elsewhere.wav", "sha256": "ff", "channel": "", "start": 0.0, "end": 3.0, "error": ""}
    items = drawn(table, timeline=timeline_table([*rows, other | answer], emotions=EMOTIONS))
    parts = sorted((item["start"], item["end"]) for item in items if item["start"] is not None)
    assert parts == [(0.0, 3.0), (3.0, 6.0), (9.0, 12.0)] and len(items) == 5
    part = next(item for item in items if item["start"] == 9.0)
    assert (part["speaker"], part["channel"], part["duration"], part["folder"]) == ("ann#2", "2", 3.0, "day-1")
    assert part["answer"]["mode"] == "speaker" and part["challenger"] is None


def test_tables_of_earlier_releases_and_other_emotions_are_drawn_from():
    table = predictions(5, emotions=("calm", "bored"))
    old = table.drop(columns=["heard_in_training", "channel", "unfamiliar", "unfamiliarity", "is_right"])
    items = drawn(old, timeline=pd.DataFrame(), emotions=("calm", "bored"))
    assert len(items) == 5 and set(items[0]["answer"]["probabilities"]) == {"calm", "bored"}
    assert {item["channel"] for item in items} == {""}


def test_nothing_is_drawn_from_nothing():
    empty = predictions(3)
    empty["error"] = "silent"
    assert drawn(empty) == [] == drawn(predictions(3), size=0) == drawn(predictions(1).iloc[:0])
