"""Damaged headers of every format that libsndfile reads: each file ends as samples or as an AudioError.

The files are decoded in a process of their own, as a fault in libsndfile would end it. By hand, with more of them:
``python tests/code/audio/test_fuzz.py SEED COUNT`` in an empty folder.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from emotion.audio import decode
from emotion.errors import AudioError

COUNT, SEED = 3_000, 20_261
LAST = "last-file.bin"
"""The file that is being decoded: what is left of a process that crashed."""
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFF0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Numbers at which programs fail."""


class CountingFile(io.BytesIO):
    """Counts the work of the decoder."""

    calls = bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.calls += 1
        self.bytes_read += len(data)
        return data


def whole_files() -> dict[str, bytes]:
    """A small file of each format and sample format that libsndfile writes."""
    seconds = np.arange(5_000) / 16_000
    samples = (0.3 * np.sin(2 * np.pi * 220 * seconds) * (1 + 0.3 * np.sin(30 * seconds))).astype(np.float32)
    files = {}
    for kind in soundfile.available_formats():
        if kind == "SD2":  # writes a second file; read, it is one of the headers that are made up below
            continue
        for subtype in soundfile.available_subtypes(kind):
            for channels in (1, 2):
                buffer = io.BytesIO()
                block = np.tile(samples[:, None], channels)
                try:
                    soundfile.write(buffer, block, 16_000, format=kind, subtype=subtype)
                except soundfile.LibsndfileError:  # not every format takes two channels
                    continue
                files[f"{kind} {subtype} {channels}"] = buffer.getvalue()
    return files


def damaged(random: Random, files: list[bytes]) -> bytes:
    """A file with one to eight changes, most of them in its header; or a made-up one."""
    data = bytearray(random.choice(files))
    if random.random() < 0.03:
        return bytes(data[: random.randrange(40)]) + random.randbytes(random.randrange(300))
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        place = random.randrange(min(len(data), random.choice((16, 64, 256, len(data)))))
        change = random.randrange(8)
        if change == 0:
            data[place] ^= 1 << random.randrange(8)
        elif change == 1:
            width = random.choice((2, 4, 8))
            number = (random.choice(EDGES) + random.choice((0, 0, 1, -1))) % (1 << 8 * width)
            data[place : place + width] = number.to_bytes(width, random.choice(("little", "big")))
        elif change == 2:
            del data[max(1, random.randrange(len(data))) :]
        elif change == 3:
            del data[place + 1 : place + random.randrange(2, 64)]
        elif change == 4:
            data[place:place] = random.randbytes(random.randrange(1, 64))
        elif change == 5:
            other = random.choice(files)
            data[place:] = other[random.randrange(len(other)) :]
        elif change == 6:
            data[place : place + random.randrange(1, 200)] = bytes(random.randrange(1, 200))
        else:
            end = random.randrange(1, 64)
            data[:end] = random.choice(files)[:end]
    return bytes(data)


def outcome(data: bytes) -> str:
    """``samples`` or the reason of an AudioError; anything else is raised."""
    file = CountingFile(data)
    try:
        samples = decode.load(file, max_seconds=60).samples
        assert samples.dtype == np.float32 and np.isfinite(samples).all()
        reason = "samples"
    except AudioError as error:
        reason = error.reason
    assert file.calls < 5_000 + 2 * len(data), f"{file.calls} calls for {len(data)} bytes"
    assert file.bytes_read < 1_000_000 + 20 * len(data), f"{file.bytes_read} bytes read of {len(data)}"
    return reason


def decode_damaged_files(seed: int, count: int) -> None:
    """Print the numbers of outcomes and the memory that decoding took, in MB, as JSON."""
    warnings.simplefilter("error")
    files = list(whole_files().values())
    for data in files:
        outcome(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    random = Random(seed)
    for _ in range(count):
        data = damaged(random, files)
        Path(LAST).write_bytes(data)
        outcomes[outcome(data)] += 1
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"outcomes": outcomes, "megabytes": megabytes}))


def test_every_damaged_file_is_decoded_or_refused(tmp_path):
    command = [sys.executable, __file__, str(SEED), str(COUNT)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert process.returncode == 0, f"{tmp_path / LAST}: {process.stderr[-2000:]}"
    assert "Traceback" not in process.stderr and "cffi" not in process.stderr
    assert len(process.stderr) < 200_000, "libmpg123 writes a few lines for a damaged MP3"
    result = json.loads(process.stdout)  # and nothing else was printed
    assert sum(result["outcomes"].values()) == COUNT
    assert result["outcomes"].keys() >= {"samples", "truncated", "not_audio", "too_short", "not_finite", "empty"}
    assert result["megabytes"] < 100


if __name__ == "__main__":
    decode_damaged_files(int(sys.argv[1]), int(sys.argv[2]))
