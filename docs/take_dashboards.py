"""Draw the pictures of the dashboards from real runs: three trainings on RAVDESS, and six scored batches.

    .venv/bin/python docs/take_dashboards.py FOLDER

FOLDER contains Actor_NN/*.wav. The script starts StatsD, Graphite and Airflow on loopback ports, runs both DAGs, and
draws the metrics that they sent. It takes about twelve minutes on two cores. No Grafana is needed.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "tests" / "support"), str(PROJECT / "grafana")]
import pictures  # noqa: E402

import graphite_stack  # noqa: E402
from emotion.commands.local_airflow import LocalAirflow, free_port  # noqa: E402

BATCHES = 6


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


def fill(inbox: Path, recordings: Path) -> None:
    """Make batches of a few speakers each; the first gets a text file, and noise is added to the last."""
    for number, actor in enumerate(sorted(recordings.glob("Actor_*"))):
        target = inbox / f"batch-{number % BATCHES}" / actor.name
        for path in sorted(actor.glob("*.wav")):
            target.mkdir(parents=True, exist_ok=True)
            if number % BATCHES < BATCHES - 1:
                shutil.copy(path, target)
                continue
            samples, rate = soundfile.read(path)
            noise = np.random.default_rng(number).normal(size=samples.shape) * np.sqrt((samples**2).mean() / 30)
            soundfile.write(target / path.name, samples + noise, rate)
    (inbox / "batch-0" / "notes.wav").write_text("not a recording")


def draw(graphite_url: str, *, since: float) -> None:
    """Draw every dashboard for the time from the Unix time ``since`` until now."""
    for file in sorted((PROJECT / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text())
        dashboard["time"]["from"] = f"now-{int(time.time() - since) // 60 + 1}min"
        target = PROJECT / "docs" / "pictures" / f"dashboard_{file.stem}.png"
        pictures.draw(graphite_url, dashboard).quantize(64).save(target, optimize=True)
        print(target, flush=True)


def main(recordings: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, graphite_stack.running(Path(scratch) / "graphite") as graphite:
        base, start = Path(scratch), time.time()
        fill(base / "inbox", recordings)
        environment = graphite.airflow_environment | {
            "EMOTION_HOME": str(base / "home"),
            "EMOTION_RECORDINGS": str(recordings.absolute()),
            "EMOTION_INBOXES": str(base / "inbox"),
            "EMOTION_TRAINING_SCHEDULE": "",
            "EMOTION_SCORING_SCHEDULE": "",
            "EMOTION_REVIEW_SCHEDULE": "",
            "PYTHONPATH": str(PROJECT / "plugins"),
        }
        airflow = LocalAirflow(base / "airflow", free_port(), environment)
        with airflow.running("scheduler", "dag-processor", "triggerer"):
            for seed in range(3):
                run(airflow, "emotion_training", f"seed-{seed}", {"source": str(recordings.absolute()), "seed": seed})
            for number in range(BATCHES):
                conf = {"folder": f"batch-{number}", "settle_seconds": 0, "speakers": "subfolder"}
                run(airflow, "emotion_scoring", f"batch-{number}", conf)
            time.sleep(2 * graphite_stack.FLUSH_SECONDS)
            graphite.settle()
            draw(graphite.url, since=start)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
