"""How long the commands take from a cold start, and how many clips a second `emotion score` handles.

    EMOTION_HOME=STORE python docs/benchmarks/commands.py FOLDER [--before CHECKOUT] [--clips 1440] [--repeats 5]

STORE has a champion, and is copied. FOLDER holds recordings (searched below); where there are fewer than ``--clips``,
copies with other bytes stand in. CHECKOUT is the project's folder at another commit: its commands take turns with those
of this one, so that a busy machine slows both alike. A figure is the least of its repeats: seconds on the clock, and
processor seconds of all processes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emotion.settings import PROJECT, Settings


def complete(folder: Path, target: Path, count: int) -> list[Path]:
    """So many recordings below ``target``: links to those of ``folder``, then the same without their first samples."""
    import soundfile

    originals = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".wav", ".flac"))
    if not originals:
        sys.exit(f"no .wav or .flac below {folder}")
    recordings = []
    for number in range(count):
        original, turn = originals[number % len(originals)], number // len(originals)
        recording = target / f"{original.parent.name}-{turn}" / original.name
        recording.parent.mkdir(parents=True, exist_ok=True)
        if turn:
            samples, rate = soundfile.read(original, dtype="int16")
            soundfile.write(recording, samples[17 * turn :], rate, subtype="PCM_16")
        else:
            shutil.copy(original, recording)
        recordings.append(recording)
    return recordings


def run(checkout: Path, home: Path, arguments: list[str]) -> tuple[float, float]:
    """Seconds and processor seconds of a command, with those of its workers, which this process does not wait for."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "plugins"), "EMOTION_HOME": str(home)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", _MEASURED, sys.executable, "-m", "emotion", *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, float(done.stdout.splitlines()[-1])


# A subreaper inherits the workers, which are children of the fork server, and so gets their times too.
_MEASURED = """
import ctypes, os, resource, subprocess, sys
ctypes.CDLL(None).prctl(36, 1)
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path, help="another checkout of the project, to compare with")
    parser.add_argument("--clips", type=int, default=1440)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    checkouts = {"before": options.before.absolute()} if options.before else {}
    checkouts["now"] = PROJECT
    with tempfile.TemporaryDirectory() as scratch:
        home, clips = Path(scratch, "home"), Path(scratch, "clips")
        shutil.copytree(Settings.from_environment().home, home, ignore=shutil.ignore_patterns("scores", "ledger"))
        recordings = [str(path) for path in complete(options.folder, clips, options.clips)]
        commands = {
            "--help": ["--help"],
            "models": ["models"],
            "predict, one file": ["predict", recordings[0]],
            "predict --explain, one file": ["predict", "--explain", recordings[0]],
            f"predict, {len(recordings)} files": ["predict", *recordings],
            f"score, {len(recordings)} files": ["score", str(clips), "--rescore"],
        }
        print("| command | | s | processor s | files/s |\n|---|---|---|---|---|")
        for name, arguments in commands.items():
            least: dict[str, tuple[float, float]] = {}
            for _ in range(options.repeats):
                for when, checkout in checkouts.items():
                    seconds, used = run(checkout, home, arguments)
                    before = least.get(when, (seconds, used))
                    least[when] = min(before[0], seconds), min(before[1], used)
            for when, (seconds, used) in least.items():
                rate = f"{len(recordings) / seconds:.0f}" if str(len(recordings)) in name else ""
                print(f"| {name} | {when} | {seconds:.2f} | {used:.2f} | {rate} |", flush=True)


if __name__ == "__main__":
    main()
