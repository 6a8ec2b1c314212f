"""The model is selected by its scores on unheard speakers, never by the random split."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emotion.evaluation import selection
from emotion.vocabulary import EMOTIONS, PROBABILITIES

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
    return selection.select(models, TABLE, predictions, seed=0)


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
