"""What a scoring run is asked to do, and the plan that it makes of that: which files, in which shards.

Nothing here writes to the artifact store; :mod:`emotion.scoring.batches` does.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import NotRequired, TypedDict

from emotion.datasets.catalogue import read_catalogue, shared_translations
from emotion.datasets.label_table import LabelRow
from emotion.errors import ConfigurationError, DataError
from emotion.inference import CustomEmotionModel
from emotion.models import documents, registry
from emotion.progress import Progress, no_progress
from emotion.scoring import inbox
from emotion.scoring.inbox import File
from emotion.scoring.labels import find_labels, label_and_speaker, read_labels
from emotion.scoring.options import Options
from emotion.store import Store

log = logging.getLogger(__name__)
MAX_SHARDS = 1000
"""Airflow maps a task over at most 1,024 values. Shards that are taken over from dead batches count too. Files beyond
these shards are left for the next sweep."""
SHARD_BYTES = 256 << 20
"""A shard with a very long recording holds few other files, so that each shard takes minutes."""
LATEST = "latest"


class Plan(TypedDict):
    """What ``plan.json`` of a batch holds.

    ``files`` are dicts with the fields of :class:`~emotion.scoring.inbox.File`, and with ``label``, ``speaker`` and
    ``part``: the key, without an ending, of the shard's files in the artifact store. ``memory_errors``, if it is there,
    says how often memory ran out for the file.
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
    files: list[dict]
    known: int
    """Number of files that were scored before, or that another batch is scoring."""
    left: dict[str, int]
    """Number of files that are left for the next sweep, by reason."""
    took_over: list[str]
    """Dead batches whose files this batch takes over."""
    labels_refused: NotRequired[list[dict[str, str]]]
    """The tables of labels that cannot be used: the folder and the reason (message) of each."""


@dataclass(frozen=True)
class Request:
    """What a batch is asked to score.

    Attributes
    ----------
    folders : sequence of Path
        Real paths.
    inboxes : tuple of Path
        Where links may lead.
    model, challenger : str
        See :meth:`emotion.runs.scoring_run.ScoringRun.find_new_audio`.
    options : Options
    catalogue : Path
        The dataset catalogue, whose translations of emotion words hold for labels files too.
    """

    folders: Sequence[Path]
    inboxes: tuple[Path, ...]
    model: str
    challenger: str | None
    options: Options
    catalogue: Path


@dataclass
class NewFiles:
    """Files to score, from all folders of a request; ``known``, ``left`` and ``labels_refused`` as in :class:`Plan`.

    ``restamped``: files with a new stamp and a content that is known at their path.
    """

    entries: list[dict] = field(default_factory=list)
    known: int = 0
    left: dict[str, int] = field(default_factory=dict)
    restamped: list[File] = field(default_factory=list)
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
    models = [CustomEmotionModel.named(store, model)]
    if challenger == LATEST:
        others = [entry for entry in registry.versions(store) if entry["version"] != models[0].version]
        if not others:
            raise ConfigurationError(
                f"there is no version besides {models[0].version} to compare it with: train another one"
            )
        challenger = others[-1]["version"]
    if challenger:
        models.append(CustomEmotionModel.named(store, challenger))
        if models[0].name == models[1].name:
            raise ConfigurationError(
                f"{models[0].name} is compared with itself; expected a challenger of another version or family"
            )
    return [
        {
            "version": model.version,
            "family": model.family,
            "name": model.name,
            "created": model.entry["created"],
            "dataset": model.entry["dataset"].get("title", model.entry["dataset"]["name"]),
            "licence": model.entry["dataset"].get("licence"),
            "notice": model.entry["dataset"].get("notice", ""),
            "emotions": list(model.emotions),
            "emotion_colours": documents.colours(model.entry),
            "scores": model.entry["scores"][model.family],
            "coverage": model.entry.get("coverage", {}).get(model.family),
        }
        for model in models
    ]


def find_new_files(
    request: Request, *, is_known: Callable[[str, str, str | None], bool], progress: Progress = no_progress
) -> NewFiles:
    """List the files of a request's folders that are not known, with labels and speakers where those are known.

    Parameters
    ----------
    request : Request
    is_known : callable
        As :func:`emotion.scoring.inbox.look` takes it.
    progress : callable
        Called with files done and files in all, for each folder.

    Returns
    -------
    NewFiles
        Where a folder's table of labels cannot be used, its files have no labels and speakers from it.
    """
    options = request.options
    new = NewFiles()
    for folder in request.folders:
        listing = inbox.look(
            folder,
            inboxes=request.inboxes,
            settle_seconds=options.settle_seconds,
            is_known=is_known,
            skip=frozenset([options.labels] if options.labels else []),
            limit=MAX_SHARDS * options.files_per_shard - len(new.entries),
            progress=progress,
        )
        labels = _labels(folder, request, new.labels_refused) if listing.files else {}
        for file in listing.files:
            entry = asdict(file) | label_and_speaker(file.path, labels, options.speakers)
            if len(request.folders) > 1:
                entry["path"] = inbox.shown(file.where)
            new.entries.append(entry)
        new.known += listing.known
        new.left = dict(Counter(new.left) + Counter(listing.left))
        new.restamped += listing.restamped
    return new


