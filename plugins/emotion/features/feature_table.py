"""Featurize many clips: shards planned from what is not stored yet, each stored as one Parquet file.

``features/<recipe>/<shard>.parquet`` holds, keyed by the file's sha256, a row for each clip and for each of its
augmented copies (``variant``: :data:`ORIGINAL` or a name of :data:`emotion.features.VARIANTS`): ``samples_sha256``,
``reason`` and ``message`` (empty for a clip that can be used; an unusable one has no copies) and the named features.
Whatever is stored there for this recipe is never computed again, by whichever run or machine it was stored.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from emotion.audio import decode
from emotion.errors import AudioError, DataError
from emotion.features import recipe
from emotion.features.augmentation import VARIANTS
from emotion.store import Store

MAX_SHARDS = 1000
"""Airflow maps over at most 1,024 values."""
ORIGINAL = "original"
KEYS = ["sha256", "variant", "samples_sha256", "reason", "message"]


@dataclass(frozen=True)
class Plan:
    """What is to be featurized: ``shards`` (lists of manifest rows' dicts) and counts of clips."""

    shards: list[list[dict]]
    total: int
    stored: int
    missing: int
    refused: pd.DataFrame


def stored(store: Store) -> pd.DataFrame:
    """Every clip stored for the present recipe, one row a sha256 and variant: :data:`KEYS` and the features."""
    columns = [*KEYS, *recipe.feature_names()]
    parts = [store.read_table(key, columns) for key in store.list(f"features/{recipe.recipe_version()}", "*.parquet")]
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True).drop_duplicates(["sha256", "variant"])


