"""Policies that every DAG file must keep, also one that is added later; and the exact graphs of the three DAGs."""

from __future__ import annotations

import importlib.util
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

DAG_FILES = sorted((PROJECT / "dags").glob("**/*.py"))
HEAVY = {"sklearn", "shap", "librosa", "pandas", "numpy", "scipy", "matplotlib"}
LIGHT = {"__future__", "os", "datetime", "typing", "airflow", "emotion_airflow"}
"""What a DAG file may import at its top."""
SCHEDULES = ("EMOTION_TRAINING_SCHEDULE", "EMOTION_SCORING_SCHEDULE", "EMOTION_REVIEW_SCHEDULE")
PARSE_SECONDS = 30  # half a second on a machine at rest; a regression worth the name costs more than this
TRAIN_TASKS = [f"train_{family}" for family in FAMILIES]

GRAPHS = {
    "emotion_training": {
        "download": {"plan_shards"},
        "plan_shards": {"featurize"},
        "featurize": {"collect"},
        "collect": {"plan_stress"},
        "plan_stress": {"featurize_stress"},
        "featurize_stress": {"collect_stress"},
        "collect_stress": set(TRAIN_TASKS),
        **{train: {"compare"} for train in TRAIN_TASKS},
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
        "watch_drift": {"announce_drift"},
        "announce_drift": set(),
    },
    "emotion_review": {
        "measure_accuracy": {"count_new_labels"},
        "expire_audio": {"count_new_labels"},
        "count_new_labels": {"announce_reviews", "weigh_training"},
        "announce_reviews": set(),
        "weigh_training": {"start_training"},
        "start_training": set(),
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

CARELESS = """
from airflow.sdk import Param, dag, task

@dag(params={"size": Param(3, type="string")}, max_active_runs=2, catchup=True)
def careless():
    @task(retries=0)
    def work(part): pass
    work.expand(part=[1, 2])
careless()
"""


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(PROJECT / "dags"))


# --- Policies -----------------------------------------------------------------------------------------------


def dag_says_what_it_does(dag):
    assert dag.doc_md and dag.description
    assert "emotion" in dag.tags and len(dag.tags) >= 2, "expected the tag emotion and one that says what it is for"


def runs_are_limited(dag):
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.dagrun_timeout is not None


def people_are_told_of_a_failed_run(dag):
    from emotion_airflow.notifications import TELL_OF_FAILURE

    assert dag.on_failure_callback is TELL_OF_FAILURE


def tasks_have_an_owner_and_a_description(dag):
    for task in dag.tasks:
        assert task.owner == "emotion", task.task_id
        question = getattr(task, "subject", None) and getattr(task, "body", None)  # a person reads these instead
        assert task.doc_md or question, task.task_id


def tasks_are_tried_again_with_growing_delays(dag):
    for task in dag.tasks:
        assert task.retries >= 2, task.task_id
        assert task.retry_exponential_backoff > 1, task.task_id
        assert task.max_retry_delay is not None, task.task_id


def tasks_fail_at_once_on_bad_data(dag):
    for task in dag.tasks:
        assert task.retry_policy is not None, task.task_id
        actions = {rule.exception: rule.action.name for rule in task.retry_policy.rules}
        for error in (DataError, ConfigurationError, BundleError):
            assert actions.get(f"emotion.errors.{error.__name__}") == "FAIL", task.task_id


def tasks_have_a_time_limit(dag):
    for task in dag.tasks:
        limit = getattr(task, "response_timeout", None) or task.execution_timeout  # of a person, or of a process
        assert limit is not None, task.task_id


def mapped_tasks_run_in_a_pool_that_is_made(dag):
    from emotion.commands.local_airflow import POOLS

    for task in dag.tasks:
        assert not task.is_mapped or task.pool in POOLS, task.task_id


def form_explains_every_parameter(dag):
    dag.params.validate()  # every default is valid: a scheduled run uses them
    for name in dag.params:
        param = dag.params.get_param(name)
        schema = param.schema
        assert schema.get("title"), name
        assert len(schema.get("description_md") or param.description or "") > 40, name
        assert "type" in schema or "enum" in schema, name
        if "enum" in schema:
            assert set(schema["values_display"]) == set(schema["enum"]), name
        if "number" in schema.get("type", ()) or "integer" in schema.get("type", ()):
            assert "minimum" in schema, name


POLICIES = (
    dag_says_what_it_does,
    runs_are_limited,
    people_are_told_of_a_failed_run,
    tasks_have_an_owner_and_a_description,
    tasks_are_tried_again_with_growing_delays,
    tasks_fail_at_once_on_bad_data,
    tasks_have_a_time_limit,
    mapped_tasks_run_in_a_pool_that_is_made,
    form_explains_every_parameter,
)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("file", DAG_FILES, ids=lambda file: file.stem)
def test_policy(bag, file, policy):
    policy(bag.dags[file.stem])


@pytest.fixture(scope="module")
def careless_dag(tmp_path_factory):
    from airflow.dag_processing.dagbag import DagBag

    folder = tmp_path_factory.mktemp("careless")
    (folder / "careless.py").write_text(CARELESS)
    return DagBag(str(folder)).dags["careless"]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_policy_refuses_a_careless_dag(careless_dag, policy):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises((AssertionError, ParamValidationError)):
        policy(careless_dag)


def test_the_question_waits_for_a_person_no_longer_than_a_day(bag):
    question = bag.dags["emotion_training"].get_task("ask_a_person")
    assert question.task_type == "QuestionOperator"
    assert question.response_timeout == timedelta(hours=24)
    assert question.defaults == ["Keep the champion"]


def test_people_are_told_of_the_question_and_again_four_hours_before_it_ends(bag):
    from emotion_airflow.notifications import TELL_OF_QUESTION

    question = bag.dags["emotion_training"].get_task("ask_a_person")
    assert question.notifiers == [TELL_OF_QUESTION]
    assert question.reminder == timedelta(hours=4)


@pytest.mark.parametrize(("variable", "expected"), [("", []), ("ann, bo", ["ann", "bo"])])
def test_a_variable_names_who_may_answer(monkeypatch, variable, expected):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("EMOTION_APPROVERS", variable)
    question = DagBag(str(PROJECT / "dags" / "emotion_training.py")).dags["emotion_training"].get_task("ask_a_person")
    assert [user["id"] for user in question.assigned_users] == expected


# --- Files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", DAG_FILES, ids=lambda file: file.stem)
def test_file_parses_alone_fast_and_light_and_defines_the_dag_of_its_name(file):
    """In a process of its own: what this one has imported says nothing about a DAG processor."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "plugins")}
    for name in SCHEDULES:
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", PARSE, str(file)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parsed = json.loads(done.stdout.splitlines()[-1])
    assert parsed["errors"] == {}
    assert parsed["dags"] == [file.stem]
    assert not HEAVY & set(parsed["modules"])
    assert parsed["seconds"] < PARSE_SECONDS


@pytest.mark.parametrize("file", DAG_FILES, ids=lambda file: file.stem)
def test_file_imports_nothing_heavy_at_its_top(file: Path):
    imports = re.findall(r"^(?:from|import) (\w+)", file.read_text(), re.MULTILINE)
    assert set(imports) <= LIGHT


def test_the_folder_gives_the_dags_of_its_files_and_no_error(bag):
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [file.stem for file in DAG_FILES]


def test_defaults_do_not_change_between_parses(bag):
    """A changing default makes a new version of the DAG at every parse."""
    from airflow.dag_processing.dagbag import DagBag

    again = DagBag(str(PROJECT / "dags"))
    for dag_id, dag in bag.dags.items():
        assert dag.params.dump() == again.dags[dag_id].params.dump()


# --- The three DAGs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dag_id", GRAPHS)
def test_graph(bag, dag_id):
    assert {task.task_id: set(task.downstream_task_ids) for task in bag.dags[dag_id].tasks} == GRAPHS[dag_id]


def test_an_empty_schedule_means_by_hand_only(monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    for name in SCHEDULES:
        monkeypatch.setenv(name, "")
    unscheduled = DagBag(str(PROJECT / "dags"))
    assert unscheduled.import_errors == {}
    assert {type(unscheduled.dags[dag_id].timetable).__name__ for dag_id in GRAPHS} == {"NullTimetable"}


def test_every_pool_that_is_made_limits_a_mapped_task(bag):
    from emotion.commands.local_airflow import POOLS

    pools = {task.task_id: task.pool for dag in bag.dags.values() for task in dag.tasks if task.is_mapped}
    assert set(pools.values()) == set(POOLS)
    assert pools.items() >= {"featurize": "emotion_featurize", "score": "emotion_scoring"}.items()


def test_no_answer_to_the_question_means_no(bag):
    question = bag.dags["emotion_training"].get_task("ask_a_person")
    assert question.response_timeout is not None
    assert question.defaults == ["Keep the champion"]


@pytest.mark.parametrize(
    ("dag_id", "task_id", "asset"),
    [
        ("emotion_training", "announce_champion", "emotion_champion"),
        ("emotion_scoring", "announce_drift", "emotion_drift"),
        ("emotion_review", "announce_reviews", "emotion_reviews"),
    ],
)
def test_news_is_announced_as_an_asset(bag, dag_id, task_id, asset):
    outlets = [(task.task_id, outlet.name) for task in bag.dags[dag_id].tasks for outlet in task.outlets]
    assert outlets == [(task_id, asset)]


def test_labels_start_a_training_whose_form_takes_what_it_is_given(bag):
    start = bag.dags["emotion_review"].get_task("start_training")
    assert (start.trigger_dag_id, start.skip_when_already_exists) == ("emotion_training", True)
    policy = bag.dags["emotion_review"].params.get_param("promotion")
    assert policy.schema["enum"] == bag.dags["emotion_training"].params.get_param("promotion").schema["enum"]
    trigger(bag, {"datasets": ["nemo", "reviewed"], "sources": {"nemo": "/x"}, "promotion": policy.value})


def test_the_plugin_loader_loads_the_plugin_alone():
    """It would execute each module as a plugin of its own, heavy imports and all."""
    plugins = PROJECT / "plugins"
    packages = {f"{file.parent.name}/" for file in plugins.glob("*/__init__.py")}
    assert set((plugins / ".airflowignore").read_text().split()) == packages
    assert [file.name for file in plugins.glob("*.py")] == ["emotion_plugin.py"]


def test_the_form_takes_no_clip_shorter_than_decoding_does(bag):
    from emotion.audio.decode import MAX_SECONDS, MIN_SECONDS

    params = bag.dags["emotion_training"].params
    assert params.get_param("min_seconds").schema["minimum"] == MIN_SECONDS
    assert params.get_param("max_seconds").schema["maximum"] == MAX_SECONDS


def test_the_scoring_form_offers_what_the_library_takes():
    from dataclasses import asdict

    from emotion.scoring.options import Options
    from emotion.vocabulary import CHANNELS, SEGMENTS
    from emotion_airflow.scoring_form import PARAMS

    assert {name: PARAMS[name].value for name in asdict(Options())} == asdict(Options())
    for name, words in (("channels", CHANNELS), ("segments", SEGMENTS)):
        assert tuple(PARAMS[name].schema["enum"]) == words == tuple(PARAMS[name].schema["values_display"])


# --- The datasets of a training run ---------------------------------------------------------------------------


def trigger(bag, conf: dict) -> dict:
    """The parameters of a run that is triggered with this JSON: as Airflow merges and validates them."""
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags["emotion_training"]))
    return dag.params.deep_merge(conf).validate()


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, {"datasets": ["ravdess-speech"], "sources": {}, "also_test_on": []}),
        (
            {"datasets": ["a", "b"], "sources": {"b": "x, y's"}, "also_test_on": ["c"]},
            {"datasets": ["a", "b"], "sources": {"b": "x, y's"}, "also_test_on": ["c"]},
        ),
        ({"dataset": "a", "source": "x"}, {"datasets": ["a"], "sources": {"a": "x"}, "also_test_on": []}),
        ({"dataset": "a", "source": ""}, {"datasets": ["a"], "sources": {}, "also_test_on": []}),
        ({"source": "x"}, {"datasets": ["ravdess-speech"], "sources": {"ravdess-speech": "x"}, "also_test_on": []}),
    ],
    ids=["defaults", "several", "old names", "old names without a source", "an old source alone"],
)
def test_the_datasets_of_a_triggered_run(bag, conf, expected):
    from emotion_airflow.training_form import chosen_datasets

    assert chosen_datasets(trigger(bag, conf)) == expected


@pytest.mark.parametrize(
    "conf",
    [
        {"datasets": []},
        {"datasets": "nemo"},
        {"datasets": [1]},
        {"datasets": [""]},
        {"datasets": None},
        {"sources": {"nemo": ""}},
        {"sources": {"nemo": 3}},
        {"sources": ["nemo"]},
        {"sources": "nemo=x"},
        {"also_test_on": "nemo"},
        {"also_test_on": [""]},
        {"also_test_on": [["nemo"]]},
    ],
    ids=str,
)
def test_datasets_that_are_no_lists_of_names_are_refused_by_the_form(bag, conf):
    with pytest.raises(Exception, match=f"Invalid input for param {next(iter(conf))}"):
        trigger(bag, conf)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("nemo", ["nemo"]),
        ("ravdess-speech,nemo", ["ravdess-speech", "nemo"]),
        (" ravdess-speech, nemo ,", ["ravdess-speech", "nemo"]),
        ("", ["ravdess-speech"]),
        (None, ["ravdess-speech"]),
    ],
)
def test_a_variable_names_the_datasets_of_scheduled_runs(variable, expected):
    code = "from emotion_airflow.training_form import PARAMS; print(PARAMS['datasets'].resolve())"
    environment = {key: value for key, value in os.environ.items() if key != "EMOTION_DATASET"}
    environment |= {"PYTHONPATH": str(PROJECT / "plugins")} | (
        {} if variable is None else {"EMOTION_DATASET": variable}
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(expected)


def test_what_the_local_executor_imports_for_all_tasks_is_there_and_is_no_code_of_this_project():
    from emotion_airflow.executor import PRELOADED

    assert all(importlib.util.find_spec(module) for module in PRELOADED)
    assert not any(module.startswith("emotion") for module in PRELOADED)
