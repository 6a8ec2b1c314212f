"""The verdict on a batch: does it differ from the training set in its features, predicted emotions or confidence?

A batch is summarized by a :class:`Sketch`: histograms and sums, added up shard by shard, whose size does not depend on
the number of clips. It is compared with a :class:`Reference`, which is made from the training table when a version is
registered, and kept with it.

Per feature there are: the population stability index over ten quantile bins; the two-sample Kolmogorov–Smirnov test,
with Benjamini & Hochberg's (1995) control over features; and the *shift*: how far the batch's mean lies from the mean
in training, in units of how much the mean of so many clips of *one new speaker* varies. Clips of a few speakers are no
independent sample, so a test finds every batch of new speakers "significantly" different. The verdict therefore goes
by the shift. Its levels are what training speakers reach in batches of the same size, each held out in turn.

Windows cut from long recordings do not count: the training table has whole utterances, with which they cannot be
compared.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from emotion import features as acoustic
from emotion.monitoring.changes import group_drift
from emotion.monitoring.recording import causes, medians, quality_counts
from emotion.monitoring.reference import SHIFT_FLOOR, SIZES, Reference, bin_counts, level_for
from emotion.monitoring.statistics import (
    PSI_BINS,
    confidence_counts,
    confidence_drop,
    emotion_counts,
    false_discovery,
    ks_p,
    ks_statistic,
    mean_shift,
    overall_shift,
    stability_index,
)
from emotion.vocabulary import MODES, probabilities_of

MARGIN = 1.25
"""The factor between levels. A shift above the level of held-out speakers is a watch; above MARGIN times that level, it
is an alarm. Predictions are a watch above MARGIN times the level of held-out speakers, and never an alarm: they also
change with what people say."""
SIGNIFICANCE = 0.05
TOP_FEATURES = 20
VERDICTS = ("ok", "watch", "alarm")
UNKNOWN = "unknown"
"""Stands for a verdict where there is none: the batch has too few clips, or judging it failed."""


class Sketch:
    """Summary of some clips for the drift verdict; the sketches of all shards add up to that of the batch.

    Parameters
    ----------
    reference : Reference
        Its bins are used.

    Examples
    --------
    >>> import pandas as pd
    >>> from emotion.features.quality import Quality
    >>> from emotion.monitoring.reference import build_reference
    >>> from emotion.vocabulary import MODES
    >>> rng = np.random.default_rng(0)
    >>> values, speakers = rng.normal(size=(60, 1)).astype(np.float32), np.repeat(["a", "b", "c", "d", "e"], 12)
    >>> answers = pd.DataFrame(rng.dirichlet(np.ones(2), 60), columns=["p_happy", "p_sad"]).assign(row=range(60))
    >>> answers["emotion"] = "sad"
    >>> held_out = pd.concat([answers.assign(protocol=protocol) for protocol in MODES.values()])
    >>> name = acoustic.feature_names()[0]
    >>> quality, predictions = pd.DataFrame([Quality(-30, 50, 8000, 0, 2)] * 60), {"random_forest": held_out}
    >>> reference = build_reference(values, speakers, predictions, names=(name,), quality=quality, seed=0)
    >>> batch = Sketch(reference)
    >>> batch.add(values[:12] + 10)  # ten standard deviations higher than in training
    >>> batch.add_predictions(probabilities_of(answers)[:12], np.full(12, "plain"), family="random_forest")
    >>> verdict = judge(batch)
    >>> verdict["verdict"], verdict["top"][0]["feature"] == name
    ('alarm', True)
    """

    def __init__(self, reference: Reference):
        self.reference = reference
        self.clips = 0
        self.counts = np.zeros_like(reference.counts)
        self.sums = np.zeros(len(reference.mean))
        self.emotions = np.zeros_like(reference.emotions)
        self.confidence = np.zeros_like(reference.confidence)
        self.quality = np.zeros_like(reference.quality)

    def add(self, values: np.ndarray) -> None:
        """Count features as they are, not normalized: float32, shape (n, n_features)."""
        self.clips += len(values)
        self.counts += bin_counts(self.reference.edges, values)
        self.sums += values.sum(axis=0, dtype=np.float64)

    def add_clips(self, table: pd.DataFrame, vectors: np.ndarray, *, family: str) -> None:
        """Count clips with their answers.

        Parameters
        ----------
        table : pandas.DataFrame
            A row per clip: its probabilities, ``mode``, quality, and ``vector``, the row of its features.
        vectors : float32 array, shape (n, n_features)
            Features as they are, not normalized.
        family : str
            The model that answered.
        """
        if len(table):
            self.add(vectors[table["vector"]])
            self.quality += quality_counts(table)
            self.add_predictions(probabilities_of(table), table["mode"].to_numpy(), family=family)

    def add_predictions(self, probabilities: np.ndarray, modes: np.ndarray, *, family: str) -> None:
        """Count predictions: probabilities (n, n_emotions) and modes (n,), see :data:`emotion.vocabulary.MODES`."""
        for mode in MODES:
            rows = modes == mode
            model = list(self.reference.models).index(f"{family}/{mode}")
            self.emotions[model] += emotion_counts(probabilities[rows])
            self.confidence[model] += confidence_counts(probabilities[rows])

    def merge(self, data: bytes) -> None:
        """Add another sketch of the same reference, as its :meth:`to_bytes` wrote it."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            self.clips += int(arrays["clips"])
            for name in ("counts", "sums", "emotions", "confidence", "quality"):
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
            quality=self.quality,
        )
        return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class _FeatureDrift:
    """Per feature, shape (n_features,): the batch's mean, its distance from training's in units of the distance of one
    new speaker, its shift, PSI, KS statistic and adjusted p."""

    mean: np.ndarray
    distance: np.ndarray
    shift: np.ndarray
    psi: np.ndarray
    ks: np.ndarray
    p: np.ndarray


