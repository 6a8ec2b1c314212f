"""Deletion on request: everything that is stored of a recording or of a clip of it, by checksum."""

from __future__ import annotations

from dataclasses import dataclass

from emotion.store import Store


@dataclass(frozen=True)
class Deleted:
    """What a deletion has removed, and what remains; sentences for a person."""

    removed: tuple[str, ...]
    remains: tuple[str, ...]


def delete(store: Store, sha256: str) -> Deleted:
    """Delete what is stored of a recording (sha256 of the file) or of a clip (sha256 of the kept audio)."""
    raise NotImplementedError
