"""Settings come from the environment, once, and are what it says or an error."""

from __future__ import annotations

import os
import re
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


ADDRESSES = ["localhost", "localhost:", ":8125", "localhost:http", "localhost:-1", "localhost:²", "localhost:٣"]
ADDRESSES += [
    "localhost:0",
    "localhost:65536",
    "localhost:99999",
    "::1:8125",
    "[]:8125",
    "a b:8125",
    "localhost:8125\n",
]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:8125", ("localhost", 8125)),
        ("[::1]:8125", ("::1", 8125)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("statsd.example:65535", ("statsd.example", 65535)),
    ],
)
def test_an_address_has_a_host_and_a_port(address, expected):
    assert Settings.from_environment({"EMOTION_STATSD": address}).statsd == expected


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(ConfigurationError, match=re.escape(f"{address!r}; expected host:port")):
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


@pytest.mark.parametrize("home", ["file:///data/emotion", "local:///data/emotion", "file://localhost/data/emotion"])
def test_the_url_of_a_folder_becomes_its_path(home):
    settings = Settings.from_environment({"EMOTION_HOME": home})
    assert settings.home == "/data/emotion"
    assert settings.inboxes == (Path("/data/emotion/inbox"),)


@pytest.mark.parametrize("variable", ["HOME", "DATASETS", "RECORDINGS", "INBOXES"])
def test_the_home_of_an_unknown_user_is_refused(variable):
    with pytest.raises(ConfigurationError, match=f"EMOTION_{variable} is '~nosuchuser/x'; ~nosuchuser is no home"):
        Settings.from_environment({f"EMOTION_{variable}": "~nosuchuser/x"})


@pytest.mark.parametrize("variable", ["HOME", "DATASETS", "RECORDINGS", "INBOXES"])
def test_a_relative_path_in_a_deleted_folder_is_refused(variable, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigurationError, match=f"EMOTION_{variable} is 'x'; the current folder was deleted"):
        Settings.from_environment({f"EMOTION_{variable}": "x"})


@pytest.mark.parametrize("home", ["file://data/emotion", "file:/data", "file:data", "local:data"])
def test_a_url_of_a_folder_that_is_not_absolute_is_refused(home):
    with pytest.raises(ConfigurationError, match="expected file:// and an absolute path"):
        Settings.from_environment({"EMOTION_HOME": home})


@pytest.mark.parametrize("home", ["s3:/bucket/x", "s3:bucket", "ftp:/host/x"])
def test_a_mistyped_url_is_no_folder(home):
    with pytest.raises(ConfigurationError, match=f"'{home}'.* expected "):
        Settings.from_environment({"EMOTION_HOME": home})


@pytest.mark.parametrize("variable", ["HOME", "RECORDINGS", "INBOXES"])
def test_a_password_in_a_url_is_never_shown(variable):
    with pytest.raises(ConfigurationError, match=f"EMOTION_{variable}") as told:
        Settings.from_environment({f"EMOTION_{variable}": "s3://me:hid/d@en@bucket/x"})
    assert not re.search("me:|hid|en@", str(told.value))


def test_folders_may_be_a_json_list():
    """For a path that has the separator in it."""
    settings = Settings.from_environment({"EMOTION_RECORDINGS": '["/data/a:b", "/data/O\'Brien"]'})
    assert settings.recordings == (Path("/data/a:b"), Path("/data/O'Brien"))


@pytest.mark.parametrize("folders", ['["/a"', "[1]", "[]", '[""]', '[["/a"]]', "[null]"])
def test_a_json_list_of_something_else_is_refused(folders):
    with pytest.raises(ConfigurationError, match="expected folders, separated by .*, or a JSON list of folders"):
        Settings.from_environment({"EMOTION_RECORDINGS": folders})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://calls/inbox/", ("s3://calls/inbox",)),
        ("/a:s3://calls:s3://b-1/x:/c", (Path("/a"), "s3://calls", "s3://b-1/x", Path("/c"))),
        ("s3://calls/{date:%Y/%m/%d}/in:/a", ("s3://calls/{date:%Y/%m/%d}/in", Path("/a"))),
        ('["s3://calls/in:box", "/a:b"]', ("s3://calls/in:box", Path("/a:b"))),
    ],
)
def test_folders_may_lie_in_buckets(text, expected):
    assert Settings.from_environment({"EMOTION_INBOXES": text}).inboxes == expected


@pytest.mark.parametrize("url", ["gs://calls/inbox", "s3://", "s3://calls/../x", "s3://calls//x", "s3://a@b/x"])
def test_what_is_no_folder_of_a_bucket_is_refused(url):
    with pytest.raises(ConfigurationError, match="EMOTION_INBOXES is .*expected such as s3://bucket/folder"):
        Settings.from_environment({"EMOTION_INBOXES": f"/a:{url}"})


@pytest.mark.parametrize("form", ["{date:%Q{}", "{date:}/..", "{date:%Y//%m}", "{date:..}"])
def test_what_is_no_form_of_a_date_is_refused(form):
    with pytest.raises(ConfigurationError, match="expected such as"):
        Settings.from_environment({"EMOTION_INBOXES": f"s3://calls/{form}/in"})
