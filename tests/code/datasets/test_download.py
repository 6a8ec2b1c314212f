import os
import random
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import requests

from emotion.datasets import archives, http_client
from emotion.datasets.archives import open_zip, zip_members
from emotion.datasets.catalogue import find_entry
from emotion.datasets.download import PIECE, fetch_archives
from emotion.datasets.http_client import QUICK, FailedAttempt, HttpClient, Retry
from emotion.datasets.zenodo import check_reachable
from emotion.errors import ConfigurationError, DataError, DownloadError
from emotion.settings import PROJECT
from small_data import make_settings, ravdess_zip, wav, write_zip
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


def test_an_archive_that_was_spoilt_on_disk_is_fetched_again(host):
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
def test_what_goes_wrong_once_is_overcome(host, route, fault, ranges):
    host.server.faults[route].append(fault)
    assert host.fetch() == host.data
    assert host.ranges == ranges


def test_every_break_off_goes_on_where_it_was(host):
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
def test_a_resume_that_the_host_does_not_grant_starts_again(host, fault, status_after):
    host.part.write_bytes(host.data[:RESUME])
    host.server.faults["content"].append(fault)
    assert host.fetch() == host.data
    assert host.ranges[0] == f"bytes={RESUME}-"
    assert [request.status for request in host.server.asked()][1:] == status_after


def test_a_partial_file_of_another_content_does_not_survive(host):
    host.part.write_bytes(b"x" * RESUME)
    assert host.fetch() == host.data
    assert host.ranges == [f"bytes={RESUME}-", None]


def test_a_partial_file_that_is_too_long_is_thrown_away(host):
    host.part.write_bytes(host.data + b"more")
    assert host.fetch() == host.data
    assert host.ranges == [None]


def test_a_partial_file_that_is_whole_is_only_checked(host):
    host.part.write_bytes(host.data)
    assert host.fetch() == host.data
    assert host.ranges == []


