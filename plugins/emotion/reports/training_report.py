"""The report of a training run as one HTML page, and its comparison as a table and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from emotion.audio.conditions import CLEAN
from emotion.explanation.grouping import emotion_shares
from emotion.features.groups import describe_group
from emotion.models.documents import colours, known_emotions
from emotion.reports import dataset_figures
from emotion.reports.page import environment, format_figure
from emotion.reports.players import with_address
from emotion.reports.terms import select_terms
from emotion.vocabulary import DATASET_MODES, DATASET_PROTOCOLS, MODES, PROTOCOLS, SCORES, protocols_of

TITLES = {
    "random": "Random split",
    "random_adapted": "Random split, by speaker",
    "speaker_independent": "Unheard speakers",
    "speaker_independent_batch": "Unheard speakers, by batch",
    "speaker_independent_adapted": "Unheard speakers, by speaker",
    "unheard_dataset": "Unheard datasets",
    "unheard_dataset_batch": "Unheard datasets, by batch",
    "unheard_dataset_adapted": "Unheard datasets, by speaker",
}
"""Protocol → what the report calls it."""
SCORE_TITLES = {
    "accuracy": "Accuracy",
    "precision_macro": "Precision",
    "recall_macro": "Recall",
    "f1_macro": "Macro F1",
    "uar": "UAR",
    "log_loss": "Log loss",
    "ece": "Calibration error",
}
"""Score → what the report calls it."""
TIMES = ("fit_seconds", "predict_ms_single", "predict_ms_batch", "training_seconds")
PLOT_TITLES = {
    "bar": "Most important features, and for which emotion",
    "heatmap": "Which feature matters for which emotion",
    "beeswarm": "How a feature's value raises or lowers the output for each emotion",
}
"""Plot of :data:`emotion.explanation.plots.PLOTS` → its title."""
EXPECTATIONS = {
    "telephone": "A phone call",
    "pink_20db": "A quiet office (noise 20 dB below the speech)",
    "babble_15db": "Other people talking in the background",
    "room_800ms": "A large room with echo",
    "gain_minus_20db": "A microphone that is turned down by 20 dB",
}
"""Conditions that the report describes in words → what it calls them."""
MISJUDGED = 0.1
"""From this difference between mean confidence and accuracy on, the report says that confidence misleads."""
GROUP_COLOURS = ("#2f7ed8", "#e07b39", "#3a9d5d", "#a35cc0", "#c9485b", "#8a8f98")
TOP_FEATURES = 12
LISTEN = 12
"""How many of the clips whose labels may be wrong can be played in the report."""
TERMS = (
    "accuracy",
    "by_batch",
    "by_speaker",
    "calibration_error",
    "challenger",
    "champion",
    "confidence",
    "coverage",
    "external_dataset",
    "feature_group",
    "fold",
    "interval",
    "log_loss",
    "macro_f1",
    "paired_bootstrap",
    "plain",
    "precision",
    "random_split",
    "recipe",
    "recording_condition",
    "shap",
    "uar",
    "uar_by_dataset",
    "unheard_datasets",
    "unheard_speakers",
)
"""Keys of :data:`emotion.reports.terms.TERMS` that the page explains."""
LEGEND = """\
* selected: the highest macro F1 on unheard speakers, that is, speakers the model was not trained on. Where
  clips were tested under recording conditions, it is the mean of clean clips and of the conditions.
Random split: the same speakers are in training and test, so these figures are optimistic for a new speaker.
By batch: features z-scored with mean and standard deviation of all clips of the test side; needs no labels.
By speaker: features z-scored with mean and standard deviation of the same speaker's clips; needs no labels."""
DATASETS_LEGEND = """
Unheard datasets: each dataset is held out in turn, and tested on the emotions that the others have too. Half of
  the figure that selects is measured so, as the mean over datasets; unheard speakers have the other half."""


def render(
    *,
    comparison: dict,
    challenge: Mapping | None,
    decision: dict | None,
    shap: dict[str, dict],
    suspicious: Iterable[dict] = (),
) -> str:
    """The report as one self-contained HTML page: no script, no request to anywhere.

    Parameters
    ----------
    comparison : dict
        The contents of ``comparison.json``. Models, protocols and figures that it lacks show as ``–``.
    challenge : mapping or None
        From :func:`emotion.models.promotion.challenge`; None before a challenger was registered.
    decision : dict or None
        The promotion decision; None before it was made.
    shap : dict
        From :func:`emotion.explanation.export.read_export`.
    suspicious : iterable of dict
        The clips whose labels may be wrong, as :func:`emotion.runs.listening.suspicious_clips` gives them.
    """
    selected, models = comparison["selected"], comparison["models"]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            comparison=comparison,
            models=models,
            dataset=comparison["dataset"],
            selected=selected,
            challenge=challenge,
            decision=decision,
            explanations=[
                _explanation(family, shap[family]) for family in sorted(shap, key=lambda family: family != selected)
            ],
            group_colours=GROUP_COLOURS,
            scores=SCORE_TITLES,
            stress_conditions={CLEAN: "Clean: the clip as it is"}
            | (comparison.get("stress") or {}).get("conditions", {}),
            stress_models={name: figures for name, figures in models.items() if figures.get("stress")},
            expectations=_expectations(models[selected].get("stress") or {}),
            suspicious=[with_address(clip) for clip in suspicious],
            terms=select_terms(*TERMS),
            **_protocols_and_emotions(comparison),
            **_by_dataset(comparison, challenge),
        )
    )


