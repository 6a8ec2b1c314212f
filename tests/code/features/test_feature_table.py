"""The feature table: shards are planned from what is missing, stored once, and joined to one row per recording."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pandas as pd
import pytest
import soundfile

from emotion import features
from emotion.audio import decode
from emotion.errors import DataError
from emotion.features import feature_table, recipe
from emotion.features.feature_table import MAX_SHARDS
from small_data import features_of, wav

LIMITS = {"min_seconds": 0.2, "max_seconds": 60}
SILENCE = wav(0)[:44] + bytes(8000)


@pytest.fixture
def corpus(store):
    """Five good clips, two of the same samples in different files, one silent and one that is no audio."""
    files = {f"{number}.wav": wav(number) for number in range(4)}
    files |= {
        "3-again.wav": wav(3, extra=b"another chunk!"),
        "silent.wav": SILENCE,
        "text.wav": b"not audio" * 90,
    }
    for name, data in files.items():
        store.write_bytes(f"corpus/{name}", data)
    manifest = pd.DataFrame(
        {
            "path": list(files),
            "key": [f"corpus/{name}" for name in files],
            "sha256": [hashlib.sha256(data).hexdigest() for data in files.values()],
            "duration": [0.25] * 6 + [np.nan],
            "emotion": "happy",
            "speaker": "one",
        }
    )
    return manifest


def featurize_all(store, manifest, **options) -> list[dict]:
    plan = feature_table.plan(store, manifest, clips_per_shard=3, **LIMITS)
    return [feature_table.featurize(store, shard, max_seconds=60, **options) for shard in plan.shards]


def test_a_dataset_goes_from_plan_to_table(store, corpus):
    plan = feature_table.plan(store, corpus, clips_per_shard=3, **LIMITS)
    assert (plan.total, plan.stored, plan.missing) == (7, 0, 7)
    assert [len(shard) for shard in plan.shards] == [3, 3, 1] and plan.refused.empty
    reports = []
    done = featurize_all(store, corpus, progress=lambda *report: reports.append(report))
    assert sum(shard["featurized"] for shard in done) == 5 and sum(shard["rejected"] for shard in done) == 2
    assert reports == [(1, 3), (2, 3), (3, 3), (1, 3), (2, 3), (3, 3), (1, 1)]
    collected = feature_table.collect(store, corpus, plan.refused)
    assert collected.table["path"].tolist() == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert collected.duplicates["path"].tolist() == ["3-again.wav"]
    assert dict(zip(collected.rejected["path"], collected.rejected["reason"], strict=True)) == {
        "silent.wav": "silent",
        "text.wav": "not_audio",
    }
    assert collected.rejected["message"].str.len().min() > 10
    loaded = decode.load(store.open("corpus/1.wav"))
    np.testing.assert_array_equal(features_of(store, collected.table)[1], features.extract(loaded.samples))
    assert collected.table["samples_sha256"].iloc[1] == loaded.samples_sha256


def test_copies_are_those_of_the_table_in_its_order(store, corpus):
    featurize_all(store, corpus)
    refused = feature_table.plan(store, corpus, clips_per_shard=3, **LIMITS).refused
    collected = feature_table.collect(store, corpus, refused)
    sha256 = collected.table["sha256"].iloc[2]
    samples = decode.load(store.open("corpus/2.wav")).samples
    for variant in ("slower", "copy_3"):
        expected = features.extract(features.VARIANTS[variant](samples, sha256))
        np.testing.assert_array_equal(features_of(store, collected.table, variant)[2], expected)


def test_a_clip_that_is_asked_for_twice_has_its_features_twice_and_one_without_is_an_error(store, corpus):
    featurize_all(store, corpus.iloc[:2])
    twice = features_of(store, corpus.iloc[[1, 0, 1]])
    np.testing.assert_array_equal(twice[0], twice[2])
    assert np.isfinite(twice).all() and not np.array_equal(twice[0], twice[1])
    with pytest.raises(DataError, match="1 clips have no features of some copy, such as .* of slower: run again"):
        features_of(store, corpus.iloc[[1, 2]], "slower")


def test_nothing_is_computed_twice(store, corpus, monkeypatch):
    featurize_all(store, corpus.iloc[:3])
    calls = []
    extract = features.extract
    monkeypatch.setattr(recipe, "extract", lambda samples: calls.append(1) or extract(samples))
    plan = feature_table.plan(store, corpus.iloc[:4], clips_per_shard=10, **LIMITS)
    assert (plan.stored, plan.missing) == (3, 1)
    assert [clip["key"] for shard in plan.shards for clip in shard] == ["corpus/3.wav"], "one new clip costs one clip"
    feature_table.featurize(store, plan.shards[0], max_seconds=60)
    assert len(calls) == 1 + len(features.VARIANTS)
    again = feature_table.featurize(store, plan.shards[0], max_seconds=60)
    assert again["stored"] == 1 and len(calls) == 1 + len(features.VARIANTS), "a task tried again finds its shard"
    assert feature_table.plan(store, corpus.iloc[:4], clips_per_shard=10, **LIMITS).shards == []


def without_length(seconds: float) -> bytes:
    """A FLAC that does not state its length, as one that was streamed."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, int(seconds * 16_000))
    soundfile.write(buffer, noise, 16_000, format="FLAC")
    data = bytearray(buffer.getvalue())
    data[21] &= 0xF0  # the number of samples: 36 bits from here
    data[22:26] = bytes(4)
    return bytes(data)


