"""Batches with predictions made up, and recordings to hear, for tests of the review."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from emotion.review.making import make_queue
from emotion.review.queue import Queue
from emotion.scoring.plan import Plan, encoded_paths
from emotion.scoring.tables import clip_table, timeline_table
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, MODES

LIMITS = dict.fromkeys(MODES, 0.5)


def answers(count: int, *, seed: int = 0, emotions: Sequence[str] = EMOTIONS) -> list[dict]:
    """Columns of made-up answers, and whether each is right (``is_right``, as often as the confidence says)."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(len(emotions), 0.4), count)
    rows = []
    for row in probabilities:
        best = int(row.argmax())
        answer = {f"p_{emotion}": float(value) for emotion, value in zip(emotions, row, strict=True)}
        answer |= {"emotion": emotions[best], "confidence": float(row[best])}
        rows.append(answer | {"is_right": bool(random.random() < row[best])})
    return rows


def predictions(count: int, *, seed: int = 0, emotions: Sequence[str] = EMOTIONS) -> pd.DataFrame:
    """The table of a batch of short recordings, with the column ``is_right``."""
    rows = answers(count, seed=seed, emotions=emotions)
    table = clip_table(
        [
            {"path": f"day-{number % 3}/{number:05}.wav", "sha256": f"{number:064x}", "speaker": f"s{number % 7}"}
            | {key: value for key, value in row.items() if key != "is_right"}
            | {"duration": 2.0, "model": "first", "family": "ensemble", "mode": "plain", "windows": 0, "label": ""}
            | {"error": "", "message": "", "heard_in_training": "no", "channel": "", "unfamiliarity": 0.5}
            for number, row in enumerate(rows)
        ],
        emotions=emotions,
        limits=LIMITS,
    )
    return table.assign(is_right=[row["is_right"] for row in rows])


def write_recording(path: Path, *, seed: int, seconds: float = 1.0, channels: int = 1, rate: int = 16_000) -> str:
    """A recording of noise; returns its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate), channels))
    soundfile.write(path, noise, rate)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def add_batch(store: Store, batch: str, inbox: Path, table: pd.DataFrame, timeline: pd.DataFrame | None = None) -> Plan:
    """Write what a scoring run leaves of a batch before its queue is made; the recordings lie in the inbox."""
    emotions = [column[2:] for column in table.columns if column.startswith("p_")]
    timeline = timeline_table([], emotions=emotions) if timeline is None else timeline
    store.write_table(f"scores/{batch}/predictions.parquet", table)
    if len(timeline):
        store.write_table(f"scores/{batch}/timeline.parquet", timeline)
    files = []
    for path, sha256 in table[["path", "sha256"]].drop_duplicates().itertuples(index=False):
        place = os.path.realpath(inbox / path)
        status = os.stat(place)
        stamp = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
        file = {"path": path, "place": os.fsencode(place).hex(), "stamp": stamp, "size": status.st_size}
        files.append(file | {"sha256": sha256, "error": "", "message": "", "label": "", "speaker": ""})
    model = {"version": "first", "family": "ensemble", "name": "first/ensemble", "emotions": emotions}
    plan: Plan = {
        "batch": batch,
        "run_id": batch,
        "created": "2026-01-02T03:04:05+00:00",
        "folders": [str(inbox)],
        "inboxes": encoded_paths([inbox]),
        "models": [model],
        "options": {},
        "files": files,
        "known": 0,
        "left": {},
        "took_over": [],
    }
    store.write_json(f"scores/{batch}/plan.json", plan)
    return plan


def add_queue(
    store: Store, inbox: Path, *, batch: str = "monday", clips: int = 5, size: int = 20, seed: int = 0
) -> Queue:
    """A batch of short recordings with its queue."""
    table = predictions(clips, seed=seed)
    table["path"] = [f"{batch}/{number}.wav" for number in range(clips)]
    table["sha256"] = [
        write_recording(inbox / path, seed=1000 * seed + number, seconds=0.3)
        for number, path in enumerate(table["path"])
    ]
    made = make_queue(store, add_batch(store, batch, inbox, table), size=size, drift="ok")
    assert made is not None
    return made
