"""The table of metrics, and the emitter: what StatsD gets, and that a server that is not there does no harm."""

from __future__ import annotations

import re
import socket

import pytest

from emotion import metrics
from emotion.metrics import TABLE, Emitter, statsd_emitter
from emotion.settings import Settings

LONGEST_LABEL = "x" * 60
LONGEST = {"model": "logistic_regression", "protocol": "speaker_independent_adapted", "score": "precision_macro"}
"""Labels with fixed words → the longest."""


@pytest.fixture
def server():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        yield server


def test_every_name_follows_one_scheme():
    assert len({metric.name for metric in TABLE}) == len(TABLE)
    for metric in TABLE:
        assert metric.kind in ("counter", "gauge", "timer")
        assert metric.unit and metric.help
        assert (metric.kind == "timer") <= (metric.unit == "ms"), f"{metric.name}: StatsD's timers are in ms"
        assert re.fullmatch(r"emotion(\.([a-z0-9_]+|\{[a-z]+\}))+", metric.name), metric.name
        filled = metric.path(**{label: LONGEST.get(label, LONGEST_LABEL) for label in metric.labels})
        assert len(f"{metrics.PREFIX}.{filled}") <= 250, "Airflow drops longer names"


def test_no_two_metrics_have_one_name_on_the_wire():
    patterns = [re.sub(r"\{\w+\}", "{}", metric.name) for metric in TABLE]
    assert len(set(patterns)) == len(TABLE)


def test_labels_hold_no_dot_colon_or_bar():
    path = metrics.SHAP.path(model="a.b|c:d", feature="f0 (Hz)/ä")
    assert path == "emotion.training.shap.a_b_c_d.f0__Hz___"


def test_a_missing_label_is_an_error():
    with pytest.raises(KeyError):
        metrics.SHAP.path(model="random_forest")


def test_the_server_gets_name_value_and_kind(server):
    emitter = statsd_emitter(server.getsockname())
    emitter.count(metrics.FEATURIZED, 3, outcome="featurized")
    emitter.count(metrics.FEATURIZED, 0, outcome="rejected")
    emitter.gauge(metrics.CLIPS, 7, kind="used")
    emitter.timing(metrics.STAGE_DURATION, 1.5, stage="collect")
    assert [server.recv(1000).decode() for _ in range(3)] == [
        "airflow.emotion.featurize.clips.featurized:3|c",
        "airflow.emotion.training.clips.used:7.0|g",
        "airflow.emotion.training.stage.collect.duration:1500.000000|ms",
    ]


def test_the_server_may_have_an_ipv6_address():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        try:
            server.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        server.settimeout(5)
        settings = Settings.from_environment({"EMOTION_STATSD": f"[::1]:{server.getsockname()[1]}"})
        statsd_emitter(settings.statsd).gauge(metrics.CLIPS, 3, kind="used")
        assert server.recv(1000) == b"airflow.emotion.training.clips.used:3.0|g"


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 9), ("no-such-host.invalid", 8125), ("x" * 70, 8125)])
def test_a_server_that_is_not_there_does_no_harm(address):
    emitter = statsd_emitter(address)
    for _ in range(3):
        emitter.count(metrics.SCORED, outcome="scored")


def test_a_socket_that_breaks_later_does_no_harm(caplog):
    class Broken:
        def gauge(self, name, value):
            raise OSError("network is unreachable")

    Emitter(Broken()).gauge(metrics.DOCTOR, 1.0)
    assert "emotion.doctor.probe not sent: network is unreachable" in caplog.text


@pytest.mark.parametrize(
    "send",
    [
        lambda emitter: emitter.count(metrics.CLIPS, kind="used"),
        lambda emitter: emitter.gauge(metrics.FEATURIZED, 1, outcome="featurized"),
        lambda emitter: emitter.timing(metrics.CLIPS, 1, kind="used"),
    ],
)
def test_a_metric_is_sent_as_its_kind(send):
    with pytest.raises(ValueError, match="is a (gauge|counter), not a"):
        send(Emitter(None))
