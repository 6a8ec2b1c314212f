"""The clips of a source, labelled and not yet read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from emotion.datasets.archives import MAX_MEMBER_BYTES, Member
from emotion.datasets.catalogue import Entry
from emotion.errors import ConfigurationError, DataError
from emotion.settings import Settings

AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .m4a .aac .wma".split()
)
"""What counts as a recording by its name. The last three cannot be decoded: later stages reject them."""


@dataclass(frozen=True)
class SourceClip:
    """A clip to import.

    Attributes
    ----------
    path : str
        Where it is to lie in the dataset.
    labels : dict
        What the manifest says of it besides its content.
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
    """The clips of a source, and what is to be said of them.

    ``complete`` tells whether they are the clips that the catalogue expects, ``as_published`` whether they
    came out of the very archives that it names; ``archives`` has key, bytes, md5 and sha256 of each zip.
    """

    listed: list[SourceClip]
    origin: str
    warnings: tuple[str, ...] = ()
    complete: bool = True
    as_published: bool = False
    archives: tuple[dict[str, Any], ...] = ()


def speaker_name(entry: Entry, name: str) -> str:
    """A speaker's name as it is in the manifest: distinct from those of other datasets."""
    return f"{entry.speaker_prefix}:{name}"


def recordings_folders(settings: Settings) -> str:
    return os.pathsep.join(map(str, settings.recordings))


def source_files(source: Path) -> list[tuple[str, Path, os.stat_result]]:
    """A file, or the files of a folder less the hidden ones, as (relative path, path, stat), sorted."""

    def unreadable(error: OSError) -> None:
        raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}")

    if not source.is_dir():
        return [(source.name, source, source.stat())]
    found = []
    for folder, folders, names in os.walk(source, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise DataError(f"{os.path.join(folder, name)} is a link to a folder; such are not followed: copy it")
        for name in names:
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if not path.is_file():
                raise DataError(f"{path} is neither a file nor a folder; remove it")
            found.append((path.relative_to(source).as_posix(), path, path.stat()))
    return sorted(found, key=lambda file: file[0])


def folder_members(settings: Settings, folder: Path) -> list[Member]:
    roots = [root.resolve() for root in settings.recordings]
    members = []
    for relative, path, found in source_files(folder):
        if "\\" in relative or not relative.isprintable():
            raise DataError(f"{str(path)!r} has a backslash or an unprintable character in its name; rename it")
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in roots):
            raise DataError(
                f"{path} is a link to {path.resolve()}, outside {recordings_folders(settings)} (EMOTION_RECORDINGS)"
            )
        members.append(Member(relative, found.st_size, lambda path=path: _read_file(path)))
    return members


def _read_file(path: Path) -> bytes:
    with open(path, "rb") as handle:
        data = handle.read(MAX_MEMBER_BYTES + 1)
    if len(data) > MAX_MEMBER_BYTES:
        raise DataError(f"{path} is longer than {MAX_MEMBER_BYTES:,} bytes; split it into clips of one emotion")
    return data


def is_audio(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES
