"""What people are told, by a real mail server and a real web hook: nothing that fails there fails a task."""

from __future__ import annotations

import json
import logging
import socket
from types import SimpleNamespace

import pytest

from emotion_airflow import notifications
from emotion_airflow.notifications import CONNECTION, Message, Notifier, send
from mail_server import body, mail_server, web_hook

VARIABLE = f"AIRFLOW_CONN_{CONNECTION.upper()}"
HOSTILE = "monday\r\nBcc: everyone@example.com\n\n<script>alert(1)</script> {{ 6 * 7 }} \udcff\u202e\x00"
MESSAGE = Message("drift_alarm", f"Alarm: {HOSTILE}", f"It differs.\n{HOSTILE}", "https://airflow.example.com/a?b&c")


def test_a_mail_says_what_happened_and_leads_to_the_page(monkeypatch):
    with mail_server() as (connection, mails):
        monkeypatch.setenv(VARIABLE, connection)
        assert send(Message("question", "Größer?", "It is <better>.\n\nNo answer means no.", "https://a.example/b?c&d"))
    (mail,) = mails
    assert mail["Subject"] == "Größer?"
    assert mail["To"] == "Ann <ann@example.com>, bo@example.com" and mail["From"] == "emotion@example.com"
    assert mail["X-Recipients"] == "ann@example.com, bo@example.com"
    assert body(mail).split("\n")[:3] == [
        "<p>It is &lt;better&gt;.</p>",
        "<p>No answer means no.</p>",
        '<p><a href="https://a.example/b?c&amp;d">https://a.example/b?c&amp;d</a></p>',
    ]


def test_a_hostile_name_stays_text_in_a_mail(monkeypatch):
    with mail_server() as (connection, mails):
        monkeypatch.setenv(VARIABLE, connection)
        assert send(MESSAGE)
    (mail,) = mails
    assert set(mail.keys()) == {"Content-Type", "MIME-Version", "Subject", "From", "To", "Date", "X-Recipients"}
    assert mail["X-Recipients"] == "ann@example.com, bo@example.com"
    assert mail["Subject"] == "Alarm: monday Bcc: everyone@example.com <script>alert(1)</script> {{ 6 * 7 }}"
    assert "<script>" not in body(mail) and "{{ 6 * 7 }}" in body(mail)


@pytest.mark.parametrize("form", ["host", "uri", "generic"])
def test_a_web_hook_gets_json(monkeypatch, form):
    with web_hook() as (address, posts):
        connection = {
            "host": json.dumps({"conn_type": "http", "host": f"{address}/hook?a=b", "login": "ann", "password": "p"}),
            "uri": f"{address}/hook",
            "generic": json.dumps({"conn_type": "generic", "host": f"{address}/hook"}),
        }[form]
        monkeypatch.setenv(VARIABLE, connection)
        assert send(MESSAGE)
    ((path, document, authorization),) = posts
    assert path == ("/hook?a=b" if form == "host" else "/hook")
    assert authorization.startswith("Basic ") == (form == "host")
    assert document.keys() == {"event", "subject", "text", "link"}
    assert document["event"] == "drift_alarm" and document["link"] == MESSAGE.link
    assert "\n" not in document["subject"] and "\udcff" not in document["text"]


def test_without_a_connection_nobody_is_told_and_nothing_fails(monkeypatch, caplog):
    monkeypatch.delenv(VARIABLE, raising=False)
    with caplog.at_level(logging.INFO):
        assert not send(MESSAGE)
    assert "nobody is told" in caplog.text


