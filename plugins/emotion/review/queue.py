"""The queue of a batch: the clips that a person should hear, each with the probability with which it was drawn.

Its file is written once. It changes only where its audio is deleted: when its time is over, or on request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from emotion.errors import DataError
from emotion.store import Store

QUEUES = "reviews/queues"
FORMAT = 1
REASONS = ("chance", "low_confidence", "unfamiliar", "models_disagree", "drift")
"""Why a clip is in the queue."""
Reason = Literal["chance", "low_confidence", "unfamiliar", "models_disagree", "drift"]
MOST_IN_MEMORY = 5_000
"""Queues that a process keeps; it forgets them all where there are more."""
_BATCH = re.compile(r"[A-Za-z0-9_-]{1,240}")


@dataclass(frozen=True)
class Item:
    """A clip of a queue: a short recording, a channel of one, or a part of a long one.

    Attributes
    ----------
    batch : str
        Folder of the batch below ``scores/``.
    audio : str
        sha256 of the audio that is kept. It names the item within its batch.
    suffix : str
        Ending of the name of the kept audio, such as ``wav``.
    path, sha256 : str
        Of the recording, as in ``predictions.csv``.
    channel : str
        Counted from ``"1"``; ``""`` where the recording is mono, or its channels are mixed.
    start, end : float or None
        Seconds in the recording; None for all of it.
    folder : str
        The folder that the recording lies in.
    speaker : str
        ``""`` where it is not known.
    duration : float
        Seconds.
    probability : float
        With which the clip was drawn: above 0, at most 1.
    reasons : tuple of str
        Of :data:`REASONS`.
    people : int
        How many persons should label it: 1 or 2.
    answer : dict
        The model's: ``emotion``, ``confidence``, ``probabilities``, ``mode``.
    challenger : dict or None
        The challenger's answer: ``emotion`` and ``confidence``.
    unfamiliar : bool
    """

    batch: str
    audio: str
    suffix: str
    path: str
    sha256: str
    channel: str
    start: float | None
    end: float | None
    folder: str
    speaker: str
    duration: float
    probability: float
    reasons: tuple[str, ...]
    people: int
    answer: dict
    challenger: dict | None
    unfamiliar: bool

    @property
    def key(self) -> tuple[str, str]:
        """What names the item among those of all batches: batch and audio."""
        return self.batch, self.audio

    def blind(self) -> dict[str, Any]:
        """What a person may know before he or she has chosen a label: nothing that tells the model's answer.

        The reasons and the probability of drawing are left out too, as they tell how certain the model was.
        """
        shown = (
            "batch",
            "audio",
            "suffix",
            "path",
            "channel",
            "start",
            "end",
            "folder",
            "speaker",
            "duration",
            "people",
        )
        return {name: getattr(self, name) for name in shown}

    def to_json(self) -> dict[str, Any]:
        """As the queue file has it."""
        return {name: value for name, value in asdict(self).items() if name != "batch"} | {"reasons": [*self.reasons]}


@dataclass(frozen=True)
class Queue:
    """The clips of a batch that a person should hear.

    Attributes
    ----------
    batch, made_at : str
        ``made_at``: UTC, ISO 8601.
    model : dict
        ``version`` and ``family``.
    label_set : tuple of str
        The emotions that the model knows.
    candidates : int
        Clips that the items were drawn from.
    items : tuple of Item
    expired : bool
        Whether the audio was deleted because its time was over. Nobody is asked for these items any more.
    """

    batch: str
    made_at: str
    model: dict[str, str]
    label_set: tuple[str, ...]
    candidates: int
    items: tuple[Item, ...]
    expired: bool = False

    def item(self, audio: str) -> Item:
        """The item with this audio. Raises DataError if there is none."""
        for item in self.items:
            if item.audio == audio:
                return item
        raise DataError(f"the queue of batch {self.batch} has no clip {audio!r}; expected the sha256 of kept audio")

    def to_json(self) -> dict[str, Any]:
        """As the queue file has it."""
        return {
            "format": FORMAT,
            "batch": self.batch,
            "made_at": self.made_at,
            "model": self.model,
            "label_set": [*self.label_set],
            "candidates": self.candidates,
            "expired": self.expired,
            "items": [item.to_json() for item in self.items],
        }


_READ: dict[str, tuple[str, Queue]] = {}
"""The queues that this process has read, by the places of their files, each with the stamp of its file."""


def key_of(batch: str) -> str:
    """The key of a queue in the artifact store. Raises DataError for what is no name of a batch.

    >>> key_of("folder-20260102")
    'reviews/queues/folder-20260102.json'
    """
    if not _BATCH.fullmatch(batch):
        raise DataError(f"{batch!r} is no name of a batch; expected letters, digits, - and _")
    return f"{QUEUES}/{batch}.json"


def read(store: Store, batch: str) -> Queue:
    """The queue of a batch. Raises DataError if it has none, or its file is damaged."""
    key = key_of(batch)
    if not store.exists(key):
        raise DataError(f"batch {batch} has no queue of clips to review; `emotion review status` lists those that have")
    return _read(store, key)


def _read(store: Store, key: str) -> Queue:
    """A queue, from its file or from the memory of this process if the file was not written again since."""
    place, stamp = store.url(key), store.stamp(key)
    known_stamp, queue = _READ.get(place, ("", None))
    if queue is None or known_stamp != stamp:
        queue = _parse(store.read_json(key), place)
        if len(_READ) >= MOST_IN_MEMORY:
            _READ.clear()
        _READ[place] = stamp, queue
    return queue


def _parse(content: Any, name: str) -> Queue:
    try:
        if content["format"] != FORMAT:
            raise DataError(f"{name} has format {content['format']!r}; expected {FORMAT}: update this program")
        columns = [column.name for column in fields(Item) if column.name not in ("batch", "reasons")]
        items = tuple(
            Item(batch=content["batch"], reasons=tuple(item["reasons"]), **{column: item[column] for column in columns})
            for item in content["items"]
        )
        return Queue(
            batch=content["batch"],
            made_at=content["made_at"],
            model=content["model"],
            label_set=tuple(content["label_set"]),
            candidates=content["candidates"],
            items=items,
            expired=content.get("expired", False),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{name} is damaged: {error!r}; expected a queue of clips. Restore it from a backup") from None


def write(store: Store, queue: Queue) -> None:
    """Write the file of a queue."""
    store.write_json(key_of(queue.batch), queue.to_json())


def change(store: Store, batch: str, changed: Callable[[Queue], Queue]) -> Queue:
    """Change the queue of a batch as it is now, also where another process changes it at the same time; returns it."""
    key = key_of(batch)

    def written(old: bytes | None) -> bytes:
        if old is None:
            raise DataError(f"batch {batch} has no queue of clips to review any more")
        return store.format_json(changed(_parse(store.parse_json(key, old), store.url(key))).to_json())

    return _parse(store.parse_json(key, store.update(key, written) or b""), store.url(key))


def batches(store: Store) -> list[str]:
    """The batches that have a queue, the newest first."""
    return [queue.batch for queue in read_all(store)]


def read_all(store: Store) -> list[Queue]:
    """The queues of all batches, the newest first; one that another process deletes meanwhile is left out."""
    queues = []
    for key in store.list(QUEUES, "*.json"):
        try:
            queues.append(_read(store, key))
        except DataError:  # not read_many(): a queue that this process has read is not read again
            if store.exists(key):
                raise
    return sorted(queues, key=lambda queue: (queue.made_at, queue.batch), reverse=True)
