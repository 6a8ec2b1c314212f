"""The folds of every protocol: which clips a model is fitted on, and which it is tested on.

:data:`emotion.vocabulary.PROTOCOLS` says what each protocol stands for. Nothing here fits a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from emotion.errors import DataError
from emotion.vocabulary import DATASET_MODES, MODES, REVIEWED

if TYPE_CHECKING:
    import pandas as pd

Fold = tuple[np.ndarray, np.ndarray]
"""Row numbers of the training side and of the test side."""
RANDOM_FOLDS = 5
SPEAKER_FOLDS = 6
LEAST_SPEAKERS = 3
LEAST_EMOTIONS = 2
LEAST_TRAINING_SPEAKERS = 2
"""The fit leaves each training speaker out in turn (:mod:`emotion.models.projection`), so it needs two of them."""


PublishedFolds = tuple[tuple[str, ...], ...]
"""The speakers of each fold, as published for a dataset."""


def splits(table: pd.DataFrame, *, seed: int, published: Mapping[str, PublishedFolds] | None) -> dict[str, list[Fold]]:
    """The folds of every protocol, and the single 80/20 split.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per clip: emotion, speaker and, for clips of several datasets, dataset.
    seed : int
    published : mapping or None
        The folds of each dataset that has published ones, by its name; the others get grouped folds.

    Returns
    -------
    dict of list of Fold
        By protocol; ``split_80_20`` has one fold. A protocol and its adapted forms have the same folds. The protocols
        ``unheard_dataset…`` are there if a dataset can be held out (:func:`dataset_folds`).

    Raises
    ------
    DataError
        As :func:`random_split`, :func:`random_folds` and :func:`speaker_folds` do.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"emotion": ["sad", "happy"] * 9, "speaker": np.repeat(["a", "b", "c"], 6)})
    >>> folds = splits(table, seed=0, published=None)
    >>> {protocol: len(folds[protocol]) for protocol in ("split_80_20", "random", "speaker_independent")}
    {'split_80_20': 1, 'random': 5, 'speaker_independent': 3}
    >>> folds["speaker_independent_batch"] is folds["speaker_independent"]
    True
    >>> both = pd.concat([table.assign(dataset="x"), table.assign(dataset="y", speaker=table["speaker"] + "y")])
    >>> folds = splits(both, seed=0, published=None)
    >>> [len(test) for _, test in folds["speaker_independent"]], [len(test) for _, test in folds["unheard_dataset"]]
    ([12, 12, 12], [18, 18])
    """
    labels, speakers = table["emotion"].to_numpy(), table["speaker"].to_numpy()
    datasets = datasets_of(table)
    by_speaker = speaker_folds(labels, speakers, datasets=datasets, seed=seed, published=published)
    random = random_folds(labels, seed=seed)
    folds = {
        "split_80_20": [random_split(labels, seed=seed)],
        "random": random,
        "random_adapted": random,
        **dict.fromkeys(MODES.values(), by_speaker),
    }
    if by_dataset := dataset_folds(labels, speakers, datasets):
        folds |= dict.fromkeys(DATASET_MODES.values(), by_dataset)
    return folds


def datasets_of(table: pd.DataFrame) -> np.ndarray:
    """The dataset of each clip, shape (n_clips,) of str; ``""`` for all where the table does not say."""
    return table["dataset"].to_numpy() if "dataset" in table else np.full(len(table), "")


def random_split(labels: np.ndarray, *, seed: int, test_size: float = 0.2) -> Fold:
    """One stratified random split; the same speakers are on both sides.

    Raises DataError if there are fewer than two emotions, or fewer than two clips of one.

    >>> train, test = random_split(np.array(["sad", "happy"] * 10), seed=0)
    >>> len(train), len(test)
    (16, 4)
    """
    _require_clips_per_emotion(labels, 2, "a random split")
    from sklearn.model_selection import StratifiedShuffleSplit

    splitter = StratifiedShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    return next(splitter.split(labels, labels))


def random_folds(labels: np.ndarray, *, seed: int) -> list[Fold]:
    """Five stratified random folds; the same speakers are on both sides.

    Raises DataError if there are fewer than two emotions, or fewer than five clips of one.

    >>> [len(test) for _, test in random_folds(np.array(["sad", "happy"] * 10), seed=0)]
    [4, 4, 4, 4, 4]
    """
    _require_clips_per_emotion(labels, RANDOM_FOLDS, f"{RANDOM_FOLDS}-fold cross-validation")
    from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(RANDOM_FOLDS, shuffle=True, random_state=seed).split(labels, labels))


def speaker_folds(
    labels: np.ndarray,
    speakers: np.ndarray,
    *,
    datasets: np.ndarray | None = None,
    seed: int,
    published: Mapping[str, PublishedFolds] | None = None,
) -> list[Fold]:
    """Folds that hold out whole speakers.

    Each dataset is divided by itself, as published or else into up to six stratified grouped folds. The first fold of
    all datasets together is the first fold of the whole, and so on: each fold holds out speakers of every dataset, as
    far as it has so many. A dataset of one speaker goes to the fold with the fewest clips. Who speaks in two datasets
    is held out once, as the first of them says.

    Parameters
    ----------
    labels, speakers : array of str, shape (n_clips,)
    datasets : array of str, shape (n_clips,), optional
        By default, all clips are of one dataset, named ``""``.
    seed : int
        Used where no folds are published.
    published : mapping, optional
        Dataset → the speakers of each fold as published (EmoBox for RAVDESS). They may list speakers that the data do
        not have.

    Raises
    ------
    DataError
        If there are fewer than three speakers, a clip without a speaker, a speaker in no published fold or in two, or
        a fold that leaves fewer than two speakers to train on.

    Examples
    --------
    >>> labels, speakers = np.array(["sad", "happy"] * 6), np.repeat(["a", "b", "c"], 4)
    >>> [sorted(set(speakers[test].tolist())) for _, test in speaker_folds(labels, speakers, seed=0)]
    [['c'], ['b'], ['a']]
    >>> published = {"": (("a", "not in these data"), ("b",), ("c",))}
    >>> folds = speaker_folds(labels, speakers, seed=0, published=published)
    >>> [sorted(set(speakers[test].tolist())) for _, test in folds]
    [['a'], ['b'], ['c']]
    """
    _require_speakers(speakers)
    datasets = np.full(len(labels), "") if datasets is None else datasets
    fold_of_speaker = _fold_of_speaker(labels, speakers, datasets, seed, published or {})
    fold_of_row = np.array([fold_of_speaker[str(speaker)] for speaker in speakers])
    masks = [fold_of_row == number for number in range(fold_of_row.max() + 1)]
    folds = [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in masks]
    if any(len(set(speakers[train])) < LEAST_TRAINING_SPEAKERS for train, _ in folds):
        raise DataError(
            f"a fold leaves fewer than {LEAST_TRAINING_SPEAKERS} of the speakers {', '.join(sorted(fold_of_speaker))} "
            "to train on; expected at least that many: choose grouped folds, or add recordings of more speakers"
        )
    return folds


def _fold_of_speaker(
    labels: np.ndarray, speakers: np.ndarray, datasets: np.ndarray, seed: int, published: Mapping[str, PublishedFolds]
) -> dict[str, int]:
    """The number of the fold that holds a speaker out; who is in several datasets, as the first of them says.

    A dataset that cannot be divided goes to the fold that has the fewest clips so far.
    """
    fold_of_speaker: dict[str, int] = {}
    clips_of_fold = np.zeros(SPEAKER_FOLDS, dtype=int)
    for dataset in dict.fromkeys(map(str, datasets)):
        rows = np.flatnonzero((datasets == dataset) & ~np.isin(speakers, list(fold_of_speaker)))
        if not len(rows):
            continue
        known = sorted(set(map(str, speakers[rows])))
        if dataset in published:
            tests = _published_tests(speakers[rows], known, published[dataset])
        else:
            tests = _grouped_tests(labels[rows], speakers[rows], known, seed)
        first = int(clips_of_fold.argmin()) if len(tests) == 1 else 0
        for number, test in enumerate(tests, start=first):
            fold_of_speaker.update(dict.fromkeys(map(str, speakers[rows[test]]), number))
            clips_of_fold[min(number, SPEAKER_FOLDS - 1)] += len(test)
    return fold_of_speaker


def dataset_folds(labels: np.ndarray, speakers: np.ndarray, datasets: np.ndarray) -> list[Fold]:
    """Folds that hold out whole datasets: one for each that can be held out, in the order of the rows.

    The training side has no clip of the dataset and no clip of its speakers. The test side has the clips whose emotion
    the training side shows too. A dataset is not held out where the rest has fewer than two speakers, or shares fewer
    than two emotions with it, or is the reviewed clips alone, which are a supplement to a corpus; with one dataset,
    there is no fold.

    Parameters
    ----------
    labels, speakers, datasets : array of str, shape (n_clips,)

    Examples
    --------
    >>> labels, speakers = np.array(["sad", "happy", "calm"] * 4), np.repeat(list("abcd"), 3)
    >>> datasets = np.repeat(["x", "y"], 6)
    >>> labels[9] = "bored"
    >>> [test.tolist() for _, test in dataset_folds(labels, speakers, datasets)]
    [[0, 1, 2, 3, 4, 5], [6, 7, 8, 10, 11]]
    """
    folds = []
    for dataset in dict.fromkeys(map(str, datasets)):
        held_out = datasets == dataset
        train = np.flatnonzero(~held_out & ~np.isin(speakers, speakers[held_out]))
        test = np.flatnonzero(held_out & np.isin(labels, labels[train]))
        if set(datasets[train]) == {REVIEWED}:
            continue
        if len(set(speakers[train])) >= LEAST_TRAINING_SPEAKERS and len(set(labels[test])) >= LEAST_EMOTIONS:
            folds.append((train, test))
    return folds


def _require_speakers(speakers: np.ndarray) -> None:
    known = sorted(set(map(str, speakers)))
    if "" in known:
        raise DataError(
            f"{int((speakers == '').sum())} of {len(speakers)} clips have no speaker; expected one for each, because "
            "models are chosen by their scores on unheard speakers: add a speaker column or a subfolder per speaker"
        )
    if len(known) < LEAST_SPEAKERS:
        raise DataError(
            f"found {len(known)} speaker(s); expected at least {LEAST_SPEAKERS}, better {SPEAKER_FOLDS}: one speaker "
            f"is held out to test on, and the fit on the others leaves out each of them in turn: add recordings of "
            "more speakers"
        )


def _grouped_tests(labels: np.ndarray, speakers: np.ndarray, known: list[str], seed: int) -> list[np.ndarray]:
    """The row numbers of each test side, of one dataset; no more than it has clips of its most frequent emotion, as
    more cannot be stratified."""
    most = int(np.unique(labels, return_counts=True)[1].max())
    folds = min(SPEAKER_FOLDS, len(known), most)
    if folds == 1:
        return [np.arange(len(labels))]
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [test for _, test in splitter.split(labels, labels, groups=speakers)]


def _published_tests(speakers: np.ndarray, known: list[str], published: PublishedFolds) -> list[np.ndarray]:
    """The row numbers of each test side, of one dataset with published folds."""
    listed = [speaker for fold in published for speaker in fold]
    if missing := sorted(set(known) - set(listed)):
        raise DataError(
            f"the published folds do not list the speakers {', '.join(missing)}; expected every speaker in one fold: "
            "add them in the catalogue"
        )
    if repeated := sorted({speaker for speaker in listed if listed.count(speaker) > 1}):
        raise DataError(
            f"the published folds list the speakers {', '.join(repeated)} more than once; expected every speaker in "
            "one fold: correct the catalogue"
        )
    masks = [np.isin(speakers, fold) for fold in published]
    return [np.flatnonzero(mask) for mask in masks if mask.any()]


def _require_clips_per_emotion(labels: np.ndarray, least: int, purpose: str) -> None:
    emotions, counts = np.unique(labels, return_counts=True)
    if len(emotions) < LEAST_EMOTIONS:
        raise DataError(
            f"found clips of {len(emotions)} emotion(s) ({', '.join(emotions)}); expected at least 2: add recordings "
            "of another emotion"
        )
    if counts.min() < least:
        raise DataError(
            f"{purpose} needs {least} clips of each emotion; found {counts.min()} of {emotions[counts.argmin()]}: add "
            "recordings of it"
        )
