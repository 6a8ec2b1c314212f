"""What an entry of the catalogue says of its dataset, and what of it decides which clips and labels there are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from emotion.datasets.bucket_source import BucketSource
from emotion.datasets.catalogue import (
    Entry,
    FolderEntry,
    RepositoryEntry,
    ReviewedEntry,
    SynthesizedEntry,
    ZenodoEntry,
)
from emotion.datasets.clips import Source, source_files, speaker_name
from emotion.datasets.rules import RAVDESS
from emotion.datasets.synthesis import VERSION

FORMAT = 1
"""Of what is stored. A new number makes every dataset again."""


def describe(entry: Entry) -> dict[str, Any]:
    """What the catalogue says of a dataset, as ``dataset.json`` has it.

    Reviewed clips have no published folds: theirs come with the clips.
    """
    return _published_folds(entry) | {
        "name": entry.name,
        "title": entry.title,
        "kind": entry.kind,
        "synthesized": isinstance(entry, SynthesizedEntry),
        "licence": entry.licence.model_dump(),
        "commercial_use": entry.commercial_use,
        "source": entry.source,
        "citation": entry.citation,
        "language": entry.language,
        "listeners": entry.listeners and entry.listeners.model_dump(),
        "emotion_colours": {emotion: colour for emotion, colour in _declared_emotions(entry).items() if colour},
    }


def _declared_emotions(entry: Entry) -> Mapping[str, str | None]:
    return {} if isinstance(entry, (SynthesizedEntry, ReviewedEntry)) else entry.emotions


def _published_folds(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, ReviewedEntry):
        return {}
    folds = entry.folds and [[speaker_name(entry, name) for name in fold] for fold in entry.folds.speakers]
    return {"folds": folds, "folds_scheme": entry.folds and entry.folds.scheme}


def inputs_hash(entry: Entry, source: Source | None) -> str:
    """A hash of all that decides which clips the dataset has and what their labels are."""
    parts: list[Any] = [FORMAT, entry.kind, entry.speaker_prefix]
    if isinstance(entry, ZenodoEntry):
        parts += [entry.record, [archive.model_dump() for archive in entry.archives]]
    elif isinstance(entry, SynthesizedEntry):
        parts += [VERSION, entry.speakers, entry.repetitions]
    elif isinstance(entry, FolderEntry):
        parts += [sorted(entry.labels.items())]
    elif isinstance(entry, RepositoryEntry):
        parts += [entry.archive, entry.sha256, entry.clips, sorted(entry.labels.items())]
    if not isinstance(entry, (SynthesizedEntry, ReviewedEntry)):
        parts += _naming(entry)
    if isinstance(source, BucketSource):
        parts += [str(source), (source.parent if source.suffix.lower() == ".csv" else source).stamps()]
    elif source:
        files = source_files(source.parent) if source.suffix.lower() == ".csv" else source_files(source)
        parts += [str(source), [(path, status.st_size, status.st_mtime_ns) for path, _, status in files]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _naming(entry: ZenodoEntry | RepositoryEntry | FolderEntry) -> list[Any]:
    """What decides about labels besides what entries had from the beginning: those of then keep their hash."""
    is_zenodo = isinstance(entry, ZenodoEntry)
    parts: list[Any] = []
    if entry.rule and not (is_zenodo and entry.rule == RAVDESS):
        parts += [entry.rule.model_dump()]
    if is_zenodo and entry.labels:
        parts += [sorted(entry.labels.items())]
    if isinstance(entry, FolderEntry) and entry.clips:
        parts += [entry.clips]
    return parts + ([sorted(entry.emotions)] if entry.emotions else [])
