"""`kill -9` at twenty random moments: five of a training run, of a scoring batch, of an import and of the launcher.

    nice python docs/checks/kills.py [folder] [training scoring import launcher]

Each process is killed once, in a store of its own. The moment is drawn with a fixed seed from the CPU time that it and
its children need undisturbed; so it does not depend on how busy the machine is. Then the work goes on as Airflow would
let it: the failed stage is tried again; of the scoring batches every second one is left as it is, and the next sweep
takes over; an import and the launcher are started again. The launcher runs a real Airflow; the stages of the others run
in a process that keeps, as Airflow does, the results of finished stages.

Prints a table of what was counted after the kill and at the end. Ends with code 1 if a count is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml

from emotion.audio.conditions import CONDITIONS
from emotion.commands.local_airflow import end_leftovers, leftovers
from emotion.datasets import importing, synthesis
from emotion.errors import EmotionError
from emotion.features import condition_table
from emotion.features.augmentation import VARIANTS
from emotion.inference import CustomEmotionModel
from emotion.metrics import Emitter
from emotion.models import registry
from emotion.runs.scoring_run import ScoringRun
from emotion.runs.training_run import TrainingRun
from emotion.scoring.options import NothingToScore, Options
from emotion.settings import INCLUDE, Settings
from emotion.store import Store
from emotion.vocabulary import FAMILIES

SEED = 20_260
KILLS = 5
DATASET = "synthesized"
SPEAKERS = 3
"""Of the dataset; the inbox holds the clips of the next speaker. An import of the dataset replaces one with a speaker
less in every second store."""
OPTIONS = Options(settle_seconds=0, files_per_shard=12)
STRESS_CLIPS = 24
"""Clips that a training run tests under recording conditions. The launcher's run tests all, as the form's default is
more than there are."""
KINDS = ("training", "scoring", "import", "launcher")
PATIENCE = 3600.0
POLL_SECONDS = 0.02


class Journal:
    """The results of finished stages, in a file: what Airflow's database would know of a run."""

    def __init__(self, file: Path):
        self._file = file
        self.results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def stage(self, name: str, call: Callable[[], Any]) -> Any:
        """The result of a stage, which is not run again once it has finished."""
        if name not in self.results:
            self.results[name] = call()
            unfinished = self._file.with_suffix(".new")
            unfinished.write_text(json.dumps(self.results))
            unfinished.replace(self._file)
        return self.results[name]


def do_training(settings: Settings, run_id: str) -> None:
    """Every stage of a training run that has not finished yet."""
    run, journal = TrainingRun(settings, run_id, Emitter(None)), Journal(Path(settings.home).parent / f"{run_id}.json")
    shared = {"seed": 0, "speaker_folds": "grouped"}
    limits = {"min_seconds": 0.2, "max_seconds": 60}
    journal.stage("download", lambda: run.download(datasets=[DATASET]))
    shards = journal.stage("plan", lambda: run.plan_shards(clips_per_shard=12, **limits))
    for shard in shards:
        number = shard["shard"]
        journal.stage(number, lambda number=number: run.featurize(shard=number, max_seconds=60))
    journal.stage("collect", lambda: run.collect(max_rejected_share=0.05))
    shards = journal.stage(
        "plan stress", lambda: run.plan_stress(stress_clips=STRESS_CLIPS, clips_per_shard=12, **shared)
    )
    for shard in shards:
        number = shard["shard"]
        journal.stage(
            f"stress {number}",
            lambda number=number: run.featurize_stress(shard=number, max_seconds=60),
        )
    journal.stage("collect stress", run.collect_stress)
    for family in FAMILIES:
        journal.stage(family, lambda family=family: run.train(family=family, search=False, **shared))
    journal.stage("compare", lambda: run.compare(**shared))
    journal.stage("explain", lambda: run.explain(seed=0, explained_clips=8))
    journal.stage("register", lambda: run.register_challenger(policy="auto", max_emotion_drop=0.0))
    journal.stage("promote", lambda: run.promote(policy="auto"))


def do_scoring(settings: Settings, run_id: str) -> None:
    """Every stage of a scoring run that has not finished yet."""
    run, journal = ScoringRun(settings, run_id, Emitter(None)), Journal(Path(settings.home).parent / f"{run_id}.json")
    try:
        shards = journal.stage("find", lambda: run.find_new_audio(folder=None, options=OPTIONS))
    except NothingToScore:
        return
    for shard in shards:
        journal.stage(shard["part"], lambda part=shard["part"]: run.score(part=part))
    journal.stage("collect", run.collect_predictions)
    journal.stage("drift", run.watch_drift)


def do_import(settings: Settings, run_id: str) -> None:
    """The import of the dataset, which goes on with what is there."""
    importing.obtain(Store(settings.home), settings, DATASET)


DO = {"training": do_training, "scoring": do_scoring, "import": do_import}


