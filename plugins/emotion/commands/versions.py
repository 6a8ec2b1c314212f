"""``emotion models``, ``emotion promote`` and ``emotion rollback``: list the versions and choose the champion."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from emotion.commands.arguments import add_command
from emotion.commands.console import format_table
from emotion.errors import DataError, EmotionError
from emotion.settings import Settings
from emotion.vocabulary import EMOTIONS, FAMILIES

if TYPE_CHECKING:
    from emotion.models.registry import ChampionPointer
    from emotion.store import Store


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add_command(commands, "models", run_models, "List all model versions, and say which is the champion.")

    promote = add_command(
        commands,
        "promote",
        run_promote,
        "Make a version the champion by hand. No rule is checked: read the version's report first.",
    )
    promote.add_argument("version", metavar="VERSION", help="a version as `emotion models` lists it")
    promote.add_argument(
        "--family",
        choices=(*FAMILIES, "ensemble"),
        help="which of the version's models (default: the one that its training run selected)",
    )
    promote.add_argument("--reason", required=True, metavar="TEXT", help="why; recorded with the promotion")

    rollback = add_command(commands, "rollback", run_rollback, "Make the previous champion the champion again.")
    rollback.add_argument("--reason", default="by hand", metavar="TEXT", help="why; recorded with the roll-back")


def run_models(options: argparse.Namespace, settings: Settings) -> int:
    """Print a table of the versions, and what is wrong with the champion's files."""
    from emotion.evaluation.selection import PROTOCOL, SCORE
    from emotion.models import registry
    from emotion.models.documents import known_emotions
    from emotion.store import Store

    store = Store(settings.home)
    pointer = registry.champion(store)
    champion: Mapping = pointer or {}
    rows = [("VERSION", "CREATED", "DATASET", "MODEL", "MACRO F1 *", "")]
    entries = registry.versions(store)
    for entry in entries:
        is_champion = entry["version"] == champion.get("version")
        family = champion["family"] if is_champion else entry["selected"]
        if family not in entry["scores"]:
            raise DataError(
                f"{store.url('models')}/{entry['version']}/version.json has no scores of the champion, {family}; it "
                f"has those of {', '.join(entry['scores'])}. Restore it from a backup, or promote a version again"
            )
        score, dataset = entry["scores"][family][PROTOCOL][SCORE], entry["dataset"]["name"]
        since = f"champion since {champion['since']}" if is_champion else ""
        rows.append((entry["version"], entry["created"], dataset, family, f"{score:.3f}", since))
    fault = _champion_fault(store, pointer) if pointer else ""
    if not entries:
        print(
            f"There are no models in {settings.home} yet: train with make demo, make train or the DAG emotion_training."
        )
    else:
        print(format_table(rows))
        print("\n* on unheard speakers, that is, speakers the model was not trained on")
    for entry in entries:
        if (emotions := known_emotions(entry)) != EMOTIONS:
            print(f"{entry['version']} knows {len(emotions)} emotions: {', '.join(emotions)}")
    for notice in sorted({entry["dataset"]["notice"] for entry in entries} - {""}):
        print(notice)
    if fault:
        print(f"\nThe champion cannot be used: {fault}")
    return 0


def _champion_fault(store: Store, champion: ChampionPointer) -> str:
    """Why the champion cannot be used, if one of its files is gone or another one; "" where nothing is wrong."""
    from emotion.models import decisions, registry

    try:
        registry.champion_entry(store, champion)
        decisions.require_bundle(store, champion["version"], champion["family"])
    except EmotionError as error:
        return str(error)
    return ""


def run_promote(options: argparse.Namespace, settings: Settings) -> int:
    """Make a version the champion, if it can be loaded."""
    from emotion.inference import CustomEmotionModel
    from emotion.models import decisions
    from emotion.store import Store

    store = Store(settings.home)
    model = CustomEmotionModel.from_store(store, options.version, options.family)
    decisions.promote_by_hand(store, version=model.version, family=model.family, reason=options.reason)
    _announce_champion(store, settings)
    return 0


def run_rollback(options: argparse.Namespace, settings: Settings) -> int:
    """Make the previous champion the champion again."""
    from emotion.models import decisions
    from emotion.store import Store

    store = Store(settings.home)
    decisions.rollback(store, reason=options.reason)
    _announce_champion(store, settings)
    return 0


def _announce_champion(store: Store, settings: Settings) -> None:
    """Print who the champion is now, and send its scores as metrics for the dashboards."""
    from emotion import metrics
    from emotion.evaluation.selection import PROTOCOL
    from emotion.models import registry
    from emotion.runs.mlflow_mirror import mirror_after_change
    from emotion.runs.training_metrics import emit_champion

    champion = registry.champion(store)
    assert champion is not None, "called after a promotion"
    emitter = metrics.statsd_emitter(settings.statsd)
    for score, value in registry.entry(store, champion["version"])["scores"][champion["family"]][PROTOCOL].items():
        emitter.gauge(metrics.CHAMPION_SCORE, value, protocol=PROTOCOL, score=score)
    emit_champion(emitter, champion)
    mirror_after_change(store, settings)
    print(f"The champion is now {champion['version']} ({champion['family']}).")
