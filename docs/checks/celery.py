"""The training DAG on PostgreSQL, Redis and two Celery workers, all real; one worker is killed in mid-shard.

    apt-get install postgresql redis-server
    pip install -r requirements.txt -r requirements-server.txt
    python docs/checks/celery.py [folder]

Ends with code 0 if the run succeeds, shards ran on both workers, the killed worker's shard was taken over by
the other and every clip of the corpus is in the feature table exactly once.
"""

import json
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from celery_stack import LIMIT_SECONDS, celery_stack, small_catalogue, tasks, wait_for

from emotion.commands.local_airflow import AirflowProblem
from emotion.store import Store

RUN = "celery-check"
CONF = {"datasets": ["synthesized"], "clips_per_shard": 12, "explained_clips": 16, "stress_clips": 8}
SPEAKERS = 6


def main() -> None:
    """See the module's docstring."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="celery-check-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        "EMOTION_DATASETS": small_catalogue(folder, SPEAKERS),
        "EMOTION_HOME": str(folder / "artifacts"),
    }
    with celery_stack(folder, variables) as stack:
        airflow = stack.airflow
        airflow.trigger(CONF, run_id=RUN)
        began = time.monotonic()

        def victim() -> dict | None:
            """A shard at work on worker-a, once each worker has finished one."""
            shards = [task for task in tasks(airflow, RUN) if task["task_id"] == "featurize"]
            if {task["hostname"] for task in shards if task["state"] == "success"} != set(stack.workers):
                return None
            at_work = (task for task in shards if (task["hostname"], task["state"]) == ("worker-a", "running"))
            return next(at_work, None)

        killed = wait_for("the first shards", victim, LIMIT_SECONDS)
        stack.kill_worker("worker-a")
        print(f"{time.monotonic() - began:5.0f} s  killed worker-a in shard {killed['map_index']}", flush=True)
        while (state := airflow.state(RUN)) not in ("success", "failed"):
            airflow.check_alive()
            if time.monotonic() - began > LIMIT_SECONDS:
                raise AirflowProblem(f"still {state} after {LIMIT_SECONDS} s")
            time.sleep(2)
        print(f"{time.monotonic() - began:5.0f} s  the run's state: {state}", flush=True)
        done = tasks(airflow, RUN)

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
