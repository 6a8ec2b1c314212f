"""How many calls a sweep over an inbox in a bucket makes, with 100,000 keys on an S3 server on this machine.

    python docs/checks/bucket_inbox.py [--keys 100000] [--days 1000]

The keys are spread over so many days, the last of them today. A sweep lists objects and reads none. Most of the time is
that of the server.
"""

from __future__ import annotations

import argparse
import copy
import datetime as dt
import os
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


def sweep(inbox: str, days: int) -> tuple[int, float, Counter[str]]:
    """Look at an inbox as a sweep does; returns the number of files, the seconds, and the number of calls."""
    calls: Counter[str] = Counter()
    call = bucket._call

    def counted(name: str, **options: object) -> dict:
        calls[name] += 1
        return call(name, **options)

    bucket._call = counted
    start = time.perf_counter()
    files = 0
    for folder in bucket.days_of(inbox, dt.datetime.now(dt.UTC).date(), days):
        found = bucket_inbox.look(folder, Listing(), is_known=lambda *_: False, is_full=lambda: False)
        files += sum(1 for _ in found)
    bucket._call = call
    return files, time.perf_counter() - start, calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=1000)
    arguments = parser.parse_args()
    with s3_server() as environment:
        os.environ.update(environment)
        url = new_bucket()
        fill(url, arguments.keys, arguments.days)
        print("| inbox | files | LIST calls | other calls | s |\n|---|---|---|---|---|")
        for inbox in ("inbox/{date}", "inbox"):
            files, seconds, calls = sweep(f"{url}/{inbox}", 7)
            lists = calls.pop("list_objects_v2")
            print(f"| `s3://…/{inbox}` | {files:,} | {lists} | {calls.total()} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
