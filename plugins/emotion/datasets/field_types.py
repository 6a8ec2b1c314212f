"""The types of the catalogue's values. Each says in words what it expects; the words become part of the error."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from emotion.vocabulary import EMOTIONS, SKIP, WITHOUT_EMOTION

CHANNELS = ("speech", "song")
_EMOTION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
QUOTE = "each under a name (quote a name that YAML takes for something else)"


class Strict(BaseModel):
    """No value is converted, no other key is taken, and nothing changes afterwards."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


def wrong(expectation: str) -> PydanticCustomError:
    """The error of a value, from the words for what was expected."""
    return PydanticCustomError("expected", "{expectation}", {"expectation": expectation})


def _expect(expectation: str) -> WrapValidator:
    """Give a scalar type its words."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError:
            raise wrong(expectation) from None

    return WrapValidator(check)


def list_of(items: str) -> BeforeValidator:
    """A list that is not empty, kept as a tuple."""

    def check(value: object) -> object:
        if not isinstance(value, list) or not value:
            raise wrong(f"a list of {items}")
        return tuple(value)

    return BeforeValidator(check)


def _one_of(choices: Sequence[str]) -> BeforeValidator:
    def check(value: object) -> object:
        if value not in choices:
            raise wrong(f"one of {', '.join(choices)}")
        return value

    return BeforeValidator(check)


def _numbered_speaker(value: object) -> object:
    """A speaker as the manifest writes it: an actor's number with two digits, a name as it is."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return f"{value:02d}" if is_number else value


def _speakers_once(folds: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    speakers = [speaker for fold in folds for speaker in fold]
    if len(folds) < 2 or len(set(speakers)) < len(speakers):
        raise wrong("two folds or more, and no speaker in two of them")
    return folds


def text_mapping(contents: str, *, values: type = str) -> BeforeValidator:
    """A mapping from texts to texts, or to values of another type; empty ones are left to the type itself."""

    def check(value: object) -> object:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise wrong(f"{contents}, {QUOTE}")
        if not all(isinstance(inner, values) for inner in value.values()):
            raise wrong(f"{contents}; quote a number, and a word that YAML takes for something else")
        return value

    return BeforeValidator(check)


def normal_word(word: str) -> str:
    """A word for an emotion in the form in which words are compared: lower case, one form of letters with accents.

    >>> normal_word(" Anger ")
    'anger'
    """
    return unicodedata.normalize("NFC", word).strip().lower()


def _words(value: object) -> object:
    if not isinstance(value, dict) or not all(isinstance(word, str) for word in value):
        raise wrong(f"words of your own for the emotions, {QUOTE}")
    return value


def _normal_words(labels: dict[str, str | None]) -> dict[str, str | None]:
    words = {normal_word(word): emotion for word, emotion in labels.items()}
    if len(words) < len(labels):
        raise wrong("each word once; upper and lower case are the same")
    return words


def _known_emotion(value: object, info: ValidationInfo) -> object:
    """One of the eight, one that the entry declares, or null for a word whose clips are left out."""
    known = (*EMOTIONS, *info.data.get("emotions", ()))
    if value is not None and value not in known:
        raise wrong(f"one of {', '.join(known)}, or null to leave such clips out; declare others under emotions")
    return value


def _emotion_names(value: object) -> object:
    if not isinstance(value, dict) or not all(isinstance(n, str) and _EMOTION_NAME.fullmatch(n) for n in value):
        raise wrong(
            f"names of further emotions (lower-case letters, digits, _ and -, at most 40), {QUOTE}, and a colour or "
            "null for each"
        )
    known = [name for name in value if name in EMOTIONS]
    if known:
        raise wrong(f"emotions besides the eight that every model knows; {known[0]} is one of these")
    reserved = [name for name in value if name in (*WITHOUT_EMOTION, SKIP)]
    if reserved:
        raise wrong(f"emotions; {reserved[0]} is what a listener says in place of one")
    return value


def _below_recordings(folder: str) -> str:
    if ".." in PurePosixPath(folder).parts:
        raise wrong("a path without '..'")
    return folder


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), _expect("text")]
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$"), _expect("lower-case letters, digits, - and _")
]
Count = Annotated[int, Field(gt=0), _expect("a whole number above 0")]
Share = Annotated[float, Field(gt=0, le=1), _expect("a number above 0, up to 1, such as 0.62")]
Flag = Annotated[bool | None, _expect("true, false or null")]
ZipName = Annotated[str, StringConstraints(pattern=r"^\w[\w .()-]*\.zip$"), _expect("a file name that ends in .zip")]
Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$"), _expect("32 hexadecimal digits, in quotes")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), _expect("64 hexadecimal digits, in quotes")]
Speaker = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    BeforeValidator(_numbered_speaker),
    _expect("a speaker's name, or an actor's number above 0"),
]
SpeakerFolds = Annotated[
    tuple[Annotated[tuple[Speaker, ...], list_of("speakers")], ...],
    list_of("folds, each a list of speakers"),
    AfterValidator(_speakers_once),
]
Channel = Annotated[str, _one_of(CHANNELS)]
Colour = Annotated[
    Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")] | None,
    _expect("a colour as in '#aa8855', in quotes, or null"),
]
Emotions = Annotated[dict[str, Colour], BeforeValidator(_emotion_names)]
Emotion = Annotated[str | None, BeforeValidator(_known_emotion)]
Labels = Annotated[dict[str, Emotion], BeforeValidator(_words), AfterValidator(_normal_words)]
Actors = Annotated[tuple[Count, ...], list_of("actors' numbers")]
ArchiveUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https?://\S*[0-9a-f]{40}\S*$"),
    _expect("the http or https URL of a zip, with the 40 digits of a commit in it"),
]
Folder = Annotated[Text, AfterValidator(_below_recordings)]
