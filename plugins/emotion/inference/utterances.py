"""Cuts a stream of samples at its pauses into utterances.

The level of each frame of 10 ms, in the band of speech, is compared with the noise floor of the half minute around it.
A frame is speech if its level is above the floor by :data:`MARGIN`. This is relative, so neither the gain of a channel
nor the level of its noise matters, as long as speech is louder than noise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import scipy
from scipy.ndimage import median_filter, uniform_filter1d

from emotion.audio import decode
from emotion.errors import AudioError
from emotion.inference.cutting import MIN_WINDOW_SECONDS, Segment

LEAST_PAUSE = 0.4
"""Seconds below the threshold that end an utterance. The closure of a stop consonant lasts up to 0.2 s, and pauses
between two turns of a call mostly last longer."""
LONGEST = 15.0
"""Seconds. A longer utterance is cut at its quietest point."""
PADDING = 0.05
"""Seconds kept before and after the levels that are above the threshold."""
LEAST_SPEECH = 0.1
"""Seconds above the threshold. What is shorter is a click, and no utterance."""
MARGIN = 6.0
"""dB. The median of 5 frames of white noise stays below the floor by 3 dB more than its 10th percentile."""
RANGE = 40.0
"""dB. What is quieter than the speech of this channel by more is not taken for speech: cross-talk, or breath in a
recording without noise."""
FORGET = 0.1
"""dB per second by which the loudest speech of a channel is forgotten."""
AROUND = 15
"""Seconds before and after a second from which its noise floor is estimated."""
SPEECH_BAND = (100.0, 4000.0)
"""Hz. Hum lies below, and of white noise at 48 kHz most lies above."""
SILENCE = 20 * np.log10(decode.SILENCE_RMS)
"""dB. Frames below it are digital silence, which says nothing of the noise."""
_FRAMES = 100  # per second
_PAUSE, _LONGEST, _PAD, _SPEECH = (
    round(_FRAMES * seconds) for seconds in (LEAST_PAUSE, LONGEST, PADDING, LEAST_SPEECH)
)
_MEDIAN = 5  # frames


class UtteranceCutter:
    """Cuts utterances from a stream; memory holds at most 32 s of it.

    An utterance that is shorter than 1 s is given without its samples, and with the error ``too_short``. A stream
    without any utterance is given as one segment with the error ``silent``, or ``no_speech`` if there is only noise.

    Parameters
    ----------
    rate : float
        Hz.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> stream = rng.normal(0, 0.001, 80_000).astype(np.float32)
    >>> stream[16_000:32_000] += rng.normal(0, 0.1, 16_000).astype(np.float32)
    >>> stream[48_000:72_000] += rng.normal(0, 0.1, 24_000).astype(np.float32)
    >>> cutter = UtteranceCutter(8_000)
    >>> segments = [*cutter.add(stream), *cutter.finish()]
    >>> [(round(segment.start / 8_000, 1), round(segment.end / 8_000, 1)) for segment in segments]
    [(1.9, 4.1), (6.0, 9.1)]
    """

    def __init__(self, rate: float):
        self._rate = rate
        self._size = round(rate / _FRAMES)  # samples of a frame
        self._chunk = self._size * _FRAMES  # samples of a second: what is decided at a time
        self._filter = scipy.signal.butter(
            2, [SPEECH_BAND[0], min(SPEECH_BAND[1], 0.45 * rate)], "bandpass", fs=rate, output="sos"
        )
        self._state = np.zeros((len(self._filter), 2))
        self._rest = np.empty(0, dtype=np.float32)
        self._chunks: deque[np.ndarray] = deque()
        self._first_chunk = 0  # number of the first of them
        self._levels = np.empty(0)
        self._active = np.empty(0, dtype=bool)  # as far as it is decided
        self._first_frame = 0  # of levels and active
        self._loudest = -np.inf
        self._start: int | None = None  # frame at which the utterance begins that is not complete yet
        self._last = 0  # the last frame above the threshold
        self._end = 0  # sample at which the segment before ended
        self._any = False

    def add(self, samples: np.ndarray) -> Iterator[Segment]:
        """As :meth:`emotion.inference.cutting.Cutter.add`; an utterance comes 16 s after its end."""
        self._rest = np.concatenate([self._rest, samples])
        while len(self._rest) >= self._chunk:
            self._measure(self._rest[: self._chunk])
            self._rest = self._rest[self._chunk :]
            if self._waiting() > AROUND * _FRAMES:
                yield from self._decide(_FRAMES)

    def finish(self) -> Iterator[Segment]:
        """As :meth:`emotion.inference.cutting.Cutter.finish`."""
        self._measure(self._rest)
        while self._waiting():
            yield from self._decide(min(_FRAMES, self._waiting()))
        if self._start is not None:
            yield from self._close(self._start, self._last + 1)
        if not self._any:
            total = self._first_chunk * self._chunk + sum(map(len, self._chunks))
            if self._loudest < SILENCE:
                error = AudioError("silent", "the recording is silent")
            else:
                error = AudioError("no_speech", "nothing in the recording stands out from its noise")
            yield Segment(0, total, None, error)

    def _waiting(self) -> int:
        """Number of frames that are measured and not decided."""
        return len(self._levels) - len(self._active)

    def _measure(self, samples: np.ndarray) -> None:
        """Keep a chunk of the stream, and the levels of its frames in dB."""
        self._chunks.append(samples)
        frames = len(samples) // self._size
        if not frames:
            return
        # one NaN would stay in the filter for ever
        usable = np.clip(np.nan_to_num(samples[: frames * self._size]), -decode.MAX_PEAK, decode.MAX_PEAK)
        band, self._state = scipy.signal.sosfilt(self._filter, usable, zi=self._state)
        power = np.square(band).reshape(frames, self._size).mean(axis=1)
        self._levels = np.concatenate([self._levels, 10 * np.log10(power + 1e-12)])

    def _decide(self, count: int) -> Iterator[Segment]:
        """Decide which of the next frames are speech; gives the utterances that are complete with them."""
        first = len(self._active)
        around = self._levels[max(0, first - AROUND * _FRAMES) : first + count + AROUND * _FRAMES]
        audible = around[around > SILENCE]
        threshold = np.inf
        if len(audible):
            floor, loud = np.percentile(audible, [10, 95])
            self._loudest = max(self._loudest - FORGET, loud)
            threshold = max(floor + MARGIN, self._loudest - RANGE)
        before = min(first, _MEDIAN)
        smooth = median_filter(self._levels[first - before : first + count + _MEDIAN], _MEDIAN, mode="nearest")
        active = smooth[before : before + count] > threshold
        self._active = np.concatenate([self._active, active])
        for frame, is_active in enumerate(active.tolist(), self._first_frame + first):
            if is_active:
                self._start = frame if self._start is None else self._start
                self._last = frame
            if self._start is None:
                continue
            if frame - self._last >= _PAUSE:
                yield from self._close(self._start, self._last + 1)
                self._start = None
            elif frame + 1 - self._start >= _LONGEST - 2 * _PAD:
                yield from self._split(self._start)
        self._forget()

    def _split(self, start: int) -> Iterator[Segment]:
        """Cut an utterance that is too long at its quietest point; what is left is at least as long as an utterance."""
        low, high = start + _LONGEST // 2, start + _LONGEST - 2 * _PAD - _FRAMES
        offset = self._first_frame
        cut = low + int(uniform_filter1d(self._levels[low - offset : high - offset], 21).argmin())
        active = np.flatnonzero(self._active[start - offset :]) + start
        yield from self._close(start, int(active[active < cut][-1]) + 1, limit=cut)
        later = active[active >= cut]
        self._start = int(later[0]) if len(later) else None

    def _close(self, start: int, end: int, *, limit: int | None = None) -> Iterator[Segment]:
        """The utterance from frame ``start`` to before ``end``, with its padding, which ends before ``limit``."""
        if self._active[start - self._first_frame : end - self._first_frame].sum() < _SPEECH:
            return
        total = self._first_chunk * self._chunk + sum(map(len, self._chunks))
        last = end + _PAD if limit is None else min(end + _PAD, limit)
        samples = max((start - _PAD) * self._size, self._end), min(last * self._size, total)
        self._end = samples[1]
        self._any = True
        seconds = (samples[1] - samples[0]) / self._rate
        if seconds < MIN_WINDOW_SECONDS:
            message = f"the utterance lasts {seconds:.2f} s; expected at least {MIN_WINDOW_SECONDS:g} s"
            yield Segment(*samples, None, AudioError("too_short", message))
        else:
            origin = self._first_chunk * self._chunk
            joined = np.concatenate(self._chunks)
            yield Segment(*samples, joined[samples[0] - origin : samples[1] - origin].copy())

    def _forget(self) -> None:
        """Drop levels and samples that nothing can need any more."""
        decided = self._first_frame + len(self._active)
        needed = (decided if self._start is None else self._start) - _PAD
        while self._chunks and (self._first_chunk + 1) * _FRAMES <= needed:
            self._chunks.popleft()
            self._first_chunk += 1
        drop = max(0, min(needed, decided - AROUND * _FRAMES) - self._first_frame)
        self._levels, self._active = self._levels[drop:], self._active[drop:]
        self._first_frame += drop
