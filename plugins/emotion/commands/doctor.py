"""``emotion doctor``: checks the installation and says how to fix what is broken."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from emotion.commands.arguments import add_command
from emotion.commands.console import ConsoleProgress
from emotion.errors import ConfigurationError, EmotionError
from emotion.settings import PROJECT, Settings

OK, NOTE, BROKEN = "ok", "note", "broken"
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
"""The Python versions that the project supports, oldest first."""
FORMATS = ("WAV", "FLAC", "OGG", "MP3")
FREE_BYTES = 2 * 10**9
"""RAVDESS takes 0.8 GB, unpacked and as an archive; a run with its models takes a few hundred MB."""
ARRIVAL_SECONDS = 30.0
"""How long to wait for a metric; StatsD sends to Graphite every 10 s."""


class Finding(NamedTuple):
    """The result of one check, and what to do about it."""

    state: str
    what: str
    remedy: str = ""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "doctor",
        run_doctor,
        "Check the installation: what works, what is missing, and how to fix it.",
        epilog="A line per check: ✓ works, · works without this, ✗ broken. Exit code 1 if something is broken.",
    )
    parser.add_argument(
        "--graphite",
        default=os.environ.get("EMOTION_GRAPHITE"),
        metavar="URL",
        help="address of Graphite, such as http://localhost:8081, to check that a metric sent to StatsD arrives there "
        "(default: EMOTION_GRAPHITE)",
    )


def run_doctor(options: argparse.Namespace, settings: Settings) -> int:
    """Print a line per check; returns 1 if something is broken."""
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
        except Exception as error:  # the other checks still run
            finding = Finding(BROKEN, str(error) if isinstance(error, EmotionError) else repr(error))
        broken += finding.state == BROKEN
        print(f"{marks[finding.state]} {name}: {finding.what}", flush=True)
        if finding.remedy:
            print(f"    {finding.remedy}", flush=True)
    print(f"\n{broken} of {len(checks)} checks failed." if broken else "\nNothing is broken.")
    return 1 if broken else 0


def _check_python() -> Finding:
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in PYTHONS:
        return Finding(OK, running)
    supported = ", ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    return Finding(BROKEN, f"{running}; expected one of {supported}", "Create the environment again with one of these.")


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
            installed = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} not installed, expected {expected}")
            continue
        if Version(installed) != Version(expected):  # some packages call 0.0.21 "v0.0.21"
            wrong.append(f"{name} {installed}, expected {expected}")
    if wrong:
        return Finding(BROKEN, "; ".join(wrong), f"pip install -r {pins}")
    return Finding(OK, f"{count} installed as pinned in {pins.name}")


def _check_store(settings: Settings) -> Finding:
    import uuid

    from emotion.store import Store

    key = f".doctor-{uuid.uuid4().hex}"
    try:
        store = Store(settings.home)
        store.write_bytes(key, b"ok")
        read = store.read_bytes(key)
        store.delete(key)
        store.check_conditions()
    except Exception as error:  # object stores raise exceptions of their own clients
        return Finding(
            BROKEN,
            f"{settings.home} cannot be used: {error}",
            "Set EMOTION_HOME to a folder that you can write to, or to a bucket that you have credentials for.",
        )
    if read != b"ok":
        return Finding(BROKEN, f"{settings.home}: what was read is not what was written", "Check the file system.")
    conditions = "" if store.is_local else ", and its server keeps the conditions of a write"
    return Finding(OK, f"{settings.home} can be written and read{conditions}")


def _check_disk(settings: Settings) -> Finding:
    import shutil
    import tempfile
    from pathlib import Path

    folder = Path(settings.home) if "://" not in settings.home else Path(tempfile.gettempdir())
    folder = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    what = f"{free / 1e9:.1f} GB free at {folder}"
    if free < FREE_BYTES:
        return Finding(
            BROKEN,
            f"{what}; expected {FREE_BYTES / 1e9:.0f} GB",
            "Free some space, or set EMOTION_HOME to another disk.",
        )
    return Finding(OK, what)


def _check_folders(settings: Settings) -> Finding:
    from pathlib import Path

    folders = (*settings.recordings, *settings.inboxes)
    missing = [str(path) for path in folders if isinstance(path, Path) and not path.is_dir()]
    if missing:
        return Finding(
            NOTE,
            f"missing: {', '.join(missing)}",
            "Needed only for your own recordings: to train on (EMOTION_RECORDINGS), to score (EMOTION_INBOXES).",
        )
    return Finding(OK, ", ".join(map(str, folders)))


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
            "Reinstall soundfile from its wheel, which contains a libsndfile that does: "
            "pip install --force-reinstall --only-binary soundfile soundfile",
        )
    return Finding(OK, f"{', '.join(FORMATS)} and others, read by libsndfile {library}")


def _check_champion(settings: Settings) -> Finding:
    from emotion.inference import CustomEmotionModel
    from emotion.models import registry
    from emotion.store import Store

    store = Store(settings.home)
    if registry.champion(store) is None and not registry.versions(store):
        return Finding(
            NOTE, "none yet: nothing was trained", "Train with make demo, make train or the DAG emotion_training."
        )
    try:
        model = CustomEmotionModel(settings=settings)
    except ConfigurationError as error:
        return Finding(BROKEN, str(error))
    except EmotionError as error:
        return Finding(
            BROKEN, str(error), "Run emotion rollback, promote another version with emotion promote, or train again."
        )
    return Finding(OK, f"{model.version} ({model.family}) can be loaded")


def _check_metrics(settings: Settings, graphite: str | None) -> Finding:
    import socket

    from emotion import metrics

    if settings.statsd is None:
        return Finding(
            NOTE,
            "the emotion command sends no metrics",
            "Set EMOTION_STATSD=host:port to send them. DAGs use Airflow's own settings.",
        )
    host, port = settings.statsd
    is_ipv6 = ":" in host
    place = f"[{host}]:{port}" if is_ipv6 else f"{host}:{port}"
    try:
        socket.getaddrinfo(host, port, socket.AF_INET6 if is_ipv6 else socket.AF_INET)  # as the client does
    except (OSError, UnicodeError) as error:
        return Finding(BROKEN, f"StatsD's host {host} is unknown: {error}", "Correct EMOTION_STATSD.")
    sent = int(time.time())
    metrics.statsd_emitter(settings.statsd).gauge(metrics.DOCTOR, sent)
    if not graphite:
        return Finding(
            NOTE,
            f"one sent to StatsD at {place}; whether it arrived is unknown, as UDP gives no answer",
            "Set EMOTION_GRAPHITE=http://host:port to look it up in Graphite.",
        )
    path = f"stats.gauges.{metrics.PREFIX}.{metrics.DOCTOR.path()}"
    trouble = _wait_for_value(graphite, path, sent)
    if trouble is None:
        waited = time.time() - sent
        return Finding(OK, f"one sent to StatsD at {place} was in Graphite after {waited:.0f} s")
    return Finding(
        BROKEN,
        f"one sent to StatsD at {place} is not in Graphite after {ARRIVAL_SECONDS:.0f} s: {trouble}",
        "Check that StatsD is running, that EMOTION_STATSD is its address, and that it sends to this Graphite.",
    )


def _wait_for_value(graphite: str, path: str, value: float) -> str | None:
    """Ask Graphite every second until a series holds the value; returns what is wrong after ARRIVAL_SECONDS."""
    progress = ConsoleProgress()
    start = time.monotonic()
    trouble = ""
    try:
        while (waited := time.monotonic() - start) < ARRIVAL_SECONDS:
            progress("waiting for the metric", int(waited), int(ARRIVAL_SECONDS), "s")
            try:
                if value in _graphite_values(graphite, path):
                    return None
                trouble = f"{path} does not hold it"
            except (OSError, ValueError) as error:
                trouble = f"{graphite} does not answer as Graphite: {error}"
            time.sleep(1)
    finally:
        progress.close()
    return trouble


def _graphite_values(graphite: str, path: str) -> list[float | None]:
    from urllib.parse import urlencode
    from urllib.request import urlopen

    query = urlencode({"target": path, "from": "-5min", "format": "json"})
    with urlopen(f"{graphite.rstrip('/')}/render?{query}", timeout=5) as answer:
        return [value for series in json.load(answer) for value, _ in series["datapoints"]]
