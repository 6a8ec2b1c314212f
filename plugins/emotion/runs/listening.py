"""The clips that a person should hear, each with an excerpt: of a batch, the least certain ones with an explanation; of
training, those whose labels may be wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pandas as pd

from emotion.errors import AudioError, EmotionError, StoreError, describe_failure
from emotion.inference import CustomEmotionModel, windows
from emotion.inference.adapting import Groups
from emotion.reports import batch_report, clip_picture, players, training_report
from emotion.scoring import inbox
from emotion.scoring.adapted import folder_of, read_part, read_vectors
from emotion.scoring.plan import Plan, decoded_paths, find_files
from emotion.store import Store

log = logging.getLogger(__name__)


def least_confident(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the clips that a person should hear first, in this order: unfamiliar ones, then by confidence."""
    clips = table[(table["error"] == "") & (table["windows"] == 0)]
    rows = clips.sort_values(["unfamiliar", "confidence"], ascending=[False, True], kind="stable")
    return rows.head(batch_report.LISTEN)


def least_confident_clips(
    store: Store, plan: Plan, table: pd.DataFrame, model: CustomEmotionModel, groups: Groups | None
) -> Iterator[dict]:
    """The clips of a batch that a person should hear first: unfamiliar ones, then by confidence.

    The report of the batch takes them in this form.

    Parameters
    ----------
    store : Store
        With the parts of the batch.
    plan : Plan
    table : pandas.DataFrame
        What ``predictions.parquet`` holds, or those of its rows that are heard.
    model : CustomEmotionModel
        The model that gave the answers.
    groups : Groups or None
        What the clips were normalized by; None if that failed, so that all answers are plain.

    Yields
    ------
    dict
        A row of the table with ``audio`` (the excerpt as MP3, or None where there is none; then ``message`` says
        why), ``towards``, ``against`` and ``no_explanation`` (why the two are empty; ``""`` for an explained answer).
        A clip that cannot be read or explained any more keeps no other from its place.
    """
    rows = least_confident(table)
    files = find_files(store, plan, set(zip(rows["path"], rows["sha256"], strict=True)))
    inboxes = decoded_paths(plan["inboxes"])
    for row in rows.to_dict("records"):
        file, part = files[row["path"], row["sha256"]]
        heard: dict = {"audio": None, "picture": None}
        try:
            with inbox.reopen(file, inboxes=inboxes) as (handle, _):
                clip = windows.read(handle, channel=int(row["channel"]) if row["channel"] else None)
            heard = {"audio": players.excerpt(clip), "picture": clip_picture.draw(clip)}
        except Exception as error:
            log.warning("%s: there is no excerpt of it", row["path"], exc_info=not isinstance(error, AudioError))
            row["message"] = inbox.shown(describe_failure(error))
        yield row | heard | _reasons(store, part, row, model, groups)


def suspicious_clips(store: Store, key: str) -> Iterator[dict]:
    """The clips of a training run whose labels are most likely to be wrong, the most suspicious first.

    The report of the run takes them in this form.

    Parameters
    ----------
    store : Store
        With the audio.
    key : str
        Of the table of :func:`emotion.evaluation.suspicious.suspicious_labels`. Runs of earlier releases have none:
        then there is no clip.

    Yields
    ------
    dict
        A row of the table with ``audio`` (the excerpt as MP3, or None where there is none; then ``message`` says why).
    """
    if not store.exists(key):
        return
    with store.open(key) as handle:
        rows = pd.read_csv(handle, keep_default_na=False, nrows=training_report.LISTEN)
    for row in rows.to_dict("records"):
        excerpt, message = None, ""
        try:
            with store.open(row["key"]) as handle:
                excerpt = players.excerpt(windows.read(handle))
        except Exception as error:
            log.warning("%s: there is no excerpt of it", row["path"], exc_info=not isinstance(error, EmotionError))
            message = describe_failure(error)
        yield row | {"audio": excerpt, "message": message}


def _reasons(store: Store, part: str, row: dict, model: CustomEmotionModel, groups: Groups | None) -> dict:
    try:
        answer = _explain(store, part, row, model, groups)
    except StoreError:
        raise  # the store fails at the moment: the task is tried again
    except Exception as error:
        log.warning("%s: the answer gets no explanation", row["path"], exc_info=True)
        answer = {"explanation": None, "no_explanation": describe_failure(error)}
    return {"explanation": answer["explanation"], "no_explanation": answer.get("no_explanation", "")}


def _explain(store: Store, part: str, row: dict, model: CustomEmotionModel, groups: Groups | None) -> dict:
    """The answer for a clip with its explanation, from the stored features of its shard."""
    table = read_part(store, part)
    is_clip = (table[["path", "sha256", "channel"]] == [row["path"], row["sha256"], row["channel"]]).all(axis=1)
    vector = table.loc[is_clip, "vector"].iloc[0]
    group = groups.of_clip(folder_of(row["path"]), row["speaker"]) if groups else None
    return model.predict_in_groups(read_vectors(store, part)[[vector]], [group], explain=True)[0]
