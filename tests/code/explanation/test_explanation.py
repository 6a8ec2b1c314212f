"""Contributions add up to the model's own output, go to the right features, and are written as promised."""

import io

import numpy as np
import pandas as pd
import pytest
import shap
from PIL import Image
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import LabelEncoder, Normalizer, StandardScaler

from emotion import features
from emotion.errors import DataError
from emotion.explanation import export, values
from emotion.explanation.ranking import importance, top_contributions
from emotion.explanation.trees import Trees
from emotion.explanation.values import Explanation, combine, explain_predictions
from emotion.models import pipelines
from emotion.models.classifier import Classifier, Ensemble
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, FAMILIES, emotion_colours

WIDTH = 30
NAMES = features.feature_names()[:WIDTH]
TOLERANCE = 1e-6

STEPS = {
    "shipped": None,
    "scaled": [StandardScaler()],
    "selected": [StandardScaler(), VarianceThreshold(), SelectKBest(k=12)],
    "pca": [StandardScaler(), PCA(6, whiten=True, random_state=0)],
    "lda": [StandardScaler(), LinearDiscriminantAnalysis()],
    "selected_and_projected": [
        VarianceThreshold(),
        StandardScaler(),
        SelectKBest(k=20),
        FeatureUnion(
            [
                ("lda", LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.5)),
                ("pca", PCA(8, random_state=0)),
            ]
        ),
        StandardScaler(),
    ],
}


