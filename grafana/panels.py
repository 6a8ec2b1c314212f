"""The kinds of panels of the dashboards. Grafana 7.5 and every later version can draw them."""

from __future__ import annotations

from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import bargauge, common, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model

DATASOURCE = "graphite"
DAY = 86_400


@dataclass
class Query(variants.Dataquery):
    """A Graphite query; the SDK has no model of it."""

    target: str
    ref_id: str = "A"
    extra: dict = field(default_factory=dict)

    def build(self) -> Query:
        return self

    def to_json(self) -> dict:
        source = {"type": "graphite", "uid": DATASOURCE}
        return {"refId": self.ref_id, "datasource": source, "target": self.target} | self.extra


Steps = list[tuple[float | None, str]]
"""Thresholds: (value from which the colour holds, colour); None is the lowest value."""
GREY = "#6e7178"
GOOD: Steps = [(None, "green")]
NEUTRAL: Steps = [(None, "blue")]
"""For numbers that are neither good nor bad."""
QUALITY: Steps = [(None, "red"), (0.5, "orange"), (0.65, "yellow"), (0.8, "green")]
"""For accuracy, F1 and other scores. Guessing among eight emotions gives 0.125, among four 0.25."""
ERROR: Steps = [(None, "green"), (0.1, "yellow"), (0.2, "red")]
"""For calibration errors."""
SHARE: Steps = [(None, "green"), (0.02, "yellow"), (0.2, "red")]
"""For the share of files that cannot be used."""
NONE_IS_GOOD: Steps = [(None, "green"), (1, "red")]
AGE: Steps = [(None, "green"), (7 * DAY, "yellow"), (8 * DAY, "red")]


def _panel(builder, title: str, description: str, targets: tuple[str, ...], *, size, unit, steps, decimals, limits):
    width, height = size
    builder.title(title).description(description).span(width).height(height).unit(unit)
    for letter, target in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", targets, strict=False):
        builder.with_target(Query(target, letter))
    builder.thresholds(
        board.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=colour) for value, colour in steps])
    )
    if decimals is not None:
        builder.decimals(decimals)
    low, high = limits
    if low is not None:
        builder.min(low)
    if high is not None:
        builder.max(high)
    return builder


STATES = {
    r"/(^|\.)(success|scored|featurized|answered|ended)$/": "green",
    r"/(^|\.)failed$/": "red",
    r"/(^|\.)(upstream_failed|rejected|refused)$/": "orange",
    r"/(^|\.)(up_for_retry|restarting)$/": "yellow",
    r"/(^|\.)(skipped|removed|left)$/": GREY,
    r"/^promoted$/": "purple",
    r"/^kept$/": "blue",
}
"""Name of a series as a regular expression → colour. The palette would give any state any colour."""


def _in_colour(panel, colours: dict[str, str]):
    """Fixed colours for the series whose names match."""
    for pattern, colour in colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_regexp(pattern, [model.DynamicConfigValue(id_val="color", value=fixed)])
    return panel


AGES = {"/^ago$/": "blue", "/^no data for$/": GREY, "/^no schedule$/": GREY, "/^late by$/": "red"}
"""Name of the series of an age → its colour."""


def _ages(panel) -> None:
    """Show the series of ages as times, whatever the unit and the words of the other values are."""
    for pattern, colour in AGES.items():
        settings = {"color": {"mode": "fixed", "fixedColor": colour}, "unit": "s", "decimals": 0, "mappings": []}
        panel.override_by_regexp(
            pattern, [model.DynamicConfigValue(id_val=key, value=value) for key, value in settings.items()]
        )


def _colours(mode: model.FieldColorModeId) -> board.FieldColor:
    return board.FieldColor().mode(mode)


def _reduced(calculation: str) -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs([calculation]).fields("").values(False)


def stat_panel(
    title: str,
    description: str,
    *targets: str,
    unit: str = "short",
    steps: Steps = GOOD,
    decimals: int | None = None,
    words: dict[int, str] | None = None,
    calculation: str = "lastNotNull",
    since: str = "",
    no_data: str = "no data",
    colours: dict[str, str] | None = None,
    age: str = "",
    links: list | None = None,
    size: tuple[int, int] = (4, 4),
) -> stat.Panel:
    """A stat panel: one number on its colour, and the name of its series; below it the age of the number, if given.

    Without a value the colour is that of the lowest threshold: grey, or red where ``steps`` begin with red.

    Parameters
    ----------
    words : dict, optional
        What is shown in place of a value.
    since : str
        Time range of this panel, such as ``2m``, in place of that of the dashboard.
    no_data : str
        What is shown if there is no value.
    colours : dict, optional
        Name of a series as a regular expression → colour, in place of the thresholds. A value that is old has a name
        that begins with "none for", and is grey.
    age : str
        Query of the age, whose series have the names of :data:`AGES`.
    links : list
        What a click on the panel opens.
    """
    (_, lowest), *higher = steps
    if lowest != "red":
        steps = [(None, GREY), (0, lowest), *higher]
    panel = _panel(
        stat.Panel(),
        title,
        description,
        (*targets, age) if age else targets,
        size=size,
        unit=unit,
        steps=steps,
        decimals=decimals,
        limits=(None, None),
    )
    if words:
        results = {str(value): model.ValueMappingResult(text=text) for value, text in words.items()}
        panel.mappings([model.ValueMap(options=results)])
    if since:
        panel.time_from(since)
    _in_colour(panel, {"/^none for/": GREY} | (colours or {}))
    if age:
        _ages(panel)
        panel.orientation(common_model.VizOrientation.HORIZONTAL)  # one below the other
    if links:
        panel.data_links(links)
    return (
        panel.color_scheme(_colours(model.FieldColorModeId.THRESHOLDS))
        .reduce_options(_reduced(calculation))
        .color_mode(common_model.BigValueColorMode.BACKGROUND)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .text_mode(common_model.BigValueTextMode.VALUE_AND_NAME)
        .no_value(no_data)
    )


