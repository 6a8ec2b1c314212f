"""What scoring a folder of many files needs in memory: the peak of each step, in a process of its own.

    python docs/benchmarks/scoring_memory.py STORE [--files 1000 10000 100000]

STORE is an artifact store with a champion; it is copied. The files are synthesized: 0.3 s of noise each. The first
shard is scored. Its features and answers then stand for those of every other shard, with the names and checksums of
that shard's files, and are written as a shard is. So `collect_predictions` and `watch_drift` work on tables of the full
size without days of featurization.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emotion.runs.scoring_run import ScoringRun

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

STEPS = ("imports", "plan", "one shard", "other shards", "collect", "drift and report", "next sweep")
SUBFOLDER = 1000
"""Files of one folder of the inbox."""


def write_inbox(inbox: Path, count: int) -> None:
    """Short WAV files of noise, no two alike."""
    import numpy as np

    random = np.random.default_rng(0)
    noise = (3000 * random.standard_normal(1_000_000)).astype("<i2")
    for number in range(count):
        folder = inbox / f"day-{number // SUBFOLDER:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        start = int(random.integers(0, len(noise) - 4800))
        samples = noise[start : start + 4800].copy()
        samples[:2] = number & 0x7FFF, number >> 15
        header = b"RIFF" + (36 + 9600).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
        header += b"\1\0\1\0" + (16_000).to_bytes(4, "little") + (32_000).to_bytes(4, "little") + b"\2\0\x10\0data"
        (folder / f"{number:07d}.wav").write_bytes(header + (9600).to_bytes(4, "little") + samples.tobytes())


def run_step(step: str, home: Path, inbox: Path) -> None:
    """One step in this process; prints its seconds and its peak memory."""
    from emotion.metrics import Emitter
    from emotion.runs.scoring_run import ScoringRun
    from emotion.scoring.options import NothingToScore, Options
    from emotion.settings import Settings

    settings = Settings(home=str(home), inboxes=(inbox,))
    run = ScoringRun(settings, "benchmark", Emitter(None))
    options = Options(settle_seconds=0, review_clips=20)
    start = time.perf_counter()

    def next_sweep() -> None:
        try:
            ScoringRun(settings, "next", Emitter(None)).find_new_audio(folder=None, options=options)
        except NothingToScore:
            return
        sys.exit("the next sweep found new files; expected that all are known")

    steps: dict[str, Callable[[], object]] = {
        "imports": lambda: None,
        "plan": lambda: run.find_new_audio(folder=None, options=options),
        "one shard": lambda: run.score(part="scores/benchmark/parts/0001"),
        "other shards": lambda: fill_shards(run),
        "collect": run.collect_predictions,
        "drift and report": run.watch_drift,
        "next sweep": next_sweep,
    }
    steps[step]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{time.perf_counter() - start:.1f} {peak:.0f}")


def fill_shards(run: ScoringRun) -> None:
    """Write the shards that were not scored, from the answers of the first one."""
    from emotion.scoring.batches import read_plan
    from emotion.scoring.plan import read_files

    plan = read_plan(run.store, "benchmark")
    first = "scores/benchmark/parts/0001"
    table, timeline = run.store.read_table(f"{first}.parquet"), run.store.read_table(f"{first}-timeline.parquet")
    vectors = run.store.read_bytes(f"{first}.npy")
    for shard in plan["shards"]:
        if (part := shard["part"]) != first:
            entries = read_files(run.store, plan, shard)
            names = {name: [entry[name] for entry in entries] for name in ("path", "sha256")}
            run.store.write_bytes(f"{part}.npy", vectors)
            run.store.write_table(f"{part}-timeline.parquet", timeline)
            run.store.write_table(f"{part}.parquet", table.head(len(entries)).assign(**names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--inbox", type=Path)
    arguments = parser.parse_args()
    if arguments.step:
        run_step(arguments.step, arguments.store, arguments.inbox)
        return
    print("| files | step | s | peak MB |\n|---|---|---|---|")
    for count in arguments.files:
        with tempfile.TemporaryDirectory() as folder:
            home, inbox = Path(folder, "home"), Path(folder, "inbox")
            shutil.copytree(arguments.store / "models", home / "models")
            write_inbox(inbox, count)
            for step in STEPS:
                command = [sys.executable, __file__, str(home), "--step", step, "--inbox", str(inbox)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                seconds, peak = done.stdout.split()[-2:]
                print(f"| {count:,} | {step} | {seconds} | {peak} |", flush=True)


if __name__ == "__main__":
    main()
