"""Airflow on this machine alone: a scheduler, a DAG processor and an API server on SQLite, for the Makefile.

``demo`` and ``train`` start them, run ``emotion_training`` once, tell how far it is, print what came out and stop
everything; ``serve`` keeps them running until Ctrl-C. State lies in ``.airflow/`` (``AIRFLOW_HOME``), artifacts in
``emotion-home/`` (``EMOTION_HOME``).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import requests

from emotion import datasets, download, progress
from emotion.catalogue import find_entry
from emotion.errors import EmotionError
from emotion.settings import PROJECT, Settings
from emotion.store import Store, run_folder

DAG_ID = "emotion_training"
POOLS = {"emotion_featurize": "Featurization: one slot a core", "emotion_scoring": "Scoring: one slot a core"}
START_SECONDS = 120
STOP_SECONDS = 20
POLL_SECONDS = 0.5
QUIET_SECONDS = 5
FINISHED = ("success", "failed")


class AirflowProblem(EmotionError):
    """Airflow could not be started, or a run failed."""


def environment(home: Path, port: int) -> dict[str, str]:
    """What every process of this Airflow gets; what the user has set herself wins, but for home and port."""
    cores = os.cpu_count() or 1
    ours = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "emotion.airflow_executor.LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(max(3, cores)),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        # Tasks run side by side and fill the cores; a library that starts threads of its own only gets in the way.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(home / "matplotlib"),
    }
    bin_folder = str(Path(sys.executable).parent)
    fixed = {key: ours[key] for key in ("AIRFLOW_HOME", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL")}
    path = {"PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    return ours | dict(os.environ) | fixed | path


class LocalAirflow:
    """Airflow's processes on one port of the loopback interface.

    Parameters
    ----------
    home : Path
        ``AIRFLOW_HOME``: database, logs, settings.
    port : int
    extra : dict
        Environment variables on top of :func:`environment`.
    """

    def __init__(self, home: Path, port: int, extra: dict[str, str] | None = None):
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.env = environment(home, port) | (extra or {})
        self.processes: dict[str, subprocess.Popen] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business on the loopback interface

    @contextlib.contextmanager
    def running(self, *components: str) -> Iterator[LocalAirflow]:
        """Start the components (``scheduler``, ``dag-processor``, ``triggerer``; the API server always), wait until
        they answer, and stop them at the end, however it comes."""
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AirflowProblem(
                    f"another Airflow already runs from {self.home}: stop it first (Ctrl-C where `make airflow` runs)"
                ) from None
            try:
                self._migrate()
                self.start("api-server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1")
                for component in components:
                    self.start(component)
                self._wait_until_ready()
                yield self
            finally:
                self.stop()

    def start(self, component: str, *arguments: str) -> subprocess.Popen:
        """Start one component in a process group of its own, its output in ``<home>/<component>.log``."""
        # `python -m`: the script `airflow` names the interpreter that it was installed with, which may be another one.
        with open(self.log(component), "ab") as output:
            self.processes[component] = subprocess.Popen(
                [sys.executable, "-P", "-m", "airflow", component, *arguments],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.processes[component]

    def log(self, component: str) -> Path:
        """Where a component's output goes."""
        return self.home / f"{component}.log"

    def stop(self) -> None:
        """Stop all processes and what they have started."""
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

    def api(self, method: str, path: str, **arguments) -> dict:
        """Call Airflow's REST API (``/api/v2`` + path) and return its JSON."""
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self.url}/auth/token", timeout=30)
            token.raise_for_status()
            self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        response = self._session.request(method, f"{self.url}/api/v2{path}", timeout=30, **arguments)
        if not response.ok:
            raise AirflowProblem(f"{method} {path}: HTTP {response.status_code}: {response.text[:500]}")
        return response.json() if response.content else {}

    def trigger(self, conf: dict, *, run_id: str) -> None:
        """Start one run of the training DAG."""
        self.api("PATCH", f"/dags/{DAG_ID}", params={"update_mask": "is_paused"}, json={"is_paused": False})
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        self.api("POST", f"/dags/{DAG_ID}/dagRuns", json=body)

    def abandon_unfinished(self) -> list[str]:
        """Mark the training runs that an Airflow stopped in mid-run has left as failed; only one may be active."""
        query = {"state": ["queued", "running"]}
        left = [run["dag_run_id"] for run in self.api("GET", f"/dags/{DAG_ID}/dagRuns", params=query)["dag_runs"]]
        for run_id in left:
            self.api("PATCH", f"/dags/{DAG_ID}/dagRuns/{quote(run_id)}", json={"state": "failed"})
        return left

    def state(self, run_id: str) -> str:
        """The state of a run of the training DAG."""
        return self.api("GET", f"/dags/{DAG_ID}/dagRuns/{run_id}")["state"]

    def failures(self, run_id: str) -> list[tuple[str, str]]:
        """Each failed task of a run, with its own error."""
        found = self.api("GET", f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances", params={"limit": 1000})
        failed = [task for task in found["task_instances"] if task["state"] == "failed"]
        return [(task["task_id"], self._error(run_id, task)) for task in failed]

    def _error(self, run_id: str, task: dict) -> str:
        path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        lines = self.api("GET", path, params={"map_index": task["map_index"]})["content"]
        errors = []
        for line in lines:
            for error in line.get("error_detail") or () if isinstance(line, dict) else ():
                errors.append(f"{error['exc_type']}: {error['exc_value']}")
        return errors[-1] if errors else "it left no error in its log: was it killed?"

    def _migrate(self) -> None:
        stamp = self.home / "migrated"
        from importlib.metadata import version

        if stamp.exists() and stamp.read_text() == version("apache-airflow"):
            return
        with open(self.log("migrate"), "wb") as output:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "airflow", "db", "migrate"],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            raise AirflowProblem(f"`airflow db migrate` failed:\n{_tail(self.log('migrate'))}")
        stamp.write_text(version("apache-airflow"))

    def _wait_until_ready(self) -> None:
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
                    f"Airflow was not ready after {START_SECONDS} s; its DAG processor says:\n{errors}"
                )
            time.sleep(POLL_SECONDS)
        known = {pool["name"] for pool in self.api("GET", "/pools")["pools"]}
        for name, description in POOLS.items():
            pool = {"name": name, "slots": os.cpu_count() or 1, "description": description}
            if name in known:
                self.api("PATCH", f"/pools/{name}", json=pool | {"include_deferred": False})
            else:
                self.api("POST", "/pools", json=pool)

    def _has_dag(self) -> bool:
        return any(dag["dag_id"] == DAG_ID for dag in self.api("GET", "/dags")["dags"])


