"""The table of functionals: each sums up a descriptor's values over time in a few numbers, rows (d, n) to (d, k)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage

from emotion.features import kernels
from emotion.features.spectrum import FRAME_RATE, filters

QUANTILES = (0.05, 0.2, 0.5, 0.8, 0.95)
"""Linearly interpolated between two frames."""
COURSE = 5
"""Number of cosine coefficients (DCT-II, from the 1st) that describe a descriptor's course over the speech span."""
MODULATION_BANDS = ((1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, 32.0))
"""Hz. A feature is the share of the power of a descriptor's movement that lies in such a band."""


def _quantiles(rows: np.ndarray) -> np.ndarray:
    rows = np.sort(rows, axis=1)
    position = np.array(QUANTILES, dtype=np.float32) * (rows.shape[1] - 1)
    low = position.astype(np.intp)
    high = np.minimum(low + 1, rows.shape[1] - 1)
    return rows[:, low] + (position - low) * (rows[:, high] - rows[:, low])


def _course(rows: np.ndarray) -> np.ndarray:
    n = rows.shape[1]
    cosines = np.cos(np.outer(np.arange(1, COURSE + 1), np.pi * (np.arange(n) + 0.5) / n)) / n
    return kernels.project(rows, *filters(cosines)).T


def _modulation(rows: np.ndarray) -> np.ndarray:
    n = rows.shape[1]
    size = max(512, scipy.fft.next_fast_len(n, real=True))
    movement = (rows - rows.mean(axis=1, keepdims=True)) * np.hanning(n + 2)[1:-1].astype(np.float32)
    spectrum = scipy.fft.rfft(movement, size, axis=1)[:, : int(MODULATION_BANDS[-1][1] * size / FRAME_RATE) + 1]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    edges = [int(np.ceil(low * size / FRAME_RATE)) for low, _ in MODULATION_BANDS]
    bands = np.add.reduceat(power, edges, axis=1) / np.float32(size)
    return np.log10((bands + 1e-5) / (bands.sum(axis=1, keepdims=True) + 5e-5))


@dataclass(frozen=True)
class Functional:
    """Numbers that are computed together from each row of the frame table.

    Attributes
    ----------
    names : dict of str to str
        What is added to the descriptor's name, and what the number is, for a person.
    compute : callable
        ``compute(rows)`` maps rows of shape (d, n) to shape (d, len(names)).
    frames : str
        Which frames it uses: a key of :data:`FRAMES`.

    Examples
    --------
    >>> row = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]], dtype=np.float32)
    >>> dict(zip(FUNCTIONALS["quantiles"].names, FUNCTIONALS["quantiles"].compute(row)[0].round(2).tolist()))
    {'p05': 1.2, 'p20': 1.8, 'p50': 3.0, 'p80': 4.2, 'p95': 4.8}
    """

    names: Mapping[str, str]
    compute: Callable[[np.ndarray], np.ndarray]
    frames: str


def _percentiles(prefix: str) -> dict[str, str]:
    return {f"{prefix}p{round(100 * q):02d}": f"percentile {round(100 * q)}" for q in QUANTILES}


FUNCTIONALS: Mapping[str, Functional] = {
    "moments": Functional(
        {"mean": "mean", "std": "standard deviation", "skew": "skewness", "kurt": "kurtosis"}, kernels.moments, "active"
    ),
    "quantiles": Functional(_percentiles(""), _quantiles, "active"),
    "voiced": Functional(
        {"voiced_mean": "mean", "voiced_std": "standard deviation"}, lambda rows: kernels.moments(rows)[:, :2], "voiced"
    ),
    "voiced_quantiles": Functional(_percentiles("voiced_"), _quantiles, "voiced"),
    "course": Functional(
        {f"course{k}": f"cosine coefficient {k} of the course" for k in range(1, COURSE + 1)}, _course, "span"
    ),
    "modulation": Functional(
        {
            f"mod{low:g}_{high:g}hz": f"share of modulation of {low:g}-{high:g} Hz (log10)"
            for low, high in MODULATION_BANDS
        },
        _modulation,
        "span",
    ),
}
"""Every functional by its name, in the order of the features."""
FRAMES = {"active": "active frames", "voiced": "voiced frames", "span": "the speech span"}
"""Which frames a functional may use, and how a person calls them."""
