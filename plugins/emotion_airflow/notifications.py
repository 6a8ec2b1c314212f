"""Tells people what waits for them or went wrong: by mail or through a web hook.

One Airflow connection, :data:`CONNECTION`, says how. Its type is ``smtp`` for mail: the extra has ``to`` (one address
or several) and ``from_email``. Any other connection whose host is an http or https address is a web hook, which gets a
POST of JSON with ``subject``, ``text``, ``link`` and ``event``. Without the connection nobody is told.

A message that cannot be sent is a line in the log. It never fails a task.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from airflow.sdk import BaseNotifier, Connection
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowNotFoundException

from emotion.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from emotion_airflow.question import QuestionOperator

log = logging.getLogger(__name__)

CONNECTION = "emotion_notify"
"""Id of the connection through which people are told."""
SUBJECT_LENGTH, TEXT_LENGTH = 150, 5000
"""The longest subject and text, in characters. The page behind the link has the rest."""
WEB_HOOK_SECONDS = 10
"""Seconds that a web hook may take to connect, and as many to answer."""


@dataclass(frozen=True)
class Message:
    """What people are told.

    The texts may hold names that somebody sent in, such as that of a file: :func:`cleaned` takes out what could pass
    for something else than text.

    Attributes
    ----------
    event : str
        ``question``, ``reminder``, ``drift_alarm``, ``accuracy_fallen`` or ``run_failed``.
    subject : str
        One line.
    text : str
        Plain text, a paragraph a line.
    link : str
        The page in Airflow that it is about; empty where Airflow's address is not known.
    """

    event: str
    subject: str
    text: str
    link: str


class Notifier(BaseNotifier):
    """Tells people what a function makes of the context of a task or run.

    Parameters
    ----------
    compose : callable
        From the context, the :class:`Message`.
    """

    def __init__(self, compose: Callable[[Context], Message]):
        super().__init__()
        self.compose = compose

    def notify(self, context: Context) -> None:
        """Tell people. Nothing that fails here fails the task."""
        try:
            message = self.compose(context)
        except Exception:
            log.exception("nobody is told: the message could not be written")
        else:
            send(message)


def send(message: Message) -> bool:
    """Send a message through the connection; returns whether it was sent. What fails is logged."""
    message = cleaned(message)
    connection = None
    try:
        connection = Connection.get(CONNECTION)
        (_send_mail if connection.conn_type == "smtp" else _post)(connection, message)
    except AirflowNotFoundException:
        log.info("There is no connection %s: nobody is told of %r", CONNECTION, message.subject)
        return False
    except Exception as error:
        # The text of an error may hold the address of the web hook, which is often a secret.
        is_safe = isinstance(error, ConfigurationError) or connection is None or connection.conn_type == "smtp"
        reason = f"{type(error).__name__}: {error}" if is_safe else type(error).__name__
        log.error("nobody is told of %r: the connection %s failed: %s", message.subject, CONNECTION, reason)
        return False
    log.info("Sent through the connection %s: %s", CONNECTION, message.subject)
    return True


def cleaned(message: Message) -> Message:
    """The message with one line as its subject, without control characters, and no longer than people read.

    >>> cleaned(Message("question", "Promote a\\nBcc: everyone@example.com", "It is\\tbetter.\\n\\nMuch.\\x00", ""))
    Message(event='question', subject='Promote a Bcc: everyone@example.com', text='It is better.\\nMuch.', link='')
    """
    paragraphs = map(_one_line, message.text.splitlines())
    return Message(
        message.event,
        _shortened(_one_line(message.subject), SUBJECT_LENGTH),
        _shortened("\n".join(filter(None, paragraphs)), TEXT_LENGTH),
        message.link,
    )


def _one_line(text: str) -> str:
    """Without control and direction characters, halves of surrogate pairs and line ends of any kind."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _send_mail(connection: Connection, message: Message) -> None:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    extra = connection.extra_dejson
    if not extra.get("to") or not extra.get("from_email"):
        raise ConfigurationError("expected the addresses `to` and `from_email` in its extra")
    paragraphs = [html.escape(line) for line in message.text.splitlines()]
    if message.link:
        address = html.escape(message.link)
        paragraphs.append(f'<a href="{address}">{address}</a>')
    mail = SmtpNotifier(
        smtp_conn_id=CONNECTION,
        from_email=extra["from_email"],
        to=extra["to"],
        subject=message.subject,
        html_content="".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs),
        auth_type=extra.get("auth_type", "basic"),
    )
    mail.notify({})  # and not mail({}), which would take a name with {{ }} in it for a template


