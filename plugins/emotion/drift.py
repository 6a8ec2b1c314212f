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
from dataclasses import dataclass, fields
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from scipy.stats import chi2, false_discovery_control, kstwobign

from emotion import features as acoustic
from emotion.errors import BundleError
from emotion.labels import EMOTIONS
from emotion.training import PROBABILITIES

REFERENCE = "drift_reference.npz"
"""File name of a version's reference."""

MODES = {"plain": "speaker_independent", "adapted": "speaker_independent_adapted"}
"""How a clip was predicted → the protocol whose held-out predictions it is compared with."""

BINS = 50
"""Quantile bins in which a feature is counted; the KS statistic is taken at their edges."""
PSI_BINS = 10
CONFIDENCE_BINS = 100
PRIOR_COUNT = 0.5
"""Added to each PSI bin (Jeffreys' prior), so that an empty bin costs much but not infinitely much."""

SIZES = (4, 8, 16, 32, 64, 128, 256)
"""Batch sizes, in clips, for which levels are calibrated; smaller batches are not judged."""
DRAWS = 3
LEAST_SPEAKERS = 4
"""With fewer training speakers none can be held out to calibrate; :data:`UNCALIBRATED` stands in for all
levels."""
SHIFT_QUANTILE = 0.99
SHIFT_FLOOR = 3.0
UNCALIBRATED = 4.0
MARGIN = 1.25
"""The shift raises a watch beyond what held-out speakers reach, and an alarm beyond so many times that;
predictions, which also move with what people say, raise a watch beyond so many times what they reach."""
PRIOR_SPEAKERS = 4
"""Degrees of freedom of the prior that steadies the between-speaker variances of features (Smyth 2004)."""
SIGNIFICANCE = 0.05
TOP_FEATURES = 20
LARGEST_SHIFT = 1000.0

VERDICTS = ("ok", "watch", "alarm")


@dataclass(frozen=True, eq=False)
class Reference:
    """What a batch is held against.

    Attributes
    ----------
    names : str array, shape (n_features,)
    edges : float32 array, shape (n_features, BINS - 1)
        Quantiles of the training clips.
    counts : int64 array, shape (n_features, BINS)
        Training clips between them.
    mean, deviation : float64 array, shape (n_features,)
        Of the training clips.
    spread : float64 array, shape (n_features,)
        Standard deviation of one new speaker's mean about ``mean``.
    clips, speakers : int array, shape ()
        Of the training table.
    shift_levels : float64 array, shape (len(SIZES),)
        The largest shift of a held-out training speaker's clips, by batch size.
    models : str array, shape (n_models,)
        ``<family>/<mode>`` of the rows below.
    emotions : int64 array, shape (n_models, 8)
        Predicted emotions of held-out clips.
    confidence : int64 array, shape (n_models, CONFIDENCE_BINS)
        Histogram of their confidence over 0 … 1.
    emotion_levels, confidence_levels : float64 array, shape (n_models, len(SIZES))
        The largest PSI, and drop in confidence, of a training speaker's held-out predictions, by batch size;
        NaN where there are too few speakers to calibrate.
    """

    names: np.ndarray
    edges: np.ndarray
    counts: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    spread: np.ndarray
    clips: np.ndarray
    speakers: np.ndarray
    shift_levels: np.ndarray
    models: np.ndarray
    emotions: np.ndarray
    confidence: np.ndarray
    emotion_levels: np.ndarray
    confidence_levels: np.ndarray

    def to_bytes(self) -> bytes:
        """As an ``.npz`` file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Reference:
        """From :meth:`to_bytes`; nothing is unpickled. Raises BundleError if it is no such file."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls(**{field.name: arrays[field.name] for field in fields(cls)})
        except (ValueError, KeyError, OSError, BadZipFile) as error:
            raise BundleError(
                f"{REFERENCE} is no drift reference this code reads ({error}): train again"
            ) from error


