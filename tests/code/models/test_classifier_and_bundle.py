"""Margins, probabilities, temperature of fitted models; normalization by speaker; bundles that are intact."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy.special import softmax

from emotion.errors import BundleError
from emotion.models import classifier
from emotion.models.bundle import FORMAT, dumps, make_bundle, unpickle, verify
from emotion.models.classifier import Classifier, Ensemble
from emotion.vocabulary import EMOTIONS, FAMILIES

WIDTH = 12


def clips(emotions: tuple[str, ...], *, each: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose emotions lie apart, and their emotions."""
    random = np.random.default_rng(seed)
    labels = np.tile(emotions, each)
    centres = np.random.default_rng(99).normal(size=(len(EMOTIONS), WIDTH))
    rows = centres[[EMOTIONS.index(label) for label in labels]]
    rows = rows + 0.5 * random.normal(size=rows.shape)
    return rows.astype(np.float32), labels


@pytest.fixture(scope="module", params=FAMILIES)
def fitted(request) -> Classifier:
    return Classifier.fit(request.param, *clips(EMOTIONS), seed=0)


def test_probabilities_are_in_the_order_of_the_emotions(fitted):
    rows, labels = clips(EMOTIONS, seed=1)
    probabilities = fitted.predict_proba(rows)
    assert probabilities.shape == (len(rows), 8)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (np.array(EMOTIONS)[probabilities.argmax(axis=1)] == labels).mean() > 0.8


def test_margins_are_the_estimators_own(fitted):
    rows, _ = clips(EMOTIONS, seed=1)
    own = getattr(fitted.pipeline, "decision_function", fitted.pipeline.predict_proba)(rows)
    np.testing.assert_array_equal(fitted.margins(rows), own)
    if fitted.family != "random_forest":
        order = [EMOTIONS.index(emotion) for emotion in fitted.emotions]
        own = fitted.pipeline.predict_proba(rows)
        np.testing.assert_allclose(fitted.predict_proba(rows)[:, order], own, atol=1e-6)


def test_a_forest_never_says_impossible(fitted):
    assert (fitted.predict_proba(clips(EMOTIONS)[0]) > 0).all()


def test_temperature_changes_how_sure_and_not_of_what(fitted):
    rows, _ = clips(EMOTIONS, seed=1)
    before = fitted.predict_proba(rows)
    warm = Classifier(
        family=fitted.family, pipeline=fitted.pipeline, emotions=fitted.emotions, temperature=3.0
    ).predict_proba(rows)
    np.testing.assert_array_equal(before.argmax(axis=1), warm.argmax(axis=1))
    assert warm.max(axis=1).mean() < before.max(axis=1).mean()


def test_the_same_data_and_seed_give_the_same_model(fitted):
    rows, labels = clips(EMOTIONS)
    again = Classifier.fit(fitted.family, rows, labels, seed=0)
    np.testing.assert_array_equal(again.predict_proba(rows), fitted.predict_proba(rows))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("emotions", [("sad", "happy"), ("fearful", "calm", "happy")])
def test_fewer_emotions(family, emotions):
    rows, labels = clips(emotions, each=100)
    model = Classifier.fit(family, rows, labels, seed=0)
    probabilities = model.predict_proba(rows)
    assert model.emotions == tuple(sorted(emotions))
    assert model.margins(rows).shape == (len(rows), len(emotions))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    absent = [EMOTIONS.index(emotion) for emotion in EMOTIONS if emotion not in emotions]
    assert (probabilities[:, absent] == 0).all()
    assert (np.array(EMOTIONS)[probabilities.argmax(axis=1)] == labels).mean() > 0.8
    if family != "random_forest":
        order = [EMOTIONS.index(emotion) for emotion in model.emotions]
        np.testing.assert_allclose(probabilities[:, order], model.pipeline.predict_proba(rows), atol=1e-6)


def test_soft_vote_is_the_mean():
    rows, labels = clips(EMOTIONS)
    members = [Classifier.fit(FAMILIES[0], rows, labels, seed=0) for _ in range(2)]
    members[1].temperature = 5.0
    voted = Ensemble(members).predict_proba(rows)
    np.testing.assert_allclose(voted, (members[0].predict_proba(rows) + members[1].predict_proba(rows)) / 2)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 4.0])
