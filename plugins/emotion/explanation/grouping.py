"""Contributions of groups of features: for the answer for one clip in words, and over many clips as importance.

Contributions of features add up to the model's output, so those of groups are their exact sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from emotion.explanation import words
from emotion.explanation.ranking import describe_contribution, ordered_emotions
from emotion.explanation.values import Explanation
from emotion.features.groups import groups_of
from emotion.vocabulary import Mode

NAMED = 0.005
"""A sentence names the groups whose contribution is at least this: what does not print as 0.00."""
DETAILS = 0.05
"""A group that contributes this much is not called usual."""
NAMED_AGAINST = 2
"""So many groups at most are named against an answer, and twice as many for it."""


def group_contributions(
    explanation: Explanation,
    row: int,
    emotion: str,
    *,
    feature_names: Sequence[str],
    distances: np.ndarray,
    k: int,
) -> list[dict]:
    """What each group contributed to one emotion for one clip, the largest contribution first.

    Parameters as in :func:`emotion.explanation.ranking.top_contributions`; and ``distances``, shape (n_features,): how
    far the clip's features lie from what is usual, in standard deviations.

    Returns
    -------
    list of dict
        Of each group: ``group``, ``words``, ``contribution``, ``subgroups`` (list of ``{"subgroup", "contribution"}``,
        which add up to it) and ``features``, its ``k`` largest contributions, as
        :func:`emotion.explanation.ranking.top_contributions` describes them.

    Examples
    --------
    >>> explanation = Explanation(
    ...     emotions=("angry",), features=np.float32([[3, 7]]), values=np.array([[[0.5, -0.25]]]),
    ...     base_values=np.array([0.0]), outputs=np.array([[0.25]]), scale="probability",
    ... )
    >>> names = ("f0_semitone_voiced_mean", "jitter")
    >>> parts = group_contributions(
    ...     explanation, 0, "angry", feature_names=names, distances=np.array([1.0, 0.0]), k=1
    ... )
    >>> [(part["group"], part["contribution"]) for part in parts]
    [('pitch', 0.5), ('voice quality', -0.25)]
    """
    values = explanation.values[row, explanation.emotions.index(emotion)]
    by_group = words.group_words(distances, feature_names)
    parts = []
    for group, subgroups in groups_of(feature_names).items():
        columns = np.concatenate(list(subgroups.values()))
        contribution = float(values[columns].sum())
        largest = columns[np.argsort(-np.abs(values[columns]), kind="stable")[:k]]
        parts.append(
            {
                "group": group,
                "words": _words(group, by_group[group], contribution),
                "contribution": contribution,
                "subgroups": [
                    {"subgroup": name, "contribution": float(values[rows].sum())} for name, rows in subgroups.items()
                ],
                "features": [describe_contribution(explanation, values, row, i, feature_names) for i in largest],
            }
        )
    return sorted(parts, key=lambda part: -abs(part["contribution"]))


def sentence(emotion: str, output: float, parts: Sequence[Mapping], mode: Mode) -> str:
    """An answer and its reasons in one sentence.

    Parameters
    ----------
    emotion : str
    output : float
        What the contributions and the base value add up to: the confidence.
    parts : sequence of mapping
        From :func:`group_contributions`.
    mode : str
        What the words compare with, see :data:`emotion.explanation.words.USUAL`.

    Examples
    --------
    >>> parts = [
    ...     {"words": "higher and wider pitch", "contribution": 0.41},
    ...     {"words": "slower speech", "contribution": -0.05},
    ... ]
    >>> sentence("angry", 0.98, parts, "plain")
    'angry, 0.98: higher and wider pitch than usual (+0.41); against: slower speech (−0.05)'
    """
    than = words.USUAL[mode]
    sides = []
    for sign, count in ((1, 2 * NAMED_AGAINST), (-1, NAMED_AGAINST)):
        named = [part for part in parts if sign * part["contribution"] >= NAMED][:count]
        phrases = []
        for part in named:
            suffix = f" {than}" if than and words.is_comparison(part["words"]) else ""
            than = "" if suffix else than  # said once
            contribution = f"{part['contribution']:+.2f}".replace("-", "−")
            phrases.append(f"{part['words']}{suffix} ({contribution})")
        sides.append(", ".join(phrases))
    towards, against = sides
    reasons = "; against: ".join(filter(None, [towards or "nothing speaks for it in particular", against]))
    return f"{emotion}, {output:.2f}: {reasons}"


def _words(group: str, words_of_values: str, contribution: float) -> str:
    """The words of a group; where nothing that has a word is unusual and the group still counts, its details do."""
    is_plain = not words.is_comparison(words_of_values)
    return f"{group} in its details" if is_plain and abs(contribution) >= DETAILS else words_of_values


FACTS = ("group", "subgroup", "features", "mean_abs", "share")
"""The columns of :func:`group_importance` that come before those of the emotions."""


def group_importance(explanation: Explanation, *, feature_names: Sequence[str]) -> pd.DataFrame:
    """Mean absolute contribution of each group over the clips, most important first, each followed by its subgroups.

    The contribution of a group is added up for each clip before its size is taken, so what its features add and take
    away again does not count. Columns: ``group``, ``subgroup`` (``""`` for the whole group), ``features`` (how many),
    ``mean_abs`` (mean over emotions too), ``share`` of the sum of that column over groups, and one column per emotion.

    >>> explanation = Explanation(
    ...     emotions=("angry",), features=np.float32([[3, 7]]), values=np.array([[[0.25, -0.75]]]),
    ...     base_values=np.array([0.0]), outputs=np.array([[-0.5]]), scale="log-odds",
    ... )
    >>> table = group_importance(explanation, feature_names=("jitter", "f0_semitone_voiced_mean"))
    >>> table.loc[table["subgroup"] == "", ["group", "share"]].values.tolist()
    [['pitch', 0.75], ['voice quality', 0.25]]
    """
    tables = {
        group: [_importance_row(explanation, group, "", np.concatenate(list(subgroups.values())))]
        + [_importance_row(explanation, group, name, columns) for name, columns in subgroups.items()]
        for group, subgroups in groups_of(feature_names).items()
    }
    total = sum(rows[0]["mean_abs"] for rows in tables.values())
    ordered = sorted(tables.values(), key=lambda rows: -rows[0]["mean_abs"])
    table = pd.DataFrame([row for rows in ordered for row in rows])
    table["share"] = table["mean_abs"] / total if total else 0.0
    return table[[*FACTS, *ordered_emotions(explanation)]]


def _importance_row(explanation: Explanation, group: str, subgroup: str, columns: np.ndarray) -> dict:
    by_emotion = np.abs(explanation.values[:, :, columns].sum(axis=2)).mean(axis=0)
    facts = {"group": group, "subgroup": subgroup, "features": len(columns), "mean_abs": float(by_emotion.mean())}
    return facts | dict(zip(explanation.emotions, by_emotion.tolist(), strict=True))


def emotion_shares(importance: pd.DataFrame) -> pd.DataFrame:
    """The share of each group in the contributions to each emotion: a row per group, a column per emotion.

    ``importance``: from :func:`group_importance`.
    """
    whole = importance[importance["subgroup"] == ""].set_index("group").drop(columns=list(FACTS[1:]))
    totals = whole.sum()
    return whole / totals.where(totals > 0, 1.0)
