"""What the sub-parsers of all commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from emotion.settings import Settings

Run = Callable[[argparse.Namespace, Settings], int]
"""Runs a command and returns its exit code."""


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Run,
    description: str,
    *,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    """Add the sub-parser of one command.

    Its options hold ``run``, and ``usage_error``: a function that prints the usage with a message and exits with 2.
    """
    parser = commands.add_parser(name, help=description, description=description, epilog=epilog)
    parser.set_defaults(run=run, usage_error=parser.error)
    return parser


def add_model_option(parser: argparse.ArgumentParser, choices: str) -> None:
    """Add ``--model`` with the champion as its default; ``choices`` says what else it may name."""
    parser.add_argument(
        "--model",
        default="champion",
        metavar="MODEL",
        help=f"the model to use: {choices} (default: the champion)",
    )


def add_adaptation_option(parser: argparse.ArgumentParser, batch: str) -> None:
    """Add ``--adaptation``; ``batch``: what clips are normalized by with ``batch``."""
    parser.add_argument(
        "--adaptation",
        choices=("auto", "batch", "speaker", "none"),
        default="auto",
        help=f"what features are normalized by: nothing (none), the clips of the same speaker (speaker), or {batch}; "
        "auto: by speaker, else by batch, where there are enough clips and they show several emotions (default: auto)",
    )
