"""Where clips come from, and what is known of them: RAVDESS, a folder of your own, the synthesizer.

Each source becomes the same list of clips, labelled and not yet read; :mod:`emotion.datasets.importing` imports it.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from emotion.datasets import synthesis
from emotion.datasets.archives import Member, open_zip, zip_members
from emotion.datasets.catalogue import Entry, FolderEntry, SynthesizedEntry, ZenodoEntry
from emotion.datasets.clips import SourceClip, SourceClips, folder_members, recordings_folders
from emotion.datasets.label_table import LABELS_FILE
from emotion.datasets.labelled_folder import below_common_folder, clips_of_folders, clips_of_table
from emotion.datasets.ravdess import archive_facts, differences, ravdess_clips, ravdess_from_disk, ravdess_labels
from emotion.datasets.synthesis import NOTICE, VERSION
from emotion.errors import ConfigurationError, DataError
from emotion.settings import Settings


def resolve(settings: Settings, entry: Entry, source: Path | None) -> Path | None:
    """The source as a real path below one of the folders that recordings may come from; None if there is none.

    Raises
    ------
    ConfigurationError
        If it lies elsewhere, is not there, or is needed and not given.
    """
    if isinstance(entry, FolderEntry):
        source = source or (Path(entry.folder) if entry.folder else None)
        if source is None:
            raise ConfigurationError(
                f"{entry.name} needs a source: the folder, zip or CSV with your recordings, below "
                f"{recordings_folders(settings)} (EMOTION_RECORDINGS); or name it as `folder` in {settings.catalogue}"
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
            f"({recordings_folders(settings)}); add its folder to EMOTION_RECORDINGS or move it there"
        )
    for place in inside:
        if place.exists():
            return place
    raise ConfigurationError(f"the source {inside[0]} is not there; expected a folder, a zip or a CSV")


def synthesized(entry: SynthesizedEntry) -> SourceClips:
    """The synthesized corpus; a clip is synthesized when it is read."""

    def clip(path: str) -> SourceClip:
        labels = ravdess_labels(entry, PurePosixPath(path).stem) or {}
        return SourceClip(path, labels, 0, lambda: synthesis.wav_bytes(synthesis.synthesize_clip(path)))

    paths = synthesis.names(speakers=entry.speakers, repetitions=entry.repetitions)
    return SourceClips(
        [clip(path) for path in paths],
        origin=f"synthesized, version {VERSION}",
        warnings=(NOTICE,),
    )


def from_archives(settings: Settings, entry: ZenodoEntry, paths: list[Path], stack: ExitStack) -> SourceClips:
    """The clips of an entry's downloaded and checked archives, which stay open until the stack closes.

    Raises
    ------
    DataError
        If they do not hold what the catalogue says.
    """
    members: list[Member] = []
    for archive, path in zip(entry.archives, paths, strict=True):
        members += zip_members(stack.enter_context(open_zip(path)), max_bytes=archive.expanded_bytes)
    clips = ravdess_clips(entry, members)
    difference = differences(entry, clips)
    if difference:
        raise DataError(
            f"{settings.catalogue}: {entry.name}: the archives do not hold what it says: found {difference}"
        )
    return SourceClips(
        clips,
        origin=f"{settings.zenodo_url}/records/{entry.record}",
        archives=tuple(archive_facts(archive.key, path) for archive, path in zip(entry.archives, paths, strict=True)),
    )


def from_disk(settings: Settings, entry: Entry, source: Path, stack: ExitStack) -> SourceClips:
    """The clips of a folder, zip or CSV on disk; zips stay open until the stack closes.

    Raises
    ------
    ConfigurationError
        If the entry is synthesized.
    DataError
        If a clip's label is not known, a name is not RAVDESS's, a path leaves the folder …
    """
    if isinstance(entry, ZenodoEntry):
        return ravdess_from_disk(settings, entry, source, stack)
    if isinstance(entry, SynthesizedEntry):
        raise ConfigurationError(f"{entry.name} is synthesized and takes no source; found {source}")
    members, table = _own_members(settings, entry, source, stack)
    by_path = {member.path: member for member in members}
    if table in by_path:
        clips, warnings = clips_of_table(entry, by_path, table)
    else:
        clips, warnings = clips_of_folders(entry, members, source), []
    if len({clip.labels["emotion"] for clip in clips}) < 2:
        raise DataError(
            f"{source} has {len(clips)} recordings of fewer than two emotions; expected a subfolder "
            f"per emotion with recordings in it, or a {LABELS_FILE} with the columns path and emotion"
        )
    return SourceClips(clips, origin=str(source), warnings=(*warnings, *_speaker_warnings(clips)))


def _own_members(settings: Settings, entry: FolderEntry, source: Path, stack: ExitStack) -> tuple[list[Member], str]:
    """The files of a source, and the path that a table of labels has among them, if it is there."""
    if source.is_dir():
        return folder_members(settings, source), LABELS_FILE
    if source.suffix.lower() == ".csv":
        return folder_members(settings, source.parent), source.name
    return below_common_folder(entry, zip_members(stack.enter_context(open_zip(source)))), LABELS_FILE


def _speaker_warnings(clips: list[SourceClip]) -> list[str]:
    speakers = {clip.labels["speaker"] for clip in clips}
    if len(speakers) > 1:
        return []
    known = "No speaker is known" if speakers == {""} else "All clips are of one speaker"
    return [
        f"{known}: none can be held out, so the speaker-independent protocols, by which models are "
        "chosen, cannot be run. Give recordings of several speakers, each in a subfolder below the "
        f"emotion's or named in the column speaker of {LABELS_FILE}."
    ]
