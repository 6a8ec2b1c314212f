"""A dataset of the catalogue, brought into the artifact store: its clips, a manifest of them, and a marker.

In the store, below ``datasets/<name>/``:

``audio/…``
    the clips as they came, byte for byte
``manifest.csv``
    a row per clip
``dataset.json``
    what the dataset is, written last: without it there is no dataset

Whether clips come from Zenodo, from a disk or from the synthesizer, they go through one import. It can be killed at
any moment; the next call goes on with what is there.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import logging
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import requests
import soundfile

from emotion import synthesis
from emotion.catalogue import CHANNELS, Entry, FolderEntry, SynthesizedEntry, ZenodoEntry, find_entry
from emotion.download import (
    MAX_MEMBER_BYTES,
    Member,
    Progress,
    Retry,
    check_disk,
    checksums,
    fetch_archives,
    open_zip,
    zip_members,
)
from emotion.errors import ConfigurationError, DataError
from emotion.labels import EMOTIONS
from emotion.settings import Settings
from emotion.store import Store

log = logging.getLogger(__name__)

AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .m4a .aac .wma".split()
)
"""What counts as a recording by its name. The last three cannot be decoded; they are listed, and rejected later."""

MANIFEST = {
    "path": "str",
    "sha256": "str",
    "bytes": "int64",
    "emotion": "str",
    "intensity": "str",
    "statement": "str",
    "repetition": "Int64",
    "speaker": "str",
    "actor": "str",
    "gender": "str",
    "channel": "str",
    "duration": "float64",
    "rate": "Int64",
    "channels": "Int64",
    "duplicate_of": "str",
}
"""The manifest's columns and their dtypes. What is not known is ``""`` in a text, NaN or NA in a number."""

LABELS_FILE = "labels.csv"
"""Where a folder of one's own recordings has a file of this name, it says what the clips are."""

LABEL_COLUMNS = ("path", "emotion", "speaker", "gender", "intensity", "statement")
"""The columns that file may have; the first two are needed."""

_FORMAT = 1  # of what is stored; a new number makes every dataset again


@dataclass(frozen=True)
class Dataset:
    """A dataset in the store.

    Attributes
    ----------
    name : str
    facts : dict
        What is known of it, as JSON values: name, title, kind, synthesized, complete (False if the catalogue expects
        more clips), warnings and notice (a list and one text, to be shown wherever a figure of this dataset is
        shown; empty if there is nothing to say), fingerprint (SHA-256 over every clip's content, emotion and speaker),
        clips, unique (less byte-identical copies), speakers, unreadable (no readable header), seconds, bytes,
        emotions (clips of each), licence (id, name, url, model), commercial_use, source, citation, folds (published
        speaker-independent folds: lists of speakers as in the manifest, or None), folds_scheme, origin (where the
        clips came from) and archives (key, bytes, md5, sha256 of each zip they came out of).
    """

    name: str
    facts: dict[str, Any]


def audio_folder(name: str) -> str:
    """The store's key below which a dataset's clips lie, at the ``path`` that the manifest gives."""
    return _key(name, "audio")


def load(store: Store, name: str) -> Dataset:
    """A dataset that is in the store; raises DataError if it is not."""
    record = store.read_json(_key(name, "dataset.json"))
    return Dataset(name, {key: value for key, value in record.items() if key != "made_from"})


def read_manifest(store: Store, name: str) -> pd.DataFrame:
    """The manifest: a row per clip, sorted by path, with the columns and dtypes of ``MANIFEST``.

    ``duration`` is in seconds, ``rate`` in Hz; ``duplicate_of`` is the path of the first clip with the same bytes,
    ``""`` for that first clip itself. Raises DataError if the dataset is not in the store.
    """
    numbers = [column for column, dtype in MANIFEST.items() if dtype != "str"]
    return pd.read_csv(
        io.BytesIO(store.read_bytes(_key(name, "manifest.csv"))),
        dtype=MANIFEST,
        keep_default_na=False,
        na_values={column: [""] for column in numbers},
        float_precision="round_trip",
    )


