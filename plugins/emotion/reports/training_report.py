"""The report of a training run: one page with everything inside, the comparison as a table, and as text."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from emotion.explanation.plots import PLOTS
from emotion.reports.page import environment, format_figure
from emotion.vocabulary import EMOTIONS, PROTOCOLS, SCORES

TITLES = dict(
    zip(
        PROTOCOLS,
        ("Random split", "Random split, adapted", "Unheard speakers", "Unheard speakers, adapted"),
        strict=True,
    )
)
TIMES = ("fit_seconds", "predict_ms_single", "predict_ms_batch", "training_seconds")
PLOT_TITLES = dict(
    zip(
        PLOTS,
        (
            "Most important features, and for which emotion",
            "Which feature matters for which emotion",
            "How a feature's value pushes each emotion",
        ),
        strict=True,
    )
)
GROUP_COLOURS = ("#2f7ed8", "#e07b39", "#3a9d5d", "#a35cc0", "#c9485b", "#8a8f98")
TOP_FEATURES = 12
LEGEND = """\
* selected: highest macro F1 on speakers it has not heard. Random-split figures are optimistic: the same
  speakers are on both sides. Adapted: features normalized by each speaker's own clips, without their labels."""


def render(*, comparison: dict, challenge: Mapping | None, decision: dict | None, shap: dict[str, dict]) -> str:
    """The report as one self-contained HTML page: no script, no request to anywhere.

    Parameters
    ----------
    comparison : dict
        What ``comparison.json`` holds. Models, protocols and figures that it lacks show as ``–``.
    challenge : mapping or None
        From :func:`emotion.models.promotion.challenge`; None before a challenger was registered.
    decision : dict or None
        The promotion decision; None before it was made.
    shap : dict
        From :func:`emotion.explanation.export.read_export`.
    """
    selected, models = comparison["selected"], comparison["models"]
    judged = models[selected].get("speaker_independent", {}).get("per_emotion", {})
    present = [emotion for emotion in EMOTIONS if not judged or judged[emotion]["support"]]
    order = sorted(shap, key=lambda family: family != selected)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            comparison=comparison,
            models=models,
            dataset=comparison["dataset"],
            selected=selected,
            challenge=challenge,
            decision=decision,
            explanations=[
                {
                    "family": family,
                    "plots": shap[family]["plots"],
                    "top": shap[family]["importance"].head(TOP_FEATURES).to_dict("records"),
                }
                for family in order
            ],
            tops={
                protocol: {
                    score: max(found.get(protocol, {}).get(score, 0.0) for found in models.values())
                    for score in ("accuracy", "f1_macro")
                }
                for protocol in PROTOCOLS
            },
            protocols=TITLES,
            plot_titles=PLOT_TITLES,
            emotions=EMOTIONS,
            present=present,
            chance=1 / len(present),
            group_colours=GROUP_COLOURS,
            scores=SCORES,
        )
    )


def comparison_rows(comparison: dict) -> pd.DataFrame:
    """A row per model and protocol, for ``comparison.csv``.

    ``model``, ``protocol`` (those of :data:`emotion.vocabulary.PROTOCOLS`, and ``random_80_20`` for the single
    split), ``selected``, ``n``, the scores, mean, std, min and max over folds of accuracy and macro F1, and
    the timings. A figure that is missing is empty.
    """
    rows = []
    for model, found in comparison["models"].items():
        sets = {protocol: found[protocol] for protocol in PROTOCOLS if protocol in found}
        if "split_80_20" in found.get("random", {}):
            sets["random_80_20"] = found["random"]["split_80_20"]
        for protocol, figures in sets.items():
            row = {"model": model, "protocol": protocol, "selected": model == comparison["selected"]}
            row |= {score: figures.get(score) for score in ("n", *SCORES)}
            for score in ("accuracy", "f1_macro"):
                spread = figures.get("cv", {}).get(score, {})
                row |= {f"cv_{score}_{name}": spread.get(name) for name in ("mean", "std", "min", "max")}
            rows.append(row | {time: found.get(time) for time in TIMES})
    return pd.DataFrame(rows)


def text_table(comparison: dict) -> str:
    """The comparison for a terminal: accuracy / macro F1 of each model by each protocol, and its speed."""
    titles = [title.lower().partition(", ") for title in TITLES.values()]
    lines = [["", *(title for title, _, _ in titles), "fit", "ms per"], ["", *(how for *_, how in titles), "s", "clip"]]
    for model, found in comparison["models"].items():
        line = [("* " if model == comparison["selected"] else "  ") + model]
        for protocol in TITLES:
            figures = found.get(protocol, {})
            line.append(" / ".join(format_figure(figures.get(score), ".3f") for score in ("accuracy", "f1_macro")))
        lines.append(
            [
                *line,
                format_figure(found.get("fit_seconds"), ".1f"),
                format_figure(found.get("predict_ms_single"), ".2f"),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["accuracy / macro F1"]
    for first, *others in lines:
        cells = [cell.rjust(width + 3) for cell, width in zip(others, widths[1:], strict=True)]
        shown.append((first.ljust(widths[0]) + "".join(cells)).rstrip())
    return "\n".join([*shown, LEGEND])
