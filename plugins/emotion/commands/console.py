"""Text for a terminal: progress, tables, bars."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

BAR = 24
PATIENCE = 2.0
"""Seconds until progress is shown."""
LINE_EVERY = 5.0
"""Seconds between lines of progress where there is no terminal."""


class ConsoleProgress:
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


def print_table(rows: Iterable[tuple[str, ...]]) -> str:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def draw_bar(share: float) -> str:
    """
    >>> draw_bar(0.5)
    '████████████            '
    """
    return ("█" * round(BAR * share)).ljust(BAR)


def printable(path: str) -> str:
    r"""
    >>> print(printable("new\nline 🎤.wav"))
    new\nline 🎤.wav
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def verdict_line(answer: dict) -> str:
    return f"{answer['emotion']:<9}  {answer['confidence']:.2f}  {draw_bar(answer['confidence'])}"


def clock(seconds: float) -> str:
    """
    >>> clock(3661.5)
    '1:01:01.5'
    """
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{rest:04.1f}"
