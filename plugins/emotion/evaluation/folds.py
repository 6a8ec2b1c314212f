"""The same figures for every model, and the splits they are taken on.

Every figure names its protocol (see :data:`emotion.vocabulary.PROTOCOLS`). Nothing here fits anything.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from emotion.errors import DataError

Fold = tuple[np.ndarray, np.ndarray]
"""Row numbers of the training side and of the test side."""
RANDOM_FOLDS = 5
SPEAKER_FOLDS = 6


def random_split(labels: np.ndarray, *, seed: int, test_size: float = 0.2) -> Fold:
    """One stratified random split; the same speakers are on both sides."""
    _require_per_emotion(labels, 2, "a random split")
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    return next(splitter.split(labels, labels))


def random_folds(labels: np.ndarray, *, seed: int) -> list[Fold]:
    """Five stratified random folds; the same speakers are on both sides."""
    _require_per_emotion(labels, RANDOM_FOLDS, f"{RANDOM_FOLDS}-fold cross-validation")
    return list(StratifiedKFold(RANDOM_FOLDS, shuffle=True, random_state=seed).split(labels, labels))


def speaker_folds(
    labels: np.ndarray, speakers: np.ndarray, *, seed: int, published: tuple[tuple[str, ...], ...] | None = None
) -> list[Fold]:
    """Folds that hold out whole speakers.

    Parameters
    ----------
    labels, speakers : array of str, shape (n_clips,)
    seed : int
        For grouped folds.
    published : tuple of tuples of str, optional
        Speakers of each fold as published for the dataset (EmoBox for RAVDESS). Speakers that the data
        lack are left out of them. Without it, up to six stratified grouped folds are drawn.

    Raises
    ------
    DataError
        If there are fewer than three speakers, a clip without speaker, a speaker in no published fold, or a published
        fold that leaves fewer than two speakers to learn from.
    """
    known = sorted(set(map(str, speakers)))
    if "" in known:
        raise DataError(
            f"{int((speakers == '').sum())} of {len(speakers)} clips have no speaker; expected one for each, as "
            "models are chosen by how they do on speakers they have not heard: add a speaker column or subfolders"
        )
    if len(known) < 3:
        raise DataError(
            f"found {len(known)} speaker(s); expected at least 3, better 6: one to be held out, and two or more to "
            "learn from, of whom each is held out in turn within the fit"
        )
    if published is None:
        splitter = StratifiedGroupKFold(min(SPEAKER_FOLDS, len(known)), shuffle=True, random_state=seed)
        return list(splitter.split(labels, labels, groups=speakers))
    listed = [speaker for fold in published for speaker in fold]
    strangers = sorted(set(known) - set(listed))
    if strangers or len(listed) != len(set(listed)):
        raise DataError(f"speakers {strangers} are in none, or some in two, of the published folds: mend the catalogue")
    masks = [np.isin(speakers, fold) for fold in published]
    folds = [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in masks if mask.any()]
    if any(len(set(speakers[train])) < 2 for train, _ in folds):
        raise DataError(
            f"the published folds leave fewer than 2 of the speakers {known} to learn from; choose grouped folds"
        )
    return folds


def _require_per_emotion(labels: np.ndarray, least: int, what: str) -> None:
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise DataError(f"found clips of {len(names)} emotion(s) ({', '.join(names)}); expected at least 2")
    if counts.min() < least:
        raise DataError(f"{what} needs {least} clips of each emotion; found {counts.min()} of {names[counts.argmin()]}")


def splits(table: pd.DataFrame, *, seed: int, published: tuple[tuple[str, ...], ...] | None) -> dict[str, list[Fold]]:
    """The folds of every protocol, and of the single 80/20 split, for the clips of ``table``."""
    labels, speakers = table["emotion"].to_numpy(), table["speaker"].to_numpy()
    by_speaker = speaker_folds(labels, speakers, seed=seed, published=published)
    random = random_folds(labels, seed=seed)
    return {
        "split_80_20": [random_split(labels, seed=seed)],
        "random": random,
        "random_adapted": random,
        "speaker_independent": by_speaker,
        "speaker_independent_adapted": by_speaker,
    }
