"""Several datasets in one model: print the matrix of a run, and what weights and normalization bring.

    python docs/benchmarks/corpora.py HOME RUN [--ablation]
    python docs/benchmarks/corpora.py --memory logistic_regression [--clips 15000]

HOME is an artifact store, RUN the name of a training run in it on two datasets or more. The matrix is read from the
run's comparison.json: unweighted average recall (UAR) of the ensemble, on unheard speakers of each dataset and on
each dataset held out whole. ``--ablation`` fits LogisticRegression anew, with all clips and with a sixth of the clips
of one dataset: with clips that all weigh the same, with the weights as shipped, and with datasets that weigh the
same; by batch, with statistics of each dataset against statistics of all clips. Ten minutes on two cores.
``--memory`` trains one family on five corpora of drawn numbers in place of features, with two folds of each protocol,
and prints the time and the highest memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd

from emotion import features
from emotion.evaluation.folds import Fold, datasets_of, splits
from emotion.evaluation.scores import compute_scores
from emotion.models.adaptation import measure, normalize, normalize_by_batch
from emotion.models.classifier import Classifier
from emotion.runs.training_artifacts import TrainingArtifacts
from emotion.store import Store
from emotion.training import fitting
from emotion.training import rows as training_rows
from emotion.training.rows import TrainingRows, dataset_weights
from emotion.vocabulary import DATASET_MODES, EMOTIONS, FAMILIES, MODES, label_set

SEED = 0
CORPUS_SHARES = (0.5, 0.19, 0.15, 0.1, 0.06)
SPEAKERS = 20
"""Of each corpus of drawn numbers."""
SHARE = 6
"""One of so many clips of a dataset is kept where it is made small."""
EXPONENTS = {"clips weigh the same": 0.0, "as shipped": training_rows.WEIGHT_EXPONENT, "datasets weigh the same": 1.0}


def matrix(comparison: dict) -> Iterator[str]:
    """The lines of the table train × test."""
    figures = comparison["models"]["ensemble"]
    names = [facts["name"] for facts in comparison["dataset"]["datasets"]]
    yield f"| trained on | mode | {' | '.join(names)} |"
    yield "|---" * (len(names) + 2) + "|"
    for title, protocols in (("all, unheard speakers", MODES), ("all but the tested one", DATASET_MODES)):
        for mode, protocol in protocols.items():
            tested = figures[protocol].get("datasets", {})
            cells = [f"{tested[name]['uar']:.3f}" if name in tested else "–" for name in names]
            yield f"| {title} | {mode} | {' | '.join(cells)} |"


def ablation(table: pd.DataFrame, values: np.ndarray, augmented: list[np.ndarray], published: dict) -> Iterator[str]:
    """The lines of the table of weights and normalization."""
    datasets = datasets_of(table)
    names = list(dict.fromkeys(datasets))
    yield f"| clips | setting | mode | {' | '.join(names)} | mean |"
    yield "|---" * (len(names) + 4) + "|"
    random = np.random.default_rng(SEED)
    kept = {"all": np.ones(len(table), dtype=bool)}
    for name in names:
        small = datasets == name
        kept[f"a sixth of {name}"] = ~small | (random.permutation(len(table)) % SHARE == 0)
    folds = splits(table, seed=SEED, published=published)
    rows = TrainingRows.from_table(table, values, augmented)
    for title, is_kept in kept.items():
        for setting, exponent in EXPONENTS.items():
            training_rows.WEIGHT_EXPONENT = exponent
            yield _line(rows, folds[MODES["plain"]], is_kept, names, f"{title} | {setting} | plain", "plain")
    training_rows.WEIGHT_EXPONENT = EXPONENTS["as shipped"]
    yield _line(rows, folds[MODES["batch"]], kept["all"], names, "all | statistics of each dataset | batch", "batch")
    yield _line(rows, folds[MODES["batch"]], kept["all"], names, "all | statistics of all clips | batch", "pooled")


def _line(rows: TrainingRows, folds: list[Fold], is_kept: np.ndarray, names: list[str], title: str, mode: str) -> str:
    emotions = label_set(rows.labels)
    probabilities = np.zeros((len(rows.labels), len(emotions)))
    for train, test in folds:
        train = train[is_kept[train]]
        if mode == "pooled":
            training = measure(rows.plain[0][train])
            variants = np.stack([normalize(variant, measure(variant[train])) for variant in rows.plain])
            for name in names:
                of_dataset = test[rows.datasets[test] == name]
                if len(of_dataset):
                    variants[0, of_dataset] = normalize_by_batch(rows.plain[0][of_dataset], training)
        else:
            variants = rows.variants(MODES[mode], np.setdiff1d(rows.clips, test))
        model = _fit(rows, variants, train, emotions)
        probabilities[test] = model.predict_proba(variants[0, test])
    cells = []
    for name in names:
        tested = rows.datasets == name
        cells.append(compute_scores(rows.labels[tested], probabilities[tested], emotions)["uar"])
    return f"| {title} | {' | '.join(f'{cell:.3f}' for cell in (*cells, np.mean(cells)))} |"


def _fit(rows: TrainingRows, variants: np.ndarray, train: np.ndarray, emotions: tuple[str, ...]) -> Classifier:
    weights = dataset_weights(rows.datasets[train])
    return Classifier.fit(
        "logistic_regression",
        np.concatenate([variant[train] for variant in variants]),
        np.tile(rows.labels[train], len(variants)),
        groups=np.tile(rows.speakers[train], len(variants)),
        views=list(features.views().values()),
        weights=None if weights is None else np.tile(weights, len(variants)),
        label_set=emotions,
        seed=SEED,
    )


def memory(family: str, clips: int) -> str:
    """Time and highest memory of training one family on five corpora of so many clips together."""
    random = np.random.default_rng(SEED)
    sizes = [round(clips * share) for share in CORPUS_SHARES]
    datasets = np.repeat([f"corpus-{number}" for number in range(len(sizes))], sizes)
    speakers = np.concatenate(
        [[f"{number}:{clip % SPEAKERS}" for clip in range(size)] for number, size in enumerate(sizes)]
    )
    table = pd.DataFrame({"dataset": datasets, "speaker": speakers, "emotion": np.resize(EMOTIONS, len(datasets))})
    table["samples_sha256"] = [f"clip {number}" for number in range(len(table))]
    shape = len(features.VARIANTS), len(table), len(features.feature_names())
    augmented = random.standard_normal(shape, dtype=np.float32)
    folds = {protocol: some[:2] for protocol, some in splits(table, seed=SEED, published=None).items()}
    start = time.perf_counter()
    fitting.train(
        family,
        table,
        augmented[0].copy(),
        augmented=augmented,
        views=list(features.views().values()),
        folds=folds,
        seed=SEED,
    )
    seconds, fits = time.perf_counter() - start, sum(map(len, folds.values())) + len(MODES)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{family}: {len(table):,} clips, {fits} fits, {seconds / fits:.0f} s each, {peak:.1f} GiB at most"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", nargs="?")
    parser.add_argument("run", nargs="?")
    parser.add_argument("--memory", choices=FAMILIES, help="train this family on drawn numbers instead")
    parser.add_argument("--clips", type=int, default=15_000)
    parser.add_argument("--ablation", action="store_true", help="fit again with other weights and normalization")
    arguments = parser.parse_args()
    if arguments.memory:
        print(memory(arguments.memory, arguments.clips))
        return
    if not arguments.home or not arguments.run:
        parser.error("expected an artifact store and the name of a run, or --memory")
    store = Store(arguments.home)
    artifacts = TrainingArtifacts(store, f"runs/{arguments.run}")
    comparison = store.read_json(f"runs/{arguments.run}/comparison.json")
    for facts in comparison["dataset"]["datasets"]:
        print(f"{facts['name']}: {facts['used']} clips of {facts['speakers']} speakers")
    print("\n".join(["", *matrix(comparison)]), flush=True)
    if arguments.ablation:
        table, values = artifacts.clips()
        published = artifacts.dataset_facts()["folds"]
        print()
        for line in ablation(table, values, artifacts.augmented(), published):
            print(line, flush=True)


if __name__ == "__main__":
    main()
