"""RAVDESS: emotion, actor, intensity and statement from its file names."""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from emotion.datasets.archives import Member, checksums, open_zip, zip_members
from emotion.datasets.catalogue import Entry, ZenodoEntry
from emotion.datasets.clips import SourceClip, SourceClips, folder_members, is_audio, speaker_name
from emotion.datasets.field_types import CHANNELS
from emotion.errors import DataError
from emotion.settings import Settings
from emotion.vocabulary import EMOTIONS

log = logging.getLogger(__name__)
# RAVDESS: labels are in the file names

_RAVDESS_NAME = re.compile(r"03-(0[12])-(?!01-02)(0[1-8])-(0[12])-(0[12])-(?!00)(\d\d)-(?!00)(\d\d)")


def ravdess_emotion(stem: str) -> str:
    """The emotion that a RAVDESS file name, less its ending, tells; "" if it is none."""
    match = _RAVDESS_NAME.fullmatch(stem)
    return EMOTIONS[int(match[2]) - 1] if match else ""


def ravdess_labels(entry: Entry, stem: str) -> dict[str, Any] | None:
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


def ravdess_clips(entry: ZenodoEntry, members: list[Member]) -> list[SourceClip]:
    """The entry's clips, each once, at ``Actor_NN/<name>`` wherever they lay; other channels' are left out.

    Mirrors hold every clip twice: the same name and the same bytes is one clip, other bytes are refused.
    """
    channels = {archive.channel for archive in entry.archives}
    clips: dict[str, tuple[SourceClip, Member]] = {}
    strangers, other = [], Counter()
    for member in members:
        if not is_audio(member.path):
            continue
        name = PurePosixPath(member.path)
        labels = ravdess_labels(entry, name.stem)
        if labels is None:
            strangers.append(member.path)
        elif labels["channel"] not in channels:
            other[labels["channel"]] += 1
        else:
            path = f"Actor_{labels['actor']}/{name.stem}{name.suffix.lower()}"
            _, first = clips.setdefault(name.stem, (SourceClip(path, labels, member.size, member.read), member))
            if first is not member and first.read() != member.read():
                raise DataError(f"{first.path} and {member.path} are of the same name and differ; delete the wrong one")
    if strangers:
        raise DataError(
            f"{len(strangers)} recordings do not bear RAVDESS's names, such as {', '.join(strangers[:3])}; "
            "expected 03-01-06-01-02-01-12.wav or the like. For recordings of your own, use a "
            "dataset of kind folder"
        )
    if not clips:
        raise DataError(f"no {' or '.join(sorted(channels))} clips of RAVDESS are there; expected 03-….wav files")
    for channel, count in other.items():
        log.info("%s: %d %s clips are left out, they are not of this dataset", entry.name, count, channel)
    return [clip for clip, _ in clips.values()]


def differences(entry: ZenodoEntry, clips: list[SourceClip]) -> str:
    """In which the clips differ from what the catalogue expects: '' if in nothing."""
    complaints = []
    for archive in entry.archives:
        found = Counter(int(clip.labels["actor"]) for clip in clips if clip.labels["channel"] == archive.channel)
        strangers = sorted(set(found) - set(archive.actors))
        if found.total() == archive.clips and not strangers:
            continue
        each = archive.clips // len(archive.actors)
        absent = [actor for actor in archive.actors if not found[actor]]
        short = [f"{found[actor]} of {each} of actor {actor}" for actor in archive.actors if 0 < found[actor] < each]
        details = [f"none of actors {', '.join(map(str, absent))}"] * bool(absent) + short
        details += [f"{found[actor]} of actor {actor}, who is not expected" for actor in strangers]
        complaints.append(
            f"{found.total():,} of {archive.clips:,} {archive.channel} clips"
            + f" ({'; '.join(details)})" * bool(details)
        )
    return " and ".join(complaints)


def archive_facts(key: str, path: Path) -> dict[str, Any]:
    return {"key": key, "bytes": path.stat().st_size} | checksums(path)


def ravdess_from_disk(settings: Settings, entry: ZenodoEntry, source: Path, stack: ExitStack) -> SourceClips:
    loose, zips = [], [source]
    if source.is_dir():
        loose = folder_members(settings, source)
        zips = [source / archive.key for archive in entry.archives if (source / archive.key).is_file()]
    members = list(loose)
    for path in zips:
        members += zip_members(stack.enter_context(open_zip(path)))
    clips = ravdess_clips(entry, members)
    archives = [archive_facts(path.name, path) for path in zips]
    given = {facts["md5"]: facts for facts in archives}
    as_published = not any(is_audio(member.path) for member in loose) and all(
        archive.md5 in given
        and archive.bytes == given[archive.md5]["bytes"]
        and archive.sha256 in (None, given[archive.md5]["sha256"])
        for archive in entry.archives
    )
    amiss = differences(entry, clips)
    warnings = ()
    if amiss:
        warnings = (
            f"Not the whole dataset: {source.name} has {amiss}. Figures do not compare with those of the whole.",
        )
    return SourceClips(
        clips,
        origin=str(source),
        warnings=warnings,
        complete=not amiss,
        archives=tuple(archives),
        as_published=as_published and not amiss,
    )
