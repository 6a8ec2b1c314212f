"""``make demo``, ``make train`` and ``make airflow``: one training run, or the UI, on this machine.

The report of a run goes to standard output, all else to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion import progress
from emotion.bucket import is_url
from emotion.commands.console import LINE_EVERY, PATIENCE, explain_os_error, format_amount, open_bar
from emotion.commands.local_airflow import DAG_ID, POLL_SECONDS, AirflowBusy, AirflowProblem, LocalAirflow, free_port
from emotion.datasets import combining, importing, repository, zenodo
from emotion.datasets.catalogue import Entry, RepositoryEntry, ZenodoEntry, find_entry
from emotion.errors import ConfigurationError, EmotionError
from emotion.runs.run import run_folder
from emotion.settings import PROJECT, Settings, absolute_path
from emotion.store import Store

if TYPE_CHECKING:
    from tqdm import tqdm

FINISHED = ("success", "failed")
"""States of a DAG run that no longer change."""
BAR = "{desc} {bar:20} {n_fmt}/{total_fmt}{unit}"
NO_BAR = "{desc}"
"""For a stage that counts nothing."""


@dataclass(frozen=True)
class Stage:
    """How far a stage of a run is, over all its tasks.

    ``started`` and ``finished`` are Unix seconds; ``finished`` is None while a task is at work.
    """

    name: str
    unit: str
    done: int
    total: int
    started: float
    finished: float | None


def add_up(states: list[dict]) -> list[Stage]:
    """The stages of a run, in the order in which they started, from the states that its tasks recorded.

    >>> record = {"stage": "featurize", "unit": "clips", "started": 5.0}
    >>> add_up([record | {"done": 9, "total": 9, "finished": 8.0}, record | {"done": 2, "total": 9, "finished": None}])
    [Stage(name='featurize', unit='clips', done=11, total=18, started=5.0, finished=None)]
    """
    by_stage: dict[str, list[dict]] = {}
    for state in states:
        by_stage.setdefault(state["stage"], []).append(state)
    return [
        Stage(
            name=name,
            unit=tasks[0]["unit"],
            done=sum(task["done"] for task in tasks),
            total=sum(task["total"] for task in tasks),
            started=min(task["started"] for task in tasks),
            finished=None
            if any(task["finished"] is None for task in tasks)
            else max(task["finished"] for task in tasks),
        )
        for name, tasks in by_stage.items()
    ]


def describe(stages: list[Stage]) -> str:
    """The stages at work and how far each is, in one line.

    >>> describe([Stage("train", "fits", 2, 20, 0.0, None), Stage("compare", "", 0, 0, 0.0, None)])
    'train 2 of 20 fits · compare'
    """
    return " · ".join(
        f"{stage.name} {format_amount(stage.done, stage.total, stage.unit)}" if stage.total else stage.name
        for stage in stages
        if stage.finished is None
    )


class RunDisplay:
    """Shows on standard error how far a run is: on a terminal a bar per stage, elsewhere a line now and then.

    Each call of :meth:`show` takes all states that the run recorded so far. Nothing is shown in the first
    :data:`emotion.commands.console.PATIENCE` seconds.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._bars: dict[str, tqdm] = {}
        self._names: list[str] = []
        self._next_line = 0.0

    def show(self, states: list[dict]) -> None:
        """Draw the bars again, or print a line if it is time for one."""
        seconds = time.monotonic() - self._start
        if seconds < PATIENCE:
            return
        stages = add_up(states)
        if sys.stderr.isatty():
            for stage in stages:
                self._draw(stage)
        else:
            self._print(stages, seconds)

    def close(self) -> None:
        """Leave the bars as they are, and the cursor below them."""
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()

    def _draw(self, stage: Stage) -> None:
        """Draw the bar of one stage, with the seconds that the stage took so far."""
        if stage.name not in self._bars:
            self._bars[stage.name] = open_bar(stage.name, stage.unit)
        bar = self._bars[stage.name]
        bar.bar_format = BAR if stage.total else NO_BAR
        bar.total, bar.n = stage.total or None, stage.done
        seconds = (time.time() if stage.finished is None else stage.finished) - stage.started
        bar.set_description_str(f"[{seconds:4.0f} s] {stage.name:<26}")

    def _print(self, stages: list[Stage], seconds: float) -> None:
        """Print a line when other stages are at work than in the line before, or after LINE_EVERY seconds."""
        names = [stage.name for stage in stages if stage.finished is None]
        if names != self._names or seconds >= self._next_line:
            print(f"[{seconds:4.0f} s] {describe(stages) or 'waiting for the scheduler'}", file=sys.stderr, flush=True)
            self._names, self._next_line = names, seconds + LINE_EVERY


@dataclass(frozen=True)
class RunResult:
    """What a training run left behind, and how long it took (s): in all, and with a task at work."""

    comparison: dict
    decision: dict
    folder: str
    wall_seconds: float
    work_seconds: float


