"""The defaults of every DAG: which errors are retried and how, time limits, schedules, and who may answer."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from airflow.sdk import CronTriggerTimetable, ExceptionRetryPolicy, RetryAction, RetryRule

if TYPE_CHECKING:
    from airflow.sdk.execution_time.hitl import HITLUser

TRAINING_SCHEDULE = {"variable": "EMOTION_TRAINING_SCHEDULE", "default": "@weekly"}
"""The schedule of the training DAG, as :func:`schedule_from` takes it."""
SCORING_SCHEDULE = {"variable": "EMOTION_SCORING_SCHEDULE", "default": "*/15 * * * *"}
"""The schedule of the scoring DAG."""
REVIEW_SCHEDULE = {"variable": "EMOTION_REVIEW_SCHEDULE", "default": "@hourly"}
"""The schedule of the review DAG."""
SCHEDULED_RUNS = 100
"""So many runs are looked at to find the longest time between two."""
NOT_RETRIED = ("DataError", "ConfigurationError", "BundleError")
"""Errors of ``emotion.errors``, subclasses included, that come back in the same way at every attempt."""

TASK_DEFAULTS = {
    "owner": "emotion",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": ExceptionRetryPolicy(
        rules=[
            RetryRule(exception=f"emotion.errors.{name}", action=RetryAction.FAIL, reason="trying again does not help")
            for name in NOT_RETRIED
        ]
    ),
    "execution_timeout": timedelta(hours=2),
}
"""``default_args`` of every DAG; a task that needs other values sets them itself."""


def schedule_from(*, variable: str, default: str) -> CronTriggerTimetable | None:
    """The schedule, in UTC, by a cron expression in an environment variable.

    Parameters
    ----------
    variable : str
        Name of the environment variable, such as ``EMOTION_TRAINING_SCHEDULE``.
    default : str
        Cron expression where the variable is not set.

    Returns
    -------
    CronTriggerTimetable or None
        None where the variable is set and empty: the DAG then runs by hand only. A new DAG waits for the next
        scheduled time.

    Examples
    --------
    >>> schedule_from(variable="A_VARIABLE_THAT_IS_NOT_SET", default="@weekly").expression
    '0 0 * * 0'
    """
    cron = os.environ.get(variable, default)
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(0)) if cron else None


def approvers(*, variable: str = "EMOTION_APPROVERS") -> list[HITLUser]:
    """The users who may answer whether a challenger is promoted, by an environment variable with their ids.

    Empty where the variable is not set: then everyone may answer who may edit runs of the DAG.

    >>> approvers(variable="A_VARIABLE_THAT_IS_NOT_SET")
    []
    """
    return [{"id": name, "name": name} for name in os.environ.get(variable, "").replace(",", " ").split()]


def days_between_runs(*, variable: str, default: str) -> float:
    """The longest time between two scheduled runs, in days; 0 where nothing is scheduled. Parameters as above.

    >>> days_between_runs(variable="A_VARIABLE_THAT_IS_NOT_SET", default="@weekly")
    7.0
    >>> days_between_runs(variable="A_VARIABLE_THAT_IS_NOT_SET", default="")
    0.0
    """
    from croniter import croniter

    cron = os.environ.get(variable, default)
    if not cron:
        return 0.0
    times = croniter(cron, datetime(2026, 1, 1, tzinfo=UTC), ret_type=datetime)
    runs = [times.get_next() for _ in range(SCHEDULED_RUNS)]
    return max((later - earlier) / timedelta(days=1) for earlier, later in pairwise(runs))
