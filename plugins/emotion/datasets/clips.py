"""The clips of a source, labelled and not yet read; the files of a folder, seen safely."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from emotion.datasets.archives import MAX_MEMBER_BYTES, Member
from emotion.datasets.bucket_source import BucketSource
from emotion.datasets.catalogue import Entry
from emotion.errors import ConfigurationError, DataError
from emotion.settings import Settings

AUDIO_SUFFIXES = frozenset(
    {
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
        ".w64",
        ".rf64",
        ".m4a",
        ".aac",
        ".wma",
    }
)
"""The endings of recordings. Files with the last three cannot be decoded: later stages reject them."""


@dataclass(frozen=True)
class SourceClip:
    """A clip to import.

    Attributes
    ----------
    path : str
        Where it will lie in the dataset.
    labels : dict
        The values of its row in the manifest, without those that are read from its content.
    size : int
        Bytes, for an estimate; 0 if not known.
    read : callable
        Returns its bytes; raises DataError if they are damaged.
    """

    path: str
    labels: dict[str, Any]
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class SourceClips:
    """The clips of a source, and facts about the source.

    Attributes
    ----------
    clips : list of SourceClip
    origin : str
        Where they come from.
    warnings : tuple of str
        Sentences to show wherever a figure of the dataset is shown.
    complete : bool
        Whether they are the clips that the catalogue expects.
    as_published : bool
        Whether they came out of the very archives that the catalogue names.
    archives : tuple of dict
        Of each zip that they came out of: key, bytes, md5 and sha256.
    left_out : dict
        The number of recordings that are left out, by their word for the emotion, which the catalogue maps to null.
    folds : tuple of tuple of str
        The speakers of each speaker-independent fold, where these depend on the clips; else empty.
    folds_scheme : str
        What these folds are called.
    """

    clips: list[SourceClip]
    origin: str
    warnings: tuple[str, ...] = ()
    complete: bool = True
    as_published: bool = False
    archives: tuple[dict[str, Any], ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    folds: tuple[tuple[str, ...], ...] = ()
    folds_scheme: str = ""


def speaker_name(entry: Entry, name: str) -> str:
    """A speaker's name as it is in the manifest: distinct from the speakers of other datasets.

    >>> from emotion.datasets.catalogue import find_entry
    >>> from emotion.settings import INCLUDE
    >>> speaker_name(find_entry(INCLUDE / "datasets.yaml", "ravdess-speech"), "07")
    'ravdess:07'
    """
    return f"{entry.speaker_prefix}:{name}"


def is_audio(path: str) -> bool:
    """Whether a file is a recording, by its name.

    >>> is_audio("calls/1.WAV"), is_audio("labels.csv")
    (True, False)
    """
    return PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES


def recordings_folders(settings: Settings) -> str:
    """The folders that recordings may come from, as ``EMOTION_RECORDINGS`` lists them."""
    return os.pathsep.join(map(str, settings.recordings))


def source_files(source: Path) -> list[tuple[str, Path, os.stat_result]]:
    """A file, or the files of a folder without the hidden ones, as (relative path, path, stat), sorted.

    Raises
    ------
    ConfigurationError
        If a folder cannot be read.
    DataError
        If the folder holds a link to a folder, or what is neither a file nor a folder.
    """

    def refuse(error: OSError) -> None:
        raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}")

    if not source.is_dir():
        return [(source.name, source, source.stat())]
    files = []
    for folder, subfolders, names in os.walk(source, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and name != "__MACOSX"]
        for name in subfolders:
            if os.path.islink(os.path.join(folder, name)):
                raise DataError(f"{os.path.join(folder, name)} is a link to a folder; such are not followed: copy it")
        for name in names:
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if not path.is_file():
                raise DataError(f"{path} is neither a file nor a folder; remove it")
            files.append((path.relative_to(source).as_posix(), path, path.stat()))
    return sorted(files, key=lambda file: file[0])


Source = Path | BucketSource
"""A folder, a zip or a CSV with recordings, on a disk or in a bucket."""


def folder_members(settings: Settings, folder: Source) -> list[Member]:
    """The files of a folder, sorted by path, as the members of a zip are listed.

    Raises
    ------
    ConfigurationError, DataError
        As :func:`source_files`, and if a name cannot be stored or a link leads out of the folders that recordings may
        come from.
    """
    if isinstance(folder, BucketSource):
        return folder.members()
    roots = [root.resolve() for root in settings.recordings if isinstance(root, Path)]
    members = []
    for relative, path, status in source_files(folder):
        if "\\" in relative or not relative.isprintable():
            raise DataError(f"{str(path)!r} has a backslash or an unprintable character in its name; rename it")
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in roots):
            raise DataError(
                f"{path} is a link to {path.resolve()}, outside {recordings_folders(settings)} (EMOTION_RECORDINGS)"
            )
        members.append(Member(relative, status.st_size, partial(_read_file, path)))
    return members


def local_file(source: Source) -> Path:
    """A zip as a file of this machine; one of a bucket is fetched first."""
    return source if isinstance(source, Path) else source.fetched()


def _read_file(path: Path) -> bytes:
    with open(path, "rb") as handle:
        data = handle.read(MAX_MEMBER_BYTES + 1)
    if len(data) > MAX_MEMBER_BYTES:
        raise DataError(f"{path} is longer than {MAX_MEMBER_BYTES:,} bytes; split it into clips of one emotion")
    return data
