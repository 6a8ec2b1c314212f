"""The table of descriptors: one value per frame of the speech span."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.ndimage

from emotion.features import kernels
from emotion.features.frames import F0_REFERENCE, Speech
from emotion.features.pitch import LAGS
from emotion.features.spectrum import (
    BINS,
    FLOOR,
    FREQUENCIES,
    HOP,
    LPC_ORDER,
    N_CHROMA,
    N_DELTA,
    N_FFT,
    N_MELS,
    N_MFCC,
    SAMPLE_RATE,
    WINDOW,
    Filters,
    bin_range,
    decibels,
    delta,
    filters,
)

ROLLOFFS = (0.25, 0.5, 0.85, 0.95)
"""Shares of the magnitude below the rolloff frequencies."""
N_AREAS = 12
N_FORMANTS = 3
_KILOHERTZ = (FREQUENCIES / 1000).astype(np.float32)
_SHARES = np.array(ROLLOFFS, dtype=np.float32)
_SLOPE_BANDS = ((0, 500), (500, 1500), (1500, 5000))
_CONTRAST_BANDS = ((0, 200), (200, 400), (400, 800), (800, 1600), (1600, 3200), (3200, 8000))


@lru_cache(maxsize=1)
def _slope_filters() -> Filters:
    """Filters that give the slope of the logarithmic spectrum in each of the slope bands (dB/kHz)."""
    weights = np.zeros((len(_SLOPE_BANDS), BINS))
    for row, (low, high) in zip(weights, _SLOPE_BANDS, strict=True):
        row[bin_range(low, high)] = _slope_weights(FREQUENCIES[bin_range(low, high)] / 1000)
    return filters(weights)


@lru_cache(maxsize=1)
def _contrast_filters() -> Filters:
    """Filters that give the mean of a band's highest tenth minus that of its lowest, where the bins of each band are in
    ascending order."""
    weights = np.zeros((len(_CONTRAST_BANDS), BINS))
    for row, (low, high) in zip(weights, _CONTRAST_BANDS, strict=True):
        band = row[bin_range(low, high)]
        n = max(1, len(band) // 10)
        band[:n], band[-n:] = -1 / n, 1 / n
    return filters(weights)


def _slope_weights(x: np.ndarray) -> np.ndarray:
    """Weights whose product with y is the slope of y's regression on x."""
    centred = x - x.mean()
    return (centred / (centred**2).sum()).astype(np.float32)


def _level(speech: Speech) -> np.ndarray:
    level = speech.level[speech.start : speech.stop]
    loudness = np.power(np.maximum(speech.bands["mel"], FLOOR), 0.3).sum(axis=0)
    return np.stack([level, loudness])


def _spectral_shape(speech: Speech) -> np.ndarray:
    return kernels.shapes(speech.power, speech.power_db, _KILOHERTZ, _SHARES)


def _spectral_balance(speech: Speech) -> np.ndarray:
    power_db = speech.power_db
    alpha_low, alpha_high, band_low, band_high = decibels(speech.bands["balance"])
    hammarberg = power_db[:, bin_range(0, 2000)].max(axis=1) - power_db[:, bin_range(2000, 5000)].max(axis=1)
    slopes = kernels.project(power_db, *_slope_filters())
    return np.stack([alpha_low - alpha_high, hammarberg, band_low - band_high, *slopes])


def _contrast(speech: Speech) -> np.ndarray:
    ordered = speech.power_db.copy()
    for low, high in _CONTRAST_BANDS:
        ordered[:, bin_range(low, high)].sort(axis=1)
    return kernels.project(ordered, *_contrast_filters())


