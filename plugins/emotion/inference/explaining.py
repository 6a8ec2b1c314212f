"""Explains answers: the features that spoke most for and against each."""

from __future__ import annotations

import logging

import numpy as np

from emotion.errors import describe_failure
from emotion.models.bundle import Bundle
from emotion.vocabulary import Mode

log = logging.getLogger(__name__)
TOP_CONTRIBUTIONS = 5
"""Features that an explanation names, of each kind."""


def add_explanations(answers: list[dict], rows: np.ndarray, mode: Mode, bundle: Bundle) -> None:
    """Explain the answers together; if that fails, one by one, so that one clip costs no other its explanation.

    ``rows``: the features (n, n_features) as the model of this mode got them.
    """
    try:
        explanations = _explain(answers, rows, mode, bundle)
    except Exception as error:
        if len(answers) > 1:
            for number, answer in enumerate(answers):
                add_explanations([answer], rows[number : number + 1], mode, bundle)
            return
        # Whatever failed: the answer is what was asked for, and it is there.
        log.warning("an answer gets no explanation", exc_info=True)
        answers[0] |= {"explanation": None, "no_explanation": describe_failure(error)}
        return
    for answer, explanation in zip(answers, explanations, strict=True):
        answer["explanation"] = explanation


def _explain(answers: list[dict], rows: np.ndarray, mode: Mode, bundle: Bundle) -> list[dict]:
    # imported here, as shap takes longer to import than everything else together
    from emotion.explanation.ranking import top_contributions
    from emotion.explanation.values import explain_predictions

    explanation = explain_predictions(bundle[mode], rows, background=bundle["background"][mode])
    names = bundle["feature_names"]
    return [
        top_contributions(explanation, row, answer["emotion"], TOP_CONTRIBUTIONS, feature_names=names)
        for row, answer in enumerate(answers)
    ]
