"""The acoustic recipe: one named vector per clip.

A clip is cut into frames (40 ms Hann windows, every 10 ms); the frames of its *speech span*, from the first to
the last active frame, are Fourier-transformed once. :data:`DESCRIPTORS` turn that into one value per frame each,
*functionals* turn each descriptor's course into named numbers, and :data:`SCALARS` describe the clip as a whole.

Names are ``<descriptor>_<functional>``: ``mfcc_01_mean``, ``delta_mfcc_03_std``, ``f0_semitone_p80``. A functional
that begins with ``voiced_`` is taken over voiced frames; any other over active frames, but for those that describe
the course in time, which see the whole span. :func:`describe` says in words what a name means.

To change the recipe, edit its tables (:data:`DESCRIPTORS`, :data:`FUNCTIONALS`, :data:`SCALARS`) and raise
:data:`RECIPE_VERSION`; :func:`feature_names` follows.

Features of one's own
---------------------
Put functions in a module that workers can import, register them there, and name the module in
``EMOTION_FEATURES`` (several: separated by commas), so that every process that imports this one has them::

    # company/speech_features.py
    from emotion import features

    @features.register("crossings", names=("count", "per_second"))
    def crossings(samples, sample_rate):
        count = ((samples[1:] >= 0) != (samples[:-1] >= 0)).sum()
        return count, count * sample_rate / len(samples)

The function takes float32 samples, shape (n,), and their rate, and returns a finite number for each name. Its
features, here ``crossings_count`` and ``crossings_per_second``, join the table, the models and their explanations.
The source of its module is part of :func:`recipe`, so a change of it recomputes every clip.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import librosa
import numpy as np
import scipy.fft
import scipy.ndimage
import soxr

from emotion import audio, kernels
from emotion.errors import ConfigurationError

RECIPE_VERSION = "v1"
"""Raise it with every change of a feature's value, name or place: in decoding (:mod:`emotion.audio`), here, in
:mod:`emotion.kernels` or in :data:`VARIANTS`. ``tests/test_golden_features.py`` notices a change that was not meant."""

SAMPLE_RATE = audio.SAMPLE_RATE
WINDOW = 640
"""Samples of a frame's Hann window (40 ms: two periods of the lowest f0 and more)."""
HOP = 160
"""Samples from frame to frame (10 ms)."""
N_FFT = 1024
N_MELS = 40
N_MFCC = 20
N_DELTA = 14
"""MFCCs whose slopes and curvatures are descriptors."""
ROLLOFFS = (0.25, 0.5, 0.85, 0.95)
F0_RANGE = (65.0, 650.0)
"""Lowest and highest fundamental frequency searched, in Hz."""
F0_REFERENCE = 150.0
"""Hz of 0 semitones; a clip without voiced frames has f0 features as if at this pitch throughout."""
ACTIVE_DB = 30.0
"""A frame is active if its level is at most so many dB below the clip's 98th percentile."""
LEAST_SPAN = 10
"""Frames of the shortest speech span; a shorter one is extended, a shorter clip padded with zeros."""
LEAST_PAUSE = 5
"""Inactive frames in a row that make a pause (50 ms)."""
LEAST_VOICED = 5
"""With fewer voiced frames, active frames stand in for them."""
LPC_ORDER = 18
PRE_EMPHASIS = 0.97
N_AREAS = 12
N_FORMANTS = 3
QUANTILES = (0.05, 0.2, 0.5, 0.8, 0.95)
COURSE = 5
"""Cosine coefficients (DCT-II, from the 1st) that describe a descriptor's course over the speech span."""
MODULATION_BANDS = ((1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, 32.0))
"""Hz."""
FLOOR = 1e-10
"""Power below which logarithms are cut off (librosa's amin)."""

_BLOCK = 64
"""Frames transformed at a time: few enough for the processor's cache."""
_FRAME_RATE = SAMPLE_RATE / HOP
_BINS = N_FFT // 2 + 1
_FREQUENCIES = np.linspace(0, SAMPLE_RATE / 2, _BINS)
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


