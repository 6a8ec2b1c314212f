"""The training DAG on PostgreSQL, Redis and two Celery workers, all real; one worker is killed in mid-shard.

    apt-get install postgresql redis-server
    pip install -r requirements.txt -r requirements-server.txt
    python docs/checks/celery.py [folder]

Ends with code 0 if the run succeeds, shards ran on both workers, the killed worker's shard was taken over by
the other and every clip of the corpus is in the feature table exactly once.
"""

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import requests
import yaml
from cryptography.fernet import Fernet

from emotion.commands.local_airflow import DAG_ID, AirflowProblem, LocalAirflow, free_port
from emotion.settings import INCLUDE
from emotion.store import Store

RUN = "celery-check"
CONF = {"datasets": ["synthesized"], "clips_per_shard": 12, "explained_clips": 16, "stress_clips": 8}
SPEAKERS = 6
LIMIT_SECONDS = 1200


def wait_for(what, call, seconds: float = 90):
    """The first true answer of ``call``."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, subprocess.CalledProcessError, requests.RequestException):
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


def tasks(airflow: LocalAirflow) -> list[dict]:
    """The run's task instances."""
    path = f"/dags/{DAG_ID}/dagRuns/{RUN}/taskInstances"
    return airflow.api("GET", path, params={"limit": 1000})["task_instances"]


def main() -> None:
    """See the module's docstring."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="celery-check-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / "lib").mkdir()
    (folder / "lib/worker_name.py").write_text(
        "import os, socket\ndef name(): return os.environ.get('WORKER_NAME') or socket.gethostname()\n"
    )
    catalogue = yaml.safe_load((INCLUDE / "datasets.yaml").read_text())
    catalogue["synthesized"]["speakers"] = SPEAKERS
    (folder / "datasets.yaml").write_text(yaml.safe_dump(catalogue))
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
        "EMOTION_DATASETS": str(folder / "datasets.yaml"),
        "EMOTION_HOME": str(folder / "artifacts"),
        "EMOTION_TRAINING_SCHEDULE": "",
        "EMOTION_SCORING_SCHEDULE": "",
        "EMOTION_REVIEW_SCHEDULE": "",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder / "lib"), os.environ.get("PYTHONPATH")])),
    }
    airflow = LocalAirflow(folder / "airflow", free_port(), extra)
    others: list[subprocess.Popen] = []
    workers: dict[str, subprocess.Popen] = {}
    try:
        postgres(folder / "postgres", database, others)
        redis = [
            "redis-server",
            "--port",
            str(broker),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(folder),
        ]
        others.append(subprocess.Popen(redis, stdout=subprocess.DEVNULL))
        with airflow.running("scheduler", "dag-processor", "triggerer"):
            workers = {name: worker(airflow, name) for name in ("worker-a", "worker-b")}
            airflow.trigger(CONF, run_id=RUN)
            began = time.monotonic()

            def victim() -> dict | None:
                """A shard at work on worker-a, once each worker has finished one."""
                shards = [task for task in tasks(airflow) if task["task_id"] == "featurize"]
                if {task["hostname"] for task in shards if task["state"] == "success"} != set(workers):
                    return None
                at_work = (task for task in shards if (task["hostname"], task["state"]) == ("worker-a", "running"))
                return next(at_work, None)

            killed = wait_for("the first shards", victim, LIMIT_SECONDS)
            os.killpg(workers["worker-a"].pid, signal.SIGKILL)
            print(
                f"{time.monotonic() - began:5.0f} s  killed worker-a in shard {killed['map_index']}",
                flush=True,
            )
            while (state := airflow.state(RUN)) not in ("success", "failed"):
                airflow.check_alive()
                if time.monotonic() - began > LIMIT_SECONDS:
                    raise AirflowProblem(f"still {state} after {LIMIT_SECONDS} s")
                time.sleep(2)
            print(f"{time.monotonic() - began:5.0f} s  the run's state: {state}", flush=True)
            done = tasks(airflow)
    finally:
        for process in workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in others:
            process.send_signal(signal.SIGINT)
            process.wait(30)

    shards = [task for task in done if task["task_id"] == "featurize"]
    again = next(task for task in shards if task["map_index"] == killed["map_index"])
    store = Store(str(folder / "artifacts"))
    table = store.read_table(f"runs/{RUN}/table.parquet")
    dataset = store.read_json(f"runs/{RUN}/dataset.json")
    found = {
        "state": state,
        "shards": dict(Counter(task["hostname"] for task in shards)),
        "killed shard": f"try {again['try_number']} on {again['hostname']}: {again['state']}",
        "clips of the corpus": dataset["unique"],
        "clips in the table": len(table),
        "models": sorted(Path(name).name for name in store.list(f"models/{RUN}", "*.pkl")),
    }
    print(json.dumps(found, indent=2))
    assert state == "success"
    assert set(found["shards"]) == {"worker-a", "worker-b"}
    assert (again["state"], again["hostname"]) == ("success", "worker-b") and again["try_number"] > 1
    assert len(table) == table["path"].nunique() == dataset["unique"]
    assert sum(name.endswith("_emotion_model.pkl") for name in found["models"]) == 4
    print("OK")


if __name__ == "__main__":
    main()
