"""The model is selected by its scores on unheard speakers, never by the random split."""

from __future__ import annotations

from emotion.evaluation import selection


def figures(speaker_independent: float, random: float) -> dict:
    return {"speaker_independent": {"f1_macro": speaker_independent}, "random": {"f1_macro": random}}


def test_the_random_split_does_not_select():
    models = {"logistic_regression": figures(0.61, 0.7), "gradient_boosting": figures(0.58, 0.9)}
    selected, reason = selection.select(models)
    assert selected == "logistic_regression"
    assert "logistic_regression 0.610, gradient_boosting 0.580" in reason
    assert "The random split would have selected gradient_boosting." in reason


def test_the_reason_leaves_the_random_split_out_where_it_agrees():
    selected, reason = selection.select({"a": figures(0.5, 0.5), "b": figures(0.6, 0.6)})
    assert selected == "b" and "random" not in reason


def test_of_models_with_equal_scores_the_first_is_selected():
    assert selection.select({"a": figures(0.5, 0.5), "b": figures(0.5, 0.5)})[0] == "a"
