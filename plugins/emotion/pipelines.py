"""The scikit-learn pipeline of each family: scaler → projection → classifier.

A few thousand acoustic features of a thousand clips or two are far more than trees can weigh: they overfit, and so does
whatever is fitted to their *training-side* projection, on which the emotions lie further apart than they will on a
new speaker's. So the classifier is given, per emotion, a linear score of the standardized features, and is fitted
on *cross-fitted* scores: those of each training row come from a fit without that row's group (its speaker).
Both steps before the classifier are affine, so contributions carry back to each named feature.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

PENALTIES = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Searched by leaving groups out; relative to the number of features."""
SEARCH_ROWS = 1000
"""The penalty is chosen on so many training rows, drawn at random."""


class RidgeScores(TransformerMixin, BaseEstimator):
    """Linear scores per class: ridge regression on class indicators (Hastie, Tibshirani & Buja 1994, "Flexible
    discriminant analysis by optimal scoring"), whose ``fit_transform`` gives cross-fitted scores.

    Leaving a group out needs no second fit. With Q = (K + penalty)⁻¹, K the rows' inner products and α = QT the dual
    solution for targets T, the residuals of group g under a fit without it are Q_gg⁻¹ α_g (the group form of
    the leave-one-out identity; Rifkin & Lippert 2007, "Notes on regularized least squares").

    Parameters
    ----------
    penalties : tuple of float
        Of these, the one with the least squared error on left-out groups is taken.
    seed : int
        Of the rows on which the penalty is chosen.

    Attributes
    ----------
    coef_ : float32 array, shape (n_features, n_classes)
    intercept_ : float32 array, shape (n_classes,)
    penalty_ : float
    """

    def __init__(self, *, penalties: tuple[float, ...] = PENALTIES, seed: int = 0):
        self.penalties = penalties
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None) -> RidgeScores:
        """Fit on rows (n, n_features), classes (n,) and groups (n,); without groups, each row is one."""
        self.fit_transform(X, y, groups=groups)
        return self

    def fit_transform(self, X: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None) -> np.ndarray:
        """Fit, and give each row's scores, shape (n, n_classes) float32, as of a fit without its group.

        Raises
        ------
        ValueError
            If all rows are of one group.
        """
        X = validate_data(self, X, dtype=np.float32)
        self.classes_, codes = np.unique(y, return_inverse=True)
        _, groups = np.unique(np.arange(len(X)) if groups is None else groups, return_inverse=True)
        if groups.max() == 0:
            raise ValueError("all rows are of one group; cross-fitted scores need at least two")
        targets = np.eye(len(self.classes_), dtype=np.float32)[codes]
        self.penalty_ = self._search(X, targets, groups)
        left_out, self.coef_, self.intercept_ = _leave_groups_out(X, targets, groups, self.penalty_)
        return left_out

    def _search(self, X: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> float:
        if len(self.penalties) == 1:
            return self.penalties[0]
        rows = np.random.default_rng(self.seed).permutation(len(X))[:SEARCH_ROWS]
        errors = []
        for penalty in self.penalties:
            scores, *_ = _leave_groups_out(X[rows], targets[rows], groups[rows], penalty)
            errors.append(np.square(scores - targets[rows]).mean())
        return self.penalties[int(np.argmin(errors))]

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scores, shape (n, n_classes) float32, of rows (n, n_features)."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float32, reset=False) @ self.coef_ + self.intercept_


def _leave_groups_out(
    X: np.ndarray, targets: np.ndarray, groups: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cross-fitted scores, weights and intercept.

    The intercept is the weight of one more feature, constant at √n_features: it is fitted without the group too,
    as means over all rows would tell a row's score something of its own class.
    """
    width = X.shape[1]
    chance = np.float32(1 / targets.shape[1])
    kernel = X @ X.T + np.float32(width)
    kernel.flat[:: len(kernel) + 1] += penalty * width
    factor = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    inverse = cho_solve(factor, np.eye(len(X), dtype=np.float32), overwrite_b=True, check_finite=False)
    dual = inverse @ (targets - chance)
    scores = np.empty_like(targets)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        scores[rows] = targets[rows] - np.linalg.solve(inverse[np.ix_(rows, rows)], dual[rows])
    return scores, X.T @ dual, width * dual.sum(axis=0) + chance


def build(family: str, *, seed: int) -> Pipeline:
    """An unfitted pipeline ``scaler`` → ``projection`` → ``classifier``.

    Parameters
    ----------
    family : str
        One of :data:`emotion.labels.FAMILIES`.
    seed : int

    Notes
    -----
    Fit with ``build(…).fit(X, y, projection__groups=groups)``: what must not be on both sides when a row is scored
    for the classifier's sake, as it will not be when the model is used: the speaker or, in the random protocol, the
    clip. Augmented copies of a clip carry its group.
    """
    classifier = {
        "logistic_regression": lambda: LogisticRegression(C=10.0, max_iter=1000),
        "random_forest": lambda: RandomForestClassifier(
            n_estimators=200, min_samples_leaf=5, max_features=3, random_state=seed, n_jobs=1
        ),
        "gradient_boosting": lambda: GradientBoostingClassifier(
            n_estimators=40, max_depth=3, learning_rate=0.1, subsample=0.5, max_features=3, random_state=seed
        ),
    }[family]()
    return Pipeline([("scaler", StandardScaler()), ("projection", RidgeScores(seed=seed)), ("classifier", classifier)])
