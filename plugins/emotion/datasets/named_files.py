"""Recordings whose names say emotion and speaker, by the rule of their entry."""

from __future__ import annotations

import hashlib
import logging
from pathlib import PurePosixPath

from emotion.datasets.archives import Member
from emotion.datasets.clips import is_audio
from emotion.datasets.labelled_files import LabelledEntry, LabelledFile, check_words, label
from emotion.datasets.rules import RAVDESS, Rule, read_names
from emotion.errors import DataError

log = logging.getLogger(__name__)

_FORMATS = (".wav", ".flac")
"""Which of several formats of a recording is taken, best first; others come after them."""


def files_by_name(entry: LabelledEntry, rule: Rule, members: list[Member], source: str) -> list[LabelledFile]:
    """The recordings among the files of a source, with what their names say; other files are ignored.

    Raises
    ------
    DataError
        If a recording does not fit the rule, or a word for an emotion is not known.
    """
    recordings = [member for member in members if is_audio(member.path)]
    readings = read_names(rule, [str(PurePosixPath(member.path).with_suffix("")) for member in recordings], entry.name)
    pairs = list(zip(recordings, readings, strict=True))
    misfits = [(member.path, reading) for member, reading in pairs if isinstance(reading, str)]
    if misfits:
        raise DataError(_misfits_message(entry, rule, misfits, f"{len(misfits)} of {len(recordings)}", source))
    texts = [(member, reading) for member, reading in pairs if isinstance(reading, dict)]
    check_words(entry, [(of_file["emotion"], member.path) for member, of_file in texts], source)
    return [label(entry, member, of_file) for member, of_file in texts]


def _misfits_message(entry: LabelledEntry, rule: Rule, misfits: list[tuple[str, str]], share: str, source: str) -> str:
    """What is wrong with recordings that do not fit a rule, from their paths and the reasons."""
    if rule == RAVDESS:
        return (
            f"{len(misfits)} recordings do not have RAVDESS's names, such as "
            f"{', '.join(path for path, _ in misfits[:3])}; expected 03-01-06-01-02-01-12.wav or the like. For "
            "recordings of your own, use a dataset of kind folder"
        )
    return (
        f"{share} recordings in {source} do not fit the rule of {entry.name}, such as "
        f"{'; '.join(f'{path} ({reason})' for path, reason in misfits[:3])}. Expected, without the ending, what fits "
        f"{' or '.join(rule.pattern)}; correct the rule in the catalogue, or take these files away"
    )


def each_once(files: list[LabelledFile], name: str) -> list[LabelledFile]:
    """The files without further copies of a recording.

    Repositories hold a recording in several formats, and mirrors hold folders twice. Of files that have the same name
    and labels and differ in format, the first of WAV, FLAC and the rest is taken; of such files with the same bytes,
    the first.
    """
    by_recording: dict[tuple[str, str], list[LabelledFile]] = {}
    for file in files:
        key = (PurePosixPath(file.member.path).stem, repr(sorted(file.labels.items())))
        by_recording.setdefault(key, []).append(file)
    kept = {id(file) for copies in by_recording.values() for file in _without_copies(copies)}
    if len(kept) < len(files):
        log.info("%s: %d files are further copies of recordings, and are left out", name, len(files) - len(kept))
    return [file for file in files if id(file) in kept]


def _without_copies(files: list[LabelledFile]) -> list[LabelledFile]:
    if len(files) == 1:
        return files
    suffixes = {PurePosixPath(file.member.path).suffix.lower() for file in files}
    best = min(suffixes, key=lambda suffix: (_FORMATS.index(suffix) if suffix in _FORMATS else len(_FORMATS), suffix))
    by_content: dict[bytes, LabelledFile] = {}
    for file in files:
        if PurePosixPath(file.member.path).suffix.lower() == best:
            by_content.setdefault(hashlib.sha256(file.member.read()).digest(), file)
    return list(by_content.values())


def common_folder(files: list[LabelledFile]) -> str:
    """The first folder of all paths, with its ``/``; ``""`` if they have none in common."""
    tops = {file.member.path.partition("/")[0] for file in files}
    return f"{min(tops)}/" if len(tops) == 1 and all("/" in file.member.path for file in files) else ""
