"""Every alert on a real Graphite: when it fires, and when it stays quiet."""

from __future__ import annotations

import json
import time

import pytest

from grafana_files import RULE_OF, identities, is_beyond_limit, panel_of_rule, state

DAY = 86_400
GAUGE, COUNT = "stats.gauges.airflow.emotion.", "stats_counts.airflow."
FINISHED = GAUGE + "training.finished"
EVERY = GAUGE + "training.every_days"
CHAMPION = GAUGE + "champion.score.speaker_independent.f1_macro"
CHALLENGER = GAUGE + "training.score.random_forest.speaker_independent.f1_macro"
P95 = GAUGE + "scoring.latency_quantile.total.p95"
CONFIDENCE = GAUGE + "scoring.batch_confidence.mean"
SEEN, HOURS = GAUGE + "scoring.last_seen", GAUGE + "scoring.every_hours"
VERDICT = GAUGE + "scoring.drift.verdict"
SHORT = GAUGE + "accuracy.short_by"
SHAP = GAUGE + "training.shap_group.random_forest."
FAILED = COUNT + "ti.finish.emotion_training.featurize.failed"
BEAT = COUNT + "scheduler_heartbeat"
READY, EXPECTED = GAUGE + "serving.load.processes", GAUGE + "serving.load.expected"
REQUESTS = COUNT + "emotion.serving.requests."


def weekly(path: str, *values: float) -> list[tuple[str, float, float]]:
    """(path, value, days ago), a week apart, the last one an hour ago."""
    return [(path, value, 7 * (len(values) - 1 - week) + 1 / 24) for week, value in enumerate(values)]


def batches(path: str, usual: float, last: float) -> list[tuple[str, float, float]]:
    """A batch every two hours for a week, and the last one."""
    return [(path, usual, 2 * hours / 24) for hours in range(83, 0, -1)] + [(path, last, 0.01)]


def finished(days_ago: float) -> list[tuple[str, object, float]]:
    """The time at which a training run succeeded, sent at that time."""
    return [(FINISHED, lambda now: now - days_ago * DAY, days_ago)]


def seen(minutes_ago: float, hours: float = 0.25) -> list[tuple[str, object, float]]:
    """A scoring run that looked for new files, by a schedule with so many hours between two runs."""
    days = minutes_ago / 1440
    return [(SEEN, lambda now: now - days * DAY, days), (HOURS, hours, days)]


def ready(processes: int, expected: int, *minutes_ago: float) -> list[tuple[str, float, float]]:
    """Ready and expected processes of the service, at some times."""
    figures = ((READY, processes), (EXPECTED, expected))
    return [(path, value, minutes / 1440) for minutes in minutes_ago for path, value in figures]


def requests(answered: int, failed: int, minutes_ago: float = 3) -> list[tuple[str, float, float]]:
    """Requests to the service, within ten seconds."""
    counts = {"answered": answered, "failed": failed}
    return [(REQUESTS + outcome, count, minutes_ago / 1440) for outcome, count in counts.items()]


