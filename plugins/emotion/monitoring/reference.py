"""What a batch is compared with: a summary of the training table, and levels that single training speakers reach."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from itertools import groupby
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from emotion.errors import BundleError
from emotion.models.adaptation import Statistics, measure
from emotion.models.sums import Rows
from emotion.monitoring.recording import quality_counts
from emotion.monitoring.statistics import (
    confidence_counts,
    confidence_drop,
    emotion_counts,
    evidence_of,
    find_mix,
    mean_shift,
    mix_deviation,
    overall_shift,
    stability_index,
)
from emotion.vocabulary import MODES, emotions_of, probabilities_of

REFERENCE = "drift_reference.npz"
"""File name of a version's reference."""
BINS = 50
"""Quantile bins in which a feature is counted; the KS statistic is taken at their edges."""
SIZES = (4, 8, 16, 32, 64, 128, 256)
"""Batch sizes, in clips, for which levels are calibrated; smaller batches are not judged."""
DRAWS = 3
"""Random batches per speaker and size that calibrate the levels."""
LEAST_SPEAKERS = 4
"""With fewer training speakers, none is held out to calibrate the levels: the level of the shift is then
:data:`UNCALIBRATED`, and predictions raise no watch."""
SHIFT_FLOOR = 3.0
"""The level of the shift is never below this."""
UNCALIBRATED = 4.0
COLUMNS = 64
"""Features whose quantiles are computed at once."""
ROUNDING = 1e-12
"""A variance that is at most this share of another one, from which it was computed, is 0."""
PRIOR_SPEAKERS = 4
"""Degrees of freedom of the prior for the between-speaker variances of features (Smyth 2004)."""

_ADDED = {"calibration_spread": (0,), "priors": (0, 0), "mix_spread": (0, 0)}
"""What a reference of an earlier release lacks, and the shape that stands for it."""

