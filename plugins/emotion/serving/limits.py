"""What the service accepts at most, and how it refuses the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of the service: bytes, seconds and counts.

    Attributes
    ----------
    body_bytes : int
        Of one upload. A stereo WAV file of 60 s at 48 kHz has 12 MB.
    bytes_in_memory : int
        Of all uploads and streams together.
    header_seconds : float
        From the first byte of a request, or the beginning of a connection, until all headers are there.
    upload_seconds : float
        For the body of a request.
    answer_seconds : float
        Until a clip gets a free process, and for the answer of a process. A slower process is ended and replaced.
    waiting : int
        Clips that wait for a free process.
    connections : int
    streams : int
        Open streams.
    stream_seconds : float
        Length of a stream: of its audio, and of the connection.
    idle_seconds : float
        Between two messages of a stream.
    message_bytes : int
        Of one message of a stream.
    check_seconds : float
        Between two looks at the champion.
    """

    body_bytes: int = 32_000_000
    bytes_in_memory: int = 512_000_000
    header_seconds: float = 10.0
    upload_seconds: float = 30.0
    answer_seconds: float = 30.0
    waiting: int = 64
    connections: int = 1000
    streams: int = 100
    stream_seconds: float = 3600.0
    idle_seconds: float = 30.0
    message_bytes: int = 1_000_000
    check_seconds: float = 3.0


class Refused(Exception):
    """A request that gets no answer.

    Attributes
    ----------
    status : int
        Of HTTP.
    reason : str
        A short stable word, for programs and metrics.
    message : str
        For a person.
    """

    def __init__(self, status: int, reason: str, message: str):
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def content(self) -> dict[str, str]:
        """The JSON of the refusal.

        >>> Refused(503, "busy", "64 clips are waiting").content
        {'reason': 'busy', 'message': '64 clips are waiting'}
        """
        return {"reason": self.reason, "message": self.message}


class Memory:
    """Counts the bytes that all requests hold.

    Examples
    --------
    >>> memory = Memory(100)
    >>> with memory.share() as first, memory.share() as second:
    ...     first.take(60)
    ...     try:
    ...         second.take(60)
    ...     except Refused as refused:
    ...         print(refused.status, refused.reason)
    503 busy
    >>> memory.held
    0
    """

    def __init__(self, total: int):
        self._total = total
        self.held = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """What one request holds; given back at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.held

    def take(self, count: int) -> None:
        """Raise Refused (``busy``) if there is no room for so many bytes more."""
        if self.held + count > self._total:
            raise Refused(503, "busy", "the service holds as much audio as it may; try again in a second")
        self.held += count


class Share:
    """The bytes of one request; see :class:`Memory`."""

    def __init__(self, memory: Memory):
        self._memory = memory
        self.held = 0

    def take(self, count: int) -> None:
        """Add bytes. Raises Refused (``busy``) where all requests together hold too many."""
        self._memory.take(count)
        self.held += count
