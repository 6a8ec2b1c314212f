"""A rule: how the names of a dataset's files say emotion, speaker and more. It is data, and stands in the catalogue."""

from __future__ import annotations

import re
import re._constants as operations
import re._parser as parser
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationInfo

from emotion.datasets.field_types import Strict, text_mapping, wrong
from emotion.datasets.name_matching import SECONDS, match_in_time, match_paths
from emotion.errors import DataError
from emotion.vocabulary import EMOTIONS

COLUMNS = ("emotion", "speaker", "gender", "intensity", "statement", "repetition", "channel")
"""What a rule may give: the names of the groups in its patterns and of its tables, and columns of the manifest."""
PATTERN_CHARACTERS = 1000
_REPEATS = (operations.MAX_REPEAT, operations.MIN_REPEAT)


def _as_list(value: object) -> object:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not patterns:
        raise wrong("a regular expression, or a list of them")
    return tuple(patterns)


def _usable(pattern: str) -> str:
    """Refuse a pattern that does not compile, has no emotion, has an unknown group, or may need years for a name."""
    try:
        groups = re.compile(pattern).groupindex
        parsed = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise wrong(f"a regular expression; this one does not compile: {error}") from None
    unknown = [group for group in groups if group not in COLUMNS]
    if unknown:
        raise wrong(f"groups named {', '.join(COLUMNS)}, not {', '.join(unknown)}; (?:…) groups without a name")
    if "emotion" not in groups:
        raise wrong("a group (?P<emotion>…) in every pattern")
    if _repeats_repetitions(parsed, inside=False):
        raise wrong(
            "no repetition and no choice within a repetition, as in (a+)+ or (a|b)*: for some names such a pattern "
            "needs years; (?:…)? is allowed"
        )
    return pattern


def _repeats_repetitions(tokens: Iterable[tuple[Any, Any]], *, inside: bool) -> bool:
    """Whether something of variable length, or a choice, is repeated."""
    for operation, arguments in tokens:
        repeats = operation in _REPEATS and arguments[1] > 1
        varies = repeats and arguments[0] != arguments[1]
        if inside and (varies or operation is operations.BRANCH):
            return True
        if any(_repeats_repetitions(inner, inside=inside or repeats) for inner in _subpatterns(arguments)):
            return True
    return False


def _subpatterns(arguments: object) -> Iterator[Iterable[tuple[Any, Any]]]:
    if isinstance(arguments, parser.SubPattern):
        yield arguments
    elif isinstance(arguments, (list, tuple)):
        for argument in arguments:
            yield from _subpatterns(argument)


def _of_known_groups(tables: dict[str, dict[str, str]], info: ValidationInfo) -> dict[str, dict[str, str]]:
    groups = {group for pattern in info.data.get("pattern", ()) for group in re.compile(pattern).groupindex}
    if not groups:
        return tables  # the pattern is wrong, and that is said already
    for name in tables:
        column, source = _column_and_source(name)
        if column not in COLUMNS or source not in groups or (source != column and column in groups):
            raise wrong(
                f"tables named for a group of the pattern ({', '.join(sorted(groups))}), or for a column that it does "
                f"not have and a group, as in gender by speaker; not {name!r}"
            )
    return {name: {_normal(word): meaning for word, meaning in words.items()} for name, words in tables.items()}


def _column_and_source(name: str) -> tuple[str, str]:
    """Which column a table gives, and by which group: itself, or in ``gender by speaker`` another."""
    column, _, source = name.partition(" by ")
    return column.strip(), (source or column).strip()


def _normal(text: str) -> str:
    """One form for letters with accents, which file systems store in two forms."""
    return unicodedata.normalize("NFC", text)


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=PATTERN_CHARACTERS), AfterValidator(_usable)]
Table = Annotated[dict[str, str], text_mapping("words, and the text that each stands for")]


class Rule(Strict):
    """How file names give labels.

    Attributes
    ----------
    pattern : tuple of str
        Regular expressions with named groups, tried in this order; see
        :func:`emotion.datasets.name_matching.match_paths`.
    tables : dict
        What the text of a group stands for: ``intensity`` translates the group itself, ``gender by speaker`` gives
        the column gender by the group speaker (as it is after its own table).
    """

    pattern: Annotated[tuple[Pattern, ...], BeforeValidator(_as_list)]
    tables: Annotated[dict[str, Table], text_mapping("tables", values=dict), AfterValidator(_of_known_groups)] = {}


RAVDESS = Rule.model_validate(
    {
        "pattern": r"03-(?P<channel>0[12])-(?!01-02)(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])"
        r"-(?!00)(?P<repetition>[0-9]{2})-(?!00)(?P<speaker>[0-9](?P<gender>[0-9]))",
        "tables": {
            "channel": {"01": "speech", "02": "song"},
            "emotion": {f"{number:02d}": emotion for number, emotion in enumerate(EMOTIONS, start=1)},
            "intensity": {"01": "normal", "02": "strong"},
            "statement": {"01": "kids", "02": "dogs"},
            "gender": {str(digit): "male" if digit % 2 else "female" for digit in range(10)},
        },
    }
)
"""The rule of entries of kind zenodo that have none: 03-channel-emotion-intensity-statement-repetition-actor. Neutral
is never strong; repetitions and actors are counted from 1; actors with odd numbers are men."""


def read_name(rule: Rule, path: str) -> dict[str, str] | str:
    """What a rule says of one path without ending: a text by column, or, where it does not fit, the reason.

    Only for a rule that is known to match in no time; for others see :func:`read_names`.

    >>> read_name(RAVDESS, "Actor_12/03-01-06-01-02-01-12")["gender"], read_name(RAVDESS, "interview")
    ('female', 'no pattern fits')
    """
    return _read(rule, match_paths(rule.pattern, [_normal(path)])[0])


def read_names(rule: Rule, paths: Sequence[str], name: str) -> list[dict[str, str] | str]:
    """What a rule says of paths without endings: for each a text by column, or, where it does not fit, the reason.

    Parameters
    ----------
    rule : Rule
    paths : sequence of str
    name : str
        Of the dataset, for errors.

    Raises
    ------
    DataError
        If the patterns take too long.
    """
    try:
        groups = match_in_time(rule.pattern, [_normal(path) for path in paths], SECONDS)
    except TimeoutError as error:
        raise DataError(
            f"the rule of {name} cannot be used: its pattern gave {error} for {len(paths):,} names; make its "
            "parts more definite, as in [^_]+ instead of .+"
        ) from None
    return [_read(rule, of_path) for of_path in groups]


def _read(rule: Rule, groups: dict[str, str] | None) -> dict[str, str] | str:
    """The columns of a path, from the groups that its pattern gave."""
    if groups is None:
        return "no pattern fits"
    columns = dict(groups)
    for name in sorted(rule.tables, key=lambda name: " by " in name):  # a group is translated before it is used
        column, source = _column_and_source(name)
        if columns.get(source):
            word = columns[source]
            if word not in rule.tables[name]:
                return f"the table {name} has no {word!r}"
            columns[column] = rule.tables[name][word]
    if not columns["emotion"].strip():
        return "its emotion is empty"
    if not (columns.get("repetition") or "0").isdecimal():
        return f"its repetition {columns['repetition']!r} is no whole number"
    return columns