def is_ready(store: Store, settings: Settings, name: str, *, source: Path | None = None) -> bool:
    """Whether ``obtain`` with the same arguments would return what is stored, with no work and no network."""
    entry = find_entry(settings.catalogue, name)
    return _stored(store, entry, _inputs(entry, _resolve(settings, entry, source))) is not None


def obtain(
    store: Store,
    settings: Settings,
    name: str,
    *,
    source: Path | None = None,
    progress: Progress | None = None,
    session: requests.Session | None = None,
    retry: Retry | None = None,
) -> Dataset:
    """Bring a dataset into the store, or find that it is there.

    Parameters
    ----------
    name : str
        A dataset of the catalogue ``settings.catalogue``.
    source : Path, optional
        A folder, a zip or (for one's own recordings) a CSV on disk to take the clips from, below one of
        ``settings.recordings``; a relative path is looked for there. RAVDESS's folder may hold its clips, its zips
        or both. It is imported again only if it has changed. Without it RAVDESS is downloaded, unless what is
        stored came out of the very archives of the catalogue.
    progress : callable, optional
        Called as ``progress(stage, done, total, unit)`` with the stages ``download`` (unit ``B``), ``check`` and
        ``import`` (unit ``clips``).
    session : requests.Session, optional
        For proxies and certificates of one's own.
    retry : Retry, optional
        How patient a download is.

    Raises
    ------
    ConfigurationError
        If the catalogue has no such dataset, ``source`` is missing or may not be read, or the disk is too small.
    DownloadError
        If the host cannot be reached or keeps failing; the next call goes on where this one stopped.
    DataError
        If the clips are not what the catalogue says. What was stored before stays as it was.
    """
    entry = find_entry(settings.catalogue, name)
    source = _resolve(settings, entry, source)
    inputs = _inputs(entry, source)
    scratch = store.scratch(f"datasets/{name}")
    with _locked(scratch.with_name(f"{name}.lock")), ExitStack() as stack:
        found = _stored(store, entry, inputs)
        if found:
            return found
        if isinstance(entry, SynthesizedEntry):
            clips = _synthesized(entry)
        elif source:
            clips = _from_disk(settings, entry, source, stack)
            if store.is_local:
                check_disk(scratch, sum(clip.size for clip in clips.listed))
            # Read once to the end before anything stored is replaced: a bad source must not cost a good dataset.
            _manifest(_rows(clips, "check", progress))
        else:
            room_for = sum(archive.expanded_bytes for archive in entry.archives) if store.is_local else 0
            paths = fetch_archives(
                settings, entry, scratch, room_for=room_for, progress=progress, session=session, retry=retry
            )
            clips = _from_archives(settings, entry, paths, stack)
        found = _import(store, entry, clips, (inputs, *clips.stands_for), progress)
    shutil.rmtree(scratch, ignore_errors=True)
    return found


@dataclass(frozen=True)
class _Clip:
    """A clip to import: its path in the dataset, what the manifest says of it besides its content, its bytes."""

    path: str
    labels: dict[str, Any]
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class _Clips:
    """Clips to import. ``stands_for``: hashes of other inputs that would have given the same clips."""

    listed: list[_Clip]
    origin: str
    warnings: tuple[str, ...] = ()
    complete: bool = True
    archives: tuple[dict[str, Any], ...] = ()
    stands_for: tuple[str, ...] = ()


def _key(name: str, file: str) -> str:
    return f"datasets/{name}/{file}"


def _stored(store: Store, entry: Entry, inputs: str) -> Dataset | None:
    """The dataset in the store if it was made from these inputs and is whole; its texts follow the catalogue."""
    marker = _key(entry.name, "dataset.json")
    if not store.exists(marker):
        return None
    record = store.read_json(marker)
    if inputs not in record["made_from"] or not store.exists(_key(entry.name, "manifest.csv")):
        return None
    if len(store.list(audio_folder(entry.name))) != record["clips"]:
        log.warning("%s: clips were added to or deleted from the store; it is made again", entry.name)
        return None
    current = record | _description(entry)
    if current != record:
        store.write_json(marker, current)
    return load(store, entry.name)


