"""Cross-fitted scores equal those of refits without each group; each family's pipeline ends in its estimator."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from emotion.models import pipelines
from emotion.models.projection import PENALTIES, RidgeScores
from emotion.vocabulary import FAMILIES


def clips(n: int = 240, width: int = 30, speakers: int = 6, seed: int = 0):
    """Rows whose classes differ by direction, with an offset per speaker."""
    random = np.random.default_rng(seed)
    classes, speaker = np.arange(n) % 4, np.arange(n) // 4 % speakers
    rows = random.normal(size=(n, width)) + 2 * random.normal(size=(4, width))[classes]
    return (rows + random.normal(size=(speakers, width))[speaker]).astype(np.float32), classes, speaker


@pytest.mark.parametrize("penalty", [0.1, 3.0])
@pytest.mark.parametrize("width", [30, 400], ids=["more rows", "more features"])
def test_cross_fitted_scores_are_those_of_a_fit_without_the_group(penalty, width):
    rows, classes, speaker = clips(width=width)
    scores = RidgeScores(penalties=(penalty,)).fit_transform(rows, classes, groups=speaker)
    for left_out in range(6):
        keep = speaker != left_out
        fitted = RidgeScores(penalties=(penalty,)).fit(rows[keep], classes[keep])
        np.testing.assert_allclose(scores[~keep], fitted.transform(rows[~keep]), atol=2e-4)


@pytest.mark.parametrize("width", [30, 400], ids=["more rows", "more features"])
def test_transform_is_the_affine_map_of_its_coefficients(width):
    rows, classes, speaker = clips(width=width)
    scores = RidgeScores(cross_fitted=False)
    fitted = scores.fit_transform(rows, classes, groups=speaker)
    np.testing.assert_allclose(scores.transform(rows), rows @ scores.coef_ + scores.intercept_, atol=1e-6)
    np.testing.assert_allclose(fitted, scores.transform(rows), atol=1e-4)
    assert scores.penalty_ in PENALTIES
    crossed = RidgeScores().fit_transform(rows, classes, groups=speaker)
    assert np.abs(fitted - crossed).max() > 0.01


def test_each_view_scores_by_its_columns_alone():
    rows, classes, speaker = clips()
    views = [np.arange(30), np.arange(5, 12), np.arange(20, 30)]
    scores = RidgeScores(views=views, penalties=(1.0,))
    crossed = scores.fit_transform(rows, classes, groups=speaker)
    assert crossed.shape == scores.transform(rows).shape == (240, 12)
    for number, view in enumerate(views):
        alone = RidgeScores(penalties=(1.0,))
        expected = alone.fit_transform(rows[:, view], classes, groups=speaker)
        columns = slice(4 * number, 4 * number + 4)
        np.testing.assert_allclose(crossed[:, columns], expected, atol=1e-5)
        np.testing.assert_allclose(scores.transform(rows)[:, columns], alone.transform(rows[:, view]), atol=1e-5)


def test_cross_fitted_scores_of_noise_do_not_contain_its_label():
    rows = np.random.default_rng(0).normal(size=(120, 2000)).astype(np.float32)
    classes = np.random.default_rng(1).integers(0, 4, 120)
    scores = RidgeScores()
    crossed = scores.fit_transform(rows, classes, groups=np.arange(120) // 10)
    assert (scores.transform(rows).argmax(axis=1) == classes).mean() > 0.9
    assert (crossed.argmax(axis=1) == classes).mean() < 0.4


def test_copies_of_a_clip_are_left_out_with_it():
    rows = np.random.default_rng(0).normal(size=(100, 500)).astype(np.float32)
    classes = np.random.default_rng(1).integers(0, 4, 100)
    copies = np.vstack([rows, rows + np.float32(0.01)])
    twice, clip = np.tile(classes, 2), np.tile(np.arange(100), 2)
    accuracies = [
        (RidgeScores().fit_transform(copies, twice, groups=groups).argmax(axis=1) == twice).mean()
        for groups in (clip, np.arange(200))
    ]
    assert accuracies[0] < 0.4 < 0.9 < accuracies[1]


def test_one_group_is_refused():
    rows, classes, _ = clips()
    with pytest.raises(ValueError, match="one group"):
        RidgeScores().fit(rows, classes, groups=np.zeros(len(rows)))


@pytest.mark.parametrize(
    ("family", "estimator"),
    list(zip(FAMILIES, (LogisticRegression, RandomForestClassifier, GradientBoostingClassifier), strict=True)),
)
def test_each_family_ends_in_its_estimator_and_gives_the_same_model_for_the_same_seed(family, estimator):
    rows, classes, speaker = clips()
    new, expected, _ = clips(seed=0)
    pipeline = pipelines.build(family, seed=7)
    assert isinstance(pipeline[-1], estimator)
    fitted = [clone(pipeline).fit(rows, classes, projection__groups=speaker).predict_proba(new) for _ in range(2)]
    np.testing.assert_array_equal(*fitted)
    assert (fitted[0].argmax(axis=1) == expected).mean() > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_are_searched_by_leaving_whole_groups_out(family, monkeypatch):
    rows, classes, speaker = clips()
    searched_groups = []

    class Watched(GroupKFold):
        def split(self, X, y=None, groups=None):
            searched_groups.append(groups)
            return super().split(X, y, groups)

    monkeypatch.setattr(pipelines, "GroupKFold", Watched)
    pipeline = pipelines.build(family, seed=0)
    pipelines.fit(pipeline, family, rows, classes, groups=speaker, search=True)
    assert len(searched_groups) == 1 and np.array_equal(searched_groups[0], speaker)
    grid = pipelines.hyperparameters()[family]["searched"]
    chosen = pipelines.chosen(pipeline, family)
    assert set(chosen) == {"penalty", *grid} and all(chosen[name] in values for name, values in grid.items())
    assert type(pipeline[-1]) is type(pipelines.build(family, seed=0)[-1])
    assert (pipeline.predict(rows) == classes).mean() > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_no_setting_is_judged_on_scores_that_know_the_left_out_labels(family, monkeypatch):
    """While settings are searched, every projection is fitted without the rows of one fold of speakers."""
    rows, classes, speaker = clips()
    fitted_on = []
    fit_transform = RidgeScores.fit_transform

    def watched(self, X, y, *, groups=None, **options):
        fitted_on.append(set(groups.tolist()))
        return fit_transform(self, X, y, groups=groups, **options)

    monkeypatch.setattr(RidgeScores, "fit_transform", watched)
    pipelines.fit(pipelines.build(family, seed=0), family, rows, classes, groups=speaker, search=True)
    *search, final = fitted_on
    assert final == set(range(6)) and [len(groups) for groups in search] == [4, 4, 4]
    assert set().union(*({*range(6)} - groups for groups in search)) == set(range(6))


def test_two_speakers_are_enough_to_search():
    rows, classes, speaker = clips(speakers=2)
    pipeline = pipelines.build(FAMILIES[0], seed=0)
    pipelines.fit(pipeline, FAMILIES[0], rows, classes, groups=speaker, search=True)
    assert (pipeline.predict(rows) == classes).mean() > 0.9


def test_the_search_finds_the_better_setting(monkeypatch):
    rows, classes, speaker = clips()
    settings = {"shipped": {"min_samples_leaf": 200}, "searched": {"min_samples_leaf": [200, 5]}}
    table = {"random_forest": settings | {"cross_fitted": True}}
    monkeypatch.setattr(pipelines, "hyperparameters", lambda: table)
    for search, expected in ((False, 200), (True, 5)):
        pipeline = pipelines.build("random_forest", seed=0)
        pipelines.fit(pipeline, "random_forest", rows, classes, groups=speaker, search=search)
        assert pipelines.chosen(pipeline, "random_forest")["min_samples_leaf"] == expected


def test_an_unknown_family_is_refused():
    with pytest.raises(KeyError):
        pipelines.build("svm", seed=0)


@pytest.mark.parametrize("cross_fitted", [True, False])
@pytest.mark.parametrize("width", [30, 400], ids=["more rows", "more features"])
def test_a_weight_is_as_many_copies_in_the_same_group(width, cross_fitted):
    """With more rows than features, and with fewer, and across the border between the two ways to fit."""
    rows, classes, speaker = clips(width=width)
    weights = np.random.default_rng(0).integers(1, 4, len(rows))
    views = [np.arange(width), np.arange(5, 12)]
    copied = np.repeat(np.arange(len(rows)), weights)
    by_copies, by_weight = (RidgeScores(penalties=(1.0,), views=views, cross_fitted=cross_fitted) for _ in range(2))
    expected = by_copies.fit_transform(rows[copied], classes[copied], groups=speaker[copied])
    scores = by_weight.fit_transform(rows, classes, groups=speaker, sample_weight=weights)
    np.testing.assert_allclose(scores[copied], expected, atol=1e-4)
    np.testing.assert_allclose(by_weight.transform(rows), by_copies.transform(rows), atol=1e-4)
    unweighted = RidgeScores(penalties=(1.0,), views=views, cross_fitted=cross_fitted)
    assert np.abs(unweighted.fit_transform(rows, classes, groups=speaker) - scores).max() > 0.01


def test_equal_weights_change_nothing():
    rows, classes, speaker = clips()
    plain, weighted = RidgeScores(), RidgeScores()
    expected = plain.fit_transform(rows, classes, groups=speaker)
    np.testing.assert_allclose(
        weighted.fit_transform(rows, classes, groups=speaker, sample_weight=np.ones(len(rows))), expected, atol=1e-6
    )
    assert plain.penalty_ == weighted.penalty_


@pytest.mark.parametrize(("family", "search"), [*((family, False) for family in FAMILIES), (FAMILIES[0], True)])
def test_weights_reach_every_step_of_a_pipeline(family, search):
    """A class of tiny weight is hardly ever answered; with equal weights it is."""
    rows, classes, speaker = clips()
    rows = rows + np.random.default_rng(1).normal(scale=8, size=rows.shape).astype(np.float32)
    weights = np.where(classes == 0, 1e-3, 1.0)
    answers = []
    for each in (None, weights):
        pipeline = pipelines.build(family, seed=0)
        pipelines.fit(pipeline, family, rows, classes, groups=speaker, search=search, weights=each)
        answers.append((pipeline.predict(rows) == 0).mean())
    assert answers[0] > 0.15 and answers[1] < 0.05
    scaler = pipeline["scaler"]
    np.testing.assert_allclose(scaler.mean_, np.average(rows, axis=0, weights=weights), rtol=1e-4, atol=1e-4)


def test_a_weighted_pipeline_is_the_one_of_copies():
    rows, classes, speaker = clips()
    weights = np.where(speaker < 2, 3, 1)
    copied = np.repeat(np.arange(len(rows)), weights)
    fitted = []
    for part, each in ((np.arange(len(rows)), weights.astype(float)), (copied, None)):
        pipeline = pipelines.build(FAMILIES[0], seed=0).set_params(projection__penalties=(1.0,))
        pipelines.fit(
            pipeline, FAMILIES[0], rows[part], classes[part], groups=speaker[part], search=False, weights=each
        )
        fitted.append(pipeline.predict_proba(rows))
    np.testing.assert_allclose(*fitted, atol=1e-3)


@pytest.mark.parametrize("sizes", [[4], [3, 4, 7]], ids=["equal", "unequal"])
def test_many_small_groups_are_left_out_as_each_by_itself(sizes):
    """Small groups go through the hat matrix, several at once; large ones are fitted without."""
    rows, classes, _ = clips(n=420)
    groups = np.repeat(np.arange(420), np.resize(sizes, 420))[:420]
    groups = groups[np.random.default_rng(0).permutation(420)]
    scores = RidgeScores(penalties=(1.0,)).fit_transform(rows, classes, groups=groups)
    for left_out in range(0, int(groups.max()), 9):
        keep = groups != left_out
        fitted = RidgeScores(penalties=(1.0,)).fit(rows[keep], classes[keep])
        np.testing.assert_allclose(scores[~keep], fitted.transform(rows[~keep]), atol=2e-4)


@pytest.mark.parametrize(("rows", "most"), [(1_000, 1.0), (7_000, 0.3), (350_000, 20_000 / 350_000)])
def test_a_tree_sees_no_more_rows_of_a_large_corpus(rows, most):
    forest = pipelines._bounded(pipelines.build("random_forest", seed=0)["classifier"].get_params(), rows)
    assert forest["max_samples"] == pytest.approx(most)
    boosting = pipelines.build("gradient_boosting", seed=0)["classifier"]
    before = boosting.min_samples_leaf / boosting.subsample
    boosting.set_params(**pipelines._bounded(boosting.get_params(), rows))
    assert boosting.subsample == pytest.approx(min(0.25, most))
    assert boosting.min_samples_leaf / boosting.subsample == pytest.approx(before), "the share of what the tree sees"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_feature_that_is_no_number_is_refused(value):
    rows, classes, speaker = clips()
    rows[100, 7] = value
    with pytest.raises(ValueError, match="1 of 30 features hold a value that is not finite.* number 7"):
        pipelines.fit(pipelines.build(FAMILIES[0], seed=0), FAMILIES[0], rows, classes, groups=speaker, search=False)
