"""Zip files from outside: their checksums, and their members, listed and read within limits.

The limits keep an archive from filling the disk and from writing outside the folder that it is unpacked to. All of an
archive is looked through before one file of it is used.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from emotion.errors import DataError

MAX_MEMBERS = 100_000
"""An archive with more files is refused."""
MAX_MEMBER_BYTES = 512 << 20
"""An archive with a longer file is refused."""
MAX_RATIO = 100
"""An archive that unpacks to more than so many times its size is refused …"""
RATIO_MATTERS_ABOVE = 64 << 20
"""… if it unpacks to more than so many bytes."""
_BLOCK = 1 << 20
_CONTENT_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    EOFError,
    OSError,
)
"""What zipfile raises for bytes that are no whole zip."""


@dataclass(frozen=True)
class Member:
    """A file of a folder or of an archive.

    Attributes
    ----------
    path : str
        Where it lies in the folder or archive, with ``/``.
    size : int
        Its length in bytes.
    read : callable
        Returns all its bytes.
    """

    path: str
    size: int
    read: Callable[[], bytes]


def checksums(path: Path) -> dict[str, str]:
    """MD5 and SHA-256 of a file, as hexadecimal digits under ``md5`` and ``sha256``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "empty.zip")
    ...     _ = path.write_bytes(b"")
    ...     checksums(path)["md5"]
    'd41d8cd98f00b204e9800998ecf8427e'
    """
    digests = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    with open(path, "rb") as handle:
        while block := handle.read(_BLOCK):
            for digest in digests.values():
                digest.update(block)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip for reading.

    Raises
    ------
    DataError
        If the file is no zip, or is cut off.
    """
    try:
        return zipfile.ZipFile(path)
    except _CONTENT_ERRORS as error:
        _raise_if_of_the_disk(error)
        raise DataError(f"{path} is not a whole zip file ({error}); was it downloaded to its end?") from None


def zip_members(archive: zipfile.ZipFile, *, max_bytes: int | None = None) -> list[Member]:
    """The files of a zip that may be unpacked, sorted by path; hidden files and ``__MACOSX`` are left out.

    ``read`` of a member returns its bytes only after its CRC was compared, and raises DataError otherwise.

    Parameters
    ----------
    archive : zipfile.ZipFile
        An archive that was opened from a path, as :func:`open_zip` does.
    max_bytes : int, optional
        The archive must not unpack to more than this.

    Raises
    ------
    DataError
        If a member would leave the folder it is unpacked to, is a link, is encrypted or is there twice with different
        content, or if the archive would unpack to too many bytes or files.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "clips.zip")
    ...     with zipfile.ZipFile(path, "w") as archive:
    ...         archive.writestr("Actor_01/a.wav", b"RIFF")
    ...         archive.writestr("__MACOSX/._a.wav", b"x")
    ...     with open_zip(path) as archive:
    ...         [(member.path, member.size, member.read()) for member in zip_members(archive)]
    [('Actor_01/a.wav', 4, b'RIFF')]
    """
    path = Path(str(archive.filename))
    _check_limits(path, archive.infolist(), max_bytes)
    members: dict[str, Member] = {}
    for info in archive.infolist():
        fault = _fault(info)
        if fault:
            raise DataError(f"{path.name}: {info.orig_filename!r} {fault}; the archive is refused")
        place = PurePosixPath(info.filename)
        if info.is_dir() or "__MACOSX" in place.parts or any(part.startswith(".") for part in place.parts):
            continue
        member = Member(str(place), info.file_size, partial(_read_member, archive, info))
        first = members.setdefault(member.path, member)
        if first is not member and first.read() != member.read():
            raise DataError(f"{path.name} holds {member.path} twice, with different content; the archive is refused")
    return [members[name] for name in sorted(members)]


def _check_limits(path: Path, infos: list[zipfile.ZipInfo], max_bytes: int | None) -> None:
    packed = os.path.getsize(path)
    expanded = sum(info.file_size for info in infos)
    largest = max((info.file_size for info in infos), default=0)
    if len(infos) > MAX_MEMBERS:
        raise DataError(f"{path.name} holds {len(infos):,} files; more than {MAX_MEMBERS:,} are refused")
    if max_bytes is not None and expanded > max_bytes:
        raise DataError(f"{path.name} would unpack to {expanded:,} bytes; the catalogue allows {max_bytes:,}")
    if expanded > max(MAX_RATIO * packed, RATIO_MATTERS_ABOVE) or largest > MAX_MEMBER_BYTES:
        raise DataError(
            f"{path.name} ({packed:,} bytes) would unpack to {expanded:,} bytes, its largest file to {largest:,}; "
            f"refused: over {MAX_RATIO} times its size, or a file over {MAX_MEMBER_BYTES:,} bytes"
        )


def _fault(info: zipfile.ZipInfo) -> str | None:
    """Why a member must not be unpacked; None if it may."""
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
    except _CONTENT_ERRORS as error:
        _raise_if_of_the_disk(error)
        raise DataError(f"{archive.filename}: {info.filename} is damaged ({error}); fetch the archive again") from None


def _raise_if_of_the_disk(error: Exception) -> None:
    """Raise an OSError that does not come from the zip's content; that may do so without a number, or as EINVAL."""
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        raise error
