"""
### Train, compare, explain and promote speech-emotion models

    download ▸ plan_shards ▸ featurize ×N ▸ collect ▸ plan_stress ▸ featurize_stress ×N ▸ collect_stress ▸
        { train_logistic_regression, train_random_forest, train_gradient_boosting } ▸
        compare ▸ explain ▸ register_challenger ▸ ( ask a person ) ▸ promote ▸ announce_champion

Press **Trigger** for a form that explains every parameter. The DAG also runs weekly, with the defaults of the form, and
with the dataset *reviewed* as well once listeners have labelled enough. `EMOTION_TRAINING_SCHEDULE`, a cron expression,
changes the schedule. If it is empty, the DAG runs by hand only. The DAG `emotion_review` starts a run when enough new
labels have come.

Every task calls one method of `plugins/emotion/runs/training_run.py`. A run writes its results to the artifact store
(`EMOTION_HOME`): `comparison.json`, `comparison.csv`, `report.html`, `rejected.csv` and `shap/` to `runs/<run id>/`,
and the models to `models/<run id>/`. Features are stored by clip: a clip is never featurized twice with one recipe.

No answer to `ask_a_person` within a day means no. Clearing the task asks again; an earlier answer no longer counts.
People are told of the question, again four hours before the day ends, and of a failed run, if there is a connection
`emotion_notify`.

A task that fails on bad data fails at once, with what was found, what was expected and what to do; anything else is
tried again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import (
    Asset,
    dag,
    task,
    task_group,
)
from airflow.sdk.exceptions import AirflowSkipException

from emotion_airflow.defaults import (
    SCORING_SCHEDULE,
    TASK_DEFAULTS,
    TRAINING_SCHEDULE,
    approvers,
    days_between_runs,
    schedule_from,
)
from emotion_airflow.notifications import TELL_OF_FAILURE, TELL_OF_QUESTION
from emotion_airflow.question import QuestionOperator
from emotion_airflow.training_form import PARAMS, chosen_datasets

if TYPE_CHECKING:
    from emotion.runs.training_run import TrainingRun

CHAMPION = Asset("emotion_champion")
PROMOTE, KEEP = "Promote the challenger", "Keep the champion"


def training_run(run_id: str) -> TrainingRun:
    """The library's object for this run: one method per task."""
    from emotion.airflow_metrics import task_emitter
    from emotion.runs.training_run import TrainingRun
    from emotion_airflow.store_access import settings

    return TrainingRun(settings(), run_id, task_emitter())


