"""The quality of a recording: level, signal-to-noise ratio, bandwidth, clipping and seconds of speech.

All figures come from the decoded samples alone. They describe the recording and not the voice: no model uses them. They
say how much an answer is worth, and why a batch differs from the training set.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.fft

from emotion.features.spectrum import HOP, SAMPLE_RATE

ACTIVE_DB = 30.0
"""A block is speech if its level is at most so many dB below the loud blocks, and above the noise."""
STEADY_DB = 4.0
"""If the loud blocks are less than this above the quiet ones, nothing tells speech from noise."""
PAUSE_DB = 3.0
"""Blocks up to so many dB above the quiet level are pauses."""
TAIL_DB = 1.6
"""The levels of steady noise reach at most so many dB below the quiet level; those of soft speech reach further."""
SNR_RANGE = (-10.0, 80.0)
"""dB. A pause of digital silence has no noise at all; its SNR is given as the upper end."""
BAND_DB = 6.0
"""Speech reaches a frequency if it is so many dB above the noise there …"""
BAND_DEPTH = 60.0
"""… and at most so many dB below its strongest frequency."""
_FRAME = 256
_FRAMES = 48
"""Frames of 16 ms that are transformed for the bandwidth: enough for it, and few enough for a long recording."""
_WINDOW = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
_SMOOTHING = np.full(3, 1 / (3 * HOP))
_TINY = 1e-14


class Quality(NamedTuple):
    """The quality of a recording. NaN is what cannot be measured.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> voice = np.repeat([0.0, 0.1, 0.0, 0.1, 0.0], 6_400) * rng.normal(size=32_000)
    >>> noisy = (voice + 0.01 * rng.normal(size=32_000)).astype(np.float32)
    >>> quality = measure(noisy)
    >>> round(quality.level_db), round(quality.snr_db), round(quality.seconds_of_speech, 1), quality.clipped_share
    (-20, 20, 0.8, 0.0)
    >>> round(measure(noisy / 10).snr_db), round(measure(noisy / 10).level_db)
    (20, -40)
    """

    level_db: float
    """Level of the speech, without the noise, in dB relative to full scale."""
    snr_db: float
    """Power of the speech over that of the noise in its pauses, in dB, at most 80; NaN where there are no pauses."""
    bandwidth_hz: float
    """The highest frequency at which speech is above the noise: 8,000 at most, 4,000 for 8 kHz material."""
    clipped_share: float
    """Share of the samples that lie on a flat top of the waveform, 0 to 1."""
    seconds_of_speech: float
    """Seconds of the blocks of 10 ms in which there is speech."""


COLUMNS = Quality._fields
"""The names of the figures, as tables and answers have them."""
UNKNOWN = Quality(*[math.nan] * len(COLUMNS))
"""The quality of what was not measured."""


def as_dict(quality: Quality) -> dict[str, float | None]:
    """A quality by the names of its figures; None where a figure is not known.

    >>> as_dict(UNKNOWN)["snr_db"] is None
    True
    """
    return {name: None if math.isnan(value) else value for name, value in quality._asdict().items()}


def measure(samples: np.ndarray) -> Quality:
    """The quality of a recording.

    Parameters
    ----------
    samples : float32 array, shape (n,)
        Mono, at :data:`SAMPLE_RATE`; at least 16 ms, finite and not all zero.

    Notes
    -----
    The noise is the 10th percentile of the levels of 10 ms. It is noise only where a recording has pauses: then many
    blocks lie close to it. In speech without pauses, the quietest blocks are soft speech, and in a steady sound, all
    blocks are alike: the SNR is NaN in both. All thresholds are relative, so that a gain changes the level alone.
    """
    blocks = samples[: len(samples) // HOP * HOP].reshape(-1, HOP)
    power = np.convolve(np.vecdot(blocks, blocks), _SMOOTHING, "same")
    power = np.maximum(power, power.max() * _TINY)
    levels = 10 * np.log10(power)
    ordered = np.sort(levels)
    loud, quiet = ordered[int(0.98 * (len(ordered) - 1))], ordered[int(0.1 * (len(ordered) - 1))]
    has_pauses = loud - quiet >= (STEADY_DB if _is_steady(ordered, quiet) else ACTIVE_DB)
    threshold = loud - ACTIVE_DB
    noise = 0.0
    if has_pauses:
        pauses = levels <= quiet + PAUSE_DB
        noise = float(power[pauses].mean())
        threshold = min(max(threshold, quiet + 1.5 * PAUSE_DB), loud)
    active = levels >= threshold
    speech = float(power[active].mean()) - noise
    snr = 10 * math.log10(speech / noise) if has_pauses else math.nan
    return Quality(
        level_db=10 * math.log10(speech),
        snr_db=min(max(snr, SNR_RANGE[0]), SNR_RANGE[1]) if has_pauses else math.nan,
        bandwidth_hz=_bandwidth(samples, levels, active, quiet if has_pauses else None),
        clipped_share=_clipped_share(samples),
        seconds_of_speech=float(active.sum()) * HOP / SAMPLE_RATE,
    )


def of_windows(windows: list[Quality]) -> Quality:
    """The quality of a long recording from that of its windows: their medians, and the sum of the seconds of speech.

    >>> round(of_windows([UNKNOWN, Quality(-30, 20, 8000, 0, 2), Quality(-32, 22, 8000, 0, 1.5)]).seconds_of_speech, 1)
    3.5
    """
    figures = np.array(windows)
    medians = [float(np.median(known)) if len(known) else math.nan for known in (f[~np.isnan(f)] for f in figures.T)]
    return Quality(*medians)._replace(seconds_of_speech=float(np.nansum(figures[:, -1])))


def _is_steady(ordered: np.ndarray, quiet: float) -> bool:
    """Whether the quiet blocks are a steady noise and not soft speech; ``ordered``: the levels, lowest first.

    Noise has a level, which many blocks lie close to. Soft speech fades, with as many blocks at each level.
    """
    at_quiet, above, far_above = np.searchsorted(ordered, [quiet, quiet + PAUSE_DB, quiet + 2 * PAUSE_DB])
    is_sharp = quiet - ordered[int(0.02 * (len(ordered) - 1))] <= TAIL_DB
    return bool(is_sharp and above - at_quiet > 0.06 * len(ordered) and above - at_quiet > 0.85 * (far_above - above))


def _spectra(samples: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Power spectra, shape (n, 129), of frames that begin at evenly chosen ones of these blocks."""
    chosen = blocks[:: max(1, -(-len(blocks) // _FRAMES))]
    starts = np.unique(np.minimum(chosen * HOP, len(samples) - _FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[starts] * _WINDOW
    spectra = scipy.fft.rfft(frames, axis=1)
    return spectra.real**2 + spectra.imag**2


def _bandwidth(samples: np.ndarray, levels: np.ndarray, active: np.ndarray, quiet: float | None) -> float:
    speech = _spectra(samples, np.flatnonzero(active))
    rank = int(0.9 * (len(speech) - 1))
    strong = np.partition(speech, rank, axis=0)[rank]
    floor = np.full(len(strong), strong.max() * 10 ** (-BAND_DEPTH / 10))
    if quiet is not None:
        noise = _spectra(samples, np.flatnonzero(levels <= quiet + PAUSE_DB))
        rank = int(0.9 * (len(noise) - 1))
        floor = np.maximum(floor, np.partition(noise, rank, axis=0)[rank] * 10 ** (BAND_DB / 10))
    above = np.flatnonzero(strong > floor)
    return float((above[-1] if len(above) else 0) * SAMPLE_RATE / _FRAME)


def _clipped_share(samples: np.ndarray) -> float:
    magnitude = np.abs(samples)
    high = magnitude >= 0.98 * magnitude.max()
    inside = high[1:-1] & high[:-2] & high[2:]
    if not inside.any():
        return 0.0
    flat = np.zeros(len(samples), dtype=bool)
    for part in (slice(0, -2), slice(1, -1), slice(2, None)):
        flat[part] |= inside
    return float(flat.mean())
