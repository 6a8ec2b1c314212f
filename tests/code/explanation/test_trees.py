"""The loop over leaves gives the values of shap's TreeExplainer, and those of the definition."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import shap
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeRegressor

from emotion.explanation.trees import Trees

RNG = np.random.default_rng(4)
ROWS = RNG.normal(size=(300, 7)).astype(np.float32)
ROWS[:, 6] = np.round(ROWS[:, 6])  # many equal values
LABELS = (ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2] > 0).astype(int) + (ROWS[:, 6] > 0)


def test_a_deep_forest_gets_the_values_of_shap():
    forest = RandomForestClassifier(15, random_state=0, max_features=3).fit(ROWS, LABELS)
    trees = Trees.of([tree.tree_ for tree in forest.estimators_], columns=[0] * 15, outputs=3, factor=1 / 15)
    assert trees.depth > 10
    explainer = shap.TreeExplainer(forest, feature_perturbation="tree_path_dependent")
    expected = explainer.shap_values(ROWS[:40], check_additivity=False).transpose(0, 2, 1)
    np.testing.assert_allclose(trees.shap_values(ROWS[:40]), expected, atol=1e-12)
    np.testing.assert_allclose(trees.base(), explainer.expected_value, atol=1e-12)
    added = trees.shap_values(ROWS).sum(axis=2) + trees.base()
    np.testing.assert_allclose(added, forest.predict_proba(ROWS), atol=1e-12)


def test_boosting_of_three_classes_adds_up_in_each():
    boosted = GradientBoostingClassifier(n_estimators=12, random_state=0).fit(ROWS, LABELS)
    estimators = boosted.estimators_
    columns = np.tile(np.arange(3), len(estimators))
    trees = Trees.of([each.tree_ for each in estimators.ravel()], columns=columns, outputs=3, factor=0.1)
    values = trees.shap_values(ROWS[:30])
    for column in range(3):
        alone = shap.TreeExplainer(
            {"trees": [each.tree_ for each in estimators[:, column]], "input_dtype": np.float32},
            feature_perturbation="tree_path_dependent",
        )
        np.testing.assert_allclose(values[:, column], 0.1 * alone.shap_values(ROWS[:30]), atol=1e-12)
    changes = values.sum(axis=2) - values[0].sum(axis=1)
    expected = boosted.decision_function(ROWS[:30]) - boosted.decision_function(ROWS[:1])
    np.testing.assert_allclose(changes, expected, atol=1e-9)


def test_the_values_are_those_of_the_definition():
    """Shapley's formula over all sets of features, with the value function of a path-dependent tree."""
    tree = DecisionTreeRegressor(max_depth=6, random_state=0).fit(ROWS, ROWS[:, 0] * ROWS[:, 6] + ROWS[:, 3]).tree_
    row, count = ROWS[5], ROWS.shape[1]

    def value(known: frozenset[int], node: int = 0) -> float:
        left, right, feature = tree.children_left[node], tree.children_right[node], tree.feature[node]
        if left < 0:
            return tree.value[node].item()
        if feature in known:
            return value(known, left if row[feature] <= tree.threshold[node] else right)
        share = tree.weighted_n_node_samples[left] / tree.weighted_n_node_samples[node]
        return share * value(known, left) + (1 - share) * value(known, right)

    expected = np.zeros(count)
    for feature in range(count):
        others = [other for other in range(count) if other != feature]
        for size in range(count):
            weight = factorial(size) * factorial(count - size - 1) / factorial(count)
            for chosen in map(frozenset, combinations(others, size)):
                expected[feature] += weight * (value(chosen | {feature}) - value(chosen))
    trees = Trees.of([tree], columns=[0], outputs=1)
    np.testing.assert_allclose(trees.shap_values(row[None])[0, 0], expected, atol=1e-12)
    assert trees.base()[0] == pytest.approx(value(frozenset()))


def test_a_tree_without_a_split_contributes_nothing():
    tree = DecisionTreeRegressor().fit(ROWS, np.full(len(ROWS), 3.0)).tree_
    trees = Trees.of([tree, tree], columns=[0, 1], outputs=2)
    assert trees.base().tolist() == [3.0, 3.0] and not trees.shap_values(ROWS[:2]).any()
