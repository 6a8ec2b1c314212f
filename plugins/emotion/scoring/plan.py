"""What a scoring run is asked to do, and the plan that it makes of that: which files, in which shards.

``scores/<batch>/plan.json`` has the figures and the shards, ``scores/<batch>/plan/<number>.parquet`` the files of one
shard. So a plan of a million files needs no more memory than one of a thousand. Nothing here writes to the artifact
store; :mod:`emotion.scoring.batches` does.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import NotRequired, TypedDict

from emotion import bucket
from emotion.datasets.catalogue import read_catalogue, shared_translations
from emotion.datasets.label_table import LabelRow
from emotion.errors import ConfigurationError, DataError
from emotion.inference import bundles
from emotion.models import documents, registry
from emotion.models.registry import VersionEntry
from emotion.progress import Progress, no_progress
from emotion.scoring import inbox
from emotion.scoring.labels import find_labels, label_and_speaker, read_labels
from emotion.scoring.listing import File, Listing
from emotion.scoring.options import Options
from emotion.settings import Folder
from emotion.store import Store

log = logging.getLogger(__name__)
MAX_SHARDS = 1000
"""Airflow maps a task over at most 1,024 values. Shards that are taken over from dead batches count too. Files beyond
these shards are left for the next sweep."""
SHARD_BYTES = 256 << 20
"""A shard with a very long recording holds few other files, so that each shard takes minutes."""
LATEST = "latest"


class PlannedShard(TypedDict):
    """A shard of a plan: the files that one task scores."""

    part: str
    """The key, without an ending, of the shard's results in the artifact store."""
    list: str
    """The key of the table of its files; "" in a plan of an earlier release, which holds them itself."""
    files: int
    first: str
    """The first path among them; the shards of a plan are in its order."""


class Plan(TypedDict):
    """What ``plan.json`` of a batch holds.

    The files are not in it, but in a table for each shard, so that no task has all of them in memory. They are dicts
    with the fields of :class:`~emotion.scoring.listing.File`, and with ``label`` and ``speaker``. ``memory_errors``,
    which is 0 for nearly all, says how often memory ran out for the file.
    """

    batch: str
    run_id: str
    created: str
    folders: list[str]
    """As shown to people."""
    inboxes: list[str]
    """Real paths as hexadecimal bytes: :func:`decoded_paths` reads them."""
    models: list[dict]
    """The model, and the challenger if there is one: see :func:`pinned_models`."""
    options: dict
    shards: list[PlannedShard]
    known: int
    """Number of files that were scored before, or that another batch is scoring."""
    left: dict[str, int]
    """Number of files that are left for the next sweep, by reason."""
    took_over: list[str]
    """Dead batches whose files this batch takes over."""
    labels_refused: NotRequired[list[dict[str, str]]]
    """The tables of labels that cannot be used: the folder and the reason (message) of each."""
    files: NotRequired[list[dict]]
    """In a plan of an earlier release: the files of all shards, each with its ``part``."""


@dataclass(frozen=True)
class Request:
    """What a batch is asked to score.

    Attributes
    ----------
    folders : sequence of Path or str
        Real paths, and URLs of folders of buckets.
    inboxes : tuple of Path or str
        Where links may lead, and where objects may lie.
    model, challenger : str
        See :meth:`emotion.runs.scoring_run.ScoringRun.find_new_audio`.
    options : Options
    catalogue : Path
        The dataset catalogue, whose translations of emotion words hold for labels files too.
    days : int
        Where a URL names folders by ``{date}``: how many days before today are looked at.
    """

    folders: Sequence[Folder]
    inboxes: tuple[Folder, ...]
    model: str
    challenger: str | None
    options: Options
    catalogue: Path
    days: int = 0


@dataclass
class NewFiles(Listing):
    """What is to say of the folders of a request; ``labels_refused`` as in :class:`Plan`."""

    labels_refused: list[dict[str, str]] = field(default_factory=list)


def pinned_models(store: Store, model: str, challenger: str | None) -> list[dict]:
    """The models of a request by version and family, as the champion may change while the run is under way.

    Returns
    -------
    list of dict
        The model, then the challenger if there is one: version, family, name, created, dataset (its title), licence
        (id, name, url and what it means for the model; None where the version does not say), notice, emotions (its
        label set) and emotion_colours, scores and coverage (by protocol; None in a version of earlier code).

    Raises
    ------
    ConfigurationError
        If there is no such model, or the challenger is the model itself.
    """
    models = [bundles.check_named(store, model)]
    if challenger == LATEST:
        others = [entry for entry in registry.versions(store) if entry["version"] != models[0][0]["version"]]
        if not others:
            raise ConfigurationError(
                f"there is no version besides {models[0][0]['version']} to compare it with: train another one"
            )
        challenger = others[-1]["version"]
    if challenger:
        models.append(bundles.check_named(store, challenger))
    pinned = [_pinned(*each) for each in models]
    if len({each["name"] for each in pinned}) < len(pinned):
        raise ConfigurationError(
            f"{pinned[0]['name']} is compared with itself; expected a challenger of another version or family"
        )
    return pinned


