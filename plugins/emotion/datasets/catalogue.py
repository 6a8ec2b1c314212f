"""The dataset catalogue: which datasets there are, where they come from and what their licence allows.

The catalogue is one YAML file, checked strictly: an unknown key, a missing key or a value of the wrong
type is refused with the file, the place in it, what was found and what was expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import yaml

from emotion.errors import ConfigurationError
from emotion.vocabulary import EMOTIONS

CHANNELS = ("speech", "song")


@dataclass(frozen=True)
class Licence:
    """A licence, and in ``model`` what it means for a model trained on the data."""

    id: str
    name: str
    url: str | None
    model: str


@dataclass(frozen=True)
class Folds:
    """Published speaker-independent folds: the speakers (less the dataset's prefix) that each holds out."""

    scheme: str
    speakers: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Archive:
    """One zip of a Zenodo record: its size and checksums as published, and what it must hold."""

    key: str
    bytes: int
    md5: str
    sha256: str | None
    expanded_bytes: int
    channel: str
    clips: int
    actors: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every dataset has, whatever its kind."""

    name: str
    title: str
    licence: Licence
    commercial_use: bool | None
    source: str
    citation: str
    folds: Folds | None
    kind: ClassVar[str]

    @property
    def speaker_prefix(self) -> str:
        """What comes before the colon in a speaker's name."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class ZenodoEntry(Entry):
    """Archives of a Zenodo record, their clips named as RAVDESS names them."""

    record: int
    archives: tuple[Archive, ...]
    prefix: str
    kind = "zenodo"

    @property
    def speaker_prefix(self) -> str:
        return self.prefix


@dataclass(frozen=True, kw_only=True)
class SynthesizedEntry(Entry):
    """The corpus that ``emotion.datasets.synthesis`` generates."""

    speakers: int
    repetitions: int
    kind = "synthesized"


@dataclass(frozen=True, kw_only=True)
class FolderEntry(Entry):
    """Recordings of one's own. ``labels`` maps one's own words (lower case) to emotions."""

    labels: dict[str, str]
    folder: str | None
    kind = "folder"


def read_catalogue(file: Path) -> dict[str, Entry]:
    """Every dataset of the catalogue, by name.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, or anything in it is not as expected.
    """
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise ConfigurationError(
            f"the dataset catalogue {file} cannot be read ({error.strerror}); EMOTION_DATASETS names another"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the dataset catalogue {file} is not valid YAML: {error}") from None
    entries = _Value(file, "", document).entries("one entry per dataset")
    if not entries:
        raise ConfigurationError(f"the dataset catalogue {file} is empty; expected at least one dataset")
    return {name: _entry(name, value) for name, value in entries.items()}


def find_entry(file: Path, name: str) -> Entry:
    """One dataset of the catalogue; raises ConfigurationError, listing those there are, if it has no such."""
    entries = read_catalogue(file)
    if name not in entries:
        raise ConfigurationError(f"no dataset {name!r} in {file}; it has {', '.join(entries)}")
    return entries[name]


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one of the same name; here that is an error."""

    def construct_mapping(self, node, deep=False):
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                name = (key.tag, str(key.value))
                if name in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(name)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class _Value:
    """A value of the file together with its place, so that every complaint can name it."""

    file: Path
    place: str
    value: Any

    def wrong(self, expected: str) -> ConfigurationError:
        found = "nothing" if self.value is None else f"{self.value!r} ({type(self.value).__name__})"
        return ConfigurationError(f"{self.file}: {self.place or 'the file'}: found {found}; expected {expected}")

    def _at(self, key: object) -> str:
        return f"{self.place}.{key}" if self.place else str(key)

    def entries(self, expected: str) -> dict[str, _Value]:
        if not isinstance(self.value, dict) or not all(isinstance(key, str) for key in self.value):
            raise self.wrong(f"{expected}, each under a name (quote a name that YAML takes for something else)")
        return {key: _Value(self.file, self._at(key), value) for key, value in self.value.items()}

    def fields(self, *names: str) -> dict[str, _Value]:
        """The values of exactly these keys."""
        found = self.entries(f"the keys {', '.join(names)}")
        for key in found:
            if key not in names:
                raise ConfigurationError(f"{self.file}: {self._at(key)}: unknown key; expected {', '.join(names)}")
        missing = [name for name in names if name not in found]
        if missing:
            raise ConfigurationError(f"{self.file}: {self.place}: missing key {', '.join(missing)}")
        return found

    def items(self, expected: str) -> list[_Value]:
        if not isinstance(self.value, list) or not self.value:
            raise self.wrong(f"a list of {expected}")
        return [_Value(self.file, f"{self.place}[{i}]", value) for i, value in enumerate(self.value)]

    def text(self, expected: str = "text", *, pattern: str = r"(?s).*\S.*") -> str:
        if not isinstance(self.value, str) or not re.fullmatch(pattern, self.value):
            raise self.wrong(expected)
        return self.value.strip()

    def name(self) -> str:
        return self.text("lower-case letters, digits, - and _", pattern=r"[a-z0-9][a-z0-9_-]*")

    def optional(self, read) -> Any:
        return None if self.value is None else read(self)

    def digest(self, bits: int) -> str:
        return self.text(f"{bits // 4} hexadecimal digits, in quotes", pattern=rf"[0-9a-f]{{{bits // 4}}}")

    def whole(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 1:
            raise self.wrong("a whole number above 0")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true, false or null")
        return self.value

    def one_of(self, *choices: str) -> str:
        if self.value not in choices:
            raise self.wrong(f"one of {', '.join(choices)}")
        return self.value


_COMMON = ("title", "kind", "licence", "commercial_use", "source", "citation", "folds")


def _entry(name: str, value: _Value) -> Entry:
    _Value(value.file, value.place, name).name()
    kinds = {"zenodo": _zenodo, "synthesized": _synthesized, "folder": _folder}
    found = value.entries("a dataset's keys")
    if "kind" not in found:
        raise ConfigurationError(f"{value.file}: {value.place}: missing key kind")
    return kinds[found["kind"].one_of(*kinds)](name, value)


def _common(name: str, fields: dict[str, _Value]) -> dict[str, Any]:
    licence = fields["licence"].fields("id", "name", "url", "model")
    return {
        "name": name,
        "title": fields["title"].text(),
        "licence": Licence(
            licence["id"].text(),
            licence["name"].text(),
            licence["url"].optional(_Value.text),
            licence["model"].text(),
        ),
        "commercial_use": fields["commercial_use"].optional(_Value.flag),
        "source": fields["source"].text(),
        "citation": fields["citation"].text(),
        "folds": fields["folds"].optional(_folds),
    }


def _folds(value: _Value) -> Folds:
    fields = value.fields("scheme", "speakers")
    folds = tuple(
        tuple(_speaker(speaker) for speaker in fold.items("speakers"))
        for fold in fields["speakers"].items("folds, each a list of speakers")
    )
    speakers = [speaker for fold in folds for speaker in fold]
    if len(folds) < 2 or len(set(speakers)) < len(speakers):
        raise fields["speakers"].wrong("two folds or more, and no speaker in two of them")
    return Folds(fields["scheme"].name(), folds)


def _speaker(value: _Value) -> str:
    """A speaker as the manifest writes him: an actor's number with two digits, a name as it is."""
    return value.text() if isinstance(value.value, str) else f"{value.whole():02d}"


def _zenodo(name: str, value: _Value) -> ZenodoEntry:
    fields = value.fields(*_COMMON, "record", "speaker_prefix", "archives")
    return ZenodoEntry(
        **_common(name, fields),
        record=fields["record"].whole(),
        prefix=fields["speaker_prefix"].name(),
        archives=tuple(_archive(archive) for archive in fields["archives"].items("archives")),
    )


def _archive(value: _Value) -> Archive:
    fields = value.fields("key", "bytes", "md5", "sha256", "expanded_bytes", "channel", "clips", "actors")
    return Archive(
        key=fields["key"].text("a file name that ends in .zip", pattern=r"[\w][\w .()-]*\.zip"),
        bytes=fields["bytes"].whole(),
        md5=fields["md5"].digest(128),
        sha256=fields["sha256"].optional(lambda digest: digest.digest(256)),
        expanded_bytes=fields["expanded_bytes"].whole(),
        channel=fields["channel"].one_of(*CHANNELS),
        clips=fields["clips"].whole(),
        actors=tuple(actor.whole() for actor in fields["actors"].items("actors' numbers")),
    )


def _synthesized(name: str, value: _Value) -> SynthesizedEntry:
    fields = value.fields(*_COMMON, "speakers", "repetitions")
    return SynthesizedEntry(
        **_common(name, fields),
        speakers=fields["speakers"].whole(),
        repetitions=fields["repetitions"].whole(),
    )


def _folder(name: str, value: _Value) -> FolderEntry:
    fields = value.fields(*_COMMON, "labels", "folder")
    labels = fields["labels"].entries("one's own words for the emotions")
    folder = fields["folder"].optional(_Value.text)
    if folder is not None and ".." in PurePosixPath(folder).parts:
        raise fields["folder"].wrong("a path without '..'")
    return FolderEntry(
        **_common(name, fields),
        labels={word.strip().lower(): emotion.one_of(*EMOTIONS) for word, emotion in labels.items()},
        folder=folder,
    )
