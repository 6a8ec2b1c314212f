"""Augmented copies of a clip at another speed, which are added to the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import soxr

from emotion.features.spectrum import SAMPLE_RATE


def _at_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    return soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE, quality="HQ").astype(np.float32)


VARIANTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "slower": lambda samples: _at_speed(samples, 0.9),
    "faster": lambda samples: _at_speed(samples, 1.1),
}
"""Copies of a clip for training rows alone, as a larger and slower or a smaller and faster speaker would say it (Ko et
al. 2015, "Audio augmentation for speech recognition"). Each maps float32 samples at :data:`SAMPLE_RATE` to float32
samples at the same rate.

>>> {name: len(change(np.ones(9_900, dtype=np.float32))) for name, change in VARIANTS.items()}
{'slower': 11000, 'faster': 9000}
"""
