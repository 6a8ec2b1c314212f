"""What the page *Emotion review* shows to a person: a clip, what is left, and the answer once the person has chosen."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from emotion.review import assignment, clips, labels, queue
from emotion.review.labels import SKIP, SPECIAL, Label, words_for
from emotion.review.queue import Item
from emotion.review.status import status
from emotion.store import Store
from emotion.vocabulary import emotion_colours

SECONDS_ON_SCREEN = 120
"""How long a clip that somebody has got is kept for him or her, while there are others."""
RECENT = 30
"""How many of a person's newest labels the page lists, and can go back to."""


class OnScreen:
    """Which clip each person has got, in this process, so that two who work at once get different ones."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[tuple[str, str], float]] = {}

    def show(self, person: str, item: Item) -> None:
        """Note that a person has got a clip."""
        self._shown[person] = item.key, time.monotonic()

    def of_others(self, person: str) -> set[tuple[str, str]]:
        """The clips that the others got within the last :data:`SECONDS_ON_SCREEN`."""
        since = time.monotonic() - SECONDS_ON_SCREEN
        return {key for other, (key, at) in [*self._shown.items()] if other != person and at > since}


class Reviewer:
    """One person at the review of one batch, or of all.

    Parameters
    ----------
    store : Store
    person : str
    batch : str or None
        None: all batches.
    on_screen : OnScreen
    """

    def __init__(self, store: Store, person: str, batch: str | None, on_screen: OnScreen):
        self.store = store
        self.person = person
        self.batch = batch
        self.on_screen = on_screen

    def next_clip(self, *, blind: bool) -> dict[str, Any]:
        """The next clip for the person, or None for it, and the overview.

        Raises
        ------
        DataError
            If the batch has no queue.
        """
        if self.batch:
            queue.read(self.store, self.batch)
        open_items = assignment.open_items(self.store, None, self.person)
        others = self.on_screen.of_others(self.person)
        in_scope = [item for item in open_items if self.batch in (None, item.batch)]
        in_scope.sort(key=lambda item: item.people == 1 and item.key in others)
        item = next((item for item in in_scope if clips.is_kept(self.store, item)), None)
        if item:
            self.on_screen.show(self.person, item)
        return {
            "clip": item and self.clip(item.batch, item.audio, blind=blind),
            "overview": self._overview(open_items),
        }

    def clip(self, batch: str, audio: str, *, blind: bool) -> dict[str, Any]:
        """A clip as the person may see it now.

        ``answer`` is None while ``blind`` holds and the person has not labelled the clip; nothing else in it tells what
        the model said, why the clip was drawn, or the name of its file, as people put emotions into names.

        Raises
        ------
        DataError
            If there is no such clip in a queue.
        """
        all_clips = queue.read(self.store, batch)
        item = all_clips.item(audio)
        own_labels = [
            label for label in labels.read(self.store, batch) if (label.key, label.person) == (item.key, self.person)
        ]
        current = labels.standing(own_labels).get(item.key, {}).get(self.person)
        words = [word for word in words_for(all_clips.label_set) if word not in SPECIAL]
        names = ("batch", "audio", "channel", "start", "end", "speaker", "duration", "people")
        return {name: getattr(item, name) for name in names} | {
            "kept": not all_clips.expired and clips.is_kept(self.store, item),
            "emotions": [word for word in words if word in all_clips.label_set],
            "more_emotions": [word for word in words if word not in all_clips.label_set],
            "colours": emotion_colours(words),
            "label": current and _own(current),
            "seen_before": any(label.label not in ("", SKIP) for label in own_labels),
            "answer": _answer(item, all_clips.model) if not blind or (current and current.label != SKIP) else None,
        }

    def store_label(
        self, batch: str, audio: str, *, label: str, note: str, speaker: str, blind: bool
    ) -> dict[str, Any]:
        """Store what the person said; returns the clip with the model's answer, and the overview.

        A label counts as blind if the page had hidden the answer, and if the person had not labelled the clip before,
        as the answer is shown then. To store the same label again, with another note, changes nothing about that.

        Raises
        ------
        DataError
            If there is no such clip, or the label is not what it must be.
        """
        before = self.clip(batch, audio, blind=True)
        current = before["label"]
        if current and current["label"] == label:
            blind = current["blind"]
        elif before["seen_before"]:
            blind = False
        labels.add(self.store, Label(batch, audio, self.person, label, note=note, speaker=speaker, blind=blind))
        return self._changed(batch, audio)

    def take_back(self, batch: str, audio: str, label_id: str) -> dict[str, Any]:
        """Take back a label of the person; returns the clip and the overview.

        Raises
        ------
        DataError
            If the person has no such label of this clip.
        """
        labels.add(self.store, Label(batch, audio, self.person, "", withdraws=label_id))
        return self._changed(batch, audio)

    def list_clips(self) -> list[dict[str, Any]]:
        """The clips of the batch with the person's own label, in the order of the queue."""
        own = {label.key: label.label for label in self._standing()}
        return [
            {"batch": item.batch, "audio": item.audio, "duration": item.duration, "label": own.get(item.key)}
            for item in queue.read(self.store, self.batch or "").items
        ]

    def _changed(self, batch: str, audio: str) -> dict[str, Any]:
        """A clip that the person has labelled or taken back, and the overview."""
        open_items = assignment.open_items(self.store, None, self.person)
        return {"clip": self.clip(batch, audio, blind=True), "overview": self._overview(open_items)}

    def _overview(self, open_items: list[Item]) -> dict[str, Any]:
        """How far the review is, and the person's newest labels, the newest first.

        Parameters
        ----------
        open_items : list of Item
            What the person may still label, of all batches.
        """
        left = Counter(item.batch for item in open_items)
        figures = status(self.store)
        rows = [{**row, "left": left[row["batch"]]} for row in figures["batches"]]
        shown = [row for row in rows if row["batch"] == self.batch] if self.batch else [figures["all"]]
        return {
            "batches": [{name: row[name] for name in ("batch", "items", "left")} for row in rows],
            "figures": shown[0] if shown else None,
            "left": left[self.batch] if self.batch else len(open_items),
            "recent": [
                _own(label) | {"batch": label.batch, "audio": label.audio, "model": (label.shown or {}).get("emotion")}
                for label in self._standing()[:RECENT]
            ],
        }

    def _standing(self) -> list[Label]:
        """The person's labels that count, the newest first."""
        standing = labels.standing(labels.read(self.store, self.batch))
        own = [by_person[self.person] for by_person in standing.values() if self.person in by_person]
        return sorted(own, key=lambda label: (label.at, label.id), reverse=True)


def _own(label: Label) -> dict[str, Any]:
    return {name: getattr(label, name) for name in ("id", "label", "note", "speaker", "blind", "at")}


def _answer(item: Item, model: dict[str, str]) -> dict[str, Any]:
    """The model's answer, and all that would tell it, for a person who has chosen."""
    names = ("path", "challenger", "unfamiliar", "probability")
    ranked = sorted(item.answer["probabilities"].items(), key=lambda pair: -pair[1])
    return {name: getattr(item, name) for name in names} | {
        "emotion": item.answer["emotion"],
        "confidence": item.answer["confidence"],
        "probabilities": ranked,
        "reasons": [*item.reasons],
        "model": f"{model['version']}/{model['family']}",
    }