_PITCH_RATE = SAMPLE_RATE // 2
_PITCH_TAPER = np.clip((4000 - _FREQUENCIES[: N_FFT // 4 + 1]) / 2500, 0, 1).astype(np.float32)
_SMOOTHING = np.hanning(9)[1:-1] / np.hanning(9).sum()
"""Smooths the level over 70 ms before its peaks are counted."""
_KILOHERTZ = (_FREQUENCIES / 1000).astype(np.float32)
_SHARES = np.array(ROLLOFFS, dtype=np.float32)
_BALANCE_BANDS = ((50, 1000), (1000, 5000), (250, 650), (1000, 4000))
_SLOPE_BANDS = ((0, 500), (500, 1500), (1500, 5000))
_CONTRAST_BANDS = ((0, 200), (200, 400), (400, 800), (800, 1600), (1600, 3200), (3200, 8000))


def _bins(low: float, high: float) -> slice:
    return slice(int(np.ceil(low * N_FFT / SAMPLE_RATE)), int(high * N_FFT / SAMPLE_RATE) + 1)


_Filters = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows of weights of bins and, for each, the first bin that counts and the one after the last."""


def _filters(weights: np.ndarray) -> _Filters:
    used = weights != 0
    first, last = used.argmax(axis=1), weights.shape[1] - used[:, ::-1].argmax(axis=1)
    return np.ascontiguousarray(weights, dtype=np.float32), first, last


@lru_cache(maxsize=1)
def _power_filters() -> _Filters:
    """Mel bands (40 rows), chroma (12), autocorrelation after pre-emphasis (19) and the bands of the spectral balance
    (4) from power bins."""
    mel = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS)
    chroma = librosa.filters.chroma(sr=SAMPLE_RATE, n_fft=N_FFT, tuning=0.0)
    chroma = np.where(chroma > 1e-3, chroma, 0)
    angle = np.pi * np.arange(_BINS) / (_BINS - 1)
    emphasized = 1 + PRE_EMPHASIS**2 - 2 * PRE_EMPHASIS * np.cos(angle)
    emphasized[1:-1] *= 2
    lags = np.cos(np.outer(np.arange(LPC_ORDER + 1), angle)) * emphasized / N_FFT
    balance = np.zeros((len(_BALANCE_BANDS), _BINS))
    for row, (low, high) in zip(balance, _BALANCE_BANDS, strict=True):
        row[_bins(low, high)] = 1
    return _filters(np.vstack([mel, chroma, lags, balance]))


@lru_cache(maxsize=1)
def _slope_filters() -> _Filters:
    """Slopes of the logarithmic spectrum."""
    weights = np.zeros((len(_SLOPE_BANDS), _BINS))
    for row, (low, high) in zip(weights, _SLOPE_BANDS, strict=True):
        row[_bins(low, high)] = _slope_weights(_FREQUENCIES[_bins(low, high)] / 1000)
    return _filters(weights)


@lru_cache(maxsize=1)
def _contrast_filters() -> _Filters:
    """Mean of a band's highest tenth less that of its lowest, from the bins of each band in ascending order."""
    weights = np.zeros((len(_CONTRAST_BANDS), _BINS))
    for row, (low, high) in zip(weights, _CONTRAST_BANDS, strict=True):
        band = row[_bins(low, high)]
        n = max(1, len(band) // 10)
        band[:n], band[-n:] = -1 / n, 1 / n
    return _filters(weights)


def _slope_weights(x: np.ndarray) -> np.ndarray:
    """Weights whose product with y is the slope of y's regression on x."""
    centred = x - x.mean()
    return (centred / (centred**2).sum()).astype(np.float32)


def _decibels(power: np.ndarray) -> np.ndarray:
    decibels = np.maximum(power, FLOOR)
    np.log10(decibels, out=decibels)
    decibels *= 10
    return decibels


class Speech:
    """A clip's frames and what is shared between descriptors; each part is computed when first asked for.

    Attributes
    ----------
    level : float32 array, shape (n_frames,)
        RMS of every frame of the clip, dB re full scale.
    active : bool array, shape (n,)
        Of the n frames of the speech span.
    power : float32 array, shape (n, 513)
    """

    def __init__(self, samples: np.ndarray):
        samples = np.asarray(samples, dtype=np.float32)
        least = WINDOW + (LEAST_SPAN - 1) * HOP
        if len(samples) < least:
            samples = np.pad(samples, (0, least - len(samples)))
        self.samples = samples
        hops = samples[: len(samples) // HOP * HOP].reshape(-1, HOP)
        energy = np.convolve(np.vecdot(hops, hops), np.ones(WINDOW // HOP, dtype=np.float32), "valid")
        self.level = _decibels(energy / WINDOW)
        loud = np.sort(self.level)[int(0.98 * (len(self.level) - 1))]
        active = self.level >= loud - ACTIVE_DB
        where = np.flatnonzero(active)
        self.start = min(int(where[0]), len(energy) - LEAST_SPAN)
        self.stop = max(int(where[-1]) + 1, self.start + LEAST_SPAN)
        self.active = active[self.start : self.stop]
        self.frames = np.lib.stride_tricks.as_strided(hops, (len(energy), WINDOW), hops.strides)[self.start : self.stop]

    @cached_property
    def power(self) -> np.ndarray:
        power = np.empty((len(self.frames), _BINS), dtype=np.float32)
        windowed = np.zeros((_BLOCK, N_FFT), dtype=np.float32)
        for first in range(0, len(self.frames), _BLOCK):
            part = slice(first, first + _BLOCK)
            count = len(self.frames[part])
            np.multiply(self.frames[part], _HANN, out=windowed[:count, :WINDOW])
            spectrum = scipy.fft.rfft(windowed[:count], axis=1)
            kernels.square(spectrum.view(np.float32), power[part])
        return power

    @cached_property
    def power_db(self) -> np.ndarray:
        return _decibels(self.power)

    @cached_property
    def _filtered(self) -> dict[str, np.ndarray]:
        rows = kernels.project(self.power, *_power_filters())
        ends = np.cumsum([N_MELS, 12, LPC_ORDER + 1])
        return dict(zip(("mel", "chroma", "lags", "balance"), np.split(rows, ends), strict=True))

    @cached_property
    def mel(self) -> np.ndarray:
        return self._filtered["mel"]

    @cached_property
    def mel_db(self) -> np.ndarray:
        return _decibels(self.mel)

    @cached_property
    def mfcc(self) -> np.ndarray:
        return scipy.fft.dct(self.mel_db, axis=0, norm="ortho")[:N_MFCC]

    @cached_property
    def delta_mfcc(self) -> np.ndarray:
        return _delta(self.mfcc[:N_DELTA])

    @cached_property
    def pitch(self) -> tuple[np.ndarray, np.ndarray]:
        """f0 in Hz (0 where unvoiced) and the periodic share of the power (0 to 1), each of shape (n,)."""
        # the spectrum below 4 kHz alone, its upper end tapered: the autocorrelation at 8 kHz, smooth about its peaks
        tapered = self.power[:, : len(_PITCH_TAPER)] * _PITCH_TAPER
        autocorrelation = scipy.fft.dct(tapered, type=1, axis=1, overwrite_x=True)
        return _track_pitch(autocorrelation, self.level[self.start : self.stop])

    @cached_property
    def voiced(self) -> np.ndarray:
        return self.pitch[0] > 0

    @cached_property
    def over_voiced(self) -> np.ndarray:
        """Frames that functionals over voiced frames see."""
        return self.voiced if self.voiced.sum() >= LEAST_VOICED else self.active

    @cached_property
    def semitones(self) -> np.ndarray:
        """f0 in semitones re 150 Hz, interpolated over unvoiced frames."""
        at = np.flatnonzero(self.voiced)
        if len(at) < LEAST_VOICED:
            return np.zeros(len(self.active), dtype=np.float32)
        values = 12 * np.log2(self.pitch[0][at] / F0_REFERENCE)
        return np.interp(np.arange(len(self.active)), at, values).astype(np.float32)

    @cached_property
    def lpc(self) -> tuple[np.ndarray, np.ndarray]:
        """Reflection coefficients and predictor, shapes (18, n) and (19, n), by Levinson's recursion."""
        r = self._filtered["lags"].astype(np.float64)
        r[0] = r[0] * (1 + 1e-5) + 1e-9
        return kernels.levinson(r)


# --- f0 ---------------------------------------------------------------------------------------------------------

_LAGS = slice(int(_PITCH_RATE / F0_RANGE[1]), int(np.ceil(_PITCH_RATE / F0_RANGE[0])) + 1)
_CANDIDATES = 4
_VOICING_THRESHOLD = 0.45
_SILENCE_THRESHOLD = 0.03
_OCTAVE_COST = 0.01
_JUMP_COST = 0.35
_SWITCH_COST = 0.14


@lru_cache(maxsize=1)
def _window_autocorrelation() -> np.ndarray:
    spectrum = np.abs(np.fft.rfft(_HANN.astype(np.float64), 2 * N_FFT)) ** 2
    full = np.fft.irfft(spectrum)[::2][: _LAGS.stop + 1]
    return (full / full[0]).astype(np.float32)


@lru_cache(maxsize=1)
def _lag_costs() -> np.ndarray:
    """What a peak at each lag is charged, so that of a period and its multiples the period wins."""
    lags = np.arange(_LAGS.stop, dtype=np.float32)
    return _OCTAVE_COST * np.log2(np.maximum(lags, 1) / _LAGS.stop)


def _track_pitch(autocorrelation: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch by the autocorrelation method of Boersma 1993 ("Accurate short-term analysis of the fundamental
    frequency and the harmonics-to-noise ratio of a sampled sound"), with its published costs and Viterbi path."""
    n = len(autocorrelation)
    lag, height = kernels.pitch_candidates(
        autocorrelation, _window_autocorrelation(), _lag_costs(), _LAGS.start, _CANDIDATES
    )
    found = lag > 0
    frequency = _PITCH_RATE / np.where(found, lag, np.float32(_LAGS.stop))
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


# --- descriptors: one value per frame of the speech span ------------------------------------------------------------


def _delta(rows: np.ndarray) -> np.ndarray:
    """Regression slope over nine frames, per frame (librosa.feature.delta, edges repeated)."""
    return scipy.ndimage.correlate1d(rows, np.arange(-4, 5) / 60, axis=1, mode="nearest")


def _level(speech: Speech) -> np.ndarray:
    level = speech.level[speech.start : speech.stop]
    loudness = np.power(np.maximum(speech.mel, FLOOR), 0.3).sum(axis=0)
    return np.stack([level, loudness])


def _spectral_shape(speech: Speech) -> np.ndarray:
    return kernels.shapes(speech.power, speech.power_db, _KILOHERTZ, _SHARES)


def _spectral_balance(speech: Speech) -> np.ndarray:
    logarithm = speech.power_db
    low, high, lower, higher = _decibels(speech._filtered["balance"])
    peaks = logarithm[:, _bins(0, 2000)].max(axis=1) - logarithm[:, _bins(2000, 5000)].max(axis=1)
    slopes = kernels.project(logarithm, *_slope_filters())
    return np.stack([low - high, peaks, lower - higher, *slopes])


def _contrast(speech: Speech) -> np.ndarray:
    ordered = speech.power_db.copy()
    for low, high in _CONTRAST_BANDS:
        ordered[:, _bins(low, high)].sort(axis=1)
    return kernels.project(ordered, *_contrast_filters())


def _zero_crossings(speech: Speech) -> np.ndarray:
    first, count = speech.start * HOP, len(speech.active)
    sign = speech.samples[first : first + (count - 1) * HOP + WINDOW] >= 0
    changes = np.zeros(len(sign), dtype=np.int32)
    np.not_equal(sign[1:], sign[:-1], out=changes[1:], casting="unsafe")
    per_hop = np.add.reduceat(changes, np.arange(0, len(changes), HOP))
    return np.convolve(per_hop, np.ones(WINDOW // HOP), "valid")[None] / WINDOW


def _chroma(speech: Speech) -> np.ndarray:
    chroma = speech._filtered["chroma"]
    return chroma / np.maximum(chroma.max(axis=0), FLOOR)


def _pitch(speech: Speech) -> np.ndarray:
    return np.stack([speech.semitones, _delta(speech.semitones[None])[0]])


def _voice_quality(speech: Speech) -> np.ndarray:
    periodic = np.clip(speech.pitch[1], 0.01, 0.999)
    hnr = 10 * np.log10(periodic / (1 - periodic))
    f0 = F0_REFERENCE * 2 ** (speech.semitones / 12)
    harmonics = kernels.harmonics(speech.power_db, f0 * np.float32(N_FFT / SAMPLE_RATE), 8)
    slope = (harmonics * _HARMONIC_SLOPE).sum(axis=0)
    return np.stack([periodic, hnr, harmonics[0] - harmonics[1], harmonics[0] - harmonics[3], slope])


_HARMONIC_SLOPE = _slope_weights(np.log2(np.arange(1, 9)))[:, None]


def _cepstral_peak(speech: Speech) -> np.ndarray:
    cepstrum = scipy.fft.dct(speech.power_db[:, : N_FFT // 4 + 1], type=1, axis=1)[:, _LAGS]
    return (cepstrum.max(axis=1) - cepstrum.mean(axis=1))[None] / (N_FFT // 2)


def _log_area_ratios(speech: Speech) -> np.ndarray:
    return 2 * np.arctanh(np.clip(speech.lpc[0][:N_AREAS], -0.999, 0.999))


def _formants(speech: Speech) -> np.ndarray:
    """Frequencies (kHz) and levels (dB re the frame's) of the first peaks of the LPC envelope above 180 Hz."""
    step = np.float32(SAMPLE_RATE / 256 / 1000)
    positions, levels = kernels.formants(speech.lpc[1], _envelope_cosines(), N_FORMANTS)
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
    """Rows of the frame table.

    Attributes
    ----------
    rows : dict of str to str
        Name of each row and what it is, for a person.
    compute : callable
        ``compute(speech)`` gives the rows, shape (len(rows), n).
    functionals : tuple of str
        Keys of :data:`FUNCTIONALS`.
    view : str
        One of :data:`VIEWS`: the aspect of the voice that it describes.
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
"""Groups of features that a model may judge by on their own: all; by what the descriptor is of; what tells how a
descriptor moves over the speech span, and what does not."""

DESCRIPTORS: tuple[Descriptor, ...] = (
    Descriptor(
        {"level_db": "RMS level (dB re full scale)", "loudness": "loudness (sum of the mel bands' power to the 0.3)"},
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
        lambda speech: _delta(speech.delta_mfcc),
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
    Descriptor(_numbered("chroma", "chroma of pitch class {} (0 is C)", 12), _chroma, ("moments", "voiced"), "bands"),
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


# --- functionals: rows (d, n) to numbers (d, k) ----------------------------------------------------------------------


def _quantiles(rows: np.ndarray) -> np.ndarray:
    rows = np.sort(rows, axis=1)
    at = np.array(QUANTILES, dtype=np.float32) * (rows.shape[1] - 1)
    low = at.astype(np.intp)
    high = np.minimum(low + 1, rows.shape[1] - 1)
    return rows[:, low] + (at - low) * (rows[:, high] - rows[:, low])


def _course(rows: np.ndarray) -> np.ndarray:
    n = rows.shape[1]
    cosines = np.cos(np.outer(np.arange(1, COURSE + 1), np.pi * (np.arange(n) + 0.5) / n)) / n
    return kernels.project(rows, *_filters(cosines)).T


def _modulation(rows: np.ndarray) -> np.ndarray:
    n = rows.shape[1]
    size = max(512, scipy.fft.next_fast_len(n, real=True))
    off = (rows - rows.mean(axis=1, keepdims=True)) * np.hanning(n + 2)[1:-1].astype(np.float32)
    spectrum = scipy.fft.rfft(off, size, axis=1)[:, : int(MODULATION_BANDS[-1][1] * size / _FRAME_RATE) + 1]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    edges = [int(np.ceil(low * size / _FRAME_RATE)) for low, _ in MODULATION_BANDS]
    bands = np.add.reduceat(power, edges, axis=1) / np.float32(size)
    return np.log10((bands + 1e-5) / (bands.sum(axis=1, keepdims=True) + 5e-5))


@dataclass(frozen=True)
class Functional:
    """Numbers of each row.

    Attributes
    ----------
    names : dict of str to str
        What is added to the descriptor's name, and what it is, for a person.
    compute : callable
        ``compute(rows)`` of shape (d, n) gives shape (d, len(names)).
    frames : str
        Which frames it sees: ``active``, ``voiced`` or the whole ``span``.
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
FRAMES = {"active": "active frames", "voiced": "voiced frames", "span": "the speech span"}


# --- scalars: the clip as a whole ------------------------------------------------------------------------------------


def _mean(values: np.ndarray) -> float:
    return float(values.sum()) / len(values) if len(values) else 0.0


def _timing(speech: Speech) -> list[float]:
    seconds = len(speech.active) / _FRAME_RATE
    pauses, pause_mean, _ = kernels.runs(~speech.active, LEAST_PAUSE)
    voiced, voiced_mean, voiced_std = kernels.runs(speech.voiced, 1)
    _, unvoiced_mean, unvoiced_std = kernels.runs(~speech.voiced, 1)
    level = np.convolve(speech.level[speech.start : speech.stop], _SMOOTHING, "same")
    peak = (level[1:-1] > level[:-2]) & (level[1:-1] >= level[2:]) & speech.active[1:-1]
    return [
        seconds,
        _mean(speech.active),
        _mean(speech.voiced),
        pauses / seconds,
        pause_mean / _FRAME_RATE,
        pauses * pause_mean / _FRAME_RATE / seconds,
        voiced / seconds,
        voiced_mean / _FRAME_RATE,
        voiced_std / _FRAME_RATE,
        unvoiced_mean / _FRAME_RATE,
        unvoiced_std / _FRAME_RATE,
        np.count_nonzero(peak) / seconds,
    ]


def _movement(speech: Speech) -> list[float]:
    pairs = speech.voiced[1:] & speech.voiced[:-1]
    triples = pairs[1:] & pairs[:-1]
    level = np.diff(speech.level[speech.start : speech.stop])
    moves = level[speech.active[1:] & speech.active[:-1]]
    steps = np.diff(speech.semitones)
    f0 = speech.pitch[0]
    return [
        _mean(steps[pairs & (steps > 0)]),
        _mean(steps[pairs & (steps < 0)]),
        _mean(steps[pairs] > 0),
        _mean(np.abs(np.diff(steps)[triples])),
        _mean(np.abs(np.diff(f0)[pairs]) / f0[1:][pairs]),
        _mean(np.abs(level[pairs])),
        _mean(moves[moves > 0]),
        _mean(moves[moves < 0]),
    ]


@dataclass(frozen=True)
class Scalars:
    """Numbers of a whole clip: ``compute(speech)`` gives one for each of ``names`` (name: what it is)."""

    names: Mapping[str, str]
    compute: Callable[[Speech], list[float]]


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


# --- features of one's own -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Registered:
    names: tuple[str, ...]
    compute: Callable[[np.ndarray, int], Sequence[float]]
    source: str


_registered: dict[str, _Registered] = {}


def register(name: str, names: Sequence[str]) -> Callable:
    """Decorator: the function's numbers join the features as ``<name>_<one of names>``.

    Raises
    ------
    ConfigurationError
        If a name is taken or is not made of letters, digits and ``_``, or if the function's source cannot be read.
    """

    def enter(function: Callable[[np.ndarray, int], Sequence[float]]) -> Callable:
        full = tuple(f"{name}_{part}" for part in names)
        wrong = [part for part in full if not re.fullmatch(r"\w+", part, re.ASCII)]
        taken = sorted(set(full) & set(feature_names())) + sorted({part for part in full if full.count(part) > 1})
        if wrong or taken or not full:
            raise ConfigurationError(
                f"features {wrong or taken or list(full)} of {name!r} cannot be registered: expected new names, at "
                "least one, of letters, digits and '_'"
            )
        try:
            source = ast.unparse(ast.parse(inspect.getsource(inspect.getmodule(function))))
        except (OSError, TypeError) as error:
            raise ConfigurationError(
                f"the source of {name!r} cannot be read ({error}); define it in a module's file, so that a change of "
                "it is noticed"
            ) from error
        _registered[name] = _Registered(full, function, source)
        _forget()
        return function

    return enter


def _own(name: str, entry: _Registered, samples: np.ndarray) -> np.ndarray:
    values = np.asarray(entry.compute(samples, SAMPLE_RATE), dtype=np.float32)
    if values.shape != (len(entry.names),) or not np.isfinite(values).all():
        raise ConfigurationError(
            f"the registered function {name!r} gave {values!r}; expected {len(entry.names)} finite numbers "
            f"({', '.join(entry.names)}) for every clip"
        )
    return values


# --- the vector ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _plan() -> list[tuple[Functional, np.ndarray]]:
    """Which rows of the frame table each functional sees."""
    index: dict[str, list[int]] = {name: [] for name in FUNCTIONALS}
    at = 0
    for descriptor in DESCRIPTORS:
        for name in descriptor.functionals:
            index[name] += range(at, at + len(descriptor.rows))
        at += len(descriptor.rows)
    return [(FUNCTIONALS[name], np.array(rows)) for name, rows in index.items()]


@lru_cache(maxsize=1)
def _meanings() -> dict[str, str]:
    rows = [row for descriptor in DESCRIPTORS for row in descriptor.rows.items()]
    meanings = {}
    for functional, index in _plan():
        for name, meaning in (rows[number] for number in index):
            for suffix, what in functional.names.items():
                meanings[f"{name}_{suffix}"] = f"{what} over {FRAMES[functional.frames]} of {meaning}"
    for scalars in SCALARS:
        meanings |= scalars.names
    for name, entry in _registered.items():
        meanings |= {full: f"registered feature {full[len(name) + 1 :]} of {name}" for full in entry.names}
    return meanings


@lru_cache(maxsize=1)
def feature_names() -> tuple[str, ...]:
    """Names of the features, in the vector's order."""
    return tuple(_meanings())


def describe(name: str) -> str:
    """What a feature is, in words. Raises KeyError if there is none of this name.

    >>> describe("f0_semitone_voiced_p80")
    'percentile 80 over voiced frames of f0 (semitones re 150 Hz, interpolated over unvoiced frames)'
    """
    return _meanings()[name]


def views() -> dict[str, np.ndarray]:
    """Columns of each of :data:`VIEWS`; registered features are in ``all`` and ``static``."""
    kinds, moving = [], []
    rows = [descriptor.view for descriptor in DESCRIPTORS for _ in descriptor.rows]
    for functional, index in _plan():
        kinds += [rows[row] for row in index for _ in functional.names]
        moving += [functional.frames == "span"] * (len(index) * len(functional.names))
    rest = len(feature_names()) - len(kinds)
    kinds += ["prosody"] * sum(len(scalars.names) for scalars in SCALARS)
    kinds, moving = np.array(kinds + [""] * (len(feature_names()) - len(kinds))), np.array(moving + [False] * rest)
    chosen = {"all": np.ones(len(kinds), dtype=bool), "course": moving, "static": ~moving}
    return {view: np.flatnonzero(chosen.get(view, kinds == view)) for view in VIEWS}


def extract(samples: np.ndarray) -> np.ndarray:
    """The features of a clip.

    Parameters
    ----------
    samples : float32 array, shape (n,)
        Mono, at :data:`SAMPLE_RATE`; finite, and not all zero.

    Returns
    -------
    float32 array, shape (n_features,)
        In the order of :func:`feature_names`; always finite, and the same bit for bit wherever it is computed on
        the same machine. Where fewer than five frames are voiced, f0 is taken as 150 Hz throughout and functionals
        over voiced frames see the active ones.
    """
    speech = Speech(samples)
    table = np.concatenate([descriptor.compute(speech) for descriptor in DESCRIPTORS], dtype=np.float32)
    seen = {"span": table, "active": table[:, speech.active], "voiced": table[:, speech.over_voiced]}
    parts = [functional.compute(seen[functional.frames][index]).ravel() for functional, index in _plan()]
    parts += [np.array(scalars.compute(speech)) for scalars in SCALARS]
    parts += [_own(name, entry, samples) for name, entry in _registered.items()]
    return np.concatenate(parts, dtype=np.float32)


# --- augmentation ----------------------------------------------------------------------------------------------------


def _at_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    return soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE, quality="HQ").astype(np.float32)


VARIANTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "slower": lambda samples: _at_speed(samples, 0.9),
    "faster": lambda samples: _at_speed(samples, 1.1),
}
"""Copies of a clip for training rows alone: as said by a larger, slower or a smaller, faster speaker (Ko et al. 2015,
"Audio augmentation for speech recognition"). Each maps float32 samples at :data:`SAMPLE_RATE` to such samples."""


# --- the recipe's version --------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def recipe() -> str:
    """The version of everything that turns a recording into its vector.

    Features are stored below it, and a model is used only with the recipe it was trained on.

    >>> recipe()
    'v1'

    Features of one's own add a hash of their names and of their modules' code, comments and layout aside:
    ``v1-3f9a0c52``.
    """
    if not _registered:
        return RECIPE_VERSION
    parts = [text for entry in _registered.values() for text in (*entry.names, entry.source)]
    return f"{RECIPE_VERSION}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:8]}"


def _forget() -> None:
    for cached in (_meanings, feature_names, recipe):
        cached.cache_clear()


for _module in filter(None, os.environ.get("EMOTION_FEATURES", "").split(",")):
    importlib.import_module(_module.strip())
