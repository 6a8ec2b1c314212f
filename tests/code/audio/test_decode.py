"""Decoding: the same audio gives the same samples from any container; a recording that cannot be used is refused."""

from __future__ import annotations

import errno
import io
import pickle
import shutil
import subprocess
import warnings

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


UNKNOWN = b"\xff" * 4


def w64_of_short_chunks() -> bytes:
    return encode(tone(), format="W64")[:40] + (b"junk" + bytes(12) + b"\x01" + bytes(7)) * 2_000


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
        "half an RF64 without a word on its length": ("not_audio", b"RF64" + UNKNOWN + b"WAVEds64\x1c" + bytes(7)),
        "a WAV's header and zeros": ("truncated", good[:36] + bytes(10_000)),
        "a WAV of nothing but empty chunks": ("not_audio", good[:36] + b"note\0\0\0\0" * 2_000),
        "a W64 whose chunks are shorter than their headers": ("not_audio", w64_of_short_chunks()),
        "a MIDI sample dump": ("not_audio", encode(tone(), format="SDS")),
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


TRUNCATABLE = {
    "WAV": {},
    "RF64": {},
    "W64": {},
    "AIFF": {},
    "AU": {},
    "AU, little-endian": {"format": "AU", "endian": "LITTLE"},
    "CAF": {},
    "NIST": {},
    "SVX": {},
    "VOC": {},
    "VOC, 8 bits": {"format": "VOC", "subtype": "PCM_U8"},
    "AVR": {},
    "AVR, 8 bits": {"format": "AVR", "subtype": "PCM_S8"},
    "MPC2K": {},
    "MAT4": {},
    "MAT4, big-endian": {"format": "MAT4", "endian": "BIG", "subtype": "FLOAT"},
    "Ogg Vorbis": {"format": "OGG", "subtype": "VORBIS"},
    "Ogg Opus": {"format": "OGG", "subtype": "OPUS"},
    "FLAC": {},
    "MP3": {"subtype": "MPEG_LAYER_III"},
}


@pytest.mark.parametrize("kind", TRUNCATABLE)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_part_of_a_file_is_truncated_and_the_whole_file_is_not(kind, share):
    noise = np.random.default_rng(0).normal(0, 0.1, 64_000)
    data = encode(noise, **({"format": kind} | TRUNCATABLE[kind]))
    assert decode.load(io.BytesIO(data)).duration == pytest.approx(4, abs=0.1)
    with pytest.raises(AudioError) as caught:
        decode.load(io.BytesIO(data[: int(len(data) * share)]))
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("kind", ["VOC", "AVR", "MPC2K", "MAT4"])
def test_a_part_of_a_stereo_file_is_truncated(kind):
    data = encode(np.random.default_rng(0).normal(0, 0.1, (32_000, 2)), format=kind)
    assert decode.load(io.BytesIO(data)).duration == pytest.approx(2, abs=0.1)
    with pytest.raises(AudioError, match="its header promises"):
        decode.load(io.BytesIO(data[:-100]))


FFMPEG = {
    "CAF": ["-f", "caf"],
    "W64": ["-f", "w64"],
    "RF64": ["-f", "wav", "-rf64", "always"],
    "WAV": ["-f", "wav"],
    "AIFF": ["-f", "aiff"],
    "AU": ["-f", "au"],
}


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no FFmpeg here")
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", FFMPEG)
def test_what_ffmpeg_wrote_to_a_pipe_is_decoded(tmp_path, kind, channels):
    """It cannot go back to write the length."""
    (tmp_path / "tone.wav").write_bytes(encode(np.stack([tone()] * channels, axis=1)))
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "tone.wav", *FFMPEG[kind], "-"]
    data = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
    expected = decode.load(tmp_path / "tone.wav")
    assert decode.load(io.BytesIO(data)).samples_sha256 == expected.samples_sha256


def test_an_ogg_without_the_mark_of_its_end_is_whole():
    """Recorders on telephones write such files."""
    data = bytearray(encode(tone(), format="OGG", subtype="VORBIS"))
    last = data.rindex(b"OggS")
    assert data[last + 5] & 4
    data[last + 5] &= ~4
    data[last + 22 : last + 26] = ogg_checksum(data[last:]).to_bytes(4, "little")
    assert decode.load(io.BytesIO(data)).duration == pytest.approx(1, abs=0.05)


