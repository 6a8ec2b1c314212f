"""The stages of the review DAG: measure accuracy in use, count the new labels, decide whether to train on them."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from emotion.datasets import importing
from emotion.errors import ConfigurationError, DataError, EmotionError
from emotion.metrics import Emitter
from emotion.models import registry
from emotion.review import clips, training_clips
from emotion.runs import accuracy_in_use
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import REVIEWED


class NothingToTrain(EmotionError):
    """No training is to start now. This is not a fault: the message says what it waits for."""


class ReviewRun:
    """One run of the review DAG: its stages, in the order of the diagram.

    They keep no state of their own but for the accuracy: what a training has used is known from the dataset
    ``reviewed`` that it has imported.
    """

    def __init__(self, settings: Settings, emitter: Emitter):
        self.settings = settings
        self.store = Store(settings.home)
        self.emitter = emitter

    def measure_accuracy(self) -> dict:
        """Measure the realized accuracy of all models.

        Returns
        -------
        dict
            What :func:`emotion.runs.accuracy_in_use.measure_accuracy` returns of the champion, and ``is_news``: whether
            its accuracy fell, and had not fallen when it was measured before. {} without a champion.
        """
        before = (accuracy_in_use.read_accuracy(self.store) or {}).get("champion")
        champion = accuracy_in_use.measure_accuracy(self.store, self.emitter)
        if not champion:
            return {}
        is_known = before and before["name"] == champion["name"] and before["figures"]["short_by"] > 0
        return champion | {"is_news": champion["fell"] and not is_known}

    def expire_audio(self) -> int:
        """Delete the kept audio whose time (``EMOTION_REVIEW_DAYS``) is over; returns how many files were deleted."""
        return len(clips.expire(self.store, self.settings.review_days))

    def count_new_labels(self) -> dict:
        """Count the labels that can be trained on, and those among them that no training has used.

        Returns
        -------
        dict
            ``usable``, ``emotions`` (number of clips of each), ``new``: how many are not in the dataset
            ``reviewed`` as it was last imported, or have another emotion there; ``fingerprint`` of the usable labels.
        """
        rows = training_clips.trainable(self.store)
        known = _trained_on(self.store)
        is_new = [known.get(row.audio) != row.label for row in rows.itertuples()]
        labels = rows[["audio", "label", "speaker", "batch"]].to_csv(index=False)
        return {
            "usable": len(rows),
            "emotions": {str(emotion): int(count) for emotion, count in rows["label"].value_counts().items()},
            "new": sum(is_new),
            "fingerprint": hashlib.sha256(labels.encode()).hexdigest(),
        }

    def plan_training(self, labels: dict, *, least_new_labels: int) -> dict:
        """The training that the labels are worth: of the champion's datasets and the reviewed clips together.

        Parameters
        ----------
        labels : dict
            As :meth:`count_new_labels` returns it.
        least_new_labels : int
            With fewer new labels nothing is trained.

        Returns
        -------
        dict
            ``run_id``, the same for the same labels, and ``datasets`` and ``sources``, parameters of the run.

        Raises
        ------
        NothingToTrain
            If there is no champion yet, there are too few labels, or the champion's datasets cannot be had.
        """
        champion = registry.champion(self.store)
        if champion is None:
            raise NothingToTrain("No champion yet: there is no model that labels could make better.")
        if labels["new"] < least_new_labels:
            raise NothingToTrain(
                f"{labels['new']} new labels since the last training on reviewed clips; a training starts at "
                f"{least_new_labels}. {labels['usable']} labels can be trained on in all."
            )
        if len(labels["emotions"]) < 2:
            raise NothingToTrain(
                f"The {labels['usable']} labels that can be trained on are all of one emotion; two are needed, each "
                f"with {training_clips.LEAST_CLIPS} clips."
            )
        return {
            "run_id": f"reviewed-{labels['usable']}-labels-{labels['fingerprint'][:12]}",
            **self._datasets(registry.champion_entry(self.store, champion)["dataset"]),
        }

    def _datasets(self, facts: dict) -> dict:
        """The datasets of a version and the reviewed clips, with the sources of those that need one."""
        parts = facts.get("datasets") or [facts]  # a version of an earlier release names its one dataset
        corpora = [part for part in parts if part["name"] != REVIEWED]
        names = [*(part["name"] for part in corpora), REVIEWED]
        sources = {part["name"]: source for part in corpora if (source := self._source(part))}
        try:
            importing.check_entries(self.settings, names, sources)
        except ConfigurationError as error:
            raise NothingToTrain(f"What the champion was trained on cannot be had: {error}.") from None
        return {"datasets": names, "sources": sources}

    def _source(self, part: dict) -> str | None:
        """Where recordings came from, if it was a disk and the store cannot do without it."""
        origin = Path(part.get("origin") or "")
        try:
            if not origin.is_absolute() or importing.is_ready(self.store, self.settings, part["name"]):
                return None
        except ConfigurationError:  # recordings of one's own, for which the catalogue names no folder
            return str(origin)
        return str(origin) if origin.exists() else None


def _trained_on(store: Store) -> dict[str, str]:
    """The emotion of each audio in the dataset ``reviewed`` as it was last imported; empty before."""
    try:
        manifest = importing.read_manifest(store, REVIEWED)
    except DataError:
        return {}
    return {
        PurePosixPath(path).stem: emotion for path, emotion in manifest[["path", "emotion"]].itertuples(index=False)
    }
