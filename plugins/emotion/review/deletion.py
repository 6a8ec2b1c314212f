"""Deletion on request: removes what is stored of a recording or of a clip of it, and says what remains.

It may be killed anywhere: run again, it removes the rest. The item in the queue is removed last, as it leads to the
others.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Set
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import pandas as pd
import pyarrow.parquet

from emotion.errors import ConfigurationError
from emotion.review import labels, queue
from emotion.review.clips import AUDIO
from emotion.review.queue import Item
from emotion.scoring.tables import for_spreadsheets
from emotion.store import Store
from emotion.vocabulary import REVIEWED

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class Deleted:
    """What a deletion has removed, and what remains.

    Attributes
    ----------
    removed, remains : list of str
        Sentences for a person.
    batches : list of str
        Whose predictions had the recording. Their reports are removed, as those hold excerpts.
    """

    removed: list[str] = field(default_factory=list)
    remains: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)

    def count(self, number: int, what: str) -> None:
        """Note that so many of something were removed; nothing is noted for none."""
        if number:
            self.removed.append(f"{what} ({number})")


def delete(store: Store, sha256: str) -> Deleted:
    """Remove what is stored of a recording, or of a clip of it.

    Parameters
    ----------
    store : Store
    sha256 : str
        Of the file of a recording: then all of its clips are removed, its predictions and the reports of its batches.
        Or of the audio that is kept of one clip: then this clip is removed, and the predictions of the recording that
        it was cut out of remain.

    Raises
    ------
    ConfigurationError
        If it is no sha256.
    """
    sha256 = sha256.strip().lower()
    if not _SHA256.fullmatch(sha256):
        raise ConfigurationError(f"{sha256!r} is no sha256; expected 64 digits from 0 to 9 and a to f")
    deleted = Deleted()
    items = [item for clips in queue.read_all(store) for item in clips.items if sha256 in (item.sha256, item.audio)]
    checksums = {sha256, *(item.audio for item in items)}
    deleted.count(_delete_labels(store, items), "labels")
    deleted.count(_delete_audio(store, checksums), "audio that was kept for the review")
    deleted.count(_delete_features(store, checksums), "its features, in files")
    _delete_from_datasets(store, checksums, deleted)
    _delete_predictions(store, sha256, deleted)
    deleted.count(_delete_items(store, items), "clips in queues")
    _say_what_remains(store, checksums, deleted)
    return deleted


def _delete_labels(store: Store, items: Collection[Item]) -> int:
    keys = {item.key for item in items}
    written = [label for batch in {item.batch for item in items} for label in labels.read(store, batch)]
    of_items = [label for label in written if label.key in keys]
    for label in of_items:
        store.delete(labels.key_of(label))
    return len(of_items)


def _delete_audio(store: Store, checksums: Set[str]) -> int:
    keys = [key for audio in checksums for key in store.list(f"{AUDIO}/{audio[:2]}", f"{audio}.*")]
    for key in keys:
        store.delete(key)
    return len(keys)


def _delete_features(store: Store, checksums: Set[str]) -> int:
    """Remove the rows of features, plain ones and under recording conditions; also of babble that was made of it."""

    def is_of_recording(table: pd.DataFrame) -> pd.Series:
        talkers = table.get("talkers", pd.Series("", table.index)).str.split()
        return table["sha256"].isin(checksums) | talkers.map(lambda names: not checksums.isdisjoint(names))

    keys = [*store.list("features", "*.parquet"), *store.list("conditions", "*.parquet")]
    return sum(_delete_rows(store, key, is_of_recording) for key in keys)


def _delete_rows(store: Store, key: str, is_of_recording: Callable[[pd.DataFrame], pd.Series]) -> bool:
    """Write a Parquet file again without some rows, or delete it if none is left; returns whether it had such rows."""
    data = store.read_bytes(key)
    names = set(pyarrow.parquet.read_schema(io.BytesIO(data)).names)
    marks = is_of_recording(pd.read_parquet(io.BytesIO(data), columns=sorted({"sha256", "talkers"} & names)))
    if not marks.any():
        return False
    rest = pd.read_parquet(io.BytesIO(data))[~marks.to_numpy()]
    if len(rest):
        store.write_table(key, rest)
    else:
        store.delete(key)
    return True


def _delete_from_datasets(store: Store, checksums: Set[str], deleted: Deleted) -> None:
    """Delete the dataset that is made of labels, if it has the recording; name others that have it."""
    for key in store.list("datasets", "manifest.csv"):
        name = PurePosixPath(key).parts[1]
        if not store.read_table(key, ["sha256"])["sha256"].isin(checksums).any():
            continue
        if name == REVIEWED:
            with store.lock(f"datasets/{name}"):
                store.delete(f"datasets/{name}")
            deleted.removed.append(f"the dataset {name}; the next training run makes it again, of the other clips")
        else:
            deleted.remains.append(
                f"the recording in the dataset {name}: delete it at its source and import that again"
            )


def _delete_predictions(store: Store, sha256: str, deleted: Deleted) -> None:
    """Remove the rows of a recording from the tables of its batches, and the reports of these, which have excerpts."""
    for key in store.list("scores", "predictions.parquet"):
        batch = PurePosixPath(key).parts[1]
        if not store.read_table(key, ["sha256"])["sha256"].eq(sha256).any():
            continue
        paths = set(store.read_table(key, ["path", "sha256"]).query("sha256 == @sha256")["path"])
        store.delete(f"scores/{batch}/report.html")
        _remove_from_summary(store, f"scores/{batch}/summary.json", paths)
        _remove_from_plan(store, f"scores/{batch}/plan.json", sha256)
        for name in ("timeline", "predictions"):  # the table that is searched comes last
            _rewrite_table(store, f"scores/{batch}/{name}", sha256)
        deleted.batches.append(batch)
    deleted.count(len(deleted.batches), "its predictions and excerpts, in batches")


def _rewrite_table(store: Store, stem: str, sha256: str) -> None:
    """Write a table without the rows of a recording, as CSV and as Parquet."""
    if store.exists(f"{stem}.parquet"):
        table = store.read_table(f"{stem}.parquet")
        rest = table[table["sha256"] != sha256]
        store.write_table(f"{stem}.csv", for_spreadsheets(rest))
        store.write_table(f"{stem}.parquet", rest)


def _remove_from_summary(store: Store, key: str, paths: Collection[str]) -> None:
    """Remove a recording from the lists of a summary; its counts and figures stay."""
    if not store.exists(key):
        return
    summary = store.read_json(key)
    comparison = summary.get("comparison") or {}
    for place, name in ((summary, "failures"), (summary, "temporary_errors"), (comparison, "listed")):
        if name in place:
            place[name] = [entry for entry in place[name] if entry["path"] not in paths]
    store.write_json(key, summary)


def _remove_from_plan(store: Store, key: str, sha256: str) -> None:
    """Remove a recording from the files of a batch that is closed; one under way still needs them."""
    if not (store.exists(key) and store.exists(key.replace("plan.json", "summary.json"))):
        return
    plan = store.read_json(key)
    if "files" in plan:  # of an earlier release
        plan["files"] = [entry for entry in plan["files"] if entry["sha256"] != sha256]
        store.write_json(key, plan)
    for shard in plan.get("shards", []):
        files = store.read_table(shard["list"])
        if (files["sha256"] == sha256).any():
            store.write_table(shard["list"], files[files["sha256"] != sha256])


def _delete_items(store: Store, items: Collection[Item]) -> int:
    keys = {item.key for item in items}
    for batch in {item.batch for item in items}:
        queue.change(
            store,
            batch,
            lambda clips: replace(clips, items=tuple(item for item in clips.items if item.key not in keys)),
        )
    return len(keys)


def _say_what_remains(store: Store, checksums: Set[str], deleted: Deleted) -> None:
    versions = []
    for key in store.list("models", "held_out_predictions.parquet"):
        data = store.read_bytes(key)
        if "sha256" in pyarrow.parquet.read_schema(io.BytesIO(data)).names:
            trained_on = pd.read_parquet(io.BytesIO(data), columns=["sha256"])["sha256"]
            if trained_on.isin(checksums).any():
                versions.append(PurePosixPath(key).parts[1])
    if versions:
        deleted.remains.append(
            f"models that were trained on it: {', '.join(versions)}. They and the reports of their training runs hold "
            "figures of it; train again, and delete models/<version> and runs/<run>"
        )
    if deleted.removed:
        deleted.remains.append(
            "the recording in the inbox, if it is still there, and copies outside of the artifact store"
        )
