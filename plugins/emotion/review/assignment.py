"""Which clip a person gets next, and how many are left for him or her."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from emotion.review import clips, labels, queue
from emotion.review.labels import SKIP, Label
from emotion.review.queue import Item
from emotion.store import Store


def is_done(item: Item, by_person: Mapping[str, Label]) -> bool:
    """Whether as many persons as the clip needs have labelled it; ``by_person``: its labels that count."""
    return sum(label.label != SKIP for label in by_person.values()) >= item.people


def open_items(store: Store, batch: str | None, person: str) -> list[Item]:
    """The clips that a person may still label, in the order in which he or she gets them.

    The clips of the newest batch come first; within a batch, the order is another one for each person, so that two who
    work at the same time rarely get the same clip. What the person has skipped comes last. Audio that the person has
    labelled in whatever batch is left out.

    Parameters
    ----------
    store : Store
    batch : str or None
        None: all batches.
    person : str
    """
    queues = queue.read_all(store) if batch is None else [queue.read(store, batch)]
    standing = labels.standing(labels.read(store))
    heard = _labelled_audio(standing, person)
    offered: list[Item] = []
    skipped: list[Item] = []
    for clips_of_batch in queues:
        if clips_of_batch.expired:
            continue
        for item in sorted(clips_of_batch.items, key=lambda item: _order(person, item)):
            by_person = standing.get(item.key, {})
            if is_done(item, by_person) or item.audio in heard:
                continue
            (skipped if person in by_person else offered).append(item)
    return offered + skipped


def next_item(store: Store, batch: str | None, person: str) -> Item | None:
    """The first of :func:`open_items` whose audio is there; None if nothing is left."""
    return next((item for item in open_items(store, batch, person) if clips.is_kept(store, item)), None)


def left(store: Store, batch: str | None, person: str) -> int:
    """How many clips a person may still label, those that he or she skipped included."""
    return len(open_items(store, batch, person))


def _labelled_audio(standing: Mapping[tuple[str, str], Mapping[str, Label]], person: str) -> set[str]:
    """The audio that a person has labelled, in whatever batch; what he or she skipped is not among it."""
    return {
        audio for (_, audio), by_person in standing.items() if person in by_person and by_person[person].label != SKIP
    }


def _order(person: str, item: Item) -> str:
    return hashlib.sha256("\0".join((person, *item.key)).encode()).hexdigest()
