"""Checks JSON documents of the registry when they are read: a damaged one is an error that names the file."""

from __future__ import annotations

from typing import Any

from emotion.errors import DataError
from emotion.evaluation.selection import PROTOCOL, SCORE

JSON_NAMES: dict[type, str] = {
    str: "a text",
    dict: "an object",
    list: "a list",
    bool: "true or false",
    float: "a number with a decimal point",
}


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
