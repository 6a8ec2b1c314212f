"""How time and memory of the tasks of a training run grow with the corpus.

    python docs/benchmarks/growth.py [--clips 1440 5000 15000 50000] [--families …] [--collect] [--scratch FOLDER]
    python docs/benchmarks/growth.py --featurize FOLDER

The features are drawn: eight emotions, speakers of 60 clips each, and six copies of each clip, so no audio is needed.
Every task runs in a process of its own, with one thread for linear algebra, as Airflow's tasks do. Its memory is
sampled fifty times a second. Pages of the mapped features count as resident, though tasks on one machine share them and
the kernel takes them back when memory is short; so what a process holds for itself alone (anonymous) is given too.

Of training, one protocol is measured: the sums of its six folds, which are computed once, and the fit of one of them. A
training task computes the sums of nine protocols and fits about 32 models. ``--featurize`` measures the features of
the recordings of a folder on 1, 2 and 4 processes instead.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

SIZES = (1440, 5000, 15_000, 50_000)
FAMILIES = ("logistic_regression", "random_forest", "gradient_boosting")
CLIPS_OF_SPEAKER, CLIPS_PER_SHARD, EXPLAINED, SEED = 60, 360, 200, 0
RUN, PROTOCOL = "runs/growth", "speaker_independent_adapted"


def _table(clips: int):
    """The drawn clips, as a manifest lists them."""
    import numpy as np
    import pandas as pd

    from emotion.vocabulary import EMOTIONS

    numbers = np.arange(clips)
    table = pd.DataFrame({"path": [f"{number}.wav" for number in numbers], "emotion": np.resize(EMOTIONS, clips)})
    table["speaker"] = [f"speaker {number // CLIPS_OF_SPEAKER}" for number in numbers]
    table["sha256"] = table["samples_sha256"] = [f"{number:064x}" for number in numbers]
    return table.assign(dataset="drawn", duration=3.0, gender="", intensity="", statement="")


def _values(table, start: int, variant: int):
    """Features of the next clips in a variant: a voice, the emotion, the clip and, in a copy, what was changed."""
    import numpy as np

    from emotion import features
    from emotion.vocabulary import EMOTIONS

    numbers, width = np.arange(start, min(start + CLIPS_PER_SHARD, len(table))), len(features.feature_names())
    signal = np.random.default_rng(SEED).standard_normal((len(EMOTIONS), width), dtype=np.float32)
    random = np.random.default_rng([SEED, start])
    values = random.standard_normal((len(numbers), width), dtype=np.float32)
    voices = random.standard_normal((CLIPS_PER_SHARD // CLIPS_OF_SPEAKER, width), dtype=np.float32)
    values += voices[(numbers - start) // CLIPS_OF_SPEAKER] + 0.1 * signal[numbers % len(EMOTIONS)]
    if variant:
        changed = np.random.default_rng([SEED, start, variant])
        values += 0.5 * changed.standard_normal(values.shape, dtype=np.float32)
    return values


def draw(home: str, clips: int) -> str:
    """Write what the task collect leaves: the table, and the features of each variant."""
    import numpy as np

    from emotion import features
    from emotion.features.feature_table import ORIGINAL
    from emotion.features.quality import UNKNOWN
    from emotion.store import Store

    store, table = Store(home), _table(clips)
    store.write_table(f"{RUN}/table.parquet", table.assign(**UNKNOWN._asdict()))
    Path(home, RUN, "features").mkdir()
    for number, variant in enumerate((ORIGINAL, *features.VARIANTS)):
        shape = clips, len(features.feature_names())
        file = np.lib.format.open_memmap(f"{home}/{RUN}/features/{variant}.npy", "w+", np.float32, shape)
        for start in range(0, clips, CLIPS_PER_SHARD):
            file[start : start + CLIPS_PER_SHARD] = _values(table, start, number)
    return ""


def draw_shards(home: str, clips: int) -> str:
    """Store the features as featurization does, and the manifest."""
    import pandas as pd

    from emotion import features
    from emotion.features import feature_table, quality
    from emotion.store import Store

    store, names, table = Store(home), list(features.feature_names()), _table(clips)
    for start in range(0, clips, CLIPS_PER_SHARD):
        keys = table.iloc[start : start + CLIPS_PER_SHARD][["sha256", "samples_sha256"]].reset_index(drop=True)
        keys = keys.assign(reason="", message="", **quality.UNKNOWN._asdict())
        parts = [
            pd.concat([keys.assign(variant=name), pd.DataFrame(_values(table, start, number), columns=names)], axis=1)
            for number, name in enumerate((feature_table.ORIGINAL, *features.VARIANTS))
        ]
        store.write_table(f"features/{features.recipe_version()}/{start}-at-most-60s.parquet", pd.concat(parts))
    store.write_table("manifest.parquet", table.drop(columns="samples_sha256"))
    return ""


def collect(home: str) -> str:
    """Join the manifest and the features, write what the run trains on, and learn what is familiar."""
    import pandas as pd

    from emotion import features
    from emotion.features import feature_table
    from emotion.models.familiarity import Familiarity
    from emotion.runs.training_artifacts import TrainingArtifacts
    from emotion.store import Store

    store = Store(home)
    artifacts = TrainingArtifacts(store, RUN)
    refused = pd.DataFrame(columns=["path", "sha256", "reason", "message"])
    table = feature_table.collect(store, store.read_table("manifest.parquet"), refused).table
    artifacts.save_clips(table, table.head(0))
    table, values = artifacts.clips()
    speakers = table["speaker"].to_numpy()
    Familiarity.fit(values, speakers, columns=features.views(), copies=artifacts.augmented())
    return ""


def train(home: str, family: str) -> str:
    """Of one protocol: the sums of its folds, and the fit of the first of them."""
    from emotion import features
    from emotion.evaluation.folds import splits
    from emotion.models.bundle import dumps
    from emotion.runs.training_artifacts import TrainingArtifacts
    from emotion.store import Store
    from emotion.training.fitting import _Fitter
    from emotion.training.protocol_sums import sums_of_sides
    from emotion.training.rows import TrainingRows

    store = Store(home)
    artifacts = TrainingArtifacts(store, RUN)
    table, values = artifacts.clips()
    sides = [side for side, _ in splits(table, seed=SEED, published=None)[PROTOCOL]] + [table.index.to_numpy()]
    rows = TrainingRows.from_table(table, values, artifacts.augmented())
    views = list(features.views().values())
    fitter = _Fitter(family, rows, views=views, search=False, seed=SEED, progress=lambda done, total: None, total=1)
    start = time.process_time()
    variants, sums = next(sums_of_sides(rows, PROTOCOL, sides))
    summed = time.process_time()
    model = fitter.fit(sides[0], variants, rows.groups(PROTOCOL), sums)
    fitted = time.process_time()
    data = dumps({"plain": model})
    store.write_bytes(f"{RUN}/{family}.pkl", data)
    return f"sums {summed - start:.0f} s, fit {fitted - summed:.0f} s of CPU; model {len(data) / 2**20:.1f} MiB"


def explain(home: str) -> str:
    """SHAP values of the plain models, for a sample of the clips."""
    import numpy as np

    from emotion.explanation.values import explain_predictions
    from emotion.models.bundle import unpickle
    from emotion.runs.training_artifacts import TrainingArtifacts
    from emotion.store import Store

    store = Store(home)
    artifacts = TrainingArtifacts(store, RUN)
    table, values = artifacts.clips()
    rows = np.random.default_rng(SEED).choice(len(table), EXPLAINED, replace=False)
    background = artifacts.background(values, SEED)
    for key in store.list(RUN, "*.pkl"):
        explain_predictions(unpickle(store.read_bytes(key))["plain"], values[rows], background=background)
    return f"{EXPLAINED} clips against {len(background):,}"


def _predictions(table):
    """Held-out predictions of each protocol, drawn."""
    import numpy as np
    import pandas as pd

    from emotion.vocabulary import EMOTIONS, PROTOCOLS, probability_columns

    random, frames = np.random.default_rng(SEED), []
    for protocol in ("split_80_20", *PROTOCOLS):
        answers = pd.DataFrame(random.dirichlet(np.ones(8), len(table)), columns=probability_columns(EMOTIONS))
        fold = np.arange(len(table)) // CLIPS_OF_SPEAKER % 6
        frames.append(answers.assign(protocol=protocol, fold=fold, row=range(len(table)), emotion=table["emotion"]))
    return pd.concat(frames, ignore_index=True)


def compare(home: str) -> str:
    """The scores of a model with their intervals, from drawn predictions; there are four models in a run."""
    from emotion.evaluation.held_out import protocol_scores
    from emotion.runs.training_artifacts import TrainingArtifacts
    from emotion.store import Store

    table, _ = TrainingArtifacts(Store(home), RUN).clips()
    protocol_scores(table, _predictions(table), seed=SEED)
    return "one model"


def reference(home: str) -> str:
    """The drift reference, from drawn predictions of one model; there are four models in a run."""
    from emotion import features
    from emotion.monitoring.reference import build_reference
    from emotion.runs.training_artifacts import TrainingArtifacts
    from emotion.store import Store

    table, values = TrainingArtifacts(Store(home), RUN).clips()
    speakers, predictions = table["speaker"].to_numpy(), {"ensemble": _predictions(table)}
    names = features.feature_names()
    build_reference(values, speakers, predictions, names=names, quality=table, seed=SEED)
    return "one model"


def measure(work: Callable[..., str], *arguments: object) -> dict:
    """Run ``work`` in this fresh process: wall and CPU seconds, and the highest memory in GiB."""
    peak, is_done = {"VmRSS": 0, "RssAnon": 0}, threading.Event()

    def sample() -> None:
        while not is_done.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in peak:
                    peak[name] = max(peak[name], int(value.split()[0]))

    sampler = threading.Thread(target=sample)
    sampler.start()
    start, cpu = time.perf_counter(), time.process_time()
    note = work(*arguments)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    is_done.set()
    sampler.join()
    gib = {name: value / 2**20 for name, value in peak.items()}
    return {"note": note, "s": seconds, "cpu": cpu_seconds, "resident": gib["VmRSS"], "anonymous": gib["RssAnon"]}


def alone(work: Callable[..., str], *arguments: object) -> dict:
    """:func:`measure` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, work, *arguments).result()


