"""
### Score new recordings, and watch whether the model still fits them

    find_new_audio ▸ score ×N ▸ collect_predictions ▸ watch_drift

Sweeps the inboxes (`EMOTION_INBOXES`) every quarter of an hour, with the champion
(`EMOTION_SCORING_SCHEDULE`, a cron expression, changes that; empty: by hand only). Press **Trigger** for a
folder, a model, or two models side by side. Each file is scored once by a model, also if a run is killed in
between: clear its failed tasks and it goes on where it stopped, or leave it to the next sweep. Files that are
still being copied are left alone. Where there is nothing new, or no champion yet, the run is skipped and says
so.

Every task calls one function of `plugins/emotion/scoring.py`. What a run finds lies in the artifact store
(`EMOTION_HOME`) under `scores/<run id>/`: `predictions.csv` and `.parquet`, `summary.json`, `report.html`,
`drift.json`, and `timeline.csv` for long recordings.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk import CronTriggerTimetable, ExceptionRetryPolicy, Param, RetryAction, RetryRule, dag, task
from airflow.sdk.exceptions import AirflowSkipException

SCHEDULE = os.environ.get("EMOTION_SCORING_SCHEDULE", "*/15 * * * *")

PARAMS = {
    "folder": Param(
        None,
        type=["null", "string"],
        title="Folder",
        description_md="A folder in one of the inboxes (`EMOTION_INBOXES`), relative to it or absolute. "
        "Empty: all of every inbox.",
        examples=["2026-05-calls"],
        section="Recordings",
    ),
    "labels": Param(
        "labels.csv",
        type=["null", "string"],
        title="Labels file",
        description_md="A CSV in the folder with the columns `path`, `emotion` and `speaker` (the last two "
        "if known). With labels the accuracy is given; RAVDESS names tell the emotion by themselves. A "
        "folder may lack it.",
        section="Recordings",
    ),
    "speakers": Param(
        "labels",
        enum=["labels", "subfolder", "none"],
        values_display={
            "labels": "the labels file's column speaker, if it has one",
            "subfolder": "the first-level subfolder a file lies in",
            "none": "not known",
        },
        title="Where speakers are named",
        description_md="A speaker with ten clips or more is scored by the speaker-adapted model. That is "
        "more accurate where the clips show several emotions, and wrong where they all show one.",
        section="Recordings",
    ),
    "settle_seconds": Param(
        30,
        type="number",
        minimum=0,
        maximum=86400,
        title="Leave files changed in the last … seconds",
        description_md="They may still be copied; the next sweep takes them.",
        section="Recordings",
    ),
    "rescore": Param(
        False,
        type="boolean",
        title="Score again",
        description_md="Take files too that the model has scored before.",
        section="Recordings",
    ),
    "model": Param(
        "champion",
        type="string",
        minLength=1,
        title="Model",
        description_md="`champion`, a version, or `version/family`; `emotion models` lists them.",
        examples=["champion"],
        section="Model",
    ),
    "challenger": Param(
        None,
        type=["null", "string"],
        title="Set against it",
        description_md="A second model to score the same files with, side by side: a version, "
        "`version/family`, or `latest`, the newest version that is not the model's.",
        examples=["latest"],
        section="Model",
    ),
    "window_seconds": Param(
        3,
        type="number",
        minimum=1,
        maximum=60,
        title="Window of long recordings (s)",
        description_md="A recording longer than five windows gets a timeline, window by window.",
        section="Output",
    ),
    "min_confidence": Param(
        0.5,
        type="number",
        minimum=0,
        maximum=1,
        title="Needs a listener below",
        description_md="Answers of lower confidence are marked `needs_listener`.",
        section="Output",
    ),
    "files_per_shard": Param(
        200,
        type="integer",
        minimum=1,
        maximum=10000,
        title="Files per scoring task",
        description_md="A killed task loses at most one shard's work; each task costs about two seconds of its own.",
        section="Output",
    ),
}


def scoring_run(run_id: str):
    """The library's view of this run."""
    from emotion.airflow_metrics import task_emitter
    from emotion.runs.scoring_run import ScoringRun
    from emotion.settings import Settings

    return ScoringRun(Settings.from_environment(), run_id, task_emitter())


@dag(
    dag_display_name="Emotion scoring",
    description="Find new recordings, score them, collect the predictions, watch drift",
    doc_md=__doc__,
    schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC", run_immediately=timedelta(0)) if SCHEDULE else None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # the library relies on it: any other batch of this DAG that is not finished is dead
    is_paused_upon_creation=False,
    dagrun_timeout=timedelta(days=2),
    params=PARAMS,
    tags=["emotion", "scoring"],
    default_args={
        "owner": "emotion",
        "retries": 2,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": ExceptionRetryPolicy(
            rules=[
                RetryRule(
                    exception=f"emotion.errors.{name}",
                    action=RetryAction.FAIL,
                    reason="trying again does not help",
                )
                for name in ("DataError", "ConfigurationError", "BundleError")
            ]
        ),
        "execution_timeout": timedelta(hours=2),
    },
)
def emotion_scoring():
    @task
    def find_new_audio(*, run_id=None, params=None, dag_run=None):
        from emotion.scoring.options import NothingToScore, Options

        options = {key: params[key] for key in ("labels", "speakers", "settle_seconds", "rescore")}
        options |= {key: params[key] for key in ("window_seconds", "min_confidence", "files_per_shard")}
        try:
            return scoring_run(run_id).find_new_audio(
                folder=params["folder"],
                model=params["model"],
                challenger=params["challenger"],
                options=Options(**options),
                scheduled=dag_run.run_type == "scheduled",
            )
        except NothingToScore as reason:
            raise AirflowSkipException(str(reason)) from None

    @task(pool="emotion_scoring", map_index_template="shard {{ shard['shard'] }}, {{ shard['files'] }} files")
    def score(shard, *, run_id=None):
        return scoring_run(run_id).score(part=shard["part"])

    @task
    def collect_predictions(*, run_id=None):
        return scoring_run(run_id).collect_predictions()

    @task
    def watch_drift(*, run_id=None):
        return scoring_run(run_id).watch_drift()

    score.expand(shard=find_new_audio()) >> collect_predictions() >> watch_drift()


emotion_scoring()
