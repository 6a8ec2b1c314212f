"""Sends the metrics of a scoring run; :mod:`emotion.metrics` has the table of them."""

from __future__ import annotations

import time

import pandas as pd

from emotion import metrics
from emotion.metrics import Emitter
from emotion.monitoring.drift import VERDICTS
from emotion.scoring.summary import spread
from emotion.scoring.tables import LATENCIES

TIMED_PER_SHARD = 50
"""Clips of a shard whose latency is sent as a metric; the quantiles in the summary are over all clips."""


def emit_shard(emitter: Emitter, table: pd.DataFrame) -> None:
    """Counts and latencies of one shard that ended; ``table`` as in :func:`emotion.scoring.tables.clip_table`."""
    good = table[table["error"] == ""]
    emitter.gauge(metrics.SCORING_SEEN, time.time())
    emitter.count(metrics.SCORED, len(good), outcome="scored")
    emitter.count(metrics.SCORED, len(table) - len(good), outcome="rejected")
    emitter.count(metrics.AUDIO_SECONDS, round(good["duration"].sum()))
    for reason, count in table.loc[table["error"] != "", "error"].value_counts().items():
        emitter.count(metrics.SCORING_REJECTED, int(count), reason=str(reason))
    emitter.count(metrics.UNFAMILIAR, int(good["unfamiliar"].sum()))
    clips = table[table["vector"] >= 0]
    for stage in LATENCIES:
        for milliseconds in clips[f"{stage}_ms"].head(TIMED_PER_SHARD):
            emitter.timing(metrics.LATENCY, milliseconds / 1000, stage=stage)


def emit_batch(emitter: Emitter, table: pd.DataFrame, figures: dict) -> None:
    """Latency quantiles, predicted emotions and confidences of a batch.

    ``figures`` from :func:`emotion.scoring.summary.summarize`.
    """
    for stage, quantiles in figures["latency_ms"].items():
        for quantile, value in quantiles.items():
            emitter.gauge(metrics.LATENCY_QUANTILE, value, stage=stage, quantile=quantile)
    for statistic in ("mean", "p10", "p50", "p90"):
        if figures["scored"]:
            emitter.gauge(metrics.BATCH_CONFIDENCE, figures["confidence"][statistic], statistic=statistic)
    for figure in ("snr_db", "level_db", "bandwidth_hz"):
        if (median := figures["quality"][figure]) is not None:
            emitter.gauge(metrics.QUALITY, median, figure=figure)
    for emotion, rows in table.loc[table["error"] == "", ["emotion", "confidence"]].groupby("emotion"):
        emitter.count(metrics.PREDICTED, len(rows), emotion=str(emotion))
        for statistic, value in spread(rows["confidence"]).items():
            emitter.gauge(metrics.CONFIDENCE, value, emotion=str(emotion), statistic=statistic)


def emit_drift(emitter: Emitter, verdict: dict) -> None:
    """The drift of a batch; ``verdict`` from :func:`emotion.monitoring.drift.judge`. ``unknown`` is not sent:
    an alarm holds until a batch that can be judged says otherwise."""
    if verdict["verdict"] not in VERDICTS:
        return
    emitter.gauge(metrics.DRIFT_VERDICT, VERDICTS.index(verdict["verdict"]))
    if verdict["features"]:
        emitter.gauge(metrics.DRIFT_SHARE, verdict["features"]["share"], signal="features")
        emitter.gauge(metrics.DRIFT_SHARE, verdict["features"]["shift"], signal="shift")
        emitter.gauge(metrics.DRIFT_SHARE, verdict["features"]["watch"], signal="shift_watch")
        emitter.gauge(metrics.DRIFT_SHARE, verdict["features"]["alarm"], signal="shift_alarm")
        emitter.gauge(metrics.DRIFT_SHARE, verdict["emotions"]["psi"], signal="emotions")
        emitter.gauge(metrics.DRIFT_SHARE, verdict["confidence"]["ks"], signal="confidence")
    for group in verdict["groups"]:
        emitter.gauge(metrics.DRIFT_GROUP, group["shift"], group=group["group"])
    for feature in verdict["top"]:
        emitter.gauge(metrics.DRIFT_FEATURE, feature["psi"], feature=feature["feature"])
        emitter.gauge(metrics.DRIFT_SHIFT, abs(feature["shift"]), feature=feature["feature"])


def emit_accuracy(emitter: Emitter, summary: dict) -> None:
    """The estimated accuracy and the corrected mix of a batch; what is withheld is counted, and not sent."""
    estimate, mix = summary["estimated_accuracy"], summary["emotion_mix"]
    emitter.count(metrics.ESTIMATES, outcome="withheld" if estimate["withheld"] else "given")
    if estimate["accuracy"]:
        figures = estimate["accuracy"] | {name: estimate[name] for name in ("f1_macro", "promised")}
        for figure, value in figures.items():
            if value is not None:
                emitter.gauge(metrics.ESTIMATED, value, figure=figure)
    for emotion, share in (mix["corrected"] or {}).items():
        emitter.gauge(metrics.EMOTION_MIX, share["value"], emotion=emotion)
