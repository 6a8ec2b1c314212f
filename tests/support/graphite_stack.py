"""Real StatsD, carbon and graphite-web on loopback: the configuration of ``grafana/graphite`` with other addresses.

Installed once, into ``EMOTION_TEST_GRAPHITE`` (default: ``~/.cache/emotion-graphite``). Graphite 1.1.10 needs
Python 3.11 or older (``PYTHON_FOR_GRAPHITE``; else the first of python3.11, 3.10 and 3.9 found), StatsD 0.9
needs npm.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import random
import re
import shutil
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

CONFIGURATION = Path(__file__).resolve().parents[2] / "grafana" / "graphite"
REQUIREMENTS = (
    "whisper==1.1.10",
    "carbon==1.1.10",
    "graphite-web==1.1.10",
    "gunicorn==23.0.0",
    "whitenoise==5.3.0",
    "setuptools==80.9.0",
)
STATSD = "statsd@0.9.0"
FLUSH_SECONDS = 10

_SETTINGS = """
from graphite.settings import *
SECRET_KEY = "a test's"
ALLOWED_HOSTS = ["*"]
STATICFILES_DIRS = ["{prefix}/webapp/content"]
"""
_LOCAL_SETTINGS = """
import os
SECRET_KEY = "a test's"
ALLOWED_HOSTS = ["*"]
CONF_DIR = {conf!r}
STORAGE_DIR = {storage!r}
STATIC_ROOT = {storage!r} + "/static"
LOG_DIR = {storage!r}
INDEX_FILE = {storage!r} + "/index"
WHISPER_DIR = {whisper!r}
STANDARD_DIRS = [WHISPER_DIR]
CARBONLINK_HOSTS = ["127.0.0.1:{query}:a"]
DATABASES = {{"default": {{"NAME": {storage!r} + "/graphite.db", "ENGINE": "django.db.backends.sqlite3"}}}}
TAGDB = ""
TIME_ZONE = "UTC"
"""


class NotInstalled(Exception):
    """Graphite or StatsD cannot be installed here; the message says why."""


@dataclass(frozen=True)
class Graphite:
    """A running stack: where StatsD (UDP) and carbon (plain text and cache queries, TCP) listen, graphite-web's URL."""

    statsd: tuple[str, int]
    carbon: tuple[str, int]
    cache: tuple[str, int]
    url: str
    whisper: Path
    daemon: subprocess.Popen
    """StatsD."""

    @property
    def airflow_environment(self) -> dict[str, str]:
        """The settings with which an Airflow sends its metrics here."""
        host, port = self.statsd
        settings = {"ON": "True", "HOST": host, "PORT": str(port), "PREFIX": "airflow"}
        return {f"AIRFLOW__METRICS__STATSD_{name}": value for name, value in settings.items()}

    def feed(self, points: list[tuple[str, float, float]]) -> None:
        """Write (path, value, Unix time) past StatsD, and wait until they can be read."""
        lines = "".join(f"{path} {value} {int(when)}\n" for path, value, when in points)
        with socket.create_connection(self.carbon, timeout=10) as connection:
            connection.sendall(lines.encode())
        last = {path: when for path, _, when in points}
        wait_for(lambda: all(self._stored(*point) for point in last.items()), 30, "carbon to store what it was fed")

    def settle(self) -> None:
        """End StatsD, and wait until carbon has written all it was sent.

        StatsD sends 0 for an idle counter at every flush. As long as such points are in carbon's cache, graphite-web
        takes their sum for the value of the whole hour, in place of the sum that is on disk.
        """
        self.daemon.terminate()
        self.daemon.wait(20)
        files = [file.relative_to(self.whisper) for file in self.whisper.glob("stats*/**/*.wsp")]
        paths = [".".join(file.with_suffix("").parts) for file in files]
        wait_for(lambda: not any(map(self._cached, paths)), 60, "carbon to write its cache")

    def _cached(self, path: str) -> list:
        """The points of a metric that carbon has not begun to write."""
        query = pickle.dumps({"type": "cache-query", "metric": path}, protocol=2)
        with socket.create_connection(self.cache, timeout=10) as connection:
            connection.sendall(struct.pack("!L", len(query)) + query)
            with connection.makefile("rb") as answer:
                (size,) = struct.unpack("!L", answer.read(4))
                return pickle.loads(answer.read(size), encoding="utf-8")["datapoints"]

    def _stored(self, path: str, when: float) -> bool:
        """Whether the last point of a metric is on disk. On its way there, carbon has it neither in cache nor file."""
        if self._cached(path):
            return False
        around = {"since": str(int(when) - 3600), "until": str(int(when) + 3600)}
        return any(value is not None for series in self.render(path, **around) for value, _ in series["datapoints"])

    def render(self, target: str, *, since: str = "-1d", until: str = "now", points: int = 1000) -> list[dict]:
        """What graphite-web answers to a query, as Grafana sends it.

        Raises
        ------
        AssertionError
            If graphite-web refuses the query.
        """
        form = {"target": target, "from": since, "until": until, "format": "json", "maxDataPoints": points}
        data = urllib.parse.urlencode(form).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/render", data, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            page = re.sub(r"<[^>]+>", " ", error.read().decode(errors="replace"))
            raise AssertionError(f"graphite-web refuses {target}: {' '.join(page.split())[:400]}") from error

    def picture(self, target: str | list[str], **options: str | int) -> bytes:
        """A PNG drawn by graphite-web."""
        form = {"target": target, "format": "png"} | options
        data = urllib.parse.urlencode(form, doseq=True).encode()
        with urllib.request.urlopen(f"{self.url}/render", data, timeout=60) as answer:
            return answer.read()

    def find(self, query: str) -> list[str]:
        """The names that a query of a dashboard's variable finds."""
        with urllib.request.urlopen(f"{self.url}/metrics/find?query={urllib.parse.quote(query)}", timeout=60) as answer:
            return [node["text"] for node in json.load(answer)]


