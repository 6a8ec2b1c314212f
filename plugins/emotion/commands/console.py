"""Text for a terminal: progress bars, tables, bars of probability."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

BAR_WIDTH = 24
PATIENCE = 2.0
"""Seconds until progress is shown."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REMEDIES = {
    DISK_FULL: "Free some space, or set EMOTION_HOME to another disk",
    (errno.EROFS, errno.EACCES, errno.EPERM): "Give yourself permission, or use another folder",
    (errno.ENOTDIR, errno.EEXIST): "Expected a folder: remove the file, or use another folder",
}
"""What to do about an error of the operating system, by its numbers."""
LINE_EVERY = 5.0
"""Seconds between two lines of progress where standard error is not a terminal."""


class ConsoleProgress:
    """A :data:`emotion.progress.StageProgress` on standard error, one stage after the other.

    On a terminal, each stage has a bar. Elsewhere, a line is printed every :data:`LINE_EVERY` seconds. A stage that
    takes less than :data:`PATIENCE` seconds shows nothing.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""
        self._next_line = 0.0

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._next_line = stage, time.monotonic() + PATIENCE
            if sys.stderr.isatty():
                self._bar = open_bar(stage, unit, delay=PATIENCE, leave=False)
        if self._bar is not None:
            self._bar.total = total or None
            self._bar.update(done - self._bar.n)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            print(f"{stage}: {format_amount(done, total, unit)}", file=sys.stderr)

    def print(self, line: str) -> None:
        """Print a line on standard output; a bar is cleared first and drawn again later."""
        if self._bar is not None:
            self._bar.clear()
        print(line, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._stage = ""


def open_bar(title: str, unit: str, *, delay: float = 0.0, leave: bool = True) -> tqdm:
    """A tqdm bar on standard error, as wide as the terminal; bytes are shown as kB, MB or GB.

    Parameters
    ----------
    title, unit : str
    delay : float
        Seconds until it is drawn.
    leave : bool
        Whether it stays on the terminal once it is closed.
    """
    from tqdm import tqdm

    is_bytes = unit == "B"
    return tqdm(
        desc=title,
        unit="B" if is_bytes else f" {unit}",
        unit_scale=is_bytes,
        delay=delay,
        leave=leave,
        miniters=0,  # whether to draw is decided by time alone
        dynamic_ncols=True,
        file=sys.stderr,  # by default, tqdm uses the standard error of the time of its import
    )


def format_amount(done: int, total: int, unit: str) -> str:
    """How much is done, in words.

    >>> format_amount(20, 100, "clips"), format_amount(3, 0, "s")
    ('20 of 100 clips', '3 s')
    >>> format_amount(3_000_000, 208_000_000, "B")
    '3 of 208 MB'
    """
    if unit == "B":
        done, total, unit = round(done / 1e6), round(total / 1e6), "MB"
    return f"{done}{f' of {total}' if total else ''} {unit}".rstrip()


def format_table(rows: Iterable[tuple[str, ...]]) -> str:
    """A table with columns of equal width.

    >>> print(format_table([("VERSION", "MODEL"), ("first", "ensemble")]))
    VERSION  MODEL
    first    ensemble
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def draw_bar(share: float) -> str:
    """A bar for a number between 0 and 1.

    >>> draw_bar(0.5)
    '████████████            '
    """
    return ("█" * round(BAR_WIDTH * share)).ljust(BAR_WIDTH)


def printable(path: str) -> str:
    r"""A path with the characters escaped that would disturb a terminal.

    >>> print(printable("new\nline 🎤.wav"))
    new\nline 🎤.wav
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def name_width(emotions: Iterable[str]) -> int:
    """The width of a column of emotions: that of the longest name.

    >>> name_width(["sad", "frustrated"])
    10
    """
    return max(map(len, emotions))


def format_answer(answer: dict) -> str:
    """The predicted emotion with its confidence, as a figure and as a bar.

    >>> shares = {"angry": 0.75, "surprised": 0.25}
    >>> format_answer({"emotion": "angry", "confidence": 0.75, "probabilities": shares}).rstrip()
    'angry      0.75  ██████████████████'
    """
    width = name_width(answer["probabilities"])
    return f"{answer['emotion']:<{width}}  {answer['confidence']:.2f}  {draw_bar(answer['confidence'])}"


def explain_os_error(error: OSError) -> str:
    """What the operating system refused, and what to do, in one line.

    >>> explain_os_error(OSError(28, "No space left on device"))
    'No space left on device. Free some space, or set EMOTION_HOME to another disk'
    """
    place = printable(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else ""
    for numbers, remedy in REMEDIES.items():
        if error.errno in numbers:
            return f"{place}{': ' if place else ''}{error.strerror}. {remedy}"
    return f"{place}{': ' if place else ''}{error.strerror or error}"


def end_output() -> None:
    """Write out what is left of the standard output.

    Where that is not possible, the rest goes nowhere, so that Python does not try again at exit.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def format_time(seconds: float) -> str:
    """A position in a recording.

    >>> format_time(3661.5)
    '1:01:01.5'
    """
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{rest:04.1f}"
