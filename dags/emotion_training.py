"""
### Train, compare, explain and promote speech-emotion models

    download ▸ plan_shards ▸ featurize ×N ▸ collect ▸
        { train_logistic_regression, train_random_forest, train_gradient_boosting } ▸
        compare ▸ explain ▸ register_challenger ▸ ( ask a person ) ▸ promote ▸ announce_champion

Press **Trigger** for a form that explains every parameter. Scheduled weekly, with the defaults
(`EMOTION_TRAINING_SCHEDULE`, a cron expression, changes that; empty: by hand only).

Every task calls one function of `plugins/emotion/workflow.py`. What a run finds lies in the artifact store
(`EMOTION_HOME`) under `runs/<run id>/`: `comparison.json`, `comparison.csv`, `report.html`, `shap/`, `rejected.csv`;
the models under `models/<run id>/`. Features are stored by clip: a clip is never featurized twice with one recipe.

No answer to `ask_a_person` within a day means no. Clearing the task asks again; an earlier answer no longer counts.

A task that fails on bad data fails at once, with what was found, what was expected and what to do; anything else is
tried again.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import (
    Asset,
    CronTriggerTimetable,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    dag,
    task,
    task_group,
)
from airflow.sdk.exceptions import AirflowSkipException

from emotion_airflow.question import QuestionOperator

CHAMPION = Asset("emotion_champion")
SCHEDULE = os.environ.get("EMOTION_TRAINING_SCHEDULE", "@weekly")
PROMOTE, KEEP = "Promote the challenger", "Keep the champion"

PARAMS = {
    "dataset": Param(
        os.environ.get("EMOTION_DATASET", "ravdess-speech"),
        type="string",
        title="Dataset",
        description_md="A name of the dataset catalogue (`include/datasets.yaml`, or `EMOTION_DATASETS`).",
        examples=["ravdess-speech", "ravdess-speech-song", "synthesized", "labelled-folder"],
    ),
    "source": Param(
        None,
        type=["null", "string"],
        title="Folder or zip on disk",
        description_md="Takes the recordings from here instead of downloading them. Must lie below one of "
        "`EMOTION_RECORDINGS`. Needed for `labelled-folder`.",
    ),
    "promotion": Param(
        "auto",
        enum=["auto", "ask", "never"],
        values_display={
            "auto": "auto: the rules below decide",
            "ask": "ask: if the rules agree, a person decides in the UI within a day; no answer means no",
            "never": "never: register the models, leave the champion",
        },
        title="Promotion policy",
    ),
    "min_seconds": Param(0.2, type="number", minimum=0.05, title="Shortest clip (s)", section="Limits"),
    "max_seconds": Param(60, type="number", minimum=1, maximum=3600, title="Longest clip (s)", section="Limits"),
    "max_rejected_share": Param(
        0.05,
        type="number",
        minimum=0,
        maximum=1,
        title="Most clips that may be unusable",
        description_md="Unusable clips are listed in `rejected.csv`; above this share the run fails.",
        section="Limits",
    ),
    "clips_per_shard": Param(
        360,
        type="integer",
        minimum=1,
        maximum=10000,
        title="Clips per featurization task",
        description_md="A killed task loses at most one shard's work; each task costs about two seconds of its own.",
        section="Limits",
    ),
    "speaker_folds": Param(
        "published",
        enum=["published", "grouped"],
        values_display={
            "published": "as published for the dataset (EmoBox for RAVDESS); grouped where none are",
            "grouped": "drawn by the seed, whole speakers together",
        },
        title="Speaker-independent folds",
        section="Evaluation",
    ),
    "hyperparameters": Param(
        "shipped",
        enum=["shipped", "search"],
        values_display={
            "shipped": "as shipped (include/hyperparameters.yaml)",
            "search": "searched anew, inside the training side of every fold; takes several times as long",
        },
        title="Hyper-parameters",
        section="Evaluation",
    ),
    "explained_clips": Param(
        200, type="integer", minimum=8, maximum=5000, title="Clips explained by SHAP", section="Evaluation"
    ),
    "seed": Param(
        0,
        type="integer",
        minimum=0,
        maximum=2**31 - 1,
        title="Seed",
        description_md="The same data and seed give the same figures.",
        section="Evaluation",
    ),
    "margin": Param(
        0.005,
        type="number",
        minimum=0,
        maximum=1,
        title="Margin in macro F1",
        description_md="By how much the challenger must beat the champion, both on speakers they have not heard.",
        section="Promotion",
    ),
    "max_emotion_drop": Param(
        0.1, type="number", minimum=0, maximum=1, title="Largest fall of any emotion's F1", section="Promotion"
    ),
}


def training_run(run_id: str):
    """The library's view of this run."""
    from emotion.airflow_metrics import task_emitter
    from emotion.runs.training_run import TrainingRun
    from emotion.settings import Settings

    return TrainingRun(Settings.from_environment(), run_id, task_emitter())


