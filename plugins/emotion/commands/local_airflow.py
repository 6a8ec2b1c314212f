"""Airflow on this machine alone: a scheduler, a DAG processor and an API server on SQLite, for the Makefile.

:mod:`emotion.commands.local_run` uses it for one training run or for the UI. Airflow's state is in ``.airflow/``
(``AIRFLOW_HOME``), artifacts are in ``emotion-home/`` (``EMOTION_HOME``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import requests

from emotion.errors import EmotionError
from emotion.settings import PROJECT

DAG_ID = "emotion_training"
POOLS = {"emotion_featurize": "Featurization: one slot per core", "emotion_scoring": "Scoring: one slot per core"}
START_SECONDS = 120
STOP_SECONDS = 20
PATIENCE_SECONDS = 60.0
"""How long a call that must succeed is made again while Airflow is busy."""
POLL_SECONDS = 0.5
SQLITE_PATIENCE = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "emotion_airflow.sqlite.CONNECT_ARGS"}
MARK = "EMOTION_LOCAL_AIRFLOW"
"""Set in the environment of every process of such an Airflow. It tells them from the processes of another Airflow, and
tells the API server to answer this machine alone (:mod:`emotion_airflow.host_check`)."""
NO_LOG_SERVER = {"scheduler", "triggerer"}
"""Components that would serve their logs to other machines, on every interface. Here the logs are local files."""


class AirflowProblem(EmotionError):
    """Airflow could not be started, or a run failed."""


class AirflowBusy(AirflowProblem):
    """The API server did not answer in time, or could not answer now; it may answer later."""


def environment(home: Path, port: int) -> dict[str, str]:
    """The environment of every process of this Airflow.

    What the user has set in the environment takes precedence, except for the home, the port and :data:`MARK`.
    """
    cores = os.cpu_count() or 1
    defaults = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "emotion_airflow.executor.LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(max(3, cores)),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",  # for links in what people are told
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        # Tasks run in parallel and use all cores; more threads per task would only slow them down.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(home / "matplotlib"),
    }
    bin_folder = str(Path(sys.executable).parent)
    fixed = {key: defaults[key] for key in ("AIRFLOW_HOME", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL")}
    fixed |= {MARK: "1", "SPT_NOENV": "1"}  # setproctitle writes titles over the environment unless SPT_NOENV is set
    path = {"PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    return defaults | dict(os.environ) | fixed | path


class LocalAirflow:
    """Airflow's processes on one port of the loopback interface.

    Parameters
    ----------
    home : Path
        ``AIRFLOW_HOME``: database, logs, settings.
    port : int
    extra : dict
        Environment variables in addition to :func:`environment`.
    """

    def __init__(self, home: Path, port: int, extra: dict[str, str] | None = None):
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.env = environment(home, port) | (extra or {})
        self.processes: dict[str, subprocess.Popen] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy on the loopback interface

    @contextlib.contextmanager
    def running(self, *components: str) -> Iterator[LocalAirflow]:
        """Start the API server and the components, and wait until they answer; at the end, or after an error, stop all.

        What is left of an Airflow from the same home whose launcher was killed is ended first.

        Parameters
        ----------
        *components : str
            ``scheduler``, ``dag-processor``, ``triggerer``.

        Raises
        ------
        AirflowProblem
            If another Airflow runs from the same home, or this one does not start.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AirflowProblem(
                    f"another Airflow already runs from {self.home}: stop it first (Ctrl-C where `make airflow` runs)"
                ) from None
            try:
                end_leftovers(self.home)
                self._migrate()
                self.start("api-server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1")
                for component in components:
                    self.start(component)
                self._wait_until_ready()
                yield self
            finally:
                self.stop()
                end_leftovers(self.home)  # a task has a process group of its own, which outlives a killed scheduler

    def start(self, component: str, *arguments: str) -> subprocess.Popen:
        """Start one component in its own process group. Its output goes to ``<home>/<component>.log``."""
        if component in NO_LOG_SERVER:
            arguments = ("--skip-serve-logs", *arguments)
        is_sqlite = self.env.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:").startswith("sqlite:")
        patience = SQLITE_PATIENCE if is_sqlite and component != "api-server" else {}
        # `python -m`: the script `airflow` names the interpreter that it was installed with, which may be another one.
        with open(self.log(component), "ab") as output:
            self.processes[component] = subprocess.Popen(
                [sys.executable, "-P", "-m", "airflow", component, *arguments],
                env=patience | self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.processes[component]

    def log(self, component: str) -> Path:
        """The file with a component's output."""
        return self.home / f"{component}.log"

    def stop(self) -> None:
        """Stop all processes and their children."""
        for process in self.processes.values():
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _signal_group(process, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def check_alive(self) -> None:
        """Raise AirflowProblem if a process has ended by itself."""
        for component, process in self.processes.items():
            if process.poll() is not None:
                raise AirflowProblem(
                    f"Airflow's {component} ended with code {process.returncode}. The end of {self.log(component)}:\n"
                    + _tail(self.log(component))
                )

    def api(self, method: str, path: str, *, patience: float = 0.0, **arguments: Any) -> dict:
        """Call Airflow's REST API (``/api/v2`` + path) and return its JSON; ``arguments`` are those of requests.

        ``patience``: for how many seconds the call is made again while the server is busy. Its database is SQLite,
        which tasks that start at the same time lock.

        Raises
        ------
        AirflowBusy
            If there is no answer in time, or one with a 5xx status.
        AirflowProblem
            If the answer is another error.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._call(method, path, arguments)
            except requests.RequestException as error:
                busy = AirflowBusy(f"{method} {path}: no answer from Airflow's API server: {error}")
            except AirflowBusy as error:
                busy = error
            if time.monotonic() > deadline:
                raise busy
            time.sleep(POLL_SECONDS)

    def _call(self, method: str, path: str, arguments: dict[str, Any]) -> dict:
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self.url}/auth/token", timeout=30)
            token.raise_for_status()
            self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        response = self._session.request(method, f"{self.url}/api/v2{path}", timeout=30, **arguments)
        if not response.ok:
            problem = AirflowBusy if response.status_code >= 500 else AirflowProblem
            raise problem(f"{method} {path}: HTTP {response.status_code}: {response.text[:500]}")
        return response.json() if response.content else {}

    def trigger(self, conf: dict, *, run_id: str) -> None:
        """Start one run of the training DAG."""
        unpaused: dict[str, Any] = {"params": {"update_mask": "is_paused"}, "json": {"is_paused": False}}
        self.api("PATCH", f"/dags/{DAG_ID}", patience=PATIENCE_SECONDS, **unpaused)
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        self.api("POST", f"/dags/{DAG_ID}/dagRuns", patience=PATIENCE_SECONDS, json=body)

    def abandon_unfinished(self) -> list[str]:
        """Mark unfinished training runs as failed and return their ids.

        An Airflow that was stopped during a run leaves it unfinished, and only one run may be active.
        """
        query = {"state": ["queued", "running"]}
        runs = self.api("GET", f"/dags/{DAG_ID}/dagRuns", patience=PATIENCE_SECONDS, params=query)["dag_runs"]
        unfinished = [run["dag_run_id"] for run in runs]
        for run_id in unfinished:
            place = f"/dags/{DAG_ID}/dagRuns/{quote(run_id)}"
            self.api("PATCH", place, patience=PATIENCE_SECONDS, json={"state": "failed"})
        return unfinished

    def state(self, run_id: str) -> str:
        """The state of a run of the training DAG."""
        return self.api("GET", f"/dags/{DAG_ID}/dagRuns/{run_id}")["state"]

    def failures(self, run_id: str) -> list[tuple[str, str]]:
        """The id and the error of each failed task of a run."""
        answer = self.api("GET", f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances", params={"limit": 1000})
        failed = [task for task in answer["task_instances"] if task["state"] == "failed"]
        return [(task["task_id"], self._error(run_id, task)) for task in failed]

    def _error(self, run_id: str, task: dict) -> str:
        path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        lines = self.api("GET", path, params={"map_index": task["map_index"]})["content"]
        errors = []
        for line in lines:
            for error in line.get("error_detail") or () if isinstance(line, dict) else ():
                errors.append(f"{error['exc_type']}: {error['exc_value']}")
        return errors[-1] if errors else "its log has no error; it may have been killed"

    def _migrate(self) -> None:
        """Create or update Airflow's database, once per version of Airflow."""
        stamp = self.home / "migrated"
        if stamp.exists() and stamp.read_text() == version("apache-airflow"):
            return
        with open(self.log("migrate"), "wb") as output:
            migration = subprocess.run(
                [sys.executable, "-P", "-m", "airflow", "db", "migrate"],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if migration.returncode:
            raise AirflowProblem(f"`airflow db migrate` failed:\n{_tail(self.log('migrate'))}")
        stamp.write_text(version("apache-airflow"))

    def _wait_until_ready(self) -> None:
        """Wait until the scheduler is healthy and the training DAG is parsed."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.check_alive()
            try:
                health = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
                if health["scheduler"]["status"] == "healthy" and self._has_dag():
                    break
            except (requests.RequestException, AirflowProblem, ValueError):
                pass
            if time.monotonic() > deadline:
                errors = _tail(self.log("dag-processor"))
                raise AirflowProblem(
                    f"Airflow was not ready after {START_SECONDS} s; the log of its DAG processor ends with:\n{errors}"
                )
            time.sleep(POLL_SECONDS)
        self._create_pools()

    def _create_pools(self) -> None:
        """Create the pools of the DAGs, or set them to the number of cores."""
        existing = {pool["name"] for pool in self.api("GET", "/pools", patience=PATIENCE_SECONDS)["pools"]}
        for name, description in POOLS.items():
            pool = {"name": name, "slots": os.cpu_count() or 1, "description": description}
            if name in existing:
                self.api("PATCH", f"/pools/{name}", patience=PATIENCE_SECONDS, json=pool | {"include_deferred": False})
            else:
                self.api("POST", "/pools", patience=PATIENCE_SECONDS, json=pool)

    def _has_dag(self) -> bool:
        return any(dag["dag_id"] == DAG_ID for dag in self.api("GET", "/dags")["dags"])


def leftovers(home: Path) -> list[psutil.Process]:
    """The processes of an Airflow that was started here from this home: components, workers and tasks.

    Processes that this process descends from are not among them.
    """
    this = psutil.Process()
    spared = {this.pid, *(parent.pid for parent in this.parents())}
    same_home = os.path.realpath(home)
    return [
        process
        for process in psutil.process_iter(["environ"])
        if process.pid not in spared
        and MARK in (variables := process.info["environ"] or {})  # None: of another user
        and os.path.realpath(variables["AIRFLOW_HOME"]) == same_home
    ]


def end_leftovers(home: Path) -> None:
    """End what is left of an Airflow whose launcher was killed. Call it only while holding the lock of the home."""
    while processes := leftovers(home):  # again: one of them may have started another meanwhile
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=STOP_SECONDS)


def _signal_group(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _tail(file: Path, lines: int = 15) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else "(no output)"


def free_port(preferred: int = 0) -> int:
    """``preferred`` if it is free, otherwise any free port of the loopback interface.

    Raises
    ------
    AirflowProblem
        If there is none.
    """
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
    raise AirflowProblem("no free port on 127.0.0.1")
