"""What differs in the recording of a batch: level, noise, bandwidth or clipping. It names the cause of drift."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

EDGES: Mapping[str, np.ndarray] = {
    "level_db": np.arange(-120.0, 20.5, 0.5),
    "snr_db": np.arange(-10.0, 80.5, 0.5),
    "bandwidth_hz": np.arange(0.0, 8100.0, 50.0),
    "clipped_share": np.concatenate([[0.0], np.geomspace(1e-5, 1, 101)]),
    "seconds_of_speech": np.concatenate([np.arange(0.0, 10.0, 0.1), np.arange(10.0, 61.0, 1.0)]),
}
"""Edges of the bins in which each figure of :class:`emotion.features.quality.Quality` is counted."""
BINS = max(map(len, EDGES.values()))
LEVEL_STEP = 10.0
"""dB. A level that differs by more than this from training's is named as a cause, and so is an SNR that is lower by
more. Both are more than speakers and takes of one studio differ by."""
BAND_SHARE = 0.75
"""A bandwidth below this share of training's is named as a cause."""
CLIPPED = 0.005
"""A clipped share that is larger than training's by more than this is named as a cause."""


def quality_counts(table: pd.DataFrame) -> np.ndarray:
    """Clips per bin, int64 (5, BINS), in the order of :data:`emotion.features.quality.COLUMNS`; NaN is not counted.

    >>> from emotion.features import quality
    >>> clips = pd.DataFrame([quality.Quality(-30.2, 20.1, 4000, 0, 1.5), quality.UNKNOWN])
    >>> counts = quality_counts(clips)
    >>> counts.sum(axis=1).tolist(), medians(counts)["bandwidth_hz"]
    ([1, 1, 1, 1, 1], 4025.0)
    """
    counts = np.zeros((len(EDGES), BINS), dtype=np.int64)
    for row, (name, edges) in zip(counts, EDGES.items(), strict=True):
        values = table[name].to_numpy(dtype=float)
        bins = np.clip(np.searchsorted(edges, values[~np.isnan(values)], side="right") - 1, 0, len(edges) - 1)
        row += np.bincount(bins, minlength=BINS)
    return counts


def medians(counts: np.ndarray) -> dict[str, float | None]:
    """The median of each figure, to the middle of its bin; None where no clip has the figure."""
    middles: dict[str, float | None] = {}
    for row, (name, edges) in zip(counts, EDGES.items(), strict=True):
        if not row.sum():
            middles[name] = None
            continue
        middle = int(np.searchsorted(row.cumsum(), row.sum() / 2))
        ends = edges[middle : middle + 2]
        middles[name] = 0.0 if name == "clipped_share" and middle == 0 else float(ends.mean())
    return middles


def causes(batch: Mapping[str, float | None], training: Mapping[str, float | None]) -> list[str]:
    """Sentences that name how the recordings of a batch differ from training's; ``medians`` of both.

    >>> studio = {"level_db": -36.0, "snr_db": 60.0, "bandwidth_hz": 7800.0, "clipped_share": 0.0}
    >>> causes(studio | {"bandwidth_hz": 3900.0}, studio)
    ['Bandwidth: the speech reaches 3.9 kHz; in training 7.8 kHz.']
    >>> causes(studio, studio)
    []
    """
    sentences = []
    here, there = batch["snr_db"], training["snr_db"]
    if here is not None and there is not None and there - here > LEVEL_STEP:
        sentences.append(f"Noise: the signal-to-noise ratio is {here:.0f} dB; in training {there:.0f} dB.")
    here, there = batch["bandwidth_hz"], training["bandwidth_hz"]
    if here is not None and there is not None and here < BAND_SHARE * there:
        sentences.append(f"Bandwidth: the speech reaches {here / 1000:.1f} kHz; in training {there / 1000:.1f} kHz.")
    here, there = batch["level_db"], training["level_db"]
    if here is not None and there is not None and abs(here - there) > LEVEL_STEP:
        direction = "louder" if here > there else "quieter"
        sentences.append(f"Level: the speech is {abs(here - there):.0f} dB {direction} than in training.")
    here, there = batch["clipped_share"], training["clipped_share"]
    if here is not None and there is not None and here - there > CLIPPED:
        sentences.append(f"Clipping: {here:.1%} of the samples are clipped; in training {there:.1%}.")
    return sentences
