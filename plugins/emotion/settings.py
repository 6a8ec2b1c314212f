"""Where things are: one frozen object, read from the environment once, where a program or a task starts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from emotion.bucket import folder_url, is_url, store_root, without_password
from emotion.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parents[2]
"""The folder of the project: the one that holds ``plugins``, ``dags`` and ``include``."""
INCLUDE = PROJECT / "include"
"""The folder of data and templates."""


_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]]+)):(?P<port>[0-9]{1,5})")


def absolute_path(text: str | Path) -> Path:
    """A path as an absolute one; ``~`` and ``~name`` are homes of users.

    Raises
    ------
    ConfigurationError
        If there is no such user, or if the path is relative and the current folder was deleted.
    """
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ConfigurationError(f"{Path(text).parts[0]} is no home: expected the name of a user after ~") from None
    except FileNotFoundError:
        raise ConfigurationError(
            "the current folder was deleted: expected an absolute path, or change to a folder that is there"
        ) from None


def _absolute(text: str | Path) -> Path:
    try:
        return absolute_path(text)
    except ConfigurationError as error:
        raise PydanticCustomError("path", str(error)) from None


def _place(home: str) -> str:
    """A folder, or a URL of a folder, as an absolute path; another URL as it is (the store checks it)."""
    for prefix in ("file://localhost/", "file:///", "local:///"):
        if home.startswith(prefix):
            return f"/{home.removeprefix(prefix)}"
    if home.startswith(("file:", "local:")):
        raise PydanticCustomError("home", "expected file:// and an absolute path, such as file:///data/emotion")
    if "://" in home and without_password(home) == home:
        return home
    return str(_absolute(store_root(home)))  # raises for a URL with a password, and for one such as s3:/bucket


def _default_folders(values: dict[str, Any], name: str) -> tuple[Path, ...]:
    """A folder in the artifact store, or in the default store where the artifact store is no folder."""
    home = values["home"]
    return ((PROJECT / "emotion-home" if "://" in home else Path(home)) / name,)


def _folders(value: object) -> object:
    """Folders from one text: separated as in ``PATH``, or a JSON list, for a path that has the separator in it."""
    if not isinstance(value, str):
        return value
    if re.search("://[^@/]*:(?!/)[^:]*@", value):
        raise PydanticCustomError("folders", "expected URLs without a user and a password")
    parts: object = _split(value)
    if value.startswith("["):
        try:
            parts = json.loads(value)
        except ValueError:
            parts = None
    folders = tuple(part for part in parts if part) if isinstance(parts, list) else ()
    if not folders or not all(isinstance(part, str) for part in folders):
        raise PydanticCustomError("folders", f"expected folders, separated by {os.pathsep}, or a JSON list of folders")
    return tuple(_folder_of_bucket(part) if is_url(part) else _absolute(part) for part in folders)


def _split(text: str) -> list[str]:
    """The parts between separators; those of ``s3://`` and of ``{date:…}`` separate nothing.

    >>> _split("/a:s3://calls/{date:%Y/%m}:/b")
    ['/a', 's3://calls/{date:%Y/%m}', '/b']
    """
    parts: list[str] = []
    for part in text.split(os.pathsep):
        is_of_url = part.startswith("//") and re.fullmatch("[A-Za-z][A-Za-z0-9+.-]*", parts[-1] if parts else "")
        is_of_date = part.startswith("%") and parts and parts[-1].endswith("{date")
        if is_of_url or is_of_date:
            parts[-1] += os.pathsep + part
        else:
            parts.append(part)
    return parts


def _folder_of_bucket(text: str) -> str:
    try:
        return folder_url(text)
    except ConfigurationError as error:
        raise PydanticCustomError("folders", "{reason}", {"reason": str(error)}) from None


def _address(value: object) -> object:
    """Host and port from ``host:port`` or ``[IPv6 address]:port``."""
    if not isinstance(value, str):
        return value
    match = _ADDRESS.fullmatch(value)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise PydanticCustomError(
            "address", "expected host:port with a port from 1 to 65535, such as localhost:8125 or [::1]:8125"
        )
    return match["ipv6"] or match["host"], int(match["port"])


Folder = Path | str
"""A folder: a path, or the URL of a folder of a bucket."""
Folders = Annotated[tuple[Folder, ...], BeforeValidator(_folders)]
Address = Annotated[tuple[str, int] | None, BeforeValidator(_address)]


class Settings(BaseSettings):
    """Everything the environment decides. A variable that is empty counts as not set.

    Attributes
    ----------
    home : str
        ``EMOTION_HOME``: root of the artifact store, a folder or an object-store URL such as ``s3://bucket/prefix``.
        The URL of a folder, ``file:///data/emotion``, becomes its path.
    catalogue : Path
        ``EMOTION_DATASETS``: the dataset catalogue.
    zenodo_url : str
        ``EMOTION_ZENODO_URL``: a host that speaks Zenodo's record API.
    recordings : tuple of Path or str
        ``EMOTION_RECORDINGS``: folders that a training run's ``source`` may lie in, separated as in ``PATH``
        or as a JSON list. The URL of a folder of a bucket, such as ``s3://bucket/recordings``, stays a text.
    inboxes : tuple of Path or str
        ``EMOTION_INBOXES``: folders that a scoring run's ``folder`` may lie in, in the same form.
    inbox_days : int
        ``EMOTION_INBOX_DAYS``: where the URL of an inbox names folders by ``{date}``, how many days before today a
        sweep looks at.
    review_days : float or None
        ``EMOTION_REVIEW_DAYS``: how many days the audio of clips to review is kept; None: for good.
    statsd : tuple of (str, int) or None
        ``EMOTION_STATSD``, as ``host:port`` or ``[::1]:port``: where the command line sends its metrics; inside an
        Airflow task Airflow's own settings hold.
    mlflow : str or None
        ``MLFLOW_TRACKING_URI``: the MLflow tracking server that versions are mirrored to; None: to none.
    mlflow_name : str
        ``MLFLOW_EXPERIMENT_NAME``: of the experiment and of the registered model.
    mlflow_username, mlflow_password, mlflow_token : str, SecretStr or None
        ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``, or ``MLFLOW_TRACKING_TOKEN``.

    Examples
    --------
    >>> settings = Settings.from_environment({"EMOTION_HOME": "s3://voices/emotion", "EMOTION_STATSD": "graphite:8125"})
    >>> settings.home, settings.statsd, settings.zenodo_url
    ('s3://voices/emotion', ('graphite', 8125), 'https://zenodo.org')
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    home: Annotated[str, AfterValidator(_place)] = Field(str(PROJECT / "emotion-home"), alias="EMOTION_HOME")
    catalogue: Annotated[Path, AfterValidator(_absolute)] = Field(INCLUDE / "datasets.yaml", alias="EMOTION_DATASETS")
    zenodo_url: Annotated[str, AfterValidator(lambda url: url.rstrip("/"))] = Field(
        "https://zenodo.org", alias="EMOTION_ZENODO_URL"
    )
    recordings: Folders = Field(
        default_factory=lambda values: _default_folders(values, "recordings"), alias="EMOTION_RECORDINGS"
    )
    inboxes: Folders = Field(default_factory=lambda values: _default_folders(values, "inbox"), alias="EMOTION_INBOXES")
    inbox_days: Annotated[int, Field(ge=0, le=366)] = Field(7, alias="EMOTION_INBOX_DAYS")
    review_days: Annotated[float | None, Field(ge=1, allow_inf_nan=False)] = Field(None, alias="EMOTION_REVIEW_DAYS")
    statsd: Address = Field(None, alias="EMOTION_STATSD")
    mlflow: str | None = Field(None, alias="MLFLOW_TRACKING_URI")
    mlflow_name: str = Field("emotion", alias="MLFLOW_EXPERIMENT_NAME")
    mlflow_username: str | None = Field(None, alias="MLFLOW_TRACKING_USERNAME")
    mlflow_password: SecretStr | None = Field(None, alias="MLFLOW_TRACKING_PASSWORD")
    mlflow_token: SecretStr | None = Field(None, alias="MLFLOW_TRACKING_TOKEN")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings from environment variables.

        Raises
        ------
        ConfigurationError
            If a variable does not have the form that it must have.
        """
        try:
            return cls(**_Environment(cls, environ)())
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(
                f"{first['loc'][0]} is {without_password(repr(first['input']))}; {first['msg']}"
            ) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the values given and no others: :meth:`from_environment` alone looks at an environment."""
        return (init_settings,)


class _Environment(PydanticBaseSettingsSource):
    """The variables of an environment that is given as a mapping; empty ones are left out."""

    def __init__(self, settings_class: type[BaseSettings], environ: Mapping[str, str]):
        super().__init__(settings_class)
        self._environ = environ

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        variable = field.alias or field_name
        return self._environ.get(variable), variable, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields.items()
        values = [self.get_field_value(field, name) for name, field in fields]
        return {variable: value for value, variable, _ in values if value}