def _labels(folder: Path, request: Request, refused: list[dict[str, str]]) -> dict[str, LabelRow]:
    """The rows of a folder's table of labels, by path; none, and an entry in ``refused``, if it cannot be used."""
    try:
        file = find_labels(folder, request.options.labels, request.inboxes)
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
    adopted: Sequence[dict] = (),
    took_over: Sequence[str] = (),
) -> Plan:
    """The plan of a batch: new files divided into shards, and the files that it takes over with their results.

    Parameters
    ----------
    request : Request
    batch, run_id : str
    created : str
        UTC, ISO 8601.
    models : list of dict
        From :func:`pinned_models`.
    new : NewFiles
    adopted : sequence of dict
        Files of dead batches that are scored already; they keep their parts.
    took_over : sequence of str
        Names of the dead batches.
    """
    adopted_parts = frozenset(list(dict.fromkeys(entry["part"] for entry in adopted))[:MAX_SHARDS])
    files = [entry for entry in adopted if entry["part"] in adopted_parts]
    shards = cut_into_shards(new.entries, request.options.files_per_shard)
    room = MAX_SHARDS - len(adopted_parts)
    left = dict(new.left)
    if beyond := len(adopted) - len(files) + sum(map(len, shards[room:])):
        left["over_limit"] = left.get("over_limit", 0) + beyond
    for number, shard in enumerate(shards[:room], start=1):
        files += [entry | {"part": f"scores/{batch}/parts/{number:04d}"} for entry in shard]
    return {
        "batch": batch,
        "run_id": run_id,
        "created": created,
        "folders": shown_folders(request),
        "inboxes": encoded_paths(request.inboxes),
        "models": models,
        "options": asdict(request.options),
        "files": files,
        "known": new.known,
        "left": left,
        "took_over": list(took_over),
        "labels_refused": new.labels_refused,
    }


def cut_into_shards(entries: list[dict], size: int) -> list[list[dict]]:
    """Divide files into shards of at most ``size`` files and about :data:`SHARD_BYTES`.

    The clips of a speaker stay in one shard as far as possible. A speaker with more clips than a shard holds is
    divided evenly, so that each part has enough clips to adapt to the speaker.

    >>> clips = [{"path": f"{number}.wav", "speaker": "ann", "size": 1} for number in range(5)]
    >>> [len(shard) for shard in cut_into_shards(clips, 4)]
    [2, 3]
    """
    by_speaker: dict[str, list[dict]] = {}
    for entry in sorted(entries, key=lambda entry: (entry["speaker"], entry["path"])):
        by_speaker.setdefault(entry["speaker"], []).append(entry)
    groups = [[entry] for entry in by_speaker.pop("", [])]
    for clips in by_speaker.values():
        pieces = -(-len(clips) // size)
        groups += [clips[len(clips) * i // pieces : len(clips) * (i + 1) // pieces] for i in range(pieces)]
    shards: list[list[dict]] = []
    for group in groups:
        full = not shards or len(shards[-1]) + len(group) > size
        if full or sum(entry["size"] for entry in shards[-1]) + group[0]["size"] > SHARD_BYTES:
            shards.append([])
        shards[-1] += group
    return shards


def part_keys(plan: Plan) -> list[str]:
    """The parts of a plan, each once, in the order of its files."""
    return list(dict.fromkeys(entry["part"] for entry in plan["files"]))


def listed_file(entry: dict) -> File:
    """The file that an entry of a plan was made from."""
    return File(**{column.name: entry[column.name] for column in fields(File)})


def shown_folders(request: Request) -> list[str]:
    """The folders of a request as text, for people and for comparison with another plan."""
    return [inbox.shown(str(folder)) for folder in request.folders]


def encoded_paths(paths: Sequence[Path]) -> list[str]:
    """Real paths as hexadecimal bytes, as a name in a file system need not be UTF-8.

    >>> encoded_paths([Path("/")])
    ['2f']
    """
    return [os.fsencode(os.path.realpath(path)).hex() for path in paths]


def decoded_paths(hexadecimal: list[str]) -> tuple[Path, ...]:
    """The paths that :func:`encoded_paths` encoded.

    >>> [path.as_posix() for path in decoded_paths(["2f"])]
    ['/']
    """
    return tuple(Path(os.fsdecode(bytes.fromhex(path))) for path in hexadecimal)


def nothing_new_message(plan: Plan) -> str:
    """What to say of a plan without files."""
    waiting = sum(plan["left"].values())
    more = f"; {waiting} are left for the next sweep ({', '.join(plan['left'])})" if waiting else ""
    names = " and ".join(model["name"] for model in plan["models"])
    return f"Nothing new for {names} in {', '.join(plan['folders'])}: {plan['known']} files are known{more}."
