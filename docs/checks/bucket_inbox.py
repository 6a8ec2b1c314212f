"""How many calls a sweep over an inbox in a bucket makes, with 100,000 keys on an S3 server on this machine.

    python docs/checks/bucket_inbox.py [--keys 100000] [--days 1000]

The keys are of as many days, the newest of today. A sweep lists, and reads nothing: every object is known or new.
"""

from __future__ import annotations

import argparse
import copy
import datetime as dt
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from moto.s3.models import s3_backends

from emotion import bucket
from emotion.scoring import bucket_inbox
from emotion.scoring.listing import Listing
from object_store import new_bucket, s3_server


def fill(url: str, keys: int, days: int) -> None:
    """Write keys into the memory of the server: one object that all of them name."""
    import fsspec

    fsspec.filesystem("s3").pipe_file(f"{url}/first", b"12345678")
    (backend,) = (of_region for of_region in s3_backends["123456789012"].values() if url[5:] in of_region.buckets)
    objects = backend.buckets[url[5:]].keys
    (first,) = objects.values()
    today = dt.datetime.now(dt.UTC).date()
    for number in range(keys):
        key = copy.copy(first)
        key.name = f"inbox/{today - dt.timedelta(days=number % days)}/{number:07d}.wav"
        objects[key.name] = key


def sweep(inbox: str, days: int, *, known: bool) -> tuple[int, float, Counter[str]]:
    """Look at an inbox as a sweep does; returns the number of new files, the seconds, and the number of calls."""
    calls: Counter[str] = Counter()
    call = bucket._call

    def counted(name: str, **options: object) -> dict:
        calls[name] += 1
        return call(name, **options)

    bucket._call = counted
    start = time.perf_counter()
    new = 0
    for folder in bucket.days_of(inbox, dt.datetime.now(dt.UTC).date(), days):
        files = bucket_inbox.look(folder, Listing(), is_known=lambda *_: known, is_full=lambda: False)
        new += sum(1 for _ in files)
    bucket._call = call
    return new, time.perf_counter() - start, calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=1000)
    arguments = parser.parse_args()
    with s3_server() as environment:
        os.environ.update(environment)
        url = new_bucket()
        fill(url, arguments.keys, arguments.days)
        print("| inbox | files | new | LIST calls | other calls | s |\n|---|---|---|---|---|---|")
        for inbox in ("inbox", "inbox/{date}"):
            for known in (False, True):
                new, seconds, calls = sweep(f"{url}/{inbox}", 7, known=known)
                lists, others = calls.pop("list_objects_v2"), calls.total()
                what = "known" if known else "new"
                print(f"| `s3://…/{inbox}` | all {what} | {new:,} | {lists} | {others} | {seconds:.1f} |", flush=True)
    print(f"\npeak memory, with the server: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
