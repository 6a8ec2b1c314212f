"""Sends the metrics of a training run; :mod:`emotion.metrics` has the table of them."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Mapping

import pandas as pd

from emotion import metrics
from emotion.audio.conditions import CLEAN, CONDITIONS
from emotion.evaluation.selection import PROTOCOL
from emotion.evaluation.stress import SUMMARIES
from emotion.explanation.grouping import emotion_shares
from emotion.explanation.ranking import FACTS
from emotion.metrics import Emitter
from emotion.models.registry import ChampionPointer
from emotion.vocabulary import MODES, SCORES, protocols_of

log = logging.getLogger(__name__)

STRESS_METRICS = {
    metrics.STRESS_ACCURACY: "accuracy",
    metrics.STRESS_ECE: "ece",
    metrics.STRESS_CHANGED: "changed",
}
"""Metric of a recording condition → its figure in the stress table."""
DATASET_SCORES = ("accuracy", "uar", "f1_macro", "ece")
"""Scores of each dataset that are sent, where a run has several."""
EXTERNAL_SCORES = ("accuracy", "uar", "ece", "confidence")
"""Figures of a dataset that is only tested on that are sent."""
CHAMPION = "champion"
"""The name under which the champion's figures on such datasets are sent."""
TOP_FEATURES = 20
"""Features of each model whose importance is sent."""


def emit_model(emitter: Emitter, name: str, figures: dict) -> None:
    """The scores and times of one model; ``figures`` as in ``comparison.json``, ``models``."""
    for protocol in protocols_of(figures):
        for score in SCORES:
            emitter.gauge(metrics.SCORE, figures[protocol][score], model=name, protocol=protocol, score=score)
        for statistic in ("mean", "std", "min", "max"):
            value = figures[protocol]["cv"]["f1_macro"][statistic]
            emitter.gauge(metrics.CV_SCORE, value, model=name, protocol=protocol, statistic=statistic)
        for emotion, scores in figures[protocol]["per_emotion"].items():
            if scores["support"]:
                emitter.gauge(metrics.EMOTION_F1, scores["f1"], model=name, protocol=protocol, emotion=emotion)
        for dataset, scores in figures[protocol].get("datasets", {}).items():
            labels = {"model": name, "protocol": protocol, "dataset": dataset}
            for score in DATASET_SCORES:
                emitter.gauge(metrics.DATASET_SCORE, scores[score], **labels, score=score)
    for statistic in ("mean", "p10", "p50", "p90"):
        value = figures[PROTOCOL]["confidence"][statistic]
        emitter.gauge(metrics.TRAIN_CONFIDENCE, value, model=name, statistic=statistic)
    _emit_stress(emitter, name, figures["stress"] or {})
    emitter.gauge(metrics.FIT_SECONDS, figures["fit_seconds"], model=name)
    for batch in ("single", "batch"):
        emitter.gauge(metrics.PREDICT_MS, figures[f"predict_ms_{batch}"], model=name, batch=batch)


def _emit_stress(emitter: Emitter, name: str, stress: Mapping[str, Mapping]) -> None:
    """The stress table of one model; nothing where no clip was tested under recording conditions."""
    for mode, table in stress.items():
        for summary in SUMMARIES:
            emitter.gauge(metrics.STRESS_SUMMARY, table[summary], model=name, mode=mode, summary=summary)
        for condition in (CLEAN, *CONDITIONS):
            for metric, figure in STRESS_METRICS.items():
                emitter.gauge(metric, table[condition][figure], model=name, mode=mode, condition=condition)


def emit_external(emitter: Emitter, name: str, external: Mapping[str, Mapping]) -> None:
    """The figures of a model on the datasets that are only tested on, as
    :func:`emotion.models.external.external_scores` gives them."""
    for dataset, figures in external.items():
        for mode in MODES:
            for score in EXTERNAL_SCORES if mode in figures else ():
                value = figures[mode][score]
                emitter.gauge(metrics.EXTERNAL, value, model=name, dataset=dataset, mode=mode, score=score)


def emit_importance(emitter: Emitter, name: str, importance: pd.DataFrame) -> None:
    """The most important features of one model; see :func:`emotion.explanation.ranking.importance`."""
    emotions = [column for column in importance.columns if column not in FACTS]
    for row in importance.head(TOP_FEATURES).to_dict("records"):
        emitter.gauge(metrics.SHAP, row["share"], model=name, feature=row["feature"])
        for emotion in emotions:
            emitter.gauge(metrics.SHAP_EMOTION, row[emotion], model=name, emotion=emotion, feature=row["feature"])


def emit_groups(emitter: Emitter, name: str, importance: pd.DataFrame) -> None:
    """The importance of the groups of features for one model, over all emotions and for each; see
    :func:`emotion.explanation.grouping.group_importance`."""
    shares = emotion_shares(importance)
    whole = importance[importance["subgroup"] == ""].set_index("group")["share"]
    for group, share in whole.items():
        emitter.gauge(metrics.SHAP_GROUP, share, model=name, group=str(group))
        for emotion, emotion_share in shares.loc[group].items():
            emitter.gauge(metrics.SHAP_GROUP_EMOTION, emotion_share, model=name, emotion=str(emotion), group=str(group))


def emit_challenge(emitter: Emitter, challenge: Mapping) -> None:
    """How the challenger compares with the champion, where the two were compared; and the champion's figures on
    datasets that are only tested on."""
    emit_external(emitter, CHAMPION, challenge.get("external", {}).get("champion", {}))
    if difference := challenge["difference"]:
        low, high = difference["interval"]
        figures = {"difference": difference["difference"], "low": low, "high": high}
        figures["probability"] = difference["probability"]
        if stress := challenge["stress"]:
            figures["overall_difference"] = stress["overall"]["difference"]
            figures["overall_probability"] = stress["overall"]["probability"]
            figures["outside_difference"] = stress["outside"]["difference"]
        for statistic, value in figures.items():
            emitter.gauge(metrics.CHALLENGE, value, statistic=statistic)


def emit_champion(emitter: Emitter, pointer: ChampionPointer) -> None:
    """Which model is the champion, and since when.

    >>> emit_champion(Emitter(None), {"version": "first", "family": "ensemble", "file": "", "sha256": "", "reasons": [],
    ...                               "since": "2026-01-02T03:04:05+00:00"})  # sends nothing
    """
    try:
        since = dt.datetime.fromisoformat(pointer["since"]).timestamp()
    except ValueError:  # a pointer that was edited by hand: no reason to score nothing
        log.warning("the champion's 'since' is no time: %r", pointer["since"])
        return
    emitter.gauge(metrics.CHAMPION_SINCE, since)
    emitter.gauge(metrics.CHAMPION, since, version=pointer["version"], family=pointer["family"])


def emit_decision(emitter: Emitter, decision: dict, challenge: dict, pointer: ChampionPointer | None) -> None:
    """A promotion decision, and the scores of the model that is the champion after it; ``pointer`` points to it."""
    is_promoted = decision["decision"] == "promoted"
    emitter.count(metrics.PROMOTION, decision=decision["decision"])
    emitter.gauge(metrics.RUN_FINISHED, time.time())
    champion = challenge["challenger" if is_promoted else "champion"]
    if champion and champion["scores"]:
        for score in SCORES:
            emitter.gauge(metrics.CHAMPION_SCORE, champion["scores"][score], protocol=PROTOCOL, score=score)
    if pointer:
        emit_champion(emitter, pointer)
