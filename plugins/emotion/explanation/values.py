"""Explains a model's output by SHAP values: contributions per named acoustic feature that add up to the output.

Which values are exact and which are propagated:

- **LogisticRegression**: exact. The steps before it are affine, so the log-odds are linear in the features, and the
  Shapley value of feature i is coefficient × (value − background mean).
- **Trees**: exact for the path-dependent value function (Lundberg et al. 2020, "From local explanations to global
  understanding with explainable AI for trees"), for the inputs of the trees. Multi-class gradient boosting of
  scikit-learn is a sum of trees per emotion, and is explained one emotion at a time.
- **Scaling and selection before trees**: each input belongs to one feature, which gets its value; still exact.
- **Projections before trees** (PCA, LDA): propagated through the linear map, after Chen, Lundberg & Lee 2022,
  "Explaining a series of models by propagating Shapley values", Nature Communications 13:4512.
- **Ensemble**: the values of each member are propagated through its calibrated softmax by the Jacobian integrated
  along the straight path from its base margins to its margins (Aumann & Shapley 1974), then averaged.

Inputs far from all training clips, such as a dial tone, are explained as they are; nothing is clipped. A linear model
extrapolates: its log-odds then reach thousands, and the softmax jumps within a small part of the path. The integral is
therefore adaptive: a piece of the path is halved until its contributions add up to the change of the probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from emotion.errors import DataError
from emotion.explanation.propagation import ROUNDING, Background, Shares, affine, check_affine
from emotion.explanation.trees import Trees
from emotion.models.classifier import LEAST_PROBABILITY, Classifier, Ensemble
from emotion.vocabulary import emotion_codes

if TYPE_CHECKING:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

LOG_ODDS, PROBABILITY = "log-odds", "probability"
CHECKED = 8
"""So many clips of a training run are checked by shap."""
LARGEST_ERROR = 1e-9
"""Of a contribution of a tree, against shap."""
PATH_NODES = 32
"""Nodes of the Gauss-Legendre quadrature on each piece of the path through the softmax."""
PATH_ERROR = 1e-5
"""A piece of the path is halved while its contributions miss the change of the probabilities by more than this."""
PATH_HALVINGS = 45
"""A piece is halved no further. Float64 then tells hardly more than a hundred points of it apart."""


@dataclass(frozen=True)
class Explanation:
    """Contributions of each feature to the output for each emotion, for some clips.

    Attributes
    ----------
    emotions : tuple of str
        In the order of the columns below.
    features : float32 array, shape (n, n_features)
        The rows that are explained.
    values : float64 array, shape (n, n_emotions, n_features)
        The contributions; ``values.sum(axis=2) + base_values`` equals ``outputs`` within 1e-6.
    base_values : float64 array, shape (n_emotions,)
        The output without any contribution.
    outputs : float64 array, shape (n, n_emotions)
        The output of the model: :meth:`Classifier.margins` or :meth:`Ensemble.predict_proba`.
    scale : str
        ``log-odds`` or ``probability``: the unit of the three arrays above.
    """

    emotions: tuple[str, ...]
    features: np.ndarray
    values: np.ndarray
    base_values: np.ndarray
    outputs: np.ndarray
    scale: str


def explain_predictions(model: Classifier | Ensemble, features: np.ndarray, *, background: np.ndarray) -> Explanation:
    """Explain the output of a model for some clips.

    Parameters
    ----------
    model : Classifier or Ensemble
    features : float32 array, shape (n, n_features)
        As the model takes them: z-scored by batch or by speaker for the models of these modes.
    background : float32 array, shape (n_background, n_features)
        Rows that the model was fitted on, or a sample of them. For a linear model, a contribution is measured against
        their mean; for a projection, they show how its inputs vary together.

    Returns
    -------
    Explanation

    Raises
    ------
    DataError
        If a step before the classifier is not affine, the values do not add up to the output, or those of the trees
        are not those of shap's TreeExplainer, by which some of the clips are checked.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> rows = np.float32([[1, 5], [2, 5], [8, 5], [9, 5]])
    >>> labels = np.array(["calm", "calm", "angry", "angry"])
    >>> pipeline = Pipeline([("scaler", StandardScaler()), ("classifier", LogisticRegression())]).fit(rows, labels)
    >>> model = Classifier(family="logistic_regression", pipeline=pipeline, emotions=("angry", "calm"))
    >>> explanation = explain_predictions(model, rows, background=rows)
    >>> explanation.values.shape, explanation.scale
    ((4, 2, 2), 'log-odds')
    >>> np.allclose(explanation.values.sum(axis=2) + explanation.base_values, explanation.outputs)
    True
    >>> bool(explanation.values[3, 0, 0] > 0), float(explanation.values[3, 0, 1])
    (True, 0.0)
    """
    explainer = Explainer(model, background)
    explainer.check_by_shap(features[:CHECKED])
    return explainer.explain(features)


class Explainer:
    """Explains a model's output, clip by clip or many at once: what depends on the model alone is computed once.

    Parameters
    ----------
    model : Classifier or Ensemble
    background : float32 array, shape (n_background, n_features)
        See :func:`explain_predictions`.

    Raises
    ------
    DataError
        If a step before the classifier is not affine.

    Examples
    --------
    >>> rows, labels = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array(["sad", "happy"] * 8)
    >>> explainer = Explainer(Classifier.fit("logistic_regression", rows, labels, seed=0), rows)
    >>> explainer.explain(rows[:3]).values.shape
    (3, 2, 4)
    """

    def __init__(self, model: Classifier | Ensemble, background: np.ndarray):
        self._model = model
        shared = Background.of(background)
        members = model.members if isinstance(model, Ensemble) else [model]
        self._members = [_MemberExplainer(member, shared) for member in members]

    def explain(self, features: np.ndarray) -> Explanation:
        """The output for some clips, float32 (n, n_features); see :func:`explain_predictions`."""
        parts = [member.explain(features) for member in self._members]
        return combine(self._model, parts) if isinstance(self._model, Ensemble) else parts[0]

    def explain_probabilities(self, features: np.ndarray) -> Explanation:
        """The same on the scale of calibrated probabilities, whatever the family: what a person reads.

        The contributions add up to :meth:`Classifier.predict_proba`, for all emotions of the label set.
        """
        parts = [member.explain(features) for member in self._members]
        model = self._model if isinstance(self._model, Ensemble) else Ensemble([self._model])
        return combine(model, parts)

    def check_by_shap(self, features: np.ndarray) -> None:
        """Raise DataError if the values of the trees are not those of shap's TreeExplainer for these clips.

        The trees are read from scikit-learn's private arrays. A release that changes their meaning is noticed here.
        """
        for member in self._members:
            member.check_by_shap(features)


class _MemberExplainer:
    """Explains one classifier on the scale of its margins."""

    def __init__(self, model: Classifier, background: Background):
        self._model = model
        self._steps, classifier = model.pipeline[:-1], model.pipeline[-1]
        self._matrix, self._offset = affine(self._steps, background)
        self._is_forest = type(classifier).__name__ == "RandomForestClassifier"
        self._trees: Trees | None = None
        self._contributions: Callable[[np.ndarray, np.ndarray], np.ndarray]
        """Of features (n, n_features) and what the steps make of them: (n, n_emotions, n_features)."""
        if type(classifier).__name__ == "LogisticRegression":
            weights, self._base = _linear_map(classifier, self._matrix, self._offset, background)
            self._contributions = lambda features, _: weights[None] * (features - background.centre)[:, None]
        else:
            inputs = np.asarray(self._steps.transform(background.rows[:1]))
            trees, self._base = _tree_sum(classifier, inputs)
            shares = Shares.of(self._matrix, background)
            self._contributions = lambda features, inputs: shares.propagate(trees.shap_values(inputs), features)
            self._trees = trees

    def explain(self, features: np.ndarray) -> Explanation:
        inputs = np.asarray(self._steps.transform(features))
        check_affine(self._steps, features @ self._matrix.T + self._offset, inputs)
        values = self._contributions(features, inputs)
        outputs = self._model.margins(features).astype(np.float64)
        return Explanation(
            emotions=self._model.emotions,
            features=features,
            values=_complete(values, outputs - self._base),
            base_values=self._base,
            outputs=outputs,
            scale=PROBABILITY if self._is_forest else LOG_ODDS,
        )

    def check_by_shap(self, features: np.ndarray) -> None:
        if self._trees is None:
            return
        inputs = np.asarray(self._steps.transform(features), dtype=np.float32)
        values = self._trees.shap_values(inputs)
        error = np.abs(values - shap_values(self._model.pipeline[-1], inputs)).max(initial=0.0)
        if not error < LARGEST_ERROR:
            raise DataError(
                f"the contributions of {self._model.family} differ from those of shap by {error:.2g}; expected less "
                f"than {LARGEST_ERROR}: this scikit-learn may store its trees in another way"
            )


def shap_values(classifier: RandomForestClassifier | GradientBoostingClassifier, inputs: np.ndarray) -> np.ndarray:
    """The values that shap's TreeExplainer gives for the inputs of trees (n, n_inputs): (n, n_emotions, n_inputs)."""
    import shap  # takes seconds, and an answer in use does not need it

    if type(classifier).__name__ == "RandomForestClassifier":
        explainer = shap.TreeExplainer(classifier, feature_perturbation="tree_path_dependent")
        return explainer.shap_values(inputs, check_additivity=False).transpose(0, 2, 1)
    by_emotion = []
    for column in classifier.estimators_.T:
        trees = {"trees": [estimator.tree_ for estimator in column], "input_dtype": np.float32}
        explainer = shap.TreeExplainer(trees, feature_perturbation="tree_path_dependent")
        by_emotion.append(classifier.learning_rate * explainer.shap_values(inputs, check_additivity=False))
    if len(by_emotion) == 1:  # two emotions: the log-odds of the second
        by_emotion.insert(0, -by_emotion[0])
    return np.stack(by_emotion, axis=1)


