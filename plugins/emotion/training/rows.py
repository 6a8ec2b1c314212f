"""The rows that a protocol fits and tests on: a table's clips and their augmented copies, plain or adapted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from emotion.models.classifier import normalize_by_speaker


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Labels, speakers and features of a training table.

    Attributes
    ----------
    labels, speakers : array of str, shape (n_clips,)
    plain : float32 array, shape (1 + n_variants, n_clips, n_features)
        Features of the clips themselves (variant 0) and of their augmented copies.
    adapted : float32 array, shape (1 + n_variants, n_clips, n_features)
        The same, each variant z-scored per speaker with all clips of the speaker.

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
    plain: np.ndarray
    adapted: np.ndarray

    @classmethod
    def from_table(cls, table: pd.DataFrame, features: np.ndarray, augmented: np.ndarray | None) -> TrainingRows:
        """From a table (emotion, speaker), its features (n_clips, n_features) and, if there are any, those of augmented
        copies (n_variants, n_clips, n_features)."""
        speakers = table["speaker"].to_numpy()
        copies = np.empty((0, *features.shape), dtype=features.dtype) if augmented is None else augmented
        plain = np.concatenate([features[None], copies])
        adapted = np.stack([normalize_by_speaker(variant, speakers) for variant in plain])
        return cls(table["emotion"].to_numpy(), speakers, plain, adapted)

    @property
    def clips(self) -> np.ndarray:
        """All row numbers, shape (n_clips,)."""
        return np.arange(len(self.labels))

    def groups(self, protocol: str) -> np.ndarray:
        """What the protocol holds out, and so what its fits leave out together: speakers, or else single clips."""
        return self.speakers if protocol.startswith("speaker") else self.clips

    def variants(self, protocol: str, train_side: np.ndarray) -> np.ndarray:
        """The features that the protocol uses on a fold with this training side (row numbers), of all clips, in the
        shape of :attr:`plain`."""
        if protocol == "speaker_independent_adapted":
            return self.adapted
        if protocol == "random_adapted":
            # Statistics come from the training side alone. With the held-out clips counted too, the z-scores of a
            # speaker's clips would sum to 0, and those of the training side would reveal the sum of the held-out ones.
            known = np.isin(self.clips, train_side)
            return np.stack([normalize_by_speaker(variant, self.speakers, known=known) for variant in self.plain])
        return self.plain
