"""Which file was scored by which model, and which batch is at work on which files: each file exactly once.

``ledger/open/<batch>.json`` is a batch's claim; its ``scores/<batch>/plan.json`` lists the files. Once the
batch's ``summary.json`` is there, its files are *known* to its models:
``ledger/known/<version>/<family>/<batch>.parquet`` (place, stamp, sha256). Then the claim goes. A batch whose
process died leaves its claim; the next sweep takes its files over, and what it has computed.
"""

from __future__ import annotations

import hashlib
import socket
import time
from dataclasses import dataclass

import pandas as pd

from emotion.store import Store

OPEN = "ledger/open"
PARTS_BEFORE_MERGING = 24
LEASE_SECONDS = 24 * 3600.0
"""A claim of another machine, which cannot be asked whether it lives, holds for so long."""


@dataclass(frozen=True)
class Known:
    """Files known to a model: by place and stamp, and by place and content."""

    stamps: set[tuple[str, str]]
    contents: set[tuple[str, str]]

    def has(self, place: str, stamp: str, sha256: str | None) -> bool:
        """Whether the file is known, by its stamp or, if given, by its content."""
        return (place, stamp) in self.stamps or (sha256 is not None and (place, sha256) in self.contents)


def read(store: Store, model: str) -> Known:
    """What is known to a model (``<version>/<family>``)."""
    parts = store.list(_folder(model), "*.parquet")
    table = pd.concat([_EMPTY, *(store.read_table(key) for key in parts)], ignore_index=True).drop_duplicates()
    if len(parts) >= PARTS_BEFORE_MERGING:
        name = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
        store.write_table(f"{_folder(model)}/merged-{name}.parquet", table)
        for key in parts:  # if this is cut short, some rows are there twice, which says the same
            store.delete(key)
    contents = table[table["sha256"] != ""]
    return Known(
        stamps=set(zip(table["place"], table["stamp"], strict=True)),
        contents=set(zip(contents["place"], contents["sha256"], strict=True)),
    )


_EMPTY = pd.DataFrame(columns=["place", "stamp", "sha256"], dtype=str)


def record(store: Store, model: str, name: str, files: list[dict]) -> None:
    """Make files (dicts with place, stamp, sha256) known to a model, in a part of this name."""
    store.write_table(f"{_folder(model)}/{name}.parquet", pd.DataFrame(files, columns=list(_EMPTY.columns)))


def _folder(model: str) -> str:
    return f"ledger/known/{model}"


def claim(store: Store, batch: str, owner: str) -> None:
    """Say that a batch is under way."""
    store.write_json(f"{OPEN}/{batch}.json", {"batch": batch, "owner": owner, "claimed": time.time()})


def claims(store: Store) -> list[dict]:
    """Claims of all batches under way, or dead: batch, owner, claimed (Unix seconds)."""
    return [store.read_json(key) for key in store.list(OPEN, "*.json")]


def release(store: Store, batch: str) -> None:
    """Take a claim away."""
    store.delete(f"{OPEN}/{batch}.json")


def batch_lock(batch: str) -> str:
    """The name of the lock that a batch holds while a process of this machine is at work on it."""
    return f"scoring/batch-{batch}"


def is_dead(store: Store, claim: dict, *, alone_as: str | None = None) -> bool:
    """Whether nobody is at work on a claim any more.

    Claims of this machine are asked by their lock. No two batches of the owner ``alone_as`` are ever at work
    at the same time (the DAG runs once at a time): to it, any other claim of its own is dead.
    """
    if claim["owner"] == alone_as:
        return True
    if claim["owner"] == socket.gethostname():
        with store.lock(batch_lock(claim["batch"]), wait=False) as free:
            return free
    return time.time() - claim["claimed"] > LEASE_SECONDS