def _signal_group(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _tail(file: Path, lines: int = 15) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else "(nothing)"


def free_port(preferred: int = 0) -> int:
    """``preferred`` if nothing listens there, otherwise any free port of the loopback interface."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
    raise AirflowProblem("no free port on 127.0.0.1")


class Display:
    """Progress for people: one line that is drawn again on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last, self._shown = "", 0.0

    def show(self, text: str) -> None:
        """Say what is going on."""
        elapsed = time.monotonic() - self._start
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K[{elapsed:4.0f} s] {text}"[: width + 4], end="", flush=True)
        elif text.split(" ")[0] != self._last.split(" ")[0] or time.monotonic() - self._shown >= QUIET_SECONDS:
            print(f"[{elapsed:4.0f} s] {text}", flush=True)
            self._last, self._shown = text, time.monotonic()

    def done(self) -> None:
        """End the line that is drawn again and again."""
        if sys.stdout.isatty():
            print()


def describe(states: list[dict]) -> str:
    """The stages at work, with how far each is, in one line."""
    active = [state for state in states if state["finished"] is None]
    shown: dict[str, dict] = {}
    for state in states if active else ():
        stage = shown.setdefault(state["stage"], {"done": 0, "total": 0, "unit": state["unit"], "active": False})
        stage["done"] += state["done"]
        stage["total"] += state["total"]
        stage["active"] |= state["finished"] is None
    parts = []
    for name, stage in shown.items():
        if stage["active"]:
            amount = f" {_amount(stage)}" if stage["total"] else ""
            parts.append(name + amount)
    return " · ".join(parts)


def _amount(stage: dict) -> str:
    if stage["unit"] == "bytes":
        return f"{stage['done'] / 1e6:.0f} of {stage['total'] / 1e6:.0f} MB"
    return f"{stage['done']} of {stage['total']} {stage['unit']}".rstrip()


def run_training(airflow: LocalAirflow, settings: Settings, conf: dict, *, run_id: str) -> dict:
    """Trigger one training run, show its progress, and return its comparison, decision and times.

    Raises
    ------
    AirflowProblem
        With the failed tasks' own errors.
    """
    store, folder = Store(settings.home), f"runs/{run_folder(run_id)}"
    display = Display()
    began = time.monotonic()
    airflow.trigger(conf, run_id=run_id)
    while (state := airflow.state(run_id)) not in FINISHED:
        airflow.check_alive()
        display.show(describe(progress.read(store, f"{folder}/progress")) or "waiting for the scheduler")
        time.sleep(POLL_SECONDS)
    wall = time.monotonic() - began
    display.done()
    if state == "failed":
        errors = "\n".join(f"  {task}: {error}" for task, error in airflow.failures(run_id))
        raise AirflowProblem(f"the run failed:\n{errors}")
    return {
        "comparison": store.read_json(f"{folder}/comparison.json"),
        "decision": store.read_json(f"{folder}/decision.json"),
        "wall_seconds": wall,
        "work_seconds": progress.busy_seconds(progress.read(store, f"{folder}/progress")),
        "folder": store.url(folder),
    }


def report_run(found: dict) -> str:
    """What a person wants to know after a run."""
    from emotion.report import text_table

    comparison, decision = found["comparison"], found["decision"]
    wall, work = found["wall_seconds"], found["work_seconds"]
    lines = [
        "",
        text_table(comparison),
        "",
        f"Selected: {comparison['selected']}. {comparison['selection']['reason']}",
        f"Champion: {decision['decision']}. {' '.join(decision['reasons'])}",
        "",
        f"Report     {found['folder']}/report.html",
        f"Figures    {found['folder']}/comparison.json, comparison.csv; shap/, rejected.csv beside them",
        f"Models     {found['folder'].replace('/runs/', '/models/')}/",
        f"Time       {wall:.0f} s, of which {work:.0f} s work and {wall - work:.0f} s Airflow's own",
        "UI         make airflow, then http://127.0.0.1:8080",
    ]
    if comparison["notice"]:
        lines += ["", f"NOTE: {comparison['notice']}"]
    return "\n".join(lines)


def once(dataset: str, source: Path | None) -> None:
    """Start Airflow, train once, print what came out, stop everything."""
    extra = {"EMOTION_TRAINING_SCHEDULE": ""}  # this run only: one that falls due meanwhile would come first
    conf: dict = {"dataset": dataset}
    if source is not None:
        source = source.expanduser().absolute()
        recordings = os.environ.get("EMOTION_RECORDINGS")
        extra["EMOTION_RECORDINGS"] = os.pathsep.join(filter(None, [recordings, str(source)]))
        conf["source"] = str(source)
    settings = Settings.from_environment(os.environ | extra)
    entry = find_entry(settings.catalogue, dataset)
    if entry.kind == "zenodo" and source is None and not datasets.is_ready(Store(settings.home), settings, dataset):
        download.check_reachable(settings, entry)
    run_id = f"{dataset}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    print(f"Starting Airflow (logs in {airflow_home()})", flush=True)
    airflow = LocalAirflow(airflow_home(), free_port(), extra)
    with airflow.running("scheduler", "dag-processor"):
        for left in airflow.abandon_unfinished():
            print(f"Run {left} was stopped in mid-run; it is marked as failed, what it has stored is used")
        print(f"Running {DAG_ID} on {dataset}; watch it at {airflow.url}/dags/{DAG_ID}/runs/{run_id}", flush=True)
        found = run_training(airflow, settings, conf, run_id=run_id)
    print(report_run(found))


def serve() -> None:
    """Start Airflow and keep it until Ctrl-C."""
    port = free_port(int(os.environ.get("PORT", 8080)))
    airflow = LocalAirflow(airflow_home(), port)
    print("Starting Airflow …", flush=True)
    with airflow.running("scheduler", "dag-processor", "triggerer"):
        print(f"Airflow is ready: {airflow.url}   (logs in {airflow.home}; Ctrl-C stops it)", flush=True)
        while True:
            airflow.check_alive()
            time.sleep(1)


def airflow_home() -> Path:
    """``AIRFLOW_HOME``, or ``.airflow`` in the project."""
    return Path(os.environ.get("AIRFLOW_HOME") or PROJECT / ".airflow").absolute()


def main(arguments: list[str] | None = None) -> int:
    """The Makefile's door; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m emotion.local_airflow", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="train on the synthesized corpus")
    train = commands.add_parser("train", help="train on RAVDESS, or on another dataset of the catalogue")
    train.add_argument("--dataset", default="ravdess-speech")
    train.add_argument("--source", type=Path, help="folder or zip on disk, in place of a download")
    commands.add_parser("serve", help="UI and scheduler until Ctrl-C")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.command == "serve":
            serve()
        elif options.command == "demo":
            once("synthesized", None)
        else:
            once(options.dataset, options.source)
    except EmotionError as error:
        print(f"\nERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 0 if options.command == "serve" else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
