"""The artifact store in a bucket: a server that fails, several writers, leases, and what a person is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from moto.s3.models import s3_backends

from emotion import s3, store_lock
from emotion.errors import ConfigurationError, DataError, StoreError
from emotion.s3 import S3
from emotion.store import Store
from object_store import CODES, Server, new_bucket, s3_server


@pytest.fixture
def server() -> Server:
    """The gate of the server of :func:`remote`."""
    return Server()


@pytest.fixture
def remote(server, monkeypatch) -> Store:
    """A store in a bucket of a server of its own, which the test can make fail."""
    with s3_server(server) as environment:
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        yield Store(f"{new_bucket()}/home")


@pytest.fixture(params=["folder", "s3"])
def shared(request, tmp_path) -> Store:
    """A store that several processes share."""
    if request.param == "folder":
        return Store(str(tmp_path))
    return Store(f"{request.getfixturevalue('bucket')}/home")


def quick(monkeypatch, seconds: float = 0.5) -> None:
    monkeypatch.setattr(s3, "PATIENCE_SECONDS", seconds)


def in_threads(count: int, work) -> None:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not failures


def python(code: str, *arguments: str, **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, text=True, **options)


def test_one_call_in_ten_fails_and_all_is_right(remote, server):
    server.fail_every = 10
    for number in range(40):
        content = b"x" * 1000 * number
        remote.write_bytes(f"a/{number}", content)
        assert remote.read_bytes(f"a/{number}") == content
        assert not remote.exists(f"b/{number}")
        remote.update("numbers", lambda old: (old or b"") + b"1")
    assert remote.read_bytes("numbers") == b"1" * 40
    assert len(remote.list("a")) == 40
    assert len(remote.read_many([f"a/{number}" for number in range(50)])) == 40
    assert remote.create("claim", b"mine") and not remote.create("claim", b"mine")
    with remote.open("a/39") as handle:
        assert len(handle.read()) == 39_000
    remote.rename("a/39", "c/39")
    remote.delete("a")
    assert remote.list("a") == [] and remote.list("c") == ["c/39"]
    assert len(server.failures) == 5 and sum(server.failures.values()) >= 25


@pytest.mark.parametrize("kind", ["500", "503", "no answer", "answer lost", "answer cut off"])
def test_a_server_that_keeps_failing_is_an_error_and_no_empty_store(remote, server, monkeypatch, kind):
    remote.write_bytes("a", b"1")
    remote.update("b", lambda _: b"1")
    quick(monkeypatch)
    server.fails = lambda environ: kind
    uses = (
        lambda: remote.exists("a"),
        lambda: remote.list("runs"),
        lambda: remote.read_bytes("a"),
        lambda: remote.read_many(["a"]),
        lambda: remote.write_bytes("a", b"2"),
        lambda: remote.update("b", lambda _: b"2"),
        lambda: remote.delete("a"),
    )
    for use in uses:
        with pytest.raises(
            StoreError, match=r"s3://.* http://127.0.0.1:\d+ keeps failing \(.*; check the network"
        ) as told:
            use()
        assert "a-secret" not in str(told.value)


def test_a_write_whose_answer_was_lost_is_ones_own(remote, server):
    """The second try meets the file that the first has written."""
    remote.check_conditions()
    lost = []

    def lose_first_put(environ):
        if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"] not in lost:
            lost.append(environ["PATH_INFO"])
            return "answer lost"
        return None

    server.fails = lose_first_put
    assert remote.create("new", b"mine")
    assert remote.update("new", lambda old: old + b" again") == b"mine again"
    assert remote.update("log", lambda old: (old or b"") + b"line") == b"line"
    assert server.failures["answer lost"] == 2 and not remote.create("new", b"mine again")


def test_parts_of_a_large_file_are_never_seen(remote, server, monkeypatch):
    monkeypatch.setattr(S3, "part_bytes", 5 * 2**20)
    quick(monkeypatch)
    data = os.urandom(11 * 2**20)

    def is_end(environ) -> bool:
        return environ["REQUEST_METHOD"] == "POST" and "uploadId=" in environ["QUERY_STRING"]

    server.fails = lambda environ: "500" if "partNumber=3" in environ["QUERY_STRING"] else None
    with pytest.raises(StoreError, match="upload_part"):
        remote.write_bytes("large", data)
    assert not remote.exists("large") and remote.list("") == []
    with pytest.raises(FileNotFoundError):  # a lifecycle rule has ended the upload
        server.fails = lambda environ: "404" if is_end(environ) else None
        remote.write_bytes("large", data)
    assert not remote.exists("large")
    ends = iter(["answer lost", "404"])  # some servers do not know an upload any more that has ended
    server.fails = lambda environ: next(ends, None) if is_end(environ) else None
    remote.write_bytes("large", data)
    assert server.failures["answer lost"] == 1 and remote.read_bytes("large") == data


def test_what_another_process_writes_is_seen_at_once(bucket):
    ours, theirs = Store(f"{bucket}/home"), Store(f"{bucket}/home")
    for number in range(3):
        assert len(ours.list("a")) == number and not ours.exists(f"a/{number}")
        theirs.write_bytes(f"a/{number}", b"1")
        assert ours.exists(f"a/{number}")
    stamp = ours.stamp("a/0")
    assert ours.stamp("a/0") == stamp
    theirs.write_bytes("a/0", b"2")
    assert ours.stamp("a/0") != stamp


def test_many_files_are_listed_and_deleted_page_by_page(bucket):
    store = Store(f"{bucket}/home")
    for number in range(1080):  # into the server, which has 1,000 on a page
        s3_backends["123456789012"]["aws"].put_object(bucket.removeprefix("s3://"), f"home/many/{number}", b"")
    store.write_bytes("many-others/1", b"")
    assert len(store.list("many")) == 1080
    store.delete("many")
    assert store.list("many") == [] and store.list("many-others") == ["many-others/1"]


ADDS = """
import sys
from emotion.store import Store
store, name = Store(sys.argv[1]), sys.argv[2]
print("ready", flush=True); sys.stdin.readline()
for number in range(25):
    store.update("log", lambda old: (old or b"") + f"{name}{number}\\n".encode())
    store.create(f"claims/{number}", name.encode()) and store.update("won", lambda old: (old or b"") + b"1")
