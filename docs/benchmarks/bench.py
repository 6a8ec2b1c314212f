"""Speed, as ratios measured side by side in one run: print the benchmark table.

    python docs/benchmarks/bench.py FOLDER [--clips 30] [--repeats 5] [--two-cores]

FOLDER holds recordings (searched below). Every method takes each clip in turn, so that a busy machine slows all
alike; a figure is the CPU time of the fastest of its repeats, averaged over the clips, on one core. openSMILE, whose
licence is for research, takes part where `pip install -r docs/benchmarks/requirements.txt` has put it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import librosa  # noqa: E402
import numpy as np  # noqa: E402
import scipy.fft  # noqa: E402
import soundfile  # noqa: E402
import soxr  # noqa: E402

from emotion import features  # noqa: E402
from emotion.audio import decode  # noqa: E402
from emotion.features import recipe  # noqa: E402
from emotion.features.descriptors import DESCRIPTORS  # noqa: E402
from emotion.features.frames import Speech  # noqa: E402
from emotion.features.functionals import FUNCTIONALS  # noqa: E402
from emotion.features.scalars import SCALARS  # noqa: E402
from emotion.models import pipelines  # noqa: E402
from emotion.models.classifier import Classifier  # noqa: E402
from emotion.vocabulary import EMOTIONS, FAMILIES  # noqa: E402

MEL = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=64)
WINDOW = librosa.filters.get_window("hann", 400).astype(np.float32)


def floor(path: Path) -> np.ndarray:
    """Decode, resample to 16 kHz, one STFT (25 ms every 10), log-mel: what no acoustic front end can do without."""
    samples, rate = soundfile.read(path, dtype="float32")
    samples = soxr.resample(samples if samples.ndim == 1 else samples.mean(axis=1), rate, 16_000)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160] * WINDOW
    spectrum = scipy.fft.rfft(frames, 512)
    return 10 * np.log10(np.maximum((spectrum.real**2 + spectrum.imag**2) @ MEL.T, 1e-10))


def featurize(path: Path) -> np.ndarray:
    """This project's features."""
    return features.extract(decode.load(path).samples)


def librosa_means(path: Path) -> np.ndarray:
    """The 180 means that most projects use: 40 MFCC, 12 chroma, 128 mel bands, at the file's own rate."""
    samples, rate = soundfile.read(path, dtype="float32")
    samples = samples if samples.ndim == 1 else samples.mean(axis=1)
    spectrum = np.abs(librosa.stft(samples))
    parts = (
        librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=40),
        librosa.feature.chroma_stft(S=spectrum, sr=rate),
        librosa.feature.melspectrogram(y=samples, sr=rate),
    )
    return np.concatenate([part.mean(axis=1) for part in parts])


def methods() -> dict[str, Callable[[Path], object]]:
    """What is measured, by name."""
    found: dict[str, Callable[[Path], object]] = {
        "floor: decode, resample, STFT, log-mel": floor,
        f"this project, {len(features.feature_names()):,} features": featurize,
        "180 librosa means": librosa_means,
    }
    try:
        import opensmile
    except ImportError:
        print("openSMILE is not installed: left out\n")
        return found
    for name, feature_set in (("eGeMAPS", "eGeMAPSv02"), ("ComParE", "ComParE_2016")):
        smile = opensmile.Smile(
            feature_set=getattr(opensmile.FeatureSet, feature_set), feature_level=opensmile.FeatureLevel.Functionals
        )
        found[f"openSMILE {name}, {len(smile.feature_names):,} features"] = smile.process_file
    return found


def featurization(paths: list[Path], repeats: int) -> None:
    """CPU milliseconds per clip of each method, and their ratios."""
    run = methods()
    taken = {name: np.full(len(paths), np.inf) for name in run}
    for method in run.values():
        method(paths[0])  # warm
    for repeat in range(repeats):
        for number, path in enumerate(paths):
            turn = (repeat + number) % len(run)  # each comes first now and then: what runs before leaves its traces
            for name, method in [*run.items()][turn:] + [*run.items()][:turn]:
                start = time.process_time()
                method(path)
                taken[name][number] = min(taken[name][number], time.process_time() - start)
    milliseconds = {name: 1000 * values.mean() for name, values in taken.items()}
    least, ours = list(milliseconds.values())[:2]
    print("| per clip, one core | ms | × floor | × this project |\n|---|---|---|---|")
    for name, value in milliseconds.items():
        print(f"| {name} | {value:.2f} | {value / least:.2f} | {value / ours:.2f} |")


