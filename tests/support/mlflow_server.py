"""A tracking server that speaks the calls of MLflow's REST API that the mirror makes, and checks them as MLflow does.

MLflow itself takes minutes to install; ``docs/checks/mlflow.py`` does the same with it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class Refusal(Exception):
    """Status, error code and message of a call that is refused."""


class Tracking:
    """What the server holds."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict] = {}
        self.models: dict[str, list[dict]] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.artifacts: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.authorizations: set[str | None] = set()
        self.delay = 0.0
        self.fails_at = ""

    def get_experiments_get_by_name(self, experiment_name: str) -> dict:
        if experiment_name not in self.experiments:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", "no such experiment")
        return {"experiment": {"experiment_id": self.experiments[experiment_name]}}

    def post_experiments_create(self, name: str, tags: list) -> dict:
        return {"experiment_id": self.experiments.setdefault(name, str(len(self.experiments) + 1))}

    def post_runs_create(self, experiment_id: str, run_name: str, start_time: int, tags: list) -> dict:
        number = f"{len(self.runs):032x}"
        place = f"mlflow-artifacts:/{experiment_id}/{number}/artifacts"
        info = {"run_id": number, "run_name": run_name, "status": "RUNNING", "artifact_uri": place}
        self.runs[number] = {"info": info, "tags": _values(tags), "params": {}, "metrics": {}}
        return {"run": {"info": info}}

    def post_runs_search(self, experiment_ids: list, filter: str, max_results: int) -> dict:
        wanted = dict(re.findall(r"tags\.`([^`]+)` = '([^']*)'", filter))
        assert len(wanted) == filter.count("=") == 2 and max_results == 1
        runs = [run for run in self.runs.values() if wanted.items() <= run["tags"].items()]
        return {"runs": [{"info": run["info"]} for run in runs[:1]]} if runs else {}

    def post_runs_log_batch(self, run_id: str, params: list = (), metrics: list = ()) -> dict:
        if len(metrics) > 1000 or len(params) > 100:
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "too many")
        run = self.runs[run_id]
        for name, value in _values(params).items():
            if run["params"].setdefault(name, value) != value:
                raise Refusal(400, "INVALID_PARAMETER_VALUE", "a parameter was changed")
        for metric in metrics:
            if not re.fullmatch(r"[\w.\-/ ]+", metric["key"]) or not isinstance(metric["timestamp"], int):
                raise Refusal(400, "INVALID_PARAMETER_VALUE", metric["key"])
            run["metrics"][metric["key"]] = metric["value"]
        return {}

    def post_runs_update(self, run_id: str, status: str, end_time: int) -> dict:
        self.runs[run_id]["info"]["status"] = status
        return {}

    def get_registered_models_get(self, name: str) -> dict:
        if name not in self.models:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", "no such model")
        return {"registered_model": {"name": name}}

    def post_registered_models_create(self, name: str, description: str) -> dict:
        self.models[name] = []
        return {}

    def get_model_versions_search(self, filter: str, max_results: str) -> dict:
        run_id = re.fullmatch(r"run_id='(\w+)'", filter)[1]
        versions = [each for versions in self.models.values() for each in versions if each["run_id"] == run_id]
        return {"model_versions": versions} if versions else {}

    def post_model_versions_create(self, name: str, source: str, run_id: str, description: str, tags: list) -> dict:
        assert source.startswith("mlflow-artifacts:/")
        number = str(len(self.models[name]) + 1)
        version = {"name": name, "version": number, "run_id": run_id, "description": description, "tags": tags}
        self.models[name].append(version)
        return {"model_version": version}

    def post_registered_models_alias(self, name: str, alias: str, version: str) -> dict:
        self.aliases[name, alias] = self.models[name][int(version) - 1]["description"]
        return {}

    def delete_registered_models_alias(self, name: str, alias: str) -> dict:
        self.aliases.pop((name, alias), None)
        return {}


def _values(pairs: list) -> dict[str, str]:
    assert all(isinstance(pair["value"], str) for pair in pairs)
    return {pair["key"]: pair["value"] for pair in pairs}


@contextmanager
def mlflow_server() -> Iterator[tuple[str, Tracking]]:
    """A running server: its address, and what it holds."""
    tracking = Tracking()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            tracking.calls.append(f"{self.command} {address.path}")
            tracking.authorizations.add(self.headers.get("Authorization"))
            time.sleep(tracking.delay)
            try:
                if tracking.fails_at and tracking.fails_at in address.path:
                    raise Refusal(500, "INTERNAL_ERROR", "broken")
                if address.path.startswith("/api/2.0/mlflow-artifacts/artifacts/"):
                    tracking.artifacts[address.path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")] = body
                    status, answer = 200, {}
                else:
                    method = re.sub(r"[^a-z]", "_", address.path.removeprefix("/api/2.0/mlflow/"))
                    call = getattr(tracking, f"{self.command.lower()}_{method}")
                    values = dict(parse_qsl(address.query)) if self.command == "GET" else json.loads(body)
                    status, answer = 200, call(**values)
            except Refusal as refusal:
                status, answer = refusal.args[0], {"error_code": refusal.args[1], "message": refusal.args[2]}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that does not wait closes the connection: no output."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", tracking
        finally:
            server.shutdown()
