"""The dashboard *Overview*: one screen that says whether everything is all right."""

from __future__ import annotations

from functools import partial

import queries
from grafana_foundation_sdk.builders import stat
from panels import NEUTRAL, NONE_IS_GOOD, SHARE, STATES, alert_list, stat_panel, time_panel
from queries import (
    aged,
    alias,
    champion_age,
    gated,
    last_sweep,
    named,
    or_zero,
    path,
    recent,
    rejected_share,
    since_last,
)

from boards.frame import (
    FAILED_IS_BAD,
    OUTCOMES,
    SCORING_DAG,
    TRAINING_DAG,
    board_link,
    dashboard,
    last_run,
    link,
    promotions,
    report_link,
    with_rows,
)
from emotion import metrics
from emotion.evaluation.selection import PROTOCOL, SCORE

TO_TRAINING, TO_SCORING, TO_AIRFLOW = (
    board_link(name, f"Dashboard {name.capitalize()}") for name in ("training", "scoring", "airflow")
)
ALERT_LABELS = '{project="emotion"}'
TOLERANCE = 0.05
"""The estimated accuracy may lie this much below the promised one, as the measured one may."""
tile = partial(stat_panel, size=(4, 5))


def overview() -> dict:
    """The JSON of the dashboard."""
    built = dashboard(
        "overview",
        "Speech emotion: overview",
        "Is everything all right? Each tile says what was last seen and how long ago; a click leads to the dashboard "
        "that says more.",
        since="now-7d",
        refresh="1m",
        variables=[],
    )
    built.link(link("Airflow", "${airflow}", tooltip="The Airflow UI"))
    built.annotation(promotions())
    return with_rows(built, {"": [*_first_line(), *_second_line(), *_third_line()]})


def _first_line() -> list[stat.Panel]:
    return [
        _runs(TRAINING_DAG, "Training", within="8 d"),
        _runs(SCORING_DAG, "Scoring", within="2 h"),
        tile(
            "Drift",
            "Does the audio differ from that of training? The verdict on the last batch that could be judged (0: ok; "
            "1: watch; 2: alarm), and its age. Grey if there was none for 2 hours.",
            recent(path(metrics.DRIFT_VERDICT), "last batch", within="2 h"),
            age=aged(since_last(path(metrics.DRIFT_VERDICT)), within="2 h"),
            words={0: "ok", 1: "watch", 2: "alarm"},
            steps=[(None, "green"), (1, "yellow"), (2, "red")],
            since="9d",
            no_data="none for 9 d",
            links=[TO_SCORING],
        ),
        _realized(),
        _estimated(),
        _heartbeats(),
    ]


def _runs(dag: str, title: str, *, within: str) -> stat.Panel:
    """How the last run ended, and when; of scoring, which skips a run where no file is new, when it last looked."""
    is_scoring = dag == SCORING_DAG
    ended = path(queries.RUN, outcome="{success,failed}", dag=dag)
    looked = (
        "when scoring last looked for new files. Red if that is over an hour more than lies between two scheduled runs"
    )
    return tile(
        title,
        f"How the last run of {dag} ended (1: succeeded; 2: failed), and "
        + (looked if is_scoring else "how long ago")
        + f". Grey if no run ended for {within}.",
        last_run(dag, within=within),
        age=last_sweep() if is_scoring else aged(since_last(ended), within=within),
        words=OUTCOMES,
        steps=FAILED_IS_BAD,
        since="9d",
        no_data="none for 9 d",
        links=[TO_SCORING if is_scoring else TO_TRAINING],
    )


def _accuracy(title: str, description: str, value: str, short: str, *, no_data: str) -> stat.Panel:
    """An accuracy in use, red where ``short`` says that it lies below what training promised."""
    words = {"below promise": gated(short, value), "as promised": value}
    below, promised = (recent(metric, word, within="2 h") for word, metric in words.items())
    return tile(
        title,
        description,
        f"fallbackSeries({below}, {promised})",
        age=aged(since_last(value), within="2 h"),
        unit="percentunit",
        decimals=0,
        colours={"/^below/": "red"},
        since="9d",
        no_data=no_data,
        links=[TO_SCORING],
    )


