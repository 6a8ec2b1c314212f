"""The clips that a person should hear, each with an excerpt and an explanation.

Unfamiliar clips come first, then those with the least confident answers.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd

from emotion.errors import AudioError, describe_failure
from emotion.inference import CustomEmotionModel, windows
from emotion.reports import batch_report
from emotion.scoring import inbox
from emotion.scoring.plan import Plan, decoded_paths, listed_file
from emotion.store import Store

log = logging.getLogger(__name__)


def least_confident_clips(store: Store, plan: Plan, table: pd.DataFrame, model: CustomEmotionModel) -> Iterator[dict]:
    """The clips of a batch that a person should hear first: unfamiliar ones, then by confidence.

    The report of the batch takes them in this form.

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
        A row of the table with ``audio`` (the excerpt as MP3, or None where there is none; then ``message`` says
        why), ``towards``, ``against`` and ``no_explanation`` (why the two are empty; ``""`` for an explained answer).
        A clip that cannot be read or explained any more keeps no other from its place.
    """
    clips = table[(table["error"] == "") & (table["windows"] == 0)]
    rows = clips.sort_values(["unfamiliar", "confidence"], ascending=[False, True], kind="stable")
    rows = rows.head(batch_report.LISTEN)
    entries = {(entry["path"], entry["sha256"]): entry for entry in plan["files"]}
    inboxes = decoded_paths(plan["inboxes"])
    for row in rows.to_dict("records"):
        entry = entries[row["path"], row["sha256"]]
        excerpt: bytes | None = None
        try:
            with inbox.reopen(listed_file(entry), inboxes=inboxes) as handle:
                excerpt = batch_report.excerpt(windows.read(handle))
        except Exception as error:
            log.warning("%s: there is no excerpt of it", row["path"], exc_info=not isinstance(error, AudioError))
            row["message"] = inbox.shown(describe_failure(error))
        yield row | {"audio": excerpt} | _reasons(store, entry, model)


def _reasons(store: Store, entry: dict, model: CustomEmotionModel) -> dict:
    try:
        answer = _explain(store, entry, model)
    except Exception as error:
        log.warning("%s: the answer gets no explanation", entry["path"], exc_info=True)
        answer = {"explanation": None, "no_explanation": describe_failure(error)}
    reasons = answer["explanation"] or {"towards": [], "against": []}
    return reasons | {"no_explanation": answer.get("no_explanation", "")}


def _explain(store: Store, entry: dict, model: CustomEmotionModel) -> dict:
    """The answer for a clip with its explanation, from the stored features of its shard.

    An adapted answer needs the other clips of the same speaker in the shard.
    """
    part = store.read_table(f"{entry['part']}.parquet", ["path", "sha256", "speaker", "vector"])
    vectors = np.load(io.BytesIO(store.read_bytes(f"{entry['part']}.npy")), allow_pickle=False)
    rows = part[part["vector"] >= 0]
    is_clip = (rows["path"] == entry["path"]) & (rows["sha256"] == entry["sha256"])
    group = rows["speaker"] == entry["speaker"] if entry["speaker"] else is_clip
    rows, explain = rows[group], is_clip[group].to_numpy()
    answers = model.predict_features(vectors[rows["vector"]], speakers=rows["speaker"].tolist(), explain=explain)
    return answers[int(explain.argmax())]
