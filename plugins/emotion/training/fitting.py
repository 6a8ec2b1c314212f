"""Train one family: every split of every protocol, calibration, and the final models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

from emotion.evaluation.folds import Fold
from emotion.models import pipelines
from emotion.models.classifier import Classifier, fit_temperature, normalize_by_speaker
from emotion.vocabulary import PROBABILITIES

TIMED_PREDICTIONS = 50
BACKGROUND_ROWS = 200


@dataclass(frozen=True)
class Trained:
    """What training one family gives.

    Attributes
    ----------
    plain, adapted : Classifier
        Fitted on all rows: on features as they are, and on features z-scored per speaker.
    folds : list of dict
        ``{"speakers": […], "clips": [samples_sha256, …], "model": Classifier}`` for each speaker-independent
        fold, plain: a later run re-scores this model on these speakers without one that has heard them.
    background : dict
        ``plain`` and ``adapted``: the same random rows, at most 200, as each of the two was fitted on.
    predictions : pandas.DataFrame
        Held-out predictions: protocol, fold, row, emotion and eight calibrated probabilities.
    hyperparameters : dict
        ``searched``, and what was found (:func:`emotion.models.pipelines.chosen`): ``plain``, ``adapted``, and ``folds``, by
        protocol a list of one a fold.
    timings : dict
        fit_seconds, predict_ms_single, predict_ms_batch, training_seconds.
    """

    plain: Classifier
    adapted: Classifier
    folds: list[dict]
    background: dict[str, np.ndarray]
    predictions: pd.DataFrame
    hyperparameters: dict
    timings: dict


def train(
    family: str,
    table: pd.DataFrame,
    features: np.ndarray,
    *,
    augmented: np.ndarray | None = None,
    views: list[np.ndarray] | None = None,
    folds: dict[str, list[Fold]],
    search: bool = False,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trained:
    """Fit a family on every split and on all rows.

    Parameters
    ----------
    family : str
    table : pandas.DataFrame
        A row a clip: emotion, speaker, samples_sha256.
    features : float32 array, shape (n_clips, n_features)
    augmented : float32 array, shape (n_variants, n_clips, n_features), optional
        Features of augmented copies of the same clips. A copy is a row to fit on wherever its clip is on the training
        side, and nothing else.
    views : list of int arrays, optional
        Columns of each view, see :func:`emotion.models.pipelines.build`.
    folds : dict
        From :func:`splits`.
    search : bool
        Search the classifier's settings, inside the training side of each fold and for each final model.
    seed : int
    progress : callable
        Told how many fits are done, of how many.

    Notes
    -----
    The temperature that calibrates a fold is fitted on the held-out predictions of the *other* folds; that of a
    final model on all held-out predictions of its speaker-independent folds; that of the 80/20 split on the held-out
    predictions, in the random folds, of its training side.
    """
    start = time.perf_counter()
    labels, speakers = table["emotion"].to_numpy(), table["speaker"].to_numpy()
    copies = np.empty((0, *features.shape), dtype=features.dtype) if augmented is None else augmented
    plain_rows = np.concatenate([features[None], copies])
    adapted_rows = np.stack([normalize_by_speaker(variant, speakers) for variant in plain_rows])
    # What is apart in a protocol is apart within its fits too: speakers, or clips where speakers are on both sides.
    clips = np.arange(len(labels))
    groups_of = {protocol: speakers if protocol.startswith("speaker") else clips for protocol in folds}
    total = sum(map(len, folds.values())) + 2
    done = 0

    def rows_for(protocol: str, train_rows: np.ndarray) -> np.ndarray:
        if protocol == "speaker_independent_adapted":
            return adapted_rows
        if protocol == "random_adapted":  # with held-out clips among them, statistics would tell what the others lack
            known = np.isin(clips, train_rows)
            return np.stack([normalize_by_speaker(variant, speakers, known=known) for variant in plain_rows])
        return plain_rows

    def fit(rows: np.ndarray, variants: np.ndarray, groups: np.ndarray) -> Classifier:
        nonlocal done
        model = Classifier.fit(
            family,
            variants[:, rows].reshape(-1, variants.shape[2]),
            np.tile(labels[rows], len(variants)),
            groups=np.tile(groups[rows], len(variants)),
            views=views,
            search=search,
            seed=seed,
        )
        done += 1
        progress(done, total)
        return model

    models: dict[str, list[Classifier]] = {name: [] for name in folds}
    logits: dict[str, list[np.ndarray]] = {name: [] for name in folds}
    for name, pairs in folds.items():
        for train_rows, test in pairs:
            variants = rows_for(name, train_rows)
            model = fit(train_rows, variants, groups_of[name])
            models[name].append(model)
            logits[name].append(model.logits(variants[0, test]))
    temperatures = {
        name: [_temperature_of_others(number, logits[name], pairs, labels) for number in range(len(pairs))]
        for name, pairs in folds.items()
        if name != "split_80_20"
    }
    train_side = np.isin(clips, folds["split_80_20"][0][0])
    temperatures["split_80_20"] = [
        fit_temperature(
            np.concatenate(
                [part[train_side[test]] for part, (_, test) in zip(logits["random"], folds["random"], strict=True)]
            ),
            np.concatenate([labels[test][train_side[test]] for _, test in folds["random"]]),
        )
    ]
    predictions = pd.concat(
        [
            _predictions(name, number, test, labels, softmax(logits[name][number] / temperatures[name][number], axis=1))
            for name, pairs in folds.items()
            for number, (_, test) in enumerate(pairs)
        ],
        ignore_index=True,
    )

    fit_start = time.perf_counter()
    plain = fit(clips, plain_rows, speakers)
    fit_seconds = time.perf_counter() - fit_start
    adapted = fit(clips, adapted_rows, speakers)
    for model, name in ((plain, "speaker_independent"), (adapted, "speaker_independent_adapted")):
        model.temperature = fit_temperature(
            np.concatenate(logits[name]), np.concatenate([labels[test] for _, test in folds[name]])
        )
    for model, temperature in zip(models["speaker_independent"], temperatures["speaker_independent"], strict=True):
        model.temperature = temperature
    sample = np.random.default_rng(seed).permutation(len(features))[:BACKGROUND_ROWS]
    return Trained(
        plain=plain,
        adapted=adapted,
        folds=[
            {
                "speakers": sorted(set(table["speaker"].iloc[test])),
                "clips": table["samples_sha256"].iloc[test].tolist(),
                "model": model,
            }
            for model, (_, test) in zip(models["speaker_independent"], folds["speaker_independent"], strict=True)
        ],
        background={"plain": features[sample], "adapted": adapted_rows[0, sample]},
        predictions=predictions,
        hyperparameters={
            "searched": search,
            "plain": pipelines.chosen(plain.pipeline, family),
            "adapted": pipelines.chosen(adapted.pipeline, family),
            "folds": {
                name: [pipelines.chosen(model.pipeline, family) for model in found] for name, found in models.items()
            },
        },
        timings=prediction_times(plain, features)
        | {"fit_seconds": fit_seconds, "training_seconds": time.perf_counter() - start},
    )


def _temperature_of_others(number: int, logits: list[np.ndarray], folds: list[Fold], labels: np.ndarray) -> float:
    others = [other for other in range(len(folds)) if other != number]
    return fit_temperature(
        np.concatenate([logits[other] for other in others]),
        np.concatenate([labels[folds[other][1]] for other in others]),
    )


def _predictions(protocol: str, fold: int, rows: np.ndarray, labels: np.ndarray, found: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(found, columns=PROBABILITIES)
    return frame.assign(protocol=protocol, fold=fold, row=rows, emotion=labels[rows])


def prediction_times(model, features: np.ndarray) -> dict:
    """``predict_ms_single``: median for one clip; ``predict_ms_batch``: per clip when all are given at once."""
    singles = []
    for row in range(TIMED_PREDICTIONS):
        one = features[row % len(features)][None]
        start = time.perf_counter()
        model.predict_proba(one)
        singles.append(time.perf_counter() - start)
    start = time.perf_counter()
    model.predict_proba(features)
    batch = time.perf_counter() - start
    return {
        "predict_ms_single": float(1000 * np.median(singles)),
        "predict_ms_batch": 1000 * batch / len(features),
    }
