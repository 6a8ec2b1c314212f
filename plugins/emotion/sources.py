"""Where clips come from, and what is known of them: RAVDESS, a folder of one's own, the synthesizer.

Each source becomes the same list of clips, labelled and yet unread; ``emotion.datasets`` imports it.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from emotion import synthesis
from emotion.catalogue import CHANNELS, Entry, FolderEntry, SynthesizedEntry, ZenodoEntry
from emotion.download import MAX_MEMBER_BYTES, Member, checksums, open_zip, zip_members
from emotion.errors import ConfigurationError, DataError
from emotion.labels import EMOTIONS
from emotion.settings import Settings

log = logging.getLogger(__name__)

AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .m4a .aac .wma".split()
)
"""What counts as a recording by its name. The last three cannot be decoded: later stages reject them."""

LABELS_FILE = "labels.csv"
"""Where a folder of one's own recordings has a file of this name, it says what the clips are."""

LABEL_COLUMNS = ("path", "emotion", "speaker", "gender", "intensity", "statement")
"""The columns that file may have; the first two are needed."""


@dataclass(frozen=True)
class Clip:
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
class Clips:
    """The clips of a source, and what is to be said of them.

    ``complete`` tells whether they are the clips that the catalogue expects, ``as_published`` whether they
    came out of the very archives that it names; ``archives`` has key, bytes, md5 and sha256 of each zip.
    """

    listed: list[Clip]
    origin: str
    warnings: tuple[str, ...] = ()
    complete: bool = True
    as_published: bool = False
    archives: tuple[dict[str, Any], ...] = ()


def speaker_name(entry: Entry, name: str) -> str:
    """A speaker's name as it is in the manifest: distinct from those of other datasets."""
    return f"{entry.speaker_prefix}:{name}"


def resolve(settings: Settings, entry: Entry, source: Path | None) -> Path | None:
    """The source as a real path below one of the folders that recordings may come from, or None.

    Raises ConfigurationError if it lies elsewhere, is not there, or is needed and not given.
    """
    if isinstance(entry, FolderEntry):
        source = source or (Path(entry.folder) if entry.folder else None)
        if source is None:
            raise ConfigurationError(
                f"{entry.name} needs a source: the folder, zip or CSV with your recordings, below "
                f"{_folders(settings)} (EMOTION_RECORDINGS); or name it as `folder` in {settings.catalogue}"
            )
    if source is None:
        return None
    if isinstance(entry, SynthesizedEntry):
        raise ConfigurationError(f"{entry.name} is synthesized and takes no source; found {source}")
    roots = [root.resolve() for root in settings.recordings]
    places = [(root / source).resolve() for root in roots]  # an absolute source stays as it is
    inside = [place for place in places if any(place.is_relative_to(root) for root in roots)]
    if not inside:
        raise ConfigurationError(
            f"the source {source} lies outside the folders that recordings may come from "
            f"({_folders(settings)}); add its folder to EMOTION_RECORDINGS or move it there"
        )
    for place in inside:
        if place.exists():
            return place
    raise ConfigurationError(f"the source {inside[0]} is not there; expected a folder, a zip or a CSV")


def _folders(settings: Settings) -> str:
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
                raise DataError(
                    f"{os.path.join(folder, name)} is a link to a folder; such are not followed: copy it"
                )
        for name in names:
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if not path.is_file():
                raise DataError(f"{path} is neither a file nor a folder; remove it")
            found.append((path.relative_to(source).as_posix(), path, path.stat()))
    return sorted(found, key=lambda file: file[0])


def _folder_members(settings: Settings, folder: Path) -> list[Member]:
    roots = [root.resolve() for root in settings.recordings]
    members = []
    for relative, path, found in source_files(folder):
        if "\\" in relative or not relative.isprintable():
            raise DataError(
                f"{str(path)!r} has a backslash or an unprintable character in its name; rename it"
            )
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in roots):
            raise DataError(
                f"{path} is a link to {path.resolve()}, outside {_folders(settings)} (EMOTION_RECORDINGS)"
            )
        members.append(Member(relative, found.st_size, lambda path=path: _read_file(path)))
    return members


def _read_file(path: Path) -> bytes:
    with open(path, "rb") as handle:
        data = handle.read(MAX_MEMBER_BYTES + 1)
    if len(data) > MAX_MEMBER_BYTES:
        raise DataError(
            f"{path} is longer than {MAX_MEMBER_BYTES:,} bytes; split it into clips of one emotion"
        )
    return data


