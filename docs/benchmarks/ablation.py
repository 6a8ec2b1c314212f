"""What each ingredient of the models brings: print the ablation table from a folder of RAVDESS speech.

    python docs/benchmarks/ablation.py FOLDER [--cache features.npz] [--rows shipped ...] [--inside]

FOLDER holds Actor_NN/*.wav or *.flac. Nothing is fitted on what it is judged on: folds are the workflow's own (five
random ones; six that hold out the published groups of actors), of two byte-identical clips one is left out, and
augmented copies are made of training clips alone. With --inside, all is judged on folds drawn within those folds'
training sides: what choices may be made by. One core; two or three minutes a row.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emotion import features
from emotion.audio import decode
from emotion.datasets.catalogue import find_entry
from emotion.evaluation.folds import Fold, random_folds, speaker_folds
from emotion.evaluation.scores import compute_scores
from emotion.models import pipelines
from emotion.models.adaptation import normalize_by_speaker
from emotion.models.pipelines import SEARCH_FOLDS
from emotion.settings import INCLUDE
from emotion.vocabulary import EMOTIONS, FAMILIES

SEED = 0
ALL = len(features.VARIANTS)
SHORT = dict(zip(FAMILIES, ("LR", "RF", "GB"), strict=True))


class Recording(NamedTuple):
    """A clip of RAVDESS: where it lies, its samples and their checksum, its emotion and its speaker."""

    path: Path
    samples: np.ndarray
    sha256: str
    emotion: str
    speaker: str

    def variants(self) -> list[np.ndarray]:
        """Its samples, and those of its training copies."""
        return [self.samples, *(change(self.samples, self.sha256) for change in features.VARIANTS.values())]


def recordings(folder: Path) -> Iterator[Recording]:
    """The clips of ``folder/Actor_NN/*.wav`` or ``*.flac``, in the order of their paths; the same samples once."""
    seen = set()
    for path in sorted(path for suffix in ("wav", "flac") for path in folder.glob(f"Actor_*/*.{suffix}")):
        clip, fields = decode.load(path), path.stem.split("-")
        if clip.samples_sha256 not in seen:
            seen.add(clip.samples_sha256)
            yield Recording(path, clip.samples, clip.samples_sha256, EMOTIONS[int(fields[2]) - 1], fields[6])


def read(folder: Path, cache: Path | None) -> dict[str, np.ndarray]:
    """Features of each clip and of its variants, shape (1 + n_variants, n, n_features), labels and speakers."""
    if cache and cache.exists():
        stored = dict(np.load(cache))
        if str(stored["recipe"]) == features.recipe_version():
            return stored
    start = time.perf_counter()
    labels, speakers, vectors = [], [], []
    for recording in recordings(folder):
        labels.append(recording.emotion)
        speakers.append(recording.speaker)
        vectors.append([features.extract(samples) for samples in recording.variants()])
    print(f"{len(labels)} clips featurized, {len(vectors[0])} times each, in {time.perf_counter() - start:.0f} s")
    table = {
        "vectors": np.array(vectors).transpose(1, 0, 2),
        "labels": np.array(labels),
        "speakers": np.array(speakers),
        "recipe": np.array(features.recipe_version()),
    }
    if cache:
        np.savez(cache, **table)
    return table


class Bench:
    """The protocols, each as (vectors of all variants given the training side, folds, groups for cross-fitting)."""

    def __init__(self, table: dict[str, np.ndarray], *, inside: bool):
        self.labels, speakers = table["labels"], table["speakers"]
        self.codes = np.array([EMOTIONS.index(label) for label in self.labels])
        plain = table["vectors"]
        adapted = np.stack([normalize_by_speaker(part, speakers) for part in plain])

        def enrolled(train: np.ndarray) -> np.ndarray:
            known = np.isin(np.arange(len(speakers)), train)
            return np.stack([normalize_by_speaker(part, speakers, known=known) for part in plain])

        entry = find_entry(INCLUDE / "datasets.yaml", "ravdess-speech")
        by_speaker = speaker_folds(self.labels, speakers, seed=SEED, published={"": entry.folds.speakers})
        random = random_folds(self.labels, seed=SEED)
        clips = np.arange(len(self.labels))
        self.protocols = {
            "random": (lambda _: plain, random, clips),
            "random, adapted": (enrolled, random, clips),
            "speaker-independent": (lambda _: plain, by_speaker, speakers),
            "speaker-independent, adapted": (lambda _: adapted, by_speaker, speakers),
        }
        if inside:
            self.protocols = {
                name: (vectors, list(_inside(folds, groups)), groups)
                for name, (vectors, folds, groups) in self.protocols.items()
            }

    def row(self, name: str, fit, *, copies: int, columns: np.ndarray | None = None) -> None:
        """Print accuracy / macro F1 of every protocol; ``fit(rows, codes, groups)`` gives models by name."""
        cells: dict[str, list[str]] = {}
        for vectors, folds, groups in self.protocols.values():
            found: dict[str, list[np.ndarray]] = {}
            for train, test in folds:
                used = vectors(train)[: 1 + copies]
                used = used if columns is None else used[:, :, columns]
                rows = np.concatenate([part[train] for part in used])
                models = fit(rows, np.tile(self.codes[train], 1 + copies), np.tile(groups[train], 1 + copies))
                for label, model in models.items():
                    found.setdefault(label, []).append(model(used[0][test]))
            labels = np.concatenate([self.labels[test] for _, test in folds])
            probabilities = {label: np.concatenate(parts) for label, parts in found.items()}
            if len(found) > 1:
                probabilities["mean"] = np.mean(list(probabilities.values()), axis=0)
            for label, each in probabilities.items():
                figures = compute_scores(labels, each, EMOTIONS)
                cells.setdefault(label, []).append(f"{figures['accuracy']:.3f} / {figures['f1_macro']:.3f}")
        for label, figures in cells.items():
            print(f"| {name} | {label} | {' | '.join(figures)} |", flush=True)