def bar_panel(
    title: str,
    description: str,
    *targets: str,
    unit: str = "short",
    steps: Steps = NEUTRAL,
    decimals: int | None = None,
    limits: tuple[float | None, float | None] = (0, None),
    shades: bool = False,
    size: tuple[int, int] = (6, 8),
) -> bargauge.Panel:
    """A bar gauge: a horizontal bar for the last value of each series.

    Grafana takes the longest bar from all points of the series: a sum over the time range is made in Graphite.
    ``shades``: the colour depends on the value, not on thresholds.
    """
    panel = _panel(
        bargauge.Panel(),
        title,
        description,
        targets,
        size=size,
        unit=unit,
        steps=steps,
        decimals=decimals,
        limits=limits,
    )
    mode = model.FieldColorModeId.CONTINUOUS_BL_YL_RD if shades else model.FieldColorModeId.THRESHOLDS
    return (
        panel.color_scheme(_colours(mode))
        .reduce_options(_reduced("lastNotNull"))
        .display_name("${__series.name}")  # a single bar has no name otherwise
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.GRADIENT)
        .show_unfilled(True)
    )


def time_panel(
    title: str,
    description: str,
    *targets: str,
    unit: str = "short",
    style: str = "line",
    stacked: bool = False,
    steps: Steps = GOOD,
    decimals: int | None = None,
    limits: tuple[float | None, float | None] = (0, None),
    links: list | None = None,
    colours: dict[str, str] | None = None,
    limit: str = "",
    size: tuple[int, int] = (12, 8),
) -> timeseries.Panel:
    """A time series as ``line`` (with points, across gaps), ``points`` or ``bars``; ``steps`` are drawn as lines.

    ``limit``: query of the values beyond which an alert fires, where they change with time; drawn as red lines without
    points. The names of its series begin with "alert".

    A bar is drawn to the right of its time, which is the start of what it counts.
    """
    panel = _panel(
        timeseries.Panel(),
        title,
        description,
        (*targets, limit) if limit else targets,
        size=size,
        unit=unit,
        steps=steps,
        decimals=decimals,
        limits=limits,
    )
    panel.color_scheme(_colours(model.FieldColorModeId.PALETTE_CLASSIC))
    panel.draw_style(common_model.GraphDrawStyle(style)).line_width(1).point_size(6)
    panel.show_points(common_model.VisibilityMode.ALWAYS if style != "bars" else common_model.VisibilityMode.NEVER)
    panel.span_nulls(style == "line").fill_opacity(60 if style == "bars" else 20 if stacked else 0)
    if style == "bars":
        panel.bar_alignment(common_model.BarAlignment.AFTER)
    _in_colour(panel, colours or {})
    if limit:
        settings = {"color": {"mode": "fixed", "fixedColor": "red"}, "custom.showPoints": "never"}
        panel.override_by_regexp(
            "/^alert/", [model.DynamicConfigValue(id_val=key, value=value) for key, value in settings.items()]
        )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    if len(steps) > 1:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.LINE))
    if links:
        panel.data_links(links)
    legend = common.VizLegendOptions().display_mode(common_model.LegendDisplayMode.TABLE)
    panel.legend(legend.placement(common_model.LegendPlacement.RIGHT).show_legend(True).calcs(["lastNotNull", "max"]))
    return panel.tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))


def alert_list(title: str, description: str, *, labels: str, size: tuple[int, int]) -> board.Panel:
    """The alerts that fire or are pending, of those with the labels, such as ``{project="emotion"}``."""
    width, height = size
    options = {
        "viewMode": "list",
        "groupMode": "default",
        "groupBy": [],
        "maxItems": 20,
        "sortOrder": 3,  # the newest first
        "dashboardAlerts": False,
        "alertName": "",
        "alertInstanceLabelFilter": labels,
        "showInstances": True,
        "stateFilter": {"firing": True, "pending": True, "error": True, "noData": False, "normal": False},
    }
    return (
        board.Panel()
        .type("alertlist")
        .title(title)
        .description(description)
        .span(width)
        .height(height)
        .options(options)
    )


def table_panel(
    title: str,
    description: str,
    *targets: str,
    unit: str,
    decimals: int,
    calculations: tuple[str, ...] = ("lastNotNull",),
    size: tuple[int, int],
) -> table.Panel:
    """A table: a row per series, a column per calculation."""
    panel = _panel(
        table.Panel(),
        title,
        description,
        targets,
        size=size,
        unit=unit,
        steps=GOOD,
        decimals=decimals,
        limits=(None, None),
    )
    panel.with_transformation(model.DataTransformerConfig(id_val="reduce", options={"reducers": list(calculations)}))
    return panel.show_header(True)
