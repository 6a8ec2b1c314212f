"""How far accuracy in use can be trusted: print the tables of docs/benchmarks.md.

    python docs/benchmarks/accuracy_in_use.py RAVDESS NEMO [--cache features.npz] [--processes 2] [--queues 200]

RAVDESS holds Actor_NN/*.wav or *.flac, NEMO holds nEMO's files anywhere below it. Three versions (LogisticRegression
alone) are trained on two thirds of the actors each, and answer the clips of everybody else: as recorded, under every
condition of ``emotion.audio.conditions``, and nEMO's. The labels are the true ones.

- Realized accuracy: queues are drawn as a scoring run draws them, several batches at a time. Counted is how often the
  95 % interval holds the accuracy of all clips of these batches, and that of all speakers there are.
- Estimated accuracy: how far it lies from the true one, where it is given, and how often it is given.
- Mix of emotions: batches whose mix is drawn at random; the error of counted answers, and of the corrected mix.

One core for fitting; about half an hour, ten minutes of it for the features.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from accuracy_recordings import FAMILY, Clips, Setting, read, settings

from emotion.audio.conditions import CLEAN, CONDITIONS
from emotion.monitoring import emotion_mix, estimated
from emotion.monitoring.realized import realized_accuracy
from emotion.review.drawing import draw
from emotion.scoring.tables import timeline_table
from emotion.vocabulary import EMOTIONS, Adaptation, label_set

QUEUE = 20
CLIPS_OF_BATCH = 60
BATCHES: dict[str, tuple[int, int, bool]] = {
    "1 of 1 speaker": (1, 1, True),
    "3 of 1 speaker each": (3, 1, True),
    "3 of 1 speaker each, not known": (3, 1, False),
    "10 of 1 speaker each": (10, 1, True),
    "3 of 4 speakers each": (3, 4, True),
    "3 of 4 speakers each, not known": (3, 4, False),
}
"""Row of the table → batches, speakers of each, and whether the batch says who speaks."""
ADAPTATIONS: dict[Adaptation, bool] = {"none": False, "batch": False, "speaker": True}
"""What clips are normalized by, and whether the batch says who speaks."""
SIZES = {"1 speaker, 60 clips": (1, 60), "5 speakers, 300 clips": (5, 300)}
DRAWS = {CLEAN: 6}
"""For each version and kind: batches as recorded; 2 of every other condition."""
MIXES = 40
"""Batches with a random mix, for each version."""


def true_accuracy(answers: pd.DataFrame) -> float:
    return float((answers["emotion"] == answers["label"]).mean())


def pools(versions: list[Setting]) -> dict[str, pd.DataFrame]:
    """The plain answers to all speakers that were not heard; nEMO's also by batch, as in use."""
    clean = [version.answer(version.clips[CLEAN], "none", known=False) for version in versions]
    foreign = versions[0].clips["nemo"]
    speakers = [foreign.take(np.flatnonzero(foreign.speakers == name)) for name in np.unique(foreign.speakers)]
    by_batch = [versions[0].answer(clips, "batch", known=False) for clips in speakers]
    telephone = [version.answer(version.clips["telephone"], "none", known=False) for version in versions]
    return {
        "RAVDESS": pd.concat(clean, ignore_index=True),
        "RAVDESS, half of the speakers by telephone": _halves(clean, telephone),
        "nEMO, by batch": pd.concat(by_batch, ignore_index=True),
    }


def _halves(clean: list[pd.DataFrame], changed: list[pd.DataFrame]) -> pd.DataFrame:
    first, second = pd.concat(clean, ignore_index=True), pd.concat(changed, ignore_index=True)
    odd = first["voice"].isin(sorted(first["voice"].unique())[::2])
    return pd.concat([first[odd], second[~odd]], ignore_index=True)


def labelled(batch: pd.DataFrame, name: str, random: np.random.Generator, *, known: bool) -> pd.DataFrame:
    """The queue of a batch, labelled: rows as :func:`emotion.review.settled.table` gives them."""
    paths = [f"{name}/{number}.wav" for number in range(len(batch))]
    table = batch.assign(path=paths, sha256=paths, channel="", duration=2.0, error="", windows=0)
    table = table.assign(speaker=batch["voice"] if known else "", heard_in_training="no", label=batch["label"])
    seed = int(random.integers(2**31))
    items = draw(table, timeline_table([], emotions=EMOTIONS), size=QUEUE, emotions=EMOTIONS, drift="ok", seed=seed)
    labels = dict(zip(paths, batch["label"], strict=True))
    rows = [item | item["answer"] | {"audio": item["path"], "labels": [labels[item["path"]]]} for item in items]
    return pd.DataFrame(rows).assign(batch=name, made_at="2026-01-05T00:00:00+00:00", outcome="emotion", blind=True)


