"""The table of scalars: numbers of a clip as a whole, on its timing and its movement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from emotion.features import kernels
from emotion.features.frames import Speech
from emotion.features.spectrum import FRAME_RATE

LEAST_PAUSE = 5
"""So many inactive frames in a row, or more, are a pause (50 ms)."""
_SMOOTHING = np.hanning(9)[1:-1] / np.hanning(9).sum()
"""Weights that smooth the level over 70 ms before its peaks are counted."""


def _mean(values: np.ndarray) -> float:
    return float(values.sum()) / len(values) if len(values) else 0.0


def _timing(speech: Speech) -> dict[str, float]:
    seconds = len(speech.active) / FRAME_RATE
    pauses, pause_mean, _ = kernels.runs(~speech.active, LEAST_PAUSE)
    voiced, voiced_mean, voiced_std = kernels.runs(speech.voiced, 1)
    _, unvoiced_mean, unvoiced_std = kernels.runs(~speech.voiced, 1)
    level = np.convolve(speech.level[speech.start : speech.stop], _SMOOTHING, "same")
    peak = (level[1:-1] > level[:-2]) & (level[1:-1] >= level[2:]) & speech.active[1:-1]
    return {
        "speech_seconds": seconds,
        "active_share": _mean(speech.active),
        "voiced_share": _mean(speech.voiced),
        "pauses_per_second": pauses / seconds,
        "pause_mean_seconds": pause_mean / FRAME_RATE,
        "pause_share": pauses * pause_mean / FRAME_RATE / seconds,
        "voiced_per_second": voiced / seconds,
        "voiced_mean_seconds": voiced_mean / FRAME_RATE,
        "voiced_std_seconds": voiced_std / FRAME_RATE,
        "unvoiced_mean_seconds": unvoiced_mean / FRAME_RATE,
        "unvoiced_std_seconds": unvoiced_std / FRAME_RATE,
        "level_peaks_per_second": np.count_nonzero(peak) / seconds,
    }


def _movement(speech: Speech) -> dict[str, float]:
    pairs = speech.voiced[1:] & speech.voiced[:-1]
    triples = pairs[1:] & pairs[:-1]
    level_steps = np.diff(speech.level[speech.start : speech.stop])
    active_level_steps = level_steps[speech.active[1:] & speech.active[:-1]]
    f0_steps = np.diff(speech.semitones)
    f0 = speech.pitch.f0
    return {
        "f0_rise_mean": _mean(f0_steps[pairs & (f0_steps > 0)]),
        "f0_fall_mean": _mean(f0_steps[pairs & (f0_steps < 0)]),
        "f0_rise_share": _mean(f0_steps[pairs] > 0),
        "f0_bend_mean": _mean(np.abs(np.diff(f0_steps)[triples])),
        "jitter": _mean(np.abs(np.diff(f0)[pairs]) / f0[1:][pairs]),
        "shimmer_db": _mean(np.abs(level_steps[pairs])),
        "level_rise_mean": _mean(active_level_steps[active_level_steps > 0]),
        "level_fall_mean": _mean(active_level_steps[active_level_steps < 0]),
    }


@dataclass(frozen=True)
class Scalars:
    """Numbers of a whole clip that are computed together.

    Attributes
    ----------
    names : dict of str to str
        The name of each number, and what it is, for a person.
    compute : callable
        ``compute(speech)`` gives the number of each name.
    """

    names: Mapping[str, str]
    compute: Callable[[Speech], dict[str, float]]


SCALARS: tuple[Scalars, ...] = (
    Scalars(
        {
            "speech_seconds": "length of the speech span (s)",
            "active_share": "share of active frames in the speech span",
            "voiced_share": "share of voiced frames in the speech span",
            "pauses_per_second": "pauses (inactive for 50 ms or more) a second of the speech span",
            "pause_mean_seconds": "mean length of a pause (s)",
            "pause_share": "share of pauses in the speech span",
            "voiced_per_second": "voiced stretches a second of the speech span",
            "voiced_mean_seconds": "mean length of a voiced stretch (s)",
            "voiced_std_seconds": "standard deviation of the lengths of voiced stretches (s)",
            "unvoiced_mean_seconds": "mean length of an unvoiced stretch (s)",
            "unvoiced_std_seconds": "standard deviation of the lengths of unvoiced stretches (s)",
            "level_peaks_per_second": "peaks of the smoothed level a second (about syllables)",
        },
        _timing,
    ),
    Scalars(
        {
            "f0_rise_mean": "mean rise of f0 from frame to frame, where it rises (semitones)",
            "f0_fall_mean": "mean fall of f0 from frame to frame, where it falls (semitones)",
            "f0_rise_share": "share of voiced frames with rising f0",
            "f0_bend_mean": "mean absolute change of f0's slope (semitones)",
            "jitter": "mean relative change of f0 from frame to frame (jitter-like)",
            "shimmer_db": "mean change of level from voiced frame to frame (dB, shimmer-like)",
            "level_rise_mean": "mean rise of level from frame to frame, where it rises (dB)",
            "level_fall_mean": "mean fall of level from frame to frame, where it falls (dB)",
        },
        _movement,
    ),
)
"""All scalars, in the order of the features."""