def test_an_airflow_that_cannot_be_asked_fails_nothing(monkeypatch, caplog):
    def refuse(conn_id):
        raise OSError(f"no answer about {conn_id}")

    monkeypatch.setattr(notifications.Connection, "get", refuse)
    assert not send(MESSAGE)
    assert "OSError: no answer about emotion_notify" in caplog.text


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_web_hook_that_refuses_is_a_line_in_the_log(monkeypatch, caplog, status):
    with web_hook(status) as (address, posts):
        monkeypatch.setenv(VARIABLE, f"{address}/secret")
        assert not send(MESSAGE)
    assert len(posts) == 1, "a redirection is not followed"
    assert f"HTTP {status}" in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        ({"conn_type": "smtp", "host": "127.0.0.1", "extra": {"to": "a@b.c"}}, "from_email"),
        ({"conn_type": "smtp", "host": "127.0.0.1", "extra": {"from_email": "a@b.c"}}, "`to`"),
        ({"conn_type": "smtp", "host": "127.0.0.1", "port": 1, "extra": {"to": "a@b.c", "from_email": "a@b.c"}}, ""),
        ({"conn_type": "http", "host": "127.0.0.1", "port": 1, "schema": "secret"}, "ConnectionError"),
        ({"conn_type": "http", "host": "https://[::bad/secret"}, "InvalidURL"),
        ({"conn_type": "http"}, "InvalidURL"),
        ({"conn_type": "ftp", "host": "example.com", "schema": "secret"}, "expected the type smtp"),
    ],
    ids=["no sender", "no recipient", "no mail server", "no web hook", "no address", "nothing", "another type"],
)
def test_a_connection_that_does_not_work_is_a_line_in_the_log(monkeypatch, caplog, connection, expected):
    monkeypatch.setenv(VARIABLE, json.dumps(connection))
    assert not send(MESSAGE)
    assert "nobody is told" in caplog.text and expected in caplog.text and "secret" not in caplog.text


def test_a_web_hook_that_does_not_answer_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(notifications, "WEB_HOOK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:{silent.getsockname()[1]}/hook")
        assert not send(MESSAGE)
    assert "Timeout" in caplog.text


def test_a_message_that_cannot_be_written_fails_nothing(caplog):
    Notifier(lambda context: Message("question", context["no such key"], "", ""))({})
    assert "could not be written" in caplog.text


def question(**summary):
    summary = {"subject": "Promote x?", "body": "It is better.", "options": ["Yes", "No"], "defaults": ["No"]} | summary
    instance = SimpleNamespace(dag_id="emotion_training", run_id="a/b+c", task_id="ask_a_person")
    context = {"task": SimpleNamespace(hitl_summary=summary), "task_instance": instance}
    return notifications.question_message(context)


@pytest.mark.parametrize("base", ["https://airflow.example.com", "https://example.com/airflow/"])
def test_a_question_leads_to_the_page_where_it_is_answered(monkeypatch, base):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    message = question(timeout_datetime="2026-01-02T03:04:05+00:00", remind=False)
    assert (message.event, message.subject) == ("question", "Promote x?")
    path = "/dags/emotion_training/runs/a%2Fb%2Bc/tasks/ask_a_person/required_actions"
    assert message.link == base.rstrip("/") + path
    assert message.text.splitlines() == [
        "It is better.",
        "The answers: Yes, No. Answer before 2026-01-02 03:04 UTC. If nobody does, this is taken: No.",
    ]


def test_a_reminder_says_that_the_question_still_waits():
    message = question(timeout_datetime=None, remind=True, body=None, defaults=None)
    assert (message.event, message.subject) == ("reminder", "Still unanswered: Promote x?")
    assert message.text == "\nThe answers: Yes, No."


def test_without_an_address_of_airflow_there_is_no_link(monkeypatch):
    monkeypatch.delenv("AIRFLOW__API__BASE_URL", raising=False)
    assert question(timeout_datetime=None).link == ""


@pytest.mark.parametrize("task_instance", [None, SimpleNamespace(task_id="download")])
def test_a_failed_run_is_named_with_its_task(monkeypatch, task_instance):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    dag = SimpleNamespace(dag_id="emotion_training", dag_display_name="Emotion training")
    context = {"dag": dag, "run_id": "scheduled__1", "reason": "task_failure"}
    message = notifications.failure_message(context | ({"task_instance": task_instance} if task_instance else {}))
    assert message.subject == "Emotion training failed"
    assert ("download" in message.text) == (task_instance is not None)
    assert message.link == "https://airflow.example.com/dags/emotion_training/runs/scheduled__1"
