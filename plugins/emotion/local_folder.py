"""Lists and deletes folders of this machine. One that cannot be looked at is an error; fsspec takes it for empty."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator


def files_below(folder: str) -> Iterator[str]:
    """The files of a folder and of its subfolders, links to folders included; none if it is not there.

    Raises OSError if a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):  # deleted meanwhile
            raise error

    for place, _, names in os.walk(folder, onerror=fail, followlinks=True):
        yield from (f"{place}/{name}" for name in names)


def delete(path: str) -> None:
    """Remove a file or a folder; nothing happens if there is none. Raises OSError if it cannot be removed."""
    try:
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    if is_folder:
        shutil.rmtree(path)
    else:
        os.unlink(path)
