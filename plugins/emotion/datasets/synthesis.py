"""A synthesized corpus of acted emotion, laid out and named as RAVDESS, so that everything can run without a download.

The voice is a source-filter synthesizer after Klatt & Klatt (1990). The source is the KLGLOTT88 glottal pulse with
jitter, shimmer, spectral tilt and aspiration noise. It goes through a cascade of formant resonators that follows two
fixed sentences phone by phone, beside a frication branch. An emotion moves the voice's controls as the literature on
acted emotion reports. Each speaker has a voice, a tempo, an expressiveness and habits. No two takes are equal.

Each clip is a pure function of its file name, and has the same bytes wherever it is made. Random numbers are uniforms
of numpy's frozen ``RandomState`` stream. Powers and cosines, whose last bit depends on the processor, are rounded to a
grid before use. All else is IEEE arithmetic in an order that is written down here: no BLAS, FFT or pairwise sum, and
numba fuses no multiplication with an addition unless it is told to.

References
----------
- Klatt & Klatt (1990), JASA 87(2), 820-857: the source, the resonators, breathiness, tilt.
- Klatt (1980), JASA 67(3), 971-995: formant frequencies and bandwidths of the phones.
- Banse & Scherer (1996), JPSP 70(3), 614-636; Scherer (2003), Speech Communication 40, 227-256;
  Juslin & Laukka (2003), Psychological Bulletin 129(5), 770-814: what each emotion does to f0, tempo,
  intensity, high-frequency energy, pauses and voice quality.
"""

from __future__ import annotations

import io
import itertools
import re
import wave
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numba
import numpy as np

from emotion.errors import ConfigurationError

VERSION = "1"
"""Changes whenever the samples of any clip change."""
NOTICE = "Synthesized corpus: its figures show that the workflow works and say nothing about real speech."
"""To be shown wherever a figure of this corpus is shown."""
RATE = 48_000
"""Samples per second."""
_HOP = 240  # samples between two control frames: 5 ms, Klatt's own
_FRAME = _HOP / RATE
_DARK = (0.125, 0.875, 0.0)  # one-pole low-pass at 1 kHz: what vocal effort leaves as it is
_NAME = re.compile(  # a folder is its speaker's; neutral is never strong; counts start at 1
    r"(?:Actor_(?=(\d\d)/.*-\1\.wav)\d\d/)?"
    r"(03-01-(?!01-02)0([1-8])-0([12])-(0[12])-(?!00)\d\d-(?!00)(\d\d)\.wav)",
    re.ASCII,
)


class _Phone(NamedTuple):
    """A stretch of speech: duration, formants of a male voice in Hz, and the strength of each sound source (0-1)."""

    ms: float
    f1: float
    f2: float
    f3: float
    voicing: float
    aspiration: float = 0.0
    frication: float = 0.0
    centre: float = 5000.0  # Hz, of the frication noise


class _Track(NamedTuple):
    """The phones of an utterance, frame by frame: arrays of shape (frames,)."""

    f1: np.ndarray
    f2: np.ndarray
    f3: np.ndarray
    voicing: np.ndarray
    aspiration: np.ndarray
    frication: np.ndarray
    centre: np.ndarray


