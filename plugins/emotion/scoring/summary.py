"""The figures of a batch: counts, confidence, latency, accuracy where labels are known, and two models compared."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from emotion.evaluation import bootstrap, scores
from emotion.features import quality
from emotion.models.documents import known_emotions
from emotion.scoring.limits import listener_limits
from emotion.scoring.listing import TEMPORARY
from emotion.scoring.options import Options
from emotion.scoring.plan import Plan
from emotion.scoring.tables import HEARD, LATENCIES
from emotion.vocabulary import MODES

UNCOUNTED = ("sha256", "message", "model", "family")
"""Columns of a shard's table that no figure is made of."""
LISTED = 200
"""Rows of a list in the report; the files beside it have all rows."""


def summarize(table: pd.DataFrame, plan: Plan, *, left: pd.DataFrame, seconds: float) -> dict:
    """The figures of a batch, for ``summary.json``.

    Parameters
    ----------
    table : pandas.DataFrame
        The tables of all shards, see :func:`emotion.scoring.tables.clip_table`, without the rows of ``left``. The
        columns of :data:`UNCOUNTED` and the probabilities need not be there.
    plan : Plan
    left : pandas.DataFrame
        The rows of files that are left for the next sweep, as reading them failed for now.
    seconds : float
        Time spent on scoring, the sum over all shards.
    """
    good, bad = table[table["error"] == ""], table[table["error"] != ""]
    heard = good["heard_in_training"] == HEARD
    with_label = good[(good["label"] != "") & ~heard]
    labelled = _known_to(plan["models"][0], with_label)
    challenger = plan["models"][1] if len(plan["models"]) > 1 else None
    return {
        "batch": plan["batch"],
        "run_id": plan["run_id"],
        "created": plan["created"],
        "folders": plan["folders"],
        "model": plan["models"][0],
        "challenger": challenger,
        "options": plan["options"],
        "files": len(table),
        "channels": int((table["channel"] != "").sum()),
        "scored": len(good),
        "rejected": {str(reason): int(count) for reason, count in bad["error"].value_counts().items()},
        "known": plan["known"],
        "left_for_next_sweep": _left(plan, left),
        "temporary_errors": left.head(LISTED)[["path", "message"]].to_dict("records"),
        "heard_in_training": int(heard.sum()),
        "labels_refused": plan.get("labels_refused", []),
        "labels_outside": len(with_label) - len(labelled),
        "audio_seconds": float(good["duration"].sum()),
        "emotions": {emotion: int((good["emotion"] == emotion).sum()) for emotion in known_emotions(plan["models"][0])},
        "confidence": spread(good["confidence"]) | {"histogram": _histogram(good["confidence"])},
        "listener_limits": listener_limits(Options(**plan["options"]), plan["models"][0]),
        "needs_listener": int(good["needs_listener"].sum()),
        "unfamiliar": int(good["unfamiliar"].sum()),
        "quality": {name: _median(good[name]) for name in quality.COLUMNS},
        "modes": {mode: int((good["mode"] == mode).sum()) for mode in MODES},
        "timelines": int((good["windows"] > 0).sum()),
        "latency_ms": _latencies(good[good["vector"] >= 0]),
        "clips_per_second": len(good) / seconds if seconds else None,
        "accuracy": _accuracy(labelled["emotion"] == labelled["label"], labelled["speaker"]) if len(labelled) else None,
        "comparison": _compare(good, _known_to(challenger, labelled)) if challenger else None,
    }


def _left(plan: Plan, left: pd.DataFrame) -> dict[str, int]:
    """Number of files left for the next sweep, by reason."""
    return dict(Counter(plan["left"]) + Counter({TEMPORARY: len(left)}))


def _latencies(clips: pd.DataFrame) -> dict:
    """Median and 95th percentile of each stage's time per clip, in ms; {} without clips."""
    if not len(clips):
        return {}
    return {
        stage: {"p50": float(clips[f"{stage}_ms"].median()), "p95": float(clips[f"{stage}_ms"].quantile(0.95))}
        for stage in LATENCIES
    }


