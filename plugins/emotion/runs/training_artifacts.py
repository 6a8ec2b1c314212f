"""The files that the stages of a training run leave for each other, below ``runs/<run>/`` in the artifact store."""

from __future__ import annotations

import hashlib
import io
import math
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from emotion import features
from emotion.audio.conditions import CLEAN, CONDITIONS, CONDITIONS_VERSION
from emotion.datasets.combining import read_manifests
from emotion.errors import ConfigurationError, DataError
from emotion.evaluation import folds
from emotion.evaluation.folds import Fold
from emotion.features import feature_table
from emotion.features.feature_table import ORIGINAL
from emotion.models import registry
from emotion.models.bundle import Bundle, dumps, models_of, unpickle, verify
from emotion.models.classifier import Classifier, Ensemble
from emotion.models.familiarity import Familiarity
from emotion.store import Store
from emotion.training.fitting import Trained
from emotion.training.rows import ConditionRows
from emotion.vocabulary import FAMILIES, MODES, Mode, label_set

MODELS = (*FAMILIES, Ensemble.family)
"""The models of a run: three families and their ensemble."""
EXTERNAL_FACTS, EXTERNAL_TABLE = "external/datasets.json", "external/table.parquet"
"""Files with what is known of the datasets that are tested on alone, and with their clips."""
TABLE = "table.parquet"
"""File with the clips to train on."""
FEATURES, EXTERNAL_FEATURES = "features", "external/features"
"""Folders with ``<variant>.npy``: the features of the clips of a table, float32 (n_clips, n_features)."""
BACKGROUND_CLIPS = 5000
"""Most clips that contributions are measured against; of more clips, a sample is drawn."""
COPIED_AT_ONCE = 1 << 22
"""Bytes that are copied at once from an object store."""
SUSPICIOUS = "suspicious_labels.csv"
"""File with the clips whose labels may be wrong, in the columns of
:func:`emotion.evaluation.suspicious.suspicious_labels`."""
FAMILIARITY = "familiarity.pkl"
"""File in which a run keeps what training has shown, until the bundles hold it."""
FILES = (*map(registry.bundle_name, MODELS), *map(registry.fold_models_name, FAMILIES))
"""Names of the files that become part of the registered version."""


