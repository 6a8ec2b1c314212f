"""The fitted steps of a bundle as arrays, which answer as scikit-learn's do, bit for bit, without importing it.

Importing scikit-learn takes longer than an answer does. A bundle is read with the classes below in place of its own;
what answers do not need, such as random states, is left out. Training, rescoring and export use scikit-learn's objects.
"""

from __future__ import annotations

import io
import zlib
from functools import cached_property
from typing import Any

import numba
import numpy as np
from joblib.numpy_pickle import NumpyUnpickler
from scipy.special import logit


class Fitted:
    """Something that was fitted: it has the attributes that were pickled."""

    def __init__(self, *arguments: object):
        pass

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class LeftOut(Fitted):
    """What answers do not need."""

    def __setstate__(self, state: object) -> None:
        pass


class Pipeline(Fitted):
    """Steps, of which the last is a classifier."""

    steps: list[tuple[str, Any]]

    def __getitem__(self, which: int | slice) -> Any:
        if isinstance(which, int):
            return self.steps[which][1]
        part = Pipeline()
        part.steps = self.steps[which]
        return part

    def transform(self, rows: np.ndarray) -> np.ndarray:
        for _, step in self.steps:
            rows = step.transform(rows)
        return rows


class StandardScaler(Fitted):
    mean_: np.ndarray
    scale_: np.ndarray

    def transform(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.copy()
        rows -= self.mean_.astype(rows.dtype)
        rows /= self.scale_.astype(rows.dtype)
        return rows


class RidgeScores(Fitted):
    coef_: np.ndarray
    intercept_: np.ndarray

    def transform(self, rows: np.ndarray) -> np.ndarray:
        return rows.astype(np.float32, copy=False) @ self.coef_ + self.intercept_


class LogisticRegression(Fitted):
    coef_: np.ndarray
    intercept_: np.ndarray

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        scores = rows @ self.coef_.T + self.intercept_
        return scores.ravel() if scores.shape[1] == 1 else scores


class RandomForestClassifier(Fitted):
    estimators_: list[Any]

    def mean_values(self, rows: np.ndarray) -> np.ndarray:
        """The mean over the trees of the values of each row's leaf, float64 (n, n_values); rows are float32."""
        total = np.zeros((len(rows), self._nodes[-1].shape[1]))
        _add_leaves(rows, total, *self._nodes)
        return total / len(self.estimators_)

    @cached_property
    def _nodes(self) -> list[np.ndarray]:
        """The first node of each tree; of all nodes, the columns and the values."""
        return _joined_nodes([tree.tree_ for tree in self.estimators_])


class Tree(Fitted):
    """One value of an attribute for each node. Children are -1 at a leaf; inputs up to the threshold go left."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        nodes = state["nodes"]
        self.node_count: int = len(nodes)
        self.max_depth: int = state["max_depth"]
        self.children_left, self.children_right = nodes["left_child"], nodes["right_child"]
        self.feature, self.threshold = nodes["feature"], nodes["threshold"]
        self.weighted_n_node_samples = nodes["weighted_n_node_samples"]
        self.value: np.ndarray = state["values"]

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The value of each row's leaf, float64 (n, n_values); rows are float32."""
        values = np.zeros((len(rows), self.value.shape[2]))
        _add_leaves(rows, values, *_joined_nodes([self]))
        return values


class GradientBoostingClassifier(Fitted):
    init_: Fitted
    estimators_: np.ndarray
    learning_rate: float

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        margins = np.tile(self._start, (len(rows), 1))
        _add_trees(rows, margins, self.learning_rate, *self._nodes)
        return margins.ravel() if margins.shape[1] == 1 else margins

    @cached_property
    def _nodes(self) -> list[np.ndarray]:
        """The first node of each tree, stage by stage; of all nodes, the columns and the value."""
        *nodes, values = _joined_nodes([tree.tree_ for tree in self.estimators_.ravel()])
        return [*nodes, np.ascontiguousarray(values[:, 0])]

    @cached_property
    def _start(self) -> np.ndarray:
        """The margins before the first tree: those of the classes' shares in training."""
        least = np.finfo(np.float64).eps
        shares = np.clip(self.init_.class_prior_, least, 1 - least)  # type: ignore[attr-defined]
        if self.estimators_.shape[1] == 1:
            return logit(shares[1:])
        return np.log(shares / np.exp(np.mean(np.log(shares))))


def _joined_nodes(trees: list[Tree]) -> list[np.ndarray]:
    """The first node of each tree; of all nodes, what :func:`_leaf` takes and the values, (n_nodes, n_values)."""
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    names = ("children_left", "children_right", "feature", "threshold")
    columns = [np.concatenate([getattr(tree, name) for tree in trees]) for name in names]
    return [roots, *columns, np.concatenate([tree.value[:, 0] for tree in trees])]


_compiled = numba.njit(cache=True)


@_compiled
def _leaf(
    row: np.ndarray, left: np.ndarray, right: np.ndarray, feature: np.ndarray, threshold: np.ndarray, root: int
) -> int:
    """The leaf that a row, float32 (n_inputs,), falls into, counted from the root of its tree."""
    node = 0
    while left[root + node] >= 0:
        here = root + node
        node = left[here] if row[feature[here]] <= threshold[here] else right[here]
    return node


@_compiled
def _add_leaves(
    rows: np.ndarray,
    total: np.ndarray,
    roots: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    values: np.ndarray,
) -> None:
    """Add the values of all trees to the total, float64 (n, n_values), tree by tree."""
    for root in roots:
        for number in range(len(rows)):
            total[number] += values[root + _leaf(rows[number], left, right, feature, threshold, root)]


@_compiled
def _add_trees(
    rows: np.ndarray,
    margins: np.ndarray,
    rate: float,
    roots: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    value: np.ndarray,
) -> None:
    """Add the values of all trees to the margins, float64 (n, n_margins), tree by tree; a stage has one per margin."""
    for number in range(len(rows)):
        for tree in range(len(roots)):
            root = roots[tree]
            leaf = root + _leaf(rows[number], left, right, feature, threshold, root)
            margins[number, tree % margins.shape[1]] += rate * value[leaf]


_CLASSES: dict[str, type[Fitted]] = {
    "Pipeline": Pipeline,
    "StandardScaler": StandardScaler,
    "RidgeScores": RidgeScores,
    "LogisticRegression": LogisticRegression,
    "RandomForestClassifier": RandomForestClassifier,
    "GradientBoostingClassifier": GradientBoostingClassifier,
    "Tree": Tree,
    # of these, only the attributes are needed
    "DecisionTreeClassifier": Fitted,
    "DecisionTreeRegressor": Fitted,
    "DummyClassifier": Fitted,
    "LabelEncoder": Fitted,
}


class _Reader(NumpyUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "emotion.models.projection" or module.startswith("sklearn."):
            return _CLASSES.get(name, LeftOut)
        if module.startswith("numpy.random."):
            return LeftOut
        if (module, name) == ("dill._dill", "_create_namedtuple"):  # how dill, if it is imported, pickles a namedtuple
            return lambda name, fields, module, *more: self.find_class(module, name)
        return super().find_class(module, name)


def read(data: bytes) -> Any:
    """A bundle that answers, from :func:`emotion.models.bundle.dumps`.

    Only for data that :func:`emotion.models.bundle.verify` has accepted: a pickle can run any code.
    """
    is_compressed = data.startswith(b"x")  # data of zlib begins so, and a pickle does not
    return _Reader("", io.BytesIO(zlib.decompress(data) if is_compressed else data), False).load()
