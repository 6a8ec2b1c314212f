"""What a training run costs: time, memory and metrics of each stage, two side by side at most, as on two cores.

    python docs/benchmarks/workflow.py FOLDER

FOLDER holds Actor_NN/*.wav of RAVDESS. Where actors are missing, clips of others at 97 % of the speed stand in for
them, for time and memory alone: no figure of accuracy is printed. Every stage runs in a process of its own, as its
task does, and sends its metrics through Airflow's own client.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

DATASET = "ravdess-speech"
FAMILIES = ("logistic_regression", "random_forest", "gradient_boosting")
ACTORS = 24
HEADER = "| stage | s | CPU s | peak MB | values sent | ms sending | of its run |\n|---|---|---|---|---|---|---|"
EVALUATION = {"seed": 0, "speaker_folds": "published"}


class Timed:
    """A StatsD client that counts what it is given and how long sending takes."""

    def __init__(self, client: object):
        self.client, self.values, self.seconds = client, 0, 0.0

    def __getattr__(self, method: str):
        def send(name: str, value: float) -> None:
            start = time.perf_counter()
            getattr(self.client, method)(name, value)
            self.seconds += time.perf_counter() - start
            self.values += 1

        return send


def complete(folder: Path, target: Path) -> None:
    """All 24 actors below ``target``: copies of those that are there, others' clips renamed in place of the rest."""
    import soundfile
    import soxr

    names = [f"Actor_{actor:02d}" for actor in range(1, ACTORS + 1)]
    there = [name for name in names if (folder / name).is_dir()]
    for number, name in enumerate(names):
        if name in there:
            shutil.copytree(folder / name, target / name)
            continue
        (target / name).mkdir()
        for path in sorted((folder / there[number % len(there)]).glob("*.wav")):
            samples, rate = soundfile.read(path)
            stem = path.stem.rsplit("-", 1)[0]
            soundfile.write(target / name / f"{stem}-{name[-2:]}.wav", soxr.resample(samples, 97, 100), rate)


def measure(work, *arguments) -> dict:
    """Run ``work`` in this fresh process: wall and CPU seconds, peak memory, metrics sent, and what it returns."""
    from airflow.sdk.observability import stats

    from emotion.metrics import Emitter

    client = Timed(stats)
    start, cpu = time.perf_counter(), time.process_time()
    found = work(Emitter(client), *arguments)
    return {
        "found": found,
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "values": client.values,
        "sending": client.seconds,
    }


def stage(emitter, run: str, name: str, options: dict):
    """One stage of a training run."""
    from emotion.runs.training_run import TrainingRun
    from emotion.settings import Settings

    return getattr(TrainingRun(Settings.from_environment(), run, emitter), name)(**options)


def score(emitter, folder: str):
    """A whole scoring run over a folder."""
    from emotion.runs.folder_scoring import score_folder
    from emotion.settings import Settings

    return score_folder(Settings.from_environment(), Path(folder), batch="bench")


def featurize_alone(emitter, folder: str):
    """Decode and featurize the same files, and nothing else."""
    from emotion import features
    from emotion.audio import decode

    return sum(len(features.extract(decode.load(path).samples)) > 0 for path in sorted(Path(folder).rglob("*.wav")))


def side_by_side(calls: list[tuple], processes: int = 2) -> tuple[list[dict], float]:
    """Measure each call in a fresh process; their results, and the wall time of all."""
    start = time.perf_counter()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        results = [pool.submit(measure, *call) for call in calls]
        return [result.result() for result in results], time.perf_counter() - start


def row(name: str, results: list[dict], wall: float) -> float:
    cpu, values, sending = (sum(one[key] for one in results) for key in ("cpu", "values", "sending"))
    memory = max(one["memory"] for one in results)
    share = max(one["sending"] / one["wall"] for one in results)
    cells = (name, f"{wall:.1f}", f"{cpu:.1f}", f"{memory:.0f}", values, f"{1000 * sending:.1f}", f"{share:.3%}")
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return wall


def features(run: str, source: Path) -> float:
    """The stages up to the table of features; returns their wall time."""

    def one(name: str, options: dict) -> tuple:
        return (stage, run, name, options)

    print(HEADER)
    total = 0.0
    results, wall = side_by_side([one("download", {"datasets": [DATASET], "sources": {DATASET: str(source)}})])
    total += row("download (from disk)", results, wall)
    limits = {"min_seconds": 0.2, "max_seconds": 60}
    results, wall = side_by_side([one("plan_shards", {"clips_per_shard": 360, **limits})])
    total += row("plan_shards", results, wall)
    shards = [one("featurize", {"shard": shard["shard"], "max_seconds": 60}) for shard in results[0]["found"]]
    if shards:
        total += row(f"featurize ×{len(shards)}", *side_by_side(shards))
    return total + row("collect", *side_by_side([one("collect", {"max_rejected_share": 0.05})]))


def models(run: str) -> float:
    """The stages after that."""
    shared = EVALUATION | {"stress_clips": 240, "clips_per_shard": 360}
    results, wall = side_by_side([(stage, run, "plan_stress", shared)])
    total = row("plan_stress", results, wall)
    shards = [
        (stage, run, "featurize_stress", {"shard": shard["shard"], "max_seconds": 60}) for shard in results[0]["found"]
    ]
    if shards:
        total += row(f"featurize_stress ×{len(shards)}", *side_by_side(shards))
    total += row("collect_stress", *side_by_side([(stage, run, "collect_stress", {})]))
    trains = [(stage, run, "train", {"family": family, "search": False, **EVALUATION}) for family in FAMILIES]
    total += row("train ×3", *side_by_side(trains))
    for name, options in (
        ("compare", EVALUATION),
        ("explain", {"seed": 0, "explained_clips": 200}),
        ("register_challenger", {"max_emotion_drop": 0, "policy": "auto"}),
        ("promote", {"policy": "auto"}),
    ):
        total += row(name, *side_by_side([(stage, run, name, options)]))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        recordings = base / "recordings"
        recordings.mkdir()
        complete(arguments.folder, recordings)
        os.environ |= {
            "EMOTION_HOME": str(base / "home"),
            "EMOTION_RECORDINGS": os.pathsep.join([str(recordings), str(arguments.folder.absolute())]),
            "EMOTION_INBOXES": str(recordings),
            "AIRFLOW_HOME": str(base / "airflow"),
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PREFIX": "airflow",
        }
        total = features("cold", recordings) + models("cold")
        print(f"\nA cold run: {total:.0f} s in its stages and the start of their processes. Again, with no new clip:\n")
        features("again", recordings)
        (scored,), _ = side_by_side([(score, str(recordings))])
        (alone,), _ = side_by_side([(featurize_alone, str(recordings))])
        clips = alone["found"]
        print(
            f"\nScoring a folder of {clips} clips in one process: {clips / scored['wall']:.0f} clips/s; featurization "
            f"alone {clips / alone['wall']:.0f}; by CPU time scoring has {alone['cpu'] / scored['cpu']:.2f} of its rate"
        )


if __name__ == "__main__":
    main()
