"""The audio of the clips in queues, kept under its checksum, so that a label outlives the inbox; its lifetime."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr

from emotion.audio import decode
from emotion.datasets.clips import AUDIO_SUFFIXES
from emotion.errors import AudioError, DataError
from emotion.review import queue
from emotion.review.queue import Item
from emotion.store import Store

log = logging.getLogger(__name__)
AUDIO = "reviews/audio"
LARGEST = 32 << 20
"""Bytes of a file that is kept as it is. Of a larger one, the mean of its channels is kept as FLAC."""
HIGHEST_RATE = 48_000
"""Hz. What is cut out of a recording of a higher rate is kept at this rate. So one minute has at most 9 MB."""
UNKNOWN_SUFFIX = "audio"
ORPHAN_HOURS = 24.0
"""Audio that no queue names is deleted after this time: its batch may still be writing its queue."""


class Span(NamedTuple):
    """A part of a recording: a channel, counted from 1, or the mean of all; from and to so many seconds, or to the
    ends."""

    channel: int | None
    start: float | None
    end: float | None


def key_of(audio: str, suffix: str) -> str:
    """The key of kept audio in the artifact store.

    >>> key_of("ab12", "wav")
    'reviews/audio/ab/ab12.wav'
    """
    return f"{AUDIO}/{audio[:2]}/{audio}.{suffix}"


def suffix_of(path: str) -> str:
    """The ending that the kept copy of a file gets: that of its name, if it is a usual one of recordings.

    >>> suffix_of("calls/A.WAV"), suffix_of("a.wav/<b>.exe"), suffix_of("a")
    ('wav', 'audio', 'audio')
    """
    suffix = PurePosixPath(path).suffix.lower()
    return suffix.removeprefix(".") if suffix in AUDIO_SUFFIXES else UNKNOWN_SUFFIX


def keep(store: Store, data: bytes, suffix: str) -> str:
    """Keep audio under its checksum; returns that. The same audio is kept once."""
    audio = hashlib.sha256(data).hexdigest()
    # Written even if it is there: expire() takes a file that was written of late for one that is needed.
    store.write_bytes(key_of(audio, suffix), data)
    return audio


def is_kept(store: Store, item: Item) -> bool:
    """Whether the audio of an item is still there."""
    return store.exists(key_of(item.audio, item.suffix))


def open_audio(store: Store, item: Item) -> BinaryIO:
    """Open the audio of an item for reading: binary, seekable. Raises DataError if it is not there any more."""
    if not is_kept(store, item):
        raise DataError(
            f"the audio of {item.path} is not kept any more: its time was over (EMOTION_REVIEW_DAYS), or it was "
            "deleted on request"
        )
    return store.open(key_of(item.audio, item.suffix))


def cut_out(file: BinaryIO, spans: Sequence[Span]) -> list[bytes]:
    """Cut parts out of a recording, which is decoded once; each as FLAC of 24 bits, mono, at its own rate.

    A rate above :data:`HIGHEST_RATE` is lowered to it. A part that goes beyond full scale is scaled down.

    Parameters
    ----------
    file : seekable binary file
    spans : sequence of Span

    Raises
    ------
    AudioError
        As :func:`emotion.audio.decode.open_recording`, ``truncated``, and ``empty`` for a span that holds nothing.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.random.default_rng(0).uniform(-0.5, 0.5, (16_000, 2)), 8_000, format="WAV")
    >>> whole, part = cut_out(file, [Span(None, None, None), Span(2, 0.5, 1.5)])
    >>> soundfile.info(io.BytesIO(part)).frames, soundfile.info(io.BytesIO(whole)).channels
    (8000, 1)
    """
    with decode.open_recording(file) as recording:
        rate, name = recording.sample_rate, recording.name
        limits = [_frames(span, rate) for span in spans]
        pieces: list[list[np.ndarray]] = [[] for _ in spans]
        last = max((end for _, end in limits), default=0)
        position = 0
        for block in recording.blocks:
            for span, (start, end), piece in zip(spans, limits, pieces, strict=True):
                part = block[max(0, int(start - position)) : max(0, int(min(end - position, len(block))))]
                if len(part):  # copied, as the buffer of a block is used again
                    piece.append(decode.to_mono(decode.pick_channel(part, span.channel)).copy())
            position += len(block)
            if position >= last:
                break
    return [_as_flac(piece, rate, name) for piece in pieces]


def _frames(span: Span, rate: int) -> tuple[float, float]:
    start = 0 if span.start is None else round(span.start * rate)
    return start, np.inf if span.end is None else round(span.end * rate)


def _as_flac(pieces: list[np.ndarray], rate: int, name: str) -> bytes:
    if not pieces:
        raise AudioError("empty", f"{name} is shorter than it was when it was scored")
    samples = np.concatenate(pieces)
    if rate > HIGHEST_RATE:
        samples, rate = soxr.resample(samples, rate, HIGHEST_RATE, quality="HQ"), HIGHEST_RATE
    peak = float(np.abs(samples).max())
    buffer = io.BytesIO()
    soundfile.write(buffer, samples / max(peak, 1.0), rate, format="FLAC", subtype="PCM_24")
    return buffer.getvalue()


def expire(store: Store, days: float | None, *, now: dt.datetime | None = None) -> list[str]:
    """Delete the audio of old queues, and audio that no queue names; returns the keys of what was deleted.

    Parameters
    ----------
    store : Store
    days : float or None
        Audio of queues that are older is deleted, unless a newer queue has it too; None: of no queue. Labels stay, and
        nobody is asked for the other clips of such a queue any more.
    now : datetime.datetime, optional
    """
    now = now or dt.datetime.now(dt.UTC)
    named: set[str] = set()
    for clips in queue.read_all(store):
        age = now - dt.datetime.fromisoformat(clips.made_at)
        if not clips.expired and days is not None and age > dt.timedelta(days=days):
            clips = queue.change(store, clips.batch, lambda current: replace(current, expired=True))
        if not clips.expired:
            named.update(key_of(item.audio, item.suffix) for item in clips.items)
    youngest = now - dt.timedelta(hours=ORPHAN_HOURS)
    unnamed = [key for key in store.list(AUDIO) if key not in named and store.modified(key) < youngest]
    for key in unnamed:
        store.delete(key)
    if unnamed:
        log.info("the audio of %d reviewed clips was deleted, as its time was over", len(unnamed))
    return unnamed
