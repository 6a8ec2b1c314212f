"""The ``emotion`` command. ``emotion --help`` lists what it can do.

Answers go to standard output, progress and errors to standard error. Exit codes: 0 success; 1 an error, or a file
without an answer; 2 wrong usage; 130 interrupted.

Every command module adds its own sub-parser. A module that is slow to import is imported by the function that
needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys

from emotion.commands import doctor, export, mirror, predict, review, score, serve, versions
from emotion.commands.console import DISK_FULL, end_output, explain_os_error
from emotion.errors import EmotionError
from emotion.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    if sys.stderr is None:  # closed by whoever started the command
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  until the process ends
    if sys.stdout is None:
        print("emotion: the standard output is closed; redirect it to /dev/null if you do not need it", file=sys.stderr)
        return 1
    options = _parser().parse_args(arguments)
    # Imports make tens of thousands of objects, and no garbage: the collector need not search them again and again.
    gc.set_threshold(100_000)
    # The matrices of answers are small, and other processes use the cores: threads would cost more time than they save.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # some terminals cannot show the characters of a bar
    try:
        code = options.run(options, Settings.from_environment())
        sys.stdout.flush()
        return code
    except EmotionError as error:
        print(f"emotion: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        end_output()
        return 141
    except OSError as error:
        end_output()
        is_output = error.filename is None and error.errno in DISK_FULL  # an error of a file has its name
        message = f"the output cannot be written: {error.strerror}" if is_output else explain_os_error(error)
        print(f"emotion: {message}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotion",
        description="Predict the emotion in recordings of speech, and manage the models that do it.",
        epilog="`emotion COMMAND --help` explains a command. Models and results are stored in EMOTION_HOME (default: "
        "the folder emotion-home of the project). Exit codes: 0 success; 1 an error, or a file without an answer; "
        "2 wrong usage.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (predict, score, review, versions, serve, export, mirror, doctor):
        module.add_parser(commands)
    return parser
