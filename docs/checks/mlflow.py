"""Mirrors a store to a real MLflow server, and looks at what is there: by its API and in a browser.

    python -m venv /tmp/mlflow && /tmp/mlflow/bin/pip install mlflow
    EMOTION_HOME=… python docs/checks/mlflow.py /tmp/mlflow/bin/mlflow FOLDER

EMOTION_HOME names an artifact store with at least one version and a champion; it is copied and not changed. The
server runs in FOLDER while the check lasts; pictures of its pages are written there. It mirrors twice, promotes another
family, rolls back, and stops the server during a promotion. Chromium and its driver are needed for the pictures.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

from emotion.models import registry
from emotion.settings import PROJECT, Settings
from emotion.store import Store

sys.path.insert(0, str(PROJECT / "tests" / "support"))
from browser import chromium


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(mlflow: str, folder: Path, port: int) -> subprocess.Popen:
    """The server, once it answers."""
    options = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    with open(folder / "server.log", "a") as log:
        process = subprocess.Popen(
            [mlflow, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *options],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    for _ in range(600):
        try:
            requests.get(f"http://127.0.0.1:{port}/health", timeout=5).raise_for_status()
            return process
        except requests.RequestException:
            time.sleep(0.2)
    raise SystemExit("the server did not become ready")


def emotion(*arguments: str, home: Path, server: str) -> str:
    """Run the command; returns all that it prints."""
    began = time.monotonic()
    environment = os.environ | {"EMOTION_HOME": str(home), "MLFLOW_TRACKING_URI": server}
    command = [sys.executable, "-m", "emotion", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    said = " ".join((result.stdout + result.stderr).split())
    print(f"emotion {arguments[0]}: {said[:300]} (exit code {result.returncode}, {time.monotonic() - began:.1f} s)")
    assert result.returncode == 0
    return said


def content(server: str) -> tuple[int, list[str], str]:
    """Number of runs, model versions, and what the alias names."""
    api = f"{server}/api/2.0/mlflow/"
    experiment = requests.get(f"{api}experiments/get-by-name", params={"experiment_name": "emotion"}, timeout=60).json()
    wanted = {"experiment_ids": [experiment["experiment"]["experiment_id"]]}
    runs = requests.post(f"{api}runs/search", json=wanted, timeout=60).json()["runs"]
    models = requests.get(f"{api}model-versions/search", timeout=60).json()["model_versions"]
    alias = {"name": "emotion", "alias": "champion"}
    champion = requests.get(f"{api}registered-models/alias", params=alias, timeout=60).json()["model_version"]
    return len(runs), sorted(model["description"] for model in models), champion["description"]


def take_pictures(server: str, folder: Path) -> None:
    api = f"{server}/api/2.0/mlflow/"
    run = requests.get(f"{api}model-versions/search", timeout=60).json()["model_versions"][0]["run_id"]
    experiment = requests.get(f"{api}runs/get", params={"run_id": run}, timeout=60).json()["run"]["info"][
        "experiment_id"
    ]
    pages = {"run": f"experiments/{experiment}/runs/{run}", "models": "models/emotion", "report": ""}
    pages["report"] = f"{pages['run']}/artifacts/report.html"
    with chromium() as browser:
        browser.resize(1400, 1000)
        for name, page in pages.items():
            browser.open(f"{server}/#/{page}")
            time.sleep(8)
            browser.screenshot(folder / f"{name}.png")
            print(folder / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mlflow")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True)
    home = folder / "home"
    source = Path(Settings.from_environment().home)
    shutil.copytree(source / "models", home / "models")
    for report in source.glob("runs/*/report.html"):
        (home / report.parent.relative_to(source)).mkdir(parents=True)
        shutil.copy(report, home / report.relative_to(source))
    store = Store(str(home))
    first = registry.champion(store)
    assert first is not None, "a store with a champion is needed"
    other = next(family for family in registry.entry(store, first["version"])["scores"] if family != first["family"])
    port = free_port()
    server = f"http://127.0.0.1:{port}"
    process = start(options.mlflow, folder, port)
    try:
        emotion("mirror", home=home, server=server)
        once = content(server)
        emotion("mirror", home=home, server=server)
        assert content(server) == once
        print(f"{once[0]} runs, model versions {', '.join(once[1])}; champion {once[2]}; the same after a second time")
        promotion = ["promote", first["version"], "--family", other, "--reason", "check"]
        emotion(*promotion, home=home, server=server)
        assert content(server)[2] == f"{first['version']}/{other}"
        emotion("rollback", home=home, server=server)
        assert content(server)[2] == f"{first['version']}/{first['family']}"
        take_pictures(server, folder)
    finally:
        os.killpg(process.pid, 15)
        process.wait()
    said = emotion(*promotion, home=home, server=server)
    assert "not mirrored to MLflow" in said and "The champion is now" in said
    process = start(options.mlflow, folder, port)
    try:
        emotion("mirror", home=home, server=server)
        assert content(server) == (*once[:2], f"{first['version']}/{other}")
    finally:
        os.killpg(process.pid, 15)
        process.wait()
    print("All as it should be.")


if __name__ == "__main__":
    main()
