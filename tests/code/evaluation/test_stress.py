"""The stress table: figures by mode and condition, from predictions in any order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from emotion.evaluation.scores import compute_scores
from emotion.evaluation.stress import stress_scores
from emotion.vocabulary import EMOTIONS, MODES, probability_columns

PROBABILITIES = probability_columns(EMOTIONS)


def predictions() -> pd.DataFrame:
    random, frames = np.random.default_rng(0), []
    for mode in MODES:
        for condition in ("clean", "mp3", "white_10db"):
            frame = pd.DataFrame(random.dirichlet(np.full(8, 0.4), size=64), columns=PROBABILITIES)
            frames.append(frame.assign(mode=mode, condition=condition, row=range(64), emotion=np.resize(EMOTIONS, 64)))
    return pd.concat(frames, ignore_index=True)


def test_the_figures_are_those_of_the_mode_and_condition_alone():
    rows = predictions()
    table = stress_scores(rows)
    assert list(table) == list(MODES)
    for mode in MODES:
        clean = rows[(rows["mode"] == mode) & (rows["condition"] == "clean")][PROBABILITIES].to_numpy().argmax(axis=1)
        for condition in ("clean", "mp3", "white_10db"):
            part = rows[(rows["mode"] == mode) & (rows["condition"] == condition)]
            probabilities = part[PROBABILITIES].to_numpy()
            scores = compute_scores(part["emotion"].to_numpy(), probabilities, EMOTIONS)
            expected = {score: scores[score] for score in ("accuracy", "f1_macro", "ece")}
            expected |= {
                "confidence": probabilities.max(axis=1).mean(),
                "changed": (probabilities.argmax(axis=1) != clean).mean(),
            }
            assert table[mode][condition] == pytest.approx(expected)
        outside = [table[mode][condition] for condition in ("mp3", "white_10db")]
        assert table[mode]["mean_accuracy"] == pytest.approx(np.mean([figures["accuracy"] for figures in outside]))
        assert table[mode]["mean_f1_macro"] == pytest.approx(np.mean([figures["f1_macro"] for figures in outside]))
        assert table[mode]["worst_ece"] == max(table[mode][name]["ece"] for name in ("clean", "mp3", "white_10db"))
        assert table[mode]["clean"]["changed"] == 0 < table[mode]["mp3"]["changed"]


def test_the_order_of_the_rows_does_not_matter():
    rows = predictions()
    shuffled = rows.groupby(["mode", "condition"], sort=False, group_keys=False).sample(frac=1, random_state=1)
    first, second = stress_scores(rows), stress_scores(shuffled)
    for mode in MODES:
        for condition in ("clean", "mp3", "white_10db"):
            assert second[mode][condition] == pytest.approx(first[mode][condition])