def judge(sketch: Sketch) -> dict:
    """The verdict on a batch; :class:`Sketch` shows an example.

    Returns
    -------
    dict
        ``verdict`` (``ok``, ``watch``, ``alarm`` or ``unknown``), ``reasons`` (sentences), ``clips``, ``speakers``
        (of the reference).

        ``features``: ``share`` of the features that differ significantly *and* have a shift of more than 3;
        ``significant``, the share that differs significantly; ``shift``, its 99th percentile over features; the levels
        ``watch`` and ``alarm``.

        ``emotions`` (``psi``, ``p`` by chi-square, ``watch``) and ``confidence`` (``ks``, ``p``, ``drop``, which is
        one-sided, ``watch``). These two alone give at most a watch: they also change with what people say.

        ``recording``: medians of the recordings' quality in the ``batch`` and in ``training``, and ``causes``:
        sentences that name what differs. Where the features drift, the reasons have them too.

        ``groups``: the groups of features, the farthest moved first, in words
        (:func:`emotion.monitoring.changes.group_drift`).

        ``top``: the features with the largest shifts (feature, description, shift, psi, ks, p adjusted, mean,
        training_mean).

        For a batch of fewer clips than the smallest of :data:`SIZES`, the verdict is ``unknown``, and there are no
        figures.
    """
    known = sketch.reference
    head = {"verdict": UNKNOWN, "clips": sketch.clips, "speakers": int(known.speakers)}
    head["recording"] = recording = _recording(sketch)
    if sketch.clips < SIZES[0]:
        reason = f"{sketch.clips} clips are too few to judge; at least {SIZES[0]} are needed."
        nothing: dict = {"features": None, "emotions": None, "confidence": None, "groups": [], "top": []}
        return head | {"reasons": [reason]} | nothing
    moved = _feature_drift(sketch)
    features = _feature_figures(moved, watch=level_for(known.shift_levels, sketch.clips))
    emotions, confidence = _prediction_drift(sketch)
    verdict, reasons = _verdict(features, emotions, confidence)
    if features["shift"] > features["watch"]:
        reasons[1:1] = recording["causes"]
    return head | {
        "verdict": verdict,
        "features": features,
        "emotions": emotions,
        "confidence": confidence,
        "reasons": reasons
        or [
            "The audio, the predicted emotions and the confidence differ from the training set no more than those of "
            f"single training speakers ({known.speakers}) do."
        ],
        "groups": group_drift(moved.shift, moved.distance, known.names.tolist()),
        "top": _most_shifted(moved, known),
    }


def not_judged(reason: str) -> dict:
    """What stands for the verdict of :func:`judge` where it fails; ``reason`` is a sentence.

    >>> not_judged("The reference is damaged.")["verdict"]
    'unknown'
    """
    figures = dict.fromkeys(("features", "emotions", "confidence", "recording"))
    return {"verdict": UNKNOWN, "clips": 0, "speakers": 0, "reasons": [reason], "groups": [], "top": []} | figures


