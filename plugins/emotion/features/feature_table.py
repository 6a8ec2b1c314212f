"""Compute the features of a dataset: plan shards from what is not stored yet, and store each as one Parquet file.

``features/<recipe>/<shard>-at-most-<limit>s.parquet`` holds, keyed by the file's sha256, a row for each clip
and for each of its augmented copies (``variant``: :data:`ORIGINAL` or a name of :data:`emotion.features.VARIANTS`):
``samples_sha256``, ``reason`` and ``message`` (empty for a clip that can be used; a rejected clip has no copies), the
clip's quality (:mod:`emotion.features.quality`; NaN for a copy) and the named features.
What is stored there for this recipe is never computed again, whichever run or machine stored it.
Only a clip that was refused as too long is decoded again, once the limit in seconds is higher than the one in the
file's name.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from emotion.audio import decode
from emotion.errors import AudioError, DataError
from emotion.features import quality, recipe
from emotion.features.augmentation import VARIANTS
from emotion.progress import Progress, no_progress
from emotion.store import Store

MAX_SHARDS = 1000
"""Airflow maps a task over at most 1,024 values."""
ORIGINAL = "original"
"""The variant of a clip as it is."""
KEYS = ["sha256", "variant", "samples_sha256", "reason", "message", *quality.COLUMNS]
"""Columns of a stored table before the features."""


@dataclass(frozen=True)
class Plan:
    """What is to be featurized.

    Attributes
    ----------
    shards : list of list of dict
        ``key`` and ``sha256`` of the clips of each shard.
    total : int
        Clips of the manifest.
    stored : int
        Distinct files whose features are stored already.
    missing : int
        Distinct files that the shards hold.
    refused : pandas.DataFrame
        path, sha256, reason and message of the clips that are too short or too long.
    """

    shards: list[list[dict]]
    total: int
    stored: int
    missing: int
    refused: pd.DataFrame


def stored(store: Store) -> pd.DataFrame:
    """All that is stored for the present recipe: :data:`KEYS` and the features, a row for each sha256 and variant."""
    columns = [*KEYS, *recipe.feature_names()]
    parts = [store.read_table(key, columns) for key in _stored_keys(store)]
    if not parts:
        return pd.DataFrame(columns=columns)
    return _usable_first(pd.concat(parts, ignore_index=True))


def _usable_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Each clip and variant once: a clip that was too long for an earlier limit has a row with features after that
    row."""
    is_usable = _is_usable(rows)
    return pd.concat([rows[is_usable], rows[~is_usable]], ignore_index=True).drop_duplicates(["sha256", "variant"])


def of_recordings(store: Store, samples_sha256: Collection[str]) -> pd.DataFrame:
    """The stored features of recordings, by the checksum of their samples: samples_sha256 and the features, a row for
    each that is stored."""
    columns = ["samples_sha256", *recipe.feature_names()]
    parts, wanted = [pd.DataFrame(columns=columns)], frozenset(samples_sha256)
    for key in _stored_keys(store) if wanted else ():
        keys = store.read_table(key, KEYS)
        is_asked = _is_usable(keys) & (keys["variant"] == ORIGINAL) & _are_in(wanted, keys["samples_sha256"])
        if is_asked.any():
            parts.append(store.read_table(key, columns)[is_asked])
    rows = pd.concat(parts[1:] or parts, ignore_index=True)
    return rows.drop_duplicates("samples_sha256")


def read_features(store: Store, sha256: Sequence[str], variants: Sequence[str], out: np.ndarray) -> None:
    """Read the stored features of clips, one file of the store at a time.

    Parameters
    ----------
    store : Store
    sha256 : sequence of str
        Of each clip's file; a file may occur several times.
    variants : sequence of str
        :data:`ORIGINAL` and names of :data:`emotion.features.VARIANTS`.
    out : float32 array, shape (n_variants, n_clips, n_features)
        Is filled.

    Raises
    ------
    DataError
        If features are missing.
    """
    rows_of_clip: dict[str, list[int]] = {}
    for row, checksum in enumerate(sha256):
        rows_of_clip.setdefault(checksum, []).append(row)
    names, is_missing = list(recipe.feature_names()), np.ones(out.shape[:2], dtype=bool)
    for key in _stored_keys(store):
        keys = store.read_table(key, ["sha256", "variant", "reason"])
        is_asked = _is_usable(keys) & _are_in(rows_of_clip, keys["sha256"])
        if not is_asked.any():
            continue
        values = store.read_table(key, names).to_numpy(dtype=np.float32)
        for number, variant in enumerate(variants):
            lines = np.flatnonzero(is_asked & (keys["variant"] == variant))
            rows_of_line = [rows_of_clip[checksum] for checksum in keys["sha256"].iloc[lines]]
            rows = np.array([row for rows in rows_of_line for row in rows], dtype=int)
            out[number, rows] = values[np.repeat(lines, [len(rows) for rows in rows_of_line])]
            is_missing[number, rows] = False
    if is_missing.any():
        variant, row = np.argwhere(is_missing)[0]
        raise DataError(
            f"{int(is_missing.any(axis=0).sum())} clips have no features of some copy, such as {sha256[row]} of "
            f"{variants[variant]}: run again"
        )


