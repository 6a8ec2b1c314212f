"""Champion and challenger are scored on the same clips, neither on a speaker it has heard, and compared by rules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emotion import features
from emotion.evaluation.folds import splits
from emotion.models import promotion, registry
from emotion.models.bundle import dumps, make_bundle
from emotion.models.classifier import Ensemble
from emotion.store import Store
from emotion.training import fitting
from emotion.vocabulary import EMOTIONS, FAMILIES

SEED = 3
CHANCE = 0.25
LOGISTIC = FAMILIES[0]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float((np.array(EMOTIONS)[probabilities.argmax(axis=1)] == labels).mean())


def facts(*, recipe: str | None = None, synthesized: bool = False) -> dict:
    return {"recipe": recipe or features.recipe_version(), "dataset": {"name": "noise", "synthesized": synthesized}}


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A champion trained on noise: it recognizes the clips that it was fitted on, and no other."""
    store, random = Store(str(tmp_path_factory.mktemp("home"))), np.random.default_rng(SEED)
    table = pd.DataFrame(
        {"emotion": np.resize(EMOTIONS, 144), "speaker": [f"s{number // 24}" for number in range(144)]}
    )
    table["samples_sha256"] = [f"clip {number}" for number in range(len(table))]
    values = random.normal(size=(len(table), 300)).astype(np.float32)
    folds = splits(table, seed=SEED, published=None)
    folds |= dict.fromkeys(("random", "random_adapted"), folds["random"][:2])
    folds |= {"speaker_independent_adapted": folds["speaker_independent"][:2]}
    trained = fitting.train(LOGISTIC, table, values, folds=folds, seed=SEED)
    files = {}
    for family, plain in ((LOGISTIC, trained.plain), (Ensemble.family, Ensemble([trained.plain] * 3))):
        bundle = make_bundle(plain=plain, adapted=plain, background={}, feature_names=(), metadata={})
        files[registry.bundle_name(family)] = dumps(bundle)
    files |= dict.fromkeys(map(registry.fold_models_name, FAMILIES), dumps(trained.folds))
    registry.register(store, "first", files=files, card="", facts=facts())
    registry.promote_by_hand(store, version="first", family=LOGISTIC, reason="the first")
    return store, table, values, trained


@pytest.fixture
def pointer(noise):
    return registry.champion(noise[0])


def test_the_champion_recognizes_the_clips_it_was_fitted_on(noise):
    """What the tests below would find if a clip were scored by a model that has heard it."""
    _, table, values, trained = noise
    assert accuracy(table["emotion"].to_numpy(), trained.plain.predict_proba(values)) > 0.35


@pytest.mark.parametrize("family", [LOGISTIC, Ensemble.family])
@pytest.mark.parametrize(
    "renamed",
    [
        lambda table: table["speaker"],
        lambda table: "other-" + table["speaker"],
        lambda table: table["speaker"].map(lambda name: f"s{(int(name[1]) + 1) % 6}"),
        lambda table: pd.Series(np.resize(["a", "b"], len(table))),
    ],
    ids=["same names", "new names", "names swapped", "names that mix speakers"],
)
def test_no_clip_is_scored_by_a_model_that_has_heard_it(noise, pointer, family, renamed):
    store, table, values, _ = noise
    again = table.assign(speaker=renamed(table))
    probabilities, counts = promotion.rescore(store, pointer | {"family": family}, again, values)
    assert accuracy(table["emotion"].to_numpy(), probabilities) < CHANCE
    assert counts == {"clips": 144, "held_out_clips": 144, "unheard_clips": 0}
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("name", ["s1", "new name", "s2"], ids=["same name", "new name", "another's name"])
def test_a_new_clip_of_a_heard_speaker_is_scored_by_the_model_that_held_her_out(noise, pointer, name):
    """One known clip identifies its speaker, whatever her name is now."""
    store, table, values, trained = noise
    rows = np.flatnonzero(table["speaker"] == "s1")
    again = table.iloc[rows].assign(speaker=name).reset_index(drop=True)
    again.loc[1:, "samples_sha256"] = [f"new {number}" for number in range(1, len(rows))]
    probabilities, counts = promotion.rescore(store, pointer, again, values[rows])
    model = next(fold["model"] for fold in trained.folds if "s1" in fold["speakers"])
    np.testing.assert_array_equal(probabilities, model.predict_proba(values[rows]))
    assert counts["unheard_clips"] == 0


