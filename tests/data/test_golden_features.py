"""Features of seven synthesized clips, against the values that were committed with the recipe's version.

After an intended change of the recipe, raise ``RECIPE_VERSION``. Then ``python tests/data/test_golden_features.py``
writes the new values.
"""

from __future__ import annotations

import hashlib
import io
import wave
from pathlib import Path

import numpy as np
import pytest

from emotion import features
from emotion.audio import decode
from emotion.audio.decode import MIN_SECONDS

GOLDEN = Path(__file__).with_name("golden_features.npz")
CHANGED = "features changed: raise the recipe version, or find the mistake"
RELATIVE, ABSOLUTE = 2e-3, 2e-3
"""Sums are added in another order on another processor or version of Python. No feature may move by more than this."""


def noise(n: int) -> np.ndarray:
    """Uniform in [-1, 1), by a linear congruential generator: the same under every version of everything."""
    state = np.empty(n, dtype=np.uint32)
    value = 1
    for i in range(n):
        value = (1664525 * value + 1013904223) % 2**32
        state[i] = value
    return state / 2.0**31 - 1


def voiced(rate: int, seconds: float, *, low: float, high: float) -> np.ndarray:
    """Twelve harmonics at 6 dB an octave; f0 glides from ``low`` to ``high`` Hz, with a little noise."""
    n = int(seconds * rate)
    phase = 2 * np.pi * np.cumsum(np.linspace(low, high, n)) / rate
    wave_sum = sum(np.sin(k * phase) / k for k in range(1, 13) if k * high < 0.45 * rate)
    return 0.25 * wave_sum + 0.003 * noise(n)


def with_pauses(samples: np.ndarray, rate: int) -> np.ndarray:
    """The same, with a pause of 0.15 s in every 0.4 s."""
    at = np.arange(len(samples)) / rate
    return np.where(at % 0.4 < 0.25, samples, 0.01 * samples)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A 16-bit WAV; ``samples`` (n,) or (n, channels)."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((samples[0].size, 2, rate, 0, "NONE", ""))
        writer.writeframes(np.round(32767 * samples).astype("<i2").tobytes())
    return file.getvalue()


def clips() -> dict[str, bytes]:
    """WAV files by name."""
    glide = voiced(48_000, 1.2, low=140, high=240)
    return {
        "voiced": wav(with_pauses(voiced(16_000, 1.6, low=110, high=190), 16_000), 16_000),
        "noise": wav(0.2 * noise(16_000), 16_000),
        "near-silence": wav(0.002 * voiced(16_000, 1.0, low=200, high=210), 16_000),
        "shortest": wav(voiced(16_000, MIN_SECONDS, low=180, high=170), 16_000),
        "stereo at 48 kHz": wav(np.stack([glide, 0.5 * glide], axis=1), 48_000),
        "8 kHz": wav(with_pauses(voiced(8_000, 1.2, low=220, high=160), 8_000), 8_000),
        "24 kHz": wav(voiced(24_000, 0.8, low=300, high=420), 24_000),
    }


def vectors(data: bytes) -> np.ndarray:
    """Features of the clip and of its augmented copies, shape (1 + n_variants, n_features)."""
    samples = decode.load(io.BytesIO(data)).samples
    return np.stack(
        [features.extract(each) for each in (samples, *(f(samples, "golden") for f in features.VARIANTS.values()))]
    )


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return dict(arrays)


def test_the_golden_values_are_of_this_recipe(golden):
    assert str(golden["recipe"]) == features.RECIPE_VERSION, (
        f"the golden values are of recipe {golden['recipe']}: run python {Path(__file__).name}"
    )
    assert tuple(golden["names"]) == features.feature_names(), CHANGED
    assert golden.keys() - {"recipe", "names"} == {
        f"{kind} {name}" for name in clips() for kind in ("sha256", "values")
    }


@pytest.mark.parametrize("name", clips())
def test_features_are_as_committed(golden, name):
    data = clips()[name]
    assert hashlib.sha256(data).hexdigest() == str(golden[f"sha256 {name}"]), "the bytes of the clip changed"
    committed, computed = golden[f"values {name}"], vectors(data)
    moved = np.abs(computed - committed) > ABSOLUTE + RELATIVE * np.abs(committed)
    examples = [
        f"{features.feature_names()[column]}: {computed[row, column]:.6g}, committed {committed[row, column]:.6g}"
        for row, column in np.argwhere(moved)[:5]
    ]
    assert not moved.any(), f"{CHANGED}. {name}: {int(moved.sum())} of {moved.size} values moved, such as {examples}"


def main() -> None:
    """Write the golden values."""
    arrays = {"recipe": np.array(features.RECIPE_VERSION), "names": np.array(features.feature_names())}
    for name, data in clips().items():
        arrays[f"sha256 {name}"] = np.array(hashlib.sha256(data).hexdigest())
        arrays[f"values {name}"] = vectors(data)
    np.savez_compressed(GOLDEN, **arrays)
    print(f"Written: {GOLDEN}, recipe {features.RECIPE_VERSION}")


if __name__ == "__main__":
    main()