def coverage(pool: pd.DataFrame, count: int, speakers: int, *, known: bool, queues: int) -> Iterator[float]:
    """Labels, coverage of the batches' accuracy and of all speakers', half width, bias and root mean square error."""
    random = np.random.default_rng(count * 100 + speakers)
    everybody = float((pool["emotion"] == pool["label"]).groupby(pool["voice"]).mean().mean())
    voices = dict(iter(pool.groupby("voice")))
    outcomes = []
    for _ in range(queues):
        batches = []
        for _ in range(count):
            drawn = [voices[name] for name in random.choice(list(voices), speakers)]
            parts = [
                rows.iloc[random.permutation(len(rows))[:CLIPS_OF_BATCH]].assign(voice=f"{random.integers(2**40)}")
                for rows in drawn
            ]
            batches.append(pd.concat(parts, ignore_index=True))
        labels = [labelled(batch, f"batch-{number}", random, known=known) for number, batch in enumerate(batches)]
        figures = realized_accuracy(pd.concat(labels, ignore_index=True), promised=None)
        low, high, value = (figures["accuracy"][name] for name in ("low", "high", "value"))
        true = true_accuracy(pd.concat(batches))
        outcomes.append(
            (figures["labels"], low <= true <= high, low <= everybody <= high, (high - low) / 2, value - true)
        )
    columns = np.array(outcomes, dtype=float).T
    yield from columns.mean(axis=1)
    yield float(np.sqrt((columns[-1] ** 2).mean()))


def estimates(versions: list[Setting]) -> pd.DataFrame:
    """A row per batch: its size, condition and adaptation, true and estimated accuracy, verdict and what was said."""
    random = np.random.default_rng(0)
    rows = []
    for version in versions:
        for condition, clips in version.clips.items():
            for size, (speakers, count) in SIZES.items():
                for _ in range(DRAWS.get(condition, 2)):
                    voices = np.unique(clips.speakers)
                    voices = random.choice(voices, min(speakers, len(voices)), replace=False)
                    chosen = np.flatnonzero(np.isin(clips.speakers, voices))
                    batch = clips.take(random.permutation(chosen)[:count])
                    rows += [
                        {"condition": condition, "size": size, "adaptation": adaptation}
                        | estimate(version, batch, adaptation, known=known)
                        for adaptation, known in ADAPTATIONS.items()
                    ]
    return pd.DataFrame(rows)


def estimate(version: Setting, batch: Clips, adaptation: Adaptation, *, known: bool) -> dict:
    answers = version.answer(batch, adaptation, known=known)
    verdict = version.verdict(batch, answers)
    given = estimated.estimate(answers, version.reference, family=FAMILY, drift=verdict)
    anyway = estimated.estimate(
        answers.assign(unfamiliar=False), version.reference, family=FAMILY, drift={"verdict": "ok"}
    )
    value, true = float(answers["confidence"].mean()), true_accuracy(answers)
    return {
        "true": true,
        "given": given["withheld"] is None,
        "verdict": verdict["verdict"],
        "error": value - true,
        "held": anyway["accuracy"] is not None and anyway["accuracy"]["low"] <= true <= anyway["accuracy"]["high"],
    }


