"""Held-out predictions that are kept with a version, so that a later version can be compared without loading models."""

from __future__ import annotations

import io

import pandas as pd

from emotion.models import registry
from emotion.models.bundle import verify
from emotion.models.registry import ChampionPointer
from emotion.store import Store


def predictions_file(frames: list[pd.DataFrame]) -> bytes:
    """The content of such a file; each frame has a column ``family``.

    >>> pd.read_parquet(io.BytesIO(predictions_file([pd.DataFrame({"family": ["ensemble"]})])))["family"].tolist()
    ['ensemble']
    """
    buffer = io.BytesIO()
    pd.concat(frames, ignore_index=True).to_parquet(buffer, index=False)
    return buffer.getvalue()


def champion_predictions(store: Store, champion: ChampionPointer, name: str) -> pd.DataFrame | None:
    """The champion's rows of the file of this name; None where its version keeps no such file.

    Raises
    ------
    EmotionError
        If the version's entry or the file is damaged or not there.
    """
    entry = registry.champion_entry(store, champion)
    if name not in entry["files"]:
        return None
    data = registry.read_file(store, entry, name)
    verify(data, sha256=entry["files"][name]["sha256"], name=name)
    stored = pd.read_parquet(io.BytesIO(data))
    return stored[stored["family"] == champion["family"]]
