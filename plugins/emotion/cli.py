"""The command line: ``emotion predict | score | models | promote | rollback | doctor``.

Answers go to standard output, progress and complaints to standard error. Exit codes: 0 all went well; 1
something could not be done (with some of the files, say); 2 the command was not understood; 130 interrupted.

Whatever takes long to import is imported by the command that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from emotion.errors import AudioError, ConfigurationError, EmotionError
from emotion.labels import EMOTIONS, FAMILIES
from emotion.settings import PROJECT, Settings

BAR = 24
PATIENCE = 2.0
"""Seconds until progress is shown."""
LINE_EVERY = 5.0
"""Seconds between lines of progress where there is no terminal."""


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
    except (
        BrokenPipeError
    ):  # the reader, such as head, has had enough; Python must not complain at exit either
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
        to.add_argument(
            "--model", default="champion", metavar="MODEL", help=f"{what} (default: the champion)"
        )

    predict = command(
        "predict",
        _predict,
        "Say what emotion each recording shows, and how sure the model is.",
        epilog="Reads what libsndfile does (WAV, FLAC, OGG, MP3 …), any rate, 1 to 8 channels. A recording "
        "of more than 60 s gets no single answer but, with --window, a timeline.",
    )
    predict.add_argument("files", nargs="+", metavar="FILE", help="a recording")
    add_model(predict, "a version, VERSION/FAMILY, or a bundle's path (….pkl)")
    predict.add_argument(
        "--explain", action="store_true", help="list the features that spoke for and against"
    )
    predict.add_argument("--json", action="store_true", help="print one JSON object a line")
    predict.add_argument(
        "--window", type=float, metavar="S", help="answer for every window of S seconds: a timeline"
    )
    predict.add_argument(
        "--hop", type=float, metavar="S", help="seconds from window to window (default: half of one)"
    )

    score = command(
        "score",
        _score,
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

    command("models", _models, "List the versions there are, and which is the champion.")

    promote = command("promote", _promote, "Make a version the champion by hand, after reading its report.")
    promote.add_argument("version", metavar="VERSION")
    promote.add_argument(
        "--family", choices=(*FAMILIES, "ensemble"), help="which of its models (default: the one it selected)"
    )
    promote.add_argument("--reason", required=True, metavar="TEXT", help="why; it is recorded")

    rollback = command("rollback", _rollback, "Go back to the champion before this one.")
    rollback.add_argument("--reason", default="by hand", metavar="TEXT", help="why; it is recorded")

    doctor = command(
        "doctor", _doctor, "Check the installation: what works, what is missing, and how to mend it."
    )
    doctor.add_argument(
        "--graphite",
        default=os.environ.get("EMOTION_GRAPHITE"),
        metavar="URL",
        help="Graphite's address, to see whether metrics arrive there (default: EMOTION_GRAPHITE)",
    )
    return parser


# --- what a person reads ------------------------------------------------------------------------------------


class _Progress:
    """Call it with stage, done and total (0: unknown). A bar on a terminal, a line now and then elsewhere,
    and nothing for what takes less than two seconds."""

    def __init__(self, unit: str):
        self._unit = unit
        self._bar = None
        self._stage = ""
        self._spoke = 0.0

    def __call__(self, stage: str, done: float, total: float) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._spoke = stage, time.monotonic() + PATIENCE - LINE_EVERY
            if sys.stderr.isatty():
                from tqdm import tqdm

                # file is given, as tqdm would keep the standard error of its import
                self._bar = tqdm(desc=stage, unit=self._unit, delay=PATIENCE, file=sys.stderr, leave=False)
        if self._bar is not None:
            self._bar.total = total or None
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._spoke >= LINE_EVERY:
            self._spoke = time.monotonic()
            print(f"{stage}: {done:.0f}{f' of {total:.0f}' if total else ''} {self._unit}", file=sys.stderr)

    def print(self, line: str) -> None:
        """A line on standard output, which a bar makes way for."""
        if self._bar is not None:
            self._bar.clear()
        print(line, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _bar(share: float) -> str:
    """
    >>> _bar(0.5)
    '████████████            '
    """
    return ("█" * round(BAR * share)).ljust(BAR)


def _printable(path: str) -> str:
    r"""
    >>> print(_printable("new\nline 🎤.wav"))
    new\nline 🎤.wav
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def _verdict(answer: dict) -> str:
    return f"{answer['emotion']:<9}  {answer['confidence']:.2f}  {_bar(answer['confidence'])}"


def _clock(seconds: float) -> str:
    """
    >>> _clock(3661.5)
    '1:01:01.5'
    """
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{rest:04.1f}"


