"""Answers are left to a listener by confidence, or by the accuracy that the other answers should have."""

import numpy as np
import pytest

from emotion.errors import ConfigurationError
from emotion.evaluation.coverage import ALL, coverage_curve, limit_for
from emotion.scoring.limits import listener_limits
from emotion.scoring.options import Options


@pytest.fixture(scope="module")
def curve():
    """Of 400 answers whose confidence is the probability that they are right."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 400)
    return coverage_curve(confidence, rng.random(400) < confidence)


def test_the_curve_begins_with_few_certain_answers_and_ends_with_all(curve):
    coverage = [point["coverage"] for point in curve]
    assert coverage == sorted(coverage) and coverage[0] == 0.05 and coverage[-1] == 1
    assert curve[0]["accuracy"] > 0.9 > 0.7 > curve[-1]["accuracy"]


def test_the_limit_keeps_as_many_answers_as_the_accuracy_allows(curve):
    limits = [limit_for(curve, accuracy) for accuracy in (0.3, 0.7, 0.8, 0.9)]
    assert limits == sorted(limits) and limits[0] == 0
    assert limit_for(curve, 1.0) in (ALL, curve[0]["confidence"], curve[1]["confidence"])
    assert limit_for([], 0.5) == ALL


def test_a_version_without_a_curve_is_refused():
    with pytest.raises(ConfigurationError, match="does not say how accurate its answers are by confidence"):
        listener_limits(Options(least_accuracy=0.8), {"name": "old", "coverage": None})
    with pytest.raises(ConfigurationError, match="a least accuracy of 80; expected 0 to 1"):
        Options(least_accuracy=80)
