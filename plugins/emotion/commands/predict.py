"""``emotion predict``: the emotion of each file, or of each window of a long file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from emotion.commands.arguments import add_adaptation_option, add_command, add_model_option
from emotion.commands.console import ConsoleProgress, draw_bar, format_answer, format_time, printable
from emotion.errors import AudioError
from emotion.settings import Settings

if TYPE_CHECKING:
    from emotion.inference import CustomEmotionModel


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "predict",
        run_predict,
        "Predict the emotion of each recording, with the model's confidence.",
        epilog="Formats: all that libsndfile reads (WAV, FLAC, OGG, MP3 and others), at any sampling rate, with 1 to "
        "8 channels. A recording longer than 60 s gets no single answer: use --window.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recording")
    add_model_option(parser, "VERSION or VERSION/FAMILY as `emotion models` lists them, or the path of a bundle (.pkl)")
    parser.add_argument(
        "--explain", action="store_true", help="list the features that speak most for and against the predicted emotion"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="load a bundle (.pkl) that is in no version of the artifact store; it can run any code",
    )
    add_adaptation_option(parser, "all given files (batch), which must be of one recording condition")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument(
        "--window", type=float, metavar="S", help="predict the emotion of every window of S seconds: a timeline"
    )
    parser.add_argument(
        "--hop", type=float, metavar="S", help="seconds between the starts of two windows (default: half a window)"
    )


def run_predict(options: argparse.Namespace, settings: Settings) -> int:
    """Print an answer per file, or per window; returns 1 if a file got no answer."""
    if options.window is None and options.hop is not None:
        options.usage_error("--hop needs --window")
    if options.window is not None and options.explain:
        options.usage_error("--explain cannot be combined with --window")
    from emotion.inference import CustomEmotionModel
    from emotion.store import Store

    if options.model.endswith(".pkl"):
        model = CustomEmotionModel(options.model, settings=settings, trust=options.trust)
    else:
        model = CustomEmotionModel.named(Store(settings.home), options.model)
    options.files = [
        "./-" if file == "-" else file for file in options.files
    ]  # libsndfile reads "-" from standard input
    progress = ConsoleProgress()
    answers = (_single_answers if options.window is None else _timelines)(model, options, progress)
    if not options.json:
        progress.print(" ".join(["Model", model.name, model.entry["dataset"]["notice"]]).rstrip())
    failed = 0
    for answer in answers:
        failed += "error" in answer and "start" not in answer
        if options.json:
            progress.print(json.dumps(answer, allow_nan=False))
        else:
            progress.print(_describe(answer, detailed=options.explain or len(options.files) == 1))
    progress.close()
    if failed:
        print(f"emotion: no answer for {failed} of {len(options.files)} files", file=sys.stderr)
    return 1 if failed else 0


def _single_answers(
    model: CustomEmotionModel, options: argparse.Namespace, progress: ConsoleProgress
) -> Iterator[dict]:
    """One answer per file."""
    for done, answer in enumerate(
        model.predict_batch(options.files, adaptation=options.adaptation, explain=options.explain), start=1
    ):
        progress("predict", done, len(options.files), "files")
        yield answer


def _timelines(model: CustomEmotionModel, options: argparse.Namespace, progress: ConsoleProgress) -> Iterator[dict]:
    """One answer per window of each file, and an error for a file that has no windows."""
    hop = options.window / 2 if options.hop is None else options.hop
    for path in options.files:
        try:
            for answer in model.predict_timeline(path, window=options.window, hop=hop):
                progress(f"predict {printable(path)}", int(answer["end"]), 0, "s")
                yield {"path": path} | answer
        except AudioError as error:
            yield {"path": path, "error": error.reason, "message": str(error)}


def _describe(answer: dict, *, detailed: bool) -> str:
    """An answer as text: one line, or a line per emotion and feature if ``detailed``."""
    path = printable(answer["path"])
    if "start" in answer:
        span = f"{format_time(answer['start'])} – {format_time(answer['end'])}"
        return f"{span}  {answer['error'] if 'error' in answer else format_answer(answer):<41}  {path}"
    if "error" in answer:
        return f"{path}: no answer ({answer['error']}): {printable(answer['message'])}"
    if not detailed:
        return f"{format_answer(answer)}  {path}"
    ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
    lines = [f"{path} ({answer['duration']:.1f} s): {answer['emotion']}"]
    lines += [f"  {emotion:<9}  {draw_bar(share)}  {share:.2f}" for emotion, share in ranked]
    if "no_explanation" in answer:
        lines.append(f"  no explanation: {printable(answer['no_explanation'])}")
    for side, features in (answer.get("explanation") or {}).items():
        lines.append(f"  {side} {answer['emotion']}:")
        lines += [
            f"    {feature['contribution']:+.3f}  {feature['feature']} = {feature['value']:.4g}: "
            f"{feature['description']}"
            for feature in features
        ]
    return "\n".join(lines)
