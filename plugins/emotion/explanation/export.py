"""Writes SHAP values, importance and plots of a run to the artifact store, and reads them for the report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from emotion.explanation.grouping import group_importance
from emotion.explanation.plots import PLOTS, bar_plot, beeswarm_plot, heatmap_plot
from emotion.explanation.ranking import importance
from emotion.explanation.values import Explanation
from emotion.store import Store


def export(
    store: Store,
    prefix: str,
    *,
    family: str,
    explanation: Explanation,
    feature_names: tuple[str, ...],
    clips: pd.DataFrame,
    colours: Mapping[str, str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the explanation of a model below ``prefix``.

    The files are ``<family>_values.parquet`` (a row per clip and emotion: sha256, path, emotion, base_value, output,
    then a float32 column per feature), ``<family>_groups.csv`` (importance of groups of features),
    ``<family>_importance.csv`` (of features), and ``<family>_bar.png``, ``_heatmap.png`` and ``_beeswarm.png``.

    Parameters
    ----------
    store : Store
    prefix : str
        Such as ``runs/<run id>/shap``.
    family : str
    explanation : Explanation
    feature_names : tuple of str
    clips : pandas.DataFrame
        The clips that are explained, in the order of the explanation: sha256, path.
    colours : mapping of str to str
        The colour of each emotion: see :func:`emotion.vocabulary.emotion_colours`.

    Returns
    -------
    tuple of pandas.DataFrame
        The importance of the features, see :func:`emotion.explanation.ranking.importance`, and of their groups, see
        :func:`emotion.explanation.grouping.group_importance`.
    """
    ranking = importance(explanation, feature_names=feature_names)
    by_group = group_importance(explanation, feature_names=feature_names)
    store.write_table(f"{prefix}/{family}_groups.csv", by_group)
    store.write_table(f"{prefix}/{family}_values.parquet", _values_table(explanation, feature_names, clips))
    store.write_table(f"{prefix}/{family}_importance.csv", ranking)
    plots = {
        "bar": bar_plot(explanation, ranking, colours),
        "heatmap": heatmap_plot(explanation, ranking),
        "beeswarm": beeswarm_plot(explanation, feature_names),
    }
    for name in PLOTS:
        store.write_bytes(f"{prefix}/{family}_{name}.png", plots[name])
    return ranking, by_group


def _values_table(explanation: Explanation, feature_names: tuple[str, ...], clips: pd.DataFrame) -> pd.DataFrame:
    """A row per clip and emotion."""
    count = len(explanation.emotions)
    rows = pd.DataFrame(
        {
            "sha256": np.repeat(clips["sha256"].to_numpy(), count),
            "path": np.repeat(clips["path"].to_numpy(), count),
            "emotion": np.tile(explanation.emotions, len(clips)),
            "base_value": np.tile(explanation.base_values, len(clips)),
            "output": explanation.outputs.ravel(),
        }
    )
    values = explanation.values.astype(np.float32).reshape(len(rows), -1)
    return pd.concat([rows, pd.DataFrame(values, columns=list(feature_names))], axis=1)


def read_export(store: Store, prefix: str, families: list[str]) -> dict[str, dict]:
    """What :func:`export` wrote, as the report takes it.

    Returns
    -------
    dict
        ``{family: {"groups": DataFrame or None, "importance": DataFrame, "plots": {name: PNG}}}``, without families
        that were not explained. Runs of earlier releases have no importance of groups.
    """
    return {
        family: {
            "groups": read_groups(store, prefix, family),
            "importance": pd.read_csv(store.open(f"{prefix}/{family}_importance.csv")),
            "plots": {name: store.read_bytes(f"{prefix}/{family}_{name}.png") for name in PLOTS},
        }
        for family in families
        if store.exists(f"{prefix}/{family}_importance.csv")
    }


def read_groups(store: Store, prefix: str, family: str) -> pd.DataFrame | None:
    """The importance of groups that :func:`export` wrote for a family; None where there is none."""
    key = f"{prefix}/{family}_groups.csv"
    return pd.read_csv(store.open(key), keep_default_na=False) if store.exists(key) else None
