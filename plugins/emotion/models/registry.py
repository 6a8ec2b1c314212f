"""Versions of models, the champion among them, and how the champion changes.

``models/<version>/`` holds one training run's bundles, fold models, model card, drift reference and ``version.json``.
``version.json`` is written last: a version exists once that file exists, and never changes afterwards.
``models/champion.json`` points to one bundle; ``models/promotions.jsonl`` is the history of every decision.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any, TypedDict

from emotion.errors import BundleError, ConfigurationError, DataError
from emotion.models.bundle import FORMAT, packages, unpickle, verify
from emotion.store import Store

ENTRY = "version.json"
CHAMPION = "models/champion.json"
HISTORY = "models/promotions.jsonl"
JSON_NAMES: dict[type, str] = {str: "a text", dict: "an object", list: "a list"}


class FileFacts(TypedDict):
    """Checksum and size of one of a version's files."""

    sha256: str
    bytes: int


class VersionFacts(TypedDict):
    """What a training run says of its version: see :class:`VersionEntry`."""

    run_id: str
    recipe: str
    feature_names: list[str]
    dataset: dict
    selected: str
    seed: int
    scores: dict[str, dict[str, dict[str, float]]]


class VersionEntry(VersionFacts):
    """A version's entry in the registry: the content of its ``version.json``.

    ``selected`` is the family that the run selected; ``scores`` are by family, protocol and score; ``files`` are the
    version's pickles and its drift reference.
    """

    version: str
    created: str
    format: str
    packages: dict[str, str]
    files: dict[str, FileFacts]


class ChampionPointer(TypedDict):
    """The content of ``models/champion.json``: which bundle is the champion, since when, and why."""

    version: str
    family: str
    file: str
    sha256: str
    since: str
    reasons: list[str]


def bundle_name(family: str) -> str:
    """File name of a family's bundle.

    >>> bundle_name("random_forest")
    'random_forest_emotion_model.pkl'
    """
    return f"{family}_emotion_model.pkl"


def fold_models_name(family: str) -> str:
    """File name of a family's fold models.

    >>> fold_models_name("random_forest")
    'random_forest_fold_models.pkl'
    """
    return f"{family}_fold_models.pkl"


