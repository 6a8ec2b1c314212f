"""A question to a person whose answer counts, even if the task that asked is tried again, and of which people are
told again before the time to answer ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import timezone
from airflow.sdk.exceptions import TaskAwaitingInput
from airflow.sdk.execution_time.hitl import upsert_hitl_detail

if TYPE_CHECKING:
    from airflow.sdk import Context

ASKED = "asked"
"""What the task remembers in Airflow's task state store: at which try and when it asked, and how often people were
told."""


class QuestionOperator(HITLOperator):
    """Airflow's HITLOperator, which asks only once, and tells people again before the time to answer ends.

    The HITLOperator asks at every try, and asking erases the answer of an earlier try. This operator does not ask
    again at a retry. It only pauses, and Airflow resumes it with the answer: at once if it is there already. The time
    to answer runs from the first try.

    A person who clears the task has the question asked again, and an answer from before then no longer counts.

    ``responded_by_user`` of the result is None where nobody answered in time and ``defaults`` were taken.

    Parameters
    ----------
    reminder : timedelta, optional
        So long before the end of ``response_timeout`` the notifiers are called again; ``hitl_summary`` then has
        ``remind``. None: they are called once.
    **options
        Of the HITLOperator.
    """

    def __init__(self, *, reminder: timedelta | None = None, **options: Any):
        super().__init__(**options)
        self.reminder = reminder

    def execute(self, context: Context) -> None:
        task_instance = context["task_instance"]
        # Airflow raises max_tries when a person clears the task.
        first_try = task_instance.max_tries - (self.retries or 0) + 1
        asked = self._asked(context)
        if asked is not None and asked["try_number"] >= first_try:
            self.log.info("The question was asked at try %d; pausing until it is answered", asked["try_number"])
        else:
            self._ask(context)
            asked = {"try_number": task_instance.try_number, "at": timezone.utcnow().isoformat(), "told": 0}
            context["task_state_store"].set(ASKED, asked)
        self._wait(context, asked)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        if event.get("responded_by_user") is None:  # the end of a pause, at which Airflow takes the defaults
            asked = self._asked(context)
            if asked and (left := self._left(asked)) is not None and left > timedelta(0):
                if "error" not in event:
                    # Takes back the defaults. No person has answered since, as Airflow takes one answer alone.
                    self._ask(context)
                self._wait(context, asked)
        return super().execute_complete(context, event)

    def _ask(self, context: Context) -> None:
        """Open the question. An answer to it that is there is erased."""
        upsert_hitl_detail(
            ti_id=context["task_instance"].id,
            options=self.options,
            subject=self.subject,
            body=self.body,
            defaults=self.defaults,
            multiple=self.multiple,
            params=self.serialized_params,
            assigned_users=self.assigned_users,
        )

    def _wait(self, context: Context, asked: dict[str, Any]) -> None:
        """Tell people if it is time to, and pause: until the reminder if there is one to come, else until the end."""
        if self._is_due(asked):
            asked = self._tell(context, asked)
        left = self._left(asked)
        if left is not None and self.reminder is not None and asked["told"] < 2 and left > self.reminder:
            left -= self.reminder
        raise TaskAwaitingInput(method_name="execute_complete", timeout=left and max(left, timedelta(0)))

    def _is_due(self, asked: dict[str, Any]) -> bool:
        """Whether it is time to tell people of the question, or to remind them of it."""
        left = self._left(asked)
        is_late = left is not None and self.reminder is not None and left <= self.reminder
        return asked["told"] == 0 or (asked["told"] == 1 and is_late)

    def _tell(self, context: Context, asked: dict[str, Any]) -> dict[str, Any]:
        """Call the notifiers, and keep that. If the task is killed meanwhile, the next try calls them again."""
        end = self.response_timeout and datetime.fromisoformat(asked["at"]) + self.response_timeout
        self.hitl_summary_extra |= {"timeout_datetime": end and end.isoformat(), "remind": asked["told"] > 0}
        for notifier in self.notifiers:
            notifier(context)
        asked = asked | {"told": asked["told"] + 1}
        context["task_state_store"].set(ASKED, asked)
        return asked

    def _asked(self, context: Context) -> dict[str, Any] | None:
        """What the task remembers of its question; None if it was never asked."""
        asked = cast("dict[str, Any] | None", context["task_state_store"].get(ASKED))
        return asked and {"told": 1} | asked  # an earlier release told nobody

    def _left(self, asked: dict[str, Any]) -> timedelta | None:
        """How much of the time to answer is left; None where it has no end."""
        waited = timezone.utcnow() - datetime.fromisoformat(asked["at"])
        return self.response_timeout and self.response_timeout - waited