def _protocols_and_emotions(comparison: dict) -> dict[str, Any]:
    """The protocols and emotions of the tables, and what depends on them."""
    models = comparison["models"]
    per_emotion = models[comparison["selected"]].get("speaker_independent", {}).get("per_emotion", {})
    emotions = known_emotions(comparison)
    present = [emotion for emotion in emotions if not per_emotion or per_emotion[emotion]["support"]]
    protocols = {protocol: TITLES[protocol] for protocol in _shown_protocols(models)}
    return {
        "protocols": protocols,
        "held_out_datasets": [protocol for protocol in protocols if protocol in DATASET_PROTOCOLS],
        "best_scores": _best_scores(models, protocols),
        "emotions": emotions,
        "emotion_colours": colours(comparison),
        "present": present,
        "chance": 1 / len(present),
    }


def _by_dataset(comparison: dict, challenge: Mapping | None) -> dict[str, Any]:
    """What the template shows dataset by dataset."""
    compared = (challenge or {}).get("external") or {}
    return {
        "datasets": dataset_figures.datasets_of(comparison["dataset"]),
        "external_datasets": comparison.get("external_datasets") or [],
        "consequence": comparison["dataset"]["licence"].get("consequence"),
        "dataset_scores": dataset_figures.SCORES,
        "dataset_tests": dataset_figures.tests_by_dataset(comparison["models"], TITLES),
        "matrices": dataset_figures.matrices(comparison, compared.get("champion", {})),
        "external_rows": dataset_figures.external_rows(comparison, challenge),
        "external_missing": compared.get("missing", []),
    }


def _shown_protocols(models: Mapping[str, Mapping]) -> list[str]:
    """The protocols of a table: those of every run, and those that only runs on several datasets have."""
    return [
        *PROTOCOLS,
        *(protocol for protocol in DATASET_PROTOCOLS if any(protocol in figures for figures in models.values())),
    ]


def _expectations(stress: dict) -> list[str]:
    """What to expect of a model under some recording conditions, as sentences; ``stress``: its stress table."""
    return [
        _expectation(name, {mode: stress[mode][condition] for mode in MODES}, stress["plain"][CLEAN]["accuracy"])
        for condition, name in EXPECTATIONS.items()
        if stress
    ]


def _expectation(name: str, by_mode: dict[str, dict], clean: float) -> str:
    """One condition in words.

    >>> figures = {"accuracy": 0.31, "confidence": 0.5, "changed": 0.64}
    >>> print(_expectation("A phone call", dict.fromkeys(MODES, figures), 0.66))  # doctest: +ELLIPSIS
    A phone call: 31 of 100 answers are right, where 66 are for clean clips; 64% of the answers change. The mean ...
    """
    plain, batch, speaker = (by_mode[mode] for mode in MODES)
    excess = plain["confidence"] - plain["accuracy"]
    judgement = "this is close to the accuracy"
    if abs(excess) > MISJUDGED:
        judgement = "the model is too sure of itself" if excess > 0 else "the model is right more often than it says"
    return (
        f"{name}: {_of_100(plain['accuracy'])} of 100 answers are right, where {_of_100(clean)} are for clean clips; "
        f"{plain['changed']:.0%} of the answers change. The mean confidence is {plain['confidence']:.2f}: {judgement}. "
        f"With a folder of such recordings (by batch) {_of_100(batch['accuracy'])} are right, with several of the same "
        f"speaker (by speaker) {_of_100(speaker['accuracy'])}."
    )


def _of_100(share: float) -> int:
    return round(100 * share)


def _explanation(family: str, exported: dict) -> dict:
    """What the page shows of one family's SHAP values: groups of features (none in runs of earlier releases), its most
    important features, and its plots with titles."""
    return {
        "family": family,
        **_groups(exported.get("groups")),
        "top": exported["importance"].head(TOP_FEATURES).to_dict("records"),
        "plots": [{"title": PLOT_TITLES[name], "png": png} for name, png in exported["plots"].items()],
    }