def now() -> str:
    """The time, UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def register(store: Store, version: str, *, files: dict[str, bytes], card: str, facts: VersionFacts) -> VersionEntry:
    """Write a version: its files, its model card, and last its entry.

    A version that exists already is returned as it is: it never changes.

    Examples
    --------
    >>> store = Store("memory://doctest-register")
    >>> facts = {"recipe": "v1", "selected": "random_forest"}  # a real run gives all of VersionFacts
    >>> entry = register(store, "one", files={"model.pkl": b"a pickle"}, card="# Card", facts=facts)
    >>> entry["files"]["model.pkl"]["bytes"], [each["version"] for each in versions(store)]
    (8, ['one'])
    """
    key = _entry_key(version)
    if store.exists(key):
        return _read_entry(store, key)
    for name, data in files.items():
        store.write_bytes(f"models/{version}/{name}", data)
    store.write_bytes(f"models/{version}/model_card.md", card.encode())
    version_entry: VersionEntry = {
        "version": version,
        "created": now(),
        "format": FORMAT,
        "packages": packages(),
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
        },
        **facts,
    }
    store.write_json(key, version_entry)
    return version_entry


def versions(store: Store) -> list[VersionEntry]:
    """The entries of all versions, oldest first. Raises DataError if one of them is damaged."""
    entries = [_read_entry(store, key) for key in store.list("models", ENTRY)]
    return sorted(entries, key=lambda entry: (entry["created"], entry["version"]))


def entry(store: Store, version: str) -> VersionEntry:
    """A version's entry.

    Raises
    ------
    ConfigurationError
        If there is no such version.
    DataError
        If its ``version.json`` is damaged.
    """
    key = _entry_key(version)
    if not store.exists(key):
        known = ", ".join(each["version"] for each in versions(store)) or "none yet"
        raise ConfigurationError(
            f"there is no model version {version!r}; versions: {known}. Name one of them, or train one"
        )
    return _read_entry(store, key)


def _entry_key(version: str) -> str:
    return f"models/{version}/{ENTRY}"


def _read_entry(store: Store, key: str) -> VersionEntry:
    version_entry = store.read_json(key)
    check_entry(version_entry, store.url(key))
    return version_entry


def check_entry(version_entry: Any, place: str) -> None:
    """Raise DataError unless a value from a ``version.json`` has what :func:`register` writes itself."""
    words: dict[str, type] = dict.fromkeys(("version", "created", "format"), str)
    _check_document(version_entry, words | {"packages": dict, "files": dict}, place)
    for name, facts in version_entry["files"].items():
        _check_document(facts, {"sha256": str}, f"{place}: {name}")
    _check_document(version_entry["packages"], {"scikit-learn": str}, f"{place}: packages")


def _check_document(document: Any, types: dict[str, type], place: str) -> None:
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


def champion(store: Store) -> ChampionPointer | None:
    """The champion's pointer, or None where no model was promoted yet. Raises DataError if the pointer is damaged.

    >>> champion(Store("memory://doctest-no-champion")) is None
    True
    """
    if not store.exists(CHAMPION):
        return None
    pointer = store.read_json(CHAMPION)
    words: dict[str, type] = dict.fromkeys(("version", "family", "file", "sha256", "since"), str)
    _check_document(pointer, words | {"reasons": list}, store.url(CHAMPION))
    return pointer


def history(store: Store) -> list[dict]:
    """Every promotion decision and roll-back, oldest first.

    A dict each: ``decision`` (``promoted``, ``kept`` or ``rolled_back``), ``version``, ``family``, ``reasons``,
    ``time``; ``policy`` and ``by`` of a decision, ``from_version`` of a roll-back. Raises DataError if a line is
    damaged.
    """
    if not store.exists(HISTORY):
        return []
    decisions = []
    words: dict[str, type] = dict.fromkeys(("decision", "version", "family", "time"), str)
    for number, line in enumerate(store.read_bytes(HISTORY).split(b"\n"), start=1):
        if not line:
            continue
        place = f"line {number} of {store.url(HISTORY)}"
        try:
            decision = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{place} is damaged: expected a JSON document ({error}). Correct the line, or delete it"
            ) from None
        _check_document(decision, words | {"reasons": list}, place)
        decisions.append(decision)
    return decisions


def check_loadable(entry: VersionEntry, *, recipe: str) -> None:
    """Compare what a version was made with with this code.

    Parameters
    ----------
    entry : VersionEntry
    recipe : str
        The feature recipe that this code computes.

    Raises
    ------
    BundleError
        If the version has another bundle format, feature recipe or scikit-learn minor version.

    Examples
    --------
    >>> entry = {"version": "one", "format": FORMAT, "recipe": "v1", "packages": packages()}
    >>> check_loadable(entry, recipe="v1")
    >>> try:
    ...     check_loadable(entry, recipe="v2")
    ... except BundleError as error:
    ...     print(str(error).partition(". ")[0])
    model version one was trained on feature recipe 'v1'; this code computes recipe 'v2'
    """
    name = f"model version {entry['version']}"
    if entry["format"] != FORMAT:
        raise BundleError(
            f"{name} has bundle format {entry['format']!r}; this code reads format {FORMAT!r}. Train again to get a "
            "version that this code reads. The old version stays in the store, and still answers with the code version "
            "that it was made with"
        )
    if entry["recipe"] != recipe:
        raise BundleError(
            f"{name} was trained on feature recipe {entry['recipe']!r}; this code computes recipe {recipe!r}. Train "
            f"again: the run stores its features in features/{recipe}/, and those in features/{entry['recipe']}/ stay "
            "as they are. The old version still answers with the code version, and the EMOTION_FEATURES, that it was "
            "made with"
        )
    made, here = entry["packages"]["scikit-learn"], packages()["scikit-learn"]
    if made.split(".")[:2] != here.split(".")[:2]:
        raise BundleError(
            f"{name} was made with scikit-learn {made}; found scikit-learn {here}, which may read it incorrectly. "
            f"Install scikit-learn {made}, or train again"
        )


def load(store: Store, entry: VersionEntry, name: str, *, recipe: str) -> Any:
    """One of a version's pickles from the store, checked and opened by :func:`open_pickle`.

    Raises ConfigurationError if the version has no file of this name.
    """
    return open_pickle(read_file(store, entry, name), entry, name, recipe=recipe)


def read_file(store: Store, entry: VersionEntry, name: str) -> bytes:
    """One of a version's files, not checked. Raises ConfigurationError if it has none of this name."""
    _require_file(entry, name)
    return store.read_bytes(f"models/{entry['version']}/{name}")


