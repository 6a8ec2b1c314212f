"""The quality of a recording is measured from its samples: it is checked against what is known of them."""

import numpy as np
import pytest
import soxr

from emotion.datasets import synthesis
from emotion.features import quality

RATE = 16_000


@pytest.fixture(scope="module")
def voice():
    """Bursts of wide-band sound with pauses of digital silence, for 3 s."""
    rng = np.random.default_rng(0)
    loudness = np.repeat([0.0, 0.1, 0.0, 0.05, 0.1, 0.0], RATE // 2)
    return (loudness * rng.normal(size=len(loudness))).astype(np.float32)


def noisy(voice, snr, seed=1):
    power = (voice[voice != 0] ** 2).mean()
    return (voice + np.random.default_rng(seed).normal(0, np.sqrt(power / 10 ** (snr / 10)), len(voice))).astype("f4")


@pytest.mark.parametrize("snr", [5, 10, 20, 30, 40])
def test_the_snr_is_that_of_the_noise_that_was_added(voice, snr):
    assert quality.measure(noisy(voice, snr)).snr_db == pytest.approx(snr, abs=2)


@pytest.mark.parametrize("gain", [0.01, 0.5, 3])
def test_a_gain_changes_the_level_alone(voice, gain):
    before, after = quality.measure(noisy(voice, 20)), quality.measure(noisy(voice, 20) * np.float32(gain))
    assert after.level_db - before.level_db == pytest.approx(20 * np.log10(gain), abs=0.01)
    assert after[1:] == pytest.approx(before[1:], abs=1e-3)


def test_without_pauses_the_snr_is_not_known():
    rng = np.random.default_rng(0)
    fading = np.exp(np.interp(np.arange(2 * RATE), np.arange(0, 2 * RATE, 1600), rng.uniform(-3, 0, 20)))
    assert np.isnan(quality.measure((0.1 * fading * rng.normal(size=2 * RATE)).astype("f4")).snr_db)
    assert np.isnan(quality.measure(rng.normal(0, 0.1, 2 * RATE).astype("f4")).snr_db)
    assert quality.as_dict(quality.UNKNOWN) == dict.fromkeys(quality.COLUMNS)


@pytest.mark.parametrize("rate", [4000, 8000, 11025])
def test_the_bandwidth_is_half_the_rate_of_the_original(voice, rate):
    narrow = soxr.resample(soxr.resample(voice, RATE, rate), rate, RATE)
    assert quality.measure(narrow).bandwidth_hz == pytest.approx(rate / 2, abs=200)
    assert quality.measure(voice).bandwidth_hz > 7_800


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_clipped_samples_are_counted(share):
    name = synthesis.names(speakers=1)[0]
    samples = np.asarray(synthesis.synthesize_clip(name), dtype="f4")
    assert quality.measure(samples).clipped_share < 0.001
    limit = np.quantile(np.abs(samples), 1 - share)
    assert quality.measure(np.clip(samples, -limit, limit)).clipped_share == pytest.approx(share, rel=0.5)


def test_seconds_of_speech(voice):
    assert quality.measure(voice).seconds_of_speech == pytest.approx(1.5, abs=0.15)
    assert quality.measure(noisy(voice, 20)).seconds_of_speech == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("length", [3200, 3201, 4799])
def test_a_short_clip_has_a_quality(length):
    samples = np.zeros(length, dtype="f4")
    samples[1000] = 0.5
    assert np.isfinite(quality.measure(samples).level_db)


@pytest.mark.filterwarnings("error")
def test_a_sound_that_hardly_varies_is_measured():
    """Noise and tones whose level rises and falls by a few dB: nothing stands out by as much as speech does."""
    rng = np.random.default_rng(0)
    for number in range(300):
        at = np.arange(rng.choice([3_200, RATE, 3 * RATE])) / RATE
        envelope = 1 + rng.uniform(0.2, 0.8) * np.sin(2 * np.pi * rng.uniform(0.3, 12) * at)
        sound = rng.normal(size=len(at)) if number % 2 else np.sin(2 * np.pi * rng.uniform(30, 7_900) * at)
        measured = quality.measure((0.1 * envelope * sound).astype(np.float32))
        assert np.isfinite(measured.level_db) and measured.seconds_of_speech > 0
        assert 0 <= measured.bandwidth_hz <= RATE / 2
