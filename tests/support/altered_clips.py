"""Changed copies of recordings, as the bytes of audio files, and the features of such files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import librosa
import numpy as np
import soundfile
import soxr

from emotion import features
from emotion.audio import decode
from emotion.audio.conditions import tilted

Samples = tuple[np.ndarray, int]
"""Samples (n,) float64, full scale 1, and their rate in Hz."""
Change = Callable[[np.ndarray, int], bytes]
"""From samples and their rate to the bytes of an audio file."""


def wav(samples: np.ndarray, rate: int) -> bytes:
    """32-bit float samples, which neither clip nor round."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def louder(decibels: float) -> Change:
    return lambda samples, rate: wav(samples * 10 ** (decibels / 20), rate)


def stronger(decibels: float) -> Change:
    """Spoken with more effort, at the same level: its spectrum falls by so many dB an octave less."""

    def change(samples: np.ndarray, rate: int) -> bytes:
        speech = soxr.resample(samples, rate, decode.SAMPLE_RATE).astype(np.float32)
        return wav(tilted(speech, decibels), decode.SAMPLE_RATE)

    return change


def with_silence(before: float, after: float) -> Change:
    """Digital silence of so many seconds before and after."""
    return lambda samples, rate: wav(np.pad(samples, (int(before * rate), int(after * rate))), rate)


def at_rate(other: int) -> Change:
    return lambda samples, rate: wav(soxr.resample(samples, rate, other), other)


def higher(semitones: float) -> Change:
    """Higher in pitch, as fast as before; by a phase vocoder at 16 kHz, where it takes a third of the time."""

    def change(samples: np.ndarray, rate: int) -> bytes:
        speech = soxr.resample(samples, rate, decode.SAMPLE_RATE)
        return wav(librosa.effects.pitch_shift(speech, sr=decode.SAMPLE_RATE, n_steps=semitones), decode.SAMPLE_RATE)

    return change


def faster(speed: float) -> Change:
    """Faster, as high as before; likewise."""

    def change(samples: np.ndarray, rate: int) -> bytes:
        speech = soxr.resample(samples, rate, decode.SAMPLE_RATE)
        return wav(librosa.effects.time_stretch(speech, rate=speed), decode.SAMPLE_RATE)

    return change


def played_faster(speed: float) -> Change:
    """Faster and higher, as a tape: pitch, formants and rate of speech together."""
    return lambda samples, rate: wav(soxr.resample(samples, rate * speed, rate), rate)


def flac(samples: np.ndarray, rate: int) -> bytes:
    """Lossless, for samples of a 16-bit file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def read(file) -> Samples:
    """The recording, mono."""
    samples, rate = soundfile.read(file, always_2d=True)
    return samples.mean(axis=1), rate


def vectors(files: Iterable[bytes]) -> np.ndarray:
    """Features of audio files as an answer's are computed, shape (n, n_features)."""
    return np.stack([features.extract(decode.load(io.BytesIO(data)).samples) for data in files])
