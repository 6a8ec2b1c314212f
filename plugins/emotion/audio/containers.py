"""Compares what a container's header promises with the bytes that are there."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from emotion.errors import AudioError


def check_container(handle: BinaryIO, name: str) -> None:
    """Compare the length that a WAV's or AIFF's header promises with the file's: libsndfile shortens silently."""
    size = handle.seek(0, os.SEEK_END)
    if not size:
        raise AudioError("empty", f"{name} has no bytes")
    handle.seek(0)
    head = handle.read(12)
    kind, form = head[:4], head[8:]
    if kind in (b"RIFF", b"RIFX", b"RF64") and form == b"WAVE":
        data, order = b"data", ">" if kind == b"RIFX" else "<"
    elif kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        data, order = b"SSND", ">"
    else:
        return
    at, large = 12, None
    while len(chunk := handle.read(8)) == 8:
        length = struct.unpack(order + "I", chunk[4:])[0]
        if chunk[:4] == b"ds64":
            large = struct.unpack("<Q", handle.read(16)[8:])[0]
        if chunk[:4] == data:
            if length == 0xFFFFFFFF:  # RF64, or a stream written without its length
                length = large if large is not None else 0
            if at + 8 + length > size:
                raise truncated(name, f"its header promises {length} bytes of samples and {size - at - 8} are there")
            return
        at += 8 + length + length % 2
        handle.seek(at)
    raise truncated(name, "it ends before its samples begin")


def truncated(name: str, found: str) -> AudioError:
    return AudioError("truncated", f"{name} is cut short or damaged: {found}; copy or download it again")
