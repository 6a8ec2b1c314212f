"""Files that are known, in 32 bytes each: a sweep compares every file of an inbox with all that were ever scored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

_BYTES = 16
"""Of a digest. Two of a million names share one with a probability of 1e-27."""
_AT_ONCE = 5_000


class Digests:
    """A set of pairs of texts that cannot be changed; it keeps 16 bytes of each.

    Parameters
    ----------
    pairs : iterable of (str, str)

    Examples
    --------
    >>> digests = Digests([("a", "1"), ("b", "2"), ("a", "1")])
    >>> ("a", "1") in digests, ("a", "2") in digests, len(digests)
    (True, False, 2)
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]):
        digests = (_digest(*pair) for pair in pairs)
        blocks = []
        while block := b"".join(islice(digests, _AT_ONCE)):
            blocks.append(np.frombuffer(block, dtype=f"S{_BYTES}"))
        self._sorted = np.unique(np.concatenate(blocks)) if blocks else np.empty(0, dtype=f"S{_BYTES}")

    def __contains__(self, pair: tuple[str, str]) -> bool:
        wanted = np.frombuffer(_digest(*pair), dtype=f"S{_BYTES}")[0]
        place = np.searchsorted(self._sorted, wanted)
        return bool(place < len(self._sorted) and self._sorted[place] == wanted)

    def __len__(self) -> int:
        return len(self._sorted)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digests) and np.array_equal(self._sorted, other._sorted)

    __hash__ = None  # type: ignore[assignment]


def _digest(first: str, second: str) -> bytes:
    return hashlib.blake2b(f"{first}\0{second}".encode(), digest_size=_BYTES).digest()


@dataclass(frozen=True)
class Known:
    """Files that are known: by place and stamp, and by place and content.

    Attributes
    ----------
    stamps : Digests
        Of (place, stamp).
    contents : Digests
        Of (place, sha256), where the content is known.

    Examples
    --------
    >>> known = Known.of_files([{"place": "2f61", "stamp": "9-1-1", "sha256": "ab"}])
    >>> known.has("2f61", "9-1-1", None), known.has("2f61", "9-2-2", None), known.has("2f61", "9-2-2", "ab")
    (True, False, True)
    """

    stamps: Digests
    contents: Digests

    @classmethod
    def of_files(cls, files: Iterable[Mapping[str, str]]) -> Known:
        """What these files (with place, stamp, sha256) make known; sha256 is "" where it is not known."""
        contents: list[Digests] = []

        def stamps() -> Iterator[tuple[str, str]]:
            rows = iter(files)
            while block := list(islice(rows, _AT_ONCE)):
                contents.append(Digests((file["place"], file["sha256"]) for file in block if file["sha256"]))
                yield from ((file["place"], file["stamp"]) for file in block)

        return cls(Digests(stamps()), _union(contents))

    def has(self, place: str, stamp: str, sha256: str | None) -> bool:
        """Whether the file is known, by its stamp or, if given, by its content."""
        return (place, stamp) in self.stamps or (sha256 is not None and (place, sha256) in self.contents)


def _union(parts: list[Digests]) -> Digests:
    union = Digests([])
    if parts:
        union._sorted = np.unique(np.concatenate([part._sorted for part in parts]))
    return union