def _is_usable(rows: pd.DataFrame) -> pd.Series:
    return rows["reason"] == ""


def _are_in(wanted: Collection[str], column: pd.Series) -> np.ndarray:
    """Which values of a column are wanted, bool: pandas' ``isin`` would go through all that is wanted for each file."""
    return np.array([value in wanted for value in column], dtype=bool)


def _stored_keys(store: Store) -> list[str]:
    return store.list(f"features/{recipe.recipe_version()}", "*.parquet")


def _shard_key(clips: list[dict], max_seconds: float) -> str:
    shard = hashlib.sha256(" ".join(clip["sha256"] for clip in clips).encode()).hexdigest()
    return f"features/{recipe.recipe_version()}/{shard}-at-most-{max_seconds:g}s.parquet"


def _done_sha256(store: Store, max_seconds: float) -> set[str]:
    """Checksums of the files that need no decoding.

    Left out of those that are stored are files that were refused as too long for a lower limit than this.
    """
    done: set[str] = set()
    for key in _stored_keys(store):
        rows = store.read_table(key, ["sha256", "reason"])
        limit = re.search(r"-at-most-(.+)s\.parquet$", key)
        if limit is None or float(limit[1]) < max_seconds:
            rows = rows[rows["reason"] != "too_long"]
        done.update(rows["sha256"])
    return done


