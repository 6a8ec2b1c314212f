"""The fits of a protocol share sums, and are those of a fit on all of the rows at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emotion.models.classifier import Classifier
from emotion.training.protocol_sums import sums_of_sides
from emotion.training.rows import TrainingRows, dataset_weights
from emotion.vocabulary import MODES

CLIPS, WIDTH = 96, 30
PROTOCOLS = ("random", "random_adapted", *MODES.values())


@pytest.fixture(scope="module", params=["one dataset", "two datasets"])
def rows(request) -> TrainingRows:
    """Clips far from 0, with two copies each: shared sums must not lose the differences between them."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"emotion": np.resize(["sad", "happy", "calm"], CLIPS)})
    table["speaker"] = np.repeat(list("abcdef"), CLIPS // 6)
    if request.param == "two datasets":
        table["dataset"] = np.where(table["speaker"] < "c", "x", "y")
    signal = random.normal(size=(3, WIDTH))[np.arange(CLIPS) % 3]
    values = (1000 + signal + random.normal(size=signal.shape)).astype(np.float32)
    values[:, 3] = 7.1  # a constant feature
    return TrainingRows.from_table(table, values, [values + 1, values * np.float32(1.01)])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_fit_from_shared_sums_is_the_fit_of_its_rows(rows, protocol):
    speakers = [np.flatnonzero(~np.isin(rows.speakers, list(pair))) for pair in ("ab", "cd", "ef")]
    sides = [*speakers, rows.clips]
    for side, (variants, sums) in zip(sides, sums_of_sides(rows, protocol, sides), strict=True):
        values = np.concatenate([variant[side] for variant in np.asarray(variants)])
        weights = dataset_weights(rows.datasets[side])
        options = {
            "groups": np.tile(rows.speakers[side], 3),
            "weights": None if weights is None else np.tile(weights, 3),
            "seed": 0,
        }
        labels = np.tile(rows.labels[side], 3)
        expected = Classifier.fit("logistic_regression", values, labels, **options)
        shared = Classifier.fit("logistic_regression", variants.rows(side), labels, sums=sums, **options)
        mean, deviation = values.astype(float).mean(axis=0), values.astype(float).std(axis=0)
        if weights is None:
            np.testing.assert_allclose(shared.pipeline["scaler"].mean_, mean, atol=1e-4)
            np.testing.assert_allclose(shared.pipeline["scaler"].scale_[4:], deviation[4:], rtol=1e-4)
        assert shared.pipeline["scaler"].scale_[3] == pytest.approx(1 if deviation[3] < 1e-6 else deviation[3])
        np.testing.assert_allclose(shared.predict_proba(values), expected.predict_proba(values), atol=2e-3)


def test_held_out_clips_change_no_sum_of_a_training_side(rows):
    """Bit for bit, whatever they are: not even by the rounding of what is shared."""
    side, other = rows.clips[: CLIPS // 2], rows.clips[CLIPS // 2 :]
    moved = [plain.copy() for plain in rows.plain]
    for plain in moved:
        plain[other] = 5 * plain[other] ** 2
    for protocol in PROTOCOLS:
        sums = [
            next(sums_of_sides(each, protocol, [side, other]))[1]
            for each in (rows, TrainingRows(rows.labels, rows.speakers, rows.datasets, tuple(moved)))
        ]
        np.testing.assert_array_equal(*(each.gram for each in sums))
        np.testing.assert_array_equal(*(each.total for each in sums))
