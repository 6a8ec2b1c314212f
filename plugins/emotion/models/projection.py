"""Linear scores per view of the features and per emotion, by ridge regression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

PENALTIES = (0.1, 0.3, 1.0, 2.0, 4.0)
"""The penalties to choose from, relative to the number of features; groups are left out to choose."""
SEARCH_ROWS = 1000
"""At most so many training rows, drawn at random, are used to choose the penalty."""


class RidgeScores(TransformerMixin, BaseEstimator):
    """Linear scores per view and class: ridge regression on class indicators (Hastie, Tibshirani & Buja 1994,
    "Flexible discriminant analysis by optimal scoring").

    Parameters
    ----------
    views : sequence of int arrays, optional
        Columns of each view; by default, one view of all columns.
    penalties : tuple of float
        The penalty is used whose scores for left-out groups correlate best with the targets, with all columns in one
        view. Squared error is not the criterion: it also counts how far a penalty shrinks all scores, and the
        classifier that follows sets their scale itself.
    cross_fitted : bool
        Whether ``fit_transform`` gives each row the scores of a fit without its group.
    seed : int
        For drawing the rows on which the penalty is chosen.

    Attributes
    ----------
    coef_ : float32 array, shape (n_features, n_views × n_classes)
    intercept_ : float32 array, shape (n_views × n_classes,)
    penalty_ : float

    Examples
    --------
    >>> rows, emotions = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array(["sad", "happy"] * 8)
    >>> scores = RidgeScores(penalties=(1.0,)).fit(rows, emotions, groups=np.arange(16) // 4)
    >>> scores.transform(rows).shape, scores.classes_[scores.transform(rows[:1]).argmax()].item()
    ((16, 2), 'sad')
    """

    def __init__(
        self,
        *,
        views: Sequence[np.ndarray] | None = None,
        penalties: tuple[float, ...] = PENALTIES,
        cross_fitted: bool = True,
        seed: int = 0,
    ):
        self.views = views
        self.penalties = penalties
        self.cross_fitted = cross_fitted
        self.seed = seed

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        *,
        groups: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> RidgeScores:
        """Fit on rows (n, n_features), classes (n,), groups (n,) and weights (n,); by default, each row is a group of
        its own, and all weigh the same."""
        self.fit_transform(X, y, groups=groups, sample_weight=sample_weight)
        return self

    def fit_transform(
        self,
        X: np.ndarray,
        y: np.ndarray,
        *,
        groups: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> np.ndarray:
        """Fit as :meth:`fit` does, and give each row's scores, shape (n, n_views × n_classes) float32.

        Raises
        ------
        ValueError
            If all rows are of one group.
        """
        X = validate_data(self, X, dtype=np.float32)
        self.classes_, codes = np.unique(y, return_inverse=True)
        _, groups = np.unique(np.arange(len(X)) if groups is None else groups, return_inverse=True)
        if groups.max() == 0:
            raise ValueError("all rows are of one group; expected at least two groups, as each is left out in turn")
        targets = np.eye(len(self.classes_), dtype=np.float32)[codes]
        roots = None if sample_weight is None else np.sqrt(sample_weight, dtype=np.float32)
        self.penalty_ = self._best_penalty(X, targets, groups, roots)
        views = [np.arange(X.shape[1])] if self.views is None else self.views
        n_classes = len(self.classes_)
        self.coef_ = np.zeros((X.shape[1], len(views) * n_classes), dtype=np.float32)
        self.intercept_ = np.zeros(len(views) * n_classes, dtype=np.float32)
        scores = np.empty((len(X), len(views) * n_classes), dtype=np.float32)
        left_out = groups if self.cross_fitted else None
        products = _products(X, targets, roots) if len(X) > X.shape[1] + 1 else None
        for number, view in enumerate(views):
            columns = slice(number * n_classes, (number + 1) * n_classes)
            scores[:, columns], self.coef_[view, columns], self.intercept_[columns] = _ridge(
                X[:, view], targets, self.penalty_, left_out, products and products.of_view(view), roots
            )
        return scores

    def _best_penalty(self, X: np.ndarray, targets: np.ndarray, groups: np.ndarray, roots: np.ndarray | None) -> float:
        if len(self.penalties) == 1:
            return self.penalties[0]
        rows = np.random.default_rng(self.seed).permutation(len(X))[:SEARCH_ROWS]
        centred_targets = targets[rows] - targets[rows].mean(axis=0)
        correlations = []
        for penalty in self.penalties:
            drawn_roots = None if roots is None else roots[rows]
            scores, *_ = _ridge(X[rows], targets[rows], penalty, groups[rows], roots=drawn_roots)
            centred_scores = scores - scores.mean(axis=0)
            correlations.append(np.corrcoef(centred_scores.ravel(), centred_targets.ravel())[0, 1])
        return self.penalties[int(np.argmax(correlations))]

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scores, shape (n, n_views × n_classes) float32, of rows (n, n_features)."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float32, reset=False) @ self.coef_ + self.intercept_


class _Products(NamedTuple):
    """Inner products of the columns of X and of a constant column of ones, which comes last.

    ``gram``: with each other, shape (width + 1, width + 1); ``targets``: with the targets less chance, shape
    (width + 1, n_classes). Views share columns, so all views take theirs from the same products.
    """

    gram: np.ndarray
    targets: np.ndarray

    def of_view(self, view: np.ndarray) -> _Products:
        """The products of a view's columns and of a constant column at √n_features."""
        columns = np.append(view, len(self.gram) - 1)
        gram, targets = self.gram[np.ix_(columns, columns)], self.targets[columns]
        constant = np.float32(np.sqrt(len(view)))
        gram[-1] *= constant
        gram[:, -1] *= constant
        targets[-1] *= constant
        return _Products(gram, targets)


def _products(X: np.ndarray, targets: np.ndarray, roots: np.ndarray | None) -> _Products:
    rows = np.column_stack([X, np.ones(len(X), dtype=np.float32)])
    centred_targets = targets - np.float32(1 / targets.shape[1])
    if roots is not None:
        rows *= roots[:, None]
        centred_targets *= roots[:, None]
    return _Products(rows.T @ rows, rows.T @ centred_targets)


def _ridge(
    X: np.ndarray,
    targets: np.ndarray,
    penalty: float,
    groups: np.ndarray | None,
    products: _Products | None = None,
    roots: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of the rows, weights and intercept; with ``groups``, the scores are cross-fitted.

    ``products``: of these columns, if they are known already. ``roots``: square roots of the rows' sample weights.
    Rows and targets are multiplied by them, and at the end the scores are divided by them.

    One fit is enough for all groups: with its residuals E and its hat matrix H, the residuals of group g under a fit
    without g are (I − H_gg)⁻¹ E_g (the group form of the leave-one-out identity; Rifkin & Lippert 2007, "Notes on
    regularized least squares"). The intercept is the weight of one more feature, constant at √n_features, so that it
    too is cross-fitted: means over all rows would carry information about a row's class into its score.
    """
    width = X.shape[1]
    chance = np.float32(1 / targets.shape[1])
    centred_targets = targets - chance
    rows = np.column_stack([X, np.full(len(X), np.sqrt(width), dtype=np.float32)])
    if roots is not None:
        rows *= roots[:, None]
        centred_targets *= roots[:, None]
        targets = centred_targets + chance
    primal = len(rows) > rows.shape[1]
    if primal:
        gram, target_products = products or (rows.T @ rows, rows.T @ centred_targets)
        factor = _cholesky(gram, penalty * width)
        weights = cho_solve((factor, True), target_products, check_finite=False)
    else:  # the same fit from the rows' inner products: (I − H) = penalty (K + penalty)⁻¹
        factor = _cholesky(rows @ rows.T, penalty * width)
        inverse = cho_solve((factor, True), np.eye(len(rows), dtype=np.float32), check_finite=False)
        shares = inverse @ centred_targets
        weights = rows.T @ shares
    scores = rows @ weights + chance
    if groups is not None:
        if primal:
            residuals = targets - scores
            half = solve_triangular(factor, rows.T, lower=True, check_finite=False).T
            kept = {g: np.eye(len(part), dtype=np.float32) - part @ part.T for g, part in _by_group(half, groups)}
        else:
            residuals = shares
            kept = {g: part[:, groups == g] for g, part in _by_group(inverse, groups)}
        for group, block in kept.items():
            members = groups == group
            scores[members] = targets[members] - np.linalg.solve(block, residuals[members])
    if roots is not None:
        scores = (scores - chance) / roots[:, None] + chance
    return scores, weights[:-1], np.sqrt(width) * weights[-1] + chance


def _cholesky(gram: np.ndarray, penalty: float) -> np.ndarray:
    gram.flat[:: len(gram) + 1] += penalty
    return cholesky(gram, lower=True, overwrite_a=True, check_finite=False)


def _by_group(rows: np.ndarray, groups: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for group in np.unique(groups):
        yield group, rows[groups == group]
