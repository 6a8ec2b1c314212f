"""Lists and opens the recordings of an inbox that is a folder of an S3 bucket.

An object is whole once it is listed, so none is left because it is new. Its ETag and size say whether it has changed.
It is read once, when it is scored: its checksum is not known before. The plan of the shard gets it then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from emotion import bucket
from emotion.bucket import ArchivedObject, ChangedObject, Object
from emotion.errors import AudioError, ConfigurationError
from emotion.progress import Progress, no_progress
from emotion.scoring.listing import TEMPORARY, File, Listing, is_unfinished, shown

log = logging.getLogger(__name__)


def confine(folder: str, inboxes: tuple[str, ...]) -> str | None:
    """The URL of a folder that a user named, which must lie in one of the inboxes; None if it lies in none.

    Parameters
    ----------
    folder : str
        A URL, or relative to an inbox.
    inboxes : tuple of str
        URLs.

    Raises
    ------
    ConfigurationError
        If it is no folder of a bucket, or holds no object.
    """
    empty = []
    for inbox in inboxes:
        place = bucket.folder_url(folder if bucket.is_url(folder) else f"{bucket.root_of(inbox)}/{folder}")
        if place != inbox and not bucket.is_inside(place, inbox):
            continue
        if bucket.DATE.search(place) or bucket.holds_objects(place):
            return place
        empty.append(place)
    if empty:
        raise ConfigurationError(f"{' or '.join(empty)} holds no object; expected a folder of a bucket with recordings")
    return None


def look(
    folder: str,
    listing: Listing,
    *,
    is_known: Callable[[str, str, str | None], bool],
    is_full: Callable[[], bool],
    skip: frozenset[str] = frozenset(),
    progress: Progress = no_progress,
) -> Iterator[File]:
    """The objects of a folder that are not known yet, sorted by key; see :func:`emotion.scoring.inbox.look`.

    Raises
    ------
    ConfigurationError
        If there is no such bucket, or nobody has granted access to it.
    """
    done = 0
    try:
        for item in bucket.list_objects(folder):
            file = _file(folder, item)
            if file is None or file.path in skip:
                continue
            if not file.error and any(is_unfinished(part) for part in file.path.split("/")):
                listing.leave("unfinished_name")
            elif is_known(file.place, file.stamp.removesuffix(bucket.ARCHIVED), None) or (
                item.is_archived and is_known(file.place, file.stamp, None)
            ):  # one that was scored is not new because it was moved to an archive since
                listing.known += 1
            elif is_full():
                listing.leave("over_limit")
            else:
                yield file
            done += 1
            progress(done, done + 1)
    except OSError as error:
        log.warning("%s: what follows is left for the next sweep (%s)", folder, error)
        listing.leave(TEMPORARY)
    progress(done, done)


def _file(folder: str, item: Object) -> File | None:
    """An object as a file of an inbox; None for the empty ones that stand for folders."""
    path = item.url.removeprefix(f"{folder}/")
    place = item.url.encode().hex()
    if not path or path.endswith("/"):
        if not item.size:
            return None
        message = f"{path} has the name of a folder; expected the name of a recording"
        return File(path, place, item.stamp, item.size, error="not_file", message=message)
    if {".", ".."} & set(path.split("/")):
        message = f"{path} has the part '.' or '..', which some clients take for another folder; it was not read"
        return File(path, place, item.stamp, item.size, error="unreadable", message=message)
    if item.size > bucket.MAX_OBJECT_BYTES:
        message = f"{path} has {item.size:,} bytes; expected at most {bucket.MAX_OBJECT_BYTES:,}: split the recording"
        return File(path, place, item.stamp, item.size, error="too_large", message=message)
    return File(path, place, item.stamp, item.size)


@contextmanager
def reopen(file: File, *, inboxes: tuple[str, ...]) -> Iterator[tuple[BinaryIO, str]]:
    """Copy an object to this machine and open the copy; see :func:`emotion.scoring.inbox.reopen`.

    An object that is not there any more, or that nobody may read, is left for the next sweep: its ETag would not change
    if that did.
    """
    if not any(bucket.is_inside(file.where, inbox) for inbox in inboxes):
        raise AudioError("outside_inbox", f"{file.path} does not lie in an inbox any more; it was not read")
    etag = file.stamp.removesuffix(bucket.ARCHIVED).split("-", 1)[1]
    try:
        with bucket.copied(file.where, etag, file.size) as (handle, sha256):
            if file.sha256 not in ("", sha256):
                raise _changed(file)
            yield handle, sha256
    except ChangedObject as error:
        raise _changed(file) from error
    except ArchivedObject as error:
        raise AudioError(
            "unreadable",
            f"{file.path} lies in an archive of the bucket: restore it, and copy it to the storage class STANDARD",
        ) from error


def _changed(file: File) -> AudioError:
    return AudioError("changed", f"{shown(file.path)} changed after it was listed; the next sweep scores it")
