"""The bootstrap draws whole speakers, the same ones for both models, and covers what it claims to cover."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from emotion.evaluation import bootstrap
from emotion.evaluation.scores import compute_scores
from emotion.vocabulary import EMOTIONS


def sample(random, *, speakers: int, clips: int, right: float, spread: float):
    """Labels, speakers, and the answers of two models of equal skill, where skill differs from speaker to speaker."""
    codes = np.resize(np.arange(8), speakers * clips)
    names = np.repeat([f"s{number:03d}" for number in range(speakers)], clips)
    answers = []
    for _ in range(2):
        skill = np.repeat(np.clip(random.normal(right, spread, speakers), 0, 1), clips)
        hit = random.random(len(codes)) < skill
        answers.append(np.eye(8)[np.where(hit, codes, (codes + random.integers(1, 8, len(codes))) % 8)])
    return np.array(EMOTIONS)[codes], names, answers


def test_the_difference_is_that_of_the_scores():
    labels, speakers, (first, second) = sample(np.random.default_rng(1), speakers=9, clips=40, right=0.6, spread=0.2)
    result = bootstrap.difference(labels, speakers, first, second, emotions=EMOTIONS, seed=0)
    before, after = (compute_scores(labels, model, EMOTIONS) for model in (first, second))
    assert result["difference"] == pytest.approx(after["f1_macro"] - before["f1_macro"])
    for emotion, change in result["per_emotion"].items():
        expected = after["per_emotion"][emotion]["f1"] - before["per_emotion"][emotion]["f1"]
        assert change["difference"] == pytest.approx(expected)
        assert change["interval"][0] <= change["difference"] <= change["interval"][1]
    assert (result["speakers"], result["clips"]) == (9, 360) and result["draws"] >= 2000


def test_a_draw_is_scored_as_if_its_clips_had_been_repeated(monkeypatch):
    """One draw by hand: the clips of a speaker that is drawn twice count twice."""
    labels, speakers, (first, second) = sample(np.random.default_rng(2), speakers=4, clips=16, right=0.5, spread=0.2)
    weights = np.array([[2.0, 0.0, 1.0, 1.0]])
    monkeypatch.setattr(bootstrap, "_draw_speakers", lambda speakers, seed: [weights])
    rows = np.concatenate([np.flatnonzero(speakers == name) for name in ("s000", "s000", "s002", "s003")])
    before, after = (compute_scores(labels[rows], model[rows], EMOTIONS) for model in (first, second))
    result = bootstrap.difference(labels, speakers, first, second, emotions=EMOTIONS, seed=0)
    assert result["interval"] == pytest.approx([after["f1_macro"] - before["f1_macro"]] * 2)
    intervals = bootstrap.score_intervals(labels, speakers, first, emotions=EMOTIONS, seed=0)
    assert intervals["f1_macro_interval"] == pytest.approx([before["f1_macro"]] * 2)
    assert intervals["accuracy_interval"] == pytest.approx([before["accuracy"]] * 2)


def test_the_same_seed_gives_the_same_and_swapped_models_the_opposite():
    labels, speakers, (first, second) = sample(np.random.default_rng(3), speakers=12, clips=24, right=0.6, spread=0.2)
    result = bootstrap.difference(labels, speakers, first, second, emotions=EMOTIONS, seed=5)
    assert result == bootstrap.difference(labels, speakers, first, second, emotions=EMOTIONS, seed=5)
    swapped = bootstrap.difference(labels, speakers, second, first, emotions=EMOTIONS, seed=5)
    assert swapped["probability"] == pytest.approx(1 - result["probability"])
    assert swapped["interval"] == pytest.approx([-value for value in result["interval"][::-1]])


def test_the_interval_covers_the_truth_where_clips_of_a_speaker_belong_together():
    """Skill differs by speaker. The interval over speakers holds the true accuracy; that over clips is too narrow."""
    random, covered, wilson = np.random.default_rng(4), 0, 0
    from emotion.evaluation.scores import accuracy_interval

    for _ in range(200):
        labels, speakers, (model, _) = sample(random, speakers=24, clips=40, right=0.6, spread=0.15)
        right = np.array(EMOTIONS)[model.argmax(axis=1)] == labels
        low, high, _ = bootstrap.mean_interval(right.astype(float), speakers)
        covered += low <= 0.6 <= high
        low, high = accuracy_interval(right)
        wilson += low <= 0.6 <= high
    assert covered >= 175 and wilson < 160


def test_an_emotion_that_some_draws_lack_has_an_interval_all_the_same():
    labels = np.array(["happy", "sad"] * 8 + ["angry"])
    speakers = np.array([*list("aaaabbbbccccdddd"), "e"])
    right = np.eye(8)[[EMOTIONS.index(label) for label in labels]]
    result = bootstrap.difference(labels, speakers, right[:, ::-1], right, emotions=EMOTIONS, seed=0)
    assert list(result["per_emotion"]) == ["happy", "sad", "angry"]
    assert np.isfinite(result["per_emotion"]["angry"]["interval"]).all() and result["probability"] == 1.0


def test_it_takes_less_than_a_second():
    labels, speakers, (first, second) = sample(np.random.default_rng(6), speakers=91, clips=80, right=0.6, spread=0.2)
    start = time.process_time()
    bootstrap.difference(labels, speakers, first, second, emotions=EMOTIONS, seed=0)
    assert time.process_time() - start < 1


def paired(random, *, right: float, clips: int = 24) -> bootstrap.PairedAnswers:
    labels, speakers, (first, second) = sample(random, speakers=8, clips=clips, right=right, spread=0.2)
    return bootstrap.PairedAnswers(np.arange(len(labels)), labels, speakers, first, second, EMOTIONS)


def test_the_lead_over_one_test_is_the_difference():
    test = paired(np.random.default_rng(6), right=0.6)
    lead = bootstrap.mean_lead([(1.0, test)], seed=4)
    whole = bootstrap.difference(test.labels, test.speakers, test.first, test.second, emotions=EMOTIONS, seed=4)
    for key, value in lead.items():
        assert value == pytest.approx(whole[key]), key


@pytest.mark.parametrize("score", ["f1_macro", "accuracy"])
def test_the_lead_over_several_tests_draws_the_same_speakers_for_all(score, monkeypatch):
    """One draw by hand, with a speaker who is in one of the tests alone."""
    random = np.random.default_rng(7)
    tests = [paired(random, right=0.7), paired(random, right=0.4)]
    rows = tests[1].speakers != "s002"
    tests[1] = bootstrap.PairedAnswers(*(part[rows] for part in tests[1][:5]), EMOTIONS)
    monkeypatch.setattr(
        bootstrap, "_draw_speakers", lambda speakers, seed: [np.eye(1, speakers) * 2 + np.eye(1, speakers, 2)]
    )
    lead = bootstrap.mean_lead(list(zip((0.25, 0.75), tests, strict=True)), score=score, seed=0)
    expected, drawn = 0.0, 0.0
    for weight, test in zip((0.25, 0.75), tests, strict=True):
        chosen = np.concatenate([np.flatnonzero(test.speakers == name) for name in ("s000", "s000", "s002")])
        for sign, model in ((-1, test.first), (1, test.second)):
            expected += sign * weight * compute_scores(test.labels, model, EMOTIONS)[score]
            drawn += sign * weight * compute_scores(test.labels[chosen], model[chosen], EMOTIONS)[score]
    assert lead["difference"] == pytest.approx(expected)
    assert lead["interval"] == pytest.approx([drawn, drawn])
    assert (lead["speakers"], lead["clips"]) == (8, 8 * 24)


def test_clips_that_a_queue_preferred_do_not_make_the_challenger_better():
    """Two models that err as often, in other clips; the queue prefers the clips in which the first one errs."""
    random = np.random.default_rng(0)
    speakers = np.repeat([f"speaker {number}" for number in range(50)], 40)
    labels = random.choice(EMOTIONS, len(speakers))
    right = np.eye(len(EMOTIONS))[[EMOTIONS.index(label) for label in labels]]
    wrong = np.roll(right, 1, axis=1)
    first_errs, second_errs = random.random((2, len(speakers), 1)) < 0.3
    probability = np.where(first_errs[:, 0], 0.8, 0.2)
    drawn = random.random(len(speakers)) < probability
    table = pd.DataFrame({"drawn": probability[drawn]})
    test = bootstrap.PairedAnswers(
        np.flatnonzero(drawn),
        labels[drawn],
        speakers[drawn],
        np.where(first_errs, wrong, right)[drawn],
        np.where(second_errs, wrong, right)[drawn],
        EMOTIONS,
    )
    assert bootstrap.mean_lead([(1.0, test)], seed=0)["difference"] > 0.2
    weighted = test._replace(weights=bootstrap.draw_weights(table))
    assert abs(bootstrap.mean_lead([(1.0, weighted)], seed=0)["difference"]) < 0.05
    first, second = bootstrap.macro_f1(weighted)
    assert abs(first - 0.7) < 0.05 and abs(second - 0.7) < 0.05
