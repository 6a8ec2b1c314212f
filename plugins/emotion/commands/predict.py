"""``emotion predict``: the emotion of each file, or of each window of a long file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from emotion.commands.arguments import (
    add_adaptation_option,
    add_command,
    add_cutting_options,
    add_jobs_option,
    add_model_option,
)
from emotion.commands.console import ConsoleProgress, draw_bar, format_answer, format_time, name_width, printable
from emotion.errors import AudioError
from emotion.settings import Settings
from emotion.workers import WORKER_FILES, start_server, usable_cores

if TYPE_CHECKING:
    from emotion.inference import CustomEmotionModel

MOST = 100
"""Files of a page at most: each has its audio in it."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "predict",
        run_predict,
        "Predict the emotion of each recording, with the model's confidence.",
        epilog="Formats: all that libsndfile reads (WAV, FLAC, OGG, MP3 and others), at any sampling rate, with 1 to "
        "8 channels. A recording longer than 60 s gets no single answer: use --window or --segments utterances.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recording")
    add_model_option(parser, "VERSION or VERSION/FAMILY as `emotion models` lists them, or the path of a bundle (.pkl)")
    parser.add_argument(
        "--explain", action="store_true", help="say in words what speaks for and against the predicted emotion"
    )
    parser.add_argument("--features", action="store_true", help="with --explain: also list the features of each group")
    parser.add_argument(
        "--html",
        metavar="OUT.html",
        help="with --explain: write a page that shows each clip and what speaks for its answer",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="load a bundle (.pkl) that is in no version of the artifact store; it can run any code",
    )
    add_cutting_options(parser, segments=None)
    add_jobs_option(parser)
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
    _check_usage(options)
    jobs = min(options.jobs or usable_cores(), len(options.files) // WORKER_FILES or 1)
    if jobs > 1:
        start_server(["emotion.commands.main", "emotion.features.loaded", "emotion.inference.answer_queue"])
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
    if options.window is None and options.segments is None:
        answers = _single_answers(model, options, progress, jobs)
    else:
        answers = _timelines(model, options, progress)
    if not options.json:
        progress.print(" ".join(["Model", model.name, model.entry["dataset"]["notice"]]).rstrip())
    page: list[dict] = []
    failed = 0
    for answer in answers:
        if options.html:
            page.append(_with_picture(answer))
        failed += "error" in answer and "start" not in answer
        if options.json:
            progress.print(json.dumps(answer, allow_nan=False))
        else:
            detailed = options.explain or len(options.files) == 1
            progress.print(_describe(answer, detailed=detailed, features=options.features))
    progress.close()
    if options.html:
        _write_page(page, model, options.html)
    if failed:
        total = f"of {len(options.files)} files" if options.channels == "mix" else "channels or files"
        print(f"emotion: no answer for {failed} {total}", file=sys.stderr)
    return 1 if failed else 0


def _check_usage(options: argparse.Namespace) -> None:
    """End with the usage if options contradict each other."""
    if options.segments == "utterances" and (options.window is not None or options.hop is not None):
        options.usage_error("--segments utterances cannot be combined with --window or --hop")
    if options.window is None and options.hop is not None:
        options.usage_error("--hop needs --window")
    if options.explain and (options.window is not None or options.segments is not None):
        options.usage_error("--explain cannot be combined with --window or --segments")
    if (options.features or options.html) and not options.explain:
        options.usage_error(f"{'--features' if options.features else '--html'} needs --explain")
    if options.html and (not options.html.lower().endswith((".html", ".htm")) or Path(options.html).is_dir()):
        # It would overwrite a recording where the name of the page was forgotten.
        options.usage_error(f"--html {options.html}: expected the name of a file that ends in .html")
    if options.html and len(options.files) > MOST:
        options.usage_error(f"--html takes {MOST} files at most, found {len(options.files)}")


def _with_picture(answer: dict) -> dict:
    """An answer with what the page draws of it; a file that cannot be read any more has no picture."""
    from emotion.inference import windows
    from emotion.reports.clip_page import add_picture

    try:
        clip = None if "error" in answer else windows.read(answer["path"], channel=answer.get("channel"))
    except AudioError:
        clip = None
    return add_picture(answer, clip)


def _write_page(clips: list[dict], model: CustomEmotionModel, path: str) -> None:
    from emotion.reports import clip_page

    Path(path).write_bytes(clip_page.render(clips, model=model.name, entry=model.entry).encode())


def _single_answers(
    model: CustomEmotionModel, options: argparse.Namespace, progress: ConsoleProgress, jobs: int
) -> Iterator[dict]:
    """One answer per file or channel."""
    files = _CountedFiles(options.files, progress)
    yield from model.predict_batch(
        files, adaptation=options.adaptation, explain=options.explain, channels=options.channels, jobs=jobs
    )


class _CountedFiles:
    """Files that report progress as they are read: their answers may all come at the end."""

    def __init__(self, files: list[str], progress: ConsoleProgress):
        self._files, self._progress = files, progress

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[str]:
        for done, file in enumerate(self._files):
            self._progress("predict", done, len(self), "files")
            yield file


def _timelines(model: CustomEmotionModel, options: argparse.Namespace, progress: ConsoleProgress) -> Iterator[dict]:
    """One answer per window or utterance of each file, and an error for a file that has none."""
    from emotion.inference.windows import WINDOW

    window = WINDOW if options.window is None else options.window
    hop = window / 2 if options.hop is None else options.hop
    segments = options.segments or "windows"
    for path in options.files:
        try:
            for answer in model.predict_timeline(
                path, window=window, hop=hop, segments=segments, channels=options.channels
            ):
                progress(f"predict {printable(path)}", int(answer["end"]), 0, "s")
                yield {"path": path} | answer
        except AudioError as error:
            yield {"path": path, "error": error.reason, "message": str(error)}


def _describe(answer: dict, *, detailed: bool, features: bool = False) -> str:
    """An answer as text: one line; or a line per emotion and reason if ``detailed``, and the ``features`` of each."""
    path = printable(answer["path"]) + (f", channel {answer['channel']}" if "channel" in answer else "")
    if "start" in answer:
        span = f"{format_time(answer['start'])} – {format_time(answer['end'])}"
        return f"{span}  {answer['error'] if 'error' in answer else format_answer(answer):<41}  {path}"
    if "error" in answer:
        return f"{path}: no answer ({answer['error']}): {printable(answer['message'])}"
    if not detailed:
        return f"{format_answer(answer)}  {path}"
    ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
    lines = [f"{path} ({answer['duration']:.1f} s): {answer['emotion']}"]
    width = name_width(answer["probabilities"])
    lines += [f"  {emotion:<{width}}  {draw_bar(share)}  {share:.2f}" for emotion, share in ranked]
    if "no_explanation" in answer:
        lines.append(f"  no explanation: {printable(answer['no_explanation'])}")
    if explanation := answer.get("explanation"):
        lines += _describe_explanation(explanation, features=features)
    return "\n".join(lines)


def _describe_explanation(explanation: dict, *, features: bool) -> list[str]:
    lines = [f"  {explanation['sentence']}", f"    {explanation['base_value']:6.2f}  a mean training clip"]
    for group in explanation["groups"]:
        lines.append(f"    {group['contribution']:+6.2f}  {group['group']}: {group['words']}")
        for feature in group["features"] if features else ():
            lines.append(
                f"        {feature['contribution']:+.3f}  {feature['feature']} = {feature['value']:.4g}: "
                f"{feature['description']}"
            )
    return lines
