"""Fundamental frequency (f0) and voicing of each frame."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from emotion.features import kernels
from emotion.features.spectrum import HANN, N_FFT, SAMPLE_RATE

F0_RANGE = (65.0, 650.0)
"""Lowest and highest fundamental frequency searched, in Hz."""
PITCH_RATE = SAMPLE_RATE // 2
LAGS = slice(int(PITCH_RATE / F0_RANGE[1]), int(np.ceil(PITCH_RATE / F0_RANGE[0])) + 1)
_CANDIDATES = 4
_VOICING_THRESHOLD = 0.45
_SILENCE_THRESHOLD = 0.03
_OCTAVE_COST = 0.01
_JUMP_COST = 0.35
_SWITCH_COST = 0.14


@lru_cache(maxsize=1)
def _window_autocorrelation() -> np.ndarray:
    spectrum = np.abs(np.fft.rfft(HANN.astype(np.float64), 2 * N_FFT)) ** 2
    full = np.fft.irfft(spectrum)[::2][: LAGS.stop + 1]
    return (full / full[0]).astype(np.float32)


@lru_cache(maxsize=1)
def _lag_costs() -> np.ndarray:
    """What a peak at each lag is charged, so that of a period and its multiples the period wins."""
    lags = np.arange(LAGS.stop, dtype=np.float32)
    return _OCTAVE_COST * np.log2(np.maximum(lags, 1) / LAGS.stop)


def track_pitch(autocorrelation: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch by the autocorrelation method of Boersma 1993 ("Accurate short-term analysis of the fundamental
    frequency and the harmonics-to-noise ratio of a sampled sound"), with its published costs and Viterbi path."""
    n = len(autocorrelation)
    lag, height = kernels.pitch_candidates(
        autocorrelation, _window_autocorrelation(), _lag_costs(), LAGS.start, _CANDIDATES
    )
    found = lag > 0
    frequency = PITCH_RATE / np.where(found, lag, np.float32(LAGS.stop))
    strength = np.empty((n, _CANDIDATES + 1))
    strength[:, 1:] = np.where(found, height - _OCTAVE_COST * np.log2(F0_RANGE[0] / frequency), -1e3)
    loud = 10 ** ((level - level.max()) / 20)
    strength[:, 0] = _VOICING_THRESHOLD + np.maximum(0, 2 - loud * (1 + _VOICING_THRESHOLD) / _SILENCE_THRESHOLD)
    state = kernels.pitch_path(strength, np.log2(frequency).astype(np.float64), _JUMP_COST, _SWITCH_COST)
    voiced = state > 0
    chosen = np.maximum(state - 1, 0)
    f0 = np.where(voiced, frequency[np.arange(n), chosen], 0)
    periodic = np.where(voiced, height[np.arange(n), chosen], height.max(axis=1))
    return f0.astype(np.float32), periodic.astype(np.float32)
