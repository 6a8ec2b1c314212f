"""Reads a bundle and the registry entry that belongs to it, from the artifact store or from any folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from emotion import features
from emotion.errors import BundleError, ConfigurationError, DataError, EmotionError
from emotion.models import documents, registry
from emotion.models.bundle import verify
from emotion.models.classifier import Ensemble
from emotion.models.registry import ENTRY, VersionEntry
from emotion.store import Store
from emotion.vocabulary import FAMILIES

CHAMPION = "champion"


def read_from_store(store: Store, version: str | None, family: str | None) -> tuple[VersionEntry, str, bytes]:
    """Registry entry, name and content of a bundle in the artifact store.

    Without ``version``: the champion's bundle. Without ``family``: that of the family which the version selected.
    Raises ConfigurationError if there is no champion, or no such version or family; BundleError if the champion's
    bundle is not the one that was promoted.
    """
    if version is None:
        champion = registry.champion(store)
        if champion is None:
            raise ConfigurationError(
                f"there is no champion in {store.root} yet: train with make train or the DAG emotion_training, or "
                "promote a version"
            )
        entry, family = registry.champion_entry(store, champion), champion["family"]
    else:
        entry = registry.entry(store, version)
    name = registry.bundle_name(family or entry["selected"])
    return entry, name, registry.read_file(store, entry, name)


def read_named(store: Store, name: str) -> tuple[VersionEntry, str, bytes]:
    """As :func:`read_from_store`, by ``champion``, ``<version>`` or ``<version>/<family>``."""
    version, _, family = name.partition("/")
    return read_from_store(store, None if name == CHAMPION else version, family or None)


def check_named(store: Store, name: str) -> tuple[VersionEntry, str]:
    """Registry entry and family of a model whose bundle can be loaded, without the time that loading takes.

    Raises as :func:`read_from_store` and :func:`emotion.models.registry.open_pickle` do.
    """
    entry, file_name, data = read_named(store, name)
    registry.check_pickle(data, entry, file_name, recipe=features.recipe_version())
    return entry, file_name.removesuffix(registry.bundle_name(""))


def read_from_folder(path: Path) -> tuple[VersionEntry, str, bytes]:
    """Registry entry, name and content of a bundle with its version's ``version.json`` in the same folder.

    Raises BundleError if the file is not a bundle, or one of the two files is not there or cannot be read.
    """
    names = {registry.bundle_name(family) for family in (*FAMILIES, Ensemble.family)}
    if path.name not in names:
        raise BundleError(f"{path} is no model bundle; expected one of {', '.join(sorted(names))}")
    entry_path = path.parent / ENTRY
    try:
        data = path.read_bytes()
        entry: VersionEntry = json.loads(entry_path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(
            f"{error.filename} is not there; expected a bundle and the {ENTRY} of its version in one folder, as in "
            "the artifact store: copy both"
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} or the {ENTRY} beside it cannot be read: {error}") from error
    if not isinstance(entry, dict) or path.name not in (entry.get("files") or {}):
        raise BundleError(
            f"{entry_path} does not list {path.name}; expected the registry entry of the bundle's version"
        )
    try:
        documents.check_entry(entry, str(entry_path))
    except DataError as error:
        raise BundleError(str(error)) from None
    return entry, path.name, data


def require_registered(store: Store, entry: VersionEntry, name: str, data: bytes) -> None:
    """Raise BundleError if the bundle is damaged, or the store has no version with it: it may come from anybody.

    Parameters
    ----------
    store : Store
    entry : VersionEntry
        From beside the bundle.
    name : str
        The bundle's file name.
    data : bytes
        Its content.
    """
    verify(data, sha256=entry["files"][name]["sha256"], name=name)
    version, sha256 = str(entry.get("version")), hashlib.sha256(data).hexdigest()
    try:
        registered = registry.entry(store, version)["files"]
    except EmotionError:
        registered = {}
    if name not in registered or registered[name]["sha256"] != sha256:
        raise BundleError(
            f"the artifact store {store.root} has no version {version!r} with this {name} (sha256 {sha256}). A bundle "
            "can run any code when it is loaded: if you trust the people it comes from, pass trust=True "
            "(`emotion predict --trust`)"
        )
