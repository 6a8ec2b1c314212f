"""The report of a training run as one HTML page, and its comparison as a table and as text."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from emotion.audio.conditions import CLEAN
from emotion.models.documents import known_emotions
from emotion.reports.page import environment, format_figure
from emotion.reports.terms import select_terms
from emotion.vocabulary import MODES, PROTOCOLS, SCORES

TITLES = {
    "random": "Random split",
    "random_adapted": "Random split, by speaker",
    "speaker_independent": "Unheard speakers",
    "speaker_independent_batch": "Unheard speakers, by batch",
    "speaker_independent_adapted": "Unheard speakers, by speaker",
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
TERMS = (
    "accuracy",
    "by_batch",
    "by_speaker",
    "calibration_error",
    "challenger",
    "champion",
    "confidence",
    "coverage",
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
    "unheard_speakers",
)
"""Keys of :data:`emotion.reports.terms.TERMS` that the page explains."""
LEGEND = """\
* selected: the highest macro F1 on unheard speakers, that is, speakers the model was not trained on. Where
  clips were tested under recording conditions, it is the mean of clean clips and of the conditions.
Random split: the same speakers are in training and test, so these figures are optimistic for a new speaker.
By batch: features z-scored with mean and standard deviation of all clips of the test side; needs no labels.
By speaker: features z-scored with mean and standard deviation of the same speaker's clips; needs no labels."""


def render(*, comparison: dict, challenge: Mapping | None, decision: dict | None, shap: dict[str, dict]) -> str:
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
    """
    selected, models = comparison["selected"], comparison["models"]
    per_emotion = models[selected].get("speaker_independent", {}).get("per_emotion", {})
    emotions = known_emotions(comparison)
    present = [emotion for emotion in emotions if not per_emotion or per_emotion[emotion]["support"]]
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
            best_scores=_best_scores(models),
            protocols={protocol: TITLES[protocol] for protocol in PROTOCOLS},
            emotions=emotions,
            present=present,
            chance=1 / len(present),
            group_colours=GROUP_COLOURS,
            scores=SCORE_TITLES,
            stress_conditions={CLEAN: "Clean: the clip as it is"}
            | (comparison.get("stress") or {}).get("conditions", {}),
            stress_models={name: figures for name, figures in models.items() if figures.get("stress")},
            expectations=_expectations(models[selected].get("stress") or {}),
            terms=select_terms(*TERMS),
        )
    )


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
    judgement = "can be taken at its word"
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
    """What the page shows of one family's SHAP values: its most important features and its plots with titles."""
    return {
        "family": family,
        "top": exported["importance"].head(TOP_FEATURES).to_dict("records"),
        "plots": [{"title": PLOT_TITLES[name], "png": png} for name, png in exported["plots"].items()],
    }


def _best_scores(models: dict[str, dict]) -> dict[str, dict[str, float]]:
    """The highest accuracy and macro F1 of any model, by protocol."""
    return {
        protocol: {
            score: max(scores.get(protocol, {}).get(score, 0.0) for scores in models.values())
            for score in ("accuracy", "f1_macro")
        }
        for protocol in PROTOCOLS
    }


def comparison_rows(comparison: dict) -> pd.DataFrame:
    """A row per model and protocol, for ``comparison.csv``.

    ``model``, ``protocol`` (those of :data:`emotion.vocabulary.PROTOCOLS`, and ``random_80_20`` for the single
    split), ``selected``, ``n``, the scores; the ends of the 95 % interval, and mean, std, min and max over folds, of
    accuracy and macro F1; and the timings. A figure that is missing is empty.

    >>> rows = comparison_rows({"selected": "ensemble", "models": {"ensemble": {"random": {"accuracy": 0.8}}}})
    >>> rows[["model", "protocol", "selected", "accuracy"]].values.tolist()
    [['ensemble', 'random', True, 0.8]]
    """
    rows = []
    for model, figures in comparison["models"].items():
        scores_by_protocol = {protocol: figures[protocol] for protocol in PROTOCOLS if protocol in figures}
        if "split_80_20" in figures.get("random", {}):
            scores_by_protocol["random_80_20"] = figures["random"]["split_80_20"]
        for protocol, scores in scores_by_protocol.items():
            row = {"model": model, "protocol": protocol, "selected": model == comparison["selected"]}
            row |= {score: scores.get(score) for score in ("n", *SCORES)}
            for score in ("accuracy", "f1_macro"):
                low, high = scores.get(f"{score}_interval", (None, None))
                row |= {f"{score}_low": low, f"{score}_high": high}
                over_folds = scores.get("cv", {}).get(score, {})
                row |= {f"cv_{score}_{name}": over_folds.get(name) for name in ("mean", "std", "min", "max")}
            rows.append(row | {time: figures.get(time) for time in TIMES})
    return pd.DataFrame(rows)


def text_table(comparison: dict) -> str:
    """The comparison for a terminal: accuracy and macro F1 of each model by each protocol, and its speed."""
    titles = [TITLES[protocol].lower().partition(", ") for protocol in PROTOCOLS]
    splits = [split.split(" ") for split, _, _ in titles]
    lines = [
        ["", *(first for first, _ in splits), "", ""],
        ["", *(second for _, second in splits), "fit", "ms per"],
        ["", *(normalized for _, _, normalized in titles), "s", "clip"],
    ]
    for model, figures in comparison["models"].items():
        line = [("* " if model == comparison["selected"] else "  ") + model]
        for protocol in PROTOCOLS:
            scores = figures.get(protocol, {})
            line.append(" / ".join(format_figure(scores.get(score), ".3f") for score in ("accuracy", "f1_macro")))
        line.append(format_figure(figures.get("fit_seconds"), ".1f"))
        line.append(format_figure(figures.get("predict_ms_single"), ".2f"))
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["accuracy / macro F1"]
    for first, *others in lines:
        cells = [cell.rjust(width + 2) for cell, width in zip(others, widths[1:], strict=True)]
        text.append((first.ljust(widths[0]) + "".join(cells)).rstrip())
    return "\n".join([*text, LEGEND])
