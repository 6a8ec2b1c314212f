"""Versions of models, the champion among them, and how the champion changes.

``models/<version>/`` holds one training run's bundles, fold models, model card, drift reference and ``version.json``.
``version.json`` is written last: a version exists once that file exists, and never changes afterwards.
``models/champion.json`` points to one bundle; ``models/promotions.jsonl`` is the history of every decision.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict

from emotion.errors import BundleError, ConfigurationError, DataError
from emotion.evaluation.coverage import CoveragePoint
from emotion.models import documents
from emotion.models.bundle import FORMAT, check_loadable, packages, unpickle, verify
from emotion.store import Store

ENTRY = "version.json"
CHAMPION = "models/champion.json"
HISTORY = "models/promotions.jsonl"
LOCK = "models/promotions"
"""The lock under which the champion and the history change: a DAG and the command line may decide at the same time."""


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
    coverage: NotRequired[dict[str, dict[str, list[CoveragePoint]]]]
    emotions: NotRequired[list[str]]
    emotion_colours: NotRequired[dict[str, str]]


class VersionEntry(VersionFacts):
    """A version's entry in the registry: the content of its ``version.json``.

    ``selected`` is the family that the run selected; ``scores`` are by family, protocol and score, ``coverage`` by
    family and protocol; ``emotions`` is the label set, ``emotion_colours`` their colours (earlier versions lack these
    three); ``files`` are the pickles and the drift reference.
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

    A version that exists already is returned as it is: it never changes. :func:`free_name` gives the name that content
    of a run is registered under.

    Examples
    --------
    >>> store = Store("memory://doctest-register")
    >>> dataset = {"name": "calls", "notice": "", "synthesized": False}
    >>> scores = {"random_forest": {"speaker_independent": {"f1_macro": 0.5}}}
    >>> facts = {"recipe": "v1", "selected": "random_forest", "dataset": dataset, "scores": scores}
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


def free_name(store: Store, version: str, files: dict[str, bytes]) -> str:
    """The name that a run's files are registered under: a version is the content that it was made from.

    The name of the version that holds these pickles already, as when a task is tried again. Otherwise ``version``, or
    where another content has that name, as when a run was cleared and trained anew, ``<version>-2``, ``<version>-3`` …

    Examples
    --------
    >>> store = Store("memory://doctest-free-name")
    >>> dataset = {"name": "calls", "notice": "", "synthesized": False}
    >>> scores = {"random_forest": {"speaker_independent": {"f1_macro": 0.5}}}
    >>> facts = {"recipe": "v1", "selected": "random_forest", "dataset": dataset, "scores": scores}
    >>> entry = register(store, "one", files={"model.pkl": b"a pickle"}, card="# Card", facts=facts)
    >>> free_name(store, "one", {"model.pkl": b"a pickle"}), free_name(store, "one", {"model.pkl": b"another"})
    ('one', 'one-2')
    """
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name.endswith(".pkl")}
    name, number = version, 1
    while store.exists(_entry_key(name)):
        registered = entry(store, name)["files"]
        if {key: facts["sha256"] for key, facts in registered.items() if key.endswith(".pkl")} == checksums:
            break
        number += 1
        name = f"{version}-{number}"
    return name


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
    documents.check_entry(version_entry, store.url(key))
    return version_entry


def champion(store: Store) -> ChampionPointer | None:
    """The champion's pointer, or None where no model was promoted yet. Raises DataError if the pointer is damaged.

    >>> champion(Store("memory://doctest-no-champion")) is None
    True
    """
    if not store.exists(CHAMPION):
        return None
    pointer = store.read_json(CHAMPION)
    words: dict[str, type] = dict.fromkeys(("version", "family", "file", "sha256", "since"), str)
    documents.check_document(pointer, words | {"reasons": list}, store.url(CHAMPION))
    return pointer


def champion_entry(store: Store, pointer: ChampionPointer) -> VersionEntry:
    """The entry of the champion's version.

    Raises as :func:`entry` does, and BundleError if the version's bundle is not the one that was promoted.
    """
    version_entry, name = entry(store, pointer["version"]), bundle_name(pointer["family"])
    _require_file(version_entry, name)
    registered = version_entry["files"][name]["sha256"]
    if registered != pointer["sha256"]:
        raise BundleError(
            f"{CHAMPION} says that the champion's {name} has sha256 {pointer['sha256']}; the entry of version "
            f"{pointer['version']} says {registered}. One of the two was changed: promote a version that you trust, "
            "or roll back"
        )
    return version_entry


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
        documents.check_document(decision, words | {"reasons": list}, place)
        decisions.append(decision)
    return decisions


