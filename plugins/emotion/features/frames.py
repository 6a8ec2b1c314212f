"""The frames of a clip, and what several descriptors share: power, mel bands, MFCCs, f0, linear prediction."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.fft
import scipy.ndimage

from emotion.features import kernels
from emotion.features.pitch import track_pitch
from emotion.features.spectrum import (
    BINS,
    FREQUENCIES,
    HANN,
    HOP,
    LPC_ORDER,
    N_DELTA,
    N_FFT,
    N_MELS,
    N_MFCC,
    WINDOW,
    decibels,
    delta,
    power_filters,
)

F0_REFERENCE = 150.0
"""Hz of 0 semitones; a clip without voiced frames has f0 features as if at this pitch throughout."""
ACTIVE_DB = 30.0
"""A frame is active if its level is at most so many dB below the clip's 98th percentile."""
LEAST_SPAN = 10
"""Frames of the shortest speech span; a shorter one is extended, a shorter clip padded with zeros."""
LEAST_VOICED = 5
"""With fewer voiced frames, active frames stand in for them."""
_BLOCK = 64
"""Frames transformed at a time: few enough for the processor's cache."""
_PITCH_TAPER = np.clip((4000 - FREQUENCIES[: N_FFT // 4 + 1]) / 2500, 0, 1).astype(np.float32)


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
        self.level = decibels(energy / WINDOW)
        loud = np.sort(self.level)[int(0.98 * (len(self.level) - 1))]
        active = self.level >= loud - ACTIVE_DB
        where = np.flatnonzero(active)
        self.start = min(int(where[0]), len(energy) - LEAST_SPAN)
        self.stop = max(int(where[-1]) + 1, self.start + LEAST_SPAN)
        self.active = active[self.start : self.stop]
        self.frames = np.lib.stride_tricks.as_strided(hops, (len(energy), WINDOW), hops.strides)[self.start : self.stop]

    @cached_property
    def power(self) -> np.ndarray:
        power = np.empty((len(self.frames), BINS), dtype=np.float32)
        windowed = np.zeros((_BLOCK, N_FFT), dtype=np.float32)
        for first in range(0, len(self.frames), _BLOCK):
            part = slice(first, first + _BLOCK)
            count = len(self.frames[part])
            np.multiply(self.frames[part], HANN, out=windowed[:count, :WINDOW])
            spectrum = scipy.fft.rfft(windowed[:count], axis=1)
            kernels.square(spectrum.view(np.float32), power[part])
        return power

    @cached_property
    def power_db(self) -> np.ndarray:
        return decibels(self.power)

    @cached_property
    def _filtered(self) -> dict[str, np.ndarray]:
        rows = kernels.project(self.power, *power_filters())
        ends = np.cumsum([N_MELS, 12, LPC_ORDER + 1])
        return dict(zip(("mel", "chroma", "lags", "balance"), np.split(rows, ends), strict=True))

    @cached_property
    def mel(self) -> np.ndarray:
        return self._filtered["mel"]

    @cached_property
    def mel_db(self) -> np.ndarray:
        return decibels(self.mel)

    @cached_property
    def mfcc(self) -> np.ndarray:
        return scipy.fft.dct(self.mel_db, axis=0, norm="ortho")[:N_MFCC]

    @cached_property
    def delta_mfcc(self) -> np.ndarray:
        return delta(self.mfcc[:N_DELTA])

    @cached_property
    def pitch(self) -> tuple[np.ndarray, np.ndarray]:
        """f0 in Hz (0 where unvoiced) and the periodic share of the power (0 to 1), each of shape (n,)."""
        # the spectrum below 4 kHz alone, its upper end tapered: the autocorrelation at 8 kHz, smooth about its peaks
        tapered = self.power[:, : len(_PITCH_TAPER)] * _PITCH_TAPER
        autocorrelation = scipy.fft.dct(tapered, type=1, axis=1, overwrite_x=True)
        return track_pitch(autocorrelation, self.level[self.start : self.stop])

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
