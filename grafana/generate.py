"""Write the Grafana dashboards and alert rules from the table of metrics.

    python grafana/generate.py

writes ``dashboards/*.json`` and ``provisioning/alerting/rules.yaml`` beside this file; they are committed, and a test
regenerates and compares them. Needs ``grafana-foundation-sdk`` (see ``requirements-dev.txt``); Grafana itself does not.

The dashboards open in Grafana 7.5 and in every later one, hence: a query is a plain Graphite target that names its
data source by uid, a panel names none (7.5 knows only names there) and the provisioned data source is the default;
only panel types, options and transformations that 7.5 has are used. An alert rule has no ``$`` in it, which Grafana
would take for an environment variable: Graphite's functions do the arithmetic, and reduce and threshold what is left.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "plugins"))
warnings.filterwarnings("ignore", category=DeprecationWarning, module="grafana_foundation_sdk")

from grafana_foundation_sdk.builders import alerting as alert  # noqa: E402
from grafana_foundation_sdk.builders import bargauge, common, stat, table, timeseries  # noqa: E402
from grafana_foundation_sdk.builders import dashboard as board  # noqa: E402
from grafana_foundation_sdk.cog import variants  # noqa: E402
from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: E402
from grafana_foundation_sdk.models import alerting as alert_model  # noqa: E402
from grafana_foundation_sdk.models import common as common_model  # noqa: E402
from grafana_foundation_sdk.models import dashboard as model  # noqa: E402

from emotion import metrics  # noqa: E402
from emotion.comparison import PROTOCOL, SCORE  # noqa: E402
from emotion.labels import EMOTIONS, FAMILIES, PROTOCOLS  # noqa: E402
from emotion.metrics import Metric  # noqa: E402

DATASOURCE = "graphite"
FOLDER = "emotion"
SCHEMA_VERSION = 27
"""Grafana 7.5's; later ones bring a dashboard of this version up to date when they load it."""
TRAINING_DAG, SCORING_DAG = "emotion_training", "emotion_scoring"
MODELS = (*FAMILIES, "ensemble")
SCORES = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "uar", "log_loss", "ece")
DAY = 86_400


def _airflow(name: str, kind: str, unit: str, help: str) -> Metric:
    metric = Metric(name, kind, unit, help)
    AIRFLOW.append(metric)
    return metric


AIRFLOW: list[Metric] = []
"""The metrics of Airflow's own that are drawn."""
RUN_SUCCESS = _airflow("dagrun.duration.success.{dag}", "timer", "ms", "Runs that succeeded")
RUN_FAILED = _airflow("dagrun.duration.failed.{dag}", "timer", "ms", "Runs that failed")
TASK_DURATION = _airflow("dag.{dag}.{task}.duration", "timer", "ms", "Run time of a task")
TASK_WAIT = _airflow(
    "dag.{dag}.{task}.scheduled_duration", "timer", "ms", "Time between scheduled and queued"
)
TASK_FINISHED = _airflow("ti.finish.{dag}.{task}.{state}", "counter", "tasks", "Task instances that ended")
TASK_STARTED = _airflow("ti.start.{dag}.{task}", "counter", "tasks", "Task instances that began")
SCHEDULER_BEAT = _airflow("scheduler_heartbeat", "counter", "beats", "Scheduler is alive")
PROCESSOR_BEAT = _airflow("dag_processor_heartbeat", "counter", "beats", "DAG processor is alive")
TRIGGERER_BEAT = _airflow("triggerer_heartbeat", "counter", "beats", "Triggerer is alive")
LOOP = _airflow("scheduler.scheduler_loop_duration", "timer", "ms", "One round of the scheduler")
STARVING = _airflow("scheduler.tasks.starving", "gauge", "tasks", "Tasks that no pool slot is free for")
EXECUTABLE = _airflow("scheduler.tasks.executable", "gauge", "tasks", "Tasks ready for the executor")
EXECUTOR_OPEN = _airflow("executor.open_slots", "gauge", "slots", "Free slots of the executor")
POOL = _airflow("pool.{slots}.{pool}", "gauge", "slots", "Slots of a pool by what they are used for")
IMPORT_ERRORS = _airflow(
    "dag_processing.import_errors", "gauge", "files", "DAG files that cannot be imported"
)
DAGS = _airflow("dagbag_size", "gauge", "DAGs", "DAGs found")
PARSE = _airflow("dag_processing.total_parse_time", "gauge", "s", "Parsing all DAG files once")
PARSE_FILE = _airflow(
    "dag_processing.last_duration.{bundle}.{file}", "timer", "s", "Parsing one file; seconds"
)
ASSET_UPDATES = _airflow("asset.updates", "counter", "updates", "Asset events")


# --- Graphite ---------------------------------------------------------------------------------------------------------

ROOTS = {"gauge": "stats.gauges", "timer": "stats.timers", "counter": "stats_counts"}


def path(metric: Metric, field: str = "mean", /, **labels: str) -> str:
    """The Graphite path of a metric; a label that is not given is ``*``; ``field`` is one of a timer's."""
    name = metric.name.format(**({label: "*" for label in metric.labels} | labels))
    return f"{ROOTS[metric.kind]}.{metrics.PREFIX}.{name}" + (f".{field}" if metric.kind == "timer" else "")


def named(metric: Metric, *labels: str, of: str) -> str:
    """``of``, an expression on ``metric``, each series named by the values of ``labels``."""
    nodes = f"{ROOTS[metric.kind]}.{metrics.PREFIX}.{metric.name}".split(".")
    return f"aliasByNode({of}, {', '.join(str(nodes.index(f'{{{label}}}')) for label in labels)})"


def alias(expression: str, name: str) -> str:
    return f'alias({expression}, "{name}")'


def summed(expression: str, every: str = "1h") -> str:
    """Totals per hour (or ``every``), so that what one run did is one point."""
    return condensed(f'summarize({expression}, "{every}", "sum")', "sum")


def or_zero(expression: str, name: str) -> str:
    """What is only counted once it happens: 0 before that."""
    return f"fallbackSeries({expression}, {alias('constantLine(0)', name)})"


def per_minute(expression: str) -> str:
    return f"scaleToSeconds({expression}, 60)"


