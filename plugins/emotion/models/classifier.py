"""Fitted models: their margins and calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax, softmax

from emotion.models.sums import Rows, Sums
from emotion.vocabulary import emotion_codes, label_set

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

LEAST_PROBABILITY = 1e-3
"""A forest's probability of exactly 0 is raised to this before its logarithm is taken."""


class Classifier:
    """One fitted pipeline with its calibration.

    Attributes
    ----------
    family : str
    pipeline : sklearn.pipeline.Pipeline
        Fitted on the label encoder's codes; its last step, ``classifier``, is the scikit-learn estimator.
    emotions : tuple of str
        The emotions it was fitted on, in the order of its margins' columns.
    label_set : tuple of str
        The emotions that it gives a probability for, in the order of the columns of :meth:`logits` and
        :meth:`predict_proba`. They are those of the whole training run, so a model of one fold may have fewer
        ``emotions``.
    temperature : float
        Divides the logits (Guo et al. 2017, "On calibration of modern neural networks").

    Examples
    --------
    >>> rows, labels = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array(["sad", "happy"] * 8)
    >>> model = Classifier.fit("logistic_regression", rows, labels, seed=0)
    >>> model.emotions
    ('happy', 'sad')
    >>> probabilities = model.predict_proba(rows[:1])
    >>> model.label_set[probabilities[0].argmax()], probabilities.shape
    ('sad', (1, 2))
    """

    def __init__(
        self,
        *,
        family: str,
        pipeline: Pipeline,
        emotions: tuple[str, ...],
        label_set: tuple[str, ...] | None = None,
        temperature: float = 1.0,
    ):
        self.family = family
        self.pipeline = pipeline
        self.emotions = emotions
        self.label_set = _label_set(emotions, label_set)
        self.temperature = temperature

    @classmethod
    def fit(
        cls,
        family: str,
        features: np.ndarray | Rows,
        labels: np.ndarray,
        *,
        groups: np.ndarray | None = None,
        views: list[np.ndarray] | None = None,
        search: bool = False,
        weights: np.ndarray | None = None,
        sums: Sums | None = None,
        label_set: tuple[str, ...] | None = None,
        seed: int,
    ) -> Classifier:
        """Fit a family's pipeline.

        Parameters
        ----------
        family : str
            One of :data:`emotion.vocabulary.FAMILIES`.
        features : float32 array or Rows, shape (n, n_features)
        labels : array of str, shape (n,)
        groups : array, shape (n,), optional
            See :func:`emotion.models.pipelines.build`; by default, each row is a group of its own.
        views : list of int arrays, optional
            See :func:`emotion.models.pipelines.build`.
        search : bool
            See :func:`emotion.models.pipelines.fit`.
        weights : float array, shape (n,), optional
            See :func:`emotion.models.pipelines.fit`.
        sums : Sums, optional
            Of the features, if they are known already, with the sorted ``labels`` as classes.
        label_set : tuple of str, optional
            The emotions that the model gives a probability for; by default, those of ``labels``.
        seed : int
        """
        from sklearn.preprocessing import LabelEncoder

        from emotion.models import pipelines

        encoder = LabelEncoder().fit(labels)
        pipeline = pipelines.build(family, seed=seed, views=views)
        groups = np.arange(len(features)) if groups is None else groups
        codes = encoder.transform(labels)
        pipelines.fit(pipeline, family, features, codes, groups=groups, search=search, weights=weights, sums=sums)
        emotions = tuple(map(str, encoder.classes_))
        return cls(family=family, pipeline=pipeline, emotions=emotions, label_set=label_set)

    def margins(self, features: np.ndarray) -> np.ndarray:
        """The estimator's output, shape (n, n_emotions), to which SHAP values add up.

        Log-odds of LogisticRegression and GradientBoostingClassifier (with two emotions: the second's, and its
        negative for the first); probabilities of RandomForestClassifier. Raises ValueError if a feature is not finite.
        """
        # Bit for bit the output of the pipeline. Calling its steps here avoids scikit-learn's metadata routing and, in
        # a forest, the checks and threads of each tree, which take longer than the prediction for one clip.
        *steps, classifier = (step for _, step in self.pipeline.steps)
        rows = features
        for step in steps:
            rows = step.transform(rows)
        if not np.isfinite(rows).all():
            raise ValueError("the features hold NaN or infinite values; expected finite numbers")
        if hasattr(classifier, "decision_function"):
            margins = classifier.decision_function(rows)
            return margins if margins.ndim == 2 else np.column_stack([-margins, margins])
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        if hasattr(classifier, "mean_values"):  # as the trees of scikit-learn, in one loop
            return classifier.mean_values(rows)
        trees = classifier.estimators_
        return sum(tree.tree_.predict(rows) for tree in trees) / len(trees)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Uncalibrated log-probabilities, shape (n, len(label_set)), up to a constant per row; -inf for emotions that
        the model was not fitted on."""
        margins = self.margins(features)
        if not hasattr(self.pipeline.steps[-1][1], "decision_function"):
            margins = np.log(np.maximum(margins, LEAST_PROBABILITY))
        elif len(self.emotions) == 2:
            margins = margins / 2  # softmax of (-m/2, m/2) is the logistic function of m
        full = np.full((len(margins), len(self.label_set)), -np.inf)
        full[:, emotion_codes(self.emotions, self.label_set)] = margins
        return full

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, shape (n, len(label_set)); 0 for emotions that the model was not fitted on."""
        return softmax(self.logits(features) / self.temperature, axis=1)


