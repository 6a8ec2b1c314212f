"""The dashboards, one module each; ``frame`` is what they have in common, ``service`` a row of ``scoring``."""

from __future__ import annotations

from collections.abc import Callable

from boards.airflow import airflow
from boards.explanation import explanation
from boards.overview import overview
from boards.scoring import scoring
from boards.training import training

DASHBOARDS: dict[str, Callable[[], dict]] = {
    "overview": overview,
    "training": training,
    "explanation": explanation,
    "scoring": scoring,
    "airflow": airflow,
}
"""Name of a file in ``dashboards/`` → function that builds it."""
