"""The clips on which champion and challenger are compared: those of both, of speakers that neither has heard.

The challenger's clips are scored by its fold models. Of the champion's answers to them, some are kept with its version;
the others come from its own fold models or, for speakers that it has never heard, from the champion itself. Clips that
the champion alone was trained on are scored by the challenger itself, which has not heard them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from emotion import features
from emotion.errors import EmotionError
from emotion.evaluation.bootstrap import PairedAnswers, draw_weights
from emotion.evaluation.folds import datasets_of
from emotion.evaluation.shared_emotions import ModelAnswers, pair_answers
from emotion.features import feature_table
from emotion.models import registry, rescoring
from emotion.models.kept_predictions import champion_predictions
from emotion.models.registry import ChampionPointer
from emotion.models.rescoring import HELD_OUT, Answers, ClipCounts
from emotion.store import Store
from emotion.vocabulary import emotions_of, probability_columns

Model = Callable[[np.ndarray], np.ndarray]
"""From features (n, n_features) to probabilities (n, n_emotions)."""


class CommonClips(NamedTuple):
    """The answers of champion and challenger for the same clips, and how the champion's came about.

    ``champion_share``: the share of the champion's own clips among those compared; None where it is not known.
    ``causes``: why clips are missing, as sentences.
    """

    pairs: PairedAnswers
    counts: ClipCounts
    champion_share: float | None
    causes: list[str]


def common_clips(
    store: Store,
    champion: ChampionPointer,
    emotions: tuple[str, ...],
    challenger: ModelAnswers,
    challenger_model: Model,
    table: pd.DataFrame,
    values: np.ndarray,
) -> tuple[CommonClips | None, list[str]]:
    """Compare two models' answers; or None, and why that is not possible.

    Parameters
    ----------
    store : Store
    champion : ChampionPointer
    emotions : tuple of str
        The champion's.
    challenger : ModelAnswers
        Its held-out answers, rows as in ``table``.
    challenger_model : callable
        The challenger itself, for clips of speakers that it was not trained on.
    table : pandas.DataFrame
        The challenger's clips: emotion, speaker, samples_sha256 and, if there are several, dataset.
    values : float32 array, shape (n_clips, n_features)
    """
    answers, causes = _champion_answers(store, champion, table, values, emotions)
    if answers is None:
        return None, causes
    clips = table.iloc[answers.rows]
    pairs = pair_answers(
        clips["samples_sha256"].to_numpy(),
        clips["emotion"].to_numpy(),
        clips["speaker"].to_numpy(),
        ModelAnswers(answers.probabilities, answers.emotions),
        challenger._replace(probabilities=challenger.probabilities[answers.rows]),
        datasets_of(clips),
        draw_weights(clips),
    )
    kept = _kept(store, champion)
    if kept is None:
        return CommonClips(pairs, answers.counts, None, causes), []
    others = _champions_own(store, kept, table, challenger_model, challenger.emotions)
    share = float(kept["samples_sha256"].isin([*pairs.clips, *others.clips]).mean())
    counts = answers.counts
    if len(others.clips):
        pairs = _joined(pairs, others)
        more = len(others.clips)
        counts = counts | {"clips": counts["clips"] + more, "held_out_clips": counts["held_out_clips"] + more}
    return CommonClips(pairs, counts, share, causes), []


def _champion_answers(
    store: Store, champion: ChampionPointer, table: pd.DataFrame, values: np.ndarray, emotions: tuple[str, ...]
) -> tuple[Answers | None, list[str]]:
    """The champion's answers for clips of its ``emotions``, kept ones first, the others by its models; or None, with
    the causes. Causes beside an answer say why only a part of the clips is there."""
    causes, stored = [], None
    try:
        stored = rescoring.stored_answers(store, champion, table)
    except EmotionError as error:
        causes.append(str(error))
    is_missing = table["emotion"].isin(emotions).to_numpy(copy=True)
    if stored:
        is_missing[stored.rows] = False
    rows = np.flatnonzero(is_missing)
    if stored and not len(rows):
        return stored, []
    try:
        clips = table.iloc[rows].reset_index(drop=True)
        probabilities, counts = rescoring.rescore(store, champion, clips, values[rows])
    except EmotionError as error:
        causes = list(dict.fromkeys([*causes, str(error)]))
        return stored, causes
    if not stored:
        return Answers(rows, probabilities, emotions, counts), []
    both: ClipCounts = {
        "clips": stored.counts["clips"] + counts["clips"],
        "held_out_clips": stored.counts["held_out_clips"] + counts["held_out_clips"],
        "unheard_clips": stored.counts["unheard_clips"] + counts["unheard_clips"],
    }
    return Answers(
        np.concatenate([stored.rows, rows]), np.concatenate([stored.probabilities, probabilities]), emotions, both
    ), []


def _kept(store: Store, champion: ChampionPointer) -> pd.DataFrame | None:
    """What is kept with the champion's version; None where nothing is, or the file is damaged."""
    try:
        kept = champion_predictions(store, champion, HELD_OUT)
        if kept is not None and "dataset" not in kept:  # versions of earlier code were trained on one dataset
            kept = kept.assign(dataset=registry.champion_entry(store, champion)["dataset"]["name"])
    except EmotionError:
        return None
    return kept