def grow(scratch: str | None, sizes: list[int], families: list[str], *, collects: bool) -> None:
    if scratch:
        Path(scratch).mkdir(parents=True, exist_ok=True)
    print("| task | clips | s | CPU s | resident GiB | anonymous GiB | |\n|---|---|---|---|---|---|---|", flush=True)
    for clips in sizes:
        with tempfile.TemporaryDirectory(dir=scratch) as home:
            alone(draw_shards if collects else draw, home, clips)
            tasks: list[tuple] = [("collect", collect)] if collects else []
            tasks += [(f"train {name}", train, name) for name in families]
            tasks += [("explain", explain), ("compare", compare), ("register: drift reference", reference)]
            for name, work, *arguments in tasks:
                result = alone(work, home, *arguments)
                figures = (f"{result[key]:.1f}" for key in ("s", "cpu", "resident", "anonymous"))
                print(f"| {name} | {clips:,} | {' | '.join(figures)} | {result['note']} |", flush=True)


def featurize(paths: list[str]) -> float:
    """The CPU seconds of the features of these recordings and of their copies."""
    import io

    from emotion.audio import decode
    from emotion.features import VARIANTS, extract

    start = time.process_time()
    for path in paths:
        samples = decode.load(io.BytesIO(Path(path).read_bytes())).samples
        for change in (lambda samples, _: samples, *VARIANTS.values()):
            extract(change(samples, path))
    return time.process_time() - start


def rates(folder: str, clips: int) -> None:
    """Featurization on 1, 2 and 4 processes: clips in all, a second of wall time and of CPU time."""
    paths = [str(path) for path in sorted(Path(folder).rglob("*.wav"))[:clips]]
    print(f"{os.cpu_count()} cores\n\n| processes | clips/s | clips a CPU second |\n|---|---|---|", flush=True)
    for processes in (1, 2, 4):
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            list(pool.map(featurize, [paths[:2]] * processes))  # imports and compiled loops
            start = time.perf_counter()
            cpu = sum(pool.map(featurize, [paths[number::processes] for number in range(processes)]))
            seconds = time.perf_counter() - start
        print(f"| {processes} | {len(paths) / seconds:.1f} | {len(paths) / cpu:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=SIZES)
    parser.add_argument("--collect", action="store_true", help="start from what featurization leaves; takes longer")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--scratch", help="the folder for the drawn features; 50,000 clips take 7 GB")
    parser.add_argument("--featurize", metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.featurize:
        rates(arguments.featurize, 120)
    else:
        grow(arguments.scratch, arguments.clips, arguments.families, collects=arguments.collect)


if __name__ == "__main__":
    main()
