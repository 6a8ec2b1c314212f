"""Does chance change the champion? Print the promotion decisions over ten seeds, from a folder of RAVDESS speech.

    python docs/benchmarks/promotion.py FOLDER [--cache FILE.npz] [--predictions FILE.npz] [--seeds 10] [--folds drawn]

FOLDER holds Actor_NN/*.wav or *.flac. Each seed is a weekly run on the same data: the four shipped models, scored on
unheard speakers, of which the one with the highest macro F1 is the challenger. Seed 0 is the champion. Two kinds of
runs are compared. With the published folds, the seed changes the trees and the rows on which the ridge penalty is
chosen. With drawn folds, it also changes which speakers are held out together. Really worse and really better
challengers follow. Probabilities are not calibrated, which changes no predicted emotion of a single family. One core;
two minutes a seed.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import NamedTuple

import ablation
import numpy as np
import pandas as pd
from sklearn.base import clone

from emotion import features
from emotion.datasets.catalogue import find_entry
from emotion.evaluation.folds import Fold, speaker_folds
from emotion.evaluation.scores import compute_scores
from emotion.evaluation.selection import PROTOCOL
from emotion.models import decisions, pipelines, promotion, registry
from emotion.models.promotion import Challenge
from emotion.models.rescoring import HELD_OUT, held_out_file
from emotion.settings import INCLUDE
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, FAMILIES, probability_columns

PROBABILITIES = probability_columns(EMOTIONS)

FAMILY = "ensemble"
RULES = {"margin": 0.0, "min_probability": 0.9, "max_emotion_drop": 0.0}
"""The defaults of the trigger form."""
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


def predictions(
    table: dict[str, np.ndarray], cache: Path | None, *, seeds: int, kinds: list[str]
) -> dict[str, np.ndarray]:
    """Held-out probabilities by name; what ``cache`` holds already is not computed again."""
    known = dict(np.load(cache)) if cache and cache.exists() else {}
    published = {"": find_entry(INCLUDE / "datasets.yaml", "ravdess-speech").folds.speakers}
    runs = [(kind, seed) for kind in kinds for seed in range(seeds)]
    folds = {
        (kind, seed): speaker_folds(
            table["labels"], table["speakers"], seed=seed, published=published if kind == "published" else None
        )
        for kind, seed in runs
    }
    for name, settings in CONTROLS.items():
        if name not in known and "published" in kinds:
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


class Version(NamedTuple):
    """The model that a run would register: its name and its held-out probabilities, (n_clips, 8)."""

    name: str
    probabilities: np.ndarray


def selected(table: dict[str, np.ndarray], known: dict[str, np.ndarray], run: str) -> Version:
    """The model of a run with the highest macro F1."""
    models = {model: known[f"{run} {model}"] for model in (*FAMILIES, "ensemble")}
    best = max(models, key=lambda model: compute_scores(table["labels"], models[model], EMOTIONS)["f1_macro"])
    return Version(f"seed {run.split()[1]}, {best}", models[best])


def decide(table: dict[str, np.ndarray], champion: Version, challenger: Version) -> Challenge:
    """The workflow's own decision, with the defaults of the form, from the champion's stored predictions."""
    store = Store("memory://promotion-benchmark")
    store.delete("models")
    clips = pd.DataFrame({"emotion": table["labels"], "speaker": table["speakers"]})
    clips["samples_sha256"] = [f"clip {number}" for number in range(len(clips))]
    held_out = pd.DataFrame(champion.probabilities, columns=PROBABILITIES)
    held_out = held_out.assign(protocol=PROTOCOL, row=range(len(clips)), emotion=clips["emotion"])
    files = {registry.bundle_name(FAMILY): b"", HELD_OUT: held_out_file(clips, {FAMILY: held_out})}
    dataset = {"name": "ravdess-speech", "notice": "", "fingerprint": "the same", "synthesized": False}
    facts = {
        "recipe": features.recipe_version(),
        "dataset": dataset,
        "selected": FAMILY,
        "scores": {FAMILY: {PROTOCOL: {"f1_macro": 0.0}}},
    }
    registry.register(store, "champion", files=files, card="", facts=facts)
    decisions.promote_by_hand(store, version="champion", family=FAMILY, reason="the first")
    return promotion.challenge(
        store,
        challenger=facts | {"version": "challenger", "family": FAMILY},
        challenger_probabilities=challenger.probabilities,
        challenger_model=lambda values: np.empty((0, len(EMOTIONS))),  # both have the same clips
        challenger_conditions=None,
        table=clips,
        values=np.zeros((len(clips), 1), dtype=np.float32),
        rules=RULES,
        seed=0,
    )


def by_the_margin(result: Challenge) -> bool:
    """Whether the rules before the bootstrap would have promoted: 0.005 ahead, and no emotion 0.1 behind."""
    ahead = result["difference"]["difference"] >= 0.005
    return ahead and all(row["change"] >= -0.1 for row in result["per_emotion"])


def row(table: dict[str, np.ndarray], champion: Version, challenger: Version) -> str:
    result = decide(table, champion, challenger)
    lead = result["difference"]
    low, high = lead["interval"]
    figures = [result[side]["scores"]["f1_macro"] for side in ("champion", "challenger")]
    cells = [champion.name, challenger.name, *(f"{figure:.3f}" for figure in figures), f"{lead['difference']:+.4f}"]
    cells += [f"{low:+.3f} to {high:+.3f}", f"{lead['probability']:.2f}"]
    cells += [", ".join(each["emotion"] for each in result["per_emotion"] if each["too_much"]) or "none"]
    return "| " + " | ".join([*cells, result["verdict"], "promote" if by_the_margin(result) else "keep"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, help="where features are kept")
    parser.add_argument("--predictions", type=Path, help="where held-out predictions are kept")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folds", nargs="*", default=["published", "drawn"], choices=["published", "drawn"])
    arguments = parser.parse_args()
    table = ablation.read(arguments.folder, arguments.cache)
    known = predictions(table, arguments.predictions, seeds=arguments.seeds, kinds=arguments.folds)
    columns = ("champion", "challenger", "F1", "F1", "difference", "95 % interval", "P(better)", "emotions lost")
    for kind in arguments.folds:
        runs = [selected(table, known, f"{kind} {seed}") for seed in range(arguments.seeds)]
        print(f"\n{kind} folds\n\n| {' | '.join(columns)} | verdict | by the margin alone |\n" + "|---" * 10 + "|")
        for challenger in runs[1:]:
            print(row(table, runs[CHAMPION_SEED], challenger))
        if kind == "published":
            for name in CONTROLS:
                print(row(table, runs[CHAMPION_SEED], Version(name, known[name])))
                print(row(table, Version(name, known[name]), runs[CHAMPION_SEED]))
        pairs = [decide(table, first, second) for first, second in itertools.permutations(runs, 2)]
        promoted, before = sum(each["verdict"] == "promote" for each in pairs), sum(map(by_the_margin, pairs))
        print(f"\nOf {len(pairs)} ordered pairs of seeds, {promoted} promote; by the margin alone, {before}.")


if __name__ == "__main__":
    main()
