"""Corpora that others published: from downloaded archives or from a disk; compared with the catalogue."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from emotion.datasets.archives import Member, checksums, open_zip, zip_members
from emotion.datasets.catalogue import RepositoryEntry, ZenodoEntry
from emotion.datasets.clips import Source, SourceClip, SourceClips, folder_members, is_audio, local_file
from emotion.datasets.labelled_files import LabelledFile, clips_to_import, left_out_words
from emotion.datasets.named_files import common_folder, each_once, files_by_name
from emotion.datasets.ravdess import differences, is_by_actors, ravdess_clips, ravdess_files
from emotion.errors import DataError
from emotion.settings import Settings

PublishedEntry = ZenodoEntry | RepositoryEntry
"""An entry that can be downloaded."""


def from_archives(settings: Settings, entry: PublishedEntry, paths: list[Path], stack: ExitStack) -> SourceClips:
    """The clips of an entry's downloaded and checked archives, which stay open until the stack closes.

    Raises
    ------
    DataError
        If they do not hold what the catalogue says.
    """
    members: list[Member] = []
    for path, limit in zip(paths, expanded_bytes(entry), strict=True):
        members += zip_members(stack.enter_context(open_zip(path)), max_bytes=limit)
    files = _files(entry, members, entry.name)
    difference = _difference(entry, files)
    if difference:
        raise DataError(
            f"{settings.catalogue}: {entry.name}: the archives do not hold what it says: found {difference}"
        )
    if isinstance(entry, ZenodoEntry):
        origin = f"{settings.zenodo_url}/records/{entry.record}"
        keys = [archive.key for archive in entry.archives]
    else:
        origin, keys = entry.archive, [f"{entry.name}.zip"]
    return SourceClips(
        _clips(entry, files, from_zip=True),
        origin=origin,
        archives=tuple(archive_facts(key, path) for key, path in zip(keys, paths, strict=True)),
        left_out=left_out_words(files),
    )


def expanded_bytes(entry: PublishedEntry) -> list[int | None]:
    """How many bytes each archive of an entry may unpack to; None: no limit is known."""
    return (
        [archive.expanded_bytes for archive in entry.archives]
        if isinstance(entry, ZenodoEntry)
        else [entry.expanded_bytes]
    )


def published_from_disk(settings: Settings, entry: PublishedEntry, source: Source, stack: ExitStack) -> SourceClips:
    """The clips of a zip, or of a folder with its clips, its zips or both; zips stay open until the stack closes.

    A part of the dataset is taken, with a warning.

    Raises
    ------
    DataError
        If a zip cannot be used, or a recording is not named by the entry's rule.
    """
    loose: list[Member] = []
    zips = [source]
    if source.is_dir():
        loose = folder_members(settings, source)
        keys = [archive.key for archive in entry.archives] if isinstance(entry, ZenodoEntry) else []
        zips = [source / key for key in keys if (source / key).is_file()]
    members = list(loose)
    for path in zips:
        members += zip_members(stack.enter_context(open_zip(local_file(path))))
    files = _files(entry, members, str(source))
    archives = [archive_facts(path.name, local_file(path)) for path in zips]
    only_zips = not any(is_audio(member.path) for member in loose)
    difference = _difference(entry, files)
    return SourceClips(
        _clips(entry, files, from_zip=only_zips),
        origin=str(source),
        warnings=incomplete_warning(source, difference),
        complete=not difference,
        archives=tuple(archives),
        as_published=only_zips and _are_published(entry, archives) and not difference,
        left_out=left_out_words(files),
    )


def count_difference(files: list[LabelledFile], expected: int | None) -> str:
    """How many recordings of how many are there, in words; ``""`` if all are, or nobody knows how many there are."""
    return f"{len(files):,} of {expected:,} clips" if expected not in (None, len(files)) else ""


def incomplete_warning(source: Source, difference: str) -> tuple[str, ...]:
    """The warning that figures of this source are not those of the whole dataset; none if nothing differs."""
    if not difference:
        return ()
    return (f"Not the whole dataset: {source.name} has {difference}. Figures do not compare with those of the whole.",)


def archive_facts(key: str, path: Path) -> dict[str, Any]:
    """Name, length and checksums of a zip, as ``dataset.json`` lists them."""
    return {"key": key, "bytes": path.stat().st_size} | checksums(path)


def _files(entry: PublishedEntry, members: list[Member], source: str) -> list[LabelledFile]:
    if isinstance(entry, RepositoryEntry):
        return each_once(files_by_name(entry, entry.rule, members, source), entry.name)
    if is_by_actors(entry):
        return ravdess_files(entry, members, source)
    return each_once(files_by_name(entry, entry.naming, members, source), entry.name)


def _difference(entry: PublishedEntry, files: list[LabelledFile]) -> str:
    if isinstance(entry, RepositoryEntry):
        return count_difference(files, entry.clips)
    if is_by_actors(entry):
        return differences(entry, files)
    counts = [archive.clips for archive in entry.archives]
    return count_difference(files, None if None in counts else sum(filter(None, counts)))


def _clips(entry: PublishedEntry, files: list[LabelledFile], *, from_zip: bool) -> list[SourceClip]:
    if isinstance(entry, ZenodoEntry) and is_by_actors(entry):
        return ravdess_clips(files)
    return clips_to_import(files, below=common_folder(files) if from_zip else "")


def _are_published(entry: PublishedEntry, archives: list[dict[str, Any]]) -> bool:
    """Whether every archive of the entry is among these, byte for byte, as far as the catalogue knows its checksums."""
    if isinstance(entry, RepositoryEntry):
        return entry.sha256 in [facts["sha256"] for facts in archives]
    by_md5 = {facts["md5"]: facts for facts in archives}
    return all(
        archive.md5 in by_md5
        and archive.bytes in (None, by_md5[archive.md5]["bytes"])
        and archive.sha256 in (None, by_md5[archive.md5]["sha256"])
        for archive in entry.archives
    )
