"""A real S3 server on this machine, for what lies in buckets; it can be made to fail.

    python tests/support/object_store.py PORT [FAIL_EVERY]

runs it as a process. ``GET /failures`` says how often it was called, and how often it failed in which way.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from emotion.s3 import S3

KINDS = ("500", "503", "no answer", "answer lost", "answer cut off")
"""The ways in which a call fails, in turn. The last two reach the server, which does what was asked for."""

CODES = {"500": "InternalError", "503": "SlowDown", "403": "InvalidAccessKeyId", "404": "NoSuchUpload"}


class Server:
    """Moto behind a gate: each n-th call fails, in the ways of :data:`KINDS` in turn.

    Calls are worked on one after the other, so that a condition and what depends on it are one step, as on S3 itself.

    Parameters
    ----------
    fail_every : int
        0: no call fails.
    """

    def __init__(self, fail_every: int = 0):
        self.fail_every = fail_every
        self.calls = 0
        self.failures: Counter[str] = Counter()
        self.fails: Callable[[dict], str | None] = lambda environ: None
        """Decides in place of the count, where it returns a way to fail."""
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/failures":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps({"calls": self.calls, "failures": self.failures}).encode()]
        with self._one_at_a_time:
            kind = self._next_failure(environ)
            if kind in CODES:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                code = CODES[kind]
                start_response(f"{kind} {code}", [("Content-Type", "application/xml")])
                return [f"<Error><Code>{code}</Code><Message>Please try again</Message></Error>".encode()]
            if kind == "no answer":
                return self._hang_up(environ, start_response)
            if kind is None:
                return self._moto(environ, start_response)
            captured: list[Any] = []
            body = b"".join(self._moto(environ, lambda *answer: captured.append(answer)))
            if kind == "answer lost" or not body:
                return self._hang_up(environ, start_response)
            return self._cut_off(environ, start_response, captured[0], body)

    def _next_failure(self, environ: dict) -> str | None:
        self.calls += 1
        kind = self.fails(environ)
        if kind is None and self.fail_every and self.calls % self.fail_every == 0:
            kind = KINDS[self.calls // self.fail_every % len(KINDS)]
        if kind:
            self.failures[kind] += 1
        return kind

    def _hang_up(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        start_response("200 OK", [])
        return []

    def _cut_off(self, environ: dict, start_response: Callable, answer: Any, body: bytes) -> Iterator[bytes]:
        status, headers = answer[:2]
        kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        yield body[: len(body) // 2]
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


class Handler(MotoRequestHandler):
    """Without a line in the log for each call."""

    def log_request(self, *arguments: Any) -> None:
        """Say nothing."""


def listen(app: Server, port: int = 0) -> BaseWSGIServer:
    """A server of HTTP, ready to serve."""
    return make_server("127.0.0.1", port, app, threaded=True, request_handler=Handler)


def environment(port: int) -> dict[str, str]:
    """What leads every AWS client of this and other processes to the server."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def s3_server(app: Server | None = None) -> Iterator[dict[str, str]]:
    """Run an S3 server; yields the environment of its clients."""
    server = listen(app or Server())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    S3.clear_instance_cache()  # a client remembers its server
    try:
        yield environment(server.server_port)
    finally:
        S3.clear_instance_cache()
        server.shutdown()
        thread.join()


def new_bucket() -> str:
    """Make a bucket on the server that the environment names; its URL, such as ``s3://emotion-1f0c…``."""
    name = f"emotion-{uuid.uuid4().hex[:12]}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    return f"s3://{name}"


if __name__ == "__main__":
    listen(Server(int(sys.argv[2]) if len(sys.argv) > 2 else 0), int(sys.argv[1])).serve_forever()
