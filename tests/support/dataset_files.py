"""Files of datasets, for tests: where recordings lie, catalogues, and what is in a store."""

from __future__ import annotations

from pathlib import Path

import yaml

from emotion.datasets.importing import audio_folder
from emotion.settings import Settings
from emotion.store import Store

SPEECH, BOTH, OWN = "ravdess-speech", "ravdess-speech-song", "labelled-folder"


def recordings(settings: Settings) -> Path:
    """The folder that recordings may come from."""
    return settings.recordings[0]


def with_catalogue(settings: Settings, document: dict) -> Settings:
    """The settings with another catalogue, which is written beside the recordings."""
    file = recordings(settings).parent / "catalogue.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return settings.model_copy(update={"catalogue": file})


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder; returns the folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def own_folder(settings: Settings, files: dict[str, bytes | str], name: str = "mine") -> Path:
    """A folder of recordings of one's own, below the recordings."""
    encoded = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    folder = recordings(settings) / name
    folder.mkdir(exist_ok=True)
    return write(folder, encoded)


def stored_paths(store: Store, name: str) -> list[str]:
    """The paths of a dataset's clips in the store."""
    folder = audio_folder(name)
    return [key.removeprefix(f"{folder}/") for key in store.list(folder)]
