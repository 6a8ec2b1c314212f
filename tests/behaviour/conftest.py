"""Two kinds of speech from speakers that no model has heard, each with models trained on other speakers."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from altered_clips import Change, Samples, read, vectors
from emotion import features
from emotion.datasets import synthesis
from emotion.models import registry
from emotion.models.classifier import Classifier, Ensemble
from emotion.vocabulary import EMOTIONS, FAMILIES
from small_models import SEED, SPEAKERS, trained_store  # noqa: F401

REAL_TRAINED, REAL_UNHEARD = range(1, 7), range(7, 13)
"""Actors of RAVDESS."""


Answers = Callable[[Change], np.ndarray]
"""From a change to the probabilities of all changed clips, shape (n, 8)."""


@dataclass
class Speech:
    """Clips of unheard speakers, and models that answer.

    Attributes
    ----------
    clips : list of (samples, rate)
    models : dict
        Family → a classifier; ``ensemble`` → all of them.
    """

    clips: list[Samples]
    models: dict[str, Classifier | Ensemble]
    _vectors: dict[Change, np.ndarray] = field(default_factory=dict)

    def probabilities(self, family: str, change: Change) -> np.ndarray:
        """Of every clip's copy, shape (n, 8)."""
        if change not in self._vectors:
            self._vectors[change] = vectors(change(*clip) for clip in self.clips)
        return self.models[family].predict_proba(self._vectors[change])


@pytest.fixture(scope="session")
def synthesized(trained_store) -> Speech:  # noqa: F811
    """Half of the clips of two more synthesized speakers, and the small models."""
    names = [name for name in synthesis.names(speakers=SPEAKERS + 2) if int(name[-6:-4]) > SPEAKERS]
    clips = [read(io.BytesIO(synthesis.wav_bytes(synthesis.synthesize_clip(name)))) for name in names[::2]]
    entry = registry.entry(trained_store, "first")
    models = {
        family: registry.load(trained_store, entry, registry.bundle_name(family), recipe=features.recipe_version())[
            "plain"
        ]
        for family in (*FAMILIES, "ensemble")
    }
    return Speech(clips, models)


@pytest.fixture(scope="session")
def recorded(ravdess) -> Speech:
    """Every seventh clip of six actors, and a logistic regression of six others."""
    files = actors(ravdess, REAL_TRAINED)
    emotions = np.array([EMOTIONS[int(file.name.split("-")[2]) - 1] for file in files])
    speakers = np.array([file.parent.name for file in files])
    rows = vectors(file.read_bytes() for file in files)
    family = "logistic_regression"
    model = Classifier.fit(family, rows, emotions, groups=speakers, seed=SEED)
    return Speech([read(file) for file in actors(ravdess, REAL_UNHEARD)[::7]], {family: model})


def actors(folder: Path, numbers: range) -> list[Path]:
    return [file for actor in numbers for file in sorted((folder / f"Actor_{actor:02d}").glob("*.wav"))]


@pytest.fixture(params=FAMILIES)
def synthesized_answers(request, synthesized) -> Answers:
    return partial(synthesized.probabilities, request.param)


@pytest.fixture
def recorded_answers(recorded) -> Answers:
    return partial(recorded.probabilities, "logistic_regression")
