"""The dashboard *Explanation*: which features matter for which emotion, in which model, and does that change?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import bargauge
from panels import bar_panel, table_panel, time_panel
from queries import latest_run, named, path

from boards.frame import MODELS, TRAINING_DAG, choose, choose_one, dashboard, runs_link, with_rows
from emotion import metrics


def explanation() -> dict:
    """The JSON of the dashboard."""
    emotions = path(metrics.SHAP_EMOTION, model=MODELS[-1]).removesuffix(".*")
    built = dashboard(
        "explanation",
        "Speech emotion: explanation",
        "SHAP importance of the acoustic features: by model, by emotion, and from run to run.",
        since="now-90d",
        refresh="15m",
        variables=[
            choose_one("explained", "Model", "Model of the panels by emotion and over runs", MODELS, MODELS[-1]),
            choose("emotion", "Emotion", "Emotions to show", emotions),
        ],
    )
    built.link(runs_link(TRAINING_DAG))
    return with_rows(
        built,
        {
            "Top features of each model": [_top_features(model) for model in MODELS],
            "SHAP values: feature by emotion": [_features_of_each_emotion()],
            "From run to run": _importance_over_runs(),
        },
    )


def _top_features(model: str) -> bargauge.Panel:
    return bar_panel(
        f"Top features: {model}",
        "Share of a feature in the mean absolute SHAP value over all emotions, for the 20 features with the largest "
        "shares. Last run.",
        named(metrics.SHAP, "feature", of=f"highestCurrent({latest_run(metrics.SHAP, model=model)}, 20)"),
        unit="percentunit",
        decimals=1,
        shades=True,
        size=(6, 16),
    )


def _features_of_each_emotion() -> bargauge.Panel:
    # One panel per emotion of the variable: each version has emotions of its own. Before 9.2 no Grafana can lay out
    # "feature x emotion" from series in one table.
    latest = latest_run(metrics.SHAP_EMOTION, model="$explained", emotion="$emotion")
    panel = bar_panel(
        "Features of $emotion",
        "Mean absolute SHAP value of the top features for one emotion, last run of the selected model. Blue is low and "
        "red is high within a panel. The features are the same in every panel, in alphabetical order.",
        f"sortByName({named(metrics.SHAP_EMOTION, 'feature', of=latest)})",
        decimals=3,
        shades=True,
        size=(24, 16),
    )
    return panel.repeat("emotion").repeat_direction("h").max_per_row(4)


def _importance_over_runs() -> list:
    top_features = f'highest({path(metrics.SHAP, model="$explained")}, 10, "max")'
    importance = named(metrics.SHAP, "feature", of=top_features)
    return [
        time_panel(
            "Importance over runs",
            "Share of a feature in the mean absolute SHAP value, one point per run, for the ten features with the "
            "highest share in any run of the time range.",
            importance,
            unit="percentunit",
            decimals=1,
            size=(24, 11),
        ),
        table_panel(
            "Change in importance",
            "Share in the first and in the last run of the time range, lowest and highest share, and last minus first.",
            importance,
            unit="percentunit",
            decimals=2,
            calculations=("firstNotNull", "lastNotNull", "min", "max", "diff"),
            size=(24, 11),
        ),
    ]
