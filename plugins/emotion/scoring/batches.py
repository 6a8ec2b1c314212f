"""How a batch begins and ends in the artifact store, and what becomes of batches whose process died.

Functions named ``look…`` and ``read…`` only read. The others write, in an order that lets a process be killed
between any two writes: the next sweep, or the same run tried again, goes on from there.
"""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, field

from emotion.errors import DataError
from emotion.models import registry
from emotion.progress import Progress, no_progress
from emotion.scoring import ledger
from emotion.scoring.ledger import Known
from emotion.scoring.limits import listener_limits
from emotion.scoring.options import NothingToScore
from emotion.scoring.plan import (
    NewFiles,
    Plan,
    Request,
    find_new_files,
    make_plan,
    nothing_new_message,
    part_keys,
    pinned_models,
    shown_folders,
)
from emotion.store import Store


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
    return store.read_json(f"scores/{batch}/plan.json")


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
        plan: Plan | None = store.read_json(key) if store.exists(key) else None
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
) -> Plan:
    """Claim the files of a request that are new, and write the plan of the batch; the lock ``plan`` must be held.

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

    Raises
    ------
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
        if not plan["files"]:
            for name in [batch, *plan["took_over"]]:
                ledger.release(store, name)
            store.delete(f"scores/{batch}")
            _remove_predecessors(store, plan)
            raise NothingToScore(nothing_new_message(plan))
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
    ledger.claim(store, batch, alone_as or socket.gethostname())
    others = look_at_others(store, batch, alone_as=alone_as)
    for plan in others.committed:
        close_batch(store, plan)
    adopted = _take_over(store, others.dead, request, models, batch=batch)
    claimed = _claimed_files(others.live, models, adopted)
    new = _find_unscored(store, request, models, claimed, batch=batch, progress=progress)
    return make_plan(
        request,
        batch=batch,
        run_id=run_id,
        created=created,
        models=models,
        new=new,
        adopted=adopted,
        took_over=list(others.dead),
    )


def close_batch(store: Store, plan: Plan) -> None:
    """Record the files of a committed batch as known, release its claim, and delete its working files.

    The folders of the batches that it took over are deleted too: their parts are in its tables.

    A file that is not in the table of predictions was left for the next sweep, and does not become known.
    """
    files = plan["files"]
    key = f"scores/{plan['batch']}/predictions.parquet"
    if store.exists(key):  # a person may have deleted it since
        table = store.read_table(key, ["path", "sha256"])
        answered = set(zip(table["path"], table["sha256"], strict=True))
        files = [entry for entry in files if (entry["path"], entry["sha256"]) in answered]
    for model in plan["models"]:
        ledger.record(store, model["name"], plan["batch"], files)
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


def _take_over(
    store: Store, dead: dict[str, Plan | None], request: Request, models: list[dict], *, batch: str
) -> list[dict]:
    """Write into each dead batch which batch takes it over; returns its files that were scored for the same request."""
    adopted: list[dict] = []
    for name, plan in dead.items():
        if plan is None:
            continue
        ledger.give_up(store, name, successor=batch, dead=dead)
        same = (shown_folders(request), models, asdict(request.options))
        if (plan["folders"], plan["models"], plan["options"]) == same:
            scored = {part for part in part_keys(plan) if store.exists(f"{part}.parquet")}
            adopted += [entry for entry in plan["files"] if entry["part"] in scored]
    return adopted


def _claimed_files(live: list[Plan], models: list[dict], adopted: list[dict]) -> Known:
    """Files that are in a batch already: of live batches that use one of the models, and those that are adopted."""
    names = {model["name"] for model in models}
    files: list[dict] = []
    for plan in live:
        if names & {model["name"] for model in plan["models"]}:
            files += plan["files"]
    return Known.of_files([*files, *adopted])


def _find_unscored(
    store: Store, request: Request, models: list[dict], claimed: Known, *, batch: str, progress: Progress
) -> NewFiles:
    """Find the files that the ledger and other batches do not know; record new stamps of files that it does know."""
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

    new = find_new_files(request, is_known=is_known, progress=progress)
    memory_errors = ledger.memory_errors(store)
    for entry in new.entries:
        if count := memory_errors.get((entry["place"], entry["sha256"])):
            entry["memory_errors"] = count
    restamped = [asdict(file) for file in new.restamped if not claimed.has(file.place, file.stamp, file.sha256)]
    if restamped:
        for name in names:
            ledger.record(store, name, f"restamped-{batch}", restamped)
    return new
