"""The synthesized corpus: complete, well-formed, the same everywhere, and acted as the literature says."""

import collections
import hashlib
import io
import os
import subprocess
import sys
import wave

import librosa
import numpy as np
import pytest
import soundfile

from emotion.datasets import synthesis
from emotion.datasets.synthesis import RATE, VERSION
from emotion.errors import ConfigurationError
from emotion.settings import PROJECT
from emotion.vocabulary import EMOTIONS


@pytest.fixture(scope="module")
def corpus():
    """Six speakers, the first statement."""
    names = [name for name in synthesis.names(speakers=6) if name.split("-")[4] == "01"]
    return {name: synthesis.synthesize_clip(name) for name in names}


@pytest.fixture(scope="module")
def measured(corpus):
    """Per clip: emotion, sex and what can be measured of it."""
    return [_measure(name, samples) for name, samples in corpus.items()]


def _measure(name, samples):
    _, _, emotion, intensity, _, _, actor = name.removesuffix(".wav").rpartition("/")[2].split("-")
    sound = librosa.resample(samples / 32768, orig_sr=RATE, target_sr=16_000, res_type="soxr_qq")
    power = np.abs(librosa.stft(sound, n_fft=512, hop_length=160)) ** 2
    level = 10 * np.log10(power.sum(axis=0) + 1e-10)
    spoken = level > level.max() - 30
    first, last = np.flatnonzero(spoken)[[0, -1]]
    sonorant = power[:64].sum(axis=0) > 10 * power[128:].sum(axis=0)  # 0-2 kHz far above 4-8 kHz
    vowels = sonorant & (level > level.max() - 15)
    f0 = librosa.yin(sound, fmin=60, fmax=700, sr=16_000, frame_length=1024, hop_length=160)
    semitones = 12 * np.log2(f0[: len(vowels)][vowels[: len(f0)]] / 100)
    runs = np.split(spoken[first:last], np.flatnonzero(np.diff(spoken[first:last].astype(int))) + 1)
    return {
        "emotion": EMOTIONS[int(emotion) - 1],
        "intensity": intensity,
        "female": int(actor) % 2 == 0,
        "pitch": np.median(semitones),
        "span": np.subtract(*np.percentile(semitones, [90, 10])),
        "rise": np.mean(semitones[-8:]) - np.median(semitones),
        "level": 10 * np.log10(np.mean(power[:, spoken])),
        "bright": 10 * np.log10(power[32:128, vowels].sum() / power[:32, vowels].sum()),
        "seconds": (last - first) / 100,
        "pause": max((len(run) for run in runs if not run[0]), default=0) / 100,
    }


def _mean(measured, key, **wanted):
    return np.mean([clip[key] for clip in measured if wanted.items() <= clip.items()])


def test_names_are_those_of_ravdess():
    names = synthesis.names()
    assert len(names) == len(set(names)) == 720
    assert names[0] == "Actor_01/03-01-01-01-01-01-01.wav"
    assert names[-1] == "Actor_24/03-01-08-02-02-01-24.wav"
    counts = collections.Counter(EMOTIONS[int(name.split("-")[2]) - 1] for name in names)
    assert counts == {emotion: 48 if emotion == "neutral" else 96 for emotion in EMOTIONS}
    assert len(synthesis.names(repetitions=2)) == 1440, "as many as RAVDESS"


@pytest.mark.parametrize("wrong", [0, 100])
@pytest.mark.parametrize("what", ["speakers", "repetitions"])
def test_counts_that_names_cannot_hold_are_refused(what, wrong):
    with pytest.raises(ConfigurationError, match=f"{what} is {wrong}; expected 1 to 99"):
        synthesis.names(**{what: wrong})