def combine(ensemble: Ensemble, members: list[Explanation]) -> Explanation:
    """The explanation of an ensemble, from explanations of the same clips by its members, in the members' order.

    Parameters
    ----------
    ensemble : Ensemble
    members : list of Explanation
        From :func:`explain_predictions`.

    Returns
    -------
    Explanation
        On the scale of probabilities, for all emotions of the label set.
    """
    parts = [_through_softmax(model, member) for model, member in zip(ensemble.members, members, strict=True)]
    return Explanation(
        emotions=ensemble.label_set,
        features=members[0].features,
        values=_mean([part.values for part in parts]),
        base_values=_mean([part.base_values for part in parts]),
        outputs=_mean([part.outputs for part in parts]),
        scale=PROBABILITY,
    )


def _mean(arrays: list[np.ndarray]) -> np.ndarray:
    total = np.zeros_like(arrays[0])
    for array in arrays:
        total = total + array
    return total / len(arrays)


def _linear_map(
    classifier: LogisticRegression, matrix: np.ndarray, offset: np.ndarray, background: Background
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n_emotions, n_features) and base values (n_emotions,) of a linear model after an affine map."""
    coefficients = np.asarray(classifier.coef_, dtype=np.float64)
    intercept = np.asarray(classifier.intercept_, dtype=np.float64)
    if len(coefficients) == 1:  # two emotions: the log-odds of the second
        coefficients = np.vstack([-coefficients, coefficients])
        intercept = np.append(-intercept, intercept)
    return coefficients @ matrix, coefficients @ (matrix @ background.centre + offset) + intercept


def _tree_sum(
    classifier: RandomForestClassifier | GradientBoostingClassifier, probe: np.ndarray
) -> tuple[Trees, np.ndarray]:
    """The trees whose sum is the output, and base values (n_emotions,); ``probe``: one row of inputs."""
    if type(classifier).__name__ != "GradientBoostingClassifier":
        members = [tree.tree_ for tree in classifier.estimators_]
        outputs = len(classifier.classes_)
        forest = Trees.of(members, columns=[0] * len(members), outputs=outputs, factor=1 / len(members))
        return forest, forest.base()
    rate, estimators = classifier.learning_rate, classifier.estimators_
    outputs = estimators.shape[1]
    columns = np.tile(np.arange(outputs), len(estimators))
    members = [estimator.tree_ for estimator in estimators.ravel()]
    boosted = Trees.of(members, columns=columns, outputs=outputs, factor=rate)
    sums = np.zeros(outputs)
    np.add.at(sums, columns, [rate * tree.predict(probe.astype(np.float32)).item() for tree in members])
    prior = np.ravel(classifier.decision_function(probe.astype(np.float32))) - sums
    base = prior + boosted.base()
    if outputs == 1:  # two emotions: the log-odds of the second
        both = Trees.of(members * 2, columns=[0] * len(members) + [1] * len(members), outputs=2, factor=rate)
        both.value[: len(both.value) // 2] *= -1
        return both, np.append(-base, base)
    return boosted, base


def _through_softmax(model: Classifier, explanation: Explanation) -> Explanation:
    """A member's explanation on the scale of its calibrated probabilities, for all emotions of its label set."""
    columns, count = emotion_codes(explanation.emotions, model.label_set), len(model.label_set)
    is_probability = explanation.scale == PROBABILITY
    # softmax of (−m/2, m/2) is the logistic function of m, see Classifier.logits
    steepness = (0.5 if len(columns) == 2 and not is_probability else 1.0) / model.temperature

    def logits(margins: np.ndarray) -> np.ndarray:
        return steepness * (np.log(np.maximum(margins, LEAST_PROBABILITY)) if is_probability else margins)

    # Each logit depends on one margin only, so the secant propagates it (the rescale rule of Chen et al.). The path
    # through the softmax is straight in the logits, where the Jacobian is smooth even if a margin comes near 0.
    start, end = logits(explanation.base_values), logits(explanation.outputs)
    distance = explanation.outputs - explanation.base_values
    secant = np.divide(end - start, distance, out=np.zeros_like(distance), where=distance != 0)
    jacobian = _softmax_jacobian(start, end) * secant[:, None, :]

    base, outputs = np.zeros(count), np.zeros((len(end), count))
    base[columns] = softmax(start)
    outputs[:, columns] = softmax(end, axis=1)
    values = np.zeros((len(outputs), count, explanation.values.shape[2]))
    values[:, columns] = _complete(jacobian @ explanation.values, outputs[:, columns] - base[columns])
    return Explanation(model.label_set, explanation.features, values, base, outputs, PROBABILITY)


