"""What the ingredients bring outside the studio: print a table from a folder of RAVDESS speech.

    python docs/benchmarks/outside.py FOLDER [--processes 2]

FOLDER holds Actor_NN/*.wav or *.flac. Accuracy of LogisticRegression on unheard speakers (the published folds), on all
clips, as they are and under each condition of ``emotion.audio.conditions``, by models that were fitted on clean clips
and copies of the training side. Two ingredients are left out in turn: the masking noise of the features, and the
training copies under random conditions. Two processes; about eight minutes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pool
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ablation import Recording, recordings
from scipy.special import softmax
from stress import COLUMNS

from emotion import features
from emotion.audio import decode
from emotion.audio.conditions import CLEAN, CONDITIONS, in_condition
from emotion.datasets.catalogue import find_entry
from emotion.evaluation.folds import Fold, speaker_folds
from emotion.evaluation.scores import compute_scores
from emotion.features import frames
from emotion.models.adaptation import measure, normalize_by_batch, normalize_by_speaker
from emotion.models.classifier import Classifier, fit_temperature
from emotion.settings import INCLUDE
from emotion.vocabulary import EMOTIONS, MODES

SEED = 0
TALKERS = 4
GROUPS = COLUMNS | {"mean": tuple(CONDITIONS)}
"""Column of the table → the conditions whose mean it shows."""
NO_MASKING_DB = -300.0
SPEED_ALONE = ("slower", "faster")


def vectors(task: tuple[Recording, list[Path]], masking_db: float) -> dict[str, np.ndarray]:
    """Features of a clip: as it is, its training copies, and under each condition, by name."""
    frames.MASKING_DB = masking_db
    clip, talkers = task
    babble = [decode.load(talker).samples for talker in talkers]
    named = dict(zip((CLEAN, *features.VARIANTS), clip.variants(), strict=True))
    named |= {name: in_condition(name, clip.samples, sha256=clip.sha256, talkers=babble) for name in CONDITIONS}
    return {name: features.extract(each) for name, each in named.items()}


def tasks(clips: list[Recording], folds: list[Fold]) -> Iterator[tuple[Recording, list[Path]]]:
    """Each clip with the recordings of its babble, none of a speaker of the same fold."""
    random = np.random.default_rng(SEED)
    train_side = {int(row): train for train, test in folds for row in test}
    for number, clip in enumerate(clips):
        yield clip, [clips[other].path for other in random.choice(train_side[number], TALKERS, replace=False)]


def table(
    values: dict[str, np.ndarray],
    copies: tuple[str, ...],
    labels: np.ndarray,
    speakers: np.ndarray,
    folds: list[Fold],
) -> Iterator[str]:
    """A row of accuracies for each mode, with the worst calibration error over all conditions."""
    views = list(features.views().values())
    for mode in MODES:
        logits = {name: np.empty((len(labels), len(EMOTIONS))) for name in (CLEAN, *CONDITIONS)}
        for train, test in folds:
            training = measure(values[CLEAN][train])
            parts = [values[name][train] for name in (CLEAN, *copies)]
            if mode == "speaker":
                parts = [normalize_by_speaker(part, speakers[train]) for part in parts]
            elif mode == "batch":
                parts = [normalize_by_batch(part, measure(part)) for part in parts]
            model = Classifier.fit(
                "logistic_regression",
                np.concatenate(parts),
                np.tile(labels[train], len(parts)),
                groups=np.tile(speakers[train], len(parts)),
                views=views,
                label_set=EMOTIONS,
                seed=SEED,
            )
            for name, answers in logits.items():
                rows = values[name][test]
                if mode == "speaker":
                    rows = normalize_by_speaker(rows, speakers[test])
                elif mode == "batch":
                    rows = normalize_by_batch(rows, training)
                answers[test] = model.logits(rows)
        yield f"{mode} | {' | '.join(cells(logits, labels, folds))}"


def cells(logits: dict[str, np.ndarray], labels: np.ndarray, folds: list[Fold]) -> Iterator[str]:
    figures: dict[str, list[float]] = {"accuracy": [], "ece": []}
    by_condition: dict[str, float] = {}
    probabilities = {name: np.empty_like(answers) for name, answers in logits.items()}
    for train, test in folds:  # calibrated on the clean clips of the other folds
        temperature = fit_temperature(logits[CLEAN][train], labels[train], EMOTIONS)
        for name, answers in logits.items():
            probabilities[name][test] = softmax(answers[test] / temperature, axis=1)
    for name, rows in probabilities.items():
        scores = compute_scores(labels, rows, EMOTIONS)
        by_condition[name] = scores["accuracy"]
        figures["ece"].append(scores["ece"])
    for conditions in GROUPS.values():
        yield f"{np.mean([by_condition[name] for name in conditions]):.3f}"
    quieter = probabilities["gain_minus_20db"].argmax(axis=1) != probabilities[CLEAN].argmax(axis=1)
    yield f"{quieter.mean():.1%}"
    yield f"{max(figures['ece']):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    clips = list(recordings(arguments.folder))
    labels, speakers = np.array([clip.emotion for clip in clips]), np.array([clip.speaker for clip in clips])
    published = {"": find_entry(INCLUDE / "datasets.yaml", "ravdess-speech").folds.speakers}
    folds = speaker_folds(labels, speakers, seed=SEED, published=published)
    print(f"{len(clips)} clips of {len(set(speakers))} speakers\n")
    print(f"| | mode | {' | '.join(GROUPS)} | changed by −20 dB | worst ECE |\n{'|---' * (len(GROUPS) + 4)}|")
    for masking, masking_db in (("shipped", frames.MASKING_DB), ("no masking noise", NO_MASKING_DB)):
        with Pool(arguments.processes) as pool:
            work = partial(vectors, masking_db=masking_db)
            computed = pool.map(work, list(tasks(clips, folds)), chunksize=20)
        values = {name: np.stack([each[name] for each in computed]) for name in computed[0]}
        for copies, names in (("", tuple(features.VARIANTS)), (", no copies under conditions", SPEED_ALONE)):
            for line in table(values, names, labels, speakers, folds):
                print(f"| {masking}{copies} | {line} |", flush=True)


if __name__ == "__main__":
    main()