def _realized() -> stat.Panel:
    return _accuracy(
        "Accuracy, by labels",
        "Accuracy of the champion by the labels of listeners over the last 90 days; measured each hour. Red if its "
        "whole 95 % interval lies more than 0.05 below what training promised. Grey without enough labels.",
        path(metrics.REALIZED, model="champion", figure="value"),
        f"currentAbove({path(metrics.ACCURACY_SHORT)}, 0)",
        no_data="no labels for 9 d",
    )


def _estimated() -> stat.Panel:
    figures = path(metrics.ESTIMATED, figure="promised")
    missing = f"applyByNode({figures}, {figures.count('.') - 1}, 'diffSeries(%.promised, %.high)')"
    return _accuracy(
        "Accuracy, estimated",
        "Accuracy of the last batch that could be estimated, from its confidence and without labels. Red if its whole "
        "95 % interval lies more than 0.05 below what training promised. Grey if there was none for 2 hours.",
        path(metrics.ESTIMATED, figure="value"),
        f"currentAbove({missing}, {TOLERANCE})",
        no_data="none for 9 d",
    )


def _heartbeats() -> stat.Panel:
    beats = {
        "scheduler": queries.SCHEDULER_BEAT,
        "DAG processor": queries.PROCESSOR_BEAT,
        "triggerer": queries.TRIGGERER_BEAT,
    }
    return tile(
        "Airflow: last heartbeats",
        "Time since the last heartbeat of the scheduler, the DAG processor and the triggerer. Red after 5 minutes: the "
        "component is down, or its metrics do not reach StatsD.",
        *(alias(since_last(path(metric), least=1), name) for name, metric in beats.items()),
        unit="s",
        decimals=0,
        steps=[(None, "red"), (0, "green"), (300, "red")],
        since="1d",
        no_data="none for 1 d",
        links=[TO_AIRFLOW],
    )


def _second_line() -> list[stat.Panel]:
    f1 = path(metrics.CHAMPION_SCORE, score=SCORE, protocol=PROTOCOL)
    return [
        stat_panel(
            "Champion, and since when",
            "Family and run of the model in use, and the time since it was promoted.",
            champion_age(),
            unit="s",
            decimals=1,
            steps=NEUTRAL,
            since="90d",
            links=[TO_TRAINING],
            size=(8, 4),
        ),
        stat_panel(
            "Champion's macro F1",
            "Macro F1 of the champion on unheard speakers. Grey if no training sent it for 8 days.",
            recent(f1, "champion", within="8 d"),
            decimals=3,
            steps=NEUTRAL,
            since="90d",
            links=[TO_TRAINING],
        ),
        stat_panel(
            "Files rejected",
            "Share of the files of the last day that could not be scored.",
            alias(rejected_share(), "of 1 d"),
            unit="percentunit",
            decimals=1,
            steps=SHARE,
            since="1d",
            no_data="none for 1 d",
            links=[TO_SCORING],
        ),
        stat_panel(
            "Task failures",
            "Task instances of the last day that failed after their last retry.",
            alias(
                "sumSeries("
                + or_zero(path(queries.TASK_FINISHED, state="failed"), "none", alive=path(queries.SCHEDULER_BEAT))
                + ")",
                "of 1 d",
                condense="sum",
            ),
            calculation="sum",
            steps=NONE_IS_GOOD,
            since="1d",
            no_data="none for 1 d",
            links=[TO_AIRFLOW],
        ),
        stat_panel(
            "DAG files with errors",
            "DAG files that cannot be imported.",
            alias(path(queries.IMPORT_ERRORS), "errors"),
            steps=NONE_IS_GOOD,
            since="15m",
            no_data="no data for 15 min",
            links=[TO_AIRFLOW],
        ),
    ]


def _third_line() -> list:
    runs = path(queries.RUN, outcome="{success,failed}", dag=f"{{{TRAINING_DAG},{SCORING_DAG}}}")
    return [
        alert_list(
            "Alerts that fire",
            "Alerts of this project that fire or are pending, the newest first. Each has a link to what to do.",
            labels=ALERT_LABELS,
            size=(12, 9),
        ),
        time_panel(
            "Runs",
            "Duration of each run in the time range, by DAG and outcome. A click on a point opens its report.",
            named(queries.RUN, "dag", "outcome", of=runs),
            unit="ms",
            style="points",
            colours=STATES,
            links=[report_link(TRAINING_DAG), report_link(SCORING_DAG)],
            size=(12, 9),
        ),
    ]
