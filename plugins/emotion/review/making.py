"""Makes the queue of a batch that is being closed: draws the clips, keeps their audio, writes the queue.

It may be killed anywhere and tried again: the sample depends on the content of the batch alone, audio is kept under its
checksum, and the queue is written last.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pyarrow.parquet import read_schema

from emotion.errors import AudioError, DataError, describe_failure
from emotion.features import quality
from emotion.models import registry
from emotion.review import clips, labels, queue
from emotion.review.clips import Span
from emotion.review.drawing import candidates, draw
from emotion.review.queue import Item, Queue
from emotion.scoring import inbox, ledger
from emotion.scoring.batches import is_committed
from emotion.scoring.known import Digests
from emotion.scoring.listing import File
from emotion.scoring.plan import Plan, all_files, decoded_paths, find_files, listed_file, with_shards
from emotion.scoring.tables import complete, timeline_table, words
from emotion.store import Store

log = logging.getLogger(__name__)
UNREAD = ["message", "model", "family", "label", "needs_listener", *quality.COLUMNS]
"""Columns of the predictions that a queue does not need."""
MOST_DRAWS = 20
"""Most times that clips are drawn again because recordings have vanished."""
Place = tuple[str, str]
"""A recording of a batch: path and sha256."""


class Kept(NamedTuple):
    """The audio of an item, once it is kept."""

    audio: str
    suffix: str


def make_queue(store: Store, plan: Plan, *, size: int, drift: str) -> Queue | None:
    """Draw the clips of a batch that a person should hear, keep their audio, and write the queue.

    Left out before the drawing are recordings that are no longer in the inbox as they were scored, and audio that has a
    label. If a recording vanishes only while its audio is being kept, the clips are drawn again without it. So the
    probabilities of the items hold for the clips that could be heard.

    Parameters
    ----------
    store : Store
        With the predictions of the batch.
    plan : Plan
    size : int
        How many clips to draw.
    drift : str
        The verdict on the batch.

    Returns
    -------
    Queue or None
        The queue that is there already, if there is one; None where there is no clip to hear.

    Raises
    ------
    DataError
        If recordings have vanished whatever was drawn.
    OSError
        If the server of a bucket fails for now.
    """
    plan = with_shards(plan)
    batch, emotions = plan["batch"], plan["models"][0]["emotions"]
    if store.exists(queue.key_of(batch)):
        return queue.read(store, batch)
    _remove_unfinished(store, batch)
    table, timeline = _read_tables(store, batch)
    seed = _seed(candidates(table, timeline, emotions))
    table, timeline = _without_labelled(store, table, timeline)
    recordings = _Recordings(store, plan)
    draw_some = partial(draw, size=size, emotions=emotions, drift=drift, seed=seed)
    drawn, table, timeline = _draw(recordings, table, timeline, draw_some)
    items = _with_audio(batch, drawn, recordings.kept)
    if not items:
        return None
    made = Queue(
        batch=batch,
        made_at=registry.now(),
        model={name: plan["models"][0][name] for name in ("version", "family")},
        label_set=tuple(emotions),
        candidates=len(candidates(table, timeline, emotions)),
        items=items,
    )
    queue.write(store, made)
    return made


def _draw(
    recordings: _Recordings,
    table: pd.DataFrame,
    timeline: pd.DataFrame,
    draw_some: Callable[[pd.DataFrame, pd.DataFrame], list[dict[str, Any]]],
) -> tuple[list[dict[str, Any]], pd.DataFrame, pd.DataFrame]:
    """The clips that are drawn, whose audio is kept then, and the two tables that they are drawn from."""
    gone = recordings.gone(table)
    for _ in range(MOST_DRAWS):
        table, timeline = _without(table, gone), _without(timeline, gone)
        drawn = draw_some(table, timeline)
        if not (gone := recordings.keep(drawn)):
            return drawn, table, timeline
    raise DataError(
        "the recordings of the batch are not in the inbox any more, whatever is drawn, so there is no clip to review; "
        "keep them there until the batch is closed"
    )


def _remove_unfinished(store: Store, batch: str) -> None:
    """Delete the queues of dead batches that this one took over, unless somebody has labelled a clip of them.

    Such a batch died after it had written its queue. Its clips are in this batch, and would be asked for twice.
    """
    for name in ledger.predecessors(store, batch):
        if not is_committed(store, name) and not labels.read(store, name):
            store.delete(queue.key_of(name))


def _read_tables(store: Store, batch: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions and the timelines of a batch; those that an earlier release collected lack some columns."""
    key = f"scores/{batch}/predictions.parquet"
    with store.open(key) as handle:
        columns = [name for name in read_schema(handle).names if name not in UNREAD]
    table = complete(store.read_table(key, columns)).drop(columns=UNREAD, errors="ignore")
    key = f"scores/{batch}/timeline.parquet"
    timeline = store.read_table(key) if store.exists(key) else timeline_table([], emotions=[])
    return table, timeline.assign(channel=words(timeline.get("channel", pd.Series("", timeline.index))))


