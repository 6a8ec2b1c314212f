"""Training: every split is fitted and judged, the same each time, and nothing is judged on what it has seen.

Each test of a leak builds data on which it would show as skill that cannot be there, and shows that it would.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from emotion import features
from emotion.evaluation import held_out
from emotion.evaluation.folds import splits
from emotion.features import feature_table
from emotion.features.feature_table import ORIGINAL
from emotion.models import pipelines
from emotion.models.classifier import Classifier, fit_temperature, normalize_by_speaker
from emotion.models.projection import PENALTIES
from emotion.training import fitting
from emotion.training.fitting import BACKGROUND_ROWS
from emotion.vocabulary import EMOTIONS, FAMILIES, PROBABILITIES, PROTOCOLS

SEED = 5
HELD_OUT = ("speaker_independent", "speaker_independent_adapted")
CHANCE = 0.26
"""Guesses among eight emotions are right less often, for as many clips as here, but for one case in 10⁴."""


def clips(*, speakers: int = 6, each: int = 3, width: int = 160, skill: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """A table of clips and their features.

    Clips of one speaker and emotion lie together, at a place that says nothing of where those of another
    speaker lie, so that whoever has heard the speaker knows, and nobody else can; ``skill`` is how far apart
    the emotions lie for everyone.
    """
    random = np.random.default_rng(SEED)
    table = pd.DataFrame(
        [
            {"emotion": emotion, "speaker": f"s{speaker}"}
            for speaker in range(speakers)
            for emotion in EMOTIONS
            for _ in range(each)
        ]
    )
    table["samples_sha256"] = [f"clip {number}" for number in range(len(table))]
    for column in ("gender", "intensity", "statement"):
        table[column] = random.choice(["one", "other"], len(table))
    places = np.repeat(random.normal(size=(speakers * len(EMOTIONS), width)), each, axis=0)
    common = np.tile(np.repeat(random.normal(size=(len(EMOTIONS), width)), each, axis=0), (speakers, 1))
    values = places + skill * common + 0.05 * random.normal(size=places.shape)
    return table, values.astype(np.float32)


def accuracy(predictions: pd.DataFrame, protocol: str) -> float:
    rows = predictions[predictions["protocol"] == protocol]
    found = np.array(EMOTIONS)[rows[PROBABILITIES].to_numpy().argmax(axis=1)]
    return float((found == rows["emotion"]).mean())


def ranking(predictions: pd.DataFrame, protocol: str, fold: int) -> np.ndarray:
    """The emotions of each row of a fold from likely to unlikely: what no temperature changes."""
    rows = predictions[(predictions["protocol"] == protocol) & (predictions["fold"] == fold)]
    return rows[PROBABILITIES].to_numpy().argsort(axis=1)


@pytest.fixture(scope="module")
def learnable():
    """Data on which all speakers have something in common, and what training a family on it gives."""
    table, values = clips(skill=0.4, width=40)
    folds = splits(table, seed=SEED, published=None)
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    trained = fitting.train(FAMILIES[0], table, values, folds=folds, seed=SEED, progress=tell)
    return table, values, folds, trained, told


def test_every_clip_is_predicted_once_by_every_protocol(learnable):
    table, _, folds, trained, _ = learnable
    for protocol in PROTOCOLS:
        rows = trained.predictions[trained.predictions["protocol"] == protocol].sort_values("row")
        assert rows["row"].tolist() == list(range(len(table)))
        assert rows["emotion"].tolist() == table["emotion"].tolist()
        np.testing.assert_allclose(rows[PROBABILITIES].sum(axis=1), 1)
        assert accuracy(trained.predictions, protocol) > 3 / len(EMOTIONS)
    split = trained.predictions[trained.predictions["protocol"] == "split_80_20"]
    assert sorted(split["row"]) == sorted(folds["split_80_20"][0][1])


@pytest.mark.parametrize("search", [False, True])
def test_what_was_searched_is_recorded_of_every_fit(search):
    table, values = clips(speakers=4, width=20, skill=1.0)
    folds = splits(table, seed=SEED, published=None)
    found = fitting.train(FAMILIES[0], table, values, folds=folds, search=search, seed=SEED).hyperparameters
    assert found["searched"] is search
    every = [found["plain"], found["adapted"], *(one for each in found["folds"].values() for one in each)]
    assert len(every) == sum(map(len, folds.values())) + 2
    grid = pipelines.hyperparameters()[FAMILIES[0]]["searched"]["C"]
    assert all(one["penalty"] in PENALTIES and one["C"] in grid for one in every)
    shipped = pipelines.hyperparameters()[FAMILIES[0]]["shipped"]["C"]
    assert ({one["C"] for one in every} == {shipped}) is not search


def test_progress_counts_every_fit(learnable):
    _, _, folds, _, told = learnable
    total = sum(map(len, folds.values())) + 2
    assert told == [(done, total) for done in range(1, total + 1)]


def test_timings_are_there(learnable):
    timings = learnable[3].timings
    assert set(timings) == {"fit_seconds", "training_seconds", "predict_ms_single", "predict_ms_batch"}
    assert all(value > 0 for value in timings.values())


def test_background_is_a_sample_of_what_each_was_fitted_on(learnable):
    table, values, _, trained, _ = learnable
    rows = {row.tobytes() for row in values}
    adapted = {row.tobytes() for row in normalize_by_speaker(values, table["speaker"].to_numpy())}
    assert {row.tobytes() for row in trained.background["plain"]} <= rows
    assert {row.tobytes() for row in trained.background["adapted"]} <= adapted
    assert len(trained.background["plain"]) == min(BACKGROUND_ROWS, len(table))


def test_scores_of_every_protocol(learnable):
    table, _, _, trained, _ = learnable
    found = held_out.protocol_scores(table, trained.predictions)
    assert set(found) == set(PROTOCOLS)
    for protocol in PROTOCOLS:
        assert found[protocol]["accuracy"] == pytest.approx(accuracy(trained.predictions, protocol))
        assert found[protocol]["n"] == len(table)
        assert set(found[protocol]["slices"]) == {"gender", "intensity", "statement"}
        folds = found[protocol]["cv"]["accuracy"]["folds"]
        assert len(folds) == (5 if protocol.startswith("random") else 6)
        assert np.mean(folds) == pytest.approx(found[protocol]["accuracy"], abs=0.02)
    split = found["random"]["split_80_20"]
    assert split["accuracy"] == pytest.approx(accuracy(trained.predictions, "split_80_20"))
    female = table["gender"] == "one"
    assert found["random"]["slices"]["gender"]["values"]["one"]["n"] == int(female.sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_data_and_seed_give_the_same_figures(family):
    table, values = clips(speakers=3, width=20, skill=1.0)
    folds = splits(table, seed=SEED, published=None)
    folds = {protocol: pairs[:2] for protocol, pairs in folds.items()}
    one, two = (fitting.train(family, table, values, folds=folds, seed=SEED) for _ in range(2))
    pd.testing.assert_frame_equal(one.predictions, two.predictions)
    np.testing.assert_array_equal(one.plain.predict_proba(values), two.plain.predict_proba(values))
    assert one.adapted.temperature == two.adapted.temperature


def test_soft_vote(learnable):
    predictions = learnable[3].predictions
    other = predictions.assign(**{column: 1 / 8 for column in PROBABILITIES})
    voted = held_out.soft_vote([predictions, other])
    np.testing.assert_allclose(voted[PROBABILITIES], (predictions[PROBABILITIES] + 1 / 8) / 2)
    pd.testing.assert_frame_equal(voted.drop(columns=PROBABILITIES), predictions.drop(columns=PROBABILITIES))
    with pytest.raises(ValueError, match="not of the same clips"):
        held_out.soft_vote([predictions, other.iloc[::-1].reset_index(drop=True)])


# Leaks


@pytest.mark.parametrize("family", FAMILIES)
def test_no_speaker_leaks(family):
    """Who has heard the speaker knows everything, nobody else can know anything."""
    table, values = clips()
    folds = splits(table, seed=SEED, published=None)
    folds["random"] = folds["random_adapted"] = folds["random"][:2]
    folds["speaker_independent"] = folds["speaker_independent_adapted"] = folds["speaker_independent"][:2]
    predictions = fitting.train(family, table, values, folds=folds, seed=SEED).predictions
    for protocol in HELD_OUT:
        assert accuracy(predictions, protocol) < CHANCE
    assert accuracy(predictions, "random") > 0.7, "clips drawn at random are the leak: it would show"


def test_splits_never_part_a_speaker():
    table, _ = clips()
    folds = splits(table, seed=SEED, published=None)
    speakers = table["speaker"].to_numpy()
    for protocol in HELD_OUT:
        assert all(not set(speakers[train]) & set(speakers[test]) for train, test in folds[protocol])
    assert any(set(speakers[train]) & set(speakers[test]) for train, test in folds["random"]), "it would show"
    assert folds["random_adapted"] is folds["random"] and folds[HELD_OUT[0]] is folds[HELD_OUT[1]]


@pytest.fixture(scope="module", params=[False, True], ids=["shipped", "searched"])
def three_folds(request, learnable):
    """The same three folds of two speakers each for every protocol, and a training on them, with and without search."""
    table, values, *_ = learnable
    pairs = [np.flatnonzero(table["speaker"].isin([f"s{n}", f"s{n + 1}"])) for n in (0, 2, 4)]
    three = [(np.setdiff1d(np.arange(len(table)), test), test) for test in pairs]
    folds = dict.fromkeys(PROTOCOLS, three) | {"split_80_20": three[:1]}
    train = partial(fitting.train, FAMILIES[0], folds=folds, search=request.param, seed=SEED)
    return folds, train, train(table=table, features=values)


def test_labels_of_held_out_clips_change_no_prediction_of_them(learnable, three_folds):
    table, values, *_ = learnable
    folds, train, before = three_folds
    test = folds["random"][0][1]
    lied = table.copy()
    lied.loc[test, "emotion"] = np.roll(table.loc[test, "emotion"], 7)
    after = train(table=lied, features=values)
    for protocol in folds:
        assert after.hyperparameters["folds"][protocol][0] == before.hyperparameters["folds"][protocol][0]
        np.testing.assert_array_equal(ranking(after.predictions, protocol, 0), ranking(before.predictions, protocol, 0))
    heard = [model.logits(values[test]).argsort(axis=1) for model in (before.plain, after.plain)]
    assert not np.array_equal(*heard), "the final models, fitted on all clips, are the leak: it would show"


def test_features_of_held_out_clips_change_no_prediction_of_other_ones(learnable, three_folds):
    """No statistic of held-out clips is used but each speaker's own, in the adapted protocols."""
    table, values, *_ = learnable
    folds, train, before = three_folds
    known, test = folds["random"][0]
    strange = (table["speaker"] == "s0").to_numpy()
    moved = np.where(strange[:, None], 10 * values**2 + 100, values).astype(np.float32)
    after = train(table=table, features=moved)
    others = ~strange[test]
    for protocol in folds:
        found = [ranking(trained.predictions, protocol, 0)[others] for trained in (before, after)]
        np.testing.assert_array_equal(*found)
    leaky = Classifier.fit(FAMILIES[0], values[known], table["emotion"].to_numpy()[known], seed=SEED)
    shown = []
    for found in (values, moved):
        leaky.pipeline["scaler"].fit(found)
        shown.append(leaky.logits(found[test][others]).argsort(axis=1))
    assert not np.array_equal(*shown), "a scaler fitted on all clips is the leak: it would show"


