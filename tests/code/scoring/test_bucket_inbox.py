"""Inboxes in a bucket of a real S3 server: every object is answered once, and nothing more is listed than must be."""

from __future__ import annotations

import datetime as dt
import errno
import os
import shutil
import threading
from collections import Counter
from pathlib import Path

import fsspec
import pytest

from emotion import bucket as buckets
from emotion.errors import AudioError, ConfigurationError
from emotion.metrics import Emitter
from emotion.reports import batch_report
from emotion.review import queue
from emotion.runs.folder_scoring import score_folder
from emotion.runs.scoring_run import ScoringRun
from emotion.scoring import bucket_inbox, inbox
from emotion.scoring.listing import Listing
from emotion.scoring.options import NothingToScore, Options
from emotion.settings import Settings
from emotion.store import Store
from small_models import trained_store  # noqa: F401

NOW = Options(settle_seconds=3600, review_clips=3, files_per_shard=4)
TODAY = dt.datetime.now(dt.UTC).date()


@pytest.fixture(autouse=True)
def few_clips_to_hear(monkeypatch):
    monkeypatch.setattr(batch_report, "LISTEN", 2)  # the report takes most of the time


@pytest.fixture
def home(trained_store, tmp_path, bucket):  # noqa: F811
    shutil.copytree(f"{trained_store.root}/models", tmp_path / "home/models", copy_function=os.link)
    return Settings.from_environment({"EMOTION_HOME": str(tmp_path / "home"), "EMOTION_INBOXES": f"{bucket}/inbox/"})


@pytest.fixture
def voices(trained_store):  # noqa: F811
    return [Path(trained_store.root, key).read_bytes() for key in trained_store.list("corpus", "*.wav")]


@pytest.fixture
def calls(monkeypatch):
    """How often each operation was called."""
    counts: Counter[str] = Counter()
    call = buckets._call
    monkeypatch.setattr(buckets, "_call", lambda name, **options: [counts.update([name]), call(name, **options)][1])
    return counts


def put(url: str, data: bytes, **options: str) -> None:
    name, _, key = url.removeprefix("s3://").partition("/")
    fsspec.filesystem("s3").call_s3("put_object", Bucket=name, Key=key, Body=data, **options)


def sweep(settings: Settings, name: str, **arguments) -> ScoringRun:
    run = ScoringRun(settings, name, Emitter(None))
    for shard in run.find_new_audio(**{"folder": None, "options": NOW} | arguments):
        run.score(part=shard["part"])
    run.collect_predictions()
    run.watch_drift()
    return run


def table(settings: Settings, batch: str):
    return Store(settings.home).read_table(f"scores/{batch}/predictions.parquet").set_index("path")


def look(folder: str, **options):
    listing = Listing()
    defaults = {"is_known": lambda *_: False, "is_full": lambda: False}
    return {file.path: file for file in bucket_inbox.look(folder, listing, **defaults | options)}, listing


def test_answers_are_those_of_a_folder_and_each_object_is_read_once(home, voices, calls, tmp_path):
    box, local = home.inboxes[0], tmp_path / "local"
    for number, voice in enumerate(voices[:9]):
        name = f"calls/{number} ü+&?.wav"
        put(f"{box}/{name}", voice)
        (local / "calls").mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(voice)
    labels = "path,emotion,speaker\ncalls/0 ü+&?.wav,angry,ann\ncalls/1 ü+&?.wav,sad,\n"
    put(f"{box}/labels.csv", labels.encode())
    (local / "labels.csv").write_text(labels)
    run = sweep(home, "one")
    assert calls["get_object"] == 9 + 1 + 3 + 2, "the objects, the labels, clips to review, and clips in the report"
    score_folder(home, local, batch="two", options=Options(settle_seconds=0, review_clips=3, files_per_shard=4))
    assert table(home, "one").equals(table(home, "two"))
    report = run.store.read_bytes("scores/one/report.html").decode()
    assert report.count("<audio") == 2 and not run.store.read_json("scores/one/summary.json")["failures"]
    assert len(queue.read(run.store, "one").items) == 3
    calls.clear()
    with pytest.raises(NothingToScore, match="9 files are known"):
        sweep(home, "three")
    assert calls == {"list_objects_v2": 1}
    put(f"{box}/calls/new.wav", voices[9])
    sweep(home, "four", folder="calls")
    assert table(home, "four")["error"].to_dict() == {"new.wav": ""}


