"""The four dashboards."""

from __future__ import annotations

import json
from collections.abc import Callable

from grafana_foundation_sdk.builders import bargauge, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from panels import AGE, NONE_IS_GOOD, QUALITY, Query, Steps, bars, course, number, rows
from queries import (
    ASSET_UPDATES,
    DAGS,
    EXECUTABLE,
    EXECUTOR_OPEN,
    IMPORT_ERRORS,
    LOOP,
    PARSE,
    PARSE_FILE,
    POOL,
    PROCESSOR_BEAT,
    RUN,
    SCHEDULER_BEAT,
    STARVING,
    TASK_DURATION,
    TASK_FINISHED,
    TASK_STARTED,
    TASK_WAIT,
    TRIGGERER_BEAT,
    age,
    alias,
    latest_run,
    named,
    or_zero,
    path,
    per_minute,
    summed,
)

from emotion import metrics
from emotion.evaluation.selection import PROTOCOL, SCORE
from emotion.metrics import Metric
from emotion.vocabulary import EMOTIONS, FAMILIES, PROTOCOLS, SCORES

SCHEMA_VERSION = 27
"""Grafana 7.5's; later ones bring a dashboard of this version up to date when they load it."""
TRAINING_DAG, SCORING_DAG = "emotion_training", "emotion_scoring"
AIRFLOW = "http://localhost:8080"
MODELS = (*FAMILIES, "ensemble")


def _link(title: str, url: str, *, tooltip: str = "") -> board.DashboardLink:
    return (
        board.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .icon("external link")
        .tooltip(tooltip)
        .url(url)
        .target_blank(True)
    )


def runs_link(dag: str) -> board.DashboardLink:
    """To the runs of a DAG within the time shown, in Airflow."""
    url = f"${{airflow}}/dags/{dag}/runs?run_after_gte=${{__from:date:iso}}&run_after_lte=${{__to:date:iso}}"
    return _link(f"Airflow: runs of {dag}", url, tooltip="The runs within the time shown, in the Airflow UI")


