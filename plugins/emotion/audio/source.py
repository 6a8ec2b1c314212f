"""The bytes of a recording, as soundfile reads them through a Python file."""

from __future__ import annotations

import os
from typing import BinaryIO

from emotion.audio.containers import is_mpeg_frame


class Source:
    """A seekable binary file in which no call of the decoder raises.

    libsndfile calls a Python file from C, where an exception would be printed and lost.

    Parameters
    ----------
    file : seekable binary file
    prefix : bytes
        Put before the bytes of the file.
    skip : int
        Bytes at the beginning of the file that are left out.

    Attributes
    ----------
    error : OSError or None
        The first error of the disk below the file; the decoder took it for the end of the file.

    Examples
    --------
    >>> import io
    >>> source = Source(io.BytesIO(b"RIFF"), prefix=b"--")
    >>> source.read(3), source.seek(-9), source.seek(0, os.SEEK_END), source.tell()
    (b'--R', 3, 6, 6)
    """

    def __init__(self, file: BinaryIO, *, prefix: bytes = b"", skip: int = 0):
        self._file = file
        self._prefix = prefix
        self._skip = skip
        self._position = 0
        self.error: OSError | None = None
        self._size = len(prefix) - skip + file.seek(0, os.SEEK_END)

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes."""
        data = self._prefix[self._position : self._position + size]
        try:
            self._file.seek(self._skip + max(self._position - len(self._prefix), 0))
            data += self._file.read(size - len(data))
        except OSError as error:
            self.error = self.error or error
        self._position += len(data)
        return data

    def readinto(self, target: memoryview) -> int:
        """Fill a buffer with bytes of the file; returns their number."""
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position between the beginning and the end; stay where it is for any other."""
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if 0 <= position <= self._size:
            self._position = position
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def has_more_mpeg_frames(self) -> bool:
        """Whether MPEG audio goes on after the position, for more than a hundredth of the file.

        The decoder may have read into a frame; the largest has less than 3 KB.
        """
        rest = self._size - self._position
        data = self.read(3 << 10)
        return rest > self._size / 100 and any(is_mpeg_frame(data[start:]) for start in range(len(data)))
