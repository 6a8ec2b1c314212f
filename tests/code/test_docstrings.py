"""The examples in docstrings do what they say."""

import doctest
import importlib
import pkgutil

import pytest

import emotion
import emotion_airflow

MODULES = [
    module.name
    for package in (emotion, emotion_airflow)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if "__main__" not in module.name
]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    assert not doctest.testmod(importlib.import_module(module)).failed
