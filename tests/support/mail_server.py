"""A real mail server and a real web hook on the loopback interface, which keep what they get."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from emotion.commands.local_airflow import free_port


class _Mailbox:
    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        mail["X-Recipients"] = ", ".join(envelope.rcpt_tos)
        self.mails.append(mail)
        return "250 kept"


@contextmanager
def mail_server() -> Iterator[tuple[str, list[EmailMessage]]]:
    """The connection to the server, as JSON for Airflow, and the list of the mails that it got."""
    box, port = _Mailbox(), free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    extra = {"to": "Ann <ann@example.com>, bo@example.com", "from_email": "emotion@example.com"}
    extra |= {"disable_ssl": True, "disable_tls": True}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    controller.start()
    try:
        yield json.dumps(connection), box.mails
    finally:
        controller.stop()


def body(mail: EmailMessage) -> str:
    """The HTML of a mail."""
    (part,) = mail.iter_parts()
    return part.get_content()


@contextmanager
def web_hook(status: int = 200) -> Iterator[tuple[str, list[tuple[str, dict, str]]]]:
    """The address of the web hook, and the list of what it got: path, JSON and the header Authorization."""
    posts: list[tuple[str, dict, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            posts.append((self.path, json.loads(content), self.headers.get("Authorization", "")))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posts
    finally:
        server.shutdown()
        server.server_close()
