"""Versions of models, the champion among them, and how the champion changes.

``models/<version>/`` holds one training run's bundles, fold models, model card and ``version.json``. That file is
written last: a version is there once it is there, and never changes. ``models/champion.json`` points to one bundle;
``models/promotions.jsonl`` is the history of every decision.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json

from emotion.errors import BundleError, ConfigurationError, DataError
from emotion.models.bundle import FORMAT, packages, unpickle, verify
from emotion.store import Store

ENTRY = "version.json"
CHAMPION = "models/champion.json"
HISTORY = "models/promotions.jsonl"


def bundle_name(family: str) -> str:
    """File name of a family's bundle."""
    return f"{family}_emotion_model.pkl"


def fold_models_name(family: str) -> str:
    """File name of the models that each held out some speakers."""
    return f"{family}_fold_models.pkl"


def now() -> str:
    """The time, UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def register(store: Store, version: str, *, files: dict[str, bytes], card: str, facts: dict) -> dict:
    """Write a version: its files, its model card, and last its entry.

    A version that is already there is returned as it is: it never changes.
    """
    key = f"models/{version}/{ENTRY}"
    if store.exists(key):
        return store.read_json(key)
    for name, data in files.items():
        store.write_bytes(f"models/{version}/{name}", data)
    store.write_bytes(f"models/{version}/model_card.md", card.encode())
    entry = {
        "version": version,
        "created": now(),
        "format": FORMAT,
        "packages": packages(),
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
        },
        **facts,
    }
    store.write_json(key, entry)
    return entry


def versions(store: Store) -> list[dict]:
    """The entries of all versions, oldest first."""
    entries = [store.read_json(key) for key in store.list("models", ENTRY)]
    return sorted(entries, key=lambda entry: (entry["created"], entry["version"]))


def entry(store: Store, version: str) -> dict:
    """A version's entry. Raises ConfigurationError if there is none."""
    key = f"models/{version}/{ENTRY}"
    if not store.exists(key):
        known = ", ".join(found["version"] for found in versions(store)) or "none yet"
        raise ConfigurationError(f"there is no model version {version!r}; versions: {known}")
    return store.read_json(key)


def champion(store: Store) -> dict | None:
    """The champion's pointer (version, family, since, reasons), or None where no model was promoted yet."""
    return store.read_json(CHAMPION) if store.exists(CHAMPION) else None


def history(store: Store) -> list[dict]:
    """Every promotion decision and roll-back, oldest first."""
    if not store.exists(HISTORY):
        return []
    return [json.loads(line) for line in store.read_bytes(HISTORY).decode().splitlines()]


def check_loadable(entry: dict, *, recipe: str) -> None:
    """Raise BundleError if this code must not load the version: another bundle format, feature recipe, or
    scikit-learn minor version."""
    version = entry["version"]
    if entry["format"] != FORMAT:
        raise BundleError(f"{version} has bundle format {entry['format']!r}; this code reads {FORMAT!r}: train again")
    if entry["recipe"] != recipe:
        raise BundleError(
            f"{version} was made for feature recipe {entry['recipe']!r}; this code computes {recipe!r}. "
            "Use the code it was made with, or train again"
        )
    made, here = entry["packages"]["scikit-learn"], packages()["scikit-learn"]
    if made.split(".")[:2] != here.split(".")[:2]:
        raise BundleError(
            f"{version} was made with scikit-learn {made}; found {here}, which may read it wrongly. "
            f"Install scikit-learn {made}, or train again"
        )


def load(store: Store, entry: dict, name: str, *, recipe: str) -> object:
    """Load one of a version's pickles from the store, checked as :func:`open_pickle` does."""
    return open_pickle(read_file(store, entry, name), entry, name, recipe=recipe)


def read_file(store: Store, entry: dict, name: str) -> bytes:
    """One of a version's files. Raises ConfigurationError if it has none of this name."""
    _require_file(entry, name)
    return store.read_bytes(f"models/{entry['version']}/{name}")


def open_pickle(data: bytes, entry: dict, name: str, *, recipe: str) -> object:
    """Unpickle ``data``, the file ``name`` of a version, once all that can be checked before was checked.

    Raises BundleError if the checksum differs from the entry's, or for what :func:`check_loadable` finds.
    """
    verify(data, sha256=entry["files"][name]["sha256"], name=name)
    check_loadable(entry, recipe=recipe)
    return unpickle(data)


def _require_file(entry: dict, name: str) -> None:
    if name not in entry["files"]:
        raise ConfigurationError(f"version {entry['version']} has no {name}; it has {', '.join(entry['files'])}")


def decide(store: Store, decision: dict) -> dict:
    """Carry out and record a promotion decision: ``{"decision": "promoted" | "kept", "version", "family", …}``.

    Deciding again about the same version changes nothing (a task may be tried twice) and returns what was recorded.
    """
    for past in history(store):
        if past["version"] == decision["version"] and past["decision"] in ("promoted", "kept"):
            if past["decision"] == "promoted" and _last_pointed(store) == past["version"]:
                _point(store, past)
            return past
    recorded = decision | {"time": now()}
    _record(store, recorded)
    if recorded["decision"] == "promoted":
        _point(store, recorded)
    return recorded


def promote_by_hand(store: Store, *, version: str, family: str, reason: str) -> dict:
    """Make a model the champion because a person says so, whatever was decided about its version before.

    Raises ConfigurationError if there is no such model, DataError if it is the champion already.
    """
    _require_file(entry(store, version), bundle_name(family))
    current = champion(store)
    if current and (current["version"], current["family"]) == (version, family):
        raise DataError(f"{version} ({family}) is the champion already, since {current['since']}")
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
    """Point to the champion before this one. Raises DataError if there is none."""
    current = champion(store)
    stack: list[dict] = []
    for past in history(store):
        if past["decision"] == "promoted":
            stack.append(past)
        elif past["decision"] == "rolled_back":
            stack.pop()
    if current is None or len(stack) < 2:
        raise DataError("there is no earlier champion to go back to; `emotion models` lists the versions")
    target = stack[-2]
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


def _last_pointed(store: Store) -> str | None:
    pointed = [past["version"] for past in history(store) if past["decision"] in ("promoted", "rolled_back")]
    return pointed[-1] if pointed else None


def _record(store: Store, decision: dict) -> None:
    lines = [*history(store), decision]
    store.write_bytes(HISTORY, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())


def _point(store: Store, decision: dict) -> None:
    found = entry(store, decision["version"])
    store.write_json(
        CHAMPION,
        {
            "version": decision["version"],
            "family": decision["family"],
            "file": f"models/{decision['version']}/{bundle_name(decision['family'])}",
            "sha256": found["files"][bundle_name(decision["family"])]["sha256"],
            "since": decision["time"],
            "reasons": decision["reasons"],
        },
    )
