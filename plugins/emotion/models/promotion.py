"""Champion and challenger: compared on the same clips, of speakers that neither was fitted on, then judged by rules.

The rules say no where there is doubt: a challenger that is not clearly better is not promoted, and where the two cannot
be compared on equal terms, a person is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import numpy as np
import pandas as pd

from emotion.errors import DataError, EmotionError
from emotion.evaluation import bootstrap, scores
from emotion.evaluation.bootstrap import FEW_SPEAKERS, Difference, Lead, PairedAnswers, by_dataset
from emotion.evaluation.selection import weighted_tests
from emotion.evaluation.shared_emotions import LEAST_SHARED, ModelAnswers, shared_emotions
from emotion.models import registry, rescoring, stress
from emotion.models.common_clips import Model, common_clips, other_data
from emotion.models.documents import known_emotions
from emotion.models.external import ExternalComparison
from emotion.models.registry import ChampionPointer, VersionEntry
from emotion.models.rescoring import ClipCounts
from emotion.models.stress import StressComparison
from emotion.store import Store
from emotion.vocabulary import REVIEWED

LEAST_CHAMPION_SHARE = 0.9
"""The two were compared on equal terms if so many of the champion's own clips are among those compared."""


class Challenger(VersionEntry):
    """The entry of the challenger's version, and its family."""

    family: str


class Contestant(TypedDict):
    """Champion or challenger, with its scores (:func:`emotion.evaluation.scores.compute_scores`).

    The champion's scores are None where it was not scored; where it was, its
    :class:`emotion.models.rescoring.ClipCounts` are there too. ``since`` is when it became the champion.
    """

    version: str
    family: str
    scores: dict | None
    since: NotRequired[str]
    clips: NotRequired[int]
    held_out_clips: NotRequired[int]
    unheard_clips: NotRequired[int]


class Rules(TypedDict):
    """What a challenger must show.

    The figure that models are judged by (:func:`emotion.evaluation.selection.figure`) must be higher by ``margin``, and
    higher with ``min_probability``. Neither the macro F1 on clean clips nor the accuracy under recording conditions may
    fall beyond chance (the 95 % interval lies below 0). No emotion's F1 on clean clips, and no dataset's macro F1, may
    fall beyond chance and by more than ``max_emotion_drop``.
    """

    margin: float
    min_probability: float
    max_emotion_drop: float


class EmotionChange(TypedDict):
    """The F1 of one emotion, of both models; challenger minus champion, with its 95 % interval [low, high]."""

    emotion: str
    champion_f1: float
    challenger_f1: float
    change: float
    interval: list[float]
    too_much: bool


class DatasetChange(Lead):
    """The lead in macro F1 on the clean clips of one dataset, and the macro F1 of both models there."""

    dataset: str
    champion_f1: float
    challenger_f1: float
    too_much: bool


class ChallengerAnswers(NamedTuple):
    """The challenger's held-out answers for ``clean`` clips, and those under ``conditions``; the ``model`` itself, for
    clips of speakers that it was not trained on."""

    clean: ModelAnswers
    conditions: pd.DataFrame | None
    model: Model


class Challenge(TypedDict):
    """The content of ``challenge.json``; ``reasons`` are sentences.

    ``verdict`` is ``promote``, ``keep`` or ``ask``. ``ask``: the rules cannot decide; a person has to, whatever the
    policy. ``champion`` is None where there is none; ``difference`` (of clean clips) is None and ``per_emotion`` empty
    where the champion was not scored. ``per_dataset`` is empty where the clips are of one dataset. ``overall`` is the
    lead that decides. ``stress`` is None where the two were compared on clean clips alone.

    Examples
    --------
    >>> from emotion.vocabulary import EMOTIONS
    >>> table = pd.DataFrame({"emotion": EMOTIONS, "speaker": "anna", "samples_sha256": EMOTIONS})
    >>> result = challenge(
    ...     Store("memory://doctest-challenge"),
    ...     challenger={"version": "one", "family": "random_forest"},  # a real one has the whole entry
    ...     challenger_probabilities=np.eye(8),
    ...     challenger_conditions=None,
    ...     challenger_model=lambda values: np.full((len(values), 8), 1 / 8),
    ...     table=table,
    ...     values=np.zeros((8, 3), dtype=np.float32),
    ...     rules={"margin": 0.0, "min_probability": 0.9, "max_emotion_drop": 0.0},
    ...     seed=0,
    ... )
    >>> result["verdict"], result["reasons"], result["challenger"]["scores"]["f1_macro"]
    ('promote', ['There is no champion yet.'], 1.0)
    """

    challenger: Contestant
    champion: Contestant | None
    rules: Rules
    difference: Difference | None
    per_emotion: list[EmotionChange]
    per_dataset: list[DatasetChange]
    overall: Lead | None
    stress: StressComparison | None
    external: NotRequired[ExternalComparison]
    verdict: str
    reasons: list[str]