def install() -> Path:
    """The folder with Graphite and StatsD; installs them there if they are missing.

    One process at a time: parallel test workers share the folder.

    Raises
    ------
    NotInstalled
    """
    home = Path(os.environ.get("EMOTION_TEST_GRAPHITE") or Path.home() / ".cache" / "emotion-graphite").absolute()
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(home)
    return home


def require() -> None:
    """Skip the test where Graphite and StatsD cannot be installed; in CI fail."""
    try:
        install()
    except NotInstalled as reason:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent(f"Graphite and StatsD: {reason}")


def _install(home: Path) -> None:
    done = home / "installed"
    packages = "\n".join((*REQUIREMENTS, STATSD))
    if done.exists() and done.read_text() == packages:
        return
    python = os.environ.get("PYTHON_FOR_GRAPHITE") or next(
        filter(None, map(_works, ("python3.11", "python3.10", "python3.9", "python3"))), None
    )
    if python is None:
        raise NotInstalled("no Python from 3.9 to 3.11, which Graphite needs; name one in PYTHON_FOR_GRAPHITE")
    if shutil.which("npm") is None:
        raise NotInstalled("no npm, with which StatsD is installed")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    _run([python, "-m", "venv", str(home / "venv")])
    _run(
        [str(home / "venv/bin/pip"), "install", "-q", *REQUIREMENTS],
        env=os.environ | {"GRAPHITE_NO_PREFIX": "True"},
    )
    _run(["npm", "install", "--omit=optional", "--no-audit", "--no-fund", "--prefix", str(home), STATSD])
    done.write_text(packages)


def _works(python: str) -> str | None:
    """The path of the interpreter, if there is one, it starts, and Graphite runs on its version."""
    path = shutil.which(python)
    if path is None:
        return None
    check = [path, "-c", "import sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))"]
    return path if subprocess.run(check, capture_output=True).returncode == 0 else None


def _run(command: list[str], **options) -> None:
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode:
        raise NotInstalled(f"{' '.join(command)} failed:\n{result.stdout[-1000:]}{result.stderr[-2000:]}")


@dataclass(frozen=True)
class _Ports:
    """The loopback ports of a stack."""

    line: int
    pickled: int
    query: int
    web: int
    statsd: int
    management: int


@contextmanager
def running(folder: Path) -> Iterator[Graphite]:
    """The stack, started in ``folder`` and ended on leaving.

    Raises
    ------
    NotInstalled
    """
    home, ports = install(), _Ports(*_free_ports(6))
    environment = _configure(folder, home, ports)
    migrate = [str(home / "venv" / "bin" / "django-admin"), "migrate", "--run-syncdb"]
    subprocess.run(migrate, env=environment, check=True, capture_output=True)
    processes: dict[str, subprocess.Popen] = {}
    try:
        for name, command in _commands(folder, home, ports).items():
            with (folder / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    list(map(str, command)), env=environment, stdout=log, stderr=subprocess.STDOUT
                )
        for port, name in ((ports.line, "carbon"), (ports.web, "web"), (ports.management, "statsd")):
            wait_for(
                lambda port=port: _listens(port),
                60,
                f"{name} to listen (see {folder / name}.log)",
                alive=processes[name],
            )
        addresses = (("127.0.0.1", port) for port in (ports.statsd, ports.line, ports.query))
        whisper = folder / "storage" / "whisper"
        yield Graphite(*addresses, f"http://127.0.0.1:{ports.web}", whisper, processes["statsd"])
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(20)


