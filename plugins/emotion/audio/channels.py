"""Tells which channels of a recording differ from each other, so that each is scored as a recording of its own."""

from __future__ import annotations

import os
from typing import BinaryIO, NamedTuple

import numpy as np

from emotion.audio import decode

IDENTICAL = 1e-6
"""Two channels are identical if their difference has at most this share of their power (-60 dB): an encoder such as MP3
does not give two equal channels back bit for bit."""


class Channel(NamedTuple):
    """A channel to score. ``number`` is None for a recording whose channels are all the same: it is mono."""

    number: int | None
    """Counted from 1."""
    copies: tuple[int, ...] = ()
    """The other channels that are identical to it."""

    @property
    def note(self) -> str:
        """What to tell a person of its copies; ``""`` if there are none.

        >>> Channel(1, (2,)).note, Channel(None, (2,)).note, Channel(1).note
        ('identical to channel 2, and scored once', 'all channels are identical: scored once, as mono', '')
        """
        if not self.copies:
            return ""
        if self.number is None:
            return "all channels are identical: scored once, as mono"
        others = f"channel{'s' if len(self.copies) > 1 else ''} {', '.join(map(str, self.copies))}"
        return f"identical to {others}, and scored once"


MONO = (Channel(None),)


def speaker_of(channel: Channel, name: str) -> str:
    """The speaker of a channel: ``<name>#<channel>``. A recording in mono, or of an unknown speaker (``""``), has the
    name itself.

    >>> speaker_of(Channel(2), "ann"), speaker_of(Channel(None), "ann"), speaker_of(Channel(2), "")
    ('ann#2', 'ann', '')
    """
    return f"{name}#{channel.number}" if name and channel.number is not None else name


def distinct_channels(file: str | os.PathLike | BinaryIO) -> tuple[Channel, ...]:
    """The channels of a recording, each once where several are identical; decodes the file, in constant memory.

    Parameters
    ----------
    file : path or binary file
        As for :func:`emotion.audio.decode.load`.

    Returns
    -------
    tuple of Channel
        :data:`MONO` for one channel. A silent channel is listed by itself, as is one with NaN: scoring it says why it
        cannot be used.

    Raises
    ------
    AudioError, FileNotFoundError
        As :func:`emotion.audio.decode.open_recording`, and ``truncated``.

    Examples
    --------
    >>> import io, soundfile
    >>> voice, noise = np.random.default_rng(0).normal(0, 0.1, (2, 8_000))
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.stack([voice, noise, voice], axis=1), 8_000, format="WAV")
    >>> distinct_channels(file)
    (Channel(number=1, copies=(3,)), Channel(number=2, copies=()))
    """
    with decode.open_recording(file) as recording:
        if recording.channels == 1:
            return MONO
        frames, sums, products = 0, np.zeros(recording.channels), np.zeros((recording.channels,) * 2)
        with np.errstate(over="ignore", invalid="ignore"):  # NaN: such a channel is like no other
            for block in recording.blocks:
                samples = block.astype(np.float64) / (32768 if block.dtype == np.int16 else 1)
                frames += len(samples)
                sums += samples.sum(axis=0)
                products += samples.T @ samples
            power = np.diag(products)
            difference = power[:, None] + power[None, :] - 2 * products
            same = difference <= IDENTICAL * np.minimum(power[:, None], power[None, :])
            is_silent = power / max(frames, 1) - (sums / max(frames, 1)) ** 2 < decode.SILENCE_RMS**2
    if same.all():
        return (Channel(None, tuple(range(2, recording.channels + 1))),)
    # silent channels are equal too, but each is refused by its own number
    copies: dict[int, list[int]] = {}
    for channel in range(recording.channels):
        first = next((other for other in copies if same[other, channel] and not is_silent[channel]), channel)
        copies.setdefault(first, []).append(channel + 1)
    return tuple(Channel(first + 1, tuple(numbers[1:])) for first, numbers in copies.items())
