"""What panels show on a real Graphite: sums, states, ages, and nothing that looks right when no metric arrives."""

from __future__ import annotations

import re
import time

import pytest

from emotion import metrics
from grafana_files import DASHBOARDS, GREY, NAMES, POINTS, colour, filled, panels, tile, tiles

pytestmark = pytest.mark.graphite
MINUTE, HOUR, DAY = 60, 3600, 86_400
GAUGE, COUNT, TIMER = "stats.gauges.airflow.", "stats_counts.airflow.", "stats.timers.airflow."


def panel_of(name: str, title: str) -> dict:
    [panel] = [panel for panel in panels(name) if panel["title"] == title]
    return panel


@pytest.mark.parametrize(
    ("title", "counter"), [("Predicted emotions", "predicted"), ("Rejected files by reason", "rejected")]
)
def test_bars_of_counts_are_sums_over_the_time_range(graphite, title, counter):
    """Every point of a series is its sum: Grafana takes the longest bar from the largest point."""
    now = time.time()
    counts = {"first": [3, 5, 2], "second": [1, 0, 0]}
    graphite.feed(
        [
            (f"{COUNT}emotion.scoring.{counter}.{name}", count, now - 20 * HOUR + index * 9 * HOUR)
            for name, values in counts.items()
            for index, count in enumerate(values)
        ]
    )
    panel = panel_of("scoring", title)
    [query, *_] = filled(DASHBOARDS["scoring"], panel["targets"][0]["target"], lambda query: list(counts))
    for points in POINTS:
        answer = {each["target"]: {v for v, _ in each["datapoints"]} for each in graphite.render(query, points=points)}
        assert {name: values - {None} for name, values in answer.items()} == {"first": {10}, "second": {1}}


@pytest.mark.parametrize("dag", ["training", "scoring"])
@pytest.mark.parametrize("states", [("failed", "success"), ("success", "failed"), ("failed", "success", "failed")])
def test_the_newest_run_decides_the_last_state(graphite, dag, states):
    """Also if runs ended within the same hour."""
    end = time.time() // HOUR * HOUR - 20 * MINUTE
    graphite.feed(
        [
            (f"{TIMER}dagrun.duration.{state}.emotion_{dag}.mean", 60_000, end - 10 * MINUTE * (len(states) - index))
            for index, state in enumerate(states)
        ]
    )
    for points in POINTS:
        value, _, shown = tile(graphite, DASHBOARDS[dag], panel_of(dag, "Last run"), points=points)
        assert (value, shown) == {"success": (1, "green"), "failed": (2, "red")}[states[-1]]


STATE_COLOURS = {"failed": "red", "success": "green", "upstream_failed": "orange", "rejected": "orange"}


def test_a_state_has_the_same_colour_in_every_panel(fed_graphite):
    checked = set()
    for name, dashboard in DASHBOARDS.items():
        for panel in panels(name):
            if panel["type"] != "timeseries":
                continue
            for target in panel["targets"]:
                [query, *_] = filled(dashboard, target["target"], fed_graphite.find)
                for series in fed_graphite.render(query, since=dashboard["time"]["from"].removeprefix("now")):
                    state = re.split(r"[. ]", series["target"])[-1]
                    if panel["title"] == "Task failures by task":
                        state = "failed"
                    if state in STATE_COLOURS and panel["title"] != "Clips of each run":  # a number, not a state
                        assert colour(panel, series["target"], 1) == STATE_COLOURS[state], panel["title"]
                        checked.add((panel["title"], state))
    assert {("Run duration", "failed"), ("Runs finished", "success"), ("Tasks finished by state", "failed")} <= checked
    assert ("Task failures by task", "failed") in checked


def test_no_list_of_bars_is_cut_off(fed_graphite):
    """A row is at least 25 px high, and a step of the grid 38 px. The title and edges of a panel take 56 px."""
    for name, dashboard in DASHBOARDS.items():
        for panel in panels(name):
            if panel["type"] != "bargauge" or panel["title"] == "UAR by dataset":  # as long as there are datasets
                continue
            [target] = panel["targets"]
            [query, *_] = filled(dashboard, target["target"], fed_graphite.find, repeated=panel.get("repeat", ""))
            rows = fed_graphite.render(query, since=dashboard["time"]["from"].removeprefix("now"))
            stages = panel["title"] in ("Peak memory by stage", "CPU time by stage")
            count = max(len(rows), 18) if stages else len(rows)
            assert 25 * count <= 38 * panel["gridPos"]["h"] - 56, (panel["title"], count)


NOT_HEALTH = {
    "Clips scored",
    "Audio scored",
    "Promotions",
    "Champion, and since when",
    "Accuracy withheld",
    "Service: model loaded",
}
"""Tiles that only count or name a time: blue."""
BLUE = NOT_HEALTH | {"Champion's macro F1", "Labels of the champion", "Estimated accuracy"}
"""These and other tiles whose value is neither good nor bad."""


