"""Fundamental frequency (f0) and voicing of each frame."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from emotion.features import kernels
from emotion.features.spectrum import HANN, N_FFT, SAMPLE_RATE

F0_RANGE = (65.0, 650.0)
"""Lowest and highest fundamental frequency searched, in Hz."""
PITCH_RATE = SAMPLE_RATE // 2
"""Rate of the autocorrelation, in Hz."""
LAGS = slice(int(PITCH_RATE / F0_RANGE[1]), int(np.ceil(PITCH_RATE / F0_RANGE[0])) + 1)
"""Lags searched, in samples at :data:`PITCH_RATE`."""
_CANDIDATES = 4
_VOICING_THRESHOLD = 0.45
_SILENCE_THRESHOLD = 0.03
_OCTAVE_COST = 0.01
_JUMP_COST = 0.35
_SWITCH_COST = 0.14


class Pitch(NamedTuple):
    """f0 in Hz (0 where unvoiced) and the periodic share of the power (0 to 1), each float32, shape (n,)."""

    f0: np.ndarray
    periodicity: np.ndarray


@lru_cache(maxsize=1)
def _window_autocorrelation() -> np.ndarray:
    """The Hann window's autocorrelation at :data:`PITCH_RATE`; 1 at lag 0."""
    spectrum = np.abs(np.fft.rfft(HANN.astype(np.float64), 2 * N_FFT)) ** 2
    full = np.fft.irfft(spectrum)[::2][: LAGS.stop + 1]
    return (full / full[0]).astype(np.float32)


@lru_cache(maxsize=1)
def _lag_costs() -> np.ndarray:
    """What is subtracted from a peak at each lag, so that a period is chosen before its multiples."""
    lags = np.arange(LAGS.stop, dtype=np.float32)
    return _OCTAVE_COST * np.log2(np.maximum(lags, 1) / LAGS.stop)


def track_pitch(autocorrelation: np.ndarray, level: np.ndarray) -> Pitch:
    """f0 and voicing by the autocorrelation method of Boersma 1993 ("Accurate short-term analysis of the fundamental
    frequency and the harmonics-to-noise ratio of a sampled sound"), with its published costs and Viterbi path.

    Parameters
    ----------
    autocorrelation : float32 array, shape (n, lags)
        Of each windowed frame, at :data:`PITCH_RATE`.
    level : float32 array, shape (n,)
        dB; a frame far below the loudest one is unvoiced.
    """
    n = len(autocorrelation)
    lag, height = kernels.pitch_candidates(
        autocorrelation, _window_autocorrelation(), _lag_costs(), LAGS.start, _CANDIDATES
    )
    is_candidate = lag > 0
    frequency = PITCH_RATE / np.where(is_candidate, lag, np.float32(LAGS.stop))
    strength = np.empty((n, _CANDIDATES + 1))
    strength[:, 1:] = np.where(is_candidate, height - _OCTAVE_COST * np.log2(F0_RANGE[0] / frequency), -1e3)
    amplitude = 10 ** ((level - level.max()) / 20)
    strength[:, 0] = _VOICING_THRESHOLD + np.maximum(0, 2 - amplitude * (1 + _VOICING_THRESHOLD) / _SILENCE_THRESHOLD)
    state = kernels.pitch_path(strength, np.log2(frequency).astype(np.float64), _JUMP_COST, _SWITCH_COST)
    voiced = state > 0
    chosen = np.maximum(state - 1, 0)
    f0 = np.where(voiced, frequency[np.arange(n), chosen], 0)
    periodicity = np.where(voiced, height[np.arange(n), chosen], height.max(axis=1))
    return Pitch(f0.astype(np.float32), periodicity.astype(np.float32))
