"""The plan of a batch: files in shards, no more than Airflow maps, and never all of them in memory."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from emotion.scoring import batches, ledger, plan
from emotion.scoring.known import Known
from emotion.scoring.options import Options
from emotion.scoring.plan import NewFiles, Request, find_new_files, make_plan, part_keys, read_files, with_shards
from emotion.store import Store


def request(folder: Path, **options) -> Request:
    return Request([folder], (folder,), "champion", None, Options(settle_seconds=0, **options), Path("datasets.yaml"))


def write_files(folder: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode().ljust(size, b"."))


def new_shards(request: Request, new: NewFiles, room: int) -> list[list[dict]]:
    options = {"is_known": lambda *_: False, "on_restamped": lambda file: None}
    return list(find_new_files(request, new, room=room, **options))


@pytest.mark.parametrize("adopted, new", [(0, 15), (9, 15), (10, 1), (12, 3), (3, 2)])
def test_shards_taken_over_and_new_ones_are_together_no_more_than_airflow_maps(tmp_path, monkeypatch, adopted, new):
    assert plan.MAX_SHARDS <= 1024
    monkeypatch.setattr(batches, "MAX_SHARDS", 10)
    store, wanted, models = (
        Store(str(tmp_path / "home")),
        request(tmp_path / "inbox", files_per_shard=1),
        [{"name": "m"}],
    )
    write_files(tmp_path / "inbox", {f"new-{number}.wav": 30 for number in range(new)})
    dead = {"folders": [str(tmp_path / "inbox")], "models": models, "options": asdict(wanted.options), "files": []}
    for number in range(adopted):  # a plan of an earlier release, which holds its files itself
        entry = dict.fromkeys(("path", "place", "stamp", "sha256", "error", "message", "label", "speaker"), f"{number}")
        dead["files"].append(entry | {"size": 1, "part": f"scores/dead/parts/{number:04d}"})
        store.write_bytes(f"scores/dead/parts/{number:04d}.parquet", b"")
    notes = NewFiles(left={"over_limit": 3})
    shards = batches._take_over(store, {"dead": with_shards(dead)}, wanted, models, notes, batch="b")
    for entries in new_shards(wanted, notes, 10 - len(shards)):
        shards.append(batches._write_files(store, f"scores/b/parts/{len(shards):04d}", entries, "b", len(shards)))
    made = make_plan(wanted, batch="b", run_id="r", created="", models=models, new=notes, shards=shards)
    assert len(set(part_keys(made))) == min(adopted + new, 10)
    assert sum(shard["files"] for shard in shards) + made["left"]["over_limit"] - 3 == adopted + new, "no file is lost"
    paths = [entry["path"] for shard in shards for entry in read_files(store, made, shard)]
    assert len(set(paths)) == len(paths) == min(adopted + new, 10)


def test_shards_are_cut_by_number_and_by_bytes_in_the_order_of_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SHARD_BYTES", 100)
    sizes = {"b/1.wav": 20, "b.wav": 90, "b-1.wav": 20, "a/z/1.wav": 20, "a/b.wav": 20, "c.wav": 200, "d.wav": 20}
    write_files(tmp_path, sizes)
    notes = NewFiles()
    shards = new_shards(request(tmp_path, files_per_shard=3), notes, 9)
    assert sum([[entry["path"] for entry in shard] for shard in shards], []) == sorted(sizes)
    assert [len(shard) for shard in shards] == [3, 1, 1, 1, 1] and not notes.left
    shards = new_shards(request(tmp_path, files_per_shard=3), notes, 2)
    assert [len(shard) for shard in shards] == [3, 1] and notes.left == {"over_limit": 3}


def test_known_files_are_told_from_others_whatever_their_names(tmp_path):
    files = [{"place": f"{n:x}", "stamp": f"{n % 7}", "sha256": "ab" * (n % 2)} for n in range(5000)]
    known = Known.of_files(iter(files))
    assert all(known.has(file["place"], file["stamp"], None) for file in files)
    assert not any(known.has(file["place"], "7", None) or known.has(file["place"], "7", "") for file in files)
    assert [known.has(file["place"], "7", "ab") for file in files[:3]] == [False, True, False]
    assert not known.has("1", "", "1ab") and len(known.stamps) == 5000 and len(known.contents) == 2500


def test_full_parts_of_the_ledger_are_not_merged_again(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "ROWS_OF_A_FULL_PART", 10)
    store = Store(str(tmp_path))
    files = [{"place": f"{number}", "stamp": "s", "sha256": ""} for number in range(60)]
    for start in range(0, 48, 2):
        ledger.record(store, "v/f", f"batch{start}", files[start : start + 2])
    ledger.merge_parts(store, "v/f")
    full = store.list("ledger/known/v/f", "full-*")
    assert len(full) == 4 and len(store.list("ledger/known/v/f")) == 5
    stamps = [store.stamp(key) for key in full]
    ledger.record(store, "v/f", "large", iter(files[25:]))
    for number in range(24):
        ledger.record(store, "v/f", f"more{number}", [])
    ledger.merge_parts(store, "v/f")
    assert [store.stamp(key) for key in full] == stamps
    assert ledger.read(store, "v/f") == Known.of_files(files)