def test_a_clip_that_was_too_long_is_decoded_again_after_the_limit_is_raised(store, corpus):
    data = without_length(3)
    store.write_bytes("corpus/long.flac", data)
    row = corpus.iloc[[-1]].assign(path="long.flac", key="corpus/long.flac", sha256=hashlib.sha256(data).hexdigest())
    manifest = pd.concat([corpus, row], ignore_index=True)

    def run(max_seconds: float) -> tuple[list[str], dict[str, str]]:
        plan = feature_table.plan(store, manifest, clips_per_shard=100, min_seconds=0.2, max_seconds=max_seconds)
        for shard in plan.shards:
            feature_table.featurize(store, shard, max_seconds=max_seconds)
        collected = feature_table.collect(store, manifest, plan.refused)
        reasons = dict(zip(collected.rejected["path"], collected.rejected["reason"], strict=True))
        return [clip["key"] for shard in plan.shards for clip in shard], reasons

    reasons = {"silent.wav": "silent", "text.wav": "not_audio"}
    assert run(2) == (manifest["key"].tolist(), reasons | {"long.flac": "too_long"})
    assert run(2) == ([], reasons | {"long.flac": "too_long"}), "the same limit decodes nothing"
    assert run(1) == ([], reasons | {"long.flac": "too_long"}), "a lower limit decodes nothing"
    assert run(2.5) == (["corpus/long.flac"], reasons | {"long.flac": "too_long"}), "only this one is decoded again"
    assert run(60) == (["corpus/long.flac"], reasons)
    assert run(60) == ([], reasons)


def test_another_recipe_computes_everything_again(store, corpus, monkeypatch):
    featurize_all(store, corpus)
    monkeypatch.setattr(recipe, "recipe_version", lambda: "another")
    assert feature_table.plan(store, corpus, clips_per_shard=3, **LIMITS).missing == 7


def test_the_same_bytes_are_featurized_once(store, corpus):
    twice = pd.concat(
        [corpus.iloc[:1], corpus.iloc[:1].assign(path="copy.wav", key="corpus/copy.wav")], ignore_index=True
    )
    plan = feature_table.plan(store, twice, clips_per_shard=3, **LIMITS)
    assert plan.total == 2 and plan.missing == 1


def test_clips_are_refused_for_their_length_by_their_headers_alone(store, corpus):
    corpus["duration"] = [0.1, 61.0, 0.2, 60.0, 0.25, 0.25, np.nan]
    plan = feature_table.plan(store, corpus, clips_per_shard=3, **LIMITS)
    assert plan.refused["reason"].tolist() == ["too_short", "too_long"]
    assert plan.refused["message"].iloc[0] == "0.10 s; expected 0.2 to 60 s"
    assert plan.missing == 5


def test_shards_are_no_more_than_airflow_maps(store):
    manifest = pd.DataFrame({"path": [f"{n}" for n in range(2500)], "key": "", "duration": 1.0})
    plan = feature_table.plan(store, manifest.assign(sha256=manifest["path"]), clips_per_shard=1, **LIMITS)
    assert len(plan.shards) <= MAX_SHARDS and sum(map(len, plan.shards)) == 2500


def test_a_file_that_changed_is_not_featurized(store, corpus):
    store.write_bytes("corpus/1.wav", wav(99))
    with pytest.raises(DataError, match="1.wav has sha256 .*; the manifest says .*start a new run"):
        featurize_all(store, corpus)


def test_one_recording_with_two_emotions_is_an_error(store, corpus):
    featurize_all(store, corpus)
    corpus.loc[corpus["path"] == "3-again.wav", "emotion"] = "sad"
    refused = feature_table.plan(store, corpus, clips_per_shard=3, **LIMITS).refused
    with pytest.raises(DataError, match="has two emotions: .*3.wav.*3-again.wav"):
        feature_table.collect(store, corpus, refused)


def test_clips_without_features_are_an_error(store, corpus):
    featurize_all(store, corpus.iloc[:3])
    refused = feature_table.plan(store, corpus, clips_per_shard=3, **LIMITS).refused
    with pytest.raises(DataError, match="4 clips have no features, such as 3.wav"):
        feature_table.collect(store, corpus, refused)


def test_too_many_rejected_clips_are_an_error():
    rejected = pd.DataFrame({"reason": ["silent", "silent", "too_long"]})
    feature_table.check_rejected(rejected, 60, max_share=0.05)
    with pytest.raises(DataError, match=r"3 of 59 clips \(5.1%\).*silent 2, too_long 1.*at most 5.0% may"):
        feature_table.check_rejected(rejected, 59, max_share=0.05)
