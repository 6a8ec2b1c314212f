"""The examples in docstrings do what they say."""

import doctest
import importlib
import pkgutil

import pytest

import emotion

MODULES = [
    module.name for module in pkgutil.walk_packages(emotion.__path__, "emotion.") if "__main__" not in module.name
]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    assert not doctest.testmod(importlib.import_module(module)).failed