def reference(
    values: np.ndarray,
    speakers: np.ndarray,
    predictions: dict[str, pd.DataFrame],
    *,
    names: tuple[str, ...],
    seed: int,
) -> Reference:
    """Sum up a training table.

    Parameters
    ----------
    values : float32 array, shape (n_clips, n_features)
    speakers : array of str, shape (n_clips,)
    predictions : dict of pandas.DataFrame
        Per family its held-out predictions: protocol, row (of ``values``) and eight probabilities.
    names : tuple of str, length n_features
    seed : int
        For the draws of batches that calibrate the levels.
    """
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], axis=0).T.astype(np.float32)
    mean, deviation, spread = _speaker_spread(values, speakers)
    known = np.unique(speakers)
    draws = [] if len(known) < LEAST_SPEAKERS else _draws(speakers, seed)
    around = {}
    for speaker in dict.fromkeys(speaker for speaker, _ in draws):
        others = speakers != speaker
        around[speaker] = _speaker_spread(values[others], speakers[others])
    shifts = [
        (
            len(rows),
            _overall(_shift(values[rows].mean(axis=0, dtype=np.float64), len(rows), *around[speaker])),
        )
        for speaker, rows in draws
    ]
    shift_levels = np.maximum(_levels(shifts), SHIFT_FLOOR) if draws else np.full(len(SIZES), UNCALIBRATED)
    held_out = {
        f"{family}/{mode}": frame[frame["protocol"] == protocol].sort_values("row")
        for family, frame in predictions.items()
        for mode, protocol in MODES.items()
    }
    emotions, confidence, emotion_levels, confidence_levels = [], [], [], []
    for name, frame in held_out.items():
        if not np.array_equal(frame["row"], np.arange(len(values))):
            raise ValueError(
                f"the held-out predictions of {name} are not one for each of {len(values)} clips"
            )
        probabilities = frame[PROBABILITIES].to_numpy()
        emotion, bins = _emotion_counts(probabilities), _confidence_counts(probabilities)
        emotions.append(emotion)
        confidence.append(bins)
        psis, drops = [], []
        for _, rows in draws:
            own_emotion, own_bins = (
                _emotion_counts(probabilities[rows]),
                _confidence_counts(probabilities[rows]),
            )
            psis.append((len(rows), float(_psi(own_emotion, emotion))))
            drops.append((len(rows), _drop(own_bins, bins)))
        emotion_levels.append(_levels(psis) if draws else np.full(len(SIZES), np.nan))
        confidence_levels.append(_levels(drops) if draws else np.full(len(SIZES), np.nan))
    return Reference(
        names=np.array(names),
        edges=edges,
        counts=_count(edges, values),
        mean=mean,
        deviation=deviation,
        spread=spread,
        clips=np.array(len(values)),
        speakers=np.array(len(known)),
        shift_levels=shift_levels,
        models=np.array(list(held_out)),
        emotions=np.array(emotions),
        confidence=np.array(confidence),
        emotion_levels=np.array(emotion_levels),
        confidence_levels=np.array(confidence_levels),
    )


