"""What the sub-parsers of all commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from emotion.settings import Settings
from emotion.vocabulary import ADAPTATIONS, CHANNELS, SEGMENTS

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


def add_cutting_options(parser: argparse.ArgumentParser, *, segments: str | None = "windows") -> None:
    """Add ``--channels`` and ``--segments``, whose default is ``segments``."""
    parser.add_argument(
        "--channels",
        choices=CHANNELS,
        default="mix",
        help="mix: the mean of all channels is one recording (default); separate: each channel is a recording and a "
        "speaker of its own",
    )
    parser.add_argument(
        "--segments",
        choices=SEGMENTS,
        default=segments,
        help="cut a long recording into windows of one length, or into utterances of 1 to 15 s at its pauses",
    )


def add_adaptation_option(parser: argparse.ArgumentParser, batch: str) -> None:
    """Add ``--adaptation``; ``batch``: what clips are normalized by with ``batch``."""
    parser.add_argument(
        "--adaptation",
        choices=ADAPTATIONS,
        default="auto",
        help=f"what features are normalized by: nothing (none), the clips of the same speaker (speaker), or {batch}; "
        "auto: by speaker, or else by batch, if there are enough clips and they show several emotions (default: auto)",
    )


def add_jobs_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--jobs``: how many processes decode and featurize recordings."""
    parser.add_argument(
        "--jobs",
        type=_at_least_one,
        metavar="N",
        help="number of processes for many recordings; it does not change the answers (default: one for each processor "
        "that this command may use)",
    )


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_at_least_one.__name__ = "number"  # argparse says: invalid number value: '0'
