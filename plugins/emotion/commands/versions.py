"""``emotion models``, ``emotion promote`` and ``emotion rollback``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

from emotion.commands.console import print_table
from emotion.settings import Settings


def run_models(options: argparse.Namespace, settings: Settings) -> int:
    from emotion.evaluation.selection import PROTOCOL, SCORE
    from emotion.models import registry
    from emotion.store import Store

    store = Store(settings.home)
    pointer: Mapping = registry.champion(store) or {}
    rows = [("VERSION", "CREATED", "DATASET", "MODEL", "MACRO F1 *", "")]
    entries = registry.versions(store)
    for entry in entries:
        is_champion = entry["version"] == pointer.get("version")
        family = pointer["family"] if is_champion else entry["selected"]
        rows.append(
            (
                entry["version"],
                entry["created"],
                entry["dataset"]["name"],
                family,
                f"{entry['scores'][family][PROTOCOL][SCORE]:.3f}",
                f"champion since {pointer['since']}" if is_champion else "",
            )
        )
    if not entries:
        print(f"There are no models in {settings.home} yet: run the DAG emotion_training.")
        return 0
    print(print_table(rows))
    print("\n* on speakers held out")
    for notice in sorted({entry["dataset"]["notice"] for entry in entries} - {""}):
        print(notice)
    return 0


def run_promote(options: argparse.Namespace, settings: Settings) -> int:
    from emotion.inference import CustomEmotionModel
    from emotion.models import registry
    from emotion.store import Store

    store = Store(settings.home)
    model = CustomEmotionModel.from_store(store, options.version, options.family)  # what cannot be loaded cannot serve
    registry.promote_by_hand(store, version=model.version, family=model.family, reason=options.reason)
    return _announce(store, settings)


def run_rollback(options: argparse.Namespace, settings: Settings) -> int:
    from emotion.models import registry
    from emotion.store import Store

    store = Store(settings.home)
    registry.rollback(store, reason=options.reason)
    return _announce(store, settings)


def _announce(store, settings: Settings) -> int:
    """Tell people and dashboards who the champion is now."""
    from emotion import metrics
    from emotion.evaluation.selection import PROTOCOL
    from emotion.models import registry

    pointer = registry.champion(store)
    emitter = metrics.statsd_emitter(settings.statsd)
    for score, value in registry.entry(store, pointer["version"])["scores"][pointer["family"]][PROTOCOL].items():
        emitter.gauge(metrics.CHAMPION_SCORE, value, protocol=PROTOCOL, score=score)
    emitter.gauge(metrics.CHAMPION_SINCE, time.time())
    print(f"The champion is now {pointer['version']} ({pointer['family']}).")
    return 0
