"""The model is selected by its scores on unheard speakers, never by the random split."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emotion.evaluation import selection
from emotion.evaluation.scores import compute_scores
from emotion.vocabulary import EMOTIONS, probability_columns

PROBABILITIES = probability_columns(EMOTIONS)

TABLE = pd.DataFrame({"speaker": np.repeat([f"s{number}" for number in range(10)], 16)})


def figures(speaker_independent: float, random: float) -> dict:
    return {"speaker_independent": {"f1_macro": speaker_independent}, "random": {"f1_macro": random}}


def answers(right: int) -> pd.DataFrame:
    """Held-out predictions of which the first ``right`` clips of each speaker are right."""
    codes = np.tile(np.arange(16) % 8, 10)
    predicted = np.where(np.tile(np.arange(16), 10) < right, codes, (codes + 1) % 8)
    frame = pd.DataFrame(np.eye(8)[predicted], columns=PROBABILITIES)
    frame = frame.assign(protocol="speaker_independent", row=range(160), emotion=np.array(EMOTIONS)[codes])
    return pd.concat([frame.assign(protocol="random", p_sad=1.0), frame.sample(frac=1, random_state=0)])


def select(models: dict, right: dict[str, int] | None = None) -> selection.Selection:
    predictions = {name: answers((right or {}).get(name, 8)) for name in models}
    return selection.select(models, TABLE, predictions, None, seed=0)


def test_the_random_split_does_not_select():
    selected = select({"logistic_regression": figures(0.61, 0.7), "gradient_boosting": figures(0.58, 0.9)})
    assert selected["selected"] == "logistic_regression"
    assert "logistic_regression 0.610, gradient_boosting 0.580" in selected["reason"]
    assert "The random split would have selected gradient_boosting." in selected["reason"]


def test_the_reason_leaves_the_random_split_out_where_it_agrees():
    selected = select({"a": figures(0.5, 0.5), "b": figures(0.6, 0.6)})
    assert selected["selected"] == "b" and "random" not in selected["reason"]


def test_of_models_with_equal_scores_the_first_is_selected():
    assert select({"a": figures(0.5, 0.5), "b": figures(0.5, 0.5)})["selected"] == "a"


@pytest.mark.parametrize(("right", "tie"), [({"a": 8, "b": 8}, True), ({"a": 8, "b": 14}, False)])
def test_a_lead_that_may_be_chance_is_a_tie_and_the_reason_says_so(right, tie):
    selected = select({"a": figures(0.5, 0.5), "b": figures(0.6, 0.6), "c": figures(0.1, 0.1)}, right)
    assert (selected["selected"], selected["runner_up"], selected["tie"]) == ("b", "a", tie)
    assert ("b and a are a tie" in selected["reason"]) == tie
    assert (selected["lead"]["probability"] >= 0.9) != tie


def test_one_model_needs_no_comparison():
    selected = select({"a": figures(0.5, 0.5)})
    assert selected["lead"] is None and selected["tie"] is False


def with_stress(clean: float, outside: float) -> dict:
    return figures(clean, clean) | {"stress": {"plain": {"mean_f1_macro": outside}}}


def under_conditions(right: dict[str, int]) -> pd.DataFrame:
    """Answers under conditions, of which so many clips of each speaker are right; all wrong in another mode."""
    frames = [
        answers(count).query("protocol == 'speaker_independent'").assign(condition=condition, mode="plain")
        for condition, count in right.items()
    ]
    wrong = [frame.assign(mode="batch", **(dict.fromkeys(PROBABILITIES, 0.0) | {"p_calm": 1.0})) for frame in frames]
    return pd.concat([*frames, *wrong]).drop(columns="protocol")


def test_a_model_that_gains_in_the_studio_and_loses_outside_is_not_selected():
    """One more clip right in sixteen when clean, four less under each of two conditions."""
    models = {"studio": with_stress(0.60, 0.25), "steady": with_stress(0.54, 0.50)}
    predictions = {"studio": answers(10), "steady": answers(9)}
    outside = {
        "studio": under_conditions({"clean": 10, "mp3": 4, "telephone": 5}),
        "steady": under_conditions({"clean": 9, "mp3": 8, "telephone": 9}),
    }
    selected = selection.select(models, TABLE, predictions, outside, seed=0)
    assert selected["selected"] == "steady" and selected["figures"] == pytest.approx({"studio": 0.425, "steady": 0.52})
    assert "steady 0.520 (clean 0.540, conditions 0.500), studio 0.425" in selected["reason"]
    assert "Clean clips alone would have selected studio." in selected["reason"]
    f1 = [
        compute_scores(frame["emotion"].to_numpy(), frame[PROBABILITIES].to_numpy(), EMOTIONS)["f1_macro"]
        for frame in (answers(count).query("protocol == 'speaker_independent'") for count in (10, 4, 5, 9, 8, 9))
    ]
    expected = (f1[3] - f1[0]) / 2 + (f1[4] - f1[1]) / 4 + (f1[5] - f1[2]) / 4
    assert selected["lead"]["difference"] == pytest.approx(expected) and not selected["tie"]
    alone = selection.select(
        {name: figures(0.6 - 0.06 * rank, 0) for rank, name in enumerate(models)}, TABLE, predictions, None, seed=0
    )
    assert alone["selected"] == "studio"


def in_datasets(right: dict[str, int], *, protocol: str) -> pd.DataFrame:
    """Answers of which so many clips of each speaker of a dataset are right; small: speakers s0 and s1."""
    parts = {name: answers(count).query("protocol == 'speaker_independent'") for name, count in right.items()}
    is_small = parts["small"]["row"] < 32
    both = [parts["small"][is_small], parts["large"][~(parts["large"]["row"] < 32)]]
    return pd.concat(both).assign(protocol=protocol)


def test_each_dataset_counts_the_same_and_unheard_datasets_count_half():
    """Broad is better on the small dataset and where a dataset was not heard, and worse on most clips."""
    table = TABLE.assign(dataset=np.repeat(["small", "large"], [32, 128]))
    heard = {"deep": {"small": 6, "large": 12}, "broad": {"small": 12, "large": 10}}
    unheard = {"deep": {"small": 4, "large": 5}, "broad": {"small": 7, "large": 5}}
    predictions = {
        name: pd.concat(
            [
                in_datasets(heard[name], protocol="speaker_independent"),
                in_datasets(unheard[name], protocol="unheard_dataset"),
                answers(8).query("protocol == 'random'"),
            ]
        )
        for name in heard
    }

    def f1(name: str, protocol: str) -> dict:
        rows = predictions[name][predictions[name]["protocol"] == protocol]
        scores = {
            dataset: compute_scores(part["emotion"].to_numpy(), part[PROBABILITIES].to_numpy(), EMOTIONS)["f1_macro"]
            for dataset, part in (("small", rows[rows["row"] < 32]), ("large", rows[rows["row"] >= 32]))
        }
        pooled = compute_scores(rows["emotion"].to_numpy(), rows[PROBABILITIES].to_numpy(), EMOTIONS)["f1_macro"]
        return {"f1_macro": pooled, "mean_of_datasets": {"f1_macro": np.mean(list(scores.values()))}}

    models = {
        name: {key: f1(name, key) for key in ("speaker_independent", "unheard_dataset")} | {"random": {"f1_macro": 0}}
        for name in heard
    }
    assert models["deep"]["speaker_independent"]["f1_macro"] > models["broad"]["speaker_independent"]["f1_macro"]
    selected = selection.select(models, table, predictions, None, seed=0)
    means = {
        name: [models[name][key]["mean_of_datasets"]["f1_macro"] for key in ("speaker_independent", "unheard_dataset")]
        for name in models
    }
    assert selected["selected"] == "broad"
    assert selected["figures"] == pytest.approx({name: np.mean(both) for name, both in means.items()})
    assert selected["lead"]["difference"] == pytest.approx(np.mean(means["broad"]) - np.mean(means["deep"]))
    assert selected["lead"]["clips"] == 160 and selected["lead"]["speakers"] == 10
    assert "half on unheard speakers (clean clips) and half on unheard datasets" in selected["reason"]


def test_the_weights_of_all_tests_add_up_to_one():
    clips = np.arange(4)
    labels = np.array(["happy", "sad"] * 2)
    test = selection.PairedAnswers(
        clips, labels, labels, np.eye(2)[[0, 1] * 2], np.eye(2)[[0, 1] * 2], ("happy", "sad")
    )
    by_two = test._replace(datasets=np.array(["x", "x", "y", "y"]))
    for unheard, conditions, expected in (
        (None, [], [0.5, 0.5]),
        (None, [test] * 5, [0.25, 0.25, *[0.1] * 5]),
        (by_two, [], [0.25, 0.25, 0.25, 0.25]),
        (test, [test] * 5, [0.125, 0.125, *[0.05] * 5, 0.5]),
    ):
        weights = [weight for weight, _ in selection.weighted_tests(by_two, conditions, unheard)]
        assert weights == pytest.approx(expected) and sum(weights) == pytest.approx(1)