def test_temperature_is_found_again(true_temperature):
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(4000, 8))
    chances = softmax(logits, axis=1)
    labels = np.array(EMOTIONS)[[random.choice(8, p=row) for row in chances]]
    found = classifier.fit_temperature(logits * true_temperature, labels)
    assert found == pytest.approx(true_temperature, rel=0.08)


def test_temperature_leaves_emotions_never_learnt_out():
    logits = np.random.default_rng(0).normal(size=(50, 8))
    labels = np.resize(EMOTIONS[1:], 50)
    logits[:, 0] = -np.inf
    expected = classifier.fit_temperature(logits, labels)
    more = np.vstack([logits, logits[:5]])
    assert classifier.fit_temperature(more, np.append(labels, ["neutral"] * 5)) == pytest.approx(expected)


def test_normalization_is_a_z_score_of_each_speaker():
    random = np.random.default_rng(0)
    speakers = np.resize(["a", "b", "c"], 60)
    features = (random.normal(size=(60, 4)) * [1, 10, 1e4, 0] + [0, 5, -1e4, 3]).astype(np.float32)
    features[speakers == "b"] *= 100
    found = classifier.normalize_by_speaker(features, speakers)
    assert found.dtype == np.float32
    for speaker in "abc":
        own = found[speakers == speaker]
        np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(own[:, :3].std(axis=0), 1, atol=1e-4)
        assert (own[:, 3] == 0).all(), "a constant feature says nothing"


def test_only_known_rows_give_statistics():
    features = np.random.default_rng(0).normal(5, 2, (40, 3)).astype(np.float32)
    speakers, known = np.repeat(["a", "b", "c"], [16, 16, 8]), np.arange(40) % 4 != 0
    known[speakers == "c"] = False
    found = classifier.normalize_by_speaker(features, speakers, known=known)
    for speaker in "ab":
        own = features[(speakers == speaker) & known]
        rows = speakers == speaker
        np.testing.assert_allclose(found[rows], (features[rows] - own.mean(axis=0)) / own.std(axis=0), atol=1e-4)
    assert (found[speakers == "c"] == 0).all(), "nothing is known of her"


def small_bundle(model: Classifier | Ensemble) -> dict:
    rows, _ = clips(EMOTIONS)
    return make_bundle(
        plain=model,
        adapted=model,
        background={"plain": rows, "adapted": rows},
        feature_names=tuple(f"f{number}" for number in range(WIDTH)),
        metadata={"version": "one"},
    )


def test_a_bundle_comes_back_as_it_was(fitted):
    rows, _ = clips(EMOTIONS, seed=2)
    data = dumps(small_bundle(fitted))
    verify(data, sha256=hashlib.sha256(data).hexdigest(), name="x.pkl")
    found = unpickle(data)
    assert found["format"] == FORMAT and found["family"] == fitted.family
    assert list(found["label_encoder"].classes_) == sorted(EMOTIONS)
    assert found["scaler"].n_features_in_ == WIDTH == len(found["feature_names"])
    assert found["metadata"]["version"] == "one" and "scikit-learn" in found["metadata"]["packages"]
    np.testing.assert_array_equal(found["plain"].predict_proba(rows), fitted.predict_proba(rows))


def test_an_ensemble_bundle_holds_every_scaler():
    rows, labels = clips(EMOTIONS)
    bundle = small_bundle(Ensemble([Classifier.fit(family, rows, labels, seed=0) for family in FAMILIES]))
    assert bundle["family"] == "ensemble" and set(bundle["scaler"]) == set(FAMILIES)


def test_a_changed_bundle_is_refused_before_it_is_opened():
    data = dumps({"x": 1})
    with pytest.raises(BundleError, match="x.pkl has sha256 .*; its registry entry says .*damaged"):
        verify(data[:-1] + b"\0", sha256=hashlib.sha256(data).hexdigest(), name="x.pkl")
