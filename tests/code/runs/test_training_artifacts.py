"""What the tasks of a training run leave for each other."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import pandas as pd
import pytest

from emotion import features
from emotion.features import feature_table
from emotion.runs.training_artifacts import TrainingArtifacts
from emotion.store import Store


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_clips_come_back_with_the_features_of_each_copy_in_their_order(place, tmp_path, monkeypatch):
    """From a folder and from an object store; no dataset is tested on alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = Store(str(tmp_path / "home") if place == "folder" else f"memory://{tmp_path.name}-{os.getpid()}")
    names, random = list(features.feature_names()), np.random.default_rng(0)
    variants = (feature_table.ORIGINAL, *features.VARIANTS)
    stored = {variant: random.normal(size=(3, len(names))).astype(np.float32) for variant in variants}
    keys = pd.DataFrame({"sha256": list("abc")}).assign(**dict.fromkeys(feature_table.KEYS[2:], ""))
    rows = [
        pd.concat([keys.assign(variant=variant), pd.DataFrame(values, columns=names)], axis=1)
        for variant, values in stored.items()
    ]
    store.write_table(f"features/{features.recipe_version()}/shard.parquet", pd.concat(rows))
    table = pd.DataFrame({"sha256": list("cab"), "emotion": "sad"})
    artifacts = TrainingArtifacts(store, "runs/one")
    artifacts.save_clips(table, table.head(0))
    clips, values = artifacts.clips()
    pd.testing.assert_frame_equal(clips, table)
    assert isinstance(values, np.memmap) and not values.flags.writeable
    assert store.is_local or values.filename is None, "a process that is killed leaves no copy behind"
    for variant, copy in zip(variants, [values, *artifacts.augmented()], strict=True):
        np.testing.assert_array_equal(copy, stored[variant][[2, 0, 1]])
    external, none = artifacts.external_clips()
    assert external.empty and none.shape == (0, len(names))
