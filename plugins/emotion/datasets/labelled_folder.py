"""Recordings of your own: emotion and speaker from the names of folders, or from a table of labels."""

from __future__ import annotations

from pathlib import PurePosixPath

from emotion.datasets.archives import Member
from emotion.datasets.catalogue import FolderEntry
from emotion.datasets.clips import is_audio
from emotion.datasets.label_table import LABELS_FILE, emotion_of, read_label_table
from emotion.datasets.labelled_files import LabelledFile, check_words, label
from emotion.errors import DataError


def below_common_folder(entry: FolderEntry, members: list[Member]) -> list[Member]:
    """The members of a zip, without the one folder that holds everything, unless that folder is named for an emotion.

    A zip of a folder has that folder around everything.
    """
    tops = {PurePosixPath(member.path).parts[0] for member in members}
    in_one_folder = len(tops) == 1 and all("/" in member.path for member in members)
    if not in_one_folder or emotion_of(min(tops), entry.translations) is not None:
        return members
    return [Member(member.path.partition("/")[2], member.size, member.read) for member in members]


def files_of_folders(entry: FolderEntry, members: list[Member], source: str) -> list[LabelledFile]:
    """The recordings of folders: ``<emotion>/<clip>`` or ``<emotion>/<speaker>/…<clip>``.

    Raises
    ------
    DataError
        If a recording lies in no folder, or a folder's name is no emotion.
    """
    rows: list[tuple[Member, dict[str, str]]] = []
    for member in members:
        if is_audio(member.path):
            folder, *subfolders = PurePosixPath(member.path).parts[:-1] or ("",)
            if not folder:
                raise DataError(
                    f"{source}: {member.path} lies in no emotion's folder; expected <emotion>/{member.path}, "
                    f"<emotion>/<speaker>/{member.path}, a {LABELS_FILE} or, in the catalogue, a rule for such names"
                )
            rows.append((member, {"emotion": folder, "speaker": subfolders[0] if subfolders else ""}))
    check_words(entry, [(labels["emotion"], member.path) for member, labels in rows], source)
    return [label(entry, member, labels) for member, labels in rows]


def files_of_table(
    entry: FolderEntry, members: dict[str, Member], table: str
) -> tuple[list[LabelledFile], tuple[str, ...]]:
    """The recordings that a table of labels lists, and warnings.

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
        If the table cannot be used, or lists files that are not there.
    """
    content = read_label_table(
        members[table].read(),
        table,
        translations=entry.translations,
        translated_in=f"under {entry.name}",
        needs_emotions=True,
    )
    check_listed([(row.path, f"line {row.line}") for row in content.rows], members, table)
    files = [
        label(entry, members[row.path], row.details | {"emotion": row.word, "speaker": row.speaker})
        for row in content.rows
    ]
    warnings = (content.warning(table), unlisted_warning(files, members, table))
    return files, tuple(filter(None, warnings))


def check_listed(paths: list[tuple[str, str]], members: dict[str, Member], table: str) -> None:
    """Raise DataError if a table lists files that are not there; ``paths`` are paths, and where they stand in it."""
    absent = [f"{place}: {path}" for path, place in paths if path not in members]
    if absent:
        raise DataError(
            f"{table} names {len(absent)} files that are not there, such as {'; '.join(absent[:3])}; "
            "expected paths relative to its own folder and below it, with /"
        )


def unlisted_warning(files: list[LabelledFile], members: dict[str, Member], table: str) -> str:
    """A sentence on the recordings that a table does not list; ``""`` if it lists all."""
    listed = {file.member.path for file in files}
    unlisted = sum(is_audio(path) and path not in listed for path in members)
    return f"{unlisted} recordings are not in {table} and are left out." if unlisted else ""
