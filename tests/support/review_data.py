"""Queues of the review with kept audio, made without a scoring run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from emotion.review import clips, labels, queue
from emotion.review.labels import Label
from emotion.review.queue import Item, Queue
from emotion.store import Store
from emotion.vocabulary import EMOTIONS
from small_data import wav


def make_queue(store: Store, batch: str, seeds: Sequence[int], *, speakers: Sequence[str] = (), **fields) -> Queue:
    """Keep a clip for each seed, and write a queue of them.

    ``speakers``: of each clip, "" by default; ``fields``: other fields of all items.
    """
    speakers = speakers or [""] * len(seeds)
    items = []
    for seed, speaker in zip(seeds, speakers, strict=True):
        data = wav(seed)
        audio = hashlib.sha256(data).hexdigest()
        store.write_bytes(clips.key_of(audio, "wav"), data)
        item = {"path": f"{batch}/{seed}.wav", "sha256": audio, "channel": "", "start": None, "end": None}
        item |= {"folder": batch, "duration": 1.0, "probability": 0.5, "reasons": ("chance",), "people": 1}
        probabilities = {emotion: float(emotion == "sad") for emotion in EMOTIONS}
        answer = {"emotion": "sad", "confidence": 1.0, "probabilities": probabilities, "mode": "plain"}
        item |= {"answer": answer, "challenger": None, "unfamiliar": False, "speaker": speaker}
        items.append(Item(batch=batch, audio=audio, suffix="wav", **(item | fields)))
    made = Queue(batch, "2026-01-02T00:00:00+00:00", {"version": "v", "family": "ensemble"}, EMOTIONS, 9, tuple(items))
    queue.write(store, made)
    return made


def label_all(store: Store, queue_of_batch: Queue, words: Sequence[str], *, person: str = "ann") -> None:
    """Label the clips of a queue, in their order."""
    for item, word in zip(queue_of_batch.items, words, strict=True):
        labels.add(store, Label(item.batch, item.audio, person, word))
