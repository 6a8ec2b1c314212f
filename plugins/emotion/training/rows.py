"""The rows that a protocol fits and tests on: a table's clips and their augmented copies, normalized as the
protocol says; and a sample of the clips under recording conditions, which is never fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from emotion.evaluation.folds import datasets_of
from emotion.models.adaptation import Statistics, measure, normalize_by_batch, normalize_by_speaker
from emotion.vocabulary import DATASET_MODES, MODES, Mode

WEIGHT_EXPONENT = 0.5
"""A clip weighs n to the power of minus this, where its dataset has n clips in the fit."""
SPEAKERS_HELD_OUT = (*MODES.values(), *DATASET_MODES.values())
"""The protocols that hold out whole speakers."""
ADAPTED_TO: dict[Mode, tuple[str, str]] = {mode: (MODES[mode], DATASET_MODES[mode]) for mode in MODES}
"""The protocols whose features are normalized in each mode."""


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Labels, speakers, datasets and features of a training table.

    Attributes
    ----------
    labels, speakers, datasets : array of str, shape (n_clips,)
    plain : float32 array, shape (1 + n_variants, n_clips, n_features)
        Features of the clips themselves (variant 0) and of their augmented copies.

    Examples
    --------
    >>> table = pd.DataFrame({"emotion": ["sad", "happy"] * 2, "speaker": ["a", "a", "b", "b"]})
    >>> rows = TrainingRows.from_table(table, np.array([[1.0], [3.0], [10.0], [30.0]], dtype=np.float32), None)
    >>> rows.variants("speaker_independent_adapted", rows.clips)[0].ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    >>> rows.groups("random").tolist(), rows.groups("speaker_independent").tolist()
    ([0, 1, 2, 3], ['a', 'a', 'b', 'b'])
    """

    labels: np.ndarray
    speakers: np.ndarray
    datasets: np.ndarray
    plain: np.ndarray

    @classmethod
    def from_table(cls, table: pd.DataFrame, features: np.ndarray, augmented: np.ndarray | None) -> TrainingRows:
        """From a table (emotion, speaker and, if there are several, dataset), its features (n_clips, n_features) and,
        if there are any, those of augmented copies (n_variants, n_clips, n_features)."""
        speakers = table["speaker"].to_numpy()
        copies = np.empty((0, *features.shape), dtype=features.dtype) if augmented is None else augmented
        plain = np.concatenate([features[None], copies])
        return cls(table["emotion"].to_numpy(), speakers, datasets_of(table), plain)

    @property
    def clips(self) -> np.ndarray:
        """All row numbers, shape (n_clips,)."""
        return np.arange(len(self.labels))

    def groups(self, protocol: str) -> np.ndarray:
        """What the protocol holds out, and so what its fits leave out together: speakers, or else single clips."""
        return self.speakers if protocol in SPEAKERS_HELD_OUT else self.clips

    def variants(self, protocol: str, train_side: np.ndarray) -> np.ndarray:
        """The features that the protocol uses on a fold with this training side (row numbers), of all clips, in the
        shape of :attr:`plain`.

        With all clips on the training side, these are the rows that a final model is fitted on.
        """
        known = np.isin(self.clips, train_side)
        if protocol in ADAPTED_TO["speaker"]:
            return np.stack([normalize_by_speaker(variant, self.speakers) for variant in self.plain])
        if protocol in ADAPTED_TO["batch"]:
            return np.stack([_normalize_both_sides(variant, known, self.datasets) for variant in self.plain])
        if protocol == "random_adapted":
            # Statistics come from the training side alone. With the held-out clips counted too, the z-scores of a
            # speaker's clips would sum to 0, and those of the training side would reveal the sum of the held-out ones.
            return np.stack([normalize_by_speaker(variant, self.speakers, known=known) for variant in self.plain])
        return self.plain

    def test_side(self, protocol: str, train_side: np.ndarray, test_rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Features (n_test, n_features) of clips of unheard speakers under one recording condition, normalized as the
        protocol says: those of a dataset are a batch of their own, and so are the clips of each speaker.

        ``train_side``: row numbers; ``test_rows``: the row number of each clip.
        """
        if protocol in ADAPTED_TO["speaker"]:
            return normalize_by_speaker(values, self.speakers[test_rows])
        if protocol in ADAPTED_TO["batch"]:
            return _normalize_batches(values, self.datasets[test_rows], measure(self.plain[0, train_side]))
        return values


@dataclass(frozen=True, eq=False)
class ConditionRows:
    """A sample of the clips under recording conditions. They are tested on, and never fitted on.

    Attributes
    ----------
    rows : int array, shape (n_sampled,)
        Row numbers of the training table.
    values : dict of float32 array, shape (n_sampled, n_features)
        Features by condition; the clips as they are come first, under :data:`emotion.audio.conditions.CLEAN`.
    """

    rows: np.ndarray
    values: dict[str, np.ndarray]


def dataset_weights(datasets: np.ndarray) -> np.ndarray | None:
    """The weight of each clip in a fit, by its dataset, shape (n_clips,); the mean is 1. None for one dataset.

    A dataset of n clips weighs √n in all: more clips say more, but a corpus five times as large does not drown the
    other. ``docs/benchmarks/corpora.py`` compares this with clips that all weigh the same, and with datasets that do.

    >>> dataset_weights(np.array(["large"] * 4 + ["small"])).round(3).tolist()
    [0.833, 0.833, 0.833, 0.833, 1.667]
    """
    _, codes, counts = np.unique(datasets, return_inverse=True, return_counts=True)
    if len(counts) == 1:
        return None
    weights = counts[codes].astype(float) ** -WEIGHT_EXPONENT
    return weights / weights.mean()


def _normalize_both_sides(variant: np.ndarray, known: np.ndarray, datasets: np.ndarray) -> np.ndarray:
    """Training side and test side of each dataset, each z-scored as a batch of its own: the test side as new audio
    is."""
    normalized = np.empty_like(variant)
    normalized[known] = normalize_by_speaker(variant[known], datasets[known])  # a dataset in place of a speaker
    if not known.all():
        normalized[~known] = _normalize_batches(variant[~known], datasets[~known], measure(variant[known]))
    return normalized


def _normalize_batches(values: np.ndarray, batches: np.ndarray, training: Statistics) -> np.ndarray:
    """Each batch as new audio is; ``batches``: the name of each row's."""
    normalized = np.empty_like(values)
    for batch in np.unique(batches):
        rows = batches == batch
        normalized[rows] = normalize_by_batch(values[rows], training)
    return normalized
