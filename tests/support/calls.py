"""Calls of two speakers, one on each channel, made from clips, with the truth of who speaks when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

AUDIBLE = 25.0
"""dB. Speech begins and ends where the level of a clip is this far below its loudest frame."""
GAP = 0.3
"""Seconds. What is apart from the sentence by so much, such as a smack of the lips, is no part of the turn."""


class Turn(NamedTuple):
    """What one speaker says at a time; start and end in seconds, channel counted from 1."""

    channel: int
    start: float
    end: float


def longest_speech(samples: np.ndarray, rate: int) -> np.ndarray:
    """The longest part of a clip without noise in which no gap is longer than :data:`GAP`."""
    size = rate // 50
    power = np.square(samples[: len(samples) // size * size]).reshape(-1, size).mean(axis=1)
    audible = np.flatnonzero(power > power.max() * 10 ** (-AUDIBLE / 10))
    parts = np.split(audible, np.flatnonzero(np.diff(audible) > GAP * 50) + 1)
    longest = max(parts, key=lambda part: part[-1] - part[0])
    return samples[longest[0] * size : (longest[-1] + 1) * size]


def make_call(
    speakers: Sequence[Sequence[np.ndarray]],
    rate: int,
    *,
    seed: int,
    snr: float | None = 20.0,
    pauses: tuple[float, float] = (0.6, 2.0),
    gains: Sequence[float] = (0.0, 0.0),
    crosstalk: float | None = None,
) -> tuple[np.ndarray, list[Turn]]:
    """A call in which the speakers take turns: float64 (n, len(speakers)), and its turns in the order of time.

    Parameters
    ----------
    speakers : sequence of sequence of float arrays
        The clips of each speaker, each a turn. All are brought to one power.
    rate : int
        Of the clips and the call, Hz.
    seed : int
    snr : float or None
        Power of the speech in a turn over that of white noise, in dB; None adds no noise.
    pauses : tuple of float
        Shortest and longest time between two turns, s.
    gains : sequence of float
        Of each channel, speech and noise, in dB.
    crosstalk : float or None
        How loud each speaker is on the channel of the other, in dB.
    """
    rng = np.random.default_rng(seed)
    turns, placed, position = [], [], round(rate * 1.5)
    for number in range(min(map(len, speakers))):
        for channel, clips in enumerate(speakers):
            speech = longest_speech(clips[number], rate)
            speech = 0.05 * speech / np.sqrt(np.square(speech).mean())
            turns.append(Turn(channel + 1, position / rate, (position + len(speech)) / rate))
            placed.append((channel, position, speech))
            position += len(speech) + round(rate * rng.uniform(*pauses))
    call = np.zeros((max(position, placed[-1][1] + len(placed[-1][2])) + round(rate), len(speakers)))
    for channel, start, speech in placed:
        call[start : start + len(speech), channel] += speech
    if crosstalk is not None:
        call = call + 10 ** (crosstalk / 20) * call[:, ::-1]
    if snr is not None:
        call += rng.normal(0, 0.05 * 10 ** (-snr / 20), call.shape)
    return call * 10 ** (np.array(gains) / 20), turns


def share_matched(turns: Sequence[Turn], utterances: Sequence[Turn], *, tolerance: float = 0.15) -> float:
    """The share of turns for which one utterance starts and ends within ``tolerance`` seconds of the turn."""
    return float(
        np.mean(
            [
                any(
                    turn.channel == utterance.channel
                    and abs(turn.start - utterance.start) <= tolerance
                    and abs(turn.end - utterance.end) <= tolerance
                    for utterance in utterances
                )
                for turn in turns
            ]
        )
    )
