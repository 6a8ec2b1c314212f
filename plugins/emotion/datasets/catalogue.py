"""The dataset catalogue: which datasets there are, where they come from and what their licence allows.

The catalogue is one YAML file. It is checked strictly: an unknown key, a missing key or a value of the wrong type is
refused with the file, the place in it, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from emotion.datasets.field_types import (
    QUOTE,
    Actors,
    ArchiveUrl,
    Channel,
    Count,
    Emotions,
    Flag,
    Folder,
    Labels,
    Md5,
    Name,
    Sha256,
    Share,
    SpeakerFolds,
    Strict,
    Text,
    ZipName,
    list_of,
)
from emotion.datasets.rules import RAVDESS, Rule
from emotion.errors import ConfigurationError
from emotion.vocabulary import EMOTIONS, REVIEWED


class Licence(Strict):
    """A licence, and in ``model`` what it means for a model trained on the data."""

    id: Text
    name: Text
    url: Text | None
    model: Text


class Listeners(Strict):
    """How often people name the emotion that was meant, when they hear the recordings: from ``low`` to ``high``; in
    words what was measured, and the source."""

    low: Share
    high: Share
    measured: Text
    source: Text


class Folds(Strict):
    """Published speaker-independent folds: the speakers (without the dataset's prefix) that each holds out."""

    scheme: Name
    speakers: SpeakerFolds


class Archive(Strict):
    """One zip of a Zenodo record: its size and checksums as published, and what it must hold; None: not known.

    Where size or checksum is None, the record's own listing is what the download is compared with.
    """

    key: ZipName
    bytes: Count | None
    md5: Md5 | None
    sha256: Sha256 | None
    expanded_bytes: Count | None
    channel: Channel | None
    clips: Count | None
    actors: Actors | None


class _Dataset(Strict):
    """What every dataset has, whatever its kind. ``name`` is the key of its entry."""

    name: Name = Field(exclude=True)  # it is not among the keys of the entry
    title: Text
    kind: str
    licence: Licence
    commercial_use: Flag
    source: Text
    citation: Text
    folds: Folds | None
    language: Text | None = None
    listeners: Listeners | None = None

    @property
    def speaker_prefix(self) -> str:
        """What comes before the colon in a speaker's name."""
        return self.name


class _Labelled(_Dataset):
    """Recordings whose labels are words: what the words stand for, and a rule if they are in the names of the files.

    ``emotions`` declares emotions besides the eight, with a colour or None. ``labels`` maps words to emotions; None:
    clips with this word are left out.
    """

    emotions: Emotions = {}
    labels: Labels = {}
    rule: Rule | None = None

    @property
    def translations(self) -> dict[str, str | None]:
        """The words that the entry declares or translates, with the emotion of each; None: clips are left out."""
        return {name: name for name in self.emotions} | self.labels


class ZenodoEntry(_Labelled):
    """Archives of a Zenodo record. Without a rule the clips are named as RAVDESS names them."""

    kind: Literal["zenodo"]
    record: Count
    prefix: Name = Field(alias="speaker_prefix")
    archives: Annotated[tuple[Archive, ...], list_of("archives")]

    @property
    def speaker_prefix(self) -> str:
        return self.prefix

    @property
    def naming(self) -> Rule:
        """The entry's rule, or that of RAVDESS."""
        return self.rule or RAVDESS


class RepositoryEntry(_Labelled):
    """The archive of one commit of a repository, with clips named by the rule."""

    kind: Literal["repository"]
    rule: Rule
    archive: ArchiveUrl
    sha256: Sha256 | None
    expanded_bytes: Count | None
    clips: Count | None


class SynthesizedEntry(_Dataset):
    """The corpus that ``emotion.datasets.synthesis`` generates."""

    kind: Literal["synthesized"]
    speakers: Count
    repetitions: Count


class FolderEntry(_Labelled):
    """Recordings on a disk. ``clips`` is how many the whole dataset has; None: not known."""

    kind: Literal["folder"]
    folder: Folder | None = None
    clips: Count | None = None


class ReviewedEntry(_Dataset):
    """The clips that listeners have labelled in the review. Its name is :data:`emotion.vocabulary.REVIEWED`."""

    kind: Literal["reviewed"]


Entry = ZenodoEntry | RepositoryEntry | SynthesizedEntry | FolderEntry | ReviewedEntry
"""A dataset of the catalogue, of one of the five kinds."""

OWN_SOURCE = "recordings of your own"
_OWN_RECORDINGS: dict[str, object] = {
    "licence": {
        "id": "own",
        "name": "Whatever you agreed on with the people recorded",
        "url": None,
        "model": "The rights in these recordings, and the consent of the people recorded, decide what a model trained "
        "on them may be used for; nothing is known about them here.",
    },
    "commercial_use": None,
    "source": OWN_SOURCE,
    "citation": "Recordings of your own.",
    "folds": None,
}
"""What an entry of kind folder or reviewed says where it has no such key; its title is then its name."""

_KINDS: dict[str, type[BaseModel]] = {
    "zenodo": ZenodoEntry,
    "repository": RepositoryEntry,
    "synthesized": SynthesizedEntry,
    "folder": FolderEntry,
    "reviewed": ReviewedEntry,
}
_NESTED: dict[str, type[BaseModel]] = {"licence": Licence, "folds": Folds, "archives": Archive, "rule": Rule}
"""The models of the mappings inside an entry, by the key that holds them."""
YAML_VALUE_ERRORS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises besides its own errors, for example AttributeError for ``!!timestamp soon``."""
_WORD_LETTERS = 4
"""Of an entry with a rule, shorter labels are codes and not words."""
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def read_catalogue(file: Path) -> dict[str, Entry]:
    """Every dataset of the catalogue, by name.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, or anything in it is not as expected.

    Examples
    --------
    >>> from emotion.settings import INCLUDE
    >>> list(read_catalogue(INCLUDE / "datasets.yaml"))
    ['ravdess-speech', 'ravdess-speech-song', 'nemo', 'emodb', 'emodb-2', 'crema-d', 'tess', 'savee', 'synthesized', \
'labelled-folder', 'reviewed']
    """
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise ConfigurationError(
            f"the dataset catalogue {file} cannot be read ({error.strerror}); EMOTION_DATASETS names another"
        ) from None
    except (yaml.YAMLError, *YAML_VALUE_ERRORS) as error:
        raise ConfigurationError(f"the dataset catalogue {file} is not valid YAML: {error}") from None
    entries = _mapping(document, f"{file}: the file", "one entry per dataset")
    if not entries:
        raise ConfigurationError(f"the dataset catalogue {file} is empty; expected at least one dataset")
    catalogue = {name: _entry(file, name, value) for name, value in entries.items()}
    _check_colours(file, catalogue)
    return catalogue


def find_entry(file: Path, name: str) -> Entry:
    """One dataset of the catalogue.

    Raises
    ------
    ConfigurationError
        If the catalogue has no dataset of that name (the message lists those it has), or cannot be read.

    Examples
    --------
    >>> from emotion.settings import INCLUDE
    >>> entry = find_entry(INCLUDE / "datasets.yaml", "ravdess-speech")
    >>> entry.kind, entry.licence.id, entry.folds.speakers[0]
    ('zenodo', 'CC-BY-NC-SA-4.0', ('01', '11', '20', '21'))
    """
    entries = read_catalogue(file)
    if name not in entries:
        raise ConfigurationError(f"no dataset {name!r} in {file}; it has {', '.join(entries)}")
    return entries[name]


def shared_translations(entries: Iterable[Entry]) -> dict[str, str | None]:
    """The words for emotions that all entries together translate, and the emotion (None: left out) of each.

    Left out of it are

    - a word that two entries translate differently;
    - a word that is itself one of the eight emotions;
    - the codes of entries with a rule: what has fewer than four letters, such as W, ANG or ps.

    Examples
    --------
    >>> from emotion.settings import INCLUDE
    >>> entry = find_entry(INCLUDE / "datasets.yaml", "labelled-folder")
    >>> calls = entry.model_copy(update={"labels": {"anger": "angry", "calm": "neutral"}})
    >>> shared_translations([entry, calls])
    {'anger': 'angry'}
    """
    meanings: dict[str, set[str | None]] = {}
    for entry in entries:
        if isinstance(entry, _Labelled):
            for word, emotion in entry.translations.items():
                if entry.rule is None or sum(map(str.isalpha, word)) >= _WORD_LETTERS:
                    meanings.setdefault(word, set()).add(emotion)
    return {
        word: next(iter(emotions)) for word, emotions in meanings.items() if len(emotions) == 1 and word not in EMOTIONS
    }


def _check_colours(file: Path, entries: Mapping[str, Entry]) -> None:
    """Raise ConfigurationError if two entries declare an emotion with two colours."""
    first: dict[str, tuple[str, str]] = {}
    for name, entry in entries.items():
        for emotion, colour in entry.emotions.items() if isinstance(entry, _Labelled) else ():
            if colour:
                other, its_colour = first.setdefault(emotion, (name, colour.lower()))
                if colour.lower() != its_colour:
                    raise ConfigurationError(
                        f"{file}: {other}.emotions and {name}.emotions give {emotion} two colours, {its_colour} and "
                        f"{colour.lower()}; expected one, or null in one of them"
                    )


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one of the same name; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                name = (key.tag, str(key.value))
                if name in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(name)
        return super().construct_mapping(node, deep)


def _entry(file: Path, name: str, value: object) -> Entry:
    fields = _mapping(value, f"{file}: {name}", "a dataset's keys")
    if "name" in fields:
        raise ConfigurationError(f"{file}: {name}.name: unknown key; the name of a dataset is the key of its entry")
    if (fields.get("kind") == "reviewed") != (name == REVIEWED):
        raise ConfigurationError(
            f"{file}: {name}.kind: found {_shown(fields.get('kind'))}; expected the kind reviewed for the dataset that "
            f"is named {REVIEWED}, and for no other"
        )
    if fields.get("kind") in ("folder", "reviewed"):
        fields = {"title": name, **_OWN_RECORDINGS, **fields}
    try:
        _NAME.validate_python(name)
        return _ENTRY.validate_python(fields | {"name": name})
    except ValidationError as error:
        raise ConfigurationError(f"{file}: {_complaint(name, error.errors())}") from None


def _mapping(value: object, place: str, expectation: str) -> dict[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"{place}: found {_shown(value)}; expected {expectation}, {QUOTE}")
    return value


def _complaint(name: str, errors: list[ErrorDetails]) -> str:
    """One sentence on what is wrong in an entry: with a key where there is such an error, else with a value."""
    ranks = ("invalid_key", "extra_forbidden", "missing")
    error = min(errors, key=lambda error: ranks.index(error["type"]) if error["type"] in ranks else len(ranks))
    kind, *path = error["loc"] or ("",)  # pydantic puts the kind of the entry before the path in it
    place, holder = _place(name, path), _place(name, path[:-1])
    value = error["input"]
    match error["type"]:
        case "missing":
            siblings = [other["loc"] for other in errors if other["type"] == "missing"]
            keys = [str(loc[-1]) for loc in siblings if loc[:-1] == error["loc"][:-1]]
            return f"{holder}: missing key {', '.join(keys)}"
        case "extra_forbidden":
            return f"{place}: unknown key; expected {_keys(kind, path[:-1])}"
        case "invalid_key":
            return f"{holder}: found the key {_shown(value)}; expected {_keys(kind, path[:-1])}, {QUOTE}"
        case "model_type":
            return f"{place}: found {_shown(value)}; expected the keys {_keys(kind, path)}, {QUOTE}"
        case "union_tag_not_found":
            return f"{place}: missing key kind"
        case "union_tag_invalid":
            return f"{place}.kind: found {_shown(value['kind'])}; expected one of {', '.join(_KINDS)}"
    return f"{place}: found {_shown(value)}; expected {error['msg']}"


def _place(name: str, path: Sequence[int | str]) -> str:
    return name + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{value!r} ({type(value).__name__})"


def _keys(kind: int | str, path: Sequence[int | str]) -> str:
    """The keys that the mapping at a path of an entry has."""
    names = [key for key in path if isinstance(key, str)]
    model = _NESTED[names[-1]] if names else _KINDS[str(kind)]
    return ", ".join(field.alias or name for name, field in model.model_fields.items() if not field.exclude)
