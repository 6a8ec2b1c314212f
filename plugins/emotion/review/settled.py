"""One row per labelled clip: what the labels of one or two persons say. Accuracy and training start from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from emotion.review import labels, queue
from emotion.review.labels import SKIP, WITHOUT_EMOTION, Label
from emotion.review.queue import Item, Queue
from emotion.store import Store

OUTCOMES = ("emotion", "disagree", *WITHOUT_EMOTION)
COLUMNS = (
    "batch",
    "made_at",
    "audio",
    "suffix",
    "path",
    "sha256",
    "channel",
    "start",
    "end",
    "folder",
    "speaker",
    "duration",
    "probability",
    "unfamiliar",
    "version",
    "family",
    "mode",
    "emotion",
    "confidence",
    "probabilities",
    "people",
    "labels",
    "label",
    "outcome",
    "blind",
    "labelled_at",
)


def table(store: Store) -> pd.DataFrame:
    """The labelled clips of all batches, a row each, the oldest batch first.

    Returns
    -------
    pandas.DataFrame
        The columns of :data:`COLUMNS`. Those of the item and of the model's answer are as in
        :class:`emotion.review.queue.Item`; ``speaker`` is the one that a person named, if one did. ``people``: how many
        persons labelled the clip; ``labels``: a list of what they said. ``outcome``: ``emotion`` where all of them
        named the same emotion, which is in ``label`` (``""`` otherwise); ``disagree`` where they said different things;
        else the word that all said. ``blind``: whether all chose before they saw the answer. ``labelled_at``: the time
        of the newest label.
    """
    standing = labels.standing(labels.read(store))
    rows = []
    for clips in reversed(queue.read_all(store)):
        for item in clips.items:
            of_item = [label for label in standing.get(item.key, {}).values() if label.label != SKIP]
            if of_item:
                rows.append(_row(item, clips, sorted(of_item, key=lambda label: (label.at, label.id))))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(item: Item, clips: Queue, of_item: list[Label]) -> dict[str, Any]:
    row = {name: getattr(item, name) for name in COLUMNS[:14] if name != "made_at"}
    row |= {"made_at": clips.made_at, "version": clips.model["version"], "family": clips.model["family"]}
    row |= {name: item.answer[name] for name in ("mode", "emotion", "confidence", "probabilities")}
    words = [label.label for label in of_item]
    outcome = outcome_of(words)
    return row | {
        "speaker": _speaker(item, of_item),
        "people": len(of_item),
        "labels": words,
        "label": words[0] if outcome == "emotion" else "",
        "outcome": outcome,
        "blind": all(label.blind for label in of_item),
        "labelled_at": of_item[-1].at,
    }


def outcome_of(words: list[str]) -> str:
    """What the labels of a clip amount to, one of :data:`OUTCOMES`.

    >>> outcome_of(["sad"]), outcome_of(["sad", "calm"]), outcome_of(["no_speech", "no_speech"])
    ('emotion', 'disagree', 'no_speech')
    """
    if len(set(words)) > 1:
        return "disagree"
    return words[0] if words[0] in WITHOUT_EMOTION else "emotion"


def _speaker(item: Item, of_item: list[Label]) -> str:
    """The speaker that persons named, if they named one; else that of the item."""
    named = {label.speaker for label in of_item} - {""}
    return named.pop() if len(named) == 1 else item.speaker


def units(standing: Mapping[tuple[str, str], Mapping[str, Label]]) -> list[list[str]]:
    """What persons said of each clip, without skips, for :func:`emotion.review.agreement.krippendorff_alpha`."""
    return [[label.label for label in by_person.values() if label.label != SKIP] for by_person in standing.values()]