# Alert → state → name of a case → points as (path, value, days ago).
CASES = {
    "no-training": {
        "firing": {
            "8.3 days ago": finished(8.3),
            "20 days ago": finished(20),
            "never": [],
            "weekly, 8.3 days ago": [*finished(8.3), (EVERY, 7, 0.01)],
            "weekly, never": [(EVERY, 7, 0.01)],
            "monthly, 33 days ago": [(FINISHED, lambda now: now - 33 * DAY, 0.02), (EVERY, 31, 0.01)],
            "scheduled again": [*finished(20), (EVERY, 0, 5), (EVERY, 7, 0.01)],
        },
        "quiet": {
            "7.7 days ago": finished(7.7),
            "just now": finished(0.001),
            "weekly, 7.7 days ago": [*finished(7.7), (EVERY, 7, 0.01)],
            "monthly, 20 days ago": [*finished(20), (EVERY, 31, 0.01)],
            "no schedule, never": [(EVERY, 0, 0.01)],
            "no schedule any more": [*finished(20), (EVERY, 7, 5), (EVERY, 0, 0.01)],
        },
    },
    "f1-fell": {
        "firing": {
            "champion": weekly(CHAMPION, 0.71, 0.72, 0.66),
            "little by little": weekly(CHAMPION, 0.72, 0.70, 0.68, 0.665),
        },
        "quiet": {
            "by 0.04": weekly(CHAMPION, 0.71, 0.67),
            "rose": weekly(CHALLENGER, 0.6, 0.7) + weekly(CHAMPION, 0.6, 0.7),
            "recovered": weekly(CHAMPION, 0.71, 0.6, 0.70),
            "a challenger that nobody promoted": weekly(CHALLENGER, 0.71, 0.6) + weekly(CHAMPION, 0.71, 0.71),
            "first run": weekly(CHAMPION, 0.4),
            "no run": [],
        },
    },
    "latency": {
        "firing": {"2.2 times": batches(P95, 100, 220)},
        "quiet": {
            "1.8 times": batches(P95, 100, 180),
            "faster": batches(P95, 100, 20),
            "first batch": [(P95, 900, 0.01)],
        },
    },
    "confidence": {
        "firing": {"lower": batches(CONFIDENCE, 0.7, 0.58), "higher": batches(CONFIDENCE, 0.7, 0.83)},
        "quiet": {"as usual": batches(CONFIDENCE, 0.7, 0.63), "first batch": [(CONFIDENCE, 0.2, 0.01)]},
    },
    "drift": {
        "firing": {"alarm": [(VERDICT, 0, 0.5), (VERDICT, 2, 0.01)]},
        "quiet": {
            "ok": [(VERDICT, 0, 0.01)],
            "watch": [(VERDICT, 1, 0.01)],
            "over": [(VERDICT, 2, 0.5), (VERDICT, 0, 0.01)],
            "nothing scored": [],
        },
    },
    "accuracy-fell": {
        "firing": {
            "by 0.02 more": [(SHORT, 0, 0.5), (SHORT, 0.02, 0.01)],
            "for hours": [(SHORT, 0.02, hours / 24) for hours in range(5, 0, -1)],
        },
        "quiet": {
            "as promised": [(SHORT, 0, 0.01)],
            "recovered": [(SHORT, 0.1, 0.5), (SHORT, 0, 0.01)],
            "no labels": [],
            "measured two days ago": [(SHORT, 0.1, 2)],
        },
    },
    "importance": {
        "firing": {
            "fell": weekly(SHAP + "pitch", 0.18, 0.18, 0.11) + weekly(SHAP + "tempo", 0.14, 0.14, 0.14),
            "rose": weekly(SHAP + "pitch", 0.12, 0.12, 0.19),
        },
        "quiet": {
            "a little": weekly(SHAP + "pitch", 0.18, 0.18, 0.14),
            "a single feature": weekly(GAUGE + "training.shap.random_forest.jitter", 0.002, 0.002, 0.0005),
            "first run": weekly(SHAP + "pitch", 0.18),
            "no run": [],
        },
    },
    "task-failures": {
        "firing": {"one": [(FAILED, 1, 0.02)]},
        "quiet": {"yesterday": [(FAILED, 1, 0.9)], "none": [(FAILED, 0, 0.02)], "never": []},
    },
    "scoring-stopped": {
        "firing": {
            "for 80 minutes": seen(80),
            "for 2 days": seen(2 * 1440),
            "daily, for 26 hours": [*seen(26 * 60), (HOURS, 24, 0.01)],
            "scheduled again": [*seen(300), (HOURS, 0, 5), (HOURS, 0.25, 0.01)],
        },
        "quiet": {
            "20 minutes ago": seen(20),
            "70 minutes ago": seen(70),
            "daily, for 24 hours": [*seen(24 * 60), (HOURS, 24, 0.01)],
            "no schedule any more": [*seen(300), (HOURS, 0, 0.01)],
            "run by hand only": [*seen(3000, 0)],
            "never": [],
        },
    },
    "service-silent": {
        "firing": {
            "killed 8 minutes ago": ready(2, 2, 60, 8),
            "no process for 8 minutes": [*ready(2, 2, 8), *ready(0, 2, 5, 0.5)],
            "killed 2 days ago": ready(2, 2, 2880),
            "started again without a model": [*ready(2, 2, 60), *ready(0, 0, 50), *ready(0, 2, 1)],
        },
        "quiet": {
            "ready": ready(2, 2, 60, 0.5),
            "one of two": ready(1, 2, 0.5),
            "no process for 2 minutes": [*ready(2, 2, 2), *ready(0, 2, 0.5)],
            "stopped in good order": [*ready(2, 2, 60), *ready(0, 0, 50)],
            "never": [],
        },
    },
    "service-failing": {
        "firing": {
            "6 of 100": requests(94, 6),
            "all of 5": requests(0, 5),
            "little by little": [point for minutes in (9, 6, 3, 1) for point in requests(18, 2, minutes)],
        },
        "quiet": {
            "5 of 110": requests(105, 5),
            "4 of 4": requests(0, 4),
            "none": requests(9, 0),
            "no request": requests(0, 0),
            "an hour ago": [*requests(50, 50, 60), *requests(9, 0)],
            "no service": [],
        },
    },
    "scheduler": {
        "firing": {"10 minutes ago": [(BEAT, 2, 10 / 1440)], "zeros": [(BEAT, 0, 1 / 1440)], "no metric": []},
        "quiet": {"just now": [(BEAT, 2, 0.5 / 1440)]},
    },
}