def _description(entry: Entry) -> dict[str, Any]:
    folds = entry.folds and [[_speaker(entry, name) for name in fold] for fold in entry.folds.speakers]
    return {
        "name": entry.name,
        "title": entry.title,
        "kind": entry.kind,
        "synthesized": isinstance(entry, SynthesizedEntry),
        "licence": asdict(entry.licence),
        "commercial_use": entry.commercial_use,
        "source": entry.source,
        "citation": entry.citation,
        "folds": folds,
        "folds_scheme": entry.folds and entry.folds.scheme,
    }


def _speaker(entry: Entry, name: str) -> str:
    return f"{entry.speaker_prefix}:{name}"


def _inputs(entry: Entry, source: Path | None) -> str:
    """A hash of all that decides which clips the dataset has and what their labels are."""
    parts: list[Any] = [_FORMAT, entry.kind, entry.speaker_prefix]
    if isinstance(entry, ZenodoEntry):
        parts += [entry.record, [asdict(archive) for archive in entry.archives]]
    elif isinstance(entry, SynthesizedEntry):
        parts += [synthesis.VERSION, entry.speakers, entry.repetitions]
    elif isinstance(entry, FolderEntry):
        parts += [sorted(entry.labels.items())]
    if source:
        files = _files(source.parent) if source.suffix.lower() == ".csv" else _files(source)
        parts += [str(source), [(path, found.st_size, found.st_mtime_ns) for path, _, found in files]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One process at a time; the lock goes with its process, however that ends."""
    with open(file, "w") as handle:
        waiting = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    log.warning("another process is at work on this dataset (%s); waiting for it", file)
                waiting = True
                time.sleep(0.2)
        yield


def _import(
    store: Store, entry: Entry, clips: _Clips, made_from: tuple[str, ...], progress: Progress | None
) -> Dataset:
    """Write clips, manifest and marker, in this order, in place of what was stored under the name."""
    folder = audio_folder(entry.name)
    present = set(store.list(folder))
    store.delete(_key(entry.name, "dataset.json"))

    def put(path: str, data: bytes) -> None:
        key = f"{folder}/{path}"
        if key not in present or store.read_bytes(key) != data:
            store.write_bytes(key, data)
        present.discard(key)

    manifest = _manifest(_rows(clips, "import", progress, put))
    for key in sorted(present):
        store.delete(key)
    store.write_table(_key(entry.name, "manifest.csv"), manifest)
    lines = sorted(f"{row.sha256} {row.emotion} {row.speaker}" for row in manifest.itertuples())
    facts = _description(entry) | {
        "complete": clips.complete,
        "warnings": list(clips.warnings),
        "notice": " ".join(clips.warnings),
        "fingerprint": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "clips": len(manifest),
        "unique": int((manifest["duplicate_of"] == "").sum()),
        "speakers": int(manifest.loc[manifest["speaker"] != "", "speaker"].nunique()),
        "unreadable": int(manifest["duration"].isna().sum()),
        "seconds": round(float(manifest["duration"].sum()), 3),
        "bytes": int(manifest["bytes"].sum()),
        "emotions": {emotion: int((manifest["emotion"] == emotion).sum()) for emotion in EMOTIONS},
        "origin": clips.origin,
        "archives": list(clips.archives),
    }
    store.write_json(_key(entry.name, "dataset.json"), facts | {"made_from": list(made_from)})
    for warning in clips.warnings:
        log.warning("%s: %s", entry.name, warning)
    return Dataset(entry.name, facts)


def _rows(
    clips: _Clips,
    stage: str,
    progress: Progress | None,
    put: Callable[[str, bytes], None] = lambda path, data: None,
) -> Iterator[dict[str, Any]]:
    """The manifest's rows, in the order in which the clips are read."""
    for done, clip in enumerate(clips.listed, start=1):
        data = clip.read()
        put(clip.path, data)
        row = {"path": clip.path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        yield row | clip.labels | _header(data)
        if progress:
            progress(stage, done, len(clips.listed), "clips")


def _header(data: bytes) -> dict[str, Any]:
    """Duration, rate and channels as the header has them; without a readable header, nothing."""
    try:
        info = soundfile.info(io.BytesIO(data))
    except soundfile.SoundFileError:
        return {}
    if info.frames < 0:
        return {}
    return {"duration": round(info.frames / info.samplerate, 6), "rate": info.samplerate, "channels": info.channels}


def _manifest(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """The manifest as a table; raises DataError if the same recording carries two emotions."""
    first: dict[str, dict[str, Any]] = {}
    listed = sorted(rows, key=lambda row: row["path"])
    for row in listed:
        original = first.setdefault(row["sha256"], row)
        if original["emotion"] != row["emotion"]:
            raise DataError(
                f"{original['path']} ({original['emotion']}) and {row['path']} ({row['emotion']}) are the same recording "
                "with two emotions; delete one of them"
            )
        row["duplicate_of"] = "" if original is row else original["path"]
    frame = pd.DataFrame(listed, columns=list(MANIFEST))
    texts = [column for column, dtype in MANIFEST.items() if dtype == "str"]
    return frame.fillna(dict.fromkeys(texts, "")).astype(MANIFEST)


def _synthesized(entry: SynthesizedEntry) -> _Clips:
    def clip(path: str) -> _Clip:
        labels = _ravdess_labels(entry, PurePosixPath(path).stem)
        return _Clip(path, labels, 0, lambda: synthesis.wav_bytes(synthesis.synthesize_clip(path)))

    paths = synthesis.names(speakers=entry.speakers, repetitions=entry.repetitions)
    return _Clips(
        [clip(path) for path in paths],
        origin=f"synthesized, version {synthesis.VERSION}",
        warnings=(synthesis.NOTICE,),
    )


def _from_archives(settings: Settings, entry: ZenodoEntry, paths: list[Path], stack: ExitStack) -> _Clips:
    members = []
    for archive, path in zip(entry.archives, paths, strict=True):
        members += zip_members(stack.enter_context(open_zip(path)), max_bytes=archive.expanded_bytes)
    clips = _ravdess_clips(entry, members)
    amiss = _amiss(entry, clips)
    if amiss:
        raise DataError(f"{settings.catalogue}: {entry.name}: the archives do not hold what it says: found {amiss}")
    return _Clips(
        clips,
        origin=f"{settings.zenodo_url}/records/{entry.record}",
        archives=tuple(
            _archive_facts(archive.key, path) for archive, path in zip(entry.archives, paths, strict=True)
        ),
    )


def _archive_facts(key: str, path: Path) -> dict[str, Any]:
    return {"key": key, "bytes": path.stat().st_size} | checksums(path)


def _from_disk(settings: Settings, entry: Entry, source: Path, stack: ExitStack) -> _Clips:
    if isinstance(entry, ZenodoEntry):
        return _ravdess_from_disk(settings, entry, source, stack)
    if source.is_dir():
        members, table = _folder_members(settings, source), LABELS_FILE
    elif source.suffix.lower() == ".csv":
        members, table = _folder_members(settings, source.parent), source.name
    else:
        members, table = _below_common_folder(entry, zip_members(stack.enter_context(open_zip(source)))), LABELS_FILE
    by_path = {member.path: member for member in members}
    if table in by_path:
        clips, warnings = _clips_of_table(entry, by_path, table)
    else:
        clips, warnings = _clips_of_folders(entry, members, source), []
    if len({clip.labels["emotion"] for clip in clips}) < 2:
        raise DataError(
            f"{source} has {len(clips)} recordings of fewer than two emotions; expected a subfolder per emotion with "
            f"recordings in it, or a {LABELS_FILE} with the columns path and emotion"
        )
    speakers = {clip.labels["speaker"] for clip in clips}
    if len(speakers) == 1:
        known = "No speaker is known" if speakers == {""} else "All clips are of one speaker"
        warnings.append(
            f"{known}: none can be held out, so the speaker-independent protocols, by which models are chosen, cannot "
            f"be run. Give recordings of several speakers, each in a subfolder below the emotion's or named in the "
            f"column speaker of {LABELS_FILE}."
        )
    return _Clips(clips, origin=str(source), warnings=tuple(warnings))


def _resolve(settings: Settings, entry: Entry, source: Path | None) -> Path | None:
    """The source as a real path below one of the folders that recordings may come from."""
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
            f"the source {source} lies outside the folders that recordings may come from ({_folders(settings)}); "
            "add its folder to EMOTION_RECORDINGS or move it there"
        )
    for place in inside:
        if place.exists():
            return place
    raise ConfigurationError(f"the source {inside[0]} is not there; expected a folder, a zip or a CSV")


def _folders(settings: Settings) -> str:
    return os.pathsep.join(map(str, settings.recordings))


def _files(source: Path) -> list[tuple[str, Path, os.stat_result]]:
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


def _folder_members(settings: Settings, folder: Path) -> list[Member]:
    roots = [root.resolve() for root in settings.recordings]
    members = []
    for relative, path, found in _files(folder):
        if "\\" in relative or not relative.isprintable():
            raise DataError(f"{str(path)!r} has a backslash or an unprintable character in its name; rename it")
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in roots):
            raise DataError(f"{path} is a link to {path.resolve()}, outside {_folders(settings)} (EMOTION_RECORDINGS)")
        members.append(Member(relative, found.st_size, lambda path=path: _read_file(path)))
    return members


def _read_file(path: Path) -> bytes:
    with open(path, "rb") as handle:
        data = handle.read(MAX_MEMBER_BYTES + 1)
    if len(data) > MAX_MEMBER_BYTES:
        raise DataError(f"{path} is longer than {MAX_MEMBER_BYTES:,} bytes; split it into clips of one emotion")
    return data


def _is_audio(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES


# RAVDESS: labels are in the file names -------------------------------------------------------------------------------

_RAVDESS_NAME = re.compile(r"03-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")


def _ravdess_labels(entry: Entry, stem: str) -> dict[str, Any] | None:
    """What a RAVDESS name (03-channel-emotion-intensity-statement-repetition-actor) says; None if it is none."""
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
        "speaker": _speaker(entry, actor),
        "gender": "male" if int(actor) % 2 else "female",
    }


def _ravdess_clips(entry: ZenodoEntry, members: list[Member]) -> list[_Clip]:
    """The entry's clips, each once, at ``Actor_NN/<name>`` wherever they lay; those of other channels are left out.

    Mirrors hold every clip twice: the same name and the same bytes is one clip, other bytes are refused.
    """
    channels = {archive.channel for archive in entry.archives}
    clips: dict[str, tuple[_Clip, Member]] = {}
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
            _, first = clips.setdefault(name.stem, (_Clip(path, labels, member.size, member.read), member))
            if first is not member and first.read() != member.read():
                raise DataError(f"{first.path} and {member.path} are of the same name and differ; delete the wrong one")
    if strangers:
        raise DataError(
            f"{len(strangers)} recordings do not bear RAVDESS's names, such as {', '.join(strangers[:3])}; expected "
            "03-01-06-01-02-01-12.wav or the like. For recordings of your own, use a dataset of kind folder"
        )
    if not clips:
        raise DataError(f"no {' or '.join(sorted(channels))} clips of RAVDESS are there; expected 03-….wav files")
    for channel, count in other.items():
        log.info("%s: %d %s clips are left out, they are not of this dataset", entry.name, count, channel)
    return [clip for clip, _ in clips.values()]


def _amiss(entry: ZenodoEntry, clips: list[_Clip]) -> str:
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
            f"{found.total():,} of {archive.clips:,} {archive.channel} clips" + f" ({'; '.join(details)})" * bool(details)
        )
    return " and ".join(complaints)


