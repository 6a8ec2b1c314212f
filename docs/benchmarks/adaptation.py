"""What normalization by batch or by speaker brings, and where it harms: print the table of docs/benchmarks.md.

    python docs/benchmarks/adaptation.py FOLDER [--cache features.npz] [--foreign FOLDER]

FOLDER holds Actor_NN/*.wav or *.flac of RAVDESS speech. The published groups of actors are held out in turn. Batches of
held-out clips are drawn at random: of all emotions, or of one; 5 to 100 clips; as recorded ("studio"), through a
low-pass of 4 kHz and with noise ("filtered"), or half of each. LogisticRegression alone. FOREIGN holds recordings of
another corpus as a folder per emotion: the models of all folds score it, 100 clips at a time. One core; about eight
minutes.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from ablation import recordings
from scipy.signal import butter, sosfilt
from scipy.special import softmax

from emotion import features
from emotion.audio import decode
from emotion.datasets.catalogue import find_entry
from emotion.evaluation.folds import splits
from emotion.features.spectrum import SAMPLE_RATE
from emotion.inference.adapting import Groups, Part, normalize_in_groups
from emotion.models.adaptation import measure, normalize_by_batch, typical_information
from emotion.models.bundle import Bundle, make_bundle
from emotion.models.classifier import Classifier, fit_temperature
from emotion.models.familiarity import Familiarity
from emotion.settings import INCLUDE
from emotion.training.rows import TrainingRows
from emotion.vocabulary import ADAPTATIONS, EMOTIONS, MODES, Adaptation, probability_columns

PROBABILITIES = probability_columns(EMOTIONS)

SEED = 0
DRAWS = 25
"""Batches of each kind, for each fold."""
NOISE_DB = -20


def filtered(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A clip as over a narrow and noisy line: low-pass at 4 kHz, white noise 20 dB below the clip's level."""
    limited = sosfilt(butter(8, 4000, fs=SAMPLE_RATE, output="sos"), samples)
    noise = random.standard_normal(len(samples)) * np.sqrt((limited**2).mean()) * 10 ** (NOISE_DB / 20)
    return (limited + noise).astype(np.float32)


def read(folder: Path, cache: Path | None) -> dict[str, np.ndarray]:
    """Features of each clip and its variants (1 + n_variants, n, n_features), of filtered clips, labels, speakers."""
    if cache and cache.exists():
        stored = dict(np.load(cache))
        if str(stored["recipe"]) == features.recipe_version():
            return stored
    random = np.random.default_rng(SEED)
    labels, speakers, vectors, lines = [], [], [], []
    for recording in recordings(folder):
        labels.append(recording.emotion)
        speakers.append(recording.speaker)
        vectors.append([features.extract(samples) for samples in recording.variants()])
        lines.append(features.extract(filtered(recording.samples, random)))
    table = {
        "vectors": np.array(vectors).transpose(1, 0, 2),
        "filtered": np.array(lines),
        "labels": np.array(labels),
        "speakers": np.array(speakers),
        "recipe": np.array(features.recipe_version()),
    }
    if cache:
        np.savez(cache, **table)
    return table


def fit(rows: TrainingRows, train: np.ndarray, others: list[np.ndarray]) -> Bundle:
    """A bundle of models that were fitted on these clips alone.

    The models that judge a group are calibrated by the ``others``: parts of ``train``, each held out in turn.
    """
    models = {mode: fit_rows(rows, protocol, train) for mode, protocol in MODES.items()}
    logits: dict[str, list[np.ndarray]] = {"plain": [], "batch": []}
    for left_out in others:
        inner = np.setdiff1d(train, left_out)
        values = rows.plain[0, left_out]
        logits["plain"].append(fit_rows(rows, MODES["plain"], inner).logits(values))
        batch = normalize_by_batch(values, measure(rows.plain[0, inner]))
        logits["batch"].append(fit_rows(rows, MODES["batch"], inner).logits(batch))
    labels = rows.labels[np.concatenate(others)]
    for mode, answers in logits.items():
        models[mode].temperature = fit_temperature(np.concatenate(answers), labels, EMOTIONS)
    parts = [softmax(answers / models["batch"].temperature, axis=1) for answers in logits["batch"]]
    held_out = pd.concat(
        [pd.DataFrame(part, columns=PROBABILITIES).assign(fold=number) for number, part in enumerate(parts)]
    ).assign(protocol=MODES["batch"])
    return make_bundle(
        models=models,
        background={},
        training=measure(rows.plain[0, train]),
        typical_information=typical_information(held_out),
        familiarity=Familiarity.fit(rows.plain[0, train], rows.speakers[train], columns=features.views()),
        feature_names=features.feature_names(),
        metadata={},
    )


def fit_rows(rows: TrainingRows, protocol: str, train: np.ndarray) -> Classifier:
    """As the training task fits a model on the training side of a fold."""
    variants = rows.variants(protocol, train)
    return Classifier.fit(
        "logistic_regression",
        np.concatenate([variants[number, train] for number in range(len(variants))]),
        np.tile(rows.labels[train], len(variants)),
        groups=np.tile(rows.speakers[train], len(variants)),
        views=list(features.views().values()),
        label_set=EMOTIONS,
        seed=SEED,
    )


