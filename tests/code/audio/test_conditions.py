"""Recording conditions: what they do to a clip, at the limits too, and which random numbers they use."""

from __future__ import annotations

import numpy as np
import pytest

from emotion.audio import conditions
from emotion.audio.conditions import CONDITIONS, condition_numbers, copy_numbers, in_condition, random_copy
from emotion.audio.decode import SAMPLE_RATE

COPIES = range(1, 13)


def speech(seconds: float, *, seed: int = 0, peak: float = 0.3) -> np.ndarray:
    """Bursts of a harmonic tone in faint noise, with a pause before and after where there is room for one."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * 140 * harmonic * time) / harmonic for harmonic in range(1, 20))
    burst = (np.sin(2 * np.pi * 3 * time) > -0.3) & (time > 0.1 * seconds) & (time < 0.9 * seconds)
    samples = tone * burst + 1e-3 * random.standard_normal(len(time))
    return (peak * samples / np.abs(samples).max()).astype(np.float32)


TALKERS = [speech(2, seed=1), speech(0.5, seed=2)]


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("samples", [speech(0.2), speech(3.1), speech(1, peak=2e-4), speech(1, peak=1e5)], ids=len)
def test_a_condition_gives_finite_samples_and_the_same_ones_each_time(name, samples):
    before = samples.copy()
    changed = in_condition(name, samples, sha256="ab12", talkers=TALKERS)
    assert changed.dtype == np.float32 and changed.ndim == 1
    assert np.isfinite(changed).all() and changed.any()
    assert len(changed) >= 0.2 * SAMPLE_RATE
    if name != "silence_cut":
        assert len(changed) == len(samples)
    assert (in_condition(name, samples, sha256="ab12", talkers=TALKERS) == changed).all()
    assert (samples == before).all(), "the clip itself was changed"


@pytest.mark.parametrize("samples", [speech(0.2), speech(3.1), speech(1, peak=2e-4), speech(1, peak=1e5)], ids=len)
def test_training_copies_are_finite_and_differ(samples):
    copies = [random_copy(samples, copy_numbers(number, "ab12")) for number in COPIES]
    assert all(copy.dtype == np.float32 and np.isfinite(copy).all() and copy.any() for copy in copies)
    assert len({copy.tobytes() for copy in copies}) == len(COPIES)


@pytest.mark.parametrize("slope, name", [(0, "white"), (1, "pink")])
@pytest.mark.parametrize("snr", [20, 10])
def test_noise_has_the_stated_ratio_and_colour(slope, name, snr):
    samples = speech(3.1)
    noise = in_condition(f"{name}_{snr}db", samples, sha256="ab12") - samples
    ratio = 10 * np.log10(conditions.active_power(samples) / np.mean(noise**2))
    assert ratio == pytest.approx(snr, abs=0.05)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octave = len(power) // 8
    fall = 10 * np.log10(power[octave : 2 * octave].mean() / power[2 * octave : 4 * octave].mean())
    assert fall == pytest.approx(3 * slope, abs=0.6)


def test_the_babble_is_made_of_the_talkers_alone():
    samples = speech(1)
    silent_clip = np.zeros(4 * SAMPLE_RATE, dtype=np.float32)
    mixture = conditions.babble(TALKERS, len(silent_clip), condition_numbers("babble_15db", "ab12"))
    spectrum = np.abs(np.fft.rfft(mixture)) ** 2
    harmonics = np.round(np.fft.rfftfreq(len(mixture), 1 / SAMPLE_RATE) / 140) * 140
    near = np.abs(np.fft.rfftfreq(len(mixture), 1 / SAMPLE_RATE) - harmonics) < 12
    assert spectrum[near].sum() > 0.9 * spectrum.sum()
    with_one, with_two = (in_condition("babble_15db", samples, sha256="ab12", talkers=TALKERS[:n]) for n in (1, 2))
    assert (with_one != with_two).any()
    with pytest.raises(ValueError, match="no talker"):
        in_condition("babble_15db", samples, sha256="ab12")


def test_the_conditions_are_what_their_names_say():
    samples = speech(2)
    frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)

    def share(name: str, low: float, high: float) -> float:
        power = np.abs(np.fft.rfft(in_condition(name, samples, sha256="ab12"))) ** 2
        return power[(frequency >= low) & (frequency < high)].sum() / power.sum()

    assert share("narrow_band", 4_100, 8_000) < 1e-4
    assert share("telephone", 0, 200) < 0.05 < share("narrow_band", 0, 200)
    assert share("telephone", 4_100, 8_000) < 1e-4
    louder = in_condition("gain_plus_6db", samples, sha256="ab12") / samples
    assert louder == pytest.approx(np.full(len(samples), 10 ** (6 / 20)), rel=1e-5)
    assert np.abs(in_condition("clipped", samples, sha256="ab12")).max() == 1
    pause = np.zeros(SAMPLE_RATE, dtype=np.float32)
    assert len(in_condition("silence_cut", np.concatenate([pause, samples, pause]), sha256="ab12")) < len(samples)
    tail = {
        name: np.square(in_condition(name, np.concatenate([samples, pause]), sha256="ab12")[-SAMPLE_RATE // 2 :]).sum()
        for name in ("room_300ms", "room_800ms")
    }
    assert tail["room_800ms"] > 10 * tail["room_300ms"] > 0


FIGURES = {
    "gain_minus_20db": (0.0104, 1.000),
    "gain_plus_6db": (0.2069, 1.000),
    "white_20db": (0.1047, 0.991),
    "white_10db": (0.1125, 0.922),
    "pink_20db": (0.1046, 0.991),
    "pink_10db": (0.1134, 0.923),
    "babble_15db": (0.1092, 0.975),
    "narrow_band": (0.1037, 1.000),
    "telephone": (0.0538, -0.024),
    "mp3": (0.0985, 0.996),
    "opus": (0.0995, 0.985),
    "room_300ms": (0.1082, 0.926),
    "room_800ms": (0.1239, 0.782),
    "clipped": (0.4476, 0.996),
    "silence_cut": (0.1190, 0.744),
    "tilted": (0.3276, 0.944),
}
"""RMS of a clip in each condition of version ``c1``, and correlation with the clip."""


def test_a_condition_that_changes_needs_a_new_version():
    """If this fails on purpose, raise CONDITIONS_VERSION and enter the new figures: stored features are of the old."""
    assert conditions.CONDITIONS_VERSION == "c1" and list(FIGURES) == list(CONDITIONS)
    samples = speech(2)
    for name, (rms, correlation) in FIGURES.items():
        changed = in_condition(name, samples, sha256="ab12", talkers=TALKERS)
        count = min(len(samples), len(changed))
        assert np.sqrt(np.mean(np.square(changed, dtype=np.float64))) == pytest.approx(rms, rel=0.02), name
        assert np.corrcoef(samples[:count], changed[:count])[0, 1] == pytest.approx(correlation, abs=0.02), name


def test_no_random_number_is_shared_between_conditions_and_training_copies():
    """Every noise that a condition or a copy draws is recorded: no two of them have a value in common."""
    drawn: list[np.ndarray] = []

    class Recorder(np.random.Generator):
        """Draws as its parent does, and keeps the noise."""

        def standard_normal(self, *arguments, **options):
            drawn.append(np.ravel(super().standard_normal(*arguments, **options)))
            return drawn[-1]

    def noise_of(make, numbers: np.random.Generator) -> np.ndarray:
        drawn.clear()
        make(Recorder(numbers.bit_generator))
        return np.concatenate([np.empty(0), *drawn])

    draws: dict[str, np.ndarray] = {}
    for sha256, clip in (("ab12", speech(1)), ("cd34", speech(1, seed=3))):
        for name, condition in CONDITIONS.items():
            draws[f"{name} {sha256}"] = noise_of(
                lambda rng, change=condition.change, clip=clip: change(clip, rng, TALKERS),
                condition_numbers(name, sha256),
            )
        for number in COPIES:
            draws[f"copy {number} {sha256}"] = noise_of(
                lambda rng, clip=clip: random_copy(clip, rng), copy_numbers(number, sha256)
            )
    noisy = [purpose for purpose, values in draws.items() if len(values) > SAMPLE_RATE // 2]
    assert any(purpose.startswith("copy") for purpose in noisy)
    assert {"white_20db ab12", "pink_10db cd34", "room_800ms ab12"} <= set(noisy)
    values = np.concatenate(list(draws.values()))
    assert len(np.unique(values)) == len(values), "a random number was drawn twice"
    first_numbers = {float(condition_numbers(name, "ab12").random()) for name in CONDITIONS}
    first_numbers |= {float(copy_numbers(number, "ab12").random()) for number in COPIES}
    assert len(first_numbers) == len(CONDITIONS) + len(COPIES)
