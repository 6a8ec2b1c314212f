"""Sizes of frames and spectra, and the filters that turn power spectra into bands."""

from __future__ import annotations

from functools import lru_cache

import librosa
import numpy as np
import scipy.fft
import scipy.ndimage

from emotion.audio.decode import SAMPLE_RATE

SAMPLE_RATE = SAMPLE_RATE
WINDOW = 640
"""Samples of a frame's Hann window (40 ms: two periods of the lowest f0 and more)."""
HOP = 160
"""Samples from frame to frame (10 ms)."""
N_FFT = 1024
N_MELS = 40
N_MFCC = 20
N_DELTA = 14
"""MFCCs whose slopes and curvatures are descriptors."""
LPC_ORDER = 18
PRE_EMPHASIS = 0.97
FLOOR = 1e-10
"""Power below which logarithms are cut off (librosa's amin)."""
FRAME_RATE = SAMPLE_RATE / HOP
BINS = N_FFT // 2 + 1
FREQUENCIES = np.linspace(0, SAMPLE_RATE / 2, BINS)
HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
BALANCE_BANDS = ((50, 1000), (1000, 5000), (250, 650), (1000, 4000))


def bin_range(low: float, high: float) -> slice:
    return slice(int(np.ceil(low * N_FFT / SAMPLE_RATE)), int(high * N_FFT / SAMPLE_RATE) + 1)


Filters = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows of weights of bins and, for each, the first bin that counts and the one after the last."""


def filters(weights: np.ndarray) -> Filters:
    used = weights != 0
    first, last = used.argmax(axis=1), weights.shape[1] - used[:, ::-1].argmax(axis=1)
    return np.ascontiguousarray(weights, dtype=np.float32), first, last


@lru_cache(maxsize=1)
def power_filters() -> Filters:
    """Mel bands (40 rows), chroma (12), autocorrelation after pre-emphasis (19) and the bands of the spectral balance
    (4) from power bins."""
    mel = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS)
    chroma = librosa.filters.chroma(sr=SAMPLE_RATE, n_fft=N_FFT, tuning=0.0)
    chroma = np.where(chroma > 1e-3, chroma, 0)
    angle = np.pi * np.arange(BINS) / (BINS - 1)
    emphasized = 1 + PRE_EMPHASIS**2 - 2 * PRE_EMPHASIS * np.cos(angle)
    emphasized[1:-1] *= 2
    lags = np.cos(np.outer(np.arange(LPC_ORDER + 1), angle)) * emphasized / N_FFT
    balance = np.zeros((len(BALANCE_BANDS), BINS))
    for row, (low, high) in zip(balance, BALANCE_BANDS, strict=True):
        row[bin_range(low, high)] = 1
    return filters(np.vstack([mel, chroma, lags, balance]))


def decibels(power: np.ndarray) -> np.ndarray:
    decibels = np.maximum(power, FLOOR)
    np.log10(decibels, out=decibels)
    decibels *= 10
    return decibels


def delta(rows: np.ndarray) -> np.ndarray:
    """Regression slope over nine frames, per frame (librosa.feature.delta, edges repeated)."""
    return scipy.ndimage.correlate1d(rows, np.arange(-4, 5) / 60, axis=1, mode="nearest")
