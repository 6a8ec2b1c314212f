"""Why a model said what it said: SHAP values per named acoustic feature that add up to the model's output.

What is exact and what is propagated:

- **LogisticRegression**: exact. Whatever affine steps stand before it, the log-odds stay linear in the
  features, so the Shapley value of feature i is coefficient × (value − background mean).
- **Trees**: exact for the path-dependent value function (Lundberg et al. 2020, "From local explanations to
  global understanding with explainable AI for trees"), on what the trees are given. scikit-learn's
  multi-class gradient boosting is a sum of trees per emotion, and is explained one emotion at a time.
- **Scaling and selection before trees**: carried over one to one; still exact.
- **Projections before trees** (PCA, LDA): propagated through the linear map, after Chen, Lundberg & Lee 2022,
  "Explaining a series of models by propagating Shapley values", Nature Communications 13:4512.
- **Ensemble**: each member's values are propagated through its calibrated softmax by the Jacobian integrated
  along the straight path from its base margins to its margins (Aumann & Shapley 1974), then averaged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import shap
from scipy.special import softmax
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from emotion import features as acoustic
from emotion.errors import DataError
from emotion.models.classifier import LEAST_PROBABILITY, Classifier, Ensemble
from emotion.vocabulary import EMOTIONS

LOG_ODDS, PROBABILITY = "log-odds", "probability"
PATH_NODES = 32
ROUNDING = 1e-3
"""What float32 or the quadrature may leave over, relative to the output, to be spread over the features."""


@dataclass(frozen=True)
class Explanation:
    """Contributions of each feature to each emotion's output, for some clips.

    Attributes
    ----------
    emotions : tuple of str
        In the order of the columns below.
    features : array, shape (n, n_features)
        The rows explained.
    values : float64 array, shape (n, n_emotions, n_features)
        What each feature adds; ``values.sum(axis=2) + base_values`` equals ``outputs`` within 1e-6.
    base_values : float64 array, shape (n_emotions,)
    outputs : float64 array, shape (n, n_emotions)
        The model's own: :meth:`Classifier.margins` or :meth:`Ensemble.predict_proba`.
    scale : str
        ``log-odds`` or ``probability``: the unit of all three.
    """

    emotions: tuple[str, ...]
    features: np.ndarray
    values: np.ndarray
    base_values: np.ndarray
    outputs: np.ndarray
    scale: str


def explain_predictions(model: Classifier | Ensemble, features: np.ndarray, *, background: np.ndarray) -> Explanation:
    """Explain a model's output for some clips.

    Parameters
    ----------
    model : Classifier or Ensemble
    features : float32 array, shape (n, n_features)
        As the model takes them: normalized by speaker for an adapted model.
    background : float32 array, shape (n_background, n_features)
        Rows the model was fitted on, or a sample of them: what a contribution is measured against for a
        linear model, and how inputs vary together for a projection.

    Raises
    ------
    DataError
        If a step before the classifier is not affine, or the values do not add up.
    """
    if isinstance(model, Ensemble):
        return combine(
            model, [explain_predictions(member, features, background=background) for member in model.members]
        )
    steps, classifier = model.pipeline[:-1], model.pipeline[-1]
    inputs = np.asarray(steps.transform(features))
    matrix, offset = _affine(steps, features, inputs, background)
    centre = background.mean(axis=0, dtype=np.float64)
    if isinstance(classifier, LogisticRegression):
        coefficients, intercept = np.float64(classifier.coef_), np.float64(classifier.intercept_)
        if len(model.emotions) == 2:
            coefficients = np.vstack([-coefficients, coefficients])
            intercept = np.append(-intercept, intercept)
        values = (coefficients @ matrix)[None] * (features.astype(np.float64) - centre)[:, None]
        base = coefficients @ (matrix @ centre + offset) + intercept
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
    """The ensemble's explanation from its members' explanations of the same clips, in the members' order."""
    values, base, outputs = 0.0, 0.0, 0.0
    for model, found in zip(ensemble.members, members, strict=True):
        own_values, own_base, own_outputs = _through_softmax(model, found)
        values, base, outputs = values + own_values, base + own_base, outputs + own_outputs
    count = len(members)
    return Explanation(
        emotions=EMOTIONS,
        features=members[0].features,
        values=values / count,
        base_values=base / count,
        outputs=outputs / count,
        scale=PROBABILITY,
    )


