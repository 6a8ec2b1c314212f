"""Policies that every DAG file keeps, and the exact graphs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from emotion.errors import BundleError, ConfigurationError, DataError
from emotion.settings import PROJECT
from emotion.vocabulary import FAMILIES

DAG_FILES = sorted((PROJECT / "dags").glob("*.py"))
HEAVY = ("sklearn", "shap", "librosa", "pandas", "numpy", "scipy", "matplotlib")
PARSE_SECONDS = 30  # half a second on a machine at rest; a regression worth the name costs more than this
TRAINS = [f"train_{family}" for family in FAMILIES]

GRAPHS = {
    "emotion_training": {
        "download": {"plan_shards"},
        "plan_shards": {"featurize"},
        "featurize": {"collect"},
        "collect": set(TRAINS),
        **{train: {"compare"} for train in TRAINS},
        "compare": {"explain"},
        "explain": {"register_challenger"},
        "register_challenger": {"who_decides"},
        "who_decides": {"ask_a_person", "promote"},
        "ask_a_person": {"promote"},
        "promote": {"announce_champion"},
        "announce_champion": set(),
    },
    "emotion_scoring": {
        "find_new_audio": {"score"},
        "score": {"collect_predictions"},
        "collect_predictions": {"watch_drift"},
        "watch_drift": set(),
    },
}

PARSE = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
start = time.monotonic()
bag = DagBag(sys.argv[1])
print("\\n" + json.dumps({
    "seconds": time.monotonic() - start,
    "errors": bag.import_errors,
    "dags": sorted(bag.dags),
    "modules": sorted(sys.modules),
}))
"""


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(PROJECT / "dags"))


@pytest.fixture(params=sorted(GRAPHS))
def dag(bag, request):
    return bag.dags[request.param]


def test_every_file_parses_alone_fast_and_light():
    """In a process of its own: what this one has imported says nothing about a DAG processor."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "plugins")}
    for name in ("EMOTION_TRAINING_SCHEDULE", "EMOTION_SCORING_SCHEDULE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(PROJECT / "dags")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["errors"] == {}
    assert found["dags"] == sorted(GRAPHS)
    assert not set(HEAVY) & set(found["modules"])
    assert found["seconds"] < PARSE_SECONDS


def test_graph(dag):
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == GRAPHS[dag.dag_id]


def test_dag_policies(dag):
    assert dag.doc_md and dag.description
    assert {"emotion", dag.dag_id.removeprefix("emotion_")} == set(dag.tags)
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.dagrun_timeout is not None


def test_task_policies(dag):
    for task in dag.tasks:
        assert task.owner == "emotion", task.task_id
        assert task.retries >= 2, task.task_id
        assert task.retry_exponential_backoff > 1, task.task_id
        if task.task_id == "ask_a_person":  # waits for a person, and no longer than this
            assert task.task_type == "QuestionOperator"
            assert task.response_timeout == timedelta(hours=24)
            assert task.defaults == ["Keep the champion"]
        else:
            assert task.execution_timeout is not None, task.task_id


def test_bad_data_is_not_tried_again(dag):
    for task in dag.tasks:
        rules = {rule.exception: rule.action.name for rule in task.retry_policy.rules}
        for error in (DataError, ConfigurationError, BundleError):
            assert rules[f"emotion.errors.{error.__name__}"] == "FAIL", task.task_id


def test_mapped_tasks_are_limited_by_pools_that_are_made(bag):
    from emotion.commands.local_airflow import POOLS

    pools = {task.task_id: task.pool for dag in bag.dags.values() for task in dag.tasks if task.is_mapped}
    assert pools == {"featurize": "emotion_featurize", "score": "emotion_scoring"}
    assert set(pools.values()) == set(POOLS)


def test_the_trigger_form_explains_itself(dag):
    dag.params.validate()
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.schema.get("title"), name
        assert "type" in param.schema or "enum" in param.schema, name
        if "enum" in param.schema:
            shown = param.schema.get("values_display", {choice: "" for choice in param.schema["enum"]})
            assert set(shown) == set(param.schema["enum"]), name


def test_defaults_do_not_change_between_parses(bag):
    """A changing default makes a new version of the DAG at every parse."""
    from airflow.dag_processing.dagbag import DagBag

    again = DagBag(str(PROJECT / "dags"))
    for dag_id, dag in bag.dags.items():
        assert dag.params.dump() == again.dags[dag_id].params.dump()


def test_an_empty_schedule_means_by_hand_only(monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("EMOTION_TRAINING_SCHEDULE", "")
    monkeypatch.setenv("EMOTION_SCORING_SCHEDULE", "")
    found = DagBag(str(PROJECT / "dags"))
    assert found.import_errors == {}
    assert {type(dag.timetable).__name__ for dag in found.dags.values()} == {"NullTimetable"}


def test_a_champion_is_announced_as_an_asset(bag):
    outlets = bag.dags["emotion_training"].get_task("announce_champion").outlets
    assert [asset.name for asset in outlets] == ["emotion_champion"]


def test_the_plugin_loader_stays_out_of_the_library():
    """It would execute each module as a plugin of its own, heavy imports and all."""
    ignored = (PROJECT / "plugins" / ".airflowignore").read_text().split()
    loose = [file.stem for file in (PROJECT / "plugins").glob("*.py") if file.stem != "emotion_plugin"]
    assert {"emotion/", "emotion_airflow/"} <= set(ignored) and not loose


@pytest.mark.parametrize("file", DAG_FILES, ids=lambda file: file.stem)
def test_dag_files_hold_no_work(file: Path):
    top_level = re.findall(r"^(?:from|import) (\w+)", file.read_text(), re.MULTILINE)
    assert set(top_level) <= {"__future__", "os", "datetime", "airflow"}
