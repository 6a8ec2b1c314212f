"""The plan of a batch: files in shards, no more than Airflow maps."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion.scoring.options import Options
from emotion.scoring.plan import NewFiles, Request, make_plan, part_keys

AIRFLOW_LIMIT = 1024


@pytest.mark.parametrize("adopted, new", [(0, 1500), (900, 1500), (1000, 1), (2500, 10), (30, 20)])
def test_shards_taken_over_and_new_ones_are_together_no_more_than_airflow_maps(adopted, new):
    request = Request(
        folders=[Path("/inbox")],
        inboxes=(Path("/inbox"),),
        model="champion",
        challenger=None,
        options=Options(files_per_shard=1),
        catalogue=Path("datasets.yaml"),
    )
    taken_over = [
        {
            "path": f"old-{number}.wav",
            "speaker": "",
            "size": 1,
            "part": f"scores/dead-{number // 1000}/parts/{number:04d}",
        }
        for number in range(adopted)
    ]
    entries = [{"path": f"new-{number}.wav", "speaker": "", "size": 1} for number in range(new)]
    plan = make_plan(
        request,
        batch="b",
        run_id="r",
        created="2026-01-02T03:04:05+00:00",
        models=[],
        new=NewFiles(entries=entries, left={"over_limit": 3}),
        adopted=taken_over,
        took_over=["dead-0"],
    )
    assert len(part_keys(plan)) == min(adopted + new, 1000) <= AIRFLOW_LIMIT
    assert len(plan["files"]) + plan["left"]["over_limit"] - 3 == adopted + new, "no file is lost"
    assert len({entry["path"] for entry in plan["files"]}) == len(plan["files"])
