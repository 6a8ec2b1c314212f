"""Does chance change the champion? Print the promotion decisions over ten seeds, from a folder of RAVDESS speech.

    python docs/benchmarks/promotion.py FOLDER [--cache features.npz] [--predictions held_out.npz] [--seeds 10]

FOLDER holds Actor_NN/*.wav or *.flac. Each seed is a weekly run on the same data: the four shipped models, scored on
unheard speakers, of which the one with the highest macro F1 is the challenger. Seed 0 is the champion. Two kinds of
runs are compared. With the published folds, the seed changes the trees and the rows on which the ridge penalty is
chosen. With drawn folds, it also changes which speakers are held out together. Really worse and really better
challengers follow. Probabilities are not calibrated, which changes no predicted emotion of a single family. One core;
two minutes a seed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ablation
import numpy as np
from sklearn.base import clone

from emotion import features
from emotion.datasets.catalogue import find_entry
from emotion.evaluation.folds import Fold, speaker_folds
from emotion.models import pipelines
from emotion.settings import INCLUDE
from emotion.vocabulary import FAMILIES

CHAMPION_SEED = 0
CONTROLS = {
    "mean MFCC, chroma, log-mel alone": {"copies": 0, "columns": ablation.means_only()},
    "all features, without projection": {"copies": 0, "columns": slice(None)},
}
"""Logistic regressions that are worse than the shipped models: by much, and by less."""


def shipped(table: dict[str, np.ndarray], folds: list[Fold], *, seed: int) -> dict[str, np.ndarray]:
    """Held-out probabilities of the three families and their mean, each (n_clips, 8)."""
    vectors, codes, speakers = table["vectors"], _codes(table), table["speakers"]
    held_out = {family: np.zeros((len(codes), 8)) for family in FAMILIES}
    variants = len(vectors)
    for train, test in folds:
        rows = np.concatenate([part[train] for part in vectors])
        labels, groups = np.tile(codes[train], variants), np.tile(speakers[train], variants)
        projection = clone(pipelines.build(FAMILIES[0], seed=seed, views=list(features.views().values()))[:-1])
        projection.set_params(projection__cross_fitted=True)
        crossed = projection.fit_transform(rows, labels, projection__groups=groups)
        scores = {True: crossed, False: projection.transform(rows)}
        for family in FAMILIES:
            classifier = pipelines.build(family, seed=seed)[-1]
            classifier.fit(scores[pipelines.hyperparameters()[family]["cross_fitted"]], labels)
            held_out[family][test] = classifier.predict_proba(projection.transform(vectors[0, test]))
    return held_out | {"ensemble": np.mean(list(held_out.values()), axis=0)}


def control(table: dict[str, np.ndarray], folds: list[Fold], *, copies: int, columns) -> np.ndarray:
    """Held-out probabilities (n_clips, 8) of a logistic regression without projection."""
    vectors, codes = table["vectors"][: 1 + copies][:, :, columns], _codes(table)
    held_out = np.zeros((len(codes), 8))
    for train, test in folds:
        model = ablation.linear(vectors[0, train], codes[train], table["speakers"][train])["LR"]
        held_out[test] = model(vectors[0, test])
    return held_out


def _codes(table: dict[str, np.ndarray]) -> np.ndarray:
    return np.array([ablation.EMOTIONS.index(label) for label in table["labels"]])


def predictions(table: dict[str, np.ndarray], cache: Path | None, *, seeds: int) -> dict[str, np.ndarray]:
    """Held-out probabilities by name; what ``cache`` holds already is not computed again."""
    known = dict(np.load(cache)) if cache and cache.exists() else {}
    published = find_entry(INCLUDE / "datasets.yaml", "ravdess-speech").folds.speakers
    runs = [(kind, seed) for kind in ("published", "drawn") for seed in range(seeds)]
    folds = {
        (kind, seed): speaker_folds(
            table["labels"], table["speakers"], seed=seed, published=published if kind == "published" else None
        )
        for kind, seed in runs
    }
    for name, settings in CONTROLS.items():
        if name not in known:
            known[name] = control(table, folds["published", CHAMPION_SEED], **settings)
    for kind, seed in runs:
        if f"{kind} {seed} ensemble" not in known:
            start = time.perf_counter()
            by_model = shipped(table, folds[kind, seed], seed=seed)
            known |= {f"{kind} {seed} {model}": probabilities for model, probabilities in by_model.items()}
            print(f"{kind} folds, seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
            if cache:
                np.savez(cache, **known)
    return known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, help="where features are kept")
    parser.add_argument("--predictions", type=Path, help="where held-out predictions are kept")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    table = ablation.read(arguments.folder, arguments.cache)
    predictions(table, arguments.predictions, seeds=arguments.seeds)


if __name__ == "__main__":
    main()