@pytest.mark.parametrize(
    "name",
    [
        "",
        "speech.wav",
        "03-01-09-01-01-01-01.wav",
        "03-01-01-02-01-01-01.wav",
        "03-02-02-01-01-01-01.wav",
        "03-01-02-01-03-01-01.wav",
        "03-01-02-01-01-00-01.wav",
        "03-01-02-01-01-01-00.wav",
        "Actor_02/03-01-02-01-01-01-01.wav",
        "../Actor_01/03-01-02-01-01-01-01.wav",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ConfigurationError, match="no clip of this corpus"):
        synthesis.synthesize_clip(name)


def test_clips_are_speech_length_and_level(corpus):
    for name, samples in corpus.items():
        assert samples.dtype == np.int16 and samples.ndim == 1, name
        assert 1.2 < len(samples) / RATE < 4.5, name
        assert 300 < np.abs(samples.astype(int)).max() < 32_500, f"{name}: silent or clipped"
        assert abs(samples.mean()) < 30, f"{name}: offset"
        silence = samples[: RATE // 10].astype(int)
        assert 0 < np.abs(silence).max() < 10, f"{name}: no quiet room before the voice"


def test_no_two_clips_are_equal(corpus):
    assert len({samples.tobytes() for samples in corpus.values()}) == len(corpus)


def test_wav_is_mono_pcm16_at_48_khz(corpus):
    samples = next(iter(corpus.values()))
    data = synthesis.wav_bytes(samples)
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 48_000)
    decoded, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == RATE
    np.testing.assert_array_equal(decoded, samples)


SAMPLE = ["03-01-01-01-02-01-09.wav", "03-01-04-01-02-01-10.wav", "03-01-08-02-01-01-24.wav"]


def test_a_clip_depends_on_its_name_alone(corpus):
    name = "Actor_03/03-01-06-02-01-01-03.wav"
    np.testing.assert_array_equal(synthesis.synthesize_clip(name.rpartition("/")[2]), corpus[name])


def test_another_process_makes_the_same_bytes():
    code = (
        "import hashlib; from emotion.datasets.synthesis import synthesize_clip, wav_bytes;"
        f"wavs = {{name: wav_bytes(synthesize_clip(name)) for name in {SAMPLE[::-1]}}};"
        f"print(hashlib.sha256(b''.join(wavs[name] for name in {SAMPLE})).hexdigest())"
    )
    older_processor = {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F", "NUMBA_CPU_NAME": "generic"}
    other = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | older_processor | {"PYTHONPATH": str(PROJECT / "plugins")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == _digest()


def test_the_version_names_these_samples():
    known = {"1": "d42a5b18b82ca52163ed6e55a10c1dcdc95a039f4fd1fb534f4c8180950095c6"}
    assert {VERSION: _digest()} == known, "the samples changed: change VERSION too"


def _digest():
    wavs = (synthesis.wav_bytes(synthesis.synthesize_clip(name)) for name in SAMPLE)
    return hashlib.sha256(b"".join(wavs)).hexdigest()


def test_no_rounding_is_close_enough_to_depend_on_the_processor(monkeypatch):
    closest = []

    def grid(values):
        cells = np.asarray(values) * 2.0**20
        boundary = np.abs(cells - np.floor(cells) - 0.5) / 2.0**20
        closest.append(np.min(boundary / np.spacing(np.abs(values))))
        return np.rint(cells) / 2.0**20

    monkeypatch.setattr(synthesis, "_grid", grid)
    for name in SAMPLE:
        synthesis.synthesize_clip(name)
    assert min(closest) > 20  # units in the last place; exp2 and cos err by 4 at most


def test_women_speak_higher(measured):
    women, men = (_mean(measured, "pitch", female=female, emotion="neutral") for female in (True, False))
    assert 6 < women - men < 14  # semitones; about 10 between people


@pytest.mark.parametrize(
    ("key", "more", "less", "least"),
    [
        ("pitch", "angry", "calm", 3.0),
        ("pitch", "happy", "sad", 3.0),
        ("pitch", "fearful", "neutral", 4.0),
        ("span", "happy", "sad", 1.0),
        ("span", "surprised", "calm", 2.0),
        ("rise", "surprised", "neutral", 1.0),
        ("level", "angry", "neutral", 4.0),
        ("level", "neutral", "sad", 3.0),
        ("bright", "angry", "neutral", 1.5),
        ("bright", "neutral", "sad", 1.0),
        ("seconds", "sad", "fearful", 0.3),
        ("seconds", "disgust", "angry", 0.2),
        ("pause", "sad", "angry", 0.06),
    ],
)
def test_emotions_sound_as_the_literature_says(measured, key, more, less, least):
    assert _mean(measured, key, emotion=more) - _mean(measured, key, emotion=less) > least


@pytest.mark.parametrize(("key", "emotion"), [("level", "angry"), ("pitch", "happy"), ("seconds", "sad")])
def test_strong_emotion_is_more_of_the_same(measured, key, emotion):
    strong = _mean(measured, key, emotion=emotion, intensity="02")
    assert strong > _mean(measured, key, emotion=emotion, intensity="01")
