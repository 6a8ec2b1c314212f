"""Draw the pictures of the dashboards from real runs: three trainings on RAVDESS, scored and labelled batches, and
requests to `emotion serve`.

    .venv/bin/python docs/take_dashboards.py FOLDER

FOLDER contains Actor_NN/*.wav. Two thirds of the actors are trained on. The others are scored in six batches, and the
clips of the review's queues are labelled as their names say. Then `emotion serve` gets the same clips for four minutes.
The script starts StatsD, Graphite and Airflow on loopback ports, runs the three DAGs and the service, and draws the
metrics that they sent. It takes about sixteen minutes on two cores. No Grafana is needed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / part) for part in ("tests/support", "grafana", "docs/benchmarks")]
import pictures  # noqa: E402
import serving  # noqa: E402

import graphite_stack  # noqa: E402
from emotion.commands.local_airflow import LocalAirflow, free_port  # noqa: E402
from emotion.datasets.rules import RAVDESS, read_name  # noqa: E402
from emotion.review import labels, queue  # noqa: E402
from emotion.review.labels import Label  # noqa: E402
from emotion.store import Store  # noqa: E402

BATCHES = 6
EMOTION = [sys.executable, "-m", "emotion"]


def run(airflow: LocalAirflow, dag: str, name: str, conf: dict) -> None:
    """Trigger a run of a DAG and wait until it has succeeded."""
    airflow.api("PATCH", f"/dags/{dag}", params={"update_mask": "is_paused"}, json={"is_paused": False})
    airflow.api("POST", f"/dags/{dag}/dagRuns", json={"dag_run_id": name, "logical_date": None, "conf": conf})
    while (state := airflow.api("GET", f"/dags/{dag}/dagRuns/{name}")["state"]) not in ("success", "failed"):
        airflow.check_alive()
        time.sleep(1)
    print(f"{dag} {name}: {state}", flush=True)
    if state == "failed":
        raise SystemExit(airflow.failures(name))


def fill(base: Path, recordings: Path) -> None:
    """Copy two thirds of the actors to ``recordings``, and make batches of the others in ``inbox``; the first gets a
    text file, and noise is added to the last."""
    inbox, actors = base / "inbox", sorted(recordings.glob("Actor_*"))
    for actor in actors:
        if actor not in actors[2::3]:
            shutil.copytree(actor, base / "recordings" / actor.name)
    for number, actor in enumerate(actors[2::3]):
        target = inbox / f"batch-{number % BATCHES}" / actor.name
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(actor.glob("*.wav")):
            if number % BATCHES < BATCHES - 1:
                shutil.copy(path, target)
                continue
            samples, rate = soundfile.read(path)
            noise = np.random.default_rng(number).normal(size=samples.shape) * np.sqrt((samples**2).mean() / 30)
            soundfile.write(target / path.name, samples + noise, rate)
    (inbox / "batch-0" / "notes.wav").write_text("not a recording")


def label_queues(store: Store) -> None:
    """Label the clips of all queues with the emotion that their names say."""
    for clips_of_batch in queue.read_all(store):
        for item in clips_of_batch.items:
            emotion = read_name(RAVDESS, Path(item.path).stem)["emotion"]
            labels.add(store, Label(item.batch, item.audio, "listener", emotion))


@contextmanager
def service_in_use(home: Path, clips: list[Path], statsd: tuple[str, int]) -> Iterator[None]:
    """A service that was sent clips and live audio for four minutes: one file in twenty was no recording, and for a
    moment clips came faster than they were answered. Another model became the champion, then the one before again."""
    environment = os.environ | {"EMOTION_HOME": str(home), "EMOTION_STATSD": f"{statsd[0]}:{statsd[1]}"}
    bodies = [b"not a recording" if number % 20 == 0 else clip.read_bytes() for number, clip in enumerate(clips)]
    call = home.with_name("call.wav")
    samples = np.concatenate([soundfile.read(clip, dtype="int16", always_2d=True)[0][:, 0] for clip in clips[:50]])
    soundfile.write(call, samples, soundfile.info(clips[0]).samplerate)
    version = json.loads((home / "models" / "champion.json").read_text())["version"]
    promote = ["promote", version, "--family", "logistic_regression", "--reason", "a smaller model"]
    with subprocess.Popen([*EMOTION, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE) as service:
        try:
            port = int(service.stdout.readline().rpartition(b":")[2])
            serving.wait_until_ready(port)
            listen = [sys.executable, PROJECT / "docs" / "live_client.py", call, f"ws://127.0.0.1:{port}/stream"]
            callers = [subprocess.Popen(listen, stdout=subprocess.DEVNULL) for _ in range(3)]
            send(port, bodies, rate=10, seconds=60)
            subprocess.run([*EMOTION, *promote], env=environment, check=True)
            send(port, bodies, rate=20, seconds=60)
            callers.pop().terminate()  # hangs up
            send(port, bodies, rate=300, seconds=1)
            send(port, bodies, rate=20, seconds=60)
            subprocess.run([*EMOTION, "rollback"], env=environment, check=True)
            send(port, bodies, rate=10, seconds=60)
            for caller in callers:
                caller.wait()
            yield
        finally:
            service.terminate()


def send(port: int, bodies: list[bytes], *, rate: float, seconds: float) -> None:
    """Post so many recordings a second to the service."""
    asyncio.run(serving.fixed_rate(serving.Client(port), bodies, seconds, rate))


def draw(graphite_url: str, *, since: float, scored_since: float) -> None:
    """Draw every dashboard for the time from the Unix time ``since`` until now, and *Scoring* from ``scored_since``."""
    for file in sorted((PROJECT / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            if "60d" in str(panel.get("targets")):  # a value an hour, and Graphite cannot draw a single value
                panel["timeFrom"] = "3h"
        seconds = time.time() - (scored_since if file.stem == "scoring" else since)
        dashboard["time"]["from"] = f"now-{int(seconds) // 60 + 1}min"
        target = PROJECT / "docs" / "pictures" / f"dashboard_{file.stem}.png"
        pictures.draw(graphite_url, dashboard).quantize(64).save(target, optimize=True)
        print(target, flush=True)


def main(recordings: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, graphite_stack.running(Path(scratch) / "graphite") as graphite:
        base, start = Path(scratch), time.time()
        fill(base, recordings)
        environment = graphite.airflow_environment | {
            "EMOTION_HOME": str(base / "home"),
            "EMOTION_RECORDINGS": str(base / "recordings"),
            "EMOTION_INBOXES": str(base / "inbox"),
            "EMOTION_TRAINING_SCHEDULE": "",
            "EMOTION_SCORING_SCHEDULE": "",
            "EMOTION_REVIEW_SCHEDULE": "",
            "PYTHONPATH": str(PROJECT / "plugins"),
        }
        airflow = LocalAirflow(base / "airflow", free_port(), environment)
        with airflow.running("scheduler", "dag-processor", "triggerer"):
            for seed in range(3):
                conf = {"source": str(base / "recordings"), "seed": seed}
                run(airflow, "emotion_training", f"seed-{seed}", conf)
            scored_since = time.time()
            for number in range(BATCHES):
                conf = {"folder": f"batch-{number}", "settle_seconds": 0, "speakers": "subfolder"}
                run(airflow, "emotion_scoring", f"batch-{number}", conf)
            label_queues(Store(str(base / "home")))
            run(airflow, "emotion_review", "labels", {"least_new_labels": 10_000})
            clips = sorted(path for path in (base / "inbox").rglob("*.wav") if path.name != "notes.wav")
            with service_in_use(base / "home", clips, graphite.statsd):
                time.sleep(2 * graphite_stack.FLUSH_SECONDS)
                graphite.settle()
                draw(graphite.url, since=start, scored_since=scored_since)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
