"""Plots of SHAP values as PNGs: bars, heat map, beeswarm."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from PIL import Image

from emotion.explanation.ranking import ordered_emotions
from emotion.explanation.values import Explanation

PLOTS = ("bar", "heatmap", "beeswarm")


def png(figure: Figure) -> bytes:
    """A figure as a PNG.

    It is drawn without pyplot, which is not safe in threads, and has 256 colours, which takes a third of the bytes.
    """
    figure.set_dpi(110)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    """An empty figure; width and height in inches."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))


def _remove_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0, labelsize=9)


def bar_plot(explanation: Explanation, ranking: pd.DataFrame, colours: Mapping[str, str], *, shown: int = 20) -> bytes:
    """A bar for each of the most important features, divided by emotion; ``shown``: how many features.

    ``ranking``: from :func:`emotion.explanation.ranking.importance`; ``colours``: of each emotion.
    """
    top = ranking.head(shown)[::-1]
    figure = _figure(9, 1.6 + 0.28 * len(top))
    axes = figure.subplots()
    left = np.zeros(len(top))
    for emotion in ordered_emotions(explanation):
        width = top[emotion].to_numpy() / len(explanation.emotions)
        axes.barh(top["feature"], width, left=left, height=0.72, color=colours[emotion], label=emotion)
        left += width
    axes.set_xlabel(f"mean |SHAP value| over clips and emotions ({explanation.scale})", fontsize=9)
    axes.margins(y=0.01)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    _remove_frame(axes)
    figure.legend(loc="outside upper center", ncols=min(len(explanation.emotions), 8), frameon=False, fontsize=9)
    return png(figure)


def heatmap_plot(explanation: Explanation, ranking: pd.DataFrame, *, shown: int = 20) -> bytes:
    """Which feature matters for which emotion: a feature's share, in percent, of all contributions to the emotion.

    ``ranking``: from :func:`emotion.explanation.ranking.importance`; ``shown``: how many features.
    """
    emotions = ordered_emotions(explanation)
    totals = ranking[emotions].sum()
    top = ranking.head(shown)
    shares = 100 * (top[emotions] / totals.where(totals > 0, 1.0)).to_numpy()
    figure = _figure(9, 1.4 + 0.3 * len(top))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="viridis", aspect="auto", vmin=0)
    largest = shares.max(initial=0.0)
    digits = 1 if largest >= 2 else 2
    for (row, column), share in np.ndenumerate(shares):
        colour = "black" if share > 0.6 * largest else "white"
        axes.text(column, row, f"{share:.{digits}f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(emotions)), emotions)
    axes.set_yticks(range(len(top)), top["feature"])
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9)
    figure.colorbar(image, ax=axes, label="% of the emotion's mean |SHAP value|", pad=0.02, aspect=40)
    return png(figure)


def beeswarm_plot(explanation: Explanation, feature_names: tuple[str, ...], *, shown: int = 8) -> bytes:
    """For each emotion, its most important features: a dot for each clip, at its contribution, coloured by its value.

    ``shown``: how many features per emotion.
    """
    colours = LinearSegmentedColormap.from_list("value", ("#1e88e5", "#9c5fb5", "#ff0d57"))
    ranks = _ranks(explanation.features)
    columns = 2
    rows = -(-len(explanation.emotions) // columns)
    figure = _figure(12, 0.6 + 2.7 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(explanation.emotions) :]:
        axes.set_axis_off()
    for axes, emotion in zip(panels.flat, ordered_emotions(explanation), strict=False):
        values = explanation.values[:, explanation.emotions.index(emotion)]
        top = np.argsort(-np.abs(values).mean(axis=0), kind="stable")[:shown]
        axes.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        for height, feature in enumerate(top[::-1]):
            axes.axhline(height, color="0.92", linewidth=0.8, zorder=0)
            dots = axes.scatter(
                values[:, feature],
                height + _jitter(values[:, feature]),
                c=ranks[:, feature],
                cmap=colours,
                vmin=0,
                vmax=1,
                s=9,
                linewidth=0,
                alpha=0.85,
            )
        axes.set_yticks(range(len(top)), [feature_names[feature] for feature in top[::-1]])
        axes.set_ylim(-0.6, len(top) - 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_title(emotion, fontsize=11, fontweight="bold", loc="left")
        _remove_frame(axes)
        axes.spines["left"].set_visible(False)
    figure.supxlabel(f"SHAP value: what the feature adds to the emotion's {explanation.scale}", fontsize=10)
    bar = figure.colorbar(dots, ax=panels, aspect=60, pad=0.01, ticks=[0, 1])
    bar.set_ticklabels(["low", "high"])
    bar.set_label("feature's value (rank among the clips)", labelpad=-12)
    bar.outline.set_visible(False)
    return png(figure)


def _ranks(features: np.ndarray) -> np.ndarray:
    """The ranks of each column, scaled to 0 … 1: they do not suffer from the heavy tails of acoustic features."""
    ranks = pd.DataFrame(features).rank().to_numpy() - 1
    return ranks / max(len(features) - 1, 1)


def _jitter(values: np.ndarray, *, bins: int = 80, height: float = 0.38) -> np.ndarray:
    """Vertical offsets that stack dots of similar value; the fullest stack reaches ``height`` up and down."""
    span = np.ptp(values)
    slots = np.zeros(len(values), dtype=int) if span == 0 else ((values - values.min()) / span * bins).astype(int)
    place = pd.Series(slots).groupby(slots).cumcount().to_numpy()
    offsets = np.where(place % 2, 1, -1) * ((place + 1) // 2)
    return height * offsets / max(np.abs(offsets).max(initial=0), 4)
