"""The scikit-learn pipeline of each family: scaler → projection → classifier.

A clip has a few thousand acoustic features, and a dataset one or two thousand clips: trees would overfit. So the
projection gives the classifier linear scores per emotion instead, from several views of the standardized features (all,
cepstrum, prosody …: :func:`emotion.features.views`). The scores of the rows that the projection was fitted on separate
the emotions better than the scores of a new speaker will. Where that harms a family, as it harms a forest, the
classifier is fitted on *cross-fitted* scores: the score of each training row comes from a fit without the row's group,
its speaker. All steps before the classifier are affine, so contributions can be carried back to each named feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypedDict

import numpy as np
import yaml
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from emotion.models.projection import RidgeScores
from emotion.models.sums import Rows, Sums
from emotion.settings import INCLUDE

CLASSIFIERS = {
    "logistic_regression": LogisticRegression,
    "random_forest": RandomForestClassifier,
    "gradient_boosting": GradientBoostingClassifier,
}
SEARCH_FOLDS = 3
LEAST_ROWS_OF_A_TREE = 1000
"""A tree of the forest sees the share ``max_samples`` of the rows, but so many at least, or all."""
MOST_ROWS_OF_A_TREE = 20_000
"""Most rows that a tree is fitted on, so that neither its size nor the time for it grow with a large corpus. With six
copies of each clip, this counts from 9,500 clips on in a forest, and from 11,400 in boosting."""


class Hyperparameters(TypedDict):
    """One family in ``include/hyperparameters.yaml``: whether its classifier is fitted on cross-fitted scores, its
    default settings, and the values of each setting that a search tries."""

    cross_fitted: bool
    shipped: dict[str, float]
    searched: dict[str, list[float]]


def build(family: str, *, seed: int, views: Sequence[np.ndarray] | None = None) -> Pipeline:
    """An unfitted pipeline ``scaler`` → ``projection`` → ``classifier``.

    Parameters
    ----------
    family : str
        One of :data:`emotion.vocabulary.FAMILIES`.
    seed : int
    views : sequence of int arrays, optional
        Columns of each view, see :func:`emotion.features.views`; by default, one view of all columns.

    Notes
    -----
    It is fitted with ``groups``, one label per row. Whenever part of the rows is left out inside the fit (to
    cross-fit, or to search a setting), rows of one group are left out together. The group is what the protocol holds
    out: the speaker or, in the random protocols, the clip. Augmented copies of a clip are in its group.

    Examples
    --------
    >>> [name for name, _ in build("random_forest", seed=0).steps]
    ['scaler', 'projection', 'classifier']
    """
    family_settings = hyperparameters()[family]
    settings = family_settings["shipped"]
    if family != "logistic_regression":  # its solver draws no random numbers
        settings = settings | {"random_state": seed}
    return Pipeline(
        [
            ("scaler", StandardScaler()),
            ("projection", RidgeScores(views=views, cross_fitted=family_settings["cross_fitted"], seed=seed)),
            ("classifier", CLASSIFIERS[family](**settings)),
        ]
    )


@cache
def hyperparameters() -> dict[str, Hyperparameters]:
    """The content of ``include/hyperparameters.yaml``, by family.

    >>> sorted(hyperparameters()["logistic_regression"])
    ['cross_fitted', 'searched', 'shipped']
    """
    return yaml.safe_load((INCLUDE / "hyperparameters.yaml").read_text(encoding="utf-8"))


def fit(
    pipeline: Pipeline,
    family: str,
    X: np.ndarray | Rows,
    y: np.ndarray,
    *,
    groups: np.ndarray,
    search: bool,
    weights: np.ndarray | None = None,
    sums: Sums | None = None,
) -> None:
    """Fit a pipeline of :func:`build` in place; with ``search``, choose the classifier's settings first.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
    family : str
    X : float32 array or Rows, shape (n, n_features)
    y : int array, shape (n,)
        Classes, numbered from 0.
    groups : array, shape (n,)
        See :func:`build`.
    search : bool
        Choose the settings by :func:`searched`.
    weights : float array, shape (n,), optional
        How much each row counts in every step; by default, all count the same.
    sums : Sums, optional
        Of the rows, with the weights, if they are known already.

    Examples
    --------
    >>> rows, emotions = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array([1, 0] * 8)
    >>> pipeline = build("logistic_regression", seed=0)
    >>> fit(pipeline, "logistic_regression", rows, emotions, groups=np.arange(16) // 4, search=False)
    >>> pipeline.predict(rows[:2]).tolist()
    [1, 0]
    """
    pipeline["classifier"].set_params(**_bounded(pipeline["classifier"].get_params(), len(X)))
    if search:
        pipeline["classifier"].set_params(**searched(pipeline, family, X, y, groups=groups, weights=weights))
    scores = _fit_steps(pipeline[:-1], X, y, groups=groups, weights=weights, sums=sums)
    pipeline["classifier"].fit(scores, y, sample_weight=weights)


def _bounded(settings: dict[str, float], rows: int) -> dict[str, float]:
    """The settings of a classifier for so many rows: its trees are fitted on neither too few nor too many of them."""
    most = MOST_ROWS_OF_A_TREE / rows
    if (share := settings.get("max_samples")) is not None:
        return {"max_samples": min(1.0, max(min(share, most), LEAST_ROWS_OF_A_TREE / rows))}
    if (share := settings.get("subsample", 0)) > most:
        # a leaf has at least this share of all rows, of which the tree sees fewer
        return {"subsample": most, "min_samples_leaf": settings["min_samples_leaf"] * most / share}
    return {}


def _fit_steps(
    steps: Pipeline,
    X: np.ndarray | Rows,
    y: np.ndarray,
    *,
    groups: np.ndarray | None,
    weights: np.ndarray | None,
    sums: Sums | None = None,
) -> np.ndarray:
    """Fit scaler and projection in place; the scores of the rows for the classifier, (n, n_views × n_classes).

    With more rows than features, both are computed from sums over rows, which are read block by block.
    """
    rows = Rows.of(X)
    if len(rows) <= rows.shape[1] + 1:
        of_steps = {} if weights is None else {f"{name}__sample_weight": weights for name, _ in steps.steps}
        return steps.fit_transform(rows[:], y, projection__groups=groups, **of_steps)
    if sums is None:
        sums = Sums.of(rows, y, int(y.max()) + 1, weights=weights).of_present_classes()
    mean, scale = _fit_scaler(steps["scaler"], sums)
    return steps["projection"].fit_transform(
        rows.standardized(mean, scale),
        y,
        groups=groups,
        sums=sums.relative_to(mean, scale),
        **({} if weights is None else {"sample_weight": weights}),
    )


def _fit_scaler(scaler: StandardScaler, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
    """Set what ``StandardScaler.fit`` sets, from sums; returns mean and scale, float64 (n_features,)."""
    mean, deviation = sums.mean_and_scale()
    scaler.mean_, scaler.var_ = mean, deviation**2
    scaler.scale_ = np.where(deviation > 0, deviation, 1.0)
    scaler.n_features_in_, scaler.n_samples_seen_ = len(mean), sums.rows
    return mean, scaler.scale_


def searched(
    pipeline: Pipeline,
    family: str,
    X: np.ndarray | Rows,
    y: np.ndarray,
    *,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """The classifier's settings with the highest macro F1, by leaving whole groups out of the whole pipeline.

    Scaler and projection are fitted anew in each of :data:`SEARCH_FOLDS` folds of groups, so no setting is judged on
    scores that were fitted with the labels of the left-out rows. Of settings with equal figures, the first is chosen.
    Parameters as in :func:`fit`. Where a fold leaves one group to fit on, the projection leaves out single rows of it.

    Examples
    --------
    >>> rows, emotions = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array([1, 0] * 8)
    >>> pipeline = build("logistic_regression", seed=0)
    >>> searched(pipeline, "logistic_regression", rows, emotions, groups=np.arange(16) // 4)
    {'C': 0.05}
    """
    rows = Rows.of(X)
    folds = GroupKFold(min(SEARCH_FOLDS, len(np.unique(groups))))
    grid = list(ParameterGrid(hyperparameters()[family]["searched"]))
    macro_f1 = np.zeros(len(grid))
    for train, test in folds.split(y, y, groups):
        several = groups[train] if len(np.unique(groups[train])) > 1 else None
        steps = clone(pipeline[:-1])
        train_weights = None if weights is None else weights[train]
        scores = _fit_steps(steps, rows.take(train), y[train], groups=several, weights=train_weights)
        test_rows = rows.take(test)
        held_out = np.vstack([steps.transform(test_rows[part]) for part in test_rows.blocks()])
        for number, settings in enumerate(grid):
            classifier = clone(pipeline[-1]).set_params(**settings).fit(scores, y[train], sample_weight=train_weights)
            macro_f1[number] += f1_score(y[test], classifier.predict(held_out), average="macro")
    return grid[int(macro_f1.argmax())]


def chosen(pipeline: Pipeline, family: str) -> dict[str, float]:
    """The ridge penalty of a fitted pipeline, and its value of each setting that a search can choose.

    >>> rows, emotions = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array([1, 0] * 8)
    >>> pipeline = build("logistic_regression", seed=0)
    >>> fit(pipeline, "logistic_regression", rows, emotions, groups=np.arange(16) // 4, search=False)
    >>> sorted(chosen(pipeline, "logistic_regression"))
    ['C', 'penalty']
    """
    settings = pipeline["classifier"].get_params()
    return {"penalty": pipeline["projection"].penalty_} | {
        name: settings[name] for name in hyperparameters()[family]["searched"]
    }
