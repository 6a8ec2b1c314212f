"""The errors that this library raises. Each message says what was found, what was expected and what to do."""

from __future__ import annotations


class EmotionError(Exception):
    """Root of every error that the library raises on purpose.

    >>> issubclass(AudioError, DataError) and issubclass(DataError, EmotionError)
    True
    """


class ConfigurationError(EmotionError):
    """A setting, a parameter or a catalogue entry that cannot be used."""


class DataError(EmotionError):
    """Data that is not what the caller expects; trying again does not help."""


class AudioError(DataError):
    """A recording that cannot be used.

    Attributes
    ----------
    reason : str
        A short stable word for tables and metrics: ``empty``, ``not_audio``, ``truncated``, ``silent``,
        ``not_finite``, ``too_short``, ``too_long``, ``unreadable`` (no such file, no permission), ``not_file`` (a
        folder, a pipe, a device) or, for a file of an inbox, ``changed`` and ``outside_inbox``.

    Examples
    --------
    >>> error = AudioError("silent", "a.wav is silent")
    >>> error.reason, str(error)
    ('silent', 'a.wav is silent')
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, str]]:  # so that pickle keeps the reason
        return type(self), (self.reason, str(self))


class DownloadError(EmotionError):
    """A download that failed for a reason that may be temporary; trying again may help."""


class StoreError(EmotionError):
    """An artifact store that fails, or a lock of it that was lost; trying again may help."""


class BundleError(EmotionError):
    """A model bundle that cannot be loaded, or must not be, such as one of another recipe."""


def describe_failure(error: Exception) -> str:
    """An error as text for a person: the message of an error of this library; the type too of any other.

    >>> describe_failure(DataError("the table is empty")), describe_failure(ZeroDivisionError("division by zero"))
    ('the table is empty', 'ZeroDivisionError: division by zero')
    """
    return str(error) if isinstance(error, EmotionError) else f"{type(error).__name__}: {error}".removesuffix(": ")