def test_keys_that_strangers_chose(bucket):
    names = ["a.wav", "b//c.wav", "ü ñ/d.wav", "ctl\x01.wav", "q?versionId=3#%41.wav", "empty.wav", "folder/", "full/"]
    for name in [*names, "x/../up.wav", "../out.wav", ".hidden.wav", "half.wav.part", "._s/a.wav", "labels.csv"]:
        put(f"{bucket}/inbox/{name}", b"" if name in ("empty.wav", "folder/") else name.encode())
    put(f"{bucket}/inbox-2/no.wav", b"no")
    files, listing = look(f"{bucket}/inbox", skip=frozenset(["labels.csv"]))
    assert list(files) == sorted({*names, "../out.wav", "x/../up.wav"} - {"folder/"})
    assert listing.left == {"unfinished_name": 3} and not listing.known
    assert {path: file.error for path, file in files.items() if file.error} == {
        "full/": "not_file", "../out.wav": "unreadable", "x/../up.wav": "unreadable",
    }  # fmt: skip
    for path, file in files.items():
        if not file.error:
            with inbox.reopen(file, inboxes=(f"{bucket}/inbox",)) as (handle, _):
                assert handle.read() == (b"" if path == "empty.wav" else path.encode())
            with pytest.raises(AudioError) as raised, inbox.reopen(file, inboxes=(f"{bucket}/inbox-2", Path("/"))):
                pass
            assert raised.value.reason == "outside_inbox"


def test_an_object_that_was_scored_is_not_new_in_another_storage_class(bucket):
    for name in ("moved.wav", "archived.wav", "new.wav"):
        put(f"{bucket}/inbox/{name}", name.encode())
    scored = {(file.place, file.stamp) for path, file in look(f"{bucket}/inbox")[0].items() if path != "new.wav"}
    put(f"{bucket}/inbox/moved.wav", b"moved.wav", StorageClass="STANDARD_IA")
    put(f"{bucket}/inbox/archived.wav", b"archived.wav", StorageClass="GLACIER")
    files, listing = look(f"{bucket}/inbox", is_known=lambda place, stamp, _: (place, stamp) in scored)
    assert list(files) == ["new.wav"] and listing.known == 2


def test_a_folder_that_was_made_by_hand_is_no_file(bucket):
    put(f"{bucket}/inbox/", b"")
    put(f"{bucket}/inbox/a.wav", b"a")
    assert list(look(f"{bucket}/inbox")[0]) == ["a.wav"]


def test_a_huge_object_is_refused_unread(bucket, monkeypatch):
    put(f"{bucket}/inbox/long.wav", b"12345")
    monkeypatch.setattr(buckets, "MAX_OBJECT_BYTES", 4)
    files, _ = look(f"{bucket}/inbox")
    assert files["long.wav"].error == "too_large"