def test_no_augmented_copy_leaks():
    """Copies tell the emotion of their own clip and of no other: no protocol may gain by them."""
    table, _ = clips(speakers=12, each=1)
    values = np.random.default_rng(SEED).normal(size=(len(table), 300)).astype(np.float32)
    copies = np.stack([values + np.float32(0.01), values - np.float32(0.01)])
    folds = splits(table, seed=SEED, published=None)
    found = fitting.train(FAMILIES[0], table, values, augmented=copies, folds=folds, seed=SEED).predictions
    for protocol in PROTOCOLS:
        assert accuracy(found, protocol) < CHANCE
    twice, rows = pd.concat([table, table], ignore_index=True), np.concatenate([values, copies[0]])
    folds["random"] = splits(twice, seed=SEED, published=None)["random"]
    leaky = fitting.train(FAMILIES[0], twice, rows, folds=folds, seed=SEED).predictions
    assert accuracy(leaky, "random") > 0.6, "copies that are rows of their own are the leak: it would show"


def test_scalers_know_the_training_side_alone(learnable):
    _, values, folds, trained, _ = learnable
    for fold, (train, _) in zip(trained.folds, folds["speaker_independent"], strict=True):
        mean = fold["model"].pipeline["scaler"].mean_
        np.testing.assert_allclose(mean, values[train].mean(axis=0, dtype=np.float64), atol=1e-6)
        assert np.abs(mean - values.mean(axis=0, dtype=np.float64)).max() > 1e-3, "all clips' would show"


