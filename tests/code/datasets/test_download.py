"""Downloads: resumed, checked, patient with a host that fails, and given up in good time."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from emotion.datasets import http_client
from emotion.datasets.catalogue import find_entry
from emotion.datasets.download import PIECE, fetch_archives
from emotion.datasets.http_client import QUICK, FailedAttempt, HttpClient, Retry
from emotion.datasets.zenodo import check_reachable
from emotion.errors import ConfigurationError, DataError, DownloadError
from emotion.settings import PROJECT
from small_data import make_settings, ravdess_zip, write_zip
from zenodo_server import Fault, ZenodoServer, catalogue

RETRY = Retry(
    attempts=4,
    first_delay=0.01,
    longest_delay=0.05,
    longest_retry_after=1.5,
    connect_timeout=0.5,
    read_timeout=0.4,
    silent_for=2.0,
)


class Host:
    """A server with one archive, and what is needed to fetch from it."""

    def __init__(self, server: ZenodoServer, archive: Path, home: Path):
        self.server = server
        self.data = archive.read_bytes()
        self.settings = make_settings(home, catalogue=catalogue([archive]), zenodo_url=server.url)
        self.entry = find_entry(self.settings.catalogue, "ravdess-speech")
        self.folder = home / "scratch"
        self.folder.mkdir()
        archive_facts = self.entry.archives[0]
        self.part = self.folder / f"{archive_facts.md5}-{archive_facts.key}.part"

    def fetch(self, retry: Retry = RETRY, **options) -> bytes:
        (path,) = fetch_archives(self.settings, self.entry, self.folder, retry=retry, **options)
        assert not self.part.exists()
        return path.read_bytes()

    def at(self, url: str) -> None:
        self.settings = self.settings.model_copy(update={"zenodo_url": url})

    @property
    def ranges(self) -> list[str | None]:
        return [request.range for request in self.server.asked()]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return ravdess_zip(tmp_path_factory.mktemp("zenodo") / "Audio_Speech.zip")


@pytest.fixture
def host(tmp_path, archive):
    with ZenodoServer([archive]) as server:
        yield Host(server, archive, tmp_path)


def test_an_archive_arrives_whole_with_progress_and_only_once(host):
    seen = []
    assert host.fetch(progress=lambda *step: seen.append(step)) == host.data
    total = len(host.data)
    assert seen[-1] == ("download", total, total, "B")
    assert [done for _, done, _, _ in seen] == sorted(done for _, done, _, _ in seen)
    before = len(host.server.log)
    assert host.fetch() == host.data
    assert len(host.server.log) == before


def test_an_archive_that_changed_on_disk_is_fetched_again(host):
    host.fetch()
    host.part.with_suffix("").write_bytes(b"spoilt")
    assert host.fetch() == host.data


def describe(value) -> str:
    """A test's parameter in a few words: of a fault, what is out of order."""
    if isinstance(value, Fault):
        return " ".join(f"{key}={field}" for key, field in vars(value).items() if field != getattr(Fault(), key))
    return value.__name__ if isinstance(value, type) else str(value)


RESUME = 6 * PIECE


@pytest.mark.parametrize(
    "route, fault, ranges",
    [
        ("record", Fault(delay=0.2), [None]),
        ("record", Fault(delay=1.0), [None]),
        ("record", Fault(status=503), [None]),
        ("record", Fault(status=429, headers={"Retry-After": "0"}), [None]),
        ("record", Fault(cut=50), [None]),
        ("content", Fault(delay=0.2), [None]),
        ("content", Fault(unmeasured=True), [None]),
        ("content", Fault(unmeasured=True, cut=RESUME), [None, "bytes=98304-"]),
        ("content", Fault(unmeasured=True, extra=b"more"), [None, None]),
        ("content", Fault(status=503), [None, None]),
        ("content", Fault(status=500), [None, None]),
        ("content", Fault(status=408), [None, None]),
        ("content", Fault(cut=0), [None, None]),
        ("content", Fault(cut=RESUME), [None, "bytes=98304-"]),
        ("content", Fault(cut=RESUME, then="reset"), [None, "bytes=98304-"]),
        ("content", Fault(cut=RESUME, then="stall"), [None, "bytes=98304-"]),
        ("content", Fault(corrupt=True), [None, None]),
        ("content", Fault(status=200, body=b"<html>please wait</html>"), [None, None]),
    ],
    ids=describe,
)
def test_a_fault_that_passes_is_overcome(host, route, fault, ranges):
    host.server.faults[route].append(fault)
    assert host.fetch() == host.data
    assert host.ranges == ranges


