"""``emotion score``: score a folder of recordings as the DAG ``emotion_scoring`` does."""

from __future__ import annotations

import argparse
import os
import sys
from itertools import islice

from emotion.commands.arguments import (
    add_adaptation_option,
    add_command,
    add_cutting_options,
    add_jobs_option,
    add_model_option,
)
from emotion.commands.console import ConsoleProgress, draw_bar, name_width, printable
from emotion.settings import Settings
from emotion.workers import WORKER_FILES, start_server, usable_cores

MANY_FILES = 2 * WORKER_FILES
"""From so many files on, the fork server of the workers is started at once."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "score",
        run_score,
        "Score a folder of recordings, as the DAG emotion_scoring does: predictions, a report and a verdict on drift.",
        epilog="The results are written to EMOTION_HOME/scores/BATCH/: predictions.csv, predictions.parquet, "
        "summary.json, drift.json and report.html. A file that the same model scored before is skipped.",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="a folder of recordings, with its subfolders; or the URL of a folder of a bucket that lies in one of "
        "EMOTION_INBOXES, such as s3://bucket/inbox/calls",
    )
    add_model_option(parser, "VERSION or VERSION/FAMILY as `emotion models` lists them")
    parser.add_argument(
        "--challenger",
        metavar="MODEL",
        help="a second model that scores the same files, for comparison: latest (the newest version), VERSION or "
        "VERSION/FAMILY",
    )
    add_cutting_options(parser)
    parser.add_argument(
        "--rescore",
        action="store_true",
        help="also score files that the model has scored before, with these or other options",
    )
    add_adaptation_option(parser, "the clips of their folder (batch)")
    parser.add_argument(
        "--least-accuracy",
        type=float,
        metavar="SHARE",
        help="least accuracy of the answers that are kept, such as 0.8, as measured on speakers that the model was not "
        "trained on; less certain answers are left to a listener (default: those with a confidence below 0.5)",
    )
    parser.add_argument(
        "--review-clips",
        type=int,
        default=20,
        metavar="N",
        help="number of clips to put into the review queue, for people to hear and label; their audio is kept in "
        "EMOTION_HOME; 0: none (default: 20)",
    )
    parser.add_argument(
        "--batch",
        metavar="NAME",
        help="name of the batch (default: made from the time); the name of an interrupted batch continues it",
    )
    add_jobs_option(parser)


def run_score(options: argparse.Namespace, settings: Settings) -> int:
    """Score the folder and print a summary; returns 1 if a file could not be scored."""
    jobs = options.jobs or usable_cores()
    if jobs > 1 and has_many_files(options.folder):
        start_server(["emotion.commands.main", "emotion.features.loaded", "emotion.scoring.shard"])
    from emotion import metrics
    from emotion.runs.folder_scoring import score_folder
    from emotion.scoring.options import NothingToScore, Options

    progress = ConsoleProgress()
    try:
        summary = score_folder(
            settings,
            options.folder,
            model=options.model,
            challenger=options.challenger,
            batch=options.batch,
            options=Options(
                settle_seconds=0,
                rescore=options.rescore,
                adaptation=options.adaptation,
                channels=options.channels,
                segments=options.segments,
                least_accuracy=options.least_accuracy,
                review_clips=options.review_clips,
            ),
            emitter=metrics.statsd_emitter(settings.statsd),
            progress=progress,
            jobs=jobs,
        )
    except NothingToScore as nothing:
        print(nothing)
        return 0
    finally:
        progress.close()
    for table in summary["labels_refused"]:
        print(f"emotion: scored without labels: {printable(table['message'])}", file=sys.stderr)
    for failure in summary["failures"]:
        what = printable(" ".join(filter(None, [failure["step"], failure["path"]])))
        print(f"emotion: {what}: {printable(failure['message'])}", file=sys.stderr)
    print(_describe(summary))
    print(f"See {settings.home}/scores/{summary['batch']}/report.html")
    return 1 if summary["rejected"] or summary["temporary_errors"] else 0


def has_many_files(folder: str) -> bool:
    """Whether there are many files below a folder."""
    files = (file for _, _, files in os.walk(folder) for file in files)
    return len(list(islice(files, MANY_FILES))) == MANY_FILES


def _describe(summary: dict) -> str:
    """The summary of a batch as text."""
    drift, limits = summary["drift"], summary["listener_limits"]
    unit = "channels and files" if summary["channels"] else "files"
    lines = [f"{summary['scored']} of {summary['files']} {unit} scored, {summary['audio_seconds']:.0f} s of audio"]
    width = name_width(summary["emotions"])
    for emotion, count in summary["emotions"].items():
        lines.append(f"  {emotion:<{width}}  {draw_bar(count / max(1, summary['scored']))}  {count}")
    lines += [f"  {count} not scored: {reason}" for reason, count in summary["rejected"].items()]
    lines += [
        f"  left for the next time: {printable(file['path'])}: {printable(file['message'])}"
        for file in summary["temporary_errors"]
    ]
    if summary["heard_in_training"]:
        lines.append(
            f"Files that the model was trained on: {summary['heard_in_training']}; not counted for accuracy and drift"
        )
    if summary["labels_outside"]:
        lines.append(
            f"Files whose label is no emotion of this model: {summary['labels_outside']}; not counted for accuracy"
        )
    limit = " or ".join(f"{share:.0%}" for share in dict.fromkeys(limits.values()))
    lines.append(f"Files to listen to (confidence below {limit}, or unfamiliar): {summary['needs_listener']}")
    if summary["unfamiliar"]:
        lines.append(f"Unfamiliar files, which are probably not speech: {summary['unfamiliar']}")
    if summary["review"]["clips"]:
        lines.append(f"Clips to hear and label: {summary['review']['clips']}; `emotion review export DIR` writes them")
    verdict = "not judged" if drift["verdict"] == "unknown" else drift["verdict"]
    lines.append(f"Drift: {' '.join([verdict + '.', *drift['reasons']])}")
    if estimate := summary.get("estimated_accuracy"):  # not in a batch that an earlier release has closed
        lines.append(_describe_estimate(estimate))
    if summary["model"]["notice"]:
        lines.append(f"About the model: {summary['model']['notice']}")
    return "\n".join(lines)


def _describe_estimate(estimate: dict) -> str:
    """The estimated accuracy of a batch as a line of text.

    >>> _describe_estimate({"withheld": None, "accuracy": {"value": 0.7, "low": 0.6, "high": 0.8}})
    'Accuracy, estimated without labels: 70% (95% interval 60% to 80%)'
    """
    if estimate["withheld"]:
        return f"Accuracy: not estimated. {estimate['withheld']}"
    share = estimate["accuracy"]
    interval = f"{share['low']:.0%} to {share['high']:.0%}"
    return f"Accuracy, estimated without labels: {share['value']:.0%} (95% interval {interval})"