def latest_run(metric: Metric, **labels: str) -> str:
    """The series that the last run sent: the features that are no longer among the top ones are left out."""
    every = f'summarize({path(metric, **labels)}, "1h", "last")'
    return f"currentAbove(transformNull({every}, -1, {every}), -0.5)"


def age(metric: Metric) -> str:
    """Seconds since the last Unix time that a gauge was set to, as a level line; nothing where it was not set."""
    # A difference with a missing or empty series would be the other one, 56 years: applyByNode and the 1 see to that.
    now, then = "aggregateLine(timeFunction('now'), 'max')", "aggregateLine(%, 'max')"
    gauge = path(metric)
    return f"applyByNode({gauge}, {gauge.count('.')}, \"aggregate(group({now}, {then}), 'diff', 1)\")"


def condensed(expression: str, how: str) -> str:
    """Points that are closer than the panel can draw become one: by default their mean, here their last or sum."""
    return f'consolidateBy({expression}, "{how}")'


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


# --- Panels -----------------------------------------------------------------------------------------------------------

Steps = list[tuple[float | None, str]]
"""Thresholds: from which value on (None: from the lowest) which colour."""
GOOD: Steps = [(None, "green")]
QUALITY: Steps = [(None, "red"), (0.5, "orange"), (0.65, "yellow"), (0.8, "green")]
"""Accuracy, F1 and the like with eight emotions, where guessing gives 0.125."""
NONE_IS_GOOD: Steps = [(None, "green"), (1, "red")]
AGE: Steps = [(None, "green"), (7 * DAY, "yellow"), (8 * DAY, "red")]


def _panel(
    builder, title: str, description: str, targets: tuple[str, ...], *, size, unit, steps, decimals, limits
):
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


def _colours(mode: model.FieldColorModeId) -> board.FieldColor:
    return board.FieldColor().mode(mode)


def _reduced(calculation: str) -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs([calculation]).fields("").values(False)


def _for(calculation: str, targets: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(condensed(target, "sum" if calculation == "sum" else "last") for target in targets)


def number(
    title: str,
    description: str,
    *targets: str,
    unit: str = "short",
    steps: Steps = GOOD,
    decimals: int | None = None,
    words: dict[int, str] | None = None,
    calculation: str = "lastNotNull",
    size: tuple[int, int] = (4, 4),
) -> stat.Panel:
    """One figure, or one per series; ``words`` says what a value is called."""
    panel = _panel(
        stat.Panel(),
        title,
        description,
        _for(calculation, targets),
        size=size,
        unit=unit,
        steps=steps,
        decimals=decimals,
        limits=(None, None),
    )
    if words:
        results = {str(value): model.ValueMappingResult(text=text) for value, text in words.items()}
        panel.mappings([model.ValueMap(options=results)])
    return (
        panel.color_scheme(_colours(model.FieldColorModeId.THRESHOLDS))
        .reduce_options(_reduced(calculation))
        .color_mode(common_model.BigValueColorMode.BACKGROUND)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .no_value("none yet")
    )


def bars(
    title: str,
    description: str,
    *targets: str,
    unit: str = "short",
    steps: Steps = GOOD,
    decimals: int | None = None,
    limits: tuple[float | None, float | None] = (0, None),
    calculation: str = "lastNotNull",
    shades: bool = False,
    size: tuple[int, int] = (6, 8),
) -> bargauge.Panel:
    """One horizontal bar per series; ``shades``: coloured by size in place of thresholds."""
    panel = _panel(
        bargauge.Panel(),
        title,
        description,
        _for(calculation, targets),
        size=size,
        unit=unit,
        steps=steps,
        decimals=decimals,
        limits=limits,
    )
    mode = model.FieldColorModeId.CONTINUOUS_BL_YL_RD if shades else model.FieldColorModeId.THRESHOLDS
    return (
        panel.color_scheme(_colours(mode))
        .reduce_options(_reduced(calculation))
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.GRADIENT)
        .show_unfilled(True)
    )


def course(
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
    size: tuple[int, int] = (12, 8),
) -> timeseries.Panel:
    """Values over time: ``line`` (with its points, over gaps), ``points`` or ``bars``; steps are drawn as lines."""
    panel = _panel(
        timeseries.Panel(),
        title,
        description,
        targets,
        size=size,
        unit=unit,
        steps=steps,
        decimals=decimals,
        limits=limits,
    )
    panel.color_scheme(_colours(model.FieldColorModeId.PALETTE_CLASSIC))
    panel.draw_style(common_model.GraphDrawStyle(style)).line_width(1).point_size(6)
    panel.show_points(
        common_model.VisibilityMode.ALWAYS if style != "bars" else common_model.VisibilityMode.NEVER
    )
    panel.span_nulls(style == "line").fill_opacity(60 if style == "bars" else 20 if stacked else 0)
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    if len(steps) > 1:
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.LINE)
        )
    if links:
        panel.data_links(links)
    legend = common.VizLegendOptions().display_mode(common_model.LegendDisplayMode.TABLE)
    panel.legend(
        legend.placement(common_model.LegendPlacement.RIGHT).show_legend(True).calcs(["lastNotNull", "max"])
    )
    return panel.tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))


def rows(
    title: str,
    description: str,
    *targets: str,
    unit: str,
    decimals: int,
    calculations: tuple[str, ...] = ("lastNotNull",),
    shown: str = "all",
    size: tuple[int, int],
) -> table.Panel:
    """A row per series, a column per calculation; ``shown``: all, only ``names``, or only ``values``, shaded by size."""
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
    panel.with_transformation(
        model.DataTransformerConfig(id_val="reduce", options={"reducers": list(calculations)})
    )
    if shown != "all":
        hidden = ("Field",) if shown == "values" else ("Last *", "Last (not null)")  # two Grafanas' names for it
        options = {"excludeByName": dict.fromkeys(hidden, True), "indexByName": {}, "renameByName": {}}
        panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=options))
    if shown == "values":
        panel.color_scheme(_colours(model.FieldColorModeId.CONTINUOUS_BL_YL_RD))
        panel.display_mode(common_model.TableCellDisplayMode.COLOR_BACKGROUND)
    return panel.show_header(shown == "all")


# --- Dashboards -------------------------------------------------------------------------------------------------------


def _link(title: str, url: str, *, tooltip: str = "") -> board.DashboardLink:
    return (
        board.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .icon("external link")
        .tooltip(tooltip)
        .url(url)
        .target_blank(True)
    )