SpeakerBatch = tuple[str, np.ndarray]
"""A speaker, and the row numbers of some of the speaker's clips."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What a batch is compared with.

    Attributes
    ----------
    names : str array, shape (n_features,)
    edges : float32 array, shape (n_features, BINS - 1)
        Quantiles of the training clips.
    counts : int64 array, shape (n_features, BINS)
        Training clips between these quantiles.
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
    emotions : int64 array, shape (n_models, n_emotions)
        Predicted emotions of held-out clips, in the order of the version's label set.
    confidence : int64 array, shape (n_models, CONFIDENCE_BINS)
        Histogram of their confidence over 0 … 1.
    emotion_levels, confidence_levels : float64 array, shape (n_models, len(SIZES))
        The largest PSI, and the largest drop in confidence, of a training speaker's held-out predictions, by batch
        size; NaN where there are too few speakers to calibrate.
    quality : int64 array, shape (5, recording.BINS)
        Training clips by the quality of their recording: see :func:`emotion.monitoring.recording.quality_counts`.
    calibration_spread : float64 array, shape (n_models,)
        How far the mean confidence of one new speaker's clips lies from their accuracy, beyond what the number of
        clips explains (root mean square over held-out speakers); NaN where there are too few speakers. A reference of
        an earlier release has no such figures, and shape (0,).
    priors : float64 array, shape (n_models, n_emotions)
        The mean of the held-out probabilities: the mix of emotions that the probabilities take for granted. Shape
        (0, 0) in a reference of an earlier release, as that of the next.
    mix_spread : float64 array, shape (n_models, n_emotions)
        How far the share of an emotion, found by :func:`emotion.monitoring.statistics.find_mix`, lies from the true one
        among one new speaker's clips, beyond chance; as ``calibration_spread`` otherwise.

    Examples
    --------
    >>> from emotion.features.quality import Quality
    >>> rng = np.random.default_rng(0)
    >>> values, speakers = rng.normal(size=(40, 2)).astype(np.float32), np.repeat(["a", "b", "c", "d", "e"], 8)
    >>> answers = pd.DataFrame(rng.dirichlet(np.ones(2), 40), columns=["p_happy", "p_sad"]).assign(row=range(40))
    >>> answers["emotion"] = "sad"
    >>> held_out = pd.concat([answers.assign(protocol=protocol) for protocol in MODES.values()])
    >>> quality = pd.DataFrame([Quality(-30, 50, 8000, 0, 2)] * 40)
    >>> predictions = {"random_forest": held_out}
    >>> reference = build_reference(values, speakers, predictions, names=("f0", "jitter"), quality=quality, seed=0)
    >>> reference.models.tolist(), reference.counts.shape, int(reference.speakers)
    (['random_forest/plain', 'random_forest/batch', 'random_forest/speaker'], (2, 50), 5)
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
    quality: np.ndarray
    calibration_spread: np.ndarray
    priors: np.ndarray
    mix_spread: np.ndarray

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
                added = {name: np.empty(shape) for name, shape in _ADDED.items() if name not in arrays}
                kept = {field.name: arrays[field.name] for field in fields(cls) if field.name not in added}
                return cls(**kept, **added)
        except (ValueError, KeyError, OSError, BadZipFile) as error:
            raise BundleError(
                f"{REFERENCE} cannot be read ({error}); expected the drift reference of a version of this code: train "
                "again"
            ) from error


def build_reference(
    values: np.ndarray,
    speakers: np.ndarray,
    predictions: dict[str, pd.DataFrame],
    *,
    names: tuple[str, ...],
    quality: pd.DataFrame,
    seed: int,
) -> Reference:
    """Summarize a training table, and calibrate the levels of the drift verdict by its speakers.

    Parameters
    ----------
    values : float32 array, shape (n_clips, n_features)
    speakers : array of str, shape (n_clips,)
    predictions : dict of pandas.DataFrame
        Per family its held-out predictions: protocol, row (of ``values``), emotion and probabilities.
    names : tuple of str, length n_features
    quality : pandas.DataFrame
        Of each clip: the columns of :data:`emotion.features.quality.COLUMNS`.
    seed : int
        For drawing the batches that calibrate the levels.

    Raises
    ------
    ValueError
        If the held-out predictions of a family and mode are not exactly one per clip.
    """
    edges, counts = _histograms(values)
    clips, of_speakers = measure(values), _by_speaker(values, speakers)
    batches = _draw_batches(speakers, seed) if len(of_speakers) >= LEAST_SPEAKERS else []
    frames = _held_out_rows(predictions, len(values))
    models = {name: probabilities_of(rows) for name, rows in frames.items()}
    return Reference(
        names=np.array(names),
        edges=edges,
        counts=counts,
        mean=clips.centre,
        deviation=clips.scale,
        spread=_spread(clips, measure(_means(of_speakers)))[-1],
        clips=np.array(len(values)),
        speakers=np.array(len(of_speakers)),
        shift_levels=_shift_levels(values, clips, of_speakers, batches),
        models=np.array(list(models)),
        emotions=np.array([emotion_counts(rows) for rows in models.values()]),
        confidence=np.array([confidence_counts(rows) for rows in models.values()]),
        emotion_levels=np.array(
            [_prediction_levels(rows, batches, emotion_counts, stability_index) for rows in models.values()]
        ),
        confidence_levels=np.array(
            [_prediction_levels(rows, batches, confidence_counts, confidence_drop) for rows in models.values()]
        ),
        quality=quality_counts(quality),
        **_trust(frames, speakers, seed),
    )


def _trust(frames: dict[str, pd.DataFrame], speakers: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """How far the probabilities of each model can be taken at their word: the last fields of :class:`Reference`."""
    return {
        "calibration_spread": np.array([_calibration_spread(rows, speakers) for rows in frames.values()]),
        "priors": np.array([probabilities_of(rows).mean(axis=0) for rows in frames.values()]),
        "mix_spread": _mix_spreads(frames, speakers, seed),
    }


def _mix_spreads(frames: dict[str, pd.DataFrame], speakers: np.ndarray, seed: int) -> np.ndarray:
    """See :class:`Reference`.

    In the other modes it is at least that of the plain mode: held-out groups all have the mix of training, and what
    normalization does to another mix does not show.
    """
    spreads = {name: _mix_spread(rows, speakers, seed) for name, rows in frames.items()}
    plain = [spreads[f"{name.rpartition('/')[0]}/plain"] for name in spreads]
    return np.maximum(list(spreads.values()), plain)


def _histograms(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``edges`` and ``counts`` of :class:`Reference`, a few features at a time."""
    shape, quantiles = values.shape[1], np.linspace(0, 1, BINS + 1)[1:-1]
    edges, counts = np.empty((shape, BINS - 1), dtype=np.float32), np.empty((shape, BINS), dtype=np.int64)
    for start in range(0, shape, COLUMNS):
        part = np.ascontiguousarray(values[:, start : start + COLUMNS])
        edges[start : start + COLUMNS] = np.quantile(part, quantiles, axis=0).T
        counts[start : start + COLUMNS] = bin_counts(edges[start : start + COLUMNS], part)
    return edges, counts