def clips(emotions: tuple[str, ...], *, per_emotion: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose scales lie far apart, as acoustic features' do, one of them constant and two the same."""
    random = np.random.default_rng(7)
    labels = np.repeat(emotions, per_emotion)
    centres = random.normal(size=(len(emotions), WIDTH))
    rows = np.repeat(centres, per_emotion, axis=0) + random.normal(size=(len(labels), WIDTH))
    rows = rows * 10.0 ** random.uniform(-3, 3, WIDTH) + 10.0 ** random.uniform(-3, 3, WIDTH)
    rows[:, 3] = 5.0
    rows[:, 5] = rows[:, 4]
    return rows.astype(np.float32), labels


def fitted(family: str, rows: np.ndarray, labels: np.ndarray, steps: list | None = None) -> Classifier:
    """A family's classifier after ``steps``, or after those it is shipped with."""
    encoder = LabelEncoder().fit(labels)
    pipeline = pipelines.build(family, seed=0)
    groups = {"projection__groups": np.arange(len(rows)) % 6}
    if steps is not None:
        pipeline.steps[:-1] = [(f"step_{i}", step) for i, step in enumerate(steps)]
        groups = {}
    if family != "logistic_regression":
        pipeline[-1].set_params(n_estimators=15)
    pipeline.fit(rows, encoder.transform(labels), **groups)
    return Classifier(family=family, pipeline=pipeline, emotions=tuple(map(str, encoder.classes_)), temperature=0.7)


def misses(explanation: Explanation, outputs: np.ndarray) -> float:
    return np.abs(explanation.values.sum(axis=2) + explanation.base_values - outputs).max()


@pytest.fixture(scope="module")
def eight():
    return clips(EMOTIONS)


@pytest.fixture(scope="module")
def members(eight):
    return [fitted(family, *eight) for family in FAMILIES]


@pytest.mark.parametrize("emotions", [EMOTIONS, EMOTIONS[2:5], EMOTIONS[3:5]], ids=["eight", "three", "two"])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("family", FAMILIES)
def test_contributions_add_up_to_the_margins(family, steps, emotions):
    rows, labels = clips(emotions)
    model = fitted(family, rows, labels, STEPS[steps])
    explanation = explain_predictions(model, rows[::3], background=rows)
    assert explanation.emotions == model.emotions
    assert explanation.values.shape == (len(rows[::3]), len(emotions), WIDTH)
    assert explanation.scale == ("probability" if family == "random_forest" else "log-odds")
    np.testing.assert_array_equal(explanation.outputs, model.margins(rows[::3]))
    assert misses(explanation, model.margins(rows[::3])) < TOLERANCE
    # Bounded: a projection must not blow contributions up where a clip lies near the background's mean.
    assert np.abs(explanation.values).sum(axis=2).max() < 30 * np.ptp(explanation.outputs)


def test_a_clip_like_the_background_mean_is_explained(eight):
    rows, labels = eight
    model = fitted("gradient_boosting", rows, labels, STEPS["pca"])
    mean = rows.mean(axis=0, keepdims=True)
    explanation = explain_predictions(model, mean, background=rows)
    assert np.isfinite(explanation.values).all()
    assert misses(explanation, model.margins(mean)) < TOLERANCE
    assert np.abs(explanation.values).sum(axis=2).max() < 30 * np.abs(explanation.outputs).max()


def test_linear_values_equal_those_of_shap(eight):
    rows, labels = eight
    model = fitted("logistic_regression", rows, labels, STEPS["scaled"])
    explanation = explain_predictions(model, rows[:20], background=rows)
    scaled = model.pipeline[:-1].transform(rows)
    theirs = shap.LinearExplainer(model.pipeline[-1], shap.maskers.Independent(scaled, max_samples=len(rows)))
    expected = theirs.shap_values(scaled[:20]).transpose(0, 2, 1)
    np.testing.assert_allclose(explanation.values, expected, atol=1e-3 * np.abs(expected).max())


def test_a_projection_keeps_linear_values_exact():
    """Weighting fully rotated inputs is the same linear model, so has the same values."""
    rows, labels = clips(EMOTIONS[:4])
    plain = fitted("logistic_regression", rows, labels, [StandardScaler()])
    rotated = fitted("logistic_regression", rows, labels, [StandardScaler(), PCA(svd_solver="full")])
    ours = explain_predictions(plain, rows[:10], background=rows).values
    theirs = explain_predictions(rotated, rows[:10], background=rows).values
    np.testing.assert_allclose(ours, theirs, atol=5e-3 * np.abs(ours).max())


def test_two_emotion_boosting_equals_shaps_own():
    rows, labels = clips(EMOTIONS[3:5])
    model = fitted("gradient_boosting", rows, labels, STEPS["scaled"])
    scaled = model.pipeline[:-1].transform(rows[:9])
    theirs = shap.TreeExplainer(model.pipeline[-1], feature_perturbation="tree_path_dependent").shap_values(scaled)
    explanation = explain_predictions(model, rows[:9], background=rows)
    np.testing.assert_allclose(explanation.values[:, 1], theirs, atol=1e-9)
    np.testing.assert_allclose(explanation.values[:, 0], -theirs, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_that_were_selected_away_contribute_nothing(family, eight):
    rows, labels = eight
    model = fitted(family, rows, labels, STEPS["selected"])
    kept = model.pipeline[1].get_support()
    kept[kept] = model.pipeline[2].get_support()
    values = np.abs(explain_predictions(model, rows[:20], background=rows).values).sum(axis=(0, 1))
    assert kept.sum() == 12
    assert values[~kept].max() < 1e-9
    assert values[kept].min() > 1e-3


@pytest.mark.parametrize("steps", STEPS)
def test_the_feature_that_decides_gets_the_credit(steps):
    """One feature alone tells the emotions apart: it must come first through any projection."""
    random = np.random.default_rng(3)
    labels = np.repeat(EMOTIONS[:4], 40)
    rows = random.normal(size=(len(labels), WIDTH))
    rows[:, 17] += 8.0 * np.repeat(np.arange(4), 40)
    rows = rows.astype(np.float32)
    model = fitted("random_forest", rows, labels, STEPS[steps])
    ranking = importance(explain_predictions(model, rows[::4], background=rows), feature_names=NAMES)
    assert ranking["feature"][0] == NAMES[17]


def test_the_ensemble_adds_up_to_its_probabilities(eight, members):
    rows, _ = eight
    ensemble = Ensemble(members)
    explanation = explain_predictions(ensemble, rows[::4], background=rows)
    assert explanation.emotions == EMOTIONS
    assert explanation.scale == "probability"
    assert misses(explanation, ensemble.predict_proba(rows[::4])) < TOLERANCE
    # Probabilities add up to one whatever the clip: what one emotion gains, others lose.
    np.testing.assert_allclose(explanation.values.sum(axis=1), 0, atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3, 1e6])
def test_the_ensemble_adds_up_far_from_all_training_clips(eight, members, scale):
    """A linear model extrapolates: for a pure tone, its log-odds reach thousands."""
    rows = eight[0]
    ensemble = Ensemble(members)
    centre = rows.mean(axis=0, dtype=np.float64)
    far = (centre + scale * (rows[::9] - centre)).astype(np.float32)
    explanation = explain_predictions(ensemble, far, background=rows)
    assert misses(explanation, ensemble.predict_proba(far)) < TOLERANCE
    np.testing.assert_allclose(explanation.values.sum(axis=1), 0, atol=1e-3)


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4, 1e8])
def test_the_jacobian_along_a_path_gives_the_change_of_the_softmax(size):
    random = np.random.default_rng(5)
    start, end = random.normal(size=8), size * random.normal(size=(40, 8))
    jacobian = values._softmax_jacobian(start, end)
    change = (jacobian @ (end - start)[:, :, None])[:, :, 0]
    np.testing.assert_allclose(change, softmax(end, axis=1) - softmax(start), atol=1e-3)


