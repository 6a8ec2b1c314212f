"""The artifact store: one folder or bucket that every task reads and writes.

A reader never sees half a file: a local file is written without a name and then gets its name; an object store's put is
atomic by itself. A key is a path relative to the root, with ``/`` between its parts, and never leaves the root.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from emotion.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


class Store:
    """Files under one root.

    Parameters
    ----------
    root : str
        A folder, or a URL that fsspec knows (``s3://bucket/prefix``).

    Raises
    ------
    ConfigurationError
        If fsspec does not know the URL's file system, or the package for it is not installed, or the root is a file.

    Examples
    --------
    >>> store = Store("memory://doctest")
    >>> store.write_json("runs/1/answer.json", {"answer": 42})
    >>> store.read_json("runs/1/answer.json")
    {'answer': 42}
    >>> store.list("runs", "*.json")
    ['runs/1/answer.json']
    """

    def __init__(self, root: str):
        self.root = root.rstrip("/") or "/"
        try:
            self._fs, self._base = fsspec.url_to_fs(self.root)
        except (ValueError, ImportError) as error:
            raise ConfigurationError(
                f"{self.root!r} cannot be the artifact store ({error}); expected a folder, or a URL of a file system "
                "that fsspec knows and that is installed, such as s3://bucket/prefix with s3fs"
            ) from error
        self.is_local = isinstance(self._fs, LocalFileSystem)
        if self.is_local:
            self.root = self._base
            if os.path.exists(self._base) and not os.path.isdir(self._base):
                raise ConfigurationError(
                    f"the artifact store {self._base} is a file; expected a folder: set EMOTION_HOME"
                )

    def path(self, key: str) -> str:
        """The key's full path in its file system. Raises ConfigurationError if it leaves the root."""
        pure = PurePosixPath(key)
        if pure.is_absolute() or ".." in pure.parts or "\\" in key or "\0" in key:
            raise ConfigurationError(
                f"{key!r} is not a path below the artifact store; expected a relative path without '..'"
            )
        return f"{self._base}/{pure}"

    def url(self, key: str) -> str:
        """The key as a person would write it: a local path or a URL."""
        self.path(key)
        return f"{self.root}/{key}"

    def exists(self, key: str) -> bool:
        """Whether there is a file with this key."""
        return self._fs.isfile(self.path(key))

    def list(self, prefix: str, pattern: str = "*") -> list[str]:
        """Keys of the files below ``prefix`` whose name matches ``pattern``, sorted; [] if none."""
        base = self.path(prefix)
        if not self._fs.isdir(base):
            return []
        paths = (PurePosixPath(path) for path in self._fs.find(base))
        start = len(PurePosixPath(base).parts) - len(PurePosixPath(prefix).parts)
        return sorted(
            "/".join(path.parts[start:])
            for path in paths
            if path.match(pattern) and not path.name.startswith(".writing-")
        )

    def modified(self, key: str) -> dt.datetime:
        """When a file was written, UTC. Raises DataError if there is no such file."""
        try:
            return self._fs.modified(self.path(key)).astimezone(dt.UTC)
        except FileNotFoundError:
            raise DataError(f"{self.url(key)} is not there; was the step that writes it run?") from None

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading: binary, seekable. Raises DataError if there is no such file."""
        try:
            return self._fs.open(self.path(key), "rb")
        except FileNotFoundError:
            raise DataError(f"{self.url(key)} is not there; was the step that writes it run?") from None

    def read_bytes(self, key: str) -> bytes:
        """The whole file. Raises DataError if there is no such file."""
        with self.open(key) as handle:
            return handle.read()

    def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Many small files, by key; those of an object store come many at a time. A file that is deleted meanwhile is
        left out.

        >>> store = Store("memory://many-example")
        >>> store.write_bytes("a", b"1")
        >>> store.read_many(["a", "b"])
        {'a': b'1'}
        """
        paths = {self.path(key): key for key in keys}
        if not self.is_local:
            content = self._fs.cat(list(paths), on_error="omit") if paths else {}
            return {key: content[path] for path, key in paths.items() if path in content}
        files = {}
        for path, key in paths.items():
            with suppress(FileNotFoundError), open(path, "rb") as handle:
                files[key] = handle.read()
        return files

    def stamp(self, key: str) -> str:
        """A text that changes when the file is written again. Raises DataError if there is no such file."""
        try:
            return repr(sorted(self._fs.info(self.path(key)).items()))
        except FileNotFoundError:
            raise DataError(f"{self.url(key)} is not there; was the step that writes it run?") from None

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write the whole file, or nothing."""
        target = self.path(key)
        if not self.is_local:
            self._fs.makedirs(self._fs._parent(target), exist_ok=True)
            self._fs.pipe_file(target, data)
            return
        folder = Path(target).parent
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".writing-{uuid.uuid4().hex}"
        try:
            with _open_unfinished(unfinished) as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
                _give_name(handle, unfinished, target)
        except OSError as error:
            if error.errno is not None:
                error.filename = target  # write and fsync do not name the file
            raise
        finally:
            unfinished.unlink(missing_ok=True)

    def read_json(self, key: str) -> Any:
        """The value of a JSON document.

        Raises
        ------
        DataError
            If there is no such file, or it is not JSON, for example because it was cut off.
        """
        return self.parse_json(key, self.read_bytes(key))

    def parse_json(self, key: str, data: bytes) -> Any:
        """The value of a JSON document that was read from a file; raises DataError as :meth:`read_json`."""
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8
            raise DataError(
                f"{self.url(key)} is damaged: expected a JSON document ({error}). Restore it from a backup, or delete "
                "it and run the step that writes it again"
            ) from None

    def write_json(self, key: str, value: Any) -> None:
        """Write a JSON document, indented for people. Raises ValueError for NaN and infinity."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        self.write_bytes(key, (text + "\n").encode())

    def read_table(self, key: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """A table as pandas.DataFrame, all of it or these columns: CSV where the key ends in .csv, else Parquet."""
        import pandas as pd

        file = io.BytesIO(self.read_bytes(key))
        selected = None if columns is None else list(columns)
        if key.endswith(".csv"):
            return pd.read_csv(file, usecols=selected)
        return pd.read_parquet(file, columns=selected)

    def write_table(self, key: str, frame: pd.DataFrame) -> None:
        """Write a pandas.DataFrame without its index: as CSV where the key ends in .csv, else as Parquet."""
        if key.endswith(".csv"):
            self.write_bytes(key, frame.to_csv(index=False).encode())
            return
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        self.write_bytes(key, buffer.getvalue())

    def delete(self, key: str) -> None:
        """Remove a file or a whole folder. Nothing happens if there is none."""
        path = self.path(key)
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def rename(self, key: str, new_key: str) -> None:
        """Give a file another key; a file with that key is replaced."""
        source, target = self.path(key), self.path(new_key)
        if self.is_local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
        else:
            self._fs.makedirs(self._fs._parent(target), exist_ok=True)
            self._fs.mv(source, target)

    def scratch(self, name: str) -> Path:
        """A local folder for work that needs one, such as a partial download; it is made if it is not there.

        It lies below ``.scratch`` in a local artifact store, otherwise in the machine's temporary folder. It outlives
        the task, so that a retry can go on with what is there.
        """
        base = Path(self._base) / ".scratch" if self.is_local else Path(tempfile.gettempdir()) / "emotion-scratch"
        folder = base / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock of this name for the block; yields whether it is held.

        The lock binds the processes that share the machine and its artifact store, and no process of another machine:
        it is a ``flock`` on the file ``locks/<name>.lock`` in :meth:`scratch`. It ends with the block or with the
        process, however that ends: a process that is killed leaves the file behind, and no lock. The file is deleted
        when the block ends.

        Parameters
        ----------
        name : str
            What is locked, for example ``datasets/ravdess-speech``. The same rules as for a key.
        wait : bool
            Wait until the lock is free, with one warning in the log if it is not free at once. Otherwise the block
            runs without the lock where another process, or another block of this one, holds it.

        Raises
        ------
        ConfigurationError
            If the name leaves the folder of locks.

        Examples
        --------
        >>> store = Store("memory://lock-example")
        >>> with store.lock("example") as held, store.lock("example", wait=False) as held_twice:
        ...     print(held, held_twice)
        True False
        """
        self.path(name)
        file = self.scratch("locks") / f"{name}.lock"
        with ExitStack() as opened:
            is_first_try = True
            while True:
                file.parent.mkdir(parents=True, exist_ok=True)
                handle = opened.enter_context(open(file, "w"))
                held = _lock_at_once(handle)
                if not held and wait:
                    if is_first_try:
                        log.warning("another process holds the lock %s; waiting for it", file)
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    held = True
                if not held or _is_file_of(handle, file):
                    break
                is_first_try = False  # its holder has deleted the file that was waited for
                opened.close()
            if held:  # before the lock ends: nobody else can hold a lock on this file
                opened.callback(file.unlink, missing_ok=True)
            yield held


NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""Errors of a file system on which each file needs a name, such as NFS."""


def _open_unfinished(path: Path) -> BinaryIO:
    """A new file that a process which is killed does not leave behind: one without a name, where there are such."""
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
            # src_dir_fd has no effect but that the link /proc/self/fd/… is followed.
            os.link(f"/proc/self/fd/{descriptor}", target, src_dir_fd=descriptor, follow_symlinks=True)
            return
        except FileExistsError:  # a link does not replace a file: for a moment, the file has two names
            os.link(f"/proc/self/fd/{descriptor}", unfinished, src_dir_fd=descriptor, follow_symlinks=True)
    os.replace(unfinished, target)


def _lock_at_once(handle: IO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


LONGEST_NAME = 200
"""Characters of a run's folder; file systems allow 255 bytes, and some names get an ending."""


def _is_file_of(handle: IO, file: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())
    except FileNotFoundError:
        return False


def run_folder(run_id: str) -> str:
    """The name of a run's folder, from Airflow's run id: safe as a file name, and another for another id.

    >>> run_folder("demo-1")
    'demo-1'
    >>> run_folder("manual__2026-01-02T03:04:05+00:00")
    'manual__2026-01-02T03-04-05-00-00-422e87'
    >>> len(run_folder("x" * 250))
    207
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "-", run_id)[:LONGEST_NAME]
    return name if name == run_id else f"{name}-{hashlib.sha256(run_id.encode()).hexdigest()[:6]}"
