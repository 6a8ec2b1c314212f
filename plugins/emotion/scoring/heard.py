"""Which clips a model was trained on, so that a batch does not count them as evidence."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from emotion import features
from emotion.errors import StoreError
from emotion.models import fitted, registry
from emotion.models.bundle import FoldModel
from emotion.models.registry import VersionEntry
from emotion.store import Store
from emotion.vocabulary import FAMILIES

log = logging.getLogger(__name__)


def training_clips(store: Store, versions: Iterable[VersionEntry]) -> frozenset[str] | None:
    """The clips (by ``samples_sha256``) that the models of at least one of the versions were trained on.

    They are the clips that the fold models of a version have held out: each clip is held out in one fold.

    Returns
    -------
    frozenset of str, or None
        None if the fold models of a version are not there or cannot be read.
    """
    clips: set[str] = set()
    for entry in versions:
        names = [name for name in map(registry.fold_models_name, FAMILIES) if name in entry["files"]]
        try:
            folds = _folds(store, entry, names[0]) if names else []
        except StoreError:
            raise  # the store fails at the moment: the task is tried again
        except Exception:
            log.warning("version %s: its fold models cannot be read", entry["version"], exc_info=True)
            return None
        if not folds:
            log.warning("version %s has no fold models: the clips it was trained on are not known", entry["version"])
            return None
        clips.update(clip for fold in folds for clip in fold["clips"])
    return frozenset(clips)


def _folds(store: Store, entry: VersionEntry, name: str) -> list[FoldModel]:
    data = registry.read_file(store, entry, name)
    return registry.open_pickle(data, entry, name, recipe=features.recipe_version(), read=fitted.read)
