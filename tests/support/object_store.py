"""A real S3 server on this machine, for tests of what lies in buckets."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
from moto.server import ThreadedMotoServer


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Run an S3 server; yields the environment that leads every AWS client of this and other processes to it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.stop()


def new_bucket() -> str:
    """Make a bucket on the server that the environment names; its URL, such as ``s3://emotion-1f0c…``."""
    name = f"emotion-{uuid.uuid4().hex[:12]}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"
