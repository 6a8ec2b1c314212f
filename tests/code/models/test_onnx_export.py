"""A model as ONNX: the probabilities of the library, by onnxruntime."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest

from emotion import features
from emotion.commands import main
from emotion.features import feature_table
from emotion.models import registry
from emotion.models.bundle import models_of
from emotion.models.classifier import Classifier, Ensemble
from emotion.models.onnx_export import to_onnx
from emotion.vocabulary import EMOTIONS, FAMILIES, MODES

pytest_plugins = ("small_models",)


@pytest.fixture(scope="module")
def onnxruntime():
    """It is an extra: where it is not installed, the tests are skipped; in CI, they fail."""
    if os.environ.get("CI"):
        import onnxruntime

        return onnxruntime
    return pytest.importorskip("onnxruntime", exc_type=ImportError)


@pytest.fixture(scope="module")
def rows(trained_store) -> np.ndarray:
    """Features of clips, and others between and beyond them."""
    stored = feature_table.stored(trained_store)
    values = stored[list(features.feature_names())].to_numpy(dtype=np.float32)
    rng = np.random.default_rng(0)
    mixed = values[rng.integers(len(values), size=300)] * rng.uniform(0.8, 1.25, (300, 1)).astype(np.float32)
    return np.concatenate([values, mixed])


def answer(onnxruntime, data: bytes, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(["probabilities", "label"], {"features": rows})


def lies_on_a_threshold(model: Classifier | Ensemble, rows: np.ndarray) -> np.ndarray:
    """Rows with a linear score so near to a tree's threshold that the rounding of the score decides."""
    if isinstance(model, Ensemble):
        return np.any([lies_on_a_threshold(member, rows) for member in model.members], axis=0)
    scores = model.pipeline[:-1].transform(rows).astype(float)
    undecided = np.zeros(len(rows), dtype=bool)
    for tree in np.ravel(getattr(model.pipeline[-1], "estimators_", [])):
        inner = tree.tree_.children_left >= 0
        for column, threshold in zip(tree.tree_.feature[inner], tree.tree_.threshold[inner], strict=True):
            undecided |= np.abs(scores[:, column] - threshold) <= 1e-6 * np.abs(threshold) + 1e-7
    return undecided


@pytest.mark.parametrize("family", [*FAMILIES, "ensemble"])
def test_probabilities_are_those_of_the_library(onnxruntime, trained_store, rows, family):
    entry = registry.entry(trained_store, "first")
    name = registry.bundle_name(family)
    bundle = registry.load(trained_store, entry, name, recipe=features.recipe_version())
    training = bundle["training"]
    scaled = (rows - training.centre) / np.where(training.scale > 0, training.scale, 1)
    for mode, model in models_of(bundle).items():
        given = rows if mode == "plain" else scaled.astype(np.float32)
        probabilities, labels = answer(onnxruntime, to_onnx(bundle, mode, version="first", recipe="v1"), given)
        expected = model.predict_proba(given)
        clear = ~lies_on_a_threshold(model, given)
        assert probabilities.dtype == np.float32 and clear.mean() > 0.9
        np.testing.assert_allclose(probabilities[clear], expected[clear], rtol=0, atol=1e-5)
        top_two = np.sort(expected, axis=1)[:, -2:]
        certain = clear & (np.diff(top_two, axis=1)[:, 0] > 1e-4)
        assert certain.mean() > 0.8
        assert (labels[certain] == np.array(model.label_set)[expected[certain].argmax(axis=1)]).all()
        one, _ = answer(onnxruntime, to_onnx(bundle, mode, version="first", recipe="v1"), given[:1])
        np.testing.assert_allclose(one, probabilities[:1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fitted_on", [("sad", "happy"), ("sad", "happy", "bored")])
def test_emotions_that_a_model_does_not_know_get_zero(onnxruntime, family, fitted_on):
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(120, 6)).astype(np.float32), rng.integers(len(fitted_on), size=120)
    rows[:, :3] += np.eye(3, dtype=np.float32)[codes]
    label_set = ("happy", "sad", "angry", "bored")
    model = Classifier.fit(family, rows, np.array(fitted_on)[codes], label_set=label_set, seed=0)
    model.temperature = 1.7
    bundle = {"family": family, "feature_names": tuple("abcdef")}
    bundle |= dict.fromkeys(MODES, model)
    probabilities, labels = answer(onnxruntime, to_onnx(bundle, "plain", version="one", recipe="v1"), rows)
    clear = ~lies_on_a_threshold(model, rows)
    assert clear.sum() > 100
    np.testing.assert_allclose(probabilities[clear], model.predict_proba(rows)[clear], rtol=0, atol=1e-5)
    assert not probabilities[:, 2].any() and set(labels) <= set(fitted_on)


def test_the_command_writes_a_file_that_says_what_it_is(onnxruntime, trained_store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOTION_HOME", trained_store.root)
    path = tmp_path / "model.onnx"
    assert main.main(["export", "champion", "--onnx", str(path)]) == 0
    assert "first/logistic_regression, mode plain" in capsys.readouterr().out
    facts = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert {name: facts[name] for name in ("version", "family", "mode", "recipe")} == {
        "version": "first",
        "family": "logistic_regression",
        "mode": "plain",
        "recipe": features.recipe_version(),
    }
    assert json.loads(facts["feature_names"]) == list(features.feature_names())
    assert json.loads(facts["emotions"]) == list(EMOTIONS)
    assert json.loads(facts["temperature"])["logistic_regression"] > 0
    assert main.main(["export", "first", "--family", "random_forest", "--mode", "batch", "--onnx", str(path)]) == 0
    assert onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map["mode"] == "batch"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["first", "--onnx", "model.pkl"], 2, "ends in .onnx"),
        (["champion", "--family", "ensemble", "--onnx", "m.onnx"], 2, "leave out --family"),
        (["none", "--onnx", "m.onnx"], 1, "there is no model version 'none'"),
    ],
)
def test_a_wrong_export_is_one_line(trained_store, monkeypatch, capsys, arguments, code, message):
    monkeypatch.setenv("EMOTION_HOME", trained_store.root)
    try:
        assert main.main(["export", *arguments]) == code
    except SystemExit as exit:
        assert exit.code == code
    assert message in capsys.readouterr().err


def test_without_its_packages_it_says_what_to_install(trained_store, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("EMOTION_HOME", trained_store.root)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main.main(["export", "champion", "--onnx", str(tmp_path / "m.onnx")]) == 1
    assert "pip install -r requirements-onnx.txt" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()
