"""Margins, probabilities and temperature of fitted models; bundles and their checksums."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy.special import softmax

from emotion.errors import BundleError
from emotion.models import classifier
from emotion.models.adaptation import measure
from emotion.models.bundle import FORMAT, dumps, make_bundle, unpickle, verify
from emotion.models.classifier import Classifier, Ensemble
from emotion.models.familiarity import Familiarity
from emotion.models.fitted import read as without_scikit_learn
from emotion.vocabulary import EMOTIONS, FAMILIES, MODES, label_set

WIDTH = 12


def clips(emotions: tuple[str, ...], *, each: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows that lie apart by emotion, and their emotions."""
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


def test_margins_are_the_output_of_the_estimator(fitted):
    rows, _ = clips(EMOTIONS, seed=1)
    output = getattr(fitted.pipeline, "decision_function", fitted.pipeline.predict_proba)(rows)
    np.testing.assert_array_equal(fitted.margins(rows), output)
    if fitted.family != "random_forest":
        order = [EMOTIONS.index(emotion) for emotion in fitted.emotions]
        expected = fitted.pipeline.predict_proba(rows)
        np.testing.assert_allclose(fitted.predict_proba(rows)[:, order], expected, atol=1e-6)


def test_no_probability_is_zero(fitted):
    assert (fitted.predict_proba(clips(EMOTIONS)[0]) > 0).all()


def test_temperature_changes_the_confidence_and_not_the_emotion(fitted):
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
def test_models_of_fewer_emotions_give_the_others_of_the_label_set_no_probability(family, emotions):
    rows, labels = clips(emotions, each=100)
    model = Classifier.fit(family, rows, labels, label_set=EMOTIONS, seed=0)
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
    alone = Classifier.fit(family, rows, labels, seed=0)
    assert alone.label_set == label_set(emotions), "by default, it is that of the labels"
    present = [EMOTIONS.index(emotion) for emotion in alone.label_set]
    np.testing.assert_array_equal(alone.predict_proba(rows), probabilities[:, present])


def test_emotions_that_are_not_standard_ones_have_their_columns_in_alphabetical_order():
    rows, standard = clips(("happy", "sad", "angry"), each=100)
    labels = np.array([{"happy": "polite", "sad": "bored"}.get(label, label) for label in standard])
    models = [Classifier.fit(family, rows, labels, seed=0) for family in FAMILIES]
    for model in [*models, Ensemble(models)]:
        assert model.label_set == ("angry", "bored", "polite")
        predicted = np.array(model.label_set)[model.predict_proba(rows).argmax(axis=1)]
        assert (predicted == labels).mean() > 0.8


def test_the_members_of_an_ensemble_have_the_same_label_set():
    rows, labels = clips(EMOTIONS[:3])
    members = [Classifier.fit(FAMILIES[0], rows, labels, label_set=each, seed=0) for each in (None, EMOTIONS)]
    with pytest.raises(ValueError, match="different label sets"):
        Ensemble(members)


def test_soft_vote_is_the_mean_of_calibrated_probabilities():
    rows, labels = clips(EMOTIONS)
    members = [Classifier.fit(FAMILIES[0], rows, labels, seed=0) for _ in range(2)]
    members[1].temperature = 5.0
    voted = Ensemble(members).predict_proba(rows)
    np.testing.assert_allclose(voted, (members[0].predict_proba(rows) + members[1].predict_proba(rows)) / 2)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 4.0])
def test_the_fitted_temperature_is_the_true_one(true_temperature):
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(4000, 8))
    chances = softmax(logits, axis=1)
    labels = np.array(EMOTIONS)[[random.choice(8, p=row) for row in chances]]
    temperature = classifier.fit_temperature(logits * true_temperature, labels, EMOTIONS)
    assert temperature == pytest.approx(true_temperature, rel=0.08)


def test_temperature_ignores_clips_of_emotions_the_model_was_not_trained_on():
    logits = np.random.default_rng(0).normal(size=(50, 8))
    labels = np.resize(EMOTIONS[1:], 50)
    logits[:, 0] = -np.inf
    expected = classifier.fit_temperature(logits, labels, EMOTIONS)
    more = np.vstack([logits, logits[:5]])
    temperature = classifier.fit_temperature(more, np.append(labels, ["neutral"] * 5), EMOTIONS)
    assert temperature == pytest.approx(expected)


def small_bundle(model: Classifier | Ensemble) -> dict:
    rows, _ = clips(EMOTIONS)
    return make_bundle(
        models=dict.fromkeys(MODES, model),
        background=dict.fromkeys(MODES, rows),
        training=measure(rows),
        typical_information=1.0,
        familiarity=Familiarity.fit(rows, np.resize(["a", "b"], len(rows)), columns={"all": np.arange(WIDTH)}),
        feature_names=tuple(f"f{number}" for number in range(WIDTH)),
        metadata={"version": "one"},
    )


def test_a_bundle_is_the_same_after_writing_and_loading(fitted):
    rows, _ = clips(EMOTIONS, seed=2)
    data = dumps(small_bundle(fitted))
    verify(data, sha256=hashlib.sha256(data).hexdigest(), name="x.pkl")
    loaded = unpickle(data)
    assert loaded["format"] == FORMAT and loaded["family"] == fitted.family
    assert list(loaded["label_encoder"].classes_) == sorted(EMOTIONS) and loaded["emotions"] == EMOTIONS
    assert loaded["scaler"].n_features_in_ == WIDTH == len(loaded["feature_names"])
    assert loaded["metadata"]["version"] == "one" and "scikit-learn" in loaded["metadata"]["packages"]
    np.testing.assert_array_equal(loaded["plain"].predict_proba(rows), fitted.predict_proba(rows))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bundle_of_two_emotions_answers_without_scikit_learn(family):
    rows, labels = clips(("happy", "sad"))
    model = Classifier.fit(family, rows, labels, seed=0)
    read = without_scikit_learn(dumps(small_bundle(model)))
    assert not type(read["plain"].pipeline[-1]).__module__.startswith("sklearn")
    np.testing.assert_array_equal(read["plain"].predict_proba(rows), model.predict_proba(rows))


def test_an_ensemble_bundle_holds_every_scaler():
    rows, labels = clips(EMOTIONS)
    bundle = small_bundle(Ensemble([Classifier.fit(family, rows, labels, seed=0) for family in FAMILIES]))
    assert bundle["family"] == "ensemble" and set(bundle["scaler"]) == set(FAMILIES)


def test_a_changed_bundle_is_refused_before_it_is_opened():
    data = dumps({"x": 1})
    with pytest.raises(BundleError, match="x.pkl has sha256 .*; its registry entry says .*damaged"):
        verify(data[:-1] + b"\0", sha256=hashlib.sha256(data).hexdigest(), name="x.pkl")