_PHONES = {
    "IH": (_Phone(85, 400, 1800, 2570, 1.0),),
    "AA": (_Phone(100, 700, 1220, 2600, 1.0),),
    "AO": (_Phone(125, 600, 990, 2570, 1.0),),
    "AX": (_Phone(60, 500, 1400, 2470, 0.9),),
    "AY": (_Phone(85, 680, 1200, 2550, 1.0), _Phone(75, 400, 1880, 2500, 0.9)),
    "R": (_Phone(75, 330, 1060, 1380, 0.8),),
    "NG": (_Phone(85, 280, 2000, 2850, 0.45),),
    "DH": (_Phone(45, 270, 1290, 2540, 0.35, 0.0, 0.01, 5500.0),),
    "Z": (_Phone(80, 240, 1390, 2530, 0.25, 0.0, 0.05, 6500.0),),
    "S": (_Phone(110, 320, 1390, 2530, 0.0, 0.0, 0.09, 6500.0),),
    "B": (_Phone(55, 200, 1100, 2150, 0.12), _Phone(10, 250, 1100, 2150, 0.4, 0.0, 0.02, 1500.0)),
    "D": (_Phone(45, 200, 1600, 2600, 0.12), _Phone(12, 250, 1700, 2600, 0.4, 0.0, 0.06, 4200.0)),
    "G": (_Phone(45, 200, 1990, 2850, 0.12), _Phone(15, 250, 1990, 2800, 0.4, 0.0, 0.04, 2000.0)),
    "K": (_Phone(60, 300, 1990, 2850, 0.0), _Phone(35, 330, 1990, 2850, 0.0, 0.5, 0.07, 2000.0)),
    "T": (_Phone(55, 400, 1600, 2600, 0.0), _Phone(35, 400, 1700, 2600, 0.0, 0.5, 0.08, 4400.0)),
    "|": (_Phone(25, 450, 1400, 2500, 0.0),),
    ".": (_Phone(90, 450, 1400, 2300, 0.0, 0.15),),
}
# RAVDESS's two statements; 1 marks a stressed vowel, | where a speaker may pause, . the last breath.
_STATEMENTS = {
    "01": "K IH1 D Z AA R T AO1 K IH NG | B AY DH AX D AO1 R .",
    "02": "D AO1 G Z AA R S IH1 T IH NG | B AY DH AX D AO1 R .",
}


class _Manner(NamedTuple):
    """How an utterance departs from the speaker's plain reading, on scales on which effects add up."""

    pitch: float  # semitones on mean f0
    span: float  # octaves on the size of f0 movements
    rise: float  # semitones of f0 at the end
    tempo: float  # octaves on speaking rate
    level: float  # dB
    bright: float  # dB above 1 kHz: vocal effort, less spectral tilt
    breath: float  # dB on aspiration noise
    rough: float  # 0-1, cycle-to-cycle irregularity and creak
    tremor: float  # semitones of 7 Hz modulation
    pause: float  # octaves on pauses
    reach: float  # octaves on the formant space: articulation, exaggerated or slurred
    smile: float  # octaves on F2 and F3: spread or protruded lips


# By the emotion's number in a file name. Directions are the literature's; sizes are set so that models
# confuse what people confuse: calm with sad and neutral, happy with surprised.
_EMOTION = {
    #          pitch  span  rise  tempo level bright breath rough tremor pause reach smile
    1: _Manner(0.0, 0.00, 0.0, 0.00, 0.0, 0.0, 0.0, 0.00, 0.0, 0.0, 0.00, 0.00),  # neutral
    2: _Manner(-1.0, -0.40, 0.0, -0.18, -4.0, -4.5, 5.0, 0.00, 0.0, 0.4, -0.02, 0.00),  # calm
    3: _Manner(6.0, 0.80, 1.0, 0.10, 4.0, 4.0, -1.0, 0.00, 0.0, -0.4, 0.05, 0.06),  # happy
    4: _Manner(0.0, -0.50, -0.5, -0.35, -6.0, -8.0, 6.0, 0.08, 0.4, 1.0, -0.10, -0.02),  # sad
    5: _Manner(6.0, 0.50, -1.5, 0.15, 8.0, 8.0, -4.0, 0.22, 0.0, -0.6, 0.08, -0.01),  # angry
    6: _Manner(8.0, 0.00, 1.0, 0.25, 3.0, 2.0, 4.0, 0.12, 0.8, 0.3, -0.03, 0.02),  # fearful
    7: _Manner(0.5, 0.20, -1.0, -0.25, 1.0, 2.0, 0.0, 0.22, 0.0, 0.4, 0.00, -0.04),  # disgust
    8: _Manner(7.0, 0.90, 6.0, 0.00, 3.0, 2.0, 2.0, 0.00, 0.0, -0.2, 0.03, 0.02),  # surprised
}
_HABIT = _Manner(1.0, 0.20, 0.7, 0.07, 1.8, 1.2, 1.3, 0.04, 0.10, 0.3, 0.02, 0.015)
"""Standard deviation between speakers, of how they act an emotion."""
_TAKE = _Manner(0.9, 0.18, 0.7, 0.05, 1.4, 1.0, 1.3, 0.04, 0.10, 0.3, 0.02, 0.012)
"""Standard deviation between takes of a speaker."""
_STRENGTH = {1: 0.75, 2: 1.25}  # of intensity normal and strong


