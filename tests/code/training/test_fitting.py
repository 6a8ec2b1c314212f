"""Training: every fold is fitted and tested, with the same result each time, and no model is tested on what it was
fitted on.

Each test of a leak builds data on which the leak would show as impossible accuracy, and shows that it would.
"""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from emotion import features
from emotion.evaluation import held_out
from emotion.evaluation.folds import splits
from emotion.features import feature_table, quality
from emotion.features.feature_table import ORIGINAL
from emotion.models import pipelines
from emotion.models.adaptation import measure, normalize, normalize_by_speaker
from emotion.models.classifier import Classifier, fit_temperature
from emotion.models.projection import PENALTIES
from emotion.training import fitting
from emotion.training.fitting import BACKGROUND_ROWS
from emotion.training.rows import ConditionRows, TrainingRows
from emotion.vocabulary import (
    DATASET_PROTOCOLS,
    EMOTIONS,
    FAMILIES,
    MODES,
    PROTOCOLS,
    emotions_of,
    probabilities_of,
    probability_columns,
)
from small_data import features_of

PROBABILITIES = probability_columns(EMOTIONS)

SEED = 5
HELD_OUT = tuple(MODES.values())
CHANCE = 0.26
"""For as many clips as here, the accuracy of guesses among eight emotions is higher in one case of 10⁴."""


