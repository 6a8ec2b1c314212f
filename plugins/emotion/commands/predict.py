"""``emotion predict``: the emotion of each file, or of each window of a long one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

from emotion.commands.console import ConsoleProgress, clock, draw_bar, printable, verdict_line
from emotion.errors import AudioError
from emotion.settings import Settings


def run_predict(options: argparse.Namespace, settings: Settings) -> int:
    if options.window is None and options.hop is not None:
        options.misunderstood("--hop is of no use without --window")
    if options.window is not None and options.explain:
        options.misunderstood("--explain is for single answers: not with --window")
    from emotion.inference import CustomEmotionModel
    from emotion.store import Store

    if options.model.endswith(".pkl"):
        model = CustomEmotionModel(options.model)
    else:
        model = CustomEmotionModel.named(Store(settings.home), options.model)
    progress = ConsoleProgress("s" if options.window else "files")
    if options.window:
        found = _timelines(model, options, progress)
    else:
        found = _counted(model.predict_batch(options.files, explain=options.explain), len(options.files), progress)
    if not options.json:
        progress.print(" ".join(["Model", model.name, model.entry["dataset"]["notice"]]).rstrip())
    failed = 0
    for answer in found:
        failed += "error" in answer and "start" not in answer
        if options.json:
            progress.print(json.dumps(answer, allow_nan=False))
        else:
            progress.print(_describe(answer, detailed=options.explain or len(options.files) == 1))
    progress.close()
    if failed:
        print(f"emotion: no answer for {failed} of {len(options.files)} files", file=sys.stderr)
    return 1 if failed else 0


def _counted(answers: Iterator[dict], total: int, progress: ConsoleProgress) -> Iterator[dict]:
    for done, answer in enumerate(answers, start=1):
        progress("predict", done, total)
        yield answer


def _timelines(model, options: argparse.Namespace, progress: ConsoleProgress) -> Iterator[dict]:
    """The windows of each file, and an error for a file that has none."""
    hop = options.window / 2 if options.hop is None else options.hop
    for path in options.files:
        try:
            for answer in model.predict_timeline(path, window=options.window, hop=hop):
                progress(f"predict {printable(path)}", answer["end"], 0)
                yield {"path": path} | answer
        except AudioError as error:
            yield {"path": path, "error": error.reason, "message": str(error)}


def _describe(answer: dict, *, detailed: bool) -> str:
    path = printable(answer["path"])
    if "start" in answer:
        span = f"{clock(answer['start'])} – {clock(answer['end'])}"
        return f"{span}  {answer['error'] if 'error' in answer else verdict_line(answer):<41}  {path}"
    if "error" in answer:
        return f"{path}: no answer ({answer['error']}): {printable(answer['message'])}"
    if not detailed:
        return f"{verdict_line(answer)}  {path}"
    ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
    lines = [f"{path} ({answer['duration']:.1f} s): {answer['emotion']}"]
    lines += [f"  {emotion:<9}  {draw_bar(share)}  {share:.2f}" for emotion, share in ranked]
    for side, reasons in answer.get("explanation", {}).items():
        lines.append(f"  {side} {answer['emotion']}:")
        lines += [
            f"    {one['contribution']:+.3f}  {one['feature']} = {one['value']:.4g}: {one['description']}"
            for one in reasons
        ]
    return "\n".join(lines)
