"""Checks JSON documents of the registry when they are read: a damaged one is an error that names the file.

It also says what holds where an entry of earlier code lacks a fact.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from emotion.errors import DataError
from emotion.evaluation.selection import PROTOCOL, SCORE
from emotion.vocabulary import EMOTIONS, emotion_colours, label_set

JSON_NAMES: dict[type, str] = {
    str: "a text",
    dict: "an object",
    list: "a list",
    bool: "true or false",
    float: "a number with a decimal point",
}


_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def check_entry(version_entry: Any, place: str) -> None:
    """Raise DataError unless a value from a ``version.json`` has all that readers of the registry use."""
    words: dict[str, type] = dict.fromkeys(("version", "created", "format", "recipe", "selected"), str)
    objects: dict[str, type] = dict.fromkeys(("packages", "files", "dataset", "scores"), dict)
    check_document(version_entry, words | objects, place)
    dataset, scores = version_entry["dataset"], version_entry["scores"]
    check_document(dataset, {"name": str, "notice": str, "synthesized": bool}, f"{place}: dataset")
    check_document(scores, {version_entry["selected"]: dict}, f"{place}: scores")
    for family, protocols in scores.items():
        check_document(protocols, {PROTOCOL: dict}, f"{place}: scores of {family}")
        check_document(protocols[PROTOCOL], {SCORE: float}, f"{place}: scores of {family}: {PROTOCOL}")
    for name, facts in version_entry["files"].items():
        check_document(facts, {"sha256": str}, f"{place}: {name}")
    check_document(version_entry["packages"], {"scikit-learn": str}, f"{place}: packages")
    _check_emotions(version_entry, place)


def known_emotions(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The emotions that a version's models know, in the order of their probabilities.

    ``facts``: a version's entry, or what a plan or a comparison says of it. Where it says nothing, as in what earlier
    code wrote, they are the eight standard emotions.

    >>> known_emotions({"emotions": ["angry", "bored"]}), len(known_emotions({"version": "of earlier code"}))
    (('angry', 'bored'), 8)
    """
    return tuple(facts.get("emotions", EMOTIONS))


def colours(facts: Mapping[str, Any]) -> dict[str, str]:
    """The colour of each of :func:`known_emotions` in charts.

    >>> colours({"emotions": ["sad", "bored"], "emotion_colours": {"sad": "#3566b8", "bored": "#123456"}})["bored"]
    '#123456'
    """
    return emotion_colours(known_emotions(facts), facts.get("emotion_colours"))


def _check_emotions(version_entry: dict, place: str) -> None:
    """Raise DataError if an entry has emotions that are no label set, or no colour for each; earlier ones have none."""
    if "emotions" not in version_entry:
        return
    check_document(version_entry, {"emotions": list, "emotion_colours": dict}, place)
    emotions, by_emotion = version_entry["emotions"], version_entry["emotion_colours"]
    are_words = all(isinstance(emotion, str) and emotion for emotion in emotions)
    if not are_words or len(emotions) < 2 or list(label_set(emotions)) != emotions:
        fault = f"emotions is {emotions!r:.60}, expected two or more emotions, each once, in the order of their columns"
        raise DataError(f"{place} is damaged: {fault}. Restore the file from a backup, or delete it")
    check_document(by_emotion, dict.fromkeys(emotions, str), f"{place}: emotion_colours")
    for emotion in emotions:
        if not _COLOUR.fullmatch(by_emotion[emotion]):
            fault = f"{emotion} is {by_emotion[emotion]!r:.60}, expected a colour such as #3566b8"
            raise DataError(
                f"{place}: emotion_colours is damaged: {fault}. Restore the file from a backup, or delete it"
            )


def check_document(document: Any, types: dict[str, type], place: str) -> None:
    """Raise DataError unless a value from JSON is an object with these keys, and values of these types."""
    if not isinstance(document, dict):
        fault = f"found {type(document).__name__}, expected an object"
    else:
        wrong = [key for key, kind in types.items() if not isinstance(document.get(key), kind)]
        if not wrong:
            return
        key = wrong[0]
        value = repr(document[key])[:60] if key in document else "nothing"
        fault = f"{key} is {value}, expected {JSON_NAMES[types[key]]}"
    raise DataError(f"{place} is damaged: {fault}. Restore the file from a backup, or delete it")
