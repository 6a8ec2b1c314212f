"""RAVDESS: names of its kind, and archives of which the catalogue says how many clips of which actors they hold."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from emotion.datasets.archives import Member
from emotion.datasets.catalogue import Archive, SynthesizedEntry, ZenodoEntry
from emotion.datasets.clips import SourceClip
from emotion.datasets.labelled_files import LabelledFile, manifest_labels
from emotion.datasets.named_files import files_by_name
from emotion.datasets.rules import RAVDESS, read_name
from emotion.errors import DataError

log = logging.getLogger(__name__)


def ravdess_emotion(stem: str) -> str:
    """The emotion that a RAVDESS file name, without its ending, stands for; ``""`` if it is no such name.

    >>> ravdess_emotion("03-01-06-01-02-01-12")
    'fearful'
    >>> ravdess_emotion("interview")
    ''
    """
    columns = read_name(RAVDESS, stem)
    return columns["emotion"] if isinstance(columns, dict) else ""


def ravdess_labels(entry: SynthesizedEntry, stem: str) -> dict[str, Any]:
    """The labels in a RAVDESS file name without its ending.

    >>> from emotion.datasets.catalogue import find_entry
    >>> from emotion.settings import INCLUDE
    >>> labels = ravdess_labels(find_entry(INCLUDE / "datasets.yaml", "synthesized"), "03-01-06-01-02-01-12")
    >>> labels["emotion"], labels["intensity"], labels["statement"], labels["speaker"], labels["gender"]
    ('fearful', 'normal', 'dogs', 'synthesized:12', 'female')
    """
    columns = read_name(RAVDESS, stem)
    assert isinstance(columns, dict), f"{stem} is no name of RAVDESS"
    return manifest_labels(entry, columns, columns["emotion"])


def is_by_actors(entry: ZenodoEntry) -> bool:
    """Whether the clips have RAVDESS's names, and the catalogue says how many of which actors the archives hold."""
    return entry.naming == RAVDESS and all(
        archive.clips and archive.channel and archive.actors for archive in entry.archives
    )


def ravdess_files(entry: ZenodoEntry, members: list[Member], source: str) -> list[LabelledFile]:
    """The entry's recordings, each once; those of other channels are ignored.

    Mirrors hold every clip twice: the same name with the same bytes is one clip.

    Raises
    ------
    DataError
        If a recording does not fit the entry's rule, two of one name differ, or no clip is there.
    """
    channels = {archive.channel for archive in entry.archives}
    files: dict[str, LabelledFile] = {}
    left_out: Counter[str] = Counter()
    for file in files_by_name(entry, entry.naming, members, source):
        if file.labels.get("channel") not in channels:
            left_out[file.labels.get("channel", "")] += 1
            continue
        path = file.member.path
        first = files.setdefault(PurePosixPath(path).stem, file)
        if first is not file and first.member.read() != file.member.read():
            raise DataError(f"{first.member.path} and {path} are of the same name and differ; delete the wrong one")
    if not files:
        raise DataError(
            f"no {' or '.join(sorted(filter(None, channels)))} clips of RAVDESS are there; expected 03-….wav files"
        )
    for channel, count in left_out.items():
        log.info("%s: %d %s clips are left out, they are not of this dataset", entry.name, count, channel)
    return list(files.values())


def ravdess_clips(files: list[LabelledFile]) -> list[SourceClip]:
    """The clips to import, at ``Actor_NN/<name>`` wherever they lay."""
    clips = []
    for file in files:
        name = PurePosixPath(file.member.path)
        if file.labels["emotion"]:
            path = f"Actor_{file.labels['actor']}/{name.stem}{name.suffix.lower()}"
            clips.append(SourceClip(path, file.labels, file.member.size, file.member.read))
    return clips


def differences(entry: ZenodoEntry, files: list[LabelledFile]) -> str:
    """How the recordings differ from what the catalogue expects, in words; ``""`` if they do not."""
    of_archives = (
        _difference(archive, Counter(int(f.labels["actor"]) for f in files if f.labels["channel"] == archive.channel))
        for archive in entry.archives
    )
    return " and ".join(filter(None, of_archives))


def _difference(archive: Archive, counts: Counter[int]) -> str:
    """How one archive's clips differ, from the number of clips of each actor."""
    actors, clips = archive.actors or (), archive.clips or 0  # is_by_actors has seen that both are there
    unexpected = sorted(set(counts) - set(actors))
    if counts.total() == clips and not unexpected:
        return ""
    each = clips // len(actors)
    absent = [actor for actor in actors if not counts[actor]]
    details = [f"none of actors {', '.join(map(str, absent))}"] if absent else []
    details += [f"{counts[actor]} of {each} of actor {actor}" for actor in actors if 0 < counts[actor] < each]
    details += [f"{counts[actor]} of actor {actor}, who is not expected" for actor in unexpected]
    in_brackets = f" ({'; '.join(details)})" if details else ""
    return f"{counts.total():,} of {clips:,} {archive.channel} clips{in_brackets}"
