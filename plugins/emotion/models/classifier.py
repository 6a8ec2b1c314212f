"""Fitted models: margins, calibrated probabilities, and the bundle they are shipped in."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelEncoder

from emotion.models import pipelines
from emotion.vocabulary import EMOTIONS

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
    temperature : float
        Divides the logits (Guo et al. 2017, "On calibration of modern neural networks").
    """

    def __init__(self, *, family: str, pipeline: Pipeline, emotions: tuple[str, ...], temperature: float = 1.0):
        self.family = family
        self.pipeline = pipeline
        self.emotions = emotions
        self.temperature = temperature

    @classmethod
    def fit(
        cls,
        family: str,
        features: np.ndarray,
        labels: np.ndarray,
        *,
        groups: np.ndarray | None = None,
        views: list[np.ndarray] | None = None,
        search: bool = False,
        seed: int,
    ) -> Classifier:
        """Fit a family's pipeline on rows (n, n_features) float32, their emotions (n,) str and their groups (n,).

        ``groups`` (without: each row is one) and ``views`` are those of :func:`emotion.models.pipelines.build`, ``search``
        that of :func:`emotion.models.pipelines.fit`.
        """
        encoder = LabelEncoder().fit(labels)
        pipeline = pipelines.build(family, seed=seed, views=views)
        groups = np.arange(len(features)) if groups is None else groups
        pipelines.fit(pipeline, family, features, encoder.transform(labels), groups=groups, search=search)
        return cls(family=family, pipeline=pipeline, emotions=tuple(map(str, encoder.classes_)))

    def margins(self, features: np.ndarray) -> np.ndarray:
        """The estimator's own output, shape (n, n_emotions): log-odds of LogisticRegression and
        GradientBoostingClassifier (of two emotions: the second's, and its negative for the first),
        probabilities of RandomForestClassifier. This is what SHAP values add up to."""
        # What the pipeline gives, bit for bit, less what it spends on routing, and a forest on checks and threads for
        # each tree: more than the answer for one clip takes.
        *steps, classifier = (step for _, step in self.pipeline.steps)
        rows = features
        for step in steps:
            rows = step.transform(rows)
        if hasattr(classifier, "decision_function"):
            margins = classifier.decision_function(rows)
            return margins if margins.ndim == 2 else np.column_stack([-margins, margins])
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        trees = classifier.estimators_
        return sum(tree.tree_.predict(rows) for tree in trees) / len(trees)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Uncalibrated log-probabilities up to a constant a row, shape (n, 8), -inf for an emotion never learnt."""
        margins = self.margins(features)
        if not hasattr(self.pipeline, "decision_function"):
            margins = np.log(np.maximum(margins, LEAST_PROBABILITY))
        elif len(self.emotions) == 2:
            margins = margins / 2  # softmax of (-m/2, m/2) is the logistic function of m
        full = np.full((len(margins), len(EMOTIONS)), -np.inf)
        full[:, [EMOTIONS.index(emotion) for emotion in self.emotions]] = margins
        return full

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, shape (n, 8), in the order of :data:`emotion.vocabulary.EMOTIONS`."""
        return softmax(self.logits(features) / self.temperature, axis=1)


class Ensemble:
    """Soft voting: the mean of its members' calibrated probabilities."""

    family = "ensemble"

    def __init__(self, members: list[Classifier]):
        self.members = members

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities, shape (n, 8), in the order of :data:`emotion.vocabulary.EMOTIONS`."""
        return np.mean([member.predict_proba(features) for member in self.members], axis=0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimizes the log loss of ``softmax(logits / temperature)``.

    ``logits`` (n, 8) and ``labels`` (n,) str must be of rows the model was not fitted on.
    """
    true = np.array([EMOTIONS.index(label) for label in labels])
    rows = np.arange(len(true))
    usable = np.isfinite(logits[rows, true])

    def loss(log_temperature: float) -> float:
        log_probabilities = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_probabilities[rows[usable], true[usable]].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def normalize_by_speaker(features: np.ndarray, speakers: np.ndarray, *, known: np.ndarray | None = None) -> np.ndarray:
    """Features z-scored with the mean and standard deviation of each speaker's own rows.

    Uses no label; a speaker's unlabelled clips are enough (Busso et al. 2013, "Iterative feature
    normalization scheme for automatic emotion detection from speech"). ``features`` (n, n_features),
    ``speakers`` (n,); ``known`` (n,) bool: the rows whose statistics are used, without it all. A feature that is
    constant in them becomes 0, and so do all features of a speaker who has none.
    """
    known = np.ones(len(features), dtype=bool) if known is None else known
    normalized = np.zeros_like(features)
    for speaker in np.unique(speakers):
        rows = speakers == speaker
        own = features[rows & known].astype(np.float64)
        if len(own):
            scale = own.std(axis=0)
            scale[scale <= 1e-8] = np.inf
            normalized[rows] = (features[rows] - own.mean(axis=0)) / scale
    return normalized