def clips(*, speakers: int = 6, each: int = 3, width: int = 160, skill: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """A table of clips and their features.

    Clips of one speaker and emotion lie together, at a random place. A model that has heard the speaker can recognize
    the emotion; no other model can. ``skill`` is how far the emotions lie apart in the same way for all speakers.
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
    predicted = np.array(EMOTIONS)[rows[PROBABILITIES].to_numpy().argmax(axis=1)]
    return float((predicted == rows["emotion"]).mean())


def ranking(predictions: pd.DataFrame, protocol: str, fold: int) -> np.ndarray:
    """The emotions of each row of a fold, ranked by probability: no temperature changes this."""
    rows = predictions[(predictions["protocol"] == protocol) & (predictions["fold"] == fold)]
    return rows[PROBABILITIES].to_numpy().argsort(axis=1)


@pytest.fixture(scope="module")
def learnable():
    """Data in which emotions differ in the same way for all speakers, and the result of training a family on it."""
    table, values = clips(skill=0.4, width=40)
    folds = splits(table, seed=SEED, published=None)
    reports: list[tuple[int, int]] = []

    def record(done: int, total: int) -> None:
        reports.append((done, total))

    trained = fitting.train(FAMILIES[0], table, values, folds=folds, seed=SEED, progress=record)
    return table, values, folds, trained, reports


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


def test_an_emotion_that_a_fold_has_not_seen_has_no_probability_there():
    """One speaker alone is bored: the model that holds her out does not know it, and has its column all the same."""
    table, values = clips(speakers=4, width=20, skill=1.0)
    rows = np.flatnonzero((table["emotion"] != "surprised") | (table["speaker"] == "s2"))
    rows = np.append(rows, np.flatnonzero((table["emotion"] == "surprised") & (table["speaker"] == "s2")))
    table, values = table.iloc[rows].reset_index(drop=True), values[rows]  # she is six times so, for random folds
    table["emotion"] = table["emotion"].replace({"surprised": "bored", "happy": "polite"})
    emotions = ("neutral", "calm", "sad", "angry", "fearful", "disgust", "bored", "polite")
    for family in FAMILIES[:2]:
        folds = splits(table, seed=SEED, published=None)
        trained = fitting.train(family, table, values, folds=folds, seed=SEED)
        assert emotions_of(trained.predictions) == emotions == trained.models["plain"].label_set
        assert set(trained.models["plain"].emotions) == set(emotions)
        rows = trained.predictions[trained.predictions["protocol"] == "speaker_independent"]
        without = next(number for number, fold in enumerate(trained.folds) if "s2" in fold["speakers"])
        assert trained.folds[without]["model"].label_set == emotions
        assert "bored" not in trained.folds[without]["model"].emotions
        is_in_fold = rows["fold"] == without
        assert (rows.loc[is_in_fold, "p_bored"] == 0).all() and (rows.loc[~is_in_fold, "p_bored"] > 0).all()
        np.testing.assert_allclose(probabilities_of(rows).sum(axis=1), 1)
        assert rows.loc[is_in_fold, "emotion"].eq("bored").sum() == 6
        scores = held_out.protocol_scores(table, trained.predictions, seed=SEED)["speaker_independent"]
        assert scores["per_emotion"]["bored"]["recall"] == 0 and np.isfinite(scores["log_loss"])


@pytest.mark.parametrize("search", [False, True])
def test_the_settings_of_every_fit_are_recorded(search):
    table, values = clips(speakers=4, width=20, skill=1.0)
    folds = splits(table, seed=SEED, published=None)
    recorded = fitting.train(FAMILIES[0], table, values, folds=folds, search=search, seed=SEED).hyperparameters
    assert recorded["searched"] is search
    fits = [*(recorded[mode] for mode in MODES), *(fit for each in recorded["folds"].values() for fit in each)]
    assert len(fits) == sum(map(len, folds.values())) + len(MODES)
    grid = pipelines.hyperparameters()[FAMILIES[0]]["searched"]["C"]
    assert all(fit["penalty"] in PENALTIES and fit["C"] in grid for fit in fits)
    shipped = pipelines.hyperparameters()[FAMILIES[0]]["shipped"]["C"]
    assert ({fit["C"] for fit in fits} == {shipped}) is not search


def test_progress_counts_every_fit(learnable):
    _, _, folds, _, reports = learnable
    total = sum(map(len, folds.values())) + len(MODES)
    assert reports == [(done, total) for done in range(1, total + 1)]


def test_timings_are_positive(learnable):
    timings = learnable[3].timings
    assert set(timings) == {"fit_seconds", "training_seconds", "predict_ms_single", "predict_ms_batch"}
    assert all(value > 0 for value in timings.values())


def test_background_is_a_sample_of_the_rows_each_model_was_fitted_on(learnable):
    table, values, _, trained, _ = learnable
    by_mode = {
        "plain": values,
        "batch": normalize(values, measure(values)),
        "speaker": normalize_by_speaker(values, table["speaker"].to_numpy()),
    }
    assert trained.background.keys() == by_mode.keys()
    for mode, rows in by_mode.items():
        assert {row.tobytes() for row in trained.background[mode]} <= {row.tobytes() for row in rows}
        assert len(trained.background[mode]) == min(BACKGROUND_ROWS, len(table))


def test_scores_of_every_protocol_are_those_of_its_predictions(learnable):
    table, _, _, trained, _ = learnable
    scores = held_out.protocol_scores(table, trained.predictions, seed=0)
    assert set(scores) == set(PROTOCOLS)
    for protocol in PROTOCOLS:
        assert scores[protocol]["accuracy"] == pytest.approx(accuracy(trained.predictions, protocol))
        assert scores[protocol]["n"] == len(table)
        assert set(scores[protocol]["slices"]) == {"gender", "intensity", "statement"}
        folds = scores[protocol]["cv"]["accuracy"]["folds"]
        assert len(folds) == (5 if protocol.startswith("random") else 6)
        assert np.mean(folds) == pytest.approx(scores[protocol]["accuracy"], abs=0.02)
    split = scores["random"]["split_80_20"]
    assert split["accuracy"] == pytest.approx(accuracy(trained.predictions, "split_80_20"))
    female = table["gender"] == "one"
    assert scores["random"]["slices"]["gender"]["values"]["one"]["n"] == int(female.sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_data_and_seed_give_the_same_figures(family):
    table, values = clips(speakers=3, width=20, skill=1.0)
    folds = splits(table, seed=SEED, published=None)
    folds = {protocol: pairs[:2] for protocol, pairs in folds.items()}
    first, second = (fitting.train(family, table, values, folds=folds, seed=SEED) for _ in range(2))
    pd.testing.assert_frame_equal(first.predictions, second.predictions)
    np.testing.assert_array_equal(*(trained.models["plain"].predict_proba(values) for trained in (first, second)))
    for mode in MODES:
        assert first.models[mode].temperature == second.models[mode].temperature


def test_soft_vote_is_the_mean_and_needs_the_same_clips(learnable):
    predictions = learnable[3].predictions
    other = predictions.assign(**dict.fromkeys(PROBABILITIES, 1 / 8))
    voted = held_out.soft_vote([predictions, other])
    np.testing.assert_allclose(voted[PROBABILITIES], (predictions[PROBABILITIES] + 1 / 8) / 2)
    pd.testing.assert_frame_equal(voted.drop(columns=PROBABILITIES), predictions.drop(columns=PROBABILITIES))
    with pytest.raises(ValueError, match="not of the same clips"):
        held_out.soft_vote([predictions, other.iloc[::-1].reset_index(drop=True)])


# Leaks


def test_clips_under_conditions_are_answered_by_models_that_have_not_heard_the_speaker():
    """Clips that are changed by nothing get the held-out answers; a model that has heard them would be right."""
    table, values = clips()
    folds = splits(table, seed=SEED, published=None)
    folds["random"] = folds["random_adapted"] = folds["random"][:2]
    sampled = np.arange(0, len(table), 2)
    conditions = ConditionRows(sampled, {"clean": values[sampled], "same": values[sampled], "other": -values[sampled]})
    trained = fitting.train(FAMILIES[0], table, values, conditions=conditions, folds=folds, seed=SEED)
    tested = trained.condition_predictions
    cells = itertools.product(MODES, conditions.values)
    assert tested.groupby(["mode", "condition"]).size().to_dict() == dict.fromkeys(cells, len(sampled))
    assert (tested["emotion"].to_numpy() == table["emotion"].to_numpy()[tested["row"]]).all()
    for mode in MODES:
        by_condition = {
            name: part.sort_values("row") for name, part in tested[tested["mode"] == mode].groupby("condition")
        }
        np.testing.assert_array_equal(by_condition["same"][PROBABILITIES], by_condition["clean"][PROBABILITIES])
        assert (
            by_condition["other"][PROBABILITIES].to_numpy() != by_condition["clean"][PROBABILITIES].to_numpy()
        ).any()
        right = by_condition["clean"][PROBABILITIES].to_numpy().argmax(axis=1)
        assert (np.array(EMOTIONS)[right] == by_condition["clean"]["emotion"]).mean() < CHANCE + 0.05
    plain = tested[(tested["mode"] == "plain") & (tested["condition"] == "clean")].sort_values("row")
    held = trained.predictions[trained.predictions["protocol"] == "speaker_independent"].set_index("row")
    np.testing.assert_allclose(plain[PROBABILITIES], held.loc[sampled, PROBABILITIES], atol=1e-9)
    without = fitting.train(FAMILIES[0], table, values, folds=folds, seed=SEED)
    assert without.condition_predictions is None
    pd.testing.assert_frame_equal(without.predictions, trained.predictions)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_speaker_on_the_test_side_is_unheard(family):
    """A model that has heard the speaker can be right about every clip; any other model can only guess."""
    table, values = clips()
    folds = splits(table, seed=SEED, published=None)
    folds["random"] = folds["random_adapted"] = folds["random"][:2]
    folds |= dict.fromkeys(HELD_OUT, folds["speaker_independent"][:2])
    predictions = fitting.train(family, table, values, folds=folds, seed=SEED).predictions
    for protocol in HELD_OUT:
        assert accuracy(predictions, protocol) < CHANCE
    assert accuracy(predictions, "random") > 0.7, "a random split has this leak, and it shows"


def test_speaker_folds_keep_each_speaker_on_one_side():
    table, _ = clips()
    folds = splits(table, seed=SEED, published=None)
    speakers = table["speaker"].to_numpy()
    for protocol in HELD_OUT:
        assert all(not set(speakers[train]) & set(speakers[test]) for train, test in folds[protocol])
    assert any(set(speakers[train]) & set(speakers[test]) for train, test in folds["random"]), "a random split does not"
    assert folds["random_adapted"] is folds["random"] and len({id(folds[name]) for name in HELD_OUT}) == 1


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
    changed = table.copy()
    changed.loc[test, "emotion"] = np.roll(table.loc[test, "emotion"], 7)
    after = train(table=changed, features=values)
    for protocol in folds:
        assert after.hyperparameters["folds"][protocol][0] == before.hyperparameters["folds"][protocol][0]
        np.testing.assert_array_equal(ranking(after.predictions, protocol, 0), ranking(before.predictions, protocol, 0))
    heard = [model.logits(values[test]).argsort(axis=1) for model in (before.models["plain"], after.models["plain"])]
    assert not np.array_equal(*heard), "models fitted on all clips have this leak, and it shows"


def test_features_of_one_held_out_speaker_change_no_prediction_of_other_speakers(learnable, three_folds):
    """The only statistics of held-out clips are those of each speaker, in the adapted protocols, and those of a fold in
    the batch protocol."""
    table, values, *_ = learnable
    folds, train, before = three_folds
    known, test = folds["random"][0]
    changed = (table["speaker"] == "s0").to_numpy()
    moved = np.where(changed[:, None], 10 * values**2 + 100, values).astype(np.float32)
    after = train(table=table, features=moved)
    others = ~changed[test]
    for protocol in folds.keys() - {"speaker_independent_batch"}:
        rankings = [ranking(trained.predictions, protocol, 0)[others] for trained in (before, after)]
        np.testing.assert_array_equal(*rankings)
    leaky = Classifier.fit(FAMILIES[0], values[known], table["emotion"].to_numpy()[known], seed=SEED)
    leaky_rankings = []
    for features_of_all in (values, moved):
        leaky.pipeline["scaler"].fit(features_of_all)
        leaky_rankings.append(leaky.logits(features_of_all[test][others]).argsort(axis=1))
    assert not np.array_equal(*leaky_rankings), "a scaler fitted on all clips has this leak, and it shows"


def test_augmented_copies_do_not_leak_the_emotion_of_a_test_clip():
    """A copy reveals the emotion of its clip and of no other, so no protocol may gain by copies."""
    table, _ = clips(speakers=12, each=1)
    values = np.random.default_rng(SEED).normal(size=(len(table), 300)).astype(np.float32)
    copies = np.stack([values + np.float32(0.01), values - np.float32(0.01)])
    folds = splits(table, seed=SEED, published=None)
    predictions = fitting.train(FAMILIES[0], table, values, augmented=copies, folds=folds, seed=SEED).predictions
    for protocol in PROTOCOLS:
        assert accuracy(predictions, protocol) < CHANCE
    twice, rows = pd.concat([table, table], ignore_index=True), np.concatenate([values, copies[0]])
    folds["random"] = splits(twice, seed=SEED, published=None)["random"]
    leaky = fitting.train(FAMILIES[0], twice, rows, folds=folds, seed=SEED).predictions
    assert accuracy(leaky, "random") > 0.6, "copies as rows of a random split have this leak, and it shows"


def test_scalers_are_fitted_on_the_training_side_alone(learnable):
    _, values, folds, trained, _ = learnable
    for fold, (train, _) in zip(trained.folds, folds["speaker_independent"], strict=True):
        mean = fold["model"].pipeline["scaler"].mean_
        np.testing.assert_allclose(mean, values[train].mean(axis=0, dtype=np.float64), atol=1e-6)
        assert np.abs(mean - values.mean(axis=0, dtype=np.float64)).max() > 1e-3, "the value of all clips differs"


def test_speaker_statistics_come_from_the_same_speaker_alone():
    """Another speaker's clips do not change a speaker's normalized features."""
    table, values = clips(speakers=3, width=10)
    speakers = table["speaker"].to_numpy()
    before = normalize_by_speaker(values, speakers)
    moved = np.where((speakers == "s0")[:, None], 100 * values + 7, values).astype(np.float32)
    after = normalize_by_speaker(moved, speakers)
    np.testing.assert_array_equal(after[speakers != "s0"], before[speakers != "s0"])
    np.testing.assert_allclose(after[speakers == "s0"], before[speakers == "s0"], atol=1e-4)
    pooled = [(rows - rows.mean(axis=0)) / rows.std(axis=0) for rows in (values, moved)]
    assert not np.allclose(*(rows[speakers != "s0"] for rows in pooled), atol=0.1), "pooled statistics would"


def test_no_temperature_is_fitted_on_the_clips_it_calibrates(learnable):
    table, values, folds, trained, _ = learnable
    labels, pairs = table["emotion"].to_numpy(), folds["speaker_independent"]
    models = [fold["model"] for fold in trained.folds]
    logits = [model.logits(values[test]) for model, (_, test) in zip(models, pairs, strict=True)]
    rows = trained.predictions[trained.predictions["protocol"] == "speaker_independent"]
    everything = fit_temperature(np.concatenate(logits), np.concatenate([labels[test] for _, test in pairs]), EMOTIONS)
    for number in range(len(pairs)):
        others = [other for other in range(len(pairs)) if other != number]
        expected = fit_temperature(
            np.concatenate([logits[other] for other in others]),
            np.concatenate([labels[pairs[other][1]] for other in others]),
            EMOTIONS,
        )
        probabilities = rows[rows["fold"] == number][PROBABILITIES].to_numpy()
        np.testing.assert_allclose(probabilities, softmax(logits[number] / expected, axis=1), atol=1e-6)
        assert trained.folds[number]["model"].temperature == pytest.approx(expected)
        assert abs(expected - everything) > 1e-6, "the value of all clips differs"
    assert trained.models["plain"].temperature == pytest.approx(everything), (
        "the final model is tested on none of these clips"
    )


def test_fold_models_name_the_clips_and_speakers_they_have_not_heard(learnable):
    table, _, folds, trained, _ = learnable
    for fold, (train, test) in zip(trained.folds, folds["speaker_independent"], strict=True):
        assert set(fold["clips"]) == set(table["samples_sha256"].iloc[test])
        assert set(fold["speakers"]) == set(table["speaker"].iloc[test])
        assert not set(fold["speakers"]) & set(table["speaker"].iloc[train])


def test_no_copy_of_a_recording_is_on_both_sides(store):
    """Every recording is there twice, with another name and speaker; only its copy could reveal its emotion."""
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
    keys = manifest[["sha256"]].assign(samples_sha256=samples, reason="", message="", **quality.UNKNOWN._asdict())
    values = np.tile(random.normal(size=(recordings, len(names))).astype(np.float32), (2, 1))
    rows = pd.concat([keys, pd.DataFrame(values, columns=names)], axis=1)
    shard = pd.concat([rows.assign(variant=name) for name in (ORIGINAL, *features.VARIANTS)])
    store.write_table(f"features/{features.recipe_version()}/shard.parquet", shard)
    refused = pd.DataFrame(columns=["path", "sha256", "reason", "message"])

    def accuracies(table: pd.DataFrame) -> dict[str, float]:
        folds = splits(table, seed=SEED, published=None)
        values = features_of(store, table)[:, :200]
        predictions = fitting.train(FAMILIES[0], table, values, folds=folds, seed=SEED).predictions
        return {protocol: accuracy(predictions, protocol) for protocol in ("random", "speaker_independent")}

    collected = feature_table.collect(store, manifest, refused)
    assert len(collected.table) == len(collected.duplicates) == recordings
    assert max(accuracies(collected.table).values()) < CHANCE
    everything = feature_table.stored(store)
    leaky = manifest.merge(everything[everything["variant"] == ORIGINAL], on="sha256")
    assert min(accuracies(leaky).values()) > 0.6, "copies on both sides are this leak, and it shows"


# Several datasets


def of_datasets(table: pd.DataFrame, **speakers: list[str]) -> pd.DataFrame:
    """The table with the dataset of each clip; of which speakers each dataset is."""
    dataset_of = {speaker: name for name, those in speakers.items() for speaker in those}
    return table.assign(dataset=table["speaker"].map(dataset_of))


TWO = {"x": ["s0", "s1", "s2"], "y": ["s3", "s4", "s5"]}
NEEDED = {"split_80_20", "random", "speaker_independent", *DATASET_PROTOCOLS}


def train_on(table: pd.DataFrame, values: np.ndarray, **options) -> fitting.Trained:
    """Train the first family, on few folds of the protocols that the tests below do not look at."""
    folds = splits(table, seed=SEED, published=None)
    folds = {name: pairs if name in NEEDED else pairs[:2] for name, pairs in folds.items()}
    return fitting.train(FAMILIES[0], table, values, folds=folds, seed=SEED, **options)


def test_a_held_out_dataset_is_unheard():
    """Whoever has heard a speaker can be right about all her clips; here, no model can be right."""
    table, values = clips()
    predictions = train_on(of_datasets(table, **TWO), values).predictions
    for protocol in DATASET_PROTOCOLS:
        rows = predictions[predictions["protocol"] == protocol]
        assert sorted(rows["row"]) == list(range(len(table))) and accuracy(predictions, protocol) < CHANCE
    assert accuracy(predictions, "random") > 0.7, "a random split has this leak, and it shows"


def test_speakers_of_a_held_out_dataset_are_not_heard_in_another_either():
    """s2 speaks in both datasets: her clips in the other one are on no side."""
    table, values = clips()
    table = of_datasets(table, **TWO)
    table.loc[(table["speaker"] == "s2") & (np.arange(len(table)) % 2 == 0), "dataset"] = "y"
    folds = splits(table, seed=SEED, published=None)["unheard_dataset"]
    for train_side, test in folds:
        assert not set(table["speaker"].iloc[train_side]) & set(table["speaker"].iloc[test])
        assert len(set(table["dataset"].iloc[test])) == 1 and len(train_side) + len(test) < len(table)
    predictions = train_on(table, values).predictions
    for protocol in DATASET_PROTOCOLS:
        assert accuracy(predictions, protocol) < CHANCE


def test_emotions_that_a_held_out_dataset_lacks_have_no_probability():
    table, values = clips(skill=1.0, width=20, each=4)
    table = of_datasets(table, **TWO)
    keep = ~((table["dataset"] == "x") & table["emotion"].isin(["sad", "calm"]))
    keep &= ~((table["dataset"] == "y") & (table["emotion"] == "disgust"))
    table, values = table[keep].reset_index(drop=True), values[keep]
    predictions = train_on(table, values).predictions
    for protocol in DATASET_PROTOCOLS:
        rows = predictions[predictions["protocol"] == protocol]
        assert not rows["emotion"].isin(["sad", "calm", "disgust"]).any(), "no test of what the other side lacks"
        np.testing.assert_allclose(probabilities_of(rows).sum(axis=1), 1)
        assert (rows[["p_sad", "p_calm", "p_disgust"]] == 0).all(axis=None)
        assert (rows[["p_happy", "p_angry"]] > 0).all(axis=None)


def test_labels_of_a_held_out_dataset_change_no_prediction_of_it():
    table, values = clips(skill=0.4, width=20)
    table = of_datasets(table, **TWO)
    changed = table.copy()
    in_first = (table["dataset"] == "x").to_numpy()
    changed.loc[in_first, "emotion"] = np.roll(table.loc[in_first, "emotion"], 5)
    before, after = (train_on(each, values).predictions for each in (table, changed))
    for protocol in DATASET_PROTOCOLS:
        np.testing.assert_array_equal(ranking(before, protocol, 0), ranking(after, protocol, 0))
        assert not np.array_equal(ranking(before, protocol, 1), ranking(after, protocol, 1)), "there they are heard"


@pytest.mark.parametrize("datasets", [TWO, {"x": ["s0"], "y": ["s1", "s2", "s3", "s4", "s5"]}], ids=["two", "one"])
def test_no_temperature_is_fitted_on_the_answers_that_it_calibrates(datasets):
    """Also where one dataset alone can be held out: there is no other fold then, and those of unheard speakers, some of
    whose answers are for clips of this dataset, stand in for it."""
    table, values = clips(skill=0.4, width=20)
    table = of_datasets(table, **datasets)
    rows = TrainingRows.from_table(table, values, None)
    folds = splits(table, seed=SEED, published=None)
    folds["random"] = folds["random_adapted"] = folds["random"][:2]
    fitter = fitting._Fitter(
        FAMILIES[0], rows, views=None, search=False, seed=SEED, progress=lambda done, total: None, total=0
    )
    fits = fitting._fit_folds(rows, folds, fitter)
    for protocol in (*DATASET_PROTOCOLS, *MODES.values()):
        for number, (_, test) in enumerate(folds[protocol]):
            labels = rows.labels.copy()
            labels[test] = np.roll(labels[test], 5)
            before, after = (fitting._temperatures(fits, folds, each)[protocol] for each in (rows.labels, labels))
            assert before[number] == after[number]
            others = [before[other] != after[other] for other in range(len(before)) if other != number]
            assert all(others) and len(others) == len(fits[protocol]) - 1


def test_one_dataset_by_name_changes_nothing(learnable):
    """Bit for bit: no weights, no further protocol, the same batches."""
    table, values, folds, trained, _ = learnable
    again = fitting.train(FAMILIES[0], table.assign(dataset="x"), values, folds=folds, seed=SEED)
    assert set(splits(table.assign(dataset="x"), seed=SEED, published=None)) == set(folds)
    pd.testing.assert_frame_equal(again.predictions, trained.predictions)
    for mode in MODES:
        np.testing.assert_array_equal(again.models[mode].logits(values), trained.models[mode].logits(values))


def test_a_small_dataset_is_not_drowned_by_one_twenty_times_as_large():
    """The two call the same sounds by other names; without weights the small one's names would hardly be answered."""
    random = np.random.default_rng(SEED)
    datasets = np.repeat(["large", "small"], [800, 40])
    table = pd.DataFrame({"dataset": datasets, "speaker": [f"{d}{n % 4}" for n, d in enumerate(datasets)]})
    sound = random.integers(0, 2, len(table))
    names = np.where(datasets == "large", np.array(["happy", "sad"])[sound], np.array(["sad", "happy"])[sound])
    table = table.assign(emotion=names, samples_sha256=[f"clip {n}" for n in range(len(table))])
    values = random.normal(size=(len(table), 10)).astype(np.float32)
    values[:, 0] += 6 * sound

    def mean_probability(table: pd.DataFrame) -> float:
        """Of the small dataset's own name for its clips, by the final model before it is calibrated."""
        model = train_on(table, values).models["plain"]
        small = datasets == "small"
        columns = [model.label_set.index(label) for label in names[small]]
        probabilities = softmax(model.logits(values[small]), axis=1)
        return float(probabilities[np.arange(small.sum()), columns].mean())

    weighted, equal = mean_probability(table), mean_probability(table.assign(dataset="one"))
    assert weighted > 2 * equal
