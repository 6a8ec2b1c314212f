"""Requests to one host: what is tried again, after which delay, and when it is given up."""

from __future__ import annotations

import email.utils
import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn, TypeVar

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from emotion.errors import ConfigurationError, DataError, DownloadError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

MAX_DOCUMENT_BYTES = 8 << 20
"""A JSON document is read to this length and no further."""
PROGRESS_BYTES = 1 << 20
"""An attempt that brings so many bytes starts the count of failures in a row again."""


@dataclass(frozen=True)
class Retry:
    """How patient a client is; all times in seconds.

    Attributes
    ----------
    attempts : int
        Failures in a row, with less than 1 MiB received between them, after which it gives up.
    first_delay, longest_delay : float
        The delay before another attempt doubles from the first to the longest; half of it is random.
    longest_retry_after : float
        A host's Retry-After is honoured up to this.
    connect_timeout, read_timeout : float
        For a connection, and between two pieces of an answer.
    silent_for : float
        Without a sign of life from the host for so long (name look-up included), it gives up.
    """

    attempts: int = 6
    first_delay: float = 1.0
    longest_delay: float = 15.0
    longest_retry_after: float = 60.0
    connect_timeout: float = 6.0
    read_timeout: float = 20.0
    silent_for: float = 38.0


QUICK = Retry(connect_timeout=5.0, read_timeout=8.0, silent_for=12.0)
"""For a first look at whether a host can be reached."""


class FailedAttempt(Exception):
    """An attempt that failed for a reason that may pass.

    Attributes
    ----------
    status : int or None
        The HTTP status; None where there was no answer.
    retry_after : float or None
        Seconds that the host asks to wait.
    """

    def __init__(self, reason: str, *, status: int | None = None, retry_after: float | None = None):
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class HttpClient:
    """GET requests to one host.

    Parameters
    ----------
    session : requests.Session
    retry : Retry
    remedy : str
        What a person can do instead, when the client gives up; the end of a sentence.

    Attributes
    ----------
    last_answer : float
        When the host last showed a sign of life, by ``time.monotonic``.
    """

    def __init__(self, session: requests.Session, retry: Retry, remedy: str):
        self.session = session
        self.retry = retry
        self.remedy = remedy
        self.last_answer = time.monotonic()

    def with_retries(self, attempt: Callable[[], Result], received: Callable[[], int] = lambda: 0) -> Result:
        """Attempt until it succeeds.

        Parameters
        ----------
        attempt : callable
            Raises :class:`FailedAttempt` if it failed in a way that may pass.
        received : callable
            Returns the bytes that all attempts together have received: many renew the client's patience.

        Raises
        ------
        DownloadError
            When the client gives up.
        """
        self.last_answer = time.monotonic()
        received_before = 0

        def note_received(state: RetryCallState) -> None:
            nonlocal received_before
            received_before = received()

        def start_again_after_progress(state: RetryCallState) -> None:
            if received() - received_before >= PROGRESS_BYTES:
                state.attempt_number = 1

        retrying = Retrying(
            retry=retry_if_exception_type(FailedAttempt),
            before=note_received,
            after=start_again_after_progress,
            wait=_WaitAsAsked(self.retry),
            stop=stop_after_attempt(self.retry.attempts) | _StopAfterSilence(self),
            before_sleep=self._announce_delay,
            retry_error_callback=self._give_up,
        )
        return retrying(attempt)

    def _announce_delay(self, state: RetryCallState) -> None:
        failure, delay = _failure(state), state.upcoming_sleep
        log.warning("%s; trying again in %.1f s", failure, delay)
        if failure.retry_after is not None:  # a silence that the host asked for does not count as one
            self.last_answer = time.monotonic() + delay

    def _give_up(self, state: RetryCallState) -> NoReturn:
        raise self.given_up(_failure(state)) from None

    def given_up(self, reason: object) -> DownloadError:
        """The error that says why the client gave up, and what can be done instead."""
        return DownloadError(f"{reason}. Given up: {self.remedy}")

    def open(self, url: str, headers: dict[str, str]) -> requests.Response:
        """One GET, its body unread.

        Raises
        ------
        FailedAttempt
            If the host cannot be reached, or answers with a status that may pass.
        DataError
            If the host has nothing at the URL.
        DownloadError
            If it answers with another status, or redirects without end.
        ConfigurationError
            If the URL, or one that it redirects to, is no http or https URL.
        """
        timeout = (self.retry.connect_timeout, self.retry.read_timeout)
        try:
            response = self.session.get(url, headers=headers, stream=True, timeout=timeout)
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidSchema,
        ) as error:
            raise ConfigurationError(f"{url} is not, or leads to what is not, an http or https URL: {error}") from None
        except requests.exceptions.TooManyRedirects:
            raise self.given_up(f"{url} redirects without end") from None
        except requests.RequestException as error:
            raise FailedAttempt(f"{url} cannot be reached: {cause(error)}") from None
        if response.status_code in (200, 206):
            return response
        status = f"{url} answers {response.status_code} {response.reason}"
        response.close()
        if response.status_code in (408, 416, 425, 429) or response.status_code >= 500:
            raise FailedAttempt(status, status=response.status_code, retry_after=_retry_after(response))
        if response.status_code in (404, 410):
            raise DataError(f"{status}; {self.remedy}")
        raise self.given_up(status)

    def within_patience(self, call: Callable[[], Result], url: str) -> Result:
        """Run a call, but no longer than patience lasts: no timeout of requests covers the look-up of a name."""
        limit = max(self.retry.silent_for - (time.monotonic() - self.last_answer), 0.1)
        outcome: Future[Result] = Future()

        def run() -> None:
            try:
                outcome.set_result(call())
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        if not wait([outcome], limit).done:
            raise FailedAttempt(f"{url} cannot be reached: no answer within {limit:.0f} s")
        error = outcome.exception()
        if not (isinstance(error, FailedAttempt) and error.status is None):
            self.last_answer = time.monotonic()
        return outcome.result()

    def json(self, url: str) -> object:
        """A JSON document of modest size.

        Raises
        ------
        FailedAttempt, DataError, ConfigurationError
            As :meth:`open` does.
        DownloadError
            If the answer is no JSON, or as :meth:`open` does.
        """

        def call() -> bytes:
            with self.open(url, {"Accept": "application/json"}) as response:
                try:
                    body = b"".join(_up_to(response.iter_content(1 << 20), MAX_DOCUMENT_BYTES))
                except requests.RequestException as error:
                    raise FailedAttempt(f"{url} broke off: {cause(error)}") from None
                content_type = response.headers.get("Content-Type", "something without a type")
                if "json" not in content_type:
                    raise self.given_up(f"{url} answers with {content_type}, not with Zenodo's JSON")
                return body

        body = self.within_patience(call, url)
        try:
            return json.loads(body)
        except ValueError:
            raise self.given_up(f"{url} answers with what is not valid JSON, or is too long") from None


