"""include/hyperparameters.yaml: every family is there, and scikit-learn takes every setting."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from emotion.models.pipelines import CLASSIFIERS
from emotion.settings import INCLUDE
from emotion.vocabulary import FAMILIES

TABLE = yaml.safe_load((INCLUDE / "hyperparameters.yaml").read_text(encoding="utf-8"))


def test_it_has_the_families_that_are_trained():
    assert set(TABLE) == set(FAMILIES) == set(CLASSIFIERS)
    for family in FAMILIES:
        assert set(TABLE[family]) == {"cross_fitted", "shipped", "searched"}
        assert isinstance(TABLE[family]["cross_fitted"], bool)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shipped_settings_are_among_those_searched(family):
    shipped, searched = TABLE[family]["shipped"], TABLE[family]["searched"]
    for name, values in searched.items():
        assert len(values) == len(set(values)) >= 2, name
        assert shipped[name] in values, name


@pytest.mark.parametrize("family", FAMILIES)
def test_scikit_learn_takes_every_setting(family):
    """It refuses an unknown name when a classifier is made, and a wrong value when one is fitted."""
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(40, 8)), np.tile([0, 1, 2, 3], 10)
    shipped = TABLE[family]["shipped"]
    few_trees = {"n_estimators": 2} if "n_estimators" in shipped else {}
    searched = [few_trees | {name: value} for name, values in TABLE[family]["searched"].items() for value in values]
    for setting in [{}, *searched]:
        classifier = CLASSIFIERS[family](**shipped | setting).fit(rows, labels)
        assert classifier.predict_proba(rows).shape == (40, 4), setting
