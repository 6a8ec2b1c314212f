"""The acoustic recipe: librosa's values where librosa has them, right on known signals elsewhere, always finite."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal

from emotion import features
from emotion.audio import decode
from emotion.errors import ConfigurationError
from emotion.features import bases, kernels, spectrum
from emotion.features.descriptors import DESCRIPTORS
from emotion.features.frames import F0_REFERENCE, LEAST_VOICED, MASKING_DB, REFERENCE_DB, SPEECH_BAND, Speech
from emotion.features.spectrum import HOP, N_DELTA, N_FFT, N_MELS, N_MFCC, WINDOW

RATE = features.SAMPLE_RATE


def voice(hertz, *, seconds: float = 1.5, level: float = 0.2, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Harmonics at 6 dB an octave, f0 given as a number or as a course over the clip."""
    n = int(seconds * RATE)
    f0 = np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(np.atleast_1d(hertz))), np.atleast_1d(hertz))
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    wave = sum(np.sin(k * phase) / k * (k * f0 < 6000) for k in range(1, 40))
    wave = wave / np.abs(wave).max() + noise * np.random.default_rng(seed).normal(size=n)
    return (level * wave).astype(np.float32)


def value(samples: np.ndarray, name: str) -> float:
    return float(features.extract(samples)[features.feature_names().index(name)])


def frames_of(speech: Speech) -> np.ndarray:
    """The samples of the speech span, which librosa then frames the same way."""
    first = speech.start * HOP
    return speech.samples[first : first + (len(speech.active) - 1) * HOP + WINDOW]


@pytest.fixture(scope="module", params=["voice", "noise"])
def speech(request) -> Speech:
    if request.param == "voice":
        return Speech(voice([120, 260, 180], noise=0.02))
    return Speech(0.1 * np.random.default_rng(1).normal(size=2 * RATE).astype(np.float32))


def check_against_librosa(speech: Speech) -> None:
    samples = frames_of(speech)
    frames = librosa.util.frame(samples, frame_length=WINDOW, hop_length=HOP)
    window = librosa.filters.get_window("hann", WINDOW)[:, None]
    power = np.abs(np.fft.rfft(frames * window, N_FFT, axis=0)) ** 2
    speech_band = slice(math.ceil(SPEECH_BAND[0] * N_FFT / RATE), int(SPEECH_BAND[1] * N_FFT / RATE) + 1)
    power += 10 ** (MASKING_DB / 10) * power[:, speech.active].mean(axis=1)[speech_band].max()
    np.testing.assert_allclose(speech.power.T, power, rtol=1e-3, atol=1e-4 * power.max())
    mel = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=RATE, n_mels=N_MELS), top_db=None)
    np.testing.assert_allclose(speech.mel_db, mel, atol=0.02)
    np.testing.assert_allclose(speech.mfcc, librosa.feature.mfcc(S=mel, n_mfcc=N_MFCC), atol=0.1)
    np.testing.assert_allclose(
        speech.delta_mfcc,
        librosa.feature.delta(speech.mfcc[:N_DELTA], width=9, mode="nearest"),
        atol=1e-3,
    )
    table = dict(zip(row_names(), frame_table(speech), strict=True))
    magnitude = np.sqrt(power)
    reference = {
        "centroid": librosa.feature.spectral_centroid(S=magnitude, sr=RATE)[0] / 1000,
        "bandwidth": librosa.feature.spectral_bandwidth(S=magnitude, sr=RATE)[0] / 1000,
        "rolloff_85": librosa.feature.spectral_rolloff(S=magnitude, sr=RATE, roll_percent=0.85)[0] / 1000,
        "rolloff_50": librosa.feature.spectral_rolloff(S=magnitude, sr=RATE, roll_percent=0.5)[0] / 1000,
        "level_db": 20 * np.log10(librosa.feature.rms(y=samples, frame_length=640, hop_length=160, center=False)[0]),
        "flatness": 10 * np.log10(librosa.feature.spectral_flatness(S=magnitude)[0]),
    }
    for name, expected in reference.items():
        tolerance = RATE / N_FFT / 1000 + 1e-6 if name.startswith("rolloff") else 0.02
        np.testing.assert_allclose(table[name], expected, atol=tolerance, err_msg=name)
    chroma = librosa.feature.chroma_stft(S=power, sr=RATE, tuning=0.0)
    np.testing.assert_allclose(np.stack([table[f"chroma_{n:02d}"] for n in range(12)]), chroma, atol=0.05)
    crossings = librosa.feature.zero_crossing_rate(
        samples, frame_length=WINDOW, hop_length=HOP, center=False, threshold=0
    )[0]
    np.testing.assert_allclose(table["zero_crossing_rate"], crossings, atol=2 / WINDOW)