def plan(store: Store, manifest: pd.DataFrame, *, clips_per_shard: int, min_seconds: float, max_seconds: float) -> Plan:
    """Divide the clips that have no features yet into shards.

    Clips that are too short or too long are refused here, by their headers alone, so that changed limits need no new
    featurization.

    Parameters
    ----------
    store : Store
    manifest : pandas.DataFrame
        ``path``, the file's ``key`` in the store, ``sha256`` and ``duration``, in seconds. The duration is NaN where
        the header could not be read: such a clip is planned as any other, and rejected with its reason when it is
        decoded.
    clips_per_shard : int
        More where the shards would be more than :data:`MAX_SHARDS`.
    min_seconds, max_seconds : float
        Limits of the duration.

    Examples
    --------
    >>> manifest = pd.DataFrame({"path": ["a.wav", "b.wav", "c.wav"], "sha256": ["1a", "2b", "3c"]})
    >>> manifest = manifest.assign(key="audio/" + manifest["path"], duration=[3.5, 0.1, 2.0])
    >>> todo = plan(Store("memory://plan-example"), manifest, clips_per_shard=1, min_seconds=0.2, max_seconds=60)
    >>> todo.shards
    [[{'key': 'audio/a.wav', 'sha256': '1a'}], [{'key': 'audio/c.wav', 'sha256': '3c'}]]
    >>> todo.refused["message"].tolist()
    ['0.10 s; expected 0.2 to 60 s']
    """
    too_short, too_long = manifest["duration"] < min_seconds, manifest["duration"] > max_seconds
    refused = manifest.loc[too_short | too_long, ["path", "sha256", "duration"]].copy()
    refused["reason"] = np.where(refused["duration"] < min_seconds, "too_short", "too_long")
    refused["message"] = [
        f"{seconds:.2f} s; expected {min_seconds:g} to {max_seconds:g} s" for seconds in refused.pop("duration")
    ]
    accepted = manifest[~(too_short | too_long)].drop_duplicates("sha256")
    missing = accepted[~accepted["sha256"].isin(_done_sha256(store, max_seconds))]
    size = max(clips_per_shard, -(-len(missing) // MAX_SHARDS))
    rows = missing[["key", "sha256"]].to_dict("records")
    return Plan(
        shards=[rows[start : start + size] for start in range(0, len(rows), size)],
        total=len(manifest),
        stored=len(accepted) - len(missing),
        missing=len(missing),
        refused=refused,
    )


def featurize(store: Store, clips: list[dict], *, max_seconds: float, progress: Progress = no_progress) -> dict:
    """Compute the features of one shard and store them. A shard that is stored already is left as it is.

    Parameters
    ----------
    store : Store
    clips : list of dict
        ``key`` and ``sha256`` of each.
    max_seconds : float
        Longest clip that is decoded.
    progress : Progress
        Clips done, of the shard's.

    Returns
    -------
    dict
        Numbers of clips ``featurized``, ``rejected`` and ``stored`` (before), and ``seconds`` of work.

    Raises
    ------
    DataError
        If the content of a file is no longer what the manifest says.
    """
    start = time.perf_counter()
    key = _shard_key(clips, max_seconds)
    if store.exists(key):
        return {"featurized": 0, "rejected": 0, "stored": len(clips), "seconds": 0.0}
    rows, vectors = [], []
    for number, clip in enumerate(clips, start=1):
        data = read_clip(store, clip)
        for row, vector in _rows_of_clip(clip["sha256"], data, max_seconds):
            rows.append(row)
            vectors.append(vector)
        progress(number, len(clips))
    names = list(recipe.feature_names())
    table = pd.concat([pd.DataFrame(rows, columns=KEYS), pd.DataFrame(np.stack(vectors), columns=names)], axis=1)
    store.write_table(key, table)
    rejected = int((table["reason"] != "").sum())
    return {
        "featurized": len(clips) - rejected,
        "rejected": rejected,
        "stored": 0,
        "seconds": time.perf_counter() - start,
    }


def read_clip(store: Store, clip: Mapping[str, object]) -> bytes:
    """The content of a clip's file (``key`` in the store), checked against its ``sha256``.

    Raises DataError if the content is no longer what the manifest says.
    """
    data = store.read_bytes(str(clip["key"]))
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != clip["sha256"]:
        raise DataError(
            f"{clip['key']} has sha256 {sha256}; the manifest says {clip['sha256']}. The file changed after the "
            "manifest was made: start a new run"
        )
    return data


def _rows_of_clip(sha256: str, data: bytes, max_seconds: float) -> Iterator[tuple[dict, np.ndarray]]:
    """The columns :data:`KEYS` and the features of a clip and of its copies; of a rejected clip, one row of NaN."""
    try:
        clip = decode.load(io.BytesIO(data), max_seconds=max_seconds)
    except AudioError as error:
        row: dict = {"sha256": sha256, "variant": ORIGINAL, "samples_sha256": "", "reason": error.reason}
        row |= {"message": str(error)}
        yield row | quality.UNKNOWN._asdict(), np.full(len(recipe.feature_names()), np.nan, dtype=np.float32)
        return
    measured = {ORIGINAL: quality.measure(clip.samples)}
    copies = {variant: change(clip.samples, sha256) for variant, change in VARIANTS.items()}
    for variant, samples in ({ORIGINAL: clip.samples} | copies).items():
        row = {"sha256": sha256, "variant": variant, "samples_sha256": clip.samples_sha256, "reason": "", "message": ""}
        yield row | measured.get(variant, quality.UNKNOWN)._asdict(), recipe.extract(samples)


@dataclass(frozen=True)
class Collected:
    """What a run trains on.

    Attributes
    ----------
    table : pandas.DataFrame
        The manifest's usable clips with their quality: one row for each distinct recording.
    rejected : pandas.DataFrame
        path, sha256, reason and message of the clips that cannot be used.
    duplicates : pandas.DataFrame
        path, sha256 and samples_sha256 of the clips that are left out because another clip has the same samples.
    """

    table: pd.DataFrame
    rejected: pd.DataFrame
    duplicates: pd.DataFrame


def collect(store: Store, manifest: pd.DataFrame, refused: pd.DataFrame) -> Collected:
    """Join the manifest with what is stored of its clips, all but the features: :func:`read_features`.

    Recordings with the same samples count once (the first path), so that none is on both sides of a split.

    Parameters
    ----------
    store : Store
    manifest : pandas.DataFrame
        As for :func:`plan`, with ``emotion``; further columns are kept.
    refused : pandas.DataFrame
        Of the :class:`Plan`, which may be one for more clips than these.

    Raises
    ------
    DataError
        If one recording has two emotions, or if a clip has no features.

    Examples
    --------
    >>> store, file = Store("memory://collect-example"), io.BytesIO()
    >>> import soundfile
    >>> soundfile.write(file, np.sin(np.arange(8_000) / 20), 16_000, format="WAV")
    >>> store.write_bytes("audio/a.wav", file.getvalue())
    >>> sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    >>> clip = {"path": "a.wav", "key": "audio/a.wav", "sha256": sha256, "duration": 0.5, "emotion": "calm"}
    >>> manifest = pd.DataFrame([clip])
    >>> todo = plan(store, manifest, clips_per_shard=300, min_seconds=0.2, max_seconds=60)
    >>> featurize(store, todo.shards[0], max_seconds=60)["featurized"]
    1
    >>> collected = collect(store, manifest, todo.refused)
    >>> len(collected.table), len(collected.rejected)
    (1, 0)
    >>> values = np.zeros((2, 1, len(recipe.feature_names())), dtype=np.float32)
    >>> read_features(store, collected.table["sha256"].tolist(), [ORIGINAL, "copy_1"], values)
    >>> bool((values[0] != values[1]).any())
    True
    """
    refused = refused[refused["path"].isin(manifest["path"])]
    originals = _originals(store, manifest["sha256"])
    table = manifest[~manifest["sha256"].isin(refused["sha256"])].merge(originals, on="sha256", how="left")
    _check_complete(table)
    is_rejected = table["reason"] != ""
    rejected = pd.concat([refused, table.loc[is_rejected, refused.columns]], ignore_index=True)
    table = table[~is_rejected]
    _check_one_emotion(table)
    is_duplicate = table.duplicated("samples_sha256")
    duplicates = table.loc[is_duplicate, ["path", "sha256", "samples_sha256"]]
    table = table[~is_duplicate].reset_index(drop=True)
    return Collected(
        table=table.drop(columns=["variant", "reason", "message"]),
        rejected=rejected,
        duplicates=duplicates.reset_index(drop=True),
    )


def _originals(store: Store, sha256: pd.Series) -> pd.DataFrame:
    """:data:`KEYS` of these files themselves."""
    parts, wanted = [pd.DataFrame(columns=KEYS)], frozenset(sha256)
    for key in _stored_keys(store):
        rows = store.read_table(key, KEYS)
        parts.append(rows[(rows["variant"] == ORIGINAL) & _are_in(wanted, rows["sha256"])])
    return _usable_first(pd.concat(parts[1:] or parts, ignore_index=True))


def _check_complete(table: pd.DataFrame) -> None:
    absent = table["reason"].isna()
    if absent.any():
        raise DataError(
            f"{int(absent.sum())} clips have no features, such as {table['path'][absent.idxmax()]}: run again"
        )


def _check_one_emotion(table: pd.DataFrame) -> None:
    emotions = table.groupby("samples_sha256")["emotion"].nunique()
    if (emotions > 1).any():
        clips = table.loc[table["samples_sha256"] == emotions.idxmax(), ["path", "emotion"]].to_dict("records")
        raise DataError(f"one recording has two emotions: {clips}; correct the labels")


def check_rejected(rejected: pd.DataFrame, total: int, *, max_share: float) -> None:
    """Raise DataError if more than ``max_share`` of ``total`` clips cannot be used.

    >>> rejected = pd.DataFrame({"reason": ["silent", "silent", "too_long"]})
    >>> check_rejected(rejected, 100, max_share=0.05)
    >>> check_rejected(rejected, 30, max_share=0.05)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    emotion.errors.DataError: 3 of 30 clips (10.0%) cannot be used (silent 2, too_long 1); at most 5.0% may. ...
    """
    if len(rejected) > max_share * total:
        counts = ", ".join(f"{reason} {count}" for reason, count in rejected["reason"].value_counts().items())
        raise DataError(
            f"{len(rejected)} of {total} clips ({len(rejected) / total:.1%}) cannot be used ({counts}); at most "
            f"{max_share:.1%} may. See rejected.csv, replace the recordings or raise the limit"
        )