def challenge(
    store: Store,
    *,
    challenger: Challenger,
    challenger_probabilities: np.ndarray,
    challenger_conditions: pd.DataFrame | None,
    challenger_model: Model,
    table: pd.DataFrame,
    values: np.ndarray,
    rules: Rules,
    seed: int,
) -> Challenge:
    """Compare a challenger with the champion, and decide by the rules.

    Parameters
    ----------
    store : Store
    challenger : Challenger
    challenger_probabilities : float array, shape (n_clips, n_emotions)
        Its held-out predictions of the speaker-independent protocol, rows as in ``table``, columns as its entry names
        the emotions (:func:`emotion.models.documents.known_emotions`).
    challenger_conditions : pandas.DataFrame or None
        Its held-out predictions under recording conditions, from :func:`emotion.models.stress.answers_by_clip`; None
        where the run tested no clip so.
    challenger_model : callable
        The challenger itself, for clips that the champion alone was trained on.
    table : pandas.DataFrame
        The clips that it is scored on: emotion, speaker, samples_sha256 and, if there are several, dataset.
    values : float32 array, shape (n_clips, n_features)
        Their features, for a champion that has no stored predictions for them.
    rules : Rules
    seed : int
        For drawing speakers.
    """
    emotions = known_emotions(challenger)
    figures = scores.compute_scores(table["emotion"].to_numpy(), challenger_probabilities, emotions)
    result = _without_champion(challenger, figures, rules)
    try:
        pointer = registry.champion(store)
    except DataError as error:
        _keep_unreadable_champion(result, error)
        return result
    if pointer is not None:
        clean = ModelAnswers(challenger_probabilities, emotions)
        answers = ChallengerAnswers(clean, challenger_conditions, challenger_model)
        _challenge_champion(result, store, pointer, challenger, answers, table, values, seed=seed)
    return result


def _without_champion(challenger: Challenger, figures: dict, rules: Rules) -> Challenge:
    """The result where there is no champion; ``figures``: the challenger's scores."""
    return {
        "challenger": {"version": challenger["version"], "family": challenger["family"], "scores": figures},
        "champion": None,
        "rules": rules,
        "difference": None,
        "per_emotion": [],
        "per_dataset": [],
        "overall": None,
        "stress": None,
        "verdict": "promote",
        "reasons": ["There is no champion yet."],
    }


def _keep_unreadable_champion(result: Challenge, error: DataError) -> None:
    """Fill in the result where ``champion.json`` is damaged: the run is complete, and nothing takes the place of a
    champion that may come back."""
    result["champion"] = {"version": "unreadable", "family": "unknown", "scores": None, "since": ""}
    result["verdict"] = "keep"
    result["reasons"] = [
        f"The champion cannot be read, so nothing is promoted: {error}.",
        f"The models of this run are registered as version {result['challenger']['version']}. Once the file is "
        "restored or deleted, clear the task register_challenger to compare them.",
    ]


