"""Normalizes the clips of a batch by their speaker or their folder, once all shards are featurized.

The shards of a batch are scored by different tasks, as clips are. Here the clips of a folder, or of a speaker, come
together whatever shards they lie in, and their answers are computed anew. The stored parts stay as they are: a second
try starts from the same and gives the same.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from emotion.inference import CustomEmotionModel
from emotion.inference.adapting import Groups, Part
from emotion.scoring.options import Options
from emotion.scoring.plan import Plan, part_keys
from emotion.scoring.tables import answer_columns, challenger_columns, complete, needs_listener
from emotion.store import Store


def folder_of(path: str) -> str:
    """The folder in which a file lies, as the path in the tables names it; its clips are one recording condition.

    >>> folder_of("monday/1.wav"), folder_of("1.wav"), folder_of("s3://calls/monday/1.wav")
    ('monday', '.', 's3://calls/monday')
    """
    folder, slash, _ = path.rpartition("/")
    return folder or slash or "."


def read_vectors(store: Store, part: str) -> np.ndarray:
    """The stored features of a part, float32 (n_clips, n_features)."""
    return np.load(io.BytesIO(store.read_bytes(f"{part}.npy")), allow_pickle=False)


def read_part(store: Store, part: str) -> pd.DataFrame:
    """The table of a part, as this release would have written it.

    A part of an earlier release, in a batch that is continued by this one, lacks some columns, and calls the mode
    ``speaker`` ``adapted``.
    """
    table = complete(store.read_table(f"{part}.parquet"))
    return table.replace({"mode": {"adapted": "speaker"}})


def find_groups(store: Store, plan: Plan, model: CustomEmotionModel) -> Groups:
    """The groups of a batch for one model, from the stored parts; it reads each of them at most four times."""
    parts = [_part(store, key) for key in part_keys(plan)]
    return model.find_groups([part for part in parts if part.speakers], Options(**plan["options"]).adaptation)


def _part(store: Store, key: str) -> Part:
    table = store.read_table(f"{key}.parquet", ["path", "speaker", "vector"])
    clips = table[table["vector"] >= 0]
    rows = clips["vector"].to_numpy()
    folders = [folder_of(path) for path in clips["path"]]
    return Part(folders, clips["speaker"].tolist(), lambda: read_vectors(store, key)[rows])


def adapt(
    table: pd.DataFrame,
    vectors: np.ndarray,
    models: Sequence[CustomEmotionModel],
    groups: Sequence[Groups],
    *,
    limits: Mapping[str, float],
) -> pd.DataFrame:
    """The table of a part with the answers of normalized clips in place of the plain ones.

    A part of an earlier release may hold answers by speaker. Those of clips that have no group become plain.

    Parameters
    ----------
    table : pandas.DataFrame
        See :func:`emotion.scoring.tables.clip_table`.
    vectors : float32 array, shape (n_clips, n_features)
    models, groups : sequence
        The model, and the challenger if there is one; each with its groups.
    limits : mapping of str to float
        As for :func:`emotion.scoring.tables.clip_table`. Whether a clip is unfamiliar does not depend on how it was
        normalized, so those columns stay.
    """
    table = table.copy()
    clips = table[table["vector"] >= 0]
    modes = clips["mode"].to_numpy()  # of the stored answers
    for number, (model, model_groups) in enumerate(zip(models, groups, strict=True)):
        chosen = [
            model_groups.of_clip(folder_of(path), speaker)
            for path, speaker in zip(clips["path"], clips["speaker"], strict=True)
        ]
        rows = np.flatnonzero(np.array([group is not None for group in chosen], dtype=bool) | (modes != "plain"))
        if not len(rows):
            continue
        answers = model.predict_in_groups(vectors[clips["vector"].iloc[rows]], [chosen[row] for row in rows])
        columns = [
            challenger_columns(answer) if number else answer_columns(answer) | {"mode": answer["mode"]}
            for answer in answers
        ]
        index = clips.index[rows]
        for name, values in pd.DataFrame(columns, index=index).items():
            table.loc[index, name] = values
    table["needs_listener"] = needs_listener(table, limits)
    return table