def _affine(
    steps: Pipeline, features: np.ndarray, inputs: np.ndarray, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``matrix`` (n_inputs, n_features) and ``offset`` (n_inputs,) of all steps before the classifier."""
    centre = background.mean(axis=0, dtype=np.float64)
    far = 1000 * _spread(background)  # what an affine map makes no matter of, but a float32 one loses less by
    probes = steps.transform(np.vstack([centre, centre + np.diag(far)])).astype(np.float64)
    matrix = ((probes[1:] - probes[0]) / far[:, None]).T
    offset = probes[0] - matrix @ centre
    expected = features @ matrix.T + offset
    off = np.abs(expected - inputs).max(initial=0.0)
    if off > ROUNDING * (1 + np.abs(expected).max(initial=0.0)):
        names = ", ".join(type(step).__name__ for _, step in steps.steps)
        raise DataError(
            f"the steps before the classifier ({names}) are off an affine map by {off:.3g}; expected "
            "scaling, selection and linear projections, through which contributions can be carried back to "
            "the features"
        )
    return matrix, offset


def _explain_trees(classifier, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    """Carry values (n, n_emotions, n_inputs) of projected inputs back to the features.

    A feature's share in input j, against background row b, is c_ij(b) / s_j(b), where
    c_ij(b) = matrix_ji (x_i − b_i) and s_j(b) is the sum of them over i. The average over background rows
    weighs each by s_j(b)², so that rows which the clip (nearly) equals in j, where the share is undefined, do
    not count. It has a closed form, whose denominator is at least the variance of input j::

        share_ij = matrix_ji (d_i s_j + cov(i, j)) / (s_j² + var(j))

    with d the clip's distance from the background's mean, and s = matrix d. The shares in an input add up to
    1; an input made of one feature alone is that feature's altogether.
    """
    used = values.any(axis=(0, 1))  # few of many inputs, as a rule, for a clip or two
    values, matrix = values[:, :, used], matrix[used]
    reached = matrix.any(axis=0)
    found = np.zeros((*values.shape[:2], len(reached)))
    matrix, features, background = matrix[:, reached], features[:, reached], background[:, reached]

    spread = _spread(background)
    centre = background.mean(axis=0, dtype=np.float64)
    matrix = matrix * spread
    away = (features - centre) / spread
    others = (background - centre) / spread
    sums = away @ matrix.T
    joint = matrix * ((others @ matrix.T).T @ others) / len(others)
    # An input that is constant over the background is shared as if the features varied independently.
    alone = matrix**2
    constant = joint.sum(axis=1) <= 1e-12 * alone.sum(axis=1)
    joint[constant] = alone[constant]
    variance = joint.sum(axis=1)
    scaled = values / (sums**2 + variance)[:, None]
    found[:, :, reached] = (scaled * sums[:, None]) @ matrix * away[:, None] + scaled @ joint
    return found


def _spread(background: np.ndarray) -> np.ndarray:
    """Standard deviation of each feature, 1 for a constant one."""
    spread = background.std(axis=0, dtype=np.float64)
    return np.where(spread > 0, spread, 1.0)


def _through_softmax(model: Classifier, found: Explanation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A member's values, base values and outputs as calibrated probabilities of all eight emotions."""
    columns = [EMOTIONS.index(emotion) for emotion in found.emotions]
    is_probability = found.scale == PROBABILITY
    # softmax of (−m/2, m/2) is the logistic function of m, see Classifier.logits
    steepness = (0.5 if len(columns) == 2 and not is_probability else 1.0) / model.temperature

    def logits(margins: np.ndarray) -> np.ndarray:
        return steepness * (np.log(np.maximum(margins, LEAST_PROBABILITY)) if is_probability else margins)

    # A logit depends on its own margin alone: the secant carries it over (the rescale rule of Chen et al.). The path
    # through the softmax is straight in the logits, where the Jacobian is smooth however near 0 a margin comes.
    start, end = logits(found.base_values), logits(found.outputs)
    distance = found.outputs - found.base_values
    secant = np.divide(end - start, distance, out=np.zeros_like(distance), where=distance != 0)
    nodes, weights = np.polynomial.legendre.leggauss(PATH_NODES)
    jacobian = np.zeros((len(found.outputs), len(columns), len(columns)))
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        p = softmax(start + node * (end - start), axis=-1)
        jacobian += weight * p[:, :, None] * (np.eye(len(columns)) - p[:, None, :])
    jacobian *= secant[:, None, :]

    base, outputs = np.zeros(len(EMOTIONS)), np.zeros((len(found.outputs), len(EMOTIONS)))
    base[columns] = softmax(start)
    outputs[:, columns] = softmax(end, axis=1)
    values = np.zeros((len(outputs), len(EMOTIONS), found.values.shape[2]))
    values[:, columns] = _complete(jacobian @ found.values, outputs[:, columns] - base[columns])
    return values, base, outputs


def _complete(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Spread what rounding left over, so that values (n, k, n_features) add up to targets (n, k)."""
    missing = targets - values.sum(axis=2)
    worst = np.abs(missing).max(initial=0.0)
    if worst > ROUNDING * (1 + np.abs(targets).max(initial=0.0)):
        raise DataError(f"the contributions miss the model's output by {worst:.3g}; expected rounding errors only")
    size = np.abs(values)
    total = size.sum(axis=2, keepdims=True)
    even = np.full_like(size, 1 / size.shape[2])
    return values + missing[:, :, None] * np.divide(size, total, out=even, where=total > 0)


def top_contributions(
    explanation: Explanation, row: int, emotion: str, k: int, *, feature_names: tuple[str, ...]
) -> dict[str, list[dict]]:
    """What pushed one clip's output for one emotion ``towards`` it and ``against`` it, strongest first.

    At most ``k`` of each, as ``{"feature", "description", "value", "contribution"}``: the feature's value for
    the clip, and what it added in the explanation's scale.
    """
    values = explanation.values[row, explanation.emotions.index(emotion)]
    found = {}
    for name, sign in (("towards", 1.0), ("against", -1.0)):
        order = np.argsort(-sign * values, kind="stable")[:k]
        found[name] = [
            {
                "feature": feature_names[i],
                "description": acoustic.describe(feature_names[i]),
                "value": float(explanation.features[row, i]),
                "contribution": float(values[i]),
            }
            for i in order
            if sign * values[i] > 0
        ]
    return found


def importance(explanation: Explanation, *, feature_names: tuple[str, ...]) -> pd.DataFrame:
    """Mean absolute contribution of each feature over the clips, most important first.

    Columns: ``feature``, ``description``, ``mean_abs`` (over emotions too), ``share`` of their sum, and one
    column per emotion.
    """
    by_emotion = np.abs(explanation.values).mean(axis=0)
    mean_abs = by_emotion.mean(axis=0)
    total = mean_abs.sum()
    frame = pd.DataFrame(
        {
            "feature": list(feature_names),
            "description": [acoustic.describe(name) for name in feature_names],
            "mean_abs": mean_abs,
            "share": mean_abs / total if total else mean_abs,
            **{emotion: by_emotion[explanation.emotions.index(emotion)] for emotion in ordered_emotions(explanation)},
        }
    )
    return frame.sort_values("mean_abs", ascending=False, kind="stable", ignore_index=True)


def ordered_emotions(explanation: Explanation) -> list[str]:
    """Its emotions in the order of every table and plot."""
    return sorted(explanation.emotions, key=EMOTIONS.index)