def test_a_path_through_three_emotions_passes_each():
    """The middle emotion is the most probable one only in a hundred-thousandth of the path."""
    start, end = np.array([0.0, -5e6 + 50, -1e7]), np.array([[-1e7, -5e6 + 50, 0.0]])
    gained = values._softmax_jacobian(start, end)[0] * (end[0] - start)
    # The first logit falls: its probability goes to the middle emotion. The last logit rises, and takes it from there.
    np.testing.assert_allclose(gained, [[-1, 0, 0], [1, 0, -1], [0, 0, 1]], atol=1e-3)


@pytest.mark.parametrize("emotions", [EMOTIONS[2:5], EMOTIONS[3:5]], ids=["three", "two"])
def test_an_ensemble_that_knows_few_emotions_adds_up(emotions):
    rows, labels = clips(emotions)
    members = [fitted(family, rows, labels, STEPS["scaled"]) for family in FAMILIES]
    explanation = explain_predictions(Ensemble(members), rows[::5], background=rows)
    assert explanation.emotions == emotions
    assert misses(explanation, Ensemble(members).predict_proba(rows[::5])) < TOLERANCE
    for member in members:  # as the models of folds without an emotion
        member.label_set = EMOTIONS
    wide = explain_predictions(Ensemble(members), rows[::5], background=rows)
    assert misses(wide, Ensemble(members).predict_proba(rows[::5])) < TOLERANCE
    unknown = [i for i, emotion in enumerate(EMOTIONS) if emotion not in emotions]
    assert np.abs(wide.values[:, unknown]).max() == 0
    np.testing.assert_array_equal(np.delete(wide.values, unknown, axis=1), explanation.values)