def profile(paths: list[Path], repeats: int) -> None:
    """Where the time of a clip's features goes: CPU time of each stage, in the order in which they run."""
    least: dict[tuple[str, Path], float] = {}
    for path in paths * repeats:

        def timed(stage: str, work: Callable[[], object], path: Path = path) -> object:
            start = time.process_time()
            result = work()
            least[stage, path] = min(least.get((stage, path), np.inf), time.process_time() - start)
            return result

        clip = timed("decode, resample", lambda path=path: decode.load(path))
        speech = timed("level, speech span", lambda clip=clip: Speech(clip.samples))
        for stage, part in (
            ("Fourier transform", "power"),
            ("mel, chroma, autocorrelation, bands", "bands"),
            ("decibels", "power_db"),
            ("f0", "pitch"),
            ("MFCC", "mfcc"),
        ):
            timed(stage, lambda part=part, speech=speech: getattr(speech, part))
        parts = [
            timed(f"{next(iter(each.rows))} …", lambda each=each, speech=speech: each.compute(speech))
            for each in DESCRIPTORS
        ]
        table = np.concatenate(parts, dtype=np.float32)
        seen = {"span": table, "active": table[:, speech.active], "voiced": table[:, speech.over_voiced]}
        for (name, functional), (_, rows) in zip(FUNCTIONALS.items(), recipe.rows_of_functionals(), strict=True):
            timed(f"functionals: {name}", lambda f=functional, r=seen[functional.frames][rows]: f.compute(r))
        timed("scalars", lambda speech=speech: [each.compute(speech) for each in SCALARS])
    spent: dict[str, float] = {}
    for (stage, _), seconds in least.items():
        spent[stage] = spent.get(stage, 0.0) + seconds
    total = sum(spent.values())
    print("\n| stage | share of a clip's time |\n|---|---|")
    for stage, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {stage} | {seconds / total:.1%} |")


def one_clip(paths: list[Path], repeats: int) -> None:
    """File to answer, warm, of each family: wall milliseconds of the whole, and of the model alone."""
    rows = np.array([featurize(path) for path in paths])
    codes = np.arange(len(rows)) % len(EMOTIONS)
    random = np.random.default_rng(0)
    noise = random.normal(size=(8 * len(rows), rows.shape[1])).astype(np.float32)
    many = np.tile(rows, (8, 1)) + noise * rows.std(axis=0)
    print("\n| one clip, file to answer | p50 ms | p95 ms | model alone, p50 ms |\n|---|---|---|---|")
    for family in FAMILIES:
        pipeline = pipelines.build(family, seed=0, views=list(features.views().values()))
        pipeline.fit(many, np.tile(codes, 8))  # timing asks for a model of the size, not for a good one
        model = Classifier(family=family, pipeline=pipeline, emotions=EMOTIONS)
        whole, alone = [], []
        for path in paths * repeats:
            start = time.perf_counter()
            vector = featurize(path)
            middle = time.perf_counter()
            model.predict_proba(vector[None])
            end = time.perf_counter()
            whole.append(1000 * (end - start))
            alone.append(1000 * (end - middle))
        p50, p95 = statistics.median(whole), statistics.quantiles(whole, n=20)[-1]
        print(f"| {family} | {p50:.2f} | {p95:.2f} | {statistics.median(alone):.2f} |")


def _share(paths: list[Path]) -> int:
    return sum(len(featurize(path)) > 0 for path in paths)


def two_cores(paths: list[Path], repeats: int) -> None:
    """Clips a second with two processes against one."""
    work = paths * (2 * repeats)
    rates = {}
    for count in (1, 2):
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            list(pool.map(_share, [paths[:1]] * count))  # start the workers
            start = time.perf_counter()
            list(pool.map(_share, [work[n::8] for n in range(8)]))
            rates[count] = len(work) / (time.perf_counter() - start)
    print(f"\n{rates[1]:.0f} clips/s with one process, {rates[2]:.0f} with two: {rates[2] / rates[1]:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--two-cores", action="store_true", help="also two processes against one")
    arguments = parser.parse_args()
    found = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in (".wav", ".flac"))
    if not found:
        parser.error(f"no .wav or .flac below {arguments.folder}")
    paths = found[:: max(1, len(found) // arguments.clips)][: arguments.clips]
    print(f"{len(paths)} clips of {statistics.mean(decode.load(path).duration for path in paths):.2f} s on average\n")
    featurization(paths, arguments.repeats)
    profile(paths, arguments.repeats)
    one_clip(paths, arguments.repeats)
    if arguments.two_cores:
        two_cores(paths, arguments.repeats)


if __name__ == "__main__":
    main()
