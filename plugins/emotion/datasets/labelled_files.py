"""Recordings of a source with their labels, whatever the labels come from; from them the clips to import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emotion.datasets.archives import Member
from emotion.datasets.catalogue import Entry, FolderEntry, RepositoryEntry, ZenodoEntry
from emotion.datasets.clips import SourceClip, speaker_name
from emotion.datasets.label_table import check_emotions, emotion_of
from emotion.errors import DataError

LabelledEntry = FolderEntry | RepositoryEntry | ZenodoEntry
"""An entry whose labels are words."""


@dataclass(frozen=True)
class LabelledFile:
    """A recording and what is known of it.

    Attributes
    ----------
    member : Member
    word : str
        The word for its emotion, as the source has it.
    labels : dict
        The values of its row in the manifest; ``emotion`` is ``""`` where the catalogue leaves the word out.
    """

    member: Member
    word: str
    labels: dict[str, Any]


def label(entry: LabelledEntry, member: Member, texts: Mapping[str, str]) -> LabelledFile:
    """A recording with its labels, from the texts of a source by column; ``emotion`` is a word that is known.

    >>> from emotion.datasets.catalogue import find_entry
    >>> from emotion.settings import INCLUDE
    >>> entry = find_entry(INCLUDE / "datasets.yaml", "tess")
    >>> member = Member("OAF_back_ps.wav", 4, lambda: b"RIFF")
    >>> label(entry, member, {"emotion": "ps", "speaker": "OAF"}).labels
    {'emotion': 'surprised', 'speaker': 'tess:OAF', 'repetition': None, 'actor': 'OAF'}
    """
    word = texts["emotion"]
    return LabelledFile(member, word, manifest_labels(entry, texts, emotion_of(word, entry.translations) or ""))


def manifest_labels(entry: Entry, texts: Mapping[str, str], emotion: str) -> dict[str, Any]:
    """The values of a row of the manifest, from the texts of a source by column, and the emotion."""
    actor, repetition = texts.get("speaker", "").strip(), texts.get("repetition")
    return dict(texts) | {
        "emotion": emotion,
        "repetition": int(repetition) if repetition else None,
        "actor": actor,
        "speaker": speaker_name(entry, actor) if actor else "",
    }


def check_words(entry: LabelledEntry, words: list[tuple[str, str]], source: str) -> None:
    """Raise DataError if one of the words, given with the places where they stand, is no emotion for the entry."""
    check_emotions(words, entry.translations, source=source, translated_in=f"under {entry.name}")


def left_out_words(files: list[LabelledFile]) -> dict[str, int]:
    """How many recordings are left out for each word that the catalogue maps to null."""
    return dict(sorted(Counter(file.word for file in files if not file.labels["emotion"]).items()))


def clips_to_import(files: list[LabelledFile], *, below: str = "") -> list[SourceClip]:
    """The clips to import: the files that are not left out, at their paths without the folder ``below``.

    Raises
    ------
    DataError
        If some of them have a speaker and some do not.
    """
    taken = [file for file in files if file.labels["emotion"]]
    nameless = [file.member.path for file in taken if not file.labels["speaker"]]
    if nameless and len(nameless) < len(taken):
        raise DataError(
            f"{len(nameless)} of {len(taken)} clips have no speaker, such as {nameless[0]}; "
            "expected one for each clip, or for none"
        )
    return [
        SourceClip(file.member.path.removeprefix(below), file.labels, file.member.size, file.member.read)
        for file in taken
    ]