def _seed(clips_of_batch: pd.DataFrame) -> int:
    """A number that depends on the content of the batch alone."""
    content = clips_of_batch[["sha256", "channel", "start", "end", "emotion", "confidence"]]
    digest = hashlib.sha256(content.head(0).to_csv(index=False).encode())
    for start in range(0, len(content), 5_000):
        digest.update(content.iloc[start : start + 5_000].to_csv(index=False, header=False).encode())
    return int.from_bytes(digest.digest()[:8], "big")


def _without_labelled(store: Store, table: pd.DataFrame, timeline: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables without the audio that has a label: another model answered it in another batch."""
    whole: set[tuple[str, str]] = set()
    parts: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for item in labels.labelled_items(store):
        if item.start is None or item.end is None:
            whole.add((item.sha256, item.channel))
        else:
            parts.setdefault((item.sha256, item.channel), []).append((item.start, item.end))
    is_labelled = [
        windows == 0 and (sha256, channel) in whole
        for sha256, channel, windows in zip(table["sha256"], table["channel"], table["windows"], strict=True)
    ]
    overlaps = [
        any(start < other_end and other_start < end for other_start, other_end in parts.get((sha256, channel), ()))
        for sha256, channel, start, end in timeline[["sha256", "channel", "start", "end"]].itertuples(index=False)
    ]
    return table[~np.array(is_labelled, dtype=bool)], timeline[~np.array(overlaps, dtype=bool)]


def _without(table: pd.DataFrame, places: set[Place]) -> pd.DataFrame:
    stays = [place not in places for place in zip(table["path"], table["sha256"], strict=True)]
    return table[np.array(stays, dtype=bool)]


def _key(clip: Mapping[str, Any]) -> tuple:
    """What names a clip within its batch before its audio is kept."""
    return clip["path"], clip["sha256"], clip["channel"], clip["start"], clip["end"]


class _Recordings:
    """The recordings of a batch in their inboxes. ``kept``: the audio of the clips that was kept from them."""

    def __init__(self, store: Store, plan: Plan):
        self._store, self._plan = store, plan
        self._inboxes = decoded_paths(plan["inboxes"])
        self.kept: dict[tuple, Kept] = {}

    def gone(self, table: pd.DataFrame) -> set[Place]:
        """The recordings of a table that have an answer and are not there any more as they were scored.

        An object of a bucket is not asked for: it is found to be gone when its audio is kept.
        """
        rows = table[table["error"] == ""]
        answered = Digests(zip(rows["path"], rows["sha256"], strict=True))
        places = (((entry["path"], entry["sha256"]), entry) for entry in all_files(self._store, self._plan))
        return {place for place, entry in places if place in answered and not self._is_there(listed_file(entry))}

    def _is_there(self, file: File) -> bool:
        if file.is_object:
            return True
        try:
            with inbox.reopen(file, inboxes=self._inboxes):
                return True
        except (AudioError, OSError):
            return False

    def keep(self, drawn: list[dict[str, Any]]) -> set[Place]:
        """Keep the audio of clips; returns the recordings that are not there any more."""
        by_place: dict[Place, list[dict[str, Any]]] = {}
        for clip in drawn:
            if _key(clip) not in self.kept:
                by_place.setdefault((clip["path"], clip["sha256"]), []).append(clip)
        gone = set()
        files = find_files(self._store, self._plan, by_place.keys())
        for place, clips_of_place in by_place.items():
            try:
                pieces = self._cut(files[place][0], clips_of_place)
            except (AudioError, OSError) as error:
                file = files[place][0]
                if file.is_object and not isinstance(error, (AudioError, FileNotFoundError, PermissionError)):
                    raise  # the server fails at the moment: the recording is not gone
                log.warning("%s: no clip of it can be reviewed (%s)", place[0], describe_failure(error))
                gone.add(place)
                continue
            for clip, (data, suffix) in zip(clips_of_place, pieces, strict=True):
                self.kept[_key(clip)] = Kept(clips.keep(self._store, data, suffix), suffix)
        return gone

    def _cut(self, file: File, drawn: list[dict[str, Any]]) -> list[tuple[bytes, str]]:
        """The audio of clips of one recording, each with the ending of its name."""
        with inbox.reopen(file, inboxes=self._inboxes) as (handle, _):
            is_whole = all(clip["start"] is None and not clip["channel"] for clip in drawn)
            if is_whole and file.size <= clips.LARGEST:
                data = handle.read()
                if hashlib.sha256(data).hexdigest() != file.sha256:
                    raise AudioError("changed", f"{file.path} changed while it was kept")
                return [(data, clips.suffix_of(file.path))] * len(drawn)
            spans = [
                Span(int(clip["channel"]) if clip["channel"] else None, clip["start"], clip["end"]) for clip in drawn
            ]
            return [(data, "flac") for data in clips.cut_out(handle, spans)]


def _with_audio(batch: str, drawn: list[dict[str, Any]], kept: Mapping[tuple, Kept]) -> tuple[Item, ...]:
    """The items of a queue. Of two clips with the same audio, which are copies in other files, the first counts."""
    items: dict[str, Item] = {}
    for clip in drawn:
        audio, suffix = kept[_key(clip)]
        reasons = tuple(clip["reasons"])
        items.setdefault(audio, Item(**clip | {"batch": batch, "audio": audio, "suffix": suffix, "reasons": reasons}))
    return tuple(items.values())
