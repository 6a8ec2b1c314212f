"""Speed of `emotion serve`: requests a second, and the time of each, from a client on the same machine.

    python docs/benchmarks/serving.py RECORDINGS [--seconds 20] [--model MODEL]

RECORDINGS is a folder of WAV files, such as that of RAVDESS. EMOTION_HOME names the artifact store with the model. The
service is started for the measurement, on a free port. Client and service share the cores; the client's share of CPU
time is printed. At a fixed rate, requests begin at fixed times, whether or not the ones before are answered (an open
loop): a time counts from the moment when the request should have begun.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

CONNECTIONS = 16
"""Requests under way at full rate."""


class Client:
    """A pool of connections that are kept open."""

    def __init__(self, port: int):
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> int:
        """Post a recording; returns the status."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():  # the service closes connections that are idle for long
                break
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        lines = ("POST /predict HTTP/1.1", "Host: localhost", "Content-Type: audio/wav", f"Content-Length: {len(body)}")
        writer.writelines(["\r\n".join([*lines, "", ""]).encode(), body])
        headers = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", headers)[1]))
        self._idle.append((reader, writer))
        return int(headers.split(b" ", 2)[1])


async def full_rate(client: Client, bodies: list[bytes], seconds: float) -> tuple[list[float], list[int]]:
    """Times and statuses, with CONNECTIONS requests under way at any time."""
    endless, end = itertools.cycle(bodies), time.perf_counter() + seconds
    times, statuses = [], []

    async def ask_on() -> None:
        while (began := time.perf_counter()) < end:
            statuses.append(await client.post(next(endless)))
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(ask_on() for _ in range(CONNECTIONS)))
    return times, statuses


async def fixed_rate(client: Client, bodies: list[bytes], seconds: float, rate: float) -> tuple[list[float], list[int]]:
    """Times and statuses of requests that begin 1 / rate seconds after each other."""
    began = time.perf_counter()
    times, statuses = [], []

    async def ask(due: float, body: bytes) -> None:
        statuses.append(await client.post(body))
        times.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(ask(due, bodies[number % len(bodies)]))
    return times, statuses


def cpu_seconds(service: psutil.Process) -> tuple[float, float]:
    """CPU time so far of the service: of the process that listens, and of those that answer."""
    used = [sum(process.cpu_times()[:2]) for process in [service, *service.children(recursive=True)]]
    return used[0], sum(used[1:])


async def measure(port: int, service: psutil.Process, bodies: list[bytes], seconds: float) -> None:
    client = Client(port)
    await full_rate(client, bodies, 2.0)  # connections are opened, caches filled
    for rate in (None, 75.0):
        before, client_before, began = cpu_seconds(service), time.process_time(), time.perf_counter()
        run = full_rate(client, bodies, seconds) if rate is None else fixed_rate(client, bodies, seconds, rate)
        times, statuses = await run
        elapsed, used = time.perf_counter() - began, np.subtract(cpu_seconds(service), before)
        own = time.process_time() - client_before
        p50, p95, p99 = np.percentile(times, [50, 95, 99]) * 1e3
        print(
            f"{f'{rate:g}/s offered' if rate else f'full rate, {CONNECTIONS} at once'}: {len(times) / elapsed:.0f}/s, "
            f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, not answered: {sum(s != 200 for s in statuses)}; "
            f"CPU a request: listens {used[0] / len(times) * 1e3:.2f} ms, answers {used[1] / len(times) * 1e3:.2f} ms, "
            f"client {own / len(times) * 1e3:.2f} ms ({own / (own + used.sum()):.0%} of all)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--model", default="champion")
    options = parser.parse_args()
    files = sorted(options.recordings.rglob("*.wav"))[:300]
    bodies = [file.read_bytes() for file in files]
    length = np.mean([soundfile.info(file).duration for file in files])
    kilobytes = np.mean([*map(len, bodies)]) / 1e3
    print(f"{len(bodies)} recordings, mean {length:.1f} s, {kilobytes:.0f} kB; {os.cpu_count()} cores")
    command = [sys.executable, "-m", "emotion", "serve", "--port", "0", "--model", options.model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline().rpartition(":")[2])
            wait_until_ready(port)
            asyncio.run(measure(port, psutil.Process(process.pid), bodies, options.seconds))
        finally:
            process.send_signal(signal.SIGTERM)


def wait_until_ready(port: int) -> None:
    import requests

    for _ in range(600):
        try:
            if requests.get(f"http://127.0.0.1:{port}/health", timeout=60).ok:
                return
        except (requests.ConnectionError, requests.Timeout):  # it has no port yet, or loads its model
            pass
        time.sleep(0.1)
    raise SystemExit("the service did not become ready")


if __name__ == "__main__":
    main()