def row_names() -> list[str]:
    return [name for descriptor in DESCRIPTORS for name in descriptor.rows]


def frame_table(speech: Speech) -> np.ndarray:
    return np.concatenate([descriptor.compute(speech) for descriptor in DESCRIPTORS])


def test_spectra_agree_with_librosa(speech):
    check_against_librosa(speech)


@pytest.mark.ravdess
def test_spectra_agree_with_librosa_on_real_speech(ravdess):
    for path in sorted(ravdess.glob("Actor_*/*.wav"))[:: 1080 // 6]:
        check_against_librosa(Speech(decode.load(path).samples))


@pytest.mark.parametrize("hertz", [75, 110, 160, 220, 300, 450, 620])
def test_f0_of_a_steady_voice(hertz):
    for noise in (0.0, 0.1):
        samples = voice(hertz, noise=noise)
        expected = 12 * np.log2(hertz / F0_REFERENCE)
        assert value(samples, "f0_semitone_voiced_p50") == pytest.approx(expected, abs=0.15)
        assert value(samples, "f0_semitone_voiced_std") < 0.3
        assert value(samples, "voiced_share") > 0.95


def test_f0_follows_a_glide():
    f0, _ = Speech(voice([100, 300], seconds=2)).pitch
    expected = np.interp(np.linspace(0, 1, len(f0)), [0, 1], [102, 298])
    assert np.mean(np.abs(f0 - expected) < 0.03 * expected) > 0.97
    assert value(voice([100, 300]), "f0_semitone_course1") < 0 < value(voice([300, 100]), "f0_semitone_course1")


@pytest.mark.ravdess
def test_f0_agrees_with_pyin_on_real_speech(ravdess):
    octave = together = 0
    for path in sorted(ravdess.glob("Actor_*/*.wav"))[5 :: 1080 // 2]:
        speech = Speech(decode.load(path).samples)
        f0, _ = speech.pitch
        reference, voiced, _ = librosa.pyin(
            frames_of(speech), fmin=65, fmax=650, sr=RATE, frame_length=1024, hop_length=HOP
        )
        at = np.arange(len(f0)) + WINDOW // (2 * HOP)  # librosa centres its frames
        both = (f0 > 0) & voiced[at]
        together += both.sum()
        octave += (np.abs(12 * np.log2(f0[both] / reference[at][both])) > 5).sum()
    assert together > 200 and octave < 0.03 * together


def test_voice_quality_orders_clear_and_noisy_voices():
    clear, noisy = voice(180), voice(180, noise=0.2)
    for name in ("hnr_db_voiced_mean", "cpp_mean", "periodicity_voiced_mean"):
        assert value(clear, name) > value(noisy, name), name
    noise = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    assert value(noise, "voiced_share") < 0.1


def test_pauses_are_counted_and_measured():
    talk, rest = voice(150, seconds=0.5), np.zeros(RATE // 4, dtype=np.float32)
    samples = np.concatenate([rest, talk, rest, talk, rest, talk, rest])
    assert value(samples, "speech_seconds") == pytest.approx(2.0, abs=0.06)
    assert value(samples, "pauses_per_second") == pytest.approx(1.0, abs=0.1)
    assert value(samples, "pause_mean_seconds") == pytest.approx(0.22, abs=0.04)


def test_silence_around_speech_changes_nothing():
    talk = voice([120, 200], noise=0.01)
    rest = np.zeros(20 * HOP, dtype=np.float32)
    name = "mfcc_03_mean"
    assert value(np.concatenate([rest, talk, rest]), name) == pytest.approx(value(talk, name), abs=1.0)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(4000),
        np.eye(1, 16_000, 8_000)[0],
        np.ones(8000),
        np.random.default_rng(0).normal(size=16_000),
        np.sin(np.arange(16_000)),
        1e5 * np.sin(np.arange(16_000)),
        1e-4 * np.sin(np.arange(16_000) / 9),
        np.tile([1.0, -1.0], 8000),
        np.random.default_rng(0).normal(size=3_200),
        np.ones(1),
        np.sin(np.arange(16_000 * 40) / 20),
    ],
    ids=["zeros", "click", "constant", "noise", "tone", "loud", "faint", "nyquist", "0.2s", "one sample", "40s"],
)
def test_features_are_always_finite(samples):
    with np.errstate(invalid="raise", divide="raise", over="raise"):
        vector = features.extract(samples.astype(np.float32))
    assert vector.dtype == np.float32 and vector.shape == (len(features.feature_names()),)
    assert np.isfinite(vector).all()


def test_unvoiced_clip_has_the_documented_f0():
    noise = np.random.default_rng(3).normal(size=8_000).astype(np.float32)
    noise = np.diff(noise, prepend=0, n=2)
    assert Speech(noise).voiced.sum() < LEAST_VOICED
    assert value(noise, "f0_semitone_voiced_mean") == 0 == value(noise, "f0_semitone_voiced_std")


def test_features_are_the_same_bits_in_any_process_and_memory():
    samples = voice([120, 240], noise=0.05)
    expected = features.extract(samples)
    for offset in range(1, 5):  # other alignments in memory
        buffer = np.empty(len(samples) + offset, dtype=np.float32)
        buffer[offset:] = samples
        np.testing.assert_array_equal(features.extract(buffer[offset:]), expected)
    code = (
        "import sys, numpy as np; from emotion import features;"
        "sys.stdout.buffer.write(features.extract(np.frombuffer(sys.stdin.buffer.read(), np.float32)).tobytes())"
    )
    for threads in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code], input=samples.tobytes(), stdout=subprocess.PIPE, check=True, env=environment
        )
        assert done.stdout == expected.tobytes()


