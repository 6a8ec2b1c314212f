"""Recordings for ``accuracy_in_use.py``: RAVDESS and nEMO as features, and models that have heard some of the speakers.

A *setting* is a version as a training run makes it (LogisticRegression alone): the models of all modes, the reference
of the drift verdict and what is familiar, fitted on some actors of RAVDESS; and its answers to everybody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ablation import Recording, recordings

from emotion import features
from emotion.audio import decode
from emotion.audio.conditions import CLEAN, CONDITIONS, in_condition
from emotion.datasets.catalogue import find_entry
from emotion.evaluation.folds import splits
from emotion.features import quality
from emotion.inference.adapting import Groups, Part, normalize_in_groups
from emotion.models.adaptation import measure, typical_information
from emotion.models.bundle import Bundle, make_bundle
from emotion.models.familiarity import Familiarity
from emotion.monitoring.drift import Sketch, judge
from emotion.monitoring.reference import Reference, build_reference
from emotion.settings import INCLUDE
from emotion.training import fitting
from emotion.vocabulary import EMOTIONS, MODES, Adaptation

SEED = 0
TALKERS = 4
FAMILY = "logistic_regression"
NEMO_WORDS = {
    "anger": "angry",
    "fear": "fearful",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprised": "surprised",
}
"""nEMO's words for the emotions, in the names of its files: ``<speaker>_<emotion>_<number>``."""