def test_no_tile_is_green_or_has_a_value_before_anything_came(graphite):
    for name in NAMES:
        for panel in panels(name):
            if panel["type"] == "stat":
                [(value, text, shown)] = tiles(graphite, DASHBOARDS[name], panel)
                assert value is None and re.match("no |none", text) and shown in ("red", GREY), panel["title"]


def healthy(then: float) -> list[tuple[str, float, float]]:
    """Every metric of a tile, as it is while all is well, at a time."""
    values = {
        f"{GAUGE}emotion.training.finished": then,
        f"{GAUGE}emotion.training.clips.rejected": 0,
        f"{GAUGE}emotion.training.clips.total": 90,
        f"{GAUGE}emotion.champion.score.speaker_independent.f1_macro": 0.85,
        f"{GAUGE}emotion.champion.is.run-1.ensemble": then,
        f"{GAUGE}emotion.accuracy.realized.champion.value": 0.8,
        f"{GAUGE}emotion.scoring.estimated_accuracy.high": 0.75,
        f"{GAUGE}emotion.scoring.estimated_accuracy.promised": 0.72,
        f"{GAUGE}emotion.scoring.drift.verdict": 0,
        f"{GAUGE}emotion.scoring.latency_quantile.total.p95": 20,
        f"{GAUGE}emotion.scoring.last_seen": then,
        f"{GAUGE}emotion.scoring.every_hours": 0.25,
        f"{GAUGE}emotion.scoring.estimated_accuracy.value": 0.7,
        f"{GAUGE}emotion.accuracy.realized.champion.labels": 200,
        f"{GAUGE}emotion.accuracy.short_by": 0,
        f"{COUNT}emotion.scoring.estimates.given": 1,
        f"{COUNT}emotion.scoring.clips.scored": 9,
        f"{COUNT}emotion.scoring.clips.rejected": 0,
        f"{COUNT}emotion.scoring.unfamiliar": 0,
        f"{COUNT}emotion.scoring.audio_seconds": 90,
        f"{COUNT}emotion.serving.requests.answered": 9,
        f"{COUNT}emotion.serving.models_loaded": 1,
        f"{GAUGE}emotion.serving.load.processes": 2,
        f"{GAUGE}emotion.serving.load.expected": 2,
        f"{GAUGE}emotion.serving.load.waiting": 0,
        f"{GAUGE}emotion.serving.load.problem": 0,
        f"{TIMER}emotion.serving.latency.total.upper_95": 20,
        f"{COUNT}emotion.training.promotion.promoted": 1,
        f"{COUNT}ti.finish.emotion_scoring.score.failed": 0,
        f"{GAUGE}dag_processing.import_errors": 0,
        f"{GAUGE}dagbag_size": 4,
        f"{TIMER}dagrun.duration.success.emotion_scoring.mean": 9,
        f"{TIMER}dagrun.duration.success.emotion_training.mean": 9,
    }
    beats = ("scheduler", "dag_processor", "triggerer")
    return [(path, value, then) for path, value in values.items()] + [
        (f"{COUNT}{part}_heartbeat", 2, then - 10 * index) for part in beats for index in range(6)
    ]


def test_tiles_are_green_while_all_is_well(graphite):
    graphite.feed(healthy(time.time() - 20))
    for name in NAMES:
        for panel in panels(name):
            if panel["type"] == "stat":
                first, *others = tiles(graphite, DASHBOARDS[name], panel)
                value_is_neutral = panel["title"] in BLUE and not (name == "training" and "F1" in panel["title"])
                assert first[2] == ("blue" if value_is_neutral else "green"), (panel["title"], first)
                # ages are blue; the time of the last heartbeats and of the sweep is itself the state
                assert {each[2] for each in others} <= {"blue", "green"}, (panel["title"], others)


@pytest.mark.parametrize(("promised", "expected"), [(0.72, "green"), (0.85, "red")])
def test_an_estimated_accuracy_below_the_promise_is_red(graphite, promised, expected):
    now = time.time() - 60
    values = {"value": 0.7, "high": 0.75, "promised": promised}
    graphite.feed([(f"{GAUGE}emotion.scoring.estimated_accuracy.{name}", value, now) for name, value in values.items()])
    assert tile(graphite, DASHBOARDS["overview"], panel_of("overview", "Accuracy, estimated"))[2] == expected


@pytest.mark.parametrize(("short", "expected"), [(0, "green"), (0.04, "red")])
def test_a_measured_accuracy_below_the_promise_is_red(graphite, short, expected):
    accuracy, now = f"{GAUGE}emotion.accuracy.", time.time() - 60
    graphite.feed([(accuracy + "short_by", short, now), (accuracy + "realized.champion.value", 0.6, now)])
    assert tile(graphite, DASHBOARDS["overview"], panel_of("overview", "Accuracy, by labels"))[2] == expected


def test_too_few_labels_are_not_an_accuracy_as_promised(graphite):
    graphite.feed([(f"{GAUGE}emotion.accuracy.short_by", 0, time.time() - 60)])
    shown = tiles(graphite, DASHBOARDS["overview"], panel_of("overview", "Accuracy, by labels"))
    assert shown == [(None, "no labels for 9 d", GREY)]