def _is_audio(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES


def synthesized(entry: SynthesizedEntry) -> Clips:
    """The synthesized corpus; a clip is spoken when it is read."""

    def clip(path: str) -> Clip:
        labels = _ravdess_labels(entry, PurePosixPath(path).stem)
        return Clip(path, labels, 0, lambda: synthesis.wav_bytes(synthesis.synthesize_clip(path)))

    paths = synthesis.names(speakers=entry.speakers, repetitions=entry.repetitions)
    return Clips(
        [clip(path) for path in paths],
        origin=f"synthesized, version {synthesis.VERSION}",
        warnings=(synthesis.NOTICE,),
    )


def from_archives(settings: Settings, entry: ZenodoEntry, paths: list[Path], stack: ExitStack) -> Clips:
    """The clips of an entry's downloaded and checked archives, which stay open until the stack closes.

    Raises DataError if they do not hold what the catalogue says.
    """
    members = []
    for archive, path in zip(entry.archives, paths, strict=True):
        members += zip_members(stack.enter_context(open_zip(path)), max_bytes=archive.expanded_bytes)
    clips = _ravdess_clips(entry, members)
    amiss = _amiss(entry, clips)
    if amiss:
        raise DataError(
            f"{settings.catalogue}: {entry.name}: the archives do not hold what it says: found {amiss}"
        )
    return Clips(
        clips,
        origin=f"{settings.zenodo_url}/records/{entry.record}",
        archives=tuple(
            _archive_facts(archive.key, path) for archive, path in zip(entry.archives, paths, strict=True)
        ),
    )


def from_disk(settings: Settings, entry: ZenodoEntry | FolderEntry, source: Path, stack: ExitStack) -> Clips:
    """The clips of a folder, zip or CSV on disk; zips stay open until the stack closes.

    Raises
    ------
    DataError
        If a clip's label is not known, a name is not RAVDESS's, a path leaves the folder …
    """
    if isinstance(entry, ZenodoEntry):
        return _ravdess_from_disk(settings, entry, source, stack)
    if source.is_dir():
        members, table = _folder_members(settings, source), LABELS_FILE
    elif source.suffix.lower() == ".csv":
        members, table = _folder_members(settings, source.parent), source.name
    else:
        members, table = (
            _below_common_folder(entry, zip_members(stack.enter_context(open_zip(source)))),
            LABELS_FILE,
        )
    by_path = {member.path: member for member in members}
    if table in by_path:
        clips, warnings = _clips_of_table(entry, by_path, table)
    else:
        clips, warnings = _clips_of_folders(entry, members, source), []
    if len({clip.labels["emotion"] for clip in clips}) < 2:
        raise DataError(
            f"{source} has {len(clips)} recordings of fewer than two emotions; expected a subfolder "
            f"per emotion with recordings in it, or a {LABELS_FILE} with the columns path and emotion"
        )
    speakers = {clip.labels["speaker"] for clip in clips}
    if len(speakers) == 1:
        known = "No speaker is known" if speakers == {""} else "All clips are of one speaker"
        warnings.append(
            f"{known}: none can be held out, so the speaker-independent protocols, by which models are "
            "chosen, cannot be run. Give recordings of several speakers, each in a subfolder below the "
            f"emotion's or named in the column speaker of {LABELS_FILE}."
        )
    return Clips(clips, origin=str(source), warnings=tuple(warnings))


# RAVDESS: labels are in the file names

_RAVDESS_NAME = re.compile(r"03-(0[12])-(?!01-02)(0[1-8])-(0[12])-(0[12])-(?!00)(\d\d)-(?!00)(\d\d)")


def ravdess_emotion(stem: str) -> str:
    """The emotion that a RAVDESS file name, less its ending, tells; "" if it is none."""
    match = _RAVDESS_NAME.fullmatch(stem)
    return EMOTIONS[int(match[2]) - 1] if match else ""


def _ravdess_labels(entry: Entry, stem: str) -> dict[str, Any] | None:
    """What a name (03-channel-emotion-intensity-statement-repetition-actor) says; None if it is no such."""
    match = _RAVDESS_NAME.fullmatch(stem)
    if not match:
        return None
    channel, emotion, intensity, statement, repetition, actor = match.groups()
    return {
        "channel": CHANNELS[int(channel) - 1],
        "emotion": EMOTIONS[int(emotion) - 1],
        "intensity": ("normal", "strong")[int(intensity) - 1],
        "statement": ("kids", "dogs")[int(statement) - 1],
        "repetition": int(repetition),
        "actor": actor,
        "speaker": speaker_name(entry, actor),
        "gender": "male" if int(actor) % 2 else "female",
    }


def _ravdess_clips(entry: ZenodoEntry, members: list[Member]) -> list[Clip]:
    """The entry's clips, each once, at ``Actor_NN/<name>`` wherever they lay; other channels' are left out.

    Mirrors hold every clip twice: the same name and the same bytes is one clip, other bytes are refused.
    """
    channels = {archive.channel for archive in entry.archives}
    clips: dict[str, tuple[Clip, Member]] = {}
    strangers, other = [], Counter()
    for member in members:
        if not _is_audio(member.path):
            continue
        name = PurePosixPath(member.path)
        labels = _ravdess_labels(entry, name.stem)
        if labels is None:
            strangers.append(member.path)
        elif labels["channel"] not in channels:
            other[labels["channel"]] += 1
        else:
            path = f"Actor_{labels['actor']}/{name.stem}{name.suffix.lower()}"
            _, first = clips.setdefault(name.stem, (Clip(path, labels, member.size, member.read), member))
            if first is not member and first.read() != member.read():
                raise DataError(
                    f"{first.path} and {member.path} are of the same name and differ; delete the wrong one"
                )
    if strangers:
        raise DataError(
            f"{len(strangers)} recordings do not bear RAVDESS's names, such as {', '.join(strangers[:3])}; "
            "expected 03-01-06-01-02-01-12.wav or the like. For recordings of your own, use a "
            "dataset of kind folder"
        )
    if not clips:
        raise DataError(
            f"no {' or '.join(sorted(channels))} clips of RAVDESS are there; expected 03-….wav files"
        )
    for channel, count in other.items():
        log.info("%s: %d %s clips are left out, they are not of this dataset", entry.name, count, channel)
    return [clip for clip, _ in clips.values()]


def _amiss(entry: ZenodoEntry, clips: list[Clip]) -> str:
    """In which the clips differ from what the catalogue expects: '' if in nothing."""
    complaints = []
    for archive in entry.archives:
        found = Counter(
            int(clip.labels["actor"]) for clip in clips if clip.labels["channel"] == archive.channel
        )
        strangers = sorted(set(found) - set(archive.actors))
        if found.total() == archive.clips and not strangers:
            continue
        each = archive.clips // len(archive.actors)
        absent = [actor for actor in archive.actors if not found[actor]]
        short = [
            f"{found[actor]} of {each} of actor {actor}"
            for actor in archive.actors
            if 0 < found[actor] < each
        ]
        details = [f"none of actors {', '.join(map(str, absent))}"] * bool(absent) + short
        details += [f"{found[actor]} of actor {actor}, who is not expected" for actor in strangers]
        complaints.append(
            f"{found.total():,} of {archive.clips:,} {archive.channel} clips"
            + f" ({'; '.join(details)})" * bool(details)
        )
    return " and ".join(complaints)


def _archive_facts(key: str, path: Path) -> dict[str, Any]:
    return {"key": key, "bytes": path.stat().st_size} | checksums(path)


def _ravdess_from_disk(settings: Settings, entry: ZenodoEntry, source: Path, stack: ExitStack) -> Clips:
    loose, zips = [], [source]
    if source.is_dir():
        loose = _folder_members(settings, source)
        zips = [source / archive.key for archive in entry.archives if (source / archive.key).is_file()]
    members = list(loose)
    for path in zips:
        members += zip_members(stack.enter_context(open_zip(path)))
    clips = _ravdess_clips(entry, members)
    archives = [_archive_facts(path.name, path) for path in zips]
    given = {facts["md5"]: facts for facts in archives}
    as_published = not any(_is_audio(member.path) for member in loose) and all(
        archive.md5 in given
        and archive.bytes == given[archive.md5]["bytes"]
        and archive.sha256 in (None, given[archive.md5]["sha256"])
        for archive in entry.archives
    )
    amiss = _amiss(entry, clips)
    warnings = ()
    if amiss:
        warnings = (
            f"Not the whole dataset: {source.name} has {amiss}. "
            "Figures do not compare with those of the whole.",
        )
    return Clips(
        clips,
        origin=str(source),
        warnings=warnings,
        complete=not amiss,
        archives=tuple(archives),
        as_published=as_published and not amiss,
    )


# One's own recordings: labels are the folders' names, or in a table


def _below_common_folder(entry: FolderEntry, members: list[Member]) -> list[Member]:
    """A zip of a folder has that folder around everything; it is taken off, unless it is an emotion's."""
    tops = {PurePosixPath(member.path).parts[0] for member in members}
    if len(tops) != 1 or any("/" not in member.path for member in members) or _emotion(entry, *tops):
        return members
    return [Member(member.path.partition("/")[2], member.size, member.read) for member in members]


def _emotion(entry: FolderEntry, word: str) -> str | None:
    word = word.strip().lower()
    return entry.labels.get(word, word if word in EMOTIONS else None)


def _clips_of_folders(entry: FolderEntry, members: list[Member], source: Path) -> list[Clip]:
    """``<emotion>/[<speaker>/…]<clip>``."""
    rows = []
    for member in members:
        if _is_audio(member.path):
            parts = PurePosixPath(member.path).parts
            if len(parts) < 2:
                raise DataError(
                    f"{source}: {member.path} lies in no emotion's folder; expected <emotion>/{member.path}, "
                    f"<emotion>/<speaker>/{member.path} or a {LABELS_FILE}"
                )
            rows.append((member, {"emotion": parts[0], "speaker": parts[1] if len(parts) > 2 else ""}))
    return _own_clips(entry, rows)


def _clips_of_table(
    entry: FolderEntry, members: dict[str, Member], table: str
) -> tuple[list[Clip], list[str]]:
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
            raise DataError(
                f"{table}, line {number}: {path} is in line {seen[path]} already; expected each clip once"
            )
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
    unlisted = sum(_is_audio(path) and path not in seen for path in members)
    warnings = [f"{unlisted} recordings are not in {table} and are left out."] if unlisted else []
    return _own_clips(entry, rows), warnings


def _own_clips(entry: FolderEntry, rows: list[tuple[Member, dict[str, str]]]) -> list[Clip]:
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
        clips.append(Clip(member.path, labels, member.size, member.read))
    return clips
