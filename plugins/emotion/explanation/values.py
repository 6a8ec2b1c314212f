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

from dataclasses import dataclass

import numpy as np
import shap
from scipy.special import softmax
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from emotion.errors import DataError
from emotion.models.classifier import LEAST_PROBABILITY, Classifier, Ensemble
from emotion.vocabulary import emotion_codes

LOG_ODDS, PROBABILITY = "log-odds", "probability"
PATH_NODES = 32
"""Nodes of the Gauss-Legendre quadrature on each piece of the path through the softmax."""
PATH_ERROR = 1e-5
"""A piece of the path is halved while its contributions miss the change of the probabilities by more than this."""
PATH_HALVINGS = 45
"""A piece is halved no further. Float64 then tells hardly more than a hundred points of it apart."""
ROUNDING = 1e-3
"""The largest error of float32 or of the quadrature, relative to the output, that is spread over the features."""


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
        If a step before the classifier is not affine, or the values do not add up to the output.

    Examples
    --------
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
    if isinstance(model, Ensemble):
        return combine(model, [_explain_classifier(member, features, background) for member in model.members])
    return _explain_classifier(model, features, background)


def _explain_classifier(model: Classifier, features: np.ndarray, background: np.ndarray) -> Explanation:
    steps, classifier = model.pipeline[:-1], model.pipeline[-1]
    inputs = np.asarray(steps.transform(features))
    matrix, offset = _affine(steps, features, inputs, background)
    if isinstance(classifier, LogisticRegression):
        values, base = _explain_linear(classifier, matrix, offset, features, background)
    else:
        values, base = _explain_trees(classifier, inputs)
        values = _propagate(values, matrix, features, background)
    outputs = model.margins(features).astype(np.float64)
    return Explanation(
        emotions=model.emotions,
        features=features,
        values=_complete(values, outputs - base),
        base_values=base,
        outputs=outputs,
        scale=PROBABILITY if isinstance(classifier, RandomForestClassifier) else LOG_ODDS,
    )


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


def _affine(
    steps: Pipeline, features: np.ndarray, inputs: np.ndarray, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``matrix`` (n_inputs, n_features) and ``offset`` (n_inputs,) of all steps before the classifier.

    They are found by probing: the steps transform the mean, and the mean with one feature changed at a time.
    ``inputs`` (n, n_inputs) is what the steps make of ``features``.
    """
    centre = background.mean(axis=0, dtype=np.float64)
    # An affine map gives the same matrix at any distance; at a large one, the rounding of float32 matters less.
    distance = 1000 * _spread(background)
    probes = steps.transform(np.vstack([centre, centre + np.diag(distance)])).astype(np.float64)
    matrix = ((probes[1:] - probes[0]) / distance[:, None]).T
    offset = probes[0] - matrix @ centre
    expected = features @ matrix.T + offset
    error = np.abs(expected - inputs).max(initial=0.0)
    if error > ROUNDING * (1 + np.abs(expected).max(initial=0.0)):
        names = ", ".join(type(step).__name__ for _, step in steps.steps)
        raise DataError(
            f"the steps before the classifier ({names}) differ from an affine map by {error:.3g}; expected scaling, "
            "selection and linear projections, through which contributions can be propagated back to the features"
        )
    return matrix, offset


def _explain_linear(
    classifier: LogisticRegression,
    matrix: np.ndarray,
    offset: np.ndarray,
    features: np.ndarray,
    background: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """SHAP values (n, n_emotions, n_features) and base values (n_emotions,) of a linear model after an affine map."""
    coefficients = np.asarray(classifier.coef_, dtype=np.float64)
    intercept = np.asarray(classifier.intercept_, dtype=np.float64)
    if len(coefficients) == 1:  # two emotions: the log-odds of the second
        coefficients = np.vstack([-coefficients, coefficients])
        intercept = np.append(-intercept, intercept)
    centre = background.mean(axis=0, dtype=np.float64)
    values = (coefficients @ matrix)[None] * (features.astype(np.float64) - centre)[:, None]
    return values, coefficients @ (matrix @ centre + offset) + intercept


def _explain_trees(
    classifier: RandomForestClassifier | GradientBoostingClassifier, inputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Path-dependent SHAP values (n, n_emotions, n_inputs) and base values (n_emotions,) of trees."""
    if not isinstance(classifier, GradientBoostingClassifier):
        explainer = shap.TreeExplainer(classifier, feature_perturbation="tree_path_dependent")
        values = explainer.shap_values(inputs, check_additivity=False)
        return values.transpose(0, 2, 1), np.asarray(explainer.expected_value, dtype=np.float64)
    rate = classifier.learning_rate
    values, base = [], []
    probe = inputs[:1].astype(np.float32)
    start = np.ravel(classifier.decision_function(probe))
    for trees, output in zip(classifier.estimators_.T, start, strict=True):
        explainer = shap.TreeExplainer(
            {"trees": [tree.tree_ for tree in trees], "input_dtype": np.float32},
            feature_perturbation="tree_path_dependent",
        )
        values.append(rate * explainer.shap_values(inputs, check_additivity=False))
        prior = output - rate * sum(tree.tree_.predict(probe).item() for tree in trees)
        base.append(prior + rate * np.ravel(explainer.expected_value)[0])
    if len(values) == 1:
        values, base = [-values[0], values[0]], [-base[0], base[0]]
    return np.stack(values, axis=1), np.array(base)


def _propagate(values: np.ndarray, matrix: np.ndarray, features: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Propagate values (n, n_emotions, n_inputs) of projected inputs back to the features: (n, n_emotions, n_features).

    The share of feature i in input j, against background row b, is c_ij(b) / s_j(b), where
    c_ij(b) = matrix_ji (x_i − b_i) and s_j(b) is the sum of these over i. The average over background rows weighs each
    row by s_j(b)². So a row that (nearly) equals the clip in input j, for which the share is undefined, does not count.
    The average has a closed form, whose denominator is at least the variance of input j::

        share_ij = matrix_ji (d_i s_j + cov(i, j)) / (s_j² + var(j))

    with d the clip's distance from the background's mean, and s = matrix d. The shares in an input add up to 1. If an
    input is made of one feature only, that feature gets its whole value.
    """
    used = np.any(values, axis=(0, 1))  # for one or two clips, trees usually look at few of many inputs
    values, matrix = values[:, :, used], matrix[used]
    reached: np.ndarray = np.any(matrix, axis=0)
    contributions = np.zeros((*values.shape[:2], len(reached)))
    matrix, features, background = matrix[:, reached], features[:, reached], background[:, reached]

    spread = _spread(background)
    centre = background.mean(axis=0, dtype=np.float64)
    matrix = matrix * spread
    distances = (features - centre) / spread
    background_distances = (background - centre) / spread
    sums = distances @ matrix.T
    covariance = matrix * ((background_distances @ matrix.T).T @ background_distances) / len(background_distances)
    # An input that is constant over the background is shared as if the features varied independently.
    independent = matrix**2
    constant = covariance.sum(axis=1) <= 1e-12 * independent.sum(axis=1)
    covariance[constant] = independent[constant]
    variance = covariance.sum(axis=1)
    scaled = values / (sums**2 + variance)[:, None]
    contributions[:, :, reached] = (scaled * sums[:, None]) @ matrix * distances[:, None] + scaled @ covariance
    return contributions


def _spread(background: np.ndarray) -> np.ndarray:
    """Standard deviation of each feature, 1 for a constant one."""
    spread = background.std(axis=0, dtype=np.float64)
    return np.where(spread > 0, spread, 1.0)


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