def mixes(versions: list[Setting]) -> pd.DataFrame:
    """A row per batch with a random mix of emotions: the mean error of a share, counted and corrected."""
    random = np.random.default_rng(0)
    rows = []
    for version in versions:
        clips = version.clips[CLEAN]
        known_emotions = label_set(clips.labels)
        for _ in range(MIXES):
            mix = random.dirichlet(np.ones(len(known_emotions)))
            weights = np.array([mix[known_emotions.index(label)] for label in clips.labels])
            batch = clips.take(random.choice(len(weights), 200, p=weights / weights.sum()))
            for adaptation, known in ADAPTATIONS.items():
                answers = version.answer(batch, adaptation, known=known)
                verdict = version.verdict(batch, answers)
                answers = answers.assign(unfamiliar=False)  # correct it whatever is withheld in use
                figures = emotion_mix.corrected(answers, version.reference, family=FAMILY, drift={"verdict": "ok"})
                true = np.array([(batch.labels == emotion).mean() for emotion in EMOTIONS])
                raw = np.array([figures["raw"][emotion] for emotion in EMOTIONS])
                shares = [figures["corrected"][emotion] for emotion in EMOTIONS]
                value = np.array([share["value"] for share in shares])
                held = [
                    share["low"] - 1e-9 <= is_true <= share["high"] for share, is_true in zip(shares, true, strict=True)
                ]
                rows.append(
                    {"adaptation": adaptation, "given": verdict["verdict"] == "ok", "raw": np.abs(raw - true).mean()}
                    | {"corrected": np.abs(value - true).mean(), "held": np.mean(held)}
                )
    return pd.DataFrame(rows)


def print_coverage(versions: list[Setting], queues: int) -> None:
    titles = "audio | batches | labels | holds the batches' accuracy | holds all speakers' | ± | bias | error (RMS)"
    print(f"| {titles} |\n|{'---|' * 8}")
    for audio, pool in pools(versions).items():
        for row, (count, speakers, known) in BATCHES.items():
            labels, finite, everybody, half, bias, error = coverage(pool, count, speakers, known=known, queues=queues)
            print(
                f"| {audio} | {row} | {labels:.0f} | {finite:.1%} | {everybody:.1%} | {half:.3f} | {bias:+.3f} "
                f"| {error:.3f} |",
                flush=True,
            )


def print_estimates(rows: pd.DataFrame) -> None:
    titles = "audio | size | normalized by | share | error, mean | error, mean size | within 5 points | interval holds"
    print(f"\n| {titles} |")
    print(f"|{'---|' * 8}")
    groups = {"RAVDESS, as recorded": [CLEAN], "RAVDESS under conditions": list(CONDITIONS), "nEMO": ["nemo"]}
    for audio, conditions in groups.items():
        for (size, adaptation), part in rows[rows["condition"].isin(conditions)].groupby(["size", "adaptation"]):
            for name, batches in (("given", part[part["given"]]), ("withheld", part[~part["given"]])):
                if len(batches):
                    errors = batches["error"]
                    print(
                        f"| {audio}, {name} | {size} | {adaptation} | {len(batches) / len(part):.0%} "
                        f"| {errors.mean():+.3f} | {errors.abs().mean():.3f} | {(errors.abs() <= 0.05).mean():.0%} "
                        f"| {batches['held'].mean():.0%} |"
                    )
    print(f"\n| condition | accuracy | given | error, mean | error, mean size |\n|{'---|' * 5}")
    for condition, part in rows.groupby("condition", sort=False):
        errors = part["error"]
        cells = f"{part['true'].mean():.3f} | {part['given'].mean():.0%} | {errors.mean():+.3f}"
        print(f"| {condition} | {cells} | {errors.abs().mean():.3f} |")


def print_mixes(rows: pd.DataFrame) -> None:
    print("\n| normalized by | given | error of a share, counted | corrected | 95 % interval holds |")
    print(f"|{'---|' * 5}")
    for adaptation, part in rows.groupby("adaptation", sort=False):
        means = part[["given", "raw", "corrected", "held"]].mean()
        errors = f"{means['raw']:.3f} | {means['corrected']:.3f}"
        print(f"| {adaptation} | {means['given']:.0%} | {errors} | {means['held']:.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ravdess", type=Path)
    parser.add_argument("nemo", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--queues", type=int, default=200)
    arguments = parser.parse_args()
    table = read(arguments.ravdess, arguments.nemo, arguments.cache, arguments.processes)
    versions = list(settings(table))
    for version in versions:
        promised = ", ".join(f"{mode} {accuracy:.3f}" for mode, accuracy in version.promised.items())
        clean = version.answer(version.clips[CLEAN], "none", known=False)
        print(f"promised: {promised}; plain, on the actors left out: {true_accuracy(clean):.3f}\n", flush=True)
    print_coverage(versions, arguments.queues)
    print_estimates(estimates(versions))
    print_mixes(mixes(versions))


if __name__ == "__main__":
    main()
