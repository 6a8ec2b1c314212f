"""Reads recordings for a model: a short one as a clip, a stream or a long file as windows.

A recording is processed as in training, by :func:`emotion.audio.decode.load` and :func:`emotion.features.extract`, so
that it gets the same features, bit for bit.

Each window of a stream or a long file is treated as a recording of its own: it is resampled and featurized by itself.
Its answer is therefore that of :meth:`~emotion.inference.CustomEmotionModel.predict_emotion_from_array` for the same
samples, bit for bit, whatever came before it and however the stream was divided into blocks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np

from emotion import features
from emotion.audio import decode
from emotion.audio.decode import Clip
from emotion.errors import AudioError, ConfigurationError
from emotion.features import quality
from emotion.features.quality import Quality

MAX_CLIP_SECONDS = 60.0
"""The longest recording that gets a single answer, as models are trained on sentences."""
WINDOW, HOP = 3.0, 1.5
"""Seconds of a window, and from the start of one window to the start of the next: a sentence, and half of one."""
MIN_WINDOW_SECONDS = 1.0
"""The shortest window. What is left at the end of a stream becomes a window if it is at least this long."""


def read(file: str | os.PathLike | BinaryIO) -> Clip:
    """Decode a recording that is short enough for a single answer.

    Parameters
    ----------
    file : path or binary file
        A path must name a regular file: a pipe or a device, which may never end, is not opened.

    Raises
    ------
    AudioError
        As :func:`emotion.audio.decode.load`, and ``unreadable`` or ``not_file``.

    Examples
    --------
    >>> import io, wave
    >>> file = io.BytesIO()
    >>> with wave.open(file, "wb") as writer:
    ...     writer.setparams((1, 2, 16_000, 0, "NONE", ""))
    ...     writer.writeframes(np.random.default_rng(0).integers(-999, 999, 8_000, dtype=np.int16).tobytes())
    >>> read(file).duration
    0.5
    """
    with _regular(file):
        try:
            return decode.load(file, max_seconds=MAX_CLIP_SECONDS)
        except AudioError as error:
            if error.reason != "too_long":
                raise
            raise AudioError("too_long", f"{error} for a single answer: ask for a timeline of it") from None


@contextmanager
def _regular(file: str | os.PathLike | BinaryIO) -> Iterator[None]:
    """Raise AudioError if a path does not name a regular file, or if reading it in the block fails."""
    name = os.path.basename(os.fsdecode(file)) if isinstance(file, str | bytes | os.PathLike) else str(file)
    try:
        if isinstance(file, str | bytes | os.PathLike) and os.path.exists(file) and not os.path.isfile(file):
            raise AudioError("not_file", f"{name} is a folder, a pipe or a device; expected a regular file")
        yield
    except OSError as error:
        raise AudioError("unreadable", f"{name} cannot be read: {error.strerror or error}") from error


class Window(NamedTuple):
    """A part of a stream. Exactly one of ``vector`` and ``error`` is None."""

    start: float
    """Seconds from the start of the stream."""
    end: float
    """Seconds from the start of the stream."""
    vector: np.ndarray | None
    """Features, float32 (n_features,)."""
    error: AudioError | None
    """Why the window cannot be used; its reason is ``silent`` or ``not_finite``."""
    quality: Quality = quality.UNKNOWN
    """Of the window alone."""


def stream_windows(
    blocks: Iterable[np.ndarray], sample_rate: float, *, window: float = WINDOW, hop: float = HOP
) -> Iterator[Window]:
    """Cut a stream into windows, and compute the features of each window as soon as its last sample has come.

    Parameters
    ----------
    blocks : iterable of arrays, shape (n,) or (n, channels)
        Of any size, and of any type that :func:`emotion.audio.decode.to_mono` takes. Memory never holds more than one
        window and one block.
    sample_rate : float
        Hz.
    window, hop : float
        Seconds of a window, and from the start of one window to the start of the next; rounded to samples. What is left
        at the end, and is in no window yet, becomes the last window if it is at least :data:`MIN_WINDOW_SECONDS` long
        with what it shares with the window before.

    Raises
    ------
    ConfigurationError
        If the window is not 1 to 60 s, or the hop is not above 0 s and at most one window.
    AudioError
        ``not_audio``; ``too_short`` if the stream does not have a single window.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, 3 * 16_000)
    >>> [(window.start, window.end) for window in stream_windows([noise], 16_000, window=2, hop=1)]
    [(0.0, 2.0), (1.0, 3.0)]
    """
    _check_lengths(window, hop)
    decode.check_format("the stream", sample_rate, 1)
    size, step = round(window * sample_rate), max(1, round(hop * sample_rate))
    parts: list[np.ndarray] = []
    start, held, end = 0, 0, 0  # in samples: of the next window; kept in parts; of the last window
    for block in _mono_blocks(blocks, sample_rate):
        parts.append(block)
        held += len(block)
        if held < size:
            continue
        samples = np.concatenate(parts)
        while len(samples) >= size:
            end = start + size
            yield _featurize(samples[:size], start, sample_rate)
            samples, start = samples[step:], start + step
        parts, held = [samples], len(samples)
    if start + held > end and held >= MIN_WINDOW_SECONDS * sample_rate:
        yield _featurize(np.concatenate(parts), start, sample_rate)
    elif not end:
        raise AudioError(
            "too_short",
            f"the stream ended after {held / sample_rate:.3f} s; expected at least {MIN_WINDOW_SECONDS:g} s",
        )


def _mono_blocks(blocks: Iterable[np.ndarray], sample_rate: float) -> Iterator[np.ndarray]:
    """Each block as mono samples, copied, as the caller may reuse its buffer."""
    for block in blocks:
        block = np.asarray(block)
        decode.check_format("the stream", sample_rate, block.shape[1] if block.ndim == 2 else 1)
        yield decode.to_mono(block).copy()


def _check_lengths(window: float, hop: float) -> None:
    if not MIN_WINDOW_SECONDS <= window <= MAX_CLIP_SECONDS or not 0 < hop <= window:
        raise ConfigurationError(
            f"windows of {window} s every {hop} s; expected {MIN_WINDOW_SECONDS:g} to {MAX_CLIP_SECONDS:g} "
            "s, and at most one window from the start of one to the start of the next"
        )


def _featurize(samples: np.ndarray, start: int, rate: float) -> Window:
    seconds = start / rate, (start + len(samples)) / rate
    try:
        clip = decode.from_blocks([samples], rate, name="the window")
        return Window(*seconds, features.extract(clip.samples), None, quality.measure(clip.samples))
    except AudioError as error:
        return Window(*seconds, None, error)


def file_windows(file: str | os.PathLike | BinaryIO, *, window: float = WINDOW, hop: float = HOP) -> Iterator[Window]:
    """The windows of a recording of any length, which is decoded as far as windows are asked for.

    Parameters
    ----------
    file : path or binary file
    window, hop : float
        As in :func:`stream_windows`.

    Raises
    ------
    AudioError, ConfigurationError
        As :func:`read` and :func:`stream_windows` do, except ``too_long``. A recording that turns out to be cut short
        raises ``truncated`` after its last whole window.
    """
    with _regular(file), decode.open_recording(file) as recording:
        yield from stream_windows(recording.blocks, recording.sample_rate, window=window, hop=hop)