def run_training(airflow: LocalAirflow, settings: Settings, conf: dict, *, run_id: str) -> RunResult:
    """Trigger one training run, show its progress, and return its results.

    Raises
    ------
    AirflowProblem
        If the run failed, with the errors of its failed tasks.
    """
    store, folder = Store(settings.home), f"runs/{run_folder(run_id)}"
    display = RunDisplay()
    start, asked = time.monotonic(), False
    airflow.trigger(conf, run_id=run_id)
    try:
        while (state := _state_if_known(airflow, run_id)) not in FINISHED:
            airflow.check_alive()
            if not asked and awaits_a_person(store, folder, policy=conf.get("promotion", "auto")):
                asked = True
                print(f"A person has to decide on the promotion: {airflow.url}/required_actions", file=sys.stderr)
                print("Without an answer within a day the champion stays.", file=sys.stderr, flush=True)
            display.show(progress.read(store, f"{folder}/progress"))
            time.sleep(POLL_SECONDS)
        wall_seconds = time.monotonic() - start
        states = progress.read(store, f"{folder}/progress")
        display.show(states)
    finally:
        display.close()
    if state == "failed":
        errors = "\n".join(f"  {task}: {error}" for task, error in airflow.failures(run_id))
        raise AirflowProblem(f"the run failed:\n{errors}")
    return RunResult(
        comparison=store.read_json(f"{folder}/comparison.json"),
        decision=store.read_json(f"{folder}/decision.json"),
        folder=store.url(folder),
        wall_seconds=wall_seconds,
        work_seconds=progress.busy_seconds(states),
    )


def _state_if_known(airflow: LocalAirflow, run_id: str) -> str | None:
    """The state of a run; None while the API server has no answer, for example because tasks fill every core."""
    try:
        return airflow.state(run_id)
    except AirflowBusy:
        return None


def awaits_a_person(store: Store, folder: str, *, policy: str) -> bool:
    """Whether the run in this folder has a comparison that a person has to decide about, and no decision yet."""
    if not store.exists(f"{folder}/challenge.json") or store.exists(f"{folder}/decision.json"):
        return False
    from emotion.runs.training_results import asks_a_person

    return asks_a_person(store.read_json(f"{folder}/challenge.json")["verdict"], policy)


def report_run(result: RunResult) -> str:
    """The comparison of a run, its decision, and where its files are, as text."""
    from emotion.reports.training_report import text_table

    comparison, decision = result.comparison, result.decision
    wall, work = result.wall_seconds, result.work_seconds
    lines = [
        "",
        text_table(comparison),
        "",
        f"Selected: {comparison['selected']}. {comparison['selection']['reason']}",
        f"Champion: {decision['decision']}. {' '.join(decision['reasons'])}",
        "",
        f"Report     {result.folder}/report.html",
        f"Figures    {result.folder}/comparison.json, comparison.csv; in the same folder: shap/, rejected.csv",
        f"Models     {result.folder.rpartition('/runs/')[0]}/models/{decision['version']}/",
        f"Time       {wall:.0f} s, of which the tasks worked {work:.0f} s and Airflow used {wall - work:.0f} s",
        "UI         make airflow, then http://127.0.0.1:8080",
    ]
    if comparison["notice"]:
        lines += ["", f"NOTE: {comparison['notice']}"]
    return "\n".join(lines)


def training_variables(sources: Iterable[str]) -> dict[str, str]:
    """The environment variables of one training run: no run that a schedule makes due, and the sources are allowed."""
    schedules = ("EMOTION_TRAINING_SCHEDULE", "EMOTION_SCORING_SCHEDULE", "EMOTION_REVIEW_SCHEDULE")
    variables = dict.fromkeys(schedules, "")
    if sources := list(sources):
        recordings = Settings.from_environment().recordings if os.environ.get("EMOTION_RECORDINGS") else ()
        variables["EMOTION_RECORDINGS"] = json.dumps([*map(str, recordings), *sources])
    return variables


def parse_sources(text: str, datasets: Sequence[str]) -> dict[str, str]:
    """Which dataset is taken from where, with absolute paths, from what a person typed.

    With one dataset the text is a path; with several it is ``name=path,name=path``. A comma may be part of a path: a
    new entry begins only where the name of a dataset and ``=`` follow.

    Raises
    ------
    ConfigurationError
        If there are several datasets and the text does not begin with the name of one; if a dataset is named twice or
        has no path.

    Examples
    --------
    >>> parse_sources("nemo=/data/nEMO, all,emodb=/data/emodb.zip", ["nemo", "emodb", "tess"])
    {'nemo': '/data/nEMO, all', 'emodb': '/data/emodb.zip'}
    >>> parse_sources("/data/calls", ["labelled-folder"])
    {'labelled-folder': '/data/calls'}
    """
    if not text:
        return {}
    names = "|".join(map(re.escape, datasets))
    starts = [match.start() for match in re.finditer(rf"(?:^|(?<=,))\s*(?:{names})=", text)]
    if not starts and len(datasets) == 1:
        return {datasets[0]: _absolute(text)}
    if not starts or text[: starts[0]].strip():
        raise ConfigurationError(
            f"the source {text!r} does not say which dataset it is of; expected NAME=PATH,NAME=PATH with the names "
            f"{', '.join(datasets)}"
        )
    parts = [text[start:end] for start, end in pairwise([*starts, len(text)])]
    pairs = [part.strip().removesuffix(",").partition("=") for part in parts]
    sources = {name: path for name, _, path in pairs}
    if len(sources) < len(pairs) or not all(sources.values()):
        raise ConfigurationError(
            f"the source {text!r} names a dataset twice, or has no path for one; expected NAME=PATH,NAME=PATH, or no "
            "entry for a dataset that is downloaded"
        )
    return {name: _absolute(path) for name, path in sources.items()}


