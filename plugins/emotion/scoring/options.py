"""How a batch is to be scored."""

from __future__ import annotations

from dataclasses import dataclass

from emotion.datasets.label_table import LABELS_FILE
from emotion.errors import ConfigurationError, EmotionError
from emotion.inference.windows import MAX_CLIP_SECONDS, MIN_WINDOW_SECONDS, WINDOW

SPEAKERS = ("labels", "subfolder", "none")


class NothingToScore(EmotionError):
    """There is no new recording, or no model yet: no fault, and nothing to do."""


@dataclass(frozen=True)
class Options:
    """How to score.

    Attributes
    ----------
    window_seconds : float
        Length of the windows into which long recordings are cut.
    min_confidence : float
        Below it a clip ``needs_listener``.
    settle_seconds : float
        Files changed less than so long ago are left for the next sweep.
    files_per_shard : int
    rescore : bool
        Whether to score files again that the model has scored before.
    speakers : str
        Where speakers are named, for speaker-adapted prediction: ``labels`` (the column speaker of the labels
        file), ``subfolder`` (the first-level subfolders) or ``none``.
    labels : str or None
        A CSV in the folder with the columns path, emotion and, if wanted, speaker; a folder may lack it.
    """

    window_seconds: float = WINDOW
    min_confidence: float = 0.5
    settle_seconds: float = 30.0
    files_per_shard: int = 200
    rescore: bool = False
    speakers: str = "labels"
    labels: str | None = LABELS_FILE

    def __post_init__(self) -> None:
        if self.speakers not in SPEAKERS:
            raise ConfigurationError(f"speakers from {self.speakers!r}; expected one of {', '.join(SPEAKERS)}")
        shortest, longest = MIN_WINDOW_SECONDS, MAX_CLIP_SECONDS
        if not shortest <= self.window_seconds <= longest:
            raise ConfigurationError(f"windows of {self.window_seconds} s; expected {shortest:g} to {longest:g} s")
