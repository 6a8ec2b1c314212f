"""The mel and chroma filters of librosa and a filter of SciPy, kept on disk beside the compiled loops.

They depend on nothing but the sizes of the recipe. To import librosa and scipy.signal takes longer than an answer does.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emotion.whole_file import whole_file


class Bases(NamedTuple):
    """Filters of the features.

    Attributes
    ----------
    mel : float32 array, shape (n_mels, bins)
    chroma : float32 array, shape (n_chroma, bins)
        0 is C; A is at 440 Hz.
    speech : float64 array, shape (2, 6)
        Second-order sections of a band-pass, as ``scipy.signal.sosfilt`` takes them, at half the sample rate.
    """

    mel: np.ndarray
    chroma: np.ndarray
    speech: np.ndarray


def compute(sample_rate: int, n_fft: int, n_mels: int, n_chroma: int, speech_band: tuple[float, float]) -> Bases:
    """Ask the libraries.

    >>> compute(16_000, 512, 20, 12, (150.0, 3500.0)).mel.shape
    (20, 257)
    """
    import librosa.filters
    import scipy.signal

    return Bases(
        librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels),
        librosa.filters.chroma(sr=sample_rate, n_fft=n_fft, n_chroma=n_chroma, tuning=0.0),
        scipy.signal.butter(2, speech_band, "bandpass", fs=sample_rate / 2, output="sos"),
    )


def kept(sample_rate: int, n_fft: int, n_mels: int, n_chroma: int, speech_band: tuple[float, float]) -> Bases:
    """As :func:`compute`; from the disk if they were computed before. Nothing is kept where nothing can be written.

    >>> arguments = (16_000, 512, 20, 12, (150.0, 3500.0))
    >>> [bool((one == other).all()) for one, other in zip(kept(*arguments), compute(*arguments))]
    [True, True, True]
    """
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__")
    sizes = "-".join(map(str, (sample_rate, n_fft, n_mels, n_chroma, *speech_band)))
    file = folder / f"bases-librosa-{version('librosa')}-scipy-{version('scipy')}-{sizes}.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:  # which checks the CRC of each array
            return Bases(**arrays)
    except Exception:  # not there yet, or damaged, in whatever way
        bases = compute(sample_rate, n_fft, n_mels, n_chroma, speech_band)
    with suppress(OSError), whole_file(str(file)) as handle:
        np.savez(handle, **bases._asdict())
    return bases