def _challenge_champion(
    result: Challenge,
    store: Store,
    pointer: ChampionPointer,
    challenger: Challenger,
    challenger_answers: ChallengerAnswers,
    table: pd.DataFrame,
    values: np.ndarray,
    *,
    seed: int,
) -> None:
    """Fill in the result where there is a champion."""
    version, family = pointer["version"], pointer["family"]
    result["champion"] = {"version": version, "family": family, "scores": None, "since": pointer["since"]}
    name = f"champion {version} ({family})"
    entry = _entry(store, pointer)
    dataset = entry.get("dataset")
    if _is_champion(challenger, pointer, entry):
        result["verdict"], result["reasons"] = "keep", ["This model is the champion already."]
        return
    if challenger["dataset"]["synthesized"] and not (dataset and dataset["synthesized"]):
        result["verdict"] = "keep"
        result["reasons"] = [f"A model of synthesized speech never replaces one of real recordings, such as {name}."]
        return
    emotions = known_emotions(entry)
    shared = shared_emotions(emotions, challenger_answers.clean.emotions)
    common, causes = None, [_too_few_shared(shared)]
    if not entry or len(shared) >= LEAST_SHARED:
        common, causes = common_clips(
            store, pointer, emotions, challenger_answers.clean, challenger_answers.model, table, values
        )
    if common is None:
        result["verdict"] = "ask"
        result["reasons"] = [
            f"The {name} cannot be compared with the challenger, so it stays unless a person decides otherwise.",
            *(f"Cause: {cause}." for cause in causes),
        ]
        return
    clean = common.pairs
    result["stress"], cause = stress.compare(store, pointer, challenger_answers.conditions, clean, seed=seed)
    _judge(result, name, clean, common.counts, seed=seed)
    result["reasons"] += [f"Clips are missing from the comparison: {cause}." for cause in common.causes]
    if emotions != challenger_answers.clean.emotions:
        result["reasons"].append(
            f"The two do not know the same emotions. They were compared on the {len(shared)} emotions that both know: "
            f"{', '.join(shared)}. Clips of other emotions did not count."
        )
    if cause:
        result["reasons"].append(f"The two were compared on clean clips alone: {cause}.")
    is_covered = common.champion_share is not None and common.champion_share >= LEAST_CHAMPION_SHARE
    if result["verdict"] == "promote" and not is_covered and (doubt := other_data(challenger["dataset"], dataset)):
        result["verdict"] = "ask"
        result["reasons"].append(doubt)
    if cause := rescoring.why_not_loadable(store, pointer):
        result["reasons"].append(f"This code cannot load the {name}, so it does not score new audio: {cause}.")


def _entry(store: Store, pointer: ChampionPointer) -> Mapping[str, Any]:
    """The entry of the champion's version; {} where it cannot be read."""
    try:
        return registry.entry(store, pointer["version"])
    except EmotionError:
        return {}


def _is_champion(challenger: Challenger, pointer: ChampionPointer, entry: Mapping[str, Any]) -> bool:
    """Whether the challenger is the champion, and not one of the same name, made after the champion was deleted."""
    bundle = entry.get("files", {}).get(registry.bundle_name(pointer["family"]), {})
    is_named_so = (challenger["version"], challenger["family"]) == (pointer["version"], pointer["family"])
    return is_named_so and bundle.get("sha256") == pointer["sha256"]


def _too_few_shared(shared: tuple[str, ...]) -> str:
    known = f"{len(shared)} emotion(s) ({', '.join(shared)})" if shared else "no emotion"
    return f"the two models share {known}; at least {LEAST_SHARED} are needed to compare them"


def _judge(result: Challenge, name: str, clean: PairedAnswers, counts: ClipCounts, *, seed: int) -> None:
    """Fill in scores, difference, verdict and reasons, from the clips that both have answers for."""
    assert result["champion"] is not None
    emotions = clean.emotions
    champion_scores = scores.compute_scores(clean.labels, clean.first, emotions)
    challenger_scores = scores.compute_scores(clean.labels, clean.second, emotions)
    difference = bootstrap.difference(
        clean.labels, clean.speakers, clean.first, clean.second, emotions=emotions, seed=seed
    )
    result["champion"] |= {"scores": champion_scores, **counts}
    result["challenger"]["scores"] = challenger_scores
    result["difference"] = difference
    result["per_dataset"] = _dataset_changes(clean, result["rules"], seed)
    if result["stress"]:
        result["overall"] = result["stress"]["overall"]
    elif result["per_dataset"]:
        result["overall"] = bootstrap.mean_lead(weighted_tests(clean, []), seed=seed)
    else:
        result["overall"] = cast(Lead, {key: value for key, value in difference.items() if key != "per_emotion"})
    result["per_emotion"] = [
        {
            "emotion": emotion,
            "champion_f1": champion_scores["per_emotion"][emotion]["f1"],
            "challenger_f1": challenger_scores["per_emotion"][emotion]["f1"],
            "change": change["difference"],
            "interval": change["interval"],
            "too_much": change["interval"][1] < 0 and change["difference"] < -result["rules"]["max_emotion_drop"],
        }
        for emotion, change in difference["per_emotion"].items()
    ]
    figures = f"challenger {challenger_scores['f1_macro']:.3f}, {name} {champion_scores['f1_macro']:.3f}"
    result["verdict"], result["reasons"] = _apply_rules(figures, result)


