"""Champion and challenger: scored on the same clips, neither on a speaker it was fitted on, then judged by rules."""

from __future__ import annotations

import numpy as np
import pandas as pd

from emotion import features
from emotion.errors import BundleError
from emotion.evaluation import scores
from emotion.models import registry
from emotion.models.classifier import Ensemble
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, FAMILIES


def rescore(store: Store, champion: dict, table: pd.DataFrame, values: np.ndarray) -> tuple[np.ndarray, dict]:
    """Score the champion on clips as if it had never heard their speakers.

    A clip (or speaker) the champion was trained on goes to its fold model that held that speaker out; any other
    to the champion itself.

    Parameters
    ----------
    store : Store
    champion : dict
        Its pointer.
    table : pandas.DataFrame
        speaker, samples_sha256.
    values : float32 array, shape (n_clips, n_features)

    Returns
    -------
    probabilities : array, shape (n_clips, 8)
    counts : dict
        ``clips``, ``held_out_clips`` (by fold models), ``unheard_clips`` (by the champion itself).

    Raises
    ------
    BundleError
        If this code cannot load the champion.
    """
    entry = registry.entry(store, champion["version"])
    families = FAMILIES if champion["family"] == Ensemble.family else (champion["family"],)
    folds = {
        family: registry.load(store, entry, registry.fold_models_name(family), recipe=features.recipe_version())
        for family in families
    }
    whole = registry.load(store, entry, registry.bundle_name(champion["family"]), recipe=features.recipe_version())[
        "plain"
    ]

    fold_of_clip, fold_of_speaker = {}, {}
    for number, fold in enumerate(folds[families[0]]):
        fold_of_clip.update(dict.fromkeys(fold["clips"], number))
        fold_of_speaker.update(dict.fromkeys(fold["speakers"], number))
    # The same recordings may have come under other speaker names: one known clip says more than a name.
    by_clip = table["samples_sha256"].map(fold_of_clip)
    by_speaker = table["speaker"].map(fold_of_speaker)
    given_away = by_clip.groupby(table["speaker"]).transform("first")
    fold_of_row = by_clip.fillna(given_away).fillna(by_speaker).fillna(-1).astype(int).to_numpy()

    probabilities = np.empty((len(table), len(EMOTIONS)))
    for number in np.unique(fold_of_row):
        rows = fold_of_row == number
        members = [folds[family][number]["model"] for family in families]
        model = whole if number < 0 else Ensemble(members) if len(members) > 1 else members[0]
        probabilities[rows] = model.predict_proba(values[rows])
    unheard = int((fold_of_row < 0).sum())
    return probabilities, {"clips": len(table), "held_out_clips": len(table) - unheard, "unheard_clips": unheard}


def challenge(
    store: Store,
    *,
    challenger: dict,
    challenger_probabilities: np.ndarray,
    table: pd.DataFrame,
    values: np.ndarray,
    margin: float,
    max_emotion_drop: float,
) -> dict:
    """Hold a challenger against the champion and say what the rules make of it.

    Parameters
    ----------
    store : Store
    challenger : dict
        The registry entry of its version, and ``family``.
    challenger_probabilities : array, shape (n_clips, 8)
        Its held-out predictions by the speaker-independent protocol, rows as in ``table``.
    table, values
        The clips both are judged on, and their features.
    margin : float
        By how much the challenger's macro F1 must exceed the champion's.
    max_emotion_drop : float
        By how much no emotion's F1 may fall.

    Returns
    -------
    dict
        ``challenger``, ``champion`` (None if there is none), ``rules``, ``per_emotion``, ``verdict``
        (``promote`` or ``keep``) and the ``reasons`` for it.
    """
    labels = table["emotion"].to_numpy()
    ours = scores.compute_scores(labels, challenger_probabilities)
    found = {
        "challenger": {"version": challenger["version"], "family": challenger["family"], "scores": ours},
        "champion": None,
        "rules": {"margin": margin, "max_emotion_drop": max_emotion_drop},
        "per_emotion": [],
    }
    pointer = registry.champion(store)
    if pointer is None:
        return found | {"verdict": "promote", "reasons": ["There is no champion yet."]}
    incumbent = registry.entry(store, pointer["version"])
    name = f"champion {pointer['version']} ({pointer['family']})"
    found["champion"] = {"version": pointer["version"], "family": pointer["family"], "scores": None}
    if challenger["dataset"]["synthesized"] and not incumbent["dataset"]["synthesized"]:
        reason = f"A model of synthesized speech never replaces one of real recordings, such as {name}."
        return found | {"verdict": "keep", "reasons": [reason]}
    try:
        probabilities, counts = rescore(store, pointer, table, values)
    except BundleError as error:
        reason = f"The {name} can neither be re-scored nor used any more: {error}"
        return found | {"verdict": "promote", "reasons": [reason]}
    theirs = scores.compute_scores(labels, probabilities)
    found["champion"] |= {"scores": theirs} | counts

    present = [emotion for emotion in EMOTIONS if ours["per_emotion"][emotion]["support"]]
    for emotion in present:
        before, after = theirs["per_emotion"][emotion]["f1"], ours["per_emotion"][emotion]["f1"]
        found["per_emotion"].append(
            {"emotion": emotion, "champion_f1": before, "challenger_f1": after, "change": after - before}
        )
    gain = ours["f1_macro"] - theirs["f1_macro"]
    reasons = [
        f"Macro F1 on speakers neither has heard: challenger {ours['f1_macro']:.3f}, {name} {theirs['f1_macro']:.3f} "
        f"({gain:+.3f}; at least {margin:+.3f} is asked for)."
    ]
    verdict = "promote" if gain >= margin else "keep"
    for row in found["per_emotion"]:
        if row["change"] < -max_emotion_drop:
            verdict = "keep"
            reasons.append(
                f"F1 of {row['emotion']} would fall from {row['champion_f1']:.3f} to {row['challenger_f1']:.3f}, by "
                f"more than the {max_emotion_drop:.3f} allowed."
            )
    return found | {"verdict": verdict, "reasons": reasons}
