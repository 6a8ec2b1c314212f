"""Which file was scored by which model, and which batch is scoring which files, so that each file is scored once.

``ledger/open/<batch>.json`` is the claim of a batch; its plan (:mod:`emotion.scoring.plan`) lists the files. Once the
``summary.json`` of the batch is there, its files are *known* to its models:
``ledger/known/<version>/<family>/<batch>.parquet`` (place, stamp, sha256). Then the claim is released. A batch whose
process died leaves its claim behind; the next sweep takes over its files, and what was computed of them.
``ledger/taken_over/<batch>.json`` says so for :data:`REMEMBERED_SECONDS`, in case that the process lives after all.
"""

from __future__ import annotations

import hashlib
import io
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pandas as pd
from pyarrow.parquet import ParquetFile

from emotion.errors import StoreError
from emotion.scoring.known import Known
from emotion.store import Store

OPEN = "ledger/open"
TAKEN_OVER = "ledger/taken_over"
MEMORY_ERRORS = "ledger/memory_errors"
COLUMNS = ["place", "stamp", "sha256"]
"""What the ledger keeps of a file: see :class:`emotion.scoring.listing.File`."""
PARTS_BEFORE_MERGING = 24
"""So many parts of a model are merged into one."""
FULL = "full-"
"""Beginning of the names of parts that are not merged again."""
ROWS_OF_A_FULL_PART = 25_000
LEASE_SECONDS = 24 * 3600.0
"""How long a claim of another machine holds where its locks are not seen: where the artifact store is a folder."""
REMEMBERED_SECONDS = 3 * 24 * 3600.0
"""How long it is remembered that a batch was taken over: longer than a run of the DAG may last."""


def read(store: Store, model: str) -> Known:
    """The files known to a model (``<version>/<family>``)."""
    return Known.of_files(_files_of_parts(store, _parts(store, model)))


def merge_parts(store: Store, model: str) -> None:
    """Write the parts of a model as few, if there are many: each batch adds one, and a sweep reads them all.

    A part of :data:`ROWS_OF_A_FULL_PART` files is full, and is not merged again.
    """
    parts = [key for key in _parts(store, model) if not key.startswith(f"{_folder(model)}/{FULL}")]
    if len(parts) < PARTS_BEFORE_MERGING:
        return
    name = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    rows = _files_of_parts(store, parts)
    number = 0
    while files := list(islice(rows, ROWS_OF_A_FULL_PART)):
        kind = FULL if len(files) == ROWS_OF_A_FULL_PART else "merged-"
        number += 1
        _write_part(store, f"{_folder(model)}/{kind}{name}-{number}.parquet", files)
    for key in parts:  # if the process dies here, some rows are there twice, which means the same
        store.delete(key)


def _parts(store: Store, model: str) -> list[str]:
    return store.list(_folder(model), "*.parquet")


def _files_of_parts(store: Store, parts: list[str]) -> Iterator[dict[str, str]]:
    """The rows of parts, a few at a time, as dicts with :data:`COLUMNS`."""
    for key in parts:
        for rows in ParquetFile(io.BytesIO(store.read_bytes(key))).iter_batches(5_000, columns=COLUMNS):
            yield from rows.to_pylist()


def record(store: Store, model: str, name: str, files: Iterable[dict]) -> None:
    """Make files (dicts with place, stamp, sha256) known to a model, by parts with this name."""
    rows = iter(files)
    number, suffix = 0, ""
    while (block := list(islice(rows, ROWS_OF_A_FULL_PART))) or not number:
        _write_part(store, f"{_folder(model)}/{name}{suffix}.parquet", block)
        number += 1
        suffix = f".{number}"  # no batch has a dot in its name


def _write_part(store: Store, key: str, files: list[dict]) -> None:
    store.write_table(key, pd.DataFrame(files, columns=COLUMNS, dtype=str).drop_duplicates())


def _folder(model: str) -> str:
    return f"ledger/known/{model}"


def content_of(file: Mapping[str, Any]) -> str:
    """What names the content of a file of a plan: its sha256, or its stamp where it was not read yet."""
    return file["sha256"] or file["stamp"]


def memory_errors(store: Store) -> dict[tuple[str, str], int]:
    """How often memory ran out while a file was scored, by place and content; only files that have no answer yet."""
    records = _read_all(store, MEMORY_ERRORS)
    return {(record["place"], record["sha256"]): record["count"] for record in records}


