import numpy as np
import pytest

from emotion.review.agreement import krippendorff_alpha

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: nominal data, any number of observers,
# missing values ("."). Rows are the observers A to D, columns the units 1 to 12. The text gives alpha = 0.743.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def units_of(rows):
    return [[value for value in unit if value != "."] for unit in zip(*(row.split() for row in rows), strict=True)]


def test_published_example_with_missing_values():
    assert krippendorff_alpha(units_of(OBSERVERS)) == pytest.approx(0.743, abs=5e-4)


def test_published_example_of_two_observers():
    # The same text, section A: binary data of two observers, alpha = 0.095.
    first, second = "0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"
    assert krippendorff_alpha(units_of([first, second])) == pytest.approx(0.095, abs=5e-4)
    # Section B: nominal data of two observers, alpha = 0.692.
    first, second = "a a b b d c c c e d d a", "b a b b b c c c e d d d"
    assert krippendorff_alpha(units_of([first, second])) == pytest.approx(0.692, abs=5e-4)


@pytest.mark.parametrize("units", [[], [["sad"]], [["sad"], []], [["sad", "sad"], ["sad", "sad"]]])
def test_no_figure_where_nothing_can_disagree(units):
    assert krippendorff_alpha(units) is None


def test_all_agree_chance_and_all_disagree():
    assert krippendorff_alpha([["a", "a"], ["b", "b"]]) == 1
    assert krippendorff_alpha([["a", "b"], ["b", "a"]]) < 0
    random = np.random.default_rng(0)
    assert abs(krippendorff_alpha(random.choice(list("abc"), (5000, 2)).tolist())) < 0.03
