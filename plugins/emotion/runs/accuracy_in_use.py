"""How accurate the models are in use: estimated for a batch, and realized by what people heard in the review queues."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from emotion import metrics
from emotion.errors import EmotionError, StoreError, describe_failure
from emotion.metrics import Emitter
from emotion.models import registry
from emotion.monitoring import emotion_mix, estimated, realized
from emotion.monitoring.reference import REFERENCE, Reference
from emotion.review import settled
from emotion.scoring.tables import HEARD
from emotion.store import Store
from emotion.vocabulary import MODES

log = logging.getLogger(__name__)
ACCURACY = "reviews/accuracy.json"
"""The realized figures of every model, as :func:`measure_accuracy` last measured them."""
RECENT_DAYS = 90
"""The metrics of the champion count the batches of so many days, so that a fall shows after a long good time."""
MOST_MODELS = 5
"""Metrics are sent of the champion and of so many models, those with the newest labels."""
CHAMPION = "champion"
COLUMNS = ("error", "windows", "heard_in_training", "emotion", "confidence", "mode", "speaker", "unfamiliar")
"""The columns of ``predictions.parquet`` that :func:`of_batch` needs, besides the probabilities."""


def of_batch(
    store: Store, model: Mapping[str, Any], table: pd.DataFrame, *, drift: dict
) -> tuple[dict[str, dict | None], list[str]]:
    """What ``summary.json`` and the report of a batch say of accuracy; nothing here costs a prediction.

    Parameters
    ----------
    store : Store
    model : mapping
        The batch's model, an entry of :func:`emotion.scoring.plan.pinned_models`.
    table : pandas.DataFrame
        The contents of ``predictions.parquet``: :data:`COLUMNS` and the probabilities.
    drift : dict
        The verdict on the batch.

    Returns
    -------
    figures : dict
        ``estimated_accuracy`` (:func:`emotion.monitoring.estimated.estimate`, and ``promised``), ``emotion_mix``
        (:func:`emotion.monitoring.emotion_mix.corrected`) and ``realized_accuracy`` (of the model so far,
        :func:`emotion.monitoring.realized.realized_accuracy`).
    failures : list of str
        What could not be computed, and why.
    """
    family, failures = model["family"], []
    clips = table[(table["error"] == "") & (table["windows"] == 0) & (table["heard_in_training"] != HEARD)]
    clips = clips.reset_index(drop=True)
    try:
        entry = registry.entry(store, model["version"])
        reference = Reference.from_bytes(registry.read_file(store, entry, REFERENCE))
        estimate = estimated.estimate(clips, reference, family=family, drift=drift)
        mix = emotion_mix.corrected(clips, reference, family=family, drift=drift)
    except StoreError:
        raise  # the store fails at the moment: the task is tried again
    except Exception as error:
        log.warning("the accuracy of the batch cannot be estimated", exc_info=True)
        failures.append(describe_failure(error))
        reason = f"The accuracy could not be estimated: {describe_failure(error)}."
        estimate, mix = estimated.not_estimated(reason), emotion_mix.not_corrected(reason)
    try:
        so_far = _of_model(settled.table(store), store, model["version"], family)
    except StoreError:
        raise  # the store fails at the moment: the task is tried again
    except Exception as error:
        log.warning("the realized accuracy of %s cannot be measured", model["version"], exc_info=True)
        failures.append(describe_failure(error))
        so_far = None
    estimate["promised"] = promised(model.get("scores") or {}, clips["mode"].value_counts().to_dict())
    return {"estimated_accuracy": estimate, "emotion_mix": mix, "realized_accuracy": so_far}, failures


def promised(scores: Mapping[str, Mapping[str, float]], modes: Mapping[str, float]) -> float | None:
    """The accuracy on unheard speakers that training promised, as the mean over the modes by their weights.

    Parameters
    ----------
    scores : mapping
        The scores of a model by protocol, as its version keeps them.
    modes : mapping
        Mode → weight.

    Returns
    -------
    float or None
        None where the version does not say, or nothing has a weight.

    Examples
    --------
    >>> scores = {"speaker_independent": {"accuracy": 0.6}, "speaker_independent_batch": {"accuracy": 0.7}}
    >>> round(promised(scores, {"plain": 1, "batch": 3}), 3), promised(scores, {"speaker": 1})
    (0.675, None)
    """
    protocols = {mode: protocol for mode, protocol in MODES.items() if modes.get(mode)}
    by_mode = {mode: scores.get(protocol, {}).get("accuracy") for mode, protocol in protocols.items()}
    known = {mode: accuracy for mode, accuracy in by_mode.items() if accuracy is not None}
    if not known or len(known) < len(by_mode):
        return None
    return float(sum(modes[mode] * known[mode] for mode in known) / sum(modes[mode] for mode in known))


def _of_model(table: pd.DataFrame, store: Store, version: str, family: str, *, days: float | None = None) -> dict:
    """The realized figures of one model, from all settled labels; ``days``: of the batches of the last days alone."""
    try:
        entry = registry.entry(store, version)
        scores, trained_at = entry["scores"].get(family, {}), entry["created"]
    except EmotionError as error:
        log.warning("what training promised of %s is not known: %s", version, error)
        scores, trained_at = {}, ""
    rows = realized.of_model(table, version=version, family=family, trained_at=trained_at)
    if days is not None:
        since = pd.Timestamp(time.time() - days * 86_400, unit="s", tz="UTC")
        rows = rows[pd.to_datetime(rows["made_at"], utc=True, format="ISO8601") >= since]
    counted = rows[~rows["outcome"].isin(realized.LEFT_OUT)]
    weights = (1 / counted["probability"]).groupby(counted["mode"]).sum().to_dict()
    return realized.realized_accuracy(rows, promised=promised(scores, weights))


def measure_accuracy(store: Store, emitter: Emitter) -> dict[str, Any]:
    """Measure the realized accuracy of every model with labels; write it to :data:`ACCURACY`, and send the metrics.

    Returns
    -------
    dict
        The champion's ``name`` and, of the last :data:`RECENT_DAYS` days, its ``labels``, ``accuracy``, ``promised``,
        ``short_by`` and ``message``; ``fell``: whether ``short_by`` is above 0. {} without a champion. The file has,
        besides ``measured_at``, all figures (:func:`emotion.monitoring.realized.realized_accuracy`) of the
        ``champion`` in these days (None without one), and of all ``models`` by name, the one with the newest label
        first.
    """
    table = settled.table(store)
    newest = table.groupby(["version", "family"])["labelled_at"].max().sort_values(ascending=False)
    models = {f"{version}/{family}": _of_model(table, store, version, family) for version, family in newest.index}
    champion = _champion(table, store)
    store.write_json(ACCURACY, {"measured_at": registry.now(), "champion": champion, "models": models})
    for name in list(models)[:MOST_MODELS]:
        _emit(emitter, name, models[name])
    if champion is None:
        return {}
    figures = champion["figures"]
    _emit(emitter, CHAMPION, figures)
    emitter.gauge(metrics.ACCURACY_SHORT, figures["short_by"])
    brief = {key: figures[key] for key in ("labels", "accuracy", "promised", "short_by", "message")}
    return {"name": champion["name"], "fell": figures["short_by"] > 0} | brief


def read_accuracy(store: Store) -> dict | None:
    """What :func:`measure_accuracy` last wrote; None before it was first called."""
    return store.read_json(ACCURACY) if store.exists(ACCURACY) else None


def _champion(table: pd.DataFrame, store: Store) -> dict[str, Any] | None:
    champion = registry.champion(store)
    if champion is None:
        return None
    figures = _of_model(table, store, champion["version"], champion["family"], days=RECENT_DAYS)
    return {"name": f"{champion['version']}/{champion['family']}", "figures": figures}


def _emit(emitter: Emitter, name: str, figures: dict) -> None:
    """The figures of one model; what is not known is not sent."""
    model = name[-60:]
    emitter.gauge(metrics.REALIZED, figures["labels"], model=model, figure="labels")
    for figure, value in (figures["accuracy"] or {}).items():
        emitter.gauge(metrics.REALIZED, value, model=model, figure=figure)
    if figures["f1_macro"]:
        emitter.gauge(metrics.REALIZED, figures["f1_macro"]["value"], model=model, figure="f1_macro")
    if figures["promised"] is not None:
        emitter.gauge(metrics.REALIZED, figures["promised"], model=model, figure="promised")
