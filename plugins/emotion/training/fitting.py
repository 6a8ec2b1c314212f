"""Train one family: fit every fold of every protocol, calibrate, and fit the final models.

The temperature that calibrates a fold is fitted on the held-out predictions of the *other* folds; that of a final model
on all held-out predictions of its speaker-independent folds; that of the 80/20 split on the held-out predictions, in
the random folds, of its training side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from emotion.evaluation.folds import Fold
from emotion.models import pipelines
from emotion.models.adaptation import Statistics, measure
from emotion.models.bundle import FoldModel
from emotion.models.classifier import Classifier, Ensemble, fit_temperature
from emotion.models.sums import Sums
from emotion.training.protocol_sums import sums_of_sides
from emotion.training.rows import ConditionRows, TrainingRows, Variants, dataset_weights
from emotion.vocabulary import DATASET_MODES, DATASET_PROTOCOLS, MODES, Mode, label_set, probability_columns

TIMED_PREDICTIONS = 50
"""Clips that are predicted alone, one after the other."""
TIMED_AT_ONCE = 5000
"""Clips that are predicted at once, or all where there are fewer."""
BACKGROUND_ROWS = 200


@dataclass(frozen=True)
class Trained:
    """The result of training one family.

    Attributes
    ----------
    models : dict of Classifier
        By mode (:data:`emotion.vocabulary.MODES`), fitted on all rows: on features as they are; z-scored with all
        training clips (each variant of them by itself); and z-scored per speaker.
    folds : list of FoldModel
        The plain model of each speaker-independent fold, and what it has not heard: a later run scores these clips and
        speakers by it.
    background : dict
        By mode: the same random rows, at most 200, as the model of the mode was fitted on.
    training : Statistics
        Of the training clips, as they are.
    predictions : pandas.DataFrame
        Held-out predictions: a calibrated probability for each emotion of the label set, protocol, fold, row and
        emotion.
    condition_predictions : pandas.DataFrame or None
        The same for a sample of clips under recording conditions, by the models of the folds that held out their
        speakers; with ``mode`` and ``condition`` in place of protocol.
    hyperparameters : dict
        ``searched``, and the values that were used (:func:`emotion.models.pipelines.chosen`): by mode, and of
        ``folds``: by protocol, a list with one entry per fold.
    timings : dict
        predict_ms_single, predict_ms_batch, fit_seconds, training_seconds.

    Examples
    --------
    >>> from emotion.evaluation.folds import splits
    >>> table = pd.DataFrame({"emotion": ["sad", "happy"] * 9, "speaker": np.repeat(["a", "b", "c"], 6)})
    >>> table["samples_sha256"] = [f"clip {number}" for number in range(18)]
    >>> rows = np.eye(4, dtype=np.float32)[[0, 1] * 9]
    >>> folds = splits(table, seed=0, published=None)
    >>> trained = train("logistic_regression", table, rows, folds=folds, seed=0)
    >>> trained.models["plain"].emotions, [fold["speakers"] for fold in trained.folds]
    (('happy', 'sad'), [['c'], ['b'], ['a']])
    >>> len(trained.predictions)  # 4 clips of the 80/20 split, and all 18 clips once in each of the 5 protocols
    94
    """

    models: dict[Mode, Classifier]
    folds: list[FoldModel]
    background: dict[Mode, np.ndarray]
    training: Statistics
    predictions: pd.DataFrame
    condition_predictions: pd.DataFrame | None
    hyperparameters: dict
    timings: dict[str, float]


@dataclass(frozen=True)
class _FoldFit:
    """What the model of one fold answers: of many folds, no more is kept.

    Attributes
    ----------
    test : int array, shape (n_test,)
    logits : float array, shape (n_test, n_emotions)
        For the test rows, in the order of ``label_set``.
    conditions : dict of float array, shape (n, n_emotions)
        By condition: the logits for the sampled clips that are on the test side.
    label_set : tuple of str
    chosen : dict
        :func:`emotion.models.pipelines.chosen`.
    model : Classifier or None
        Kept of the protocol whose fold models a later run is compared with.
    """

    test: np.ndarray
    logits: np.ndarray
    conditions: dict[str, np.ndarray]
    label_set: tuple[str, ...]
    chosen: dict[str, float]
    model: Classifier | None


class _Fitter:
    """Fits one family on rows of a training table, and reports how many fits are done."""

    def __init__(
        self,
        family: str,
        table_rows: TrainingRows,
        *,
        views: list[np.ndarray] | None,
        search: bool,
        seed: int,
        progress: Callable[[int, int], None],
        total: int,
        conditions: ConditionRows | None = None,
    ):
        self.family = family
        self.labels = table_rows.labels
        self.datasets = table_rows.datasets
        self.label_set = label_set(table_rows.labels)
        self.views = views
        self.search = search
        self.seed = seed
        self.progress = progress
        self.total = total
        self.conditions = conditions
        self.done = 0
        self.final: dict[str, tuple[Variants, Sums | None]] = {}
        """By protocol of :data:`emotion.vocabulary.MODES`: what its final model is fitted on."""

    def fit(self, rows: np.ndarray, variants: Variants, groups: np.ndarray, sums: Sums | None) -> Classifier:
        """Fit on all variants of some rows.

        ``rows``: row numbers; ``variants``: the features of all clips; ``groups``: shape (n_clips,); ``sums``: of
        these rows, from :func:`sums_of_sides`.
        """
        weights = dataset_weights(self.datasets[rows])
        model = Classifier.fit(
            self.family,
            variants.rows(rows),
            np.tile(self.labels[rows], len(variants)),
            groups=np.tile(groups[rows], len(variants)),
            views=self.views,
            search=self.search,
            weights=None if weights is None else np.tile(weights, len(variants)),
            sums=None if sums is None else sums.of_present_classes(),
            label_set=self.label_set,
            seed=self.seed,
        )
        self.done += 1
        self.progress(self.done, self.total)
        return model


def train(
    family: str,
    table: pd.DataFrame,
    features: np.ndarray,
    *,
    augmented: Sequence[np.ndarray] | None = None,
    conditions: ConditionRows | None = None,
    views: list[np.ndarray] | None = None,
    folds: dict[str, list[Fold]],
    search: bool = False,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trained:
    """Fit a family on every fold of every protocol, and on all rows.

    Parameters
    ----------
    family : str
    table : pandas.DataFrame
        One row per clip: emotion, speaker, samples_sha256.
    features : float32 array, shape (n_clips, n_features)
    augmented : sequence of float32 array, shape (n_clips, n_features), optional
        Features of each augmented copy of the same clips. A copy is a row to fit on wherever its clip is on the
        training side; it is never a row to test on.
    conditions : ConditionRows, optional
        Clips to test on under recording conditions.
    views : list of int arrays, optional
        Columns of each view, see :func:`emotion.models.pipelines.build`.
    folds : dict
        From :func:`emotion.evaluation.folds.splits`.
    search : bool
        Search the classifier's settings, inside the training side of each fold and for each final model.
    seed : int
    progress : callable
        Called after each fit with the number of fits done and their total.
    """
    start = time.perf_counter()
    rows = TrainingRows.from_table(table, features, augmented)
    options: dict[str, Any] = {"search": search, "seed": seed, "progress": progress, "conditions": conditions}
    fitter = _Fitter(family, rows, views=views, total=sum(map(len, folds.values())) + len(MODES), **options)
    fits = _fit_folds(rows, folds, fitter)
    temperatures = _temperatures(fits, folds, rows.labels)
    models, background, fit_seconds = _fit_final_models(rows, fits, fitter)
    return Trained(
        models=models,
        folds=_fold_models(fits["speaker_independent"], temperatures["speaker_independent"], table),
        background=background,
        training=measure(features),
        predictions=_held_out_predictions(fits, temperatures, rows.labels),
        condition_predictions=conditions and _condition_predictions(rows.labels, conditions, fits, temperatures),
        hyperparameters={"searched": search} | _hyperparameters(family, models, fits),
        timings=prediction_times(models["plain"], features)
        | {"fit_seconds": fit_seconds, "training_seconds": time.perf_counter() - start},
    )


def _fit_folds(rows: TrainingRows, folds: dict[str, list[Fold]], fitter: _Fitter) -> dict[str, list[_FoldFit]]:
    """A model per fold of every protocol, and its logits for the original clips of the test side."""
    fits: dict[str, list[_FoldFit]] = {protocol: [] for protocol in folds}
    for protocol, pairs in folds.items():
        is_final = protocol in MODES.values()
        sides = [train_side for train_side, _ in pairs] + [rows.clips] * is_final
        prepared = sums_of_sides(rows, protocol, sides)
        for (train_side, test), (variants, sums) in zip(pairs, prepared, strict=False):
            model = fitter.fit(train_side, variants, rows.groups(protocol), sums)
            fits[protocol].append(_answers(rows, protocol, (train_side, test), variants, model, fitter))
        if is_final:
            fitter.final[protocol] = next(prepared)
    return fits


def _answers(
    rows: TrainingRows, protocol: str, fold: Fold, variants: Variants, model: Classifier, fitter: _Fitter
) -> _FoldFit:
    """What the model of a fold answers for its test side."""
    train_side, test = fold
    logits = model.logits(variants[0, test])
    if protocol in DATASET_PROTOCOLS:  # the emotions that the held-out dataset does not have
        logits = np.where(np.isin(model.label_set, rows.labels[test]), logits, -np.inf)
    by_condition: dict[str, np.ndarray] = {}
    if fitter.conditions and protocol in MODES.values():
        is_tested = np.isin(fitter.conditions.rows, test)
        for condition, values in fitter.conditions.values.items() if is_tested.any() else ():
            features = rows.test_side(protocol, train_side, fitter.conditions.rows[is_tested], values[is_tested])
            by_condition[condition] = model.logits(features)
    return _FoldFit(
        test=test,
        logits=logits,
        conditions=by_condition,
        label_set=model.label_set,
        chosen=pipelines.chosen(model.pipeline, fitter.family),
        model=model if protocol == MODES["plain"] else None,
    )


def _temperatures(
    fits: dict[str, list[_FoldFit]], folds: dict[str, list[Fold]], labels: np.ndarray
) -> dict[str, list[float]]:
    """The temperature of each fold of each protocol, from held-out predictions of other clips than its own."""
    temperatures = {
        protocol: [
            _temperature_of_fold(protocol, protocol_fits, fit, train_side, fits, labels)
            for fit, (train_side, _) in zip(protocol_fits, folds[protocol], strict=True)
        ]
        for protocol, protocol_fits in fits.items()
        if protocol != "split_80_20"
    }
    train_side = folds["split_80_20"][0][0]
    temperatures["split_80_20"] = [_temperature_of(fits["random"], labels, only=train_side)]
    return temperatures


def _temperature_of_fold(
    protocol: str,
    protocol_fits: list[_FoldFit],
    fit: _FoldFit,
    train_side: np.ndarray,
    fits: dict[str, list[_FoldFit]],
    labels: np.ndarray,
) -> float:
    """From the other folds of the protocol. Where one dataset alone can be held out there is no other fold, and the
    speaker-independent folds of the same mode count, with the clips of the training side."""
    if others := [other for other in protocol_fits if other is not fit]:
        return _temperature_of(others, labels)
    mode = next(mode for mode, name in DATASET_MODES.items() if name == protocol)
    return _temperature_of(fits[MODES[mode]], labels, only=train_side)


def _temperature_of(fits: list[_FoldFit], labels: np.ndarray, *, only: np.ndarray | None = None) -> float:
    """The temperature for the held-out predictions of these folds together; ``only``: for these rows of them."""
    counted = np.ones(len(labels), dtype=bool) if only is None else np.isin(np.arange(len(labels)), only)
    return fit_temperature(
        np.concatenate([fit.logits[counted[fit.test]] for fit in fits]),
        np.concatenate([labels[fit.test[counted[fit.test]]] for fit in fits]),
        fits[0].label_set,
    )


def _fit_final_models(
    rows: TrainingRows, fits: dict[str, list[_FoldFit]], fitter: _Fitter
) -> tuple[dict[Mode, Classifier], dict[Mode, np.ndarray], float]:
    """The calibrated model of each mode, fitted on all rows; its background, the same random clips for each mode; and
    the seconds that the plain fit took."""
    sample = np.random.default_rng(fitter.seed).permutation(len(rows.labels))[:BACKGROUND_ROWS]
    models: dict[Mode, Classifier] = {}
    background: dict[Mode, np.ndarray] = {}
    seconds: dict[Mode, float] = {}
    for mode, protocol in MODES.items():
        variants, sums = fitter.final.pop(protocol)
        start = time.perf_counter()
        models[mode] = fitter.fit(rows.clips, variants, rows.speakers, sums)
        seconds[mode] = time.perf_counter() - start
        models[mode].temperature = _temperature_of(fits[protocol], rows.labels)
        background[mode] = variants[0, sample]
    return models, background, seconds["plain"]


def _held_out_predictions(
    fits: dict[str, list[_FoldFit]], temperatures: dict[str, list[float]], labels: np.ndarray
) -> pd.DataFrame:
    frames = []
    for protocol, protocol_fits in fits.items():
        for number, (fit, temperature) in enumerate(zip(protocol_fits, temperatures[protocol], strict=True)):
            columns = probability_columns(fit.label_set)
            frame = pd.DataFrame(softmax(fit.logits / temperature, axis=1), columns=columns)
            frames.append(frame.assign(protocol=protocol, fold=number, row=fit.test, emotion=labels[fit.test]))
    return pd.concat(frames, ignore_index=True)


def _condition_predictions(
    labels: np.ndarray,
    conditions: ConditionRows,
    fits: dict[str, list[_FoldFit]],
    temperatures: dict[str, list[float]],
) -> pd.DataFrame:
    """Predictions for the sampled clips under each condition, in each mode, by the fold that held out the speaker."""
    frames = []
    for mode, protocol in MODES.items():
        for number, (fit, temperature) in enumerate(zip(fits[protocol], temperatures[protocol], strict=True)):
            test_rows = conditions.rows[np.isin(conditions.rows, fit.test)]
            for condition, logits in fit.conditions.items():
                probabilities = softmax(logits / temperature, axis=1)
                frame = pd.DataFrame(probabilities, columns=probability_columns(fit.label_set))
                frame = frame.assign(mode=mode, condition=condition, fold=number, row=test_rows)
                frames.append(frame.assign(emotion=labels[test_rows]))
    return pd.concat(frames, ignore_index=True)


def _fold_models(fits: list[_FoldFit], temperatures: list[float], table: pd.DataFrame) -> list[FoldModel]:
    """The calibrated models of the folds, each with the speakers and clips that it has not heard."""
    fold_models: list[FoldModel] = []
    for fit, temperature in zip(fits, temperatures, strict=True):
        assert fit.model is not None
        fit.model.temperature = temperature
        fold_models.append(
            {
                "speakers": sorted(set(table["speaker"].iloc[fit.test])),
                "clips": table["samples_sha256"].iloc[fit.test].tolist(),
                "model": fit.model,
            }
        )
    return fold_models


def _hyperparameters(family: str, models: dict[Mode, Classifier], fits: dict[str, list[_FoldFit]]) -> dict:
    return {mode: pipelines.chosen(model.pipeline, family) for mode, model in models.items()} | {
        "folds": {protocol: [fit.chosen for fit in protocol_fits] for protocol, protocol_fits in fits.items()},
    }


def prediction_times(model: Classifier | Ensemble, features: np.ndarray) -> dict[str, float]:
    """How long predictions take: float32 features, shape (n_clips, n_features).

    Returns
    -------
    dict
        ``predict_ms_single``: the median for one clip alone, in ms; ``predict_ms_batch``: per clip, with all clips at
        once, or :data:`TIMED_AT_ONCE` of them.

    Examples
    --------
    >>> rows, labels = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array(["sad", "happy"] * 8)
    >>> list(prediction_times(Classifier.fit("logistic_regression", rows, labels, seed=0), rows))
    ['predict_ms_single', 'predict_ms_batch']
    """
    singles = []
    for row in range(TIMED_PREDICTIONS):
        clip = features[row % len(features)][None]
        start = time.perf_counter()
        model.predict_proba(clip)
        singles.append(time.perf_counter() - start)
    at_once = features[:TIMED_AT_ONCE]
    start = time.perf_counter()
    model.predict_proba(at_once)
    batch = time.perf_counter() - start
    return {
        "predict_ms_single": float(1000 * np.median(singles)),
        "predict_ms_batch": 1000 * batch / len(at_once),
    }
