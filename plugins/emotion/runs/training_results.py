"""The documents of a training run: the comparison of the models, the facts of the version, the promotion decision."""

from __future__ import annotations

from typing import Any

import pandas as pd

from emotion import features
from emotion.errors import ConfigurationError
from emotion.evaluation.selection import PROTOCOL, SCORE, Selection
from emotion.evaluation.stress import stress_scores
from emotion.models import registry
from emotion.models.bundle import packages
from emotion.models.registry import VersionFacts
from emotion.vocabulary import SCORES, emotion_colours, protocols_of

POLICIES = ("auto", "ask", "never")
"""Who decides on a promotion: the rules, a person after the rules, or nobody (the version is only registered)."""
ANSWERS = {True: "A person approved.", False: "A person refused.", None: "Nobody answered, which means no."}


def comparison(
    *,
    run_id: str,
    seed: int,
    speaker_folds: str,
    dataset: dict,
    models: dict[str, dict],
    stress: dict | None,
    external_datasets: list[dict],
    selection: Selection,
) -> dict[str, Any]:
    """What ``comparison.json`` holds: the figures of all models, and which model is selected and why.

    Parameters
    ----------
    run_id : str
    seed : int
    speaker_folds : str
        ``published`` or ``grouped``.
    dataset : dict
        From :meth:`emotion.runs.training_artifacts.TrainingArtifacts.dataset`.
    models : dict
        The figures of each model, by its name.
    stress : dict or None
        From :meth:`emotion.runs.training_artifacts.TrainingArtifacts.stress_facts`.
    external_datasets : list of dict
        Facts of the datasets that are tested on alone.
    selection : Selection
        From :func:`emotion.evaluation.selection.select`.
    """
    return {
        "run_id": run_id,
        "created": registry.now(),
        "seed": seed,
        "speaker_folds": speaker_folds,
        "recipe": features.recipe_version(),
        "features": len(features.feature_names()),
        "packages": packages(),
        "selected": selection["selected"],
        "selection": {"protocol": PROTOCOL, "score": SCORE, **selection},
        "notice": dataset["notice"] or None,
        "emotions": list(dataset["emotions"]),
        "emotion_colours": emotion_colours(dataset["emotions"], dataset.get("emotion_colours")),
        "dataset": dataset,
        "stress": stress,
        "external": models[selection["selected"]]["external"],
        "external_datasets": external_datasets,
        "models": models,
    }


def stress(condition_predictions: pd.DataFrame | None) -> dict[str, Any] | None:
    """A model's stress table; None where no clip was tested under recording conditions."""
    return None if condition_predictions is None else stress_scores(condition_predictions)


def bundle_metadata(*, run_id: str, seed: int, dataset_facts: dict) -> dict[str, Any]:
    """What a bundle says of how it was made. It does not name its version, which is named by the bundle's content."""
    return {
        "run_id": run_id,
        "recipe": features.recipe_version(),
        "seed": seed,
        "dataset": {key: dataset_facts[key] for key in ("name", "title", "fingerprint", "licence", "synthesized")},
    }


def version_facts(result: dict[str, Any]) -> VersionFacts:
    """What the registry's entry of a version holds besides its files; ``result`` from :func:`comparison`."""
    return {
        "run_id": result["run_id"],
        "recipe": result["recipe"],
        "feature_names": list(features.feature_names()),
        "dataset": result["dataset"],
        "selected": result["selected"],
        "seed": result["seed"],
        "emotions": result["emotions"],
        "emotion_colours": result["emotion_colours"],
        "scores": {
            name: {
                protocol: {score: figures[protocol][score] for score in SCORES} for protocol in protocols_of(figures)
            }
            for name, figures in result["models"].items()
        },
        "coverage": {
            name: {protocol: figures[protocol]["coverage"] for protocol in protocols_of(figures)}
            for name, figures in result["models"].items()
        },
    }


def check_policy(policy: str) -> None:
    """Raise ConfigurationError if a promotion policy is not one of :data:`POLICIES`."""
    if policy not in POLICIES:
        raise ConfigurationError(f"promotion policy {policy!r}; expected one of {', '.join(POLICIES)}")


def asks_a_person(verdict: str, policy: str) -> bool:
    """Whether a person decides: where the policy says so, or where the rules cannot decide.

    >>> asks_a_person("promote", "auto"), asks_a_person("ask", "auto"), asks_a_person("ask", "never")
    (False, True, False)
    """
    return policy != "never" and (verdict == "ask" or (verdict == "promote" and policy == "ask"))


def promotion_decision(challenge: dict, *, policy: str, approved: bool | None) -> dict[str, Any]:
    """The decision on a challenger, for :func:`emotion.models.decisions.decide`.

    Parameters
    ----------
    challenge : dict
        From :func:`emotion.models.promotion.challenge`.
    policy : str
        One of :data:`POLICIES`.
    approved : bool or None
        What a person answered, where one was asked (:func:`asks_a_person`); None if nobody answered.

    Examples
    --------
    >>> challenge = {"verdict": "promote", "reasons": [], "challenger": {"version": "v1", "family": "ensemble"}}
    >>> decision = promotion_decision(challenge, policy="ask", approved=None)
    >>> decision["decision"], decision["by"], decision["reasons"]
    ('kept', 'nobody', ['Nobody answered, which means no.'])
    """
    reasons = list(challenge["reasons"])
    if challenge["verdict"] == "keep":
        promoted, by = False, "the rules"
    elif policy == "never":
        promoted, by = False, "policy"
        reasons.append("The promotion policy is never: the version is registered, the champion stays.")
    elif asks_a_person(challenge["verdict"], policy):
        promoted, by = bool(approved), "a person" if approved is not None else "nobody"
        reasons.append(ANSWERS[approved])
    else:
        promoted, by = True, "the rules"
    return {
        "decision": "promoted" if promoted else "kept",
        "version": challenge["challenger"]["version"],
        "family": challenge["challenger"]["family"],
        "policy": policy,
        "by": by,
        "reasons": reasons,
    }