def _by_speaker(values: np.ndarray, speakers: np.ndarray) -> dict[str, Statistics]:
    rows_of_speaker = pd.Series(np.arange(len(speakers))).groupby(speakers).indices
    return {str(speaker): measure(Rows.of(values).take(rows)) for speaker, rows in rows_of_speaker.items()}


def _means(of_speakers: Mapping[str, Statistics]) -> np.ndarray:
    """The mean of each speaker's clips, (n_speakers, n_features)."""
    return np.array([statistics.centre for statistics in of_speakers.values()])


def _spread(clips: Statistics, means: Statistics) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation of the clips, and the standard deviation of a new speaker's mean about that mean:
    from the statistics of the clips, and of the means of their speakers.

    The variance between few speakers is itself a rough estimate. It is drawn towards the share of the clips' variance
    that is typical of all features (Smyth 2004, "Linear models and empirical Bayes methods").
    """
    variance, freedom = clips.scale**2, means.clips - 1
    between = means.scale**2 * means.clips / freedom if freedom else variance
    typical = np.median(between[variance > 0] / variance[variance > 0])
    moderated = (freedom * between + PRIOR_SPEAKERS * typical * variance) / (freedom + PRIOR_SPEAKERS)
    return clips.centre, clips.scale, np.sqrt(moderated * (1 + 1 / means.clips))


def _without(whole: Statistics, part: Statistics) -> Statistics:
    """The statistics of the rest: the inverse of :func:`emotion.models.adaptation.merge`."""
    clips = whole.clips - part.clips
    centre = (whole.clips * whole.centre - part.clips * part.centre) / clips
    share = part.clips / whole.clips
    variance = (whole.scale**2 - share * part.scale**2) / (1 - share) - share * (part.centre - centre) ** 2
    is_constant = variance <= ROUNDING * whole.scale**2
    return Statistics(clips, centre, np.sqrt(np.where(is_constant, 0.0, variance)))


def _draw_batches(speakers: np.ndarray, seed: int) -> list[SpeakerBatch]:
    """Batches of one speaker each: random ones of each calibrated size, and all clips of the speaker."""
    rng = np.random.default_rng(seed)
    batches = []
    for speaker in np.unique(speakers):
        speaker_rows = np.flatnonzero(speakers == speaker)
        sizes = [size for size in SIZES if size < len(speaker_rows)] * DRAWS
        batches += [(speaker, rng.choice(speaker_rows, size, replace=False)) for size in sizes]
        batches.append((speaker, speaker_rows))
    return batches


def _shift_levels(
    values: np.ndarray, clips: Statistics, of_speakers: Mapping[str, Statistics], batches: list[SpeakerBatch]
) -> np.ndarray:
    """The level of the shift by batch size: each batch is compared with all speakers but its own."""
    if not batches:
        return np.full(len(SIZES), UNCALIBRATED)
    means, shifts = measure(_means(of_speakers)), []
    for speaker, batches_of_speaker in groupby(batches, key=lambda batch: str(batch[0])):
        statistics = of_speakers[speaker]
        mean_of_speaker = Statistics(1, statistics.centre, np.zeros_like(statistics.centre))
        others = _spread(_without(clips, statistics), _without(means, mean_of_speaker))
        for _, rows in batches_of_speaker:
            batch_mean = values[rows].mean(axis=0, dtype=np.float64)
            shifts.append((len(rows), overall_shift(mean_shift(batch_mean, len(rows), *others))))
    return np.maximum(_largest_by_size(shifts), SHIFT_FLOOR)


def _held_out_rows(predictions: dict[str, pd.DataFrame], clips: int) -> dict[str, pd.DataFrame]:
    """``<family>/<mode>`` → held-out predictions in the order of the clips."""
    by_model = {}
    for family, frame in predictions.items():
        for mode, protocol in MODES.items():
            rows = frame[frame["protocol"] == protocol].sort_values("row")
            if not np.array_equal(rows["row"], np.arange(clips)):
                raise ValueError(
                    f"found {len(rows)} held-out predictions of {family}/{mode} for {rows['row'].nunique()} clips; "
                    f"expected one for each of {clips} clips"
                )
            by_model[f"{family}/{mode}"] = rows
    return by_model


def _calibration_spread(rows: pd.DataFrame, speakers: np.ndarray) -> float:
    """See :class:`Reference`. Of a speaker's squared error, what chance adds at these confidences is subtracted."""
    known = np.unique(speakers)
    if len(known) < LEAST_SPEAKERS:
        return float("nan")
    probabilities = probabilities_of(rows)
    confidence = probabilities.max(axis=1)
    right = np.array(emotions_of(rows))[probabilities.argmax(axis=1)] == rows["emotion"].to_numpy()
    squares = []
    for speaker in known:
        clips = speakers == speaker
        chance = (confidence[clips] * (1 - confidence[clips])).sum() / clips.sum() ** 2
        squares.append((confidence[clips].mean() - right[clips].mean()) ** 2 - chance)
    return float(np.sqrt(max(np.mean(squares), 0.0)))


