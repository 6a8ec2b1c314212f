"""The scikit-learn pipeline of each family: scaler → projection → classifier.

A few thousand acoustic features of a thousand clips or two are far more than trees can weigh: they overfit. So the
classifier is given linear scores per emotion, from several views of the standardized features (all, cepstrum,
prosody …: :func:`emotion.features.views`). On a training row's own scores the emotions lie further apart than they will
for a new speaker; where that harms a family, as it does a forest, it is fitted on *cross-fitted* scores: those of each
training row come from a fit without that row's group, its speaker. All before the classifier is affine, so that
contributions carry back to each named feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

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


def build(family: str, *, seed: int, views: Sequence[np.ndarray] | None = None) -> Pipeline:
    """An unfitted pipeline ``scaler`` → ``projection`` → ``classifier``.

    Parameters
    ----------
    family : str
        One of :data:`emotion.vocabulary.FAMILIES`.
    seed : int
    views : sequence of int arrays, optional
        Columns of each view, see :func:`emotion.features.views`; without it, one view of all columns.

    Notes
    -----
    It is fitted with ``groups``: what must not be on both sides where groups are left out, as it will not be when the
    model is used: the speaker or, in the random protocols, the clip. Augmented copies of a clip carry its group.
    """
    found = hyperparameters()[family]
    settings = found["shipped"]
    if family != "logistic_regression":  # its solver draws nothing
        settings = settings | {"random_state": seed}
    return Pipeline(
        [
            ("scaler", StandardScaler()),
            ("projection", RidgeScores(views=views, cross_fitted=found["cross_fitted"], seed=seed)),
            ("classifier", CLASSIFIERS[family](**settings)),
        ]
    )


@cache
def hyperparameters() -> dict[str, dict[str, dict]]:
    """What ``include/hyperparameters.yaml`` says: family → ``cross_fitted``, ``shipped`` settings, and ``searched``
    lists of them."""
    return yaml.safe_load((INCLUDE / "hyperparameters.yaml").read_text(encoding="utf-8"))


def fit(pipeline: Pipeline, family: str, X: np.ndarray, y: np.ndarray, *, groups: np.ndarray, search: bool) -> None:
    """Fit a pipeline of :func:`build`; with ``search``, choose the classifier's settings on these rows first.

    The settings are those of the highest macro F1 over :data:`SEARCH_FOLDS` folds of whole groups, on the scores that
    the classifier is fitted on. ``X`` (n, n_features), ``y`` (n,), ``groups`` (n,): see :func:`build`.
    """
    if not search:
        pipeline.fit(X, y, projection__groups=groups)
        return
    pipeline.set_params(classifier=searched(pipeline["classifier"], family, groups))
    pipeline.fit(X, y, projection__groups=groups, classifier__groups=groups)
    pipeline.set_params(classifier=pipeline["classifier"].best_estimator_)


def searched(classifier: ClassifierMixin, family: str, groups: np.ndarray) -> GridSearchCV:
    """A search over a family's settings, to be fitted on rows of those groups."""
    folds = GroupKFold(min(SEARCH_FOLDS, len(np.unique(groups))))
    return GridSearchCV(classifier, hyperparameters()[family]["searched"], scoring=SCORE, cv=folds)


def chosen(pipeline: Pipeline, family: str) -> dict[str, float]:
    """What was searched within a fitted pipeline's rows, or could have been: the ridge penalty and the settings."""
    settings = pipeline["classifier"].get_params()
    return {"penalty": pipeline["projection"].penalty_} | {
        name: settings[name] for name in hyperparameters()[family]["searched"]
    }