class TrainingArtifacts:
    """Reads and writes what a training run leaves in the artifact store.

    Parameters
    ----------
    store : Store
    folder : str
        The folder of the run, such as ``runs/<run>``.
    """

    def __init__(self, store: Store, folder: str):
        self.store = store
        self.folder = folder

    def clips(self) -> tuple[pd.DataFrame, np.ndarray]:
        """The clips of the run (a row per clip), and their features, float32 (n_clips, n_features), memory-mapped."""
        return self.store.read_table(self._key(TABLE)), self._features(FEATURES, ORIGINAL)

    def external_clips(self) -> tuple[pd.DataFrame, np.ndarray]:
        """The clips of the datasets that are tested on alone, in the form of :meth:`clips`."""
        return self.store.read_table(self._key(EXTERNAL_TABLE)), self._features(EXTERNAL_FEATURES, ORIGINAL)

    def augmented(self) -> list[np.ndarray]:
        """The features of each augmented copy of the clips, float32 (n_clips, n_features), memory-mapped."""
        return [self._features(FEATURES, variant) for variant in features.VARIANTS]

    def background(self, values: np.ndarray, seed: int) -> np.ndarray:
        """The clips that contributions are measured against: all, or :data:`BACKGROUND_CLIPS` of them, drawn by the
        seed. ``shap/background.json`` says how many."""
        count = min(len(values), BACKGROUND_CLIPS)
        drawn = np.random.default_rng(seed).choice(len(values), count, replace=False)
        self.store.write_json(self._key("shap/background.json"), {"clips": count, "of": len(values)})
        return values[np.sort(drawn)]

    def save_clips(self, training: pd.DataFrame, external: pd.DataFrame) -> None:
        """Write the clips to train on and those to test on alone, each with their stored features.

        The features of a variant of the clips are one file, so that they can be memory-mapped. Tasks on one machine
        then share the memory.
        """
        for table, table_file, folder, variants in (
            (training, TABLE, FEATURES, (ORIGINAL, *features.VARIANTS)),
            (external, EXTERNAL_TABLE, EXTERNAL_FEATURES, (ORIGINAL,)),
        ):
            shape = len(variants), len(table), len(features.feature_names())
            with tempfile.TemporaryFile(dir=self.store.scratch("features")) as file:
                file.truncate(max(1, 4 * math.prod(shape)))
                values = np.memmap(file, dtype=np.float32, mode="r+", shape=shape) if len(table) else np.empty(shape)
                feature_table.read_features(self.store, table["sha256"].tolist(), variants, values)
                for number, variant in enumerate(variants):
                    buffer = io.BytesIO()
                    np.save(buffer, np.asarray(values[number], dtype=np.float32))
                    self.store.write_bytes(self._key(f"{folder}/{variant}.npy"), buffer.getvalue())
            self.store.write_table(self._key(table_file), table)

    def _features(self, folder: str, variant: str) -> np.ndarray:
        """The features of a variant, memory-mapped: from the store itself, or from a copy where it is no folder."""
        key = self._key(f"{folder}/{variant}.npy")
        with self.store.open(key) as source:
            if self.store.is_local:
                return np.load(self.store.path(key), mmap_mode="r")
            with tempfile.TemporaryFile(dir=self.store.scratch("features")) as copy:  # without a name: none is left
                shutil.copyfileobj(source, copy, COPIED_AT_ONCE)
                copy.seek(0)
                if (version := np.lib.format.read_magic(copy)) != (1, 0):
                    raise DataError(f"{self.store.url(key)} has format {version} of .npy; expected (1, 0)")
                shape, in_columns, dtype = np.lib.format.read_array_header_1_0(copy)
                order: Literal["F", "C"] = "F" if in_columns else "C"
                return np.memmap(copy, dtype, "r", copy.tell(), shape, order)  # the file lasts as long as the array

    def _key(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def conditions(self, values: np.ndarray) -> ConditionRows | None:
        """The sampled clips under recording conditions; None without any. ``values``: from :meth:`clips`."""
        table = self.store.read_table(f"{self.folder}/stress/table.parquet")
        if table.empty:
            return None
        names = list(features.feature_names())
        parts = {str(name): part for name, part in table.groupby("condition", sort=False)}
        rows = next(iter(parts.values()))["row"].to_numpy()
        by_condition = {name: part[names].to_numpy(dtype="float32") for name, part in parts.items()}
        return ConditionRows(rows, {CLEAN: values[rows], **by_condition})

    def stress_facts(self, table: pd.DataFrame) -> dict[str, Any] | None:
        """The sample and the conditions of the stress table; None where no clip was tested so."""
        rows = [clip["row"] for clip in self.store.read_json(f"{self.folder}/stress/sample.json")]
        if not rows:
            return None
        return {
            "version": CONDITIONS_VERSION,
            "clips": len(rows),
            "speakers": int(table["speaker"].iloc[rows].nunique()),
            "conditions": {name: condition.title for name, condition in CONDITIONS.items()},
        }

    def splits(self, table: pd.DataFrame, *, seed: int, speaker_folds: str) -> dict[str, list[Fold]]:
        """The folds of each protocol; ``speaker_folds``: ``published`` (where the dataset has such) or ``grouped``.

        Raises ConfigurationError for another value.
        """
        published = None
        facts = self.dataset_facts()
        if speaker_folds == "published":
            published = facts["folds"]
        elif speaker_folds != "grouped":
            raise ConfigurationError(f"speaker folds {speaker_folds!r}; expected published or grouped")
        return folds.splits(table, seed=seed, published=published)

    def manifest(self) -> pd.DataFrame:
        """The clips of all datasets, those that are tested on alone last; see
        :func:`emotion.datasets.combining.read_manifests`."""
        facts = [*self.dataset_facts()["datasets"], *self.external_facts()]
        return read_manifests(self.store, [each["name"] for each in facts])

    def dataset_facts(self) -> dict[str, Any]:
        """What is known of the datasets that are trained on; see
        :func:`emotion.datasets.combining.combined_facts`."""
        return self.store.read_json(f"{self.folder}/dataset.json")

    def external_facts(self) -> list[dict[str, Any]]:
        """What is known of each dataset that is tested on alone."""
        return self.store.read_json(f"{self.folder}/{EXTERNAL_FACTS}")

    def dataset(self, table: pd.DataFrame) -> dict[str, Any]:
        """The datasets as ``comparison.json`` describes them: their facts, and counts of the clips that the run used,
        in all and by dataset."""
        facts = self.dataset_facts()
        counts = {
            "rejected": len(self.store.read_table(f"{self.folder}/rejected.csv")),
            "duplicates": len(self.store.read_table(f"{self.folder}/duplicates.csv")),
            "datasets": [each | _counts(table[table["dataset"] == each["name"]]) for each in facts["datasets"]],
        }
        return facts | _counts(table) | counts

    def save_trained(self, family: str, bundle: Bundle, trained: Trained, figures: dict) -> None:
        """Write a family's bundle, fold models, held-out predictions, and last its figures with the checksums."""
        files = {
            registry.bundle_name(family): dumps(bundle),
            registry.fold_models_name(family): dumps(trained.folds),
        }
        for name, data in files.items():
            self.store.write_bytes(f"{self.folder}/train/{name}", data)
        self.save_predictions(family, trained.predictions, trained.condition_predictions)
        checksums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self.store.write_json(f"{self.folder}/train/{family}.json", {"model": figures, "sha256": checksums})

    def save_ensemble(
        self, bundle: Bundle, predictions: pd.DataFrame, condition_predictions: pd.DataFrame | None
    ) -> None:
        """Write the bundle and the held-out predictions of the ensemble."""
        self.store.write_bytes(f"{self.folder}/train/{registry.bundle_name(Ensemble.family)}", dumps(bundle))
        self.save_predictions(Ensemble.family, predictions, condition_predictions)

    def save_predictions(
        self, family: str, predictions: pd.DataFrame, condition_predictions: pd.DataFrame | None
    ) -> None:
        """Write the held-out predictions of a model, and those under recording conditions if there are any."""
        self.store.write_table(f"{self.folder}/train/{family}_predictions.parquet", predictions)
        if condition_predictions is not None:
            self.store.write_table(f"{self.folder}/stress/{family}_predictions.parquet", condition_predictions)

    def predictions(self, family: str) -> pd.DataFrame:
        """The held-out predictions of a model, see :class:`emotion.training.fitting.Trained`."""
        return self.store.read_table(f"{self.folder}/train/{family}_predictions.parquet")

    def condition_predictions(self, names: Sequence[str]) -> dict[str, pd.DataFrame] | None:
        """The held-out predictions of models under recording conditions; None where no clip was tested so."""
        if not self.store.read_json(f"{self.folder}/stress/sample.json"):
            return None
        return {name: self.store.read_table(f"{self.folder}/stress/{name}_predictions.parquet") for name in names}

    def figures(self, family: str) -> dict[str, Any]:
        """The scores, times and hyper-parameters of a family."""
        return self.store.read_json(f"{self.folder}/train/{family}.json")["model"]

    def bundle(self, family: str) -> Bundle:
        """A family's bundle. Raises BundleError if it is not the one that was written."""
        name = registry.bundle_name(family)
        sha256 = self.store.read_json(f"{self.folder}/train/{family}.json")["sha256"][name]
        data = self.store.read_bytes(f"{self.folder}/train/{name}")
        verify(data, sha256=sha256, name=name)
        return cast(Bundle, unpickle(data))

    def models(self, name: str) -> dict[Mode, Classifier | Ensemble]:
        """A model in each mode, fitted on all clips: of a family, or their ensemble."""
        if name != Ensemble.family:
            return models_of(self.bundle(name))
        members = [models_of(self.bundle(family)) for family in FAMILIES]
        return {mode: Ensemble([cast(Classifier, models[mode]) for models in members]) for mode in MODES}

    def save_familiarity(self, familiarity: Familiarity) -> None:
        """Write what training has shown, and last its checksum."""
        data = dumps(familiarity)
        self.store.write_bytes(f"{self.folder}/{FAMILIARITY}", data)
        self.store.write_json(f"{self.folder}/{FAMILIARITY}.json", {"sha256": hashlib.sha256(data).hexdigest()})

    def familiarity(self) -> Familiarity:
        """What training has shown. Raises BundleError if it is not what was written."""
        data = self.store.read_bytes(f"{self.folder}/{FAMILIARITY}")
        sha256 = self.store.read_json(f"{self.folder}/{FAMILIARITY}.json")["sha256"]
        verify(data, sha256=sha256, name=FAMILIARITY)
        return cast(Familiarity, unpickle(data))

    def files(self) -> dict[str, bytes]:
        """The files that become part of the registered version, by name."""
        return {name: self.store.read_bytes(f"{self.folder}/train/{name}") for name in FILES}


def _counts(table: pd.DataFrame) -> dict[str, Any]:
    """Counts of the clips of a table that a run used."""
    return {
        "used": len(table),
        "speakers": int(table["speaker"].nunique()),
        "emotions": {emotion: int((table["emotion"] == emotion).sum()) for emotion in label_set(table["emotion"])},
        "seconds": float(table["duration"].sum()),
    }