def load(store: Store, entry: VersionEntry, name: str, *, recipe: str) -> Any:
    """One of a version's pickles from the store, checked and opened by :func:`open_pickle`.

    Raises ConfigurationError if the version has no file of this name.
    """
    return open_pickle(read_file(store, entry, name), entry, name, recipe=recipe)


def read_file(store: Store, entry: VersionEntry, name: str) -> bytes:
    """One of a version's files, not checked. Raises ConfigurationError if it has none of this name."""
    _require_file(entry, name)
    return store.read_bytes(f"models/{entry['version']}/{name}")


def open_pickle(
    data: bytes, entry: VersionEntry, name: str, *, recipe: str, read: Callable[[bytes], Any] = unpickle
) -> Any:
    """Unpickle a version's file after all checks that are possible before.

    Parameters
    ----------
    data : bytes
    entry : VersionEntry
    name : str
        The file's name.
    recipe : str
        The feature recipe that this code computes.
    read : callable
        :func:`emotion.models.fitted.read` for a bundle that only answers.

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
    return read(data)


def _require_file(entry: VersionEntry, name: str) -> None:
    if name not in entry["files"]:
        raise ConfigurationError(
            f"version {entry['version']} has no {name}; it has {', '.join(entry['files'])}: name one of them"
        )


def decide(store: Store, decision: dict, *, compared_with: Mapping | None) -> dict:
    """Record a decision about a version and carry it out, if the champion is still the one it was compared with.

    Parameters
    ----------
    store : Store
    decision : dict
        ``decision`` (``promoted`` or ``kept``), ``version``, ``family``, ``policy``, ``by``, ``reasons``.
    compared_with : mapping or None
        The champion that the challenger was compared with: ``version``, ``family``, ``since``. None if there was none.

    Returns
    -------
    dict
        The decision with its ``time`` and ``compared_with``. It is ``kept`` if another model became champion meanwhile:
        a person may answer after hours. A second decision from the same comparison, as of a task that is tried again,
        changes nothing: the recorded one is returned.
    """
    compared = _identity(compared_with)
    with store.lock(LOCK):
        for past in history(store):
            is_same_version = past["version"] == decision["version"] and past["decision"] in ("promoted", "kept")
            if is_same_version and past.get("compared_with", compared) == compared:
                if past["decision"] == "promoted" and _last_promoted_version(store) == past["version"]:
                    _point(store, past)
                return past
        recorded = decision | {"compared_with": compared, "time": now()}
        # A champion that cannot be read is kept, too.
        current = champion(store) if decision["decision"] == "promoted" else None
        if decision["decision"] == "promoted" and _identity(current) != compared:
            recorded |= {"decision": "kept", "reasons": [*decision["reasons"], _changed_meanwhile(compared, current)]}
        _carry_out(store, recorded)
    return recorded


def _identity(pointer: Mapping | None) -> dict | None:
    """What identifies a champion: the same model may become champion twice."""
    return {key: pointer.get(key) for key in ("version", "family", "since")} if pointer else None


def _changed_meanwhile(compared: Mapping | None, current: Mapping | None) -> str:
    before, after = (f"{each['version']} ({each['family']})" if each else "none" for each in (compared, current))
    return (
        f"The champion changed meanwhile: the challenger was compared with {before}; the champion is now {after}. It "
        "is kept. To compare again, clear the task register_challenger."
    )


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
    with store.lock(LOCK):
        current = champion(store)
        if current and (current["version"], current["family"]) == (version, family):
            raise DataError(
                f"{version} ({family}) is the champion already, since {current['since']}: nothing to promote"
            )
        recorded: dict = {"decision": "promoted", "version": version, "family": family, "policy": "by hand"}
        recorded |= {"by": "a person", "reasons": [reason], "time": now()}
        _carry_out(store, recorded)
    return recorded


def rollback(store: Store, *, reason: str) -> dict:
    """Make the previous champion the champion again. Raises DataError if there is none."""
    with store.lock(LOCK):
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
        recorded: dict = {"decision": "rolled_back", "version": target["version"], "family": target["family"]}
        recorded |= {"from_version": current["version"], "reasons": [reason], "time": now()}
        _carry_out(store, recorded)
    return recorded


def _last_promoted_version(store: Store) -> str | None:
    """The version that the last promotion or roll-back made the champion."""
    pointed = [past["version"] for past in history(store) if past["decision"] in ("promoted", "rolled_back")]
    return pointed[-1] if pointed else None


def _carry_out(store: Store, decision: dict) -> None:
    lines = [*history(store), decision]
    store.write_bytes(HISTORY, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    if decision["decision"] != "kept":
        _point(store, decision)


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
