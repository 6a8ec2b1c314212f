"""Features of clips under recording conditions: choose the clips, plan shards, and store each as one Parquet file.

``conditions/<recipe>/<version of the conditions>/<shard>.parquet`` holds a row for each clip and condition: ``sha256``
of the clip's file, ``condition`` (a name of :data:`emotion.audio.conditions.CONDITIONS`), ``talkers`` (the checksums of
the recordings that babble was made of, "" for a condition without) and the named features. What is stored is never
computed again.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np
import pandas as pd

from emotion.audio import decode
from emotion.audio.conditions import CONDITIONS, CONDITIONS_VERSION, in_condition
from emotion.errors import DataError
from emotion.features import recipe
from emotion.features.augmentation import VARIANTS
from emotion.features.feature_table import MAX_SHARDS, read_clip
from emotion.progress import Progress, no_progress
from emotion.store import Store

TALKERS = 4
"""Recordings that the babble of a clip is made of, each of another speaker."""
KEYS = ["sha256", "condition", "talkers"]
"""Columns of a stored table before the features: what the features of a row depend on."""


class File(TypedDict):
    """A recording in the store."""

    key: str
    sha256: str


class SampledClip(File):
    """A clip that is tested under conditions: ``row`` of the run's table; ``talkers``: what its babble is made of."""

    row: int
    talkers: list[File]


class PlannedClip(SampledClip):
    """A sampled clip with those of its ``conditions`` that have no stored features."""

    conditions: list[str]


@dataclass(frozen=True)
class ConditionPlan:
    """The sample of a run, and the shards of it that have no stored features yet."""

    sample: list[SampledClip]
    shards: list[list[PlannedClip]]


def sample_rows(table: pd.DataFrame, count: int) -> np.ndarray:
    """Row numbers of a sample that is balanced over speakers, and within each speaker over emotions.

    The choice depends on nothing but the clips, so that runs with other seeds test the same clips and reuse their
    features. Every speaker is represented if ``count`` is at least the number of speakers, and every emotion too
    unless it occurs with few speakers only.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip: sha256, speaker, emotion.
    count : int
        Clips of the sample; all clips where there are no more.

    Examples
    --------
    >>> table = pd.DataFrame({"speaker": list("aaaaaabb"), "emotion": ["sad"] * 4 + ["happy"] * 3 + ["sad"]})
    >>> table["sha256"] = [f"clip {number}" for number in range(8)]
    >>> table.loc[sample_rows(table, 4), ["speaker", "emotion"]].sort_values(["speaker", "emotion"]).values.tolist()
    [['a', 'happy'], ['a', 'sad'], ['b', 'happy'], ['b', 'sad']]
    """
    checksums, cell_of_row = table["sha256"].tolist(), list(zip(table["speaker"], table["emotion"], strict=True))
    cells: dict[tuple[str, str], list[int]] = {}
    for row in sorted(range(len(table)), key=lambda row: _rank("sample", checksums[row])):
        cells.setdefault(cell_of_row[row], []).append(row)
    clips_of_emotion = Counter(table["emotion"])
    by_speaker, by_cell, by_emotion = Counter[str](), Counter[tuple[str, str]](), Counter[str]()

    def preference(cell: tuple[str, str]) -> tuple:
        """Least represented first: the speaker, its emotion, the emotion in the sample; then the rarer emotion."""
        speaker, emotion = cell
        counts = by_speaker[speaker], by_cell[cell], by_emotion[emotion], clips_of_emotion[emotion]
        return *counts, _rank("cell", speaker, emotion)

    rows: list[int] = []
    while len(rows) < count and cells:
        cell = min(cells, key=preference)
        rows.append(cells[cell].pop(0))
        if not cells[cell]:
            del cells[cell]
        by_speaker[cell[0]] += 1
        by_cell[cell] += 1
        by_emotion[cell[1]] += 1
    return np.array(sorted(rows), dtype=int)