def test_a_download_that_breaks_off_is_resumed_each_time(host):
    host.server.faults["content"] += [Fault(cut=50_000), Fault(cut=70_000, then="reset"), Fault(cut=50_000)]
    assert host.fetch() == host.data
    assert host.ranges == [None, "bytes=49152-", "bytes=114688-", "bytes=163840-"]
    assert [request.status for request in host.server.asked()] == [200, 206, 206, 206]
    assert [request.if_range for request in host.server.asked()] == [None] + [f'"{len(host.data)}"'] * 3


@pytest.mark.parametrize(
    "fault, status_after",
    [
        (Fault(ignore_range=True), []),
        (Fault(content_range="bytes 0-9/10"), [200]),
        (Fault(content_range="bytes 100001-200000/200001"), [200]),
        (Fault(content_range="nonsense"), [200]),
        (Fault(status=416), [200]),
        (Fault(status=206, headers={"Content-Range": ""}), [200]),
    ],
    ids=describe,
)
def test_a_download_starts_again_where_the_host_does_not_resume_it(host, fault, status_after):
    host.part.write_bytes(host.data[:RESUME])
    host.server.faults["content"].append(fault)
    assert host.fetch() == host.data
    assert host.ranges[0] == f"bytes={RESUME}-"
    assert [request.status for request in host.server.asked()][1:] == status_after


def test_a_partial_file_with_other_content_is_replaced(host):
    host.part.write_bytes(b"x" * RESUME)
    assert host.fetch() == host.data
    assert host.ranges == [f"bytes={RESUME}-", None]


def test_a_partial_file_that_is_too_long_is_thrown_away(host):
    host.part.write_bytes(host.data + b"more")
    assert host.fetch() == host.data
    assert host.ranges == [None]


def test_a_partial_file_that_is_whole_is_checked_and_not_fetched(host):
    host.part.write_bytes(host.data)
    assert host.fetch() == host.data
    assert host.ranges == []