def ogg_checksum(page: bytearray) -> int:
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x104C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


@pytest.mark.parametrize(
    "how, place, length",
    [
        ({}, 40, b"\xff\xff\xff\xff"),  # FFmpeg to a pipe
        ({}, 40, b"\x00\xf0\xff\x7f"),  # SoX and eSpeak NG to a pipe
        ({"format": "AU"}, 8, b"\xff\xff\xff\xff"),
        ({"format": "AIFF"}, 42, b"\x7f\x00\x00\x08"),
    ],
)
def test_a_recording_whose_writer_did_not_know_its_length_is_whole(how, place, length):
    data = bytearray(encode(tone(), **how))
    data[place : place + 4] = length
    assert decode.load(io.BytesIO(data)).duration == 1.0


def test_a_flac_that_does_not_state_its_length_is_decoded():
    data = bytearray(encode(tone(), format="FLAC"))
    data[21] &= 0xF0  # the number of samples: 36 bits from here
    data[22:26] = bytes(4)
    assert decode.load(io.BytesIO(data)).duration == 1.0


def mp3_without_length(**how) -> bytes:
    data = encode(
        np.concatenate([tone(seconds=3), np.random.default_rng(0).normal(0, 0.2, 48_000)]), format="MP3", **how
    )
    head = data[:4]
    start = data.index(head[:2], data.index(b"Xing" if b"Xing" in data[:200] else b"Info"))
    return data[start:]


def test_an_mp3_gives_the_same_samples_by_its_path_and_as_an_open_file(tmp_path):
    soundfile.write(tmp_path / "tone.mp3", tone(), 16_000)
    data = (tmp_path / "tone.mp3").read_bytes()
    assert data[:2] == b"\xff\xf3", "no ID3 tag"
    expected = soundfile.read(tmp_path / "tone.mp3", dtype="float32")[0]
    for file in (tmp_path / "tone.mp3", io.BytesIO(data)):
        np.testing.assert_allclose(decode.load(file).samples, expected, atol=1e-6)


def test_an_mp3_of_constant_bit_rate_that_does_not_state_its_length_is_decoded():
    data = mp3_without_length(subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.5)
    assert decode.load(io.BytesIO(data)).duration == pytest.approx(6, abs=0.2)


def test_an_mp3_of_which_only_the_beginning_can_be_decoded_is_refused():
    data = mp3_without_length(subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.5)
    data = data[: len(data) // 3] * 2 + data  # the loud part last
    with pytest.raises(AudioError, match="does not state its length"):
        decode.load(io.BytesIO(data))


class CountingFile(io.BytesIO):
    bytes_read = calls = 0

    def read(self, size=-1):
        data = super().read(size)
        self.bytes_read += len(data)
        self.calls += 1
        return data


def test_too_long_is_refused_from_the_header():
    file = CountingFile(encode(np.zeros(16_000 * 60)))
    with pytest.raises(AudioError, match="at most 30 s"):
        decode.load(file, max_seconds=30)
    assert 0 < file.bytes_read < 100_000


def test_zeros_after_a_header_are_not_walked_through():
    for kind in ("WAV", "AIFF", "W64", "CAF"):
        file = CountingFile(encode(tone(), format=kind)[:36] + bytes(20 << 20))
        with pytest.raises(AudioError):
            decode.load(file)
        assert 0 < file.calls < 3_000 and file.bytes_read < 100_000


def test_an_error_of_the_disk_is_not_a_fault_of_the_recording():
    class BadDisk(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 8_000:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output error"):
        decode.load(BadDisk(encode(tone(seconds=10))))


def test_extreme_samples_are_refused_without_a_warning():
    samples = np.full((16_000, 2), [3e38, 3e38], dtype=np.float32)
    samples[::2] = np.inf, -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AudioError) as caught:
            decode.load(io.BytesIO(encode(samples, subtype="FLOAT")))
    assert caught.value.reason == "not_finite"


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


def test_a_header_that_breaks_off_is_named_in_words():
    with pytest.raises(AudioError, match="can read: its header breaks off$"):
        decode.load(io.BytesIO(b"RF64" + UNKNOWN + b"WAVEds64\x1c" + bytes(7)))
