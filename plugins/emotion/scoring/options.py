"""The options of a scoring run."""

from __future__ import annotations

from dataclasses import dataclass

from emotion.datasets.label_table import LABELS_FILE
from emotion.errors import ConfigurationError, EmotionError
from emotion.inference.cutting import MAX_CLIP_SECONDS, MIN_WINDOW_SECONDS
from emotion.inference.utterances import LONGEST
from emotion.inference.windows import WINDOW
from emotion.vocabulary import ADAPTATIONS, CHANNELS, SEGMENTS, Adaptation, require_word

LONG = 5
"""A recording that is longer than this many windows gets a timeline."""
MOST_REVIEW_CLIPS = 1_000
SPEAKERS = ("labels", "subfolder", "none")


class NothingToScore(EmotionError):
    """There is no new recording, or no model yet. This is not a fault: there is nothing to do."""


@dataclass(frozen=True)
class Options:
    """How a batch is scored.

    Attributes
    ----------
    window_seconds : float
        Length of the windows into which long recordings are cut, 1 to 60 s.
    min_confidence : float
        An answer with a lower confidence is marked ``needs_listener``; 0 to 1.
    least_accuracy : float or None
        In place of ``min_confidence``: the least certain answers are marked ``needs_listener``, so many that the others
        are at least this accurate, by the model's answers for speakers that it was not trained on; 0 to 1.
    settle_seconds : float
        Files that were changed less than this many seconds ago are left for the next sweep.
    files_per_shard : int
    rescore : bool
        Whether to score files again that the model has scored before.
    speakers : str
        Where the speakers of files are named: ``labels`` (the column speaker of the labels file), ``subfolder`` (the
        first-level subfolder that a file lies in) or ``none``.
    adaptation : str
        What clips are normalized by: ``none``, ``batch`` (the clips of their folder), ``speaker`` or ``auto``, see
        :data:`emotion.vocabulary.ADAPTATIONS`.
    labels : str or None
        Name of a CSV in the folder with the columns path, emotion and, optionally, speaker. A folder may lack it.
    channels : str
        ``mix``: the mean of a file's channels is scored. ``separate``: each channel is a recording and a speaker of
        its own.
    segments : str
        How a long recording is cut: into ``windows`` of ``window_seconds``, or at its pauses into ``utterances``.
    review_clips : int
        How many clips of the batch a person should hear and label; 0 to 1,000.

    Raises
    ------
    ConfigurationError
        If ``speakers``, ``adaptation``, ``window_seconds``, ``channels``, ``segments``, ``least_accuracy`` or
        ``review_clips`` is not one of these values.

    Examples
    --------
    >>> Options(speakers="subfolder").files_per_shard
    200
    >>> Options(window_seconds=0.5)
    Traceback (most recent call last):
        ...
    emotion.errors.ConfigurationError: windows of 0.5 s; expected 1 to 60 s
    """

    window_seconds: float = WINDOW
    min_confidence: float = 0.5
    least_accuracy: float | None = None
    settle_seconds: float = 30.0
    files_per_shard: int = 200
    rescore: bool = False
    speakers: str = "labels"
    labels: str | None = LABELS_FILE
    adaptation: Adaptation = "auto"
    channels: str = "mix"
    segments: str = "windows"
    review_clips: int = 20

    @property
    def long_seconds(self) -> float:
        """A recording that is longer is cut, and gets a timeline.

        >>> Options().long_seconds, Options(window_seconds=2.0).long_seconds
        (15.0, 10.0)
        """
        return LONGEST if self.segments == "utterances" else LONG * self.window_seconds

    def __post_init__(self) -> None:
        require_word("speakers from", self.speakers, SPEAKERS)
        require_word("adaptation", self.adaptation, ADAPTATIONS)
        require_word("channels", self.channels, CHANNELS)
        require_word("segments", self.segments, SEGMENTS)
        if self.least_accuracy is not None and not 0 <= self.least_accuracy <= 1:
            raise ConfigurationError(f"a least accuracy of {self.least_accuracy}; expected 0 to 1, such as 0.8")
        if not 0 <= self.review_clips <= MOST_REVIEW_CLIPS:
            raise ConfigurationError(f"{self.review_clips} clips to review; expected 0 to {MOST_REVIEW_CLIPS:,}")
        shortest, longest = MIN_WINDOW_SECONDS, MAX_CLIP_SECONDS
        if not shortest <= self.window_seconds <= longest:
            raise ConfigurationError(f"windows of {self.window_seconds} s; expected {shortest:g} to {longest:g} s")
