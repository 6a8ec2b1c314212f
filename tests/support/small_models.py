"""An artifact store with two small model versions, made once per test session by the functions that make real ones."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from emotion import features
from emotion.datasets import synthesis
from emotion.datasets.synthesis import NOTICE
from emotion.evaluation import held_out
from emotion.evaluation.coverage import CoveragePoint
from emotion.evaluation.folds import splits
from emotion.features import feature_table
from emotion.models import bundle, decisions, registry
from emotion.models.adaptation import typical_information
from emotion.models.classifier import Classifier, Ensemble
from emotion.models.familiarity import Familiarity
from emotion.models.registry import VersionFacts
from emotion.monitoring.reference import REFERENCE, build_reference
from emotion.store import Store
from emotion.training import fitting
from emotion.training.fitting import Trained
from emotion.vocabulary import EMOTIONS, FAMILIES, MODES, Mode
from small_data import features_of

SEED = 7
SPEAKERS = 3
VERSIONS = ("first", "second")
CURVE: list[CoveragePoint] = [
    {"coverage": 0.4, "confidence": 0.7, "accuracy": 0.9},
    {"coverage": 1.0, "confidence": 0.2, "accuracy": 0.6},
]
"""What the versions say of the accuracy of their answers by confidence."""


def build(root: str) -> Store:
    """A store with recordings in ``corpus/``, their features, and the versions ``first`` and ``second``.

    Both versions have the same models; the logistic regression of ``first`` is the champion.
    """
    store = Store(root)
    table, values = _featurize(store)
    folds = splits(table, seed=SEED, published=None)
    folds["random"] = folds["random"][:2]
    trained = {family: fitting.train(family, table, values, folds=folds, seed=SEED) for family in FAMILIES}
    predictions = {family: result.predictions for family, result in trained.items()}
    predictions["ensemble"] = held_out.soft_vote(list(predictions.values()))
    reference = build_reference(
        values, table["speaker"].to_numpy(), predictions, names=features.feature_names(), quality=table, seed=SEED
    )
    familiarity = Familiarity.fit(values, table["speaker"].to_numpy(), columns=features.views())
    files = _bundles(trained, predictions, familiarity) | {REFERENCE: reference.to_bytes()}
    for version in VERSIONS:
        registry.register(store, version, files=files, card="# A small model\n", facts=version_facts(version))
    decisions.promote_by_hand(store, version="first", family="logistic_regression", reason="for the tests")
    return store


def _featurize(store: Store) -> tuple[pd.DataFrame, np.ndarray]:
    """The table of the clips that are synthesized here, and their features."""
    manifest = _synthesize(store)
    plan = feature_table.plan(store, manifest, clips_per_shard=100, min_seconds=0.2, max_seconds=60)
    for shard in plan.shards:
        feature_table.featurize(store, shard, max_seconds=60)
    table = feature_table.collect(store, manifest, plan.refused).table
    return table, features_of(store, table)


def _synthesize(store: Store) -> pd.DataFrame:
    """The manifest of the recordings of normal intensity, which are written to ``corpus/``."""
    rows = []
    for name in synthesis.names(speakers=SPEAKERS):
        emotion, intensity, actor = re.search(r"03-01-0(\d)-0(\d)-\d\d-\d\d-(\d\d)", name).groups()
        if intensity == "1":
            data = synthesis.wav_bytes(synthesis.synthesize_clip(name))
            store.write_bytes(f"corpus/{name}", data)
            rows.append(
                {
                    "path": name,
                    "key": f"corpus/{name}",
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "duration": 2.0,
                    "emotion": EMOTIONS[int(emotion) - 1],
                    "speaker": actor,
                }
            )
    return pd.DataFrame(rows)


def _bundles(
    trained: dict[str, Trained], predictions: dict[str, pd.DataFrame], familiarity: Familiarity
) -> dict[str, bytes]:
    models: dict[str, Mapping[Mode, Classifier | Ensemble]] = {
        family: result.models for family, result in trained.items()
    }
    models["ensemble"] = {mode: Ensemble([result.models[mode] for result in trained.values()]) for mode in MODES}
    return {
        registry.bundle_name(family): bundle.dumps(
            bundle.make_bundle(
                models=models[family],
                background=trained[FAMILIES[0]].background,
                training=trained[FAMILIES[0]].training,
                typical_information=typical_information(predictions[family]),
                familiarity=familiarity,
                feature_names=features.feature_names(),
                metadata={"seed": SEED},
            )
        )
        for family in models
    }


def version_facts(version: str) -> VersionFacts:
    """What a training run of synthesized speech says of its version."""
    return {
        "run_id": version,
        "recipe": features.recipe_version(),
        "feature_names": list(features.feature_names()),
        "dataset": {"name": "synthesized", "synthesized": True, "notice": NOTICE},
        "selected": "logistic_regression",
        "seed": SEED,
        "scores": {family: {"speaker_independent": {"f1_macro": 0.5}} for family in (*FAMILIES, "ensemble")},
        "coverage": {family: dict.fromkeys(MODES.values(), CURVE) for family in (*FAMILIES, "ensemble")},
    }


@pytest.fixture(scope="session")
def trained_store(tmp_path_factory) -> Store:
    """See :func:`build`; not to be written to. Parallel workers share one: the first builds it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the run's own folder, above those of its workers
    folder = base / "trained-store"
    with (base / "trained-store.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = tmp_path_factory.mktemp("trained-store-unfinished")
            build(str(unfinished))
            unfinished.rename(folder)
    return Store(str(folder))
