"""Where things are: one frozen object, read from the environment once, at the edge."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emotion.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parents[2]
INCLUDE = PROJECT / "include"


@dataclass(frozen=True)
class Settings:
    """Everything the environment decides.

    Attributes
    ----------
    home : str
        Root of the artifact store: a folder, or an object-store URL such as ``s3://bucket/prefix``.
    catalogue : Path
        The dataset catalogue.
    zenodo_url : str
        A host that speaks Zenodo's record API.
    recordings : tuple of Path
        Folders that a training run's ``source`` may lie in.
    inboxes : tuple of Path
        Folders that a scoring run's ``folder`` may lie in.
    statsd : tuple of (str, int) or None
        Where the command line sends its metrics; inside an Airflow task Airflow's own settings hold.
    """

    home: str
    catalogue: Path
    zenodo_url: str
    recordings: tuple[Path, ...]
    inboxes: tuple[Path, ...]
    statsd: tuple[str, int] | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read ``EMOTION_HOME``, ``EMOTION_DATASETS``, ``EMOTION_ZENODO_URL``, ``EMOTION_RECORDINGS``,
        ``EMOTION_INBOXES`` (folders, separated as in ``PATH``) and ``EMOTION_STATSD`` (``host:port``).

        Raises
        ------
        ConfigurationError
            If ``EMOTION_STATSD`` is not ``host:port``.
        """
        home = environ.get("EMOTION_HOME") or str(PROJECT / "emotion-home")
        if "://" not in home:
            home = str(Path(home).expanduser().absolute())
        local = Path(home) if "://" not in home else PROJECT / "emotion-home"
        return cls(
            home=home,
            catalogue=Path(environ.get("EMOTION_DATASETS") or INCLUDE / "datasets.yaml").expanduser(),
            zenodo_url=(environ.get("EMOTION_ZENODO_URL") or "https://zenodo.org").rstrip("/"),
            recordings=_folders(environ.get("EMOTION_RECORDINGS"), local / "recordings"),
            inboxes=_folders(environ.get("EMOTION_INBOXES"), local / "inbox"),
            statsd=_address(environ.get("EMOTION_STATSD")),
        )


def _folders(value: str | None, default: Path) -> tuple[Path, ...]:
    folders = [Path(part).expanduser().absolute() for part in (value or "").split(os.pathsep) if part]
    return tuple(folders) or (default,)


def _address(value: str | None) -> tuple[str, int] | None:
    if not value:
        return None
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"EMOTION_STATSD is {value!r}; expected host:port, such as localhost:8125")
    return host, int(port)
