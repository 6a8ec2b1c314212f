"""Which channels of a recording are recordings of their own."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from emotion.audio import decode
from emotion.audio.channels import MONO, Channel, distinct_channels
from emotion.errors import AudioError

RNG = np.random.default_rng(0)
VOICES = np.cumsum(RNG.normal(0, 0.01, (8, 32_000)), axis=1)
VOICES = 0.1 * (VOICES - VOICES.mean(axis=1, keepdims=True))
SILENT = np.zeros(32_000)


def recording(*channels, ending="WAV", **options):
    file = io.BytesIO()
    soundfile.write(file, np.stack(channels, axis=1), 16_000, format=ending, **options)
    return file


def test_a_mono_recording_is_one_recording():
    assert distinct_channels(recording(VOICES[0])) == MONO


def test_eight_channels_are_eight_recordings():
    assert distinct_channels(recording(*VOICES)) == tuple(Channel(number) for number in range(1, 9))


@pytest.mark.parametrize("ending", ["WAV", "FLAC", "MP3", "OGG"])
def test_two_equal_channels_are_mono(ending):
    assert distinct_channels(recording(VOICES[0], VOICES[0], ending=ending)) == (Channel(None, (2,)),)


@pytest.mark.parametrize("ending", ["WAV", "FLAC", "MP3", "OGG"])
def test_two_voices_are_not_taken_for_one(ending):
    assert distinct_channels(recording(VOICES[0], VOICES[1], ending=ending)) == (Channel(1), Channel(2))


def test_a_channel_of_another_gain_is_no_copy():
    assert distinct_channels(recording(VOICES[0], 0.1 * VOICES[0])) == (Channel(1), Channel(2))


def test_copies_are_named_and_silent_channels_are_not_copies_of_each_other():
    channels = distinct_channels(recording(VOICES[0], SILENT, VOICES[1], VOICES[0], SILENT))
    assert channels == (Channel(1, (4,)), Channel(2), Channel(3), Channel(5))


def test_a_channel_that_is_not_finite_is_like_no_other():
    broken = VOICES[0].copy()
    broken[7] = np.nan
    file = recording(VOICES[0], broken, broken, VOICES[0], subtype="FLOAT")
    assert distinct_channels(file) == (Channel(1, (4,)), Channel(2), Channel(3))


def test_a_channel_is_decoded_as_the_same_samples_in_mono():
    file, mono = recording(*VOICES[:2]), recording(VOICES[1])
    clip = decode.load(file, channel=2)
    assert clip.samples_sha256 == decode.load(mono).samples_sha256
    assert clip.channels == 2


def test_a_silent_channel_is_refused_by_its_number():
    with pytest.raises(AudioError, match="channel 2 of the recording is silent"):
        decode.load(recording(VOICES[0], SILENT), channel=2)
