"""The sizes of frames and spectra, and the filters that turn power spectra into bands."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.ndimage

from emotion.audio.decode import SAMPLE_RATE
from emotion.features import bases
from emotion.features.bases import Bases

WINDOW = 640
"""Samples of a frame's Hann window: 40 ms, which is more than two periods of the lowest f0."""
HOP = 160
"""Samples from frame to frame (10 ms)."""
N_FFT = 1024
N_MELS = 40
N_MFCC = 20
N_DELTA = 14
"""MFCCs whose slopes and curvatures are descriptors."""
N_CHROMA = 12
LPC_ORDER = 18
PRE_EMPHASIS = 0.97
"""Coefficient of the high-pass filter that is applied before linear prediction."""
FLOOR = 1e-10
"""Lower bound of a power whose logarithm is taken (librosa's amin)."""
FRAME_RATE = SAMPLE_RATE / HOP
"""Frames per second."""
BINS = N_FFT // 2 + 1
FREQUENCIES = np.linspace(0, SAMPLE_RATE / 2, BINS)
"""Hz of each bin."""
HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
SPEECH_BAND = (150.0, 3500.0)
"""Hz. Active frames are found by the level in this band, which every telephone transmits and hum does not reach."""
BALANCE_BANDS = ((50, 1000), (1000, 5000), (250, 650), (1000, 4000))
"""Hz; the first two give the alpha ratio, the other two the band ratio."""


def bin_range(low: float, high: float) -> slice:
    """Bins of the frequencies from ``low`` to ``high`` Hz, both included.

    >>> bin_range(1000, 4000)
    slice(64, 257, None)
    """
    return slice(int(np.ceil(low * N_FFT / SAMPLE_RATE)), int(high * N_FFT / SAMPLE_RATE) + 1)


Filters = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Weights, shape (w, bins), and for each row the first bin whose weight is not 0 and the bin after the last such, as
:func:`emotion.features.kernels.project` takes them."""

POWER_ROWS: Mapping[str, slice] = {
    "mel": slice(0, N_MELS),
    "chroma": slice(N_MELS, N_MELS + N_CHROMA),
    "lags": slice(N_MELS + N_CHROMA, N_MELS + N_CHROMA + LPC_ORDER + 1),
    "balance": slice(N_MELS + N_CHROMA + LPC_ORDER + 1, N_MELS + N_CHROMA + LPC_ORDER + 1 + len(BALANCE_BANDS)),
}
"""Which rows of :func:`power_filters` give the mel bands, the chroma, the autocorrelation after pre-emphasis and the
bands of the spectral balance."""


def filters(weights: np.ndarray) -> Filters:
    """The filters of these weights, shape (w, bins); no row is all 0.

    >>> weights, first, last = filters(np.array([[0.0, 1.0, 2.0, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    >>> first.tolist(), last.tolist()
    ([1, 0], [3, 1])
    """
    used = weights != 0
    first, last = used.argmax(axis=1), weights.shape[1] - used[:, ::-1].argmax(axis=1)
    return np.ascontiguousarray(weights, dtype=np.float32), first, last


@lru_cache(maxsize=1)
def library_filters() -> Bases:
    """The filters that librosa and SciPy compute."""
    return bases.kept(SAMPLE_RATE, N_FFT, N_MELS, N_CHROMA, SPEECH_BAND)


@lru_cache(maxsize=1)
def power_filters() -> Filters:
    """All that is a weighted sum of a frame's power bins, in the rows of :data:`POWER_ROWS`."""
    mel = library_filters().mel
    chroma = np.where(library_filters().chroma > 1e-3, library_filters().chroma, 0)
    angle = np.pi * np.arange(BINS) / (BINS - 1)
    emphasized = 1 + PRE_EMPHASIS**2 - 2 * PRE_EMPHASIS * np.cos(angle)
    emphasized[1:-1] *= 2
    lags = np.cos(np.outer(np.arange(LPC_ORDER + 1), angle)) * emphasized / N_FFT
    balance = np.zeros((len(BALANCE_BANDS), BINS))
    for row, (low, high) in zip(balance, BALANCE_BANDS, strict=True):
        row[bin_range(low, high)] = 1
    weights = np.empty((POWER_ROWS["balance"].stop, BINS))
    for name, rows in {"mel": mel, "chroma": chroma, "lags": lags, "balance": balance}.items():
        weights[POWER_ROWS[name]] = rows
    return filters(weights)


def decibels(power: np.ndarray, *, floor: float = FLOOR) -> np.ndarray:
    """10 log10 of a power, of the same shape; a power below ``floor`` counts as ``floor``.

    >>> decibels(np.array([1.0, 0.01, 0.0])).tolist()
    [0.0, -20.0, -100.0]
    """
    decibels = np.maximum(power, floor)
    np.log10(decibels, out=decibels)
    decibels *= 10
    return decibels


def delta(rows: np.ndarray) -> np.ndarray:
    """Regression slope over nine frames at each frame of rows, shape (d, n): librosa.feature.delta with the first and
    the last frame repeated at the edges."""
    return scipy.ndimage.correlate1d(rows, np.arange(-4, 5) / 60, axis=1, mode="nearest")
