"""Augmented copies of a clip, which are added to the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import soxr

from emotion.audio.conditions import copy_numbers, random_copy
from emotion.features.spectrum import SAMPLE_RATE

RANDOM_COPIES = 4
"""Copies under random recording conditions. Eight would raise accuracy in noise by half a point, at twice the cost."""


def _at_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    return soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE, quality="HQ").astype(np.float32)


def _random_copy(number: int) -> Callable[[np.ndarray, str], np.ndarray]:
    return lambda samples, sha256: random_copy(samples, copy_numbers(number, sha256))


VARIANTS: Mapping[str, Callable[[np.ndarray, str], np.ndarray]] = {
    "slower": lambda samples, _: _at_speed(samples, 0.9),
    "faster": lambda samples, _: _at_speed(samples, 1.1),
} | {f"copy_{number}": _random_copy(number) for number in range(1, RANDOM_COPIES + 1)}
"""Copies of a clip for training rows alone: two at another speed, as a larger and slower or a smaller and faster
speaker would say it (Ko et al. 2015, "Audio augmentation for speech recognition"), and some under random recording
conditions (:func:`emotion.audio.conditions.random_copy`). Each maps float32 samples at :data:`SAMPLE_RATE` and the
checksum of the clip's file, which seeds the random numbers, to float32 samples at the same rate.

>>> {name: len(VARIANTS[name](np.ones(9_900, dtype=np.float32), "ab12")) for name in ("slower", "faster")}
{'slower': 11000, 'faster': 9000}
"""