def test_what_becomes_of_objects_between_the_plan_and_the_shard(home, voices, monkeypatch):
    box = home.inboxes[0]
    for name, voice in zip(("changed", "deleted", "forbidden", "good", "broken"), voices, strict=False):
        put(f"{box}/{name}.wav", voice)
    put(f"{box}/archived.wav", voices[5], StorageClass="GLACIER")
    run = ScoringRun(home, "first", Emitter(None))
    shards = run.find_new_audio(folder=None, options=Options(review_clips=0))
    put(f"{box}/changed.wav", voices[6])
    fsspec.filesystem("s3").rm(f"{box}/deleted.wav")
    call = buckets._call

    def failing(name, **options):
        if options.get("Key") == "inbox/forbidden.wav":
            raise PermissionError("Access Denied")
        if options.get("Key") == "inbox/broken.wav":
            raise OSError(errno.EIO, "We encountered an internal error")
        return call(name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(buckets, "_call", failing)
        for shard in shards:
            run.score(part=shard["part"])
        run.collect_predictions()
        run.watch_drift()
    assert table(home, "first")["error"].to_dict() == {
        "archived.wav": "unreadable", "good.wav": "",
    }  # fmt: skip
    summary = run.store.read_json("scores/first/summary.json")
    assert summary["left_for_next_sweep"] == {"temporary_error": 4}
    put(f"{box}/archived.wav", voices[5])  # as when it was restored and copied: the same content in STANDARD
    sweep(home, "second")
    assert table(home, "second")["error"].to_dict() == dict.fromkeys(
        ["archived.wav", "broken.wav", "changed.wav", "forbidden.wav"], ""
    )


def test_a_server_that_fails_while_objects_are_listed_or_sent_costs_no_recording(home, voices, monkeypatch):
    box = home.inboxes[0]
    for number in range(3):
        put(f"{box}/{number}.wav", voices[number])
    call = buckets._call

    class Cut:
        """A body that ends early."""

        def __init__(self, body):
            self._body = body

        async def read(self, size):
            return (await self._body.read(size))[:100]

        def close(self):
            self._body.close()

    def failing(name, **options):
        if "ContinuationToken" in options:
            raise OSError(errno.EBUSY, "Please reduce your request rate.")
        if name == "list_objects_v2":
            options["MaxKeys"] = 2
        answer = call(name, **options)
        return answer | {"Body": Cut(answer["Body"])} if options.get("Key") == "inbox/1.wav" else answer

    with monkeypatch.context() as patch:
        patch.setattr(buckets, "_call", failing)
        run = sweep(home, "first")
    assert table(home, "first")["error"].to_dict() == {"0.wav": ""}
    assert run.store.read_json("scores/first/summary.json")["left_for_next_sweep"] == {"temporary_error": 2}
    sweep(home, "second")
    assert table(home, "second")["error"].to_dict() == {"1.wav": "", "2.wav": ""}


def test_a_killed_shard_and_two_sweeps_at_once_answer_each_object_once(home, voices, monkeypatch):
    box = home.inboxes[0]
    for number in range(6):
        put(f"{box}/{number}.wav", voices[number])
    options = Options(files_per_shard=2, review_clips=0)
    dead = ScoringRun(home, "dead", Emitter(None))
    dead.score(part=dead.find_new_audio(folder=None, options=options)[1]["part"])  # the others were killed
    put(f"{box}/6.wav", voices[6])
    ends: list[str] = []

    def score(name: str) -> None:
        try:
            score_folder(home, box, batch=name, options=options)
            ends.append("scored")
        except NothingToScore:
            ends.append("nothing")

    # A run of the DAG takes over what the dead one left. The two from a terminal meet its claim.
    run = ScoringRun(home, "next", Emitter(None))
    shards = run.find_new_audio(folder=None, options=options)
    threads = [threading.Thread(target=score, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for shard in shards * 2:  # tried again
        run.score(part=shard["part"])
    run.collect_predictions()
    run.watch_drift()
    for thread in threads:
        thread.join()
    assert ends == ["nothing"] * 2
    scored = table(home, "next")
    assert sorted(scored.index) == [f"{number}.wav" for number in range(7)] and (scored["error"] == "").all()
    assert run.store.list("ledger/known", "*.parquet") == ["ledger/known/first/logistic_regression/next.parquet"]
    known = run.store.read_table("ledger/known/first/logistic_regression/next.parquet")
    assert sorted(known["sha256"]) == sorted(scored["sha256"]) and not (known["sha256"] == "").any()


def test_a_prefix_by_date_lists_the_last_days_alone(home, bucket, voices, calls):
    settings = home.model_copy(update={"inboxes": (f"{bucket}/in/{{date}}/calls",), "inbox_days": 2})
    for days in range(40):
        put(f"{bucket}/in/{TODAY - dt.timedelta(days=days)}/calls/{days}.wav", voices[days % 10])
    sweep(settings, "one")
    assert calls["list_objects_v2"] == 3
    assert sorted(Path(path).name for path in table(settings, "one").index) == ["0.wav", "1.wav", "2.wav"]
    older = f"{bucket}/in/{TODAY - dt.timedelta(days=20)}"
    sweep(settings, "two", folder=older)
    assert list(table(settings, "two").index) == ["calls/20.wav"]


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("s3://{bucket}/inbox-2", "outside the inboxes"),
        ("s3://other-bucket/inbox", "outside the inboxes"),
        ("s3://{bucket}", "outside the inboxes"),
        ("s3://{bucket}/inbox/../secret", "'..'"),
        ("../secret", "'..'"),
        ("a//b", "empty part"),
        ("/etc", "outside the inboxes"),
        ("gs://{bucket}/inbox", "no folder of an S3 bucket"),
        ("s3://{bucket}/inbox/none", "holds no object"),
    ],
)
def test_a_folder_is_confined_to_the_inboxes(bucket, folder, message):
    with pytest.raises(ConfigurationError, match=message):
        inbox.confine(folder.format(bucket=bucket.removeprefix("s3://")), (f"{bucket}/inbox",))


def test_a_folder_is_looked_for_in_folders_first_and_then_in_buckets(bucket, tmp_path):
    put(f"{bucket}/inbox/calls/a.wav", b"a")
    (tmp_path / "calls").mkdir()
    inboxes = (f"{bucket}/inbox", tmp_path)
    assert inbox.confine("calls", inboxes) == tmp_path / "calls"
    (tmp_path / "calls").rmdir()
    assert (
        inbox.confine("calls", inboxes) == inbox.confine(f"{bucket}/inbox/calls/", inboxes) == f"{bucket}/inbox/calls"
    )


def test_a_bucket_that_is_not_there_is_named(home):
    settings = home.model_copy(update={"inboxes": ("s3://no-such-bucket/inbox",)})
    with pytest.raises(ConfigurationError, match=r"no-such-bucket/inbox cannot be listed.*NoSuchBucket"):
        sweep(settings, "one")
