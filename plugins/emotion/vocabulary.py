"""The emotions, families and protocols, each in the one order that every table, matrix and probability vector uses; and
the words for how a recording is taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from emotion.errors import ConfigurationError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""The classes, in the order of RAVDESS's own codes 01 to 08."""
FAMILIES = ("logistic_regression", "random_forest", "gradient_boosting")
"""The three model families, each trained by a task of its own."""
PROTOCOLS = (
    "random",
    "random_adapted",
    "speaker_independent",
    "speaker_independent_batch",
    "speaker_independent_adapted",
)
"""How clips were divided for a figure, and whether features were adapted.

``random``: clips are drawn at random, so the same speakers are on both sides.
``random_adapted``: the same test clips as in ``random``; features are z-scored per speaker, with the clips of that
speaker on the training side.
``speaker_independent``: whole speakers are held out.
``speaker_independent_batch``: the same speakers are held out; the held-out clips of a fold are one batch, and features
are z-scored with the *unlabelled* clips of the batch, whoever speaks in them.
``speaker_independent_adapted``: the same speakers are held out; features are z-scored per speaker, with the
*unlabelled* clips of that speaker, the test clips included.
"""
Mode = Literal["plain", "batch", "speaker"]
"""How the features of a clip were normalized for a prediction: not at all, or z-scored with the unlabelled clips of the
same batch, or with those of the same speaker."""
MODES: dict[Mode, str] = {
    "plain": "speaker_independent",
    "batch": "speaker_independent_batch",
    "speaker": "speaker_independent_adapted",
}
"""Mode → the protocol whose figures say what a new speaker gets by it. A model has one fitted classifier per mode."""
DATASET_MODES: dict[Mode, str] = {
    "plain": "unheard_dataset",
    "batch": "unheard_dataset_batch",
    "speaker": "unheard_dataset_adapted",
}
"""Mode → the protocol whose figures say what new audio gets that is unlike all of training.

``unheard_dataset…``: runs on several datasets have these protocols too. Each dataset is held out in turn, with all its
speakers, and tested on the emotions that it shares with the others: the probabilities of the other emotions count as 0.
The held-out dataset is one batch; features are normalized as in the protocol of :data:`MODES` with the same mode.
"""
DATASET_PROTOCOLS = tuple(DATASET_MODES.values())
SCORES = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "uar", "log_loss", "ece")
"""The scores that reports, versions and metrics give of every model: see :mod:`emotion.evaluation.scores`."""
CHANNELS = ("mix", "separate")
"""What becomes of several channels: their mean is one recording, or each is a recording of its own."""
SEGMENTS = ("windows", "utterances")
"""How a long recording is cut: into windows of one length, or at its pauses."""
Adaptation = Literal["none", "batch", "speaker", "auto"]
ADAPTATIONS: tuple[Adaptation, ...] = ("none", "batch", "speaker", "auto")
"""What clips are normalized by: see :mod:`emotion.inference.adapting`."""
PROBABILITIES = [f"p_{emotion}" for emotion in EMOTIONS]
"""Columns of the probabilities, in the order of :data:`EMOTIONS`."""
EMOTION_COLOURS = {
    "neutral": "#8a8f98",
    "calm": "#4fb3d9",
    "happy": "#e8b10c",
    "sad": "#3566b8",
    "angry": "#d63b3b",
    "fearful": "#8a57b8",
    "disgust": "#4c9a3f",
    "surprised": "#ee7f1f",
}
"""The colour of each emotion in every chart, in the order of :data:`EMOTIONS`."""


def require_word(name: str, word: str, words: Sequence[str]) -> None:
    """Raise ConfigurationError for a word that is not one of these.

    >>> require_word("channels", "left", CHANNELS)
    Traceback (most recent call last):
    emotion.errors.ConfigurationError: channels 'left'; expected one of mix, separate
    """
    if word not in words:
        raise ConfigurationError(f"{name} {word!r}; expected one of {', '.join(words)}")
