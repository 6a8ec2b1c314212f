"""The model card of a version (Mitchell et al. 2019): its use, its data and licence, its figures and its limits."""

from __future__ import annotations

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from emotion.reports import dataset_figures
from emotion.reports.training_report import TITLES
from emotion.settings import INCLUDE
from emotion.vocabulary import DATASET_PROTOCOLS, EMOTIONS, protocols_of


def render(comparison: dict, *, version: str, groups: pd.DataFrame | None = None) -> str:
    """The card as Markdown, from a run's ``comparison.json``.

    Parameters
    ----------
    comparison : dict
        Must hold every model with every protocol.
    version : str
        Name of the version that the run registers.
    groups : pandas.DataFrame, optional
        Importance of the groups of features for the selected model, see
        :func:`emotion.explanation.grouping.group_importance`; None where it was not explained.

    Raises
    ------
    jinja2.UndefinedError
        If a figure or fact is missing.
    """
    jinja = Environment(
        loader=FileSystemLoader(INCLUDE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    models, dataset = comparison["models"], comparison["dataset"]
    return jinja.get_template("model_card.md.j2").render(
        comparison,
        version=version,
        groups=[] if groups is None else groups[groups["subgroup"] == ""].to_dict("records"),
        protocols=protocols_of(models[comparison["selected"]]),
        dataset_protocols=DATASET_PROTOCOLS,
        standard_emotions=list(EMOTIONS),
        datasets=dataset_figures.datasets_of(dataset),
        external_datasets=comparison.get("external_datasets", []),
        consequence=dataset["licence"].get("consequence"),
        dataset_tests=dataset_figures.tests_by_dataset(models, TITLES),
    )
