"""Groups add up to what their features contribute, and their words come from the values, not from the contributions."""

from __future__ import annotations

import numpy as np
import pytest

from emotion import features
from emotion.explanation.grouping import emotion_shares, group_contributions, group_importance, sentence
from emotion.explanation.values import PROBABILITY, Explanation
from emotion.explanation.words import describe_gauges, gauge_values, group_words
from emotion.features.groups import GROUPS, OWN, groups_of

NAMES = features.feature_names()
RNG = np.random.default_rng(2)
VALUES = RNG.normal(scale=0.01, size=(6, 3, len(NAMES)))
BASE = np.array([0.2, 0.3, 0.5])
EXPLANATION = Explanation(
    emotions=("angry", "bored", "sad"),
    features=RNG.normal(size=(6, len(NAMES))).astype(np.float32),
    values=VALUES,
    base_values=BASE,
    outputs=VALUES.sum(axis=2) + BASE,
    scale=PROBABILITY,
)


def contributions(row: int = 0, emotion: str = "bored", **distances: float) -> list[dict]:
    usual = np.array([distances.get(name, 0.0) for name in NAMES])
    return group_contributions(EXPLANATION, row, emotion, feature_names=NAMES, distances=usual, k=4)


@pytest.mark.parametrize("row", range(6))
def test_groups_and_subgroups_add_up(row):
    parts = contributions(row)
    total = sum(part["contribution"] for part in parts) + BASE[1]
    assert total == pytest.approx(EXPLANATION.outputs[row, 1], abs=1e-12)
    for part in parts:
        assert sum(each["contribution"] for each in part["subgroups"]) == pytest.approx(part["contribution"], abs=1e-12)
        sizes = [abs(each["contribution"]) for each in part["features"]]
        assert len(sizes) == 4 and sizes == sorted(sizes, reverse=True)
        columns = np.concatenate(list(groups_of(NAMES)[part["group"]].values()))
        assert sizes[0] == np.abs(VALUES[row, 1, columns]).max()
    sizes = [abs(part["contribution"]) for part in parts]
    assert sizes == sorted(sizes, reverse=True) and {part["group"] for part in parts} == {g.name for g in GROUPS}


def test_words_follow_the_values_whatever_the_contribution():
    height = dict.fromkeys(("f0_semitone_voiced_mean", "f0_semitone_voiced_p50"), 1.0)
    words = {}
    for row in range(6):
        for emotion in EXPLANATION.emotions:
            (pitch,) = [part for part in contributions(row, emotion, **height) if part["group"] == "pitch"]
            words[np.sign(pitch["contribution"])] = pitch["words"]
    assert words == {1.0: "higher pitch", -1.0: "higher pitch"}


@pytest.mark.parametrize(
    ("group", "values", "expected"),
    [
        ("pitch", {"height": 0.49}, ""),
        ("pitch", {"height": -0.5}, "lower pitch"),
        ("pitch", {"height": 2.0, "range": -2.5, "movement": 0.6}, "much higher, much narrower and livelier pitch"),
        ("tempo", {"rate": 1.0, "pauses": -1.0}, "faster speech and shorter pauses"),
        ("effort", {"vocal effort": 3.0, "dynamics": 0.0}, "much stronger voice"),
        ("voice quality", {"breathiness": 0.7, "roughness": 0.7}, "breathier and rougher voice"),
        (OWN, {"mine": 9.0}, ""),
    ],
)
def test_gauges_in_words(group, values, expected):
    assert describe_gauges(group, values) == expected


def test_a_feature_that_is_far_off_counts_no_more_than_ten_deviations():
    distances = np.array([1e9 if name == "shimmer_db" else -1.0 for name in NAMES])
    assert gauge_values(distances, NAMES)["voice quality"]["roughness"] == pytest.approx((10 - 1) / 2)


def test_a_group_without_a_word():
    names = ("crossings_count", "jitter")
    assert group_words(np.array([0.3, 0.0]), names) == {
        "voice quality": "usual voice quality",
        OWN: "usual own features",
    }
    assert group_words(np.array([9.0, 0.0]), names)[OWN] == "unusual own features"


def test_a_group_that_counts_is_not_called_usual():
    part = max(contributions(), key=lambda part: abs(part["contribution"]))
    assert abs(part["contribution"]) > 0.05 and part["words"] == f"{part['group']} in its details"


@pytest.mark.parametrize(
    ("mode", "than"),
    [("plain", "than usual"), ("batch", "than usual in this batch"), ("speaker", "than this speaker's usual")],
)
def test_a_sentence_says_once_what_it_compares_with(mode, than):
    parts = [
        {"words": "timbre in its details", "contribution": 0.3},
        {"words": "stronger voice", "contribution": 0.2},
        {"words": "slower speech", "contribution": -0.1},
        {"words": "usual pitch", "contribution": 0.001},
    ]
    assert sentence("angry", 0.9, parts, mode) == (
        f"angry, 0.90: timbre in its details (+0.30), stronger voice {than} (+0.20); against: slower speech (−0.10)"
    )


def test_a_sentence_where_nothing_speaks_for_the_answer():
    parts = [{"words": "higher pitch", "contribution": -0.2}]
    assert sentence("sad", 0.3, parts, "plain") == (
        "sad, 0.30: nothing speaks for it in particular; against: higher pitch than usual (−0.20)"
    )


def test_importance_of_groups_is_that_of_their_sums():
    table = group_importance(EXPLANATION, feature_names=NAMES)
    whole = table[table["subgroup"] == ""]
    assert whole["share"].sum() == pytest.approx(1) and whole["mean_abs"].is_monotonic_decreasing
    assert whole["features"].sum() == table[table["subgroup"] != ""]["features"].sum() == len(NAMES)
    columns = np.concatenate(list(groups_of(NAMES)["tempo"].values()))
    expected = np.abs(VALUES[:, :, columns].sum(axis=2)).mean(axis=0)
    tempo = whole.set_index("group").loc["tempo"]
    assert tempo[["angry", "bored", "sad"]].astype(float).tolist() == pytest.approx(expected)
    shares = emotion_shares(table)
    assert shares.sum().tolist() == pytest.approx([1, 1, 1])
    assert list(shares.columns) == ["sad", "angry", "bored"]


def test_importance_of_a_model_that_learned_nothing():
    nothing = Explanation(
        ("angry", "sad"), np.zeros((2, 2)), np.zeros((2, 2, 2)), BASE[:2], np.zeros((2, 2)), "log-odds"
    )
    table = group_importance(nothing, feature_names=("jitter", "crossings_count"))
    assert not table["share"].any() and not emotion_shares(table).to_numpy().any()