def _pinned(entry: VersionEntry, family: str) -> dict:
    """An entry of :func:`pinned_models`."""
    return {
        "version": entry["version"],
        "family": family,
        "name": f"{entry['version']}/{family}",
        "created": entry["created"],
        "dataset": entry["dataset"].get("title", entry["dataset"]["name"]),
        "licence": entry["dataset"].get("licence"),
        "notice": entry["dataset"].get("notice", ""),
        "emotions": list(documents.known_emotions(entry)),
        "emotion_colours": documents.colours(entry),
        "scores": entry["scores"][family],
        "coverage": entry.get("coverage", {}).get(family),
    }


def find_new_files(
    request: Request,
    new: NewFiles,
    *,
    room: int,
    is_known: Callable[[str, str, str | None], bool],
    on_restamped: Callable[[File], None],
    progress: Progress = no_progress,
) -> Iterator[list[dict]]:
    """The files of a request's folders that are not known, shard by shard, as they are listed.

    A shard has at most ``files_per_shard`` files and about :data:`SHARD_BYTES`.

    Parameters
    ----------
    request : Request
    new : NewFiles
        What is to say of the folders is noted there.
    room : int
        The highest number of shards; files beyond them are left for the next sweep.
    is_known, on_restamped, progress : callable
        As :func:`emotion.scoring.inbox.look` takes them.

    Yields
    ------
    list of dict
        Files, as :class:`Plan` describes them. Where a folder's table of labels cannot be used, its files have no
        labels and speakers from it.
    """
    shard: list[dict] = []
    size = count = 0
    most = request.options.files_per_shard

    def is_full() -> bool:
        return count >= room or (count == room - 1 and len(shard) >= most)

    for entry in _new_entries(
        request, new, is_known=is_known, on_restamped=on_restamped, is_full=is_full, progress=progress
    ):
        if shard and (len(shard) >= most or size + entry["size"] > SHARD_BYTES):
            yield shard
            shard, size, count = [], 0, count + 1
        if count >= room:
            new.leave("over_limit")
            continue
        shard.append(entry)
        size += entry["size"]
    if shard:
        yield shard


def _new_entries(
    request: Request,
    new: NewFiles,
    *,
    is_known: Callable[[str, str, str | None], bool],
    on_restamped: Callable[[File], None],
    is_full: Callable[[], bool],
    progress: Progress,
) -> Iterator[dict]:
    options = request.options
    today = dt.datetime.now(dt.UTC).date()
    on_days = chain.from_iterable(_on_days(folder, today, request.days) for folder in request.folders)
    folders = inbox.without_nested(list(on_days))
    for folder in folders:
        files = inbox.look(
            folder,
            new,
            inboxes=request.inboxes,
            settle_seconds=options.settle_seconds,
            is_known=is_known,
            on_restamped=on_restamped,
            is_full=is_full,
            skip=frozenset([options.labels] if options.labels else []),
            progress=progress,
        )
        labels: dict[str, LabelRow] | None = None
        for file in files:
            if labels is None:
                labels = _labels(folder, request, new.labels_refused)
            entry = asdict(file) | label_and_speaker(file.path, labels, options.speakers)
            if len(folders) > 1:
                entry["path"] = inbox.shown(file.where)
            yield entry


def _on_days(folder: Folder, today: dt.date, days: int) -> Sequence[Folder]:
    return [folder] if isinstance(folder, Path) else bucket.days_of(folder, today, days)


def _labels(folder: Folder, request: Request, refused: list[dict[str, str]]) -> dict[str, LabelRow]:
    """The rows of a folder's table of labels, by path; none, and an entry in ``refused``, if it cannot be used."""
    try:
        file = find_labels(folder, request.options.labels, inbox.paths_of(request.inboxes))
        if file is None:
            return {}
        return read_labels(file, shared_translations(read_catalogue(request.catalogue).values()))
    except DataError as error:
        message = inbox.shown(str(error))
        log.info("the recordings of %s are scored without labels: %s", inbox.shown(str(folder)), message)
        refused.append({"folder": inbox.shown(str(folder)), "message": message})
        return {}


