"""Copies what is known of versions to an MLflow tracking server with a model registry. The artifact store stays the
only source.

A version becomes a run of the experiment, with its parameters, its scores under every protocol, its report and its
model card, and one version of the registered model for each family. The alias ``champion`` follows the champion.
Pickles stay in the artifact store, which checks them before they are loaded; a tag says where.

It speaks MLflow's REST API (2.0) with requests, so that no package of MLflow is needed. To mirror a version again
changes nothing but its report.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.exceptions import HTTPError

from emotion.errors import ConfigurationError, EmotionError, describe_failure
from emotion.models import registry
from emotion.models.documents import known_emotions
from emotion.models.registry import VersionEntry
from emotion.runs.run import run_folder
from emotion.settings import Settings
from emotion.store import Store

log = logging.getLogger(__name__)
CALL_SECONDS = 3.0
"""For the server to accept a connection, and between two parts of its answer."""
RUN_SECONDS = 8.0
"""For all calls together where a training run or a promotion waits for them."""
BATCH = 100
"""Most metrics of one call. MLflow accepts 1,000, with at most 100 parameters or tags."""
LONGEST_VALUE = 500
"""Characters of a parameter or tag."""
ALIAS = "champion"
LOCK = "mlflow-mirror"


class MirrorError(EmotionError):
    """The tracking server cannot be reached, or refuses a call."""


def mirror_after_change(store: Store, settings: Settings, version: str | None = None) -> None:
    """Mirror a version and the champion, if a tracking server is set. Never raises, and takes some seconds at most.

    Parameters
    ----------
    store : Store
    settings : Settings
    version : str, optional
        Without it, the champion's version.

    Examples
    --------
    >>> mirror_after_change(Store("memory://doctest-mirror"), Settings.from_environment({}))  # there is no server
    """
    if settings.mlflow is None:
        return
    failures: list[str] = []

    def mirror() -> None:
        try:
            champion = registry.champion(store)
            name = version or (champion and champion["version"])
            _mirror(store, settings, [registry.entry(store, name)] if name else [], seconds=RUN_SECONDS)
        except Exception as error:  # whatever it is: the training or the promotion has succeeded
            failures.append(describe_failure(error))

    # In a thread: a server that sends a byte now and then never reaches the time-out of a call.
    thread = threading.Thread(target=mirror, daemon=True)
    thread.start()
    thread.join(RUN_SECONDS + CALL_SECONDS)
    if thread.is_alive():
        failures.append(f"it took over {RUN_SECONDS + CALL_SECONDS:g} s")
    for failure in failures[:1]:
        log.warning("not mirrored to MLflow: %s; run `emotion mirror` later", failure)


def mirror_all(store: Store, settings: Settings) -> list[str]:
    """Mirror all versions and the champion; returns the names of the versions.

    Raises
    ------
    ConfigurationError
        If no tracking server is set, or not by an address of HTTP.
    MirrorError
        If it cannot be reached, or refuses a call.
    """
    entries = registry.versions(store)
    _mirror(store, settings, entries, seconds=None)
    return [entry["version"] for entry in entries]


def _mirror(store: Store, settings: Settings, entries: Sequence[VersionEntry], *, seconds: float | None) -> None:
    server = _Server(settings, seconds)
    with store.lock(LOCK, wait=seconds is None) as held:
        if not held:
            raise MirrorError("another process is mirroring")
        try:
            mirror = _Mirror(store, server, settings.mlflow_name)
            for entry in entries:
                mirror.version(entry)
            mirror.champion()
        except KeyError as error:
            raise MirrorError(f"an answer lacks {error}: is MLFLOW_TRACKING_URI an MLflow server?") from error


class _Server:
    """A tracking server. Methods raise MirrorError.

    ``seconds``: for all calls together; None: no limit.
    """

    def __init__(self, settings: Settings, seconds: float | None):
        address = settings.mlflow or ""
        if not _is_address(address):
            raise ConfigurationError(
                f"MLFLOW_TRACKING_URI is {_shown(address)!r}; expected the address of a tracking server, such as "
                "http://localhost:5000"
            )
        self._address = address.rstrip("/")
        self._end = None if seconds is None else time.monotonic() + seconds
        self._session = requests.Session()
        # As `auth`, not as a header: requests replaces a header by what ~/.netrc has for the host.
        if settings.mlflow_token:
            self._session.auth = _Bearer(settings.mlflow_token.get_secret_value())
        elif settings.mlflow_username and settings.mlflow_password:
            password = settings.mlflow_password.get_secret_value()
            self._session.auth = HTTPBasicAuth(settings.mlflow_username.encode(), password.encode())

    def call(self, method: str, endpoint: str, /, **values: Any) -> dict:
        """Call the API; the answer is {} if what is asked for does not exist."""
        place: dict[str, Any] = {"params": values} if method == "GET" else {"json": values}
        response = self._request(method, f"/api/2.0/mlflow/{endpoint}", **place)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise MirrorError(f"{endpoint}: status {response.status_code}, and not the JSON of an MLflow server")
        if response.status_code == 200:
            return answer
        if answer.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise MirrorError(f"{endpoint}: status {response.status_code}, {str(answer.get('message', ''))[:300]}")

    def upload(self, path: str, content: bytes) -> None:
        """Store an artifact through the server."""
        response = self._request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{quote(path)}", data=content)
        if response.status_code != 200:
            raise MirrorError(f"the artifact {path} was not stored: status {response.status_code}")

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        left = CALL_SECONDS if self._end is None else min(CALL_SECONDS, self._end - time.monotonic())
        if left <= 0:
            raise MirrorError(f"{_shown(self._address)} took over {RUN_SECONDS:g} s")
        try:
            return self._session.request(method, self._address + path, timeout=left, allow_redirects=False, **options)
        except (requests.RequestException, HTTPError) as error:  # requests lets some errors of urllib3 through
            raise MirrorError(f"{_shown(self._address)} does not answer ({type(error).__name__})") from None


class _Bearer(AuthBase):
    """Authorization by a token. Raises ConfigurationError if a header cannot have it."""

    def __init__(self, token: str):
        if not re.fullmatch("[!-~]+", token):
            raise ConfigurationError(
                "MLFLOW_TRACKING_TOKEN has a space, a line end or a character beyond ASCII; expected the token alone"
            )
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _is_address(address: str) -> bool:
    """Whether it is the address of a host of HTTP.

    >>> _is_address("http://[::1]:5000"), _is_address("http://[::bad"), _is_address("http://localhost:many")
    (True, False, False)
    """
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _shown(address: str) -> str:
    """An address, or what should be one, without what may be a password.

    >>> _shown("https://me:secret@mlflow.example:5000/ml"), _shown("http://me:secret@[::bad")
    ('https://mlflow.example:5000/ml', 'http://[::bad')
    """
    return re.sub(r"^(\w+://)?.*@", r"\1", address, flags=re.DOTALL).partition("?")[0]


class _Mirror:
    """Versions of a store in the experiment and the registered model of one name."""

    def __init__(self, store: Store, server: _Server, name: str):
        self._store, self._server, self._name = store, server, name
        answer = server.call("GET", "experiments/get-by-name", experiment_name=name)
        self._experiment = answer["experiment"]["experiment_id"] if answer else self._create_experiment()
        if not server.call("GET", "registered-models/get", name=name):
            text = f"Speech emotion. Mirrored from {store.root}, where the models lie"
            server.call("POST", "registered-models/create", name=name, description=text)

    def _create_experiment(self) -> str:
        # so that its page is not that of language models
        kind = _pairs({"mlflow.experimentKind": "custom_model_development"})
        return self._server.call("POST", "experiments/create", name=self._name, tags=kind)["experiment_id"]

    def version(self, entry: VersionEntry) -> None:
        """Mirror a version. What was mirrored in part is completed."""
        run = self._run(entry) or self._create_run(entry)
        run_id, finished = run["info"]["run_id"], run["info"]["status"] == "FINISHED"
        if not finished:
            facts = {"params": _pairs(_parameters(entry)), "metrics": []}
            self._server.call("POST", "runs/log-batch", run_id=run_id, **facts)
            figures = _metrics(entry)
            for start in range(0, len(figures), BATCH):
                self._server.call("POST", "runs/log-batch", run_id=run_id, metrics=figures[start : start + BATCH])
        self._upload(entry, run["info"]["artifact_uri"])
        known = self._model_versions(run_id)
        for family in entry["scores"]:
            if family not in known:
                self._create_model_version(entry, family, run)
        if not finished:
            end = {"status": "FINISHED", "end_time": _milliseconds(entry)}
            self._server.call("POST", "runs/update", run_id=run_id, **end)

    def champion(self) -> None:
        """Let the alias point to the champion, or to nothing if there is none."""
        pointer = registry.champion(self._store)
        if pointer is None:
            self._server.call("DELETE", "registered-models/alias", name=self._name, alias=ALIAS)
            return
        run = self._run(registry.champion_entry(self._store, pointer))
        number = run and self._model_versions(run["info"]["run_id"]).get(pointer["family"])
        if not number:
            raise MirrorError(f"the champion's version {pointer['version']} is not mirrored: run `emotion mirror`")
        self._server.call("POST", "registered-models/alias", name=self._name, alias=ALIAS, version=number)

    def _run(self, entry: VersionEntry) -> dict | None:
        """The run of a version, if it was mirrored."""
        marks = {"emotion.version": entry["version"], "emotion.store": self._store.root}
        condition = " and ".join(f"tags.`{name}` = '{_quotable(mark)}'" for name, mark in marks.items())
        answer = self._server.call(
            "POST", "runs/search", experiment_ids=[self._experiment], filter=condition, max_results=1
        )
        return next(iter(answer.get("runs", [])), None)

    def _create_run(self, entry: VersionEntry) -> dict:
        tags = {
            "emotion.version": entry["version"],
            "emotion.store": _quotable(self._store.root),
            "emotion.files": self._store.url(f"models/{entry['version']}"),
            "mlflow.note.content": " ".join(
                ["A version of speech-emotion models.", entry["dataset"]["notice"]]
            ).strip(),
        }
        created = self._server.call(
            "POST",
            "runs/create",
            experiment_id=self._experiment,
            run_name=entry["version"],
            start_time=_milliseconds(entry),
            tags=_pairs(tags),
        )
        return created["run"]

    def _upload(self, entry: VersionEntry, place: str) -> None:
        """Store the report and the model card, where the server takes artifacts."""
        if urlsplit(place).scheme != "mlflow-artifacts":
            log.warning("MLflow keeps artifacts at %s, which only its own client can write: no report there", place)
            return
        files = {
            "report.html": f"runs/{run_folder(entry['run_id'])}/report.html",
            "model_card.md": f"models/{entry['version']}/model_card.md",
        }
        for name, key in files.items():
            if self._store.exists(key):
                self._server.upload(f"{urlsplit(place).path.strip('/')}/{name}", self._store.read_bytes(key))

    def _model_versions(self, run_id: str) -> dict[str, str]:
        """Family → number of its version of the registered model."""
        answer = self._server.call("GET", "model-versions/search", filter=f"run_id='{run_id}'", max_results=100)
        numbers = {}
        for each in answer.get("model_versions", []):
            tags = {tag["key"]: tag["value"] for tag in each.get("tags", [])}
            if each["name"] == self._name:
                numbers[tags["emotion.family"]] = each["version"]
        return numbers

    def _create_model_version(self, entry: VersionEntry, family: str, run: dict) -> None:
        file = registry.bundle_name(family)
        tags = {
            "emotion.version": entry["version"],
            "emotion.family": family,
            "emotion.selected": str(family == entry["selected"]).lower(),
            "emotion.file": self._store.url(f"models/{entry['version']}/{file}"),
            "emotion.sha256": entry["files"][file]["sha256"],
        }
        self._server.call(
            "POST",
            "model-versions/create",
            name=self._name,
            source=run["info"]["artifact_uri"],
            run_id=run["info"]["run_id"],
            description=f"{entry['version']}/{family}",
            tags=_pairs(tags),
        )


def _quotable(text: str) -> str:
    """A text for a filter of MLflow, which has no way to write a quotation mark."""
    return text.replace("'", "_")


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value[:LONGEST_VALUE]} for key, value in values.items()]


def _milliseconds(entry: VersionEntry) -> int:
    return round(1000 * dt.datetime.fromisoformat(entry["created"]).timestamp())


def _parameters(entry: VersionEntry) -> dict[str, str]:
    """What a version was made from."""
    packages = {f"package.{name}": version for name, version in entry["packages"].items()}
    return {
        "dataset": entry["dataset"]["name"],
        "synthesized": str(entry["dataset"]["synthesized"]).lower(),
        "emotions": json.dumps(known_emotions(entry)),
        "features": str(len(entry["feature_names"])),
        "recipe": entry["recipe"],
        "seed": str(entry["seed"]),
        "selected": entry["selected"],
    } | packages


def _metrics(entry: VersionEntry) -> list[dict]:
    """All scores, as ``family/protocol/score``."""
    stamp = {"timestamp": _milliseconds(entry), "step": 0}
    return [
        {"key": f"{family}/{protocol}/{score}", "value": value, **stamp}
        for family, protocols in entry["scores"].items()
        for protocol, scores in protocols.items()
        for score, value in scores.items()
    ]
