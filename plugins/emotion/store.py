"""The artifact store: one folder or bucket that every task reads and writes.

A reader never sees half a file: a local file is written without a name and then gets its name; an object store's put is
atomic by itself. A key is a path relative to the root, with ``/`` between its parts, and never leaves the root.

What several processes change is changed by :meth:`Store.update`: it is written only if it is still what was read.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from emotion import local_folder
from emotion.bucket import store_root
from emotion.errors import ConfigurationError, DataError, StoreError
from emotion.store_lock import Held, file_lock, is_leased, lease
from emotion.whole_file import whole_file

if TYPE_CHECKING:
    import pandas as pd

    from emotion.s3 import S3

MOST_CONFLICTS = 100
"""Most times that a change is tried again because another process has changed the file meanwhile."""
_PROBED: set[str] = set()
"""The roots in buckets of which this process knows that conditions of a write are kept."""


class Store:
    """Files under one root.

    Parameters
    ----------
    root : str
        A folder or a URL, such as ``s3://bucket/prefix``: see :func:`emotion.bucket.store_root`.

    Raises
    ------
    ConfigurationError
        If the root is no such folder or URL, or a file, or the package for its file system is not installed.

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
        self.root = store_root(root)
        self._s3: S3 | None = None
        try:
            if self.root.startswith(("s3://", "s3a://")):
                from emotion.s3 import S3

                self._fs = self._s3 = S3()
                self._base = S3._strip_protocol(self.root)
            else:
                self._fs, self._base = fsspec.url_to_fs(self.root, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise ConfigurationError(f"{self.root!r} cannot be the artifact store ({error})") from error
        self.is_local = isinstance(self._fs, LocalFileSystem)
        if self.is_local:
            self.root = self._base
            if os.path.exists(self._base) and not os.path.isdir(self._base):
                raise ConfigurationError(f"EMOTION_HOME {self.root} is a file; expected a folder")

    def path(self, key: str) -> str:
        """The key's full path in its file system. Raises ConfigurationError for a key that is not allowed."""
        pure = PurePosixPath(key)
        is_cut = self._s3 and "?versionId=" in f"{self._base}/{key}"  # by s3fs, which would take another file
        if is_cut or pure.is_absolute() or ".." in pure.parts or "\\" in key or "\0" in key:
            raise ConfigurationError(f"{key!r} is not a path below the artifact store, without '..' or '?versionId='")
        return f"{self._base}/{pure}" if pure.parts else self._base

    def url(self, key: str) -> str:
        """The key as a person would write it: a local path or a URL."""
        self.path(key)
        return f"{self.root}/{key}"

    def exists(self, key: str) -> bool:
        """Whether there is a file with this key."""
        try:  # not isfile(), which takes every error for a file that is not there
            return self._fs.info(self.path(key))["type"] == "file"
        except (FileNotFoundError, NotADirectoryError):
            return False

    def list(self, prefix: str, pattern: str = "*") -> list[str]:
        """Keys of the files below ``prefix`` whose name matches ``pattern``, sorted; [] if none."""
        base = self.path(prefix)
        names = local_folder.files_below(base) if self.is_local else self._fs.find(base)
        paths = (PurePosixPath(path) for path in names if path != base and not path.endswith("/"))
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
        try:
            return self._fs.cat_file(self.path(key))
        except FileNotFoundError:
            raise DataError(f"{self.url(key)} is not there; was the step that writes it run?") from None

    def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Many small files, by key; those of an object store come many at a time. A file that is deleted meanwhile is
        left out.

        >>> store = Store("memory://many-example")
        >>> store.write_bytes("a", b"1")
        >>> store.read_many(["a", "b"])
        {'a': b'1'}
        """
        paths = [self.path(key) for key in keys]
        if self._s3:
            contents = self._s3.read_many(paths)
            return {key: content for key, content in zip(keys, contents, strict=True) if content is not None}
        files = {}
        for path, key in zip(paths, keys, strict=True):
            with suppress(FileNotFoundError):
                files[key] = self._fs.cat_file(path)
        return files

    def stamp(self, key: str) -> str:
        """A text that changes when other content is written. Raises DataError if there is no such file."""
        try:
            facts = self._fs.info(self.path(key))
            return facts["ETag"] if self._s3 else repr(sorted(facts.items()))
        except FileNotFoundError:
            raise DataError(f"{self.url(key)} is not there; was the step that writes it run?") from None

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write the whole file, or nothing."""
        target = self.path(key)
        if self._s3:  # which has no folders; to make one is to look for the bucket
            self._s3.pipe_file(target, data, chunksize=self._s3.part_bytes)
            return
        if not self.is_local:
            self._fs.makedirs(self._fs._parent(target), exist_ok=True)
            self._fs.pipe_file(target, data)
            return
        with whole_file(target) as handle:
            handle.write(data)

    def write_file(self, key: str, source: Path) -> None:
        """Write all that a file of this machine holds, or nothing; memory holds a piece of it at a time."""
        target = self.path(key)
        if not self.is_local:
            if not self._s3:
                self._fs.makedirs(self._fs._parent(target), exist_ok=True)
            self._fs.put_file(str(source), target)
            return
        with open(source, "rb") as content, whole_file(target) as handle:
            shutil.copyfileobj(content, handle, 1 << 20)

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
        self.write_bytes(key, self.format_json(value))

    @staticmethod
    def format_json(value: Any) -> bytes:
        """A JSON document as :meth:`write_json` writes it."""
        return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

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
        """Remove a file or a folder, but not the whole store. Nothing happens if there is none."""
        path = self.path(key)
        if path == self._base:
            raise ConfigurationError(f"{key!r} is the whole artifact store, which is not deleted; expected a key in it")
        if self._s3:
            self._s3.delete_tree(path)
        elif self.is_local:
            local_folder.delete(path)
        elif self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def rename(self, key: str, new_key: str) -> None:
        """Give a file another key; a file with that key is replaced. A process that is killed may leave both."""
        source, target = self.path(key), self.path(new_key)
        if self.is_local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
        else:
            if not self._s3:
                self._fs.makedirs(self._fs._parent(target), exist_ok=True)
            self._fs.cp_file(source, target)
            self._fs.rm_file(source)

    def scratch(self, name: str) -> Path:
        """A local folder for work that needs one, such as a partial download; it is made if it is not there.

        It lies below ``.scratch`` in a local artifact store, otherwise in the machine's temporary folder, apart from
        that of other stores and users. It outlives the task, so that a retry can go on with what is there.
        """
        folder = Path(self._base, ".scratch", name)
        if not self.is_local:
            store = hashlib.sha256(self.root.encode()).hexdigest()[:12]
            folder = Path(tempfile.gettempdir(), f"emotion-scratch-{os.getuid()}", store, name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def update(self, key: str, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Change a file that other processes change too: no change is lost.

        Parameters
        ----------
        key : str
        change : callable
            Called with the content of the file, None if it is not there; returns the new content, or None to leave it
            as it is. It is called again where the file was changed by another process meanwhile.

        Returns
        -------
        bytes or None
            The content afterwards.

        Raises
        ------
        ConfigurationError
            If this store cannot write a file on the condition that it is unchanged.
        StoreError
            If others change it all the time.

        Examples
        --------
        >>> store = Store("memory://update-example")
        >>> for _ in range(3):
        ...     content = store.update("numbers", lambda old: (old or b"") + b"1")
        >>> content
        b'111'
        """
        if self.is_local or isinstance(self._fs, MemoryFileSystem):
            with file_lock(self.scratch("locks"), f"{key}.change"):
                old = self.read_bytes(key) if self.exists(key) else None
                new = change(old)
                if new is not None:
                    self.write_bytes(key, new)
                return old if new is None else new
        s3, path = self._conditional(), self.path(key)
        for _ in range(MOST_CONFLICTS):
            try:
                old, version = s3.read_with_version(path)
            except FileNotFoundError:
                old, version = None, None
            new = change(old)
            if new is None:
                return old
            if s3.write_if(path, new, version):
                return new
            time.sleep(random.uniform(0, 0.1))
        raise StoreError(f"{self.url(key)} was changed by others {MOST_CONFLICTS} times; start again")

    def create(self, key: str, data: bytes) -> bool:
        """Write a file if it is not there; returns whether it was written: of several processes, exactly one does it.

        >>> store = Store("memory://create-example")
        >>> store.create("claim", b"mine"), store.create("claim", b"yours"), store.read_bytes("claim")
        (True, False, b'mine')
        """
        created = False

        def change(old: bytes | None) -> bytes | None:
            nonlocal created
            created = old is None
            return data if created else None

        self.update(key, change)
        return created

    def _conditional(self) -> S3:
        """The file system, once it has shown that it writes on a condition.

        Raises ConfigurationError if it does not.
        """
        if self._s3 is None:
            raise ConfigurationError(
                f"{self.root} cannot be changed by several processes safely: its file system has no conditional write. "
                "Set EMOTION_HOME to a folder or to a bucket of a server that speaks S3 (s3://bucket/prefix)"
            )
        if self.root not in _PROBED:
            if not self._s3.keeps_conditions(self.path(f"locks/.probe-{uuid.uuid4().hex}")):
                raise ConfigurationError(
                    f"the server of {self.root} ignores the conditions If-None-Match and If-Match, so that of two "
                    "processes one would lose what it has written; expected a server that keeps them, such as AWS S3"
                )
            _PROBED.add(self.root)
        return self._s3

    def check_conditions(self) -> None:
        """Raise ConfigurationError unless files can be changed by several processes safely."""
        if not (self.is_local or isinstance(self._fs, MemoryFileSystem)):
            _PROBED.discard(self.root)
            self._conditional()

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[Held]:
        """Hold the lock of this name for the block; the value is true while it is held.

        In a folder it is a ``flock`` on the file ``.scratch/locks/<name>.lock``. It binds the processes that share the
        machine. It ends with the block or with the process, however that ends. In a bucket it is a *lease*, the object
        ``locks/<name>.json``, and binds the processes of all machines: see :func:`emotion.store_lock.lease`.

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
            If the name leaves the folder of locks, or the store has no conditional write.
        StoreError
            At the end of the block, if the lease was lost while it ran.

        Examples
        --------
        >>> store = Store("memory://lock-example")
        >>> with store.lock("example") as held, store.lock("example", wait=False) as held_twice:
        ...     print(bool(held), bool(held_twice))
        True False
        """
        self.path(name)
        if self.is_local or isinstance(self._fs, MemoryFileSystem):
            return file_lock(self.scratch("locks"), name, wait=wait)
        return lease(self, f"locks/{name}.json", wait=wait)

    def is_locked(self, name: str) -> bool:
        """Whether the lock of this name is held. A lease is only looked at, so that nobody is refused it meanwhile."""
        if self._s3:
            return is_leased(self, f"locks/{name}.json")
        with self.lock(name, wait=False) as free:
            return not free

    @property
    def locks_bind_all_machines(self) -> bool:
        """Whether :meth:`lock` binds the processes of other machines too."""
        return self._s3 is not None

    def age(self, key: str) -> float:
        """Seconds since a file of a bucket was written, by its server's clock; FileNotFoundError if there is none."""
        return self._conditional().age(self.path(key))
