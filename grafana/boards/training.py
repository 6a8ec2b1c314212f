"""The dashboard *Training*: did the last training succeed, how do its models compare, is the champion still good?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import bargauge, timeseries
from panels import AGE, ERROR, GOOD, NEUTRAL, QUALITY, SHARE, STATES, Steps, bar_panel, stat_panel, time_panel
from queries import age, alias, champion_age, named, path, recent, summed

from boards.frame import (
    MODELS,
    TRAINING_DAG,
    choose,
    choose_one,
    dashboard,
    promotions,
    run_durations,
    run_state,
    runs_link,
    with_rows,
)
from emotion import metrics
from emotion.evaluation.selection import MODE, PROTOCOL, SCORE
from emotion.vocabulary import DATASET_MODES, DATASET_PROTOCOLS, MODES, PROTOCOLS

SCORES = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "uar", "log_loss", "ece")
SELECTED = {"model": "$model", "protocol": "$protocol"}
"""The labels that the variables of the dashboard fill in."""
GIB = 2**30


def training() -> dict:
    """The JSON of the dashboard."""
    built = dashboard(
        "training",
        "Speech emotion: training",
        "Did the last training succeed? How do its models compare? Is the champion still good?",
        since="now-90d",
        refresh="5m",
        variables=[
            choose("model", "Model", "Models to show", path(metrics.SCORE).rsplit(".", 2)[0]),
            choose_one(
                "protocol",
                "Protocol",
                "How the clips were divided for a score: random split, unheard speakers (speaker_independent) or, in "
                "runs on several datasets, unheard datasets; each plain, by speaker (adapted) or by batch",
                (*PROTOCOLS, *DATASET_PROTOCOLS),
                PROTOCOL,
            ),
            choose_one(
                "mode",
                "Mode",
                "How features were normalized in the row 'Outside the studio' and for external datasets: plain, by "
                "batch or by speaker",
                tuple(MODES),
                MODE,
            ),
            choose_one(
                "explained", "Model by condition", "Model of the panels by recording condition", MODELS, MODELS[-1]
            ),
            choose_one("score", "Score", "Score in the panel '… over runs'", SCORES, SCORE),
        ],
    )
    built.link(runs_link(TRAINING_DAG))
    built.annotation(promotions())
    return with_rows(
        built,
        {
            "Now": _now(),
            "Models compared": [
                *_scores_of_last_run(),
                *_scores_compared(),
                *_folds(),
                _confidence(),
                *_scores_of_each_model(),
            ],
            "Datasets": _datasets(),
            "Outside the studio": _outside(),
            "Champion": _champion(),
            "Pipeline": [*_work_and_clips(), *_cost_of_models_and_stages()],
        },
        reports_of=TRAINING_DAG,
    )


def _now() -> list:
    clips = path(metrics.CLIPS, kind="rejected")
    return [
        run_state(TRAINING_DAG, within="8 d"),
        stat_panel(
            "Time since last success",
            "Time since a training run last succeeded. Yellow after 7 days; red after 8, when the alert fires.",
            alias(age(metrics.RUN_FINISHED), "last success"),
            unit="s",
            steps=AGE,
            decimals=1,
        ),
        stat_panel(
            "Champion's macro F1",
            "Macro F1 of the champion on unheard speakers: from its promotion, or from the last run, which scored it "
            "again. Grey if no run sent it for 8 days.",
            recent(path(metrics.CHAMPION_SCORE, score=SCORE, protocol=PROTOCOL), "champion", within="8 d"),
            decimals=3,
            steps=QUALITY,
        ),
        stat_panel(
            "Champion, and since when",
            "Family and run of the model in use, and the time since it was promoted.",
            champion_age(),
            unit="s",
            decimals=1,
            steps=NEUTRAL,
        ),
        stat_panel(
            "Rejected clips",
            "Share of the clips that the last run could not use. The file rejected.csv of the run lists them with "
            "their reasons.",
            recent(
                f"applyByNode({clips}, {clips.count('.') - 1}, 'divideSeries(%.rejected, %.total)')",
                "last run",
                within="8 d",
            ),
            unit="percentunit",
            decimals=1,
            steps=SHARE,
        ),
        stat_panel(
            "Promotions",
            "Number of challengers that became champion in the time range.",
            alias(path(metrics.PROMOTION, decision="promoted"), "promoted", condense="sum"),
            calculation="sum",
            steps=NEUTRAL,
        ),
    ]


def _scores_of_last_run() -> list:
    def compared(score: str, title: str, description: str) -> bargauge.Panel:
        return bar_panel(
            title,
            description + " Last run, selected protocol.",
            named(metrics.SCORE, "model", of=path(metrics.SCORE, score=score, **SELECTED)),
            decimals=3,
            limits=(0, 1),
            steps=QUALITY,
        )

    return [
        compared("accuracy", "Accuracy", "Share of the clips whose emotion the model recognized."),
        compared(
            "precision_macro",
            "Precision",
            "Of the clips that the model assigned to an emotion, the share that have it; mean over emotions.",
        ),
        compared(
            "recall_macro",
            "Recall",
            "Of the clips that have an emotion, the share that the model assigned to it; mean over emotions.",
        ),
        compared("f1_macro", "Macro F1", "Harmonic mean of precision and recall of an emotion; mean over emotions."),
    ]


def _scores_compared() -> list:
    return [
        time_panel(
            "$score over runs",
            "The selected score under the selected protocol, one point per run and model.",
            named(metrics.SCORE, "model", of=path(metrics.SCORE, score="$score", **SELECTED)),
            decimals=3,
            limits=(None, None),
        ),
    ]


def _folds() -> list:
    return [
        time_panel(
            "Cross-validation: standard deviation over folds",
            "Standard deviation of macro F1 over the folds, one point per run. If two models differ by less than "
            "this, neither is the better one.",
            named(metrics.CV_SCORE, "model", of=path(metrics.CV_SCORE, statistic="std", **SELECTED)),
            decimals=3,
        ),
        bar_panel(
            "Cross-validation: worst, mean and best fold",
            "Lowest, mean and highest macro F1 over the folds. Last run, selected protocol.",
            named(
                metrics.CV_SCORE,
                "model",
                "statistic",
                of=path(metrics.CV_SCORE, statistic="{min,mean,max}", **SELECTED),
            ),
            decimals=3,
            limits=(0, 1),
            steps=QUALITY,
            size=(12, 15),
        ),
    ]


def _confidence() -> bargauge.Panel:
    return bar_panel(
        "Confidence on unheard speakers",
        "Probability that a model of the last run gives to its own answer: mean, and the percentiles p10, p50 and p90.",
        named(
            metrics.TRAIN_CONFIDENCE,
            "model",
            "statistic",
            of=path(metrics.TRAIN_CONFIDENCE, model="$model", statistic="{mean,p10,p50,p90}"),
        ),
        decimals=3,
        limits=(0, 1),
        size=(12, 15),
    )


def _scores_of_each_model() -> list:
    """A panel for each model, side by side, with the rows in the same order: one panel of all rows would be cut off."""
    emotions = named(metrics.EMOTION_F1, "emotion", of=path(metrics.EMOTION_F1, **SELECTED))
    protocols = named(metrics.SCORE, "protocol", of=path(metrics.SCORE, model="$model", score=SCORE))
    panels = [
        bar_panel(
            "F1 by emotion: $model",
            "F1 of each emotion: a low bar is an emotion that the model confuses with others. Last run, selected "
            "protocol.",
            f"sortByName({emotions})",
            decimals=3,
            limits=(0, 1),
            steps=QUALITY,
            size=(24, 8),
        ),
        bar_panel(
            "Macro F1 by protocol: $model",
            "Macro F1 of the last run under each protocol. The random split gives higher values because the same "
            "speakers are on both sides. A new speaker gets what speaker_independent shows.",
            f"sortByName({protocols})",
            decimals=3,
            limits=(0, 1),
            steps=QUALITY,
            size=(24, 8),
        ),
    ]
    return [panel.repeat("model").repeat_direction("h").max_per_row(4) for panel in panels]


def _datasets() -> list:
    unheard = f"{{{PROTOCOL},{DATASET_MODES[MODE]}}}"
    on_external = {"mode": "$mode", "score": "uar"}
    return [
        bar_panel(
            "UAR by dataset",
            "Unweighted average recall on each dataset of the last run on several: of unheard speakers "
            "(speaker_independent), and of a model that was trained on the other datasets (unheard_dataset), which is "
            "tested on the emotions that they have too. Plain answers.",
            named(
                metrics.DATASET_SCORE,
                "dataset",
                "protocol",
                "model",
                of=path(metrics.DATASET_SCORE, model="$model", protocol=unheard, score="uar"),
            ),
            decimals=3,
            limits=(0, 1),
            steps=QUALITY,
            size=(8, 12),
        ),
        time_panel(
            "UAR by dataset over runs",
            "Unweighted average recall on each dataset under the selected protocol, one point per run and model.",
            named(metrics.DATASET_SCORE, "dataset", "model", of=path(metrics.DATASET_SCORE, score="uar", **SELECTED)),
            decimals=3,
            limits=(None, None),
            size=(8, 12),
        ),
        time_panel(
            "External datasets: new models against champion",
            "Unweighted average recall on datasets that are only tested on, over the emotions that they share with the "
            "model; selected mode, one point per run. 'champion' is the champion at the time of the run, if it was not "
            "trained on the dataset.",
            # "All" models are a *, which finds the champion too
            *(
                named(metrics.EXTERNAL, "dataset", "model", of=series)
                for series in (
                    f"exclude({path(metrics.EXTERNAL, model='$model', **on_external)}, '[.]champion[.]')",
                    path(metrics.EXTERNAL, model="champion", **on_external),
                )
            ),
            decimals=3,
            limits=(None, None),
            size=(8, 12),
        ),
    ]


def _outside() -> list:
    def by_condition(metric: metrics.Metric, title: str, description: str, steps: Steps) -> bargauge.Panel:
        return bar_panel(
            title,
            description + " A sample of clips of unheard speakers; last run, selected mode, 'Model by condition'.",
            f"sortByName({named(metric, 'condition', of=path(metric, model='$explained', mode='$mode'))})",
            decimals=3,
            limits=(0, 1),
            steps=steps,
            size=(8, 14),
        )

    def over_runs(summary: str, title: str, description: str) -> timeseries.Panel:
        return time_panel(
            title,
            description + " One point per run and model, selected mode.",
            named(
                metrics.STRESS_SUMMARY,
                "model",
                of=path(metrics.STRESS_SUMMARY, model="$model", mode="$mode", summary=summary),
            ),
            decimals=3,
            limits=(None, None),
            size=(12, 8),
        )

    return [
        by_condition(
            metrics.STRESS_ACCURACY, "Accuracy by recording condition", "Share of right answers by condition.", QUALITY
        ),
        by_condition(
            metrics.STRESS_ECE,
            "Calibration error by recording condition",
            "Expected calibration error: how far confidence lies from accuracy. Yellow from 0.1 on.",
            ERROR,
        ),
        by_condition(
            metrics.STRESS_CHANGED,
            "Answers that a condition changes",
            "Share of the answers that differ from the answer for the clean clip.",
            GOOD,
        ),
        over_runs("mean_accuracy", "Mean accuracy outside over runs", "Mean over all conditions but clean."),
        over_runs("worst_ece", "Worst calibration error over runs", "The highest calibration error of any condition."),
    ]


def _champion() -> list:
    f1 = path(metrics.CHAMPION_SCORE, protocol=PROTOCOL, score=SCORE)
    return [
        time_panel(
            "Champion over time",
            "Scores of the champion on unheard speakers; each run scores it again. Purple marks are promotions. Red: "
            "0.05 below the highest macro F1 of 30 days, below which the alert fires.",
            named(
                metrics.CHAMPION_SCORE,
                "score",
                of=path(metrics.CHAMPION_SCORE, score="{accuracy,f1_macro,uar}", protocol=PROTOCOL),
            ),
            limit=alias(f"offset(movingMax({f1}, '30d'), -0.05)", "alert: f1_macro below"),
            decimals=3,
            limits=(None, None),
        ),
        time_panel(
            "Challenger against champion",
            "Difference in macro F1, challenger minus champion, with the ends of its 95% interval, and the probability "
            "that the challenger is better, all on clean clips. overall: the mean of clean clips and of those under "
            "recording conditions, which decides; by default a challenger is promoted from a probability of 0.9 on. "
            "outside: the difference in accuracy under the conditions.",
            named(metrics.CHALLENGE, "statistic", of=path(metrics.CHALLENGE)),
            decimals=3,
            limits=(None, None),
        ),
        time_panel(
            "Promotion decisions",
            "Number per hour. promoted: the challenger became champion. kept: the champion stayed.",
            named(metrics.PROMOTION, "decision", of=summed(path(metrics.PROMOTION))),
            colours=STATES,
            style="bars",
            stacked=True,
        ),
    ]


def _work_and_clips() -> list:
    return [
        time_panel(
            "Work by stage",
            "Time that the tasks of each stage worked, added up per hour: one bar per run. Tasks work at the same "
            "time, so the run takes less time than their sum.",
            named(metrics.STAGE_DURATION, "stage", of=summed(path(metrics.STAGE_DURATION, "sum"))),
            unit="ms",
            style="bars",
            stacked=True,
            links=[runs_link(TRAINING_DAG)],
        ),
        run_durations(TRAINING_DAG),
        time_panel(
            "Clips of each run",
            "Clips in total, stored (their features were stored before), missing (to featurize), rejected, duplicates "
            "and used.",
            named(metrics.CLIPS, "kind", of=path(metrics.CLIPS)),
        ),
        time_panel(
            "Clips featurized",
            "Clips per hour, by outcome: featurized or rejected.",
            named(metrics.FEATURIZED, "outcome", of=summed(path(metrics.FEATURIZED))),
            colours=STATES,
            style="bars",
            size=(6, 8),
        ),
        time_panel(
            "Time to featurize a clip",
            "Mean time per clip of a shard.",
            alias(path(metrics.CLIP_DURATION), "per clip", condense="average"),
            unit="ms",
            size=(6, 8),
        ),
    ]


def _cost_of_models_and_stages() -> list:
    return [
        bar_panel(
            "Fit time of the final model",
            "Time to fit each model of the last run on all clips.",
            named(metrics.FIT_SECONDS, "model", of=path(metrics.FIT_SECONDS, model="$model")),
            unit="s",
            decimals=1,
            size=(12, 8),
        ),
        bar_panel(
            "Prediction time per clip",
            "Time from features to the answer, for the models of the last run: one clip at a time (single), and many "
            "clips at once (batch).",
            named(metrics.PREDICT_MS, "model", "batch", of=path(metrics.PREDICT_MS, model="$model")),
            unit="ms",
            decimals=2,
            size=(12, 8),
        ),
        bar_panel(
            "Peak memory by stage",
            "Peak memory of the last task of each stage. A worker needs at least this much.",
            named(metrics.RESOURCE, "stage", of=path(metrics.RESOURCE, resource="peak_memory_bytes")),
            unit="bytes",
            steps=[(None, "green"), (2 * GIB, "yellow"), (4 * GIB, "red")],
            size=(12, 14),
        ),
        bar_panel(
            "CPU time by stage",
            "CPU time of the last task of each stage.",
            named(metrics.RESOURCE, "stage", of=path(metrics.RESOURCE, resource="cpu_seconds")),
            unit="s",
            decimals=1,
            size=(12, 14),
        ),
    ]
