"""Linear scores per view of the features and per emotion, by ridge regression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from emotion.models.sums import BLOCK, Rows, Sums

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
        X: np.ndarray | Rows,
        y: np.ndarray,
        *,
        groups: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
        sums: Sums | None = None,
    ) -> np.ndarray:
        """Fit as :meth:`fit` does, and return the scores of these rows, shape (n, n_views × n_classes) float32.

        ``sums``: of the rows, with the weights, if they are known already; in coordinates that are the rows themselves.

        Raises
        ------
        ValueError
            If all rows are of one group.
        """
        if isinstance(X, Rows):
            self.n_features_in_ = X.shape[1]
        else:
            X = validate_data(self, X, dtype=np.float32)
        self.classes_, codes = np.unique(y, return_inverse=True)
        _, groups = np.unique(np.arange(len(X)) if groups is None else groups, return_inverse=True)
        if groups.max() == 0:
            raise ValueError("all rows are of one group; expected at least two groups, as each is left out in turn")
        targets = np.eye(len(self.classes_), dtype=np.float32)[codes]
        roots = None if sample_weight is None else np.sqrt(sample_weight, dtype=np.float32)
        self.penalty_ = self._best_penalty(X, targets, groups, roots)
        left_out = groups if self.cross_fitted else None
        width = X.shape[1]
        views = [np.arange(width)] if self.views is None else list(self.views)
        if len(X) <= width + 1:
            rows = X[np.arange(len(X))]
            parts = [_ridge(rows[:, view], targets, self.penalty_, left_out, roots) for view in views]
            scores, weights, intercepts = zip(*parts, strict=True)
            self._keep(views, weights, intercepts)
            return np.hstack(scores)
        if sums is None:
            sums = Sums.of(Rows.of(X), codes, len(self.classes_), weights=sample_weight)
            sums = sums.relative_to(np.zeros(width), np.ones(width))
        fits = _fits_of_views(sums, views, self.penalty_)
        self._keep(views, [fit.coefficients for fit in fits], [fit.intercept for fit in fits])
        if left_out is not None:
            return _cross_fitted_scores(Rows.of(X), targets, left_out, fits, roots)
        blocks = Rows.of(X).blocks()
        return np.vstack([X[part] @ self.coef_ + self.intercept_ for part in blocks])

    def _keep(self, views: list[np.ndarray], weights: Sequence[np.ndarray], intercepts: Sequence[np.ndarray]) -> None:
        """Keep the weights (n_columns, n_classes) and intercepts (n_classes,) of each view as one affine map."""
        n_classes = len(self.classes_)
        self.coef_ = np.zeros((self.n_features_in_, len(views) * n_classes), dtype=np.float32)
        self.intercept_ = np.concatenate(intercepts).astype(np.float32)
        for number, (view, of_view) in enumerate(zip(views, weights, strict=True)):
            self.coef_[view, number * n_classes : (number + 1) * n_classes] = of_view

    def _best_penalty(
        self, X: np.ndarray | Rows, targets: np.ndarray, groups: np.ndarray, roots: np.ndarray | None
    ) -> float:
        if len(self.penalties) == 1:
            return self.penalties[0]
        drawn = np.random.default_rng(self.seed).permutation(len(X))[:SEARCH_ROWS]
        rows, drawn_roots = X[drawn], None if roots is None else roots[drawn]
        products = _inner_products(*_weighted(rows, targets[drawn], drawn_roots))
        centred_targets = targets[drawn] - targets[drawn].mean(axis=0)
        correlations = []
        for penalty in self.penalties:
            scores, *_ = _ridge(rows, targets[drawn], penalty, groups[drawn], drawn_roots, products)
            centred_scores = scores - scores.mean(axis=0)
            correlations.append(np.corrcoef(centred_scores.ravel(), centred_targets.ravel())[0, 1])
        return self.penalties[int(np.argmax(correlations))]

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scores, shape (n, n_views × n_classes) float32, of rows (n, n_features)."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float32, reset=False) @ self.coef_ + self.intercept_


class _ViewFit(NamedTuple):
    """The ridge regression of one view, from sums over rows.

    The intercept is the weight of one more feature, constant at √n_columns, which comes last.

    ``view``: columns, (width,); ``gram``: inner products of the columns and the constant, with the penalty,
    (width + 1, width + 1); ``factor``: its Cholesky factor; ``products``: with the targets minus chance,
    (width + 1, n_classes); ``weights``: (width + 1, n_classes).
    """

    view: np.ndarray
    gram: np.ndarray
    factor: np.ndarray
    products: np.ndarray
    weights: np.ndarray

    @property
    def constant(self) -> np.float32:
        return np.float32(np.sqrt(len(self.view)))

    @property
    def coefficients(self) -> np.ndarray:
        return self.weights[:-1]

    @property
    def intercept(self) -> np.ndarray:
        return self.constant * self.weights[-1] + np.float32(1 / self.weights.shape[1])

    def columns_of(self, rows: np.ndarray, roots: np.ndarray | None) -> np.ndarray:
        """The view's columns of weighted rows, and the constant one, (n, width + 1)."""
        values = np.empty((len(rows), len(self.view) + 1), dtype=np.float32)
        np.take(rows, self.view, axis=1, out=values[:, :-1])
        values[:, -1] = self.constant if roots is None else self.constant * roots
        return values


