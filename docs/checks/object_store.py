"""The whole workflow in a bucket, with a real scheduler and two Celery workers, compared with the same in a folder.

    apt-get install postgresql redis-server
    pip install -r requirements.txt -r requirements-server.txt
    python docs/checks/object_store.py [folder]

Three times: in a bucket, in a bucket whose server fails one call in ten (HTTP 500 and 503, connections that end without
an answer, after the work was done, or in the middle of an answer), and in a folder. Each time: training, where a worker
is killed in featurization and one in training; scoring of a folder; labels of two people at once; promotion and
roll-back at the command line; the report by Airflow's server. Prints a table, and ends with code 0 if all is right,
if the figures of the three are the same, and if the secret key is in no log and no artifact.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import requests
import soundfile
from celery_stack import LIMIT_SECONDS, Stack, celery_stack, small_catalogue, tasks, wait_for

from emotion.commands.local_airflow import DAG_ID, free_port
from emotion.models import registry
from emotion.review import assignment, labels, queue
from emotion.review.labels import Label
from emotion.settings import PROJECT
from emotion.store import Store

RUN, SCORING, BATCH = "object-store-check", "emotion_scoring", "folder-check"
CONF = {"datasets": ["synthesized"], "clips_per_shard": 24, "explained_clips": 8, "stress_clips": 8}
SPEAKERS = 5
FILES = 40
SECRET = "wJalr-the-secret-key-of-the-check"


@contextmanager
def s3(fail_every: int, log: Path):
    """An S3 server as a process of its own, with a bucket; yields the environment of its clients."""
    port = free_port()
    command = [sys.executable, str(PROJECT / "tests/support/object_store.py"), str(port), str(fail_every)]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "check",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        wait_for("the S3 server", lambda: requests.get(f"{variables['AWS_ENDPOINT_URL']}/failures", timeout=5).ok)
        os.environ.update(variables)
        from emotion.s3 import S3

        S3.clear_instance_cache()
        S3().mkdir("emotion")
        yield variables | {"EMOTION_HOME": "s3://emotion/home"}
    finally:
        process.terminate()
        process.wait(30)


def emotion(variables: dict[str, str], *arguments: str) -> str:
    """What the command line prints; a failure ends the check."""
    done = subprocess.run(
        [sys.executable, "-m", "emotion", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        sys.exit(f"FAILED: emotion {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def kill_at_work(stack: Stack, task_id: str) -> str:
    """Kill the worker that works on a task of this name, and start it again; returns which task it was."""

    def victim() -> dict | None:
        running = [task for task in tasks(stack.airflow, RUN) if task["state"] == "running"]
        return next((task for task in running if re.fullmatch(task_id, task["task_id"])), None)

    task = wait_for(f"a task {task_id}", victim, LIMIT_SECONDS)
    time.sleep(2)  # into its work
    stack.kill_worker(task["hostname"])
    stack.start_worker(task["hostname"])
    return f"{task['task_id']} {task['map_index']}"


def train(stack: Stack) -> dict:
    stack.airflow.trigger(CONF, run_id=RUN)
    killed = [kill_at_work(stack, "featurize"), kill_at_work(stack, "train_.*")]
    state = wait_for(
        "the training run",
        lambda: (state := stack.airflow.state(RUN)) in ("success", "failed") and state,
        LIMIT_SECONDS,
    )
    if state == "failed":
        sys.exit(f"FAILED: {stack.airflow.failures(RUN)}")
    tried_again = sum(task["try_number"] > 1 for task in tasks(stack.airflow, RUN))
    return {"killed in": ", ".join(killed), "tasks tried again": tried_again}


def score(stack: Stack, store: Store, inbox: Path) -> dict:
    folder = inbox / "calls"
    folder.mkdir(parents=True)
    for number, key in enumerate(store.list("datasets/synthesized/audio", "*.wav")[::3][:FILES]):
        with store.open(key) as file:
            samples, rate = soundfile.read(file)
        # A little faster: clips that a model was trained on are not drawn for a review.
        soundfile.write(folder / f"call-{number:03d}.wav", samples, round(1.05 * rate))
    api = stack.airflow.api
    api("PATCH", f"/dags/{SCORING}", params={"update_mask": "is_paused"}, json={"is_paused": False})
    conf = {"folder": "calls", "settle_seconds": 0, "review_clips": 12}
    api("POST", f"/dags/{SCORING}/dagRuns", json={"dag_run_id": BATCH, "logical_date": None, "conf": conf})
    path = f"/dags/{SCORING}/dagRuns/{BATCH}"
    ends = ("success", "failed")
    state = wait_for("the scoring", lambda: (s := api("GET", path)["state"]) in ends and s, LIMIT_SECONDS)
    summary = store.read_json(f"scores/{BATCH}/summary.json")
    return {"scoring": state, "files scored": summary["scored"], "failures of the batch": len(summary["failures"])}


def review(store: Store) -> dict:
    """Two people label all their clips, at the same time."""

    def listen(person: str) -> int:
        own = Store(store.root)
        count = 0
        while item := assignment.next_item(own, BATCH, person):
            labels.add(own, Label(BATCH, item.audio, person, "happy" if count % 2 else "sad"))
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        given = list(pool.map(listen, ("ann", "ben")))
    standing = labels.standing(labels.read(store, BATCH))
    stored = sum(map(len, standing.values()))
    assert stored == sum(given) and len(standing) == len(queue.read(store, BATCH).items), (stored, given)
    return {"clips reviewed": len(standing), "labels": stored}


def promote_and_roll_back(variables: dict[str, str], store: Store) -> dict:
    first = registry.champion(store)
    other = next(name for name in ("random_forest", "logistic_regression") if name != first["family"])
    emotion(variables, "promote", first["version"], "--family", other, "--reason", "for the check")
    assert registry.champion(store)["family"] == other
    emotion(variables, "rollback", "--reason", "for the check")
    assert registry.champion(store)["family"] == first["family"]
    assert f"{first['version']}" in emotion(variables, "models")
    assert "Nothing is broken" in emotion(variables, "doctor")
    return {"history": " → ".join(past["decision"] for past in registry.history(store)), "champion": first["family"]}


def reports(stack: Stack) -> dict:
    """The reports of both runs through Airflow's server."""
    for dag, run in ((DAG_ID, RUN), (SCORING, BATCH)):
        url = f"{stack.airflow.url}/emotion/dags/{dag}/runs/{quote(run)}"
        session = requests.Session()
        token = session.get(f"{stack.airflow.url}/auth/token", timeout=30).json()["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"
        for part in ("", "/report"):
            answer = session.get(url + part, timeout=60)
            assert answer.status_code == 200, (url + part, answer.status_code, answer.text[:500])
        assert "<h1" in answer.text
    return {"reports, HTTP": "200, 200"}


def figures(store: Store) -> dict:
    """What must be the same wherever it is stored."""
    version = registry.versions(store)[0]
    predictions = store.read_table(f"scores/{BATCH}/predictions.parquet")
    probabilities = predictions.sort_values("path").filter(regex="^p_").to_numpy()
    assert len(probabilities) == FILES and probabilities.shape[1] > 1
    held_out = store.read_table(f"models/{version['version']}/held_out_predictions.parquet")
    return {
        "scores": version["scores"],
        "held-out predictions": held_out.to_csv(index=False),
        "probabilities": probabilities.tolist(),
        "champion": version["selected"],
    }


def places_with_secret(folder: Path, store: Store) -> list[str]:
    """The logs and artifacts that hold the secret key."""
    needle = SECRET.encode()
    logs = [path for path in folder.rglob("*") if path.is_file() and "postgres/data" not in str(path)]
    found = [str(path) for path in logs if needle in path.read_bytes()]
    artifacts = store.read_many(store.list(""))
    assert len(artifacts) > 100, len(artifacts)
    return found + [path for path, content in artifacts.items() if needle in content]


def check_place(place: str, variables: dict[str, str], folder: Path) -> tuple[dict, dict]:
    began = time.monotonic()
    inbox = folder / "inbox"
    inbox.mkdir(parents=True)
    variables = variables | {
        "EMOTION_DATASETS": small_catalogue(folder, SPEAKERS),
        "EMOTION_INBOXES": str(inbox),
    }
    store = Store(variables["EMOTION_HOME"])
    row: dict = {"place": place}
    with celery_stack(folder, variables) as stack:
        for step in (
            lambda: train(stack),
            lambda: score(stack, store, inbox),
            lambda: review(store),
            lambda: promote_and_roll_back(variables, store),
            lambda: reports(stack),
        ):
            row |= step()
            print(f"{time.monotonic() - began:5.0f} s  {place}: {row}", flush=True)
    leaks = places_with_secret(folder, store)
    assert not leaks, leaks
    row |= {"files with the secret": len(leaks), "seconds": round(time.monotonic() - began)}
    return row, figures(store)


def main() -> None:
    """See the module's docstring."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    base = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="object-store-check-")).absolute()
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o755)
    rows, results = [], []
    for place, fail_every in (("bucket", 0), ("failing bucket", 10), ("folder", None)):
        folder = base / place.replace(" ", "-")
        folder.mkdir()
        if fail_every is None:
            row, result = check_place(place, {"EMOTION_HOME": str(folder / "artifacts")}, folder)
        else:
            with s3(fail_every, base / f"{place}.log") as variables:
                row, result = check_place(place, variables, folder)
                calls = requests.get(f"{variables['AWS_ENDPOINT_URL']}/failures", timeout=30).json()
                row |= {"calls": calls["calls"], "failed calls": sum(calls["failures"].values())}
        rows.append(row)
        results.append(result)
    for name in dict.fromkeys(key for row in rows for key in row):
        print(f"{name:24}" + "".join(f"  {row.get(name, '')!s:28}" for row in rows))
    different = [name for name in results[0] if any(result[name] != results[0][name] for result in results)]
    assert not different, f"these are not the same in all places: {different}"
    print("OK: the figures of all models and all predictions are the same in the three places")
    print(json.dumps({"selected": results[0]["champion"]}))


if __name__ == "__main__":
    main()
