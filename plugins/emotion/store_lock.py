"""Locks of the artifact store: of a folder by the operating system, of a bucket by a lease that is renewed."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from emotion.errors import EmotionError, StoreError

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""How long a lease holds without being renewed, and so how long a killed process blocks the others."""
POLL_SECONDS = 1.0
"""Between two tries to get a lease."""


class Held:
    """Whether a lock is held, as a truth value. It becomes false if a lease is lost."""

    def __init__(self, held: bool):
        self._held = held

    def __bool__(self) -> bool:
        return self._held

    def lose(self) -> None:
        """Say that the lock is not held any more."""
        self._held = False


@contextmanager
def file_lock(folder: Path, name: str, *, wait: bool = True) -> Iterator[Held]:
    """Hold the lock of this name in a local folder; see :meth:`emotion.store.Store.lock`.

    A process that is killed leaves the file behind, and no lock. The file is deleted when the block ends.
    """
    file = folder / f"{name}.lock"
    with ExitStack() as opened:
        is_first_try = True
        while True:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = opened.enter_context(open(file, "w"))
            held = _lock_at_once(handle)
            if not held and wait:
                if is_first_try:
                    log.warning("another process holds the lock %s; waiting for it", file)
                fcntl.flock(handle, fcntl.LOCK_EX)
                held = True
            if not held or _is_file_of(handle, file):
                break
            is_first_try = False  # its holder has deleted the file that was waited for
            opened.close()
        if held:  # before the lock ends: nobody else can hold a lock on this file
            opened.callback(file.unlink, missing_ok=True)
        yield Held(held)


def _lock_at_once(handle: IO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_file_of(handle: IO, file: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())
    except FileNotFoundError:
        return False


class LeaseStore(Protocol):
    """What a lease needs of :class:`emotion.store.Store`."""

    def update(self, key: str, change: Any) -> bytes | None:
        """See :meth:`emotion.store.Store.update`."""

    def read_many(self, keys: Any) -> dict[str, bytes]:
        """See :meth:`emotion.store.Store.read_many`."""

    def age(self, key: str) -> float:
        """See :meth:`emotion.store.Store.age`."""

    def url(self, key: str) -> str:
        """See :meth:`emotion.store.Store.url`."""


@contextmanager
def lease(store: LeaseStore, key: str, *, wait: bool, seconds: float | None = None) -> Iterator[Held]:
    """Hold a lock that lies in a bucket as an object, for the processes of all machines.

    A thread writes the object again three times in ``seconds``. A lease that was not written for that long has expired,
    by the clock of the server: its process is dead or cut off, and another process takes the lease over. At the end the
    object is not deleted, but says that the lock is free: a deletion that is tried again could delete the next lease.

    Parameters
    ----------
    store : Store
    key : str
        Of the object.
    wait : bool
    seconds : float, optional
        How long the lease holds without being renewed; :data:`LEASE_SECONDS` by default.

    Raises
    ------
    StoreError
        At the end of the block, if the lease was lost: another process may have worked at the same time.
    """
    mine = _Lease(store, key, LEASE_SECONDS if seconds is None else seconds)
    held = mine.acquire()
    if not held and wait:
        log.warning("another process holds the lock %s; waiting for it", store.url(key))
        while not mine.acquire():
            time.sleep(POLL_SECONDS * random.uniform(0.5, 1.5))
        held = True
    if not held:
        yield Held(False)
        return
    state = Held(True)
    stop = threading.Event()
    renewing = threading.Thread(target=mine.renew_until, args=(stop, state), daemon=True)
    renewing.start()
    try:
        yield state
    finally:
        stop.set()
        renewing.join()
        if state:
            mine.release()
    if not state:
        raise StoreError(
            f"the lock {store.url(key)} was lost: it was not renewed for {mine.seconds:.0f} s, as the process stood "
            "still or could not reach the server, and another process may hold it; start again"
        )


def is_leased(store: LeaseStore, key: str) -> bool:
    """Whether a lease is held, as far as reading it tells: it may end, or be renewed, at any moment."""
    content = store.read_many([key]).get(key)
    return content is not None and not _is_over(store, key, content, LEASE_SECONDS)


class _Lease:
    def __init__(self, store: LeaseStore, key: str, seconds: float):
        self.store, self.key, self.seconds = store, key, seconds
        self.token = uuid.uuid4().hex
        self.renewals = 0

    def acquire(self) -> bool:
        """Take the lease if it is free or has expired; returns whether it is held."""

        def change(old: bytes | None) -> bytes | None:
            return self._content() if old is None or _is_over(self.store, self.key, old, self.seconds) else None

        return self._is_mine(self.store.update(self.key, change))

    def renew_until(self, stop: threading.Event, state: Held) -> None:
        """Renew the lease until the event is set; ``state`` is told if it is lost."""
        valid_until = time.monotonic() + self.seconds
        while not stop.wait(self.seconds / 3):
            begun = time.monotonic()
            try:
                if not self._is_mine(self.store.update(self.key, self._renewed)):
                    state.lose()
                else:
                    valid_until = begun + self.seconds
            except Exception as error:  # whatever it was: the block must hear of it once the lease is over
                log.warning("the lock %s was not renewed: %s", self.store.url(self.key), error)
            if time.monotonic() > valid_until:
                state.lose()
            if not state:
                log.error("the lock %s was lost", self.store.url(self.key))
                return

    def release(self) -> None:
        """Say that the lock is free; nothing happens if it is another's. If that fails, the lease expires by itself."""

        def change(old: bytes | None) -> bytes | None:
            return b'{"free": true}\n' if self._is_mine(old) else None

        try:
            self.store.update(self.key, change)
        except (EmotionError, OSError) as error:
            log.warning("the lock %s was not released, and ends by itself: %s", self.store.url(self.key), error)

    def _renewed(self, old: bytes | None) -> bytes | None:
        self.renewals += 1
        return self._content() if self._is_mine(old) else None

    def _content(self) -> bytes:
        owner = f"{socket.gethostname()}:{os.getpid()}"
        facts = {"owner": owner, "token": self.token, "seconds": self.seconds, "renewals": self.renewals}
        return (json.dumps(facts) + "\n").encode()

    def _is_mine(self, content: bytes | None) -> bool:
        return content is not None and _facts(content).get("token") == self.token


def _is_over(store: LeaseStore, key: str, content: bytes, seconds: float) -> bool:
    """Whether the lease with this content is free or has expired; ``seconds``: where it does not say how long it holds.

    It may be renewed after this. Then the write of the caller fails, as its condition is that nothing has changed.
    """
    facts = _facts(content)
    if facts.get("free"):
        return True
    try:
        return store.age(key) > facts.get("seconds", seconds)
    except FileNotFoundError:
        return False


def _facts(content: bytes) -> dict:
    """What a lease says; {} if it is damaged. A damaged lease expires like any other."""
    try:
        facts = json.loads(content)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
