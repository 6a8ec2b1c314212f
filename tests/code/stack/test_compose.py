"""docker-compose.yaml: what it promises, read from the file and, if installed, from Docker Compose."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
ALWAYS = {
    "airflow-apiserver",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-triggerer",
    "airflow-init",
    "postgres",
    "graphite",
    "grafana",
}
CELERY = {"redis", "airflow-worker"}
BUCKET = {"s3"}
SECRETS = {
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "FERNET_KEY",
    "JWT_SECRET",
    "API_SECRET_KEY",
    "AIRFLOW_ADMIN_PASSWORD",
    "GRAFANA_ADMIN_PASSWORD",
    "GRAPHITE_SECRET_KEY",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
}


def made_secrets() -> dict[str, str]:
    """What `make up` writes into .env on first use."""
    text = subprocess.run(["sh", ROOT / "docker/secrets.sh"], capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


@pytest.fixture
def compose(tmp_path):
    """Runs Docker Compose on the file in an environment without secrets, or with those given."""
    binary = shutil.which("docker-compose")
    command = [binary] if binary else ["docker", "compose"]
    if not binary and (
        not shutil.which("docker") or subprocess.run([*command, "version"], capture_output=True).returncode
    ):
        pytest.skip("Docker Compose is not installed")

    def run(*arguments, secrets=None):
        env_file = tmp_path / "env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in (secrets or {}).items()))
        clean = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
        return subprocess.run(
            [*command, "--file", ROOT / "docker-compose.yaml", "--env-file", env_file, *arguments],
            capture_output=True,
            text=True,
            env=clean,
        )

    return run


def test_services():
    assert set(SERVICES) == ALWAYS | CELERY | BUCKET
    for profile, names in (("celery", CELERY), ("s3", BUCKET)):
        assert {name for name, service in SERVICES.items() if service.get("profiles") == [profile]} == names


@pytest.mark.parametrize("name", sorted(ALWAYS | CELERY | BUCKET))
def test_service(name):
    service = SERVICES[name]
    released = r"[a-z/-]+:\d+\.\d+\.\d+(-[a-z0-9]+)?|postgres:\d+\.\d+-bookworm|chrislusf/seaweedfs:\d+\.\d+"
    assert re.fullmatch(released, service["image"])
    assert service["restart"] == ("on-failure:3" if name == "airflow-init" else "unless-stopped")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"max-size", "max-file"} == set(service["logging"]["options"])
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert "container_name" not in service  # it could not be scaled
    check = service["healthcheck"]
    assert (
        check == {"disable": True}
        if name == "airflow-init"
        else {"test", "interval", "timeout", "retries"} < set(check)
    )
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    for volume in service.get("volumes", ()):
        source, _, mode = volume.split(":")[0], volume.split(":")[1], volume.split(":")[2:]
        if source.startswith("."):
            assert mode == ["ro"]
            assert source in ("./recordings", "./inbox") or (ROOT / source).exists()
        else:
            assert source in COMPOSE["volumes"]


def test_who_runs_as_root():
    """Airflow's image runs as the user airflow by itself, and nothing here makes it root."""
    assert {name for name, service in SERVICES.items() if "user" in service} == {
        "postgres",
        "redis",
        "grafana",
    }
    assert not re.search(r"user:\s*[\"']?(root|0)\b", TEXT)
    assert "USER" not in (ROOT / "Dockerfile").read_text()


def test_no_secret_has_a_default():
    assert set(re.findall(r"\$\{(\w+):\?", TEXT)) == SECRETS
    others = set(re.findall(r"(?<!\$)\$\{?(\w+)(?!:\?)\b(?!:\?)", TEXT))
    assert others == {
        "EMOTION_APPROVERS",
        "EMOTION_DATASET",
        "EMOTION_EXECUTOR",
        "EMOTION_FEATURES",
        "EMOTION_INBOXES",
        "EMOTION_INBOX_DAYS",
        "EMOTION_RECORDINGS",
        "EMOTION_REVIEW_DAYS",
        "EMOTION_REVIEW_SCHEDULE",
        "EMOTION_SCORING_SCHEDULE",
        "EMOTION_SLOTS",
        "EMOTION_TRAINING_SCHEDULE",
        "EMOTION_HOME",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_USERNAME",
        "AIRFLOW_PORT",
        "AIRFLOW_URL",
        "GRAFANA_PORT",
        "GRAPHITE_PORT",
        "STATSD_PORT",
    }


def test_secrets_are_fit_and_new_each_time():
    first, second = made_secrets(), made_secrets()
    assert set(first) == SECRETS
    assert not set(first.values()) & set(second.values())
    assert len(set(first.values())) == len(SECRETS)
    assert len(base64.urlsafe_b64decode(first["FERNET_KEY"])) == 32
    assert len(first["JWT_SECRET"]) >= 64
    assert all(re.fullmatch(r"[0-9a-f]{24,}", first[name]) for name in SECRETS - {"FERNET_KEY"})  # fit for a URL


