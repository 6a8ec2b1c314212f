"""Settings come from the environment, once, and are what it says or an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from emotion.errors import ConfigurationError
from emotion.settings import INCLUDE, PROJECT, Settings


def test_defaults_lie_in_the_project():
    settings = Settings.from_environment({})
    home = PROJECT / "emotion-home"
    assert settings == Settings(
        home=str(home),
        catalogue=INCLUDE / "datasets.yaml",
        zenodo_url="https://zenodo.org",
        recordings=(home / "recordings",),
        inboxes=(home / "inbox",),
        statsd=None,
    )
    assert settings.catalogue.is_file()
    with pytest.raises(ValidationError, match="frozen"):
        settings.home = "elsewhere"


def test_an_empty_variable_counts_as_not_set():
    names = ("HOME", "DATASETS", "ZENODO_URL", "RECORDINGS", "INBOXES", "STATSD")
    empty = {f"EMOTION_{name}": "" for name in names}
    assert Settings.from_environment(empty) == Settings.from_environment({})


def test_the_environment_decides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment(
        {
            "EMOTION_HOME": "artifacts",
            "EMOTION_DATASETS": "~/sets.yaml",
            "EMOTION_ZENODO_URL": "http://127.0.0.1:8000/",
            "EMOTION_RECORDINGS": os.pathsep.join(["/a", "", "b"]),
            "EMOTION_STATSD": "graphite:8125",
        }
    )
    assert settings.home == str(tmp_path / "artifacts")
    assert settings.catalogue == Path.home() / "sets.yaml"
    assert settings.zenodo_url == "http://127.0.0.1:8000"
    assert settings.recordings == (Path("/a"), tmp_path / "b")
    assert settings.inboxes == (tmp_path / "artifacts" / "inbox",)
    assert settings.statsd == ("graphite", 8125)


def test_an_object_store_is_taken_as_it_is():
    settings = Settings.from_environment({"EMOTION_HOME": "s3://bucket/prefix"})
    assert settings.home == "s3://bucket/prefix"
    assert settings.inboxes == (PROJECT / "emotion-home" / "inbox",)


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":8125", "localhost:http", "localhost:-1"])
def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(ConfigurationError, match=f"'{address}'; expected host:port"):
        Settings.from_environment({"EMOTION_STATSD": address})


def test_folders_that_are_only_separators_are_refused():
    with pytest.raises(ConfigurationError, match=f"EMOTION_INBOXES is '{os.pathsep}'; expected folders, separated by"):
        Settings.from_environment({"EMOTION_INBOXES": os.pathsep})


def test_no_other_source_than_the_given_mapping_is_read(monkeypatch):
    monkeypatch.setenv("EMOTION_HOME", "/somewhere/else")
    assert Settings.from_environment({}).home == str(PROJECT / "emotion-home")


def test_the_process_environment_is_read_now_not_at_import(monkeypatch, tmp_path):
    monkeypatch.setenv("EMOTION_HOME", str(tmp_path))
    assert Settings.from_environment().home == str(tmp_path)
