"""Recording conditions: what another room, microphone, line or file format does to a clean recording.

:data:`CONDITIONS` are fixed, so that figures can be compared; models are tested on them. :func:`random_copy` draws from
continuous ranges; models are trained on such copies. The two share no random number: a generator is seeded with the
hash of its purpose (:func:`condition_numbers`, :func:`copy_numbers`) and of the clip's checksum.

All functions take float32 samples at :data:`emotion.audio.decode.SAMPLE_RATE`, shape (n,), of a clip that the decoder
accepts: finite, not silent, at least :data:`emotion.audio.decode.MIN_SECONDS` long. They return such samples.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import scipy.fft
import soundfile
import soxr

from emotion.audio.decode import MIN_SECONDS, SAMPLE_RATE

CONDITIONS_VERSION = "c1"
"""Raise it by hand when what a condition does changes. Features of conditions are stored below it."""
CLEAN = "clean"
"""The name of the recording as it is, in tables beside :data:`CONDITIONS`."""
_HOP = SAMPLE_RATE // 100
_ACTIVE_DB = 30.0
"""Speech is active where its level is at most so many dB below the 98th percentile of its levels."""


def condition_numbers(condition: str, sha256: str) -> np.random.Generator:
    """The random numbers of a fixed condition for one clip.

    >>> bool(condition_numbers("white_20db", "ab12").random() == condition_numbers("white_20db", "ab12").random())
    True
    """
    return _random_numbers(f"condition {condition}", sha256)


def copy_numbers(number: int, sha256: str) -> np.random.Generator:
    """The random numbers of one training copy of a clip.

    >>> bool(copy_numbers(1, "ab12").random() == copy_numbers(2, "ab12").random())
    False
    """
    return _random_numbers(f"copy {number}", sha256)


def _random_numbers(purpose: str, sha256: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(f"{purpose} {sha256}".encode()).digest()))


def active_hops(samples: np.ndarray) -> np.ndarray:
    """Which hops of 10 ms hold active speech, bool, shape (n // 160,).

    >>> tone = np.sin(np.arange(8_000, dtype=np.float32) / 5)
    >>> active = active_hops(np.concatenate([np.zeros(8_000, dtype=np.float32), tone]))
    >>> len(active), bool(active[:45].any()), bool(active[55:].all())
    (100, False, True)
    """
    hops = samples[: len(samples) // _HOP * _HOP].reshape(-1, _HOP).astype(np.float64)
    level = 10 * np.log10(np.convolve((hops**2).mean(axis=1), np.ones(4) / 4, "same") + 1e-12)
    return level >= np.quantile(level, 0.98) - _ACTIVE_DB


def active_power(samples: np.ndarray) -> float:
    """Mean power of the active speech, relative to full scale.

    >>> round(active_power(np.concatenate([np.zeros(16_000), np.full(16_000, 0.5)]).astype(np.float32)), 2)
    0.25
    """
    hops = samples[: len(samples) // _HOP * _HOP].reshape(-1, _HOP)
    return float(np.mean(np.square(hops[active_hops(samples)], dtype=np.float64)))


def _gain(samples: np.ndarray, decibels: float) -> np.ndarray:
    return samples * np.float32(10 ** (decibels / 20))


def with_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Noise added at this ratio of active speech to noise; ``noise`` has the shape of ``samples``.

    >>> speech = np.full(16_000, 0.1, dtype=np.float32)
    >>> noisy = with_noise(speech, condition_numbers("example", "ab12").standard_normal(16_000), 20)
    >>> round(float(10 * np.log10(np.mean(speech**2) / np.mean((noisy - speech) ** 2))), 2)
    20.0
    """
    power = np.mean(np.square(noise, dtype=np.float64))
    scale = np.sqrt(active_power(samples) / max(power, 1e-20) * 10 ** (-snr_db / 10))
    return (samples + scale * noise).astype(np.float32)


def coloured_noise(count: int, rng: np.random.Generator, slope: float) -> np.ndarray:
    """Noise whose power falls by ``slope`` × 3 dB an octave above 30 Hz: 0 is white, 1 pink, 2 brown.

    >>> power = np.abs(np.fft.rfft(coloured_noise(160_000, condition_numbers("example", "ab12"), 1))) ** 2
    >>> round(float(10 * np.log10(power[1_000:2_000].mean() / power[10_000:20_000].mean())))  # a decade of pink noise
    10
    """
    length = scipy.fft.next_fast_len(count, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.arange(len(spectrum)) * SAMPLE_RATE / length, 30.0)
    return scipy.fft.irfft(spectrum * frequency ** (-slope / 2), length)[:count]


def babble(talkers: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """Recordings of several talkers on top of each other, equally loud, each begun anywhere and repeated.

    >>> talkers = [np.ones(8_000, dtype=np.float32), np.full(4_000, 0.1, dtype=np.float32)]
    >>> babble(talkers, 16_000, condition_numbers("example", "ab12"))[[0, -1]].round(6).tolist()
    [2.0, 2.0]

    Raises ValueError if there is no talker.
    """
    if not talkers:
        raise ValueError("found no talker; expected at least one recording to make babble of")
    total = np.zeros(count)
    for talker in talkers:
        voice = np.roll(talker, -int(rng.integers(len(talker)))) / np.sqrt(max(active_power(talker), 1e-20))
        total += np.resize(voice, count)
    return total


def synthetic_babble(count: int, rng: np.random.Generator, talkers: int = 6) -> np.ndarray:
    """Voices of synthetic talkers: pulse trains and noise through resonances, in syllables and pauses.

    Training copies take it in place of :func:`babble`, so that no recording is heard in the copy of another.

    >>> synthetic_babble(8_000, copy_numbers(1, "ab12"), talkers=2).shape
    (8000,)
    """
    total = np.zeros(count)
    seconds = count / SAMPLE_RATE
    for _ in range(talkers):
        syllables = max(2, int(seconds * rng.uniform(3, 6)) + 2)
        times = np.linspace(0, count, syllables)
        f0 = rng.uniform(85, 260) * 2 ** (rng.normal(0, 0.15, syllables))
        phase = np.cumsum(np.interp(np.arange(count), times, f0)) / SAMPLE_RATE
        pulses = np.diff(np.floor(phase), prepend=0) * rng.uniform(5, 15) + 0.3 * rng.standard_normal(count)
        envelope = np.interp(np.arange(count), times, rng.gamma(0.8, 1, syllables) * (rng.random(syllables) > 0.2))
        voice = scipy.signal.lfilter([1], [1, -0.95], pulses)
        for low, high in ((250, 900), (900, 2400), (2200, 3200)):
            radius, angle = 0.97, 2 * np.pi * rng.uniform(low, high) / SAMPLE_RATE
            voice = voice + scipy.signal.lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], voice)
        total += voice * envelope / (voice.std() + 1e-9) * 10 ** (rng.uniform(-6, 0) / 20)
    return total