def _ravdess(task: tuple[Recording, list[Path]]) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Features of a clip and its training copies, and of the clip under each condition; its quality."""
    clip, talkers = task
    babble = [decode.load(talker).samples for talker in talkers]
    under = [in_condition(name, clip.samples, sha256=clip.sha256, talkers=babble) for name in CONDITIONS]
    extracted = np.stack([features.extract(each) for each in clip.variants()])
    return extracted, np.stack([features.extract(each) for each in under]), list(quality.measure(clip.samples))


def _nemo(path: Path) -> np.ndarray:
    return features.extract(decode.load(path).samples)


def read(ravdess: Path, nemo: Path, cache: Path | None, processes: int) -> dict[str, np.ndarray]:
    """Features of RAVDESS (1 + n_variants, n, n_features), of its clips under conditions, and of nEMO; labels and
    speakers of both."""
    if cache and cache.exists():
        stored = dict(np.load(cache))
        if str(stored["recipe"]) == features.recipe_version():
            return stored
    clips, random = list(recordings(ravdess)), np.random.default_rng(SEED)
    paths = sorted(path for suffix in ("wav", "flac") for path in nemo.rglob(f"*.{suffix}"))
    if not paths:
        raise SystemExit(f"no .wav or .flac below {nemo}")
    talkers = [[clips[row].path for row in random.choice(len(clips), TALKERS, replace=False)] for _ in clips]
    with Pool(processes) as pool:
        computed = pool.map(partial(_ravdess), list(zip(clips, talkers, strict=True)), chunksize=20)
        foreign = pool.map(_nemo, paths, chunksize=50)
    table = {
        "vectors": np.array([each[0] for each in computed]).transpose(1, 0, 2),
        "conditions": np.array([each[1] for each in computed]).transpose(1, 0, 2),
        "quality": np.array([each[2] for each in computed], dtype=float),
        "labels": np.array([clip.emotion for clip in clips]),
        "speakers": np.array([clip.speaker for clip in clips]),
        "nemo": np.array(foreign),
        "nemo_labels": np.array([NEMO_WORDS[path.stem.split("_")[1]] for path in paths]),
        "nemo_speakers": np.array([path.stem.split("_")[0] for path in paths]),
        "recipe": np.array(features.recipe_version()),
    }
    if cache:
        np.savez(cache, **table)
    return table


@dataclass(frozen=True, eq=False)
class Clips:
    """Features (n, n_features), labels and speakers of some clips that a model has not heard."""

    values: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray

    def take(self, rows: np.ndarray) -> Clips:
        return Clips(self.values[rows], self.labels[rows], self.speakers[rows])


@dataclass(frozen=True, eq=False)
class Setting:
    """A version, and everybody whom it has not heard: ``clips`` by the name of what they went through."""

    bundle: Bundle
    reference: Reference
    promised: dict[str, float]
    clips: dict[str, Clips]

    def answer(self, batch: Clips, adaptation: Adaptation, *, known: bool) -> pd.DataFrame:
        """The answers to the clips of a batch, as a scoring run gives them: a row per clip; ``known``: whether the
        batch says who speaks."""
        count = len(batch.labels)
        speakers = batch.speakers if known else np.full(count, "")
        groups = Groups(self.bundle, [Part([""] * count, list(speakers), lambda: batch.values)], adaptation)
        chosen = [groups.of_clip("", speaker) for speaker in speakers]
        modes = np.array([group.mode if group else "plain" for group in chosen])
        probabilities = np.empty((count, len(EMOTIONS)))
        for mode in MODES:
            rows = np.flatnonzero(modes == mode)
            if len(rows):
                probabilities[rows] = self.bundle[mode].predict_proba(normalize_in_groups(batch.values, chosen, rows))
        table = pd.DataFrame(probabilities, columns=[f"p_{emotion}" for emotion in EMOTIONS])
        return table.assign(
            emotion=np.array(EMOTIONS)[probabilities.argmax(axis=1)],
            confidence=probabilities.max(axis=1),
            mode=modes,
            speaker=speakers,
            label=batch.labels,
            voice=batch.speakers,
            unfamiliar=self.bundle["familiarity"].unfamiliarity(batch.values) > 1,
        )

    def verdict(self, batch: Clips, answers: pd.DataFrame) -> dict[str, Any]:
        """The drift verdict on a batch."""
        sketch = Sketch(self.reference)
        sketch.add(batch.values)
        probabilities = answers[[f"p_{emotion}" for emotion in EMOTIONS]].to_numpy()
        sketch.add_predictions(probabilities, answers["mode"].to_numpy(), family=FAMILY)
        return judge(sketch)


def settings(table: dict[str, np.ndarray]) -> Iterator[Setting]:
    """Three versions: two of the six published groups of actors are left out of each, and so is nEMO."""
    published = find_entry(INCLUDE / "datasets.yaml", "ravdess-speech").folds.speakers
    for number in range(0, len(published), 2):
        away = {name.rpartition(":")[2] for group in published[number : number + 2] for name in group}
        is_test = np.isin(table["speakers"], list(away))
        yield _setting(table, is_test, {"": tuple(tuple(n.rpartition(":")[2] for n in group) for group in published)})


def _setting(table: dict[str, np.ndarray], is_test: np.ndarray, published: dict) -> Setting:
    train = np.flatnonzero(~is_test)
    frame = pd.DataFrame({"emotion": table["labels"][train], "speaker": table["speakers"][train]})
    frame["samples_sha256"] = [str(row) for row in train]
    groups = {"": tuple(group for group in published[""] if set(group) & set(frame["speaker"]))}
    values, copies = table["vectors"][0, train], table["vectors"][1:, train]
    views = features.views()
    trained = fitting.train(
        FAMILY,
        frame,
        values,
        augmented=copies,
        views=list(views.values()),
        folds=splits(frame, seed=SEED, published=groups),
        seed=SEED,
    )
    speakers = frame["speaker"].to_numpy()
    held_out = trained.predictions
    right = held_out[[f"p_{emotion}" for emotion in EMOTIONS]].to_numpy().argmax(axis=1)
    is_right = np.array(EMOTIONS)[right] == held_out["emotion"]
    reference = build_reference(
        values,
        speakers,
        {FAMILY: held_out},
        names=features.feature_names(),
        quality=pd.DataFrame(table["quality"][train], columns=list(quality.COLUMNS)),
        seed=SEED,
    )
    bundle = make_bundle(
        models=trained.models,
        background=trained.background,
        training=measure(values),
        typical_information=typical_information(held_out),
        familiarity=Familiarity.fit(values, speakers, columns=views, copies=copies),
        feature_names=features.feature_names(),
        metadata={},
    )
    labels, voices = table["labels"][is_test], table["speakers"][is_test]
    clips = {CLEAN: Clips(table["vectors"][0, is_test], labels, voices)}
    for name, rows in zip(CONDITIONS, table["conditions"], strict=True):
        clips[name] = Clips(rows[is_test], labels, voices)
    clips["nemo"] = Clips(table["nemo"], table["nemo_labels"], table["nemo_speakers"])
    promised = {mode: float(is_right[held_out["protocol"] == protocol].mean()) for mode, protocol in MODES.items()}
    return Setting(bundle, reference, promised, clips)
