"""The review from files: audio and a CSV to fill, and the filled CSV read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emotion.store import Store


@dataclass(frozen=True)
class Imported:
    """How many rows of a CSV became labels, said what was known already, or were empty."""

    added: int
    known: int
    empty: int


def export(store: Store, folder: Path, *, person: str, batch: str | None = None) -> int:
    """Write the clips that a person may still label, with a CSV to fill; returns how many."""
    raise NotImplementedError


def import_labels(
    store: Store, data: bytes, name: str, *, person: str, translations: Mapping[str, str | None]
) -> Imported:
    """Add the labels of a filled CSV, or none if any row is wrong. Raises DataError that names all wrong rows."""
    raise NotImplementedError