def at_bandwidth(samples: np.ndarray, hertz: float) -> np.ndarray:
    """What is left below a frequency, after resampling to twice that frequency and back.

    >>> tones = np.sin(np.outer([1_000, 6_000], 2 * np.pi * np.arange(16_000) / SAMPLE_RATE)).astype(np.float32)
    >>> [round(float(at_bandwidth(tone, 4_000).std()), 2) for tone in tones]
    [0.71, 0.0]
    """
    low = soxr.resample(samples, SAMPLE_RATE, 2 * hertz, quality="HQ")
    return _of_length(soxr.resample(low, 2 * hertz, SAMPLE_RATE, quality="HQ"), len(samples))


def _of_length(samples: np.ndarray, count: int) -> np.ndarray:
    return np.pad(samples, (0, max(0, count - len(samples))))[:count].astype(np.float32)


def telephone(samples: np.ndarray, *, low: float = 300.0, high: float = 3400.0) -> np.ndarray:
    """A telephone line: this band, at 8 kHz, with µ-law of 8 bits (ITU-T G.711).

    >>> tones = np.sin(np.outer([100, 1_000], 2 * np.pi * np.arange(16_000) / SAMPLE_RATE)).astype(np.float32)
    >>> [bool(telephone(tone).std() > 0.5) for tone in tones]
    [False, True]
    """
    line = soxr.resample(samples, SAMPLE_RATE, 8_000, quality="HQ")
    line = scipy.signal.sosfilt(scipy.signal.butter(4, (low, high), "bandpass", fs=8_000, output="sos"), line)
    peak = np.abs(line).max() + 1e-9
    scaled = line / peak
    companded = np.sign(scaled) * np.log1p(255 * np.abs(scaled)) / np.log(256)
    companded = np.round(companded * 127) / 127
    decoded = np.sign(companded) * np.expm1(np.abs(companded) * np.log(256)) / 255 * peak
    return _of_length(soxr.resample(decoded, 8_000, SAMPLE_RATE, quality="HQ"), len(samples))