def test_speaker_statistics_are_each_speakers_own():
    """Neither another speaker's clips nor any label moves a speaker's normalized features."""
    table, values = clips(speakers=3, width=10)
    speakers = table["speaker"].to_numpy()
    before = normalize_by_speaker(values, speakers)
    moved = np.where((speakers == "s0")[:, None], 100 * values + 7, values).astype(np.float32)
    after = normalize_by_speaker(moved, speakers)
    np.testing.assert_array_equal(after[speakers != "s0"], before[speakers != "s0"])
    np.testing.assert_allclose(after[speakers == "s0"], before[speakers == "s0"], atol=1e-4)
    pooled = [(found - found.mean(axis=0)) / found.std(axis=0) for found in (values, moved)]
    assert not np.allclose(*(found[speakers != "s0"] for found in pooled), atol=0.1), "pooled ones would show"


def test_no_temperature_is_fitted_on_the_clips_it_is_judged_on(learnable):
    table, values, folds, trained, _ = learnable
    labels, pairs = table["emotion"].to_numpy(), folds["speaker_independent"]
    models = [fold["model"] for fold in trained.folds]
    logits = [model.logits(values[test]) for model, (_, test) in zip(models, pairs, strict=True)]
    rows = trained.predictions[trained.predictions["protocol"] == "speaker_independent"]
    everything = fit_temperature(np.concatenate(logits), np.concatenate([labels[test] for _, test in pairs]))
    for number in range(len(pairs)):
        others = [other for other in range(len(pairs)) if other != number]
        expected = fit_temperature(
            np.concatenate([logits[other] for other in others]),
            np.concatenate([labels[pairs[other][1]] for other in others]),
        )
        found = rows[rows["fold"] == number][PROBABILITIES].to_numpy()
        np.testing.assert_allclose(found, softmax(logits[number] / expected, axis=1), atol=1e-6)
        assert trained.folds[number]["model"].temperature == pytest.approx(expected)
        assert abs(expected - everything) > 1e-6, "all clips' would show"
    assert trained.plain.temperature == pytest.approx(everything), "the final model is judged on none of them"


