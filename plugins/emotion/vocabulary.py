"""The emotions, families and protocols, each in the one order that every table, matrix and probability vector uses; and
the words for how a recording is taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from emotion.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""The standard emotions, in the order of RAVDESS's own codes 01 to 08. A model knows the emotions that it was trained
on (its :func:`label_set`): some or all of these, and others that the dataset catalogue declares."""
REVIEWED = "reviewed"
"""The dataset of the catalogue that has the clips which listeners have labelled."""
WITHOUT_EMOTION = ("several", "none_of_these", "no_speech", "cannot_tell")
"""What a person can say of a clip in place of one emotion."""
SKIP = "skip"
"""Not now: the person is offered the clip again once nothing else is left."""
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


def protocols_of(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """The protocols that a model has figures of, in the order of every table; ``figures``: by protocol, and others.

    >>> protocols_of({"unheard_dataset": {}, "random": {}, "stress": None})
    ('random', 'unheard_dataset')
    """
    return tuple(protocol for protocol in (*PROTOCOLS, *DATASET_PROTOCOLS) if protocol in figures)


SCORES = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "uar", "log_loss", "ece")
"""The scores that reports, versions and metrics give of every model: see :mod:`emotion.evaluation.scores`."""
CHANNELS = ("mix", "separate")
"""What becomes of several channels: their mean is one recording, or each is a recording of its own."""
SEGMENTS = ("windows", "utterances")
"""How a long recording is cut: into windows of one length, or at its pauses."""
Adaptation = Literal["none", "batch", "speaker", "auto"]
ADAPTATIONS: tuple[Adaptation, ...] = ("none", "batch", "speaker", "auto")
"""What clips are normalized by: see :mod:`emotion.inference.adapting`."""
_COLOURS = {
    "neutral": "#8a8f98",
    "calm": "#4fb3d9",
    "happy": "#e8b10c",
    "sad": "#3566b8",
    "angry": "#d63b3b",
    "fearful": "#8a57b8",
    "disgust": "#4c9a3f",
    "surprised": "#ee7f1f",
}
"""The colour of each of :data:`EMOTIONS` in every chart."""
_OTHER_COLOURS = (
    "#c2589b",
    "#1f9e89",
    "#8c6d46",
    "#6f7d1f",
    "#5b5fc7",
    "#b0a3e0",
    "#e39c9c",
    "#2f4858",
    "#9bc53d",
    "#7a2e4d",
    "#00b4d8",
    "#c9b79c",
)
"""The colours of other emotions, in their order; they begin anew after the last one."""


def label_set(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct emotions of some labels, in the order of every table: those of :data:`EMOTIONS` first, in their
    order, then the others in alphabetical order.

    >>> label_set(["polite", "angry", "bored", "neutral", "angry"])
    ('neutral', 'angry', 'bored', 'polite')
    """
    distinct = set(map(str, labels))
    return (*(emotion for emotion in EMOTIONS if emotion in distinct), *sorted(distinct.difference(EMOTIONS)))


def emotion_codes(labels: Iterable[str], emotions: Sequence[str]) -> list[int]:
    """The position of each label in ``emotions``, that is, in the columns of the probabilities.

    Raises
    ------
    ValueError
        If a label is none of the emotions.

    Examples
    --------
    >>> emotion_codes(["sad", "happy"], ("happy", "sad"))
    [1, 0]
    """
    positions = {emotion: number for number, emotion in enumerate(emotions)}
    try:
        return [positions[label] for label in labels]
    except KeyError as error:
        raise ValueError(f"found the label {error.args[0]}; expected one of {', '.join(emotions)}") from None


def probability_columns(emotions: Iterable[str]) -> list[str]:
    """The columns of the probabilities of these emotions, in their order.

    >>> probability_columns(["happy", "bored"])
    ['p_happy', 'p_bored']
    """
    return [f"p_{emotion}" for emotion in emotions]


def emotions_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """The emotions whose probabilities a table has, in the order of its columns ``p_<emotion>``.

    >>> import pandas
    >>> emotions_of(pandas.DataFrame(columns=["path", "p_happy", "p_bored"]))
    ('happy', 'bored')
    """
    return tuple(column[2:] for column in frame.columns if column.startswith("p_"))


def probabilities_of(frame: pd.DataFrame) -> np.ndarray:
    """The columns of :func:`emotions_of` as an array, shape (n_rows, n_emotions).

    >>> import pandas
    >>> probabilities_of(pandas.DataFrame({"path": ["a.wav"], "p_happy": [0.75], "p_bored": [0.25]})).tolist()
    [[0.75, 0.25]]
    """
    return frame[probability_columns(emotions_of(frame))].to_numpy()


def emotion_colours(emotions: Iterable[str], declared: Mapping[str, str] | None = None) -> dict[str, str]:
    """The colour of each emotion in every chart, as ``#rrggbb``.

    Parameters
    ----------
    emotions : iterable of str
    declared : mapping of str to str, optional
        Colours that the dataset catalogue declares for emotions that are none of :data:`EMOTIONS`, whose colours are
        fixed.

    Examples
    --------
    >>> emotion_colours(["sad", "bored", "polite"], {"polite": "#123456"})
    {'sad': '#3566b8', 'bored': '#c2589b', 'polite': '#123456'}
    """
    emotions, declared = list(emotions), declared or {}
    unused = [colour for colour in _OTHER_COLOURS if colour not in declared.values()] or _OTHER_COLOURS
    others = [emotion for emotion in label_set(emotions) if emotion not in _COLOURS and emotion not in declared]
    chosen = {emotion: unused[number % len(unused)] for number, emotion in enumerate(others)}
    colours = {**declared, **chosen, **_COLOURS}
    return {emotion: colours[emotion] for emotion in emotions}


def require_word(name: str, word: str, words: Sequence[str]) -> None:
    """Raise ConfigurationError for a word that is not one of these.

    >>> require_word("channels", "left", CHANNELS)
    Traceback (most recent call last):
    emotion.errors.ConfigurationError: channels 'left'; expected one of mix, separate
    """
    if word not in words:
        raise ConfigurationError(f"{name} {word!r}; expected one of {', '.join(words)}")
