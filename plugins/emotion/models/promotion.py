"""Champion and challenger: scored on the same clips, neither on a speaker it was fitted on, then compared by rules."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd

from emotion import features
from emotion.errors import BundleError
from emotion.evaluation import scores
from emotion.models import registry
from emotion.models.bundle import Bundle, FoldModel
from emotion.models.classifier import Classifier, Ensemble
from emotion.models.registry import ChampionPointer, VersionEntry
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, FAMILIES

UNHEARD = -1
"""In place of a fold's number: the champion was fitted on no clip of this speaker."""


class Challenger(VersionEntry):
    """The entry of the challenger's version, and its family."""

    family: str


class ClipCounts(TypedDict):
    """How many clips the champion was scored on: in all, by its fold models, and by the champion itself."""

    clips: int
    held_out_clips: int
    unheard_clips: int


class Contestant(TypedDict):
    """Champion or challenger, with its scores (:func:`emotion.evaluation.scores.compute_scores`).

    The champion's scores are None where it was not scored; where it was, its :class:`ClipCounts` are there too.
    """

    version: str
    family: str
    scores: dict | None
    clips: NotRequired[int]
    held_out_clips: NotRequired[int]
    unheard_clips: NotRequired[int]


class Rules(TypedDict):
    """By how much the challenger must lead, and how far the F1 of an emotion may fall."""

    margin: float
    max_emotion_drop: float


class EmotionChange(TypedDict):
    """The F1 of one emotion, of both models, and challenger minus champion."""

    emotion: str
    champion_f1: float
    challenger_f1: float
    change: float


class Challenge(TypedDict):
    """The content of ``challenge.json``; ``verdict`` is ``promote`` or ``keep``, ``reasons`` are sentences.

    ``champion`` is None where there is none; ``per_emotion`` is empty where the champion was not scored.

    Examples
    --------
    >>> table = pd.DataFrame({"emotion": EMOTIONS, "speaker": "anna", "samples_sha256": EMOTIONS})
    >>> result = challenge(
    ...     Store("memory://doctest-challenge"),
    ...     challenger={"version": "one", "family": "random_forest"},  # a real one has the whole entry
    ...     challenger_probabilities=np.eye(8),
    ...     table=table,
    ...     values=np.zeros((8, 3), dtype=np.float32),
    ...     margin=0.01,
    ...     max_emotion_drop=0.1,
    ... )
    >>> result["verdict"], result["reasons"], result["challenger"]["scores"]["f1_macro"]
    ('promote', ['There is no champion yet.'], 1.0)
    """

    challenger: Contestant
    champion: Contestant | None
    rules: Rules
    per_emotion: list[EmotionChange]
    verdict: str
    reasons: list[str]


def rescore(
    store: Store, champion: ChampionPointer, table: pd.DataFrame, values: np.ndarray
) -> tuple[np.ndarray, ClipCounts]:
    """Score the champion on clips as if it had never heard their speakers.

    A clip of a speaker that the champion was trained on is scored by the fold model that held this speaker out; any
    other clip is scored by the champion itself.

    Parameters
    ----------
    store : Store
    champion : ChampionPointer
    table : pandas.DataFrame
        One row per clip: speaker, samples_sha256.
    values : float32 array, shape (n_clips, n_features)

    Returns
    -------
    probabilities : float array, shape (n_clips, 8)
    counts : ClipCounts

    Raises
    ------
    BundleError
        If this code cannot load the champion.
    """
    entry, recipe = registry.entry(store, champion["version"]), features.recipe_version()
    families = FAMILIES if champion["family"] == Ensemble.family else (champion["family"],)
    fold_models: dict[str, list[FoldModel]] = {
        family: registry.load(store, entry, registry.fold_models_name(family), recipe=recipe) for family in families
    }
    bundle: Bundle = registry.load(store, entry, registry.bundle_name(champion["family"]), recipe=recipe)

    fold_of_row = _folds_that_held_out(fold_models[families[0]], table)
    probabilities = np.empty((len(table), len(EMOTIONS)))
    for fold in np.unique(fold_of_row):
        rows = fold_of_row == fold
        model: Classifier | Ensemble
        if fold == UNHEARD:
            model = bundle["plain"]
        elif len(families) == 1:
            model = fold_models[families[0]][fold]["model"]
        else:
            model = Ensemble([fold_models[family][fold]["model"] for family in families])
        probabilities[rows] = model.predict_proba(values[rows])
    unheard = int((fold_of_row == UNHEARD).sum())
    return probabilities, {"clips": len(table), "held_out_clips": len(table) - unheard, "unheard_clips": unheard}


def _folds_that_held_out(fold_models: list[FoldModel], table: pd.DataFrame) -> np.ndarray:
    """The fold that held out each row's speaker, or UNHEARD, shape (n_clips,) int.

    The same recordings may come under other speaker names than those of the champion's training. So a clip that the
    champion knows decides first; then another clip of the same speaker that it knows; and the speaker's name last.
    """
    fold_of_clip, fold_of_speaker = {}, {}
    for number, fold in enumerate(fold_models):
        fold_of_clip.update(dict.fromkeys(fold["clips"], number))
        fold_of_speaker.update(dict.fromkeys(fold["speakers"], number))
    by_clip = table["samples_sha256"].map(fold_of_clip)
    by_other_clip = by_clip.groupby(table["speaker"]).transform("first")
    by_name = table["speaker"].map(fold_of_speaker)
    return by_clip.fillna(by_other_clip).fillna(by_name).fillna(UNHEARD).astype(int).to_numpy()


