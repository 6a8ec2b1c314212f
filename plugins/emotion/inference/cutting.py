"""Cuts a stream of samples into windows of one length, and says what a part of a stream is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from emotion.errors import AudioError, ConfigurationError

MAX_CLIP_SECONDS = 60.0
"""The longest recording that gets a single answer, as models are trained on sentences."""
MIN_WINDOW_SECONDS = 1.0
"""The shortest window or utterance that gets an answer. What is left at the end of a stream becomes a window if it is
at least this long."""


class Segment(NamedTuple):
    """A part of a stream, from sample ``start`` to before sample ``end``."""

    start: int
    end: int
    samples: np.ndarray | None
    """float32 (end - start,); None where there is an error."""
    error: AudioError | None = None
    """Why it gets no answer, where that is known without its features."""


class Cutter(Protocol):
    """Takes a stream block by block, and gives its segments in the order of time."""

    def add(self, samples: np.ndarray) -> Iterator[Segment]:
        """Take the next mono samples, float32 (n,); gives the segments that are complete now."""

    def finish(self) -> Iterator[Segment]:
        """Give the segments that are left at the end of the stream."""


class WindowCutter:
    """Cuts windows of one length: see :func:`emotion.inference.windows.stream_windows`.

    Parameters
    ----------
    rate, window, hop : float
        Hz; seconds of a window, and from the start of one window to the start of the next.

    Raises
    ------
    ConfigurationError
        If the window is not 1 to 60 s, or the hop is not above 0 s and at most one window.

    Examples
    --------
    >>> cutter = WindowCutter(8_000, window=2, hop=1)
    >>> [(segment.start, segment.end) for segment in cutter.add(np.zeros(26_000, dtype=np.float32))]
    [(0, 16000), (8000, 24000)]
    >>> [(segment.start, segment.end) for segment in cutter.finish()]
    [(16000, 26000)]
    """

    def __init__(self, rate: float, *, window: float, hop: float):
        if not MIN_WINDOW_SECONDS <= window <= MAX_CLIP_SECONDS or not 0 < hop <= window:
            raise ConfigurationError(
                f"windows of {window} s every {hop} s; expected {MIN_WINDOW_SECONDS:g} to {MAX_CLIP_SECONDS:g} "
                "s, and at most one window from the start of one to the start of the next"
            )
        self._rate = rate
        self._size, self._step = round(window * rate), max(1, round(hop * rate))
        self._parts: list[np.ndarray] = []
        self._start, self._held, self._end = 0, 0, 0  # in samples: of the next window; in parts; of the last window

    def add(self, samples: np.ndarray) -> Iterator[Segment]:
        """As :meth:`Cutter.add`."""
        self._parts.append(samples)
        self._held += len(samples)
        if self._held < self._size:
            return
        held = np.concatenate(self._parts)
        while len(held) >= self._size:
            self._end = self._start + self._size
            yield Segment(self._start, self._end, held[: self._size])
            held, self._start = held[self._step :], self._start + self._step
        self._parts, self._held = [held], len(held)

    def finish(self) -> Iterator[Segment]:
        """As :meth:`Cutter.finish`. Raises AudioError (``too_short``) if the stream does not have a single window."""
        end = self._start + self._held
        if end > self._end and self._held >= MIN_WINDOW_SECONDS * self._rate:
            yield Segment(self._start, end, np.concatenate(self._parts))
        elif not self._end:
            raise AudioError(
                "too_short",
                f"the stream ended after {self._held / self._rate:.3f} s; expected at least {MIN_WINDOW_SECONDS:g} s",
            )