def catalogue(folder: Path, speakers: int) -> None:
    """Write a catalogue with so many synthesized speakers."""
    document = yaml.safe_load((INCLUDE / "datasets.yaml").read_text())
    document[DATASET]["speakers"] = speakers
    (folder / "datasets.yaml").write_text(yaml.safe_dump(document))


def environment(folder: Path) -> dict[str, str]:
    """The environment of the processes whose store is in a folder."""
    return os.environ | {
        "EMOTION_HOME": str(folder / "home"),
        "EMOTION_DATASETS": str(folder / "datasets.yaml"),
        "EMOTION_INBOXES": str(folder / "inbox"),
        "EMOTION_TRAINING_SCHEDULE": "",
        "EMOTION_SCORING_SCHEDULE": "",
        "EMOTION_REVIEW_SCHEDULE": "",
        "AIRFLOW_HOME": str(folder / "airflow"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


def command(kind: str, run_id: str) -> list[str]:
    """The command that does the work of a kind."""
    if kind == "launcher":
        return [sys.executable, "-m", "emotion.commands.local_run", "demo"]
    return [sys.executable, __file__, "--do", kind, "--run", run_id]


def start(kind: str, folder: Path, run_id: str) -> subprocess.Popen:
    """Start the work of a kind; its output goes to ``log`` in the folder."""
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(command(kind, run_id), env=environment(folder), stdout=log, stderr=log)


def finish(kind: str, folder: Path, run_id: str) -> float:
    """Do the work of a kind to its end; returns the CPU time that it took (s)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = start(kind, folder, run_id).wait(PATIENCE)
    if code:
        raise RuntimeError(f"{kind} in {folder} ended with code {code}; see {folder / 'log'}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_seconds(process: subprocess.Popen) -> float:
    """The CPU time of a process and of all that it has started so far (s)."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        for each in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


@dataclass
class Count:
    """What lies in a store.

    ``wrong`` has a sentence for each thing that no kill may leave, even before the work goes on.
    """

    clips: str = "none"
    features: int = 0
    conditions: int = 0
    predictions: int = 0
    versions: int = 0
    champion: str = "none"
    processes: int = 0
    unfinished: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"clips {self.clips}, features {self.features}, in conditions {self.conditions}, "
            f"predictions {self.predictions}, versions {self.versions}, champion {self.champion}, "
            f"processes {self.processes}, unfinished files {self.unfinished}"
        )


def count(folder: Path) -> Count:
    """Count what lies in the store of a folder, and read every file that has a reader."""
    store, result = Store(str(folder / "home")), Count()
    _count_clips(store, result)
    result.features = _count_rows(store, "features", ["sha256", "variant"], result)
    result.conditions = _count_rows(store, "conditions", condition_table.KEYS, result)
    _count_predictions(store, result)
    _count_models(store, result)
    result.processes = len(leftovers(folder / "airflow"))
    files = [path for path in Path(store.root).rglob("*") if path.is_file()]
    result.unfinished = sum(path.name.startswith(".writing-") for path in files)
    for key in [key for ending in ("*.json", "*.parquet") for key in store.list("", ending)]:
        try:
            store.read_json(key) if key.endswith(".json") else store.read_table(key)
        except (EmotionError, OSError, ValueError) as error:
            result.wrong.append(f"{key} cannot be read: {error}")
    return result


def _count_rows(store: Store, stored_in: str, columns: list[str], result: Count) -> int:
    """The number of distinct rows that are stored in a folder; a row that is stored twice is wrong."""
    tables = [store.read_table(key, columns) for key in store.list(stored_in, "*.parquet")]
    rows = pd.concat(tables) if tables else pd.DataFrame(columns=columns)
    if rows.duplicated().any():
        result.wrong.append(f"{rows.duplicated().sum()} rows of {stored_in} are stored more than once")
    return len(rows.drop_duplicates())


def _count_clips(store: Store, result: Count) -> None:
    clips = store.list(importing.audio_folder(DATASET))
    result.clips = f"{len(clips)} (unfinished)" if clips else "none"
    if store.exists(f"datasets/{DATASET}/dataset.json"):
        manifest = importing.read_manifest(store, DATASET).set_index("path")["sha256"]
        folder = importing.audio_folder(DATASET)
        stored = {key.removeprefix(f"{folder}/"): hashlib.sha256(store.read_bytes(key)).hexdigest() for key in clips}
        result.clips = str(len(clips))
        if stored != manifest.to_dict():
            result.wrong.append("the clips are not those of the manifest")


def _count_predictions(store: Store, result: Count) -> None:
    tables = [
        store.read_table(f"{Path(key).parent}/predictions.parquet") for key in store.list("scores", "summary.json")
    ]
    scored = [path for table in tables for path in table["path"]]
    result.predictions = len(scored)
    if len(set(scored)) != len(scored):
        result.wrong.append("a file has two predictions")


def _count_models(store: Store, result: Count) -> None:
    try:
        for entry in registry.versions(store):
            result.versions += 1
            for name, facts in entry["files"].items():
                if hashlib.sha256(registry.read_file(store, entry, name)).hexdigest() != facts["sha256"]:
                    result.wrong.append(f"{name} of version {entry['version']} is damaged")
        if registry.champion(store):
            CustomEmotionModel.named(store, "champion")
            result.champion = "readable"
    except EmotionError as error:
        result.wrong.append(f"a model cannot be read: {error}")


def expected(kind: str, folder: Path, end: Count) -> list[str]:
    """What is wrong with the counts at the end."""
    store, faults = Store(str(folder / "home")), list(end.wrong)
    clips = len(synthesis.names(speakers=SPEAKERS))
    if end.clips != str(clips):
        faults.append(f"clips: {end.clips}, expected {clips}")
    features = 0 if kind == "import" else clips * (1 + len(VARIANTS))
    if end.features != features:
        faults.append(f"features: {end.features}, expected {features}")
    tested = {"import": 0, "launcher": clips}.get(kind, STRESS_CLIPS)
    if end.conditions != tested * len(CONDITIONS):
        faults.append(f"features in conditions: {end.conditions}, expected {tested * len(CONDITIONS)}")
    inbox = len(list((folder / "inbox").iterdir())) if kind == "scoring" else 0
    if end.predictions != inbox:
        faults.append(f"predictions: {end.predictions}, expected {inbox}")
    if kind != "import" and (end.champion != "readable" or not end.versions):
        faults.append(f"champion: {end.champion}")
    if end.processes or end.unfinished:
        faults.append(f"{end.processes} processes and {end.unfinished} unfinished files are left")
    for key in [*store.list("ledger/open"), *store.list("datasets", "*incoming*")]:
        faults.append(f"{key} is left")
    for key in store.list("scores"):
        if not store.exists(f"{'/'.join(key.split('/')[:2])}/summary.json"):
            faults.append(f"{key} is left of a batch that was taken over")
    return faults


def prepare(kind: str, number: int, folder: Path, trained: Path) -> Path:
    """A folder with all that the work of a kind needs."""
    place = folder / f"{kind}-{number}"
    place.mkdir()
    catalogue(place, SPEAKERS)
    if kind == "training":
        shutil.copytree(trained / "home/datasets", place / "home/datasets")
    elif kind == "scoring":
        shutil.copytree(trained / "home", place / "home")
        (place / "inbox").mkdir()
        for name in sorted(set(synthesis.names(speakers=SPEAKERS + 1)) - set(synthesis.names(speakers=SPEAKERS))):
            samples = synthesis.synthesize_clip(name)
            (place / "inbox" / Path(name).name).write_bytes(synthesis.wav_bytes(samples))
    elif kind == "import" and number % 2:
        catalogue(place, SPEAKERS - 1)
        finish("import", place, "first")
        catalogue(place, SPEAKERS)
    return place


def kill_one(kind: str, place: Path, moment: float, number: int) -> list[str]:
    """Kill the work of a kind after so much CPU time, let it go on, print a row; returns what is wrong."""
    process = start(kind, place, "run")
    while (at_work := process.poll() is None) and cpu_seconds(process) < moment:
        time.sleep(POLL_SECONDS)
    process.send_signal(signal.SIGKILL)
    process.wait()
    after_kill = count(place)
    faults = [] if at_work else ["it ended before the kill"]
    faults += [f"after the kill: {fault}" for fault in after_kill.wrong]
    try:
        finish(kind, place, "next-sweep" if kind == "scoring" and number % 2 else "run")
    except RuntimeError as error:
        faults.append(str(error))
    end = count(place)
    faults += expected(kind, place, end)
    print(f"| {kind} {number} | {moment:.1f} s | {after_kill} | {end} | {'; '.join(faults) or 'right'} |", flush=True)
    return faults


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--do", choices=DO, help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do:
        DO[options.do](Settings.from_environment(), options.run)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="kills-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    trained = folder / "undisturbed"
    trained.mkdir()
    catalogue(trained, SPEAKERS)
    seconds = {kind: finish(kind, trained, "run") for kind in ("import", "training")}
    faults: list[str] = []
    print("| what | killed after (CPU time) | counted after the kill | counted at the end | verdict |")
    print("|---|---|---|---|---|", flush=True)
    for kind in options.kinds:
        moments = random.Random(f"{SEED}-{kind}")
        if kind not in seconds:
            seconds[kind] = finish(kind, prepare(kind, 0, folder, trained), "run")
        for number in range(1, KILLS + 1):
            place = prepare(kind, number, folder, trained)
            try:
                faults += kill_one(kind, place, moments.uniform(0, 0.9 * seconds[kind]), number)
            finally:
                end_leftovers(place / "airflow")
    print("OK" if not faults else f"FAILED: {len(faults)} counts are wrong")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
