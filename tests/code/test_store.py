"""The store: whole files or none, keys that stay below its root, locks; the same in a folder and an object store."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pandas as pd
import pytest

from emotion.errors import ConfigurationError, DataError
from emotion.runs.run import run_folder
from emotion.store import Store


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request, tmp_path) -> Store:
    """A store in a folder, one in memory, and one in a bucket."""
    if request.param == "s3":
        return Store(f"{request.getfixturevalue('bucket')}/home")
    return Store(str(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}-{os.getpid()}")


def test_bytes_json_and_tables_come_back(place):
    frame = pd.DataFrame({"name": ["a", "b"], "value": [0.5, 1.25]})
    place.write_bytes("a/b/c.bin", b"\0\xff")
    place.write_json("a/answer.json", {"answer": [42, None], "text": "ä"})
    for key in ("a/table.parquet", "a/table.csv"):
        place.write_table(key, frame)
        pd.testing.assert_frame_equal(place.read_table(key), frame)
        assert list(place.read_table(key, ["value"]).columns) == ["value"]
    assert place.read_bytes("a/b/c.bin") == b"\0\xff"
    assert place.read_json("a/answer.json") == {"answer": [42, None], "text": "ä"}
    assert place.list("a") == ["a/answer.json", "a/b/c.bin", "a/table.csv", "a/table.parquet"]
    assert place.list("a", "*.bin") == ["a/b/c.bin"]
    assert place.list("nothing") == []
    with place.open("a/b/c.bin") as handle:
        handle.seek(1)
        assert handle.read() == b"\xff"


def test_writing_again_replaces(place):
    place.write_bytes("x", b"a longer content")
    place.write_bytes("x", b"short")
    assert place.read_bytes("x") == b"short"


def test_odd_names_are_names(place):
    names = ["a/[x] *?.wav", "a/#%20+&=ä.wav", "a/b c/\"'.wav", "a/[x] *?.wav.json"]
    for name in names:
        place.write_bytes(name, name.encode())
    assert place.list("a") == place.list("", "*.[wj]*") == sorted(names)
    assert place.read_many([*names, "a/nothing*"]) == {name: name.encode() for name in names}
    place.rename(names[0], "c/[x] *?.wav")
    place.delete(names[1])
    assert place.list("") == sorted([*names[2:], "c/[x] *?.wav"]) and place.read_bytes("c/[x] *?.wav")


@pytest.mark.parametrize("key", ["", ".", "./"])
def test_the_whole_store_is_not_deleted(place, key):
    place.write_bytes("a", b"1")
    with pytest.raises(ConfigurationError, match="the whole artifact store, which is not deleted"):
        place.delete(key)
    assert place.exists("a") and not place.exists(key)


@pytest.mark.parametrize(
    "root", ["s3://", "s3:///x", "s3:/b/x", "s3:b/x", "s3://b?x/y", "s3://b:9000/x", "gs:///x", "abfs:b"]
)
def test_a_url_without_a_bucket_is_an_error(root):
    with pytest.raises(ConfigurationError, match=f"EMOTION_HOME is '{re.escape(root)}'; expected a bucket too"):
        Store(root)


@pytest.mark.parametrize(
    "root", ["nowhere://b", "S3://b/x", "https://h/x", "http:/h/x", "ftp://h/x", "dir::https://h/x"]
)
def test_a_url_of_another_kind_is_an_error(root):
    with pytest.raises(ConfigurationError, match=f"'{root}' cannot be the artifact store; expected a folder, or"):
        Store(root)


@pytest.mark.parametrize(
    "root", ["s3://me:hidden@h/x", "s3:/me:hidden@h", "s3://me:hid/d@en@h", "https://me:hidden@h", "s3://:hidden@h"]
)
def test_a_url_with_a_password_is_an_error_without_it(root):
    with pytest.raises(ConfigurationError, match="expected a URL without them: set AWS_ACCESS_KEY_ID") as told:
        Store(root)
    assert not re.search("me:|hid|en@", str(told.value))


@pytest.mark.parametrize("root", ["s3://arn:aws:s3:us-east-1:123456789012:accesspoint/one/x", "s3a://b/12:30:00@x/"])
def test_odd_names_of_buckets_and_prefixes_are_allowed(root):
    assert Store(root).url("a") == f"{root.rstrip('/')}/a"


def test_a_folder_may_have_colons_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for root in (f"{tmp_path}/s3:x@y", "a:b", "12:30:00@x"):
        Store(root).write_bytes("key", b"1")
    assert sorted(path.parent.name for path in tmp_path.rglob("key")) == ["12:30:00@x", "a:b", "s3:x@y"]


def test_a_key_that_s3fs_would_cut_is_refused_in_a_bucket(bucket, tmp_path):
    store = Store(f"{bucket}/home")
    store.write_bytes("a", b"1")
    for use in (store.read_bytes, store.exists, store.delete, lambda key: store.write_bytes(key, b"2")):
        with pytest.raises(ConfigurationError, match="'a.versionId=3' is not a path below"):
            use("a?versionId=3")
    assert store.read_bytes("a") == b"1"
    Store(str(tmp_path)).write_bytes("a?versionId=3", b"1")


def test_a_file_of_this_machine_is_written_whole(place, tmp_path):
    content = b"0123456789" * 300_000
    (tmp_path / "made").write_bytes(content)
    place.write_bytes("runs/one/table", b"old")
    place.write_file("runs/one/table", tmp_path / "made")
    assert place.read_bytes("runs/one/table") == content and place.list("runs") == ["runs/one/table"]


def test_delete_removes_a_file_or_a_folder_and_accepts_what_is_not_there(place):
    place.write_bytes("a/b", b"1")
    place.write_bytes("a/c/d", b"2")
    place.delete("a/b")
    assert place.list("a") == ["a/c/d"]
    place.delete("a")
    place.delete("a")
    assert not place.exists("a/c/d") and place.list("a") == []


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path, monkeypatch):
    store, scandir = Store(str(tmp_path)), os.scandir
    store.write_bytes("a/b/c", b"1")

    def failing(path):
        if str(path).endswith("/b"):
            raise OSError(errno.EIO, "Input/output error", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing)
        with pytest.raises(OSError, match="Input/output error"):
            store.list("a")
    assert store.list("a") == ["a/b/c"]


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../../x", "a\\..\\x", "a\0b", "a/.."])
def test_keys_stay_below_the_root(place, key):
    for use in (place.path, place.url, place.exists, place.read_bytes, place.list, place.delete):
        with pytest.raises(ConfigurationError, match="not a path below the artifact store"):
            use(key)
    with pytest.raises(ConfigurationError):
        place.write_bytes(key, b"")


@pytest.mark.parametrize("content", [b"", b'{"a": [1, ', b"\xff\xfe\x00", b"[" * 100_000, b"nonsense"])
def test_a_damaged_document_is_an_error_that_names_the_file(place, content):
    place.write_bytes("models/champion.json", content)
    with pytest.raises(DataError, match="models/champion.json is damaged: expected a JSON document .*backup"):
        place.read_json("models/champion.json")


def test_a_store_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "home").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="home is a file; expected a folder"):
        Store(str(tmp_path / "home"))


def test_the_url_of_a_folder_is_a_folder(tmp_path):
    """So that a reader never sees half a file there either."""
    by_url, by_path = Store(f"file://{tmp_path}/home"), Store(str(tmp_path / "home"))
    assert by_url.is_local and by_url.root == by_path.root
    by_url.write_bytes("a/b", b"1")
    assert by_path.read_bytes("a/b") == b"1" and by_url.scratch("x") == by_path.scratch("x")


def test_reading_what_is_not_there_is_an_error(place):
    with pytest.raises(DataError, match="runs/1/x.json is not there; was the step that writes it run"):
        place.read_json("runs/1/x.json")
    assert not place.exists("runs/1/x.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_in_json(place, value):
    with pytest.raises(ValueError):
        place.write_json("x.json", {"x": value})
    assert not place.exists("x.json")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    store.write_bytes("x", b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        store.write_bytes("x", b"new")
    assert os.listdir(tmp_path) == ["x"] and store.read_bytes("x") == b"old"


def test_half_a_file_is_never_seen(tmp_path):
    store, sizes, stop = Store(str(tmp_path)), set(), threading.Event()
    store.write_bytes("x", b"0" * 1_000_000)

    def read() -> None:
        while not stop.is_set():
            sizes.add(len(store.read_bytes("x")))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(30):
        store.write_bytes("x", bytes([number]) * (1_000_000 + number % 2))
    stop.set()
    reader.join()
    assert sizes <= {1_000_000, 1_000_001}


def test_unfinished_files_are_not_listed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".writing-1234").write_bytes(b"half")
    assert Store(str(tmp_path)).list("a") == []


def test_scratch_lies_beside_local_artifacts_only(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    local = Store(str(tmp_path / "home"))
    assert local.scratch("x").is_dir() and tmp_path / "home" in local.scratch("x").parents
    remote = Store("memory://home").scratch("x")
    assert remote.is_dir() and tmp_path / "elsewhere" / f"emotion-scratch-{os.getuid()}" in remote.parents
    assert remote != Store("memory://another").scratch("x") and remote == Store("memory://home").scratch("x")
    (local.scratch("x") / "partial").write_bytes(b"")
    assert local.list("runs") == []


def test_a_lock_is_held_by_one_block_at_a_time(place, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with place.lock("datasets/a") as held:
        assert held
        with place.lock("datasets/a", wait=False) as held_twice, place.lock("datasets/b", wait=False) as other:
            assert not held_twice and other
    with place.lock("datasets/a", wait=False) as held_again:
        assert held_again
    with pytest.raises(RuntimeError), place.lock("datasets/a"):
        raise RuntimeError
    with place.lock("datasets/a", wait=False) as held_after_an_error:
        assert held_after_an_error
    assert place.list("datasets") == [], "a lock file is no artifact"


def test_no_lock_file_is_left(place, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number in range(3):
        with place.lock(f"datasets/{number}"), place.lock(f"datasets/{number}", wait=False) as held_twice:
            assert not held_twice
    assert not list(place.scratch("locks").rglob("*.lock"))


def test_many_who_delete_the_lock_file_hold_the_lock_one_at_a_time(store):
    inside, most, times = [], [], 200

    def work() -> None:
        for _ in range(times):
            with store.lock("a"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(most) == 4 * times and max(most) == 1


def test_a_lock_that_is_not_free_is_waited_for_with_one_warning(store, caplog):
    events, waiter_done = [], threading.Event()

    def wait_for_it() -> None:
        with store.lock("a") as held:
            events.append(("waiter", bool(held)))
        waiter_done.set()

    with store.lock("a"):
        waiter = threading.Thread(target=wait_for_it)
        waiter.start()
        assert not waiter_done.wait(0.5)
        events.append(("holder", True))
    waiter.join(timeout=30)
    assert events == [("holder", True), ("waiter", True)]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and re.fullmatch("another process holds the lock .*/a.lock; waiting for it", warnings[0])


WRITES = """
import os, sys
from emotion.store import Store
store, data = Store(sys.argv[1]), os.urandom(1 << 20)
print("ready", flush=True)
for number in range(1_000_000):
    store.write_bytes(f"a/{number % 7}", data)
    store.write_bytes(f"b/{number}", data)