@dag(
    dag_display_name="Emotion training",
    description="Download, featurize, train three models, compare, explain, promote",
    doc_md=__doc__,
    schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC", run_immediately=timedelta(0)) if SCHEDULE else None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(days=8),
    params=PARAMS,
    tags=["emotion", "training"],
    default_args={
        "owner": "emotion",
        "retries": 2,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": ExceptionRetryPolicy(
            rules=[
                RetryRule(
                    exception=f"emotion.errors.{name}", action=RetryAction.FAIL, reason="trying again does not help"
                )
                for name in ("DataError", "ConfigurationError", "BundleError")
            ]
        ),
        "execution_timeout": timedelta(hours=2),
    },
)
def emotion_training():
    @task(retries=4, retry_delay=timedelta(seconds=30))
    def download(*, run_id=None, params=None):
        return training_run(run_id).download(dataset=params["dataset"], source=params["source"])

    @task
    def plan_shards(_, *, run_id=None, params=None):
        return training_run(run_id).plan_shards(
            dataset=params["dataset"],
            clips_per_shard=params["clips_per_shard"],
            min_seconds=params["min_seconds"],
            max_seconds=params["max_seconds"],
        )

    @task(pool="emotion_featurize", map_index_template="shard {{ shard['shard'] }}, {{ shard['clips'] }} clips")
    def featurize(shard, *, run_id=None, params=None):
        return training_run(run_id).featurize(
            dataset=params["dataset"], shard=shard["shard"], max_seconds=params["max_seconds"]
        )

    # A second run has nothing to featurize: no shard, no mapped task, and on it goes.
    @task(trigger_rule="none_failed")
    def collect(*, run_id=None, params=None):
        return training_run(run_id).collect(dataset=params["dataset"], max_rejected_share=params["max_rejected_share"])

    def train(family, *, run_id=None, params=None):
        return training_run(run_id).train(
            family=family,
            seed=params["seed"],
            speaker_folds=params["speaker_folds"],
            search=params["hyperparameters"] == "search",
        )

    @task
    def compare(*, run_id=None, params=None):
        return training_run(run_id).compare(seed=params["seed"], speaker_folds=params["speaker_folds"])

    @task
    def explain(*, run_id=None, params=None):
        return training_run(run_id).explain(seed=params["seed"], explained_clips=params["explained_clips"])

    @task
    def register_challenger(*, run_id=None, params=None):
        return training_run(run_id).register_challenger(
            margin=params["margin"], max_emotion_drop=params["max_emotion_drop"], policy=params["promotion"]
        )

    @task.branch
    def who_decides(challenge):
        asks = challenge["policy"] == "ask" and challenge["verdict"] == "promote"
        return "ask_a_person" if asks else "promote"

    ask_a_person = QuestionOperator(
        task_id="ask_a_person",
        subject="Promote {{ ti.xcom_pull(task_ids='register_challenger')['version'] }}?",
        body="{{ ti.xcom_pull(task_ids='register_challenger')['reasons'] | join(' ') }}\n\n"
        "The report lies in the artifact store: `runs/{{ ti.xcom_pull(task_ids='register_challenger')['version'] }}"
        "/report.html`. No answer means no.",
        options=[PROMOTE, KEEP],
        defaults=KEEP,
        response_timeout=timedelta(hours=24),
        execution_timeout=None,
    )

    @task(trigger_rule="none_failed_min_one_success")
    def promote(*, run_id=None, params=None, ti=None):
        answer = ti.xcom_pull(task_ids="ask_a_person")
        answered = answer is not None and answer["responded_by_user"] is not None  # or nobody did in time
        approved = answer["chosen_options"] == [PROMOTE] if answered else None
        return training_run(run_id).promote(policy=params["promotion"], approved=approved)

    @task(outlets=[CHAMPION])
    def announce_champion(decision, *, outlet_events=None):
        if decision["decision"] != "promoted":
            raise AirflowSkipException(f"The champion stays: {' '.join(decision['reasons'])}")
        outlet_events[CHAMPION].extra = {key: decision[key] for key in ("version", "family")}

    @task_group(prefix_group_id=False)
    def train_models():
        for family in ("logistic_regression", "random_forest", "gradient_boosting"):
            task(task_id=f"train_{family}")(train)(family)

    shards = plan_shards(download())
    challenge = register_challenger()
    decision = promote()
    decider = who_decides(challenge)
    featurize.expand(shard=shards) >> collect() >> train_models() >> compare() >> explain() >> challenge
    decider >> ask_a_person >> decision
    decider >> decision
    announce_champion(decision)


emotion_training()
