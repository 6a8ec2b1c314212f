"""Models tested on datasets that none of them was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from emotion import features
from emotion.errors import DataError, EmotionError
from emotion.evaluation.bootstrap import Lead, mean_lead
from emotion.evaluation.scores import compute_scores
from emotion.evaluation.shared_emotions import LEAST_SHARED, ModelAnswers, pair_answers, restrict, shared_emotions
from emotion.models import registry
from emotion.models.adaptation import Statistics, normalize_by_batch, normalize_by_speaker
from emotion.models.bundle import models_of
from emotion.models.classifier import Classifier, Ensemble
from emotion.models.kept_predictions import champion_predictions
from emotion.models.rescoring import HELD_OUT
from emotion.store import Store
from emotion.vocabulary import Mode, label_set

SCORES = ("accuracy", "uar", "f1_macro", "ece")


def external_scores(
    models: Mapping[Mode, Classifier | Ensemble], training: Statistics, table: pd.DataFrame, values: np.ndarray
) -> dict[str, dict[str, Any]]:
    """How a model answers on each dataset, in each mode.

    The clips of a dataset are one batch. Clips whose emotion the model does not know are left out, and the
    probabilities of emotions that the dataset does not have count as 0: chance is one over the number of ``emotions``.

    Parameters
    ----------
    models : mapping
        The model of each mode.
    training : Statistics
        Of the model's training clips.
    table : pandas.DataFrame
        One row per clip: dataset, emotion, speaker (``""`` where unknown).
    values : float32 array, shape (n_clips, n_features)

    Returns
    -------
    dict
        Dataset → ``emotions``, the list of those that were tested, and by mode ``n``, ``accuracy``, ``uar``,
        ``f1_macro``, ``ece`` and ``confidence``, the mean. The mode ``speaker`` is missing where no speaker is known.

    Raises
    ------
    DataError
        If a dataset shares fewer than two emotions with the model.

    Examples
    --------
    >>> from emotion.models.adaptation import measure
    >>> from emotion.vocabulary import MODES
    >>> rows, labels = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array(["sad", "happy"] * 8)
    >>> models = dict.fromkeys(MODES, Classifier.fit("logistic_regression", rows, labels, seed=0))
    >>> table = pd.DataFrame({"dataset": "calls", "emotion": labels, "speaker": ""})
    >>> figures = external_scores(models, measure(rows), table, rows)["calls"]
    >>> figures["emotions"], list(figures)[1:], figures["plain"]["uar"]
    (['happy', 'sad'], ['plain', 'batch'], 1.0)
    """
    return {
        str(name): _scores_of_dataset(models, training, str(name), clips, values[clips.index])
        for name, clips in table.reset_index(drop=True).groupby("dataset", sort=False)
    }


class ExternalComparison(TypedDict):
    """Champion and challenger on each dataset, as :func:`external_scores` gives them; of the champion, only on datasets
    that it was not trained on. ``missing`` says in words why figures of the champion are not there. ``leads``: of
    datasets that both were tested on, how much better the challenger is in macro F1, plain."""

    challenger: dict[str, dict[str, Any]]
    champion: dict[str, dict[str, Any]]
    missing: list[str]
    leads: dict[str, Lead]


def compare(
    store: Store,
    challenger: dict[str, dict[str, Any]],
    table: pd.DataFrame,
    values: np.ndarray,
    *,
    model: Classifier | Ensemble,
    seed: int,
) -> ExternalComparison:
    """Set the challenger's figures against those of the champion on the same clips.

    Parameters
    ----------
    store : Store
    challenger : dict
        From :func:`external_scores`.
    table, values
        As for :func:`external_scores`.
    model : Classifier or Ensemble
        The challenger's plain model.
    seed : int
        For drawing speakers.
    """
    result: ExternalComparison = {"challenger": challenger, "champion": {}, "missing": [], "leads": {}}
    if table.empty:
        return result
    try:
        pointer = registry.champion(store)
        if pointer is None:
            return result
        entry = registry.champion_entry(store, pointer)
        bundle = registry.load(store, entry, registry.bundle_name(pointer["family"]), recipe=features.recipe_version())
        kept = champion_predictions(store, pointer, HELD_OUT)
    except EmotionError as error:
        return result | {"missing": [f"The champion was not tested: {error}"]}
    if kept is None:
        cause = "its version does not say which clips it was trained on, and these may be among them"
        return result | {"missing": [f"The champion was not tested: {cause}."]}
    for name, clips in table.reset_index(drop=True).groupby("dataset", sort=False):
        is_heard = clips["samples_sha256"].isin(kept["samples_sha256"])
        is_heard |= clips["speaker"].isin(set(kept["speaker"]) - {""})
        if is_heard.any():
            result["missing"].append(f"The champion was trained on clips or speakers of {name}.")
            continue
        try:
            of_dataset = values[clips.index]
            result["champion"] |= external_scores(models_of(bundle), bundle["training"], clips, of_dataset)
            result["leads"][str(name)] = _lead(bundle["plain"], model, clips, of_dataset, seed)
        except DataError as error:
            result["missing"].append(f"The champion was not tested: {error}")
    return result


def _lead(
    champion: Classifier | Ensemble,
    challenger: Classifier | Ensemble,
    clips: pd.DataFrame,
    values: np.ndarray,
    seed: int,
) -> Lead:
    """How much better the challenger is on a dataset. A clip of an unknown speaker counts as a speaker of its own."""
    names, speakers = clips["samples_sha256"].to_numpy(), clips["speaker"].to_numpy()
    pairs = pair_answers(
        names,
        clips["emotion"].to_numpy(),
        np.where(speakers == "", names, speakers),
        ModelAnswers(champion.predict_proba(values), champion.label_set),
        ModelAnswers(challenger.predict_proba(values), challenger.label_set),
    )
    return mean_lead([(1.0, pairs)], seed=seed)


def weigh(verdict: str, comparison: ExternalComparison) -> tuple[str, list[str]]:
    """The verdict of the rules with a comparison in view, and the reasons that it adds.

    A challenger that would be promoted is not, where its macro F1 on a dataset that neither was trained on falls beyond
    chance (the 95 % interval lies below 0).

    >>> lead = {"difference": -0.1, "interval": [-0.2, -0.05], "clips": 90, "speakers": 9}
    >>> verdict, reasons = weigh("promote", {"challenger": {}, "champion": {}, "missing": [], "leads": {"calls": lead}})
    >>> print(verdict, reasons[1])
    keep The macro F1 on calls would fall, beyond chance.
    """
    reasons = []
    for dataset, lead in comparison["leads"].items():
        low, high = lead["interval"]
        reasons.append(
            f"On {dataset}, which neither was trained on, {lead['clips']:,} clips: difference of the macro F1 "
            f"{lead['difference']:+.3f}, 95% interval {low:+.3f} to {high:+.3f}."
        )
        if high < 0:
            verdict = "keep"
            reasons.append(f"The macro F1 on {dataset} would fall, beyond chance.")
    return verdict, reasons


def tested_emotions(dataset: str, labels: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """The emotions that a dataset with these ``labels`` can test of those that a model knows: those that both have.

    Raises DataError if they are fewer than two.

    >>> tested_emotions("calls", ["sad", "bored", "happy", "sad"], ("happy", "sad", "angry"))
    ('happy', 'sad')
    """
    of_dataset = label_set(labels)
    emotions = shared_emotions(of_dataset, known)
    if len(emotions) < LEAST_SHARED:
        raise DataError(
            f"{dataset} has the emotions {', '.join(of_dataset)}, and the model knows {', '.join(known)}; expected at "
            f"least {LEAST_SHARED} that both have: test on another dataset"
        )
    return emotions


def _scores_of_dataset(
    models: Mapping[Mode, Classifier | Ensemble],
    training: Statistics,
    name: str,
    clips: pd.DataFrame,
    values: np.ndarray,
) -> dict[str, Any]:
    known = models["plain"].label_set
    emotions = tested_emotions(name, clips["emotion"], known)
    is_tested = clips["emotion"].isin(emotions).to_numpy()
    labels, speakers = clips["emotion"].to_numpy()[is_tested], clips["speaker"].to_numpy()
    features: dict[Mode, np.ndarray] = {"plain": values, "batch": normalize_by_batch(values, training)}
    if "" not in speakers:
        features["speaker"] = normalize_by_speaker(values, speakers)
    figures: dict[str, Any] = {"emotions": list(emotions)}
    for mode, rows in features.items():
        probabilities = restrict(models[mode].predict_proba(rows[is_tested]), known, emotions)
        scores = compute_scores(labels, probabilities, emotions)
        figures[mode] = {"n": scores["n"]} | {score: scores[score] for score in SCORES}
        figures[mode]["confidence"] = scores["confidence"]["mean"]
    return figures
