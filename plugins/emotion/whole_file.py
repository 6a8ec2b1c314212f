"""Writes a local file as a whole: no reader sees half of it, and a killed process leaves no half of it behind."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(target: str) -> Iterator[BinaryIO]:
    """A file to write; it gets its name when the block ends, and not if the block fails. Its folder is made.

    A file with that name is replaced at once.
    """
    folder = Path(target).parent
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".writing-{uuid.uuid4().hex}"
    try:
        with _open_unfinished(unfinished) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            _give_name(handle, unfinished, target)
    except OSError as error:
        if error.errno is not None:
            error.filename = target  # write and fsync do not name the file
        raise
    finally:
        unfinished.unlink(missing_ok=True)


NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""Errors of a file system without unnamed files, such as NFS."""


def _open_unfinished(path: Path) -> BinaryIO:
    """A new file without a name, so that a killed process leaves nothing behind; with a name on other file systems."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        try:
            return open(os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666), "wb")
        except OSError as error:
            if error.errno not in NO_UNNAMED_FILES:
                raise
    return open(path, "xb")


def _give_name(handle: BinaryIO, unfinished: Path, target: str) -> None:
    """Give a file from :func:`_open_unfinished` its name; a file that has the name already is replaced."""
    if not unfinished.exists():
        descriptor = handle.fileno()
        try:
            # src_dir_fd only makes os.link follow the link /proc/self/fd/….
            os.link(f"/proc/self/fd/{descriptor}", target, src_dir_fd=descriptor, follow_symlinks=True)
            return
        except FileExistsError:  # a link does not replace a file: for a moment, the file has two names
            os.link(f"/proc/self/fd/{descriptor}", unfinished, src_dir_fd=descriptor, follow_symlinks=True)
    os.replace(unfinished, target)
