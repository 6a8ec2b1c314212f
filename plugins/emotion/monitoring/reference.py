"""What a batch is compared with: a summary of the training table, and levels that training speakers reach."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from emotion.errors import BundleError
from emotion.monitoring.statistics import (
    confidence_counts,
    confidence_drop,
    emotion_counts,
    mean_shift,
    overall_shift,
    stability_index,
)
from emotion.vocabulary import PROBABILITIES

REFERENCE = "drift_reference.npz"
"""File name of a version's reference."""
MODES = {"plain": "speaker_independent", "adapted": "speaker_independent_adapted"}
"""How a clip was predicted → the protocol whose held-out predictions it is compared with."""
BINS = 50
"""Quantile bins in which a feature is counted; the KS statistic is taken at their edges."""
SIZES = (4, 8, 16, 32, 64, 128, 256)
"""Batch sizes, in clips, for which levels are calibrated; smaller batches are not judged."""
DRAWS = 3
LEAST_SPEAKERS = 4
"""With fewer training speakers none can be held out to calibrate; :data:`UNCALIBRATED` stands in for all
levels."""
SHIFT_FLOOR = 3.0
UNCALIBRATED = 4.0
PRIOR_SPEAKERS = 4
"""Degrees of freedom of the prior that steadies the between-speaker variances of features (Smyth 2004)."""


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
            raise BundleError(f"{REFERENCE} is no drift reference this code reads ({error}): train again") from error


def build_reference(
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
            overall_shift(mean_shift(values[rows].mean(axis=0, dtype=np.float64), len(rows), *around[speaker])),
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
            raise ValueError(f"the held-out predictions of {name} are not one for each of {len(values)} clips")
        probabilities = frame[PROBABILITIES].to_numpy()
        emotion, bins = emotion_counts(probabilities), confidence_counts(probabilities)
        emotions.append(emotion)
        confidence.append(bins)
        psis, drops = [], []
        for _, rows in draws:
            own_emotion, own_bins = (
                emotion_counts(probabilities[rows]),
                confidence_counts(probabilities[rows]),
            )
            psis.append((len(rows), float(stability_index(own_emotion, emotion))))
            drops.append((len(rows), confidence_drop(own_bins, bins)))
        emotion_levels.append(_levels(psis) if draws else np.full(len(SIZES), np.nan))
        confidence_levels.append(_levels(drops) if draws else np.full(len(SIZES), np.nan))
    return Reference(
        names=np.array(names),
        edges=edges,
        counts=bin_counts(edges, values),
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


def level_for(levels: np.ndarray, clips: int) -> float:
    return float(levels[np.searchsorted(SIZES, clips, side="right") - 1])


def bin_counts(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    counts = np.empty((len(edges), BINS), dtype=np.int64)
    for feature, inner in enumerate(edges):
        counts[feature] = np.bincount(inner.searchsorted(values[:, feature], side="right"), minlength=BINS)
    return counts