@dag(
    dag_display_name="Emotion training",
    description="Download, featurize, train three models, compare, explain, promote",
    doc_md=__doc__,
    schedule=schedule_from(**TRAINING_SCHEDULE),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(days=8),
    params=PARAMS,
    tags=["emotion", "training"],
    default_args=TASK_DEFAULTS,
    on_failure_callback=TELL_OF_FAILURE,
)
def emotion_training():
    @task(retries=4, retry_delay=timedelta(seconds=30))
    def download(*, run_id=None, params=None, dag_run=None):
        """Bring the recordings of all datasets into the artifact store, with their manifests."""
        scheduled = dag_run.run_type == "scheduled"
        return training_run(run_id).download(**chosen_datasets(params), scheduled=scheduled)

    @task
    def plan_shards(_, *, run_id=None, params=None):
        """Find the clips without stored features and divide them into shards."""
        from emotion import metrics

        run = training_run(run_id)
        # For an alert, from a task that runs even where no scoring is scheduled.
        run.emitter.gauge(metrics.SCORING_EVERY, 24 * days_between_runs(**SCORING_SCHEDULE))
        return run.plan_shards(
            clips_per_shard=params["clips_per_shard"],
            min_seconds=params["min_seconds"],
            max_seconds=params["max_seconds"],
        )

    @task(
        pool="emotion_featurize",
        map_index_template="shard {{ shard['shard'] }}, {{ shard['clips'] }} clips",
        doc_md="Compute and store the features of the clips of one shard.",  # a mapped task has no docstring in the UI
    )
    def featurize(shard, *, run_id=None, params=None):
        return training_run(run_id).featurize(shard=shard["shard"], max_seconds=params["max_seconds"])

    # If all features are stored, there is no shard: featurize is skipped, and collect must run all the same.
    @task(trigger_rule="none_failed")
    def collect(*, run_id=None, params=None):
        """Join the manifests and the features to one table; list the rejected clips."""
        return training_run(run_id).collect(max_rejected_share=params["max_rejected_share"])

    @task
    def plan_stress(*, run_id=None, params=None):
        """Draw the clips that are tested under recording conditions; find those without stored features."""
        return training_run(run_id).plan_stress(
            stress_clips=params["stress_clips"],
            clips_per_shard=params["clips_per_shard"],
            seed=params["seed"],
            speaker_folds=params["speaker_folds"],
        )

    @task(
        pool="emotion_featurize",
        map_index_template="shard {{ shard['shard'] }}, {{ shard['clips'] }} clips",
        doc_md="Compute and store the features of the clips of one shard under every recording condition.",
    )
    def featurize_stress(shard, *, run_id=None, params=None):
        return training_run(run_id).featurize_stress(shard=shard["shard"], max_seconds=params["max_seconds"])

    @task(trigger_rule="none_failed")
    def collect_stress(*, run_id=None):
        """Join the features of the clips under recording conditions to one table."""
        return training_run(run_id).collect_stress()

    def train(family, *, run_id=None, params=None):
        """Fit one family on every fold and on all clips."""
        return training_run(run_id).train(
            family=family,
            seed=params["seed"],
            speaker_folds=params["speaker_folds"],
            search=params["hyperparameters"] == "search",
        )

    @task
    def compare(*, run_id=None, params=None):
        """Score the three models and their ensemble under every protocol, and select one."""
        return training_run(run_id).compare(seed=params["seed"], speaker_folds=params["speaker_folds"])

    @task
    def explain(*, run_id=None, params=None):
        """Compute SHAP values, feature importance and plots for every model."""
        return training_run(run_id).explain(seed=params["seed"], explained_clips=params["explained_clips"])

    @task
    def register_challenger(*, run_id=None, params=None):
        """Register the models as a version, and compare the selected one with the champion."""
        return training_run(run_id).register_challenger(
            margin=params["margin"],
            min_probability=params["min_probability"],
            max_emotion_drop=params["max_emotion_drop"],
            policy=params["promotion"],
        )

    @task.branch
    def who_decides(challenge):
        """Ask a person if the policy says so and the challenger passes the rules, or if the rules cannot decide."""
        return "ask_a_person" if challenge["asks"] else "promote"

    ask_a_person = QuestionOperator(
        task_id="ask_a_person",
        subject="Promote {{ ti.xcom_pull(task_ids='register_challenger')['version'] }}?",
        body="{{ ti.xcom_pull(task_ids='register_challenger')['reasons'] | join(' ') }}\n\n"
        "The report lies in the artifact store: `{{ ti.xcom_pull(task_ids='register_challenger')['report'] }}`. "
        "No answer means no.",
        options=[PROMOTE, KEEP],
        defaults=KEEP,
        response_timeout=timedelta(hours=24),
        reminder=timedelta(hours=4),
        notifiers=TELL_OF_QUESTION,
        assigned_users=approvers(),
        execution_timeout=None,
    )

    @task(trigger_rule="none_failed_min_one_success")
    def promote(*, run_id=None, params=None, ti=None):
        """Make the challenger the champion, or keep the champion, and record the reasons."""
        answer = ti.xcom_pull(task_ids="ask_a_person")
        answered = answer is not None and answer["responded_by_user"] is not None  # or nobody did in time
        approved = answer["chosen_options"] == [PROMOTE] if answered else None
        return training_run(run_id).promote(policy=params["promotion"], approved=approved)

    @task(outlets=[CHAMPION])
    def announce_champion(decision, *, outlet_events=None):
        """Update the asset `emotion_champion`, so that DAGs scheduled on it run."""
        if decision["decision"] != "promoted":
            raise AirflowSkipException(f"The champion stays: {' '.join(decision['reasons'])}")
        outlet_events[CHAMPION].extra = {key: decision[key] for key in ("version", "family")}

    @task_group(prefix_group_id=False)
    def stress_table():
        """Features of a sample of clips under recording conditions, for the models to be tested on."""
        featurize_stress.expand(shard=plan_stress()) >> collect_stress()

    @task_group(prefix_group_id=False)
    def train_models():
        """Train the three families side by side."""
        for family in ("logistic_regression", "random_forest", "gradient_boosting"):
            task(task_id=f"train_{family}")(train)(family)

    shards = plan_shards(download())
    challenge = register_challenger()
    decision = promote()
    decider = who_decides(challenge)
    featurized = featurize.expand(shard=shards) >> collect() >> stress_table()
    featurized >> train_models() >> compare() >> explain() >> challenge
    decider >> ask_a_person >> decision
    decider >> decision
    announce_champion(decision)


emotion_training()