def right(
    bundle: Bundle, values: np.ndarray, labels: np.ndarray, speakers: np.ndarray, adaptation: Adaptation
) -> float:
    """The accuracy on one batch."""
    folders = [""] * len(values)
    groups = Groups(bundle, [Part(folders, list(speakers), lambda: values)], adaptation)
    chosen = [groups.of_clip("", speaker) for speaker in speakers]
    modes = np.array([group.mode if group else "plain" for group in chosen])
    predicted = np.empty(len(values), dtype=object)
    for mode in MODES:
        rows = np.flatnonzero(modes == mode)
        if len(rows):
            probabilities = bundle[mode].predict_proba(normalize_in_groups(values, chosen, rows))
            predicted[rows] = np.array(EMOTIONS)[probabilities.argmax(axis=1)]
    return float((predicted == labels).mean())


def batches(table: dict[str, np.ndarray], test: np.ndarray, random: np.random.Generator):
    """Random batches of a fold's test side: (name, row numbers, features, speakers)."""
    labels, speakers = table["labels"], table["speakers"]
    conditions = {"studio": table["vectors"][0], "filtered": table["filtered"]}
    for condition, values in conditions.items():
        for size in (5, 20, 100):
            rows = random.choice(test, size, replace=False)
            yield f"{condition}, {size} clips, all emotions", rows, values[rows], [""] * size
        for size in (5, 16):
            emotion = random.choice([name for name in EMOTIONS if (labels[test] == name).sum() >= size])
            rows = random.choice(test[labels[test] == emotion], size, replace=False)
            yield f"{condition}, {size} clips, one emotion", rows, values[rows], [""] * size
        speaker = random.choice(np.unique(speakers[test]))
        rows = random.choice(test[speakers[test] == speaker], 20, replace=False)
        yield f"{condition}, 20 clips of one known speaker, all emotions", rows, values[rows], ["known"] * 20
        chosen = test[(speakers[test] == speaker) & (labels[test] == random.choice(EMOTIONS[1:]))]
        # one emotion of a speaker is 8 clips: each is taken as recorded, and some twice, to reach the least number
        rows = np.resize(random.permutation(chosen), 12)
        yield f"{condition}, 12 clips of one known speaker, one emotion", rows, values[rows], ["known"] * 12
    rows = random.choice(test, 100, replace=False)
    mixed = np.where((np.arange(100) % 2 == 0)[:, None], conditions["studio"][rows], conditions["filtered"][rows])
    yield "half studio, half filtered, 100 clips, all emotions", rows, mixed, [""] * 100


def foreign_batches(folder: Path, random: np.random.Generator):
    """All clips of another corpus, 100 at a time: (features, labels)."""
    paths = [path for path in sorted(folder.glob("*/*")) if path.parent.name in EMOTIONS]
    order = random.permutation(len(paths))[:600]
    for start in range(0, len(order) - 99, 100):
        chosen = [paths[number] for number in order[start : start + 100]]
        yield (
            np.array([features.extract(decode.load(path).samples) for path in chosen]),
            np.array([path.parent.name for path in chosen]),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--foreign", type=Path)
    arguments = parser.parse_args()
    table = read(arguments.folder, arguments.cache)
    frame = pd.DataFrame({"emotion": table["labels"], "speaker": table["speakers"]})
    published = {"": find_entry(INCLUDE / "datasets.yaml", "ravdess-speech").folds.speakers}
    folds = splits(frame, seed=SEED, published=published)[MODES["plain"]]
    foreign = list(foreign_batches(arguments.foreign, np.random.default_rng(SEED))) if arguments.foreign else []
    rows_of_all = TrainingRows(table["labels"], table["speakers"], table["vectors"])
    accuracies: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, (train, test) in enumerate(folds):
        bundle = fit(rows_of_all, train, [held_out for _, held_out in folds if held_out is not test])
        random = np.random.default_rng(number)
        for _ in range(DRAWS):
            for name, rows, values, speakers in batches(table, test, random):
                for adaptation in ADAPTATIONS:
                    accuracy = right(bundle, values, table["labels"][rows], np.array(speakers), adaptation)
                    accuracies[name][adaptation].append(accuracy)
        for values, labels in foreign:
            for adaptation in ADAPTATIONS:
                accuracy = right(bundle, values, labels, np.array([""] * len(labels)), adaptation)
                accuracies["another corpus, 100 clips, all emotions"][adaptation].append(accuracy)
    print(f"| batch | {' | '.join(ADAPTATIONS)} | auto minus the best |\n|---|" + "---|" * (len(ADAPTATIONS) + 1))
    for name, by_adaptation in accuracies.items():
        means = {adaptation: np.mean(values) for adaptation, values in by_adaptation.items()}
        behind = means["auto"] - max(value for adaptation, value in means.items() if adaptation != "auto")
        print(f"| {name} | {' | '.join(f'{means[each]:.3f}' for each in ADAPTATIONS)} | {behind:+.3f} |")


if __name__ == "__main__":
    main()