def test_a_record_that_is_too_long_is_not_read_to_its_end(host, monkeypatch):
    monkeypatch.setattr(http_client, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(DownloadError, match="not valid JSON, or is too long"):
        host.fetch()


def test_a_file_that_changed_on_the_host_is_not_joined_to_the_old_part(host):
    host.part.write_bytes(b"old" * 1000)
    host.part.with_name(host.part.name + ".etag").write_text('"another version"')
    assert host.fetch() == host.data
    (request,) = host.server.asked()
    assert (request.if_range, request.status) == ('"another version"', 200)


@pytest.fixture
def delays(monkeypatch) -> list[float]:
    """The delays (s) before another attempt, which takes place at once."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_retry_after_is_honoured_in_both_forms(host, delays, kind):
    at = datetime.now(UTC) + timedelta(seconds=2000)
    value = "2000" if kind == "seconds" else format_datetime(at, usegmt=True)
    host.server.faults["content"].append(Fault(status=429, headers={"Retry-After": value}))
    assert host.fetch(replace(RETRY, longest_retry_after=3000)) == host.data
    assert delays == [pytest.approx(2000, abs=60)]


@pytest.mark.parametrize("value", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", "soon"])
def test_retry_after_is_capped_and_ignored_if_it_makes_no_sense(host, delays, value):
    host.server.faults["content"].append(Fault(status=503, headers={"Retry-After": value}))
    assert host.fetch(replace(RETRY, longest_retry_after=1000)) == host.data
    makes_sense = "3600" in value or "2100" in value
    assert len(delays) == 1 and (delays[0] == 1000 if makes_sense else delays[0] <= RETRY.first_delay)


def unknown_record(host):
    host.entry = host.entry.model_copy(update={"record": 99})


def other_md5(host):
    host.server.document["files"][0]["checksum"] = "md5:" + "0" * 32


def other_size(host):
    host.server.document["files"][0]["size"] += 1


def no_such_file(host):
    host.server.document["files"][0]["key"] = "Video.zip"


@pytest.mark.parametrize(
    "spoil, message",
    [
        (unknown_record, r"records/99 answers 404 Not Found; fetch Audio_Speech.zip by hand"),
        (other_md5, r"has checksum md5:0{32}; the catalogue .*catalogue.yaml expects md5:[0-9a-f]{32}"),
        (other_size, r"has bytes \d+; the catalogue .* expects \d+"),
        (no_such_file, r"has no Audio_Speech.zip; it has Video.zip"),
    ],
)
def test_an_archive_that_differs_from_the_catalogue_is_refused_before_the_download(host, spoil, message):
    spoil(host)
    with pytest.raises(DataError, match=message):
        host.fetch()
    with pytest.raises(DataError, match=message):
        check_reachable(host.settings, host.entry)
    assert host.server.asked() == []


def test_a_wrong_checksum_is_refused_after_a_second_try_and_leaves_nothing(host):
    host.server.faults["content"] += [Fault(corrupt=True)] * 2
    with pytest.raises(DataError, match=r"has the MD5 [0-9a-f]{32}; the catalogue expects [0-9a-f]{32}, twice"):
        host.fetch()
    assert host.ranges == [None, None]
    assert [path for path in host.folder.iterdir() if path.suffix != ".etag"] == []


def test_the_sha256_is_compared_too(host):
    archive = host.entry.archives[0].model_copy(update={"sha256": "0" * 64})
    host.entry = host.entry.model_copy(update={"archives": (archive,)})
    with pytest.raises(DataError, match="has the SHA256"):
        host.fetch()


HTML = {"Content-Type": "text/html"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "route, fault, error, message",
    [
        (
            "record",
            Fault(status=200, headers=HTML),
            DownloadError,
            "answers with text/html, not with Zenodo's JSON",
        ),
        ("record", Fault(status=200, headers=JSON), DownloadError, "not valid JSON"),
        ("record", Fault(status=200, headers=JSON, body=b"[1]"), DownloadError, "is not a Zenodo record"),
        (
            "record",
            Fault(status=200, headers=JSON, body=b'{"files": [{}]}'),
            DownloadError,
            "is not a Zenodo record",
        ),
        ("record", Fault(status=403), DownloadError, "answers 403"),
        ("record", Fault(status=503), DownloadError, "answers 503"),
        ("content", Fault(status=502), DownloadError, "answers 502"),
        ("content", Fault(status=410), DataError, "answers 410"),
        ("content", Fault(cut=0), DownloadError, "(broke off|ended) after 0 of"),
        ("content", Fault(content_range="bytes 1-2/3", cut=1000), DownloadError, "(broke off|ended) after"),
        ("record", Fault(status=302, headers={"Location": "ftp://x/y"}), ConfigurationError, "http or https"),
        (
            "record",
            Fault(status=302, headers={"Location": "file:///etc/passwd"}),
            ConfigurationError,
            "http or https",
        ),
        (
            "record",
            Fault(status=302, headers={"Location": "/api/records/1188976"}),
            DownloadError,
            "redirects",
        ),
    ],
    ids=describe,
)
def test_a_fault_that_stays_is_given_up(host, route, fault, error, message):
    host.server.faults[route] += [fault] * 50
    with pytest.raises(error, match=message):
        host.fetch()
    assert not host.part.with_suffix("").exists()


def test_redirects_are_followed(host):
    location = {"Location": host.server.document["files"][0]["links"]["self"]}
    host.server.faults["content"].append(Fault(status=302, headers=location))
    assert host.fetch() == host.data


def test_the_error_says_what_to_do_instead(host):
    host.at(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DownloadError) as caught:
        host.fetch()
    for part in (
        "Connection refused",
        "make train RAVDESS_DIR=",
        "Audio_Speech.zip",
        "EMOTION_ZENODO_URL",
        "https://zenodo.org/records/1188976",
    ):
        assert part in str(caught.value)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.mark.parametrize("url", ["zenodo.org", "ftp://zenodo.org", "http://", "http://[::1"])
def test_a_host_that_is_no_url_is_a_configuration_error(host, url):
    host.at(url)
    with pytest.raises(ConfigurationError, match="not, or leads to what is not, an http or https URL"):
        host.fetch()


def test_a_silent_host_is_given_up_in_time(host):
    host.server.faults["record"] += [Fault(delay=30)] * 9
    with pytest.raises(DownloadError, match="cannot be reached: no answer within 0 s"):
        host.fetch(replace(RETRY, read_timeout=20, silent_for=0.5))
    assert len(host.server.faults["record"]) > 6, "most of the attempts are left"


def test_the_defaults_give_up_within_45_seconds_and_the_quick_ones_within_15():
    assert Retry().silent_for + 1 < 45
    assert sum(min(Retry().first_delay * 2**n, Retry().longest_delay) for n in range(Retry().attempts - 1)) < 45
    assert QUICK.silent_for + 1 < 15


def test_a_host_is_reachable_if_it_answers_at_all(host):
    check_reachable(host.settings, host.entry)
    host.server.faults["record"].append(Fault(status=503))
    check_reachable(host.settings, host.entry)
    host.server.faults["record"] += [Fault(delay=30)]
    with pytest.raises(DownloadError, match="make train RAVDESS_DIR"):
        check_reachable(host.settings, host.entry, retry=replace(RETRY, silent_for=0.3))
    host.at(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DownloadError, match="Connection refused"):
        check_reachable(host.settings, host.entry)


def test_a_disk_that_is_too_small_is_noticed_before_a_byte_is_fetched(host, monkeypatch):
    usage = shutil.disk_usage(host.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=70_000_000))
    with pytest.raises(ConfigurationError, match="70 MB free; 77 MB are needed.*EMOTION_HOME"):
        host.fetch(room_for=10_000_000 - len(host.data))
    assert host.server.log == []
    host.fetch()


def test_a_disk_that_fills_up_during_the_download_is_reported(host):
    host.part.symlink_to("/dev/full")
    with pytest.raises(ConfigurationError, match="the disk is full"):
        host.fetch()


def test_a_killed_download_is_resumed(tmp_path):
    big = tmp_path / "Audio_Speech.zip"
    write_zip(big, {"Actor_01/03-01-01-01-01-01-01.wav": random.Random(0).randbytes(3 << 20)})
    with ZenodoServer([big]) as server:
        host = Host(server, big, tmp_path)
        server.faults["content"].append(Fault(pace=0.05))
        code = (
            "import sys; from pathlib import Path; from emotion.settings import Settings\n"
            "from emotion.datasets.catalogue import find_entry; from emotion.datasets.download import fetch_archives\n"
            "settings = Settings.from_environment()\n"
            "fetch_archives(settings, find_entry(settings.catalogue, 'ravdess-speech'), Path(sys.argv[1]))\n"
        )
        environ = os.environ | {
            "PYTHONPATH": str(PROJECT / "plugins"),
            "EMOTION_ZENODO_URL": server.url,
            "EMOTION_DATASETS": str(host.settings.catalogue),
        }
        process = subprocess.Popen([sys.executable, "-c", code, str(host.folder)], env=environ)
        deadline = time.monotonic() + 20
        while not host.part.exists() or host.part.stat().st_size < 1 << 20:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        got = host.part.stat().st_size
        assert 0 < got < len(host.data)
        assert host.fetch() == host.data
        assert host.ranges == [None, f"bytes={got}-"]
        assert server.asked()[-1].sent == len(host.data) - got


@pytest.mark.parametrize("piece, succeeds", [(1 << 20, True), ((1 << 20) - 1, False)])
def test_only_failures_in_a_row_without_a_mebibyte_between_them_are_counted(piece, succeeds):
    client = HttpClient(requests.Session(), replace(RETRY, attempts=2), "carry it by hand")
    received = 0

    def attempt() -> str:
        nonlocal received
        received += piece
        if received < 5 * piece:
            raise FailedAttempt("broke off")
        return "whole"

    if succeeds:
        assert client.with_retries(attempt, received=lambda: received) == "whole"
    else:
        with pytest.raises(DownloadError, match="^broke off. Given up: carry it by hand$"):
            client.with_retries(attempt, received=lambda: received)
        assert received == 2 * piece


def test_another_attempt_is_announced(host, caplog):
    host.server.faults["content"].append(Fault(status=503))
    host.fetch()
    assert re.search(r"answers 503 Service Unavailable; trying again in 0\.0 s", caplog.text)
