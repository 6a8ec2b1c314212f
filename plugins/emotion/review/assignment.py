"""Which clip a person gets next, and how many are left for him or her."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from emotion.review import labels, queue
from emotion.review.labels import SKIP, Label
from emotion.review.queue import Item
from emotion.store import Store


def is_done(item: Item, standing: Mapping[str, Label]) -> bool:
    """Whether as many persons as the clip needs have labelled it; ``standing``: its labels that count, by person."""
    return sum(label.label != SKIP for label in standing.values()) >= item.people


def open_items(store: Store, batch: str | None, person: str) -> list[Item]:
    """The clips that a person may still label, in the order in which he or she gets them.

    The clips of the newest batch come first; within a batch, the order is another one for each person, so that two who
    work at the same time rarely get the same clip. What the person has skipped comes last.

    Parameters
    ----------
    store : Store
    batch : str or None
        None: all batches.
    person : str
    """
    queues = queue.read_all(store) if batch is None else [queue.read(store, batch)]
    standing = labels.standing(labels.read(store, batch))
    offered: list[Item] = []
    skipped: list[Item] = []
    for clips in queues:
        if clips.expired:
            continue
        for item in sorted(clips.items, key=lambda item: _order(person, item)):
            said = standing.get(item.key, {})
            if is_done(item, said):
                continue
            if person not in said:
                offered.append(item)
            elif said[person].label == SKIP:
                skipped.append(item)
    return offered + skipped


def next_item(store: Store, batch: str | None, person: str) -> Item | None:
    """The first of :func:`open_items`; None if nothing is left."""
    return next(iter(open_items(store, batch, person)), None)


def left(store: Store, batch: str | None, person: str) -> int:
    """How many clips a person may still label, those that he or she skipped included."""
    return len(open_items(store, batch, person))


def _order(person: str, item: Item) -> str:
    return hashlib.sha256("\0".join((person, *item.key)).encode()).hexdigest()
