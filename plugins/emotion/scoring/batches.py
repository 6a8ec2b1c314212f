"""How a batch begins and ends in the artifact store, and what becomes of batches whose process died.

Functions named ``look…`` and ``read…`` only read. The others write, in an order that lets a process be killed
between any two writes: the next sweep, or the same run tried again, goes on from there.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import chain

import pandas as pd

from emotion.errors import DataError, StoreError
from emotion.models import registry
from emotion.progress import Progress, no_progress
from emotion.scoring import ledger
from emotion.scoring.known import Digests, Known
from emotion.scoring.limits import listener_limits
from emotion.scoring.listing import File
from emotion.scoring.options import NothingToScore
from emotion.scoring.plan import (
    MAX_SHARDS,
    NewFiles,
    Plan,
    PlannedShard,
    Request,
    all_files,
    find_new_files,
    find_shard,
    make_plan,
    nothing_new_message,
    pinned_models,
    read_files,
    read_list,
    shown_folders,
    with_shards,
)
from emotion.store import Store
from emotion.store_lock import Held

FILE_COLUMNS = [*(column.name for column in fields(File)), "label", "speaker", "memory_errors"]
"""Columns of the list of a shard."""


@dataclass
class OtherBatches:
    """The other batches that have a claim.

    Attributes
    ----------
    committed : list of Plan
        Their summary is written; only closing them is left to do.
    dead : dict of Plan or None, by name
        Nobody works on them any more; None if the process died before it wrote a plan.
    live : list of Plan
        Somebody works on them.
    """

    committed: list[Plan] = field(default_factory=list)
    dead: dict[str, Plan | None] = field(default_factory=dict)
    live: list[Plan] = field(default_factory=list)


def is_committed(store: Store, batch: str) -> bool:
    """Whether a batch is complete: its summary is written last."""
    return store.exists(f"scores/{batch}/summary.json")


def read_plan(store: Store, batch: str) -> Plan:
    """The plan of a batch. Raises DataError if another batch took its files over, or if there is no plan."""
    _require_own(store, batch)
    return with_shards(store.read_json(f"scores/{batch}/plan.json"))


def _require_own(store: Store, batch: str) -> None:
    """Raise DataError if another batch took over the files of a batch."""
    if successor := ledger.successor(store, batch):
        raise DataError(
            f"batch {batch} was given up, and its files were taken over by batch {successor}: look there; "
            "to score again, start a new run"
        )


def look_at_others(store: Store, batch: str, *, alone_as: str | None) -> OtherBatches:
    """Sort the other batches with a claim by what has become of them; ``alone_as`` as in :func:`ledger.is_dead`."""
    others = OtherBatches()
    for claim in ledger.claims(store):
        name = claim["batch"]
        if name == batch:
            continue
        # Before the search for a summary: a batch that is dead now cannot be committed later.
        dead = ledger.is_dead(store, claim, alone_as=alone_as)
        key = f"scores/{name}/plan.json"
        plan: Plan | None = with_shards(store.read_json(key)) if store.exists(key) else None
        if plan is not None and is_committed(store, name):
            others.committed.append(plan)
        elif dead:
            others.dead[name] = plan
        elif plan is not None:
            others.live.append(plan)
    return others


def open_batch(
    store: Store,
    request: Request,
    *,
    batch: str,
    run_id: str,
    alone_as: str | None = None,
    progress: Progress = no_progress,
    lock: Held,
) -> Plan:
    """Claim the files of a request that are new, and write the plan of the batch.

    Files count as known if every model of the request has scored them, or if another batch is scoring them with one
    of the models. Dead batches are taken over. Where the plan is there already, it is read again.

    Parameters
    ----------
    store : Store
    request : Request
    batch, run_id : str
    alone_as : str, optional
        Owner of which no two batches are ever under way at the same time: see :func:`emotion.scoring.ledger.is_dead`.
    progress : callable
        Called with files done and files in all.
    lock : Held
        The lock ``scoring/plan``.

    Raises
    ------
    StoreError
        If the lock was lost before the plan was written.
    NothingToScore
        If there is no new file; then nothing of the batch is left in the store.
    ConfigurationError
        If a model is not there.
    DataError
        If another batch took this batch over.
    """
    _require_own(store, batch)
    if not store.exists(f"scores/{batch}/plan.json"):
        plan = _plan_batch(store, request, batch=batch, run_id=run_id, alone_as=alone_as, progress=progress)
        if not plan["shards"]:
            for name in [batch, *plan["took_over"]]:
                ledger.release(store, name)
            store.delete(f"scores/{batch}")
            _remove_predecessors(store, plan)
            raise NothingToScore(nothing_new_message(plan))
        if not lock:  # another process may have planned the same files
            raise StoreError(f"the plan of {batch} was not written, as its lock was lost; start again")
        store.write_json(f"scores/{batch}/plan.json", plan)
    plan = read_plan(store, batch)
    for name in plan["took_over"]:
        ledger.release(store, name)
    return plan


def _plan_batch(
    store: Store, request: Request, *, batch: str, run_id: str, alone_as: str | None, progress: Progress
) -> Plan:
    """Claim the batch, close and take over what other batches left, and plan the new files."""
    models = pinned_models(store, request.model, request.challenger)
    listener_limits(request.options, models[0])  # raises before a file is claimed
    created = registry.now()
    ledger.claim(store, batch, alone_as or socket.gethostname(), has_lock=alone_as is None)
    store.delete(f"scores/{batch}/plan")  # of a try that was killed before it wrote the plan
    others = look_at_others(store, batch, alone_as=alone_as)
    for plan in others.committed:
        close_batch(store, plan)
    new = NewFiles()
    shards = _take_over(store, others.dead, request, models, new, batch=batch)
    claimed = _claimed_files(store, others.live, models, shards)
    room = MAX_SHARDS - len(shards)
    unscored = _find_unscored(store, request, models, claimed, new, room=room, batch=batch, progress=progress)
    for number, entries in enumerate(unscored, start=1):
        shards.append(_write_files(store, f"scores/{batch}/parts/{number:04d}", entries, batch, len(shards)))
    shards.sort(key=lambda shard: shard["first"])
    return make_plan(
        request,
        batch=batch,
        run_id=run_id,
        created=created,
        models=models,
        new=new,
        shards=shards,
        took_over=list(others.dead),
    )


def close_batch(store: Store, plan: Plan) -> None:
    """Record the files of a committed batch as known, release its claim, and delete its working files.

    The folders of the batches that it took over are deleted too: their parts are in its tables.

    A file that is not in the table of predictions was left for the next sweep, and does not become known.
    """
    key = f"scores/{plan['batch']}/predictions.parquet"
    answered: Digests | None = None
    if store.exists(key):  # a person may have deleted it since
        table = store.read_table(key, ["path", "sha256"])
        answered = Digests(zip(table["path"], table["sha256"], strict=True))
    for model in plan["models"]:
        files = all_files(store, plan, ["path", *ledger.COLUMNS])
        closed = (file for file in files if answered is None or (file["path"], file["sha256"]) in answered)
        ledger.record(store, model["name"], plan["batch"], closed)
    ledger.release(store, plan["batch"])
    store.delete(f"scores/{plan['batch']}/parts")
    store.delete(f"scores/{plan['batch']}/figures.json")
    _remove_predecessors(store, plan)


def _remove_predecessors(store: Store, plan: Plan) -> None:
    """Delete the folders of the batches that a batch took over.

    A slow process may still be at work on one of them. Its next step says that the batch was taken over. What it
    writes until then is deleted when that is forgotten. A batch that was started anew under the name is left alone.
    """
    names = {*plan["took_over"], *ledger.predecessors(store, plan["batch"]), *ledger.forget_taken_over(store)}
    started_anew = {claim["batch"] for claim in ledger.claims(store)}
    for name in names - started_anew:
        if not is_committed(store, name):
            store.delete(f"scores/{name}")


def _write_files(store: Store, part: str, entries: list[dict], batch: str, number: int) -> PlannedShard:
    """Write the list of a shard of a batch; ``number``: of the shards before it."""
    key = f"scores/{batch}/plan/{number + 1:04d}.parquet"
    files = pd.DataFrame(entries, columns=FILE_COLUMNS).fillna({"memory_errors": 0})
    store.write_table(key, files.astype({"memory_errors": int}))
    return {"part": part, "list": key, "files": len(entries), "first": min(entry["path"] for entry in entries)}


def note_checksums(store: Store, plan: Plan, part: str, table: pd.DataFrame) -> None:
    """Write into the list of a shard the checksums that became known as its files were read.

    Parameters
    ----------
    store : Store
    plan : Plan
    part : str
        Of the shard.
    table : pandas.DataFrame
        The shard's table of answers.
    """
    shard = find_shard(plan, part)
    entries = read_files(store, plan, shard)
    checksums = dict(zip(table["path"], table["sha256"], strict=True))
    read = [entry | {"sha256": entry["sha256"] or checksums[entry["path"]]} for entry in entries]
    if read != entries:
        store.write_table(shard["list"], pd.DataFrame(read, columns=FILE_COLUMNS))


def _take_over(
    store: Store, dead: dict[str, Plan | None], request: Request, models: list[dict], new: NewFiles, *, batch: str
) -> list[PlannedShard]:
    """Write into each dead batch which batch takes it over; returns its shards that were scored for the same request.

    Their lists are copied, as the folder of a dead batch is deleted in the end.
    """
    adopted: list[PlannedShard] = []
    for name, plan in dead.items():
        if plan is None:
            continue
        ledger.give_up(store, name, successor=batch, dead=dead)
        same = (shown_folders(request), models, asdict(request.options))
        if (plan["folders"], plan["models"], plan["options"]) != same:
            continue
        for shard in plan["shards"]:
            if not store.exists(f"{shard['part']}.parquet"):
                continue
            if len(adopted) == MAX_SHARDS:
                new.left["over_limit"] = new.left.get("over_limit", 0) + shard["files"]
                continue
            entries = read_files(store, plan, shard)
            adopted.append(_write_files(store, shard["part"], entries, batch, len(adopted)))
    return adopted


def _claimed_files(store: Store, live: list[Plan], models: list[dict], adopted: list[PlannedShard]) -> Known:
    """Files that are in a batch already: of live batches that use one of the models, and those that are adopted."""
    names = {model["name"] for model in models}
    plans = [plan for plan in live if names & {model["name"] for model in plan["models"]}]
    of_live = (file for plan in plans for file in all_files(store, plan, ledger.COLUMNS))
    of_adopted = (file for shard in adopted for file in read_list(store, shard, ledger.COLUMNS))
    return Known.of_files(chain(of_live, of_adopted))


def _find_unscored(
    store: Store,
    request: Request,
    models: list[dict],
    claimed: Known,
    new: NewFiles,
    *,
    room: int,
    batch: str,
    progress: Progress,
) -> Iterator[list[dict]]:
    """Shards of the files that the ledger and other batches do not know; records new stamps of files that it knows."""
    names = [model["name"] for model in models]
    scored: list[Known] = []
    if not request.options.rescore:
        for name in names:
            ledger.merge_parts(store, name)
            scored.append(ledger.read(store, name))

    def is_known(place: str, stamp: str, sha256: str | None) -> bool:
        if claimed.has(place, stamp, sha256):
            return True
        return bool(scored) and all(known.has(place, stamp, sha256) for known in scored)

    restamped = _Restamped(store, names, batch, claimed)
    memory_errors = ledger.memory_errors(store)
    for entries in find_new_files(
        request, new, room=room, is_known=is_known, on_restamped=restamped.add, progress=progress
    ):
        for entry in entries:
            entry["memory_errors"] = memory_errors.get((entry["place"], ledger.content_of(entry)), 0)
        yield entries
    restamped.write()


class _Restamped:
    """Known files with new stamps, written to the ledger of models many at a time."""

    def __init__(self, store: Store, models: list[str], batch: str, claimed: Known):
        self._store, self._models, self._batch, self._claimed = store, models, batch, claimed
        self._files: list[dict] = []
        self._parts = 0

    def add(self, file: File) -> None:
        """Note a file, unless another batch is scoring it."""
        if not self._claimed.has(file.place, file.stamp, file.sha256):
            self._files.append({name: getattr(file, name) for name in ledger.COLUMNS})
            if len(self._files) == ledger.ROWS_OF_A_FULL_PART:
                self.write()

    def write(self) -> None:
        """Write what was noted since the last time."""
        if self._files:
            self._parts += 1
            for model in self._models:
                ledger.record(self._store, model, f"restamped-{self._batch}.{self._parts}", self._files)
            self._files = []
