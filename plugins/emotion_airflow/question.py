"""A question to a person whose answer counts, even if the task that asked is tried again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import timezone
from airflow.sdk.exceptions import TaskAwaitingInput

if TYPE_CHECKING:
    from airflow.sdk import Context


class QuestionOperator(HITLOperator):
    """Airflow's HITLOperator, which asks only once.

    The HITLOperator asks at every try, and asking erases the answer of an earlier try. This operator does not ask
    again at a retry. It only pauses, and Airflow resumes it with the answer: at once if it is there already. The time
    to answer runs from the first try.

    A person who clears the task has the question asked again, and an answer from before then no longer counts.

    ``responded_by_user`` of the result is None where nobody answered in time and ``defaults`` were taken.
    """

    def execute(self, context: Context) -> None:
        task_instance, store = context["task_instance"], context["task_state_store"]
        # Airflow raises max_tries when a person clears the task.
        first_try = task_instance.max_tries - (self.retries or 0) + 1
        asked = cast("dict[str, Any] | None", store.get("asked"))
        if asked is not None and asked["try_number"] >= first_try:
            self.log.info("The question was asked at try %d; pausing until it is answered", asked["try_number"])
            waited = timezone.utcnow() - datetime.fromisoformat(asked["at"])
            timeout = self.response_timeout and max(self.response_timeout - waited, timedelta(0))
            raise TaskAwaitingInput(method_name="execute_complete", timeout=timeout)
        try:
            super().execute(context)
        except TaskAwaitingInput:
            store.set("asked", {"try_number": task_instance.try_number, "at": timezone.utcnow().isoformat()})
            raise
