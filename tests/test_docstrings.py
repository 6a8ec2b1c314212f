"""The examples in docstrings do what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["cli", "features", "metrics", "store"])
def test_examples(module):
    result = doctest.testmod(importlib.import_module(f"emotion.{module}"))
    assert result.attempted and not result.failed
