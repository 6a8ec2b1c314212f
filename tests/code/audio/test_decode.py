"""Decoding: the same audio gives the same samples from any container; a recording that cannot be used is refused."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import soundfile

from emotion.audio import decode
from emotion.errors import AudioError


def tone(*, seconds: float = 1.0, rate: int = 16_000, hertz: float = 220.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encode(samples: np.ndarray, rate: int = 16_000, **how) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **({"format": "WAV", "subtype": "PCM_16"} | how))
    return buffer.getvalue()


def test_same_audio_in_other_containers_has_the_same_hash(tmp_path):
    samples = (tone(seconds=1.5, rate=44_100) * 32_767).astype(np.int16)
    loaded = []
    for ending in ("wav", "flac", "aiff"):
        path = tmp_path / f"tone.{ending}"
        soundfile.write(path, samples, 44_100, subtype="PCM_16")
        loaded += [decode.load(path), decode.load(io.BytesIO(path.read_bytes()))]
    assert len({clip.samples_sha256 for clip in loaded}) == 1
    clip = loaded[0]
    assert (clip.original_rate, clip.channels, clip.sample_rate, clip.duration) == (44_100, 1, 16_000, 1.5)
    assert clip.samples.dtype == np.float32 and clip.samples.shape == (24_000,)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_resampling_keeps_the_tone(rate):
    clip = decode.load(io.BytesIO(encode(tone(rate=rate, seconds=5), rate)))
    expected = tone(seconds=5)
    assert len(clip.samples) == len(expected)
    np.testing.assert_allclose(clip.samples[1000:-1000], expected[1000:-1000], atol=2e-3)


@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_are_averaged(channels):
    mono = tone()
    clip = decode.load(io.BytesIO(encode(np.outer(mono, np.arange(1, channels + 1)) / 16, subtype="FLOAT")))
    assert clip.channels == channels
    np.testing.assert_allclose(clip.samples, mono * (channels + 1) / 32, atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_any_sample_format_is_decoded(subtype):
    clip = decode.load(io.BytesIO(encode(tone(), subtype=subtype)))
    np.testing.assert_allclose(clip.samples, tone(), atol=0.02)


def broken() -> dict[str, tuple[str, bytes]]:
    good = encode(tone())
    with_nan = tone()
    with_nan[5_000] = np.nan
    riff = bytearray(good)
    riff[40:44] = (10**9).to_bytes(4, "little")
    return {
        "no bytes": ("empty", b""),
        "no samples": ("empty", encode(tone()[:0])),
        "text": ("not_audio", b"path,emotion\n" * 100),
        "a picture": ("not_audio", b"\x89PNG\r\n\x1a\n" + bytes(500)),
        "nine channels": ("not_audio", encode(np.tile(tone()[:, None], 9))),
        "a rate of 100 Hz": ("not_audio", encode(tone(), 100)),
        "half a WAV": ("truncated", good[: len(good) // 2]),
        "a WAV short of one sample": ("truncated", good[:-2]),
        "a WAV's header alone": ("truncated", good[:30]),
        "a WAV that promises a gigabyte": ("truncated", bytes(riff)),
        "half an RF64": ("truncated", encode(tone(), format="RF64")[:9_000]),
        "half a big-endian WAV": ("truncated", encode(tone(), endian="BIG")[:9_000]),
        "half an AIFF": ("truncated", encode(tone(), format="AIFF")[:9_000]),
        "half a FLAC": ("truncated", encode(tone(), format="FLAC")[:2_000]),
        "zeros": ("silent", encode(np.zeros(16_000))),
        "a constant": ("silent", encode(np.full(16_000, 0.5))),
        "a constant to be resampled": ("silent", encode(np.full(48_000, 0.5), rate=48_000)),
        "NaN": ("not_finite", encode(with_nan, subtype="FLOAT")),
        "0.1 s": ("too_short", encode(tone(seconds=0.1))),
        "3 s": ("too_long", encode(tone(seconds=3))),
    }


@pytest.mark.parametrize("case", broken())
def test_a_recording_that_cannot_be_used_is_refused_with_its_reason(case, tmp_path):
    reason, data = broken()[case]
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    for file in (path, io.BytesIO(data)):
        with pytest.raises(AudioError) as caught:
            decode.load(file, max_seconds=2)
        assert caught.value.reason == reason
        assert "<" not in str(caught.value), "the message holds the address of an object"
    again = pickle.loads(pickle.dumps(caught.value))  # it crosses processes
    assert (again.reason, str(again)) == (reason, str(caught.value))


def test_too_long_is_refused_from_the_header():
    class CountingFile(io.BytesIO):
        bytes_read = 0

        def read(self, size=-1):
            data = super().read(size)
            self.bytes_read += len(data)
            return data

        def readinto(self, target):
            count = super().readinto(target)
            self.bytes_read += count
            return count

    file = CountingFile(encode(np.zeros(16_000 * 60)))
    with pytest.raises(AudioError, match="at most 30 s"):
        decode.load(file, max_seconds=30)
    assert file.bytes_read < 100_000


def test_a_stream_without_length_is_read_to_its_end():
    data = bytearray(encode(tone()))
    data[4:8] = data[40:44] = b"\xff" * 4
    assert decode.load(io.BytesIO(data)).duration == 1.0


def test_a_missing_file_is_an_error():
    with pytest.raises(FileNotFoundError):
        decode.load("nowhere/clip.wav")


@pytest.mark.ravdess
def test_real_recordings_of_the_same_samples_have_one_hash(ravdess):
    stereo = decode.load(ravdess / "Actor_01" / "03-01-02-01-01-02-01.wav")
    assert stereo.channels == 2 and stereo.original_rate == 48_000
    pair = [decode.load(ravdess / "Actor_07" / f"03-01-03-01-02-{n}-07.wav") for n in ("01", "02")]
    assert pair[0].samples_sha256 == pair[1].samples_sha256
