"""Decoding: any recording that libsndfile reads becomes float32 mono at one rate, or is refused with a reason."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from emotion.errors import AudioError

SAMPLE_RATE = 16_000
"""Rate at which features are taken, in Hz: speech's emotion lies below 8 kHz."""

MIN_SECONDS = 0.2
MAX_SECONDS = 3600.0
MAX_CHANNELS = 8
RATES = (4_000, 768_000)
"""Lowest and highest sample rate taken, in Hz."""

SILENCE_RMS = 1e-4
"""A recording whose RMS about its mean is below this (-80 dB re full scale) is silent."""

MAX_PEAK = 1e6
"""Samples as large as this, in units of full scale, are no audio."""

BLOCK = 1 << 16
"""Samples decoded at a time: small enough for the processor's cache, whatever the recording's length."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded recording.

    Attributes
    ----------
    samples : float32 array, shape (n,)
        Mono (mean of the channels), at ``sample_rate``; full scale is 1.
    sample_rate : int
        Hz.
    duration : float
        Seconds, of the original.
    original_rate, channels : int
        Of the original.
    samples_sha256 : str
        Of ``samples``: the same audio in another lossless container has the same hash.
    """

    samples: np.ndarray
    sample_rate: int
    duration: float
    original_rate: int
    channels: int
    samples_sha256: str


def load(
    file: str | os.PathLike | BinaryIO,
    *,
    sample_rate: int = SAMPLE_RATE,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
) -> Clip:
    """Decode, mix to mono and resample a recording.

    Parameters
    ----------
    file : path or seekable binary file
        WAV, FLAC, AIFF, Ogg, MP3 … of 1 to 8 channels.
    sample_rate : int
        Hz of the result (soxr, high quality).
    min_seconds, max_seconds : float
        A longer recording is refused from its header, before it is decoded; memory grows with the result only.

    Raises
    ------
    AudioError
        ``empty`` (no bytes or no samples), ``not_audio`` (not decodable, or a rate or number of channels that
        is not speech audio), ``truncated`` (WAV, AIFF, FLAC: less data than the header promises), ``too_long``,
        ``too_short``, ``not_finite``, ``silent``.
    FileNotFoundError
        If there is no such file.
    """
    if not hasattr(file, "read"):
        with open(file, "rb") as handle:
            _check_container(handle, str(file))
        return _decode(os.fspath(file), str(file), sample_rate, min_seconds, max_seconds)
    name = str(getattr(file, "name", "the recording"))
    file.seek(0)
    _check_container(file, name)
    file.seek(0)
    return _decode(file, name, sample_rate, min_seconds, max_seconds)


def _decode(file: str | BinaryIO, name: str, sample_rate: int, min_seconds: float, max_seconds: float) -> Clip:
    name = Path(name).name
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: the ending .raw, which has no header
        raise AudioError("not_audio", f"{name} is not a recording libsndfile can read ({error})") from error
    with sound:
        rate, channels, promised = sound.samplerate, sound.channels, sound.frames
        if not RATES[0] <= rate <= RATES[1] or channels > MAX_CHANNELS:
            raise AudioError(
                "not_audio",
                f"{name} says {rate} Hz and {channels} channels; expected {RATES[0]} to {RATES[1]} Hz and at most "
                f"{MAX_CHANNELS} channels",
            )
        limit = int(max_seconds * rate)
        counted = promised < 1 << 48  # a stream written without its length says "as many as can be"
        if counted and promised > limit:
            raise _too_long(name, promised / rate, max_seconds)
        resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        buffer = np.empty((BLOCK // channels, channels), dtype=np.float32)
        parts, frames = [], 0
        try:
            while len(block := sound.read(out=buffer)):
                frames += len(block)
                if frames > limit:
                    raise _too_long(name, frames / rate, max_seconds)
                mono = block[:, 0] if channels == 1 else block.mean(axis=1)
                parts.append(resampler.resample_chunk(mono, last=False))
        except soundfile.LibsndfileError as error:
            raise _truncated(name, f"decoding fails after {frames} of {promised} frames ({error})") from error
        parts.append(resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True))
    if not frames:
        raise AudioError("empty", f"{name} holds no samples")
    if counted and frames < promised:
        raise _truncated(name, f"its header promises {promised} frames and {frames} are there")
    samples = np.concatenate(parts)
    if frames < min_seconds * rate:
        raise AudioError("too_short", f"{name} lasts {frames / rate:.3f} s; expected at least {min_seconds} s")
    if not max(samples.max(), -samples.min()) < MAX_PEAK:
        raise AudioError("not_finite", f"{name} holds samples that are no numbers of audio (NaN, infinity or as large)")
    rms = float(samples.std())
    if rms < SILENCE_RMS:
        raise AudioError(
            "silent", f"{name} is silent: RMS {rms:.1e} of full scale; expected at least {SILENCE_RMS:.0e}"
        )
    return Clip(
        samples=samples,
        sample_rate=sample_rate,
        duration=frames / rate,
        original_rate=rate,
        channels=channels,
        samples_sha256=hashlib.sha256(samples).hexdigest(),
    )


def _check_container(handle: BinaryIO, name: str) -> None:
    """Compare the length that a WAV's or AIFF's header promises with the file's: libsndfile shortens silently."""
    name = Path(name).name
    size = handle.seek(0, os.SEEK_END)
    if not size:
        raise AudioError("empty", f"{name} has no bytes")
    handle.seek(0)
    head = handle.read(12)
    kind, form = head[:4], head[8:]
    if kind in (b"RIFF", b"RIFX", b"RF64") and form == b"WAVE":
        data, order = b"data", ">" if kind == b"RIFX" else "<"
    elif kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        data, order = b"SSND", ">"
    else:
        return
    at, large = 12, None
    while len(chunk := handle.read(8)) == 8:
        length = struct.unpack(order + "I", chunk[4:])[0]
        if chunk[:4] == b"ds64":
            large = struct.unpack("<Q", handle.read(16)[8:])[0]
        if chunk[:4] == data:
            if length == 0xFFFFFFFF:  # RF64, or a stream written without its length
                length = large if large is not None else 0
            if at + 8 + length > size:
                raise _truncated(name, f"its header promises {length} bytes of samples and {size - at - 8} are there")
            return
        at += 8 + length + length % 2
        handle.seek(at)
    raise _truncated(name, "it ends before its samples begin")


def _truncated(name: str, found: str) -> AudioError:
    return AudioError("truncated", f"{name} is cut short or damaged: {found}; copy or download it again")


def _too_long(name: str, seconds: float, max_seconds: float) -> AudioError:
    return AudioError("too_long", f"{name} lasts at least {seconds:.1f} s; expected at most {max_seconds:g} s")