class _WaitAsAsked(wait_base):
    """Exponential delays, half of each random; longer where the host asks for it."""

    def __init__(self, retry: Retry):
        self._exponential = wait_exponential(multiplier=retry.first_delay, max=retry.longest_delay)
        self._longest_retry_after = retry.longest_retry_after

    def __call__(self, retry_state: RetryCallState) -> float:
        delay = self._exponential(retry_state) * random.uniform(0.5, 1.0)
        asked = _failure(retry_state).retry_after
        return delay if asked is None else max(delay, min(asked, self._longest_retry_after))


class _StopAfterSilence(stop_base):
    """Whether the host would have been silent for too long by the next attempt, without having asked for a delay."""

    def __init__(self, client: HttpClient):
        self._client = client

    def __call__(self, retry_state: RetryCallState) -> bool:
        silence = time.monotonic() - self._client.last_answer + retry_state.upcoming_sleep
        return _failure(retry_state).retry_after is None and silence > self._client.retry.silent_for


def _failure(state: RetryCallState) -> FailedAttempt:
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, FailedAttempt)  # no other error is tried again
    return failure


def _up_to(blocks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    for block in blocks:
        yield block[:limit]
        limit -= len(block)
        if limit <= 0:
            return


def cause(error: BaseException) -> str:
    """The innermost reason of an error that wraps others, without addresses of objects.

    >>> cause(RuntimeError(OSError("Connection refused")))
    'Connection refused'
    """
    while True:
        inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            return re.sub(r"<[^>]*>:? ?|\w+\(host=[^)]*\):? ?", "", str(error)).strip() or type(error).__name__
        error = inner


def _retry_after(response: requests.Response) -> float | None:
    """Retry-After in seconds from now, from either of its forms; None if there is none that makes sense."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
