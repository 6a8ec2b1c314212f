"""Recordings to train on that lie in a folder of an S3 bucket: each object is read once, and only if it has changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from emotion import bucket
from emotion.bucket import ArchivedObject, Object
from emotion.datasets.archives import MAX_MEMBER_BYTES, Member
from emotion.errors import ConfigurationError, DataError
from emotion.store import Store


class Stored(NamedTuple):
    """Where the artifact store has the content of an object."""

    stamp: str
    """Of the object when it was read."""
    sha256: str
    key: str
    """In the artifact store."""


@dataclass(frozen=True)
class BucketSource:
    """A folder, a zip or a CSV in a bucket, with the methods of a path that an import needs.

    Attributes
    ----------
    url : str
    cache : Path or None
        Where objects are kept until the import is done; None: none can be read.
    store : Store or None
        Where the content of ``stored`` lies.
    stored : mapping of str to Stored
        By URL: objects that the last import has read.
    checksums : dict
        By URL: stamp and sha256 of what this import has read.
    """

    url: str
    cache: Path | None = None
    store: Store | None = None
    stored: Mapping[str, Stored] = field(default_factory=dict)
    checksums: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the name, such as ``.zip``."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> BucketSource:
        """The folder in which it lies."""
        return replace(self, url=self.url.rpartition("/")[0])

    def __truediv__(self, name: str) -> BucketSource:
        return replace(self, url=f"{self.url}/{name}")

    def exists(self) -> bool:
        """Whether there is such an object, or an object below it."""
        return self._object is not None or bool(self._objects)

    def is_file(self) -> bool:
        """Whether it is one object."""
        return self._object is not None

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return not self.is_file()

    @cached_property
    def _object(self) -> Object | None:
        """The object of this very URL."""
        if "/" not in self.url.removeprefix(bucket.SCHEME):  # a whole bucket
            return None
        folder, _, name = self.url.rpartition("/")
        return next((item for item in bucket.list_objects(folder, most=1, begin=name) if item.url == self.url), None)

    @cached_property
    def _objects(self) -> list[tuple[str, Object]]:
        """The objects below this URL and their paths, without the hidden ones."""
        listed = [(item.url.removeprefix(f"{self.url}/"), item) for item in bucket.list_objects(self.url)]
        return [(path, item) for path, item in listed if not _is_left_out(path, item)]

    def stamps(self) -> list[tuple[str, str]]:
        """What tells whether the source has changed: the path and the stamp of each object."""
        if item := self._object:
            return [(self.name, item.stamp)]
        return [(path, item.stamp) for path, item in self._objects]

    def members(self) -> list[Member]:
        """The files of a folder, sorted by path, as the members of a zip are listed.

        Raises
        ------
        DataError
            If a name cannot be stored.
        """
        for path, _ in self._objects:
            is_odd = any(part in ("", ".", "..") for part in path.split("/"))
            if is_odd or "\\" in path or not path.isprintable():
                raise DataError(
                    f"{self.url}/{path!r} has an empty part, '.', '..', a backslash or an unprintable character in its "
                    "name; rename it"
                )
        return [Member(path, item.size, partial(self._read, item)) for path, item in self._objects]

    def fetched(self) -> Path:
        """A copy of the object on this machine.

        Raises
        ------
        DataError
            If it lies in an archive.
        OSError
            If it is not there any more, or cannot be read for now; the next try goes on with what was fetched.
        """
        assert self._object is not None
        return self._fetch(self._object)

    def _fetch(self, item: Object) -> Path:
        assert self.cache is not None
        place = hashlib.sha256(f"{item.url} {item.stamp}".encode()).hexdigest()[:32]
        target = self.cache / place / PurePosixPath(item.key).name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name("unfinished")
            try:
                with bucket.copied(item.url, item.etag, item.size) as (copy, _), open(unfinished, "wb") as file:
                    shutil.copyfileobj(copy, file, 1 << 20)
            except ArchivedObject as error:
                raise DataError(
                    f"{item.url} lies in an archive of the bucket: restore it, and copy it to the class STANDARD"
                ) from error
            os.replace(unfinished, target)
        return target

    def _read(self, item: Object) -> bytes:
        if item.size > MAX_MEMBER_BYTES:
            raise DataError(f"{item.url} is longer than {MAX_MEMBER_BYTES:,} bytes; split it into clips of one emotion")
        data = self._unchanged(item)
        if data is None:
            data = self._fetch(item).read_bytes()
        self.checksums[item.url] = item.stamp, hashlib.sha256(data).hexdigest()
        return data

    def _unchanged(self, item: Object) -> bytes | None:
        """The content of an object that the last import has read, from the artifact store; None if it has changed."""
        stored = self.stored.get(item.url)
        if stored is None or stored.stamp != item.stamp or self.store is None or not self.store.exists(stored.key):
            return None
        data = self.store.read_bytes(stored.key)
        return data if hashlib.sha256(data).hexdigest() == stored.sha256 else None


def _is_left_out(path: str, item: Object) -> bool:
    """Whether an object is hidden, or empty and stands for a folder."""
    parts = path.split("/")
    is_hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return is_hidden or "__MACOSX" in parts[:-1] or (not item.size and (not path or path.endswith("/")))


def find_source(text: str, recordings: tuple[str, ...]) -> BucketSource | None:
    """The source of a name or URL that a person gave, below one of some folders of buckets; None if it lies in none.

    Raises
    ------
    ConfigurationError
        If it is no folder of a bucket, or there is no such object.
    """
    missing = []
    for root in recordings:
        url = bucket.folder_url(text if bucket.is_url(text) else f"{root}/{text}")
        if url == root or bucket.is_inside(url, root):
            source = BucketSource(url)
            if source.exists():
                return source
            missing.append(url)
    if missing:
        raise ConfigurationError(f"the source {' or '.join(missing)} is not there; expected a folder, a zip or a CSV")
    return None