# --- predict ------------------------------------------------------------------------------------------------


def _predict(options: argparse.Namespace, settings: Settings) -> int:
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
    progress = _Progress("s" if options.window else "files")
    if options.window:
        found = _timelines(model, options, progress)
    else:
        found = _counted(
            model.predict_batch(options.files, explain=options.explain), len(options.files), progress
        )
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


def _counted(answers: Iterator[dict], total: int, progress: _Progress) -> Iterator[dict]:
    for done, answer in enumerate(answers, start=1):
        progress("predict", done, total)
        yield answer


def _timelines(model, options: argparse.Namespace, progress: _Progress) -> Iterator[dict]:
    """The windows of each file, and an error for a file that has none."""
    hop = options.window / 2 if options.hop is None else options.hop
    for path in options.files:
        try:
            for answer in model.predict_timeline(path, window=options.window, hop=hop):
                progress(f"predict {_printable(path)}", answer["end"], 0)
                yield {"path": path} | answer
        except AudioError as error:
            yield {"path": path, "error": error.reason, "message": str(error)}


def _describe(answer: dict, *, detailed: bool) -> str:
    path = _printable(answer["path"])
    if "start" in answer:
        span = f"{_clock(answer['start'])} – {_clock(answer['end'])}"
        return f"{span}  {answer['error'] if 'error' in answer else _verdict(answer):<41}  {path}"
    if "error" in answer:
        return f"{path}: no answer ({answer['error']}): {_printable(answer['message'])}"
    if not detailed:
        return f"{_verdict(answer)}  {path}"
    ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
    lines = [f"{path} ({answer['duration']:.1f} s): {answer['emotion']}"]
    lines += [f"  {emotion:<9}  {_bar(share)}  {share:.2f}" for emotion, share in ranked]
    for side, reasons in answer.get("explanation", {}).items():
        lines.append(f"  {side} {answer['emotion']}:")
        lines += [
            f"    {one['contribution']:+.3f}  {one['feature']} = {one['value']:.4g}: {one['description']}"
            for one in reasons
        ]
    return "\n".join(lines)


# --- score --------------------------------------------------------------------------------------------------


def _score(options: argparse.Namespace, settings: Settings) -> int:
    from emotion import metrics, scoring

    progress = _Progress("files")
    try:
        summary = scoring.score_folder(
            settings,
            options.folder,
            model=options.model,
            challenger=options.challenger,
            batch=options.batch,
            options=scoring.Options(settle_seconds=0),
            emitter=metrics.statsd_emitter(settings.statsd),
            progress=progress,
        )
    except scoring.NothingToScore as nothing:
        print(nothing)
        return 0
    finally:
        progress.close()
    rejected = sum(summary["rejected"].values())
    print(
        f"{summary['scored']} of {summary['files']} files scored, {summary['audio_seconds']:.0f} s of audio"
    )
    for emotion in EMOTIONS:
        count = summary["emotions"].get(emotion, 0)
        print(f"  {emotion:<9}  {_bar(count / max(1, summary['scored']))}  {count}")
    for reason, count in summary["rejected"].items():
        print(f"  {count} not scored: {reason}")
    print(f"Needs a listener: {summary['needs_listener']}")
    print(f"Drift: {' '.join([summary['drift']['verdict'] + '.', *summary['drift']['reasons']])}")
    if summary["model"]["notice"]:
        print(f"The model: {summary['model']['notice']}")
    print(f"See {settings.home}/scores/{summary['batch']}/report.html")
    return 1 if rejected else 0


# --- models -------------------------------------------------------------------------------------------------


def _models(options: argparse.Namespace, settings: Settings) -> int:
    from emotion import registry
    from emotion.comparison import PROTOCOL, SCORE
    from emotion.store import Store

    store = Store(settings.home)
    pointer = registry.champion(store) or {}
    rows = [("VERSION", "CREATED", "DATASET", "MODEL", "MACRO F1 *", "")]
    entries = registry.versions(store)
    for entry in entries:
        is_champion = entry["version"] == pointer.get("version")
        family = pointer["family"] if is_champion else entry["selected"]
        rows.append(
            (
                entry["version"],
                entry["created"],
                entry["dataset"]["name"],
                family,
                f"{entry['scores'][family][PROTOCOL][SCORE]:.3f}",
                f"champion since {pointer['since']}" if is_champion else "",
            )
        )
    if not entries:
        print(f"There are no models in {settings.home} yet: run the DAG emotion_training.")
        return 0
    print(_table(rows))
    print("\n* on speakers held out")
    for notice in sorted({entry["dataset"]["notice"] for entry in entries} - {""}):
        print(notice)
    return 0