class _Voice(NamedTuple):
    """What distinguishes a speaker."""

    f0: float  # semitones above 100 Hz
    tract: float  # formant scale: 1 for a vocal tract of 17.5 cm
    manner: np.ndarray  # (12,) the plain reading, as a departure from the average reader's
    expressive: float  # how far the emotions go
    habits: np.ndarray  # (8 emotions, 12)


def names(*, speakers: int = 24, repetitions: int = 1) -> list[str]:
    """File names of the corpus, from ``Actor_01/03-01-01-01-01-01-01.wav`` on, in order.

    Every speaker, emotion, intensity (neutral has one), statement and repetition: 30 clips per speaker and repetition.
    Odd speakers are male.

    Raises
    ------
    ConfigurationError
        If ``speakers`` or ``repetitions`` is not in 1-99, all that two digits hold.

    Examples
    --------
    >>> corpus = names(speakers=2)
    >>> len(corpus), corpus[0]
    (60, 'Actor_01/03-01-01-01-01-01-01.wav')
    """
    for what, count in (("speakers", speakers), ("repetitions", repetitions)):
        if not 1 <= count <= 99:
            raise ConfigurationError(f"{what} is {count}; expected 1 to 99")
    return [
        f"Actor_{actor:02d}/03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{take:02d}-{actor:02d}.wav"
        for actor, emotion, intensity, statement, take in itertools.product(
            range(1, speakers + 1), _EMOTION, _STRENGTH, (1, 2), range(1, repetitions + 1)
        )
        if (emotion, intensity) != (1, 2)
    ]