def _zero_crossings(speech: Speech) -> np.ndarray:
    first, count = speech.start * HOP, len(speech.active)
    sign = speech.samples[first : first + (count - 1) * HOP + WINDOW] >= 0
    changes = np.zeros(len(sign), dtype=np.int32)
    np.not_equal(sign[1:], sign[:-1], out=changes[1:], casting="unsafe")
    per_hop = np.add.reduceat(changes, np.arange(0, len(changes), HOP))
    return np.convolve(per_hop, np.ones(WINDOW // HOP), "valid")[None] / WINDOW


def _chroma(speech: Speech) -> np.ndarray:
    chroma = speech.bands["chroma"]
    return chroma / np.maximum(chroma.max(axis=0), FLOOR)


def _pitch(speech: Speech) -> np.ndarray:
    return np.stack([speech.semitones, delta(speech.semitones[None])[0]])


def _voice_quality(speech: Speech) -> np.ndarray:
    periodic = np.clip(speech.pitch.periodicity, 0.01, 0.999)
    hnr = 10 * np.log10(periodic / (1 - periodic))
    f0 = F0_REFERENCE * 2 ** (speech.semitones / 12)
    harmonics = kernels.harmonics(speech.power_db, f0 * np.float32(N_FFT / SAMPLE_RATE), 8)
    slope = (harmonics * _HARMONIC_SLOPE).sum(axis=0)
    return np.stack([periodic, hnr, harmonics[0] - harmonics[1], harmonics[0] - harmonics[3], slope])


_HARMONIC_SLOPE = _slope_weights(np.log2(np.arange(1, 9)))[:, None]


def _cepstral_peak(speech: Speech) -> np.ndarray:
    cepstrum = scipy.fft.dct(speech.power_db[:, : N_FFT // 4 + 1], type=1, axis=1)[:, LAGS]
    return (cepstrum.max(axis=1) - cepstrum.mean(axis=1))[None] / (N_FFT // 2)


def _log_area_ratios(speech: Speech) -> np.ndarray:
    return 2 * np.arctanh(np.clip(speech.linear_prediction.reflections[:N_AREAS], -0.999, 0.999))


def _formants(speech: Speech) -> np.ndarray:
    """Frequencies (kHz) and levels (dB relative to the frame's) of the first peaks of the LPC envelope above 180 Hz."""
    step = np.float32(SAMPLE_RATE / 256 / 1000)
    positions, levels = kernels.formants(speech.linear_prediction.predictor, _envelope_cosines(), N_FORMANTS)
    return np.concatenate([(positions + int(0.18 / step) - 1) * step, levels])


@lru_cache(maxsize=1)
def _envelope_cosines() -> np.ndarray:
    """Cosines that turn the predictor's autocorrelation into its power at bins of 62.5 Hz, 125 to 5500 Hz."""
    bins = np.arange(int(0.18 * 256 * 1000 / SAMPLE_RATE) - 1, int(5.5 * 256 * 1000 / SAMPLE_RATE) + 1)
    cosines = 2 * np.cos(np.outer(np.arange(LPC_ORDER + 1), 2 * np.pi * bins / 256))
    cosines[0] = 1
    return cosines


@dataclass(frozen=True)
class Descriptor:
    """Rows of the frame table that are computed together.

    Attributes
    ----------
    rows : dict of str to str
        The name of each row, and what it is, for a person.
    compute : callable
        ``compute(speech)`` gives the rows, shape (len(rows), n).
    functionals : tuple of str
        Keys of :data:`emotion.features.functionals.FUNCTIONALS`.
    view : str
        One of :data:`VIEWS`: the aspect of the voice that the rows describe.
    """

    rows: Mapping[str, str]
    compute: Callable[[Speech], np.ndarray]
    functionals: tuple[str, ...]
    view: str


def _numbered(prefix: str, meaning: str, count: int) -> dict[str, str]:
    return {f"{prefix}_{number:02d}": meaning.format(number) for number in range(count)}


_ALL = ("moments", "quantiles", "voiced", "course", "modulation")
_VOICED = ("voiced", "voiced_quantiles", "course")
VIEWS = ("all", "cepstrum", "bands", "shape", "prosody", "course", "static")
"""Groups of features that a model may judge by on their own. ``all`` holds every feature; ``cepstrum``, ``bands``,
``shape`` and ``prosody`` hold the features of one aspect of the voice; ``course`` holds the features that say how a
descriptor moves over the speech span, ``static`` the others."""
DESCRIPTORS: tuple[Descriptor, ...] = (
    Descriptor(
        {
            "level_db": "RMS level (dB; the mean of the clip's active speech is -26)",
            "loudness": "loudness (sum of the mel bands' power to the 0.3)",
        },
        _level,
        _ALL,
        "prosody",
    ),
    Descriptor(
        {
            "f0_semitone": "f0 (semitones re 150 Hz, interpolated over unvoiced frames)",
            "delta_f0_semitone": "slope of f0 (semitones a frame)",
        },
        _pitch,
        (*_VOICED, "modulation"),
        "prosody",
    ),
    Descriptor(
        {
            "periodicity": "voicing strength (autocorrelation at the pitch period)",
            "hnr_db": "harmonics-to-noise ratio (dB)",
            "h1_h2_db": "first harmonic re the second (dB; high in breathy voices)",
            "h1_h4_db": "first harmonic re the fourth (dB)",
            "harmonic_slope": "spectral tilt of harmonics 1 to 8 (dB an octave)",
        },
        _voice_quality,
        _VOICED,
        "prosody",
    ),
    Descriptor(
        {"cpp": "cepstral peak prominence (high in clear, low in breathy voices)"}, _cepstral_peak, _ALL, "prosody"
    ),
    Descriptor(_numbered("mfcc", "MFCC {}", N_MFCC), lambda speech: speech.mfcc, _ALL, "cepstrum"),
    Descriptor(
        _numbered("delta_mfcc", "slope of MFCC {}", N_DELTA),
        lambda speech: speech.delta_mfcc,
        ("moments", "quantiles", "voiced"),
        "cepstrum",
    ),
    Descriptor(
        _numbered("delta2_mfcc", "curvature of MFCC {}", N_DELTA),
        lambda speech: delta(speech.delta_mfcc),
        ("moments", "voiced"),
        "cepstrum",
    ),
    Descriptor(
        _numbered("log_mel", "log-mel band {} of 20 (dB)", N_MELS // 2),
        lambda speech: speech.mel_db.reshape(N_MELS // 2, 2, -1).mean(axis=1),
        _ALL,
        "bands",
    ),
    Descriptor(
        {
            "centroid": "spectral centroid (kHz)",
            "bandwidth": "spectral bandwidth (kHz)",
            "skewness": "skewness of the spectrum",
            "kurtosis": "kurtosis of the spectrum",
            "rolloff_25": "frequency below which 25 % of the spectrum lies (kHz)",
            "rolloff_50": "frequency below which 50 % of the spectrum lies (kHz)",
            "rolloff_85": "frequency below which 85 % of the spectrum lies (kHz)",
            "rolloff_95": "frequency below which 95 % of the spectrum lies (kHz)",
            "flatness": "spectral flatness (dB; 0 is white noise)",
            "entropy": "entropy of the spectrum (bits)",
            "flux": "spectral flux (distance between the unit spectra of neighbouring frames)",
        },
        _spectral_shape,
        _ALL,
        "shape",
    ),
    Descriptor(
        {
            "alpha_ratio": "alpha ratio: 50-1000 Hz re 1-5 kHz (dB)",
            "hammarberg": "Hammarberg index: peak below 2 kHz re peak of 2-5 kHz (dB)",
            "band_ratio": "250-650 Hz re 1-4 kHz (dB)",
            "slope_0_500": "spectral slope of 0-500 Hz (dB/kHz)",
            "slope_500_1500": "spectral slope of 500-1500 Hz (dB/kHz)",
            "slope_1500_5000": "spectral slope of 1500-5000 Hz (dB/kHz)",
        },
        _spectral_balance,
        _ALL,
        "shape",
    ),
    Descriptor(_numbered("contrast", "spectral contrast of band {} of 6 (dB)", 6), _contrast, _ALL, "bands"),
    Descriptor({"zero_crossing_rate": "zero crossings a sample"}, _zero_crossings, _ALL, "shape"),
    Descriptor(
        _numbered("chroma", "chroma of pitch class {} (0 is C)", N_CHROMA), _chroma, ("moments", "voiced"), "bands"
    ),
    Descriptor(
        _numbered("log_area_ratio", "log area ratio {} of the vocal tract (LPC)", N_AREAS),
        _log_area_ratios,
        ("moments", "voiced", "course"),
        "shape",
    ),
    Descriptor(
        {f"formant_{number}": f"formant {number} (kHz, peak of the LPC envelope)" for number in (1, 2, 3)}
        | {f"formant_{number}_db": f"level of formant {number} (dB, LPC envelope)" for number in (1, 2, 3)},
        _formants,
        _VOICED,
        "shape",
    ),
)
"""Every descriptor, in the order of the rows of the frame table."""
