"""The errors this library raises; each message says what was found, what was expected and what to do."""


class EmotionError(Exception):
    """Root of every error the library raises on purpose."""


class ConfigurationError(EmotionError):
    """A setting, a parameter or a catalogue entry that cannot be used."""


class DataError(EmotionError):
    """Data that is not what was asked for; trying again does not help."""


class AudioError(DataError):
    """A recording that cannot be used.

    ``reason`` is a short stable word for tables and metrics: ``empty``, ``not_audio``,
    ``truncated``, ``silent``, ``not_finite``, ``too_short``, ``too_long``, ``unreadable`` (no such file, no
    permission) or ``not_file`` (a folder, a pipe, a device).
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.reason, str(self))


class DownloadError(EmotionError):
    """A download that failed for a reason that may pass; trying again may help."""


class BundleError(EmotionError):
    """A model bundle that must not, or cannot, be loaded."""
