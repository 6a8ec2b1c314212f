"""What labels from the review are worth: print how a model gets better on new audio, and what its old corpus loses.

    python docs/benchmarks/review.py RAVDESS NEMO [--repeats 4]

RAVDESS and NEMO are folders of recordings, named as they are published. A logistic regression is trained on RAVDESS
actors 1 to 12. The new audio is nEMO, and RAVDESS actors 13 to 18 over a simulated telephone: another language, room,
microphone and line. Clips of it are labelled as their corpora label them, and the model is trained again with them, as
the dataset ``reviewed`` is. Four tables:

1. unweighted average recall (UAR) on the clips of the new audio that are not labelled, for clips that come from the
   queue of the review, and for as many that are drawn by chance. Each stage's queue is made of the answers of the model
   before it. By batch, nEMO and the telephone are a batch each.
2. UAR on RAVDESS actors 1 to 12, in six folds that hold out two actors each, with the labelled clips on the training
   side: what the old corpus loses. No speaker is on both sides.
3. the weight of the labelled clips: UAR on labelled clips of held-out speakers, inside the training side, and on the
   clips that are not labelled.
4. two listeners who err in a quarter of the clips: labels on which they disagree left out, or kept as two halves.

Figures are means over the repeats, with other clips drawn in each. An hour on two cores with six repeats.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from emotion import features
from emotion.audio import decode
from emotion.audio.conditions import telephone
from emotion.datasets.catalogue import find_entry
from emotion.datasets.rules import RAVDESS, read_name
from emotion.evaluation.scores import compute_scores
from emotion.features.augmentation import VARIANTS
from emotion.models.adaptation import measure, normalize_by_batch, normalize_by_speaker
from emotion.models.classifier import Classifier
from emotion.review import drawing
from emotion.settings import INCLUDE
from emotion.training.rows import dataset_weights
from emotion.vocabulary import EMOTIONS, probability_columns

STAGES = (50, 100, 200, 400)
HEARD_ACTORS = range(1, 13)
CALLERS = range(13, 19)
OLD_FOLDS = 6
WEIGHTS = (0.5, 1.0, 2.0, 4.0)
"""Times the weight as shipped, where the labelled clips weigh as much as their square root does."""
ERRORS = 0.25
"""The share of clips in which a simulated listener errs."""
FAMILY = "logistic_regression"
MODES = ("plain", "batch")
Drawing = Callable[["Simulation", np.ndarray, np.ndarray, int, int], np.ndarray]
NAMES = np.array(EMOTIONS)


@dataclass(frozen=True)
class Clip:
    """A recording, its emotion, its speaker and the part of the simulation that it belongs to."""

    path: Path
    emotion: str
    speaker: str
    part: str


@dataclass(frozen=True, eq=False)
class Corpus:
    """All clips: ``values`` has the shape (1 + n_variants, n_clips, n_features)."""

    values: np.ndarray
    emotions: np.ndarray
    speakers: np.ndarray
    parts: np.ndarray

    @property
    def old(self) -> np.ndarray:
        """Row numbers of what the first model is trained on."""
        return np.flatnonzero(self.parts == "old")

    @property
    def new(self) -> np.ndarray:
        """Row numbers of the new audio."""
        return np.flatnonzero(self.parts != "old")


def clips_of(ravdess: Path, nemo: Path) -> Iterator[Clip]:
    """The clips of the simulation."""
    entry = find_entry(INCLUDE / "datasets.yaml", "nemo")
    for path in sorted(ravdess.rglob("*.*")):
        labels = read_name(RAVDESS, path.stem)
        if isinstance(labels, dict):
            actor = int(labels["speaker"])
            part = "old" if actor in HEARD_ACTORS else "telephone" if actor in CALLERS else ""
            if part:
                yield Clip(path, labels["emotion"], f"ravdess:{actor:02d}", part)
    for path in sorted(nemo.rglob("*.*")):
        labels = read_name(entry.rule, path.stem)
        if isinstance(labels, dict):
            yield Clip(path, entry.labels[labels["emotion"]], f"nemo:{labels['speaker']}", "nemo")


def vectors(clip: Clip) -> np.ndarray:
    """Features of a clip and of its copies, shape (1 + n_variants, n_features)."""
    samples = decode.load(io.BytesIO(clip.path.read_bytes())).samples
    if clip.part == "telephone":
        samples = telephone(samples)
    copies = [change(samples, clip.path.name) for change in VARIANTS.values()]
    return np.stack([features.extract(copy) for copy in (samples, *copies)])


def read_corpus(ravdess: Path, nemo: Path) -> Corpus:
    """All clips with their features; computed on all cores."""
    clips = list(clips_of(ravdess, nemo))
    with ProcessPoolExecutor() as pool:
        values = np.stack(list(pool.map(vectors, clips, chunksize=20)), axis=1)
    columns = (np.array([getattr(clip, name) for clip in clips]) for name in ("emotion", "speaker", "part"))
    return Corpus(values, *columns)


class Simulation:
    """Fits and tests models on rows of a corpus, in one mode."""

    def __init__(self, corpus: Corpus, mode: str):
        self.corpus = corpus
        self.mode = mode

    def fit(self, rows: np.ndarray, *, factor: float = 1.0, shares: np.ndarray | None = None, emotions=None):
        """A model of old and labelled clips. ``factor``: times the weight of the labelled ones; ``shares``: of each
        row's weight; ``emotions``: in place of the true ones."""
        corpus = self.corpus
        reviewed = np.where(corpus.parts[rows] == "old", "old", "reviewed")
        variants = corpus.values[:, rows]
        if self.mode == "batch":
            variants = np.stack([normalize_by_speaker(variant, reviewed) for variant in variants])
        weights = dataset_weights(reviewed)
        weights = np.ones(len(rows)) if weights is None else weights
        weights = weights * np.where(reviewed == "reviewed", factor, 1) * (1 if shares is None else shares)
        return Classifier.fit(
            FAMILY,
            variants.reshape(-1, variants.shape[2]),
            np.tile(corpus.emotions[rows] if emotions is None else emotions, len(variants)),
            groups=np.tile(corpus.speakers[rows], len(variants)),
            views=list(features.views().values()),
            weights=np.tile(weights, len(variants)),
            label_set=EMOTIONS,
            seed=0,
        )

    def probabilities(self, model: Classifier, rows: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
        """Shape (n_rows, 8)."""
        values = self.corpus.values[0, rows]
        if self.mode == "batch":
            training = measure(self.corpus.values[0, trained_on])
            for part in np.unique(self.corpus.parts[rows]):
                batch = self.corpus.parts[rows] == part
                values[batch] = normalize_by_batch(values[batch], training)
        return model.predict_proba(values)

    def figures(self, model: Classifier, rows: np.ndarray, trained_on: np.ndarray) -> list[float]:
        """UAR on nEMO, on the telephone and on both, of some rows."""
        answers = self.probabilities(model, rows, trained_on)
        parts = self.corpus.parts[rows]
        chosen = (parts == "nemo", parts == "telephone", np.full(len(rows), True))
        return [uar(self.corpus.emotions[rows][some], answers[some]) for some in chosen]

    def rest(self, model: Classifier, labelled: np.ndarray) -> list[float]:
        """UAR on the new audio that is not labelled."""
        trained_on = np.concatenate([self.corpus.old, labelled])
        return self.figures(model, np.setdiff1d(self.corpus.new, labelled), trained_on)

    def old_uar(self, labelled: np.ndarray) -> float:
        """UAR on the old corpus, in folds that hold out whole speakers, with labelled clips on the training side."""
        old = self.corpus.old
        fold = np.unique(self.corpus.speakers[old], return_inverse=True)[1] % OLD_FOLDS
        answers = np.zeros((len(old), len(EMOTIONS)))
        for number in range(OLD_FOLDS):
            rows = np.concatenate([old[fold != number], labelled])
            answers[fold == number] = self.probabilities(self.fit(rows), old[fold == number], rows)
        return uar(self.corpus.emotions[old], answers)

    def inner_uar(self, labelled: np.ndarray, factor: float) -> float:
        """UAR on labelled clips, in folds that hold out their speakers: what can be known inside the training side."""
        answers = np.zeros((len(labelled), len(EMOTIONS)))
        for speaker in np.unique(self.corpus.speakers[labelled]):
            held_out = self.corpus.speakers[labelled] == speaker
            rows = np.concatenate([self.corpus.old, labelled[~held_out]])
            model = self.fit(rows, factor=factor)
            answers[held_out] = self.probabilities(model, labelled[held_out], rows)
        return uar(self.corpus.emotions[labelled], answers)


def uar(emotions: np.ndarray, probabilities: np.ndarray) -> float:
    """Unweighted average recall."""
    return compute_scores(emotions, probabilities, EMOTIONS)["uar"]


NOT_IN_THE_SIMULATION = {
    "error": "",
    "message": "",
    "channel": "",
    "windows": 0,
    "duration": 3.0,
    "mode": "plain",
    "heard_in_training": "no",
    "unfamiliar": False,
    "needs_listener": False,
}
"""Columns of the table of predictions that are the same for all clips here."""


def from_queue(simulation: Simulation, rows: np.ndarray, answers: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows that the queue of the review draws, by the model's answers for them."""
    table = pd.DataFrame(answers, columns=probability_columns(EMOTIONS))
    table["emotion"], table["confidence"] = NAMES[answers.argmax(axis=1)], answers.max(axis=1)
    table["path"] = table["sha256"] = [str(row) for row in rows]
    table["speaker"] = simulation.corpus.speakers[rows]
    table = table.assign(**NOT_IN_THE_SIMULATION)
    items = drawing.draw(table, pd.DataFrame(), size=count, emotions=EMOTIONS, drift="ok", seed=seed)
    return np.array([int(item["path"]) for item in items])


def by_chance(simulation: Simulation, rows: np.ndarray, answers: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows drawn by chance."""
    return np.random.default_rng(seed).choice(rows, count, replace=False)


STRATEGIES: dict[str, Drawing] = {"queue": from_queue, "by chance": by_chance}


def stages(
    simulation: Simulation, first: Classifier, draw: Drawing, seed: int
) -> Iterator[tuple[Classifier, np.ndarray]]:
    """A model and the rows that were labelled for it, stage by stage."""
    corpus, model = simulation.corpus, first
    labelled = np.empty(0, dtype=int)
    for count in STAGES:
        candidates = np.setdiff1d(corpus.new, labelled)
        answers = simulation.probabilities(model, candidates, np.concatenate([corpus.old, labelled]))
        labelled = np.concatenate([labelled, draw(simulation, candidates, answers, count - len(labelled), seed)])
        model = simulation.fit(np.concatenate([corpus.old, labelled]))
        yield model, labelled


def mean_and_error(figures: list) -> tuple[np.ndarray, np.ndarray]:
    """The mean over repeats, and its standard error."""
    return np.mean(figures, axis=0), np.std(figures, axis=0, ddof=1) / np.sqrt(len(figures))


def learning(simulation: Simulation, repeats: int) -> Iterator[str]:
    """The lines of tables 1 and 2, for one mode."""
    first = simulation.fit(simulation.corpus.old)
    none = np.empty(0, dtype=int)
    cells = [f"{figure:.3f}" for figure in (*simulation.rest(first, none), simulation.old_uar(none))]
    yield f"| {simulation.mode} | – | 0 | {' | '.join(cells)} |"
    for name, draw in STRATEGIES.items():
        figures: dict[int, list] = {count: [] for count in STAGES}
        for seed in range(repeats):
            for model, labelled in stages(simulation, first, draw, seed):
                old = [simulation.old_uar(labelled)] if name == "queue" else [np.nan]
                figures[len(labelled)].append(simulation.rest(model, labelled) + old)
        for count, rows in figures.items():
            means, errors = mean_and_error(rows)
            cells = [
                "" if np.isnan(mean) else f"{mean:.3f} ± {error:.3f}" for mean, error in zip(means, errors, strict=True)
            ]
            yield f"| {simulation.mode} | {name} | {count} | {' | '.join(cells)} |"


def weighting(simulation: Simulation, repeats: int, count: int) -> Iterator[str]:
    """The lines of table 3, for one mode."""
    corpus = simulation.corpus
    for factor in WEIGHTS:
        figures = []
        for seed in range(repeats):
            labelled = np.random.default_rng(seed).choice(corpus.new, count, replace=False)
            model = simulation.fit(np.concatenate([corpus.old, labelled]), factor=factor)
            figures.append([simulation.inner_uar(labelled, factor), simulation.rest(model, labelled)[2]])
        means, errors = mean_and_error(figures)
        cells = [f"{mean:.3f} ± {error:.3f}" for mean, error in zip(means, errors, strict=True)]
        yield f"| {simulation.mode} | {count} | {factor} | {' | '.join(cells)} |"


def listeners(simulation: Simulation, repeats: int, count: int) -> Iterator[str]:
    """The lines of table 4, for one mode."""
    corpus = simulation.corpus
    figures: dict[str, list] = {"left out": [], "two halves": []}
    for seed in range(repeats):
        random = np.random.default_rng(seed)
        labelled = random.choice(corpus.new, count, replace=False)
        first, second = (_heard(corpus.emotions[labelled], random) for _ in range(2))
        agreed = first == second
        old, emotions = corpus.old, corpus.emotions[corpus.old]
        kept = np.concatenate([old, labelled[agreed]])
        model = simulation.fit(kept, emotions=np.concatenate([emotions, first[agreed]]))
        figures["left out"].append(simulation.rest(model, labelled)[2])
        both = np.concatenate([old, labelled, labelled[~agreed]])
        shares = np.ones(len(both))
        shares[len(old) :] = np.where(np.concatenate([agreed, agreed[~agreed]]), 1, 0.5)
        halves = simulation.fit(both, shares=shares, emotions=np.concatenate([emotions, first, second[~agreed]]))
        figures["two halves"].append(simulation.rest(halves, labelled)[2])
    for name, rows in figures.items():
        mean, error = mean_and_error(rows)
        yield f"| {simulation.mode} | {count} | {name} | {mean:.3f} ± {error:.3f} |"


def _heard(emotions: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What a listener hears who errs in :data:`ERRORS` of the clips, for any of the emotions."""
    errs = random.random(len(emotions)) < ERRORS
    return np.where(errs, random.choice(NAMES, len(emotions)), emotions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ravdess", type=Path)
    parser.add_argument("nemo", type=Path)
    parser.add_argument("--repeats", type=int, default=4)
    arguments = parser.parse_args()
    corpus = read_corpus(arguments.ravdess, arguments.nemo)
    print(f"{len(corpus.old)} clips of the old corpus, {len(corpus.new)} of the new audio\n")
    simulations = [Simulation(corpus, mode) for mode in MODES]
    print("| mode | clips from | labels | nEMO | telephone | new audio | old corpus |\n|---|---|---|---|---|---|---|")
    for simulation in simulations:
        for line in learning(simulation, arguments.repeats):
            print(line, flush=True)
    print("\n| mode | labels | weight × | unheard speakers, inside training | new audio |\n|---|---|---|---|---|")
    for simulation in simulations:
        for count in STAGES[1:3]:
            for line in weighting(simulation, arguments.repeats, count):
                print(line, flush=True)
    print("\n| mode | labels | where listeners disagree | new audio |\n|---|---|---|---|")
    for simulation in simulations:
        for line in listeners(simulation, arguments.repeats, STAGES[2]):
            print(line, flush=True)


if __name__ == "__main__":
    main()
