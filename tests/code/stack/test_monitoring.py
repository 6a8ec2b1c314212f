"""Dashboards and alerts with the metrics that a real Airflow and real runs send, from heartbeats to drift."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
import soundfile
import yaml

import graphite_stack
from emotion import settings
from emotion.commands.local_airflow import AirflowBusy, LocalAirflow, free_port
from emotion.datasets.rules import RAVDESS, read_name
from emotion.review import labels, queue
from emotion.review.labels import Label
from emotion.store import Store
from grafana_files import RULE_OF, state, unanswered

pytestmark = pytest.mark.airflow
MINUTES = 20
NOT_SENT = ("training.challenge", "training.dataset_score", "training.external", ".unheard_dataset", "emotion.serving.")
"""The first training has no champion to compare with, one dataset has no other to compare with, and no service runs."""


def run(airflow: LocalAirflow, dag: str, conf: dict) -> str:
    """Trigger a run and wait for its end; returns its state."""
    airflow.api("PATCH", f"/dags/{dag}", params={"update_mask": "is_paused"}, json={"is_paused": False})
    body = {"dag_run_id": "one", "logical_date": None, "conf": conf}
    airflow.api("POST", f"/dags/{dag}/dagRuns", json=body)
    end = time.monotonic() + 60 * MINUTES
    while time.monotonic() < end:
        airflow.check_alive()
        with contextlib.suppress(AirflowBusy):  # a busy machine
            run_state = airflow.api("GET", f"/dags/{dag}/dagRuns/one")["state"]
            if run_state in ("success", "failed"):
                return run_state
        time.sleep(1)
    pytest.fail(f"{dag} did not end within {MINUTES} minutes")


def catalogue(file: Path) -> Path:
    """A catalogue of one small synthesized dataset."""
    entry = yaml.safe_load((settings.INCLUDE / "datasets.yaml").read_text())["synthesized"]
    file.write_text(yaml.safe_dump({"synthesized": entry | {"speakers": 6}}))
    return file


def label_the_queue(store: Store) -> None:
    """Label each clip of the one queue with the emotion that was synthesized."""
    (clips_of_batch,) = queue.read_all(store)
    for item in clips_of_batch.items:
        emotion = read_name(RAVDESS, Path(item.path).stem)["emotion"]
        labels.add(store, Label(item.batch, item.audio, "ann", emotion))


def test_after_training_scoring_and_review_every_panel_and_alert_has_its_answer(tmp_path, installed_graphite):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with graphite_stack.running(tmp_path / "graphite") as graphite:
        environment = graphite.airflow_environment | {
            "EMOTION_HOME": str(tmp_path / "home"),
            "EMOTION_DATASETS": str(catalogue(tmp_path / "datasets.yaml")),
            "EMOTION_INBOXES": str(inbox),
            "EMOTION_TRAINING_SCHEDULE": "",
            "EMOTION_SCORING_SCHEDULE": "",
            "EMOTION_REVIEW_SCHEDULE": "",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(settings.PROJECT / "plugins"), os.environ.get("PYTHONPATH")])
            ),
        }
        home = tmp_path / "airflow"
        airflow = LocalAirflow(home, free_port(), environment | {"AIRFLOW_HOME": str(home)})
        with airflow.running("scheduler", "dag-processor", "triggerer"):
            training = {"datasets": ["synthesized"], "explained_clips": 24, "clips_per_shard": 64, "stress_clips": 12}
            assert run(airflow, "emotion_training", training) == "success", airflow.failures("one")
            clips = sorted((tmp_path / "home" / "datasets").rglob("*.wav"))[:40]
            for clip in clips:  # softer copies: clips that the model was trained on do not count for drift
                samples, rate = soundfile.read(clip)
                soundfile.write(inbox / clip.name, 0.8 * samples, rate)
            (inbox / "broken.wav").write_bytes(b"RIFF")
            assert run(airflow, "emotion_scoring", {"settle_seconds": 0}) == "success"
            label_the_queue(Store(str(tmp_path / "home")))
            assert run(airflow, "emotion_review", {}) == "success"
            time.sleep(2 * graphite_stack.FLUSH_SECONDS)
            graphite.settle()
            asked = [query for query in unanswered(graphite) if not any(metric in query for metric in NOT_SENT)]
            assert asked == []
            states = {uid: state(graphite, rule) for uid, rule in RULE_OF.items() if uid != "drift"}
            assert set(states.values()) == {"quiet"}, states