def _absolute(source: str) -> str:
    """A path as an absolute one, or a URL as it is."""
    return source if is_url(source) else str(absolute_path(source))


def train_once(
    datasets: Sequence[str], source: str = "", *, also_test_on: Sequence[str] = (), stress_clips: int | None = None
) -> None:
    """Start Airflow, train once, print the report, and stop Airflow.

    ``source``: as in :func:`parse_sources`; ``stress_clips``: None is the form's default.
    """
    combining.check_names(datasets, also_test_on, {})
    names = [*datasets, *also_test_on]
    sources = parse_sources(source, names)
    extra = training_variables(sources.values())
    conf: dict[str, Any] = {"datasets": list(datasets), "sources": sources, "also_test_on": list(also_test_on)}
    conf |= {} if stress_clips is None else {"stress_clips": stress_clips}
    settings = Settings.from_environment(os.environ | extra)
    for name in names:
        entry = find_entry(settings.catalogue, name)
        is_ready = importing.is_ready(Store(settings.home), settings, name, source=sources.get(name))
        if name not in sources and not is_ready:
            _check_reachable(settings, entry)
    run_id = f"{'-'.join(datasets)[:80]}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    _inform(f"Starting Airflow (logs in {airflow_home()})")
    airflow = LocalAirflow(airflow_home(), free_port(), extra)
    with airflow.running("scheduler", "dag-processor"):
        for unfinished in airflow.abandon_unfinished():
            _inform(f"Run {unfinished} was interrupted. It is marked as failed; what it has stored is used again.")
        _inform(f"Running {DAG_ID} on {', '.join(datasets)}; watch it at {airflow.url}/dags/{DAG_ID}/runs/{run_id}")
        result = run_training(airflow, settings, conf, run_id=run_id)
    print(report_run(result))


def _check_reachable(settings: Settings, entry: Entry) -> None:
    """Raise DownloadError if the dataset is downloaded and its host cannot be reached."""
    if isinstance(entry, ZenodoEntry):
        zenodo.check_reachable(settings, entry)
    elif isinstance(entry, RepositoryEntry):
        repository.check_reachable(entry)


def serve() -> None:
    """Start Airflow and keep it running until Ctrl-C."""
    airflow = LocalAirflow(airflow_home(), free_port(ui_port()))
    _inform("Starting Airflow …")
    with airflow.running("scheduler", "dag-processor", "triggerer"):
        print(f"Airflow is ready: {airflow.url}   (logs in {airflow.home}; Ctrl-C stops it)", flush=True)
        while True:
            airflow.check_alive()
            time.sleep(1)


def _names(text: str) -> list[str]:
    """The names in a list separated by commas or blanks."""
    return text.replace(",", " ").split()


def _inform(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def airflow_home() -> Path:
    """``AIRFLOW_HOME``, or ``.airflow`` in the project."""
    return absolute_path(os.environ.get("AIRFLOW_HOME") or PROJECT / ".airflow")


def ui_port() -> int:
    """The port of the UI: ``PORT``, or 8080. Raises ConfigurationError if it is none."""
    text = os.environ.get("PORT") or "8080"
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise ConfigurationError(f"PORT is {text!r}; expected a port from 0 (any that is free) to 65535")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run what the Makefile asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m emotion.commands.local_run", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="train on the synthesized corpus")
    train = commands.add_parser("train", help="train on RAVDESS, or on another dataset of the catalogue")
    train.add_argument("--dataset", default="ravdess-speech", help="names in the catalogue, separated by commas")
    train.add_argument(
        "--source",
        default="",
        help="folder or zip to use instead of a download; of several datasets NAME=PATH,NAME=PATH",
    )
    train.add_argument("--also-test-on", default="", metavar="NAMES", help="datasets to test on and not to train on")
    train.add_argument("--stress-clips", type=int, metavar="N", help="clips that are tested under recording conditions")
    commands.add_parser("serve", help="run the UI and the scheduler until Ctrl-C")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal was closed
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        if options.command == "serve":
            serve()
        elif options.command == "demo":
            train_once(["synthesized"])
        else:
            train_once(
                _names(options.dataset),
                options.source,
                also_test_on=_names(options.also_test_on),
                stress_clips=options.stress_clips,
            )
    except EmotionError as error:
        print(f"\nERROR: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nERROR: {explain_os_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 0 if options.command == "serve" else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