@lru_cache(maxsize=1 << 16)
def _rank(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def draw_sample(table: pd.DataFrame, tests: Sequence[np.ndarray], count: int) -> list[SampledClip]:
    """The clips that are tested under conditions, each with the recordings that its babble is made of.

    These are of other speakers, none of whom is on the test side of the fold that tests the clip.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip: key, sha256, speaker, emotion.
    tests : sequence of int arrays
        The rows on the test side of each fold that holds out speakers.
    count : int
        As for :func:`sample_rows`.

    Examples
    --------
    >>> table = pd.DataFrame({"key": list("abcdef"), "sha256": list("abcdef"), "speaker": list("xxyyzz")})
    >>> sample = draw_sample(table.assign(emotion="sad"), [np.array([0, 1, 2, 3]), np.array([4, 5])], 3)
    >>> [(clip["key"], [talker["key"] in "ef" for talker in clip["talkers"]]) for clip in sample]
    [('a', [True]), ('c', [True]), ('e', [False, False])]
    """
    files: list[File] = table[["key", "sha256"]].to_dict("records")
    rows_of_speaker = {str(speaker): rows for speaker, rows in table.groupby("speaker").indices.items()}
    speakers_of_row: dict[int, set[str]] = {}
    for test in tests:
        test_speakers = set(map(str, table["speaker"].iloc[test]))
        speakers_of_row.update(dict.fromkeys(map(int, test), test_speakers))
    sample: list[SampledClip] = []
    for row in map(int, sample_rows(table, count)):
        sha256 = files[row]["sha256"]
        others = sorted(rows_of_speaker.keys() - speakers_of_row[row], key=lambda name: _rank(sha256, name))
        talkers = [
            min((files[other] for other in rows_of_speaker[speaker]), key=lambda file: _rank(sha256, file["sha256"]))
            for speaker in others[:TALKERS]
        ]
        sample.append({**files[row], "row": row, "talkers": talkers})
    return sample


def plan(store: Store, sample: list[SampledClip], *, clips_per_shard: int) -> ConditionPlan:
    """Divide the clips of a sample that have no stored features under some condition into shards.

    A shard has as much work as one of ``clips_per_shard`` clips in :func:`emotion.features.feature_table.plan`.
    """
    files = {clip["sha256"] for clip in sample}
    stored = {tuple(key) for key in _stored(store, KEYS, files=files).to_numpy()}
    planned: list[PlannedClip] = []
    for clip in sample:
        missing = [name for name in CONDITIONS if _key(clip, name) not in stored]
        if missing:
            planned.append({**clip, "conditions": missing})
    size = max(1, clips_per_shard * (1 + len(VARIANTS)) // len(CONDITIONS), -(-len(planned) // MAX_SHARDS))
    return ConditionPlan(sample, [planned[start : start + size] for start in range(0, len(planned), size)])


def _key(clip: SampledClip, condition: str) -> tuple[str, str, str]:
    """What the features of a clip in a condition depend on: :data:`KEYS`."""
    talkers = " ".join(talker["sha256"] for talker in clip["talkers"]) if CONDITIONS[condition].has_talkers else ""
    return clip["sha256"], condition, talkers


def _folder() -> str:
    return f"conditions/{recipe.recipe_version()}/{CONDITIONS_VERSION}"


def _stored(store: Store, columns: list[str], *, files: Set[str]) -> pd.DataFrame:
    """What is stored of clips, by the checksums of their files."""
    shards = (store.read_table(key, columns) for key in store.list(_folder(), "*.parquet"))
    parts = [shard[shard["sha256"].isin(files)] for shard in shards]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def featurize(store: Store, clips: list[PlannedClip], *, max_seconds: float, progress: Progress = no_progress) -> dict:
    """Compute the features of one shard and store them. A shard that is stored already is left as it is.

    Parameters
    ----------
    store : Store
    clips : list of PlannedClip
    max_seconds : float
        Longest clip that is decoded.
    progress : Progress
        Clips done, of the shard's.

    Returns
    -------
    dict
        Numbers of clips ``featurized`` and ``stored`` (before), and ``seconds`` of work.

    Raises
    ------
    DataError
        If the content of a file is no longer what the manifest says.
    AudioError
        If a clip cannot be decoded, which it could when the sample was drawn.
    """
    start = time.perf_counter()
    keys = [_key(clip, condition) for clip in clips for condition in clip["conditions"]]
    shard = f"{_folder()}/{hashlib.sha256(repr(keys).encode()).hexdigest()}.parquet"
    if store.exists(shard):
        return {"featurized": 0, "stored": len(clips), "seconds": 0.0}

    def samples_of(file: File) -> np.ndarray:
        return decode.load(io.BytesIO(read_clip(store, file)), max_seconds=max_seconds).samples

    vectors = []
    for number, clip in enumerate(clips, start=1):
        samples, sha256 = samples_of(clip), clip["sha256"]
        for name in clip["conditions"]:
            talkers = [samples_of(talker) for talker in clip["talkers"]] if CONDITIONS[name].has_talkers else []
            vectors.append(recipe.extract(in_condition(name, samples, sha256=sha256, talkers=talkers)))
        progress(number, len(clips))
    names = list(recipe.feature_names())
    table = pd.concat([pd.DataFrame(keys, columns=KEYS), pd.DataFrame(np.stack(vectors), columns=names)], axis=1)
    store.write_table(shard, table)
    return {"featurized": len(clips), "stored": 0, "seconds": time.perf_counter() - start}


def collect(store: Store, sample: list[SampledClip]) -> pd.DataFrame:
    """The stored features of a sample: row, condition and features, condition by condition, each in the sample's order.
    An empty sample gives a table without rows.

    Raises DataError if features are missing.
    """
    names = list(recipe.feature_names())
    if not sample:
        return pd.DataFrame(columns=["row", "condition", *names])
    files = {clip["sha256"] for clip in sample}
    stored = _stored(store, [*KEYS, *names], files=files).drop_duplicates(KEYS).set_index(KEYS)
    keys = [_key(clip, condition) for condition in CONDITIONS for clip in sample]
    missing = [key for key in keys if key not in stored.index]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(keys)} features under conditions are missing, such as those of {missing[0][0]} "
            f"under {missing[0][1]}: run again"
        )
    rows = [{"row": clip["row"], "condition": condition} for condition in CONDITIONS for clip in sample]
    return pd.concat([pd.DataFrame(rows), stored.loc[keys, names].reset_index(drop=True)], axis=1)
