"""docker/kubernetes: the values for Airflow's chart say the same as docker-compose.yaml, and hold no secret."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docker/kubernetes"
VALUES, CELERY = (yaml.safe_load((FOLDER / name).read_text()) for name in ("values.yaml", "celery.yaml"))
GRAPHITE = {document["kind"]: document for document in yaml.safe_load_all((FOLDER / "graphite.yaml").read_text())}
SERVICES = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
PASSWORDS_FILE = VALUES["config"]["core"]["simple_auth_manager_passwords_file"]
ENVIRONMENT = {variable["name"]: variable["value"] for variable in VALUES["env"]}
DEPLOYMENT = (ROOT / "docs/deployment.md").read_text()
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


# The key of a secret that the chart's templates read, where the values only name the secret.
KEYS_OF_THE_CHART = {
    "metadataSecretName": "connection",
    "brokerUrlSecretName": "connection",
    "fernetKeySecretName": "fernet-key",
    "apiSecretKeySecretName": "api-secret-key",
    "jwtSecretName": "jwt-secret",
}
# What follows the name of the release in the names of the chart's own secrets and config maps.
NAMES_OF_THE_CHART = {
    "fernet-key",
    "api-secret-key",
    "jwt-secret",
    "metadata",
    "broker-url",
    "redis-password",
    "config",
}


def secrets_of_the_documentation() -> dict[str, set[str]]:
    """The keys of each secret that docs/deployment.md makes."""
    commands = re.sub(r"\\\n", " ", DEPLOYMENT)
    return {
        name: set(re.findall(r"--from-literal=([\w.-]+?)=", options))
        for name, options in re.findall(r"kubectl create secret generic (\S+) (.*)", commands)
    }


def test_the_documentation_makes_each_secret_with_its_key():
    named = {(VALUES[name], KEYS_OF_THE_CHART[name]) for name in VALUES if name.endswith("SecretName")}
    for data in (VALUES["data"], CELERY["data"]):
        named |= {(secret, KEYS_OF_THE_CHART[name]) for name, secret in data.items()}
    named |= {(secret["secretName"], secret["secretKey"]) for secret in VALUES["secret"]}
    (passwords,) = (volume for volume in VALUES["apiServer"]["extraVolumes"] if "secret" in volume)
    named.add((passwords["secret"]["secretName"], Path(PASSWORDS_FILE).name))
    for variable in GRAPHITE["Deployment"]["spec"]["template"]["spec"]["containers"][0]["env"]:
        if "valueFrom" in variable:
            named.add((variable["valueFrom"]["secretKeyRef"]["name"], variable["valueFrom"]["secretKeyRef"]["key"]))
    assert {(name, key) for name, keys in secrets_of_the_documentation().items() for key in keys} == named


def test_no_secret_has_the_name_of_one_of_the_chart():
    (release,) = set(re.findall(r"helm upgrade --install (\S+)", DEPLOYMENT))
    assert not {f"{release}-{name}" for name in NAMES_OF_THE_CHART} & set(secrets_of_the_documentation())


def test_the_password_file_is_copied_to_where_airflow_looks():
    mounts = {mount["name"]: mount["mountPath"] for mount in VALUES["apiServer"]["extraVolumeMounts"]}
    assert str(Path(PASSWORDS_FILE).parent) == mounts["auth"]
    copy = shlex.split(VALUES["apiServer"]["args"][-1])
    assert copy[:3] == ["cp", f"{mounts['passwords']}/{Path(PASSWORDS_FILE).name}", f"{mounts['auth']}/"]


def test_airflow_knows_each_setting():
    """A misspelled one would be passed on, and ignored."""
    folder = Path(find_spec("airflow").submodule_search_locations[0])
    options = yaml.load((folder / "config_templates/config.yml").read_text(), yaml.CSafeLoader)
    for section, settings in VALUES["config"].items():
        assert set(settings) <= set(options[section]["options"]), section
        assert all(isinstance(value, (bool, int, str)) for value in settings.values())  # the chart's schema takes these


@pytest.mark.parametrize("values", [VALUES, CELERY], ids=["values", "celery"])
def test_nothing_is_a_template(values):
    """Helm renders arguments, volumes and settings as templates of its own."""
    assert "{{" not in yaml.dump(values)


def test_images_are_those_of_compose():
    version = next(
        next(iter(Requirement(line.partition("#")[0]).specifier)).version
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line.startswith("apache-airflow==")
    )
    assert VALUES["airflowVersion"] == VALUES["defaultAirflowTag"] == version
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