def test_names_are_unique_and_described():
    names = features.feature_names()
    assert len(names) == len(set(names)) == len(features.extract(voice(200)))
    assert all(features.describe(name) for name in names)
    assert features.describe("mfcc_01_std") == "standard deviation over active frames of MFCC 1"
    with pytest.raises(KeyError):
        features.describe("no_such_feature")


def test_views_divide_the_features_by_aspect_and_by_course():
    names = np.array(features.feature_names())
    views = {view: set(names[columns]) for view, columns in features.views().items()}
    assert tuple(views) == features.VIEWS
    assert views["all"] == set(names) == views["course"] | views["static"]
    aspects = [views[view] for view in ("cepstrum", "bands", "shape", "prosody")]
    assert set.union(*aspects) == set(names) and sum(map(len, aspects)) == len(names)
    assert {"mfcc_01_course1", "mfcc_01_mod2_4hz"} < views["course"] & views["cepstrum"]
    assert {"jitter", "f0_semitone_voiced_mean", "speech_seconds"} < views["prosody"] & views["static"]


REGISTRATION = """
from emotion import features

@features.register("mine", names=("length", "peak"))
def mine(samples, sample_rate):
    return len(samples) / sample_rate, abs(samples).max()
"""

CHANGES = [
    REGISTRATION.replace("max()", "min()"),
    REGISTRATION.replace(
        "    return",
        "    if len(samples) > 1:\n        samples = samples * 2\n        samples = samples - 1\n    return",
    ),
    REGISTRATION.replace(
        "    return", "    if len(samples) > 1:\n        samples = samples * 2\n    samples = samples - 1\n    return"
    ),
]
"""Another computation each; the last two differ by the indentation of one line."""


