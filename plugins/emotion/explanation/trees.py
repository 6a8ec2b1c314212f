"""Exact path-dependent SHAP values of decision trees, by a loop over the leaves that is compiled when first called.

The value of feature i in a leaf is a sum over all sets of the other features on the leaf's path (Lundberg et al. 2020,
"From local explanations to global understanding with explainable AI for trees"). The Shapley weight of a set of s among
m features is the integral of t^s (1 − t)^(m − 1 − s) over 0 … 1, so the sum is the integral of a product::

    value · (o_i − r_i) · ∫ Π_j≠i (t o_j + (1 − t) r_j) dt

with o_j = 1 if the clip fulfils the conditions on feature j, else 0, and r_j the share of the training rows that do.
The product is a polynomial in t of degree m − 1. A Gauss-Legendre quadrature of m/2 nodes integrates it without error,
with positive terms alone. It takes a fraction of the time of the recursion over the sizes of sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from sklearn.tree._tree import Tree

MAX_NODES = 64
"""Nodes of the largest quadrature: enough for 128 different features on one path."""
_compiled = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "nsz", "arcp", "contract"})


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees of which the output is the sum, as arrays over all of their nodes.

    Attributes
    ----------
    roots : int array, shape (n_trees,)
        Where each tree begins.
    columns : int array, shape (n_trees,)
        The first output column that each tree adds to.
    left, right, feature : int array, shape (n_nodes,)
        Children (-1: a leaf) and the input that is compared with the threshold.
    threshold, cover : float64 array, shape (n_nodes,)
        Inputs up to the threshold go left; the weight of the training rows that reached the node.
    value : float64 array, shape (n_nodes, width)
        What a leaf adds to ``width`` columns.
    depth, outputs : int
        The largest depth of a tree, and the number of columns.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> tree = DecisionTreeRegressor().fit([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [3.0, 5.0]], [0.0, 0.0, 4.0, 4.0])
    >>> trees = Trees.of([tree.tree_], columns=[0], outputs=1)
    >>> trees.base().tolist(), trees.shap_values(np.float32([[3, 5]])).tolist()
    ([2.0], [[[2.0, 0.0]]])
    """

    roots: np.ndarray
    columns: np.ndarray
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    cover: np.ndarray
    value: np.ndarray
    depth: int
    outputs: int

    @classmethod
    def of(
        cls, trees: Sequence[Tree], *, columns: Sequence[int] | np.ndarray, outputs: int, factor: float = 1.0
    ) -> Trees:
        """From trees of scikit-learn or :mod:`emotion.models.fitted`; their output is multiplied by ``factor``."""
        sizes = [tree.node_count for tree in trees]
        roots = np.cumsum([0, *sizes[:-1]])

        def children(name: str) -> np.ndarray:
            return np.concatenate(
                [
                    np.where(getattr(tree, name) < 0, -1, getattr(tree, name) + root)
                    for tree, root in zip(trees, roots, strict=True)
                ]
            )

        return cls(
            roots=roots,
            columns=np.array(columns),
            left=children("children_left"),
            right=children("children_right"),
            feature=np.concatenate([tree.feature for tree in trees]),
            threshold=np.concatenate([tree.threshold for tree in trees]),
            cover=np.concatenate([tree.weighted_n_node_samples for tree in trees]),
            value=factor * np.concatenate([tree.value.reshape(tree.node_count, -1) for tree in trees]),
            depth=max(tree.max_depth for tree in trees),
            outputs=outputs,
        )

    def base(self) -> np.ndarray:
        """The output without any contribution, shape (outputs,): the mean of the leaves, weighted by their cover."""
        sizes = np.diff([*self.roots, len(self.left)])
        tree = np.repeat(np.arange(len(self.roots)), sizes)
        is_leaf = self.left < 0
        share = self.cover[is_leaf] / self.cover[self.roots][tree[is_leaf]]
        base = np.zeros(self.outputs)
        for column in range(self.value.shape[1]):
            np.add.at(base, self.columns[tree[is_leaf]] + column, share * self.value[is_leaf, column])
        return base

    def shap_values(self, inputs: np.ndarray) -> np.ndarray:
        """Contributions, shape (n, outputs, n_inputs), of inputs, float32 (n, n_inputs)."""
        inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        values = np.zeros((len(inputs), inputs.shape[1], self.outputs))
        for row, contributions in zip(inputs, values, strict=True):
            _add_row(
                row, contributions, self.roots, self.columns, self.left, self.right, self.feature, self.threshold,
                self.cover, self.value, self.depth, *_quadratures(min(self.depth, inputs.shape[1])),
            )  # fmt: skip
        return values.transpose(0, 2, 1)


_tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def _quadratures(features: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on 0 … 1: row m integrates the product over a path with m different features exactly."""
    if features not in _tables:
        nodes, weights = np.zeros((2, features + 1, MAX_NODES))
        for count in range(1, features + 1):
            size = (count + 1) // 2
            points, point_weights = np.polynomial.legendre.leggauss(size)
            nodes[count, :size], weights[count, :size] = (points + 1) / 2, point_weights / 2
        _tables[features] = nodes, weights
    return _tables[features]


@_compiled
def _add_row(
    row: np.ndarray,
    out: np.ndarray,
    roots: np.ndarray,
    columns: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    cover: np.ndarray,
    value: np.ndarray,
    depth: int,
    nodes: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Add the contributions of each leaf of each tree for one row of inputs to ``out`` (n_inputs, outputs).

    A path is kept per depth: the different features on it, the share of training rows that fulfil all conditions on
    each, and whether this row does.
    """
    names = np.zeros((depth + 2, depth + 1), dtype=np.int64)
    shares = np.ones((depth + 2, depth + 1))
    fulfilled = np.zeros((depth + 2, depth + 1), dtype=np.bool_)
    counts = np.zeros(depth + 2, dtype=np.int64)
    waiting, levels = np.zeros(2 * depth + 2, dtype=np.int64), np.zeros(2 * depth + 2, dtype=np.int64)
    parents = np.zeros(2 * depth + 2, dtype=np.int64)
    product, factors = np.empty(nodes.shape[1]), np.empty((depth + 1, nodes.shape[1]))
    for tree in range(len(roots)):
        waiting[0], levels[0], parents[0], size = roots[tree], 0, -1, 1
        while size:
            size -= 1
            node, level, parent = waiting[size], levels[size], parents[size]
            if parent >= 0:
                goes_left = row[feature[parent]] <= threshold[parent]
                _extend(
                    names, shares, fulfilled, counts, level, feature[parent],
                    cover[node] / cover[parent], goes_left == (node == left[parent]),
                )  # fmt: skip
            if left[node] < 0:
                _add_leaf(
                    out, columns[tree], value[node], names[level], shares[level], fulfilled[level], counts[level],
                    nodes, weights, product, factors,
                )  # fmt: skip
                continue
            for child in (left[node], right[node]):
                waiting[size], levels[size], parents[size] = child, level + 1, node
                size += 1


@_compiled
def _extend(
    names: np.ndarray,
    shares: np.ndarray,
    fulfilled: np.ndarray,
    counts: np.ndarray,
    level: int,
    name: int,
    share: float,
    is_fulfilled: bool,
) -> None:
    """The path at ``level``: that of the level above, with one more condition."""
    count = counts[level - 1]
    place = count
    for i in range(count):
        names[level, i], shares[level, i] = names[level - 1, i], shares[level - 1, i]
        fulfilled[level, i] = fulfilled[level - 1, i]
        if names[level, i] == name:
            place = i
    if place == count:
        count += 1
        names[level, place], shares[level, place], fulfilled[level, place] = name, 1.0, True
    shares[level, place] *= share
    fulfilled[level, place] = fulfilled[level, place] and is_fulfilled
    counts[level] = count


@_compiled
def _add_leaf(
    out: np.ndarray,
    column: int,
    value: np.ndarray,
    names: np.ndarray,
    shares: np.ndarray,
    fulfilled: np.ndarray,
    count: int,
    nodes: np.ndarray,
    weights: np.ndarray,
    product: np.ndarray,
    factors: np.ndarray,
) -> None:
    """Add what the features on one leaf's path contribute."""
    if count == 0:
        return
    size, missing, missed = (count + 1) // 2, 0, 1.0
    for k in range(size):
        product[k] = weights[count, k]
    for i in range(count):
        if fulfilled[i]:
            for k in range(size):
                factors[i, k] = nodes[count, k] + (1 - nodes[count, k]) * shares[i]
                product[k] *= factors[i, k]
        else:
            missing += 1
            missed *= shares[i]
    against = 0.0  # the features whose conditions are not fulfilled all contribute the same
    if missing:
        for k in range(size):
            for _ in range(missing - 1):
                product[k] *= 1 - nodes[count, k]
            against += product[k]
            product[k] *= 1 - nodes[count, k]
    for i in range(count):
        contribution = -missed * against
        if fulfilled[i]:
            total = 0.0
            for k in range(size):
                total += product[k] / factors[i, k]
            contribution = missed * (1 - shares[i]) * total
        for output in range(len(value)):
            out[names[i], column + output] += contribution * value[output]
