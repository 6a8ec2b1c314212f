"""Dashboards and metrics on a real Graphite: every query answers, no metric is lost, old points stay."""

from __future__ import annotations

import importlib
import json
import time

import pytest

from emotion import metrics
from grafana_files import DASHBOARDS, GRAFANA, filled, has_values, panels, queries, unanswered
from sample_metrics import VALUES, lost

HOUR, DAY = 3600, 86_400
FINISHED = "stats.gauges.airflow.emotion.training.finished"


@pytest.mark.graphite
def test_every_query_of_every_panel_and_alert_answers(fed_graphite):
    assert unanswered(fed_graphite) == []


@pytest.mark.graphite
def test_no_panel_has_two_series_of_the_same_name(fed_graphite):
    """A reader could not tell them apart: a label is missing from the query or from the name."""
    for name, dashboard in DASHBOARDS.items():
        since = dashboard["time"]["from"].removeprefix("now")
        for panel in panels(name):
            drawn = []
            for target in panel["targets"]:
                text = filled(dashboard, target["target"], fed_graphite.find, repeated=panel.get("repeat", ""))[0]
                drawn += [series["target"] for series in fed_graphite.render(text, since=since)]
            assert len(set(drawn)) == len(drawn), f"{name}: {panel['title']}: {drawn}"


@pytest.mark.graphite
def test_the_overview_can_be_drawn(fed_graphite, monkeypatch):
    monkeypatch.syspath_prepend(str(GRAFANA))
    picture = importlib.import_module("pictures").draw(fed_graphite.url, json.loads(json.dumps(DASHBOARDS["overview"])))
    assert picture.width == 1344 and len(picture.getcolors(1 << 24)) > 20


@pytest.mark.graphite
def test_every_metric_that_is_sent_has_a_series(fed_graphite):
    assert lost(fed_graphite) == []


@pytest.mark.graphite
def test_without_metrics_no_query_answers(graphite):
    """The test of all queries relies on this: a query that finds nothing returns nothing."""
    asked = queries(lambda query: ["nothing"])
    assert [target for _, target, since in asked if has_values(graphite.render(target, since=since))] == []


@pytest.mark.graphite
def test_a_weekly_run_can_be_seen_for_two_years(graphite):
    """Every roll-up keeps a lone point; with Graphite's defaults those of timers and counters would be lost."""
    now = time.time()
    score = "stats.gauges.airflow.emotion.training.score.random_forest.random.f1_macro"
    stage = "stats.timers.airflow.emotion.training.stage.download.duration.sum"
    promoted = "stats_counts.airflow.emotion.training.promotion.promoted"
    weeks = range(1, 104)
    points = [(path, 1 + week, now - week * 7 * DAY) for path in (score, stage, promoted) for week in weeks]
    graphite.feed(points)
    for path in (score, stage, promoted):
        [series] = graphite.render(path, since="-729d", points=100_000)
        values = sorted(value for value, _ in series["datapoints"] if value is not None)
        assert values == [1 + week for week in weeks], path


@pytest.mark.graphite
def test_the_time_since_the_last_success_is_right(graphite):
    now = time.time()
    graphite.feed([(FINISHED, now - 600, now - 600)])
    [panel] = [panel for panel in panels("training") if panel["title"] == "Time since last success"]
    [series] = graphite.render(panel["targets"][0]["target"], since="-90d")
    values = [value for value, _ in series["datapoints"] if value is not None]
    assert values and 300 <= values[-1] <= 900 and max(values) < HOUR


def test_metrics_cost_a_task_almost_nothing():
    """A task sends at most some hundred values and takes seconds to minutes; sending is under a thousandth of it."""
    emitter = metrics.statsd_emitter(("127.0.0.1", 9))
    start = time.process_time()  # other processes at work do not count
    for _ in range(20):
        for score in VALUES["score"]:
            emitter.gauge(metrics.SCORE, 0.5, model="random_forest", protocol="random", score=score)
    seconds_per_value = (time.process_time() - start) / (20 * len(VALUES["score"]))
    assert seconds_per_value < 0.000_2
