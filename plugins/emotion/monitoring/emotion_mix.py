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

from emotion.monitoring.estimated import LEVEL, why_withheld
from emotion.monitoring.reference import Reference
from emotion.monitoring.statistics import evidence_of, find_mix, mix_deviation, student_quantile
from emotion.vocabulary import emotions_of, probabilities_of

LEAST_CLIPS = 30
"""With fewer clips, the correction moves further by chance than the confusions do."""
MOST_CLIPS = 1000
"""What chance does to a share is measured on at most so many clips, and scaled to all."""


def corrected(clips: pd.DataFrame, reference: Reference, *, family: str, drift: dict, seed: int = 0) -> dict:
    """The raw and the corrected mix of a batch.

    Parameters
    ----------
    clips, reference, family, drift
        As for :func:`emotion.monitoring.estimated.estimate`.
    seed : int
        For drawing the clips of the interval.

    Returns
    -------
    dict
        ``clips``; ``raw``: the share of each predicted emotion; ``withheld``: a sentence that says why there is no
        correction, or None; ``corrected``: by emotion value, low and high (95 % interval), or None.
    """
    emotions = emotions_of(clips)
    probabilities = probabilities_of(clips).astype(float)
    kept = "keep the mix that its probabilities expect"
    answers = np.bincount(probabilities.argmax(axis=1), minlength=len(emotions)) if len(clips) else np.zeros(0)
    figures = {
        "clips": len(clips),
        "raw": dict(zip(emotions, (answers / max(len(clips), 1)).tolist(), strict=False)),
        "withheld": why_withheld(
            clips, reference, drift, least_clips=LEAST_CLIPS, spread=reference.mix_spread, kept=kept
        ),
        "corrected": None,
    }
    if figures["withheld"]:
        return figures
    models = list(reference.models)
    model = np.array([models.index(f"{family}/{mode}") for mode in clips["mode"]])
    evidence = evidence_of(probabilities, reference.priors[model])
    mix = find_mix(evidence)
    spread = np.sqrt((reference.mix_spread[model] ** 2).mean(axis=0))
    deviation = _deviation(evidence, clips["speaker"].to_numpy(dtype=str), spread, reference, seed)
    half = student_quantile(LEVEL, int(reference.speakers) - 1) * deviation
    low, high = np.maximum(mix - half, 0), np.minimum(mix + half, 1)
    rows = zip(emotions, mix.tolist(), low.tolist(), high.tolist(), strict=True)
    return figures | {
        "corrected": {emotion: {"value": value, "low": least, "high": most} for emotion, value, least, most in rows}
    }


def not_corrected(reason: str) -> dict:
    """What stands for :func:`corrected` where it fails; ``reason`` is a sentence.

    >>> not_corrected("The reference is damaged.")["corrected"] is None
    True
    """
    return {"clips": 0, "raw": {}, "withheld": reason, "corrected": None}


def _deviation(
    evidence: np.ndarray, speakers: np.ndarray, spread: np.ndarray, reference: Reference, seed: int
) -> np.ndarray:
    """The standard deviation of each share: by chance, and as training speakers differed when they were held out."""
    voices = pd.Series(speakers).value_counts(normalize=True)
    by_speaker = spread**2 * ((voices**2).sum() + 1 / int(reference.speakers))
    used = np.random.default_rng(seed).permutation(len(evidence))[:MOST_CLIPS]
    by_chance = mix_deviation(evidence[used], seed) ** 2 * len(used) / len(evidence)
    return np.sqrt(by_chance + by_speaker)
