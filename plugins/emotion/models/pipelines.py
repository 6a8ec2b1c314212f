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
from sklearn.base import ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from emotion.evaluation.selection import SCORE
from emotion.models.projection import RidgeScores
from emotion.settings import INCLUDE

CLASSIFIERS = {
    "logistic_regression": LogisticRegression,
    "random_forest": RandomForestClassifier,
    "gradient_boosting": GradientBoostingClassifier,
}
SEARCH_FOLDS = 3


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


def fit(pipeline: Pipeline, family: str, X: np.ndarray, y: np.ndarray, *, groups: np.ndarray, search: bool) -> None:
    """Fit a pipeline of :func:`build` in place; with ``search``, choose the classifier's settings first.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
    family : str
    X : float32 array, shape (n, n_features)
    y : array, shape (n,)
    groups : array, shape (n,)
        See :func:`build`.
    search : bool
        Choose the settings that have the highest macro F1 over :data:`SEARCH_FOLDS` folds of whole groups of these
        rows, on the scores that the classifier is fitted on.

    Examples
    --------
    >>> rows, emotions = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array(["sad", "happy"] * 8)
    >>> pipeline = build("logistic_regression", seed=0)
    >>> fit(pipeline, "logistic_regression", rows, emotions, groups=np.arange(16) // 4, search=False)
    >>> pipeline.predict(rows[:2]).tolist()
    ['sad', 'happy']
    """
    if not search:
        pipeline.fit(X, y, projection__groups=groups)
        return
    pipeline.set_params(classifier=searched(pipeline["classifier"], family, groups))
    pipeline.fit(X, y, projection__groups=groups, classifier__groups=groups)
    pipeline.set_params(classifier=pipeline["classifier"].best_estimator_)


def searched(classifier: ClassifierMixin, family: str, groups: np.ndarray) -> GridSearchCV:
    """An unfitted search over a family's settings, for rows of these groups.

    >>> searched(LogisticRegression(), "logistic_regression", np.array([0, 0, 1, 1])).cv.n_splits
    2
    """
    folds = GroupKFold(min(SEARCH_FOLDS, len(np.unique(groups))))
    return GridSearchCV(classifier, hyperparameters()[family]["searched"], scoring=SCORE, cv=folds)


def chosen(pipeline: Pipeline, family: str) -> dict[str, float]:
    """The ridge penalty of a fitted pipeline, and its value of each setting that a search can choose.

    >>> rows, emotions = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array(["sad", "happy"] * 8)
    >>> pipeline = build("logistic_regression", seed=0)
    >>> fit(pipeline, "logistic_regression", rows, emotions, groups=np.arange(16) // 4, search=False)
    >>> sorted(chosen(pipeline, "logistic_regression"))
    ['C', 'penalty']
    """
    settings = pipeline["classifier"].get_params()
    return {"penalty": pipeline["projection"].penalty_} | {
        name: settings[name] for name in hyperparameters()[family]["searched"]
    }