def _inside(folds: list[Fold], groups: np.ndarray) -> Iterator[Fold]:
    for train, _ in folds:
        for known, held_out in GroupKFold(SEARCH_FOLDS).split(train, groups=groups[train]):
            yield train[known], train[held_out]


def families(*, views: list[np.ndarray] | None, crossed: bool | None = None, search: bool = False):
    """Fit the three families on one projection, which is what each of them would fit for itself; ``crossed``: whether
    on cross-fitted scores (None: as shipped)."""

    def fit(rows: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> dict:
        shared = pipelines.build(FAMILIES[0], seed=SEED, views=views)[:-1].set_params(projection__cross_fitted=True)
        kinds = {True: shared.fit_transform(rows, codes, projection__groups=groups), False: shared.transform(rows)}
        models = {}
        for family in FAMILIES:
            scores = kinds[pipelines.hyperparameters()[family]["cross_fitted"] if crossed is None else crossed]
            classifier = pipelines.build(family, seed=SEED)[-1]
            if search:
                pipeline = pipelines.build(family, seed=SEED, views=views)
                classifier.set_params(**pipelines.searched(pipeline, family, rows, codes, groups=groups))
            classifier.fit(scores, codes)
            models[SHORT[family]] = lambda new, fitted=classifier: fitted.predict_proba(shared.transform(new))
        return models

    return fit


def linear(rows: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> dict:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=300)).fit(rows, codes)
    return {"LR": model.predict_proba}


def means_only() -> np.ndarray:
    """Columns of the mean MFCC, chroma and log-mel: what most projects use."""
    return np.flatnonzero([re.fullmatch(r"(mfcc|chroma|log_mel)_\d+_mean", n) for n in features.feature_names()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--rows", nargs="*", help="words of the rows wanted")
    parser.add_argument("--inside", action="store_true", help="judge within the training sides")
    arguments = parser.parse_args()
    bench = Bench(read(arguments.folder, arguments.cache), inside=arguments.inside)
    views = features.views()
    shipped = list(views.values())
    whole = set(views["all"])
    rows = {
        "means": ("mean MFCC, chroma, log-mel alone; no projection", linear, {"copies": 0, "columns": means_only()}),
        "features": ("all features; no projection", linear, {"copies": 0}),
        "augmented": ("+ augmented training rows; no projection", linear, {"copies": ALL}),
        "one-view": ("+ scores of one view", families(views=None), {"copies": ALL}),
        "shipped": ("+ seven views (as shipped)", families(views=shipped), {"copies": ALL}),
        "searched": (
            "shipped, settings searched in each fold",
            families(views=shipped, search=True),
            {"copies": ALL},
        ),
        "copies": ("shipped, without augmentation", families(views=shipped), {"copies": 0}),
        "crossed": ("shipped, all on cross-fitted scores", families(views=shipped, crossed=True), {"copies": ALL}),
        "uncrossed": (
            "shipped, none on cross-fitted scores",
            families(views=shipped, crossed=False),
            {"copies": ALL},
        ),
    } | {
        f"less-{view}": (
            f"one view, without {view}",
            families(views=None),
            {"copies": ALL, "columns": np.array(sorted(whole - set(views[view])))},
        )
        for view in ("cepstrum", "bands", "shape", "prosody", "course")
    }
    print(f"| ingredients | model | {' | '.join(bench.protocols)} |\n|---|---|" + "---|" * len(bench.protocols))
    for key in arguments.rows or rows:
        name, fit, how = rows[key]
        bench.row(name, fit, **how)


if __name__ == "__main__":
    main()
