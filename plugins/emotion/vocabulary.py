"""The emotions, in the one order every table, matrix and probability vector uses."""

from __future__ import annotations

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
FAMILIES = ("logistic_regression", "random_forest", "gradient_boosting")
"""The three model families, each trained by a task of its own."""
PROTOCOLS = ("random", "random_adapted", "speaker_independent", "speaker_independent_adapted")
"""How a figure was obtained.

``random``: clips drawn at random; the same speakers are on both sides.
``speaker_independent``: whole speakers held out.
``random_adapted``: the same clips held out as in ``random``, features z-scored per speaker with the
clips of that speaker on the training side.
``speaker_independent_adapted``: the same speakers held out, features z-scored per speaker with the
*unlabelled* clips of that speaker, those it is judged on included.
"""
SCORES = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "uar", "log_loss", "ece")
"""The scores that reports, versions and metrics give of every model: see :mod:`emotion.evaluation.scores`."""
PROBABILITIES = [f"p_{emotion}" for emotion in EMOTIONS]
EMOTION_COLOURS = dict(
    zip(
        EMOTIONS,
        ("#8a8f98", "#4fb3d9", "#e8b10c", "#3566b8", "#d63b3b", "#8a57b8", "#4c9a3f", "#ee7f1f"),
        strict=True,
    )
)
