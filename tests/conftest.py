"""What the tests share: an artifact store, settings, the real recordings, and an Airflow home."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

PROJECT = Path(__file__).resolve().parents[1]
AIRFLOW_HOME = tempfile.TemporaryDirectory(prefix="emotion-airflow-")
# Read when Airflow, or a library with threads of its own, is first imported: before any fixture runs.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "AIRFLOW_HOME": AIRFLOW_HOME.name,
    "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}

from emotion.settings import Settings  # noqa: E402
from emotion.store import Store  # noqa: E402
from object_store import new_bucket, s3_server  # noqa: E402
from small_data import make_settings  # noqa: E402


class FileScheduling(LoadFileScheduling):
    """What one worker runs, where there are several: the tests of a file, and all files that start an Airflow.

    Two Airflows at once would only wait for each other. (The group of ``--dist loadgroup`` is lost between pytest
    9.2 and pytest-xdist 3.8.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "airflow" if starts_airflow(PROJECT / file) else file


@cache
def starts_airflow(file: Path) -> bool:
    """Whether tests of this file are marked so."""
    return "pytest.mark.airflow" in file.read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling | None:
    return FileScheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what starts an Airflow first: it takes longest."""
    items.sort(key=lambda item: not starts_airflow(item.path))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose artifacts and recordings lie in the test's own folder."""
    return make_settings(tmp_path)


@pytest.fixture
def store(settings: Settings) -> Store:
    """The artifact store of ``settings``, empty."""
    return Store(settings.home)


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """The environment of clients of an S3 server of the tests; it is set for this process too."""
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        yield environment


@pytest.fixture
def bucket(s3_environment: dict[str, str]) -> str:
    """The URL of an empty bucket on the S3 server of the tests."""
    return new_bucket()


@pytest.fixture(scope="session")
def nemo() -> Path:
    """A folder with recordings of nEMO as ``flac/<speaker>/<speaker>_<emotion>_<sentence>.flac``, and ``manifest.csv``.

    ``EMOTION_TEST_NEMO`` names it.
    """
    folder = Path(os.environ.get("EMOTION_TEST_NEMO") or PROJECT.parent / "shared" / "nemo").absolute()
    if not ((folder / "flac").is_dir() and (folder / "manifest.csv").is_file()):
        pytest.skip(
            f"no recordings of nEMO in {folder}; EMOTION_TEST_NEMO may name a folder with flac/ and manifest.csv"
        )
    return folder


@pytest.fixture(scope="session")
def ravdess() -> Path:
    """A folder with the RAVDESS speech recordings of actors 1 to 18, as ``Actor_NN/*.wav``.

    ``EMOTION_TEST_RAVDESS`` names a folder that holds them so, or else ``build_zip.py``, which makes them
    from FLACs and a manifest; they are made once and kept in the machine's temporary folder.
    """
    folder = Path(os.environ.get("EMOTION_TEST_RAVDESS") or PROJECT.parent / "shared" / "ravdess").absolute()
    if all((folder / f"Actor_{actor:02d}").is_dir() for actor in range(1, 19)):
        return folder
    builder, manifest = folder / "build_zip.py", folder / "manifest.csv"
    if not (builder.is_file() and manifest.is_file()):
        pytest.skip(f"no RAVDESS recordings in {folder}; EMOTION_TEST_RAVDESS may name the folder of Actor_01 …")
    content = hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    made = Path(tempfile.gettempdir()) / f"emotion-ravdess-{content}"
    if not made.is_dir():
        aside = Path(tempfile.mkdtemp(prefix=made.name, dir=made.parent))
        try:
            subprocess.run([sys.executable, builder, f"{aside}/"], check=True, stdout=subprocess.DEVNULL)
            aside.rename(made)
        except OSError:  # another session was faster
            if not made.is_dir():
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return made
