"""Settings and stores for the tests of datasets."""

import os
import tempfile

import pytest

from dataset_files import with_catalogue
from emotion.store import Store
from small_data import make_settings, ravdess_zip
from zenodo_server import ZenodoServer, catalogue


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path, monkeypatch):
    """Settings and a store, once in a folder and once in an object store."""
    settings = make_settings(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "memory":
        settings = settings.model_copy(update={"home": f"memory://{tmp_path.name}-{os.getpid()}"})
    return settings, Store(settings.home)


@pytest.fixture
def local(tmp_path):
    """Settings and a store in a folder."""
    settings = make_settings(tmp_path)
    return settings, Store(settings.home)


@pytest.fixture
def zenodo(place, tmp_path):
    """A host with the speech and the song of two actors, and a catalogue that says so."""
    settings, store = place
    zips = [
        ravdess_zip(tmp_path / "Speech.zip"),
        ravdess_zip(tmp_path / "Song.zip", channel="02", emotions=range(1, 7)),
    ]
    with ZenodoServer(zips) as server:
        yield with_catalogue(settings, catalogue(zips)).model_copy(update={"zenodo_url": server.url}), store, server
