"""PostgreSQL, Redis and Celery workers of their own, for the checks that need more than one worker.

apt-get install postgresql redis-server
pip install -r requirements.txt -r requirements-server.txt
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests
import yaml
from cryptography.fernet import Fernet

from emotion.commands.local_airflow import DAG_ID, AirflowBusy, LocalAirflow, free_port
from emotion.settings import INCLUDE

LIMIT_SECONDS = 1200


def wait_for(what, call, seconds: float = 90):
    """The first true answer of ``call``."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, subprocess.CalledProcessError, requests.RequestException, AirflowBusy):
            if answer := call():
                return answer
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what} took longer than {seconds} s")
        time.sleep(0.1)


def postgres(folder: Path, port: int, processes: list[subprocess.Popen]) -> None:
    """A database cluster of its own; PostgreSQL refuses to be root, so root becomes the user postgres."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    owner = "postgres" if user else pwd.getpwuid(os.geteuid()).pw_name
    folder.mkdir()
    if user:
        shutil.chown(folder, "postgres", "postgres")
    initdb = [
        binaries / "initdb",
        "-D",
        folder / "data",
        "-U",
        "airflow",
        "--auth=trust",
        "--encoding=UTF8",
        "--no-locale",
    ]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)
    options = ["-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", folder]
    with open(folder.parent / "postgres.log", "wb") as log:
        processes.append(
            subprocess.Popen([binaries / "postgres", *options], stdout=log, stderr=log, cwd=folder, **user)
        )
    create = [binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "airflow", "airflow"]
    wait_for(f"PostgreSQL as {owner}", lambda: subprocess.run(create, check=True, stderr=subprocess.DEVNULL))


def worker(airflow: LocalAirflow, name: str) -> subprocess.Popen:
    """A Celery worker in a process group of its own, that signs its tasks with its name."""
    with open(airflow.home / f"{name}.log", "ab") as log:
        return subprocess.Popen(
            ["airflow", "celery", "worker", "--skip-serve-logs", "--celery-hostname", f"{name}@check"],
            env=airflow.env | {"WORKER_NAME": name},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def tasks(airflow: LocalAirflow, run: str, dag: str = DAG_ID) -> list[dict]:
    """The task instances of a run."""
    path = f"/dags/{dag}/dagRuns/{run}/taskInstances"
    return airflow.api("GET", path, params={"limit": 1000})["task_instances"]


def small_catalogue(folder: Path, speakers: int) -> str:
    """Write a dataset catalogue whose synthesized corpus has few speakers; returns its path."""
    catalogue = yaml.safe_load((INCLUDE / "datasets.yaml").read_text())
    catalogue["synthesized"]["speakers"] = speakers
    (folder / "datasets.yaml").write_text(yaml.safe_dump(catalogue))
    return str(folder / "datasets.yaml")


class Stack:
    """Airflow with its Celery workers, ``worker-a`` and ``worker-b``."""

    def __init__(self, airflow: LocalAirflow):
        self.airflow = airflow
        self.workers: dict[str, subprocess.Popen] = {}

    def start_worker(self, name: str) -> None:
        """Start a worker; an earlier one of that name is dead."""
        self.workers[name] = worker(self.airflow, name)

    def kill_worker(self, name: str) -> None:
        """Kill a worker and the task that it is at work on."""
        os.killpg(self.workers[name].pid, signal.SIGKILL)
        self.workers[name].wait()


@contextlib.contextmanager
def celery_stack(folder: Path, variables: dict[str, str]) -> Iterator[Stack]:
    """Run everything in a folder, with ``variables`` for Airflow's processes; at the end all is stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / "lib").mkdir()
    (folder / "lib/worker_name.py").write_text(
        "import os, socket\ndef name(): return os.environ.get('WORKER_NAME') or socket.gethostname()\n"
    )
    database, broker = free_port(), free_port()
    sql = f"postgresql+psycopg2://airflow@127.0.0.1:{database}/airflow"
    extra = {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "worker_name.name",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": sql,
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{broker}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{sql}",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "EMOTION_TRAINING_SCHEDULE": "",
        "EMOTION_SCORING_SCHEDULE": "",
        "EMOTION_REVIEW_SCHEDULE": "",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder / "lib"), os.environ.get("PYTHONPATH")])),
    }
    stack = Stack(LocalAirflow(folder / "airflow", free_port(), extra | variables))
    others: list[subprocess.Popen] = []
    try:
        postgres(folder / "postgres", database, others)
        redis = ["redis-server", "--port", str(broker), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        others.append(subprocess.Popen(redis, stdout=subprocess.DEVNULL))
        with stack.airflow.running("scheduler", "dag-processor", "triggerer"):
            for name in ("worker-a", "worker-b"):
                stack.start_worker(name)
            yield stack
    finally:
        for process in stack.workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in others:
            process.send_signal(signal.SIGINT)
            process.wait(30)
