"""
### Score new recordings and check for drift

    find_new_audio ▸ score ×N ▸ collect_predictions ▸ watch_drift ▸ announce_drift

Every 15 minutes the DAG scores the new files in the inboxes (`EMOTION_INBOXES`) with the champion.
`EMOTION_SCORING_SCHEDULE`, a cron expression, changes the schedule. If it is empty, the DAG runs by hand only.
Press **Trigger** to score one folder, to use another model, or to compare two models on the same files.

Each file is scored once by a model, even if a run is killed: clear the failed tasks and the run continues where it
stopped, or let the next sweep score the rest. A file that is still being copied is left for the next sweep. If there
is no new file, or no champion yet, the run is skipped and its log says so.

If the verdict on drift is *watch* or *alarm*, the asset `emotion_drift` is updated. Drift alone starts no training, as
it brings no labels. People are told of an alarm and of a failed run, if there is a connection `emotion_notify`.

Every task calls one method of `plugins/emotion/runs/scoring_run.py`. A run writes its results to the artifact store
(`EMOTION_HOME`), to `scores/<run id>/`: `predictions.csv` and `predictions.parquet`, `summary.json`, `report.html`,
`drift.json`, and for long recordings `timeline.csv`. Some clips of each batch are put into the queue of
*Emotion review*, for people to hear and label.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk import Asset, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from emotion_airflow.defaults import (
    SCORING_SCHEDULE,
    TASK_DEFAULTS,
    TRAINING_SCHEDULE,
    days_between_runs,
    schedule_from,
)
from emotion_airflow.notifications import TELL_OF_FAILURE, tell_of_alarm
from emotion_airflow.scoring_form import PARAMS

if TYPE_CHECKING:
    from emotion.runs.scoring_run import ScoringRun

DRIFT = Asset("emotion_drift")


def scoring_run(run_id: str) -> ScoringRun:
    """The library's object for this run: one method per task."""
    from emotion.airflow_metrics import task_emitter
    from emotion.runs.scoring_run import ScoringRun
    from emotion_airflow.store_access import settings

    return ScoringRun(settings(), run_id, task_emitter())


@dag(
    dag_display_name="Emotion scoring",
    description="Find new recordings, score them, collect the predictions, check for drift",
    doc_md=__doc__,
    schedule=schedule_from(**SCORING_SCHEDULE),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # the library relies on it: another unfinished batch of this DAG must belong to a killed run
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(days=2),
    params=PARAMS,
    tags=["emotion", "scoring"],
    default_args=TASK_DEFAULTS,
    on_failure_callback=TELL_OF_FAILURE,
)
def emotion_scoring():
    @task
    def find_new_audio(*, run_id=None, params=None, dag_run=None):
        """Find the files that were not scored yet and divide them into shards; skip the run if there are none."""
        import time

        from emotion import metrics
        from emotion.scoring.options import NothingToScore, Options

        run = scoring_run(run_id)
        # For alerts: that this task runs, and what is scheduled. It runs even where no training is scheduled.
        run.emitter.gauge(metrics.SCORING_SEEN, time.time())
        run.emitter.gauge(metrics.SCORING_EVERY, 24 * days_between_runs(**SCORING_SCHEDULE))
        run.emitter.gauge(metrics.TRAINING_EVERY, days_between_runs(**TRAINING_SCHEDULE))
        options = {key: params[key] for key in ("labels", "speakers", "adaptation", "settle_seconds", "rescore")}
        options |= {key: params[key] for key in ("window_seconds", "min_confidence", "least_accuracy")}
        options |= {key: params[key] for key in ("files_per_shard", "channels", "segments", "review_clips")}
        try:
            return run.find_new_audio(
                folder=params["folder"],
                model=params["model"],
                challenger=params["challenger"],
                options=Options(**options),
                scheduled=dag_run.run_type == "scheduled",
            )
        except NothingToScore as reason:
            raise AirflowSkipException(str(reason)) from None

    @task(
        pool="emotion_scoring",
        map_index_template="shard {{ shard['shard'] }}, {{ shard['files'] }} files",
        doc_md="Score the files of one shard.",  # a mapped task has no docstring in the UI
    )
    def score(shard, *, run_id=None):
        return scoring_run(run_id).score(part=shard["part"])

    @task
    def collect_predictions(*, run_id=None):
        """Join the predictions of all shards to one table, and the timelines of long recordings to another."""
        return scoring_run(run_id).collect_predictions()

    @task
    def watch_drift(*, run_id=None):
        """Compare the batch with the training set of the model (ok, watch, alarm, or unknown); write the report."""
        return scoring_run(run_id).watch_drift()

    @task(outlets=[DRIFT])
    def announce_drift(batch, *, run_id=None, outlet_events=None):
        """Update the asset `emotion_drift` if the verdict is watch or alarm; tell people of an alarm."""
        if batch["drift"] not in ("watch", "alarm"):
            raise AirflowSkipException(f"The verdict on drift is {batch['drift']}: nothing to announce.")
        outlet_events[DRIFT].extra = {key: batch[key] for key in ("batch", "cause")} | {"verdict": batch["drift"]}
        if batch["drift"] == "alarm":
            tell_of_alarm(run_id, batch)

    verdict = watch_drift()
    score.expand(shard=find_new_audio()) >> collect_predictions() >> verdict
    announce_drift(verdict)


emotion_scoring()
