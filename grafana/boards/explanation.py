"""The dashboard *Explanation*: which groups of features, and which features, matter for which emotion; does that
change?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import bargauge
from panels import bar_panel, table_panel, time_panel
from queries import latest_run, named, path

from boards.frame import MODELS, TRAINING_DAG, choose, choose_one, dashboard, promotions, runs_link, with_rows
from emotion import metrics

IMPORTANCE_LIMIT = 0.667
"""Of the alert on importance."""


def explanation() -> dict:
    """The JSON of the dashboard."""
    emotions = path(metrics.SHAP_GROUP_EMOTION, model=MODELS[-1]).removesuffix(".*")
    built = dashboard(
        "explanation",
        "Speech emotion: explanation",
        "What the models listen to: the importance of groups of acoustic features, and of single ones, by model, by "
        "emotion, and from run to run.",
        since="now-90d",
        refresh="15m",
        variables=[
            choose_one("explained", "Model", "Model of the panels by emotion and over runs", MODELS, MODELS[-1]),
            choose("emotion", "Emotion", "Emotions to show", emotions),
        ],
    )
    built.link(runs_link(TRAINING_DAG))
    built.annotation(promotions())
    return with_rows(
        built,
        {
            "What each model listens to": [_groups_of(model) for model in MODELS],
            "Groups by emotion": [_groups_of_each_emotion()],
            "From run to run": _importance_over_runs(),
            "Single features": _single_features(),
        },
        reports_of=TRAINING_DAG,
    )


def _groups_of(model: str) -> bargauge.Panel:
    latest = latest_run(metrics.SHAP_GROUP, model=model)
    return bar_panel(
        f"Groups of features: {model}",
        "Share of each group of features in what speaks for or against an emotion (SHAP values, added up by group), "
        "all emotions. The groups add up to 100 %. Last run.",
        f"sortByMaxima({named(metrics.SHAP_GROUP, 'group', of=latest)})",
        unit="percentunit",
        decimals=0,
        size=(6, 8),
    )


def _groups_of_each_emotion() -> bargauge.Panel:
    # One panel per emotion of the variable: each version has emotions of its own. Before 9.2 no Grafana can lay out
    # "group x emotion" from series in one table.
    latest = latest_run(metrics.SHAP_GROUP_EMOTION, model="$explained", emotion="$emotion")
    panel = bar_panel(
        "Groups for $emotion",
        "Share of each group of features in what speaks for or against one emotion, last run of the selected model. "
        "The groups are in the same order in every panel. Blue is low and red is high.",
        f"sortByName({named(metrics.SHAP_GROUP_EMOTION, 'group', of=latest)})",
        unit="percentunit",
        decimals=0,
        limits=(0, 0.5),
        shades=True,
        size=(24, 8),
    )
    return panel.repeat("emotion").repeat_direction("h").max_per_row(4)


def _importance_over_runs() -> list:
    share = path(metrics.SHAP_GROUP)
    fallen = f"divideSeriesLists({share}, movingMax({share}, '60d'))"
    risen = f"divideSeriesLists(movingMin({share}, '60d'), {share})"
    importance = named(metrics.SHAP_GROUP, "group", of=path(metrics.SHAP_GROUP, model="$explained"))
    return [
        time_panel(
            "Importance over runs",
            "Share of each group of features, one point per run of the selected model.",
            importance,
            unit="percentunit",
            decimals=0,
            size=(24, 9),
        ),
        time_panel(
            "Importance against its extremes of 60 days",
            "Share of each group of features, of every model, as a part of its highest share of 60 days, or its lowest "
            "share as a part of it, whichever is less. Below the red line, the alert fires.",
            named(metrics.SHAP_GROUP, "model", "group", of=f"aggregateSeriesLists({fallen}, {risen}, 'min')"),
            decimals=2,
            limits=(0, 1),
            steps=[(None, "red"), (IMPORTANCE_LIMIT, "green")],
            size=(24, 9),
        ),
        table_panel(
            "Change in importance",
            "Share in the first and in the last run of the time range, lowest and highest share, and last minus first.",
            importance,
            unit="percentunit",
            decimals=1,
            calculations=("firstNotNull", "lastNotNull", "min", "max", "diff"),
            size=(24, 9),
        ),
    ]


def _single_features() -> list:
    latest = latest_run(metrics.SHAP, model="$explained")
    of_emotion = latest_run(metrics.SHAP_EMOTION, model="$explained")
    return [
        bar_panel(
            "Top features",
            "Share of a feature in the mean absolute SHAP value over all emotions, for the 20 features with the "
            "largest shares. Last run of the selected model. There are some 2,000 features, so each has a small share.",
            named(metrics.SHAP, "feature", of=f"highestCurrent({latest}, 20)"),
            unit="percentunit",
            decimals=2,
            shades=True,
            size=(12, 16),
        ),
        bar_panel(
            "Top features, by emotion",
            "Mean absolute SHAP value of a feature for one emotion: the 20 largest. Last run of the selected model.",
            named(metrics.SHAP_EMOTION, "emotion", "feature", of=f"highestCurrent({of_emotion}, 20)"),
            decimals=3,
            shades=True,
            size=(12, 16),
        ),
    ]
