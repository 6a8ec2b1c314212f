"""A dataset of the catalogue, brought into the artifact store: its clips, a manifest of them, and a marker.

In the store, below ``datasets/<name>/``:

``audio/…``
    the clips as they came, byte for byte
``manifest.csv``
    a row per clip
``dataset.json``
    what the dataset is, written last: without it there is no dataset
``incoming/…``
    only during an import that replaces a dataset: the new clips, until all of them are there

Whether clips come from Zenodo, from a disk or from the synthesizer, they go through one import. It can be
killed at any moment; the next call goes on with what is there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import requests

from emotion.datasets.bucket_source import BucketSource, Stored
from emotion.datasets.catalogue import (
    Entry,
    RepositoryEntry,
    SynthesizedEntry,
    ZenodoEntry,
    find_entry,
)
from emotion.datasets.clips import Source, SourceClip, SourceClips
from emotion.datasets.download import check_disk, fetch_archives
from emotion.datasets.entry_facts import describe, inputs_hash
from emotion.datasets.http_client import Retry
from emotion.datasets.manifest import manifest_rows, manifest_table, parse_manifest
from emotion.datasets.published import expanded_bytes, from_archives
from emotion.datasets.repository import fetch_repository
from emotion.datasets.sources import from_disk, resolve, synthesized
from emotion.errors import ConfigurationError, DataError
from emotion.progress import StageProgress, no_progress, stage_of
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import EMOTIONS

log = logging.getLogger(__name__)

_OF_EARLIER_IMPORTS: dict[str, Any] = {"left_out": {}, "emotion_colours": {}, "language": None, "listeners": None}
"""Facts that datasets lack which were stored before there were such facts; nothing of them was left out."""
OBJECTS = "objects.json"
"""Of a dataset that came from a bucket: stamp and sha256 of each object, by its URL."""
_NAME_BYTES = 255
"""The longest name of a file or folder that common file systems take."""


@dataclass(frozen=True)
class Dataset:
    """A dataset in the store.

    Attributes
    ----------
    name : str
    facts : dict
        What is known of it, as JSON values:

        - name, title, kind, source, citation, commercial_use, licence (id, name, url, model), as in the catalogue;
        - synthesized: whether the clips are no recordings;
        - complete: False if the catalogue expects other clips than these;
        - warnings, and notice, which is all of them in one text: to be shown wherever a figure of this dataset is;
        - fingerprint: SHA-256 over every clip's content, emotion and speaker;
        - language, listeners (low, high, measured, source; or None), emotion_colours (of the emotions that the entry
          declares and gives a colour), as in the catalogue;
        - clips, unique (without byte-identical copies), speakers, unreadable (no duration in the header), seconds,
          bytes, emotions (number of clips of each: the eight, then others that are there);
        - left_out: number of recordings by word, of the words that the catalogue maps to null;
        - folds: published speaker-independent folds, lists of speakers as in the manifest, or None; folds_scheme;
        - origin: where the clips came from; archives: key, bytes, md5 and sha256 of each zip they came out of.
    """

    name: str
    facts: dict[str, Any]


def audio_folder(name: str) -> str:
    """The store's key below which a dataset's clips lie, at the ``path`` that the manifest gives.

    >>> audio_folder("ravdess-speech")
    'datasets/ravdess-speech/audio'
    """
    return _key(name, "audio")


def load(store: Store, name: str) -> Dataset:
    """A dataset that is in the store.

    Raises
    ------
    DataError
        If it is not in the store.
    """
    record = store.read_json(_key(name, "dataset.json"))
    return Dataset(name, _OF_EARLIER_IMPORTS | {key: value for key, value in record.items() if key != "made_from"})


def read_manifest(store: Store, name: str) -> pd.DataFrame:
    """The manifest: a row per clip, sorted by path, with the columns and dtypes of ``MANIFEST``.

    ``duration`` is in seconds, ``rate`` in Hz; ``duplicate_of`` is the path of the first clip with the same bytes,
    ``""`` for that first clip itself.

    Raises
    ------
    DataError
        If the dataset is not in the store.
    """
    return parse_manifest(store.read_bytes(_key(name, "manifest.csv")))


def is_ready(store: Store, settings: Settings, name: str, *, source: str | Path | None = None) -> bool:
    """Whether ``obtain`` with the same arguments would return what is stored, with no work and no network."""
    entry = find_entry(settings.catalogue, name)
    return _is_stored(store, entry, _inputs(entry, resolve(settings, entry, source), None))


def check_entries(settings: Settings, names: Iterable[str], sources: Mapping[str, str]) -> None:
    """Raise ConfigurationError if a dataset is not in the catalogue, or its source is not there: before any of them is
    brought into the store. ``sources``: name → the source of a dataset that has one."""
    for name in names:
        resolve(settings, find_entry(settings.catalogue, name), sources.get(name))


def obtain(
    store: Store,
    settings: Settings,
    name: str,
    *,
    source: str | Path | None = None,
    reviewed: SourceClips | None = None,
    progress: StageProgress = no_progress,
    session: requests.Session | None = None,
    retry: Retry | None = None,
) -> Dataset:
    """Bring a dataset of the catalogue into the store, or find that it is there.

    Parameters
    ----------
    source : str or Path, optional
        A folder, a zip or (for recordings of your own) a CSV, on disk or in a bucket, below one of
        ``settings.recordings``; a relative path is looked for there. Of a bucket, only objects are read that have
        changed since the last import. The folder of an entry of kind zenodo may hold its clips, its zips or both. It is
        imported again only if it has changed. Without it entries of kind zenodo and repository are downloaded, unless
        what is stored came out of the catalogue's archives.
    reviewed : SourceClips, optional
        Of an entry of kind reviewed, and of no other: :func:`emotion.review.training_clips.source_clips`.
    progress : callable
        Called with the stages ``download`` (unit ``B``), ``check`` and ``import`` (unit ``clips``).
    session : requests.Session, optional
        For proxies and certificates of your own.
    retry : Retry, optional
        How patient a download is.

    Raises
    ------
    ConfigurationError
        If the catalogue has no such dataset, ``source`` is missing or cannot be read, or the disk is too small.
    DownloadError
        If the host cannot be reached or keeps failing; the next call goes on where this one stopped.
    DataError
        If the clips are not what the catalogue says. What was stored before stays as it was.
    """
    entry = find_entry(settings.catalogue, name)
    found = resolve(settings, entry, source)
    inputs = _inputs(entry, found, reviewed)
    scratch = store.scratch(f"datasets/{name}")
    with store.lock(f"datasets/{name}"), ExitStack() as stack:
        if _is_stored(store, entry, inputs):
            _update_texts(store, entry)
        else:
            clips = reviewed or _found_clips(store, settings, entry, found, scratch, stack, progress, session, retry)
            made_from = [inputs, inputs_hash(entry, None)] if clips.as_published else [inputs]
            _import(store, entry, clips, made_from, progress)
            if isinstance(found, BucketSource):
                store.write_json(_key(name, OBJECTS), found.checksums)
        shutil.rmtree(scratch, ignore_errors=True)
    return load(store, name)


def _key(name: str, file: str) -> str:
    return f"datasets/{name}/{file}"


def _stored_objects(store: Store, name: str) -> dict[str, Stored]:
    """The objects of a bucket that are in the dataset as it is stored, by URL."""
    if not (store.exists(_key(name, OBJECTS)) and store.exists(_key(name, "manifest.csv"))):
        return {}
    manifest = read_manifest(store, name)
    paths = dict(zip(manifest["sha256"], manifest["path"], strict=True))
    return {
        url: Stored(stamp, sha256, f"{audio_folder(name)}/{paths[sha256]}")
        for url, (stamp, sha256) in store.read_json(_key(name, OBJECTS)).items()
        if sha256 in paths
    }


def _inputs(entry: Entry, source: Source | None, reviewed: SourceClips | None) -> str:
    """A hash of all that decides which clips the dataset has and what their labels are."""
    of_entry = inputs_hash(entry, source)
    if reviewed is None:
        return of_entry
    of_clips = [[clip.path, clip.labels] for clip in reviewed.clips]
    return hashlib.sha256(json.dumps([of_entry, of_clips, reviewed.folds]).encode()).hexdigest()


def _found_clips(
    store: Store,
    settings: Settings,
    entry: Entry,
    source: Source | None,
    scratch: Path,
    stack: ExitStack,
    progress: StageProgress,
    session: requests.Session | None,
    retry: Retry | None,
) -> SourceClips:
    """The clips of an entry, whatever its kind: synthesized, from a disk or downloaded."""
    if isinstance(entry, SynthesizedEntry):
        return synthesized(entry)
    if source:
        return _clips_from_disk(store, settings, entry, source, scratch, stack, progress)
    return _downloaded_clips(store, settings, entry, scratch, stack, progress, session, retry)


def _clips_from_disk(
    store: Store,
    settings: Settings,
    entry: Entry,
    source: Source,
    scratch: Path,
    stack: ExitStack,
    progress: StageProgress,
) -> SourceClips:
    if isinstance(source, BucketSource):
        stored = _stored_objects(store, entry.name)
        source = replace(source, cache=scratch / "objects", store=store, stored=stored)
    clips = from_disk(settings, entry, source, stack)
    if store.is_local:
        copies = 2 if isinstance(source, BucketSource) else 1
        check_disk(scratch, copies * sum(clip.size for clip in clips.clips))
    # All is read before anything stored is replaced: a bad source must not cost a good dataset.
    manifest_table(manifest_rows(clips.clips, stage_of(progress, "check", "clips")))
    return clips


def _downloaded_clips(
    store: Store,
    settings: Settings,
    entry: Entry,
    scratch: Path,
    stack: ExitStack,
    progress: StageProgress,
    session: requests.Session | None,
    retry: Retry | None,
) -> SourceClips:
    assert isinstance(entry, (ZenodoEntry, RepositoryEntry))  # resolve() gives every folder entry a source
    room_for = sum(limit or 0 for limit in expanded_bytes(entry)) if store.is_local else 0
    fetch = (
        partial(fetch_archives, settings, entry)
        if isinstance(entry, ZenodoEntry)
        else partial(fetch_repository, settings, entry)
    )
    paths = fetch(scratch, room_for=room_for, progress=progress, session=session, retry=retry)
    return from_archives(settings, entry, paths, stack)


def _is_stored(store: Store, entry: Entry, inputs: str) -> bool:
    """Whether the dataset in the store is whole and made from these inputs."""
    marker = _key(entry.name, "dataset.json")
    if not store.exists(marker):
        return False
    record = store.read_json(marker)
    if inputs not in record["made_from"] or not store.exists(_key(entry.name, "manifest.csv")):
        return False
    if len(store.list(audio_folder(entry.name))) != record["clips"]:
        log.warning("%s: clips were added to or deleted from the store; it is made again", entry.name)
        return False
    return True


def _update_texts(store: Store, entry: Entry) -> None:
    """Bring the texts of a stored dataset to those of the catalogue."""
    marker = _key(entry.name, "dataset.json")
    record = store.read_json(marker)
    current = record | describe(entry)
    if current != record:
        store.write_json(marker, current)


def _import(store: Store, entry: Entry, clips: SourceClips, made_from: list[str], progress: StageProgress) -> None:
    """Write clips, manifest and marker, in this order, in place of what was stored under the name.

    Where a dataset is stored, the new clips are first written aside: until all of them are there, it stays whole.
    """
    _check_paths(clips.clips)
    paths = {clip.path for clip in clips.clips}
    folder, marker = audio_folder(entry.name), _key(entry.name, "dataset.json")
    incoming = _key(entry.name, "incoming")
    replaces = store.exists(marker)
    if not replaces:
        store.delete(incoming)
    target = incoming if replaces else folder
    _keep_only(store, target, paths)
    try:
        manifest = manifest_table(_write_clips(store, clips.clips, folder, target, progress))
    except Exception:
        if replaces:
            store.delete(incoming)
        raise
    store.delete(marker)
    if replaces:
        _keep_only(store, folder, paths)
        for key in store.list(incoming):
            store.rename(key, folder + key.removeprefix(incoming))
        store.delete(incoming)
    store.write_table(_key(entry.name, "manifest.csv"), manifest)
    facts = describe(entry) | _facts(clips, manifest)
    if clips.folds:
        facts |= {"folds": clips.folds, "folds_scheme": clips.folds_scheme}
    store.write_json(marker, facts | {"made_from": made_from})
    for warning in clips.warnings:
        log.warning("%s: %s", entry.name, warning)


def _write_clips(
    store: Store, clips: list[SourceClip], folder: str, target: str, progress: StageProgress
) -> Iterator[dict[str, Any]]:
    """Write clips to ``target``, but for those that are there or in ``folder``; yields their rows of the manifest."""
    present = {*store.list(folder), *store.list(target)}

    def put(path: str, data: bytes) -> None:
        stored_key, key = f"{folder}/{path}", f"{target}/{path}"
        if stored_key in present and store.read_bytes(stored_key) == data:
            if key != stored_key:
                store.delete(key)
        elif key not in present or store.read_bytes(key) != data:
            _write_clip(store, key, path, data)

    return manifest_rows(clips, stage_of(progress, "import", "clips"), put)


def _write_clip(store: Store, key: str, path: str, data: bytes) -> None:
    try:
        store.write_bytes(key, data)
    except OSError as error:
        cause = f"{path} cannot be stored at {store.url(key)}: {error.strerror or error}"
        if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOTDIR, errno.EISDIR):
            raise DataError(f"{cause}; rename it in the source") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConfigurationError(f"{cause}; make room and start again") from error
        raise OSError(error.errno, cause) from error


def _keep_only(store: Store, folder: str, paths: set[str]) -> None:
    """Delete the files below a folder that have other paths, and the subfolders that stand where a file is to be."""
    for key in store.list(folder):
        path = PurePosixPath(key.removeprefix(f"{folder}/"))
        if str(path) not in paths:
            store.delete(key)
            for parent in path.parents:
                if str(parent) in paths:
                    store.delete(f"{folder}/{parent}")


def _check_paths(clips: list[SourceClip]) -> None:
    """Raise DataError if a clip's name is too long for a file system, or is the name of another clip's folder too."""
    paths = {clip.path for clip in clips}
    for clip in clips:
        place = PurePosixPath(clip.path)
        if any(len(part.encode()) > _NAME_BYTES for part in place.parts):
            raise DataError(
                f"{clip.path} has a name of more than {_NAME_BYTES} bytes, which file systems do not take; shorten it"
            )
        for parent in place.parents:
            if str(parent) in paths:
                raise DataError(f"{parent} is a recording and also the folder of {clip.path}; rename one of them")


def _facts(clips: SourceClips, manifest: pd.DataFrame) -> dict[str, Any]:
    """What is known of a dataset besides what the catalogue says; see :class:`Dataset`."""
    counts = manifest["emotion"].value_counts()
    others = sorted(set(counts.index) - set(EMOTIONS))
    lines = sorted(f"{row.sha256} {row.emotion} {row.speaker}" for row in manifest.itertuples())
    return {
        "complete": clips.complete,
        "warnings": list(clips.warnings),
        "notice": " ".join(clips.warnings),
        "fingerprint": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "clips": len(manifest),
        "unique": int((manifest["duplicate_of"] == "").sum()),
        "speakers": int(manifest.loc[manifest["speaker"] != "", "speaker"].nunique()),
        "unreadable": int(manifest["duration"].isna().sum()),
        "seconds": round(float(manifest["duration"].sum()), 3),
        "bytes": int(manifest["bytes"].sum()),
        "emotions": {emotion: int(counts.get(emotion, 0)) for emotion in (*EMOTIONS, *others)},
        "left_out": clips.left_out,
        "origin": clips.origin,
        "archives": list(clips.archives),
    }