def synthesize_clip(name: str, changes: Mapping[str, float] | None = None) -> np.ndarray:
    """Synthesize one clip.

    Parameters
    ----------
    name : str
        One of :func:`names`, with or without its folder.
    changes : mapping, optional
        What is added to controls of the voice, to hear what one of them does: ``pitch`` (semitones), ``tempo``
        (octaves), ``bright`` (dB above 1 kHz: vocal effort), ``breath`` (dB of noise) and the others of the emotions.

    Returns
    -------
    numpy.ndarray
        int16, shape (samples,), mono at 48 kHz; 1.5 to 4 s.

    Raises
    ------
    ConfigurationError
        If the name is not one of this corpus.

    Examples
    --------
    >>> samples = synthesize_clip("03-01-05-02-01-01-01.wav")
    >>> samples.dtype, samples.ndim, 1.5 < len(samples) / RATE < 4
    (dtype('int16'), 1, True)
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise ConfigurationError(f"{name!r} is no clip of this corpus; expected one that names() lists")
    _, file_name, emotion, intensity, statement, actor = match.groups()
    voice = _voice(int(actor))
    random = np.random.RandomState(zlib.crc32(file_name.encode()))
    acted = np.array(_EMOTION[int(emotion)]) + voice.habits[int(emotion) - 1]
    strength = _STRENGTH[int(intensity)] * voice.expressive
    take = np.array(_TAKE) * _normal(random, len(_TAKE))
    manner = _Manner(*(voice.manner + strength * acted + take))
    for control, change in (changes or {}).items():
        manner = manner._replace(**{control: getattr(manner, control) + change})
    return _speak(_STATEMENTS[statement], voice, manner, random)


def wav_bytes(samples: np.ndarray) -> bytes:
    """A WAV file, PCM, 16-bit, mono, 48 kHz, from int16 samples of shape (samples,).

    >>> wav_bytes(np.zeros(2, dtype=np.int16))[:4]
    b'RIFF'
    """
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _voice(actor: int) -> _Voice:
    random = np.random.RandomState(actor)
    female = actor % 2 == 0
    pitch, tract, expressive = _normal(random, 3)
    plain = _Manner(0.0, 0.2, 0.6, 0.10, 4.0, 2.5, 3.0, 0.05, 0.0, 0.3, 0.03, 0.0)
    return _Voice(
        f0=(12.0 if female else 3.5) + 2.0 * pitch,
        tract=(1.17 if female else 1.0) * (1 + 0.035 * tract),
        manner=np.array(plain) * _normal(random, len(plain)),
        expressive=1.0 + 0.2 * expressive,
        habits=np.array(_HABIT) * _normal(random, (len(_EMOTION), len(_HABIT))),
    )


def _speak(statement: str, voice: _Voice, manner: _Manner, random: np.random.RandomState) -> np.ndarray:
    """An utterance from its controls: int16 samples, shape (samples,)."""
    phones, stress = _phones(statement)
    table = np.array(phones)
    frames = _durations(table[:, 0], stress, manner, random)
    track = _Track(*np.repeat(table[:, 1:], frames, axis=0).T)
    stressed = _smooth(np.repeat(stress * (1 + 0.3 * _normal(random, len(stress))), frames), 0.16)
    level = _power(10, (manner.level + 2.0 * stressed - np.linspace(0.0, 4.0, len(stressed))) / 20)
    rough = min(max(manner.rough, 0.0), 0.8)
    quotient = 0.6 + 0.01 * min(max(manner.breath - manner.bright, -15.0), 15.0)
    pulses, opened = _glottis(_samples(_f0(stressed, voice, manner, random)), quotient, rough, random)
    voicing = pulses * _samples(_smooth(track.voicing, 0.02) * level)
    breath = 0.6 * track.voicing * _power(10, (manner.breath - 22) / 20) + 0.1 * track.aspiration
    noise = 2 * random.random_sample((2, len(pulses))) - 1
    dark = _resonate(voicing, np.full((len(level), 1, 3), _DARK))
    sound = dark + _power(10, (manner.bright + 3.0) / 20) * (voicing - dark)
    sound += noise[0] * _samples(_smooth(breath, 0.02) * level) * np.where(opened, 1.0, 0.3)
    sound = _resonate(sound, _tract(track, voice, manner))
    hiss = np.diff(noise[1], prepend=0.0) * _samples(track.frication * level)
    sound += _resonate(hiss, _resonator(track.centre * voice.tract, 1500.0)[:, None])

    before, after = (RATE * (0.15 + 0.15 * random.random_sample(2))).astype(int)
    recording = np.concatenate([np.zeros(before), sound, np.zeros(after)])
    recording *= min(0.04, 0.95 / np.max(np.abs(recording)))
    recording += 1e-4 * (random.random_sample(len(recording)) - 0.5)  # the room
    return np.rint(recording * 32767).astype(np.int16)


def _f0(stressed: np.ndarray, voice: _Voice, manner: _Manner, random: np.random.RandomState) -> np.ndarray:
    """f0 of each control frame, Hz: declination, accents on stresses, the final movement, drift, tremor."""
    count = len(stressed)
    time = np.arange(count) * _FRAME
    movement = 1.5 - np.linspace(0.0, 3.0, count) + 4.0 * stressed
    movement += 4.0 * _smooth(random.random_sample(count) - 0.5, 0.12)
    end = np.clip(1 - (time[-1] - 0.12 - time) / 0.4, 0.0, 1.0)  # of the voice, before the last breath
    tremor = max(manner.tremor, 0.0) * _cos(2 * np.pi * (7.0 * time + random.random_sample()))
    course = manner.pitch + _power(2, manner.span) * movement + (manner.rise - 1.5) * end + tremor
    course -= np.maximum(course - 12, 0.0) / 2  # a voice strains an octave up
    return 100 * _power(2, (voice.f0 + _smooth(course, 0.03)) / 12)


def _tract(track: _Track, voice: _Voice, manner: _Manner) -> np.ndarray:
    """Resonators of the vocal tract, shape (frames, 11, 3)."""
    reach, smile = _power(2, manner.reach), _power(2, manner.smile)
    opening = 1 + 0.01 * manner.bright  # effort lowers the jaw
    formants = [
        _smooth(450 + reach * (track.f1 - 450), 0.05) * opening,
        _smooth(1450 + reach * (track.f2 - 1450), 0.06) * smile,
        _smooth(2500 + reach * (track.f3 - 2500), 0.06) * smile,
    ] + [np.full(len(track.f1), 3500.0 + 1000 * higher) for higher in range(8)]
    widths = [60.0 + 4 * max(manner.breath, 0.0), 90.0, 140.0] + [200.0 + 50 * higher for higher in range(8)]
    return np.stack([_resonator(f * voice.tract, width) for f, width in zip(formants, widths, strict=True)], axis=1)


def _phones(statement: str) -> tuple[list[_Phone], np.ndarray]:
    """The phones of a statement, and which of them are stressed (1.0)."""
    phones, stress = [], []
    for symbol in statement.split():
        for phone in _PHONES[symbol.rstrip("1")]:
            phones.append(phone)
            stress.append(float(symbol.endswith("1")))
    return phones, np.array(stress)


def _durations(ms: np.ndarray, stress: np.ndarray, manner: _Manner, random: np.random.RandomState) -> np.ndarray:
    """Control frames of each phone: stress and the last syllable lengthen, the boundary grows to a pause."""
    seconds = ms / 1000 * (1 + 0.35 * stress) * _power(2, 0.15 * _normal(random, len(ms)) - manner.tempo)
    seconds[-3:-1] *= 1.4  # of AO1 R .
    seconds[ms == _PHONES["|"][0].ms] *= 2 * _power(2, 1.5 * manner.pause)
    return np.maximum(np.rint(seconds / _FRAME), 1).astype(int)


def _glottis(
    f0: np.ndarray, quotient: float, rough: float, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """The KLGLOTT88 glottal flow derivative with jitter and shimmer, and whether the glottis is open, per sample."""
    cycle = np.floor(np.cumsum(f0 / RATE)).astype(int)
    jitter, shimmer = _normal(random, (2, cycle[-1] + 1))
    phase = np.cumsum(f0 * (1 + (0.006 + 0.04 * rough) * jitter[cycle]) / RATE)
    cycle = np.minimum(np.floor(phase).astype(int), cycle[-1])
    opened = (phase - np.floor(phase)) / quotient
    pulse = np.where(opened < 1, opened * (2 - 3 * opened), 0.0)
    amplitude = (1 + (0.03 + 0.15 * rough) * shimmer) * (1 - rough * (np.arange(len(shimmer)) % 2))
    return pulse * amplitude[cycle], opened < 1


def _resonator(frequency: np.ndarray, bandwidth: float) -> np.ndarray:
    """Klatt's second-order resonator, unity gain at 0 Hz: coefficients (gain, b, c), shape (frames, 3)."""
    radius = _power(np.e, -np.pi * bandwidth / RATE)
    b = 2 * radius * _cos(2 * np.pi * frequency / RATE)
    c = np.full(len(frequency), -radius * radius)
    return np.stack([1 - b - c, b, c], axis=1)


