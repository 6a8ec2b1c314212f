"""The picture of one clip: its waveform with its pitch, and what drove the answer, group by group, as a waterfall."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from emotion.audio.decode import Clip
from emotion.features.frames import Speech
from emotion.features.spectrum import FRAME_RATE, WINDOW

WIDTH, HEIGHT = 600, 90
"""Units of the drawing; it is stretched to the width of the page."""
COLUMNS = 300
"""Pieces of the waveform; of each the lowest and the highest sample are drawn."""
SHOWN_PITCH = 5, 95
"""Percentiles of the pitch between which it is drawn: a few frames are taken for another octave."""


def draw(clip: Clip) -> dict:
    """The waveform and the pitch of a clip as paths of an SVG.

    Returns
    -------
    dict
        ``seconds``; ``waveform`` and ``pitch``, the paths, within :data:`WIDTH` and :data:`HEIGHT`; ``f0_low``
        and ``f0_high``, the range of the pitch in Hz, of most frames. Without voiced frames there is no pitch: ``""``
        and None.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 200 / 16_000 * np.arange(16_000)).astype(np.float32)
    >>> picture = draw(Clip(tone, 16_000, 1.0, 16_000, 1))
    >>> round(picture["f0_low"]), round(picture["f0_high"]), picture["waveform"][:8]
    (200, 200, 'M0,45.0 ')
    """
    samples = clip.samples
    pieces = np.array_split(samples, min(COLUMNS, len(samples)))
    peak = max(float(np.abs(samples).max()), 1e-9)
    x = np.arange(len(pieces)) * WIDTH / len(pieces)
    middle = HEIGHT / 2
    high = middle - 0.95 * middle * np.array([piece.max() for piece in pieces]) / peak
    low = middle - 0.95 * middle * np.array([piece.min() for piece in pieces]) / peak
    outline = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
    waveform = f"M0,{middle:.1f} " + " ".join(f"L{left:.0f},{y:.1f}" for left, y in outline) + " Z"
    return {"seconds": clip.duration, "waveform": waveform} | _pitch(samples, clip.sample_rate)


def _pitch(samples: np.ndarray, rate: int) -> dict:
    speech = Speech(samples)
    f0 = speech.pitch.f0
    voiced = np.flatnonzero(f0 > 0)
    if not len(voiced):
        return {"pitch": "", "f0_low": None, "f0_high": None}
    semitones = 12 * np.log2(f0[voiced])
    least, most = np.percentile(semitones, SHOWN_PITCH)
    span = max(float(most - least), 1.0)
    y = HEIGHT * (0.92 - 0.84 * np.clip((semitones - least) / span, -0.08, 1.08))
    seconds = (speech.start + voiced) / FRAME_RATE + WINDOW / 2 / rate
    x = WIDTH * np.minimum(seconds * rate / len(samples), 1)
    begins = np.diff(voiced, prepend=-2) > 1
    path = " ".join(f"{'M' if new else 'L'}{a:.1f},{b:.1f}" for new, a, b in zip(begins, x, y, strict=True))
    return {"pitch": path, "f0_low": float(2 ** (least / 12)), "f0_high": float(2 ** (most / 12))}


def waterfall(explanation: Mapping) -> dict:
    """An explanation with the place of each bar, in percent of the axis.

    Parameters
    ----------
    explanation : mapping
        The ``explanation`` of an answer, see the notes on :class:`emotion.inference.CustomEmotionModel`.

    Returns
    -------
    dict
        ``base`` and ``output`` (percent), ``zero`` and ``one`` (percent), and ``bars``: the groups, each with ``left``
        and ``width``. A bar begins where the one before ends: the first at the base value, and the last ends at the
        output.

    Examples
    --------
    >>> picture = waterfall({
    ...     "base_value": 0.2, "output": 0.9, "groups": [{"contribution": 0.8}, {"contribution": -0.1}]
    ... })
    >>> [(bar["left"], bar["width"]) for bar in picture["bars"]]
    [(20.0, 80.0), (90.0, 10.0)]
    """
    contributions = [group["contribution"] for group in explanation["groups"]]
    ends = explanation["base_value"] + np.cumsum([0.0, *contributions])
    low, high = min(0.0, float(ends.min())), max(1.0, float(ends.max()))

    def percent(value: float) -> float:
        return round(100 * float(value - low) / (high - low), 2)

    bars = [
        group
        | {"left": percent(min(start, end)), "width": round(percent(max(start, end)) - percent(min(start, end)), 2)}
        for group, start, end in zip(explanation["groups"], ends[:-1], ends[1:], strict=True)
    ]
    marks = {"base": explanation["base_value"], "output": explanation["output"], "zero": 0.0, "one": 1.0}
    return {name: percent(value) for name, value in marks.items()} | {"bars": bars}
