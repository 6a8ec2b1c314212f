"""Which figure models are chosen by, and the choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

from emotion.audio.conditions import CLEAN
from emotion.evaluation import bootstrap
from emotion.evaluation.bootstrap import LEAST_PROBABILITY, Lead, PairedAnswers, by_dataset
from emotion.evaluation.folds import datasets_of
from emotion.vocabulary import DATASET_MODES, emotions_of, probabilities_of

if TYPE_CHECKING:
    import pandas as pd

PROTOCOL, SCORE = "speaker_independent", "f1_macro"
"""Models are chosen by their macro F1 on unheard speakers: the random split may rank first a model that is not the
best for new speakers."""
UNHEARD_DATASET = DATASET_MODES["plain"]
MODE = "plain"
"""Models are chosen by their plain answers under recording conditions: the other modes need more than one clip."""
CLEAN_WEIGHT = 0.5
"""Weight of the macro F1 on clean clips. The mean of the macro F1 under all other conditions has the rest."""
UNHEARD_DATASET_WEIGHT = 0.5
"""Weight of the macro F1 on datasets that were held out whole, where a run has several; unheard speakers of the
datasets that were trained on have the rest."""


class Selection(TypedDict):
    """The selected model, the sentences that say why, and how it compares with the next one.

    ``figures``: what each model was judged by (:func:`figure`). ``lead`` is the paired bootstrap of the selected model
    over the ``runner_up``; ``tie``: whether the lead may be chance. The first two are None, and ``tie`` is False, where
    there is one model.
    """

    selected: str
    reason: str
    figures: dict[str, float]
    runner_up: str | None
    lead: Lead | None
    tie: bool


def figure(scores: dict) -> float:
    """What a model is judged by: what a new user gets, as macro F1.

    Half of it is measured on clean clips of unheard speakers, half on such clips under recording conditions. Where a
    run has several datasets, the clean half is the mean over them, and half of the whole is measured on datasets that
    were held out whole, again as the mean over them.

    ``scores``: the model's entry of ``comparison.json``; without a stress table, the clean clips alone count.

    >>> speakers = {"speaker_independent": {"f1_macro": 0.75}, "stress": {"plain": {"mean_f1_macro": 0.25}}}
    >>> figure(speakers), figure(speakers | {"unheard_dataset": {"f1_macro": 0.25}})
    (0.5, 0.375)
    """
    speakers = mean_score(scores[PROTOCOL])
    if scores.get("stress"):
        speakers = CLEAN_WEIGHT * speakers + (1 - CLEAN_WEIGHT) * scores["stress"][MODE]["mean_f1_macro"]
    if UNHEARD_DATASET not in scores:
        return speakers
    return (1 - UNHEARD_DATASET_WEIGHT) * speakers + UNHEARD_DATASET_WEIGHT * mean_score(scores[UNHEARD_DATASET])


def mean_score(figures: dict) -> float:
    """The macro F1 of a protocol: where there are several datasets, the mean over them."""
    return figures.get("mean_of_datasets", figures)[SCORE]


def weighted_tests(
    clean: PairedAnswers, conditions: list[PairedAnswers], unheard: PairedAnswers | None = None
) -> list[tuple[float, PairedAnswers]]:
    """The tests whose weighted mean is the difference of two models' :func:`figure`, for
    :func:`emotion.evaluation.bootstrap.mean_lead`.

    ``conditions``: without the clean clips, [] for none; ``unheard``: on datasets that were held out whole.
    """
    weight = 1.0 if unheard is None else 1 - UNHEARD_DATASET_WEIGHT
    clean_weight = weight * CLEAN_WEIGHT if conditions else weight
    tests = _evenly(clean_weight, by_dataset(clean)) + _evenly(weight - clean_weight, conditions)
    return tests if unheard is None else tests + _evenly(UNHEARD_DATASET_WEIGHT, by_dataset(unheard))


def _evenly(weight: float, tests: list[PairedAnswers]) -> list[tuple[float, PairedAnswers]]:
    return [(weight / len(tests), test) for test in tests]


def select(
    models: dict[str, dict],
    table: pd.DataFrame,
    predictions: dict[str, pd.DataFrame],
    condition_predictions: dict[str, pd.DataFrame] | None,
    *,
    seed: int,
) -> Selection:
    """Select the model with the highest :func:`figure`, and say whether its lead may be chance.

    Parameters
    ----------
    models : dict
        Name → its entry of ``comparison.json``: ``{protocol: scores}``, as
        :func:`emotion.evaluation.held_out.protocol_scores` gives them, and ``stress``, None without. Of models with
        equal figures, the first is selected.
    table : pandas.DataFrame
        One row per clip: speaker and, if there are several, dataset.
    predictions : dict of pandas.DataFrame
        The held-out predictions of each model: protocol, row (of ``table``), emotion and probabilities.
    condition_predictions : dict of pandas.DataFrame, or None
        The same under conditions (mode and condition in place of protocol); None where no clip was tested so.
    seed : int
        For drawing speakers.

    Examples
    --------
    >>> from pandas import DataFrame
    >>> table = DataFrame({"speaker": list("aabbcc")})
    >>> happy = DataFrame({"p_happy": 1, "p_sad": 0, "row": range(6), "emotion": ["happy", "sad"] * 3})
    >>> happy = happy.assign(protocol=PROTOCOL)
    >>> predictions = {"forest": happy, "ridge": happy.assign(p_happy=[1, 0] * 3, p_sad=[0, 1] * 3)}
    >>> forest = {"speaker_independent": {"f1_macro": 0.33}, "random": {"f1_macro": 0.9}}
    >>> ridge = {"speaker_independent": {"f1_macro": 1.0}, "random": {"f1_macro": 0.7}}
    >>> print(select({"forest": forest, "ridge": ridge}, table, predictions, None, seed=0)["reason"])
    Highest macro F1 on unheard speakers: ridge 1.000, forest 0.330. The random split would have selected forest.
    """
    figures = {name: figure(scores) for name, scores in models.items()}
    ranked = sorted(models, key=lambda name: -figures[name])
    selection: Selection = {
        "selected": (best := ranked[0]),
        "reason": _figures_in_words(models, figures, ranked),
        "figures": figures,
        "runner_up": None,
        "lead": None,
        "tie": False,
    }
    if len(ranked) > 1:
        pair = ranked[1], best
        lead = _lead(table, predictions, condition_predictions, pair, seed)
        selection["runner_up"], selection["lead"] = ranked[1], lead
        selection["tie"] = lead["probability"] < LEAST_PROBABILITY
        selection["reason"] += _tie_in_words(best, ranked[1], lead) if selection["tie"] else ""
    selection["reason"] += _other_choices(models, best, condition_predictions is not None)
    return selection


def _figures_in_words(models: dict[str, dict], figures: dict[str, float], ranked: list[str]) -> str:
    best = models[ranked[0]]
    has_conditions, has_datasets = bool(best.get("stress")), UNHEARD_DATASET in best
    if not has_conditions and not has_datasets:
        return f"Highest macro F1 on unheard speakers: {', '.join(f'{name} {figures[name]:.3f}' for name in ranked)}."

    def parts_of(scores: dict) -> str:
        parts = [f"clean {mean_score(scores[PROTOCOL]):.3f}"]
        parts += [f"conditions {scores['stress'][MODE]['mean_f1_macro']:.3f}"] if has_conditions else []
        parts += [f"unheard datasets {mean_score(scores[UNHEARD_DATASET]):.3f}"] if has_datasets else []
        return ", ".join(parts)

    listed = ", ".join(f"{name} {figures[name]:.3f} ({parts_of(models[name])})" for name in ranked)
    speakers = "the mean of clean clips and of clips under recording conditions" if has_conditions else "clean clips"
    if not has_datasets:
        return f"Highest macro F1 on unheard speakers, as {speakers}: {listed}."
    return f"Highest macro F1, half on unheard speakers ({speakers}) and half on unheard datasets: {listed}."


def _other_choices(models: dict[str, dict], best: str, has_conditions: bool) -> str:
    """What other figures would have selected, where that differs."""
    choices: list[tuple[str, Callable[[str], float]]] = [
        ("The random split", lambda name: models[name]["random"][SCORE]),
    ]
    if has_conditions:
        choices.insert(0, ("Clean clips alone", lambda name: mean_score(models[name][PROTOCOL])))
    others = [(what, max(models, key=score)) for what, score in choices]
    return "".join(f" {what} would have selected {name}." for what, name in others if name != best)


def _tie_in_words(best: str, runner_up: str, lead: Lead) -> str:
    low, high = lead["interval"]
    return (
        f" {best} and {runner_up} are a tie: the difference of {lead['difference']:+.3f} may be chance (95% interval "
        f"{low:+.3f} to {high:+.3f}; the probability that {best} is better is {lead['probability']:.2f}). The higher "
        "figure is selected."
    )


def _lead(
    table: pd.DataFrame,
    predictions: dict[str, pd.DataFrame],
    condition_predictions: dict[str, pd.DataFrame] | None,
    pair: tuple[str, str],
    seed: int,
) -> Lead:
    """How much better the second model of a pair is than the first, on unheard speakers."""

    def of_protocol(protocol: str) -> list[pd.DataFrame]:
        return [predictions[name][predictions[name]["protocol"] == protocol] for name in pair]

    clean, unheard = _paired(table, *of_protocol(PROTOCOL)), _paired(table, *of_protocol(UNHEARD_DATASET))
    tests = []
    if condition_predictions is not None:
        first, second = (condition_predictions[name][condition_predictions[name]["mode"] == MODE] for name in pair)
        tests = [
            _paired(table, first[first["condition"] == condition], second[second["condition"] == condition])
            for condition in first["condition"].unique()
            if condition != CLEAN
        ]
    return bootstrap.mean_lead(weighted_tests(clean, tests, unheard if len(unheard.clips) else None), seed=seed)


def _paired(table: pd.DataFrame, first: pd.DataFrame, second: pd.DataFrame) -> PairedAnswers:
    """The answers of two models for the same rows."""
    first, second = first.sort_values("row"), second.sort_values("row")
    rows = second["row"].to_numpy()
    return PairedAnswers(
        rows,
        second["emotion"].to_numpy(),
        table["speaker"].to_numpy()[rows],
        probabilities_of(first),
        probabilities_of(second),
        emotions_of(second),
        datasets_of(table)[rows],
    )