def _ravdess_from_disk(settings: Settings, entry: ZenodoEntry, source: Path, stack: ExitStack) -> _Clips:
    loose, zips = [], [source]
    if source.is_dir():
        loose = _folder_members(settings, source)
        zips = [source / archive.key for archive in entry.archives if (source / archive.key).is_file()]
    members = list(loose)
    for path in zips:
        members += zip_members(stack.enter_context(open_zip(path)))
    clips = _ravdess_clips(entry, members)
    archives = [_archive_facts(path.name, path) for path in zips]
    published = [(archive.bytes, archive.md5, archive.sha256) for archive in entry.archives]
    given = [(facts["bytes"], facts["md5"], facts["sha256"]) for facts in archives]
    as_published = sorted(given) == sorted(
        (size, md5, sha256 or found[2]) for (size, md5, sha256), found in zip(published, given, strict=False)
    )
    amiss = _amiss(entry, clips)
    warnings = ()
    if amiss:
        warnings = (
            f"Not the whole dataset: {source.name} has {amiss}. Figures do not compare with those of the whole.",
        )
    return _Clips(
        clips,
        origin=str(source),
        warnings=warnings,
        complete=not amiss,
        archives=tuple(archives),
        stands_for=(_inputs(entry, None),) if as_published and not amiss else (),
    )