def choose(name: str, label: str, description: str, query: str) -> board.QueryVariable:
    """A variable of which several values may be chosen, all at first: those found in Graphite."""
    return (
        board.QueryVariable(name)
        .label(label)
        .description(description)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value("*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def choose_one(name: str, label: str, description: str, values: tuple[str, ...], default: str) -> board.CustomVariable:
    """A variable of fixed values, of which one is chosen."""
    return (
        board.CustomVariable(name)
        .label(label)
        .description(description)
        .values(",".join(values))
        .options([model.VariableOption(selected=value == default, text=value, value=value) for value in values])
        .current(model.VariableOption(selected=True, text=default, value=default))
    )


def dashboard(uid: str, title: str, description: str, *, since: str, refresh: str, variables: list) -> board.Dashboard:
    built = (
        board.Dashboard(title)
        .uid(f"emotion-{uid}")
        .description(description)
        .tags(["emotion"])
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh(refresh)
        .link(
            board.DashboardLink("Speech emotion")
            .type(model.DashboardLinkType.DASHBOARDS)
            .icon("dashboard")
            .tooltip("The other dashboards, at the same time and for the same models")
            .tags(["emotion"])
            .include_vars(True)
            .keep_time(True)
        )
    )
    default = model.VariableOption(selected=True, text=AIRFLOW, value=AIRFLOW)
    address = (
        board.TextBoxVariable("airflow")
        .label("Airflow at")
        .description("Address of the Airflow UI, for the links into it")
        .default_value(AIRFLOW)
        .current(default)
        .options([default])
    )
    for variable in [*variables, address]:
        built.with_variable(variable)
    return built


def _fill(built: board.Dashboard, sections: dict[str, list]) -> dict:
    for section, panels in sections.items():
        built.with_row(board.Row(section))
        for panel in panels:
            built.with_panel(panel)
    found = built.build()
    found.schema_version = SCHEMA_VERSION
    for index, panel in enumerate(found.panels, start=1):
        panel.id_val = index
    for link in (*found.links, *(found.annotations.list_val or ())):
        link.placement = None  # the SDK's default hides them in a menu
    return json.loads(json.dumps(found, cls=JSONEncoder))


def _model_variable() -> board.QueryVariable:
    return choose("model", "Model", "Models to show", path(metrics.SCORE).rsplit(".", 2)[0])


def _outcome(dag: str) -> str:
    """1 where a run succeeded, 2 where one failed, 3 where both happened in one step."""
    success, failed = (path(RUN, outcome=outcome, dag=dag) for outcome in ("success", "failed"))
    both = f"sumSeries(isNonNull({success}), scale(isNonNull({failed}), 2))"
    return f"removeBelowValue({both}, 1)"


OUTCOMES = {1: "succeeded", 2: "failed", 3: "some failed"}
FAILED_IS_BAD: Steps = [(None, "green"), (2, "red")]


def run_state(dag: str) -> stat.Panel:
    return number(
        "Last run",
        f"How the last run of {dag} within the time shown ended (1 succeeded, 2 failed, 3 both at nearly "
        "the same time).",
        alias(_outcome(dag), "last run"),
        words=OUTCOMES,
        steps=FAILED_IS_BAD,
    )


def run_durations(dag: str, *, size: tuple[int, int] = (12, 8)) -> timeseries.Panel:
    """Points, never a line: between two runs there is no duration."""
    return course(
        "Run duration",
        "From a run's start to its end, one point per run, by DAG. A run that is waiting for a person counts in full.",
        named(RUN, "dag", "outcome", of=path(RUN, outcome="{success,failed}", dag=dag)),
        unit="ms",
        style="points",
        links=[runs_link(dag)] if "$" not in dag else None,
        size=size,
    )


def training() -> dict:
    """Did retraining run, how long did it take, and are its models any good?"""
    built = dashboard(
        "training",
        "Speech emotion: training",
        "Whether retraining ran, how its models compare, and whether the champion is still good.",
        since="now-90d",
        refresh="5m",
        variables=[
            _model_variable(),
            choose_one(
                "protocol",
                "Protocol",
                "How scores were obtained: clips at random, or speakers held out; plain, or adapted to the speakers",
                PROTOCOLS,
                PROTOCOL,
            ),
            choose_one("score", "Score", "Score drawn over runs", SCORES, SCORE),
        ],
    )
    built.link(runs_link(TRAINING_DAG))
    promoted = f"removeBelowValue({path(metrics.PROMOTION, decision='promoted')}, 1)"
    built.annotation(
        board.AnnotationQuery()
        .name("Promotions")
        .enable(True)
        .icon_color("purple")
        .target(Query(alias(promoted, "a new champion"), "Anno", {"fromAnnotations": True}))
    )
    both = {"model": "$model", "protocol": "$protocol"}

    def compared(score: str, title: str, description: str) -> bargauge.Panel:
        return bars(
            title,
            description + " Of the last run, under the protocol chosen.",
            named(metrics.SCORE, "model", of=path(metrics.SCORE, score=score, **both)),
            decimals=3,
            limits=(0, 1),
            steps=QUALITY,
        )

    champion = {"protocol": PROTOCOL}
    return _fill(
        built,
        {
            "Now": [
                run_state(TRAINING_DAG),
                number(
                    "Last success",
                    "Time since a training run last succeeded. Yellow after 7 days, red after 8, when the alert fires.",
                    alias(age(metrics.RUN_FINISHED), "last success"),
                    unit="s",
                    steps=AGE,
                    decimals=1,
                ),
                number(
                    "Champion's macro F1",
                    "On speakers it has not heard, as it was promoted or last re-scored.",
                    alias(path(metrics.CHAMPION_SCORE, score=SCORE, **champion), "champion"),
                    decimals=3,
                    steps=QUALITY,
                ),
                number(
                    "Champion for",
                    "Time since the champion was promoted.",
                    alias(age(metrics.CHAMPION_SINCE), "champion for"),
                    unit="s",
                    decimals=1,
                ),
                number(
                    "Rejected clips",
                    "Clips of the last run that could not be used; the run's rejected.csv lists them with the reason.",
                    alias(path(metrics.CLIPS, kind="rejected"), "rejected"),
                    steps=[(None, "green"), (1, "yellow"), (50, "red")],
                ),
                number(
                    "Promotions",
                    "Challengers that became champion within the time shown.",
                    alias(path(metrics.PROMOTION, decision="promoted"), "promoted", condense="sum"),
                    calculation="sum",
                ),
            ],
            "Models compared": [
                compared("accuracy", "Accuracy", "Share of clips whose emotion was recognized."),
                compared(
                    "precision_macro",
                    "Precision",
                    "Mean over emotions: of the clips called so, the share that are.",
                ),
                compared(
                    "recall_macro",
                    "Recall",
                    "Mean over emotions: of the clips that are so, the share called so.",
                ),
                compared("f1_macro", "F1", "Mean over emotions of the harmonic mean of precision and recall."),
                course(
                    "$score over runs",
                    "The score chosen, one point per run and model, under the protocol chosen.",
                    named(metrics.SCORE, "model", of=path(metrics.SCORE, score="$score", **both)),
                    decimals=3,
                    limits=(None, None),
                ),
                bars(
                    "Macro F1 by protocol",
                    "The same models judged on clips at random and on speakers held out: the gap is what "
                    "knowing the speaker is worth, and is not to be had in production.",
                    named(
                        metrics.SCORE,
                        "model",
                        "protocol",
                        of=path(metrics.SCORE, model="$model", score=SCORE),
                    ),
                    decimals=3,
                    limits=(0, 1),
                    steps=QUALITY,
                    size=(12, 8),
                ),
                course(
                    "Cross-validation: standard deviation over folds",
                    "Spread of macro F1 from fold to fold. A model that wins by less than this has not won.",
                    named(metrics.CV_SCORE, "model", of=path(metrics.CV_SCORE, statistic="std", **both)),
                    decimals=3,
                ),
                bars(
                    "Cross-validation: worst, mean and best fold",
                    "Macro F1 over the folds of the last run, under the protocol chosen.",
                    named(
                        metrics.CV_SCORE,
                        "model",
                        "statistic",
                        of=path(metrics.CV_SCORE, statistic="{min,mean,max}", **both),
                    ),
                    decimals=3,
                    limits=(0, 1),
                    steps=QUALITY,
                    size=(12, 8),
                ),
                bars(
                    "F1 by emotion",
                    "Of the last run, under the protocol chosen: which emotions each model mistakes.",
                    named(metrics.EMOTION_F1, "emotion", "model", of=path(metrics.EMOTION_F1, **both)),
                    decimals=3,
                    limits=(0, 1),
                    steps=QUALITY,
                    size=(12, 14),
                ),
                bars(
                    "Confidence on speakers held out",
                    "Of the last run's models: the probability they give to their own answer.",
                    named(
                        metrics.TRAIN_CONFIDENCE,
                        "model",
                        "statistic",
                        of=path(metrics.TRAIN_CONFIDENCE, model="$model"),
                    ),
                    decimals=3,
                    limits=(0, 1),
                    size=(12, 14),
                ),
            ],
            "Champion": [
                course(
                    "Champion over time",
                    "The champion's scores on speakers held out, re-scored by each run. Purple marks are promotions.",
                    named(
                        metrics.CHAMPION_SCORE,
                        "score",
                        of=path(metrics.CHAMPION_SCORE, score="{accuracy,f1_macro,uar}", **champion),
                    ),
                    decimals=3,
                    limits=(None, None),
                ),
                course(
                    "Decisions",
                    "Per hour: challengers promoted, and challengers after which the champion was kept.",
                    named(metrics.PROMOTION, "decision", of=summed(path(metrics.PROMOTION))),
                    style="bars",
                    stacked=True,
                ),
            ],
            "Pipeline": [
                course(
                    "Work by stage, by run",
                    "Work of each stage, summed over its tasks and the hour: one bar per run. Shards run "
                    "at the same time, so a run takes less than the sum.",
                    named(metrics.STAGE_DURATION, "stage", of=summed(path(metrics.STAGE_DURATION, "sum"))),
                    unit="ms",
                    style="bars",
                    stacked=True,
                    links=[runs_link(TRAINING_DAG)],
                ),
                run_durations(TRAINING_DAG),
                course(
                    "Clips of a run",
                    "Total, stored (features known), missing (to featurize), rejected, duplicates and used.",
                    named(metrics.CLIPS, "kind", of=path(metrics.CLIPS)),
                ),
                course(
                    "Clips featurized",
                    "Per hour, by outcome.",
                    named(metrics.FEATURIZED, "outcome", of=summed(path(metrics.FEATURIZED))),
                    style="bars",
                    size=(6, 8),
                ),
                course(
                    "Featurization of a clip",
                    "Mean time per clip of a shard.",
                    alias(path(metrics.CLIP_DURATION), "per clip", condense="average"),
                    unit="ms",
                    size=(6, 8),
                ),
                bars(
                    "Fit of the final model",
                    "Of the last run.",
                    named(metrics.FIT_SECONDS, "model", of=path(metrics.FIT_SECONDS, model="$model")),
                    unit="s",
                    decimals=1,
                ),
                bars(
                    "Prediction per clip",
                    "From features, of the last run's models: one clip at a time, and in a batch.",
                    named(metrics.PREDICT_MS, "model", "batch", of=path(metrics.PREDICT_MS, model="$model")),
                    unit="ms",
                    decimals=2,
                ),
                bars(
                    "Peak memory by stage",
                    "Of the last task of each stage; its worker needs at least so much.",
                    named(metrics.RESOURCE, "stage", of=path(metrics.RESOURCE, resource="peak_memory_bytes")),
                    unit="bytes",
                    steps=[(None, "green"), (2 * 2**30, "yellow"), (4 * 2**30, "red")],
                ),
                bars(
                    "CPU time by stage",
                    "Of the last task of each stage.",
                    named(metrics.RESOURCE, "stage", of=path(metrics.RESOURCE, resource="cpu_seconds")),
                    unit="s",
                    decimals=1,
                ),
            ],
        },
    )


def explanation() -> dict:
    """Which features speak for which emotion, in which model, and does that stay so?"""
    built = dashboard(
        "explanation",
        "Speech emotion: explanation",
        "SHAP importance of the acoustic features: by model, by emotion, and from run to run.",
        since="now-90d",
        refresh="15m",
        variables=[
            choose_one("explained", "Model", "Model of the heat map and of the course over runs", MODELS, MODELS[-1])
        ],
    )
    built.link(runs_link(TRAINING_DAG))

    def top(model_: str) -> bargauge.Panel:
        return bars(
            f"Top features: {model_}",
            "Share of the mean absolute SHAP value over all emotions, of the last run.",
            named(metrics.SHAP, "feature", of=f"highestCurrent({latest_run(metrics.SHAP, model=model_)}, 20)"),
            unit="percentunit",
            decimals=1,
            shades=True,
            size=(6, 16),
        )

    def column(title: str, emotion: str, *, shown: str, width: int) -> table.Panel:
        # A table of names and one of values per emotion, rows in the same order, make a heat map that every
        # Grafana can draw: before 9.2 none can lay out "feature x emotion" from series in one table.
        latest = latest_run(metrics.SHAP_EMOTION, model="$explained", emotion=emotion)
        return rows(
            title,
            "Mean absolute SHAP value of the top features by emotion, of the last run of the model chosen: "
            "blue is low, red is high, for each emotion on its own. The rows are the same in every column.",
            f"sortByName({named(metrics.SHAP_EMOTION, 'feature', of=latest)})",
            unit="short",
            decimals=3,
            shown=shown,
            size=(width, 22),
        )

    top_of_model = f'highest({path(metrics.SHAP, model="$explained")}, 10, "max")'
    moved = named(metrics.SHAP, "feature", of=top_of_model)
    return _fill(
        built,
        {
            "Top features of each model": [top(name) for name in MODELS],
            "SHAP heat map: feature by emotion": [
                column("feature", EMOTIONS[0], shown="names", width=8),
                *(column(emotion, emotion, shown="values", width=2) for emotion in EMOTIONS),
            ],
            "From run to run": [
                course(
                    "Importance over runs",
                    "Share of the mean absolute SHAP value, of the ten features that were ever highest; a "
                    "point per run.",
                    moved,
                    unit="percentunit",
                    decimals=1,
                    size=(14, 11),
                ),
                rows(
                    "How importance moved",
                    "First and last run within the time shown, lowest, highest, and the difference from first to last.",
                    moved,
                    unit="percentunit",
                    decimals=2,
                    calculations=("firstNotNull", "lastNotNull", "min", "max", "diff"),
                    size=(10, 11),
                ),
            ],
        },
    )


def scoring() -> dict:
    """Is scoring slow, unsure, or fed with something it has not learnt?"""
    built = dashboard(
        "scoring",
        "Speech emotion: scoring",
        "Throughput, latency, confidence and drift of the batches scored.",
        since="now-24h",
        refresh="1m",
        variables=[choose("emotion", "Emotion", "Predicted emotions to show", path(metrics.PREDICTED))],
    )
    built.link(runs_link(SCORING_DAG))
    predicted = path(metrics.PREDICTED, emotion="$emotion")

    def confidence(statistic: str, title: str, description: str) -> bargauge.Panel:
        return bars(
            title,
            description + " Of the last batch, by predicted emotion.",
            named(
                metrics.CONFIDENCE,
                "emotion",
                of=path(metrics.CONFIDENCE, emotion="$emotion", statistic=statistic),
            ),
            decimals=2,
            limits=(0, 1),
            steps=[(None, "red"), (0.3, "yellow"), (0.5, "green")],
        )

    def steady(expression: str) -> str:
        return per_minute(f'summarize({expression}, "5min", "sum")')

    scored, rejected = (path(metrics.SCORED, outcome=outcome) for outcome in ("scored", "rejected"))
    rejected = or_zero(rejected, "rejected")
    reasons = named(metrics.SCORING_REJECTED, "reason", of=path(metrics.SCORING_REJECTED))
    drift = [(None, "green"), (0.1, "yellow"), (0.25, "red")]
    return _fill(
        built,
        {
            "Now": [
                run_state(SCORING_DAG),
                number(
                    "Clips scored",
                    "Within the time shown.",
                    alias(scored, "scored", condense="sum"),
                    calculation="sum",
                ),
                number(
                    "Clips rejected",
                    "Files within the time shown that could not be scored.",
                    alias(rejected, "rejected", condense="sum"),
                    calculation="sum",
                    steps=[(None, "green"), (1, "yellow"), (50, "red")],
                ),
                number(
                    "Audio scored",
                    "Length of the recordings scored within the time shown.",
                    alias(path(metrics.AUDIO_SECONDS), "audio", condense="sum"),
                    unit="s",
                    calculation="sum",
                ),
                number(
                    "Latency p95",
                    "Of the last batch: 19 clips in 20 took less, from file to answer.",
                    alias(path(metrics.LATENCY_QUANTILE, stage="total", quantile="p95"), "p95"),
                    unit="ms",
                    steps=[(None, "green"), (1000, "yellow"), (5000, "red")],
                ),
                number(
                    "Drift",
                    "Verdict on the last batch: 0 ok, 1 watch, 2 alarm.",
                    alias(path(metrics.DRIFT_VERDICT), "verdict"),
                    words={0: "ok", 1: "watch", 2: "alarm"},
                    steps=[(None, "green"), (1, "yellow"), (2, "red")],
                ),
            ],
            "Throughput and latency": [
                course(
                    "Clips per minute",
                    "Clips scored and rejected, over five minutes each: a shard is counted when it is done.",
                    alias(steady(scored), "scored", condense="average"),
                    alias(steady(rejected), "rejected", condense="average"),
                    style="bars",
                    stacked=True,
                ),
                course(
                    "Latency p50 and p95 by stage",
                    "Per clip, over each batch: decoding, features, model, and in total.",
                    named(
                        metrics.LATENCY_QUANTILE,
                        "stage",
                        "quantile",
                        of=path(metrics.LATENCY_QUANTILE, quantile="{p50,p95}"),
                    ),
                    unit="ms",
                ),
                course(
                    "Latency by stage: mean",
                    "Per clip, as the clips are scored.",
                    named(metrics.LATENCY, "stage", of=path(metrics.LATENCY)),
                    unit="ms",
                    style="points",
                ),
                course(
                    "Work by stage, by run",
                    "Work of each stage of the scoring runs, summed over its tasks and the hour.",
                    named(metrics.SCORING_STAGE, "stage", of=summed(path(metrics.SCORING_STAGE, "sum"))),
                    unit="ms",
                    style="bars",
                    stacked=True,
                    links=[runs_link(SCORING_DAG)],
                ),
            ],
            "Confidence": [
                confidence("p10", "Confidence: p10", "One clip in ten has less."),
                confidence("p50", "Confidence: median", "Half of the clips have less."),
                confidence("mean", "Confidence: mean", "Mean over the clips."),
                confidence("p90", "Confidence: p90", "One clip in ten has more."),
                course(
                    "Confidence over time",
                    "Of each batch as a whole: mean, p10, p50, p90.",
                    named(metrics.BATCH_CONFIDENCE, "statistic", of=path(metrics.BATCH_CONFIDENCE)),
                    decimals=2,
                    limits=(0, 1),
                ),
                course(
                    "Mean confidence by emotion",
                    "Of each batch, by predicted emotion.",
                    named(
                        metrics.CONFIDENCE,
                        "emotion",
                        of=path(metrics.CONFIDENCE, emotion="$emotion", statistic="mean"),
                    ),
                    decimals=2,
                    limits=(0, 1),
                ),
            ],
            "Predictions and rejects": [
                bars(
                    "Predicted emotions",
                    "Clips within the time shown.",
                    named(metrics.PREDICTED, "emotion", of=predicted),
                    calculation="sum",
                    shades=True,
                ),
                course(
                    "Mix of predicted emotions",
                    "Share of each emotion, by the hour.",
                    named(metrics.PREDICTED, "emotion", of=f"asPercent({summed(predicted)})"),
                    unit="percent",
                    style="bars",
                    stacked=True,
                    limits=(0, 100),
                    size=(12, 8),
                ),
                bars(
                    "Rejected, by reason",
                    "Files within the time shown that could not be scored; the batch's summary names them.",
                    or_zero(reasons, "none"),
                    calculation="sum",
                    steps=[(None, "yellow"), (50, "red")],
                ),
            ],
            "Drift": [
                course(
                    "Drift signals",
                    "Against the training data: share of features that drifted, population stability index "
                    "(PSI) of the predicted emotions, Kolmogorov-Smirnov statistic of the confidence.",
                    named(
                        metrics.DRIFT_SHARE,
                        "signal",
                        of=path(metrics.DRIFT_SHARE, signal="{features,emotions,confidence}"),
                    ),
                    decimals=2,
                    steps=drift,
                    size=(8, 8),
                ),
                course(
                    "Shift of the features",
                    "How far the batch's mean lies from training's: 1 is what a new speaker brings. The "
                    "verdict goes by this.",
                    alias(path(metrics.DRIFT_SHARE, signal="shift"), "shift"),
                    decimals=2,
                    size=(8, 8),
                ),
                bars(
                    "Features that moved most",
                    "PSI of the last batch against the training data: below 0.1 no drift, above 0.25 strong drift.",
                    named(
                        metrics.DRIFT_FEATURE,
                        "feature",
                        of=f"highestCurrent({latest_run(metrics.DRIFT_FEATURE)}, 20)",
                    ),
                    decimals=2,
                    steps=drift,
                    size=(8, 8),
                ),
            ],
        },
    )


def airflow() -> dict:
    """Is Airflow itself well?"""
    built = dashboard(
        "airflow",
        "Speech emotion: Airflow",
        "Heartbeats, runs, tasks, queueing and pools: the metrics that Airflow 3.3 emits.",
        since="now-6h",
        refresh="30s",
        variables=[
            choose("dag", "DAG", "DAGs to show", path(TASK_STARTED).rsplit(".", 1)[0]),
            choose("pool", "Pool", "Pools to show", path(POOL, slots="open_slots")),
        ],
    )
    built.link(_link("Airflow", "${airflow}", tooltip="The Airflow UI"))

    def beat(metric: Metric, who: str) -> stat.Panel:
        return number(
            f"{who}: beats per minute",
            f"Heartbeats of the {who.lower()}, about 12 a minute. None: it is down, or does not reach StatsD.",
            alias(per_minute(path(metric)), who.lower()),
            decimals=0,
            steps=[(None, "red"), (1, "green")],
        )

    beats = (SCHEDULER_BEAT, PROCESSOR_BEAT, TRIGGERER_BEAT)
    failed = path(TASK_FINISHED, dag="$dag", state="failed")
    return _fill(
        built,
        {
            "Now": [
                beat(SCHEDULER_BEAT, "Scheduler"),
                beat(PROCESSOR_BEAT, "DAG processor"),
                beat(TRIGGERER_BEAT, "Triggerer"),
                number(
                    "Task failures",
                    "Task instances that failed for good within the time shown.",
                    alias(f"sumSeries({or_zero(failed, 'none')})", "failed", condense="sum"),
                    calculation="sum",
                    steps=NONE_IS_GOOD,
                ),
                number(
                    "DAG files with errors",
                    "DAG files that cannot be imported.",
                    alias(path(IMPORT_ERRORS), "errors"),
                    steps=NONE_IS_GOOD,
                ),
                number("DAGs", "DAGs found.", alias(path(DAGS), "DAGs"), steps=[(None, "red"), (1, "green")]),
                course(
                    "Heartbeats per minute",
                    "Of the scheduler, the DAG processor and the triggerer.",
                    *(f"aliasByMetric({per_minute(path(metric))})" for metric in beats),
                ),
                course(
                    "Scheduler loop",
                    "Mean duration of one round of the scheduler. When it grows, runs start late.",
                    alias(path(LOOP), "loop", condense="average"),
                    unit="ms",
                    steps=[(None, "green"), (5000, "red")],
                ),
            ],
            "Runs and tasks": [
                run_durations("$dag"),
                course(
                    "Runs finished",
                    "Per hour, by DAG and outcome.",
                    named(
                        RUN,
                        "dag",
                        "outcome",
                        of=summed(path(RUN, "count", outcome="{success,failed}", dag="$dag")),
                    ),
                    style="bars",
                    stacked=True,
                ),
                course(
                    "Tasks finished, by state",
                    "Per hour; failed is after the last retry.",
                    f'groupByNode({summed(path(TASK_FINISHED, dag="$dag"))}, {_state_node()}, "sum")',
                    style="bars",
                    stacked=True,
                ),
                course(
                    "Task failures by task",
                    "Per hour, by DAG and task.",
                    or_zero(named(TASK_FINISHED, "dag", "task", of=summed(failed)), "none"),
                    style="bars",
                    stacked=True,
                ),
                course(
                    "Duration by task",
                    "Run time of each task, one point per run; a mapped task's mean over its instances.",
                    named(TASK_DURATION, "dag", "task", of=path(TASK_DURATION, dag="$dag")),
                    unit="ms",
                    style="points",
                    size=(24, 10),
                ),
            ],
            "Queueing": [
                course(
                    "Waiting to be queued, by task",
                    "Time from when a task was scheduled to when it was handed to the executor: waiting for a slot.",
                    named(TASK_WAIT, "dag", "task", of=path(TASK_WAIT, dag="$dag")),
                    unit="ms",
                    style="points",
                ),
                course(
                    "Tasks waiting",
                    "Ready for the executor, and starving: ready, but no pool slot is free.",
                    alias(path(EXECUTABLE), "executable"),
                    alias(path(STARVING), "starving"),
                ),
                course(
                    "Pool slots",
                    "Slots of each pool by what they are used for. (Under the LocalExecutor Airflow's own "
                    "count of running tasks stays 0: the pool's does not.)",
                    named(
                        POOL,
                        "pool",
                        "slots",
                        of=path(
                            POOL,
                            slots="{running_slots,queued_slots,scheduled_slots,deferred_slots}",
                            pool="$pool",
                        ),
                    ),
                ),
                course(
                    "Free slots",
                    "Of each pool, and of the executor.",
                    named(POOL, "pool", of=path(POOL, slots="open_slots", pool="$pool")),
                    alias(path(EXECUTOR_OPEN), "executor"),
                ),
            ],
            "DAG files and assets": [
                course(
                    "Parsing by file",
                    "Last parse of each DAG file. Airflow sends seconds here where other timers are milliseconds.",
                    named(PARSE_FILE, "file", of=path(PARSE_FILE)),
                    unit="s",
                    steps=[(None, "green"), (30, "red")],
                ),
                course(
                    "Parsing of all files",
                    "One round through all DAG files.",
                    alias(path(PARSE), "all files"),
                    unit="s",
                    size=(6, 8),
                ),
                course(
                    "Asset updates",
                    "Per hour: a new champion is one.",
                    alias(summed(path(ASSET_UPDATES)), "updates", condense="sum"),
                    style="bars",
                    size=(6, 8),
                ),
            ],
        },
    )


def _state_node() -> int:
    return path(TASK_FINISHED, state="state").split(".").index("state")


DASHBOARDS: dict[str, Callable[[], dict]] = {
    "training": training,
    "explanation": explanation,
    "scoring": scoring,
    "airflow": airflow,
}
