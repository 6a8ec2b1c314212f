"""The order of emotions and their colours."""

from __future__ import annotations

import re
from itertools import permutations

from emotion.vocabulary import EMOTIONS, emotion_colours, label_set


def test_the_order_of_a_label_set_does_not_depend_on_that_of_the_labels():
    for labels in permutations(("polite", "sad", "bored", "neutral")):
        assert label_set(labels) == ("neutral", "sad", "bored", "polite")
    assert label_set(reversed(EMOTIONS)) == EMOTIONS


def test_colours_of_other_emotions_differ_from_each_other_and_from_the_standard_ones():
    others = [f"emotion {letter}" for letter in "abcdefghijkl"]
    colours = emotion_colours([*EMOTIONS, *others])
    assert len(set(colours.values())) == len(EMOTIONS) + len(others)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours.values())
    assert emotion_colours(reversed([*EMOTIONS, *others])) == colours, "they do not depend on the order"
    assert len(emotion_colours([f"emotion {number}" for number in range(40)])) == 40


def test_a_declared_colour_is_given_to_no_other_emotion():
    chosen = emotion_colours(["bored"])["bored"]
    colours = emotion_colours(["bored", "polite", "sad"], {"polite": chosen, "sad": "#000000", "frustrated": "#ffffff"})
    assert colours["polite"] == chosen and colours["bored"] != chosen
    assert colours["sad"] == emotion_colours(["sad"])["sad"], "the standard emotions have fixed colours"
    assert list(colours) == ["bored", "polite", "sad"]
