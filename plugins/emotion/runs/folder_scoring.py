"""Scores a folder in this process and its workers, as the DAG does by tasks."""

from __future__ import annotations

import os
import time
from pathlib import Path

from emotion.bucket import is_url
from emotion.errors import ConfigurationError
from emotion.inference import CHAMPION
from emotion.metrics import Emitter
from emotion.progress import StageProgress, no_progress
from emotion.runs.run import run_folder
from emotion.runs.scoring_run import ScoringRun
from emotion.scoring import inbox, ledger
from emotion.scoring.options import Options
from emotion.scoring.plan import Request
from emotion.settings import Folder, Settings


def score_folder(
    settings: Settings,
    folder: str | os.PathLike,
    *,
    model: str = CHAMPION,
    challenger: str | None = None,
    batch: str | None = None,
    options: Options | None = None,
    emitter: Emitter | None = None,
    progress: StageProgress = no_progress,
    jobs: int = 1,
) -> dict:
    """Score a folder, as the DAG does; returns what ``summary.json`` of the batch holds.

    Parameters
    ----------
    settings : Settings
    folder : path
        Any folder; links that lead out of it are not followed. Or the URL of a folder of a bucket, in an inbox.
    model, challenger : str
        See :meth:`ScoringRun.find_new_audio`.
    batch : str, optional
        Name of the batch. With the name of a batch that was interrupted, that batch is continued.
    progress : callable
        Called with the stage (``find_new_audio``, ``score``), files done, files in all and ``files``.
    jobs : int
        How many processes decode and featurize the files, if there are many; the answers are the same bits. A
        script that asks for several must have its code below ``if __name__ == "__main__"`` (see multiprocessing).

    Raises
    ------
    NothingToScore
    ConfigurationError
        If the folder or the model is not there, or another process works on the batch.
    """
    place, inboxes = _place_of(folder, settings)
    name = batch or time.strftime("folder-%Y%m%dT%H%M%S-", time.gmtime()) + f"{os.getpid()}"
    run = ScoringRun(settings, name, emitter or Emitter(None), progress)
    with run.store.lock(ledger.batch_lock(run_folder(name)), wait=False) as held:
        if not held:
            raise ConfigurationError(f"another process is at work on batch {name}; wait for it, or name another batch")
        request = Request(
            [place], inboxes, model, challenger, options or Options(), settings.catalogue, settings.inbox_days
        )
        shards = run.claim(request)
        done_before, total = 0, sum(shard["files"] for shard in shards)
        with run.scored_elsewhere(shards, jobs) as scored:
            for shard in shards:
                run.progress = _in_all_shards(progress, done_before, total)
                run.score(part=shard["part"], scored=scored)
                done_before += shard["files"]
        run.progress = progress
        run.collect_predictions()
        run.watch_drift()
    return run.store.read_json(f"scores/{run.name}/summary.json")


def _place_of(folder: str | os.PathLike, settings: Settings) -> tuple[Folder, tuple[Folder, ...]]:
    """A folder that a person named in a terminal, and where links and objects may lie."""
    if is_url(folder):
        return inbox.confine(str(folder), settings.inboxes), settings.inboxes
    place = Path(os.path.realpath(folder))
    if not place.is_dir():
        raise ConfigurationError(f"{folder} is not a folder; expected one with recordings")
    return place, (place,)


def _in_all_shards(progress: StageProgress, done_before: int, total: int) -> StageProgress:
    """The progress of one shard as progress over the files of all shards."""
    return lambda stage, done, _, unit: progress(stage, done_before + done, total, unit)
