"""``emotion doctor``: checks the installation and says how to mend what is broken."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from emotion.commands.console import ConsoleProgress
from emotion.errors import ConfigurationError, EmotionError
from emotion.settings import PROJECT, Settings

OK, NOTE, BROKEN = "ok", "note", "broken"
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
FORMATS = ("WAV", "FLAC", "OGG", "MP3")
FREE_BYTES = 2 * 10**9
"""RAVDESS, unpacked and as its archive, takes 0.8 GB; a run and its models a few hundred MB."""
ARRIVAL_SECONDS = 30.0
"""StatsD hands on to Graphite every 10 s."""


class Finding(NamedTuple):
    """What one check found, and what to do about it."""

    state: str
    what: str
    remedy: str = ""


def run_doctor(options: argparse.Namespace, settings: Settings) -> int:
    checks: dict[str, Callable[[], Finding]] = {
        "Python": _check_python,
        "packages": _check_packages,
        "artifact store": lambda: _check_store(settings),
        "disk": lambda: _check_disk(settings),
        "folders": lambda: _check_folders(settings),
        "datasets": lambda: _check_catalogue(settings),
        "audio formats": _check_formats,
        "champion": lambda: _check_champion(settings),
        "metrics": lambda: _check_metrics(settings, options.graphite),
    }
    marks = {OK: "✓", NOTE: "·", BROKEN: "✗"}
    broken = 0
    for name, check in checks.items():
        try:
            finding = check()
        except Exception as error:  # whatever is broken, the other checks are made
            finding = Finding(BROKEN, str(error) if isinstance(error, EmotionError) else repr(error))
        broken += finding.state == BROKEN
        print(f"{marks[finding.state]} {name}: {finding.what}", flush=True)
        if finding.remedy:
            print(f"    {finding.remedy}", flush=True)
    print(f"\n{broken} broken." if broken else "\nNothing is broken.")
    return 1 if broken else 0


def _check_python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in PYTHONS:
        return Finding(OK, found)
    return Finding(BROKEN, f"{found}; expected 3.11 to 3.14", "Make the environment again with one of these.")


def _check_packages() -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement
    from packaging.version import Version

    pins = PROJECT / "requirements.txt"
    wrong, count = [], 0
    for line in filter(None, (line.partition("#")[0].strip() for line in pins.read_text().splitlines())):
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate():  # of another version of Python
            continue
        count += 1
        name, expected = requirement.name, next(iter(requirement.specifier)).version
        try:
            found = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} not installed, expected {expected}")
            continue
        if Version(found) != Version(expected):  # "v0.0.21", as some packages call themselves, is 0.0.21
            wrong.append(f"{name} {found}, expected {expected}")
    if wrong:
        return Finding(BROKEN, "; ".join(wrong), f"pip install -r {pins}")
    return Finding(OK, f"{count} as pinned")


def _check_store(settings: Settings) -> Finding:
    import uuid

    from emotion.store import Store

    key = f".doctor-{uuid.uuid4().hex}"
    try:
        store = Store(settings.home)
        store.write_bytes(key, b"ok")
        read = store.read_bytes(key)
        store.delete(key)
    except Exception as error:  # whatever the file system, or an object store's client, raises
        return Finding(
            BROKEN,
            f"{settings.home} cannot be written: {error}",
            "Set EMOTION_HOME to a folder of yours, or to an object store whose credentials are set.",
        )
    if read != b"ok":
        return Finding(BROKEN, f"{settings.home} does not give back what was written", "Check the file system.")
    return Finding(OK, f"{settings.home} can be written and read")


def _check_disk(settings: Settings) -> Finding:
    import shutil
    import tempfile
    from pathlib import Path

    folder = Path(settings.home) if "://" not in settings.home else Path(tempfile.gettempdir())
    folder = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    what = f"{free / 1e9:.1f} GB free at {folder}"
    if free < FREE_BYTES:
        return Finding(BROKEN, f"{what}; expected {FREE_BYTES / 1e9:.0f} GB", "Make room, or move EMOTION_HOME.")
    return Finding(OK, what)


def _check_folders(settings: Settings) -> Finding:
    missing = [str(path) for path in (*settings.recordings, *settings.inboxes) if not path.is_dir()]
    if missing:
        return Finding(
            NOTE,
            f"not there: {', '.join(missing)}",
            "For recordings of one's own to train on (EMOTION_RECORDINGS) and to score (EMOTION_INBOXES).",
        )
    return Finding(OK, ", ".join(map(str, (*settings.recordings, *settings.inboxes))))


def _check_catalogue(settings: Settings) -> Finding:
    from emotion.datasets.catalogue import read_catalogue

    return Finding(OK, f"{', '.join(read_catalogue(settings.catalogue))}, from {settings.catalogue}")


def _check_formats() -> Finding:
    import soundfile

    library = soundfile.__libsndfile_version__
    missing = [name for name in FORMATS if name not in soundfile.available_formats()]
    if missing:
        return Finding(
            BROKEN,
            f"libsndfile {library} does not read {', '.join(missing)}",
            "Install the wheel of soundfile, with its own.",
        )
    return Finding(OK, f"{', '.join(FORMATS)} and others, by libsndfile {library}")


def _check_champion(settings: Settings) -> Finding:
    from emotion.inference import CustomEmotionModel

    try:
        model = CustomEmotionModel(settings=settings)
    except ConfigurationError as error:
        return Finding(BROKEN, str(error))
    except EmotionError as error:
        return Finding(BROKEN, str(error), "emotion rollback, or emotion promote another version, or train again.")
    return Finding(OK, f"{model.version} ({model.family}) can be loaded")


def _check_metrics(settings: Settings, graphite: str | None) -> Finding:
    import socket

    from emotion import metrics

    if settings.statsd is None:
        return Finding(
            NOTE,
            "the command line sends none",
            "Set EMOTION_STATSD=host:port to have it send them; Airflow has its own settings.",
        )
    host, port = settings.statsd
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        return Finding(BROKEN, f"StatsD's host {host} is not known: {error}", "Mend EMOTION_STATSD.")
    sent = int(time.time())
    metrics.statsd_emitter(settings.statsd).gauge(metrics.DOCTOR, sent)
    if not graphite:
        return Finding(
            NOTE,
            f"one sent to StatsD at {host}:{port}; UDP does not tell whether it arrived",
            "Set EMOTION_GRAPHITE=http://host:port to have it looked up.",
        )
    path = f"stats.gauges.{metrics.PREFIX}.{metrics.DOCTOR.path()}"
    start = time.monotonic()
    progress = ConsoleProgress("s")
    while (waited := time.monotonic() - start) < ARRIVAL_SECONDS:
        progress("waiting for the metric", waited, ARRIVAL_SECONDS)
        try:
            arrived = sent in _graphite_values(graphite, path)
        except (OSError, ValueError) as error:
            arrived, trouble = False, f"{graphite} does not answer as Graphite: {error}"
        else:
            trouble = f"{path} lacks it"
        if arrived:
            progress.close()
            return Finding(OK, f"one sent to StatsD at {host}:{port} was in Graphite after {waited:.0f} s")
        time.sleep(1)
    progress.close()
    return Finding(
        BROKEN,
        f"one sent to StatsD at {host}:{port} is not in Graphite after {ARRIVAL_SECONDS:.0f} s: {trouble}",
        "Is StatsD up, is EMOTION_STATSD its address, and does it send to this Graphite?",
    )


def _graphite_values(graphite: str, path: str) -> list[float | None]:
    from urllib.parse import urlencode
    from urllib.request import urlopen

    query = urlencode({"target": path, "from": "-5min", "format": "json"})
    with urlopen(f"{graphite.rstrip('/')}/render?{query}", timeout=5) as answer:
        return [value for series in json.load(answer) for value, _ in series["datapoints"]]
