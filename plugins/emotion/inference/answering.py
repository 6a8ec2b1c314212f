"""Computes the answers of a model from features: the emotion, how certain it is, and whether the clip is familiar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emotion.inference.adapting import Group, normalize_in_groups
from emotion.inference.explaining import AnswerExplainer
from emotion.models.bundle import Bundle
from emotion.vocabulary import MODES, Mode


def answer_in_groups(
    bundle: Bundle,
    values: np.ndarray,
    groups: Sequence[Group | None],
    *,
    explain: bool | np.ndarray,
    explainer: AnswerExplainer,
) -> list[dict]:
    """The answers for clips, each normalized by its group (None: as it is), without the name of the version.

    Parameters
    ----------
    bundle : Bundle
    values : float32 array, shape (n, n_features)
        Features as they are. Whether a clip is unfamiliar is judged on them, however its answer is computed.
    groups : sequence of Group or None, length n
    explain : bool, or bool array, shape (n,)
        Which answers have an ``explanation``.
    explainer : AnswerExplainer
        Of the same bundle.

    Returns
    -------
    list of dict, length n
        See the notes on :class:`emotion.inference.CustomEmotionModel`.
    """
    explain = np.broadcast_to(explain, len(values))
    answers: list[dict] = [{}] * len(values)
    for mode in MODES:
        rows = np.flatnonzero([(group.mode if group else "plain") == mode for group in groups])
        if len(rows):
            new_answers = _answer(bundle, normalize_in_groups(values, groups, rows), mode, explain[rows], explainer)
            for row, answer in zip(rows, new_answers, strict=True):
                answers[row] = answer
    if answers:
        for answer, distance in zip(answers, bundle["familiarity"].unfamiliarity(values), strict=True):
            answer |= {"unfamiliar": bool(distance > 1), "unfamiliarity": float(distance)}
    return answers


def _answer(
    bundle: Bundle, rows: np.ndarray, mode: Mode, explain: np.ndarray, explainer: AnswerExplainer
) -> list[dict]:
    answers = []
    for probabilities in bundle[mode].predict_proba(rows).tolist():
        confidence = max(probabilities)
        answers.append(
            {
                "emotion": bundle["emotions"][probabilities.index(confidence)],
                "confidence": confidence,
                "probabilities": dict(zip(bundle["emotions"], probabilities, strict=True)),
                "family": bundle["family"],
                "mode": mode,
            }
        )
    if explain.any():
        explained = [answer for answer, is_wanted in zip(answers, explain, strict=True) if is_wanted]
        explainer.add_to(explained, rows[explain], mode)
    return answers
