"""The types of the catalogue's values. Each says in words what it expects; the words become part of the error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from emotion.vocabulary import EMOTIONS

CHANNELS = ("speech", "song")
QUOTE = "each under a name (quote a name that YAML takes for something else)"


def _wrong(expectation: str) -> PydanticCustomError:
    return PydanticCustomError("expected", "{expectation}", {"expectation": expectation})


def _expect(expectation: str) -> WrapValidator:
    """Give a scalar type its words."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError:
            raise _wrong(expectation) from None

    return WrapValidator(check)


def list_of(items: str) -> BeforeValidator:
    """A list that is not empty, kept as a tuple."""

    def check(value: object) -> object:
        if not isinstance(value, list) or not value:
            raise _wrong(f"a list of {items}")
        return tuple(value)

    return BeforeValidator(check)


def _one_of(choices: Sequence[str]) -> BeforeValidator:
    def check(value: object) -> object:
        if value not in choices:
            raise _wrong(f"one of {', '.join(choices)}")
        return value

    return BeforeValidator(check)


def _numbered_speaker(value: object) -> object:
    """A speaker as the manifest writes it: an actor's number with two digits, a name as it is."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return f"{value:02d}" if is_number else value


def _speakers_once(folds: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    speakers = [speaker for fold in folds for speaker in fold]
    if len(folds) < 2 or len(set(speakers)) < len(speakers):
        raise _wrong("two folds or more, and no speaker in two of them")
    return folds


def _words(value: object) -> object:
    if not isinstance(value, dict) or not all(isinstance(word, str) for word in value):
        raise _wrong(f"words of your own for the emotions, {QUOTE}")
    return value


def _lower_case_words(labels: dict[str, str]) -> dict[str, str]:
    words = {word.strip().lower(): emotion for word, emotion in labels.items()}
    if len(words) < len(labels):
        raise _wrong("each word once; upper and lower case are the same")
    return words


def _below_recordings(folder: str) -> str:
    if ".." in PurePosixPath(folder).parts:
        raise _wrong("a path without '..'")
    return folder


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), _expect("text")]
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$"), _expect("lower-case letters, digits, - and _")
]
Count = Annotated[int, Field(gt=0), _expect("a whole number above 0")]
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
Emotion = Annotated[str, _one_of(EMOTIONS)]
Labels = Annotated[dict[str, Emotion], BeforeValidator(_words), AfterValidator(_lower_case_words)]
Actors = Annotated[tuple[Count, ...], list_of("actors' numbers")]
Folder = Annotated[Text, AfterValidator(_below_recordings)]
