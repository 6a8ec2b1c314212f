"""Small recordings and archives for tests: noise, named as RAVDESS names its clips."""

from __future__ import annotations

import io
import struct
import wave
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from emotion import features
from emotion.features import feature_table
from emotion.settings import Settings
from emotion.store import Store


def wav(seed: int, *, seconds: float = 0.25, rate: int = 16_000, channels: int = 1, extra: bytes = b"") -> bytes:
    """A 16-bit WAV of noise; ``extra`` is put between its format and its data as a chunk named FLLR."""
    samples = np.random.default_rng(seed).integers(-9000, 9000, int(seconds * rate) * channels, dtype="<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    data = buffer.getvalue()
    if extra:
        data = data[:36] + b"FLLR" + struct.pack("<I", len(extra)) + extra + data[36:]
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    return data


def ravdess_names(actors: range, *, channel: str = "01", emotions: range = range(1, 9)) -> list[str]:
    """Two clips per emotion and actor, as paths in Zenodo's archive."""
    return [
        f"Actor_{actor:02d}/03-{channel}-{emotion:02d}-01-01-{repetition:02d}-{actor:02d}.wav"
        for actor in actors
        for emotion in emotions
        for repetition in (1, 2)
    ]


def ravdess_clips(actors: range, **names) -> dict[str, bytes]:
    """Those clips, every one different."""
    return {name: wav(zlib.crc32(name.encode())) for name in ravdess_names(actors, **names)}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    """A zip of these files, stored as they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def ravdess_zip(path: Path, actors: range = range(1, 3), **names) -> Path:
    """A zip laid out as Zenodo's."""
    return write_zip(path, ravdess_clips(actors, **names))


def make_settings(home: Path, *, catalogue: dict | None = None, zenodo_url: str = "http://127.0.0.1:1") -> Settings:
    """Settings whose artifacts, recordings and, if given, catalogue lie in a folder."""
    environ = {
        "EMOTION_HOME": str(home / "home"),
        "EMOTION_RECORDINGS": str(home / "recordings"),
        "EMOTION_ZENODO_URL": zenodo_url,
    }
    (home / "recordings").mkdir(exist_ok=True, parents=True)
    if catalogue is not None:
        (home / "catalogue.yaml").write_text(yaml.safe_dump(catalogue, sort_keys=False), encoding="utf-8")
        environ["EMOTION_DATASETS"] = str(home / "catalogue.yaml")
    return Settings.from_environment(environ)


def features_of(store: Store, table: pd.DataFrame, variant: str = feature_table.ORIGINAL) -> np.ndarray:
    """The stored features of a table's clips, or of copies of them, float32 (n_clips, n_features)."""
    values = np.empty((1, len(table), len(features.feature_names())), dtype=np.float32)
    feature_table.read_features(store, table["sha256"].tolist(), [variant], values)
    return values[0]