def _mix_spread(rows: pd.DataFrame, speakers: np.ndarray, seed: int) -> np.ndarray:
    """See :class:`Reference`; shape (n_emotions,)."""
    known, emotions = np.unique(speakers), emotions_of(rows)
    if len(known) < LEAST_SPEAKERS:
        return np.full(len(emotions), np.nan)
    probabilities = probabilities_of(rows)
    evidence = evidence_of(probabilities, probabilities.mean(axis=0))
    is_true = rows["emotion"].to_numpy()[:, None] == np.array(emotions)
    squares = []
    for speaker in known:
        clips = speakers == speaker
        error = find_mix(evidence[clips]) - is_true[clips].mean(axis=0)
        squares.append(error**2 - mix_deviation(evidence[clips], seed) ** 2)
    return np.sqrt(np.maximum(np.mean(squares, axis=0), 0.0))


def _prediction_levels(
    probabilities: np.ndarray,
    batches: list[SpeakerBatch],
    count: Callable[[np.ndarray], np.ndarray],
    difference: Callable[[np.ndarray, np.ndarray], np.ndarray | float],
) -> np.ndarray:
    """The largest difference between a batch's predictions and all predictions, by batch size."""
    if not batches:
        return np.full(len(SIZES), np.nan)
    expected = count(probabilities)
    return _largest_by_size(
        [(len(rows), float(difference(count(probabilities[rows]), expected))) for _, rows in batches]
    )


def _largest_by_size(values: list[tuple[int, float]]) -> np.ndarray:
    """The largest value among batches of at least each of SIZES clips, from (clips, value) of each batch.

    Where no batch is that large, the level of the next smaller size is used.
    """
    levels: list[float] = []
    for size in SIZES:
        reached = [value for clips, value in values if clips >= size]
        levels.append(max(reached) if reached else levels[-1] if levels else max(value for _, value in values))
    return np.array(levels)


def level_for(levels: np.ndarray, clips: int) -> float:
    """The level for a batch of at least ``SIZES[0]`` clips: that of the largest calibrated size up to ``clips``.

    >>> level_for(np.array([6.0, 5.0, 4.5, 4.0, 3.5, 3.2, 3.0]), 20)  # as for 16 clips
    4.5
    """
    return float(levels[np.searchsorted(SIZES, clips, side="right") - 1])


def bin_counts(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Clips per bin and feature, shape (n_features, BINS) int64.

    Parameters
    ----------
    edges : float32 array, shape (n_features, BINS - 1)
        Ascending in each row. A value that equals an edge is counted above it.
    values : float32 array, shape (n_clips, n_features)

    Examples
    --------
    >>> edges = np.arange(1, 50, dtype=np.float32)[None]  # 1, 2, … 49
    >>> np.flatnonzero(bin_counts(edges, np.array([[0.5], [1.0], [99.0]], dtype=np.float32))).tolist()
    [0, 1, 49]
    """
    counts = np.empty((len(edges), BINS), dtype=np.int64)
    for feature, inner in enumerate(edges):
        counts[feature] = np.bincount(inner.searchsorted(values[:, feature], side="right"), minlength=BINS)
    return counts
