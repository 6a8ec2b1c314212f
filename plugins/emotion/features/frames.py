"""The frames of a clip, and what several descriptors share: power, mel bands, MFCCs, f0, linear prediction."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.fft

from emotion.features import kernels
from emotion.features.pitch import Pitch, track_pitch
from emotion.features.spectrum import (
    BINS,
    FREQUENCIES,
    HANN,
    HOP,
    N_DELTA,
    N_FFT,
    N_MFCC,
    POWER_ROWS,
    SPEECH_BAND,
    WINDOW,
    bin_range,
    decibels,
    delta,
    library_filters,
    power_filters,
)

F0_REFERENCE = 150.0
"""Hz of 0 semitones. A clip without voiced frames has the f0 features of a voice that stays at this pitch."""
ACTIVE_DB = 30.0
"""A frame is active if its level is at most so many dB below the 98th percentile of the clip's levels."""
NOISE_SHARE = 0.75
"""In noise, the limit is this share of the distance from the 98th percentile down to the noise floor, so that the
frames between the words are not active."""
LEAST_ACTIVE_DB = 6.0
"""The limit is at least this, however near the noise floor lies."""
REFERENCE_DB = -26.0
"""Level that the active speech of every clip is brought to (dB re full scale), so that no feature depends on the gain
of the recording."""
MASKING_DB = -40.0
"""White noise at this level, relative to the highest peak of the mean spectrum of the active speech, is added to every
power spectrum. It hides what lies so far below the speech: there, recordings differ by noise, bandwidth and codec."""
LEAST_SPAN = 10
"""Frames of the shortest speech span. A shorter span is extended; a shorter clip is padded with zeros."""
LEAST_VOICED = 5
"""With fewer voiced frames, the active frames are used in their place."""
LEAST_POWER = 1e-14
"""Lower bound of the power of a frame in the speech band."""
_BLOCK = 64
"""Frames transformed at a time: few enough for the processor's cache."""
_PITCH_TAPER = np.clip((4000 - FREQUENCIES[: N_FFT // 4 + 1]) / 2500, 0, 1).astype(np.float32)


def _hops(samples: np.ndarray, hop: int) -> np.ndarray:
    return samples[: len(samples) // hop * hop].reshape(-1, hop)


def _frame_energy(samples: np.ndarray, hop: int) -> np.ndarray:
    """Sum of the squares of each frame of four hops, shape (n_frames,)."""
    hops = _hops(samples, hop)
    return np.convolve(np.vecdot(hops, hops), np.ones(WINDOW // HOP, dtype=hops.dtype), "valid")


def _power_in_speech_band(samples: np.ndarray) -> np.ndarray:
    """Mean power of each frame in the speech band, float64, shape (n_frames,)."""
    # every other sample is enough, and takes half the time; the weights keep what is above the band out of it
    filtered = kernels.halve_and_filter(samples[: len(samples) // HOP * HOP], library_filters().speech)
    return _frame_energy(filtered, HOP // 2) / (WINDOW // 2)


def _active_frames(level: np.ndarray) -> np.ndarray:
    """Which frames hold active speech, from their levels in dB: bool, shape (n_frames,).

    With noise 20 dB below the speech, its frames are not active:

    >>> _active_frames(np.repeat(np.float32([-40, -20, -40]), [10, 20, 10])).nonzero()[0][[0, -1]].tolist()
    [9, 30]
    """
    smooth = np.convolve(np.pad(level, 2, mode="edge"), np.ones(5, dtype=np.float32) / 5, "valid")
    loud = np.sort(level)[int(0.98 * (len(level) - 1))]
    noise_floor = np.sort(smooth)[int(0.1 * (len(smooth) - 1))]
    active: np.ndarray = smooth >= loud - np.clip(NOISE_SHARE * (loud - noise_floor), LEAST_ACTIVE_DB, ACTIVE_DB)
    return active if active.any() else np.ones_like(active)


class LinearPrediction(NamedTuple):
    """Linear prediction of n frames: reflection coefficients, shape (18, n), and predictor, shape (19, n)."""

    reflections: np.ndarray
    predictor: np.ndarray


class Speech:
    """The frames of a clip. What descriptors share is computed at its first use.

    Parameters
    ----------
    samples : float32 array, shape (n_samples,)
        At :data:`emotion.features.SAMPLE_RATE`.

    Attributes
    ----------
    samples : float32 array
        Without their mean, padded with zeros if they are too few, and with the active speech at :data:`REFERENCE_DB`.
    level : float32 array, shape (n_frames,)
        RMS level of every frame of the clip, in dB; the active speech is at :data:`REFERENCE_DB`.
    start, stop : int
        First frame of the speech span, and the frame after its last. The span has n frames, from the first to the last
        active frame.
    active : bool array, shape (n,)
        Which frames of the speech span are active.
    frames : float32 array, shape (n, 640)
        Samples of the frames of the speech span: a view of ``samples``.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 200 / 16_000 * np.arange(8_000)).astype(np.float32)
    >>> speech = Speech(np.concatenate([np.zeros(8_000, dtype=np.float32), tone]))
    >>> len(speech.level), speech.start, speech.stop, round(float(np.median(speech.pitch.f0)))
    (97, 48, 97, 200)
    """

    def __init__(self, samples: np.ndarray):
        samples = samples - np.float32(np.mean(samples, dtype=np.float64))
        least = WINDOW + (LEAST_SPAN - 1) * HOP
        if len(samples) < least:
            samples = np.pad(samples, (0, least - len(samples)))
        band_power = np.maximum(_power_in_speech_band(samples), LEAST_POWER)
        active = _active_frames(decibels(band_power, floor=LEAST_POWER))
        self.samples = samples * np.float32(np.sqrt(10 ** (REFERENCE_DB / 10) / band_power[active].mean()))
        energy = _frame_energy(self.samples, HOP)
        self.level = decibels(energy / WINDOW)
        active_frames = np.flatnonzero(active)
        self.start = min(int(active_frames[0]), len(energy) - LEAST_SPAN)
        self.stop = max(int(active_frames[-1]) + 1, self.start + LEAST_SPAN)
        self.active = active[self.start : self.stop]
        hops = _hops(self.samples, HOP)
        self.frames = np.lib.stride_tricks.as_strided(hops, (len(energy), WINDOW), hops.strides)[self.start : self.stop]

    @cached_property
    def power(self) -> np.ndarray:
        """Power spectrum of each frame with the masking noise, float32, shape (n, 513)."""
        power = np.empty((len(self.frames), BINS), dtype=np.float32)
        windowed = np.zeros((_BLOCK, N_FFT), dtype=np.float32)
        for first in range(0, len(self.frames), _BLOCK):
            part = slice(first, first + _BLOCK)
            count = len(self.frames[part])
            np.multiply(self.frames[part], HANN, out=windowed[:count, :WINDOW])
            spectrum = scipy.fft.rfft(windowed[:count], axis=1)
            kernels.square(spectrum.view(np.float32), power[part])
        mean = power[self.active].mean(axis=0)
        power += mean[bin_range(*SPEECH_BAND)].max() * np.float32(10 ** (MASKING_DB / 10))
        return power

    @cached_property
    def power_db(self) -> np.ndarray:
        """``power`` in dB, shape (n, 513)."""
        return decibels(self.power)

    @cached_property
    def bands(self) -> dict[str, np.ndarray]:
        """Weighted sums of ``power``, shape (rows, n), for each name of ``spectrum.POWER_ROWS``."""
        rows = kernels.project(self.power, *power_filters())
        return {name: rows[part] for name, part in POWER_ROWS.items()}

    @cached_property
    def mel_db(self) -> np.ndarray:
        """Log-mel bands in dB, shape (40, n)."""
        return decibels(self.bands["mel"])

    @cached_property
    def mfcc(self) -> np.ndarray:
        """MFCCs, shape (20, n)."""
        return scipy.fft.dct(self.mel_db, axis=0, norm="ortho")[:N_MFCC]

    @cached_property
    def delta_mfcc(self) -> np.ndarray:
        """Slopes of the first MFCCs, shape (14, n)."""
        return delta(self.mfcc[:N_DELTA])

    @cached_property
    def pitch(self) -> Pitch:
        """f0 and periodicity of each frame."""
        # only the spectrum below 4 kHz, with its upper end tapered: this is the autocorrelation at 8 kHz, smooth around
        # its peaks
        tapered = self.power[:, : len(_PITCH_TAPER)] * _PITCH_TAPER
        autocorrelation = scipy.fft.dct(tapered, type=1, axis=1, overwrite_x=True)
        return track_pitch(autocorrelation, self.level[self.start : self.stop])

    @cached_property
    def voiced(self) -> np.ndarray:
        """Which frames are voiced, bool, shape (n,)."""
        return self.pitch.f0 > 0

    @cached_property
    def over_voiced(self) -> np.ndarray:
        """Which frames functionals over voiced frames use, bool, shape (n,): see :data:`LEAST_VOICED`."""
        return self.voiced if self.voiced.sum() >= LEAST_VOICED else self.active

    @cached_property
    def semitones(self) -> np.ndarray:
        """f0 in semitones relative to 150 Hz, interpolated over unvoiced frames, shape (n,)."""
        voiced_frames = np.flatnonzero(self.voiced)
        if len(voiced_frames) < LEAST_VOICED:
            return np.zeros(len(self.active), dtype=np.float32)
        values = 12 * np.log2(self.pitch.f0[voiced_frames] / F0_REFERENCE)
        return np.interp(np.arange(len(self.active)), voiced_frames, values).astype(np.float32)

    @cached_property
    def linear_prediction(self) -> LinearPrediction:
        """Linear prediction of each frame after pre-emphasis, by Levinson's recursion."""
        r = self.bands["lags"].astype(np.float64)
        r[0] = r[0] * (1 + 1e-5) + 1e-9
        return LinearPrediction(*kernels.levinson(r))