def _softmax_jacobian(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The Jacobian of the softmax, mean over the straight path from ``start`` (k,) to ``end`` (n, k): (n, k, k).

    The path begins as one piece per row. A piece whose Jacobian misses the change of the softmax is halved. The test is
    sound: along a straight path, an emotion that is the most probable one at both ends of a piece is so in between, so
    no jump can lie between the nodes without a change from end to end.
    """
    distance = end - start
    jacobian = np.zeros((*distance.shape, distance.shape[1]))
    rows, low = np.arange(len(end)), np.zeros(len(end))  # the pieces: their rows, and where on the path they begin
    for halvings in range(PATH_HALVINGS + 1):
        length = 0.5**halvings
        first, change = start + low[:, None] * distance[rows], length * distance[rows]
        pieces = _jacobian_of_pieces(first, change)
        expected = softmax(first + change, axis=1) - softmax(first, axis=1)
        missed = np.abs((pieces @ change[:, :, None])[:, :, 0] - expected).max(axis=1, initial=0.0)
        done = missed <= PATH_ERROR if halvings < PATH_HALVINGS else np.ones(len(rows), dtype=bool)
        np.add.at(jacobian, rows[done], length * pieces[done])
        rows, low = np.repeat(rows[~done], 2), np.repeat(low[~done], 2)
        if not len(rows):
            break
        low[1::2] += length / 2
    return jacobian


def _jacobian_of_pieces(first: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The Jacobian of the softmax, mean over straight pieces from ``first`` to ``first + change`` (n, k): (n, k, k)."""
    count = first.shape[1]
    nodes, weights = np.polynomial.legendre.leggauss(PATH_NODES)
    jacobian = np.zeros((*first.shape, count))
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        p = softmax(first + node * change, axis=-1)
        jacobian += weight * p[:, :, None] * (np.eye(count) - p[:, None, :])
    return jacobian


def _complete(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Spread the rounding errors over the features, so that values (n, k, n_features) add up to targets (n, k)."""
    missing = targets - values.sum(axis=2)
    worst = np.abs(missing).max(initial=0.0)
    if worst > ROUNDING * (1 + np.abs(targets).max(initial=0.0)):
        raise DataError(f"the contributions miss the model's output by {worst:.3g}; expected rounding errors only")
    size = np.abs(values)
    total = size.sum(axis=2, keepdims=True)
    even = np.full_like(size, 1 / size.shape[2])
    return values + missing[:, :, None] * np.divide(size, total, out=even, where=total > 0)
