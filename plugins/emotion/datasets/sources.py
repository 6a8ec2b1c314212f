"""Where clips come from, and what is known of them: a published corpus, a folder of your own, the synthesizer.

Each source becomes the same list of clips, labelled and not yet read; :mod:`emotion.datasets.importing` imports it.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from emotion.bucket import is_url
from emotion.datasets import synthesis
from emotion.datasets.archives import Member, open_zip, zip_members
from emotion.datasets.audformat import HEADER_FILE, files_of_database
from emotion.datasets.bucket_source import find_source
from emotion.datasets.catalogue import (
    OWN_SOURCE,
    Entry,
    FolderEntry,
    RepositoryEntry,
    ReviewedEntry,
    SynthesizedEntry,
    ZenodoEntry,
)
from emotion.datasets.clips import Source, SourceClip, SourceClips, folder_members, local_file, recordings_folders
from emotion.datasets.label_table import LABELS_FILE
from emotion.datasets.labelled_files import clips_to_import, left_out_words
from emotion.datasets.labelled_folder import below_common_folder, files_of_folders, files_of_table
from emotion.datasets.named_files import common_folder, each_once, files_by_name
from emotion.datasets.published import count_difference, incomplete_warning, published_from_disk
from emotion.datasets.ravdess import ravdess_labels
from emotion.datasets.synthesis import NOTICE, VERSION
from emotion.errors import ConfigurationError, DataError
from emotion.settings import Settings


def resolve(settings: Settings, entry: Entry, source: str | Path | None) -> Source | None:
    """The source as a real path, or an object or folder of a bucket, below one of the folders that recordings may come
    from; None if there is none. A relative source is looked for in folders of this machine first.

    Raises
    ------
    ConfigurationError
        If it lies elsewhere, is not there, or is needed and not given.
    """
    if isinstance(entry, FolderEntry):
        source = source or entry.folder or None
        if source is None:
            where = "" if entry.source == OWN_SOURCE else f". Where to get them: {entry.source}"
            raise ConfigurationError(
                f"{entry.name} needs a source: the folder, zip or CSV with its recordings, below "
                f"{recordings_folders(settings)} (EMOTION_RECORDINGS), as in SOURCE=…; or name it as `folder` in "
                f"{settings.catalogue}{where}"
            )
    if source is None:
        return None
    if isinstance(entry, (SynthesizedEntry, ReviewedEntry)):
        raise ConfigurationError(f"{entry.name} is {entry.kind} and takes no source; found {source}")
    paths = () if is_url(source) else settings.recordings
    roots = [root.resolve() for root in paths if isinstance(root, Path)]
    places = [(root / source).resolve() for root in roots]  # an absolute source stays as it is
    inside = [place for place in places if any(place.is_relative_to(root) for root in roots)]
    for place in inside:
        if place.exists():
            return place
    urls = tuple(root for root in settings.recordings if isinstance(root, str))
    if not Path(source).is_absolute() and (in_bucket := find_source(str(source), urls)):
        return in_bucket
    if not inside:
        raise ConfigurationError(
            f"the source {source} lies outside the folders that recordings may come from "
            f"({recordings_folders(settings)}); add its folder to EMOTION_RECORDINGS or move it there"
        )
    raise ConfigurationError(f"the source {inside[0]} is not there; expected a folder, a zip or a CSV")


def synthesized(entry: SynthesizedEntry) -> SourceClips:
    """The synthesized corpus; a clip is synthesized when it is read."""

    def clip(path: str) -> SourceClip:
        labels = ravdess_labels(entry, PurePosixPath(path).stem)
        return SourceClip(path, labels, 0, lambda: synthesis.wav_bytes(synthesis.synthesize_clip(path)))

    paths = synthesis.names(speakers=entry.speakers, repetitions=entry.repetitions)
    return SourceClips(
        [clip(path) for path in paths],
        origin=f"synthesized, version {VERSION}",
        warnings=(NOTICE,),
    )


def from_disk(settings: Settings, entry: Entry, source: Source, stack: ExitStack) -> SourceClips:
    """The clips of a folder, zip or CSV on disk or in a bucket; zips stay open until the stack closes.

    Raises
    ------
    ConfigurationError
        If the entry is synthesized.
    DataError
        If a clip's label is not known, a name does not fit the rule, a path leaves the folder …
    """
    if isinstance(entry, (ZenodoEntry, RepositoryEntry)):
        return published_from_disk(settings, entry, source, stack)
    if isinstance(entry, (SynthesizedEntry, ReviewedEntry)):
        raise ConfigurationError(f"{entry.name} is {entry.kind} and takes no source; found {source}")
    members, table = _own_members(settings, entry, source, stack)
    by_path = {member.path: member for member in members}
    warnings: tuple[str, ...] = ()
    difference = below = ""
    if source.suffix.lower() == ".csv":
        files, warnings = files_of_table(entry, by_path, table)
    elif entry.rule:
        files = each_once(files_by_name(entry, entry.rule, members, str(source)), entry.name)
        difference = count_difference(files, entry.clips)
        below = "" if source.is_dir() else common_folder(files)
    elif HEADER_FILE in by_path:
        files, warnings = files_of_database(entry, by_path)
    elif table in by_path:
        files, warnings = files_of_table(entry, by_path, table)
    else:
        files = files_of_folders(entry, members, str(source))
    clips = clips_to_import(files, below=below)
    if len({clip.labels["emotion"] for clip in clips}) < 2:
        raise DataError(f"{source} has {len(clips)} recordings of fewer than two emotions; expected {_forms(entry)}")
    return SourceClips(
        clips,
        origin=str(source),
        warnings=(*incomplete_warning(source, difference), *warnings, *_speaker_warnings(clips)),
        complete=not difference,
        left_out=left_out_words(files),
    )


def _forms(entry: FolderEntry) -> str:
    """What a source of the entry may look like, in words."""
    if entry.rule:
        return f"recordings with names that fit {' or '.join(entry.rule.pattern)}"
    return (
        f"a subfolder per emotion with recordings in it, or a {LABELS_FILE} with the columns path and emotion, "
        f"or an audformat database ({HEADER_FILE} and its tables)"
    )


def _own_members(settings: Settings, entry: FolderEntry, source: Source, stack: ExitStack) -> tuple[list[Member], str]:
    """The files of a source, and the path that a table of labels has among them, if it is there."""
    if source.is_dir():
        return folder_members(settings, source), LABELS_FILE
    if source.suffix.lower() == ".csv":
        return folder_members(settings, source.parent), source.name
    members = zip_members(stack.enter_context(open_zip(local_file(source))))
    return members if entry.rule else below_common_folder(entry, members), LABELS_FILE


def _speaker_warnings(clips: list[SourceClip]) -> list[str]:
    speakers = {clip.labels["speaker"] for clip in clips}
    if len(speakers) > 1:
        return []
    known = "No speaker is known" if speakers == {""} else "All clips are of one speaker"
    return [
        f"{known}: none can be held out, so the speaker-independent protocols, by which models are "
        "chosen, cannot be run. Give recordings of several speakers, each in a subfolder below the "
        f"emotion's, named in the column speaker of {LABELS_FILE}, or in the names of the files by a rule."
    ]