def probe(folder: Path, code: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), "EMOTION_FEATURES": "mine"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return done.stdout.strip() or done.stderr


def test_registered_features_join_the_table_and_the_recipe(tmp_path):
    ask = (
        "import numpy as np; from emotion import features;"
        "print(features.feature_names()[-2:], features.extract(np.full(8000, .5, 'f'))[-2:], features.recipe_version())"
    )
    (tmp_path / "mine.py").write_text(REGISTRATION)
    first = probe(tmp_path, ask)
    assert first.startswith("('mine_length', 'mine_peak') [0.5 0.5] ")
    (tmp_path / "mine.py").write_text("# a comment\n" + REGISTRATION)
    assert probe(tmp_path, ask) == first
    recipes = [features.recipe_version(), first.split()[-1]]
    for change in CHANGES:
        (tmp_path / "mine.py").write_text(change)
        recipes.append(probe(tmp_path, ask).split()[-1])
    assert len(set(recipes)) == len(recipes), "two different computations have one recipe"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (REGISTRATION.replace('"length"', '"peak"'), "cannot be registered"),
        (REGISTRATION.replace('"length"', '"length (s)"'), "cannot be registered"),
        (REGISTRATION.replace('("length", "peak")', "()"), "cannot be registered"),
        (REGISTRATION + REGISTRATION.replace('"length", "peak"', '"first", "last"'), "cannot be registered twice"),
        (REGISTRATION.replace("len(samples) /", "0 * float('nan') /"), "expected 2 finite numbers"),
        (REGISTRATION.replace("len(samples) / sample_rate, ", ""), "expected 2 finite numbers"),
    ],
)
def test_registered_features_that_cannot_be_used(tmp_path, source, message):
    (tmp_path / "mine.py").write_text(source)
    ask = "import numpy as np; from emotion import features; features.extract(np.ones(8000, 'f'))"
    output = probe(tmp_path, ask)
    assert "ConfigurationError" in output and message in output


def test_registered_features_are_in_the_group_that_they_name(tmp_path):
    ask = (
        "from emotion.features.groups import OWN, groups_of; from emotion import features;"
        "tree = groups_of(features.feature_names()); print([(g, s) for g in tree for s in tree[g] if s == 'mine'], OWN)"
    )
    (tmp_path / "mine.py").write_text(REGISTRATION)
    assert probe(tmp_path, ask) == "[('own features', 'mine')] own features"
    for group in ("pitch", "breathing pattern"):
        named = REGISTRATION.replace('"peak"))', f'"peak"), group="{group}")')
        (tmp_path / "mine.py").write_text(named)
        assert probe(tmp_path, ask).startswith(f"[('{group}', 'mine')]")
    (tmp_path / "mine.py").write_text(named.replace("breathing pattern", "<b>"))
    assert "expected letters, digits, spaces" in probe(tmp_path, ask)


def test_register_refuses_a_function_without_source():
    with pytest.raises(ConfigurationError, match="source"):
        features.register("length", names=("x",))(len)


def test_the_recipe_is_a_version_that_a_person_raises():
    assert features.recipe_version() == features.RECIPE_VERSION
    assert re.fullmatch(r"v\d+", features.RECIPE_VERSION)


def words(*, noise_db: float | None = None) -> np.ndarray:
    """Voice of 0.4 s, three times, with pauses of 0.6 s; with white noise so many dB below the voice."""
    word, pause = voice([140, 180, 150], seconds=0.4), np.zeros(int(0.6 * RATE), dtype=np.float32)
    samples = np.concatenate([pause, word, pause, word, pause, word, pause])
    if noise_db is None:
        return samples
    noise = np.random.default_rng(2).normal(size=len(samples)).astype(np.float32)
    return samples + noise * np.sqrt(np.mean(word**2)) * np.float32(10 ** (-noise_db / 20))


