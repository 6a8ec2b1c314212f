"""Versions of models, and the champion among them.

``models/<version>/`` holds one training run's bundles, fold models, model card, drift reference and ``version.json``.
``version.json`` is written last: a version exists once that file exists, and never changes afterwards.
Processes that write the same version wait for each other (:meth:`emotion.store.Store.lock`).
``models/promotions.jsonl`` is the history of every decision, and the truth: :mod:`emotion.models.decisions` adds to it.
``models/champion.json`` points to one bundle and follows from the last promotion or roll-back in the history.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict

from emotion.errors import BundleError, ConfigurationError, DataError, StoreError
from emotion.evaluation.coverage import CoveragePoint
from emotion.models import documents
from emotion.models.bundle import FORMAT, check_loadable, packages, unpickle, verify
from emotion.store import Store

log = logging.getLogger(__name__)

ENTRY = "version.json"
CHAMPION = "models/champion.json"
HISTORY = "models/promotions.jsonl"


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
    """The content of ``models/champion.json``: which bundle is the champion, since when, and why.

    ``sha256`` is ``""`` where it is not known, as the version is not there any more; that is never stored.
    """

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

    A version that exists already is returned as it is: it never changes. :func:`register_run` finds the name that the
    content of a run is registered under.

    Raises
    ------
    ConfigurationError
        If this store cannot keep two processes from writing one version at once.
    StoreError
        If the lock of the version was lost meanwhile.

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
    with store.lock(f"models/{version}") as held:
        if store.exists(key):
            return _read_entry(store, key)
        for name, data in {**files, "model_card.md": card.encode()}.items():
            store.write_bytes(f"models/{version}/{name}", data)
            if not held:  # another process may write the version by now
                raise StoreError(f"version {version} was not registered: its lock was lost; start again")
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
        if not store.create(key, store.format_json(version_entry)):
            return _read_entry(store, key)  # another process was first
        return version_entry


def register_run(
    store: Store, run: str, *, files: dict[str, bytes], card: Callable[[str], str], facts: VersionFacts
) -> VersionEntry:
    """Register the content of a run, under the name from :func:`free_name`.

    As :func:`register`; ``card`` makes the model card from the version's name.
    """
    while True:
        version = free_name(store, run, files)
        version_entry = register(store, version, files=files, card=card(version), facts=facts)
        if _has_pickles(version_entry, files):
            return version_entry  # otherwise another content got this name meanwhile


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
    name, number = version, 1
    while store.exists(_entry_key(name)) and not _has_pickles(entry(store, name), files):
        number += 1
        name = f"{version}-{number}"
    return name


def _has_pickles(version_entry: VersionEntry, files: dict[str, bytes]) -> bool:
    """Whether a version's pickles are those among the files, no fewer and no more."""
    registered = {name: facts["sha256"] for name, facts in version_entry["files"].items() if name.endswith(".pkl")}
    return registered == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name.endswith(".pkl")
    }


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
        known = ", ".join(each.split("/")[1] for each in store.list("models", ENTRY)) or "none yet"
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


def champion(store: Store, decisions: list[dict] | None = None) -> ChampionPointer | None:
    """The champion's pointer, or None where no model was promoted yet.

    Where a process died after it had written a decision into the history, the pointer is what it would have written.

    Parameters
    ----------
    store : Store
    decisions : list of dict, optional
        The history, if it was read already.

    Raises
    ------
    DataError
        If the pointer is damaged; if there is none, also if the history is.

    Examples
    --------
    >>> champion(Store("memory://doctest-no-champion")) is None
    True
    """
    pointer = parse_pointer(store, store.read_many([CHAMPION]).get(CHAMPION))
    try:
        return champion_after(store, pointer, history(store) if decisions is None else decisions)
    except DataError as error:
        if pointer is None:
            raise
        log.warning("%s. Until then the champion is the one of %s", error, store.url(CHAMPION))
        return pointer


def parse_pointer(store: Store, data: bytes | None) -> ChampionPointer | None:
    """The content of ``models/champion.json``, checked; None for None."""
    if data is None:
        return None
    pointer = store.parse_json(CHAMPION, data)
    words: dict[str, type] = dict.fromkeys(("version", "family", "file", "sha256", "since"), str)
    documents.check_document(pointer, words | {"reasons": list}, store.url(CHAMPION))
    return pointer


def identity(pointer: Mapping | None) -> dict | None:
    """What identifies a champion: the same model may become champion twice."""
    return {key: pointer.get(key) for key in ("version", "family", "since")} if pointer else None


def champion_after(store: Store, pointer: ChampionPointer | None, decisions: list[dict]) -> ChampionPointer | None:
    """The champion after these decisions: the pointer, if it says the same as the last promotion or roll-back.

    A version that was deleted since stays the champion, so that readers say what is missing: :func:`champion_entry`.
    """
    last = next((past for past in reversed(decisions) if past["decision"] in ("promoted", "rolled_back")), None)
    if last is None or identity(pointer) == identity(last | {"since": last["time"]}):
        return pointer
    name, key = bundle_name(last["family"]), _entry_key(last["version"])
    files = _read_entry(store, key)["files"] if store.exists(key) else {}
    return {
        "version": last["version"],
        "family": last["family"],
        "file": f"models/{last['version']}/{name}",
        "sha256": files[name]["sha256"] if name in files else "",
        "since": last["time"],
        "reasons": last["reasons"],
    }


def champion_entry(store: Store, pointer: ChampionPointer) -> VersionEntry:
    """The entry of the champion's version.

    Raises
    ------
    ConfigurationError
        If the version is not there any more, or has no bundle of this family.
    DataError
        If its ``version.json`` is damaged.
    BundleError
        If its bundle is not the one that was promoted.
    """
    name = bundle_name(pointer["family"])
    try:
        version_entry = entry(store, pointer["version"])
        require_file(version_entry, name)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}. The champion since {pointer['since']} is {pointer['version']} ({pointer['family']}): restore it "
            "from a backup, or make another version the champion with `emotion promote`"
        ) from None
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
    ``time``, ``id``; ``policy`` and ``by`` of a decision, ``from_version`` of a roll-back. Earlier releases wrote no
    ``id``. Raises DataError if a line is damaged.
    """
    return parse_history(store, store.read_many([HISTORY]).get(HISTORY))


def parse_history(store: Store, data: bytes | None) -> list[dict]:
    """As :func:`history`, from the content of the file; None where there is none."""
    decisions = []
    words: dict[str, type] = dict.fromkeys(("decision", "version", "family", "time"), str)
    for number, line in enumerate((data or b"").split(b"\n"), start=1):
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
    require_file(entry, name)
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
    check_pickle(data, entry, name, recipe=recipe)
    return read(data)


def check_pickle(data: bytes, entry: VersionEntry, name: str, *, recipe: str) -> None:
    """All checks of :func:`open_pickle`, which raises as this does."""
    verify(data, sha256=entry["files"][name]["sha256"], name=name)
    check_loadable(entry, recipe=recipe)


def require_file(entry: VersionEntry, name: str) -> None:
    """Raise ConfigurationError if a version has no file of this name."""
    if name not in entry["files"]:
        raise ConfigurationError(
            f"version {entry['version']} has no {name}; it has {', '.join(entry['files'])}: name one of them"
        )