def _recording(sketch: Sketch) -> dict:
    batch, training = medians(sketch.quality), medians(sketch.reference.quality)
    return {"batch": batch, "training": training, "causes": causes(batch, training)}


def _feature_drift(sketch: Sketch) -> _FeatureDrift:
    known = sketch.reference
    batch_mean = sketch.sums / sketch.clips
    batch_bins, training_bins = (
        counts.reshape(len(counts), PSI_BINS, -1).sum(axis=2) for counts in (sketch.counts, known.counts)
    )
    distance = ks_statistic(sketch.counts, known.counts)
    return _FeatureDrift(
        mean=batch_mean,
        distance=np.divide(
            batch_mean - known.mean, known.spread, out=np.zeros_like(batch_mean), where=known.spread > 0
        ),
        shift=mean_shift(batch_mean, sketch.clips, known.mean, known.deviation, known.spread),
        psi=stability_index(batch_bins, training_bins),
        ks=distance,
        p=false_discovery(ks_p(distance, sketch.clips, int(known.clips))),
    )


def _feature_figures(moved: _FeatureDrift, *, watch: float) -> dict[str, float]:
    significant = moved.p <= SIGNIFICANCE
    return {
        "share": float((significant & (np.abs(moved.shift) > SHIFT_FLOOR)).mean()),
        "significant": float(significant.mean()),
        "shift": overall_shift(moved.shift),
        "watch": watch,
        "alarm": MARGIN * watch,
    }


def _verdict(features: dict, emotions: dict, confidence: dict) -> tuple[str, list[str]]:
    """Verdict and reasons; no reasons where the verdict is ok."""
    verdict, reasons = "ok", []
    if features["shift"] > features["watch"]:
        verdict = "alarm" if features["shift"] > features["alarm"] else "watch"
        reasons.append(
            f"The audio differs from the training set: 1 % of the features have a shift of {features['shift']:.1f} or "
            f"more. Clips of single training speakers stay within {features['watch']:.1f}, where a watch begins; an "
            f"alarm begins at {features['alarm']:.1f}."
        )
    for subject, label, value, watch in (
        ("The mix of predicted emotions differs from", "PSI", emotions["psi"], emotions["watch"]),
        ("The confidence is lower than", "one-sided KS statistic", confidence["drop"], confidence["watch"]),
    ):
        if watch is not None and value > watch:
            verdict = "alarm" if verdict == "alarm" else "watch"
            reasons.append(
                f"{subject} that of the held-out training clips ({label} {value:.2f}). A watch begins at {watch:.2f}, "
                f"{MARGIN} times the largest value of single training speakers."
            )
    return verdict, reasons


def _most_shifted(moved: _FeatureDrift, known: Reference) -> list[dict]:
    return [
        {
            "feature": str(known.names[i]),
            "description": acoustic.describe(str(known.names[i])),
            "shift": float(moved.shift[i]),
            "psi": float(moved.psi[i]),
            "ks": float(moved.ks[i]),
            "p": float(moved.p[i]),
            "mean": float(moved.mean[i]),
            "training_mean": float(known.mean[i]),
        }
        for i in np.argsort(-np.abs(moved.shift), kind="stable")[:TOP_FEATURES]
    ]


def _prediction_drift(sketch: Sketch) -> tuple[dict, dict]:
    """Drift of predicted emotions, and of confidence.

    The held-out predictions of the modes are mixed in the proportion in which the batch has them.
    """
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
            "watch": _watch_level(share @ known.emotion_levels, clips),
        },
        {
            "ks": float(distance),
            "p": float(ks_p(distance, clips, int(known.clips))),
            "drop": confidence_drop(confidence, expected_confidence),
            "watch": _watch_level(share @ known.confidence_levels, clips),
        },
    )


def _watch_level(levels: np.ndarray, clips: int) -> float | None:
    """The level from which predictions are a watch; None where the reference has too few speakers to calibrate it."""
    level = level_for(levels, clips)
    return None if np.isnan(level) else MARGIN * level


def _homogeneity(counts: np.ndarray, expected: np.ndarray) -> float:
    """p of the chi-square test that two rows of counts are of one distribution."""
    table = np.array([counts, expected])[:, (counts + expected) > 0]
    fitted = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(chdtrc(max(table.shape[1] - 1, 1), ((table - fitted) ** 2 / fitted).sum()))