def _speaker_spread(values: np.ndarray, speakers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and deviation of the clips, and by how much a new speaker's mean differs from that mean.

    The variance between few speakers is itself a rough estimate; it is drawn towards the share of the clips'
    variance that is typical of all features (Smyth 2004, "Linear models and empirical Bayes methods").
    """
    values = values.astype(np.float64)
    known = np.unique(speakers)
    means = np.array([values[speakers == speaker].mean(axis=0) for speaker in known])
    mean, variance = values.mean(axis=0), values.var(axis=0)
    between = means.var(axis=0, ddof=1) if len(known) > 1 else variance
    typical = np.median(between[variance > 0] / variance[variance > 0])
    freedom = len(known) - 1
    steadied = (freedom * between + PRIOR_SPEAKERS * typical * variance) / (freedom + PRIOR_SPEAKERS)
    return mean, np.sqrt(variance), np.sqrt(steadied * (1 + 1 / len(known)))


def _draws(speakers: np.ndarray, seed: int) -> list[tuple[str, np.ndarray]]:
    """Batches as they come of one speaker: all of her clips, and random ones of each calibrated size."""
    rng = np.random.default_rng(seed)
    draws = []
    for speaker in np.unique(speakers):
        own = np.flatnonzero(speakers == speaker)
        sizes = [size for size in SIZES if size < len(own)] * DRAWS
        draws += [(speaker, rng.choice(own, size, replace=False)) for size in sizes]
        draws.append((speaker, own))
    return draws


def _levels(found: list[tuple[int, float]]) -> np.ndarray:
    """The largest value of batches of at least each of SIZES; of the next smaller size where none is so
    large."""
    levels: list[float] = []
    for size in SIZES:
        reached = [value for clips, value in found if clips >= size]
        levels.append(max(reached) if reached else levels[-1] if levels else max(value for _, value in found))
    return np.array(levels)


def _level(levels: np.ndarray, clips: int) -> float:
    return float(levels[np.searchsorted(SIZES, clips, side="right") - 1])


def _count(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    counts = np.empty((len(edges), BINS), dtype=np.int64)
    for feature, inner in enumerate(edges):
        counts[feature] = np.bincount(inner.searchsorted(values[:, feature], side="right"), minlength=BINS)
    return counts


def _emotion_counts(probabilities: np.ndarray) -> np.ndarray:
    return np.bincount(probabilities.argmax(axis=1), minlength=len(EMOTIONS))


def _confidence_counts(probabilities: np.ndarray) -> np.ndarray:
    bins = np.minimum((probabilities.max(axis=1) * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    return np.bincount(bins, minlength=CONFIDENCE_BINS)


def _psi(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Population stability index along the last axis, of counts."""
    found, expected = found + PRIOR_COUNT, expected + PRIOR_COUNT
    found = found / found.sum(axis=-1, keepdims=True)
    expected = expected / expected.sum(axis=-1, keepdims=True)
    return ((found - expected) * np.log(found / expected)).sum(axis=-1)


def _ks(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Two-sample Kolmogorov–Smirnov statistic at the bins' edges, along the last axis, of counts."""
    found = found.cumsum(axis=-1) / found.sum(axis=-1, keepdims=True)
    expected = expected.cumsum(axis=-1) / expected.sum(axis=-1, keepdims=True)
    return np.abs(found - expected).max(axis=-1)


def _drop(found: np.ndarray, expected: np.ndarray) -> float:
    """The one-sided KS statistic of confidence: by how much more of the batch lies below some confidence."""
    return float((found.cumsum() / found.sum() - expected.cumsum() / expected.sum()).max())


def _ks_p(statistic: np.ndarray, clips: int, reference_clips: int) -> np.ndarray:
    """Its p-value (Stephens 1970)."""
    root = np.sqrt(clips * reference_clips / (clips + reference_clips))
    return kstwobign.sf((root + 0.12 + 0.11 / root) * statistic)


def _shift(
    batch_mean: np.ndarray, clips: int, mean: np.ndarray, deviation: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    scale = np.sqrt(spread**2 + deviation**2 / clips)
    away = batch_mean - mean
    rounding = 1e-5 * np.abs(mean) + 1e-12  # of float32 features that never varied in training
    return np.clip(away / np.maximum(scale, rounding), -LARGEST_SHIFT, LARGEST_SHIFT)


def _overall(shift: np.ndarray) -> float:
    return float(np.quantile(np.abs(shift), SHIFT_QUANTILE))


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
        self.counts += _count(self.reference.edges, values)
        self.sums += values.sum(axis=0, dtype=np.float64)

    def add_predictions(self, probabilities: np.ndarray, modes: np.ndarray, *, family: str) -> None:
        """Count predictions: probabilities (n, 8) and ``plain`` or ``adapted`` (n,)."""
        for mode in MODES:
            rows = modes == mode
            model = list(self.reference.models).index(f"{family}/{mode}")
            self.emotions[model] += _emotion_counts(probabilities[rows])
            self.confidence[model] += _confidence_counts(probabilities[rows])

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
    shift = _shift(batch_mean, sketch.clips, known.mean, known.deviation, known.spread)
    psi = _psi(
        *(counts.reshape(len(counts), PSI_BINS, -1).sum(axis=2) for counts in (sketch.counts, known.counts))
    )
    distance = _ks(sketch.counts, known.counts)
    adjusted = false_discovery_control(_ks_p(distance, sketch.clips, int(known.clips)), method="bh")
    significant = adjusted <= SIGNIFICANCE
    overall, watch = _overall(shift), _level(known.shift_levels, sketch.clips)
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
    distance = _ks(confidence, expected_confidence)
    return (
        {
            "psi": float(_psi(emotions, expected_emotions)),
            "p": _homogeneity(emotions, expected_emotions),
            "watch": _calibrated(share @ known.emotion_levels, clips),
        },
        {
            "ks": float(distance),
            "p": float(_ks_p(distance, clips, int(known.clips))),
            "drop": _drop(confidence, expected_confidence),
            "watch": _calibrated(share @ known.confidence_levels, clips),
        },
    )


def _calibrated(levels: np.ndarray, clips: int) -> float | None:
    level = _level(levels, clips)
    return None if np.isnan(level) else MARGIN * level


def _homogeneity(found: np.ndarray, expected: np.ndarray) -> float:
    """p of the chi-square test that two rows of counts are of one distribution."""
    table = np.array([found, expected])[:, (found + expected) > 0]
    fitted = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(chi2.sf(((table - fitted) ** 2 / fitted).sum(), max(table.shape[1] - 1, 1)))