def _label_set(emotions: tuple[str, ...], labels: tuple[str, ...] | None) -> tuple[str, ...]:
    """The label set of a model that was fitted on ``emotions``: by default, they are all of it."""
    return label_set(emotions) if labels is None else labels


class Ensemble:
    """Soft voting: the mean of its members' calibrated probabilities.

    Raises ValueError if the members have different label sets.

    Examples
    --------
    >>> rows, labels = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array(["sad", "happy"] * 8)
    >>> member = Classifier.fit("logistic_regression", rows, labels, seed=0)
    >>> bool((Ensemble([member, member]).predict_proba(rows) == member.predict_proba(rows)).all())
    True
    """

    family = "ensemble"

    def __init__(self, members: list[Classifier]):
        self.members = members
        self.label_set = members[0].label_set
        if any(member.label_set != self.label_set for member in members):
            raise ValueError("the members of an ensemble have different label sets; expected the same one for all")

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities, shape (n, len(label_set))."""
        return np.mean([member.predict_proba(features) for member in self.members], axis=0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, emotions: Sequence[str]) -> float:
    """The temperature that minimizes the log loss of ``softmax(logits / temperature)`` (Guo et al. 2017).

    Parameters
    ----------
    logits : float array, shape (n, n_emotions)
        Of rows that the model was not fitted on.
    labels : array of str, shape (n,)
        Rows whose emotion has a logit of -inf (the model was not fitted on it) do not count.
    emotions : sequence of str
        The label set, in the order of the columns of ``logits``.

    Returns
    -------
    float
        Between exp(-3) and exp(3).

    Examples
    --------
    A model whose logits say 98 % is right for 3 clips of 4: its temperature is above 1.

    >>> labels = np.array(["neutral", "neutral", "neutral", "calm"])
    >>> fit_temperature(np.array([[4.0, 0.0]] * 4), labels, ("neutral", "calm")) > 1
    True
    """
    from scipy.optimize import minimize_scalar

    true = np.array(emotion_codes(labels, emotions))
    rows = np.arange(len(true))
    usable = np.isfinite(logits[rows, true])

    def loss(log_temperature: float) -> float:
        log_probabilities = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_probabilities[rows[usable], true[usable]].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
