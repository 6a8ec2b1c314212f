"""Estimated accuracy of a batch without labels: what its calibrated probabilities promise.

If of the answers with confidence 0.8 about 80 % are right, the mean confidence of a batch is its expected accuracy,
and the sum of the probabilities by answer is its expected confusion matrix (confidence-based performance estimation;
Guillory et al. 2021, "Predicting with confidence on unseen distributions", and Garg et al. 2022, "Leveraging unlabeled
data to predict out-of-distribution performance", measure how far that holds). It holds for audio like that of training.
So there is no estimate where the batch is unlike it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from emotion.monitoring.reference import Reference
from emotion.monitoring.statistics import student_quantile
from emotion.vocabulary import MODES, emotions_of, probabilities_of

LEAST_CLIPS = 8
"""Fewer clips are not estimated."""
LEAST_FOR_F1 = 32
"""With fewer clips, macro F1 depends on which emotions happen to occur."""
MOST_UNFAMILIAR = 0.1
"""With a larger share of unfamiliar clips there is no estimate; 3 % of the clips of new speakers are unfamiliar."""
LEVEL = 0.975


def estimate(clips: pd.DataFrame, reference: Reference, *, family: str, drift: dict) -> dict:
    """The estimated accuracy of a batch, or why there is none.

    Parameters
    ----------
    clips : pandas.DataFrame
        A row per clip that was answered as a whole and that the model was not trained on: probabilities, ``mode``,
        ``speaker`` (``""`` where it is not known) and ``unfamiliar``.
    reference : Reference
        Of the model's version.
    family : str
        Of the model.
    drift : dict
        The verdict on the batch, from :func:`emotion.monitoring.drift.judge`.

    Returns
    -------
    dict
        ``clips``; ``withheld``: a sentence that says why there is no estimate, or None; ``accuracy`` (value, low, high)
        and ``f1_macro``, each None where there is none; ``by_mode``: of each mode that occurs, clips and value;
        ``confusion``: the expected number of clips by answer (columns) and true emotion (rows).
    """
    spread, kept = reference.calibration_spread, "measure how far its confidence holds"
    withheld = why_withheld(clips, reference, drift, least_clips=LEAST_CLIPS, spread=spread, kept=kept)
    if withheld:
        return not_estimated(withheld) | {"clips": len(clips)}
    probabilities = probabilities_of(clips).astype(float)
    confusion = expected_confusion(probabilities)
    confidence, modes = probabilities.max(axis=1), clips["mode"].to_numpy()
    return {
        "clips": len(clips),
        "withheld": None,
        "accuracy": _interval(clips, confidence, reference, family),
        "f1_macro": macro_f1(confusion) if len(clips) >= LEAST_FOR_F1 else None,
        "by_mode": {
            mode: {"clips": int((modes == mode).sum()), "value": float(confidence[modes == mode].mean())}
            for mode in MODES
            if (modes == mode).any()
        },
        "confusion": {"emotions": list(emotions_of(clips)), "clips": confusion.tolist()},
    }


def not_estimated(reason: str) -> dict:
    """What stands for :func:`estimate` where it fails; ``reason`` is a sentence.

    >>> not_estimated("The reference is damaged.")["withheld"]
    'The reference is damaged.'
    """
    figures: dict[str, Any] = dict.fromkeys(("accuracy", "f1_macro", "confusion"))
    return {"clips": 0, "withheld": reason, "by_mode": {}} | figures


def why_withheld(
    clips: pd.DataFrame, reference: Reference, drift: dict, *, least_clips: int, spread: np.ndarray, kept: str
) -> str | None:
    """Why the confidence for these clips is not reliable, as a sentence; None if nothing speaks against it.

    ``spread``: what the reference keeps of how training speakers differed; empty where it was made by an earlier
    release, which did not do what ``kept`` says. NaN: there were too few speakers.
    """
    if len(clips) < least_clips:
        return f"{len(clips)} clips are too few; at least {least_clips} short ones that were not trained on are needed."
    if not spread.size:
        return f"The model was trained by an earlier release, which did not {kept}."
    if np.isnan(spread).any():
        return (
            f"The model was trained on {reference.speakers} speakers: too few to tell how reliable its confidence is."
        )
    verdict = drift["verdict"]
    if verdict != "ok":
        words = "its drift is not known" if verdict == "unknown" else f"drift: {verdict}"
        subject = (
            "The batch was not compared with the audio of training"
            if verdict == "unknown"
            else ("The batch is unlike the audio of training")
        )
        return f"{subject} ({words}), so the confidence is not reliable."
    unfamiliar = float(clips["unfamiliar"].mean())
    if unfamiliar > MOST_UNFAMILIAR:
        return (
            f"{unfamiliar:.0%} of the clips are unfamiliar, which is over {MOST_UNFAMILIAR:.0%}, so the confidence "
            "is not reliable."
        )
    return None


def expected_confusion(probabilities: np.ndarray) -> np.ndarray:
    """The expected number of clips by true emotion (rows) and answer (columns), from probabilities (n, n_emotions).

    >>> expected_confusion(np.array([[0.75, 0.25], [0.5, 0.5]])).tolist()
    [[1.25, 0.0], [0.75, 0.0]]
    """
    answers = np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    return probabilities.T @ answers


def macro_f1(confusion: np.ndarray) -> float:
    """Macro F1 of a confusion matrix, rows true, over the emotions that occur.

    >>> round(macro_f1(np.array([[3.0, 1.0], [0.0, 4.0]])), 3)
    0.873
    """
    true, answered = confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = true > 0
    return float((2 * np.diag(confusion)[occurs] / (true + answered)[occurs]).mean())


def _interval(clips: pd.DataFrame, confidence: np.ndarray, reference: Reference, family: str) -> dict[str, float]:
    """The mean confidence and its 95 % interval.

    It varies by chance, as so many clips do at these confidences, and by speaker, as training speakers did when they
    were held out; the calibration itself comes from these few speakers. All clips of unknown speakers count as those
    of one.
    """
    shares = clips["mode"].value_counts(normalize=True)
    models = list(reference.models)
    spread = sum(
        share * reference.calibration_spread[models.index(f"{family}/{mode}")] ** 2 for mode, share in shares.items()
    )
    voices = clips["speaker"].value_counts(normalize=True)
    chance = (confidence * (1 - confidence)).sum() / len(confidence) ** 2
    variance = spread * ((voices**2).sum() + 1 / reference.speakers) + chance
    half = float(student_quantile(LEVEL, int(reference.speakers) - 1) * np.sqrt(variance))
    value = float(confidence.mean())
    return {"value": value, "low": max(value - half, 0.0), "high": min(value + half, 1.0)}
