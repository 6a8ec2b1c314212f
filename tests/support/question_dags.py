"""A DAG of questions to a person, for the tests under a real scheduler."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

from airflow.sdk import dag
from airflow.sdk.exceptions import TaskAwaitingInput

from emotion_airflow.notifications import TELL_OF_QUESTION
from emotion_airflow.question import QuestionOperator

AT_ONCE = [f"at_once_{number}" for number in range(6)]
"""Answered as soon as they pause. Airflow's own LocalExecutor loses four of ten such answers."""


class KilledWhileAsking(QuestionOperator):
    def execute(self, context):
        try:
            super().execute(context)
        except TaskAwaitingInput:
            if context["ti"].try_number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            raise


class KilledWhenAnswered(QuestionOperator):
    def execute_complete(self, context, event):
        if context["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute_complete(context, event)


class KilledBeforeReminding(QuestionOperator):
    def execute_complete(self, context, event):
        if event["responded_by_user"] is None and context["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute_complete(context, event)


@dag(
    schedule=None,
    is_paused_upon_creation=False,
    default_args={
        "subject": "Well?",
        "options": ["yes", "no"],
        "defaults": "no",
        "response_timeout": timedelta(hours=1),
        "execution_timeout": None,
        "retries": 2,
        "retry_delay": timedelta(seconds=3),
    },
)
def questions():
    # It is answered while it waits for its retry.
    KilledWhileAsking(task_id="killed_while_asking", priority_weight=2, retry_delay=timedelta(seconds=8))
    KilledWhenAnswered(task_id="killed_when_answered", priority_weight=2)
    QuestionOperator(task_id="unanswered", response_timeout=timedelta(seconds=1))
    for task_id in AT_ONCE:
        QuestionOperator(task_id=task_id)

    told = {"notifiers": TELL_OF_QUESTION, "body": "It is a {{ 6 * 7 }}."}
    # It resumes for the reminder before other tasks take the executor's slots, and long before its time ends.
    QuestionOperator(
        task_id="reminded",
        subject="Unanswered?",
        priority_weight=3,
        response_timeout=timedelta(seconds=30),
        reminder=timedelta(seconds=26),
        **told,
    )
    late = {"response_timeout": timedelta(hours=1), "reminder": timedelta(minutes=59, seconds=56)}
    QuestionOperator(task_id="answered_late", subject="Late?", **late, **told)
    KilledBeforeReminding(task_id="killed_before_reminding", subject="Killed?", **late, **told)


questions()