LIMIT_SHOWN = ("f1-fell", "latency", "confidence", "accuracy-fell", "importance", "scoring-stopped")
LIMIT_SHOWN += ("service-silent", "service-failing")
"""Alerts whose panel shows their limit with nothing but what the cases feed."""


def test_every_alert_has_its_cases():
    assert set(CASES) == set(RULE_OF)


@pytest.mark.parametrize("uid", sorted(set(CASES) - {"task-failures"}))
def test_the_panel_of_an_alert_shows_its_limit(uid):
    """A task failure has no limit: each is one bar too many."""
    _, panel = panel_of_rule(RULE_OF[uid])
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] == "stat":
        shown = json.dumps(defaults["thresholds"]) + json.dumps(panel["fieldConfig"]["overrides"])
        assert '"red"' in shown
        return
    limits = [target for target in panel["targets"] if '"alert: ' in target["target"]]
    lines = defaults["custom"].get("thresholdsStyle", {}).get("mode") == "line"
    assert panel["type"] == "timeseries" and (limits or lines)


@pytest.mark.graphite
@pytest.mark.parametrize(("shift", "expected"), [(1.2, False), (1.4, True)])
def test_the_panel_of_drift_shows_the_level_of_the_alarm(graphite, shift, expected):
    drift, now = GAUGE + "scoring.drift.", time.time() - 600
    graphite.feed([(drift + name, value, now) for name, value in (("shift", shift), ("shift_alarm", 1.3))])
    assert is_beyond_limit(graphite, RULE_OF["drift"]) == expected


@pytest.mark.graphite
@pytest.mark.parametrize(
    ("uid", "expected", "case"),
    [(uid, expected, case) for uid in CASES for expected in CASES[uid] for case in CASES[uid][expected]],
)
def test_alert(graphite, uid, expected, case):
    now = time.time()
    points = [
        (path, value(now) if callable(value) else value, now - days * DAY)
        for path, value, days in CASES[uid][expected][case]
    ]
    if points:
        graphite.feed(sorted(points, key=lambda point: point[2]))
    assert state(graphite, RULE_OF[uid]) == expected
    if uid in LIMIT_SHOWN:
        assert is_beyond_limit(graphite, RULE_OF[uid]) == (expected == "firing")


@pytest.mark.graphite
@pytest.mark.parametrize("uid", CASES)
def test_an_alert_keeps_its_labels_for_a_day(graphite, uid):
    """With other labels, Grafana would resolve the alert, start a new one, and begin to count its pending time anew."""
    now = time.time()
    points = []
    for case in CASES[uid]["firing"].values():
        start = now - DAY  # the case as it was a day ago
        points = [(path, value(start) if callable(value) else value, start - days * DAY) for path, value, days in case]
        if not points:
            continue
        graphite.feed(sorted(points, key=lambda point: point[2]))
        break
    seen = {at: identities(graphite, RULE_OF[uid], at) for at in range(int(now - DAY), int(now), 1700)}
    labels = set().union(*seen.values())
    assert labels
    assert len(labels) == max(len(each) for each in seen.values()), labels
    assert not any(character in json.loads(each)["name"] for each in labels for character in "(%"), labels
