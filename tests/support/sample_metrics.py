"""Every metric of the project's table, and Airflow's own, sent to a StatsD as the workflow sends them."""

from __future__ import annotations

import re
import time
from pathlib import Path

from emotion import metrics
from emotion.audio.conditions import CLEAN, CONDITIONS
from emotion.evaluation.stress import SUMMARIES
from emotion.vocabulary import DATASET_PROTOCOLS, EMOTIONS, FAMILIES, MODES, PROTOCOLS
from graphite_stack import Graphite

AIRFLOW_LINES = [
    line.split()
    for line in (Path(__file__).parent / "airflow_metrics.txt").read_text().splitlines()
    if not line.startswith("#")
]
"""(name, StatsD's letter for the kind), read off the wire of a real Airflow 3.3.2."""

VALUES = {
    "model": (*FAMILIES, "ensemble"),
    "protocol": (*PROTOCOLS, *DATASET_PROTOCOLS),
    "dataset": ("ravdess-speech", "nemo"),
    "emotion": EMOTIONS,
    "score": ("accuracy", "precision_macro", "recall_macro", "f1_macro", "uar", "log_loss", "ece"),
    "kind": ("total", "stored", "missing", "rejected", "duplicates", "used"),
    "batch": ("single", "batch"),
    "feature": tuple(f"mfcc_{number:02d}_mean" for number in range(12)),
    "group": ("effort", "pitch", "tempo", "voice quality", "timbre", "articulation"),
    "decision": ("promoted", "kept"),
    "reason": ("too_short", "silent"),
    "quantile": ("p50", "p95"),
    "figure": ("snr_db", "level_db", "bandwidth_hz"),
    "version": ("run-1",),
    "family": FAMILIES,
    "signal": ("features", "shift", "shift_watch", "shift_alarm", "emotions", "confidence"),
    "resource": ("peak_memory_bytes", "cpu_seconds"),
    "stage": ("download", "train_random_forest", "decode", "model", "total"),
    "mode": tuple(MODES),
    "condition": (CLEAN, *CONDITIONS),
    "summary": SUMMARIES,
    "statistic": ("mean", "std", "min", "max", "p10", "p50", "p90"),
}
"""Label → values that the workflow sends."""
OUTCOMES = {
    metrics.FEATURIZED: ("featurized", "rejected"),
    metrics.SCORED: ("scored", "rejected"),
    metrics.ESTIMATES: ("given", "withheld"),
    metrics.SERVING_REQUESTS: ("answered", "refused", "failed"),
    metrics.SERVING_WINDOWS: ("answered", "refused", "failed"),
    metrics.SERVING_STREAMS: ("ended", "refused", "left"),
}
OWN_VALUES = {
    metrics.EXTERNAL: {
        "model": (*FAMILIES, "ensemble", "champion"),
        "score": ("accuracy", "uar", "ece", "confidence"),
    },
    metrics.SERVING_LATENCY: {"stage": ("queue", "answer", "total")},
    metrics.SERVING_LOAD: {"figure": ("processes", "expected", "waiting", "problem", "streams")},
    metrics.SERVING_REFUSED: {"reason": ("not_audio", "too_large", "busy")},
    metrics.DATASET_SCORE: {"score": ("accuracy", "uar", "f1_macro", "ece")},
    metrics.ESTIMATED: {"figure": ("value", "low", "high", "f1_macro", "promised")},
    metrics.REALIZED: {
        "model": ("champion", "2026-11-01/ensemble"),
        "figure": ("value", "low", "high", "f1_macro", "promised", "labels"),
    },
}
"""Metric → its labels that have other values there."""


def labellings(metric: metrics.Metric) -> list[dict[str, str]]:
    """Every combination of the labels of a metric, as the workflow sends them."""
    combinations: list[dict[str, str]] = [{}]
    for label in metric.labels:
        values = OUTCOMES[metric] if label == "outcome" else OWN_VALUES.get(metric, VALUES).get(label, VALUES[label])
        combinations = [{**labels, label: value} for labels in combinations for value in values]
    return combinations


def emit_everything(address: tuple[str, int]) -> None:
    """Send every metric of the table through the project's own emitter."""
    emitter = metrics.statsd_emitter(address)
    sent = 0
    for metric in metrics.TABLE:
        for number, labels in enumerate(labellings(metric)):
            if metric.kind == "counter":
                emitter.count(metric, 3 + number, **labels)
            elif metric.kind == "timer":
                emitter.timing(metric, 0.8 + 0.1 * number, **labels)
            else:
                is_time = metric in (
                    metrics.RUN_FINISHED,
                    metrics.CHAMPION_SINCE,
                    metrics.CHAMPION,
                    metrics.SCORING_SEEN,
                )
                is_number = metric is metrics.SERVING_LOAD
                value = time.time() - 600 if is_time else 1 if is_number else 0.9 / (1 + number)
                emitter.gauge(metric, value, **labels)
            sent += 1
            if sent % 50 == 0:
                time.sleep(0.01)  # UDP on loopback drops what the receiver has no room for


def emit_airflow(address: tuple[str, int]) -> None:
    """Send what Airflow sent, with the names of the project's DAGs."""
    from statsd import StatsClient

    client = StatsClient(*address, prefix=metrics.PREFIX)
    for name, kind in AIRFLOW_LINES:
        for dag in ("emotion_training", "emotion_scoring"):
            send = {"g": client.gauge, "c": client.incr, "ms": client.timing}[kind]
            send(re.sub(r"toy_\w+", dag, name), 2)


def lost(graphite: Graphite) -> list[str]:
    """The labellings of metrics of the table that have no series in Graphite."""
    missing = []
    for metric in metrics.TABLE:
        root = {"gauge": "stats/gauges", "timer": "stats/timers", "counter": "stats_counts"}[metric.kind]
        for labels in labellings(metric):
            path = f"{root}/{metrics.PREFIX}/" + metric.path(**labels).replace(".", "/")
            path += "/mean.wsp" if metric.kind == "timer" else ".wsp"
            if not (graphite.whisper / path).exists():
                missing.append(path)
    return missing
