"""What persons say of the clips of a queue: labels, each in a file of its own, which is written once.

A label is taken back by another one that names it. So nothing is overwritten, and two persons, or two windows of one
person, write at the same time without a lock.
"""

from __future__ import annotations

import datetime as dt
import unicodedata
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from emotion.errors import DataError
from emotion.review import queue
from emotion.review.queue import Item, Queue
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, SKIP, WITHOUT_EMOTION, label_set

LABELS = "reviews/labels"
SPECIAL = (*WITHOUT_EMOTION, SKIP)
MOST_IN_MEMORY = 100_000
"""Labels that a process keeps; it forgets them all where there are more."""
_READ: dict[str, Label] = {}
"""The labels that this process has read, by the places of their files. A file of a label never changes."""
LONGEST_NOTE = 2_000
"""Characters of a note."""
LONGEST_NAME = 200
"""Characters of the name of a person or of a speaker."""


@dataclass(frozen=True)
class Label:
    """What a person said of a clip.

    Attributes
    ----------
    batch, audio : str
        Of the item; see :class:`emotion.review.queue.Item`.
    person : str
        Who listened.
    label : str
        An emotion, or one of :data:`SPECIAL`; ``""`` for a label that only takes another one back.
    note, speaker : str
        ``""`` where nothing was said.
    blind : bool
        Whether the person chose before he or she saw the model's answer.
    withdraws : str or None
        The id of an earlier label of the same person for the same clip, which this one takes back.
    id, at : str
        Made by :func:`add`: at random, and the time (UTC, ISO 8601).
    shown : dict or None
        Made by :func:`add`: the answer that the model had given: emotion, confidence, version, family.
    """

    batch: str
    audio: str
    person: str
    label: str
    note: str = ""
    speaker: str = ""
    blind: bool = True
    withdraws: str | None = None
    id: str = ""
    at: str = ""
    shown: dict | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The item that it is about: batch and audio."""
        return self.batch, self.audio


def words_for(label_set_of_model: Iterable[str]) -> tuple[str, ...]:
    """The labels that a person can choose: the emotions of the model and the standard ones, then :data:`SPECIAL`.

    >>> words_for(["bored"])[7:10]
    ('surprised', 'bored', 'several')
    """
    return (*label_set([*EMOTIONS, *label_set_of_model]), *SPECIAL)


def add(store: Store, label: Label) -> Label:
    """Write a label; returns it with its id, the time and the answer of the model.

    Raises
    ------
    DataError
        If the batch has no such clip, or a field is not what it must be. The message says which, and what is expected.
    """
    clips = queue.read(store, label.batch)
    item = clips.item(label.audio)
    if label.withdraws is None:
        check(label, clips)
    else:
        _check_withdrawal(store, label)
    complete = replace(
        label,
        id=uuid.uuid4().hex,
        at=dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
        shown=_shown(item, clips),
    )
    store.write_json(key_of(complete), asdict(complete))
    return complete


def withdraw(store: Store, batch: str, audio: str, person: str) -> Label:
    """Take back the label of a person that counts for a clip; an earlier one that was not taken back counts again.

    Returns the record that takes it back. Raises DataError if there is none to take back.
    """
    standing_label = standing(read(store, batch)).get((batch, audio), {}).get(person)
    if standing_label is None:
        raise DataError(f"{person} has no label for this clip that could be taken back")
    return add(store, Label(batch, audio, person, "", withdraws=standing_label.id))


def read(store: Store, batch: str | None = None) -> list[Label]:
    """The labels of a batch, or of all, in the order of their times; those that are taken back too."""
    prefix = LABELS if batch is None else f"{LABELS}/{_batch(batch)}"
    places = {store.url(key): key for key in store.list(prefix, "*.json")}
    labels, unread = [], []
    for place, key in places.items():
        if label := _READ.get(place):
            labels.append(label)
        else:
            unread.append(key)
    new = {
        store.url(key): _parse(store.parse_json(key, data), store.url(key))
        for key, data in store.read_many(unread).items()
    }
    if len(_READ) > MOST_IN_MEMORY:
        _READ.clear()
    _READ.update(new)
    return sorted([*labels, *new.values()], key=lambda label: (label.at, label.id))


def standing(labels: Iterable[Label]) -> dict[tuple[str, str], dict[str, Label]]:
    """The labels that count: of each clip (batch and audio), by person, the newest that was not taken back.

    Parameters
    ----------
    labels : iterable of Label
        In the order of their times.

    Examples
    --------
    >>> first = Label("b", "ab", "ann", "sad", id="1")
    >>> second = Label("b", "ab", "ann", "angry", id="2")
    >>> undo = Label("b", "ab", "ann", "", withdraws="2", id="3")
    >>> standing([first, second])["b", "ab"]["ann"].label, standing([first, second, undo])["b", "ab"]["ann"].label
    ('angry', 'sad')
    """
    labels = list(labels)
    withdrawn = {(label.key, label.person, label.withdraws) for label in labels if label.withdraws}
    counting: dict[tuple[str, str], dict[str, Label]] = {}
    for label in labels:
        if label.label and (label.key, label.person, label.id) not in withdrawn:
            counting.setdefault(label.key, {})[label.person] = label
    return counting


def labelled_items(store: Store) -> list[Item]:
    """The items of all batches that have a label which counts; a clip that was only skipped has none."""
    audio_of_batch: dict[str, set[str]] = {}
    for (batch, audio), by_person in standing(read(store)).items():
        if any(label.label != SKIP for label in by_person.values()):
            audio_of_batch.setdefault(batch, set()).add(audio)
    return [
        item
        for batch, labelled in audio_of_batch.items()
        if store.exists(queue.key_of(batch))
        for item in queue.read(store, batch).items
        if item.audio in labelled
    ]


def _batch(batch: str) -> str:
    queue.key_of(batch)  # raises for what is no name of a batch
    return batch


def key_of(label: Label) -> str:
    """The key of the file of a label in the artifact store."""
    return f"{LABELS}/{_batch(label.batch)}/{label.id}.json"


def _shown(item: Item, clips: Queue) -> dict[str, Any]:
    answer = {name: item.answer[name] for name in ("emotion", "confidence")}
    return answer | {name: clips.model[name] for name in ("version", "family")}


def check(label: Label, clips: Queue) -> None:
    """Raise DataError for a field of a label that is not what it must be; ``clips``: the queue of its batch."""
    words = words_for(clips.label_set)
    if label.label not in words:
        raise DataError(f"the label {label.label!r} is none of {', '.join(words)}")
    _check_texts(label)


def _check_texts(label: Label) -> None:
    check_text("person", label.person, longest=LONGEST_NAME)
    if not label.person.strip():
        raise DataError("a label without a person; expected the name of the person who listened")
    check_text("speaker", label.speaker, longest=LONGEST_NAME)
    check_text("note", label.note, longest=LONGEST_NOTE, allowed="\n\t")


def _check_withdrawal(store: Store, label: Label) -> None:
    """Raise DataError unless a label only takes back a label of the same person for the same clip."""
    if label.label:
        raise DataError(f"a label that takes another one back is empty; found {label.label!r}")
    _check_texts(label)
    earlier = {other.id for other in read(store, label.batch) if (other.key, other.person) == (label.key, label.person)}
    if label.withdraws not in earlier:
        raise DataError(f"{label.person} has no label {label.withdraws!r} for this clip; nothing was taken back")


def check_text(name: str, text: str, *, longest: int, allowed: str = "") -> None:
    r"""Raise DataError for a text that is too long, or has control characters that are not allowed.

    >>> check_text("note", "two\nlines", longest=20, allowed="\n")
    >>> check_text("speaker", "ann\x1b[2J", longest=20)
    Traceback (most recent call last):
    emotion.errors.DataError: the speaker has the control character '\x1b'; expected plain text
    """
    if len(text) > longest:
        raise DataError(f"the {name} has {len(text)} characters; expected at most {longest}")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in allowed:
            raise DataError(f"the {name} has the control character {character!r}; expected plain text")


def _parse(content: Any, name: str) -> Label:
    try:
        return Label(**{column.name: content[column.name] for column in fields(Label)})
    except (KeyError, TypeError) as error:
        raise DataError(f"{name} is damaged: {error!r}; expected a label. Restore it from a backup") from None