def _post(connection: Connection, message: Message) -> None:
    import requests

    login = (connection.login, connection.password or "") if connection.login else None
    reply = requests.post(
        web_hook_address(connection), json=asdict(message), auth=login, timeout=WEB_HOOK_SECONDS, allow_redirects=False
    )
    if not 200 <= reply.status_code < 300:
        raise ConfigurationError(f"the web hook answered with HTTP {reply.status_code}; expected 200 to 299")


def web_hook_address(connection: Connection) -> str:
    """The address of the web hook that a connection names.

    Raises ConfigurationError if it names none.

    >>> web_hook_address(Connection(conn_id="a", conn_type="http", host="https://hooks.example.com/a?b=c"))
    'https://hooks.example.com/a?b=c'
    >>> web_hook_address(Connection(conn_id="a", uri="https://hooks.example.com:8443/services/a"))
    'https://hooks.example.com:8443/services/a'
    """
    address = connection.host or ""
    if "://" not in address:
        port = f":{connection.port}" if connection.port else ""
        address = f"{connection.conn_type}://{address}{port}/{connection.schema or ''}"
    if not address.startswith(("http://", "https://")):
        raise ConfigurationError(
            "expected the type smtp, or http or https with the address of a web hook; its type is "
            f"{connection.conn_type!r}"
        )
    return address


# --- The pages that a message leads to --------------------------------------------------------------------------------


def page(dag_id: str, run_id: str, *parts: str) -> str:
    """The address of a page of a run in Airflow's UI; empty where ``[api] base_url`` is not set.

    >>> page("emotion_training", "manual__2026-01-02T03:04:05+00:00")  # doctest: +SKIP
    'https://airflow.example.com/dags/emotion_training/runs/manual__2026-01-02T03%3A04%3A05%2B00%3A00'
    """
    base = conf.get("api", "base_url", fallback="")
    path = "/".join(quote(part, safe="") for part in ("dags", dag_id, "runs", run_id, *parts))
    return f"{base.rstrip('/')}/{path}" if base else ""


def report_page(dag_id: str, run_id: str) -> str:
    """The address of the tab *Emotion report* of a run."""
    return page(dag_id, run_id, "plugin", "emotion_run_report")


# --- What people are told -------------------------------------------------------------------------------------------


def question_message(context: Context) -> Message:
    """That a question waits for an answer, or, as ``remind`` says, still waits; from the context of its task."""
    task, instance = cast("QuestionOperator", context["task"]), context["task_instance"]
    summary = task.hitl_summary
    remind = summary.get("remind", False)
    text = f"{summary['body'] or ''}\nThe answers: {', '.join(summary['options'])}."
    if summary["timeout_datetime"]:
        end = datetime.fromisoformat(summary["timeout_datetime"])
        text += f" Answer before {end:%Y-%m-%d %H:%M} UTC."
        if summary["defaults"]:
            text += f" If nobody does, this is taken: {', '.join(summary['defaults'])}."
    return Message(
        "reminder" if remind else "question",
        f"Still unanswered: {summary['subject']}" if remind else summary["subject"],
        text,
        page(instance.dag_id, instance.run_id, "tasks", instance.task_id, "required_actions"),
    )


def failure_message(context: Context) -> Message:
    """That a run failed; from the context of the DAG's ``on_failure_callback``."""
    dag, run_id = context["dag"], context["run_id"]
    name = dag.dag_display_name or dag.dag_id
    text = f"The run {run_id} of {name} failed ({context.get('reason', 'no reason is known')})."
    if instance := context.get("task_instance"):
        text += f" The task that failed: {instance.task_id}. Its log says why."
    return Message("run_failed", f"{name} failed", text, page(dag.dag_id, run_id))


TELL_OF_QUESTION = Notifier(question_message)
"""For the notifiers of a question to a person."""
TELL_OF_FAILURE = Notifier(failure_message)
"""For the ``on_failure_callback`` of a DAG."""


def tell_of_alarm(run_id: str, batch: dict) -> None:
    """That a batch is in alarm. ``batch``: as ``watch_drift`` of the scoring run returns it."""
    subject = f"Alarm: the batch {batch['batch']} differs from the training set"
    send(Message("drift_alarm", subject, batch["cause"], report_page("emotion_scoring", run_id)))


def tell_of_accuracy(run_id: str, champion: dict) -> None:
    """That the champion's accuracy in use fell. ``champion``: as ``measure_accuracy`` of the review run returns it."""
    accuracy = champion["accuracy"]
    text = (
        f"By {champion['labels']} labels, {champion['name']} answers {accuracy['value']:.0%} of the clips right (95 % "
        f"interval {accuracy['low']:.0%} to {accuracy['high']:.0%}). Its training promised {champion['promised']:.0%}."
        "\nListen to more clips on the page Emotion review: a training on the labels starts once there are enough."
    )
    subject = f"The accuracy of {champion['name']} fell"
    send(Message("accuracy_fallen", subject, text, page("emotion_review", run_id)))
