"""Decode any recording that libsndfile reads to float32 mono at one sample rate, or refuse it with a reason."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from emotion.audio.containers import EMPTY_ID3_TAG, check_container, is_mpeg_frame, mp3_states_length, truncated
from emotion.audio.source import Source
from emotion.errors import AudioError

SAMPLE_RATE = 16_000
"""Rate at which features are computed, in Hz: what tells emotions apart in speech lies below 8 kHz."""
MIN_SECONDS = 0.2
"""Shortest recording that is accepted unless the caller says otherwise."""
MAX_SECONDS = 3600.0
"""Longest recording that is decoded as a whole unless the caller says otherwise."""
MAX_CHANNELS = 8
RATES = (4_000, 768_000)
"""Lowest and highest sample rate accepted, in Hz."""
SILENCE_RMS = 3e-5
"""A recording whose RMS about its mean is below this is silent: -90 dB relative to full scale, the last bit of 16."""
MAX_PEAK = 1e6
"""A recording with a sample as large as this, in units of full scale, is refused: it is not audio."""
CONTENT_ERRORS = (
    soundfile.SoundFileError,
    struct.error,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    AssertionError,
    EOFError,
)
"""What a header check and the decoder raise for bytes that are no recording. OSError and MemoryError are not among
them: they lie in the machine and not in the file."""
BLOCK = 1 << 16
"""Values (frames x channels) decoded at a time: few enough for the processor's cache, however long the recording."""


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
    original_rate : int
        Sample rate of the original, in Hz.
    channels : int
        Of the original.

    Examples
    --------
    >>> clip = from_blocks([np.sin(np.arange(8_000) / 5)], 8_000)
    >>> clip.original_rate, clip.sample_rate, clip.samples.shape, clip.duration
    (8000, 16000, (16000,), 1.0)
    """

    samples: np.ndarray
    sample_rate: int
    duration: float
    original_rate: int
    channels: int

    @cached_property
    def samples_sha256(self) -> str:
        """Hash of ``samples``: the same audio in another lossless container has the same hash."""
        return hashlib.sha256(self.samples.data).hexdigest()


def load(
    file: str | os.PathLike | BinaryIO,
    *,
    sample_rate: int = SAMPLE_RATE,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
    channel: int | None = None,
) -> Clip:
    """Decode, mix to mono and resample a recording.

    Parameters
    ----------
    file : path or seekable binary file
        WAV, FLAC, AIFF, Ogg, MP3 … of 1 to 8 channels.
    sample_rate : int
        Of the result, in Hz (resampled by soxr, high quality).
    min_seconds, max_seconds : float
        A recording that is longer by its header is refused before it is decoded. Memory grows with the length of the
        result, not with the size of the file.
    channel : int, optional
        Take this channel, counted from 1, and do not mix.

    Raises
    ------
    AudioError
        ``empty`` (no bytes or no samples), ``not_audio`` (not decodable, or a rate or number of channels that
        is not speech audio), ``truncated`` (less data than the container promises: see
        :func:`emotion.audio.containers.check_container`), ``too_long``, ``too_short``, ``not_finite``, ``silent``.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.sin(np.arange(44_100) / 40), 44_100, format="FLAC")
    >>> clip = load(file)
    >>> clip.samples.shape, clip.samples.dtype, clip.original_rate
    ((16000,), dtype('float32'), 44100)
    >>> load(file, max_seconds=0.5)
    Traceback (most recent call last):
    emotion.errors.AudioError: the recording lasts at least 1.0 s; expected at most 0.5 s
    """
    with open_recording(file) as recording:
        if recording.frames is not None and recording.frames > max_seconds * recording.sample_rate:
            raise _too_long(recording.name, recording.frames / recording.sample_rate, max_seconds)
        clip = from_blocks(
            (pick_channel(block, channel) for block in recording.blocks),
            recording.sample_rate,
            name=recording.name if channel is None else f"channel {channel} of {recording.name}",
            sample_rate=sample_rate,
            min_seconds=min_seconds,
            max_seconds=max_seconds,
        )
        return replace(clip, channels=recording.channels)


def pick_channel(block: np.ndarray, channel: int | None) -> np.ndarray:
    """The samples of one channel, counted from 1; for None, the block as it is.

    Parameters
    ----------
    block : array, shape (n, channels)
    channel : int or None

    Examples
    --------
    >>> pick_channel(np.array([[1, 2], [3, 4]]), 2).tolist()
    [2, 4]
    """
    return block if channel is None else block[:, channel - 1]


def from_blocks(
    blocks: Iterable[np.ndarray],
    rate: float,
    *,
    name: str = "the audio",
    sample_rate: int = SAMPLE_RATE,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
) -> Clip:
    """Mix to mono and resample samples that come in blocks.

    Parameters
    ----------
    blocks : iterable of array, shape (n,) or (n, channels)
        Each as :func:`to_mono` takes it. The result is the same, bit for bit, however the samples are cut into blocks.
    rate : float
        Of the blocks, in Hz.
    name : str
        For messages.
    sample_rate, min_seconds, max_seconds
        As for :func:`load`, which also says what AudioError is raised when.

    Examples
    --------
    >>> stereo = np.stack([np.sin(np.arange(16_000) / 5)] * 2, axis=1)
    >>> clip = from_blocks([stereo[:5_000], stereo[5_000:]], 16_000)
    >>> clip.channels, clip.samples.shape, clip.samples_sha256 == from_blocks([stereo], 16_000).samples_sha256
    (2, (16000,), True)
    """
    resampler: soxr.ResampleStream | None = None
    parts, frames, channels = [], 0, 1
    for block in blocks:
        channels = block.shape[1] if block.ndim == 2 else 1
        check_format(name, rate, channels)
        mono = to_mono(block)
        frames += len(mono)
        if frames > max_seconds * rate:
            raise _too_long(name, frames / rate, max_seconds)
        resampler = resampler or soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        parts.append(resampler.resample_chunk(mono, last=False))
    if not frames or resampler is None:
        raise AudioError("empty", f"{name} holds no samples")
    if frames < min_seconds * rate:
        raise AudioError("too_short", f"{name} lasts {frames / rate:.3f} s; expected at least {min_seconds} s")
    parts.append(resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True))
    samples = np.concatenate(parts)
    _check_samples(samples, sample_rate, name)
    return Clip(
        samples=samples,
        sample_rate=sample_rate,
        duration=frames / rate,
        original_rate=int(rate),
        channels=channels,
    )


def _check_samples(samples: np.ndarray, sample_rate: int, name: str) -> None:
    """Raise AudioError for samples that are ``not_finite`` or ``silent``."""
    if not max(samples.max(), -samples.min()) < MAX_PEAK:
        raise AudioError(
            "not_finite",
            f"{name} holds samples that are NaN, infinite or beyond {MAX_PEAK:.0e} times full scale; expected audio",
        )
    # The resampler rings at the ends of a constant, by 10 ms and less.
    edge = sample_rate // 100
    rms = float((samples[edge:-edge] if len(samples) > 4 * edge else samples).std())
    if rms < SILENCE_RMS:
        raise AudioError(
            "silent", f"{name} is silent: RMS {rms:.1e} of full scale; expected at least {SILENCE_RMS:.0e}"
        )


@np.errstate(over="ignore", invalid="ignore")  # what this makes of extreme samples is refused as not_finite
def to_mono(block: np.ndarray) -> np.ndarray:
    """The mean of the channels, as float32.

    Parameters
    ----------
    block : array, shape (n,) or (n, channels)
        Floats, which are taken as they are (full scale is 1), or integers, whose full scale is that of their type.
        Unsigned integers lie about the middle of their range.

    Returns
    -------
    float32 array, shape (n,)

    Raises
    ------
    AudioError
        ``not_audio``: for another shape or type.

    Examples
    --------
    >>> to_mono(np.array([[16384, 0], [-32768, 0]], dtype=np.int16)).tolist()
    [0.25, -0.5]
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
        Length by its header, in samples of one channel; None where the header does not say.
    blocks : iterator of float32 or int16 arrays, shape (n, channels)
        Its samples, to be read once. A block is valid until the next one is read: they share memory. Raises AudioError
        (``truncated``).
    """

    name: str
    sample_rate: int
    channels: int
    frames: int | None
    blocks: Iterator[np.ndarray]


@contextmanager
def open_recording(file: str | os.PathLike | BinaryIO) -> Iterator[Recording]:
    """Open a recording of any length, to be read block by block.

    Parameters
    ----------
    file : path or seekable binary file
        As for :func:`load`.

    Raises
    ------
    AudioError
        ``empty``, ``not_audio``, ``truncated``, as :func:`load`.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.zeros((48_000, 2)), 48_000, format="WAV")
    >>> with open_recording(file) as recording:
    ...     recording.sample_rate, recording.channels, recording.frames
    (48000, 2, 48000)
    """
    with ExitStack() as stack:
        if isinstance(file, str | bytes | os.PathLike):
            name = Path(os.fsdecode(file)).name
            handle: BinaryIO = stack.enter_context(open(file, "rb"))
        else:
            name = Path(str(getattr(file, "name", "the recording"))).name
            handle = file
        # without an ID3 tag before it, libsndfile takes an MP3 in a Python file for something else
        handle.seek(0)
        source = Source(handle, prefix=EMPTY_ID3_TAG if is_mpeg_frame(handle.read(2)) else b"")
        with _reasons(source, name):
            if header := check_container(handle, name):
                source = Source(handle, prefix=header, skip=len(header))
            states_length = mp3_states_length(handle)
            sound = stack.enter_context(soundfile.SoundFile(source))
            check_format(name, sound.samplerate, sound.channels)
            # a stream written without its length promises the largest number of frames there is
            frames = sound.frames if sound.frames < 1 << 48 and states_length else None
            if frames is None:
                sound.seekable = lambda: False  # soundfile seeks after each block: FLAC without its length cannot
        yield Recording(name, sound.samplerate, sound.channels, frames, _read(sound, source, name, frames))


@contextmanager
def _reasons(source: Source, name: str, frames: int | None = None) -> Iterator[None]:
    """Raise what a header check or the decoder raises for a file's content as AudioError.

    ``frames``: decoded before; None while the file is being opened. An error of the disk below the file stays what it
    is: the same file may be read another time.
    """
    try:
        yield
    except AudioError:
        raise
    except CONTENT_ERRORS as error:
        if source.error:
            raise source.error from error
        cause = getattr(error, "error_string", None) or f"{type(error).__name__}: {error}"
        if isinstance(error, struct.error):
            cause = "its header breaks off"
        if frames is not None:
            raise truncated(name, f"decoding fails after {frames} frames ({cause})") from error
        raise AudioError("not_audio", f"{name} is not a recording that libsndfile can read: {cause}") from error
    if source.error:
        raise source.error


def _read(sound: soundfile.SoundFile, source: Source, name: str, promised: int | None) -> Iterator[np.ndarray]:
    """Blocks of a recording that is open; ``promised``: frames by its header."""
    # samples of 16 bits are taken as they are: libsndfile converts them several times slower than to_mono
    dtype = np.int16 if sound.subtype == "PCM_16" else np.float32
    # of an MP3 whose length is an estimate, libsndfile decodes the whole block and drops what lies beyond the estimate:
    # in small blocks, the position in the file shows that there is more
    is_estimate = promised is None and sound.format == "MP3"
    size = BLOCK // 16 if is_estimate else BLOCK
    buffer = np.empty((size // sound.channels, sound.channels), dtype=dtype)
    frames = 0
    while True:
        with _reasons(source, name, frames):
            block = sound.read(out=buffer)
        if not len(block):
            break
        frames += len(block)
        yield block
    if promised is not None and 0 < frames < promised:
        raise truncated(name, f"its header promises {promised} frames and {frames} are there")
    if is_estimate and source.has_more_mpeg_frames():
        raise AudioError(
            "not_audio",
            f"{name} is an MP3 of variable bit rate that does not state its length: only {frames} frames can be "
            "decoded; convert it to WAV or FLAC",
        )


def check_format(name: str, rate: float, channels: int) -> None:
    """Raise AudioError (``not_audio``) for a sample rate or a number of channels that is not speech audio.

    >>> check_format("call.wav", 8_000, 2)
    >>> check_format("probe.wav", 100, 1)
    Traceback (most recent call last):
    emotion.errors.AudioError: probe.wav has 1 channels at 100 Hz; expected 1 to 8 channels at 4000 to 768000 Hz
    """
    if not RATES[0] <= rate <= RATES[1] or not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            "not_audio",
            f"{name} has {channels} channels at {rate} Hz; expected 1 to {MAX_CHANNELS} channels at {RATES[0]} to "
            f"{RATES[1]} Hz",
        )


def _too_long(name: str, seconds: float, max_seconds: float) -> AudioError:
    return AudioError("too_long", f"{name} lasts at least {seconds:.1f} s; expected at most {max_seconds:g} s")
