"""Explains answers: which groups of features spoke for and against each, in words, and which features."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from emotion.errors import describe_failure
from emotion.models.adaptation import CONSTANT
from emotion.models.bundle import Bundle
from emotion.vocabulary import Mode

if TYPE_CHECKING:
    from emotion.explanation.values import Explainer

log = logging.getLogger(__name__)
TOP_CONTRIBUTIONS = 5
"""Features that an explanation names, for and against an answer and of each group."""


class AnswerExplainer:
    """Explains the answers of one model; what depends on the model alone is computed once for each mode.

    Parameters
    ----------
    bundle : Bundle
    """

    def __init__(self, bundle: Bundle):
        self._bundle = bundle
        self._explainers: dict[Mode, Explainer] = {}

    def add_to(self, answers: list[dict], rows: np.ndarray, mode: Mode) -> None:
        """Explain the answers together; if that fails, one by one, so that one clip costs no other its explanation.

        Parameters
        ----------
        answers : list of dict, length n
            Each gets its ``explanation``, see the notes on :class:`emotion.inference.CustomEmotionModel`.
        rows : float32 array, shape (n, n_features)
            The features as the model of this mode got them.
        mode : str
        """
        try:
            explanations = self._explain(answers, rows, mode)
        except Exception as error:
            if len(answers) > 1:
                for number, answer in enumerate(answers):
                    self.add_to([answer], rows[number : number + 1], mode)
                return
            # Whatever failed: the answer is what was asked for, and it is there.
            log.warning("an answer gets no explanation", exc_info=True)
            answers[0] |= {"explanation": None, "no_explanation": describe_failure(error)}
            return
        for answer, explanation in zip(answers, explanations, strict=True):
            answer["explanation"] = explanation

    def _explain(self, answers: list[dict], rows: np.ndarray, mode: Mode) -> list[dict]:
        # imported here, as only explanations need their libraries
        from emotion.explanation.grouping import group_contributions, sentence
        from emotion.explanation.ranking import top_contributions
        from emotion.explanation.values import Explainer

        if mode not in self._explainers:
            self._explainers[mode] = Explainer(self._bundle[mode], self._bundle["background"][mode])
        explanation = self._explainers[mode].explain_probabilities(rows)
        names, distances = self._bundle["feature_names"], self._distances(rows, mode)
        explained = []
        for row, answer in enumerate(answers):
            emotion = answer["emotion"]
            column = explanation.emotions.index(emotion)
            output = float(explanation.outputs[row, column])
            groups = group_contributions(
                explanation, row, emotion, feature_names=names, distances=distances[row], k=TOP_CONTRIBUTIONS
            )
            explained.append(
                {
                    "sentence": sentence(emotion, output, groups, mode),
                    "scale": explanation.scale,
                    "base_value": float(explanation.base_values[column]),
                    "output": output,
                    "groups": groups,
                }
                | top_contributions(explanation, row, emotion, TOP_CONTRIBUTIONS, feature_names=names)
            )
        return explained

    def _distances(self, rows: np.ndarray, mode: Mode) -> np.ndarray:
        """How far features (n, n_features) lie from what is usual, in standard deviations: of the clips of training or,
        where they are normalized by a batch or a speaker, of its clips."""
        if mode != "plain":
            return rows
        training = self._bundle["training"]
        scale = np.where(training.scale <= CONSTANT, np.inf, training.scale)
        return (rows - training.centre) / scale
