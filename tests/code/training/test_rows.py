"""Each protocol is given the features and the groups that it stands for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emotion.models.adaptation import measure, normalize, normalize_by_batch, normalize_by_speaker
from emotion.training.rows import TrainingRows, dataset_weights
from emotion.vocabulary import DATASET_MODES, MODES

SPEAKERS = np.repeat(["a", "b", "c"], 8)
TRAIN_SIDE = np.flatnonzero(np.arange(24) % 4)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(5, 2, (24, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def rows(features) -> TrainingRows:
    table = pd.DataFrame({"emotion": np.resize(["sad", "happy"], 24), "speaker": SPEAKERS})
    return TrainingRows.from_table(table, features, np.stack([features + 1, features * 2]))


@pytest.mark.parametrize("protocol", ["split_80_20", "random", "speaker_independent"])
def test_plain_protocols_use_features_as_they_are(rows, features, protocol):
    np.testing.assert_array_equal(rows.variants(protocol, TRAIN_SIDE), [features, features + 1, features * 2])


def test_adapted_speakers_are_normalized_by_all_their_clips(rows, features):
    expected = [normalize_by_speaker(variant, SPEAKERS) for variant in (features, features + 1, features * 2)]
    np.testing.assert_array_equal(rows.variants("speaker_independent_adapted", TRAIN_SIDE), expected)


def test_adapted_random_folds_are_normalized_by_the_training_side(rows, features):
    moved = features.copy()
    moved[np.arange(24) % 4 == 0] += 100
    table = pd.DataFrame({"emotion": rows.labels, "speaker": SPEAKERS})
    other = TrainingRows.from_table(table, moved, None).variants("random_adapted", TRAIN_SIDE)
    np.testing.assert_array_equal(other[0, TRAIN_SIDE], rows.variants("random_adapted", TRAIN_SIDE)[0, TRAIN_SIDE])
    assert not np.array_equal(
        other[0, TRAIN_SIDE], rows.variants("speaker_independent_adapted", TRAIN_SIDE)[0, TRAIN_SIDE]
    ), "all clips give other statistics"


def test_both_sides_of_a_batch_fold_are_normalized_by_themselves(rows, features):
    test = np.setdiff1d(np.arange(24), TRAIN_SIDE)
    normalized = rows.variants("speaker_independent_batch", TRAIN_SIDE)
    for number, variant in enumerate((features, features + 1, features * 2)):
        training = measure(variant[TRAIN_SIDE])
        np.testing.assert_array_equal(normalized[number, TRAIN_SIDE], normalize(variant[TRAIN_SIDE], training))
        np.testing.assert_array_equal(normalized[number, test], normalize_by_batch(variant[test], training))


def test_rows_of_a_final_batch_model_are_normalized_by_all_clips_of_their_variant(rows, features):
    expected = [normalize(variant, measure(variant)) for variant in (features, features + 1, features * 2)]
    np.testing.assert_array_equal(rows.variants("speaker_independent_batch", np.arange(24)), expected)


def test_groups_are_what_the_protocol_holds_out(rows):
    for protocol in MODES.values():
        np.testing.assert_array_equal(rows.groups(protocol), SPEAKERS)
    for protocol in ("split_80_20", "random", "random_adapted"):
        np.testing.assert_array_equal(rows.groups(protocol), np.arange(24))


def test_clips_under_a_condition_are_a_batch_and_speakers_of_their_own(rows, features):
    test = np.setdiff1d(np.arange(24), TRAIN_SIDE)
    changed = 3 * features[test] - 1
    expected = {
        "speaker_independent": changed,
        "speaker_independent_batch": normalize_by_batch(changed, measure(features[TRAIN_SIDE])),
        "speaker_independent_adapted": normalize_by_speaker(changed, SPEAKERS[test]),
    }
    for protocol, values in expected.items():
        np.testing.assert_array_equal(rows.test_side(protocol, TRAIN_SIDE, test, changed), values)


# Several datasets

DATASETS = np.repeat(["x", "y"], [8, 16])


@pytest.fixture(scope="module")
def two(features) -> TrainingRows:
    """The same clips as of two datasets: all of speaker a is one of them."""
    table = pd.DataFrame({"emotion": np.resize(["sad", "happy"], 24), "speaker": SPEAKERS, "dataset": DATASETS})
    return TrainingRows.from_table(table, features, None)


@pytest.mark.parametrize("protocol", ["speaker_independent_batch", "unheard_dataset_batch"])
def test_each_dataset_is_a_batch_of_its_own(two, features, protocol):
    test = np.setdiff1d(np.arange(24), TRAIN_SIDE)
    (normalized,) = two.variants(protocol, TRAIN_SIDE)
    training = measure(features[TRAIN_SIDE])
    for dataset in ("x", "y"):
        known = TRAIN_SIDE[DATASETS[TRAIN_SIDE] == dataset]
        np.testing.assert_array_equal(normalized[known], normalize(features[known], measure(features[known])))
        new = test[DATASETS[test] == dataset]
        np.testing.assert_array_equal(normalized[new], normalize_by_batch(features[new], training))


def test_clips_under_a_condition_are_a_batch_by_dataset(two, features):
    test = np.setdiff1d(np.arange(24), TRAIN_SIDE)
    normalized = two.test_side("speaker_independent_batch", TRAIN_SIDE, test, 3 * features[test])
    for dataset in ("x", "y"):
        rows = DATASETS[test] == dataset
        expected = normalize_by_batch(3 * features[test[rows]], measure(features[TRAIN_SIDE]))
        np.testing.assert_array_equal(normalized[rows], expected)


def test_protocols_of_unheard_datasets_use_the_features_of_their_mode(two):
    for mode, protocol in DATASET_MODES.items():
        np.testing.assert_array_equal(two.variants(protocol, TRAIN_SIDE), two.variants(MODES[mode], TRAIN_SIDE))
        np.testing.assert_array_equal(two.groups(protocol), SPEAKERS)


def test_a_held_out_dataset_changes_no_feature_of_the_training_side(features):
    """Whatever its clips are: in each mode, what a model is fitted on stays bit for bit the same."""
    train_side = np.flatnonzero(DATASETS == "y")
    table = pd.DataFrame({"emotion": "sad", "speaker": SPEAKERS, "dataset": DATASETS})
    moved = np.where((DATASETS == "x")[:, None], 100 - features, features)
    first, second = (TrainingRows.from_table(table, values, None) for values in (features, moved))
    for protocol in DATASET_MODES.values():
        before, after = (rows.variants(protocol, train_side)[0, train_side] for rows in (first, second))
        np.testing.assert_array_equal(before, after)


def test_a_dataset_weighs_as_the_root_of_its_clips():
    """Twenty clips against one: the large dataset weighs √20 times as much as the small one, not twenty times."""
    datasets = np.repeat(["large", "small"], [400, 20])
    weights = dataset_weights(datasets)
    assert weights.mean() == pytest.approx(1)
    assert weights[:400].sum() / weights[400:].sum() == pytest.approx(np.sqrt(20))
    assert len(set(weights[:400])) == len(set(weights[400:])) == 1
    assert dataset_weights(datasets[:400]) is None and dataset_weights(np.full(3, "")) is None