def test_unheard_speakers_are_scored_by_the_champion_itself(noise, pointer):
    store, table, values, trained = noise
    strangers = table.assign(speaker="x" + table["speaker"], samples_sha256="x" + table["samples_sha256"])
    probabilities, counts = promotion.rescore(store, pointer, strangers, values)
    np.testing.assert_array_equal(probabilities, trained.plain.predict_proba(values))
    assert counts == {"clips": 144, "held_out_clips": 0, "unheard_clips": 144}


def sure(labels: np.ndarray, share: float) -> np.ndarray:
    """Probabilities that are right for the first ``share`` of each emotion's clips, wrong for the others."""
    codes = np.array([EMOTIONS.index(label) for label in labels])
    rank = pd.Series(codes).groupby(codes).cumcount().to_numpy()
    right = rank < share * np.bincount(codes)[codes]
    return np.eye(8)[np.where(right, codes, (codes + 1) % 8)]


def challenge(noise, *, store=None, probabilities=None, margin=0.01, drop=0.1, synthesized=False) -> dict:
    noise_store, table, values, _ = noise
    return promotion.challenge(
        store or noise_store,
        challenger=facts(synthesized=synthesized) | {"version": "second", "family": LOGISTIC},
        challenger_probabilities=sure(table["emotion"].to_numpy(), 0.8) if probabilities is None else probabilities,
        table=table,
        values=values,
        margin=margin,
        max_emotion_drop=drop,
    )


def test_without_a_champion_the_challenger_is_promoted(noise, store):
    result = challenge(noise, store=store)
    assert result["verdict"] == "promote" and result["champion"] is None
    assert result["reasons"] == ["There is no champion yet."]


def test_a_better_challenger_is_promoted_and_the_reason_gives_the_gain(noise):
    result = challenge(noise)
    gain = result["challenger"]["scores"]["f1_macro"] - result["champion"]["scores"]["f1_macro"]
    assert result["verdict"] == "promote" and result["champion"]["held_out_clips"] == 144
    assert f"{gain:+.3f}; at least +0.010" in result["reasons"][0]
    assert [row["emotion"] for row in result["per_emotion"]] == list(EMOTIONS)


def test_the_margin_must_be_reached(noise):
    gain = challenge(noise)["challenger"]["scores"]["f1_macro"] - challenge(noise)["champion"]["scores"]["f1_macro"]
    assert challenge(noise, margin=gain)["verdict"] == "promote"
    assert challenge(noise, margin=gain + 1e-9)["verdict"] == "keep"


def test_an_equal_challenger_does_not_replace_the_champion(noise, pointer):
    store, table, values, _ = noise
    same, _ = promotion.rescore(store, pointer, table, values)
    assert challenge(noise, probabilities=same)["verdict"] == "keep"


def test_no_emotion_may_get_much_worse(noise):
    labels = noise[1]["emotion"].to_numpy()
    worse_for_sad = sure(labels, 0.9)
    worse_for_sad[labels == "sad"] = np.eye(8)[EMOTIONS.index("calm")]
    kept = challenge(noise, probabilities=worse_for_sad, drop=0.0)
    assert kept["verdict"] == "keep" and any("F1 of sad would fall" in reason for reason in kept["reasons"])
    assert challenge(noise, probabilities=worse_for_sad, drop=1.0)["verdict"] == "promote"


def test_synthesized_speech_never_replaces_real_recordings(noise):
    result = challenge(noise, synthesized=True)
    assert result["verdict"] == "keep" and "synthesized speech never replaces" in result["reasons"][0]
    assert result["champion"]["scores"] is None and result["per_emotion"] == []


def test_a_champion_of_another_recipe_is_replaced_and_the_reason_says_so(noise, store):
    files = {registry.bundle_name(LOGISTIC): b"x", registry.fold_models_name(LOGISTIC): b"x"}
    registry.register(store, "old", files=files, card="", facts=facts(recipe="another"))
    registry.promote_by_hand(store, version="old", family=LOGISTIC, reason="once")
    result = challenge(noise, store=store)
    assert result["verdict"] == "promote" and result["champion"]["scores"] is None
    (reason,) = result["reasons"]
    assert reason.startswith(f"This code cannot load the champion old ({LOGISTIC})")
    assert "replaces it without a comparison" in reason and "feature recipe 'another'" in reason
