"""Worker processes: order, a worker that dies, a function that fails, and how many there are."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from emotion.workers import Died, Workers, usable_cores

POISON, WRONG = 7, 11


def start(parent: int):
    """A function that is slow for even numbers, dies of POISON and raises for WRONG."""

    def work(number: int) -> int:
        assert os.getpid() != parent
        if number == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == WRONG:
            raise ValueError("a wrong number")
        time.sleep(0.002 * (number % 2 == 0))
        return number * number

    return work


def cannot_start():
    raise OSError("no such model")


def test_results_come_in_order_and_a_death_costs_one_item():
    with Workers(start, (os.getpid(),), count=3) as workers:
        numbers = [number for number in range(200) if number != WRONG]
        results = list(workers.map(iter(numbers)))
        assert results == [Died(-signal.SIGKILL) if n == POISON else n * n for n in numbers]
        assert str(results[POISON]) == "the process was ended by SIGKILL"
        assert list(workers.map([])) == [] and list(workers.map([2])) == [4]
        with pytest.raises(RuntimeError, match="ValueError: a wrong number"):
            list(workers.map(range(8, 100)))
        processes = [worker._process for worker in workers._workers]
    assert not any(process.is_alive() for process in processes)


def test_large_items_and_results_do_not_wait_for_each_other():
    with Workers(start_echo, (), count=1) as workers:
        items = [bytes(1_000_000)] * 5
        assert list(workers.map(items)) == items


def start_echo():
    return lambda item: item


def test_a_worker_that_cannot_begin_is_an_error():
    with Workers(cannot_start, (), count=1) as workers, pytest.raises(RuntimeError, match="OSError: no such model"):
        list(workers.map([1]))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "800000 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_a_container_may_have_less_time_than_processors(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


def start_waiting(flag: str):
    """A function that dies of the first item once so many later ones are done that the others have to wait."""

    def work(number: int) -> int:
        if number == 0:
            while not Path(flag).exists():
                time.sleep(0.01)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 250:
            Path(flag).touch()
        time.sleep(0.002)
        return number

    return work


def test_no_item_is_lost_where_a_worker_dies_while_many_results_wait_for_it(tmp_path):
    with Workers(start_waiting, (str(tmp_path / "flag"),), count=4) as workers:
        assert list(workers.map(range(600))) == [Died(-signal.SIGKILL), *range(1, 600)]
