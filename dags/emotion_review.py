"""
### Learn from what listeners have labelled

    { measure_accuracy, expire_audio } ▸ count_new_labels ▸ { announce_reviews, weigh_training ▸ start_training }

Every hour the DAG measures the accuracy in use from the labels, and counts the labels that can be trained on.
`EMOTION_REVIEW_SCHEDULE`, a cron expression, changes the schedule. If it is empty, the DAG runs by hand only.

- New labels update the asset `emotion_reviews`: how many are new, and how many there are in all.
- Once at least *least_new_labels* labels have come that no training has used, `start_training` starts a run of
  `emotion_training`, on the champion's datasets and the dataset *reviewed*. Otherwise it is skipped, and the log of
  `weigh_training` says why. A training that fails is not started again for the same labels.
- People are told if the accuracy of the champion fell clearly below what its training promised, and of a failed run, if
  there is a connection `emotion_notify`.

Every task calls one method of `plugins/emotion/runs/review_run.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from emotion_airflow.defaults import REVIEW_SCHEDULE, TASK_DEFAULTS, schedule_from
from emotion_airflow.notifications import TELL_OF_FAILURE, tell_of_accuracy
from emotion_airflow.review_form import PARAMS

if TYPE_CHECKING:
    from emotion.runs.review_run import ReviewRun

REVIEWS = Asset("emotion_reviews")
TRAINING = "emotion_training"


def review_run() -> ReviewRun:
    """The library's object for a run: one method per task."""
    from emotion.airflow_metrics import task_emitter
    from emotion.runs.review_run import ReviewRun
    from emotion_airflow.store_access import settings

    return ReviewRun(settings(), task_emitter())


@dag(
    dag_display_name="Emotion review",
    description="Measure accuracy by labels, count new labels, start a training on them",
    doc_md=__doc__,
    schedule=schedule_from(**REVIEW_SCHEDULE),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(hours=12),
    params=PARAMS,
    tags=["emotion", "review"],
    default_args=TASK_DEFAULTS,
    on_failure_callback=TELL_OF_FAILURE,
)
def emotion_review():
    @task
    def measure_accuracy(*, run_id=None):
        """Measure the accuracy of every model from the labels; tell people if the champion's fell."""
        champion = review_run().measure_accuracy()
        if champion.get("is_news"):
            tell_of_accuracy(run_id, champion)
        return champion

    @task
    def expire_audio():
        """Delete the kept audio whose time is over: it is not trained on any more."""
        return review_run().expire_audio()

    @task
    def count_new_labels():
        """Count the labels that can be trained on, and those of them that no training has used."""
        return review_run().count_new_labels()

    @task(inlets=[REVIEWS], outlets=[REVIEWS])
    def announce_reviews(labels, *, inlet_events=None, outlet_events=None):
        """Update the asset `emotion_reviews`, if labels have come since its last update."""
        last = [event.extra for event in inlet_events[REVIEWS].ascending(False).limit(1)]
        if not labels["usable"] or (last and last[0]["fingerprint"] == labels["fingerprint"]):
            raise AirflowSkipException("No labels have come since the asset emotion_reviews was last updated.")
        outlet_events[REVIEWS].extra = {key: labels[key] for key in ("new", "usable", "fingerprint")}

    @task(multiple_outputs=True)
    def weigh_training(labels, *, params=None, ti=None):
        """Decide whether the labels are worth a training, and say why or why not."""
        from emotion.runs.review_run import NothingToTrain

        try:
            training = review_run().plan_training(labels, least_new_labels=params["least_new_labels"])
        except NothingToTrain as reason:
            raise AirflowSkipException(str(reason)) from None
        if ti.get_dr_count(TRAINING, run_ids=[training["run_id"]]):
            raise AirflowSkipException(f"These labels had their training already: {training['run_id']}.")
        if ti.get_dr_count(TRAINING, states=["queued", "running"]):
            raise AirflowSkipException("A training is under way; the next run of this DAG looks again.")
        conf = {key: training[key] for key in ("datasets", "sources")} | {"promotion": params["promotion"]}
        return {"run_id": training["run_id"], "conf": conf}

    labels = count_new_labels()
    training = weigh_training(labels)
    TriggerDagRunOperator(
        task_id="start_training",
        doc_md="Start the training on the champion's datasets and the reviewed clips.",
        trigger_dag_id=TRAINING,
        # What a task returns is indexable, which the type of its call does not say.
        trigger_run_id=training["run_id"],  # type: ignore[index]
        conf=training["conf"],  # type: ignore[index]
        logical_date=None,
        skip_when_already_exists=True,
    )
    [measure_accuracy(), expire_audio()] >> labels
    announce_reviews(labels)


emotion_review()
