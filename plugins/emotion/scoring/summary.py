"""The figures on a batch: counts, confidence, latency, accuracy where labels are known, model against challenger."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from emotion.evaluation import scores
from emotion.monitoring.reference import MODES
from emotion.scoring.tables import LATENCIES
from emotion.vocabulary import EMOTIONS


def summarize(table: pd.DataFrame, plan: dict, *, seconds: float) -> dict:
    """The figures on a batch's predictions, for ``summary.json``.

    ``table`` has the columns of the parts; ``seconds`` is the work spent on scoring, over all shards.
    """
    good, bad = table[table["error"] == ""], table[table["error"] != ""]
    clips = good[good["vector"] >= 0]
    labelled = good[good["label"] != ""]
    options = plan["options"]
    found = {
        "batch": plan["batch"],
        "run_id": plan["run_id"],
        "created": plan["created"],
        "folders": plan["folders"],
        "model": plan["models"][0],
        "challenger": plan["models"][1] if len(plan["models"]) > 1 else None,
        "options": options,
        "files": len(table),
        "scored": len(good),
        "rejected": {str(reason): int(count) for reason, count in bad["error"].value_counts().items()},
        "known": plan["known"],
        "left_for_next_sweep": plan["left"],
        "audio_seconds": float(good["duration"].sum()),
        "emotions": {emotion: int((good["emotion"] == emotion).sum()) for emotion in EMOTIONS},
        "confidence": spread(good["confidence"]) | {"histogram": _histogram(good["confidence"])},
        "needs_listener": int(good["needs_listener"].sum()),
        "modes": {mode: int((good["mode"] == mode).sum()) for mode in MODES},
        "timelines": int((good["windows"] > 0).sum()),
        "latency_ms": {
            stage: {
                "p50": float(clips[f"{stage}_ms"].median()),
                "p95": float(clips[f"{stage}_ms"].quantile(0.95)),
            }
            for stage in LATENCIES
            if len(clips)
        },
        "clips_per_second": len(good) / seconds if seconds else None,
        "accuracy": _accuracy(labelled["emotion"] == labelled["label"]) if len(labelled) else None,
        "comparison": None,
    }
    if found["challenger"]:
        found["comparison"] = _compare(good, labelled)
    return found


def _compare(good: pd.DataFrame, labelled: pd.DataFrame) -> dict:
    """Two models side by side: agreement, disagreements and, where labels are known, who is right more often.

    McNemar's exact test asks whether the clips that just one of them gets right are evenly divided between
    them.
    """
    differ = good[good["emotion"] != good["challenger_emotion"]]
    columns = ["path", "emotion", "confidence", "challenger_emotion", "challenger_confidence", "label"]
    found = {
        "clips": len(good),
        "agreement": 1 - len(differ) / len(good) if len(good) else None,
        "disagreements": len(differ),
        "listed": differ.nlargest(LISTED, "confidence")[columns].to_dict("records"),
        "labelled": len(labelled),
    }
    if not len(labelled):
        return found
    ours, theirs = (
        labelled["emotion"] == labelled["label"],
        labelled["challenger_emotion"] == labelled["label"],
    )
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return found | {
        "accuracy": _accuracy(ours),
        "challenger_accuracy": _accuracy(theirs),
        "only_model_right": only_ours,
        "only_challenger_right": only_theirs,
        "mcnemar_p": float(binomtest(only_ours, only_ours + only_theirs).pvalue) if only_ours + only_theirs else 1.0,
    }


def _accuracy(right: pd.Series) -> dict:
    low, high = scores.accuracy_interval(right.to_numpy())
    return {"n": len(right), "value": float(right.mean()), "low": low, "high": high}


def spread(values: pd.Series) -> dict:
    if not len(values):
        return dict.fromkeys(("mean", "p10", "p50", "p90"))
    p10, p50, p90 = values.quantile([0.1, 0.5, 0.9])
    return {"mean": float(values.mean()), "p10": float(p10), "p50": float(p50), "p90": float(p90)}


def _histogram(values: pd.Series) -> list[int]:
    return np.histogram(values, bins=20, range=(0, 1))[0].tolist()


LISTED = 200
"""Rows of a list in the report; the files beside it have all."""