@pytest.mark.parametrize("decibels", [-40, -20, 20, 40])
def test_gain_changes_no_feature(decibels):
    samples = words(noise_db=30)
    changed = features.extract(samples * np.float32(10 ** (decibels / 20)))
    np.testing.assert_allclose(changed, features.extract(samples), rtol=2e-3, atol=2e-3)


def test_active_speech_has_the_reference_level():
    """Within 2 dB: the reference is the level between 150 and 3500 Hz."""
    speech = Speech(0.01 * words(noise_db=40))
    assert (
        abs(10 * np.log10(np.mean(10 ** (speech.level[speech.start : speech.stop][speech.active] / 10))) - REFERENCE_DB)
        < 2
    )


@pytest.mark.parametrize("noise_db", [30, 20, 10])
def test_frames_of_noise_between_words_are_not_active(noise_db):
    clean, noisy = Speech(words()), Speech(words(noise_db=noise_db))
    assert abs(noisy.start - clean.start) <= 3 and abs(noisy.stop - clean.stop) <= 3
    assert abs(noisy.active.mean() - clean.active.mean()) < 0.05


@pytest.mark.parametrize("offset", [0.05, -0.3])
def test_a_constant_offset_does_not_hide_the_speech(offset):
    clean, shifted = Speech(words(noise_db=40)), Speech(words(noise_db=40) + np.float32(offset))
    assert (shifted.start, shifted.stop) == (clean.start, clean.stop)
    np.testing.assert_array_equal(shifted.active, clean.active)
    voiced = clean.voiced & shifted.voiced
    assert voiced.mean() > 0.5
    np.testing.assert_allclose(shifted.mel_db[5:, voiced], clean.mel_db[5:, voiced], atol=0.5)


def test_masking_noise_hides_what_a_codec_removes():
    """Hiss 50 dB below the speech moves the mean MFCCs by 0.5 at most; without the masking noise by 2.7."""
    speech = words(noise_db=60)
    hiss = np.random.default_rng(3).normal(size=len(speech)).astype(np.float32) * np.float32(3e-4)
    with_hiss, without = features.extract(speech + hiss), features.extract(speech)
    means = [features.feature_names().index(f"mfcc_{number:02d}_voiced_mean") for number in range(20)]
    assert np.abs(with_hiss[means] - without[means]).max() < 1.0


def test_the_band_of_speech_is_filtered_as_scipy_does():
    samples, sections = np.random.default_rng(0).normal(size=RATE).astype(np.float32), spectrum.library_filters().speech
    padded = np.pad(samples, 1)
    halved = (padded[:-2:2] + 2 * padded[1:-1:2] + padded[2::2]) / 4
    expected = scipy.signal.sosfilt(sections, halved)
    np.testing.assert_allclose(kernels.halve_and_filter(samples, sections), expected, rtol=1e-9, atol=1e-12)


def test_filters_that_are_kept_need_no_librosa(tmp_path):
    code = (
        "import sys; from emotion.features import spectrum\nspectrum.library_filters(); print('librosa' in sys.modules)"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    asked = [subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) for _ in range(2)]
    assert asked == ["True\n", "False\n"]


@pytest.mark.parametrize("damage", ["cut off", "a flipped bit", "another file", "a folder", "no folder for it"])
def test_filters_that_cannot_be_kept_or_read_are_computed(tmp_path, monkeypatch, damage):
    arguments = (16_000, 512, 20, 12, (150.0, 3500.0))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    expected = bases.kept(*arguments)
    (file,) = (tmp_path / "cache").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    elif damage == "no folder for it":
        file.unlink()
        file.parent.rmdir()
        file.parent.write_text("a file")
    else:
        changed = {"cut off": content[:1000], "a flipped bit": content, "another file": b"x"}
        file.write_bytes(changed[damage])
    for one, other in zip(bases.kept(*arguments), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    if file.is_file():
        for one, other in zip(bases.kept(*arguments), expected, strict=True):
            np.testing.assert_array_equal(one, other)
