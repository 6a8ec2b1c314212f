"""Names of files against the patterns of a rule, in a process of their own.

A pattern may need years for a long name. Python cannot stop a match that has begun, but it can end a process. The
module therefore imports nothing of this library: it is also the program that runs in that process.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence

SECONDS = 60.0
"""The longest that all names of a dataset may take; 100,000 names take about a second by a pattern without fault."""
NAME_CHARACTERS = 255
"""A longer name of a file fits no pattern."""


def match_paths(patterns: Sequence[str], paths: Iterable[str]) -> list[dict[str, str] | None]:
    """The named groups of the first pattern that fits each path; None where none fits.

    Parameters
    ----------
    patterns : sequence of str
        Regular expressions. One with ``/`` is compared with the end of the path, from the start of a folder's name;
        one without ``/`` is compared with the name of the file.
    paths : iterable of str
        Paths with ``/``, without the ending of the file.

    Returns
    -------
    list
        For each path its groups; a group that took no part in the match is ``""``.

    Examples
    --------
    >>> match_paths([r"(?P<speaker>[A-Z]+)/(?P<emotion>[a-z]+)\\d+"], ["savee/DC/sa01", "sa01"])
    [{'speaker': 'DC', 'emotion': 'sa'}, None]
    """
    matchers = [(re.compile(pattern), "/" in pattern) for pattern in patterns]
    return [_groups(matchers, path) for path in paths]


def match_in_time(patterns: Sequence[str], paths: Sequence[str], seconds: float) -> list[dict[str, str] | None]:
    """The same as :func:`match_paths`, in another process.

    Raises
    ------
    TimeoutError
        If it takes longer than ``seconds``.
    """
    try:
        process = subprocess.run(
            [sys.executable, "-I", __file__],
            input=json.dumps([list(patterns), list(paths)]),
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    groups: list[dict[str, str] | None] = json.loads(process.stdout)
    return groups


def _groups(matchers: list[tuple[re.Pattern[str], bool]], path: str) -> dict[str, str] | None:
    for matcher, takes_folders in matchers:
        for text in _ends(path) if takes_folders else [path.rpartition("/")[2]]:
            match = matcher.fullmatch(text) if len(text.rpartition("/")[2]) <= NAME_CHARACTERS else None
            if match:
                return match.groupdict(default="")
    return None


def _ends(path: str) -> Iterator[str]:
    """The path, and what is left of it without its first folder, without its first two …"""
    while path:
        yield path
        path = path.partition("/")[2]


if __name__ == "__main__":
    json.dump(match_paths(*json.load(sys.stdin)), sys.stdout)
