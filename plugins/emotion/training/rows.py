"""The rows that a protocol fits and tests on: a table's clips and their augmented copies, normalized as the
protocol says; and a sample of the clips under recording conditions, which is never fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import pandas as pd

from emotion.evaluation.folds import datasets_of
from emotion.models.adaptation import (
    Statistics,
    measure,
    merge,
    normalize,
    normalize_by_batch,
    normalize_by_speaker,
    shrink,
)
from emotion.models.sums import Rows
from emotion.vocabulary import DATASET_MODES, MODES, Mode

WEIGHT_EXPONENT = 0.5
"""A clip weighs n to the power of minus this, where its dataset has n clips in the fit."""
SPEAKERS_HELD_OUT = (*MODES.values(), *DATASET_MODES.values())
"""The protocols that hold out whole speakers."""
ADAPTED_TO: dict[Mode, tuple[str, str]] = {mode: (MODES[mode], DATASET_MODES[mode]) for mode in MODES}
"""The protocols whose features are normalized in each mode."""

NO_CLIPS = Statistics(0, np.zeros(0), np.zeros(0))
"""The statistics of a batch without clips; nothing is normalized with them."""


class Variants:
    """Features of clips and of their copies, normalized where they are read.

    ``variants[number, clips]`` are the float32 features (n, n_features) of these clips in a variant, and
    ``variants[number]`` those of all clips.

    Parameters
    ----------
    plain : sequence of float32 array, shape (n_clips, n_features)
        Features as they are, by variant: the clips themselves come first.
    batch_of_clip : int array, shape (n_clips,), optional
        With which of the statistics a clip is normalized; -1 for a clip whose features all become 0. By default,
        nothing is normalized.
    statistics : sequence of list of Statistics
        By variant: those of each batch.

    Examples
    --------
    >>> plain = [np.array([[1.0], [3.0]], dtype=np.float32)]
    >>> Variants(plain, np.array([0, 0]), [[measure(plain[0])]])[0, np.array([1])].tolist()
    [[1.0]]
    """

    def __init__(
        self,
        plain: Sequence[np.ndarray],
        batch_of_clip: np.ndarray | None = None,
        statistics: Sequence[list[Statistics]] = (),
    ):
        self._plain = plain
        self._batch_of_clip = batch_of_clip
        self._statistics = statistics
        self.shape = len(plain), *plain[0].shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | tuple[int, np.ndarray]) -> np.ndarray:
        variant, clips = key if isinstance(key, tuple) else (key, np.arange(self.shape[1]))
        if not 0 <= variant < len(self):
            raise IndexError(f"variant {variant}; expected 0 to {len(self) - 1}")
        values = self._plain[variant][clips]
        if self._batch_of_clip is None:
            return values
        normalized, batches = np.zeros_like(values), self._batch_of_clip[clips]
        for batch in np.unique(batches[batches >= 0]):
            members = batches == batch
            normalized[members] = normalize(values[members], self._statistics[variant][batch])
        return normalized

    def statistics(self, variant: int, clip: int) -> Statistics:
        """Those that a clip is normalized with in a variant."""
        assert self._batch_of_clip is not None
        return self._statistics[variant][self._batch_of_clip[clip]]

    def rows(self, clips: np.ndarray) -> Rows:
        """The rows of these clips in each variant, one variant after the other."""

        def read(numbers: np.ndarray) -> np.ndarray:
            variants, clips = np.divmod(numbers, self.shape[1])
            values = np.empty((len(numbers), self.shape[2]), dtype=np.float32)
            for variant in np.unique(variants):
                members = variants == variant
                values[members] = self[variant, clips[members]]
            return values

        numbers = np.arange(len(self))[:, None] * self.shape[1] + clips
        return Rows(read, numbers.ravel(), self.shape[2])


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Labels, speakers, datasets and features of a training table.

    Attributes
    ----------
    labels, speakers, datasets : array of str, shape (n_clips,)
    plain : tuple of float32 array, shape (n_clips, n_features)
        Features of the clips themselves (variant 0) and of their augmented copies. They may be memory-mapped.

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
    plain: tuple[np.ndarray, ...]
    _measured: dict[bytes, Statistics] = field(default_factory=dict, repr=False)

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, features: np.ndarray, augmented: Sequence[np.ndarray] | None
    ) -> TrainingRows:
        """From a table (emotion, speaker and, if there are several, dataset), its features (n_clips, n_features) and,
        if there are any, those of each augmented copy."""
        copies = () if augmented is None else augmented
        return cls(table["emotion"].to_numpy(), table["speaker"].to_numpy(), datasets_of(table), (features, *copies))

    @property
    def clips(self) -> np.ndarray:
        """All row numbers, shape (n_clips,)."""
        return np.arange(len(self.labels))

    def groups(self, protocol: str) -> np.ndarray:
        """What the protocol holds out, and so what its fits leave out together: speakers, or else single clips."""
        return self.speakers if protocol in SPEAKERS_HELD_OUT else self.clips

    def variants(self, protocol: str, train_side: np.ndarray) -> Variants:
        """The features that the protocol uses on a fold with this training side (row numbers), of all clips.

        With all clips on the training side, these are the rows that a final model is fitted on.
        """
        if protocol in ADAPTED_TO["speaker"]:
            return self._by_speaker(self.clips)
        if protocol in ADAPTED_TO["batch"]:
            return self._by_batch(train_side)
        if protocol == "random_adapted":
            # Statistics come from the training side alone. With the held-out clips counted too, the z-scores of a
            # speaker's clips would sum to 0, and those of the training side would reveal the sum of the held-out ones.
            return self._by_speaker(train_side)
        return Variants(self.plain)

    def _by_speaker(self, known: np.ndarray) -> Variants:
        """Each speaker's clips are normalized by those of them that are known (row numbers)."""
        speakers = np.unique(self.speakers[known])
        number_of = {speaker: number for number, speaker in enumerate(speakers)}
        batch_of_clip = np.array([number_of.get(speaker, -1) for speaker in self.speakers])
        rows = [known[batch_of_clip[known] == number] for number in range(len(speakers))]
        return Variants(
            self.plain, batch_of_clip, [[measure(Rows.of(plain).take(each)) for each in rows] for plain in self.plain]
        )

    def _by_batch(self, train_side: np.ndarray) -> Variants:
        """Training side and test side of each dataset, each z-scored as a batch of its own: the test side as new audio
        is."""
        known = np.isin(self.clips, train_side)
        names, batch_of_clip = np.unique(self.datasets, return_inverse=True)
        batch_of_clip = np.where(known, batch_of_clip, batch_of_clip + len(names))
        rows = [np.flatnonzero(batch_of_clip == batch) for batch in range(2 * len(names))]
        statistics = []
        for plain in self.plain:
            sides = [measure(Rows.of(plain).take(each)) if len(each) else NO_CLIPS for each in rows]
            training = reduce(merge, (side for side in sides[: len(names)] if side.clips))
            tested = [shrink(side, training) if side.clips else side for side in sides[len(names) :]]
            statistics.append(sides[: len(names)] + tested)
        return Variants(self.plain, batch_of_clip, statistics)

    def test_side(self, protocol: str, train_side: np.ndarray, test_rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Features (n_test, n_features) of clips of unheard speakers under one recording condition, normalized as the
        protocol says: those of a dataset are a batch of their own, and so are the clips of each speaker.

        ``train_side``: row numbers; ``test_rows``: the row number of each clip.
        """
        if protocol in ADAPTED_TO["speaker"]:
            return normalize_by_speaker(values, self.speakers[test_rows])
        if protocol in ADAPTED_TO["batch"]:
            return _normalize_batches(values, self.datasets[test_rows], self.training(train_side))
        return values

    def training(self, train_side: np.ndarray) -> Statistics:
        """The statistics of the clips of a training side (row numbers), as they are; measured once."""
        key = train_side.tobytes()
        if key not in self._measured:
            self._measured[key] = measure(Rows.of(self.plain[0]).take(train_side))
        return self._measured[key]


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


def _normalize_batches(values: np.ndarray, batches: np.ndarray, training: Statistics) -> np.ndarray:
    """Each batch as new audio is; ``batches``: the name of each row's."""
    normalized = np.empty_like(values)
    for batch in np.unique(batches):
        rows = batches == batch
        normalized[rows] = normalize_by_batch(values[rows], training)
    return normalized
