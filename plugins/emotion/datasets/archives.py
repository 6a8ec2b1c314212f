"""Zip files from elsewhere: listed and read with limits, so that none fills the disk or leaves its folder."""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emotion.errors import DataError

MAX_MEMBERS = 100_000
MAX_MEMBER_BYTES = 512 << 20
MAX_RATIO = 100
RATIO_MATTERS_ABOVE = 64 << 20


@dataclass(frozen=True)
class Member:
    """A file of a folder or an archive: where it lies in it, how long it is, and how to read it whole."""

    path: str
    size: int
    read: Callable[[], bytes]


def zip_members(archive: zipfile.ZipFile, *, max_bytes: int | None = None) -> list[Member]:
    """The files of a zip that may be unpacked, sorted by path; hidden files and ``__MACOSX`` are left out.

    ``read`` of a member returns its bytes only after its CRC was compared, and raises DataError otherwise.

    Parameters
    ----------
    max_bytes : int, optional
        It must not unpack to more than this.

    Raises
    ------
    DataError
        If a member would leave the folder it is unpacked to, is a link, is encrypted or there twice with
        different content, or if the archive would unpack to an absurd size or number of files.
    """
    name = Path(archive.filename).name
    infos = archive.infolist()
    packed = os.path.getsize(archive.filename)
    expanded = sum(info.file_size for info in infos)
    largest = max((info.file_size for info in infos), default=0)
    if len(infos) > MAX_MEMBERS:
        raise DataError(f"{name} holds {len(infos):,} files; more than {MAX_MEMBERS:,} are refused")
    if max_bytes is not None and expanded > max_bytes:
        raise DataError(f"{name} would unpack to {expanded:,} bytes; the catalogue allows {max_bytes:,}")
    if expanded > max(MAX_RATIO * packed, RATIO_MATTERS_ABOVE) or largest > MAX_MEMBER_BYTES:
        raise DataError(
            f"{name} ({packed:,} bytes) would unpack to {expanded:,} bytes, its largest file to {largest:,}; "
            f"refused: over {MAX_RATIO} times its size, or a file over {MAX_MEMBER_BYTES:,} bytes"
        )
    members: dict[str, Member] = {}
    for info in infos:
        fault = _fault(info)
        if fault:
            raise DataError(f"{name}: {info.orig_filename!r} {fault}; the archive is refused")
        path = PurePosixPath(info.filename)
        if info.is_dir() or "__MACOSX" in path.parts or any(part.startswith(".") for part in path.parts):
            continue
        member = Member(str(path), info.file_size, lambda info=info: _read_member(archive, info))
        first = members.setdefault(member.path, member)
        if first is not member and first.read() != member.read():
            raise DataError(f"{name} holds {member.path} twice, with different content; the archive is refused")
    return [members[path] for path in sorted(members)]


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip for reading; raises DataError if it is none or is cut off."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path} is not a whole zip file ({error}); was it downloaded to its end?") from None


def _fault(info: zipfile.ZipInfo) -> str | None:
    name = info.orig_filename
    if "\\" in name or not name.isprintable():
        return "has a backslash or an unprintable character in its name"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute path"
    if ".." in PurePosixPath(name).parts:
        return "would leave the folder it is unpacked to"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a special file"
    if info.flag_bits & 0x1:
        return "is encrypted"
    return None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{archive.filename}: {info.filename} is damaged ({error}); fetch the archive again") from None
