"""Short excerpts of recordings, for the players in a report."""

from __future__ import annotations

import base64
import io

import numpy as np
import soundfile

from emotion.audio.decode import Clip

EXCERPT_SECONDS = 8.0


def excerpt(clip: Clip) -> bytes:
    """The first :data:`EXCERPT_SECONDS` of a clip as a small MP3."""
    samples = clip.samples[: int(EXCERPT_SECONDS * clip.sample_rate)]
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        np.clip(samples, -1, 1),
        clip.sample_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=0.8,
    )
    return buffer.getvalue()


def with_address(clip: dict) -> dict:
    """A clip whose ``audio``, an MP3 or None, is the address of a player: the page needs no other file.

    >>> with_address({"path": "a.wav", "audio": b"MP3"})
    {'path': 'a.wav', 'audio': 'data:audio/mpeg;base64,TVAz'}
    """
    mp3 = clip["audio"]
    return clip | {"audio": mp3 and "data:audio/mpeg;base64," + base64.b64encode(mp3).decode()}
