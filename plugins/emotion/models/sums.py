"""Rows that are read block by block, and the sums over them from which scaler and ridge regression are computed.

A corpus of 50,000 clips with six copies of each has 350,000 rows of 2,035 features, 2.85 GB. A fit needs their means,
their inner products (2,035²) and those with the targets. Sums are additive: those of a training side are the sums of
the folds that it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from scipy.linalg import blas

BLOCK = 2048
"""Rows that are read at once."""
SAMPLE = 1024
"""Rows whose mean is the centre of the sums."""
RESOLUTION = 10 * float(np.finfo(np.float32).eps)
"""A feature whose standard deviation is at most this share of its mean is constant: float32 can hardly tell ten of its
values apart."""


class Rows:
    """Rows of a matrix that is never held as a whole.

    Parameters
    ----------
    read : callable
        From row numbers, int (n,), to these rows, float32 (n, n_features).
    numbers : int array
        The row numbers of these rows.
    width : int
        n_features.

    Examples
    --------
    >>> rows = Rows.of(np.arange(6, dtype=np.float32).reshape(3, 2)).take(np.array([2, 0]))
    >>> rows.shape, rows[np.array([0])].tolist()
    ((2, 2), [[4.0, 5.0]])
    """

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], numbers: np.ndarray, width: int):
        self._read = read
        self._numbers = numbers
        self.shape = len(numbers), width

    @classmethod
    def of(cls, values: np.ndarray | Rows) -> Rows:
        """The rows of an array (n, n_features); rows stay what they are."""
        if isinstance(values, Rows):
            return values
        return cls(values.__getitem__, np.arange(len(values)), values.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        return self._read(self._numbers[rows])

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows, by their positions among these rows."""
        return Rows(self._read, self._numbers[rows], self.shape[1])

    def standardized(self, mean: np.ndarray, scale: np.ndarray) -> Rows:
        """The same rows minus a mean, divided by a scale, (n_features,) each."""
        divisor = scale.astype(np.float32)

        def read(numbers: np.ndarray) -> np.ndarray:
            values = _less(self._read(numbers), mean)
            values /= divisor
            return values

        return Rows(read, self._numbers, self.shape[1])

    def blocks(self) -> Iterator[slice]:
        """Slices of at most :data:`BLOCK` rows that together are all rows."""
        return (slice(start, start + BLOCK) for start in range(0, len(self), BLOCK))


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted sums over rows x, by their distance z = x − centre.

    Attributes
    ----------
    centre : float64 array, shape (n_features,)
        Near the mean of the rows, so that sums of float32 lose nothing.
    rows : int
    weight : float
        Of all rows; by default, a row weighs 1.
    total : float64 array, shape (n_features,)
        Of z.
    gram : float32 array, shape (n_features, n_features)
        Of z zᵀ. Only the lower triangle counts.
    targets : float64 array, shape (n_features, n_classes)
        Of z, for each class.
    classes : float64 array, shape (n_classes,)
        The weight of the rows of each class.

    Examples
    --------
    >>> values, codes = np.array([[1.0], [3.0], [8.0]], dtype=np.float32), np.array([0, 1, 1])
    >>> sums = Sums.of(Rows.of(values), codes, 2)
    >>> sums.centre.item(), sums.total.item(), sums.gram.item(), sums.targets.tolist()
    (4.0, 0.0, 26.0, [[-3.0, 3.0]])
    >>> moved = sums.relative_to(np.array([4.0]), np.array([2.0]))  # of −1.5, −0.5 and 2
    >>> moved.total.item(), moved.gram.item()
    (0.0, 6.5)
    """

    centre: np.ndarray
    rows: int
    weight: float
    total: np.ndarray
    gram: np.ndarray
    targets: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, rows: Rows, codes: np.ndarray, n_classes: int, *, weights: np.ndarray | None = None) -> Sums:
        """Over rows, whose classes have these codes, (n_rows,) each.

        Raises ValueError if a feature is not finite.
        """
        width = rows.shape[1]
        total, targets, classes = np.zeros(width), np.zeros((width, n_classes)), np.zeros(n_classes)
        gram = np.zeros((width, width), dtype=np.float32, order="F")
        sample = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
        centre = rows[sample].mean(axis=0, dtype=np.float64)
        indicators = np.eye(n_classes, dtype=np.float32)
        for part in rows.blocks():
            block, targets_of_block = _less(rows[part], centre), indicators[codes[part]]
            if weights is not None:
                roots = np.sqrt(weights[part], dtype=np.float32)[:, None]
                block *= roots
                targets_of_block *= roots
                total += block.T.astype(np.float64) @ roots[:, 0].astype(np.float64)
            else:
                total += block.sum(axis=0, dtype=np.float64)
            gram = blas.ssyrk(1.0, block.T, beta=1.0, c=gram, lower=1, overwrite_c=1)
            targets += block.T @ targets_of_block
            classes += np.square(targets_of_block, dtype=np.float64).sum(axis=0)
        if not_finite := np.flatnonzero(~np.isfinite(gram.diagonal())).tolist():
            raise ValueError(
                f"{len(not_finite)} of {width} features hold a value that is not finite, or too large to be squared, "
                f"such as number {not_finite[0]}; expected numbers"
            )
        return cls(centre, len(rows), float(classes.sum()), total, gram, targets, classes)

    def __add__(self, other: Sums) -> Sums:
        """Over the rows of both."""
        moved = other._about(self.centre)
        np.add(moved.gram, self.gram, out=moved.gram)
        return replace(
            moved,
            rows=self.rows + other.rows,
            weight=self.weight + other.weight,
            total=self.total + moved.total,
            targets=self.targets + moved.targets,
            classes=self.classes + other.classes,
        )

    def _about(self, centre: np.ndarray) -> Sums:
        """The same sums with another centre, a copy."""
        offset = self.centre - centre
        # With m = total + offset · weight / 2, the further terms are offset mᵀ + m offsetᵀ.
        middle = (self.total + self.weight / 2 * offset).astype(np.float32)
        return replace(
            self,
            centre=centre,
            total=self.total + self.weight * offset,
            gram=blas.ssyr2(1.0, offset.astype(np.float32), middle, lower=1, a=self.gram),
            targets=self.targets + np.outer(offset, self.classes),
        )

    def weighted(self, weight: float) -> Sums:
        """Each row weighs so many times as much."""
        if weight == 1:
            return self
        return replace(
            self,
            weight=weight * self.weight,
            total=weight * self.total,
            gram=np.float32(weight) * self.gram,
            targets=weight * self.targets,
            classes=weight * self.classes,
        )

    def mean_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the rows, float64 (n_features,); the deviation of a constant feature is 0."""
        distance = self.total / self.weight
        variance = np.maximum(self.gram.diagonal() / self.weight - distance**2, 0.0)
        mean, deviation = self.centre + distance, np.sqrt(variance)
        return mean, np.where(deviation <= RESOLUTION * np.abs(mean), 0.0, deviation)

    def relative_to(self, centre: np.ndarray, scale: np.ndarray) -> Sums:
        """The sums over (x − centre) / scale, about 0."""
        moved, factor = self._about(centre), 1 / scale
        moved.gram[:] *= factor.astype(np.float32)[:, None]
        moved.gram[:] *= factor.astype(np.float32)
        return replace(
            moved,
            centre=np.zeros(len(factor)),
            total=factor * moved.total,
            targets=factor[:, None] * moved.targets,
        )

    def of_present_classes(self) -> Sums:
        """Without the classes that no row has."""
        is_present = self.classes > 0
        return replace(self, targets=self.targets[:, is_present], classes=self.classes[is_present])

    def symmetric(self) -> np.ndarray:
        """The inner products with both triangles, a copy."""
        lower = np.tril(self.gram, -1)
        return cast(np.ndarray, lower + lower.T + np.diag(self.gram.diagonal()))


def _less(values: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Rows minus a centre, float32. The difference is taken in float64: a mean may be a thousand deviations from 0."""
    return np.subtract(values, centre, out=np.empty(values.shape, dtype=np.float32), casting="same_kind")
