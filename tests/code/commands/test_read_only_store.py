"""A store on a file system that is mounted read-only: commands that read answer, the others say why in one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emotion.datasets import synthesis
from small_models import trained_store  # noqa: F401

MOUNT = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'


def can_mount() -> bool:
    """Whether this process may mount in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_mount(), reason="a mount of its own needs unshare and root")


@pytest.fixture(scope="module")
def home(trained_store, tmp_path_factory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("read-only") / "home"
    shutil.copytree(trained_store.root, folder)
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    name = synthesis.names(speakers=1)[0]
    (folder / "one.wav").write_bytes(synthesis.wav_bytes(synthesis.synthesize_clip(name)))
    return folder


def emotion(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = ["unshare", "-m", "sh", "-c", MOUNT, "sh", str(home), sys.executable, "-m", "emotion", *arguments]
    environment = os.environ | {"EMOTION_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_what_only_reads_answers(home, recordings):
    assert "first" in emotion(home, "models").stdout
    answer = emotion(home, "predict", str(recordings / "one.wav"))
    assert answer.returncode == 0 and "one.wav" in answer.stdout, answer.stderr


@pytest.mark.parametrize(
    "command",
    [["score"], ["promote", "second", "--reason", "x"], ["rollback", "--reason", "x"]],
    ids=" ".join,
)
def test_what_writes_says_why_in_one_sentence(home, recordings, command):
    result = emotion(home, *command, *([str(recordings)] if command == ["score"] else []))
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "Read-only file system" in last and str(home) in last
    assert "Traceback" not in result.stderr
