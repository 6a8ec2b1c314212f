"""The manifest of a dataset: a row per clip, with its labels and what its content and header say."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from emotion.audio import decode
from emotion.datasets.clips import SourceClip
from emotion.errors import AudioError, DataError
from emotion.progress import Progress

MANIFEST = {
    "path": "str",
    "sha256": "str",
    "bytes": "int64",
    "emotion": "str",
    "intensity": "str",
    "statement": "str",
    "repetition": "Int64",
    "speaker": "str",
    "actor": "str",
    "gender": "str",
    "channel": "str",
    "duration": "float64",
    "rate": "Int64",
    "channels": "Int64",
    "duplicate_of": "str",
    "drawn": "float64",
}
"""The manifest's columns and their dtypes. What is not known is ``""`` in a text, NaN or NA in a number. ``drawn`` is
the probability with which the review drew a clip; only the dataset of reviewed clips has it."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the files begin that Git leaves in place of large ones where its extension LFS is missing."""


def manifest_rows(
    clips: list[SourceClip], progress: Progress, put: Callable[[str, bytes], None] = lambda path, data: None
) -> Iterator[dict[str, Any]]:
    """Read the clips one by one; yields the row of each, without ``duplicate_of``.

    Parameters
    ----------
    clips : list of SourceClip
    progress : callable
        Called with the clips read and the clips in all.
    put : callable
        Called with the path and the bytes of each clip.

    Raises
    ------
    DataError
        If a clip is damaged, or a pointer to a recording that was not fetched.
    """
    for number, clip in enumerate(clips, start=1):
        data = clip.read()
        if data.startswith(_LFS_POINTER):
            raise DataError(
                f"{clip.path} is a pointer of Git LFS in place of a recording; fetch the recordings with `git lfs pull`"
            )
        put(clip.path, data)
        row = {"path": clip.path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        yield row | clip.labels | _header(data)
        progress(number, len(clips))


def manifest_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """The manifest from its rows: sorted by path, with the columns and dtypes of ``MANIFEST``.

    Raises
    ------
    DataError
        If the same recording has two emotions.

    Examples
    --------
    >>> row = {"path": "b.wav", "sha256": "0f", "bytes": 4, "emotion": "sad"}
    >>> manifest_table([row, row | {"path": "a.wav"}])[["path", "emotion", "duplicate_of"]].values.tolist()
    [['a.wav', 'sad', ''], ['b.wav', 'sad', 'a.wav']]
    """
    unknown = {column: "" if dtype == "str" else None for column, dtype in MANIFEST.items()}
    first: dict[str, dict[str, Any]] = {}
    complete = []
    for row in sorted(rows, key=lambda row: row["path"]):
        original = first.setdefault(row["sha256"], row)
        if original["emotion"] != row["emotion"]:
            raise DataError(
                f"{original['path']} ({original['emotion']}) and {row['path']} ({row['emotion']}) are "
                "the same recording with two emotions; delete one of them"
            )
        complete.append(unknown | row | {"duplicate_of": "" if original is row else original["path"]})
    return pd.DataFrame(complete, columns=list(MANIFEST)).astype(MANIFEST)


def parse_manifest(data: bytes) -> pd.DataFrame:
    """The manifest from its CSV, with the dtypes of ``MANIFEST``. A text that looks like no value stays a text.

    ``drawn`` is NaN in manifests that were stored before there was such a column.
    """
    numbers = [column for column, dtype in MANIFEST.items() if dtype != "str"]
    table = pd.read_csv(
        io.BytesIO(data),
        dtype=MANIFEST,
        keep_default_na=False,
        na_values={column: [""] for column in numbers},
    )
    return table if "drawn" in table else table.assign(drawn=np.nan)


def _header(data: bytes) -> dict[str, Any]:
    """Duration in seconds, rate in Hz and channels as the header has them, as far as it does."""
    try:
        with decode.open_recording(io.BytesIO(data)) as recording:
            return {
                "duration": recording.frames / recording.sample_rate if recording.frames else None,
                "rate": recording.sample_rate,
                "channels": recording.channels,
            }
    except AudioError:
        return {}
