"""The clips of all datasets of a training run, with their features: those to train on, and those to test on alone."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from emotion.datasets import combining, importing
from emotion.datasets.catalogue import ReviewedEntry, find_entry, read_catalogue
from emotion.features import feature_table
from emotion.features.feature_table import Collected
from emotion.models import external
from emotion.progress import StageProgress
from emotion.review import training_clips
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import REVIEWED, label_set

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunClips:
    """The clips of a run.

    Attributes
    ----------
    training : Collected
        Of the datasets that are trained on.
    external : pandas.DataFrame
        The usable clips of the datasets that are tested on alone, in the form of ``training.table``. A recording that
        is in two of them counts in both.
    rejected : pandas.DataFrame
        The clips of all datasets that cannot be used.
    """

    training: Collected
    external: pd.DataFrame
    rejected: pd.DataFrame


def with_reviewed(store: Store, settings: Settings, datasets: Sequence[str]) -> list[str]:
    """The datasets of a scheduled training, and the reviewed clips too once they can be used; the log says whether."""
    if REVIEWED in datasets or REVIEWED not in read_catalogue(settings.catalogue):
        return [*datasets]
    rows = training_clips.trainable(store)
    if not training_clips.can_be_used(rows):
        log.info("%d labelled clips of fewer than two emotions: the training does without %s", len(rows), REVIEWED)
        return [*datasets]
    log.info("The training uses %s too: %d labelled clips", REVIEWED, len(rows))
    return [*datasets, REVIEWED]


def obtain(store: Store, settings: Settings, name: str, *, source: str | None, progress: StageProgress) -> dict:
    """Bring a dataset of the catalogue into the store, as :func:`emotion.datasets.importing.obtain` does, and return
    what is known of it; the clips of the dataset ``reviewed`` come from the review."""
    entry = find_entry(settings.catalogue, name)
    reviewed = training_clips.source_clips(store, entry) if isinstance(entry, ReviewedEntry) else None
    return importing.obtain(store, settings, name, source=source, reviewed=reviewed, progress=progress).facts


def collect(store: Store, manifest: pd.DataFrame, refused: pd.DataFrame, *, tested_on: Collection[str]) -> RunClips:
    """Join the manifests of all datasets with the stored features; ``tested_on``: the datasets to test on alone.

    Parameters and errors as in :func:`emotion.features.feature_table.collect`.
    """
    is_external = manifest["dataset"].isin(tested_on)
    training = feature_table.collect(store, manifest[~is_external], refused)
    parts = [
        feature_table.collect(store, clips, refused)
        for _, clips in manifest[is_external].groupby("dataset", sort=False)
    ]
    return RunClips(
        training,
        external=pd.concat([part.table for part in parts], ignore_index=True) if parts else training.table.head(0),
        rejected=pd.concat([training.rejected, *(part.rejected for part in parts)], ignore_index=True),
    )


def check(clips: RunClips, manifest: pd.DataFrame, *, max_rejected_share: float) -> None:
    """Raise DataError if the clips of a dataset cannot be used for what the run uses the dataset for.

    That is: more of them than the share are rejected; they are those of another dataset; or, where the dataset is
    tested on alone, it shares speakers or recordings with the others, or fewer than two emotions.
    """
    for _, of_dataset in manifest.groupby("dataset", sort=False):
        rejected = clips.rejected[clips.rejected["path"].isin(of_dataset["path"])]
        feature_table.check_rejected(rejected, len(of_dataset), max_share=max_rejected_share)
    table = clips.training.table
    tested_on = set(clips.external["dataset"])
    combining.check_copies(table, clips.training.duplicates, manifest[~manifest["dataset"].isin(tested_on)])
    combining.check_unheard(table, clips.external)
    for name, tested in clips.external.groupby("dataset", sort=False):
        external.tested_emotions(str(name), tested["emotion"], label_set(table["emotion"]))
