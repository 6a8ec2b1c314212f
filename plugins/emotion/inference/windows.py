"""Ask a trained model what it hears: in a file, an array, a folder of files, or a stream as it comes in.

A recording goes the way it goes in training, :func:`emotion.audio.decode.load` and :func:`emotion.features.extract`,
and so gets the same vector to the bit. ``confidence`` is the probability of the emotion answered, calibrated
on speakers the model had not heard (temperature scaling, Guo et al. 2017); its expected calibration error is
in the model card.

Streams and long files are cut into windows, each of which is treated as a recording of its own: it is
resampled and featurized by itself, so that its answer is that of
:meth:`CustomEmotionModel.predict_emotion_from_array` for the same samples, to the bit, whatever came before
it and however the stream was cut into blocks.

>>> model = CustomEmotionModel()                                         # doctest: +SKIP
>>> model.predict_emotion_from_file("clip.wav")["emotion"]               # doctest: +SKIP
'happy'
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

MAX_CLIP_SECONDS = 60.0
"""The longest recording that gets a single answer; models are trained on sentences."""
WINDOW, HOP = 3.0, 1.5
"""Seconds of a window, and from the start of one to the start of the next: a sentence, and half of it."""
MIN_WINDOW_SECONDS = 1.0
"""The shortest window; what is left at the end of a stream is a window of its own from this length on."""


def read(file: str | os.PathLike | BinaryIO) -> Clip:
    """Decode a recording short enough for a single answer; a path must lead to a regular file.

    Raises
    ------
    AudioError
        As :func:`emotion.audio.decode.load`; ``unreadable``; ``not_file``, without opening what may never end.
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
    name = str(file) if hasattr(file, "read") else os.path.basename(os.fsdecode(file))
    try:
        if not hasattr(file, "read") and os.path.exists(file) and not os.path.isfile(file):
            raise AudioError("not_file", f"{name} is a folder, a pipe or a device; expected a regular file")
        yield
    except OSError as error:
        raise AudioError("unreadable", f"{name} cannot be read: {error.strerror or error}") from error


class Window(NamedTuple):
    """A stretch of a stream: ``start`` and ``end`` in seconds, and its features, float32 (n_features,), or
    the reason why it has none (``silent``, ``not_finite``)."""

    start: float
    end: float
    vector: np.ndarray | None
    error: AudioError | None


def stream_windows(
    blocks: Iterable[np.ndarray], sample_rate: float, *, window: float = WINDOW, hop: float = HOP
) -> Iterator[Window]:
    """Cut a stream into windows and featurize each as soon as its last sample has come.

    Parameters
    ----------
    blocks : iterable of arrays, shape (n,) or (n, channels)
        Of any size and type of :func:`emotion.audio.decode.to_mono`. No more than a window and a block is ever held.
    sample_rate : float
        Hz.
    window, hop : float
        Seconds, rounded to samples. What is left at the end, and is in no window yet, counts from
        :data:`MIN_WINDOW_SECONDS` on.

    Raises
    ------
    ConfigurationError
        If a window is not 1 to 60 s, or the hop not within it.
    AudioError
        ``not_audio``; ``too_short`` if there is not one window.
    """
    if not MIN_WINDOW_SECONDS <= window <= MAX_CLIP_SECONDS or not 0 < hop <= window:
        raise ConfigurationError(
            f"windows of {window} s every {hop} s; expected {MIN_WINDOW_SECONDS:g} to {MAX_CLIP_SECONDS:g} "
            "s, and no longer from one to the next"
        )
    decode.check_format("the stream", sample_rate, 1)
    size, step = round(window * sample_rate), max(1, round(hop * sample_rate))
    parts: list[np.ndarray] = []
    start, held, end = 0, 0, 0
    for block in blocks:
        block = np.asarray(block)
        decode.check_format("the stream", sample_rate, block.shape[1] if block.ndim == 2 else 1)
        parts.append(decode.to_mono(block).copy())
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


def _featurize(samples: np.ndarray, start: int, rate: float) -> Window:
    seconds = start / rate, (start + len(samples)) / rate
    try:
        return Window(*seconds, features.extract(decode.from_blocks([samples], rate, name="the window").samples), None)
    except AudioError as error:
        return Window(*seconds, None, error)


def file_windows(file: str | os.PathLike | BinaryIO, *, window: float = WINDOW, hop: float = HOP) -> Iterator[Window]:
    """The windows of a recording of any length, which is decoded as they are asked for.

    Raises AudioError and ConfigurationError as :func:`read` and :func:`stream_windows` do, but for
    ``too_long``; a recording that turns out to be cut short raises ``truncated`` after its last whole window.
    """
    with _regular(file), decode.open_recording(file) as recording:
        yield from stream_windows(recording.blocks, recording.sample_rate, window=window, hop=hop)