def test_fold_models_name_the_clips_and_speakers_they_have_not_heard(learnable):
    table, _, folds, trained, _ = learnable
    for fold, (train, test) in zip(trained.folds, folds["speaker_independent"], strict=True):
        assert set(fold["clips"]) == set(table["samples_sha256"].iloc[test])
        assert set(fold["speakers"]) == set(table["speaker"].iloc[test])
        assert not set(fold["speakers"]) & set(table["speaker"].iloc[train])


def test_no_copy_of_a_recording_is_on_both_sides(store):
    """Every recording comes twice, under another name and speaker; only a copy could tell its emotion."""
    names, random = list(features.feature_names()), np.random.default_rng(SEED)
    recordings = 96
    manifest = pd.DataFrame(
        {
            "path": [f"{copy}/{number:03d}.wav" for copy in "ab" for number in range(recordings)],
            "sha256": [f"{copy}{number}" for copy in "ab" for number in range(recordings)],
            "emotion": np.tile(np.resize(EMOTIONS, recordings), 2),
            "speaker": (np.add.outer([0, 1], np.arange(recordings) // 8).ravel() % 6).astype(str),
            "duration": 3.0,
        }
    )
    samples = np.tile([f"samples {number}" for number in range(recordings)], 2)
    keys = manifest[["sha256"]].assign(samples_sha256=samples, reason="", message="")
    values = np.tile(random.normal(size=(recordings, len(names))).astype(np.float32), (2, 1))
    one = pd.concat([keys, pd.DataFrame(values, columns=names)], axis=1)
    shard = pd.concat([one.assign(variant=name) for name in (ORIGINAL, *features.VARIANTS)])
    store.write_table(f"features/{features.recipe_version()}/shard.parquet", shard)
    refused = pd.DataFrame(columns=["path", "sha256", "reason", "message"])

    def accuracies(table: pd.DataFrame) -> dict[str, float]:
        folds = splits(table, seed=SEED, published=None)
        found = fitting.train(
            FAMILIES[0], table, table[names[:200]].to_numpy(dtype=np.float32), folds=folds, seed=SEED
        ).predictions
        return {protocol: accuracy(found, protocol) for protocol in ("random", "speaker_independent")}

    collected = feature_table.collect(store, manifest, refused)
    assert len(collected.table) == len(collected.duplicates) == recordings
    assert max(accuracies(collected.table).values()) < CHANCE
    everything = feature_table.stored(store)
    leaky = manifest.merge(everything[everything["variant"] == ORIGINAL], on="sha256")
    assert min(accuracies(leaky).values()) > 0.6, "copies on both sides are the leak: it would show"
