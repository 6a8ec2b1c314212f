"""DAGs under a real scheduler: the training killed in mid-run, run again, asking a person; questions alone; and labels
that start a training."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from emotion.commands.local_airflow import DAG_ID, AirflowProblem, LocalAirflow, free_port
from emotion.datasets import importing
from emotion.models import registry
from emotion.runs.run import run_folder
from emotion.settings import INCLUDE, PROJECT
from emotion.store import Store
from emotion.vocabulary import PROTOCOLS
from mail_server import body, mail_server
from question_dags import AT_ONCE
from review_data import label_all, make_queue

pytestmark = pytest.mark.airflow

CONF = {"datasets": ["synthesized"], "clips_per_shard": 20, "explained_clips": 16, "stress_clips": 12}
SPEAKERS = 6


@pytest.fixture(scope="module")
def mails():
    """What the mail server of the connection ``emotion_notify`` got."""
    with mail_server() as (connection, mails):
        os.environ["AIRFLOW_CONN_EMOTION_NOTIFY"] = connection
        yield mails
        del os.environ["AIRFLOW_CONN_EMOTION_NOTIFY"]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, mails):
    base = tmp_path_factory.mktemp("end-to-end")
    catalogue = yaml.safe_load((INCLUDE / "datasets.yaml").read_text())
    catalogue["synthesized"]["speakers"] = SPEAKERS
    (base / "datasets.yaml").write_text(yaml.safe_dump(catalogue))
    dags = shutil.copytree(INCLUDE.parent / "dags", base / "dags")
    shutil.copy(PROJECT / "tests" / "support" / "question_dags.py", dags)
    extra = {
        "EMOTION_HOME": str(base / "home"),
        "EMOTION_DATASETS": str(base / "datasets.yaml"),
        "EMOTION_TRAINING_SCHEDULE": "",
        "EMOTION_SCORING_SCHEDULE": "",
        "EMOTION_REVIEW_SCHEDULE": "",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(INCLUDE.parent / "plugins"),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    }
    local = LocalAirflow(base / "airflow", free_port(), extra)
    with local.running("scheduler", "dag-processor"):
        yield local
    left = [process for process in psutil.process_iter(["environ"]) if _belongs(process, local)]
    assert not left, f"still running: {left}"


def _belongs(process: psutil.Process, local: LocalAirflow) -> bool:
    return (process.info["environ"] or {}).get("AIRFLOW_HOME") == str(local.home)


@pytest.fixture(scope="module")
def store(airflow) -> Store:
    return Store(airflow.env["EMOTION_HOME"])


def wait_for(condition, *, seconds: float, what: str, every: float = 0.2):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(every)
    return found


def finish(airflow: LocalAirflow, run_id: str, *, seconds: float = 400) -> None:
    """Wait for the run's end; it must be green."""
    wait_for(lambda: airflow.state(run_id) in ("success", "failed"), seconds=seconds, what=f"the end of {run_id}")
    assert airflow.state(run_id) == "success", airflow.failures(run_id)


def stored_shards(store: Store, folder: str = "features") -> dict[str, tuple[int, int]]:
    """Every shard of features, with what changes if it is written again."""
    facts = {key: os.stat(store.path(key)) for key in store.list(folder, "*.parquet")}
    return {key: (stat.st_ino, stat.st_mtime_ns) for key, stat in facts.items()}


def working_tasks(airflow: LocalAirflow) -> list[psutil.Process]:
    """The processes in which tasks run: workers' children."""
    scheduler = psutil.Process(airflow.processes["scheduler"].pid)
    return [process for worker in scheduler.children() for process in worker.children()]


def test_a_killed_task_and_a_killed_scheduler_lose_nothing(airflow, store):
    airflow.trigger(CONF, run_id="killed")
    wait_for(lambda: stored_shards(store), seconds=180, what="a first stored shard")
    for process in working_tasks(airflow):
        process.kill()
    wait_for(lambda: len(stored_shards(store)) >= 3, seconds=120, what="a third stored shard")
    os.killpg(airflow.processes["scheduler"].pid, signal.SIGKILL)
    airflow.processes["scheduler"].wait()
    before = stored_shards(store)
    clips = len(importing.read_manifest(store, "synthesized"))
    assert len(before) < clips / CONF["clips_per_shard"], "all was stored before anything was killed"

    airflow.start("scheduler")
    finish(airflow, "killed")

    after = stored_shards(store)
    assert {key: after[key] for key in before} == before, "a stored shard was written again"
    stored = pd.concat([store.read_table(key, ["sha256", "variant"]) for key in after])
    assert not stored.duplicated().any(), "a clip was featurized twice"
    assert stored["sha256"].nunique() == clips
    for name in ("comparison.json", "comparison.csv", "report.html", "rejected.csv", "decision.json"):
        assert store.exists(f"runs/killed/{name}")
    assert not list(Path(store.root).rglob(".writing-*"))
    assert registry.champion(store)["version"] == "killed"


