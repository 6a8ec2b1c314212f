"""The mix of emotions in a batch, corrected for the model's confusions.

To count answers is not to count emotions: a model that takes a tenth of the neutral clips for sad counts too many sad
ones where most clips are neutral. The correction finds the mix under which the probabilities of all clips agree with
each other, by expectation and maximization (EM; Saerens, Latinne & Decaestecker 2002, "Adjusting the outputs of a
classifier to new a priori probabilities"). It takes for granted that a sad clip sounds as the sad clips of training do.
So it is withheld where :mod:`emotion.monitoring.estimated` withholds the accuracy.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from emotion.monitoring.estimated import cannot_hold
from emotion.monitoring.reference import Reference
from emotion.vocabulary import emotions_of, probabilities_of

LEAST_CLIPS = 30
"""With fewer clips, the correction moves further by chance than the confusions do."""
PRIOR_CLIPS = 1.0
"""Clips of each emotion that are added in each step, so that chance makes no emotion vanish."""
LEAST_PRIOR = 1e-4
"""An emotion that the model hardly expects has this share, so that the division is defined."""
ROUNDS = 200
STEADY = 1e-5
DRAWS = 200
MOST_CLIPS = 1000
"""A draw for the interval has at most so many clips; more clips give a narrower interval by the square root."""


def corrected(clips: pd.DataFrame, reference: Reference, *, family: str, drift: dict, seed: int = 0) -> dict:
    """The raw and the corrected mix of a batch.

    Parameters
    ----------
    clips, reference, family, drift
        As for :func:`emotion.monitoring.estimated.estimate`.
    seed : int
        For drawing the interval.

    Returns
    -------
    dict
        ``clips``; ``raw``: the share of each predicted emotion; ``withheld``: a sentence that says why there is no
        correction, or None; ``corrected``: by emotion value, low and high (95 % interval), or None. ``drawn`` says
        whether the interval is over ``speakers`` or over independent ``clips``.
    """
    emotions = emotions_of(clips)
    probabilities = probabilities_of(clips).astype(float)
    answers = np.bincount(probabilities.argmax(axis=1), minlength=len(emotions)) if len(clips) else np.zeros(0)
    figures = {
        "clips": len(clips),
        "raw": dict(zip(emotions, (answers / max(len(clips), 1)).tolist(), strict=False)),
        "withheld": _reason(clips, reference, drift),
        "corrected": None,
        "drawn": None,
    }
    if figures["withheld"]:
        return figures
    models = list(reference.models)
    known = {mode: reference.priors[models.index(f"{family}/{mode}")] for mode in clips["mode"].unique()}
    evidence = probabilities / np.stack([np.maximum(known[mode], LEAST_PRIOR) for mode in clips["mode"]])
    mix = find_mix(evidence)
    low, high, drawn = _interval(evidence, mix, clips["speaker"].to_numpy(dtype=str), seed)
    rows = zip(emotions, mix.tolist(), low.tolist(), high.tolist(), strict=True)
    return figures | {
        "corrected": {emotion: {"value": value, "low": least, "high": most} for emotion, value, least, most in rows},
        "drawn": drawn,
    }


def not_corrected(reason: str) -> dict:
    """What stands for :func:`corrected` where it fails; ``reason`` is a sentence.

    >>> not_corrected("The reference is damaged.")["corrected"] is None
    True
    """
    return {"clips": 0, "raw": {}, "withheld": reason, "corrected": None, "drawn": None}


def _reason(clips: pd.DataFrame, reference: Reference, drift: dict) -> str | None:
    if len(clips) < LEAST_CLIPS:
        return f"{len(clips)} clips are too few; at least {LEAST_CLIPS} short ones that were not trained on are needed."
    if not reference.priors.size:
        return "The model was trained by an earlier release, which did not keep the mix that its probabilities expect."
    return cannot_hold(clips, drift)


def find_mix(evidence: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """The mix of emotions, shape (n_emotions,), under which the probabilities of all clips agree.

    Parameters
    ----------
    evidence : float array, shape (n, n_emotions)
        Probabilities divided by the mix that they take for granted.
    counts : float array, shape (n,), optional
        How often each clip counts.

    Examples
    --------
    The model answers as if half of the clips were sad, and is right in nine of ten clips of either emotion. It called
    26 of 100 clips sad: 20 were sad (18 of them called so), and 8 of the 80 others were called sad too.

    >>> probabilities = np.array([[0.9, 0.1]] * 74 + [[0.1, 0.9]] * 26)
    >>> find_mix(probabilities / 0.5).round(2).tolist()
    [0.79, 0.21]
    """
    counts = np.ones(len(evidence)) if counts is None else counts
    mix = np.full(evidence.shape[1], 1 / evidence.shape[1])
    for _ in range(ROUNDS):
        weighted = evidence * mix
        expected = counts @ (weighted / weighted.sum(axis=1, keepdims=True)) + PRIOR_CLIPS
        new = expected / expected.sum()
        if np.abs(new - mix).max() < STEADY:
            return new
        mix = new
    return mix


def _interval(
    evidence: np.ndarray, mix: np.ndarray, speakers: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """The 95 % interval of each share, and what was drawn for it: speakers where all are known, else clips."""
    random = np.random.default_rng(seed)
    clips = len(evidence)
    names, codes = np.unique(speakers, return_inverse=True)
    by_speaker = "" not in names and len(names) >= 5
    used = np.arange(clips) if clips <= MOST_CLIPS else random.choice(clips, MOST_CLIPS, replace=False)
    draws = []
    for _ in range(DRAWS):
        if by_speaker:
            counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)))[codes[used]].astype(float)
        else:
            counts = random.multinomial(len(used), np.full(len(used), 1 / len(used))).astype(float)
        draws.append(find_mix(evidence[used], counts))
    shrink = 1.0 if by_speaker else np.sqrt(len(used) / clips)
    low, high = mix + shrink * (np.quantile(draws, [0.025, 0.975], axis=0) - np.median(draws, axis=0))
    return np.clip(low, 0, 1), np.clip(high, 0, 1), "speakers" if by_speaker else "clips"
