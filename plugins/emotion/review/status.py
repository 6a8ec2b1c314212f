"""How far the review is: per batch and in all."""

from __future__ import annotations

from typing import Any

from emotion.review import labels, queue, settled
from emotion.review.agreement import krippendorff_alpha
from emotion.review.assignment import is_done
from emotion.store import Store


def status(store: Store) -> dict[str, Any]:
    """The figures of each batch, the newest first (``batches``), and of all together (``all``).

    ``items``; ``labelled``, by at least one person; ``done``, by as many as the item needs; ``left``, which are not
    done and whose audio is kept; ``double``: items that two or more persons labelled; ``alpha``: Krippendorff's alpha
    of these, or None.
    """
    standing = labels.standing(labels.read(store))
    rows = []
    for clips in queue.read_all(store):
        of_batch = {item.key: standing.get(item.key, {}) for item in clips.items}
        words = settled.units(of_batch)
        done = sum(is_done(item, of_batch[item.key]) for item in clips.items)
        rows.append(
            {
                "batch": clips.batch,
                "made_at": clips.made_at,
                "items": len(clips.items),
                "labelled": sum(bool(unit) for unit in words),
                "done": done,
                "left": 0 if clips.expired else len(clips.items) - done,
                "double": sum(len(unit) > 1 for unit in words),
                "alpha": krippendorff_alpha(words),
            }
        )
    counts = ("items", "labelled", "done", "left", "double")
    totals: dict[str, Any] = {name: sum(row[name] for row in rows) for name in counts}
    return {"batches": rows, "all": totals | {"alpha": krippendorff_alpha(settled.units(standing))}}
