"""The row *Service over HTTP* of the dashboard *Scoring*: does `emotion serve` answer, and how fast?"""

from __future__ import annotations

from functools import partial

from panels import GREY, NEUTRAL, STATES, stat_panel, time_panel
from queries import (
    alias,
    failed_share,
    named,
    or_zero,
    path,
    per_minute,
    recent,
    service_ready,
    service_stopped,
    since_last,
)

from emotion import metrics
from emotion.metrics import Metric


def service_now() -> list:
    """How ``emotion serve`` is; without a service, the row is empty."""
    tile = partial(stat_panel, size=(4, 4))
    answered = path(metrics.SERVING_REQUESTS, outcome="answered")
    total_p95 = path(metrics.SERVING_LATENCY, "upper_95", stage="total")
    return [
        tile(
            "Service: last ready",
            "Time since a process of `emotion serve` was last ready to answer; up to 2 minutes while all is well. Red "
            "after 5 minutes: the alert 'Service does not answer' fires. Grey if it was stopped in good order.",
            f"fallbackSeries({alias(service_stopped(), 'stopped')}, {alias(service_ready(), 'ago')})",
            unit="s",
            decimals=0,
            steps=[(None, "green"), (300, "red")],
            since="9d",
            no_data="none for 9 d",
            colours={"/^stopped$/": GREY},
        ),
        tile(
            "Service: requests failed",
            "Share of the requests of the last 10 minutes that failed: it was busy, had no model, or a process ended. "
            "Above 5 %, the alert 'Requests to the service fail' fires. 0 if fewer than five failed.",
            alias(or_zero(failed_share(), "none", alive=answered), "of 10 min"),
            unit="percentunit",
            decimals=1,
            steps=[(None, "green"), (0.05, "red")],
            since="10m",
            no_data="no data for 10 min",
        ),
        tile(
            "Service: p95 of a request",
            "95 % of the requests of the last ten seconds with requests took less, upload included. Grey if there was "
            "none for 10 minutes.",
            recent(total_p95, "last requests", within="10 min"),
            unit="ms",
            decimals=0,
            steps=[(None, "green"), (500, "yellow"), (2000, "red")],
        ),
        tile(
            "Service: clips waiting",
            "Clips that wait for a free process. Where 64 wait, the service refuses others as busy.",
            recent(path(metrics.SERVING_LOAD, figure="waiting"), "now", within="5 min"),
            decimals=0,
            steps=[(None, "green"), (16, "yellow"), (64, "red")],
        ),
        tile(
            "Service: problem",
            "Whether the service has a problem (0: none; 1: yes), such as a new champion that it cannot load. Its page "
            "/health and its log say which.",
            recent(path(metrics.SERVING_LOAD, figure="problem"), "now", within="5 min"),
            words={0: "none", 1: "see /health"},
            steps=[(None, "green"), (1, "yellow")],
        ),
        tile(
            "Service: model loaded",
            "Time since the service last loaded a model: as it began, or because another model became the champion.",
            alias(since_last(path(metrics.SERVING_LOADED), least=1), "ago"),
            unit="s",
            decimals=0,
            steps=NEUTRAL,
            since="9d",
            no_data="none for 9 d",
        ),
    ]


def service_over_time() -> list:
    """What ``emotion serve`` was asked and answered, over time."""

    def rates(metric: Metric, label: str) -> str:
        per_interval = f'summarize({path(metric)}, "1min", "sum")'
        return named(metric, label, of=per_minute(per_interval), condense="average")

    return [
        time_panel(
            "Service: requests per minute",
            "Recordings sent to `emotion serve`: answered; refused, as the recording or the request cannot be used; "
            "failed, as it was busy, had no model, or a process ended.",
            rates(metrics.SERVING_REQUESTS, "outcome"),
            colours=STATES,
        ),
        time_panel(
            "Service: p95 of the time of a request",
            "95 % of the requests of ten seconds took less: waiting for a process (queue), in it (answer), from the "
            "headers to the answer, upload included (total). Half of the requests took less than the median.",
            named(metrics.SERVING_LATENCY, "stage", of=path(metrics.SERVING_LATENCY, "upper_95"), condense="max"),
            alias(path(metrics.SERVING_LATENCY, "median", stage="total"), "median of total", condense="average"),
            unit="ms",
        ),
        time_panel(
            "Service: refused and failed by reason",
            "Requests per minute that got no answer, by the reason that the client was told. busy, no_model, timeout, "
            "crashed and failed are faults of the service, the others of what was sent.",
            rates(metrics.SERVING_REFUSED, "reason"),
        ),
        time_panel(
            "Service: load",
            "Processes that are ready, and that are expected; clips that wait for one; open streams of live audio.",
            named(
                metrics.SERVING_LOAD,
                "figure",
                of=path(metrics.SERVING_LOAD, figure="{processes,expected,waiting,streams}"),
            ),
            decimals=0,
        ),
        time_panel(
            "Service: windows of live audio per minute",
            "Windows of streams: answered; refused, such as those in which nobody speaks; failed.",
            rates(metrics.SERVING_WINDOWS, "outcome"),
            colours=STATES,
        ),
        time_panel(
            "Service: streams per minute",
            "Streams that came to their end, were closed by the service (wrong data, a limit), or were left by the "
            "client.",
            rates(metrics.SERVING_STREAMS, "outcome"),
            colours=STATES,
        ),
    ]
