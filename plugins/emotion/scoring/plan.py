"""Divides the files of a batch into shards."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from emotion.scoring.inbox import File

MAX_SHARDS = 1000
"""Airflow maps over at most 1,024 values; what is beyond is left for the next sweep."""
SHARD_BYTES = 256 << 20
"""A shard with a very long recording has few others, so that each takes minutes."""


def cut_into_shards(entries: list[dict], size: int) -> list[list[dict]]:
    """Cut files into shards of at most ``size`` and about SHARD_BYTES, each speaker's together as far as that
    goes.

    A speaker with more clips than a shard holds is divided evenly, so that each part is enough to adapt to.
    """
    by_speaker: dict[str, list[dict]] = {}
    for entry in sorted(entries, key=lambda entry: (entry["speaker"], entry["path"])):
        by_speaker.setdefault(entry["speaker"], []).append(entry)
    groups = [[entry] for entry in by_speaker.pop("", [])]
    for own in by_speaker.values():
        pieces = -(-len(own) // size)
        groups += [own[len(own) * i // pieces : len(own) * (i + 1) // pieces] for i in range(pieces)]
    shards: list[list[dict]] = []
    for group in groups:
        full = not shards or len(shards[-1]) + len(group) > size
        if full or sum(entry["size"] for entry in shards[-1]) + group[0]["size"] > SHARD_BYTES:
            shards.append([])
        shards[-1] += group
    return shards


def part_keys(plan: dict) -> list[str]:
    return list(dict.fromkeys(entry["part"] for entry in plan["files"]))


def listed_file(entry: dict) -> File:
    return File(**{name.name: entry[name.name] for name in fields(File)})


def decoded_paths(hexadecimal: list[str]) -> tuple[Path, ...]:
    return tuple(Path(os.fsdecode(bytes.fromhex(path))) for path in hexadecimal)


def nothing_new_message(plan: dict) -> str:
    waiting = sum(plan["left"].values())
    more = f"; {waiting} are left for the next sweep ({', '.join(plan['left'])})" if waiting else ""
    names = " and ".join(one["name"] for one in plan["models"])
    return f"Nothing new for {names} in {', '.join(plan['folders'])}: {plan['known']} files are known{more}."
