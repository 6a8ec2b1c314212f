"""The real recordings, where they are: as many, as long and as loud as RAVDESS was published."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotion.vocabulary import EMOTIONS

pytestmark = pytest.mark.ravdess
NAME = re.compile(r"03-01-0([1-8])-0([12])-0([12])-0([12])-(\d\d)\.wav")
"""Modality (audio only), channel (speech), emotion, intensity, statement, repetition, actor."""
STEREO = {
    "03-01-02-01-01-02-01.wav",
    "03-01-08-01-02-02-01.wav",
    "03-01-02-01-02-02-05.wav",
    "03-01-03-01-02-01-20.wav",
    "03-01-06-01-01-02-20.wav",
}


@pytest.fixture(scope="module")
def clips(ravdess) -> list[Path]:
    return sorted(ravdess.glob("Actor_*/*.wav"))


def test_every_actor_speaks_sixty_clips_four_of_them_neutral(clips):
    """Published: 1,440 clips, 60 for each of 24 actors; neutral has no strong intensity, so half as many clips."""
    by_actor: dict[str, Counter] = {}
    for clip in clips:
        emotion, intensity, _, _, actor = NAME.fullmatch(clip.name).groups()
        assert clip.parent.name == f"Actor_{actor}"
        assert (emotion, intensity) != ("1", "2"), "strongly neutral"
        by_actor.setdefault(actor, Counter())[EMOTIONS[int(emotion) - 1]] += 1
    assert len(by_actor) >= 18
    for actor, counts in by_actor.items():
        assert counts == {emotion: 4 if emotion == "neutral" else 8 for emotion in EMOTIONS}, actor


def test_every_clip_is_three_to_five_seconds_of_16_bit_48_khz(clips):
    facts = {clip.name: soundfile.info(clip) for clip in clips}
    assert {(fact.samplerate, fact.subtype) for fact in facts.values()} == {(48_000, "PCM_16")}
    seconds = np.array([fact.duration for fact in facts.values()])
    assert seconds.min() > 2.93 and seconds.max() < 5.28, "published: 2.94 to 5.27 s"
    assert 3.6 < seconds.mean() < 3.8, "published: 1.48 h in 1,440 clips"
    assert {name for name, fact in facts.items() if fact.channels != 1} == STEREO & facts.keys()


def test_no_clip_is_silent_and_strong_emotion_is_louder(clips):
    """Read: every seventh clip. Level of a clip: RMS in dB re full scale, pauses and all."""
    levels: dict[str, list[float]] = {"1": [], "2": []}
    for clip in clips[::7]:
        samples, _ = soundfile.read(clip, always_2d=True)
        level = 10 * np.log10(np.mean(samples**2))
        assert -75 < level < -10, clip.name
        emotion, intensity, *_ = NAME.fullmatch(clip.name).groups()
        if emotion != "1":
            levels[intensity].append(level)
    assert np.mean(levels["2"]) > np.mean(levels["1"]) + 4
