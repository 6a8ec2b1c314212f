"""``emotion score``: a folder, scored as the DAG does it."""

from __future__ import annotations

import argparse

from emotion.commands.console import ConsoleProgress, draw_bar
from emotion.settings import Settings
from emotion.vocabulary import EMOTIONS


def run_score(options: argparse.Namespace, settings: Settings) -> int:
    from emotion import metrics
    from emotion.runs import scoring_run
    from emotion.scoring.options import NothingToScore, Options

    progress = ConsoleProgress("files")
    try:
        summary = scoring_run.score_folder(
            settings,
            options.folder,
            model=options.model,
            challenger=options.challenger,
            batch=options.batch,
            options=Options(settle_seconds=0),
            emitter=metrics.statsd_emitter(settings.statsd),
            progress=progress,
        )
    except NothingToScore as nothing:
        print(nothing)
        return 0
    finally:
        progress.close()
    rejected = sum(summary["rejected"].values())
    print(f"{summary['scored']} of {summary['files']} files scored, {summary['audio_seconds']:.0f} s of audio")
    for emotion in EMOTIONS:
        count = summary["emotions"].get(emotion, 0)
        print(f"  {emotion:<9}  {draw_bar(count / max(1, summary['scored']))}  {count}")
    for reason, count in summary["rejected"].items():
        print(f"  {count} not scored: {reason}")
    print(f"Needs a listener: {summary['needs_listener']}")
    print(f"Drift: {' '.join([summary['drift']['verdict'] + '.', *summary['drift']['reasons']])}")
    if summary["model"]["notice"]:
        print(f"The model: {summary['model']['notice']}")
    print(f"See {settings.home}/scores/{summary['batch']}/report.html")
    return 1 if rejected else 0
