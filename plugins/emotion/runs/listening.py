"""The clips that a person should hear: those with the least confident answers, with an excerpt and an explanation."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pandas as pd

from emotion.errors import AudioError
from emotion.inference import CustomEmotionModel, windows
from emotion.reports import batch_report
from emotion.scoring import inbox
from emotion.scoring.plan import Plan, decoded_paths, listed_file
from emotion.store import Store


def least_confident_clips(store: Store, plan: Plan, table: pd.DataFrame, model: CustomEmotionModel) -> Iterator[dict]:
    """The clips of a batch with the lowest confidence, lowest first, as the report of the batch takes them.

    Parameters
    ----------
    store : Store
        With the parts of the batch.
    plan : Plan
    table : pandas.DataFrame
        What ``predictions.parquet`` holds.
    model : CustomEmotionModel
        The model that gave the answers.

    Yields
    ------
    dict
        A row of the table with ``audio`` (the excerpt as MP3, or None where the file cannot be read any more; then
        ``message`` says why), ``towards`` and ``against``.
    """
    clips = table[(table["error"] == "") & (table["windows"] == 0)]
    rows = clips.nsmallest(batch_report.LISTEN, "confidence", keep="first")
    entries = {(entry["path"], entry["sha256"]): entry for entry in plan["files"]}
    inboxes = decoded_paths(plan["inboxes"])
    for row in rows.to_dict("records"):
        entry = entries[row["path"], row["sha256"]]
        excerpt: bytes | None = None
        try:
            with inbox.reopen(listed_file(entry), inboxes=inboxes) as handle:
                excerpt = batch_report.excerpt(windows.read(handle))
        except AudioError as error:
            row["message"] = inbox.shown(str(error))
        yield row | {"audio": excerpt} | _explain(store, entry, model)


def _explain(store: Store, entry: dict, model: CustomEmotionModel) -> dict:
    """The features that spoke for and against the answer for a clip, from the stored features of its shard.

    An adapted answer needs the other clips of the same speaker in the shard.
    """
    part = store.read_table(f"{entry['part']}.parquet", ["path", "sha256", "speaker", "vector"])
    vectors = np.load(io.BytesIO(store.read_bytes(f"{entry['part']}.npy")), allow_pickle=False)
    rows = part[part["vector"] >= 0]
    is_clip = (rows["path"] == entry["path"]) & (rows["sha256"] == entry["sha256"])
    group = rows["speaker"] == entry["speaker"] if entry["speaker"] else is_clip
    rows, explain = rows[group], is_clip[group].to_numpy()
    answers = model.predict_features(vectors[rows["vector"]], speakers=rows["speaker"].tolist(), explain=explain)
    return answers[int(explain.argmax())]["explanation"]