def challenge(
    store: Store,
    *,
    challenger: Challenger,
    challenger_probabilities: np.ndarray,
    table: pd.DataFrame,
    values: np.ndarray,
    margin: float,
    max_emotion_drop: float,
) -> Challenge:
    """Compare a challenger with the champion, and decide by the rules.

    Parameters
    ----------
    store : Store
    challenger : Challenger
    challenger_probabilities : float array, shape (n_clips, 8)
        Its held-out predictions of the speaker-independent protocol, rows as in ``table``.
    table : pandas.DataFrame
        The clips that both are scored on: emotion, speaker, samples_sha256.
    values : float32 array, shape (n_clips, n_features)
        Their features.
    margin : float
        The challenger's macro F1 must exceed the champion's by at least this.
    max_emotion_drop : float
        No emotion's F1 may fall by more than this.
    """
    labels = table["emotion"].to_numpy()
    challenger_scores = scores.compute_scores(labels, challenger_probabilities)
    result = _without_champion(challenger, challenger_scores, {"margin": margin, "max_emotion_drop": max_emotion_drop})
    pointer = registry.champion(store)
    if pointer is None:
        return result
    synthesized = challenger["dataset"]["synthesized"]
    return _compare(store, pointer, result, challenger_scores, table, values, synthesized=synthesized)


def _without_champion(challenger: Challenger, challenger_scores: dict, rules: Rules) -> Challenge:
    return {
        "challenger": {"version": challenger["version"], "family": challenger["family"], "scores": challenger_scores},
        "champion": None,
        "rules": rules,
        "per_emotion": [],
        "verdict": "promote",
        "reasons": ["There is no champion yet."],
    }


def _compare(
    store: Store,
    pointer: ChampionPointer,
    result: Challenge,
    challenger_scores: dict,
    table: pd.DataFrame,
    values: np.ndarray,
    *,
    synthesized: bool,
) -> Challenge:
    """The result where there is a champion; ``synthesized``: whether the challenger is of synthesized speech."""
    champion: Contestant = {"version": pointer["version"], "family": pointer["family"], "scores": None}
    result["champion"] = champion
    name = f"champion {pointer['version']} ({pointer['family']})"
    if synthesized and not registry.entry(store, pointer["version"])["dataset"]["synthesized"]:
        result["verdict"] = "keep"
        result["reasons"] = [f"A model of synthesized speech never replaces one of real recordings, such as {name}."]
        return result
    try:
        probabilities, counts = rescore(store, pointer, table, values)
    except BundleError as error:
        result["reasons"] = [
            f"This code cannot load the {name}, so it can neither be compared with the challenger nor score new audio. "
            f"The challenger replaces it without a comparison. Cause: {error}."
        ]
        return result
    champion_scores = scores.compute_scores(table["emotion"].to_numpy(), probabilities)
    result["champion"] = {**champion, "scores": champion_scores, **counts}
    result["per_emotion"] = _changes(champion_scores, challenger_scores)
    result["verdict"], result["reasons"] = _apply_rules(
        name, champion_scores["f1_macro"], challenger_scores["f1_macro"], result["per_emotion"], result["rules"]
    )
    return result


def _changes(champion_scores: dict, challenger_scores: dict) -> list[EmotionChange]:
    """The change of each emotion that occurs in the clips."""
    changes: list[EmotionChange] = []
    for emotion in EMOTIONS:
        if challenger_scores["per_emotion"][emotion]["support"]:
            before = champion_scores["per_emotion"][emotion]["f1"]
            after = challenger_scores["per_emotion"][emotion]["f1"]
            changes.append(
                {"emotion": emotion, "champion_f1": before, "challenger_f1": after, "change": after - before}
            )
    return changes


def _apply_rules(
    name: str, champion_f1: float, challenger_f1: float, changes: list[EmotionChange], rules: Rules
) -> tuple[str, list[str]]:
    """Verdict and reasons."""
    gain = challenger_f1 - champion_f1
    verdict = "promote" if gain >= rules["margin"] else "keep"
    reasons = [
        f"Macro F1 on speakers that neither has heard: challenger {challenger_f1:.3f}, {name} {champion_f1:.3f} "
        f"({gain:+.3f}; at least {rules['margin']:+.3f} is required)."
    ]
    for row in changes:
        if row["change"] < -rules["max_emotion_drop"]:
            verdict = "keep"
            reasons.append(
                f"F1 of {row['emotion']} would fall from {row['champion_f1']:.3f} to {row['challenger_f1']:.3f}, by "
                f"more than the {rules['max_emotion_drop']:.3f} allowed."
            )
    return verdict, reasons