def _dataset_changes(clean: PairedAnswers, rules: Rules, seed: int) -> list[DatasetChange]:
    """The change on each dataset; none where the clips are of one."""
    parts = by_dataset(clean)
    if clean.datasets is None or len(parts) == 1:
        return []
    changes: list[DatasetChange] = []
    for name, part in zip(dict.fromkeys(map(str, clean.datasets)), parts, strict=True):
        champion, challenger = bootstrap.macro_f1(part)
        lead = bootstrap.mean_lead([(1.0, part)], seed=seed)
        too_much = lead["interval"][1] < 0 and lead["difference"] < -rules["max_emotion_drop"]
        change = {"dataset": name, "champion_f1": champion, "challenger_f1": challenger, "too_much": too_much}
        changes.append(cast(DatasetChange, {**lead, **change}))
    return changes


def _apply_rules(figures: str, result: Challenge) -> tuple[str, list[str]]:
    """Verdict and reasons; ``figures``: both models' macro F1 on clean clips in words."""
    clean, rules, outside, lead = result["difference"], result["rules"], result["stress"], result["overall"]
    assert clean is not None and lead is not None
    reasons = [
        f"Macro F1 on {clean['clips']:,} clips of {clean['speakers']} speakers that neither has heard: {figures}; "
        f"{_in_words(clean)}."
    ]
    reasons += [
        f"On {row['dataset']}, {row['clips']:,} clips: challenger {row['challenger_f1']:.3f}, champion "
        f"{row['champion_f1']:.3f}; {_in_words(row)}."
        for row in result["per_dataset"]
    ]
    if outside:
        reasons.append(
            f"Accuracy under {len(outside['conditions'])} recording conditions, on {outside['outside']['clips']:,} of "
            f"such clips: challenger {outside['challenger_accuracy']:.3f}, champion "
            f"{outside['champion_accuracy']:.3f}; {_in_words(outside['outside'])}."
        )
    of_datasets = ", clean clips as the mean over datasets" if result["per_dataset"] else ""
    if outside:
        reasons.append(f"Mean of the macro F1 on clean clips and under the conditions{of_datasets}: {_in_words(lead)}.")
    elif of_datasets:
        reasons.append(f"Mean of the macro F1 over the datasets: {_in_words(lead)}.")
    reasons.append(
        f"The probability that the challenger is better is {lead['probability']:.2f}; at least "
        f"{rules['min_probability']:.2f} is required."
    )
    objections = _objections(lead, result)
    is_better = lead["probability"] >= rules["min_probability"]
    verdict = "promote" if is_better and not objections else "keep"
    if is_better and objections and _gains_on_reviewed(result) and lead["difference"] >= rules["margin"]:
        verdict = "ask"
        objections.append(
            "On the reviewed clips, which are audio of its use, the challenger is better, beyond chance. The rules "
            "cannot weigh that against these losses, so a person has to decide."
        )
    if clean["speakers"] < FEW_SPEAKERS:
        objections.append(
            f"The evidence is thin: with {clean['speakers']} speaker(s), fewer than {FEW_SPEAKERS}, interval and "
            "probability say little about other speakers."
        )
    return verdict, reasons + objections


def _gains_on_reviewed(result: Challenge) -> bool:
    """Whether the challenger is better on the clips that listeners have labelled, beyond chance."""
    return any(row["dataset"] == REVIEWED and row["interval"][0] > 0 for row in result["per_dataset"])


def _in_words(lead: Lead) -> str:
    low, high = lead["interval"]
    return f"difference {lead['difference']:+.3f}, 95% interval {low:+.3f} to {high:+.3f}"


def _objections(lead: Lead, result: Challenge) -> list[str]:
    """What speaks against a challenger that is better with enough probability, as sentences."""
    clean, rules, outside = result["difference"], result["rules"], result["stress"]
    assert clean is not None
    objections = []
    if lead["difference"] < rules["margin"]:
        objections.append(f"The lead is smaller than the margin of {rules['margin']:.3f}.")
    if outside and outside["outside"]["interval"][1] < 0:
        objections.append("The accuracy under recording conditions would fall, beyond chance.")
    if outside and clean["interval"][1] < 0:
        objections.append("The macro F1 on clean clips would fall, beyond chance.")
    for dataset in result["per_dataset"]:
        if dataset["too_much"]:
            objections.append(f"The macro F1 on {dataset['dataset']} would fall, beyond chance: {_in_words(dataset)}.")
    for row in result["per_emotion"]:
        if row["too_much"]:
            low, high = row["interval"]
            objections.append(
                f"F1 of {row['emotion']} would fall from {row['champion_f1']:.3f} to {row['challenger_f1']:.3f} (95% "
                f"interval of the change: {low:+.3f} to {high:+.3f}). This is beyond chance, and more than the "
                f"{rules['max_emotion_drop']:.3f} allowed."
            )
    return objections
