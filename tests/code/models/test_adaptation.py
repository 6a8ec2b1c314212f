"""Features are z-scored by the clips of their speaker, or of their batch, and by nothing else."""

from __future__ import annotations

import numpy as np

from emotion.models.adaptation import PRIOR_CLIPS, measure, normalize, normalize_by_batch, normalize_by_speaker, shrink


def rows(clips: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 2, (clips, 3)).astype(np.float32)


def test_a_large_batch_is_z_scored_by_itself():
    features, training = 100 * rows(4000) + 70, measure(rows(500, seed=1))
    normalized = normalize_by_batch(features, training)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(normalized.std(axis=0), 1, atol=0.02)


def test_one_clip_is_hardly_moved_from_where_training_puts_it():
    training = measure(rows(500, seed=1))
    clip = rows(1, seed=2)
    share = PRIOR_CLIPS / (1 + PRIOR_CLIPS)
    scale = np.sqrt(share) * training.scale  # a single clip has no variance of its own
    np.testing.assert_allclose(
        normalize_by_batch(clip, training), (clip - training.centre) * share / scale, rtol=1e-4, atol=1e-5
    )


def test_shrinking_is_the_weighted_mean_of_means_and_variances():
    batch, training = measure(rows(30)), measure(rows(500, seed=1))
    shrunk = shrink(batch, training, prior_clips=15)
    np.testing.assert_allclose(shrunk.centre, (30 * batch.centre + 15 * training.centre) / 45)
    np.testing.assert_allclose(shrunk.scale**2, (30 * batch.scale**2 + 15 * training.scale**2) / 45)


def test_a_constant_feature_becomes_0():
    features = np.ones((5, 2), dtype=np.float32)
    assert (normalize(features, measure(features)) == 0).all()


def test_normalization_is_a_z_score_of_each_speaker():
    random = np.random.default_rng(0)
    speakers = np.resize(["a", "b", "c"], 60)
    features = (random.normal(size=(60, 4)) * [1, 10, 1e4, 0] + [0, 5, -1e4, 3]).astype(np.float32)
    features[speakers == "b"] *= 100
    normalized = normalize_by_speaker(features, speakers)
    assert normalized.dtype == np.float32
    for speaker in "abc":
        speaker_rows = normalized[speakers == speaker]
        np.testing.assert_allclose(speaker_rows.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(speaker_rows[:, :3].std(axis=0), 1, atol=1e-4)
        assert (speaker_rows[:, 3] == 0).all(), "a constant feature becomes 0"


def test_statistics_come_from_known_rows_alone():
    features = np.random.default_rng(0).normal(5, 2, (40, 3)).astype(np.float32)
    speakers, known = np.repeat(["a", "b", "c"], [16, 16, 8]), np.arange(40) % 4 != 0
    known[speakers == "c"] = False
    normalized = normalize_by_speaker(features, speakers, known=known)
    for speaker in "ab":
        rows = speakers == speaker
        known_rows = features[rows & known]
        expected = (features[rows] - known_rows.mean(axis=0)) / known_rows.std(axis=0)
        np.testing.assert_allclose(normalized[rows], expected, atol=1e-4)
    assert (normalized[speakers == "c"] == 0).all(), "a speaker without a known row becomes 0"