"""


def test_processes_that_write_at_once_lose_nothing(shared):
    writers = [python(ADDS, shared.root, name, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for name in ("a", "b")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.close()
    assert [writer.wait(120) for writer in writers] == [0, 0]
    lines = shared.read_bytes("log").decode().split()
    assert sorted(lines) == sorted(f"{name}{number}" for name in "ab" for number in range(25))
    assert shared.read_bytes("won") == b"1" * 25


def test_threads_that_write_at_once_lose_nothing(shared):
    won = []

    def work(number: int) -> None:
        for turn in range(10):
            shared.update("log", lambda old: (old or b"") + b"1")
            won.extend([turn] if shared.create(f"claims/{turn}", b"%d" % number) else [])

    in_threads(4, work)
    assert shared.read_bytes("log") == b"1" * 40 and sorted(won) == list(range(10))


def test_a_change_that_is_none_leaves_the_file(shared):
    assert shared.update("x", lambda old: None) is None and not shared.exists("x")
    shared.write_bytes("x", b"1")
    assert shared.update("x", lambda old: None) == b"1"
    with pytest.raises(ZeroDivisionError):
        shared.update("x", lambda old: 1 // 0)
    assert shared.read_bytes("x") == b"1"


def test_a_server_that_ignores_conditions_is_an_error(remote, server):
    def ignore(environ):
        environ.pop("HTTP_IF_NONE_MATCH", None)
        environ.pop("HTTP_IF_MATCH", None)

    server.fails = ignore
    for use in (lambda: remote.create("a", b"1"), lambda: remote.update("a", lambda _: b"1"), remote.check_conditions):
        with pytest.raises(ConfigurationError, match="ignores the conditions If-None-Match and If-Match"):
            use()
    assert not remote.exists("a") and remote.list("locks") == []


def test_a_file_system_without_conditions_says_so(tmp_path):
    store = Store(f"dir::file://{tmp_path}")
    assert not store.is_local
    store.write_bytes("a", b"1")
    with pytest.raises(ConfigurationError, match="has no conditional write. Set EMOTION_HOME to a folder or"):
        store.update("a", lambda _: b"2")


def test_a_lease_is_held_by_one_at_a_time(bucket, monkeypatch):
    monkeypatch.setattr(store_lock, "POLL_SECONDS", 0.05)
    inside, most = [], []

    def work(_: int) -> None:
        for _ in range(3):
            with Store(f"{bucket}/home").lock("a") as held:
                inside.append(1)
                most.append((len(inside), bool(held)))
                inside.pop()

    in_threads(4, work)
    assert most == [(1, True)] * 12
    store = Store(f"{bucket}/home")
    with (
        store.lock("a", wait=False) as held,
        store.lock("a", wait=False) as twice,
        store.lock("b", wait=False) as other,
    ):
        assert held and not twice and other


HOLDS = """
import sys, time
from emotion import store_lock
from emotion.store import Store
store_lock.LEASE_SECONDS = 2
with Store(sys.argv[1]).lock("a"): print("held", flush=True); time.sleep(600)
"""


def test_the_lease_of_a_killed_process_ends_and_that_of_a_living_one_does_not(bucket):
    store = Store(f"{bucket}/home")
    with python(HOLDS, store.root, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == "held\n"
        renewed = store.stamp("locks/a.json")
        while store.stamp("locks/a.json") == renewed:
            time.sleep(0.05)
        with store.lock("a", wait=False) as held:
            assert not held
        holder.kill()
    with store.lock("a") as held:
        assert held and store.age("locks/a.json") < 2


def test_a_lease_that_another_takes_is_lost_and_the_block_is_told(bucket, caplog):
    store = Store(f"{bucket}/home")
    with (
        pytest.raises(StoreError, match="locks/a.json was lost: it was not renewed for"),
        store_lock.lease(store, "locks/a.json", wait=False, seconds=0.3) as held,
    ):
        assert held
        other = b'{"token": "another", "seconds": 60}'
        store.update("locks/a.json", lambda _: other)  # as after this process had stood still
        for _ in range(1000):
            if not held:
                break
            time.sleep(0.01)
        assert not held and "locks/a.json was lost" in caplog.text
    assert store.read_bytes("locks/a.json") == other, "the lock of the other stays"


def test_a_damaged_lease_ends_as_any_other(bucket):
    store = Store(f"{bucket}/home")
    store.write_bytes("locks/a.json", b"nonsense")
    with store.lock("a", wait=False) as held:
        assert not held
    while store.age("locks/a.json") < 1:
        time.sleep(0.05)
    with store_lock.lease(store, "locks/a.json", wait=False, seconds=0.5) as held:
        assert held


def test_a_bucket_without_a_prefix_is_a_store_too(bucket):
    store = Store(bucket)
    store.update("a/b", lambda _: b"1")
    store.write_bytes("a-c", b"2")
    store.delete("a")
    assert store.list("") == ["a-c"]


def test_a_lease_outlives_a_server_that_fails_for_a_while(remote, server, monkeypatch):
    quick(monkeypatch, 0.1)
    with store_lock.lease(remote, "locks/a.json", wait=False, seconds=1.5) as held:
        server.fails = lambda environ: "503"
        while not server.failures:
            time.sleep(0.01)
        server.fails = lambda environ: None
        before = remote.stamp("locks/a.json")
        while remote.stamp("locks/a.json") == before:
            time.sleep(0.01)
        assert held


@pytest.mark.parametrize(
    ("variables", "home", "sentence"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://b/home", "http://127.0.0.1:9 keeps failing .*Connect"),
        ({}, "s3://no-such-bucket/home", "there is no such bucket at http://127.0.0.1"),
        ({"AWS_PROFILE": "nobody"}, "s3://b/home", "there are no credentials .ProfileNotFound"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(remote, monkeypatch, variables, home, sentence):
    quick(monkeypatch)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    S3.clear_instance_cache()
    for use in (
        lambda: Store(home).exists("a"),
        lambda: Store(home).list("a"),
        lambda: Store(home).write_bytes("a", b""),
    ):
        with pytest.raises((ConfigurationError, StoreError), match=sentence):
            use()
    with pytest.raises((ConfigurationError, StoreError), match=sentence):
        Store(home).read_many(["a"])


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        ("400", "RequestTimeout", "keeps failing .HTTP 400 RequestTimeout"),
        ("400", "ExpiredToken", "refuses the credentials .ExpiredToken.*AWS_SESSION_TOKEN"),
        ("400", "InvalidToken", "refuses the credentials .InvalidToken"),
        ("403", "SignatureDoesNotMatch", "refuses the credentials .SignatureDoesNotMatch"),
        ("403", "RequestTimeTooSkewed", "the clock of this machine is wrong"),
        ("403", "AccessDenied", "refuses this .AccessDenied.; expected credentials that may list"),
        ("501", "NotImplemented", "does not take this request .HTTP 501 NotImplemented"),
        ("405", "MethodNotAllowed", "does not take this request .HTTP 405 MethodNotAllowed"),
    ],
)
def test_each_refusal_has_its_own_advice(remote, server, monkeypatch, status, code, sentence):
    quick(monkeypatch, 0.1)
    monkeypatch.setitem(CODES, status, code)
    server.fails = lambda environ: status
    kind = StoreError if code == "RequestTimeout" else ConfigurationError
    with pytest.raises(kind, match=sentence):
        remote.read_bytes("a")
    assert kind is StoreError or server.failures == {status: 1}, "only what is temporary is tried again"


def test_keys_that_are_refused_are_an_error_without_them(remote, server, monkeypatch):
    server.fails = lambda environ: "403"
    for use in (
        lambda: remote.exists("a"),
        lambda: remote.read_bytes("a"),
        lambda: remote.list("a"),
        lambda: remote.delete("a"),
    ):
        with pytest.raises(ConfigurationError, match=r"refuses this \(403\)|refuses the credentials") as told:
            use()
        assert "a-secret" not in str(told.value)
    with pytest.raises(DataError):
        server.fails = lambda environ: None
        remote.read_bytes("a")