def test_combining_explanations_equals_explaining_the_ensemble(eight, members):
    rows = eight[0][:12]
    ensemble = Ensemble(members)
    parts = [explain_predictions(member, rows, background=eight[0]) for member in members]
    np.testing.assert_array_equal(
        combine(ensemble, parts).values,
        explain_predictions(ensemble, rows, background=eight[0]).values,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_could_learn_nothing_is_explained(family):
    rows, labels = np.ones((20, WIDTH), dtype=np.float32), np.repeat(EMOTIONS[:2], 10)
    model = fitted(family, rows, labels, [StandardScaler()])
    explanation = explain_predictions(model, rows[:3], background=rows)
    assert np.abs(explanation.values).max() < TOLERANCE
    assert misses(explanation, model.margins(rows[:3])) < TOLERANCE
    assert importance(explanation, feature_names=NAMES).notna().all(axis=None)


def test_a_step_that_is_not_affine_is_refused(eight):
    rows, labels = eight
    model = fitted("random_forest", rows, labels, [StandardScaler(), Normalizer()])
    with pytest.raises(DataError, match="StandardScaler, Normalizer.*affine"):
        explain_predictions(model, rows[:5], background=rows)


def test_values_that_do_not_add_up_are_refused(eight, members, monkeypatch):
    monkeypatch.setattr(Classifier, "margins", lambda self, rows: np.full((len(rows), len(EMOTIONS)), 9.0))
    with pytest.raises(DataError, match="miss the model's output"):
        explain_predictions(members[1], eight[0][:5], background=eight[0])


def test_top_contributions(eight, members):
    rows, _ = eight
    explanation = explain_predictions(members[0], rows[:3], background=rows)
    top = top_contributions(explanation, 1, "angry", 4, feature_names=NAMES)
    values = explanation.values[1, explanation.emotions.index("angry")]
    assert [item["contribution"] for item in top["towards"]] == sorted(values, reverse=True)[:4]
    assert [item["contribution"] for item in top["against"]] == sorted(values)[:4]
    first = top["towards"][0]
    assert first["feature"] == NAMES[values.argmax()]
    assert first["value"] == rows[1, values.argmax()]
    assert first["description"] == features.describe(first["feature"])
    everything = top_contributions(explanation, 1, "angry", 1000, feature_names=NAMES)
    signs = [item["contribution"] > 0 for item in everything["towards"] + everything["against"]]
    assert signs == [True] * len(everything["towards"]) + [False] * len(everything["against"])


def test_importance_is_sorted_and_shares_add_up(eight, members):
    explanation = explain_predictions(members[1], eight[0][::6], background=eight[0])
    ranking = importance(explanation, feature_names=NAMES)
    assert list(ranking.columns) == ["feature", "description", "mean_abs", "share", *EMOTIONS]
    assert sorted(ranking["feature"]) == sorted(NAMES)
    assert ranking["mean_abs"].is_monotonic_decreasing
    assert ranking["share"].sum() == pytest.approx(1)
    row = ranking.set_index("feature").loc[NAMES[8]]
    column = explanation.emotions.index("sad")
    assert row["sad"] == pytest.approx(np.abs(explanation.values[:, column, 8]).mean())
    assert row["mean_abs"] == pytest.approx(row[list(EMOTIONS)].astype(float).mean())


def test_export_writes_what_it_says(eight, members, tmp_path):
    rows, store = eight[0][::9], Store(str(tmp_path))
    model = members[2]
    explanation = explain_predictions(model, rows, background=eight[0])
    table = pd.DataFrame(
        {"sha256": [f"{i:064x}" for i in range(len(rows))], "path": [f"{i}.wav" for i in range(len(rows))]}
    )
    facts = {"feature_names": NAMES, "clips": table, "colours": emotion_colours(EMOTIONS)}
    ranking, by_group = export.export(store, "runs/r/shap", family=model.family, explanation=explanation, **facts)
    values = store.read_table(f"runs/r/shap/{model.family}_values.parquet")
    assert list(values.columns) == ["sha256", "path", "emotion", "base_value", "output", *NAMES]
    assert len(values) == len(rows) * len(EMOTIONS)
    added = values[list(NAMES)].astype(np.float64).sum(axis=1) + values["base_value"]
    assert np.abs(added - values["output"]).max() < TOLERANCE
    margins = model.margins(rows)
    clip = values[values["sha256"] == table["sha256"][4]]
    np.testing.assert_allclose(clip["output"], margins[4][[model.emotions.index(name) for name in clip["emotion"]]])
    read = export.read_export(store, "runs/r/shap", [*FAMILIES, "ensemble"])
    assert list(read) == [model.family]
    pd.testing.assert_frame_equal(read[model.family]["importance"], ranking)
    pd.testing.assert_frame_equal(read[model.family]["groups"], by_group)
    store.delete(f"runs/r/shap/{model.family}_groups.csv")  # as a run of an earlier release
    assert export.read_export(store, "runs/r/shap", [model.family])[model.family]["groups"] is None
    for name in ("beeswarm", "bar", "heatmap"):
        image = Image.open(io.BytesIO(read[model.family]["plots"][name]))
        assert image.format == "PNG" and min(image.size) > 300
        assert len(image.getcolors(maxcolors=256)) > 50


@pytest.mark.parametrize(
    "emotions", [EMOTIONS[2:5], EMOTIONS[3:5], ("angry", "bored", "polite")], ids=["three", "two", "others"]
)
def test_export_of_few_emotions(emotions, tmp_path):
    rows, labels = clips(emotions)
    model = fitted("random_forest", rows, labels, STEPS["scaled"])
    explanation = explain_predictions(model, rows[:1], background=rows)
    table = pd.DataFrame({"sha256": ["a"], "path": ["a.wav"]})
    export.export(
        Store(str(tmp_path)),
        "shap",
        family="random_forest",
        explanation=explanation,
        feature_names=NAMES,
        clips=table,
        colours=emotion_colours(emotions),
    )
    assert len(list((tmp_path / "shap").glob("*.png"))) == 3


@pytest.mark.parametrize("family", ["random_forest", "gradient_boosting"])
@pytest.mark.parametrize("emotions", [2, 3])
def test_a_training_run_checks_its_explanations_by_shap(family, emotions, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    labels = np.array(["happy", "sad", "angry"])[np.digitize(rows[:, 0] + rows[:, 1], [0.0, 1.0][: emotions - 1])]
    model = Classifier.fit(family, rows, labels, seed=0)
    explain_predictions(model, rows, background=rows)
    right = Trees.shap_values
    monkeypatch.setattr(Trees, "shap_values", lambda trees, inputs: 1.01 * right(trees, inputs))
    with pytest.raises(DataError, match="differ from those of shap"):
        explain_predictions(model, rows, background=rows)