"""


def test_a_killed_process_leaves_no_unfinished_file(tmp_path):
    """It spends almost all its time writing: each kill is in the middle of a file."""
    for number in range(5):
        command = [sys.executable, "-c", WRITES, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.1 + 0.03 * number)
            process.kill()
    sizes = {path.name: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert sizes and set(sizes.values()) == {1 << 20}
    assert not [name for name in sizes if name.startswith(".writing-")]


def test_a_file_system_without_unnamed_files_is_written_to(tmp_path, monkeypatch):
    store, open_ = Store(str(tmp_path)), os.open

    def no_unnamed(path, flags, *mode, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return open_(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", no_unnamed)
    for data in (b"first", b"second"):
        store.write_bytes("a/b", data)
        assert store.read_bytes("a/b") == data and os.listdir(tmp_path / "a") == ["b"]


def test_a_killed_process_leaves_no_lock(store):
    code = (
        "import sys, time; from emotion.store import Store\n"
        "with Store(sys.argv[1]).lock('a'): print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, store.root]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with store.lock("a", wait=False) as held:
            assert not held
        process.send_signal(signal.SIGKILL)
    with store.lock("a", wait=False) as held:
        assert held


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../../b"])
def test_a_lock_stays_in_its_folder(store, name):
    with pytest.raises(ConfigurationError, match="not a path below the artifact store"), store.lock(name):
        pass


def test_url_is_what_a_person_would_write(tmp_path):
    assert Store(f"{tmp_path}/").url("a/b") == f"{tmp_path}/a/b"
    assert Store("memory://bucket/prefix").url("a/b") == "memory://bucket/prefix/a/b"


def test_run_folders_are_distinct_if_the_runs_are():
    names = [
        "x" * 199,
        "x" * 200,
        "x" * 201,
        "x" * 250,
        ":" * 250,
        "demo-1",
        "a:b",
        "a+b",
        "a b",
        "../../etc",
        "manual__2026-01-02T03:04:05+00:00",
        "ä",
        ".",
    ]
    folders = [run_folder(name) for name in names]
    assert folders[5] == "demo-1" and max(map(len, folders)) < 230 and len(set(folders)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", folder) for folder in folders)
