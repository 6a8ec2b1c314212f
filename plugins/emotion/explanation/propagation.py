"""Carries contributions back through the steps before a classifier: from projected inputs to the features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emotion.errors import DataError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

ROUNDING = 1e-3
"""The largest error of float32 or of a quadrature, relative to the output, that counts as rounding."""


@dataclass(frozen=True, eq=False)
class Background:
    """The rows that contributions are measured against: themselves, mean and standard deviation of each feature (1 for
    a constant one), and the z-scored rows."""

    rows: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    distances: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Background:
        centre = rows.mean(axis=0, dtype=np.float64)
        spread = rows.std(axis=0, dtype=np.float64)
        spread = np.where(spread > 0, spread, 1.0)
        return cls(rows, centre, spread, (rows - centre) / spread)


def affine(steps: Pipeline, background: Background) -> tuple[np.ndarray, np.ndarray]:
    """``matrix`` (n_inputs, n_features) and ``offset`` (n_inputs,) of all steps before the classifier.

    Those of the shipped steps are read from their weights. Other steps are probed: they transform the mean, and the
    mean with one feature changed at a time.
    """
    kinds = [type(step).__name__ for _, step in steps.steps]
    if kinds == ["StandardScaler", "RidgeScores"]:
        scaler, projection = (step for _, step in steps.steps)
        matrix = (projection.coef_ / scaler.scale_[:, None]).T
        return matrix, projection.intercept_ - matrix @ scaler.mean_
    # An affine map gives the same matrix at any distance; at a large one, the rounding of float32 matters less.
    distance = 1000 * background.spread
    probes = steps.transform(np.vstack([background.centre, background.centre + np.diag(distance)])).astype(np.float64)
    matrix = ((probes[1:] - probes[0]) / distance[:, None]).T
    return matrix, probes[0] - matrix @ background.centre


def check_affine(steps: Pipeline, expected: np.ndarray, inputs: np.ndarray) -> None:
    """Raise DataError unless the steps give the inputs (n, n_inputs) that the affine map gives."""
    error = np.abs(expected - inputs).max(initial=0.0)
    if error > ROUNDING * (1 + np.abs(expected).max(initial=0.0)):
        names = ", ".join(type(step).__name__ for _, step in steps.steps)
        raise DataError(
            f"the steps before the classifier ({names}) differ from an affine map by {error:.3g}; expected scaling, "
            "selection and linear projections, through which contributions can be propagated back to the features"
        )


@dataclass(frozen=True, eq=False)
class Shares:
    """Propagates values of projected inputs back to the features.

    The share of feature i in input j, against background row b, is c_ij(b) / s_j(b), where
    c_ij(b) = matrix_ji (x_i − b_i) and s_j(b) is the sum of these over i. The average over background rows weighs each
    row by s_j(b)². So a row that (nearly) equals the clip in input j, for which the share is undefined, does not count.
    The average has a closed form, whose denominator is at least the variance of input j::

        share_ij = matrix_ji (d_i s_j + cov(i, j)) / (s_j² + var(j))

    with d the clip's distance from the background's mean, and s = matrix d. The shares in an input add up to 1. If an
    input is made of one feature only, that feature gets its whole value.
    """

    matrix: np.ndarray
    """Of z-scored features, shape (n_inputs, n_features)."""
    covariance: np.ndarray
    background: Background

    @classmethod
    def of(cls, matrix: np.ndarray, background: Background) -> Shares:
        scaled = matrix * background.spread
        distances = background.distances
        covariance = scaled * ((distances @ scaled.T).T @ distances) / len(distances)
        # An input that is constant over the background is shared as if the features varied independently.
        independent = scaled**2
        constant = covariance.sum(axis=1) <= 1e-12 * independent.sum(axis=1)
        covariance[constant] = independent[constant]
        return cls(scaled, covariance, background)

    def propagate(self, values: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Values (n, n_emotions, n_inputs) of inputs to values (n, n_emotions, n_features) of features."""
        distances = (features - self.background.centre) / self.background.spread
        sums = distances @ self.matrix.T
        denominator = sums**2 + self.covariance.sum(axis=1)
        used = np.any(values, axis=(0, 1))  # an input that no tree looks at may have no variance
        scaled = values[:, :, used] / denominator[:, None, used]
        weighted = scaled * sums[:, None, used]
        return weighted @ self.matrix[used] * distances[:, None] + scaled @ self.covariance[used]
