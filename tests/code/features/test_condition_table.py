"""Features under recording conditions: a balanced sample, babble of other speakers, stored once."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pandas as pd
import pytest

from emotion import features
from emotion.audio import decode
from emotion.audio.conditions import CONDITIONS, in_condition
from emotion.errors import DataError
from emotion.features import condition_table
from emotion.features.condition_table import TALKERS, draw_sample, sample_rows
from emotion.features.feature_table import MAX_SHARDS
from small_data import wav

SPEAKERS, EMOTIONS = "abcdef", ("happy", "sad")


@pytest.fixture
def table(store) -> pd.DataFrame:
    """Twenty-four stored clips: four of each of six speakers, two of each emotion."""
    rows = []
    for number in range(24):
        data = wav(number)
        store.write_bytes(f"corpus/{number}.wav", data)
        rows.append(
            {
                "key": f"corpus/{number}.wav",
                "sha256": hashlib.sha256(data).hexdigest(),
                "speaker": SPEAKERS[number // 4],
                "emotion": EMOTIONS[number % 2],
            }
        )
    return pd.DataFrame(rows)


TESTS = [np.arange(0, 8), np.arange(8, 16), np.arange(16, 24)]
"""Three folds of two speakers."""


def featurize_all(store, plan, **options) -> list[dict]:
    return [condition_table.featurize(store, shard, max_seconds=60, **options) for shard in plan.shards]


def ravdess_like() -> pd.DataFrame:
    """Twenty-four speakers; four clips of a first emotion and eight of each of seven others."""
    rows = [
        {"speaker": f"{speaker:02d}", "emotion": emotion, "sha256": f"{speaker}-{emotion}-{take}"}
        for speaker in range(24)
        for emotion in range(8)
        for take in range(4 if emotion == 0 else 8)
    ]
    return pd.DataFrame(rows).astype({"emotion": str})


@pytest.mark.parametrize("count", [24, 30, 96, 192, 240])
def test_the_sample_is_balanced_over_speakers_and_emotions(count):
    table = ravdess_like()
    rows = sample_rows(table, count)
    assert len(rows) == len(set(rows)) == count
    chosen = table.iloc[rows]
    for column, values in (("speaker", 24), ("emotion", 8)):
        counts = chosen[column].value_counts()
        assert len(counts) == values and counts.max() - counts.min() <= (1 if column == "speaker" else 2)
    cells = chosen.groupby(["speaker", "emotion"]).size()
    assert cells.max() <= -(-count // 192)


def test_the_sample_depends_on_the_clips_and_not_on_their_order_and_ends_with_all_clips():
    table = ravdess_like()
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
    checksums = set(table.loc[sample_rows(table, 50), "sha256"])
    assert checksums == set(shuffled.loc[sample_rows(shuffled, 50), "sha256"])
    assert checksums < set(table.loc[sample_rows(table, 60), "sha256"])
    assert sample_rows(table, 5000).tolist() == list(range(len(table)))
    assert len(sample_rows(table, 0)) == 0


def test_a_rare_emotion_is_in_the_sample():
    table = ravdess_like()
    table.loc[5, "emotion"] = "rare"
    assert 5 in sample_rows(table, 24)


def test_babble_is_made_of_no_speaker_of_the_same_fold(table):
    sample = draw_sample(table, TESTS, 24)
    speaker_of = dict(zip(table["sha256"], table["speaker"], strict=True))
    assert [clip["row"] for clip in sample] == list(range(24))
    for clip in sample:
        fold = next(test for test in TESTS if clip["row"] in test)
        speakers = [speaker_of[talker["sha256"]] for talker in clip["talkers"]]
        assert len(set(speakers)) == len(speakers) == TALKERS
        assert not set(speakers) & set(table["speaker"].iloc[fold])
    assert draw_sample(table, TESTS, 24) == sample, "drawn anew, other talkers"


def test_a_sample_goes_from_plan_to_features(store, table):
    sample = draw_sample(table, TESTS, 6)
    plan = condition_table.plan(store, sample, clips_per_shard=10)
    assert [len(shard) for shard in plan.shards] == [4, 2], "as much work as 10 clips with their copies"
    reports = []
    done = featurize_all(store, plan, progress=lambda *report: reports.append(report))
    assert [shard["featurized"] for shard in done] == [4, 2]
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4), (1, 2), (2, 2)]
    collected = condition_table.collect(store, sample)
    rows = [clip["row"] for clip in sample]
    assert collected["row"].tolist() == rows * len(CONDITIONS)
    assert collected["condition"].tolist() == [name for name in CONDITIONS for _ in sample]
    for clip in (sample[0], sample[-1]):
        samples, *talkers = (
            decode.load(io.BytesIO(store.read_bytes(file["key"]))).samples for file in (clip, *clip["talkers"])
        )
        for name in ("white_10db", "babble_15db", "telephone"):
            expected = features.extract(in_condition(name, samples, sha256=clip["sha256"], talkers=talkers))
            stored = collected[(collected["row"] == clip["row"]) & (collected["condition"] == name)]
            assert (stored[list(features.feature_names())].to_numpy()[0] == expected).all(), name


def test_what_is_stored_is_not_computed_again(store, table):
    sample = draw_sample(table, TESTS, 6)
    plan = condition_table.plan(store, sample, clips_per_shard=10)
    featurize_all(store, plan)
    assert condition_table.plan(store, sample, clips_per_shard=1000).shards == []
    assert [shard["stored"] for shard in featurize_all(store, plan)] == [4, 2], "a task that was tried again"
    before = condition_table.collect(store, sample)

    larger = condition_table.plan(store, draw_sample(table, TESTS, 9), clips_per_shard=1000)
    assert sum(map(len, larger.shards)) == 3
    other_folds = [np.arange(0, 12), np.arange(12, 24)]
    other = draw_sample(table, other_folds, 6)
    replanned = condition_table.plan(store, other, clips_per_shard=1000)
    changed = [clip["sha256"] for clip, old in zip(other, sample, strict=True) if clip["talkers"] != old["talkers"]]
    assert changed and [clip["sha256"] for clip in replanned.shards[0]] == changed
    assert {name for clip in replanned.shards[0] for name in clip["conditions"]} == {"babble_15db"}
    featurize_all(store, replanned)
    pd.testing.assert_frame_equal(condition_table.collect(store, sample), before)


def test_there_are_no_more_shards_than_airflow_maps_over(store):
    clip = {"key": "a.wav", "talkers": []}
    sample = [clip | {"sha256": str(number), "row": number} for number in range(2 * MAX_SHARDS + 1)]
    shards = condition_table.plan(store, sample, clips_per_shard=1).shards
    assert len(shards) <= MAX_SHARDS and sum(map(len, shards)) == len(sample)


def test_another_version_of_the_conditions_is_computed_anew(store, table, monkeypatch):
    sample = draw_sample(table, TESTS, 2)
    featurize_all(store, condition_table.plan(store, sample, clips_per_shard=10))
    monkeypatch.setattr(condition_table, "CONDITIONS_VERSION", "another")
    assert len(condition_table.plan(store, sample, clips_per_shard=10).shards[0]) == 2


def test_missing_features_and_changed_files_are_errors(store, table):
    sample = draw_sample(table, TESTS, 2)
    with pytest.raises(DataError, match="32 of 32 features under conditions are missing"):
        condition_table.collect(store, sample)
    plan = condition_table.plan(store, sample, clips_per_shard=10)
    store.write_bytes(sample[0]["talkers"][0]["key"], wav(99))
    with pytest.raises(DataError, match="changed after the manifest was made"):
        featurize_all(store, plan)
    assert not store.list("conditions"), "half a shard was stored"
