"""``make demo``, ``make train`` and ``make airflow``: one training run, or the UI, on this machine."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from emotion import progress
from emotion.commands.local_airflow import DAG_ID, POLL_SECONDS, AirflowProblem, LocalAirflow, free_port
from emotion.datasets import importing, zenodo
from emotion.datasets.catalogue import find_entry
from emotion.errors import EmotionError
from emotion.settings import PROJECT, Settings
from emotion.store import Store, run_folder

QUIET_SECONDS = 5
FINISHED = ("success", "failed")


class Display:
    """Progress for people: one line that is drawn again on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last, self._shown = "", 0.0

    def show(self, text: str) -> None:
        """Say what is going on."""
        elapsed = time.monotonic() - self._start
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K[{elapsed:4.0f} s] {text}"[: width + 4], end="", flush=True)
        elif text.split(" ")[0] != self._last.split(" ")[0] or time.monotonic() - self._shown >= QUIET_SECONDS:
            print(f"[{elapsed:4.0f} s] {text}", flush=True)
            self._last, self._shown = text, time.monotonic()

    def done(self) -> None:
        """End the line that is drawn again and again."""
        if sys.stdout.isatty():
            print()


def describe(states: list[dict]) -> str:
    """The stages at work, with how far each is, in one line."""
    active = [state for state in states if state["finished"] is None]
    shown: dict[str, dict] = {}
    for state in states if active else ():
        stage = shown.setdefault(state["stage"], {"done": 0, "total": 0, "unit": state["unit"], "active": False})
        stage["done"] += state["done"]
        stage["total"] += state["total"]
        stage["active"] |= state["finished"] is None
    parts = []
    for name, stage in shown.items():
        if stage["active"]:
            amount = f" {_amount(stage)}" if stage["total"] else ""
            parts.append(name + amount)
    return " · ".join(parts)


def _amount(stage: dict) -> str:
    if stage["unit"] == "bytes":
        return f"{stage['done'] / 1e6:.0f} of {stage['total'] / 1e6:.0f} MB"
    return f"{stage['done']} of {stage['total']} {stage['unit']}".rstrip()


def run_training(airflow: LocalAirflow, settings: Settings, conf: dict, *, run_id: str) -> dict:
    """Trigger one training run, show its progress, and return its comparison, decision and times.

    Raises
    ------
    AirflowProblem
        With the failed tasks' own errors.
    """
    store, folder = Store(settings.home), f"runs/{run_folder(run_id)}"
    display = Display()
    began = time.monotonic()
    airflow.trigger(conf, run_id=run_id)
    while (state := airflow.state(run_id)) not in FINISHED:
        airflow.check_alive()
        display.show(describe(progress.read(store, f"{folder}/progress")) or "waiting for the scheduler")
        time.sleep(POLL_SECONDS)
    wall = time.monotonic() - began
    display.done()
    if state == "failed":
        errors = "\n".join(f"  {task}: {error}" for task, error in airflow.failures(run_id))
        raise AirflowProblem(f"the run failed:\n{errors}")
    return {
        "comparison": store.read_json(f"{folder}/comparison.json"),
        "decision": store.read_json(f"{folder}/decision.json"),
        "wall_seconds": wall,
        "work_seconds": progress.busy_seconds(progress.read(store, f"{folder}/progress")),
        "folder": store.url(folder),
    }


def report_run(found: dict) -> str:
    """What a person wants to know after a run."""
    from emotion.reports.training_report import text_table

    comparison, decision = found["comparison"], found["decision"]
    wall, work = found["wall_seconds"], found["work_seconds"]
    lines = [
        "",
        text_table(comparison),
        "",
        f"Selected: {comparison['selected']}. {comparison['selection']['reason']}",
        f"Champion: {decision['decision']}. {' '.join(decision['reasons'])}",
        "",
        f"Report     {found['folder']}/report.html",
        f"Figures    {found['folder']}/comparison.json, comparison.csv; shap/, rejected.csv beside them",
        f"Models     {found['folder'].replace('/runs/', '/models/')}/",
        f"Time       {wall:.0f} s, of which {work:.0f} s work and {wall - work:.0f} s Airflow's own",
        "UI         make airflow, then http://127.0.0.1:8080",
    ]
    if comparison["notice"]:
        lines += ["", f"NOTE: {comparison['notice']}"]
    return "\n".join(lines)


def once(dataset: str, source: Path | None) -> None:
    """Start Airflow, train once, print what came out, stop everything."""
    extra = {"EMOTION_TRAINING_SCHEDULE": ""}  # this run only: one that falls due meanwhile would come first
    conf: dict = {"dataset": dataset}
    if source is not None:
        source = source.expanduser().absolute()
        recordings = os.environ.get("EMOTION_RECORDINGS")
        extra["EMOTION_RECORDINGS"] = os.pathsep.join(filter(None, [recordings, str(source)]))
        conf["source"] = str(source)
    settings = Settings.from_environment(os.environ | extra)
    entry = find_entry(settings.catalogue, dataset)
    if entry.kind == "zenodo" and source is None and not importing.is_ready(Store(settings.home), settings, dataset):
        zenodo.check_reachable(settings, entry)
    run_id = f"{dataset}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    print(f"Starting Airflow (logs in {airflow_home()})", flush=True)
    airflow = LocalAirflow(airflow_home(), free_port(), extra)
    with airflow.running("scheduler", "dag-processor"):
        for left in airflow.abandon_unfinished():
            print(f"Run {left} was stopped in mid-run; it is marked as failed, what it has stored is used")
        print(f"Running {DAG_ID} on {dataset}; watch it at {airflow.url}/dags/{DAG_ID}/runs/{run_id}", flush=True)
        found = run_training(airflow, settings, conf, run_id=run_id)
    print(report_run(found))


def serve() -> None:
    """Start Airflow and keep it until Ctrl-C."""
    port = free_port(int(os.environ.get("PORT", 8080)))
    airflow = LocalAirflow(airflow_home(), port)
    print("Starting Airflow …", flush=True)
    with airflow.running("scheduler", "dag-processor", "triggerer"):
        print(f"Airflow is ready: {airflow.url}   (logs in {airflow.home}; Ctrl-C stops it)", flush=True)
        while True:
            airflow.check_alive()
            time.sleep(1)


def airflow_home() -> Path:
    """``AIRFLOW_HOME``, or ``.airflow`` in the project."""
    return Path(os.environ.get("AIRFLOW_HOME") or PROJECT / ".airflow").absolute()


def main(arguments: list[str] | None = None) -> int:
    """The Makefile's door; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m emotion.commands.local_run", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="train on the synthesized corpus")
    train = commands.add_parser("train", help="train on RAVDESS, or on another dataset of the catalogue")
    train.add_argument("--dataset", default="ravdess-speech")
    train.add_argument("--source", type=Path, help="folder or zip on disk, in place of a download")
    commands.add_parser("serve", help="UI and scheduler until Ctrl-C")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.command == "serve":
            serve()
        elif options.command == "demo":
            once("synthesized", None)
        else:
            once(options.dataset, options.source)
    except EmotionError as error:
        print(f"\nERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 0 if options.command == "serve" else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
