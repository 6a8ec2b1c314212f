"""Check a recording's length: compare what its container promises with the bytes in the file.

libsndfile reads a shortened file of these containers without an error and returns the samples that are there.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from emotion.errors import AudioError

MAX_CHUNKS = 1000
"""Chunks that are read before the samples. Recordings have fewer than 50; a damaged file may have millions."""
_VOC = b"Creative Voice File\x1a"
_VOC_BLOCKS = 9
"""The highest type of a block of a VOC file; 0 ends the file."""
_MAT4_BYTES = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}
"""Bytes of a number by its type in a MAT-file of level 4."""
_LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
_NIST_HEADER = 1024
EMPTY_ID3_TAG = b"ID3\x04" + bytes(5) + b"\x0a" + bytes(10)
"""With a padding of 10 bytes: libsndfile overlooks an MP3 after a shorter tag."""
_MPEG_HEADERS = 4096
"""An MP3's first frame, which may hold its length, begins and ends within so many bytes after its ID3 tag."""


@dataclass(frozen=True)
class _Chunks:
    """How a container that consists of chunks stores them.

    Attributes
    ----------
    start : int
        Of the first chunk, in bytes from the beginning of the file.
    samples : bytes
        Identifier of the chunk that holds the samples; all identifiers have its length.
    length : str
        Format of a chunk's length, as struct writes it.
    align : int
        A chunk begins at a multiple of this many bytes after the one before it.
    header_counts : bool
        Whether the length of a chunk contains its header.
    """

    start: int
    samples: bytes
    length: str
    align: int = 2
    header_counts: bool = False

    @property
    def unknown_length(self) -> int:
        """A length from here on means that the writer did not know it: programs that write to a pipe put it there."""
        return 0x7F00_0000 if struct.calcsize(self.length) == 4 else 1 << 62


