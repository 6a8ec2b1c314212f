"""A user's own recordings: emotion and speaker from folder names, or from a labels file."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path, PurePosixPath

from emotion.datasets.archives import Member
from emotion.datasets.catalogue import FolderEntry
from emotion.datasets.clips import SourceClip, is_audio, speaker_name
from emotion.errors import DataError
from emotion.vocabulary import EMOTIONS

LABELS_FILE = "labels.csv"
"""Where a folder of one's own recordings has a file of this name, it says what the clips are."""
LABEL_COLUMNS = ("path", "emotion", "speaker", "gender", "intensity", "statement")
"""The columns that file may have; the first two are needed."""


# One's own recordings: labels are the folders' names, or in a table


def below_common_folder(entry: FolderEntry, members: list[Member]) -> list[Member]:
    """A zip of a folder has that folder around everything; it is taken off, unless it is an emotion's."""
    tops = {PurePosixPath(member.path).parts[0] for member in members}
    if len(tops) != 1 or any("/" not in member.path for member in members) or _emotion(entry, *tops):
        return members
    return [Member(member.path.partition("/")[2], member.size, member.read) for member in members]


def _emotion(entry: FolderEntry, word: str) -> str | None:
    word = word.strip().lower()
    return entry.labels.get(word, word if word in EMOTIONS else None)


def clips_of_folders(entry: FolderEntry, members: list[Member], source: Path) -> list[SourceClip]:
    """``<emotion>/[<speaker>/…]<clip>``."""
    rows = []
    for member in members:
        if is_audio(member.path):
            parts = PurePosixPath(member.path).parts
            if len(parts) < 2:
                raise DataError(
                    f"{source}: {member.path} lies in no emotion's folder; expected <emotion>/{member.path}, "
                    f"<emotion>/<speaker>/{member.path} or a {LABELS_FILE}"
                )
            rows.append((member, {"emotion": parts[0], "speaker": parts[1] if len(parts) > 2 else ""}))
    return _own_clips(entry, rows)


def clips_of_table(entry: FolderEntry, members: dict[str, Member], table: str) -> tuple[list[SourceClip], list[str]]:
    """The clips that a CSV lists, and warnings."""
    try:
        text = members[table].read().decode("utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [column.strip().lower() for column in next(lines, [])]
        records = [(lines.line_num, line) for line in lines if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}; expected comma-separated text in UTF-8") from None
    if not {"path", "emotion"} <= set(header) <= set(LABEL_COLUMNS) or len(set(header)) < len(header):
        raise DataError(
            f"{table} has the columns {', '.join(header) or 'none'}; expected path, emotion and, "
            f"where known, {', '.join(LABEL_COLUMNS[2:])}, separated by commas"
        )
    rows, absent, seen = [], [], {}
    for number, line in records:
        if len(line) != len(header):
            raise DataError(f"{table}, line {number}: {len(line)} values; expected {len(header)}")
        labels = dict(zip(header, (value.strip() for value in line), strict=True))
        path = str(PurePosixPath(labels.pop("path")))
        if path in seen:
            raise DataError(f"{table}, line {number}: {path} is in line {seen[path]} already; expected each clip once")
        seen[path] = number
        if path in members:
            rows.append((members[path], labels))
        else:
            absent.append(f"line {number}: {path}")
    if absent:
        raise DataError(
            f"{table} names {len(absent)} files that are not there, such as {'; '.join(absent[:3])}; "
            "expected paths relative to its own folder and below it, with /"
        )
    unlisted = sum(is_audio(path) and path not in seen for path in members)
    warnings = [f"{unlisted} recordings are not in {table} and are left out."] if unlisted else []
    return _own_clips(entry, rows), warnings


def _own_clips(entry: FolderEntry, rows: list[tuple[Member, dict[str, str]]]) -> list[SourceClip]:
    unknown = Counter(labels["emotion"] for _, labels in rows if not _emotion(entry, labels["emotion"]))
    if unknown:
        found = ", ".join(f"{word or '(none)'} ({count} clips)" for word, count in sorted(unknown.items()))
        raise DataError(
            f"labels that are no emotions known here: {found}. Expected {', '.join(EMOTIONS)}; map "
            f"your own words to them in the catalogue, under {entry.name}, as in labels: "
            f"{{{min(unknown) or 'anger'}: angry}}"
        )
    nameless = [member.path for member, labels in rows if not labels.get("speaker")]
    if nameless and len(nameless) < len(rows):
        raise DataError(
            f"{len(nameless)} of {len(rows)} clips have no speaker, such as {nameless[0]}; "
            "expected one for each clip, or for none"
        )
    clips = []
    for member, labels in rows:
        actor = labels.get("speaker", "")
        labels = labels | {
            "emotion": _emotion(entry, labels["emotion"]),
            "actor": actor,
            "speaker": speaker_name(entry, actor) if actor else "",
        }
        clips.append(SourceClip(member.path, labels, member.size, member.read))
    return clips
