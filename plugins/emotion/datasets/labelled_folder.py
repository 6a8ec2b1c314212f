"""Recordings of your own: emotion and speaker from the names of folders, or from a table of labels."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from emotion.datasets.archives import Member
from emotion.datasets.catalogue import FolderEntry
from emotion.datasets.clips import SourceClip, is_audio, speaker_name
from emotion.datasets.label_table import LABELS_FILE, check_emotions, emotion_of, read_label_table
from emotion.errors import DataError


def below_common_folder(entry: FolderEntry, members: list[Member]) -> list[Member]:
    """The members of a zip, without the one folder that holds everything, unless that folder is named for an emotion.

    A zip of a folder has that folder around everything.
    """
    tops = {PurePosixPath(member.path).parts[0] for member in members}
    in_one_folder = len(tops) == 1 and all("/" in member.path for member in members)
    if not in_one_folder or emotion_of(min(tops), entry.labels):
        return members
    return [Member(member.path.partition("/")[2], member.size, member.read) for member in members]


def clips_of_folders(entry: FolderEntry, members: list[Member], source: Path) -> list[SourceClip]:
    """The clips of folders: ``<emotion>/<clip>`` or ``<emotion>/<speaker>/…<clip>``.

    Raises
    ------
    DataError
        If a recording lies in no folder, a folder's name is no emotion, or some clips have a speaker and some do not.
    """
    rows: list[tuple[Member, dict[str, str]]] = []
    for member in members:
        if is_audio(member.path):
            folder, *subfolders = PurePosixPath(member.path).parts[:-1] or ("",)
            if not folder:
                raise DataError(
                    f"{source}: {member.path} lies in no emotion's folder; expected <emotion>/{member.path}, "
                    f"<emotion>/<speaker>/{member.path} or a {LABELS_FILE}"
                )
            rows.append((member, {"emotion": folder, "speaker": subfolders[0] if subfolders else ""}))
    check_emotions(
        [(labels["emotion"], member.path) for member, labels in rows],
        entry.labels,
        source=str(source),
        translated_in=f"under {entry.name}",
    )
    return _clips(
        entry,
        [(member, labels | {"emotion": emotion_of(labels["emotion"], entry.labels) or ""}) for member, labels in rows],
    )


def clips_of_table(entry: FolderEntry, members: dict[str, Member], table: str) -> tuple[list[SourceClip], list[str]]:
    """The clips that a table of labels lists, and warnings.

    Parameters
    ----------
    entry : FolderEntry
    members : dict
        The files of the source, by path.
    table : str
        The path of the table among them.

    Raises
    ------
    DataError
        If the table cannot be used, lists files that are not there, or some clips have a speaker and some do not.
    """
    rows = read_label_table(
        members[table].read(),
        table,
        translations=entry.labels,
        translated_in=f"under {entry.name}",
        needs_emotions=True,
    )
    absent = [f"line {row.line}: {row.path}" for row in rows if row.path not in members]
    if absent:
        raise DataError(
            f"{table} names {len(absent)} files that are not there, such as {'; '.join(absent[:3])}; "
            "expected paths relative to its own folder and below it, with /"
        )
    listed = {row.path for row in rows}
    unlisted = sum(is_audio(path) and path not in listed for path in members)
    warnings = [f"{unlisted} recordings are not in {table} and are left out."] if unlisted else []
    labels = [row.details | {"emotion": row.emotion, "speaker": row.speaker} for row in rows]
    return _clips(entry, [(members[row.path], of_row) for row, of_row in zip(rows, labels, strict=True)]), warnings


def _clips(entry: FolderEntry, rows: list[tuple[Member, dict[str, str]]]) -> list[SourceClip]:
    """Clips from files and their labels, in which ``speaker`` is the name that the person gave, or ``""``."""
    nameless = [member.path for member, labels in rows if not labels["speaker"]]
    if nameless and len(nameless) < len(rows):
        raise DataError(
            f"{len(nameless)} of {len(rows)} clips have no speaker, such as {nameless[0]}; "
            "expected one for each clip, or for none"
        )
    return [
        SourceClip(member.path, labels | _speaker(entry, labels), member.size, member.read) for member, labels in rows
    ]


def _speaker(entry: FolderEntry, labels: dict[str, str]) -> dict[str, str]:
    actor = labels["speaker"]
    return {"actor": actor, "speaker": speaker_name(entry, actor) if actor else ""}
