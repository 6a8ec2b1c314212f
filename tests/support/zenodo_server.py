"""A host that speaks Zenodo's record API: for tests, with faults on request, and for people, as a mirror.

It also serves its files at /archives/NAME, as hosts of repositories do: neither their length nor a part of them.

    python tests/support/zenodo_server.py --port 8000 ZIP [ZIP …] > mirror.yaml &
    EMOTION_ZENODO_URL=http://127.0.0.1:8000 EMOTION_DATASETS=$PWD/mirror.yaml make train

The server serves RAVDESS zips from disk, of all actors or of some, and prints a catalogue that describes them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
import zipfile
from collections import deque
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import yaml

SHIPPED = Path(__file__).resolve().parents[2] / "include" / "datasets.yaml"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request; by default nothing does.

    ``delay``: seconds before it answers. ``status``, ``headers``, ``body``: an answer of another kind.
    ``cut``: the body ends after so many bytes, and ``then`` the connection is closed, ``reset`` or left open
    (``stall``). ``corrupt``: other bytes. ``ignore_range``: the whole file with status 200.
    ``content_range``: a wrong header. ``pace``: seconds between two blocks of 64 KiB.
    ``unmeasured``: no Content-Length. ``extra``: bytes after the last one.
    """

    delay: float = 0.0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"<html>busy</html>"
    cut: int | None = None
    then: str = "close"
    corrupt: bool = False
    ignore_range: bool = False
    content_range: str | None = None
    pace: float = 0.0
    unmeasured: bool = False
    extra: bytes = b""


@dataclass
class Request:
    """A request as it came, with the status of the answer and the bytes of its body sent so far."""

    route: str
    range: str | None
    if_range: str | None
    status: int = 0
    sent: int = 0


class ZenodoServer:
    """Serves files of a record on 127.0.0.1, as a context manager.

    Attributes
    ----------
    url : str
    document : dict
        The record as JSON; tests may change it.
    faults : dict of deque of Fault
        By route, ``record`` or ``content``: each request uses up one.
    log : list of Request
    """

    def __init__(self, files: list[Path], *, record: int = 1188976, host: str = "127.0.0.1", port: int = 0):
        self.files = {path.name: path for path in files}
        self.record = record
        self.faults: dict[str, deque[Fault]] = {"record": deque(), "content": deque()}
        self.log: list[Request] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer((host, port), self._handler())
        self.url = f"http://{host}:{self._server.server_port}"
        self.document = {
            "id": record,
            "files": [
                {
                    "key": path.name,
                    "size": path.stat().st_size,
                    "checksum": f"md5:{digest(path, 'md5')}",
                    "links": {"self": f"{self.url}/api/records/{record}/files/{path.name}/content"},
                }
                for path in files
            ],
        }

    def __enter__(self) -> ZenodoServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        self._server.serve_forever()

    def asked(self, route: str = "content") -> list[Request]:
        """The requests of a route so far."""
        return [request for request in self.log if request.route == route]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                archive = self.path.removeprefix("/archives/")
                is_archive = archive != self.path and archive in owner.files
                name = archive if is_archive else owner._name_of_content(self.path)
                route = "content" if name else "record"
                faults = owner.faults[route]
                fault = faults.popleft() if faults else Fault()
                if is_archive:
                    del self.headers["Range"]
                    fault = replace(fault, unmeasured=True)
                self.request_log = Request(route, self.headers["Range"], self.headers["If-Range"])
                owner.log.append(self.request_log)
                try:
                    owner._closing.wait(fault.delay)
                    if fault.status:
                        self._answer(fault.status, fault.headers, fault.body)
                    elif name:
                        self._content(owner.files[name], fault)
                    elif self.path == f"/api/records/{owner.record}":
                        body = json.dumps(owner.document).encode()
                        self._answer(200, {"Content-Type": "application/json"}, body, cut=fault.cut)
                    else:
                        self._answer(404, {"Content-Type": "application/json"}, b'{"status": 404}')
                except OSError:
                    pass  # the client went away

            def _start(self, status: int, headers: dict[str, str]) -> None:
                self.request_log.status = status
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()

            def _answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: int | None = None) -> None:
                measured = {"Content-Length": str(len(body))}
                self._start(status, {"Content-Type": "text/html"} | headers | measured)
                self.wfile.write(body[:cut])

            def _content(self, path: Path, fault: Fault) -> None:
                size = path.stat().st_size
                resume = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
                tag = f'"{size}"'
                start = int(resume[1]) if resume and self.headers["If-Range"] in (None, tag) else 0
                headers = {"Content-Type": "application/octet-stream", "ETag": tag}
                if start >= size:
                    return self._answer(416, {"Content-Range": f"bytes */{size}"}, b"")
                if resume and not fault.ignore_range and start:
                    status = 206
                    headers["Content-Range"] = fault.content_range or f"bytes {start}-{size - 1}/{size}"
                else:
                    status, start = 200, 0
                if not fault.unmeasured:
                    headers["Content-Length"] = str(size - start)
                self._start(status, headers)
                left = size - start if fault.cut is None else fault.cut
                with open(path, "rb") as handle:
                    handle.seek(start)
                    while left and (block := handle.read(min(left, 1 << 16))):
                        if fault.corrupt:
                            block = bytes(len(block))
                        self.wfile.write(block)
                        self.request_log.sent += len(block)
                        left -= len(block)
                        owner._closing.wait(fault.pace)
                self.wfile.write(fault.extra)
                if fault.cut is not None:
                    self._break_off(fault.then)

            def _break_off(self, how: str) -> None:
                self.close_connection = True
                self.wfile.flush()
                if how == "stall":
                    owner._closing.wait(30)
                elif how == "reset":
                    time.sleep(0.05)  # a reset overtakes what was sent before it
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _name_of_content(self, path: str) -> str | None:
        match = re.fullmatch(rf"/api/records/{self.record}/files/(.+)/content", path)
        return match[1] if match and match[1] in self.files else None


def digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def catalogue(zips: list[Path], *, record: int = 1188976) -> dict:
    """The shipped catalogue, with these zips in place of its RAVDESS archives."""
    archives = {}
    for path in zips:
        with zipfile.ZipFile(path) as archive:
            stems = {PurePosixPath(name).stem for name in archive.namelist() if re.search(r"(^|/)03-.*\.wav$", name)}
            expanded = sum(info.file_size for info in archive.infolist())
        channel = {"01": "speech", "02": "song"}[min(stems)[3:5]]
        archives[channel] = {
            "key": path.name,
            "bytes": path.stat().st_size,
            "md5": digest(path, "md5"),
            "sha256": digest(path, "sha256"),
            "expanded_bytes": expanded,
            "channel": channel,
            "clips": len(stems),
            "actors": sorted({int(stem[-2:]) for stem in stems}),
        }
    entries = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    for name, entry in list(entries.items()):
        if entry["kind"] == "zenodo":
            channels = [archive["channel"] for archive in entry["archives"]]
            if set(channels) <= set(archives):
                entry |= {"record": record, "archives": [archives[channel] for channel in channels]}
            else:
                del entries[name]
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("zips", nargs="+", type=Path, metavar="ZIP")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--record", type=int, default=1188976)
    args = parser.parse_args()
    server = ZenodoServer(args.zips, record=args.record, host=args.host, port=args.port)
    print(
        yaml.safe_dump(catalogue(args.zips, record=args.record), sort_keys=False, allow_unicode=True),
        flush=True,
    )
    print(f"record {args.record} at {server.url}; Ctrl-C ends it", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