def _champions_own(
    store: Store, kept: pd.DataFrame, table: pd.DataFrame, challenger: Model, challenger_emotions: tuple[str, ...]
) -> PairedAnswers:
    """Clips that the champion alone was trained on, as far as their features are still stored.

    The challenger has heard a speaker if it was trained on the name or, under whatever name, on one of the recordings.
    """
    is_heard = kept["samples_sha256"].isin(table["samples_sha256"]) | kept["speaker"].isin(table["speaker"])
    unheard = kept[~kept["speaker"].isin(kept.loc[is_heard, "speaker"])]
    stored = feature_table.of_recordings(store, unheard["samples_sha256"])
    clips = unheard.merge(stored, on="samples_sha256")
    names = list(features.feature_names())
    probabilities = np.empty((0, len(challenger_emotions)))
    if len(clips):
        probabilities = challenger(clips[names].to_numpy(dtype=np.float32))
    emotions = emotions_of(kept)
    return pair_answers(
        clips["samples_sha256"].to_numpy(),
        clips["emotion"].to_numpy(),
        clips["speaker"].to_numpy(),
        ModelAnswers(clips[probability_columns(emotions)].to_numpy(), emotions),
        ModelAnswers(probabilities, challenger_emotions),
        datasets_of(clips),
    )


def _joined(first: PairedAnswers, second: PairedAnswers) -> PairedAnswers:
    assert first.datasets is not None and second.datasets is not None
    return PairedAnswers(
        np.concatenate([first.clips, second.clips]),
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.speakers, second.speakers]),
        np.concatenate([first.first, second.first]),
        np.concatenate([first.second, second.second]),
        first.emotions,
        np.concatenate([first.datasets, second.datasets]),
        None if first.weights is None else np.concatenate([first.weights, np.ones(len(second.clips))]),
    )


def other_data(challenger: dict, champion: dict | None) -> str:
    """Why a comparison on the challenger's clips would be unfair; "" if it is fair.

    The fingerprint covers content, emotion and speaker of every clip. A champion of synthesized speech has no claim to
    be judged on such: there, the real recordings of the challenger decide.
    """
    if champion and champion.get("fingerprint") and champion["fingerprint"] == challenger.get("fingerprint"):
        return ""
    if champion and champion["synthesized"] and not challenger["synthesized"]:
        return ""
    name = f"{champion['name']}, {str(champion.get('fingerprint'))[:12]}" if champion else "not known"
    return (
        f"The two were trained on different data (challenger: {challenger['name']}, "
        f"{str(challenger.get('fingerprint'))[:12]}; champion: {name}), and clips of the champion's data are missing "
        "from the comparison. The challenger may be worse on the champion's data, so a person has to decide."
    )
