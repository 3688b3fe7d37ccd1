import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import compose, services, store
from stack.credentials import Credentials
from stack.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
AIRFLOW_SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
OF_SAGEMAKER = {"processing.Dockerfile"}
"""No service of the stack: SageMaker runs it alone on a machine, where the folders of a processing job are root's."""


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(str(port).startswith("127.0.0.1:") for port in published)


def test_links_lead_to_a_published_port() -> None:
    """A browser on this machine cannot look up the names of services."""
    published = SERVICES["local-sagemaker"]["ports"][0].rpartition(":")[0]
    for service in AIRFLOW_SERVICES:
        assert SERVICES[service]["environment"]["RETRAINING_JOBS_URL"] == f"http://{published}"


def test_pages_name_a_command_of_compose() -> None:
    """`make rollback` would go back in the laptop stack."""
    command, _, service = SERVICES["api-server"]["environment"]["RETRAINING_SHELL"].rpartition(" ")
    assert (command, service in AIRFLOW_SERVICES) == ("docker compose exec", True)
    mounted = [volume.split(":")[1] for volume in SERVICES[service]["volumes"]]
    path = re.search(r"PYTHONPATH=(\S+)", (ROOT / "docker/airflow.Dockerfile").read_text())
    assert path and path[1] in mounted


def test_no_secret_has_a_default() -> None:
    for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", TEXT):
        if name.endswith(("_PORT", "_IMAGE")) or name == "LOCAL_SAGEMAKER_DEBUGGER":
            assert rest.startswith(":-")
        else:
            assert rest.startswith(":?"), name
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD$|SECRET|_KEY$|ACCESS_KEY", name):
                assert str(value).startswith("${"), name


def test_every_service_that_stays_has_a_healthcheck() -> None:
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) == (name != "airflow-init"), name


def test_health_is_looked_at_seldom() -> None:
    """Each look starts a process in a container: two a second took Docker a third of a core, for ever."""
    checks = [service["healthcheck"] for service in SERVICES.values() if "healthcheck" in service]
    assert sum(1 / int(check["interval"].removesuffix("s")) for check in checks) <= 0.6 + 1e-9
    for check in checks:
        assert int(check["interval"].removesuffix("s")) * int(check["retries"]) <= 60  # until it is called unhealthy


def test_the_first_one_waits_for_what_it_needs() -> None:
    """Nobody else does: with a database that is looked at each 15 s, all would begin that much later."""
    script = (ROOT / "docker/airflow-entrypoint.sh").read_text()
    retries = re.search(r"airflow db check --retry (\d+) --retry-delay 1\n +airflow db migrate\n", script)
    assert SERVICES["airflow-init"]["depends_on"] == ["postgres", "s3"]
    assert retries and int(retries[1]) >= 30


def test_a_healthcheck_ends_before_docker_ends_it() -> None:
    """What it found would be lost: Docker says then only that it took too long."""
    patience = re.findall(r"^WITHIN_S = (\d+)$", (ROOT / "docker/healthcheck.py").read_text(), re.MULTILINE)
    for name, service in SERVICES.items():
        if "healthcheck" in service:
            assert int(service["healthcheck"]["timeout"].removesuffix("s")) > int(patience[0]), name


def test_the_one_that_ends_is_awaited() -> None:
    """Else `docker compose up --wait` would take its end for a failure."""
    waiting = [name for name, service in SERVICES.items() if "airflow-init" in service.get("depends_on", {})]
    assert set(AIRFLOW_SERVICES) <= set(waiting)
    condition = {"condition": "service_completed_successfully"}
    assert all(SERVICES[name]["depends_on"]["airflow-init"] == condition for name in waiting)


def test_everything_ours_runs_without_rights_it_does_not_need() -> None:
    for name, service in SERVICES.items():
        assert service["init"] is True
        if name != "postgres":
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"]
    for dockerfile in DOCKERFILES:
        users = re.findall(r"^USER (.*)$", dockerfile.read_text(), re.MULTILINE)
        assert users == ([] if dockerfile.name in OF_SAGEMAKER else ["50000:0"]), dockerfile.name


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_build_without_builder_extensions(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert not re.search(r"^# *syntax=|<<-?\w|--mount=|--link|--chmod", text, re.MULTILINE)


def test_the_build_context_holds_all_that_is_copied() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for dockerfile in DOCKERFILES:
        for words in re.findall(r"^COPY (?!--from)(.*)$", dockerfile.read_text(), re.MULTILINE):
            for source in words.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == entry or source.startswith(f"{entry}/") for entry in allowed), source


