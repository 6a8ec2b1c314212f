"""A clip for the page *Emotion review*: bytes that a browser can play, parts of them, and the picture of the clip."""

from __future__ import annotations

import base64
import io
import re
from typing import Any, BinaryIO

import numpy as np
import soundfile

from emotion.audio.containers import is_mpeg_frame
from emotion.audio.decode import CONTENT_ERRORS, SAMPLE_RATE, load, open_recording, pick_channel

COLUMNS = 480
"""Most columns of a picture: one per pixel of a narrow window, or per two pixels of a wide one."""
BANDS = 72
"""Rows of the spectrogram, equally spaced on the mel scale."""
WINDOW = 640
"""Samples of a column's Hann window: 40 ms."""
N_FFT = 1024
DYNAMIC_RANGE = 65.0
"""dB from the brightest point of a spectrogram to what is drawn as nothing."""
PLAYABLE = {
    (container, subtype)
    for container in ("WAV", "WAVEX")
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT")
}
"""What every browser plays and seeks in as it is, by libsndfile's names; MP3, told by its first bytes, is another."""
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


def playable(file: BinaryIO) -> tuple[BinaryIO, str]:
    """A file that browsers play and seek in, and its content type.

    WAV and MP3 stay as they are. Another file (AIFF, Ogg, which older phones do not play, a telephone codec in WAV)
    becomes a 16-bit mono WAV. So does FLAC: Chromium stops with an error where it seeks in one without a seek table.

    Raises
    ------
    AudioError
        If the file cannot be decoded.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.zeros(800), 8_000, format="FLAC", subtype="PCM_24")
    >>> wav, content_type = playable(file)
    >>> content_type, soundfile.info(wav).frames
    ('audio/wav', 800)
    >>> same, _ = playable(wav)
    >>> same is wav
    True
    """
    content_type = _content_type(file)
    file.seek(0)
    if content_type:
        return file, content_type
    wav = io.BytesIO()
    with open_recording(file) as recording:
        rate = recording.sample_rate
        with soundfile.SoundFile(wav, "w", rate, channels=1, format="WAV", subtype="PCM_16") as sound:
            for block in recording.blocks:
                sound.write(np.clip(pick_channel(block, None), -1, 1))
    wav.seek(0)
    return wav, "audio/wav"


def _content_type(file: BinaryIO) -> str | None:
    """The content type of a file that a browser plays as it is; the name of the file is not looked at."""
    file.seek(0)
    start = file.read(3)
    if start == b"ID3" or is_mpeg_frame(start[:2]):
        return "audio/mpeg"
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            return "audio/wav" if (sound.format, sound.subtype) in PLAYABLE else None
    except CONTENT_ERRORS:
        return None


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte that a ``Range`` header asks for; None if it asks for all.

    A header that is no single range of bytes is ignored, as HTTP allows: the whole is sent.

    Raises
    ------
    ValueError
        If the range has no byte of the file.

    Examples
    --------
    >>> byte_range("bytes=0-", 100), byte_range("bytes=10-19", 100), byte_range("bytes=-5", 100)
    ((0, 99), (10, 19), (95, 99))
    >>> byte_range(None, 100), byte_range("bytes=0-1,5-6", 100)
    (None, None)
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    if start > end:
        raise ValueError(f"{header} is not within {size} bytes")
    return start, end


def picture(file: BinaryIO) -> dict[str, Any]:
    """Waveform and spectrogram of a clip, up to 8 kHz, for a canvas.

    Returns
    -------
    dict
        ``columns`` and ``bands`` (how many), ``seconds``, ``peaks`` (one byte a column, 255: the highest peak of the
        clip) and ``levels`` (one byte per column and band, column by column, low bands first), both in base64.

    Raises
    ------
    AudioError
        If the file cannot be decoded, or is silent.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.sin(np.arange(16_000) / 5), 16_000, format="FLAC")
    >>> drawn = picture(file)
    >>> drawn["columns"], drawn["bands"], drawn["seconds"], len(base64.b64decode(drawn["levels"])) == 480 * 72
    (480, 72, 1.0, True)
    """
    file.seek(0)
    clip = load(file, min_seconds=0.0)
    samples = clip.samples
    columns = min(COLUMNS, len(samples))
    edges = np.linspace(0, len(samples), columns + 1).astype(int)
    peaks = np.maximum.reduceat(np.abs(samples), edges[:-1])
    starts = ((edges[:-1] + edges[1:]) // 2)[:, None] + np.arange(WINDOW)
    frames = np.pad(samples, WINDOW // 2)[np.minimum(starts, len(samples) + WINDOW - 1)]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), N_FFT)) ** 2
    decibels = 10 * np.log10(_bands(power) + 1e-12)
    levels = np.clip((decibels - decibels.max()) / DYNAMIC_RANGE + 1, 0, 1)
    return {
        "columns": columns,
        "bands": BANDS,
        "seconds": round(clip.duration, 3),
        "peaks": _bytes(peaks / peaks.max()),
        "levels": _bytes(levels),
    }


def _bands(power: np.ndarray) -> np.ndarray:
    """Mean power in bands of equal width on the mel scale, shape (columns, bands); each band has at least one bin."""
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), BANDS + 1)
    bins = (700 * (10 ** (mel / 2595) - 1) * N_FFT / SAMPLE_RATE).astype(int)
    return np.stack(
        [power[:, low : max(low + 1, high)].mean(axis=1) for low, high in zip(bins[:-1], bins[1:], strict=True)], axis=1
    )


def _bytes(values: np.ndarray) -> str:
    return base64.b64encode(np.round(values * 255).astype(np.uint8).tobytes()).decode()
