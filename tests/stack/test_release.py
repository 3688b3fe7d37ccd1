"""What `make release` builds can be installed by itself: each wheel in an environment that knows nothing of the clone.

Their dependencies are those of the tests' own environment, for nothing is fetched here: a .pth file names its folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from stack import release
from stack.errors import StackError
from tests.object_store import CLIENT, free_ports
from tests.shipped import RECIPES
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if subprocess.run(["git", "ls-files", "--error-unmatch", "LICENSE"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("wheels are made of what git knows, and it knows nothing here")
    made = release.build(ROOT, tmp_path_factory.mktemp("dist"), print)
    return {path.name.partition("-")[0]: path for path in made}


def installed(wheel: Path, folder: Path) -> Path:
    """The bin folder of a new environment that holds the wheel."""
    venv.create(folder, with_pip=False)
    uv = [str(ROOT / ".venv/uv/bin/uv"), "pip", "install", "--offline", "--no-deps", "--python", str(folder)]
    subprocess.run([*uv, str(wheel)], check=True, capture_output=True, env=os.environ | {"UV_LINK_MODE": "copy"})
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.fixture(scope="module")
def server_bin(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(wheels["local_sagemaker"], tmp_path_factory.mktemp("server") / "env")


@pytest.fixture(scope="module")
def plugin_bin(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(wheels["retraining"], tmp_path_factory.mktemp("plugin") / "env")


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing leads to the clone."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {"HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "airflow")}


def test_no_git_is_told(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with pytest.raises(StackError, match=f"git does not answer in {tmp_path}: fatal: not a git repository"):
        release.build(tmp_path, tmp_path / "dist", print)


def test_every_file_that_runs_is_in_a_wheel(wheels: dict[str, Path]) -> None:
    named = {name for path in wheels.values() for name in zipfile.ZipFile(path).namelist()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    place = {"plugins/": "", "local_sagemaker/": "local_sagemaker/", "ml/": "retraining/shipped/ml/"}
    wanted = {
        place[folder] + name.removeprefix(folder)
        for name in listed
        for folder in place
        if name.startswith(folder) and (ROOT / name).exists() and not name.endswith((".md", ".airflowignore"))
    }
    assert wanted - named == set()
    foreign = {name for name in named if not name.startswith(("retraining", "local_sagemaker"))}
    assert foreign == set()


@pytest.fixture
def served(server_bin: Path, elsewhere: dict[str, str], tmp_path: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    command = [str(server_bin / "local-sagemaker"), "--port", str(port), "--root", str(tmp_path / "root")]
    keys = {"AWS_ACCESS_KEY_ID": CLIENT["aws_access_key_id"], "AWS_SECRET_ACCESS_KEY": CLIENT["aws_secret_access_key"]}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=elsewhere | keys, cwd=tmp_path, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: url in (tmp_path / "log").read_text() or process.poll() is not None)
    yield url
    process.terminate()
    process.wait()


def test_the_server_runs_from_its_wheel(served: str) -> None:
    client = boto3.client("sagemaker", endpoint_url=served, **CLIENT)
    assert wait_until(lambda: client.list_training_jobs()["TrainingJobSummaries"] == [])
    assert boto3.client("sts", endpoint_url=served, **CLIENT).get_caller_identity()["Account"] == "000000000000"


SEEN_BY_AIRFLOW = """
from airflow import plugins_manager
from airflow.dag_processing.dagbag import DagBag
import retraining, sys
bag = DagBag(sys.argv[1])
print("dags", sorted(bag.dags), bag.import_errors)
print("plugins", sorted(plugin.name for plugin in plugins_manager._get_plugins()[0]))
print("from", retraining.__file__)
"""


@pytest.mark.slow
def test_airflow_finds_dags_and_plugin_of_the_wheel(
    plugin_bin: Path, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    dags = tmp_path / "dags"
    python = str(plugin_bin / "python")
    for _ in range(2):  # an upgrade does it again
        subprocess.run([python, "-m", "retraining", "init", str(dags)], check=True, env=elsewhere, cwd=tmp_path)
        (dags / "recipes/digits.yaml").write_text((dags / "recipes/digits.yaml").read_text() + "# mine\n")
    assert (dags / "recipes/digits.yaml").read_text().endswith("# mine\n# mine\n")
    settings = elsewhere | {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    done = subprocess.run(
        [python, "-c", SEEN_BY_AIRFLOW, str(dags)], env=settings, cwd=tmp_path, capture_output=True, text=True
    )
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("dags", "plugins", "from")))
    assert said["dags"] == "['retrain_digits', 'rollback_digits'] {}", done.stdout + done.stderr
    assert "'retraining'" in said["plugins"]
    assert said["from"].startswith(str(plugin_bin.parent))


def test_lint_and_source_of_the_wheel(plugin_bin: Path, elsewhere: dict[str, str], tmp_path: Path) -> None:
    def say(*words: str) -> str:
        command = [str(plugin_bin / "python"), "-m", "retraining", *words]
        return subprocess.run(command, env=elsewhere, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    source = Path(say("source").strip())
    assert (source / "train.py").read_bytes() == (ROOT / "ml/train.py").read_bytes()
    shutil.copy(RECIPES[0], tmp_path / "mine.yaml")
    assert say("lint", "mine.yaml") == "mine.yaml: good\n"
    assert sys.prefix not in str(source)