def _fits_of_views(sums: Sums, views: list[np.ndarray], penalty: float) -> list[_ViewFit]:
    whole, chance = sums.symmetric(), 1 / len(sums.classes)
    targets = sums.targets - chance * sums.total[:, None]
    fits = []
    for view in views:
        width, constant = len(view), np.sqrt(len(view))
        gram = np.empty((width + 1, width + 1), dtype=np.float32)
        gram[:-1, :-1] = whole[np.ix_(view, view)]
        gram[-1, :-1] = gram[:-1, -1] = constant * sums.total[view]
        gram[-1, -1] = width * sums.weight
        gram.flat[:: width + 2] += penalty * width
        factor = cholesky(gram, lower=True, check_finite=False)
        products = np.vstack([targets[view], constant * (sums.classes - chance * sums.weight)]).astype(np.float32)
        weights = cho_solve((factor, True), products, check_finite=False)
        fits.append(_ViewFit(view, gram, factor, products, weights))
    return fits


def _cross_fitted_scores(
    X: Rows, targets: np.ndarray, groups: np.ndarray, fits: list[_ViewFit], roots: np.ndarray | None
) -> np.ndarray:
    """The scores of each row by fits without its group, (n, n_views × n_classes): see :func:`_ridge`.

    Rows are read group by group. The residuals of a group of n rows need a matrix n × n. Where this is more work than
    a fit, the fit without the group is computed instead, from the sums less those of the group.
    """
    n_classes = targets.shape[1]
    chance = np.float32(1 / n_classes)
    scores = np.empty((len(X), len(fits) * n_classes), dtype=np.float32)
    for size, members in _batches_of_groups(groups):
        rows, centred = X[members], targets[members] - chance
        member_roots = None if roots is None else roots[members]
        if member_roots is not None:
            rows, centred = rows * member_roots[:, None], centred * member_roots[:, None]
        for number, fit in enumerate(fits):
            columns = fit.columns_of(rows, member_roots)
            if size > len(fit.view) // 2:
                parts = [slice(start, start + size) for start in range(0, len(members), size)]
                without = np.vstack([_scores_without(fit, columns[part], centred[part]) for part in parts])
            else:
                half = solve_triangular(fit.factor, columns.T, lower=True, check_finite=False).T
                by_group = half.reshape(-1, size, half.shape[1])
                kept = np.eye(size, dtype=np.float32) - by_group @ by_group.transpose(0, 2, 1)
                residuals = (centred - columns @ fit.weights).reshape(-1, size, n_classes)
                without = centred - np.linalg.solve(kept, residuals).reshape(-1, n_classes)
            if member_roots is not None:
                without /= member_roots[:, None]
            scores[members, number * n_classes : (number + 1) * n_classes] = without + chance
    return scores


