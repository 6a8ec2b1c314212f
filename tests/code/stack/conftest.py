"""Real Graphites: an empty one, and one that was sent every metric."""

from __future__ import annotations

import contextlib
import shutil

import pytest

import graphite_stack
from graphite_stack import wait_for
from sample_metrics import emit_airflow, emit_everything, lost


@pytest.fixture(scope="session")
def installed_graphite() -> None:
    """Skip the test where Graphite cannot be installed; in CI fail."""
    graphite_stack.require()


@pytest.fixture(scope="module")
def running_graphite(installed_graphite, tmp_path_factory):
    with graphite_stack.running(tmp_path_factory.mktemp("graphite")) as graphite:
        yield graphite


@pytest.fixture
def graphite(running_graphite):
    """A Graphite without metrics. Nothing is ever sent to its StatsD, which would repeat it at every flush."""
    for root in ("stats", "stats_counts"):
        shutil.rmtree(running_graphite.whisper / root, ignore_errors=True)
    return running_graphite


@pytest.fixture(scope="module")
def fed_graphite(installed_graphite, tmp_path_factory):
    """A Graphite whose StatsD was sent every metric of the table, and Airflow's."""
    with graphite_stack.running(tmp_path_factory.mktemp("fed")) as graphite:
        for _ in range(3):  # UDP: a busy machine drops some
            emit_everything(graphite.statsd)
            emit_airflow(graphite.statsd)
            with contextlib.suppress(AssertionError):
                wait_for(lambda: not lost(graphite), 3 * graphite_stack.FLUSH_SECONDS, "StatsD to flush")
                break
        graphite.settle()
        yield graphite