def _groups(importance: pd.DataFrame | None) -> dict[str, Any]:
    """The groups with their shares, in all and by emotion, and the subgroups by share; from
    :func:`emotion.explanation.grouping.group_importance`."""
    if importance is None:
        return {"groups": [], "subgroups": [], "emotions": []}
    by_emotion = emotion_shares(importance)
    is_whole = importance["subgroup"] == ""
    groups = [
        {
            "name": row["group"],
            "description": describe_group(row["group"]).partition(": ")[2],
            "features": row["features"],
            "share": row["share"],
            "emotions": by_emotion.loc[row["group"]].to_dict(),
        }
        for row in importance[is_whole].to_dict("records")
    ]
    subgroups = importance[~is_whole].sort_values("share", ascending=False, kind="stable").to_dict("records")
    return {"groups": groups, "subgroups": subgroups, "emotions": list(by_emotion.columns)}


def _best_scores(models: dict[str, dict], protocols: Iterable[str]) -> dict[str, dict[str, float]]:
    """The highest accuracy and macro F1 of any model, by protocol."""
    return {
        protocol: {
            score: max(scores.get(protocol, {}).get(score, 0.0) for scores in models.values())
            for score in ("accuracy", "f1_macro")
        }
        for protocol in protocols
    }


def comparison_rows(comparison: dict) -> pd.DataFrame:
    """A row per model, protocol and dataset, for ``comparison.csv``.

    ``model``, ``protocol`` (those of :func:`emotion.vocabulary.protocols_of`, and ``random_80_20`` for the single
    split), ``dataset`` (``""`` for the clips of all; further rows for each, where there are several), ``selected``,
    ``n``, the scores; the ends of the 95 % interval, and mean, std, min and max over folds, of accuracy and macro F1;
    and the timings. A figure that is missing is empty.

    >>> scores = {"accuracy": 0.8, "datasets": {"calls": {"accuracy": 0.9}}}
    >>> rows = comparison_rows({"selected": "ensemble", "models": {"ensemble": {"random": scores}}})
    >>> rows[["model", "protocol", "dataset", "selected", "accuracy"]].values.tolist()
    [['ensemble', 'random', '', True, 0.8], ['ensemble', 'random', 'calls', True, 0.9]]
    """
    rows = []
    for model, figures in comparison["models"].items():
        scores_by_protocol = {protocol: figures[protocol] for protocol in protocols_of(figures)}
        if "split_80_20" in figures.get("random", {}):
            scores_by_protocol["random_80_20"] = figures["random"]["split_80_20"]
        for protocol, all_scores in scores_by_protocol.items():
            for dataset, scores in {"": all_scores, **all_scores.get("datasets", {})}.items():
                row = {"model": model, "protocol": protocol, "dataset": dataset}
                row |= {"selected": model == comparison["selected"], **_score_columns(scores)}
                rows.append(row | {time: figures.get(time) for time in TIMES})
    return pd.DataFrame(rows)


def _score_columns(scores: dict) -> dict[str, Any]:
    """The columns of one row with the scores, their intervals and their spread over folds."""
    columns = {score: scores.get(score) for score in ("n", *SCORES)}
    for score in ("accuracy", "f1_macro"):
        low, high = scores.get(f"{score}_interval", (None, None))
        columns |= {f"{score}_low": low, f"{score}_high": high}
        over_folds = scores.get("cv", {}).get(score, {})
        columns |= {f"cv_{score}_{name}": over_folds.get(name) for name in ("mean", "std", "min", "max")}
    return columns


def text_table(comparison: dict) -> str:
    """The comparison for a terminal: accuracy and macro F1 of each model by each protocol, and its speed.

    >>> scores = {"random": {"accuracy": 0.8, "f1_macro": 0.7}, "fit_seconds": 1.5}
    >>> lines = text_table({"selected": "ensemble", "models": {"ensemble": scores}}).splitlines()
    >>> lines[0].split(), lines[1].split()
    (['accuracy', '/', 'macro', 'F1', '*', 'ensemble'], ['Random', 'split', '0.800', '/', '0.700'])
    """
    models = comparison["models"]
    names = [("* " if name == comparison["selected"] else "") + name for name in models]
    lines = [["accuracy / macro F1", *names]]
    for protocol in _shown_protocols(models):
        by_model = [figures.get(protocol, {}) for figures in models.values()]
        lines.append([TITLES[protocol], *map(_two_scores, by_model)])
    for title, time, form in (("fit, s", "fit_seconds", ".1f"), ("ms per clip", "predict_ms_single", ".2f")):
        lines.append([title, *(format_figure(figures.get(time), form) for figures in models.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for first, *others in lines:
        cells = [cell.rjust(width + 3) for cell, width in zip(others, widths[1:], strict=True)]
        text.append(first.ljust(widths[0]) + "".join(cells))
    has_datasets = any(DATASET_MODES["plain"] in figures for figures in models.values())
    return "\n".join([*text, LEGEND]) + (DATASETS_LEGEND if has_datasets else "")


def _two_scores(scores: dict) -> str:
    return " / ".join(format_figure(scores.get(score), ".3f") for score in ("accuracy", "f1_macro"))
