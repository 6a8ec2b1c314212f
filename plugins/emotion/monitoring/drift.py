"""Is a batch still the kind of audio the model was trained on? Drift of features, of predictions and of
confidence.

A batch is summed up in a :class:`Sketch`: histograms and sums, added up shard by shard, of one size however
many clips there are. It is held against a :class:`Reference`, made of the training table when a version is
registered and kept with it.

Per feature: the population stability index over ten quantile bins, the two-sample Kolmogorov–Smirnov test
with Benjamini & Hochberg's (1995) control over features, and the *shift*: how far the batch's mean lies from
training's, in units of how much the mean of so many clips of *one new speaker* varies. Clips of a few
speakers are no independent sample, so every batch of new speakers is "significantly" different; the verdict
therefore goes by the shift, against levels that training speakers, each held out in turn, reach themselves in
batches of the same size.

Windows cut from long recordings do not count: a table of whole utterances says nothing of them.
"""

from __future__ import annotations

import io

import numpy as np
from scipy.stats import chi2, false_discovery_control

from emotion import features as acoustic
from emotion.monitoring.reference import MODES, SHIFT_FLOOR, SIZES, Reference, bin_counts, level_for
from emotion.monitoring.statistics import (
    PSI_BINS,
    confidence_counts,
    confidence_drop,
    emotion_counts,
    ks_p,
    ks_statistic,
    mean_shift,
    overall_shift,
    stability_index,
)

MARGIN = 1.25
"""The shift raises a watch beyond what held-out speakers reach, and an alarm beyond so many times that;
predictions, which also move with what people say, raise a watch beyond so many times what they reach."""
SIGNIFICANCE = 0.05
TOP_FEATURES = 20
VERDICTS = ("ok", "watch", "alarm")


class Sketch:
    """What drift needs to know of some clips; sketches of shards add up to that of the batch.

    Parameters
    ----------
    reference : Reference
        Whose bins to count in.
    """

    def __init__(self, reference: Reference):
        self.reference = reference
        self.clips = 0
        self.counts = np.zeros_like(reference.counts)
        self.sums = np.zeros(len(reference.mean))
        self.emotions = np.zeros_like(reference.emotions)
        self.confidence = np.zeros_like(reference.confidence)

    def add(self, values: np.ndarray) -> None:
        """Count clips' features, before any normalization by speaker: float32, shape (n, n_features)."""
        self.clips += len(values)
        self.counts += bin_counts(self.reference.edges, values)
        self.sums += values.sum(axis=0, dtype=np.float64)

    def add_predictions(self, probabilities: np.ndarray, modes: np.ndarray, *, family: str) -> None:
        """Count predictions: probabilities (n, 8) and ``plain`` or ``adapted`` (n,)."""
        for mode in MODES:
            rows = modes == mode
            model = list(self.reference.models).index(f"{family}/{mode}")
            self.emotions[model] += emotion_counts(probabilities[rows])
            self.confidence[model] += confidence_counts(probabilities[rows])

    def merge(self, data: bytes) -> None:
        """Add what another sketch of the same reference has given as :meth:`to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            self.clips += int(arrays["clips"])
            for name in ("counts", "sums", "emotions", "confidence"):
                getattr(self, name)[...] += arrays[name]

    def to_bytes(self) -> bytes:
        """As an ``.npz`` file."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            clips=self.clips,
            counts=self.counts.astype(np.int32),
            sums=self.sums,
            emotions=self.emotions,
            confidence=self.confidence,
        )
        return buffer.getvalue()