def test_a_second_run_featurizes_nothing_and_asks_a_person(airflow, store, mails):
    before, before_stress = stored_shards(store), stored_shards(store, "conditions")
    assert len(before_stress) == 2, "twelve clips, eight in a shard"
    airflow.trigger(CONF | {"promotion": "ask", "min_probability": 0.5}, run_id="second")
    path = f"/dags/{DAG_ID}/dagRuns/second/taskInstances/ask_a_person"
    wait_for(
        lambda: airflow.api("GET", path)["state"] == "awaiting_input", seconds=300, what="the question to a person"
    )
    assert stored_shards(store) == before and stored_shards(store, "conditions") == before_stress
    assert store.read_json("runs/second/comparison.json")["models"].keys() == {
        "logistic_regression",
        "random_forest",
        "gradient_boosting",
        "ensemble",
    }
    first, second = (store.read_json(f"runs/{name}/comparison.json") for name in ("killed", "second"))
    for name, model in first["models"].items():
        for protocol in PROTOCOLS:
            assert second["models"][name][protocol] == model[protocol], "same data and seed, other figures"
        assert second["models"][name]["stress"] == model["stress"]
    assert first["stress"]["clips"] == 12 and first["stress"]["speakers"] == SPEAKERS
    assert registry.champion(store)["version"] == "killed", "promoted before anybody answered"

    (mail,) = [mail for mail in mails if mail["Subject"] == "Promote second?"]
    page = f"{airflow.url}/dags/{DAG_ID}/runs/second/tasks/ask_a_person/required_actions"
    assert f'<a href="{page}">' in body(mail) and "Keep the champion" in body(mail)

    answer = {"chosen_options": ["Promote the challenger"], "params_input": {}}
    airflow.api("PATCH", f"{path}/-1/hitlDetails", json=answer)
    finish(airflow, "second")
    assert registry.champion(store)["version"] == "second"
    assert store.read_json("runs/second/decision.json")["by"] == "a person"
    events = airflow.api("GET", "/assets/events")["asset_events"]
    assert [event["extra"]["version"] for event in events] == ["killed", "second"]


def test_bad_data_fails_at_once_with_its_own_error_and_people_are_told(airflow, store, mails):
    airflow.trigger(CONF | {"datasets": ["no-such-set"]}, run_id="bad")
    wait_for(lambda: airflow.state("bad") == "failed", seconds=60, what="the failure")
    ((task, error),) = airflow.failures("bad")
    assert task == "download"
    assert "no dataset 'no-such-set'" in error
    assert airflow.api("GET", f"/dags/{DAG_ID}/dagRuns/bad/taskInstances/download")["try_number"] == 1
    assert run_folder("bad") == "bad"
    failed = "Emotion training failed"
    wait_for(lambda: failed in [mail["Subject"] for mail in mails], seconds=60, what="a mail of the failure")
    (mail,) = [mail for mail in mails if mail["Subject"] == failed]
    assert "download" in body(mail) and f"{airflow.url}/dags/{DAG_ID}/runs/bad" in body(mail)


class Questions:
    """The run of the DAG in ``question_dags.py``."""

    path = "/dags/questions/dagRuns/run"

    def __init__(self, airflow: LocalAirflow):
        self.airflow = airflow
        airflow.api("POST", "/dags/questions/dagRuns", json={"dag_run_id": "run", "logical_date": None})

    def open(self) -> dict[str, str]:
        """Each task whose question has no answer, with its state."""
        query = {"response_received": "false", "limit": 100}
        details = self.airflow.api("GET", f"{self.path}/hitlDetails", params=query)["hitl_details"]
        return {detail["task_instance"]["task_id"]: detail["task_instance"]["state"] for detail in details}

    def answer_when(self, states: dict[str, str], option: str) -> None:
        """Answer each of these questions once, as soon as its task is in that state."""
        answered = set()

        def all_answered() -> bool:
            for task_id, state in self.open().items():
                if states.get(task_id) == state and self._answer(task_id, option):
                    assert task_id not in answered, f"{task_id} asked again"
                    answered.add(task_id)
            return answered == states.keys()

        wait_for(all_answered, seconds=120, what=f"all of {states}", every=0.02)

    def _answer(self, task_id: str, option: str) -> bool:
        body = {"chosen_options": [option], "params_input": {}}
        try:
            self.airflow.api("PATCH", f"{self.path}/taskInstances/{task_id}/-1/hitlDetails", json=body)
        except AirflowProblem as error:  # SQLite takes one writer at a time; the answer is refused and nothing stored
            assert "Database error" in str(error)
            return False
        return True

    def finish(self) -> dict[str, tuple[str, int]]:
        """Wait for the end of the run; state and try number of each task."""

        def finished() -> bool:
            return self.airflow.api("GET", self.path)["state"] in ("success", "failed")

        wait_for(finished, seconds=120, what="the end of the questions")
        tasks = self.airflow.api("GET", f"{self.path}/taskInstances")["task_instances"]
        return {task["task_id"]: (task["state"], task["try_number"]) for task in tasks}

    def result(self, task_id: str) -> tuple[list[str], bool]:
        """The chosen options that the task returned, and whether a person chose them."""
        value = self.airflow.api("GET", f"{self.path}/taskInstances/{task_id}/xcomEntries/return_value")["value"]
        return value["chosen_options"], value["responded_by_user"] is not None


