"""Check a recording's length: compare what a WAV's or AIFF's header promises with the bytes in the file."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from emotion.errors import AudioError

_UNKNOWN_LENGTH = 0xFFFFFFFF
"""Stands in an RF64, whose length is in the chunk ds64, and in a stream written without its length."""


def check_container(handle: BinaryIO, name: str) -> None:
    """Refuse an empty file, and a WAV or AIFF with fewer bytes of samples than its header promises.

    libsndfile reads a shortened WAV or AIFF without an error and returns the samples that are there. Any other format
    passes.

    Parameters
    ----------
    handle : seekable binary file
        Read from its beginning; left at any position.
    name : str
        For messages.

    Raises
    ------
    AudioError
        ``empty`` or ``truncated``.

    Examples
    --------
    >>> import io
    >>> header = b"RIFF" + struct.pack("<I", 1036) + b"WAVE" + b"data" + struct.pack("<I", 1024)
    >>> check_container(io.BytesIO(header + bytes(1024)), "whole.wav")
    >>> check_container(io.BytesIO(header + bytes(100)), "half.wav")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    emotion.errors.AudioError: half.wav is truncated or damaged: its header promises 1024 bytes of samples and 100 ...
    """
    size = handle.seek(0, os.SEEK_END)
    if not size:
        raise AudioError("empty", f"{name} has no bytes; copy or record it again")
    handle.seek(0)
    head = handle.read(12)
    kind, form = head[:4], head[8:]
    if kind in (b"RIFF", b"RIFX", b"RF64") and form == b"WAVE":
        _check_samples_chunk(handle, name, size, chunk_of_samples=b"data", order=">" if kind == b"RIFX" else "<")
    elif kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        _check_samples_chunk(handle, name, size, chunk_of_samples=b"SSND", order=">")


def _check_samples_chunk(handle: BinaryIO, name: str, size: int, *, chunk_of_samples: bytes, order: str) -> None:
    """Walk through the chunks, from byte 12 of the file, to the one that holds the samples."""
    position, length_in_ds64 = 12, 0
    while len(head := handle.read(8)) == 8:
        length = struct.unpack(order + "I", head[4:])[0]
        if head[:4] == b"ds64":
            length_in_ds64 = struct.unpack("<Q", handle.read(16)[8:])[0]
        if head[:4] == chunk_of_samples:
            if length == _UNKNOWN_LENGTH:
                length = length_in_ds64
            present = size - position - 8
            if length > present:
                raise truncated(name, f"its header promises {length} bytes of samples and {present} are there")
            return
        position += 8 + length + length % 2
        handle.seek(position)
    raise truncated(name, "it ends before its samples begin")


def truncated(name: str, finding: str) -> AudioError:
    """The error for a recording of which a part is missing."""
    return AudioError("truncated", f"{name} is truncated or damaged: {finding}; copy or download it again")
