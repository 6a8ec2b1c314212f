"""A dataset of the catalogue, brought into the artifact store: its clips, a manifest of them, and a marker.

In the store, below ``datasets/<name>/``:

``audio/…``
    the clips as they came, byte for byte
``manifest.csv``
    a row per clip
``dataset.json``
    what the dataset is, written last: without it there is no dataset

Whether clips come from Zenodo, from a disk or from the synthesizer, they go through one import. It can be
killed at any moment; the next call goes on with what is there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import requests

from emotion.datasets.catalogue import Entry, FolderEntry, SynthesizedEntry, ZenodoEntry, find_entry
from emotion.datasets.clips import SourceClips, source_files, speaker_name
from emotion.datasets.download import check_disk, fetch_archives
from emotion.datasets.http_client import Retry
from emotion.datasets.manifest import manifest_rows, manifest_table, parse_manifest
from emotion.datasets.sources import from_archives, from_disk, resolve, synthesized
from emotion.datasets.synthesis import VERSION
from emotion.progress import StageProgress, no_progress, stage_of
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import EMOTIONS

log = logging.getLogger(__name__)

_FORMAT = 1
"""Of what is stored. A new number makes every dataset again."""


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
        - clips, unique (without byte-identical copies), speakers, unreadable (no duration in the header), seconds,
          bytes, emotions (number of clips of each);
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
    return Dataset(name, {key: value for key, value in record.items() if key != "made_from"})


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


def is_ready(store: Store, settings: Settings, name: str, *, source: Path | None = None) -> bool:
    """Whether ``obtain`` with the same arguments would return what is stored, with no work and no network."""
    entry = find_entry(settings.catalogue, name)
    return _is_stored(store, entry, _inputs(entry, resolve(settings, entry, source)))


def obtain(
    store: Store,
    settings: Settings,
    name: str,
    *,
    source: Path | None = None,
    progress: StageProgress = no_progress,
    session: requests.Session | None = None,
    retry: Retry | None = None,
) -> Dataset:
    """Bring a dataset of the catalogue into the store, or find that it is there.

    Parameters
    ----------
    source : Path, optional
        A folder, a zip or (for recordings of your own) a CSV on disk, below one of ``settings.recordings``; a relative
        path is looked for there. RAVDESS's folder may hold its clips, its zips or both. It is imported again only if
        it has changed. Without it RAVDESS is downloaded, unless what is stored came out of the catalogue's archives.
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
    source = resolve(settings, entry, source)
    inputs = _inputs(entry, source)
    scratch = store.scratch(f"datasets/{name}")
    with store.lock(f"datasets/{name}"), ExitStack() as stack:
        if _is_stored(store, entry, inputs):
            _update_texts(store, entry)
        else:
            if isinstance(entry, SynthesizedEntry):
                clips = synthesized(entry)
            elif source:
                clips = _clips_from_disk(store, settings, entry, source, scratch, stack, progress)
            else:
                clips = _downloaded_clips(store, settings, entry, scratch, stack, progress, session, retry)
            made_from = [inputs, _inputs(entry, None)] if clips.as_published else [inputs]
            _import(store, entry, clips, made_from, progress)
        shutil.rmtree(scratch, ignore_errors=True)
    return load(store, name)


def _key(name: str, file: str) -> str:
    return f"datasets/{name}/{file}"


def _clips_from_disk(
    store: Store,
    settings: Settings,
    entry: Entry,
    source: Path,
    scratch: Path,
    stack: ExitStack,
    progress: StageProgress,
) -> SourceClips:
    clips = from_disk(settings, entry, source, stack)
    if store.is_local:
        check_disk(scratch, sum(clip.size for clip in clips.clips))
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
    assert isinstance(entry, ZenodoEntry)  # resolve() gives every folder entry a source
    room_for = sum(archive.expanded_bytes for archive in entry.archives) if store.is_local else 0
    paths = fetch_archives(settings, entry, scratch, room_for=room_for, progress=progress, session=session, retry=retry)
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
    current = record | _description(entry)
    if current != record:
        store.write_json(marker, current)


def _description(entry: Entry) -> dict[str, Any]:
    """What the catalogue says of a dataset, as ``dataset.json`` has it."""
    folds = entry.folds and [[speaker_name(entry, name) for name in fold] for fold in entry.folds.speakers]
    return {
        "name": entry.name,
        "title": entry.title,
        "kind": entry.kind,
        "synthesized": isinstance(entry, SynthesizedEntry),
        "licence": entry.licence.model_dump(),
        "commercial_use": entry.commercial_use,
        "source": entry.source,
        "citation": entry.citation,
        "folds": folds,
        "folds_scheme": entry.folds and entry.folds.scheme,
    }


def _inputs(entry: Entry, source: Path | None) -> str:
    """A hash of all that decides which clips the dataset has and what their labels are."""
    parts: list[Any] = [_FORMAT, entry.kind, entry.speaker_prefix]
    if isinstance(entry, ZenodoEntry):
        parts += [entry.record, [archive.model_dump() for archive in entry.archives]]
    elif isinstance(entry, SynthesizedEntry):
        parts += [VERSION, entry.speakers, entry.repetitions]
    elif isinstance(entry, FolderEntry):
        parts += [sorted(entry.labels.items())]
    if source:
        files = source_files(source.parent) if source.suffix.lower() == ".csv" else source_files(source)
        parts += [str(source), [(path, status.st_size, status.st_mtime_ns) for path, _, status in files]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _import(store: Store, entry: Entry, clips: SourceClips, made_from: list[str], progress: StageProgress) -> None:
    """Write clips, manifest and marker, in this order, in place of what was stored under the name."""
    folder = audio_folder(entry.name)
    present = set(store.list(folder))
    store.delete(_key(entry.name, "dataset.json"))

    def put(path: str, data: bytes) -> None:
        key = f"{folder}/{path}"
        if key not in present or store.read_bytes(key) != data:
            store.write_bytes(key, data)
        present.discard(key)

    manifest = manifest_table(manifest_rows(clips.clips, stage_of(progress, "import", "clips"), put))
    for key in sorted(present):
        store.delete(key)
    store.write_table(_key(entry.name, "manifest.csv"), manifest)
    facts = _description(entry) | _facts(clips, manifest)
    store.write_json(_key(entry.name, "dataset.json"), facts | {"made_from": made_from})
    for warning in clips.warnings:
        log.warning("%s: %s", entry.name, warning)


def _facts(clips: SourceClips, manifest: pd.DataFrame) -> dict[str, Any]:
    """What is known of a dataset besides what the catalogue says; see :class:`Dataset`."""
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
        "emotions": {emotion: int((manifest["emotion"] == emotion).sum()) for emotion in EMOTIONS},
        "origin": clips.origin,
        "archives": list(clips.archives),
    }