def told_of(mails) -> list[str]:
    """The subjects of the mails on the questions of ``question_dags.py``."""
    return [mail["Subject"] for mail in mails if "It is a 42." in body(mail)]


def test_an_answer_counts_however_soon_and_whatever_happens_to_its_task(airflow, mails):
    questions = Questions(airflow)
    states = dict.fromkeys([*AT_ONCE, "killed_when_answered"], "awaiting_input")
    questions.answer_when(states | {"killed_while_asking": "up_for_retry"}, "yes")
    reminded = ["Late?", "Killed?", "Unanswered?"]
    subjects = [*reminded, *(f"Still unanswered: {subject}" for subject in reminded)]
    wait_for(lambda: len(told_of(mails)) >= len(subjects), seconds=120, what="the reminders")
    questions.answer_when(dict.fromkeys(["answered_late", "killed_before_reminding"], "awaiting_input"), "yes")
    tries = dict.fromkeys([*AT_ONCE, "unanswered", "reminded", "answered_late"], 1)
    tries |= {"killed_when_answered": 2, "killed_while_asking": 2, "killed_before_reminding": 2}
    assert questions.finish() == {task_id: ("success", number) for task_id, number in tries.items()}
    for task_id in tries:
        if task_id in ("unanswered", "reminded"):
            assert questions.result(task_id) == (["no"], False), "the default, which nobody chose"
        else:
            assert questions.result(task_id) == (["yes"], True), task_id
    assert sorted(told_of(mails)) == sorted(subjects), "people are told once, and reminded once"

    cleared = {"dry_run": False, "task_ids": [AT_ONCE[0]], "dag_run_id": "run", "only_failed": False}
    airflow.api("POST", "/dags/questions/clearTaskInstances", json=cleared)
    questions.answer_when({AT_ONCE[0]: "awaiting_input"}, "no")
    assert questions.finish()[AT_ONCE[0]] == ("success", 2)
    assert questions.result(AT_ONCE[0]) == (["no"], True), "the task was cleared: it asks again"


def review(airflow: LocalAirflow, run_id: str) -> dict[str, str]:
    """Run the review DAG once; the state of each task."""
    path = f"/dags/emotion_review/dagRuns/{run_id}"
    body = {"dag_run_id": run_id, "logical_date": None, "conf": {"least_new_labels": 10}}
    airflow.api("POST", "/dags/emotion_review/dagRuns", json=body)
    wait_for(
        lambda: airflow.api("GET", path)["state"] in ("success", "failed"), seconds=200, what=f"the end of {run_id}"
    )
    tasks = airflow.api("GET", f"{path}/taskInstances")["task_instances"]
    return {task["task_id"]: task["state"] for task in tasks}


def test_labels_start_a_training_once(airflow, store):
    label_all(store, make_queue(store, "monday", range(10)), ["sad", "happy"] * 5)
    assert set(review(airflow, "review-1").values()) == {"success"}
    runs = f"/dags/{DAG_ID}/dagRuns"
    (started,) = [run for run in airflow.api("GET", runs)["dag_runs"] if run["dag_run_id"].startswith("reviewed-10-")]
    assert started["conf"] == {"datasets": ["synthesized", "reviewed"], "sources": {}, "promotion": "ask"}
    airflow.api("PATCH", f"{runs}/{started['dag_run_id']}", json={"state": "failed"})
    states = review(airflow, "review-2")
    skipped = dict.fromkeys(("announce_reviews", "weigh_training", "start_training"), "skipped")
    assert states == dict.fromkeys(("measure_accuracy", "expire_audio", "count_new_labels"), "success") | skipped
    extras = [event["extra"] for event in airflow.api("GET", "/assets/events")["asset_events"]]
    assert [(extra["new"], extra["usable"]) for extra in extras if "usable" in extra] == [(10, 10)]
