"""Which figure models are chosen by, and the choice."""

from __future__ import annotations

from typing import TypedDict

import pandas as pd

from emotion.evaluation import bootstrap
from emotion.evaluation.bootstrap import LEAST_PROBABILITY, Difference
from emotion.vocabulary import PROBABILITIES

PROTOCOL, SCORE = "speaker_independent", "f1_macro"
"""Models are chosen by their macro F1 on unheard speakers: the random split may rank first a model that is not the
best for new speakers."""


class Selection(TypedDict):
    """The selected model, the sentences that say why, and how it compares with the next one.

    ``lead`` is the paired bootstrap of the selected model over the ``runner_up``; ``tie``: whether the lead may be
    chance. The first two are None, and ``tie`` is False, where there is one model.
    """

    selected: str
    reason: str
    runner_up: str | None
    lead: Difference | None
    tie: bool


def select(
    models: dict[str, dict], table: pd.DataFrame, predictions: dict[str, pd.DataFrame], *, seed: int
) -> Selection:
    """Select the model with the highest macro F1 on unheard speakers, and say whether its lead may be chance.

    Parameters
    ----------
    models : dict
        Name → ``{protocol: scores}``, as :func:`emotion.evaluation.held_out.protocol_scores` gives them. Of models
        with equal scores, the first is selected.
    table : pandas.DataFrame
        One row per clip: speaker.
    predictions : dict of pandas.DataFrame
        The held-out predictions of each model: protocol, row (of ``table``), emotion and eight probabilities.
    seed : int
        For drawing speakers.

    Examples
    --------
    >>> forest = {"speaker_independent": {"f1_macro": 0.33}, "random": {"f1_macro": 0.9}}
    >>> ridge = {"speaker_independent": {"f1_macro": 1.0}, "random": {"f1_macro": 0.7}}
    >>> table = pd.DataFrame({"speaker": list("aabbcc")})
    >>> right = pd.DataFrame(0.0, index=range(6), columns=PROBABILITIES).assign(
    ...     protocol="speaker_independent", row=range(6), emotion=["happy", "sad"] * 3
    ... )
    >>> right = right.assign(p_happy=[1, 0] * 3, p_sad=[0, 1] * 3)
    >>> predictions = {"forest": right.assign(p_happy=1, p_sad=0), "ridge": right}
    >>> selection = select({"forest": forest, "ridge": ridge}, table, predictions, seed=0)
    >>> selection["selected"], selection["tie"]
    ('ridge', False)
    >>> print(selection["reason"])
    Highest macro F1 on unheard speakers: ridge 1.000, forest 0.330. The random split would have selected forest.
    """
    ranked = sorted(models, key=lambda name: -models[name][PROTOCOL][SCORE])
    best = ranked[0]
    figures = ", ".join(f"{name} {models[name][PROTOCOL][SCORE]:.3f}" for name in ranked)
    best_at_random = max(models, key=lambda name: models[name]["random"][SCORE])
    selection: Selection = {
        "selected": best,
        "reason": f"Highest macro F1 on unheard speakers: {figures}.",
        "runner_up": None,
        "lead": None,
        "tie": False,
    }
    if len(ranked) > 1:
        lead = _lead(table, predictions[ranked[1]], predictions[best], seed)
        selection["runner_up"], selection["lead"] = ranked[1], lead
        selection["tie"] = lead["probability"] < LEAST_PROBABILITY
        selection["reason"] += _tie_in_words(best, ranked[1], lead) if selection["tie"] else ""
    if best_at_random != best:
        selection["reason"] += f" The random split would have selected {best_at_random}."
    return selection


def _tie_in_words(best: str, runner_up: str, lead: Difference) -> str:
    low, high = lead["interval"]
    return (
        f" {best} and {runner_up} are a tie: the difference of {lead['difference']:+.3f} may be chance (95% interval "
        f"{low:+.3f} to {high:+.3f}; the probability that {best} is better is {lead['probability']:.2f}). The higher "
        "figure is selected."
    )


def _lead(table: pd.DataFrame, runner_up: pd.DataFrame, best: pd.DataFrame, seed: int) -> Difference:
    """How much better the best model is than the runner-up, on unheard speakers."""
    first, second = (rows[rows["protocol"] == PROTOCOL].sort_values("row") for rows in (runner_up, best))
    return bootstrap.difference(
        second["emotion"].to_numpy(),
        table["speaker"].to_numpy()[second["row"]],
        first[PROBABILITIES].to_numpy(),
        second[PROBABILITIES].to_numpy(),
        seed=seed,
    )
