"""The service, running in a thread of the test's process, with one process that answers."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from emotion import metrics
from emotion.serving import application
from emotion.serving.connections import LOOPBACK
from emotion.serving.limits import Limits
from emotion.serving.processes import Answerers
from emotion.store import Store

LIMITS = Limits(
    body_bytes=3_000_000,
    bytes_in_memory=40_000_000,
    header_seconds=1.0,
    upload_seconds=1.5,
    answer_seconds=5.0,
    waiting=8,
    streams=2,
    stream_seconds=20.0,
    idle_seconds=1.5,
    message_bytes=200_000,
    check_seconds=0.3,
)


@dataclass
class Service:
    """A running service."""

    store: Store
    port: int
    server: application.uvicorn.Server
    statsd: socket.socket
    answerers: Answerers

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def post(self, data: bytes, path: str = "/predict", **options) -> requests.Response:
        """Post a recording as the body."""
        headers = {"Content-Type": "audio/wav"} | options.pop("headers", {})
        return requests.post(self.url(path), data=data, headers=headers, timeout=60, **options)

    def health(self) -> requests.Response:
        return requests.get(self.url("/health"), timeout=60)

    def until(self, is_so: Callable[[requests.Response], bool]) -> dict:
        """The state of the service, once a condition holds of it."""
        end = time.monotonic() + 60
        while not is_so(response := self.health()):
            assert time.monotonic() < end, response.text
            time.sleep(0.1)
        return response.json()

    def processes(self) -> list[psutil.Process]:
        """Those that answer."""
        children = psutil.Process().children(recursive=True)
        return [child for child in children if "emotion.serving.answerer" in " ".join(child.cmdline())]

    def process(self) -> psutil.Process:
        """The one that answers, once there is one."""
        end = time.monotonic() + 60
        while len(processes := self.processes()) != 1 or not self.health().ok:
            assert time.monotonic() < end, processes
            time.sleep(0.05)
        return processes[0]

    def metrics(self) -> list[str]:
        """What was sent to StatsD since the last call."""
        lines = []
        while True:
            try:
                lines.append(self.statsd.recv(1000).decode())
            except BlockingIOError:
                return lines


@pytest.fixture(scope="module")
def service(trained_store, tmp_path_factory) -> Iterator[Service]:
    """The service of a store of its own, whose champion it serves."""
    home = str(tmp_path_factory.mktemp("service") / "home")
    shutil.copytree(Path(trained_store.root) / "models", Path(home) / "models")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd, socket.create_server(("127.0.0.1", 0)) as listener:
        statsd.bind(("127.0.0.1", 0))
        statsd.setblocking(False)
        emitter = metrics.statsd_emitter(statsd.getsockname())
        answerers = Answerers(home, "champion", processes=1, limits=LIMITS, emitter=emitter)
        server = application.server(answerers, limits=LIMITS, emitter=emitter, hosts=LOOPBACK)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running = Service(Store(home), listener.getsockname()[1], server, statsd, answerers)
        running.until(lambda response: response.ok)
        assert running.metrics()[0] == "airflow.emotion.serving.load.processes:0.0|g"  # before it loads the model
        yield running
        running.metrics()
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive() and not running.processes()
        assert running.metrics()[-1] == "airflow.emotion.serving.load.expected:0.0|g"
