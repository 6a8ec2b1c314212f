"""RAVDESS: emotion, actor, intensity and statement from the names of its files."""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from emotion.datasets.archives import Member, checksums, open_zip, zip_members
from emotion.datasets.catalogue import Archive, SynthesizedEntry, ZenodoEntry
from emotion.datasets.clips import SourceClip, SourceClips, folder_members, is_audio, speaker_name
from emotion.datasets.field_types import CHANNELS
from emotion.errors import DataError
from emotion.settings import Settings
from emotion.vocabulary import EMOTIONS

log = logging.getLogger(__name__)

_NAME = re.compile(r"03-(0[12])-(?!01-02)(0[1-8])-(0[12])-(0[12])-(?!00)(\d\d)-(?!00)(\d\d)")
"""Of an audio file, without its ending: 03-channel-emotion-intensity-statement-repetition-actor. Neutral is never
strong; repetitions and actors are counted from 1."""


def ravdess_emotion(stem: str) -> str:
    """The emotion that a RAVDESS file name, without its ending, stands for; ``""`` if it is no such name.

    >>> ravdess_emotion("03-01-06-01-02-01-12")
    'fearful'
    >>> ravdess_emotion("interview")
    ''
    """
    match = _NAME.fullmatch(stem)
    return EMOTIONS[int(match[2]) - 1] if match else ""


def ravdess_labels(entry: ZenodoEntry | SynthesizedEntry, stem: str) -> dict[str, Any] | None:
    """The labels in a file name without its ending; None if it is no RAVDESS name.

    >>> from emotion.datasets.catalogue import find_entry
    >>> from emotion.settings import INCLUDE
    >>> labels = ravdess_labels(find_entry(INCLUDE / "datasets.yaml", "ravdess-speech"), "03-01-06-01-02-01-12")
    >>> labels["emotion"], labels["intensity"], labels["statement"], labels["speaker"], labels["gender"]
    ('fearful', 'normal', 'dogs', 'ravdess:12', 'female')
    """
    match = _NAME.fullmatch(stem)
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
    """The entry's clips, each once, at ``Actor_NN/<name>`` wherever they lay; those of other channels are left out.

    Mirrors hold every clip twice: the same name with the same bytes is one clip.

    Raises
    ------
    DataError
        If a recording does not have a RAVDESS name, two of one name differ, or no clip is there.
    """
    channels = {archive.channel for archive in entry.archives}
    clips: dict[str, tuple[SourceClip, Member]] = {}
    unnamed: list[str] = []
    left_out: Counter[str] = Counter()
    for member in members:
        if not is_audio(member.path):
            continue
        name = PurePosixPath(member.path)
        labels = ravdess_labels(entry, name.stem)
        if labels is None:
            unnamed.append(member.path)
        elif labels["channel"] not in channels:
            left_out[labels["channel"]] += 1
        else:
            path = f"Actor_{labels['actor']}/{name.stem}{name.suffix.lower()}"
            _, first = clips.setdefault(name.stem, (SourceClip(path, labels, member.size, member.read), member))
            if first is not member and first.read() != member.read():
                raise DataError(f"{first.path} and {member.path} are of the same name and differ; delete the wrong one")
    if unnamed:
        raise DataError(
            f"{len(unnamed)} recordings do not have RAVDESS's names, such as {', '.join(unnamed[:3])}; "
            "expected 03-01-06-01-02-01-12.wav or the like. For recordings of your own, use a "
            "dataset of kind folder"
        )
    if not clips:
        raise DataError(f"no {' or '.join(sorted(channels))} clips of RAVDESS are there; expected 03-….wav files")
    for channel, count in left_out.items():
        log.info("%s: %d %s clips are left out, they are not of this dataset", entry.name, count, channel)
    return [clip for clip, _ in clips.values()]


def differences(entry: ZenodoEntry, clips: list[SourceClip]) -> str:
    """How the clips differ from what the catalogue expects, in words; ``""`` if they do not."""
    of_archives = (
        _difference(archive, Counter(int(c.labels["actor"]) for c in clips if c.labels["channel"] == archive.channel))
        for archive in entry.archives
    )
    return " and ".join(filter(None, of_archives))


def _difference(archive: Archive, counts: Counter[int]) -> str:
    """How one archive's clips differ, from the number of clips of each actor."""
    unexpected = sorted(set(counts) - set(archive.actors))
    if counts.total() == archive.clips and not unexpected:
        return ""
    each = archive.clips // len(archive.actors)
    absent = [actor for actor in archive.actors if not counts[actor]]
    details = [f"none of actors {', '.join(map(str, absent))}"] if absent else []
    details += [f"{counts[actor]} of {each} of actor {actor}" for actor in archive.actors if 0 < counts[actor] < each]
    details += [f"{counts[actor]} of actor {actor}, who is not expected" for actor in unexpected]
    in_brackets = f" ({'; '.join(details)})" if details else ""
    return f"{counts.total():,} of {archive.clips:,} {archive.channel} clips{in_brackets}"


def archive_facts(key: str, path: Path) -> dict[str, Any]:
    """Name, length and checksums of a zip, as ``dataset.json`` lists them."""
    return {"key": key, "bytes": path.stat().st_size} | checksums(path)


def ravdess_from_disk(settings: Settings, entry: ZenodoEntry, source: Path, stack: ExitStack) -> SourceClips:
    """RAVDESS from a zip, or from a folder with its clips, its zips or both; zips stay open until the stack closes.

    A part of the dataset is taken, with a warning.

    Raises
    ------
    DataError
        As :func:`ravdess_clips`, and if a zip cannot be used.
    """
    loose, zips = [], [source]
    if source.is_dir():
        loose = folder_members(settings, source)
        zips = [source / archive.key for archive in entry.archives if (source / archive.key).is_file()]
    members = list(loose)
    for path in zips:
        members += zip_members(stack.enter_context(open_zip(path)))
    clips = ravdess_clips(entry, members)
    archives = [archive_facts(path.name, path) for path in zips]
    only_zips = not any(is_audio(member.path) for member in loose)
    difference = differences(entry, clips)
    warning = f"Not the whole dataset: {source.name} has {difference}. Figures do not compare with those of the whole."
    return SourceClips(
        clips,
        origin=str(source),
        warnings=(warning,) if difference else (),
        complete=not difference,
        archives=tuple(archives),
        as_published=only_zips and _are_published(entry, archives) and not difference,
    )


def _are_published(entry: ZenodoEntry, archives: list[dict[str, Any]]) -> bool:
    """Whether every archive of the entry is among these, byte for byte."""
    by_md5 = {facts["md5"]: facts for facts in archives}
    return all(
        archive.md5 in by_md5
        and archive.bytes == by_md5[archive.md5]["bytes"]
        and archive.sha256 in (None, by_md5[archive.md5]["sha256"])
        for archive in entry.archives
    )
