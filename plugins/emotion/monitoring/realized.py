"""Realized accuracy: how often a model is right in use, by what people heard in clips that were drawn for them.

The clips of a review queue are drawn with known, unequal probabilities, doubtful ones more often. Each label therefore
counts by one divided by the probability of its clip (Hájek 1971), and the figures hold for all clips that the model
answered, not for the doubtful ones. The intervals respect that clips of one speaker, one file and one batch are not
independent (:mod:`emotion.monitoring.clusters`). Where two people heard a clip and disagree, each counts half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from emotion.monitoring import clusters
from emotion.monitoring.clusters import Interval, Measured
from emotion.vocabulary import label_set

LEFT_OUT = ("several", "no_speech", "cannot_tell")
"""Outcomes that say nothing of whether the answer is right; their number is given."""
NO_EMOTION = "none_of_these"
"""What a person heard is no emotion that the page offers: the answer is wrong."""
LEAST_LABELS = 10
"""With fewer labels there is no figure."""
LEAST_OF_EMOTION = 10
"""With fewer clips of an emotion, there is no figure of it."""
AIM = 0.05
"""The half width of an interval that is narrow enough."""
LABELS_OF_CHANCE = 384
"""So many independent labels make the interval ± :data:`AIM`, if half of them agree with the model."""
TOLERANCE = 0.05
"""Accuracy in use fell where the whole interval lies further than this below what training promised."""
LISTED = 5
LEAST_DISAGREEMENTS = 3
"""A pair of emotions that people heard and the model answered is named if it occurred so often."""


def of_model(settled: pd.DataFrame, *, version: str, family: str, trained_at: str = "") -> pd.DataFrame:
    """The labels by which one model may be judged.

    Parameters
    ----------
    settled : pandas.DataFrame
        A row per labelled item, see :mod:`emotion.review.settled`.
    version, family : str
    trained_at : str
        When the version was made, ISO 8601 in UTC. A clip of a recording that listeners had labelled a clip of, in a
        queue of before then, does not count: the version may have been trained on it.

    Examples
    --------
    >>> rows = {"version": ["one", "two", "two"], "family": "ensemble", "sha256": ["a", "a", "b"]}
    >>> rows |= {"made_at": ["2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"]}
    >>> of_model(pd.DataFrame(rows), version="two", family="ensemble", trained_at="2026-02-01T00:00:00Z").index.tolist()
    [2]
    """
    is_of_model = (settled["version"] == version) & (settled["family"] == family)
    if trained_at:
        moments = pd.to_datetime(settled["made_at"], utc=True, format="ISO8601")
        heard = settled.loc[moments < pd.to_datetime(trained_at, utc=True), "sha256"]
        is_of_model &= ~settled["sha256"].isin(set(heard) - {""})
    return settled[is_of_model]


def realized_accuracy(settled: pd.DataFrame, *, promised: float | None) -> dict:
    """The figures of one model, for JSON.

    Parameters
    ----------
    settled : pandas.DataFrame
        The labels of one model (:func:`of_model`), a row per labelled item, see :mod:`emotion.review.settled`. It may
        be empty.
    promised : float or None
        The model's accuracy on unheard speakers when it was trained; None where that is not known.

    Returns
    -------
    dict
        ``labels`` (how many count), ``left_out`` (how many do not, by outcome), ``speakers``, ``batches``, ``blind``
        (the share of labels that were given before the answer was shown); ``accuracy`` and ``f1_macro`` (value, low,
        high; None with fewer than :data:`LEAST_LABELS` labels); ``promised``; ``short_by`` (how far the whole interval
        lies below the promised accuracy less :data:`TOLERANCE`, 0 if it does not); ``more_labels`` (how many more are
        needed for ± :data:`AIM`) and ``message``, which says so; ``per_emotion`` (labels, and recall or None);
        ``confusion`` (``heard``, ``answered``, ``shares``: rows as heard, adding up to 1 in all); ``over_time`` (by
        the week in which the clips were scored: week, labels, value, low, high) and ``disagreements``
        (:func:`disagreements`).

    Examples
    --------
    >>> row = {"outcome": "emotion", "labels": ["sad"], "emotion": "sad", "probabilities": {"happy": 0.2, "sad": 0.8}}
    >>> row |= {"probability": 0.1, "speaker": "", "sha256": "", "audio": "", "batch": "b", "blind": True}
    >>> row |= {"made_at": "2026-01-05T10:00:00Z", "channel": ""}
    >>> few = [row | {"audio": str(number), "sha256": str(number)} for number in range(12)]
    >>> figures = realized_accuracy(pd.DataFrame(few), promised=0.6)
    >>> figures["labels"], figures["accuracy"]["value"], figures["accuracy"]["low"] < 0.8, figures["more_labels"] > 10
    (12, 1.0, True, True)
    >>> realized_accuracy(pd.DataFrame(few[:2]), promised=0.6)["message"]
    'Not enough labels yet: 382 more for ±5 points.'
    """
    counted = settled[~settled["outcome"].isin(LEFT_OUT)]
    votes = _votes(counted)
    return {
        "labels": len(counted),
        "left_out": {outcome: int((settled["outcome"] == outcome).sum()) for outcome in LEFT_OUT},
        "speakers": int(counted.loc[counted["speaker"] != "", "speaker"].nunique()),
        "batches": int(counted["batch"].nunique()),
        "blind": float(counted["blind"].mean()) if len(counted) else None,
        **_headline(votes, len(counted), promised),
        "per_emotion": _per_emotion(votes),
        "confusion": _confusion(votes),
        "over_time": _over_time(votes),
        "disagreements": disagreements(counted),
    }


def _headline(votes: pd.DataFrame, labels: int, promised: float | None) -> dict[str, Any]:
    """Accuracy and macro F1 with their intervals, against what was promised, and how many labels are missing."""
    accuracy, f1_macro, needed = None, None, LABELS_OF_CHANCE
    if labels >= LEAST_LABELS:
        share = _accuracy(votes)
        accuracy, f1_macro = clusters.interval(share), clusters.interval(_f1_macro(votes))
        needed = clusters.labels_for(share, AIM)
    is_narrow = accuracy is not None and accuracy["high"] - accuracy["low"] <= 2 * AIM
    more = 0 if is_narrow else max(needed - labels, 1)
    short_by = 0.0
    if accuracy is not None and promised is not None:
        short_by = max(promised - TOLERANCE - accuracy["high"], 0.0)
    return {
        "accuracy": accuracy,
        "f1_macro": f1_macro,
        "promised": promised,
        "short_by": short_by,
        "more_labels": more,
        "message": f"Not enough labels yet: {more:,} more for ±{100 * AIM:.0f} points." if more else "",
    }


def _votes(counted: pd.DataFrame) -> pd.DataFrame:
    """A row per label and person: heard, emotion (the answer), right, weight, and the clusters."""
    rows = counted[["labels", "emotion", "probability", "speaker", "sha256", "audio", "batch", "made_at"]].copy()
    rows["item"] = np.arange(len(rows))
    rows["known"] = [tuple(probabilities) for probabilities in counted["probabilities"]]
    rows["weight"] = 1 / rows["probability"] / rows["labels"].map(len) if len(rows) else 1.0
    rows = rows.explode("labels", ignore_index=True).rename(columns={"labels": "heard"})
    file = rows["sha256"].where(rows["sha256"] != "", rows["audio"]).astype(str)
    rows["voice"] = ("speaker " + rows["speaker"].astype(str)).where(rows["speaker"] != "", "file " + file)
    rows["file"] = file
    return rows.assign(right=(rows["heard"] == rows["emotion"]).astype(float))


def _clusters(votes: pd.DataFrame) -> dict[str, np.ndarray]:
    """The kinds of clusters, each with the cluster of every vote."""
    return {kind: votes[kind].to_numpy(dtype=str) for kind in clusters.USUAL}


def _accuracy(votes: pd.DataFrame) -> Measured:
    return clusters.weighted_mean(votes["right"].to_numpy(), votes["weight"].to_numpy(), _clusters(votes))


def _emotions(votes: pd.DataFrame) -> tuple[str, ...]:
    """The emotions that the model knows or that somebody heard."""
    known = {emotion for emotions in votes["known"].unique() for emotion in emotions}
    return label_set(known | set(votes["heard"]) - {NO_EMOTION} - set(LEFT_OUT))


def _f1_macro(votes: pd.DataFrame) -> Measured:
    """Macro F1 over the emotions of the model that were heard; how a clip moves it, by the derivative of F1."""
    shares = votes["weight"].to_numpy() / votes["weight"].sum()
    known = {emotion for emotions in votes["known"].unique() for emotion in emotions}
    values, influences = [], []
    for emotion in sorted(known & set(votes["heard"])):
        heard, answered = ((votes[column] == emotion).to_numpy(dtype=float) for column in ("heard", "emotion"))
        both, total = (shares * heard * answered).sum(), (shares * (heard + answered)).sum()
        f1 = 2 * both / total
        values.append(f1)
        influences.append(shares * (2 * heard * answered - f1 * (heard + answered)) / total)
    if not values:
        return Measured(0.0, np.zeros(len(votes)), shares, _clusters(votes))
    return Measured(float(np.mean(values)), np.mean(influences, axis=0), shares, _clusters(votes))


def _per_emotion(votes: pd.DataFrame) -> dict[str, dict]:
    """Of each emotion: how many labels, and which share of them the model got right (recall)."""
    figures = {}
    for emotion in _emotions(votes):
        heard = votes[votes["heard"] == emotion]
        clips = heard["item"].nunique()
        recall = clusters.interval(_accuracy(heard)) if clips >= LEAST_OF_EMOTION else None
        figures[emotion] = {"labels": int(clips), "recall": recall}
    return figures


def _confusion(votes: pd.DataFrame) -> dict:
    answered = list(_emotions(votes))
    heard = answered + sorted(set(votes["heard"]) - set(answered))
    weights = votes.groupby(["heard", "emotion"])["weight"].sum() / max(votes["weight"].sum(), 1e-300)
    shares = [[float(weights.get((row, column), 0.0)) for column in answered] for row in heard]
    return {"heard": heard, "answered": answered, "shares": shares}


def _over_time(votes: pd.DataFrame) -> list[dict]:
    weeks = pd.to_datetime(votes["made_at"], utc=True, format="ISO8601").dt.strftime("%G-W%V")
    figures = []
    for week, rows in votes.groupby(weeks):
        labels = int(rows["item"].nunique())
        known: Mapping[str, float | None] | Interval = dict.fromkeys(("value", "low", "high"))
        if labels >= LEAST_LABELS:
            known = clusters.interval(_accuracy(rows))
        figures.append({"week": str(week), "labels": labels, **known})
    return figures


def disagreements(counted: pd.DataFrame) -> list[dict]:
    """What people heard most often in place of what the model answered, most frequent first.

    ``counted``: a row per labelled item, with ``emotion`` (the answer) and ``labels``. These are plain counts of
    labels: they tell what to work on, and not how frequent an error is among all clips.

    >>> rows = pd.DataFrame({"emotion": ["disgust"] * 5, "labels": [["neutral"]] * 4 + [["disgust"]]})
    >>> [(row["clips"], row["times"], row["text"]) for row in disagreements(rows)]
    [(5, 4, 'Of 5 clips called disgust, listeners heard neutral in 4.')]
    """
    answers = Counter(counted["emotion"])
    pairs = Counter(
        (answer, heard)
        for answer, labels in zip(counted["emotion"], counted["labels"], strict=True)
        for heard in dict.fromkeys(labels)
        if heard != answer
    )
    frequent = [(pair, times) for pair, times in pairs.most_common(LISTED) if times >= LEAST_DISAGREEMENTS]
    return [
        {
            "answered": answer,
            "heard": heard,
            "clips": answers[answer],
            "times": times,
            "text": f"Of {answers[answer]} clips called {answer}, listeners heard {_words(heard)} in {times}.",
        }
        for (answer, heard), times in frequent
    ]


def _words(heard: str) -> str:
    return heard.replace("_", " ")