def _scores_without(fit: _ViewFit, columns: np.ndarray, centred_targets: np.ndarray) -> np.ndarray:
    """Scores minus chance of a group's weighted rows (n, width + 1), by the fit without the group."""
    factor = cholesky(fit.gram - columns.T @ columns, lower=True, overwrite_a=True, check_finite=False)
    products = fit.products - columns.T @ centred_targets
    return columns @ cho_solve((factor, True), products, check_finite=False)


def _batches_of_groups(groups: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Whole groups of one size, about :data:`BLOCK` rows of them at once: their size, and their rows group by group."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes):
        of_size = np.flatnonzero(sizes == size)
        at_once = max(1, BLOCK // int(size))
        for first in range(0, len(of_size), at_once):
            rows = starts[of_size[first : first + at_once], None] + np.arange(size)
            yield int(size), order[rows.ravel()]


def _weighted(X: np.ndarray, targets: np.ndarray, roots: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the constant column, and targets minus chance, both multiplied by the roots of the rows' weights."""
    rows = np.column_stack([X, np.full(len(X), np.sqrt(X.shape[1]), dtype=np.float32)])
    centred_targets = targets - np.float32(1 / targets.shape[1])
    if roots is not None:
        rows *= roots[:, None]
        centred_targets *= roots[:, None]
    return rows, centred_targets


def _inner_products(rows: np.ndarray, centred_targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the columns with each other and with the targets where there are more rows than columns; else of the rows."""
    if len(rows) > rows.shape[1]:
        return rows.T @ rows, rows.T @ centred_targets
    return rows @ rows.T, centred_targets


def _ridge(
    X: np.ndarray,
    targets: np.ndarray,
    penalty: float,
    groups: np.ndarray | None,
    roots: np.ndarray | None = None,
    products: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of few rows, weights and intercept; with ``groups``, the scores are cross-fitted.

    ``roots``: square roots of the rows' sample weights. Rows and targets are multiplied by them, and at the end the
    scores are divided by them. ``products``: from :func:`_inner_products`, if they are known already.

    One fit is enough for all groups: with its residuals E and its hat matrix H, the residuals of group g under a fit
    without g are (I − H_gg)⁻¹ E_g (the group form of the leave-one-out identity; Rifkin & Lippert 2007, "Notes on
    regularized least squares"). The intercept is the weight of one more feature, constant at √n_features, so that it
    too is cross-fitted: means over all rows would carry information about a row's class into its score.
    """
    width = X.shape[1]
    chance = np.float32(1 / targets.shape[1])
    rows, centred_targets = _weighted(X, targets, roots)
    gram, target_products = products or _inner_products(rows, centred_targets)
    factor = _cholesky(gram, penalty * width)
    primal = len(rows) > rows.shape[1]
    if primal:
        weights = cho_solve((factor, True), target_products, check_finite=False)
    else:  # the same fit from the rows' inner products: (I − H) = penalty (K + penalty)⁻¹
        inverse = cho_solve((factor, True), np.eye(len(rows), dtype=np.float32), check_finite=False)
        shares = inverse @ centred_targets
        weights = rows.T @ shares
    scores = rows @ weights
    if groups is not None:
        if primal:
            residuals = centred_targets - scores
            half = solve_triangular(factor, rows.T, lower=True, check_finite=False).T
            kept = {g: np.eye(len(part), dtype=np.float32) - part @ part.T for g, part in _by_group(half, groups)}
        else:
            residuals = shares
            kept = {g: part[:, groups == g] for g, part in _by_group(inverse, groups)}
        for group, block in kept.items():
            members = groups == group
            scores[members] = centred_targets[members] - np.linalg.solve(block, residuals[members])
    if roots is not None:
        scores /= roots[:, None]
    return scores + chance, weights[:-1], np.sqrt(width) * weights[-1] + chance


def _cholesky(gram: np.ndarray, penalty: float) -> np.ndarray:
    penalized = gram.copy()
    penalized.flat[:: len(gram) + 1] += penalty
    return cholesky(penalized, lower=True, overwrite_a=True, check_finite=False)


def _by_group(rows: np.ndarray, groups: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for group in np.unique(groups):
        yield group, rows[groups == group]
