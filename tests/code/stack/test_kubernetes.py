"""docker/kubernetes: the values for Airflow's chart say the same as docker-compose.yaml, and hold no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docker/kubernetes"
VALUES, CELERY = (yaml.safe_load((FOLDER / name).read_text()) for name in ("values.yaml", "celery.yaml"))
GRAPHITE = {document["kind"]: document for document in yaml.safe_load_all((FOLDER / "graphite.yaml").read_text())}
SERVICES = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
ENVIRONMENT = {variable["name"]: variable["value"] for variable in VALUES["env"]}
SECRET_WORDS = re.compile(r"password|secret|key|token|connection", re.IGNORECASE)


def paths(value, path: tuple[str, ...] = ()):
    """The keys that lead to each value that is no mapping and no list."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from paths(item, path)
    else:
        yield path


def test_the_pods_have_the_variables_of_the_containers():
    of_compose = {name for name in SERVICES["airflow-scheduler"]["environment"] if not name.startswith("AIRFLOW__")}
    of_compose -= {name for name in of_compose if name == "AWS_ENDPOINT_URL" or name.startswith("MLFLOW_")}  # optional
    assert of_compose <= set(ENVIRONMENT) | {secret["envName"] for secret in VALUES["secret"]}
    assert all(isinstance(value, str) for value in ENVIRONMENT.values())  # Kubernetes takes nothing else
    assert {name for name in ENVIRONMENT if name.startswith("EMOTION_")} - of_compose == {"EMOTION_SLOTS"}
    for name in ("EMOTION_HOME", "EMOTION_INBOXES", "EMOTION_RECORDINGS"):
        assert ENVIRONMENT[name].startswith("s3://")  # pods share no folder


@pytest.mark.parametrize(("section", "option"), [("workers", "execution_api_timeout"), ("metrics", "statsd_prefix")])
def test_airflow_has_the_settings_of_the_containers(section, option):
    of_compose = SERVICES["airflow-scheduler"]["environment"][f"AIRFLOW__{section.upper()}__{option.upper()}"]
    assert str(VALUES["config"][section][option]) == of_compose


def test_secrets_are_named_and_never_written():
    named = re.compile(r"(.*SecretName|secretName|secretKey|envName|mountPath|simple_auth_manager_\w+)")
    for path in [*paths(VALUES), *paths(CELERY)]:
        if any(SECRET_WORDS.search(key) for key in path):
            assert named.fullmatch(path[-1]), path
    for name, value in ENVIRONMENT.items():
        assert not SECRET_WORDS.search(name) and "@" not in value


def test_images_are_those_of_compose():
    version = next(
        next(iter(Requirement(line.partition("#")[0]).specifier)).version
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line.startswith("apache-airflow==")
    )
    assert VALUES["airflowVersion"] == VALUES["images"]["airflow"]["tag"] == version
    container = GRAPHITE["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == SERVICES["graphite"]["image"]


@pytest.mark.parametrize("executor", [VALUES["executor"], CELERY["executor"]])
def test_the_image_has_the_provider_of_the_executor(executor):
    provider = {"KubernetesExecutor": "cncf-kubernetes", "CeleryExecutor": "celery"}[executor]
    assert f"apache-airflow-providers-{provider}==" in (ROOT / "requirements-server.txt").read_text()


def test_the_pools_are_those_of_the_containers():
    pools = re.compile(r'airflow pools set \w+ "\$EMOTION_SLOTS" "[^"]+"')
    of_compose = pools.findall((ROOT / "docker/init.sh").read_text())
    assert len(of_compose) == 2
    assert pools.findall(VALUES["migrateDatabaseJob"]["args"][-1]) == of_compose


def test_graphite_listens_where_metrics_are_sent_and_has_its_settings():
    ports = {port["name"]: port["port"] for port in GRAPHITE["Service"]["spec"]["ports"]}
    name = GRAPHITE["Service"]["metadata"]["name"]
    metrics = VALUES["config"]["metrics"]
    assert (metrics["statsd_host"], metrics["statsd_port"]) == (name, ports["statsd"])
    assert ENVIRONMENT["EMOTION_STATSD"] == f"{name}:{ports['statsd']}"
    assert ENVIRONMENT["EMOTION_GRAPHITE"] == f"http://{name}"
    pod = GRAPHITE["Deployment"]["spec"]["template"]
    labels = GRAPHITE["Service"]["spec"]["selector"]
    assert labels == pod["metadata"]["labels"] == GRAPHITE["Deployment"]["spec"]["selector"]["matchLabels"]
    mounted = {mount["mountPath"]: mount.get("subPath") for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    of_compose = [volume.split(":") for volume in SERVICES["graphite"]["volumes"] if volume.startswith("./")]
    for file, place, _ in of_compose:
        assert mounted[place] == Path(file).name
