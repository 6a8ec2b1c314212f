"""The command line: ``emotion predict | score | models | promote | rollback | doctor``.

Answers go to standard output, progress and complaints to standard error. Exit codes: 0 all went well; 1
something could not be done (with some of the files, say); 2 the command was not understood; 130 interrupted.

Whatever takes long to import is imported by the command that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from emotion.commands.doctor import run_doctor
from emotion.commands.predict import run_predict
from emotion.commands.score import run_score
from emotion.commands.versions import run_models, run_promote, run_rollback
from emotion.errors import EmotionError
from emotion.settings import Settings
from emotion.vocabulary import FAMILIES


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    options = _parser().parse_args(arguments)
    sys.stdout.reconfigure(errors="replace")  # a terminal without the characters of a bar
    try:
        code = options.run(options, Settings.from_environment())
        sys.stdout.flush()
        return code
    except EmotionError as error:
        print(f"emotion: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has had enough; Python must not complain at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotion",
        description="What emotion does a voice show? Ask trained models, and look after them.",
        epilog="The artifact store is EMOTION_HOME. Exit codes: 0 all went well, 1 something could not be "
        "done, 2 the command was not understood.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable, description: str, **more) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=description, description=description, **more)
        found.set_defaults(run=run, misunderstood=found.error)
        return found

    def add_model(to: argparse.ArgumentParser, what: str) -> None:
        to.add_argument("--model", default="champion", metavar="MODEL", help=f"{what} (default: the champion)")

    predict = command(
        "predict",
        run_predict,
        "Say what emotion each recording shows, and how sure the model is.",
        epilog="Reads what libsndfile does (WAV, FLAC, OGG, MP3 …), any rate, 1 to 8 channels. A recording "
        "of more than 60 s gets no single answer but, with --window, a timeline.",
    )
    predict.add_argument("files", nargs="+", metavar="FILE", help="a recording")
    add_model(predict, "a version, VERSION/FAMILY, or a bundle's path (….pkl)")
    predict.add_argument("--explain", action="store_true", help="list the features that spoke for and against")
    predict.add_argument("--json", action="store_true", help="print one JSON object a line")
    predict.add_argument("--window", type=float, metavar="S", help="answer for every window of S seconds: a timeline")
    predict.add_argument("--hop", type=float, metavar="S", help="seconds from window to window (default: half of one)")

    score = command(
        "score",
        run_score,
        "Score a folder of recordings as the DAG emotion_scoring does: predictions, report and drift, "
        "written below EMOTION_HOME/scores/<batch>/.",
    )
    score.add_argument("folder", metavar="FOLDER", help="a folder of recordings")
    add_model(score, "a version, or VERSION/FAMILY")
    score.add_argument(
        "--challenger",
        metavar="MODEL",
        help="a second model to hold against the first: latest, or as --model",
    )
    score.add_argument("--batch", metavar="NAME", help="name of the batch (default: from the time)")

    command("models", run_models, "List the versions there are, and which is the champion.")

    promote = command("promote", run_promote, "Make a version the champion by hand, after reading its report.")
    promote.add_argument("version", metavar="VERSION")
    promote.add_argument(
        "--family", choices=(*FAMILIES, "ensemble"), help="which of its models (default: the one it selected)"
    )
    promote.add_argument("--reason", required=True, metavar="TEXT", help="why; it is recorded")

    rollback = command("rollback", run_rollback, "Go back to the champion before this one.")
    rollback.add_argument("--reason", default="by hand", metavar="TEXT", help="why; it is recorded")

    doctor = command("doctor", run_doctor, "Check the installation: what works, what is missing, and how to mend it.")
    doctor.add_argument(
        "--graphite",
        default=os.environ.get("EMOTION_GRAPHITE"),
        metavar="URL",
        help="Graphite's address, to see whether metrics arrive there (default: EMOTION_GRAPHITE)",
    )
    return parser