def open_pickle(data: bytes, entry: VersionEntry, name: str, *, recipe: str) -> Any:
    """Unpickle a version's file after all checks that are possible before.

    Parameters
    ----------
    data : bytes
        The content of the file.
    entry : VersionEntry
    name : str
        The file's name.
    recipe : str
        The feature recipe that this code computes.

    Returns
    -------
    emotion.models.bundle.Bundle, or list of emotion.models.bundle.FoldModel
        The first for :func:`bundle_name`, the second for :func:`fold_models_name`.

    Raises
    ------
    BundleError
        If the checksum differs from the entry's, or as :func:`check_loadable` does.
    """
    verify(data, sha256=entry["files"][name]["sha256"], name=name)
    check_loadable(entry, recipe=recipe)
    return unpickle(data)


def _require_file(entry: VersionEntry, name: str) -> None:
    if name not in entry["files"]:
        raise ConfigurationError(
            f"version {entry['version']} has no {name}; it has {', '.join(entry['files'])}: name one of them"
        )


def decide(store: Store, decision: dict) -> dict:
    """Record a decision about a version and carry it out.

    Parameters
    ----------
    store : Store
    decision : dict
        ``decision`` (``promoted`` or ``kept``), ``version``, ``family``, ``policy``, ``by``, ``reasons``.

    Returns
    -------
    dict
        The decision with its ``time``. A second decision about the same version changes nothing, as a task may be
        tried twice: the recorded one is returned.
    """
    for past in history(store):
        if past["version"] == decision["version"] and past["decision"] in ("promoted", "kept"):
            if past["decision"] == "promoted" and _last_promoted_version(store) == past["version"]:
                _point(store, past)
            return past
    recorded = decision | {"time": now()}
    _record(store, recorded)
    if recorded["decision"] == "promoted":
        _point(store, recorded)
    return recorded


def promote_by_hand(store: Store, *, version: str, family: str, reason: str) -> dict:
    """Make a model the champion because a person says so, whatever was decided about its version before.

    Raises
    ------
    ConfigurationError
        If there is no such model.
    DataError
        If it is the champion already.
    """
    _require_file(entry(store, version), bundle_name(family))
    current = champion(store)
    if current and (current["version"], current["family"]) == (version, family):
        raise DataError(f"{version} ({family}) is the champion already, since {current['since']}: nothing to promote")
    recorded = {
        "decision": "promoted",
        "version": version,
        "family": family,
        "policy": "by hand",
        "by": "a person",
        "reasons": [reason],
        "time": now(),
    }
    _record(store, recorded)
    _point(store, recorded)
    return recorded


def rollback(store: Store, *, reason: str) -> dict:
    """Make the previous champion the champion again. Raises DataError if there is none."""
    current = champion(store)
    promotions: list[dict] = []
    for past in history(store):
        if past["decision"] == "promoted":
            promotions.append(past)
        elif past["decision"] == "rolled_back":
            promotions.pop()
    if current is None or len(promotions) < 2:
        raise DataError("there is no earlier champion to go back to; `emotion models` lists the versions")
    target = promotions[-2]
    recorded = {
        "decision": "rolled_back",
        "version": target["version"],
        "family": target["family"],
        "from_version": current["version"],
        "reasons": [reason],
        "time": now(),
    }
    _record(store, recorded)
    _point(store, recorded)
    return recorded


def _last_promoted_version(store: Store) -> str | None:
    """The version that the last promotion or roll-back made the champion."""
    pointed = [past["version"] for past in history(store) if past["decision"] in ("promoted", "rolled_back")]
    return pointed[-1] if pointed else None


def _record(store: Store, decision: dict) -> None:
    lines = [*history(store), decision]
    store.write_bytes(HISTORY, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())


def _point(store: Store, decision: dict) -> None:
    name = bundle_name(decision["family"])
    pointer: ChampionPointer = {
        "version": decision["version"],
        "family": decision["family"],
        "file": f"models/{decision['version']}/{name}",
        "sha256": entry(store, decision["version"])["files"][name]["sha256"],
        "since": decision["time"],
        "reasons": decision["reasons"],
    }
    store.write_json(CHAMPION, pointer)
