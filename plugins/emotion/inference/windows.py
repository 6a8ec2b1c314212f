"""Reads recordings for a model: a short one as a clip, a stream or a long file as windows or utterances.

A recording is processed as in training, by :func:`emotion.audio.decode.load` and :func:`emotion.features.extract`, so
that it gets the same features, bit for bit.

Each window or utterance of a stream or a long file is treated as a recording of its own: it is resampled and featurized
by itself. Its answer is therefore that of :meth:`~emotion.inference.CustomEmotionModel.predict_emotion_from_array` for
the same samples, bit for bit, whatever came before it and however the stream was divided into blocks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np

from emotion import features
from emotion.audio import decode
from emotion.audio.channels import MONO, Channel, distinct_channels
from emotion.audio.decode import Clip
from emotion.errors import AudioError
from emotion.features import quality
from emotion.features.quality import Quality
from emotion.inference.cutting import MAX_CLIP_SECONDS, Cutter, Segment, WindowCutter
from emotion.inference.utterances import UtteranceCutter
from emotion.vocabulary import CHANNELS, SEGMENTS, require_word

WINDOW, HOP = 3.0, 1.5
"""Seconds of a window, and from the start of one window to the start of the next: a sentence, and half of one."""


def read(
    file: str | os.PathLike | BinaryIO, *, channel: int | None = None, max_seconds: float = MAX_CLIP_SECONDS
) -> Clip:
    """Decode a recording that is short enough for a single answer.

    Parameters
    ----------
    file : path or binary file
        A path must name a regular file: a pipe or a device, which may never end, is not opened.
    channel : int, optional
        Read this channel, counted from 1; without it, the mean of all.
    max_seconds : float
        A longer recording is refused as ``too_long``.

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
            return decode.load(file, max_seconds=max_seconds, channel=channel)
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


def channels_of(file: str | os.PathLike | BinaryIO, channels: str) -> tuple[Channel, ...]:
    """The channels of a file that are recordings of their own.

    Parameters
    ----------
    file : path or binary file
    channels : str
        ``mix``: the file is one recording. ``separate``: see :func:`emotion.audio.channels.distinct_channels`.

    Raises
    ------
    ConfigurationError
        For another word.
    AudioError
        As :func:`read`, except ``too_long``.
    """
    require_word("channels", channels, CHANNELS)
    if channels == "mix":
        return MONO
    with _regular(file):
        return distinct_channels(file)


class Window(NamedTuple):
    """A window or utterance of a stream. Exactly one of ``vector`` and ``error`` is None."""

    start: float
    """Seconds from the start of the stream."""
    end: float
    """Seconds from the start of the stream."""
    vector: np.ndarray | None
    """Features, float32 (n_features,)."""
    error: AudioError | None
    """Why the window cannot be used: ``silent`` or ``not_finite``; of utterances, also ``too_short`` or
    ``no_speech``."""
    channel: int | None = None
    """Counted from 1; None if channels are mixed."""
    quality: Quality = quality.UNKNOWN
    """Of the window alone."""

    @property
    def span(self) -> dict:
        """Where it lies: ``start``, ``end`` and, if channels are separate, ``channel``."""
        place: dict = {} if self.channel is None else {"channel": self.channel}
        return place | {"start": self.start, "end": self.end}


def stream_windows(
    blocks: Iterable[np.ndarray],
    sample_rate: float,
    *,
    window: float = WINDOW,
    hop: float = HOP,
    segments: str = "windows",
    channels: Sequence[int | None] = (None,),
) -> Iterator[Window]:
    """Cut a stream, and compute the features of each window or utterance as soon as it is complete.

    Parameters
    ----------
    blocks : iterable of arrays, shape (n,) or (n, channels)
        Of any size, and of any type that :func:`emotion.audio.decode.to_mono` takes. Memory never holds more than one
        window of each channel (of utterances, half a minute) and one block.
    sample_rate : float
        Hz.
    window, hop : float
        Seconds of a window, and from the start of one window to the start of the next; rounded to samples. What is left
        at the end, and is in no window yet, becomes the last window if it is at least 1 s long
        with what it shares with the window before.
    segments : str
        ``windows``, or ``utterances``: see :class:`emotion.inference.utterances.UtteranceCutter`; then ``window`` and
        ``hop`` are not used.
    channels : sequence of int or None
        Channels to cut, each by itself, counted from 1; None is the mean of all.

    Raises
    ------
    ConfigurationError
        If ``segments`` is another word, the window is not 1 to 60 s, or the hop is not above 0 and at most one window.
    AudioError
        ``not_audio``; ``too_short`` if the stream does not have a single window.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, 3 * 16_000)
    >>> [(window.start, window.end) for window in stream_windows([noise], 16_000, window=2, hop=1)]
    [(0.0, 2.0), (1.0, 3.0)]
    """
    require_word("segments", segments, SEGMENTS)
    decode.check_format("the stream", sample_rate, 1)
    cutters = {channel: _new_cutter(segments, sample_rate, window, hop) for channel in channels}
    for block in map(np.asarray, blocks):
        decode.check_format("the stream", sample_rate, block.shape[1] if block.ndim == 2 else 1)
        for channel, cutter in cutters.items():
            # copied, as the caller may reuse its buffer
            for segment in cutter.add(decode.to_mono(decode.pick_channel(block, channel)).copy()):
                yield _featurize(segment, sample_rate, channel)
    for channel, cutter in cutters.items():
        for segment in cutter.finish():
            yield _featurize(segment, sample_rate, channel)


def _new_cutter(segments: str, rate: float, window: float, hop: float) -> Cutter:
    return UtteranceCutter(rate) if segments == "utterances" else WindowCutter(rate, window=window, hop=hop)


def _featurize(segment: Segment, rate: float, channel: int | None) -> Window:
    seconds = segment.start / rate, segment.end / rate
    if segment.samples is None:
        return Window(*seconds, None, segment.error, channel)
    try:
        clip = decode.from_blocks([segment.samples], rate, name="the window")
        return Window(*seconds, features.extract(clip.samples), None, channel, quality.measure(clip.samples))
    except AudioError as error:
        return Window(*seconds, None, error, channel)


def file_windows(
    file: str | os.PathLike | BinaryIO,
    *,
    window: float = WINDOW,
    hop: float = HOP,
    segments: str = "windows",
    channels: Sequence[int | None] = (None,),
) -> Iterator[Window]:
    """The windows or utterances of a recording of any length, which is decoded as far as they are asked for.

    Parameters
    ----------
    file : path or binary file
    window, hop, segments, channels
        As in :func:`stream_windows`.

    Raises
    ------
    AudioError, ConfigurationError
        As :func:`read` and :func:`stream_windows` do, except ``too_long``. A recording that turns out to be cut short
        raises ``truncated`` after its last whole window.
    """
    with _regular(file), decode.open_recording(file) as recording:
        yield from stream_windows(
            recording.blocks, recording.sample_rate, window=window, hop=hop, segments=segments, channels=channels
        )
