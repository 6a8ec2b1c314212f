"""The champion's answers for clips of speakers that it has not heard: kept with its version, or by its fold models."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import numpy as np
import pandas as pd

from emotion import features
from emotion.errors import BundleError
from emotion.evaluation.folds import datasets_of
from emotion.evaluation.selection import PROTOCOL
from emotion.models import registry
from emotion.models.bundle import Bundle, FoldModel, check_loadable
from emotion.models.classifier import Classifier, Ensemble
from emotion.models.kept_predictions import champion_predictions, predictions_file
from emotion.models.registry import ChampionPointer, VersionEntry
from emotion.store import Store
from emotion.vocabulary import FAMILIES, emotions_of, probability_columns

HELD_OUT = "held_out_predictions.parquet"
"""A version's held-out predictions: a row per family and clip, with samples_sha256, speaker, dataset, emotion and
probabilities."""
UNHEARD = -1
"""In place of a fold's number: the champion was fitted on no clip of this speaker."""


class ClipCounts(TypedDict):
    """How many clips the champion was scored on: in all, by its fold models, and by the champion itself."""

    clips: int
    held_out_clips: int
    unheard_clips: int


class Answers(NamedTuple):
    """The champion's answers: ``rows`` of the table that it was scored on, (n_rows,) int; their ``probabilities``,
    (n_rows, n_emotions), and its ``emotions`` in the order of their columns; and the counts of clips."""

    rows: np.ndarray
    probabilities: np.ndarray
    emotions: tuple[str, ...]
    counts: ClipCounts


def held_out_file(table: pd.DataFrame, predictions: dict[str, pd.DataFrame]) -> bytes:
    """The content of :data:`HELD_OUT`: plain predictions for clips of unheard speakers.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip: samples_sha256, speaker and, if there are several, dataset.
    predictions : dict of pandas.DataFrame
        By family, with all protocols: see :class:`emotion.training.fitting.Trained`.

    Examples
    --------
    >>> table = pd.DataFrame({"samples_sha256": ["a clip"], "speaker": ["anna"]})
    >>> one = pd.DataFrame({"p_happy": [0.75], "p_sad": 0.25, "protocol": PROTOCOL, "row": 0, "emotion": "sad"})
    >>> import io
    >>> stored = pd.read_parquet(io.BytesIO(held_out_file(table, {"ensemble": one})))
    >>> stored.loc[0, ["family", "samples_sha256", "speaker", "emotion"]].tolist(), float(stored.loc[0, "p_sad"])
    (['ensemble', 'a clip', 'anna', 'sad'], 0.25)
    """
    frames = []
    for family, frame in predictions.items():
        held_out = frame[frame["protocol"] == PROTOCOL].sort_values("row")
        clips = table.iloc[held_out["row"]][["samples_sha256", "speaker"]].reset_index(drop=True)
        clips["dataset"] = datasets_of(table)[held_out["row"]]
        answers = held_out[["emotion", *probability_columns(emotions_of(frame))]].reset_index(drop=True)
        frames.append(pd.concat([clips, answers], axis=1).assign(family=family))
    return predictions_file(frames)


def stored_answers(store: Store, champion: ChampionPointer, table: pd.DataFrame) -> Answers | None:
    """The answers that were kept with the champion's version, for the clips that it has in common with the table, and
    whose emotion the champion knows.

    No model is loaded, so this also works for a champion that this code cannot load. None where the version has no
    such file, as versions of earlier code have none, or where no clip is in both.

    Raises
    ------
    EmotionError
        If the version's entry or the file is damaged or not there.
    """
    kept = champion_predictions(store, champion, HELD_OUT)
    if kept is None:
        return None
    emotions = emotions_of(kept)
    stored = kept.set_index("samples_sha256")[probability_columns(emotions)]
    rows = np.flatnonzero(table["samples_sha256"].isin(stored.index) & table["emotion"].isin(emotions))
    if not len(rows):
        return None
    probabilities = stored.loc[table["samples_sha256"].iloc[rows]].to_numpy()
    counts: ClipCounts = {"clips": len(rows), "held_out_clips": len(rows), "unheard_clips": 0}
    return Answers(rows, probabilities, emotions, counts)


def rescore(
    store: Store, champion: ChampionPointer, table: pd.DataFrame, values: np.ndarray
) -> tuple[np.ndarray, ClipCounts]:
    """Score the champion on clips as if it had never heard their speakers.

    A clip of a speaker that the champion was trained on is scored by the fold model that held this speaker out; any
    other clip is scored by the champion itself.

    Parameters
    ----------
    store : Store
    champion : ChampionPointer
    table : pandas.DataFrame
        One row per clip: speaker, samples_sha256.
    values : float32 array, shape (n_clips, n_features)

    Returns
    -------
    probabilities : float array, shape (n_clips, n_emotions)
        In the order of the champion's label set.
    counts : ClipCounts

    Raises
    ------
    EmotionError
        If this code cannot load the champion, or one of its files is damaged or not there.
    """
    entry = registry.champion_entry(store, champion)
    families = FAMILIES if champion["family"] == Ensemble.family else (champion["family"],)
    fold_models = {family: _load_fold_models(store, entry, family) for family in families}
    bundle: Bundle = registry.load(
        store, entry, registry.bundle_name(champion["family"]), recipe=features.recipe_version()
    )

    fold_of_row = _folds_that_held_out(fold_models[families[0]], table)
    probabilities = np.empty((len(table), len(bundle["emotions"])))
    for fold in np.unique(fold_of_row):
        rows = fold_of_row == fold
        model: Classifier | Ensemble
        if fold == UNHEARD:
            model = bundle["plain"]
        elif len(families) == 1:
            model = fold_models[families[0]][fold]["model"]
        else:
            model = Ensemble([fold_models[family][fold]["model"] for family in families])
        probabilities[rows] = model.predict_proba(values[rows])
    unheard = int((fold_of_row == UNHEARD).sum())
    return probabilities, {"clips": len(table), "held_out_clips": len(table) - unheard, "unheard_clips": unheard}


def _load_fold_models(store: Store, entry: VersionEntry, family: str) -> list[FoldModel]:
    return registry.load(store, entry, registry.fold_models_name(family), recipe=features.recipe_version())


def _folds_that_held_out(fold_models: list[FoldModel], table: pd.DataFrame) -> np.ndarray:
    """The fold that held out each row's speaker, or UNHEARD, shape (n_clips,) int.

    The same recordings may come under other speaker names than those of the champion's training. So a clip that the
    champion knows decides first; then another clip of the same speaker that it knows; and the speaker's name last.
    """
    fold_of_clip, fold_of_speaker = {}, {}
    for number, fold in enumerate(fold_models):
        fold_of_clip.update(dict.fromkeys(fold["clips"], number))
        fold_of_speaker.update(dict.fromkeys(fold["speakers"], number))
    by_clip = table["samples_sha256"].map(fold_of_clip)
    by_other_clip = by_clip.groupby(table["speaker"]).transform("first")
    by_name = table["speaker"].map(fold_of_speaker)
    return by_clip.fillna(by_other_clip).fillna(by_name).fillna(UNHEARD).astype(int).to_numpy()


def why_not_loadable(store: Store, champion: ChampionPointer) -> str:
    """Why this code cannot load the champion, as a sentence; "" where nothing speaks against it."""
    try:
        check_loadable(registry.entry(store, champion["version"]), recipe=features.recipe_version())
    except BundleError as error:
        return str(error)
    return ""