def mp3(samples: np.ndarray, compression: float) -> np.ndarray:
    """MP3 at an average bit rate; a compression of 0.95 is about 16 kbit/s.

    >>> tone = np.sin(np.arange(16_000) / 5).astype(np.float32)
    >>> mp3(tone, 0.95).shape, bool(np.corrcoef(mp3(tone, 0.95), tone)[0, 1] > 0.9)
    ((16000,), True)
    """
    return _coded(
        samples, format="MP3", subtype="MPEG_LAYER_III", compression_level=compression, bitrate_mode="AVERAGE"
    )


def opus(samples: np.ndarray, compression: float) -> np.ndarray:
    """Opus in Ogg; a compression of 0.97 is about 14 kbit/s, 0.99 about 9 kbit/s.

    The encoder takes 30 ms for a second of audio, and half of that below 10 kbit/s.

    >>> tone = np.sin(np.arange(16_000) / 5).astype(np.float32)
    >>> opus(tone, 0.99).shape, bool(np.corrcoef(opus(tone, 0.99), tone)[0, 1] > 0.9)
    ((16000,), True)
    """
    return _coded(samples, format="OGG", subtype="OPUS", compression_level=compression)


def _coded(samples: np.ndarray, **encoding: Any) -> np.ndarray:
    """Encoded and decoded by libsndfile. The encoder gets a peak of 0.5: at a very low level it would code nothing."""
    file = io.BytesIO()
    scale = np.float32(2 * np.abs(samples).max())
    soundfile.write(file, samples / scale, SAMPLE_RATE, **encoding)
    file.seek(0)
    decoded, rate = soundfile.read(file, dtype="float32")
    if rate != SAMPLE_RATE:
        decoded = soxr.resample(decoded, rate, SAMPLE_RATE, quality="HQ")
    return _of_length(decoded * scale, len(samples))


