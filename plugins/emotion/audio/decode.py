"""Decoding: any recording that libsndfile reads becomes float32 mono at one rate, or is refused with a reason."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from emotion.audio.containers import check_container, truncated
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
    """

    samples: np.ndarray
    sample_rate: int
    duration: float
    original_rate: int
    channels: int

    @cached_property
    def samples_sha256(self) -> str:
        """Of ``samples``: the same audio in another lossless container has the same hash."""
        return hashlib.sha256(self.samples).hexdigest()


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
    with open_recording(file) as recording:
        if recording.frames is not None and recording.frames > max_seconds * recording.sample_rate:
            raise _too_long(recording.name, recording.frames / recording.sample_rate, max_seconds)
        return from_blocks(
            recording.blocks,
            recording.sample_rate,
            name=recording.name,
            sample_rate=sample_rate,
            min_seconds=min_seconds,
            max_seconds=max_seconds,
        )


def from_blocks(
    blocks: Iterable[np.ndarray],
    rate: float,
    *,
    name: str = "the audio",
    sample_rate: int = SAMPLE_RATE,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
) -> Clip:
    """Mix and resample samples at ``rate`` Hz that come in blocks, each as :func:`to_mono` takes them.

    The result does not depend, to the bit, on where one block ends and the next begins. Raises AudioError as
    :func:`load` does.
    """
    resampler, parts, frames, channels = None, [], 0, 1
    for block in blocks:
        channels = block.shape[1] if block.ndim == 2 else 1
        check_format(name, rate, channels)
        mono = to_mono(block)
        frames += len(mono)
        if frames > max_seconds * rate:
            raise _too_long(name, frames / rate, max_seconds)
        resampler = resampler or soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        parts.append(resampler.resample_chunk(mono, last=False))
    if not frames:
        raise AudioError("empty", f"{name} holds no samples")
    if frames < min_seconds * rate:
        raise AudioError("too_short", f"{name} lasts {frames / rate:.3f} s; expected at least {min_seconds} s")
    parts.append(resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True))
    samples = np.concatenate(parts)
    if not max(samples.max(), -samples.min()) < MAX_PEAK:
        raise AudioError("not_finite", f"{name} holds samples that are no numbers of audio (NaN, infinity or as large)")
    # The resampler rings at the ends of a constant, by 10 ms and less.
    edge = sample_rate // 100
    rms = float((samples[edge:-edge] if len(samples) > 4 * edge else samples).std())
    if rms < SILENCE_RMS:
        raise AudioError(
            "silent", f"{name} is silent: RMS {rms:.1e} of full scale; expected at least {SILENCE_RMS:.0e}"
        )
    return Clip(
        samples=samples,
        sample_rate=sample_rate,
        duration=frames / rate,
        original_rate=int(rate),
        channels=channels,
    )


def to_mono(block: np.ndarray) -> np.ndarray:
    """Samples, shape (n,) or (n, channels), as float32 mono, shape (n,): the mean of the channels.

    Full scale is 1 for floats, which are taken as they are, and the type's own for integers (unsigned ones lie about
    their middle). Raises AudioError (``not_audio``) for another shape or type.
    """
    if block.ndim not in (1, 2) or block.dtype.kind not in "fiu":
        raise AudioError(
            "not_audio",
            f"samples have shape {block.shape} and type {block.dtype}; expected (n,) or (n, channels) of floats or "
            "integers",
        )
    if block.dtype.kind != "f":
        middle = 2.0 ** (8 * block.dtype.itemsize - 1)
        block = np.multiply(block - middle if block.dtype.kind == "u" else block, 1 / middle, dtype=np.float32)
    # C order, so that channels are added up in one order whatever way the samples came
    block = np.ascontiguousarray(block, dtype=np.float32)
    if block.ndim == 1:
        return block
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)


@dataclass(frozen=True, eq=False)
class Recording:
    """An open recording.

    Attributes
    ----------
    name : str
        For messages.
    sample_rate, channels : int
    frames : int or None
        As its header promises; None where it does not say.
    blocks : iterator of float32 or int16 arrays, shape (n, channels)
        Its samples, once. Each is gone when the next is asked for. Raises AudioError (``truncated``).
    """

    name: str
    sample_rate: int
    channels: int
    frames: int | None
    blocks: Iterator[np.ndarray]


@contextmanager
def open_recording(file: str | os.PathLike | BinaryIO) -> Iterator[Recording]:
    """Open a recording of any length, to be read block by block.

    Raises
    ------
    AudioError
        ``empty``, ``not_audio``, ``truncated``, as :func:`load`.
    FileNotFoundError
        If there is no such file.
    """
    if hasattr(file, "read"):
        name = Path(str(getattr(file, "name", "the recording"))).name
        file.seek(0)
        check_container(file, name)
        file.seek(0)
    else:
        name = Path(os.fsdecode(file)).name
        file = os.fsencode(file)  # soundfile cannot encode a name that is not UTF-8
        with open(file, "rb") as handle:
            check_container(handle, name)
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: the ending .raw, which has no header
        found = getattr(error, "error_string", error)
        raise AudioError("not_audio", f"{name} is not a recording libsndfile can read: {found}") from error
    with sound:
        check_format(name, sound.samplerate, sound.channels)
        # a stream written without its length says "as many as can be"
        frames = sound.frames if sound.frames < 1 << 48 else None
        yield Recording(name, sound.samplerate, sound.channels, frames, _read(sound, name, frames))


def _read(sound: soundfile.SoundFile, name: str, promised: int | None) -> Iterator[np.ndarray]:
    # samples of 16 bits are taken as they are: libsndfile converts them several times slower than to_mono
    dtype = np.int16 if sound.subtype == "PCM_16" else np.float32
    buffer = np.empty((BLOCK // sound.channels, sound.channels), dtype=dtype)
    frames = 0
    try:
        while len(block := sound.read(out=buffer)):
            frames += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        raise truncated(name, f"decoding fails after {frames} of {promised} frames ({error})") from error
    if promised is not None and 0 < frames < promised:
        raise truncated(name, f"its header promises {promised} frames and {frames} are there")


def check_format(name: str, rate: float, channels: int) -> None:
    """Raise AudioError (``not_audio``) for a rate or a number of channels that is not speech audio."""
    if not RATES[0] <= rate <= RATES[1] or not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            "not_audio",
            f"{name} says {rate} Hz and {channels} channels; expected {RATES[0]} to {RATES[1]} Hz and at most "
            f"{MAX_CHANNELS} channels",
        )


def _too_long(name: str, seconds: float, max_seconds: float) -> AudioError:
    return AudioError("too_long", f"{name} lasts at least {seconds:.1f} s; expected at most {max_seconds:g} s")