@numba.njit
def _resonate(sound: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """A cascade of resonators. Coefficients, shape (frames, sections, 3), are interpolated linearly between frames."""
    out = sound.copy()
    frames, sections, _ = coefficients.shape
    for k in range(sections):
        y1 = y2 = 0.0
        for frame in range(frames):
            following = coefficients[min(frame + 1, frames - 1), k]
            gain_step, b_step, c_step = (following - coefficients[frame, k]) / _HOP
            gain, b, c = coefficients[frame, k]
            for n in range(frame * _HOP, (frame + 1) * _HOP):
                y = gain * out[n] + b * y1 + c * y2
                gain += gain_step
                b += b_step
                c += c_step
                y2 = y1
                y1 = y
                out[n] = y
    return out


def _samples(track: np.ndarray) -> np.ndarray:
    """Control frames to samples, by linear interpolation."""
    steps = np.diff(track, append=track[-1])
    return (track[:, None] + steps[:, None] * (np.arange(_HOP) / _HOP)).ravel()


def _smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    """A moving average, taken twice (a triangular window); the ends are held."""
    width = max(int(seconds / _FRAME) // 2, 1)
    for _ in range(2):
        padded = np.concatenate([np.full(width, track[0]), track, np.full(width, track[-1])])
        total = np.cumsum(np.concatenate([[0.0], padded]))
        track = (total[2 * width :] - total[: -2 * width])[: len(track)] / (2 * width)
    return track


def _normal(random: np.random.RandomState, shape: int | tuple[int, ...]) -> np.ndarray:
    """Near-normal, mean 0, variance 1, within 3: the sum of three uniforms."""
    return 2 * (random.random_sample(shape) + random.random_sample(shape) + random.random_sample(shape)) - 3


def _grid(values: np.ndarray) -> np.ndarray:
    """Round to 2**-20: hides the last bits, which differ between processors."""
    return np.rint(values * 2.0**20) / 2.0**20


def _power(base: float, exponent: np.ndarray | float) -> np.ndarray:
    return _grid(np.power(base, exponent))


def _cos(angle: np.ndarray | float) -> np.ndarray:
    return _grid(np.cos(angle))