def _promote(options: argparse.Namespace, settings: Settings) -> int:
    from emotion import registry
    from emotion.inference import CustomEmotionModel
    from emotion.store import Store

    store = Store(settings.home)
    model = CustomEmotionModel.from_store(
        store, options.version, options.family
    )  # what cannot be loaded cannot serve
    registry.promote_by_hand(store, version=model.version, family=model.family, reason=options.reason)
    return _announce(store, settings)


def _rollback(options: argparse.Namespace, settings: Settings) -> int:
    from emotion import registry
    from emotion.store import Store

    store = Store(settings.home)
    registry.rollback(store, reason=options.reason)
    return _announce(store, settings)


def _announce(store, settings: Settings) -> int:
    """Tell people and dashboards who the champion is now."""
    from emotion import metrics, registry
    from emotion.comparison import PROTOCOL

    pointer = registry.champion(store)
    emitter = metrics.statsd_emitter(settings.statsd)
    for score, value in registry.entry(store, pointer["version"])["scores"][pointer["family"]][
        PROTOCOL
    ].items():
        emitter.gauge(metrics.CHAMPION_SCORE, value, protocol=PROTOCOL, score=score)
    emitter.gauge(metrics.CHAMPION_SINCE, time.time())
    print(f"The champion is now {pointer['version']} ({pointer['family']}).")
    return 0


# --- doctor -------------------------------------------------------------------------------------------------

OK, NOTE, BROKEN = "ok", "note", "broken"
PYTHONS = ((3, 11), (3, 12))
FORMATS = ("WAV", "FLAC", "OGG", "MP3")
FREE_BYTES = 2 * 10**9
"""RAVDESS, unpacked and as its archive, takes 0.8 GB; a run and its models a few hundred MB."""
ARRIVAL_SECONDS = 30.0
"""StatsD hands on to Graphite every 10 s."""


class Finding(NamedTuple):
    """What one check found, and what to do about it."""

    state: str
    what: str
    remedy: str = ""


def _doctor(options: argparse.Namespace, settings: Settings) -> int:
    checks: dict[str, Callable[[], Finding]] = {
        "Python": _check_python,
        "packages": _check_packages,
        "artifact store": lambda: _check_store(settings),
        "disk": lambda: _check_disk(settings),
        "folders": lambda: _check_folders(settings),
        "datasets": lambda: _check_catalogue(settings),
        "audio formats": _check_formats,
        "champion": lambda: _check_champion(settings),
        "metrics": lambda: _check_metrics(settings, options.graphite),
    }
    marks = {OK: "✓", NOTE: "·", BROKEN: "✗"}
    broken = 0
    for name, check in checks.items():
        try:
            finding = check()
        except Exception as error:  # whatever is broken, the other checks are made
            finding = Finding(BROKEN, str(error) if isinstance(error, EmotionError) else repr(error))
        broken += finding.state == BROKEN
        print(f"{marks[finding.state]} {name}: {finding.what}", flush=True)
        if finding.remedy:
            print(f"    {finding.remedy}", flush=True)
    print(f"\n{broken} broken." if broken else "\nNothing is broken.")
    return 1 if broken else 0


def _check_python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in PYTHONS:
        return Finding(OK, found)
    return Finding(BROKEN, f"{found}; expected 3.11 or 3.12", "Make the environment again with one of these.")


def _check_packages() -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    from packaging.version import Version

    pins = PROJECT / "requirements.txt"
    wrong, count = [], 0
    for line in pins.read_text().splitlines():
        name, pinned, expected = line.partition("#")[0].strip().partition("==")
        if not pinned:
            continue
        count += 1
        try:
            found = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} not installed, expected {expected}")
            continue
        if Version(found) != Version(expected):  # "v0.0.21", as some packages call themselves, is 0.0.21
            wrong.append(f"{name} {found}, expected {expected}")
    if wrong:
        return Finding(BROKEN, "; ".join(wrong), f"pip install -r {pins}")
    return Finding(OK, f"{count} as pinned")


def _check_store(settings: Settings) -> Finding:
    import uuid

    from emotion.store import Store

    key = f".doctor-{uuid.uuid4().hex}"
    try:
        store = Store(settings.home)
        store.write_bytes(key, b"ok")
        read = store.read_bytes(key)
        store.delete(key)
    except Exception as error:  # whatever the file system, or an object store's client, raises
        return Finding(
            BROKEN,
            f"{settings.home} cannot be written: {error}",
            "Set EMOTION_HOME to a folder of yours, or to an object store whose credentials are set.",
        )
    if read != b"ok":
        return Finding(
            BROKEN, f"{settings.home} does not give back what was written", "Check the file system."
        )
    return Finding(OK, f"{settings.home} can be written and read")