def _known_to(model: dict, labelled: pd.DataFrame) -> pd.DataFrame:
    """The clips whose label is an emotion that a model of the plan knows."""
    return labelled[labelled["label"].isin(known_emotions(model))]


def _compare(good: pd.DataFrame, labelled: pd.DataFrame) -> dict:
    """Two models on the same clips: agreement, disagreements and, where labels are known, which is right more often.

    ``labelled``: the clips whose label both models know.

    McNemar's exact test (McNemar 1947, in its binomial form) asks whether the clips that only one of the two models
    gets right are evenly divided between the models. It takes clips for independent. Where the speakers are known,
    ``difference`` says more: the challenger's accuracy minus the model's, by drawing speakers.
    """
    from scipy.stats import binomtest  # slow to import

    differ = good[good["emotion"] != good["challenger_emotion"]]
    columns = ["path", "channel", "emotion", "confidence", "challenger_emotion", "challenger_confidence", "label"]
    agreement = {
        "clips": len(good),
        "agreement": 1 - len(differ) / len(good) if len(good) else None,
        "disagreements": len(differ),
        "listed": differ.nlargest(LISTED, "confidence")[columns].to_dict("records"),
        "labelled": len(labelled),
    }
    if not len(labelled):
        return agreement
    model_right = labelled["emotion"] == labelled["label"]
    challenger_right = labelled["challenger_emotion"] == labelled["label"]
    only_model = int((model_right & ~challenger_right).sum())
    only_challenger = int((challenger_right & ~model_right).sum())
    only_one = only_model + only_challenger
    speakers = labelled["speaker"]
    return agreement | {
        "accuracy": _accuracy(model_right, speakers),
        "challenger_accuracy": _accuracy(challenger_right, speakers),
        "difference": _difference(challenger_right.astype(float) - model_right, speakers),
        "only_model_right": only_model,
        "only_challenger_right": only_challenger,
        "mcnemar_p": float(binomtest(only_model, only_one).pvalue) if only_one else 1.0,
    }


def _accuracy(right: pd.Series, speakers: pd.Series) -> dict:
    """Accuracy and its 95 % interval; ``drawn`` says whether it is over ``speakers`` or over independent ``clips``."""
    if _are_known(speakers):
        low, high, _ = bootstrap.mean_interval(right.to_numpy(dtype=float), speakers.to_numpy())
    else:
        low, high = scores.accuracy_interval(right.to_numpy())
    drawn = "speakers" if _are_known(speakers) else "clips"
    return {"n": len(right), "value": float(right.mean()), "low": low, "high": high, "drawn": drawn}


def _difference(gains: pd.Series, speakers: pd.Series) -> dict | None:
    """The mean gain with its 95 % interval and the probability that it is above 0; None without known speakers."""
    if not _are_known(speakers):
        return None
    low, high, probability = bootstrap.mean_interval(gains.to_numpy(), speakers.to_numpy())
    return {"value": float(gains.mean()), "low": low, "high": high, "probability": probability}


def _are_known(speakers: pd.Series) -> bool:
    """Whether each clip has a speaker, and there are enough of them to say something about others."""
    return bool((speakers != "").all()) and speakers.nunique() >= bootstrap.FEW_SPEAKERS


def spread(values: pd.Series) -> dict:
    """Mean and quantiles of some confidences; None each if there are none.

    >>> spread(pd.Series([0.2, 0.4, 0.6]))["p50"]
    0.4
    >>> spread(pd.Series([], dtype=float))["mean"] is None
    True
    """
    if not len(values):
        return dict.fromkeys(("mean", "p10", "p50", "p90"))
    p10, p50, p90 = values.quantile([0.1, 0.5, 0.9])
    return {"mean": float(values.mean()), "p10": float(p10), "p50": float(p50), "p90": float(p90)}


def _median(values: pd.Series) -> float | None:
    return float(values.median()) if values.notna().any() else None


def _histogram(values: pd.Series) -> list[int]:
    return np.histogram(values, bins=20, range=(0, 1))[0].tolist()