def judge(sketch: Sketch) -> dict:
    """The verdict on a batch.

    Returns
    -------
    dict
        ``verdict`` (``ok``, ``watch`` or ``alarm``), ``reasons`` (sentences), ``clips``, ``speakers`` (of the
        reference); ``features`` (``share`` that moved: significantly different *and* shifted by more than 3
        of a new speaker's standard deviations; ``significant`` share; ``shift``, its 99th percentile over
        features; the levels ``watch`` and ``alarm``); ``emotions`` (``psi``, ``p`` by chi-square, ``watch``)
        and ``confidence`` (``ks``, ``p``, ``drop``, one-sided, ``watch``), whose drift alone raises no more
        than a watch: they also move with what people say; ``top``: the features that moved most (feature,
        description, shift, psi, ks, p adjusted, mean, training_mean). Of fewer clips than :data:`SIZES`
        begins with, no figures are given.
    """
    known = sketch.reference
    found = {"verdict": "ok", "clips": sketch.clips, "speakers": int(known.speakers)}
    if sketch.clips < SIZES[0]:
        reason = f"{sketch.clips} clips are too few to tell; at least {SIZES[0]} are needed."
        return found | {
            "reasons": [reason],
            "features": None,
            "emotions": None,
            "confidence": None,
            "top": [],
        }
    batch_mean = sketch.sums / sketch.clips
    shift = mean_shift(batch_mean, sketch.clips, known.mean, known.deviation, known.spread)
    psi = stability_index(
        *(counts.reshape(len(counts), PSI_BINS, -1).sum(axis=2) for counts in (sketch.counts, known.counts))
    )
    distance = ks_statistic(sketch.counts, known.counts)
    adjusted = false_discovery_control(ks_p(distance, sketch.clips, int(known.clips)), method="bh")
    significant = adjusted <= SIGNIFICANCE
    overall, watch = overall_shift(shift), level_for(known.shift_levels, sketch.clips)
    found["features"] = {
        "share": float((significant & (np.abs(shift) > SHIFT_FLOOR)).mean()),
        "significant": float(significant.mean()),
        "shift": overall,
        "watch": watch,
        "alarm": MARGIN * watch,
    }
    found["emotions"], found["confidence"] = _prediction_drift(sketch)
    reasons = []
    for name, figure, label, text in (
        ("emotions", "psi", "PSI", "The mix of predicted emotions"),
        ("confidence", "drop", "one-sided KS", "The confidence, which is lower,"),
    ):
        value, level = found[name][figure], found[name]["watch"]
        if level is not None and value > level:
            found["verdict"] = "watch"
            reasons.append(
                f"{text} differs from that on held-out clips of training ({label} {value:.2f}); clips of "
                f"single training speakers stay well within {level:.2f}."
            )
    if overall > watch:
        found["verdict"] = "alarm" if overall > MARGIN * watch else "watch"
        reasons.insert(
            0,
            f"The audio differs from training: 1 % of the features lie {overall:.1f} or more of a new "
            f"speaker's standard deviations away; clips of single training speakers stay within {watch:.1f}, "
            f"an alarm begins at {MARGIN * watch:.1f}.",
        )
    found["reasons"] = reasons or [
        "The audio, the predicted emotions and the confidence are within what single speakers of the "
        f"{known.speakers} in training reach."
    ]
    found["top"] = [
        {
            "feature": str(known.names[i]),
            "description": acoustic.describe(str(known.names[i])),
            "shift": float(shift[i]),
            "psi": float(psi[i]),
            "ks": float(distance[i]),
            "p": float(adjusted[i]),
            "mean": float(batch_mean[i]),
            "training_mean": float(known.mean[i]),
        }
        for i in np.argsort(-np.abs(shift), kind="stable")[:TOP_FEATURES]
    ]
    return found


def _prediction_drift(sketch: Sketch) -> tuple[dict, dict]:
    """Drift of predicted emotions and of confidence, against held-out predictions in the batch's mix of
    modes."""
    known = sketch.reference
    share = sketch.emotions.sum(axis=1) / sketch.emotions.sum()
    clips = int(sketch.emotions.sum())
    emotions, confidence = sketch.emotions.sum(axis=0), sketch.confidence.sum(axis=0)
    expected_emotions, expected_confidence = share @ known.emotions, share @ known.confidence
    distance = ks_statistic(confidence, expected_confidence)
    return (
        {
            "psi": float(stability_index(emotions, expected_emotions)),
            "p": _homogeneity(emotions, expected_emotions),
            "watch": _calibrated(share @ known.emotion_levels, clips),
        },
        {
            "ks": float(distance),
            "p": float(ks_p(distance, clips, int(known.clips))),
            "drop": confidence_drop(confidence, expected_confidence),
            "watch": _calibrated(share @ known.confidence_levels, clips),
        },
    )


def _calibrated(levels: np.ndarray, clips: int) -> float | None:
    level = level_for(levels, clips)
    return None if np.isnan(level) else MARGIN * level


def _homogeneity(found: np.ndarray, expected: np.ndarray) -> float:
    """p of the chi-square test that two rows of counts are of one distribution."""
    table = np.array([found, expected])[:, (found + expected) > 0]
    fitted = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(chi2.sf(((table - fitted) ** 2 / fitted).sum(), max(table.shape[1] - 1, 1)))