def test_the_champion_is_the_model_of_the_latest_promotion(graphite):
    """Also after a roll-back to an earlier model."""
    now, champion = time.time(), f"{GAUGE}emotion.champion.is."
    points = [("run-1.ensemble", 3 * DAY), ("run-2.random_forest", 2 * DAY), ("run-1.ensemble", DAY)]
    graphite.feed([(champion + name, now - ago, now - ago) for name, ago in points])
    [(value, name, _)] = tiles(graphite, DASHBOARDS["overview"], panel_of("overview", "Champion, and since when"))
    assert name == "ensemble.run-1" and DAY <= value <= DAY + 3 * MINUTE


@pytest.mark.parametrize(("scored", "rejected", "share"), [(30, 10, 0.25), (9, 0, 0), (0, 4, 1)])
def test_rejected_files_are_a_share(graphite, scored, rejected, share):
    clips, now = f"{COUNT}emotion.scoring.clips.", time.time()
    counts = {"scored": scored, "rejected": rejected}
    graphite.feed([(clips + name, count / 2, now - hours * HOUR) for hours in (5, 1) for name, count in counts.items()])
    for name in ("scoring", "overview"):
        assert tile(graphite, DASHBOARDS[name], panel_of(name, "Files rejected"))[0] == pytest.approx(share)


@pytest.mark.parametrize(
    ("minutes", "expected", "shown"), [(2, 2, ("ago", "green")), (9, 2, ("ago", "red")), (9, 0, ("stopped", GREY))]
)
def test_a_service_that_is_silent_is_red_unless_it_was_stopped(graphite, minutes, expected, shown):
    then, load = time.time() - minutes * MINUTE, f"{GAUGE}emotion.serving.load."
    graphite.feed([(load + "processes", 2, then), (load + "expected", expected, then)])
    assert tile(graphite, DASHBOARDS["scoring"], panel_of("scoring", "Service: last ready"))[1:] == shown


def test_requests_per_minute_do_not_depend_on_the_number_of_points(graphite):
    now = time.time()
    answered = f"{COUNT}emotion.serving.requests.answered"
    graphite.feed([(answered, 10, now - seconds) for seconds in range(6 * HOUR, 0, -10)])
    panel = panel_of("scoring", "Service: requests per minute")
    for points in POINTS:
        [series] = graphite.render(panel["targets"][0]["target"], since="-6h", points=points)
        assert series["target"] == "answered"
        values = [value for value, _ in series["datapoints"] if value]
        assert 55 < values[len(values) // 2] <= 60, points


@pytest.mark.parametrize("title", ["Training", "Scoring", "Drift"])
def test_a_tile_of_the_overview_has_an_age(graphite, title):
    graphite.feed(healthy(time.time() - HOUR))
    _, (seconds, name, _) = tiles(graphite, DASHBOARDS["overview"], panel_of("overview", title))
    assert name == "ago" and HOUR - MINUTE <= seconds <= HOUR + 4 * MINUTE


COUNTS = {"Task failures", "Files rejected", "Unfamiliar clips"}
"""Tiles that count over the time range. A tile beside them shows that nothing arrives any more."""


@pytest.mark.parametrize(("names", "hours"), [(("scoring", "airflow"), 3), (("training", "overview"), 9 * 24 + 1)])
def test_no_tile_stays_green_when_statsd_is_dead(graphite, names, hours):
    graphite.feed(healthy(time.time() - hours * HOUR))
    for name in names:
        for panel in panels(name):
            if panel["type"] == "stat" and panel["title"] not in COUNTS | NOT_HEALTH:
                shown = tiles(graphite, DASHBOARDS[name], panel)
                assert {each[2] for each in shown} <= {"red", GREY}, (panel["title"], shown)


@pytest.mark.parametrize(
    ("minutes", "hours_between", "shown"),
    [
        (20, 0.25, ("ago", "green")),
        (90, 0.25, ("late by", "red")),
        (3 * 1440, 0.25, ("late by", "red")),
        (90, 24, ("ago", "green")),
        (90, 0, ("no schedule", GREY)),
    ],
)
def test_the_last_sweep_is_red_when_it_is_late(graphite, minutes, hours_between, shown):
    then = time.time() - minutes * MINUTE
    scoring = f"{GAUGE}emotion.scoring."
    graphite.feed([(scoring + "last_seen", then, then), (scoring + "every_hours", hours_between, then)])
    assert tile(graphite, DASHBOARDS["scoring"], panel_of("scoring", "Time since last sweep"))[1:] == shown


def test_an_age_is_never_below_zero(graphite):
    now = time.time()
    graphite.feed([(f"{GAUGE}emotion.{metrics.RUN_FINISHED.name.removeprefix('emotion.')}", now, now)])
    value, *_ = tile(graphite, DASHBOARDS["training"], panel_of("training", "Time since last success"))
    assert 0 <= value <= 3 * MINUTE
