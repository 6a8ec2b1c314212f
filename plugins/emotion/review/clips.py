"""The audio of the clips in queues: kept by its content, so that a label outlives the inbox; its lifetime."""

from __future__ import annotations

from typing import BinaryIO

from emotion.errors import DataError
from emotion.review.queue import Item
from emotion.store import Store

AUDIO = "reviews/audio"


def key_of(audio: str, suffix: str) -> str:
    """The key of kept audio in the artifact store.

    >>> key_of("ab12", "wav")
    'reviews/audio/ab/ab12.wav'
    """
    return f"{AUDIO}/{audio[:2]}/{audio}.{suffix}"


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


def expire(store: Store, days: float | None) -> list[str]:
    """Delete the audio of queues that are older than ``days`` (None: of none), and audio that no queue names.

    Returns the keys of what was deleted.
    """
    raise NotImplementedError