def runs_link(dag: str) -> board.DashboardLink:
    """To the runs of a DAG within the time shown, in Airflow."""
    url = f"${{airflow}}/dags/{dag}/runs?run_after_gte=${{__from:date:iso}}&run_after_lte=${{__to:date:iso}}"
    return _link(f"Airflow: runs of {dag}", url, tooltip="The runs within the time shown, in the Airflow UI")


def choose(name: str, label: str, description: str, query: str) -> board.QueryVariable:
    """A variable of which several values may be chosen, all at first: those found in Graphite."""
    return (
        board.QueryVariable(name)
        .label(label)
        .description(description)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value("*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def choose_one(
    name: str, label: str, description: str, values: tuple[str, ...], default: str
) -> board.CustomVariable:
    """A variable of fixed values, of which one is chosen."""
    return (
        board.CustomVariable(name)
        .label(label)
        .description(description)
        .values(",".join(values))
        .options(
            [model.VariableOption(selected=value == default, text=value, value=value) for value in values]
        )
        .current(model.VariableOption(selected=True, text=default, value=default))
    )


def dashboard(
    uid: str, title: str, description: str, *, since: str, refresh: str, variables: list
) -> board.Dashboard:
    built = (
        board.Dashboard(title)
        .uid(f"emotion-{uid}")
        .description(description)
        .tags(["emotion"])
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh(refresh)
        .link(
            board.DashboardLink("Speech emotion")
            .type(model.DashboardLinkType.DASHBOARDS)
            .icon("dashboard")
            .tooltip("The other dashboards, at the same time and for the same models")
            .tags(["emotion"])
            .include_vars(True)
            .keep_time(True)
        )
    )
    address = (
        board.TextBoxVariable("airflow")
        .label("Airflow at")
        .description("Address of the Airflow UI, for the links into it")
        .default_value("http://localhost:8080")
        .current(
            model.VariableOption(selected=True, text="http://localhost:8080", value="http://localhost:8080")
        )
        .options(
            [model.VariableOption(selected=True, text="http://localhost:8080", value="http://localhost:8080")]
        )
    )
    for variable in [*variables, address]:
        built.with_variable(variable)
    return built


def _fill(built: board.Dashboard, sections: dict[str, list]) -> dict:
    for section, panels in sections.items():
        built.with_row(board.Row(section))
        for panel in panels:
            built.with_panel(panel)
    found = built.build()
    found.schema_version = SCHEMA_VERSION
    for number_, panel in enumerate(found.panels, start=1):
        panel.id_val = number_
    for link in (*found.links, *(found.annotations.list_val or ())):
        link.placement = None  # the SDK's default hides them in a menu
    return json.loads(json.dumps(found, cls=JSONEncoder))


def _model_variable() -> board.QueryVariable:
    return choose("model", "Model", "Models to show", path(metrics.SCORE).rsplit(".", 2)[0])


def _outcome(dag: str) -> str:
    """1 where a run succeeded, 2 where one failed, 3 where both happened in one step."""
    success, failed = path(RUN_SUCCESS, dag=dag), path(RUN_FAILED, dag=dag)
    both = f"sumSeries(isNonNull({success}), scale(isNonNull({failed}), 2))"
    return f"removeBelowValue({both}, 1)"


OUTCOMES = {1: "succeeded", 2: "failed", 3: "some failed"}
FAILED_IS_BAD: Steps = [(None, "green"), (2, "red")]


def run_state(dag: str) -> stat.Panel:
    return number(
        "Last run",
        f"How the last run of {dag} within the time shown ended (1 succeeded, 2 failed, 3 both at nearly the same time).",
        alias(_outcome(dag), "last run"),
        words=OUTCOMES,
        steps=FAILED_IS_BAD,
    )


def run_durations(dag: str, *, size: tuple[int, int] = (12, 8)) -> timeseries.Panel:
    """Points, never a line: between two runs there is no duration."""
    return course(
        "Run duration",
        "From a run's start to its end, one point per run, by DAG. A run that is waiting for a person counts in full.",
        named(RUN_SUCCESS, "dag", of=path(RUN_SUCCESS, dag=dag)),
        or_zero(
            f'aliasSub({named(RUN_FAILED, "dag", of=path(RUN_FAILED, dag=dag))}, "$", " failed")', "failed"
        ),
        unit="ms",
        style="points",
        links=[runs_link(dag)] if "$" not in dag else None,
        size=size,
    )


def training() -> dict:
    """Did retraining run, how long did it take, and are its models any good?"""
    built = dashboard(
        "training",
        "Speech emotion: training",
        "Whether retraining ran, how its models compare, and whether the champion is still good.",
        since="now-90d",
        refresh="5m",
        variables=[
            _model_variable(),
            choose_one(
                "protocol",
                "Protocol",
                "How scores were obtained: clips at random, or speakers held out (plain, or adapted to the speaker)",
                PROTOCOLS,
                PROTOCOL,
            ),
            choose_one("score", "Score", "Score drawn over runs", SCORES, SCORE),
        ],
    )
    built.link(runs_link(TRAINING_DAG))
    promoted = f"removeBelowValue({path(metrics.PROMOTION, decision='promoted')}, 1)"
    built.annotation(
        board.AnnotationQuery()
        .name("Promotions")
        .enable(True)
        .icon_color("purple")
        .target(Query(alias(promoted, "a new champion"), "Anno", {"fromAnnotations": True}))
    )
    both = {"model": "$model", "protocol": "$protocol"}

    def compared(score: str, title: str, description: str) -> bargauge.Panel:
        return bars(
            title,
            description + " Of the last run, under the protocol chosen.",
            named(metrics.SCORE, "model", of=path(metrics.SCORE, score=score, **both)),
            decimals=3,
            limits=(0, 1),
            steps=QUALITY,
        )

    champion = {"protocol": PROTOCOL}
    return _fill(
        built,
        {
            "Now": [
                run_state(TRAINING_DAG),
                number(
                    "Last success",
                    "Time since a training run last succeeded. Yellow after 7 days, red after 8, when the alert fires.",
                    alias(age(metrics.RUN_FINISHED), "last success"),
                    unit="s",
                    steps=AGE,
                    decimals=1,
                ),
                number(
                    "Champion's macro F1",
                    "On speakers it has not heard, as it was promoted or last re-scored.",
                    alias(path(metrics.CHAMPION_SCORE, score=SCORE, **champion), "champion"),
                    decimals=3,
                    steps=QUALITY,
                ),
                number(
                    "Champion for",
                    "Time since the champion was promoted.",
                    alias(age(metrics.CHAMPION_SINCE), "champion for"),
                    unit="s",
                    decimals=1,
                ),
                number(
                    "Rejected clips",
                    "Clips of the last run that could not be used; the run's rejected.csv lists them with the reason.",
                    alias(path(metrics.CLIPS, kind="rejected"), "rejected"),
                    steps=[(None, "green"), (1, "yellow"), (50, "red")],
                ),
                number(
                    "Promotions",
                    "Challengers that became champion within the time shown.",
                    alias(path(metrics.PROMOTION, decision="promoted"), "promoted"),
                    calculation="sum",
                ),
            ],
            "Models compared": [
                compared("accuracy", "Accuracy", "Share of clips whose emotion was recognized."),
                compared(
                    "precision_macro",
                    "Precision",
                    "Mean over emotions: of the clips called so, the share that are.",
                ),
                compared(
                    "recall_macro",
                    "Recall",
                    "Mean over emotions: of the clips that are so, the share called so.",
                ),
                compared(
                    "f1_macro", "F1", "Mean over emotions of the harmonic mean of precision and recall."
                ),
                course(
                    "$score over runs",
                    "The score chosen, one point per run and model, under the protocol chosen.",
                    named(metrics.SCORE, "model", of=path(metrics.SCORE, score="$score", **both)),
                    decimals=3,
                ),
                bars(
                    "Macro F1 by protocol",
                    "The same models judged on clips at random and on speakers held out: the gap is what knowing the "
                    "speaker is worth, and is not to be had in production.",
                    named(
                        metrics.SCORE,
                        "model",
                        "protocol",
                        of=path(metrics.SCORE, model="$model", score=SCORE),
                    ),
                    decimals=3,
                    limits=(0, 1),
                    steps=QUALITY,
                    size=(12, 8),
                ),
                course(
                    "Cross-validation: standard deviation over folds",
                    "Spread of macro F1 from fold to fold. A model that wins by less than this has not won.",
                    named(metrics.CV_SCORE, "model", of=path(metrics.CV_SCORE, statistic="std", **both)),
                    decimals=3,
                ),
                bars(
                    "Cross-validation: worst, mean and best fold",
                    "Macro F1 over the folds of the last run, under the protocol chosen.",
                    named(
                        metrics.CV_SCORE,
                        "model",
                        "statistic",
                        of=path(metrics.CV_SCORE, statistic="{min,mean,max}", **both),
                    ),
                    decimals=3,
                    limits=(0, 1),
                    steps=QUALITY,
                    size=(12, 8),
                ),
                bars(
                    "F1 by emotion",
                    "Of the last run, under the protocol chosen: which emotions each model mistakes.",
                    named(metrics.EMOTION_F1, "emotion", "model", of=path(metrics.EMOTION_F1, **both)),
                    decimals=3,
                    limits=(0, 1),
                    steps=QUALITY,
                    size=(12, 14),
                ),
                bars(
                    "Confidence on speakers held out",
                    "Of the last run's models: the probability they give to their own answer.",
                    named(
                        metrics.TRAIN_CONFIDENCE,
                        "model",
                        "statistic",
                        of=path(metrics.TRAIN_CONFIDENCE, model="$model"),
                    ),
                    decimals=3,
                    limits=(0, 1),
                    size=(12, 14),
                ),
            ],
            "Champion": [
                course(
                    "Champion over time",
                    "The champion's scores on speakers held out, re-scored by each run. Purple marks are promotions.",
                    named(
                        metrics.CHAMPION_SCORE,
                        "score",
                        of=path(metrics.CHAMPION_SCORE, score="{accuracy,f1_macro,uar}", **champion),
                    ),
                    decimals=3,
                ),
                course(
                    "Decisions",
                    "Per hour: challengers promoted, and challengers after which the champion was kept.",
                    named(metrics.PROMOTION, "decision", of=summed(path(metrics.PROMOTION))),
                    style="bars",
                    stacked=True,
                ),
            ],
            "Pipeline": [
                course(
                    "Work by stage, by run",
                    "Work of each stage, summed over its tasks and the hour: one bar per run. Shards run at the same "
                    "time, so a run takes less than the sum.",
                    named(metrics.STAGE_DURATION, "stage", of=summed(path(metrics.STAGE_DURATION, "sum"))),
                    unit="ms",
                    style="bars",
                    stacked=True,
                    links=[runs_link(TRAINING_DAG)],
                ),
                run_durations(TRAINING_DAG),
                course(
                    "Clips of a run",
                    "Total, stored (features known), missing (to featurize), rejected, duplicates and used.",
                    named(metrics.CLIPS, "kind", of=path(metrics.CLIPS)),
                ),
                course(
                    "Clips featurized",
                    "Per hour, by outcome.",
                    named(metrics.FEATURIZED, "outcome", of=summed(path(metrics.FEATURIZED))),
                    style="bars",
                    size=(6, 8),
                ),
                course(
                    "Featurization of a clip",
                    "Mean time per clip of a shard.",
                    alias(path(metrics.CLIP_DURATION), "per clip"),
                    unit="ms",
                    size=(6, 8),
                ),
                bars(
                    "Fit of the final model",
                    "Of the last run.",
                    named(metrics.FIT_SECONDS, "model", of=path(metrics.FIT_SECONDS, model="$model")),
                    unit="s",
                    decimals=1,
                ),
                bars(
                    "Prediction per clip",
                    "From features, of the last run's models: one clip at a time, and in a batch.",
                    named(metrics.PREDICT_MS, "model", "batch", of=path(metrics.PREDICT_MS, model="$model")),
                    unit="ms",
                    decimals=2,
                ),
                bars(
                    "Peak memory by stage",
                    "Of the last task of each stage; its worker needs at least so much.",
                    named(metrics.RESOURCE, "stage", of=path(metrics.RESOURCE, resource="peak_memory_bytes")),
                    unit="bytes",
                    steps=[(None, "green"), (2 * 2**30, "yellow"), (4 * 2**30, "red")],
                ),
                bars(
                    "CPU time by stage",
                    "Of the last task of each stage.",
                    named(metrics.RESOURCE, "stage", of=path(metrics.RESOURCE, resource="cpu_seconds")),
                    unit="s",
                    decimals=1,
                ),
            ],
        },
    )


def explanation() -> dict:
    """Which features speak for which emotion, in which model, and does that stay so?"""
    built = dashboard(
        "explanation",
        "Speech emotion: explanation",
        "SHAP importance of the acoustic features: by model, by emotion, and from run to run.",
        since="now-90d",
        refresh="15m",
        variables=[
            choose_one(
                "explained", "Model", "Model of the heat map and of the course over runs", MODELS, MODELS[-1]
            )
        ],
    )
    built.link(runs_link(TRAINING_DAG))

    def top(model_: str) -> bargauge.Panel:
        return bars(
            f"Top features: {model_}",
            "Share of the mean absolute SHAP value over all emotions, of the last run.",
            named(metrics.SHAP, "feature", of=f"sortByMaxima({latest_run(metrics.SHAP, model=model_)})"),
            unit="percentunit",
            decimals=1,
            shades=True,
            size=(6, 16),
        )

    def column(title: str, emotion: str, *, shown: str, width: int) -> table.Panel:
        # A table of names and one of values per emotion, rows in the same order, make a heat map that every Grafana
        # can draw: before 9.2 none can lay out "feature x emotion" from Graphite's series in one table.
        latest = latest_run(metrics.SHAP_EMOTION, model="$explained", emotion=emotion)
        return rows(
            title,
            "Mean absolute SHAP value of the top features by emotion, of the last run of the model chosen: blue is low, "
            "red is high, for each emotion on its own. The rows are the same in every column.",
            f"sortByName({named(metrics.SHAP_EMOTION, 'feature', of=latest)})",
            unit="short",
            decimals=3,
            shown=shown,
            size=(width, 22),
        )

    top_of_model = f'highest({path(metrics.SHAP, model="$explained")}, 10, "max")'
    moved = named(metrics.SHAP, "feature", of=top_of_model)
    return _fill(
        built,
        {
            "Top features of each model": [top(name) for name in MODELS],
            "SHAP heat map: feature by emotion": [
                column("feature", EMOTIONS[0], shown="names", width=8),
                *(column(emotion, emotion, shown="values", width=2) for emotion in EMOTIONS),
            ],
            "From run to run": [
                course(
                    "Importance over runs",
                    "Share of the mean absolute SHAP value, of the ten features that were ever highest; a point per run.",
                    moved,
                    unit="percentunit",
                    decimals=1,
                    size=(14, 11),
                ),
                rows(
                    "How importance moved",
                    "First and last run within the time shown, lowest, highest, and the difference from first to last.",
                    moved,
                    unit="percentunit",
                    decimals=2,
                    calculations=("firstNotNull", "lastNotNull", "min", "max", "diff"),
                    size=(10, 11),
                ),
            ],
        },
    )


def scoring() -> dict:
    """Is scoring slow, unsure, or fed with something it has not learnt?"""
    built = dashboard(
        "scoring",
        "Speech emotion: scoring",
        "Throughput, latency, confidence and drift of the batches scored.",
        since="now-24h",
        refresh="1m",
        variables=[choose("emotion", "Emotion", "Predicted emotions to show", path(metrics.PREDICTED))],
    )
    built.link(runs_link(SCORING_DAG))
    predicted = path(metrics.PREDICTED, emotion="$emotion")

    def confidence(statistic: str, title: str, description: str) -> bargauge.Panel:
        return bars(
            title,
            description + " Of the last batch, by predicted emotion.",
            named(
                metrics.CONFIDENCE,
                "emotion",
                of=path(metrics.CONFIDENCE, emotion="$emotion", statistic=statistic),
            ),
            decimals=2,
            limits=(0, 1),
            steps=[(None, "red"), (0.3, "yellow"), (0.5, "green")],
        )

    scored, rejected = (path(metrics.SCORED, outcome=outcome) for outcome in ("scored", "rejected"))
    rejected = or_zero(rejected, "rejected")
    reasons = named(metrics.SCORING_REJECTED, "reason", of=path(metrics.SCORING_REJECTED))
    drift = [(None, "green"), (0.1, "yellow"), (0.25, "red")]
    return _fill(
        built,
        {
            "Now": [
                run_state(SCORING_DAG),
                number("Clips scored", "Within the time shown.", alias(scored, "scored"), calculation="sum"),
                number(
                    "Clips rejected",
                    "Files within the time shown that could not be scored.",
                    alias(rejected, "rejected"),
                    calculation="sum",
                    steps=[(None, "green"), (1, "yellow"), (50, "red")],
                ),
                number(
                    "Audio scored",
                    "Length of the recordings scored within the time shown.",
                    alias(path(metrics.AUDIO_SECONDS), "audio"),
                    unit="s",
                    calculation="sum",
                ),
                number(
                    "Latency p95",
                    "Of the last batch: 19 clips in 20 took less, from file to answer.",
                    alias(path(metrics.LATENCY_QUANTILE, stage="total", quantile="p95"), "p95"),
                    unit="ms",
                    steps=[(None, "green"), (1000, "yellow"), (5000, "red")],
                ),
                number(
                    "Drift",
                    "Verdict on the last batch: 0 ok, 1 watch, 2 alarm.",
                    alias(path(metrics.DRIFT_VERDICT), "verdict"),
                    words={0: "ok", 1: "watch", 2: "alarm"},
                    steps=[(None, "green"), (1, "yellow"), (2, "red")],
                ),
            ],
            "Throughput and latency": [
                course(
                    "Clips per minute",
                    "Clips scored and rejected.",
                    alias(per_minute(scored), "scored"),
                    alias(per_minute(rejected), "rejected"),
                    style="bars",
                    stacked=True,
                ),
                course(
                    "Latency p50 and p95 by stage",
                    "Per clip, over each batch: decoding, features, model, and in total.",
                    named(
                        metrics.LATENCY_QUANTILE,
                        "stage",
                        "quantile",
                        of=path(metrics.LATENCY_QUANTILE, quantile="{p50,p95}"),
                    ),
                    unit="ms",
                ),
                course(
                    "Latency by stage: mean",
                    "Per clip, as the clips are scored.",
                    named(metrics.LATENCY, "stage", of=path(metrics.LATENCY)),
                    unit="ms",
                    style="points",
                ),
                course(
                    "Work by stage, by run",
                    "Work of each stage of the scoring runs, summed over its tasks and the hour.",
                    named(metrics.SCORING_STAGE, "stage", of=summed(path(metrics.SCORING_STAGE, "sum"))),
                    unit="ms",
                    style="bars",
                    stacked=True,
                    links=[runs_link(SCORING_DAG)],
                ),
            ],
            "Confidence": [
                confidence("p10", "Confidence: p10", "One clip in ten has less."),
                confidence("p50", "Confidence: median", "Half of the clips have less."),
                confidence("mean", "Confidence: mean", "Mean over the clips."),
                confidence("p90", "Confidence: p90", "One clip in ten has more."),
                course(
                    "Confidence over time",
                    "Of each batch as a whole: mean, p10, p50, p90.",
                    named(metrics.BATCH_CONFIDENCE, "statistic", of=path(metrics.BATCH_CONFIDENCE)),
                    decimals=2,
                    limits=(0, 1),
                ),
                course(
                    "Mean confidence by emotion",
                    "Of each batch, by predicted emotion.",
                    named(
                        metrics.CONFIDENCE,
                        "emotion",
                        of=path(metrics.CONFIDENCE, emotion="$emotion", statistic="mean"),
                    ),
                    decimals=2,
                    limits=(0, 1),
                ),
            ],
            "Predictions and rejects": [
                bars(
                    "Predicted emotions",
                    "Clips within the time shown.",
                    named(metrics.PREDICTED, "emotion", of=predicted),
                    calculation="sum",
                    shades=True,
                ),
                course(
                    "Mix of predicted emotions",
                    "Share of each emotion, by the hour.",
                    f"asPercent({named(metrics.PREDICTED, 'emotion', of=summed(predicted))})",
                    unit="percent",
                    style="bars",
                    stacked=True,
                    limits=(0, 100),
                    size=(12, 8),
                ),
                bars(
                    "Rejected, by reason",
                    "Files within the time shown that could not be scored; the batch's summary names them.",
                    or_zero(reasons, "none"),
                    calculation="sum",
                    steps=[(None, "yellow"), (50, "red")],
                ),
            ],
            "Drift": [
                course(
                    "Drift signals",
                    "Against the training data: share of features that drifted, population stability index (PSI) of the "
                    "predicted emotions, Kolmogorov-Smirnov statistic of the confidence.",
                    named(
                        metrics.DRIFT_SHARE,
                        "signal",
                        of=path(metrics.DRIFT_SHARE, signal="{features,emotions,confidence}"),
                    ),
                    decimals=2,
                    steps=drift,
                ),
                bars(
                    "Features that moved most",
                    "PSI of the last batch against the training data: below 0.1 no drift, above 0.25 strong drift.",
                    named(
                        metrics.DRIFT_FEATURE,
                        "feature",
                        of=f"sortByMaxima({latest_run(metrics.DRIFT_FEATURE)})",
                    ),
                    decimals=2,
                    steps=drift,
                    size=(12, 8),
                ),
            ],
        },
    )


def airflow() -> dict:
    """Is Airflow itself well?"""
    built = dashboard(
        "airflow",
        "Speech emotion: Airflow",
        "Heartbeats, runs, tasks, queueing and pools: the metrics that Airflow 3.3 emits.",
        since="now-6h",
        refresh="30s",
        variables=[
            choose("dag", "DAG", "DAGs to show", path(TASK_STARTED).rsplit(".", 1)[0]),
            choose("pool", "Pool", "Pools to show", path(POOL, slots="open_slots")),
        ],
    )
    built.link(_link("Airflow", "${airflow}", tooltip="The Airflow UI"))

    def beat(metric: Metric, who: str) -> stat.Panel:
        return number(
            f"{who}: beats per minute",
            f"Heartbeats of the {who.lower()}, about 12 a minute. None: it is down, or does not reach StatsD.",
            alias(per_minute(path(metric)), who.lower()),
            decimals=0,
            steps=[(None, "red"), (1, "green")],
        )

    beats = (SCHEDULER_BEAT, PROCESSOR_BEAT, TRIGGERER_BEAT)
    failed = path(TASK_FINISHED, dag="$dag", state="failed")
    return _fill(
        built,
        {
            "Now": [
                beat(SCHEDULER_BEAT, "Scheduler"),
                beat(PROCESSOR_BEAT, "DAG processor"),
                beat(TRIGGERER_BEAT, "Triggerer"),
                number(
                    "Task failures",
                    "Task instances that failed for good within the time shown.",
                    alias(f"sumSeries({or_zero(failed, 'none')})", "failed"),
                    calculation="sum",
                    steps=NONE_IS_GOOD,
                ),
                number(
                    "DAG files with errors",
                    "DAG files that cannot be imported.",
                    alias(path(IMPORT_ERRORS), "errors"),
                    steps=NONE_IS_GOOD,
                ),
                number("DAGs", "DAGs found.", alias(path(DAGS), "DAGs"), steps=[(None, "red"), (1, "green")]),
                course(
                    "Heartbeats per minute",
                    "Of the scheduler, the DAG processor and the triggerer.",
                    *(f"aliasByMetric({per_minute(path(metric))})" for metric in beats),
                ),
                course(
                    "Scheduler loop",
                    "Mean duration of one round of the scheduler. When it grows, runs start late.",
                    alias(path(LOOP), "loop"),
                    unit="ms",
                    steps=[(None, "green"), (5000, "red")],
                ),
            ],
            "Runs and tasks": [
                run_durations("$dag"),
                course(
                    "Runs finished",
                    "Per hour, by DAG and outcome.",
                    f"aliasSub({named(RUN_SUCCESS, 'dag', of=summed(path(RUN_SUCCESS, 'count', dag='$dag')))}, "
                    '"$", " succeeded")',
                    or_zero(
                        f"aliasSub({named(RUN_FAILED, 'dag', of=summed(path(RUN_FAILED, 'count', dag='$dag')))}, "
                        '"$", " failed")',
                        "failed",
                    ),
                    style="bars",
                    stacked=True,
                ),
                course(
                    "Tasks finished, by state",
                    "Per hour; failed is after the last retry.",
                    f'groupByNode({summed(path(TASK_FINISHED, dag="$dag"))}, {_state_node()}, "sum")',
                    style="bars",
                    stacked=True,
                ),
                course(
                    "Task failures by task",
                    "Per hour, by DAG and task.",
                    or_zero(named(TASK_FINISHED, "dag", "task", of=summed(failed)), "none"),
                    style="bars",
                    stacked=True,
                ),
                course(
                    "Duration by task",
                    "Run time of each task, one point per run; a mapped task's mean over its instances.",
                    named(TASK_DURATION, "dag", "task", of=path(TASK_DURATION, dag="$dag")),
                    unit="ms",
                    style="points",
                    size=(24, 10),
                ),
            ],
            "Queueing": [
                course(
                    "Waiting to be queued, by task",
                    "Time from when a task was scheduled to when it was handed to the executor: waiting for a slot.",
                    named(TASK_WAIT, "dag", "task", of=path(TASK_WAIT, dag="$dag")),
                    unit="ms",
                    style="points",
                ),
                course(
                    "Tasks waiting",
                    "Ready for the executor, and starving: ready, but no pool slot is free.",
                    alias(path(EXECUTABLE), "executable"),
                    alias(path(STARVING), "starving"),
                ),
                course(
                    "Pool slots",
                    "Slots of each pool by what they are used for. (Under the LocalExecutor Airflow's own count of running "
                    "tasks stays 0: the pool's does not.)",
                    named(
                        POOL,
                        "pool",
                        "slots",
                        of=path(
                            POOL,
                            slots="{running_slots,queued_slots,scheduled_slots,deferred_slots}",
                            pool="$pool",
                        ),
                    ),
                ),
                course(
                    "Free slots",
                    "Of each pool, and of the executor.",
                    named(POOL, "pool", of=path(POOL, slots="open_slots", pool="$pool")),
                    alias(path(EXECUTOR_OPEN), "executor"),
                ),
            ],
            "DAG files and assets": [
                course(
                    "Parsing by file",
                    "Last parse of each DAG file. Airflow sends seconds here where other timers are milliseconds.",
                    named(PARSE_FILE, "file", of=path(PARSE_FILE)),
                    unit="s",
                    steps=[(None, "green"), (30, "red")],
                ),
                course(
                    "Parsing of all files",
                    "One round through all DAG files.",
                    alias(path(PARSE), "all files"),
                    unit="s",
                    size=(6, 8),
                ),
                course(
                    "Asset updates",
                    "Per hour: a new champion is one.",
                    alias(summed(path(ASSET_UPDATES)), "updates"),
                    style="bars",
                    size=(6, 8),
                ),
            ],
        },
    )


def _state_node() -> int:
    return path(TASK_FINISHED, state="state").split(".").index("state")


DASHBOARDS: dict[str, Callable[[], dict]] = {
    "training": training,
    "explanation": explanation,
    "scoring": scoring,
    "airflow": airflow,
}


# --- Alerts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alert:
    """Fires where the last value of a series of ``target``, over the last ``window`` seconds, is beyond a threshold.

    ``reducer`` and ``evaluator``, (type, parameters), are Grafana's; ``panel`` is where to look: dashboard and title.
    """

    uid: str
    title: str
    target: str
    window: int
    evaluator: tuple[str, list[float]]
    summary: str
    runbook: str
    panel: tuple[str, str]
    reducer: str = "last"
    severity: str = "warning"
    no_data: str = "OK"
    pending: str = "0s"


def against_best(expression: str) -> str:
    """How far each series is below the highest it was."""
    return f"diffSeriesLists(aggregateLine({expression}, 'max', true), keepLastValue({expression}))"


def _top_features() -> str:
    """The five features of each model that were ever the highest within the window."""
    model_node = f"{ROOTS['gauge']}.{metrics.PREFIX}.{metrics.SHAP.name}".split(".").index("{model}")
    return f"applyByNode({path(metrics.SHAP)}, {model_node}, \"highest(%.*, 5, 'max')\")"


def alerts() -> list[Alert]:
    f1 = (
        f"group({path(metrics.CHAMPION_SCORE, protocol=PROTOCOL, score=SCORE)}, "
        f"{path(metrics.SCORE, protocol=PROTOCOL, score=SCORE)})"
    )
    p95 = path(metrics.LATENCY_QUANTILE, stage="total", quantile="p95")
    confidence = path(metrics.BATCH_CONFIDENCE, statistic="mean")
    top = _top_features()
    halved = f"divideSeriesLists(keepLastValue({top}), aggregateLine({top}, 'max', true))"
    doubled = f"divideSeriesLists(aggregateLine({top}, 'min', true), keepLastValue({top}))"
    return [
        Alert(
            uid="emotion-no-training",
            title="No successful training in 8 days",
            target=age(metrics.RUN_FINISHED),
            window=30 * DAY,
            evaluator=("gt", [8 * DAY]),
            no_data="Alerting",
            pending="1h",
            severity="critical",
            summary="No training run has succeeded for more than 8 days (or none is known at all).",
            runbook="Open the runs of emotion_training in Airflow: is the DAG unpaused, did the last run fail, and where? "
            "Clear the failed task, or trigger a run. No run at all: check the scheduler's heartbeat.",
            panel=("training", "Last success"),
        ),
        Alert(
            uid="emotion-f1-fell",
            title="F1 fell by more than 0.05",
            target=against_best(f1),
            window=30 * DAY,
            evaluator=("gt", [0.05]),
            severity="critical",
            summary="The champion's or a challenger's macro F1 on speakers held out is more than 0.05 below its best of the "
            "last 30 days: {{ .Labels.name }}.",
            runbook="Compare the run's report with that of the run before: did the data change (clips used, rejected, "
            "fingerprint), the features or the packages? A bad champion: `emotion promote` an earlier version.",
            panel=("training", "Champion over time"),
        ),
        Alert(
            uid="emotion-latency",
            title="Inference p95 over twice its 7-day median",
            target=f"divideSeries(keepLastValue({p95}), aggregateLine({p95}, 'median', true))",
            window=7 * DAY,
            evaluator=("gt", [2]),
            summary="Scoring a clip takes more than twice as long as is usual over 7 days (p95 of the last batch).",
            runbook="Which stage grew (decode, features, model)? Decode: longer clips or slow storage. Features or model: is "
            "the machine busy with training, is a bigger model champion since then?",
            panel=("scoring", "Latency p50 and p95 by stage"),
        ),
        Alert(
            uid="emotion-confidence",
            title="Confidence is not as usual",
            target=f"absolute(diffSeries(keepLastValue({confidence}), aggregateLine({confidence}, 'median', true)))",
            window=7 * DAY,
            evaluator=("gt", [0.1]),
            summary="The last batch's mean confidence differs by more than 0.1 from its 7-day median.",
            runbook="Lower: listen to the least certain clips of the batch's report; look at drift. Higher: look at the mix of "
            "emotions, the clips may all be alike. Since a promotion: the new model is calibrated differently.",
            panel=("scoring", "Confidence over time"),
        ),
        Alert(
            uid="emotion-drift",
            title="Drift alarm",
            target=path(metrics.DRIFT_VERDICT),
            window=2 * DAY,
            evaluator=("gt", [1.5]),
            summary="The last batch scored is unlike the data that the champion was trained on.",
            runbook="See which features moved. Level or spectrum: microphone, codec or gain changed. Pitch: other speakers. "
            "If the new kind of audio is here to stay, label some of it and train on it.",
            panel=("scoring", "Features that moved most"),
        ),
        Alert(
            uid="emotion-importance",
            title="Importance of a top feature halved or doubled",
            target=f"aggregateSeriesLists({halved}, {doubled}, 'min')",
            window=60 * DAY,
            evaluator=("lt", [0.5]),
            summary="The share of SHAP importance of a top feature is less than half of its highest or more than twice its "
            "lowest of 60 days: {{ .Labels.name }}.",
            runbook="Same data, same recipe? If the data grew, look whether scores rose too: then the model learnt something. "
            "If not, suspect the audio of the new clips, and compare the runs' reports.",
            panel=("explanation", "Importance over runs"),
        ),
        Alert(
            uid="emotion-task-failures",
            title="Task failures",
            target=path(TASK_FINISHED, state="failed"),
            window=3600,
            reducer="sum",
            evaluator=("gt", [0]),
            summary="A task has failed for good within the last hour: {{ .Labels.name }}.",
            runbook="Open the run in Airflow and read the task's log: errors of this project say what was found, what was "
            "expected and what to do. Fix it and clear the task: what is done is not done again.",
            panel=("airflow", "Task failures by task"),
        ),
        Alert(
            uid="emotion-scheduler",
            title="No scheduler heartbeat",
            target=path(SCHEDULER_BEAT),
            window=300,
            reducer="sum",
            evaluator=("lt", [1]),
            no_data="Alerting",
            pending="1m",
            severity="critical",
            summary="The scheduler has not reported for 5 minutes: nothing is scheduled (or StatsD is down).",
            runbook="`docker compose ps` and `docker compose logs airflow-scheduler`; restart it. If it is healthy, look at "
            "graphite: without StatsD no metric arrives.",
            panel=("airflow", "Heartbeats per minute"),
        ),
    ]


def _expression(ref_id: str, body: dict) -> dict:
    return {"refId": ref_id, "datasource": {"type": "__expr__", "uid": "__expr__"}} | body


@dataclass
class _Model(variants.Dataquery):
    body: dict

    def build(self) -> _Model:
        return self

    def to_json(self) -> dict:
        return self.body


def rule(definition: Alert, panels: dict[tuple[str, str], int]) -> dict:
    """The rule as Grafana's API has it."""
    kind, parameters = definition.evaluator
    where, title = definition.panel
    query = Query(definition.target).to_json()
    reduce = {
        "type": "reduce",
        "expression": "A",
        "reducer": definition.reducer,
        "settings": {"mode": "dropNN"},
    }
    threshold = {
        "type": "threshold",
        "expression": "B",
        "conditions": [{"evaluator": {"type": kind, "params": parameters}}],
    }
    parts = [
        ("A", DATASOURCE, query),
        ("B", "__expr__", _expression("B", reduce)),
        ("C", "__expr__", _expression("C", threshold)),
    ]
    built = (
        alert.Rule(definition.title)
        .uid(definition.uid)
        .condition("C")
        .folder_uid(FOLDER)
        .rule_group("emotion")
        .org_id(1)
        .for_val(definition.pending)
        .no_data_state(definition.no_data)
        .exec_err_state("Error")
        .labels({"severity": definition.severity})
        .annotations(
            {
                "summary": definition.summary,
                "runbook": definition.runbook,
                "__dashboardUid__": f"emotion-{where}",
                "__panelId__": str(panels[where, title]),
            }
        )
    )
    for ref_id, source, body in parts:
        window = alert_model.RelativeTimeRange(from_val=definition.window, to=0)
        built.with_query(
            alert.Query(ref_id).datasource_uid(source).model(_Model(body)).relative_time_range(window)
        )
    return json.loads(json.dumps(built.build(), cls=JSONEncoder))


def rules_file(dashboards: dict[str, dict]) -> dict:
    """The file that provisions the rules: API rules in groups, which say folder, group and organization once."""
    panels = {
        (name, panel["title"]): panel["id"]
        for name, found in dashboards.items()
        for panel in found["panels"]
        if "title" in panel
    }
    found = [rule(definition, panels) for definition in alerts()]
    for entry in found:
        for key in ("folderUID", "ruleGroup", "orgID"):
            del entry[key]
    group = {"orgId": 1, "name": "emotion", "folder": "Speech emotion", "interval": "1m", "rules": found}
    return {"apiVersion": 1, "groups": [group]}


def generate() -> dict[str, str]:
    """File name below this folder → content."""
    dashboards = {name: build() for name, build in DASHBOARDS.items()}
    files = {
        f"dashboards/{name}.json": json.dumps(found, indent=1) + "\n" for name, found in dashboards.items()
    }
    notice = "# Written by generate.py from the table of metrics. Edit that, not this.\n"
    rules = yaml.safe_dump(rules_file(dashboards), sort_keys=False, width=110, allow_unicode=True)
    return files | {"provisioning/alerting/rules.yaml": notice + rules}


def main() -> None:
    for name, content in generate().items():
        file = HERE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        print(name)


if __name__ == "__main__":
    main()