def plan(store: Store, manifest: pd.DataFrame, *, clips_per_shard: int, min_seconds: float, max_seconds: float) -> Plan:
    """Divide the clips that have no features yet into shards.

    ``manifest`` has ``path``, ``sha256`` and ``duration`` (seconds; NaN where the header could not be read: such
    a clip is planned, and its reason found, as any other). Clips out of the length limits are refused here, from their
    headers alone, so that changed limits need no new featurization.
    """
    too_short, too_long = manifest["duration"] < min_seconds, manifest["duration"] > max_seconds
    refused = manifest.loc[too_short | too_long, ["path", "sha256", "duration"]].copy()
    refused["reason"] = np.where(refused["duration"] < min_seconds, "too_short", "too_long")
    refused["message"] = [
        f"{seconds:.2f} s; expected {min_seconds:g} to {max_seconds:g} s" for seconds in refused.pop("duration")
    ]
    known = {
        sha256
        for key in store.list(f"features/{recipe.recipe_version()}", "*.parquet")
        for sha256 in store.read_table(key, ["sha256"])["sha256"]
    }
    wanted = manifest[~(too_short | too_long)].drop_duplicates("sha256")
    missing = wanted[~wanted["sha256"].isin(known)]
    size = max(clips_per_shard, -(-len(missing) // MAX_SHARDS))
    rows = missing[["path", "sha256"]].to_dict("records")
    return Plan(
        shards=[rows[start : start + size] for start in range(0, len(rows), size)],
        total=len(manifest),
        stored=len(wanted) - len(missing),
        missing=len(missing),
        refused=refused,
    )


def featurize(
    store: Store,
    folder: str,
    clips: list[dict],
    *,
    max_seconds: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Featurize one shard and store it.

    Parameters
    ----------
    store : Store
    folder : str
        Key below which the clips' paths lie.
    clips : list of dict
        path, sha256.
    max_seconds : float
        Longest clip that is decoded.
    progress : callable
        Told how many clips are done, of how many.

    Returns
    -------
    dict
        ``featurized``, ``rejected`` and ``seconds`` of work.

    Raises
    ------
    DataError
        If a file's content is no longer what the manifest says.
    """
    shard = hashlib.sha256(" ".join(clip["sha256"] for clip in clips).encode()).hexdigest()
    key = f"features/{recipe.recipe_version()}/{shard}.parquet"
    start = time.perf_counter()
    if store.exists(key):
        return {"featurized": 0, "rejected": 0, "stored": len(clips), "seconds": 0.0}
    rows, values = [], []
    for number, clip in enumerate(clips, start=1):
        data = store.read_bytes(f"{folder}/{clip['path']}")
        found = hashlib.sha256(data).hexdigest()
        if found != clip["sha256"]:
            raise DataError(
                f"{clip['path']} has sha256 {found}; the manifest says {clip['sha256']}. The file changed after the "
                "manifest was made: start a new run"
            )
        try:
            loaded = decode.load(io.BytesIO(data), max_seconds=max_seconds)
        except AudioError as error:
            rows.append((clip["sha256"], ORIGINAL, "", error.reason, str(error)))
            values.append(np.full(len(recipe.feature_names()), np.nan, dtype=np.float32))
        else:
            copies = {name: change(loaded.samples) for name, change in VARIANTS.items()}
            for variant, samples in ({ORIGINAL: loaded.samples} | copies).items():
                rows.append((clip["sha256"], variant, loaded.samples_sha256, "", ""))
                values.append(recipe.extract(samples))
        progress(number, len(clips))
    columns = [pd.DataFrame(rows, columns=KEYS), pd.DataFrame(np.stack(values), columns=list(recipe.feature_names()))]
    table = pd.concat(columns, axis=1)
    store.write_table(key, table)
    rejected = int((table["reason"] != "").sum())
    return {
        "featurized": len(clips) - rejected,
        "rejected": rejected,
        "stored": 0,
        "seconds": time.perf_counter() - start,
    }


@dataclass(frozen=True)
class Collected:
    """What a run trains on.

    ``table``: the manifest's usable clips with their features, one row per distinct recording; ``augmented``: sha256,
    variant and features of their copies, variant by variant, each in the order of ``table``; ``rejected``: path,
    sha256, reason, message; ``duplicates``: clips left out because another has the same samples.
    """

    table: pd.DataFrame
    augmented: pd.DataFrame
    rejected: pd.DataFrame
    duplicates: pd.DataFrame


def collect(store: Store, manifest: pd.DataFrame, refused: pd.DataFrame) -> Collected:
    """Join the manifest with the stored features.

    Recordings with the same samples count once (the first path), so that none is on both sides of a split.

    Raises
    ------
    DataError
        If one recording carries two emotions, or if a clip has no features.
    """
    everything = stored(store)
    originals = everything[everything["variant"] == ORIGINAL]
    table = manifest[~manifest["sha256"].isin(refused["sha256"])].merge(originals, on="sha256", how="left")
    absent = table["reason"].isna()
    if absent.any():
        raise DataError(
            f"{int(absent.sum())} clips have no features, such as {table['path'][absent.idxmax()]}: run again"
        )
    bad = table["reason"] != ""
    rejected = pd.concat([refused, table.loc[bad, refused.columns]], ignore_index=True)
    table = table[~bad]
    emotions = table.groupby("samples_sha256")["emotion"].nunique()
    if (emotions > 1).any():
        pair = table.loc[table["samples_sha256"] == emotions.idxmax(), ["path", "emotion"]].to_dict("records")
        raise DataError(f"one recording carries two emotions: {pair}; mend the labels")
    again = table.duplicated("samples_sha256")
    table, duplicates = table[~again].reset_index(drop=True), table.loc[again, ["path", "sha256"]]
    copies = everything[everything["variant"] != ORIGINAL].set_index(["variant", "sha256"])
    wanted = pd.MultiIndex.from_product([VARIANTS, table["sha256"]], names=copies.index.names)
    return Collected(
        table=table.drop(columns=["variant", "reason", "message"]),
        augmented=copies.loc[wanted, list(recipe.feature_names())].reset_index(),
        rejected=rejected,
        duplicates=duplicates.reset_index(drop=True),
    )


def check_rejected(rejected: pd.DataFrame, total: int, *, max_share: float) -> None:
    """Raise DataError if more than ``max_share`` of ``total`` clips cannot be used."""
    if len(rejected) > max_share * total:
        counts = ", ".join(f"{reason} {count}" for reason, count in rejected["reason"].value_counts().items())
        raise DataError(
            f"{len(rejected)} of {total} clips ({len(rejected) / total:.1%}) cannot be used ({counts}); at most "
            f"{max_share:.1%} may. See rejected.csv, mend the recordings or raise the limit"
        )