def test_generated_secrets_cover_what_compose_demands(tmp_path: Path) -> None:
    demanded = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert compose.write_environment(tmp_path / ".env", lambda line: None) == 0
    lines = [line for line in (tmp_path / ".env").read_text().splitlines() if not line.startswith("#")]
    given = dict(line.split("=", 1) for line in lines)
    assert set(given) == demanded
    assert all(re.fullmatch(r"[\w=-]{8,}", value) for value in given.values())
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_existing_secrets_are_kept(tmp_path: Path) -> None:
    compose.write_environment(tmp_path / ".env", lambda line: None)
    before = (tmp_path / ".env").read_text()
    said: list[str] = []
    compose.write_environment(tmp_path / ".env", said.append)
    assert (tmp_path / ".env").read_text() == before
    assert "is kept" in said[0]


def test_the_example_names_every_setting_of_compose() -> None:
    example = set(re.findall(r"^#(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert example == set(re.findall(r"\$\{(\w+)", TEXT))


def test_the_store_runs_with_the_same_switches_as_on_the_laptop() -> None:
    laptop = store.command(Settings(root=ROOT, state=ROOT / ".local"), "weed")
    image = re.findall(r'"(-[^"]+)"', (ROOT / "docker" / "s3.Dockerfile").read_text())

    def switches(arguments: list[str]) -> set[str]:
        places = r"-dir=|-config_dir=|-ip|-\w+\.localSocket=|-\w+\.port(\.grpc)?=\d{4,}"
        return {word for word in arguments if not re.match(places, word)}

    assert switches(list(laptop[1:])) - {"mini"} == switches(image)


def test_the_store_collects_garbage_as_on_the_laptop() -> None:
    given = SERVICES["s3"]["environment"]
    assert {name: value for name, value in given.items() if name.startswith("GO")} == store.GARBAGE


def test_airflow_is_set_up_like_on_the_laptop() -> None:
    """What differs is named here; everything else must be the same in both stacks."""
    own = Credentials.generate()
    settings = Settings(root=ROOT, state=ROOT / ".local")
    laptop = services.airflow_options(settings, own) | services.retraining_environment()
    compose_side = SERVICES["scheduler"]["environment"]
    for name in ("AIRFLOW_CONN_AWS_DEFAULT", *(name for name in laptop if name.startswith("RETRAINING"))):
        assert compose_side[name] == laptop[name], name
    for name in (
        "CORE__EXECUTOR",
        "CORE__PARALLELISM",
        "CORE__LOAD_EXAMPLES",
        "WORKERS__MIN_HEARTBEAT_INTERVAL",
        "WORKERS__EXECUTION_API_TIMEOUT",
    ):
        assert compose_side[f"AIRFLOW__{name}"] == laptop[f"AIRFLOW__{name}"], name
    assert set(laptop) - set(compose_side) == {
        "AIRFLOW_HOME",
        "AIRFLOW__API__HOST",
        "AIRFLOW__API__PORT",
        "AIRFLOW__CORE__DAGS_FOLDER",
        "AIRFLOW__CORE__PLUGINS_FOLDER",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
    }


def test_every_base_image_can_be_pinned() -> None:
    """By a digest, which a variable of .env gives."""
    for path in sorted((ROOT / "docker").glob("*.Dockerfile")):
        named = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("FROM ")]
        assert set(named) == {"${PYTHON_IMAGE}"}, path.name
    built = [service["build"]["args"] for service in SERVICES.values() if "build" in service]
    assert built and all(args == {"PYTHON_IMAGE": "${PYTHON_IMAGE:-python:3.11-slim-bookworm}"} for args in built)
    assert SERVICES["postgres"]["image"] == "${POSTGRES_IMAGE:-postgres:16}"