_WAVE = _Chunks(12, b"data", "<I")
_WAVE_BIG_ENDIAN = _Chunks(12, b"data", ">I")
_AIFF = _Chunks(12, b"SSND", ">I")
_SVX = _Chunks(12, b"BODY", ">I")
_CAF = _Chunks(8, b"data", ">Q", align=1)
_W64 = _Chunks(40, bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"), "<Q", align=8, header_counts=True)


def check_container(handle: BinaryIO, name: str) -> bytes:
    """Refuse an empty file, and one with fewer bytes of samples than its container promises.

    WAV, RF64, AIFF, AIFC, 8SVX, W64, CAF, AU and NIST state the length of their samples; a writer that did not know it
    puts a very large number there, and such a file passes. VOC states the length of each block; AVR, MAT4 and MPC 2000
    the number of samples. Ogg states the length of each page: the last one must be whole. A missing mark of the
    stream's end is no fault, as many recorders do not write it. Any other format passes. PVF and IRCAM state no length:
    a part of such a file cannot be told from a whole one.

    Parameters
    ----------
    handle : seekable binary file
        Read from its beginning; left at any position.
    name : str
        For messages.

    Returns
    -------
    bytes
        The bytes to decode in place of the beginning of the file: with the length of the samples, where the writer did
        not know it and libsndfile cannot do without. Otherwise b"".

    Raises
    ------
    AudioError
        ``empty``, ``truncated`` or ``not_audio``.
    struct.error, ValueError
        May be raised for a header that makes no sense.

    Examples
    --------
    >>> import io
    >>> header = b"RIFF" + struct.pack("<I", 1036) + b"WAVE" + b"data" + struct.pack("<I", 1024)
    >>> check_container(io.BytesIO(header + bytes(1024)), "whole.wav")
    b''
    >>> check_container(io.BytesIO(header + bytes(100)), "half.wav")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    emotion.errors.AudioError: half.wav is truncated or damaged: its header promises 1024 bytes of samples and 100 ...
    """
    size = handle.seek(0, os.SEEK_END)
    if not size:
        raise AudioError("empty", f"{name} has no bytes; copy or record it again")
    handle.seek(0)
    head = handle.read(24)
    chunks = _chunks(head)
    if chunks:
        return _check_samples_chunk(handle, name, size, chunks)
    _check_other(handle, head, name, size)
    return b""


def _check_other(handle: BinaryIO, head: bytes, name: str, size: int) -> None:
    """Check a container that does not consist of chunks; ``head``: its first 24 bytes."""
    if head[:4] in (b".snd", b"dns."):
        offset, length = struct.unpack((">" if head[:4] == b".snd" else "<") + "II", head[4:12])
        if length < _WAVE.unknown_length:
            _check_length(name, promised=length, present=size - offset)
    elif head[:8] == b"NIST_1A\n":
        _check_nist(head + handle.read(_NIST_HEADER - len(head)), name, size)
    elif head[:2] == b"\xf0\x7e":
        # libsndfile prints a line for each damaged block of it, among what the program prints
        raise AudioError("not_audio", f"{name} is a MIDI sample dump; expected a recording")
    elif head[:4] == b"OggS":
        _check_last_page(handle, name, size)
    elif head.startswith(_VOC):
        _check_voc(handle, name, size)
    elif head[:4] == b"2BIT":
        _check_avr(handle, name, size)
    elif head[:2] == b"\x01\x04" and size >= 42:
        _check_mpc(handle, name, size)
    elif len(head) == 24 and head[:4] in (bytes(4), b"\0\0\x03\xe8"):
        _check_mat4(handle, name, size)


def _chunks(head: bytes) -> _Chunks | None:
    kind, form = head[:4], head[8:12]
    if kind in (b"RIFF", b"RF64") and form == b"WAVE":
        return _WAVE
    if kind == b"RIFX" and form == b"WAVE":
        return _WAVE_BIG_ENDIAN
    if kind == b"FORM":
        return {b"AIFF": _AIFF, b"AIFC": _AIFF, b"8SVX": _SVX, b"16SV": _SVX}.get(form)
    if head[:16] == bytes.fromhex("726966662e91cf11a5d628db04c10000"):
        return _W64
    return _CAF if kind == b"caff" else None


def _check_samples_chunk(handle: BinaryIO, name: str, size: int, chunks: _Chunks) -> bytes:
    """Walk through the chunks to the one that holds the samples; returns what :func:`check_container` does."""
    id_size = len(chunks.samples)
    header_size = id_size + struct.calcsize(chunks.length)
    position, length_in_ds64, ds64 = chunks.start, 0, 0
    for _ in range(MAX_CHUNKS):
        handle.seek(position)
        head = handle.read(header_size)
        if len(head) < header_size:
            raise truncated(name, "it ends before its samples begin")
        if not any(head):
            raise truncated(name, f"it holds zeros from byte {position} on, before its samples begin")
        kind, length = head[:id_size], struct.unpack(chunks.length, head[id_size:])[0]
        if kind == b"ds64":
            ds64, length_in_ds64 = position, struct.unpack("<Q", handle.read(16)[8:])[0]
        present = size - position - header_size
        if kind == chunks.samples and length >= chunks.unknown_length:
            if chunks is _CAF:
                return _with_length(handle, position + header_size, ">", position + id_size, present)
            if ds64 and not length_in_ds64:
                return _with_length(handle, position + header_size, "<", ds64 + header_size + 8, present)
            length = length_in_ds64
        elif chunks.header_counts:
            length = max(length - header_size, 0)
        if kind == chunks.samples:
            _check_length(name, promised=length, present=present)
            return b""
        position += header_size + length + -length % chunks.align
    raise AudioError("not_audio", f"{name} has more than {MAX_CHUNKS} chunks before its samples; expected a recording")


def _with_length(handle: BinaryIO, end: int, order: str, position: int, length: int) -> bytes:
    """The header of a file, up to ``end``, with a length of 64 bits at a position."""
    handle.seek(0)
    header = bytearray(handle.read(end))
    struct.pack_into(f"{order}Q", header, position, length)
    return bytes(header)


def _check_voc(handle: BinaryIO, name: str, size: int) -> None:
    """Walk through the blocks; an unknown one ends the walk."""
    handle.seek(len(_VOC))
    position = struct.unpack("<H", handle.read(2))[0]
    for _ in range(MAX_CHUNKS):
        handle.seek(position)
        head = handle.read(4)
        if len(head) < 4 or not 0 < head[0] <= _VOC_BLOCKS:
            return
        length = int.from_bytes(head[1:], "little")
        if length < 0xFF_FFFF:
            _check_length(name, promised=length, present=size - position - 4)
        position += 4 + length


def _check_avr(handle: BinaryIO, name: str, size: int) -> None:
    handle.seek(12)
    stereo, bits = struct.unpack(">HH", handle.read(4))
    handle.seek(26)
    frames = struct.unpack(">I", handle.read(4))[0]
    if frames < _WAVE.unknown_length:
        _check_length(name, promised=frames * (2 if stereo else 1) * bits // 8, present=size - 128)


def _check_mpc(handle: BinaryIO, name: str, size: int) -> None:
    handle.seek(21)
    stereo, _, _, frames = struct.unpack("<BIII", handle.read(13))
    _check_length(name, promised=frames * 2 * (2 if stereo else 1), present=size - 42)


def _check_mat4(handle: BinaryIO, name: str, size: int) -> None:
    """Two matrices: the sample rate, and the samples with a row for each channel."""
    handle.seek(0)
    order = "<" if handle.read(4) == bytes(4) else ">"
    position = 0
    for _ in range(2):
        handle.seek(position)
        kind, rows, columns, _, name_bytes = struct.unpack(f"{order}5I", handle.read(20))
        width = _MAT4_BYTES.get(kind // 10 % 10)
        if width is None or kind >= 5000:
            return
        length = rows * columns * width
        _check_length(name, promised=length, present=size - position - 20 - name_bytes)
        position += 20 + name_bytes + length


def _check_nist(header: bytes, name: str, size: int) -> None:
    fields = {key: int(value) for key, value in re.findall(rb"^(\w+) -i (\d{1,18})\s*$", header, re.MULTILINE)}
    frame = fields.get(b"sample_n_bytes", 0) * fields.get(b"channel_count", 1)
    _check_length(name, promised=fields.get(b"sample_count", 0) * frame, present=size - _NIST_HEADER)


def _check_last_page(handle: BinaryIO, name: str, size: int) -> None:
    """Look at the last page of an Ogg file; bytes after it, such as a tag, are left alone."""
    start = max(size - _LARGEST_OGG_PAGE, 0)
    handle.seek(start)
    data = handle.read(_LARGEST_OGG_PAGE)
    page = data[data.rfind(b"OggS\0") :] if b"OggS\0" in data else b""
    if not page:
        return
    segments = page[26] if len(page) > 26 else 0
    length = 27 + segments + sum(page[27 : 27 + segments])
    rest = page[length:]
    if len(page) < length or (rest and b"OggS\0".startswith(rest)):
        raise truncated(name, f"its last page of {length} bytes ends after {len(page)}")


def mp3_states_length(handle: BinaryIO) -> bool:
    """False for an MP3 without a Xing, Info or VBRI header, whose length a decoder can only estimate; else True.

    >>> import io
    >>> mp3_states_length(io.BytesIO(bytes.fromhex("fff344c4") + bytes(400)))
    False
    """
    handle.seek(0)
    head = handle.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    handle.seek(start)
    frame = handle.read(_MPEG_HEADERS)
    is_mpeg = head[:3] == b"ID3" or is_mpeg_frame(head)
    return not is_mpeg or any(tag in frame for tag in (b"Xing", b"Info", b"VBRI"))


def is_mpeg_frame(head: bytes) -> bool:
    """Whether bytes begin as a frame of MPEG audio, layer III, does.

    >>> is_mpeg_frame(bytes.fromhex("fffb9064")), is_mpeg_frame(b"TAG")
    (True, False)
    """
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2


def _check_length(name: str, *, promised: int, present: int) -> None:
    if promised > present:
        raise truncated(name, f"its header promises {promised} bytes of samples and {max(present, 0)} are there")


def truncated(name: str, finding: str) -> AudioError:
    """The error for a recording of which a part is missing."""
    return AudioError("truncated", f"{name} is truncated or damaged: {finding}; copy or download it again")