def _check_disk(settings: Settings) -> Finding:
    import shutil
    import tempfile
    from pathlib import Path

    folder = Path(settings.home) if "://" not in settings.home else Path(tempfile.gettempdir())
    folder = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    what = f"{free / 1e9:.1f} GB free at {folder}"
    if free < FREE_BYTES:
        return Finding(
            BROKEN, f"{what}; expected {FREE_BYTES / 1e9:.0f} GB", "Make room, or move EMOTION_HOME."
        )
    return Finding(OK, what)


def _check_folders(settings: Settings) -> Finding:
    missing = [str(path) for path in (*settings.recordings, *settings.inboxes) if not path.is_dir()]
    if missing:
        return Finding(
            NOTE,
            f"not there: {', '.join(missing)}",
            "For recordings of one's own to train on (EMOTION_RECORDINGS) and to score (EMOTION_INBOXES).",
        )
    return Finding(OK, ", ".join(map(str, (*settings.recordings, *settings.inboxes))))


def _check_catalogue(settings: Settings) -> Finding:
    from emotion.catalogue import read_catalogue

    return Finding(OK, f"{', '.join(read_catalogue(settings.catalogue))}, from {settings.catalogue}")


def _check_formats() -> Finding:
    import soundfile

    library = soundfile.__libsndfile_version__
    missing = [name for name in FORMATS if name not in soundfile.available_formats()]
    if missing:
        return Finding(
            BROKEN,
            f"libsndfile {library} does not read {', '.join(missing)}",
            "Install the wheel of soundfile, with its own.",
        )
    return Finding(OK, f"{', '.join(FORMATS)} and others, by libsndfile {library}")


def _check_champion(settings: Settings) -> Finding:
    from emotion.inference import CustomEmotionModel

    try:
        model = CustomEmotionModel(settings=settings)
    except ConfigurationError as error:
        return Finding(BROKEN, str(error))
    except EmotionError as error:
        return Finding(
            BROKEN, str(error), "emotion rollback, or emotion promote another version, or train again."
        )
    return Finding(OK, f"{model.version} ({model.family}) can be loaded")


def _check_metrics(settings: Settings, graphite: str | None) -> Finding:
    import socket

    from emotion import metrics

    if settings.statsd is None:
        return Finding(
            NOTE,
            "the command line sends none",
            "Set EMOTION_STATSD=host:port to have it send them; Airflow has its own settings.",
        )
    host, port = settings.statsd
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        return Finding(BROKEN, f"StatsD's host {host} is not known: {error}", "Mend EMOTION_STATSD.")
    sent = int(time.time())
    metrics.statsd_emitter(settings.statsd).gauge(metrics.DOCTOR, sent)
    if not graphite:
        return Finding(
            NOTE,
            f"one sent to StatsD at {host}:{port}; UDP does not tell whether it arrived",
            "Set EMOTION_GRAPHITE=http://host:port to have it looked up.",
        )
    path = f"stats.gauges.{metrics.PREFIX}.{metrics.DOCTOR.path()}"
    start = time.monotonic()
    progress = _Progress("s")
    while (waited := time.monotonic() - start) < ARRIVAL_SECONDS:
        progress("waiting for the metric", waited, ARRIVAL_SECONDS)
        try:
            arrived = sent in _graphite_values(graphite, path)
        except (OSError, ValueError) as error:
            arrived, trouble = False, f"{graphite} does not answer as Graphite: {error}"
        else:
            trouble = f"{path} lacks it"
        if arrived:
            progress.close()
            return Finding(OK, f"one sent to StatsD at {host}:{port} was in Graphite after {waited:.0f} s")
        time.sleep(1)
    progress.close()
    return Finding(
        BROKEN,
        f"one sent to StatsD at {host}:{port} is not in Graphite after {ARRIVAL_SECONDS:.0f} s: {trouble}",
        "Is StatsD up, is EMOTION_STATSD its address, and does it send to this Graphite?",
    )


def _graphite_values(graphite: str, path: str) -> list[float | None]:
    from urllib.parse import urlencode
    from urllib.request import urlopen

    query = urlencode({"target": path, "from": "-5min", "format": "json"})
    with urlopen(f"{graphite.rstrip('/')}/render?{query}", timeout=5) as answer:
        return [value for series in json.load(answer) for value, _ in series["datapoints"]]


if __name__ == "__main__":
    sys.exit(main())