def make_plan(
    request: Request,
    *,
    batch: str,
    run_id: str,
    created: str,
    models: list[dict],
    new: NewFiles,
    shards: list[PlannedShard],
    took_over: Sequence[str] = (),
) -> Plan:
    """The plan of a batch.

    Parameters
    ----------
    request : Request
    batch, run_id : str
    created : str
        UTC, ISO 8601.
    models : list of dict
        From :func:`pinned_models`.
    new : NewFiles
        Once all of :func:`find_new_files` was taken.
    shards : list of PlannedShard
        Those that the batch takes over with their results, and those of new files.
    took_over : sequence of str
        Names of the dead batches.
    """
    return {
        "batch": batch,
        "run_id": run_id,
        "created": created,
        "folders": shown_folders(request),
        "inboxes": encoded_paths(request.inboxes),
        "models": models,
        "options": asdict(request.options),
        "shards": shards,
        "known": new.known,
        "left": new.left,
        "took_over": list(took_over),
        "labels_refused": new.labels_refused,
    }


def part_keys(plan: Plan) -> list[str]:
    """The parts of a plan, each once, in the order of its shards."""
    return [shard["part"] for shard in plan["shards"]]


def find_shard(plan: Plan, part: str) -> PlannedShard:
    """The shard of a plan whose results have this key."""
    return next(shard for shard in plan["shards"] if shard["part"] == part)


def with_shards(plan: Plan) -> Plan:
    """A plan as this release writes it; one of an earlier release has its files in itself.

    >>> with_shards({"files": [{"part": "p/1", "path": "b.wav"}, {"part": "p/1", "path": "a.wav"}]})["shards"]
    [{'part': 'p/1', 'list': '', 'files': 2, 'first': 'a.wav'}]
    """
    if "shards" in plan:
        return plan
    paths: dict[str, list[str]] = {}
    for entry in plan["files"]:
        paths.setdefault(entry.get("part", ""), []).append(entry["path"])
    shards: list[PlannedShard] = [
        {"part": part, "list": "", "files": len(names), "first": min(names)} for part, names in paths.items()
    ]
    return plan | {"shards": sorted(shards, key=lambda shard: shard["first"])}


def read_files(store: Store, plan: Plan, shard: PlannedShard, columns: Sequence[str] | None = None) -> list[dict]:
    """The files of a shard, as :class:`Plan` describes them; with these columns alone, if they are given."""
    if not shard["list"]:
        return [entry for entry in plan["files"] if entry.get("part", "") == shard["part"]]
    return read_list(store, shard, columns)


def read_list(store: Store, shard: PlannedShard, columns: Sequence[str] | None = None) -> list[dict]:
    """As :func:`read_files`, of a shard whose files are in a table."""
    return store.read_table(shard["list"], columns).to_dict("records")


def all_files(store: Store, plan: Plan, columns: Sequence[str] | None = None) -> Iterator[dict]:
    """The files of all shards of a plan; one shard is in memory at a time."""
    for shard in plan["shards"]:
        yield from read_files(store, plan, shard, columns)


def find_files(
    store: Store, plan: Plan, places: Collection[tuple[str, str]]
) -> dict[tuple[str, str], tuple[File, str]]:
    """Some files of a plan and their parts, by path and sha256."""
    files = {}
    for shard in plan["shards"]:
        for entry in read_files(store, plan, shard):
            if (place := (entry["path"], entry["sha256"])) in places:
                files[place] = listed_file(entry), shard["part"]
    return files


def listed_file(entry: dict) -> File:
    """The file that an entry of a plan was made from."""
    return File(**{column.name: entry[column.name] for column in fields(File)})


def shown_folders(request: Request) -> list[str]:
    """The folders of a request as text, for people and for comparison with another plan."""
    return [inbox.shown(str(folder)) for folder in request.folders]


def encoded_paths(paths: Sequence[Folder]) -> list[str]:
    """Real paths and URLs as hexadecimal bytes, as a name in a file system need not be UTF-8.

    >>> encoded_paths([Path("/")])
    ['2f']
    """
    return [os.fsencode(path if isinstance(path, str) else os.path.realpath(path)).hex() for path in paths]


def decoded_paths(hexadecimal: list[str]) -> tuple[Folder, ...]:
    """The paths and URLs that :func:`encoded_paths` encoded.

    >>> decoded_paths([*encoded_paths([Path("/"), "s3://calls/inbox"])])[1]
    's3://calls/inbox'
    """
    places = [os.fsdecode(bytes.fromhex(path)) for path in hexadecimal]
    return tuple(place if bucket.is_url(place) else Path(place) for place in places)


def nothing_new_message(plan: Plan) -> str:
    """What to say of a plan without files."""
    waiting = sum(plan["left"].values())
    more = f"; {waiting} are left for the next sweep ({', '.join(plan['left'])})" if waiting else ""
    names = " and ".join(model["name"] for model in plan["models"])
    return f"Nothing new for {names} in {', '.join(plan['folders'])}: {plan['known']} files are known{more}."