# One's own recordings: labels are the folders' names, or in a table --------------------------------------------------


def _below_common_folder(entry: FolderEntry, members: list[Member]) -> list[Member]:
    """A zip of a folder has that folder around everything; it is taken off, unless it is an emotion's."""
    tops = {PurePosixPath(member.path).parts[0] for member in members}
    if len(tops) != 1 or any("/" not in member.path for member in members) or _emotion(entry, *tops):
        return members
    return [Member(member.path.partition("/")[2], member.size, member.read) for member in members]


def _emotion(entry: FolderEntry, word: str) -> str | None:
    word = word.strip().lower()
    return entry.labels.get(word, word if word in EMOTIONS else None)


def _clips_of_folders(entry: FolderEntry, members: list[Member], source: Path) -> list[_Clip]:
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


def _clips_of_table(entry: FolderEntry, members: dict[str, Member], table: str) -> tuple[list[_Clip], list[str]]:
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
            f"{table} has the columns {', '.join(header) or 'none'}; expected path, emotion and, where known, "
            f"{', '.join(LABEL_COLUMNS[2:])}, separated by commas"
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
            f"{table} names {len(absent)} files that are not there: {'; '.join(absent[:3])}{'; …' * (len(absent) > 3)}. "
            "Expected paths relative to its own folder and below it, with /"
        )
    unlisted = sum(_is_audio(path) and path not in seen for path in members)
    warnings = [f"{unlisted} recordings are not in {table} and are left out."] if unlisted else []
    return _own_clips(entry, rows), warnings


def _own_clips(entry: FolderEntry, rows: list[tuple[Member, dict[str, str]]]) -> list[_Clip]:
    unknown = Counter(labels["emotion"] for _, labels in rows if not _emotion(entry, labels["emotion"]))
    if unknown:
        found = ", ".join(f"{word or '(none)'} ({count} clips)" for word, count in sorted(unknown.items()))
        raise DataError(
            f"labels that are no emotion of ours: {found}. Expected {', '.join(EMOTIONS)}; map your own words to them in "
            f"the catalogue, as in labels: {{{next(iter(unknown)) or 'anger'}: angry}} of {entry.name}"
        )
    nameless = [member.path for member, labels in rows if not labels.get("speaker")]
    if nameless and len(nameless) < len(rows):
        raise DataError(
            f"{len(nameless)} of {len(rows)} clips have no speaker, such as {nameless[0]}; expected one for all, or none"
        )
    clips = []
    for member, labels in rows:
        actor = labels.get("speaker", "")
        labels = labels | {
            "emotion": _emotion(entry, labels["emotion"]),
            "actor": actor,
            "speaker": _speaker(entry, actor) if actor else "",
        }
        clips.append(_Clip(member.path, labels, member.size, member.read))
    return clips
