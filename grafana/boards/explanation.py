"""The dashboard *Explanation*: which features matter for which emotion, in which model, and does that change?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import bargauge, table
from panels import bar_panel, table_panel, time_panel
from queries import latest_run, named, path

from boards.frame import TRAINING_DAG, choose_one, dashboard, runs_link, with_rows
from emotion import metrics
from emotion.vocabulary import EMOTIONS, FAMILIES

MODELS = (*FAMILIES, "ensemble")


def explanation() -> dict:
    """The JSON of the dashboard."""
    built = dashboard(
        "explanation",
        "Speech emotion: explanation",
        "SHAP importance of the acoustic features: by model, by emotion, and from run to run.",
        since="now-90d",
        refresh="15m",
        variables=[
            choose_one("explained", "Model", "Model of the heat map and of the panels over runs", MODELS, MODELS[-1])
        ],
    )
    built.link(runs_link(TRAINING_DAG))
    return with_rows(
        built,
        {
            "Top features of each model": [_top_features(model) for model in MODELS],
            "SHAP heat map: feature by emotion": [
                _heat_map_column("feature", EMOTIONS[0], shown="names", width=8),
                *(_heat_map_column(emotion, emotion, shown="values", width=2) for emotion in EMOTIONS),
            ],
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


def _heat_map_column(title: str, emotion: str, *, shown: str, width: int) -> table.Panel:
    # A table of names and one table of values per emotion, with the rows in the same order, make a heat map that every
    # Grafana can draw: before 9.2 no Grafana can lay out "feature x emotion" from series in one table.
    latest = latest_run(metrics.SHAP_EMOTION, model="$explained", emotion=emotion)
    return table_panel(
        title,
        "Mean absolute SHAP value of the top features for one emotion, last run of the selected model. Blue is low and "
        "red is high within a column. The rows are the same in every column.",
        f"sortByName({named(metrics.SHAP_EMOTION, 'feature', of=latest)})",
        unit="short",
        decimals=3,
        shown=shown,
        size=(width, 22),
    )


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
            size=(14, 11),
        ),
        table_panel(
            "Change in importance",
            "Share in the first and in the last run of the time range, lowest and highest share, and last minus first.",
            importance,
            unit="percentunit",
            decimals=2,
            calculations=("firstNotNull", "lastNotNull", "min", "max", "diff"),
            size=(10, 11),
        ),
    ]