def test_a_record_without_end_is_not_read_to_its_end(host, monkeypatch):
    monkeypatch.setattr(http_client, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(DownloadError, match="not valid JSON, or is too long"):
        host.fetch()


def test_a_file_that_changed_on_the_host_is_not_joined_to_the_old_part(host):
    host.part.write_bytes(b"old" * 1000)
    host.part.with_name(host.part.name + ".etag").write_text('"another version"')
    assert host.fetch() == host.data
    (request,) = host.server.asked()
    assert (request.if_range, request.status) == ('"another version"', 200)


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_retry_after_is_honoured_in_both_forms(host, kind):
    at = datetime.now(UTC) + timedelta(seconds=2)  # a date has whole seconds
    value = "1" if kind == "seconds" else format_datetime(at, usegmt=True)
    host.server.faults["content"].append(Fault(status=429, headers={"Retry-After": value}))
    start = time.monotonic()
    assert host.fetch() == host.data
    assert 0.9 < time.monotonic() - start < 2.5


@pytest.mark.parametrize("value", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", "soon"])
def test_retry_after_is_capped_and_nonsense_passed_over(host, value):
    host.server.faults["content"].append(Fault(status=503, headers={"Retry-After": value}))
    start = time.monotonic()
    assert host.fetch(replace(RETRY, longest_retry_after=0.2)) == host.data
    assert time.monotonic() - start < 1


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
def test_another_archive_than_the_catalogues_is_refused_before_it_is_fetched(host, spoil, message):
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
def test_what_does_not_pass_is_given_up(host, route, fault, error, message):
    host.server.faults[route] += [fault] * 50
    with pytest.raises(error, match=message):
        host.fetch()
    assert not host.part.with_suffix("").exists()


def test_redirects_are_followed(host):
    location = {"Location": host.server.document["files"][0]["links"]["self"]}
    host.server.faults["content"].append(Fault(status=302, headers=location))
    assert host.fetch() == host.data


def test_what_can_be_done_instead_is_said(host):
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
def test_a_host_that_is_no_url_is_a_matter_of_configuration(host, url):
    host.at(url)
    with pytest.raises(ConfigurationError, match="not, or leads to what is not, an http or https URL"):
        host.fetch()


def test_a_host_that_says_nothing_is_given_up_in_time(host):
    host.server.faults["record"] += [Fault(delay=30)] * 9
    start = time.monotonic()
    with pytest.raises(DownloadError, match="cannot be reached"):
        host.fetch(replace(RETRY, read_timeout=20, silent_for=0.5))
    assert time.monotonic() - start < 1.0


def test_as_shipped_it_gives_up_within_45_seconds_and_asks_within_15():
    assert Retry().silent_for + 1 < 45
    assert sum(min(Retry().first_delay * 2**n, Retry().longest_delay) for n in range(Retry().attempts - 1)) < 45
    assert QUICK.silent_for + 1 < 15


def test_whether_the_host_can_be_reached(host):
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


def test_a_disk_that_fills_up_on_the_way_is_told(host):
    host.part.symlink_to("/dev/full")
    with pytest.raises(ConfigurationError, match="the disk is full"):
        host.fetch()


def test_a_killed_download_goes_on_where_it_was(tmp_path):
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


# Archives


def members(path: Path, **options) -> dict[str, bytes]:
    with open_zip(path) as archive:
        return {member.path: member.read() for member in zip_members(archive, **options)}


def test_a_zip_is_read_without_what_systems_leave_in_it(tmp_path):
    files = {"Actor_01/a.wav": b"1", "b.wav": b"2", "deep/er/c.txt": b"3"}
    rubbish = {
        "__MACOSX/Actor_01/._a.wav": b"x",
        ".DS_Store": b"x",
        "Actor_01/._a.wav": b"x",
        "Actor_01/": b"",
    }
    assert members(write_zip(tmp_path / "a.zip", files | rubbish)) == files


def test_the_same_file_twice_is_one_if_it_is_the_same(tmp_path):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.wav", b"same")
        archive.writestr("a.wav", b"same")
    assert members(path) == {"a.wav": b"same"}
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.wav", b"other")
    with pytest.raises(DataError, match="a.wav twice, with different content"):
        members(path)


@pytest.mark.parametrize(
    "name, fault",
    [
        ("../a.wav", "would leave the folder"),
        ("Actor_01/../../a.wav", "would leave the folder"),
        ("/etc/a.wav", "absolute path"),
        ("C:/a.wav", "absolute path"),
        ("c:a.wav", "absolute path"),
        ("Actor_01\\a.wav", "backslash"),
        ("..\\a.wav", "backslash"),
        ("a\n.wav", "unprintable"),
        ("__MACOSX/../../a.wav", "would leave the folder"),
    ],
)
def test_a_name_that_leaves_its_folder_spoils_the_archive(tmp_path, name, fault):
    path = write_zip(tmp_path / "a.zip", {"good.wav": b"1", name: b"2"})
    with pytest.raises(DataError, match=f"{fault}.*the archive is refused"):
        members(path)


def test_a_name_with_a_zero_byte_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"good.wav": b"1", "a.wavQ.txt": b"2"})
    path.write_bytes(path.read_bytes().replace(b"a.wavQ.txt", b"a.wav\0.txt"))
    with pytest.raises(DataError, match="unprintable"):
        members(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path, kind):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("a.wav")
        info.external_attr = (kind | 0o644) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="link or a special file"):
        members(path)


def central_directory(data: bytes) -> int:
    return data.index(b"PK\x01\x02")


def test_encrypted_files_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.wav": b"1"})
    data = bytearray(path.read_bytes())
    data[central_directory(data) + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        members(path)


def test_a_bomb_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(70 << 20))
    with pytest.raises(DataError, match="over 100 times its size"):
        members(path)


def test_more_than_the_catalogue_allows_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.wav": bytes(1000)})
    assert members(path, max_bytes=1000)
    with pytest.raises(DataError, match="would unpack to 1,000 bytes; the catalogue allows 999"):
        members(path, max_bytes=999)


def test_a_file_too_large_to_be_a_clip_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.wav": b"1"})
    data = bytearray(path.read_bytes())
    start = central_directory(data)
    data[start + 20 : start + 28] = struct.pack("<II", 600 << 20, 600 << 20)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a file over 536,870,912 bytes"):
        members(path)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert len(members(write_zip(tmp_path / "a.zip", {f"{n}.wav": b"" for n in range(3)}))) == 3
    with pytest.raises(DataError, match="holds 4 files"):
        members(write_zip(tmp_path / "b.zip", {f"{n}.wav": b"" for n in range(4)}))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_not_read(tmp_path, compression):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.wav", wav(0))
    data = bytearray(path.read_bytes())
    data[3000:3010] = bytes(byte ^ 0xFF for byte in data[3000:3010])
    path.write_bytes(data)
    with pytest.raises(DataError, match="a.wav is damaged"):
        members(path)


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", "half"])
def test_what_is_no_zip_is_refused(tmp_path, data):
    path = write_zip(tmp_path / "a.zip", {"a.wav": wav(0)})
    path.write_bytes(path.read_bytes()[:3000] if data == "half" else data)
    with pytest.raises(DataError, match="is not a whole zip file"):
        members(path)
