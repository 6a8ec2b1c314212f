"""Decides which clips are normalized by which group: by their speaker, by their folder, or not at all.

A *group* is all clips of one speaker, or all clips of one folder, which are taken for one recording condition. Its
clips may lie in several parts, of which only one is in memory at a time. The decision does not depend on how the clips
are divided into parts.

The choices are :data:`emotion.vocabulary.ADAPTATIONS`. ``none``: no clip is normalized. ``batch``: all clips are
normalized by their folder. ``speaker``: clips are normalized by their speaker where it is known, has
:data:`MIN_SPEAKER_CLIPS` clips and they show a mix of emotions. ``auto``: the same; and the other clips by their folder
where it has :data:`MIN_BATCH_CLIPS` clips that show a mix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from emotion.inference.answer_queue import MIN_SPEAKER_CLIPS
from emotion.models.adaptation import (
    LEAST_BATCH_SHARE,
    Judgement,
    Statistics,
    judge_group,
    measure,
    merge,
    normalize,
    shrink,
)
from emotion.models.bundle import Bundle
from emotion.vocabulary import ADAPTATIONS, Adaptation, Mode, require_word

MIN_BATCH_CLIPS = 8
"""So many clips of a folder are needed to judge whether they show a mix of emotions."""


class Part(NamedTuple):
    """Some clips: the folder and the speaker (``""``: unknown) of each, and a function that gives their features,
    float32 (n, n_features)."""

    folders: Sequence[str]
    speakers: Sequence[str]
    load: Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class Group:
    """The clips of one speaker (``mode`` is ``speaker``) or of one folder (``batch``).

    Attributes
    ----------
    mode : str
    name : str
        Of the speaker or the folder.
    clips : int
    is_used : bool
        Whether its clips are normalized by ``statistics``.
    reason : str
        Why, or why not, as a sentence.
    statistics : Statistics
        What its clips are normalized by.
    judgement : Judgement or None
        The figures of the decision; None where there are too few clips.
    """

    mode: Mode
    name: str
    clips: int
    is_used: bool
    reason: str
    statistics: Statistics
    judgement: Judgement | None

    def to_json(self) -> dict:
        """For ``summary.json``: all but the statistics; figures that were not computed are None."""
        figures = self.judgement._asdict() if self.judgement else dict.fromkeys(Judgement._fields)
        return {
            "mode": self.mode,
            "name": self.name,
            "clips": self.clips,
            "used": self.is_used,
            "reason": self.reason,
        } | figures


class Groups:
    """The groups of some clips, and which group each clip is normalized by.

    Parameters
    ----------
    bundle : Bundle
        Of the model that answers.
    parts : sequence of Part
    adaptation : str
        One of :data:`~emotion.vocabulary.ADAPTATIONS`.

    Raises
    ------
    ConfigurationError
        For another word.
    """

    def __init__(self, bundle: Bundle, parts: Sequence[Part], adaptation: Adaptation):
        require_word("adaptation", adaptation, ADAPTATIONS)
        kinds: list[Mode] = [mode for mode in ("speaker", "batch") if adaptation in (mode, "auto")]
        self._groups: dict[tuple[Mode, str], Group] = {}
        for mode in kinds:
            clips = Counter(name for part in parts for name in _names(part, mode) if name or mode == "batch")
            statistics = _statistics(parts, mode, frozenset(clips))
            least = MIN_SPEAKER_CLIPS if mode == "speaker" else MIN_BATCH_CLIPS
            enough = {name for name, count in clips.items() if count >= least}
            judgements = _judge(bundle, parts, mode, {name: statistics[name] for name in enough})
            for name, measured in statistics.items():
                is_forced = mode == "batch" and adaptation == "batch"
                used = measured if mode == "speaker" else shrink(measured, bundle["training"])
                self._groups[mode, name] = _decide(mode, name, used, judgements.get(name), least, is_forced=is_forced)

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def of_clip(self, folder: str, speaker: str) -> Group | None:
        """The group that a clip is normalized by; None if it is not."""
        for key in (("speaker", speaker), ("batch", folder)):
            group = self._groups.get(key)
            if group and group.is_used:
                return group
        return None


def _names(part: Part, mode: Mode) -> Sequence[str]:
    return part.speakers if mode == "speaker" else part.folders


def _rows(part: Part, mode: Mode, wanted: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The rows of each of some groups in a part."""
    names = np.array(_names(part, mode), dtype=object)
    for name in sorted(wanted.intersection(names)):
        yield name, np.flatnonzero(names == name)


def _statistics(parts: Sequence[Part], mode: Mode, names: frozenset[str]) -> dict[str, Statistics]:
    statistics: dict[str, Statistics] = {}
    for part in parts:
        if names.isdisjoint(_names(part, mode)):
            continue
        values = part.load()
        for name, rows in _rows(part, mode, names):
            measured = measure(values[rows])
            statistics[name] = merge(statistics[name], measured) if name in statistics else measured
    return statistics


def _judge(
    bundle: Bundle, parts: Sequence[Part], mode: Mode, statistics: dict[str, Statistics]
) -> dict[str, Judgement]:
    """Whether each group shows a mix, by the plain answers to its clips and by those to them as a batch of its own."""
    names = frozenset(statistics)
    answers: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in statistics}
    for part in parts:
        if names.isdisjoint(_names(part, mode)):
            continue
        values = part.load()
        for name, rows in _rows(part, mode, names):
            normalized = normalize(values[rows], shrink(statistics[name], bundle["training"]))
            probabilities = bundle["plain"].predict_proba(values[rows]), bundle["batch"].predict_proba(normalized)
            answers[name].append(probabilities)
    return {
        name: judge_group(*map(np.concatenate, zip(*pairs, strict=True)), typical=bundle["typical_information"])
        for name, pairs in answers.items()
    }


def _decide(
    mode: Mode, name: str, statistics: Statistics, judgement: Judgement | None, least: int, *, is_forced: bool
) -> Group:
    is_used = is_forced or bool(judgement and judgement.shows_mix)
    if is_forced:
        reason = "Normalization by batch was asked for."
    elif judgement is None:
        reason = f"{statistics.clips} clips are too few; at least {least} are needed."
    else:
        reason = (
            f"The answers show {judgement.plain_share:.0%} of the variety of a typical mix of emotions (as a batch "
            f"{judgement.batch_share:.0%}); at least {judgement.required_plain_share:.0%} (or "
            f"{LEAST_BATCH_SHARE:.0%}) is required."
        )
    return Group(mode, name, statistics.clips, is_used, reason, statistics, judgement)


def normalize_in_groups(values: np.ndarray, groups: Sequence[Group | None], rows: np.ndarray) -> np.ndarray:
    """These rows of the features, each z-scored by its group if it has one."""
    normalized = values[rows]
    for group in {id(group): group for row in rows if (group := groups[row])}.values():
        members = [groups[row] is group for row in rows]
        normalized[members] = normalize(normalized[members], group.statistics)
    return normalized