def test_an_earlier_env_gets_the_secrets_that_it_lacks(tmp_path):
    (tmp_path / "env").write_text("# private\nPOSTGRES_PASSWORD=old\nAIRFLOW_PORT=8090\n")
    command = ["sh", ROOT / "docker/secrets.sh", tmp_path / "env"]
    added = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {line.split("=")[0] for line in added.splitlines()} == SECRETS - {"POSTGRES_PASSWORD"}
    with (tmp_path / "env").open("a") as file:
        file.write(added)
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_the_bucket_of_ones_own_is_open_to_nobody_else():
    """Its keys are secrets of their own, it has no port of the host, and the environment of Airflow can name it."""
    service, airflow = SERVICES["s3"], SERVICES["airflow-scheduler"]["environment"]
    assert "ports" not in service and service["environment"]["S3_BUCKET"] == "emotion"
    assert service["environment"]["AWS_SECRET_ACCESS_KEY"].startswith("${S3_SECRET_KEY:?")
    for name in ("EMOTION_HOME", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert airflow[name].startswith(f"${{{name}:-")


def test_secrets_stay_out_of_git_and_image():
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert not [line for line in lines if line.startswith("!.")]


def test_image_is_the_pinned_airflow():
    version = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE).group(1)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(rf"^FROM apache/airflow:slim-{re.escape(version)}-python3\.12$", dockerfile, re.MULTILINE)
    assert f"= {version}" in dockerfile
    assert SERVICES["airflow-scheduler"]["image"] == f"emotion-airflow:{version}"


@pytest.mark.parametrize("requirements", ["requirements.txt", "requirements-server.txt"])
def test_every_requirement_is_pinned(requirements):
    lines = [line.split("#")[0].strip() for line in (ROOT / requirements).read_text().splitlines()]
    pin = r'[A-Za-z0-9._-]+==[^=<>; ]+(; python_version (>=|==) "3\.\d+")?'
    assert [line for line in lines if line and not re.fullmatch(pin, line)] == []


def test_one_environment_for_all_of_airflow():
    shared = SERVICES["airflow-scheduler"]["environment"]
    for name in (name for name in SERVICES if name.startswith("airflow-")):
        assert shared.items() <= SERVICES[name]["environment"].items()
    assert shared["AIRFLOW__METRICS__STATSD_HOST"] == "graphite"


def test_every_setting_reaches_the_containers():
    """All variables of the table of settings, but for the places of files that are in the image."""
    settings = (ROOT / "docs/architecture.md").read_text().partition("\n## Settings\n")[2]
    variables = {
        name for row in re.findall(r"^\| (`.*?`) \|", settings, re.MULTILINE) for name in re.findall(r"\w+", row)
    }
    assert len(variables) > 20
    assert variables - set(SERVICES["airflow-scheduler"]["environment"]) == {"EMOTION_DATASETS", "EMOTION_ZENODO_URL"}


def test_an_empty_schedule_stays_empty_and_others_have_the_defaults_of_the_dags():
    defaults = (ROOT / "plugins/emotion_airflow/defaults.py").read_text()
    schedules = dict(re.findall(r'"variable": "(\w+)", "default": "([^"]+)"', defaults))
    assert len(schedules) == 3
    for name, default in schedules.items():
        assert SERVICES["airflow-scheduler"]["environment"][name] == f"${{{name}-{default}}}"


def test_database_is_healthy_when_others_can_reach_it():
    """While it is made, on first use, it answers on its socket."""
    assert "--host" in SERVICES["postgres"]["healthcheck"]["test"]


def test_health_checks_do_not_load_airflow():
    """Its command line takes 5 s of a core for each answer."""
    for service in SERVICES.values():
        assert not re.search(r"\bairflow (jobs|db|info)\b|--app airflow", str(service["healthcheck"].get("test")))


def test_pools_of_the_dags():
    wanted = set()
    for path in (ROOT / "dags").glob("*.py"):
        wanted |= set(re.findall(r'pool="(\w+)"', path.read_text()))
    assert wanted == set(re.findall(r"airflow pools set (\w+)", (ROOT / "docker/init.sh").read_text()))


def test_compose_accepts_it(compose):
    done = compose("config", "--services", secrets=made_secrets())
    assert (done.returncode, set(done.stdout.split())) == (0, ALWAYS), done.stderr
    done = compose("--profile", "celery", "config", "--services", secrets=made_secrets())
    assert (done.returncode, set(done.stdout.split())) == (0, ALWAYS | CELERY), done.stderr
    done = compose("--profile", "s3", "config", "--services", secrets=made_secrets())
    assert (done.returncode, set(done.stdout.split())) == (0, ALWAYS | BUCKET), done.stderr


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_compose_refuses_to_go_without_a_secret(compose, missing):
    secrets = {name: value for name, value in made_secrets().items() if name != missing}
    done = compose("config", secrets=secrets)
    assert done.returncode != 0
    assert missing in done.stderr
    assert "run make up" in done.stderr
