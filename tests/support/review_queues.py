"""Queues of clips to review, written as a scoring run writes them, without a model that would score them."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import soundfile

from emotion.review import clips, queue
from emotion.review.queue import Item, Queue
from emotion.store import Store

EMOTIONS = ("neutral", "happy", "sad", "angry")
HOSTILE = 'call "1" <img src=x onerror="document.title=\'owned\'">\u202e gpj.\u2066/' + "very-long-name-" * 12 + ".wav"
"""A path that is markup, quotes, marks of writing direction, and long."""


def sound(seed: int, *, seconds: float = 1.2, file_format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """A voice-like tone with harmonics and pauses."""
    rate = 16_000
    time = np.arange(int(seconds * rate)) / rate
    pitch = (110 + 25 * (seed % 7)) * (1 + 0.15 * np.sin(2 * np.pi * (1 + seed % 3) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.abs(np.sin(2 * np.pi * 1.7 * time + seed))
    noise = np.random.default_rng(seed).normal(size=time.size)
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.2 * voice + 0.004 * noise, rate, format=file_format, subtype=subtype)
    return buffer.getvalue()


def make_item(batch: str, number: int, audio: bytes, *, suffix: str = "wav", people: int = 1, **changes) -> Item:
    """The item of a clip; the model's answer goes round the emotions."""
    emotion = EMOTIONS[number % len(EMOTIONS)]
    sha256 = hashlib.sha256(audio).hexdigest()
    others = {other: 0.38 / (len(EMOTIONS) - 1) for other in EMOTIONS}
    facts = {
        "path": f"monday/call-{number:03d}.wav",
        "channel": "",
        "start": None,
        "end": None,
        "speaker": "",
        "probability": 0.25,
        "reasons": ("chance", "low_confidence") if number % 2 else ("chance",),
        "challenger": None,
        "unfamiliar": False,
    }
    return Item(
        batch=batch,
        audio=sha256,
        suffix=suffix,
        sha256=sha256,
        folder="monday",
        duration=soundfile.info(io.BytesIO(audio)).duration,
        people=people,
        answer={
            "emotion": emotion,
            "confidence": 0.62,
            "probabilities": others | {emotion: 0.62},
            "mode": "plain",
        },
        **(facts | changes),
    )


def write_queue(
    store: Store,
    batch: str,
    sounds: list[tuple[Item, bytes]],
    *,
    label_set: tuple[str, ...] = EMOTIONS,
    made_at: str = "2026-01-02T03:04:05+00:00",
) -> list[Item]:
    """Write a queue and the audio of its items."""
    for item, audio in sounds:
        store.write_bytes(clips.key_of(item.audio, item.suffix), audio)
    items = [item for item, _ in sounds]
    model = {"version": "first", "family": "ensemble"}
    queue.write(store, Queue(batch, made_at, model, label_set, 10 * len(items), tuple(items)))
    return items


def simple_queue(store: Store, batch: str, size: int, *, seed: int = 0, **changes) -> list[Item]:
    """A queue of so many clips."""
    sounds = [sound(seed + number) for number in range(size)]
    items = [make_item(batch, number, audio, **changes) for number, audio in enumerate(sounds)]
    return write_queue(store, batch, list(zip(items, sounds, strict=True)))
