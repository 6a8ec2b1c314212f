"""``emotion mirror``: copies what is known of all versions to an MLflow tracking server."""

from __future__ import annotations

import argparse

from emotion.commands.arguments import add_command
from emotion.settings import Settings


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add_command(
        commands,
        "mirror",
        run_mirror,
        "Copy parameters, scores and reports of all versions to an MLflow tracking server (MLFLOW_TRACKING_URI).",
        epilog="Training runs, promotions and roll-backs do this by themselves. This command adds older versions, and "
        "those of times when the server was down. Nothing is added twice. Bundles are not copied.",
    )


def run_mirror(options: argparse.Namespace, settings: Settings) -> int:
    """Mirror everything, and print what."""
    if settings.mlflow is None:
        options.usage_error("MLFLOW_TRACKING_URI is not set; expected the address of a tracking server")
    from emotion.runs.mlflow_mirror import mirror_all
    from emotion.store import Store

    mirrored = mirror_all(Store(settings.home), settings)
    print(f"{len(mirrored)} versions are in MLflow{': ' + ', '.join(mirrored) if mirrored else ''}")
    return 0