def reverberated(samples: np.ndarray, rng: np.random.Generator, *, seconds: float, direct_db: float) -> np.ndarray:
    """In a room: exponentially decaying noise after the direct sound.

    ``seconds``: reverberation time (60 dB); ``direct_db``: energy of the direct sound relative to the rest, in dB.

    >>> click = np.eye(1, 16_000, 4_000, dtype=np.float32)[0]
    >>> heard = reverberated(click, condition_numbers("example", "ab12"), seconds=0.3, direct_db=3)
    >>> float(np.abs(heard[:4_000]).max().round(6)), round(float(10 * np.log10(1 / np.square(heard[4_001:]).sum())), 1)
    (0.0, 3.0)
    """
    count = int(1.2 * seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    tail = rng.standard_normal(count) * 10 ** (-3 * time / seconds) * (time > rng.uniform(0.002, 0.012))
    tail *= np.sqrt(10 ** (-direct_db / 10) / np.square(tail).sum())
    tail[0] += 1
    return scipy.signal.fftconvolve(samples, tail)[: len(samples)].astype(np.float32)


def clipped(samples: np.ndarray, share: float) -> np.ndarray:
    """Overdriven: this share of the active speech's samples lies beyond full scale, and is cut off.

    >>> tone = np.sin(np.arange(16_000) / 5).astype(np.float32)
    >>> round(float((np.abs(clipped(tone, 0.1)) >= 1).mean()), 2)
    0.1
    """
    hops = np.abs(samples[: len(samples) // _HOP * _HOP].reshape(-1, _HOP))[active_hops(samples)]
    limit = max(float(np.quantile(hops, 1 - share)), 1e-6)
    return np.clip(samples / np.float32(limit), -1, 1)


def without_silence(samples: np.ndarray) -> np.ndarray:
    """Without what comes before and after the active speech; at least :data:`MIN_SECONDS` are kept.

    >>> speech = np.concatenate([np.zeros(16_000), np.sin(np.arange(16_000) / 5), np.zeros(16_000)])
    >>> bool(16_000 <= len(without_silence(speech.astype(np.float32))) < 17_000)
    True
    """
    active = np.flatnonzero(active_hops(samples)) * _HOP
    first, last = int(active[0]), int(active[-1]) + _HOP
    least = min(round(MIN_SECONDS * SAMPLE_RATE), len(samples))
    first = min(max(0, first - max(0, least - (last - first)) // 2), len(samples) - least)
    return samples[first : max(last, first + least)]


def tilted(samples: np.ndarray, decibels_per_octave: float) -> np.ndarray:
    """Through a microphone whose response is tilted about 1 kHz, by at most 20 dB.

    >>> tones = np.sin(np.outer([1_000, 2_000], 2 * np.pi * np.arange(16_000) / SAMPLE_RATE)).astype(np.float32)
    >>> [round(float(20 * np.log10(tilted(tone, -4).std() / tone.std()))) for tone in tones]
    [0, -4]
    """
    length = scipy.fft.next_fast_len(len(samples), real=True)
    spectrum = scipy.fft.rfft(samples, length)
    frequency = np.maximum(np.arange(len(spectrum)) * SAMPLE_RATE / length, 20.0)
    gain = np.clip(decibels_per_octave * np.log2(frequency / 1000), -20, 20)
    return scipy.fft.irfft(spectrum * 10 ** (gain / 20), length)[: len(samples)].astype(np.float32)


Change = Callable[[np.ndarray, np.random.Generator, Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Condition:
    """A fixed condition.

    Attributes
    ----------
    title : str
        What a person reads.
    change : callable
        ``change(samples, rng, talkers)``: the samples in the condition; ``talkers``: recordings of other speakers.
    has_talkers : bool
        Whether the condition depends on the talkers.
    """

    title: str
    change: Change
    has_talkers: bool = False


def _noise(slope: float, snr_db: float) -> Change:
    return lambda samples, rng, _: with_noise(samples, coloured_noise(len(samples), rng, slope), snr_db)


def _room(seconds: float, direct_db: float) -> Change:
    return lambda samples, rng, _: reverberated(samples, rng, seconds=seconds, direct_db=direct_db)


def _babble(snr_db: float) -> Change:
    return lambda samples, rng, talkers: with_noise(samples, babble(talkers, len(samples), rng), snr_db)


CONDITIONS: dict[str, Condition] = {
    "gain_minus_20db": Condition("20 dB quieter", lambda samples, *_: _gain(samples, -20)),
    "gain_plus_6db": Condition("6 dB louder", lambda samples, *_: _gain(samples, 6)),
    "white_20db": Condition("White noise, 20 dB SNR", _noise(0, 20)),
    "white_10db": Condition("White noise, 10 dB SNR", _noise(0, 10)),
    "pink_20db": Condition("Pink noise, 20 dB SNR", _noise(1, 20)),
    "pink_10db": Condition("Pink noise, 10 dB SNR", _noise(1, 10)),
    "babble_15db": Condition("Other people talking, 15 dB SNR", _babble(15), has_talkers=True),
    "narrow_band": Condition("Sample rate of 8 kHz", lambda samples, *_: at_bandwidth(samples, 4_000)),
    "telephone": Condition("Telephone: 300 to 3400 Hz, 8 kHz, µ-law", lambda samples, *_: telephone(samples)),
    "mp3": Condition("MP3 at 16 kbit/s", lambda samples, *_: mp3(samples, 0.95)),
    "opus": Condition("Opus at 9 kbit/s", lambda samples, *_: opus(samples, 0.99)),
    "room_300ms": Condition("Room, 0.3 s reverberation", _room(0.3, 3)),
    "room_800ms": Condition("Room, 0.8 s reverberation", _room(0.8, 0)),
    "clipped": Condition("Overdriven: 10% of the samples clipped", lambda samples, *_: clipped(samples, 0.1)),
    "silence_cut": Condition("Silence before and after cut off", lambda samples, *_: without_silence(samples)),
    "tilted": Condition("Microphone tilted by -4 dB an octave", lambda samples, *_: tilted(samples, -4)),
}
"""Conditions by name, in the order of the table. The recording as it is, :data:`CLEAN`, stands beside them."""


def in_condition(name: str, samples: np.ndarray, *, sha256: str, talkers: Sequence[np.ndarray] = ()) -> np.ndarray:
    """A clip under a condition of :data:`CONDITIONS`; the same input gives the same samples.

    ``sha256``: the clip's checksum, which seeds the noise; ``talkers``: recordings for a condition with talkers.

    >>> tone = np.sin(np.arange(16_000) / 5).astype(np.float32)
    >>> round(float(in_condition("gain_minus_20db", tone, sha256="ab12").max()), 3)
    0.1
    """
    return CONDITIONS[name].change(samples, condition_numbers(name, sha256), talkers)


def random_copy(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy under conditions drawn at random, for training alone: speed, room, microphone, noise, band, codec, gain.

    >>> tone = np.sin(np.arange(16_000) / 5).astype(np.float32)
    >>> copy = random_copy(tone, copy_numbers(1, "ab12"))
    >>> copy.dtype.name, bool(np.isfinite(copy).all())
    ('float32', True)
    """
    copy = soxr.resample(samples, SAMPLE_RATE * rng.uniform(0.88, 1.12), SAMPLE_RATE, quality="HQ").astype(np.float32)
    if rng.random() < 0.25:
        copy = without_silence(copy)
    if rng.random() < 0.4:
        copy = reverberated(copy, rng, seconds=rng.uniform(0.15, 1.1), direct_db=rng.uniform(-3, 9))
    if rng.random() < 0.3:
        copy = tilted(copy, rng.uniform(-6, 6))
    if rng.random() < 0.7:
        if rng.random() < 0.5:
            part = synthetic_babble(min(len(copy), 2 * SAMPLE_RATE), rng, int(rng.integers(1, 8)))
            noise = np.resize(part, len(copy))
        else:
            noise = coloured_noise(len(copy), rng, rng.uniform(-0.3, 2))
        copy = with_noise(copy, noise, rng.uniform(3, 35))
    if rng.random() < 0.15:
        copy = clipped(copy, rng.uniform(0.01, 0.2))
    band = rng.random()
    if band < 0.2:
        copy = telephone(copy, low=rng.uniform(100, 400), high=rng.uniform(3000, 3800))
    elif band < 0.35:
        copy = at_bandwidth(copy, rng.uniform(3_000, 7_500))
    if rng.random() < 0.12:  # no Opus: its encoder would take as long as all else together
        copy = mp3(copy, rng.uniform(0.8, 0.99))
    return _gain(copy, rng.uniform(-25, 10))
