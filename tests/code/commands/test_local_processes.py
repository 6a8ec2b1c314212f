"""The processes of a real local Airflow: what a killed launcher leaves, the open ports, the accepted host names."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest
import requests

from emotion.commands.local_airflow import LocalAirflow, free_port

pytestmark = pytest.mark.airflow

LAUNCHER = """
import sys, time
from pathlib import Path
from emotion.commands.local_airflow import LocalAirflow
with LocalAirflow(Path(sys.argv[1]), int(sys.argv[2])).running("scheduler", "dag-processor"):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTION_HOME", str(folder / "home"))
        patch.setenv("EMOTION_TRAINING_SCHEDULE", "")
        patch.setenv("EMOTION_SCORING_SCHEDULE", "")
        patch.setenv("EMOTION_REVIEW_SCHEDULE", "")
        yield folder / "airflow"


@pytest.fixture(scope="module")
def orphans(home) -> list[psutil.Process]:
    """The processes that a launcher left when it was killed."""
    command = [sys.executable, "-c", LAUNCHER, str(home), str(free_port())]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout.readline() == "ready\n"
        children = psutil.Process(launcher.pid).children(recursive=True)
        launcher.kill()
    return children


@pytest.fixture(scope="module")
def airflow(home, orphans):
    """The Airflow that is started next, from the same home."""
    with LocalAirflow(home, free_port()).running("scheduler", "dag-processor", "triggerer") as local:
        yield local


def components(local: LocalAirflow) -> list[psutil.Process]:
    roots = [psutil.Process(process.pid) for process in local.processes.values()]
    return roots + [child for root in roots for child in root.children(recursive=True)]


def test_the_next_start_ends_what_a_killed_launcher_left(airflow, orphans):
    assert len(orphans) > 3, "scheduler, DAG processor, API server and the workers of the scheduler"
    assert not [process for process in orphans if process.is_running()]
    airflow.check_alive()


def test_every_open_port_is_on_the_loopback_interface(airflow):
    listening = [
        connection.laddr
        for process in components(airflow)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    ]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == {airflow.port}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080"])
def test_a_request_to_the_loopback_interface_is_answered(airflow, host):
    assert request(airflow, "/api/v2/version", host).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "::1", "", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/", "/api/v2/version", "/auth/token", "/emotion/dags/emotion_training"])
def test_a_request_to_another_host_is_refused(airflow, host, path):
    answer = request(airflow, path, host)
    assert answer.status_code == 421
    assert "answers only as localhost, 127.0.0.1 or [::1]" in answer.text


def request(local: LocalAirflow, path: str, host: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(local.url + path, headers={"Host": host}, timeout=30)