def _configure(folder: Path, home: Path, ports: _Ports) -> dict[str, str]:
    """Write the configuration of every process to ``folder/conf``; returns their environment."""
    conf, storage = folder / "conf", folder / "storage"
    whisper = storage / "whisper"
    for needed in (conf, whisper):
        needed.mkdir(parents=True)
    for name in ("storage-schemas.conf", "storage-aggregation.conf"):
        shutil.copy(CONFIGURATION / name, conf)
    carbon = {
        "LINE_RECEIVER_PORT = 2003": f"LINE_RECEIVER_PORT = {ports.line}",
        "LINE_RECEIVER_INTERFACE = 0.0.0.0": "LINE_RECEIVER_INTERFACE = 127.0.0.1",
        "PICKLE_RECEIVER_PORT = 2004": f"PICKLE_RECEIVER_PORT = {ports.pickled}",
        "CACHE_QUERY_PORT = 7002": f"CACHE_QUERY_PORT = {ports.query}",
        "/opt/graphite/storage": str(storage),
        "/opt/graphite/conf": str(conf),
    }
    (conf / "carbon.conf").write_text(_replaced(CONFIGURATION / "carbon.conf", carbon))
    statsd = {
        'address: "0.0.0.0", port: 8125': f'address: "127.0.0.1", port: {ports.statsd}',
        "port: 8125,\n": f'port: {ports.statsd}, mgmt_address: "127.0.0.1", mgmt_port: {ports.management},\n',
        "graphitePort: 2003": f"graphitePort: {ports.line}",
    }
    (conf / "statsd.js").write_text(_replaced(CONFIGURATION / "statsd.js", statsd))
    (conf / "emotion_graphite.py").write_text(_SETTINGS.format(prefix=home / "venv"))
    (conf / "local_graphite.py").write_text(
        _LOCAL_SETTINGS.format(conf=str(conf), storage=str(storage), whisper=str(whisper), query=ports.query)
    )
    return os.environ | {
        "PYTHONPATH": str(conf),
        "DJANGO_SETTINGS_MODULE": "emotion_graphite",
        "GRAPHITE_SETTINGS_MODULE": "local_graphite",
        "GRAPHITE_CONF_DIR": str(conf),
        "GRAPHITE_STORAGE_DIR": str(storage),
        "PATH": f"{home / 'venv' / 'bin'}:{os.environ['PATH']}",
    }


def _commands(folder: Path, home: Path, ports: _Ports) -> dict[str, list[str | Path]]:
    """The command of each process."""
    tools, conf, storage = home / "venv" / "bin", folder / "conf", folder / "storage"
    return {
        "carbon": [
            tools / "carbon-cache.py",
            f"--config={conf / 'carbon.conf'}",
            f"--logdir={storage}",
            f"--pidfile={storage / 'carbon.pid'}",
            "--instance=a",
            "--nodaemon",
            "start",
        ],
        "web": [tools / "gunicorn", "-w", "2", "-b", f"127.0.0.1:{ports.web}", "graphite.wsgi:application"],
        "statsd": ["node", home / "node_modules" / "statsd" / "stats.js", conf / "statsd.js"],
    }


def _replaced(file: Path, parts: dict[str, str]) -> str:
    text = file.read_text()
    for old, new in parts.items():
        assert old in text, f"{file.name} has no {old!r} to replace"
        text = text.replace(old, new)
    return text


def _free_ports(count: int) -> list[int]:
    """Ports below those that the system hands out by itself, so that no connection takes one before it is used."""
    ports: list[int] = []
    for port in random.sample(range(10_000, 32_000), 1_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError(f"fewer than {count} free ports on 127.0.0.1 among 1000 tried")


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition, seconds: float, what: str, *, alive: subprocess.Popen | None = None) -> None:
    """Wait until ``condition()``; fail after ``seconds``, or at once if the process ``alive`` has ended."""
    end = time.monotonic() + seconds
    while not condition():
        ended = alive is not None and alive.poll() is not None
        if ended or time.monotonic() > end:
            raise AssertionError(
                f"timed out after {seconds:g} s waiting for {what}" + (": the process has ended" if ended else "")
            )
        time.sleep(0.1)