def note_memory_errors(store: Store, place: str, sha256: str, count: int) -> None:
    """Write how often memory ran out for a file; 0 once it has an answer. ``sha256``: see :func:`content_of`."""
    name = hashlib.sha256(f"{place} {sha256}".encode()).hexdigest()[:32]
    key = f"{MEMORY_ERRORS}/{name}.json"
    if count:
        store.write_json(key, {"place": place, "sha256": sha256, "count": count})
    else:
        store.delete(key)


def claim(store: Store, batch: str, owner: str, *, has_lock: bool) -> None:
    """Write that a batch is under way. ``owner``: the DAG, or the host name of a process.

    ``has_lock``: whether the owner holds the lock of the batch for as long as it works on it, as one process does. The
    tasks of the DAG do not. A batch that is claimed already, as its process was interrupted, becomes the owner's.
    """
    claimed = store.format_json({"batch": batch, "owner": owner, "claimed": time.time(), "has_lock": has_lock})
    store.update(f"{OPEN}/{batch}.json", lambda _: claimed)


def claims(store: Store) -> list[dict]:
    """The claims of all batches that are under way or dead: batch, owner, claimed (Unix seconds)."""
    return _read_all(store, OPEN)


def release(store: Store, batch: str) -> None:
    """Delete the claim of a batch; nothing happens if there is none."""
    store.delete(f"{OPEN}/{batch}.json")


def give_up(store: Store, batch: str, *, successor: str, dead: Collection[str] = ()) -> None:
    """Write that a dead batch was taken over by another one; of two that try it at the same time, one does it.

    ``dead``: the batches that nobody works on any more; what one of them had taken over can be taken over again.

    Raises StoreError if a batch that is under way has taken it over.
    """
    rival = ""

    def change(old: bytes | None) -> bytes | None:
        nonlocal rival
        by = store.parse_json(key, old)["by"] if old else successor
        under_way = {claim["batch"] for claim in claims(store)} - {*dead, successor}  # a batch claims its name first
        rival = by if by in under_way else ""
        return None if rival else store.format_json({"batch": batch, "by": successor, "time": time.time()})

    key = f"{TAKEN_OVER}/{batch}.json"
    store.update(key, change)
    if rival:
        raise StoreError(
            f"batch {batch}, which {successor} was to take over, was taken over by batch {rival} meanwhile; start again"
        )


def successor(store: Store, batch: str) -> str | None:
    """The batch that has taken over this one; None if none has."""
    key = f"{TAKEN_OVER}/{batch}.json"
    content = store.read_many([key]).get(key)
    return None if content is None else store.parse_json(key, content)["by"]


def predecessors(store: Store, batch: str) -> list[str]:
    """The batches that this one has taken over, and those that they had taken over."""
    given_up = _read_all(store, TAKEN_OVER)
    names = [batch]
    for name in names:  # grows
        names += [record["batch"] for record in given_up if record["by"] == name]
    return names[1:]


def forget_taken_over(store: Store) -> list[str]:
    """Forget the batches that were taken over long ago; returns their names."""
    given_up = _read_all(store, TAKEN_OVER)
    old = [record["batch"] for record in given_up if time.time() - record["time"] > REMEMBERED_SECONDS]
    for batch in old:
        store.delete(f"{TAKEN_OVER}/{batch}.json")
    return old


def _read_all(store: Store, folder: str) -> list[dict]:
    """The JSON documents of a folder; one that another process deletes meanwhile is left out."""
    contents = store.read_many(store.list(folder, "*.json"))
    return [store.parse_json(key, content) for key, content in contents.items()]


def batch_lock(batch: str) -> str:
    """The name of the lock that a batch holds while a process of this machine is at work on it."""
    return f"scoring/batch-{batch}"


def is_dead(store: Store, claim: dict, *, alone_as: str | None = None) -> bool:
    """Whether nobody works on a claimed batch any more.

    A process holds a lock of the batch for as long as it lives. A claim whose lock cannot be seen, as there is none or
    another machine has it, is dead after :data:`LEASE_SECONDS`. No two batches of the owner ``alone_as`` are ever under
    way at the same time (only one run of the DAG is active at a time), so any other claim of this owner is dead.
    """
    if claim["owner"] == alone_as:
        return True
    has_lock = claim.get("has_lock", claim["owner"] == socket.gethostname())  # an earlier release did not write it
    if has_lock and (store.locks_bind_all_machines or claim["owner"] == socket.gethostname()):
        return not store.is_locked(batch_lock(claim["batch"]))
    return time.time() - claim["claimed"] > LEASE_SECONDS
