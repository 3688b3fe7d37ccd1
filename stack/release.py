"""`make release`: what people install, as two wheels in dist/.

retraining       the package that the DAGs import, an `airflow.plugins` entry point, ml/ and the DAG files as its data
local-sagemaker  the server, with a console script

Only files that git knows are shipped: what else lies in a clone is its owner's.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stack.errors import StackError

DIST = "dist"

COMMON = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
description = "{description}"
readme = "README.md"
license = "Apache-2.0"
license-files = ["LICENSE"]
requires-python = ">=3.11"
dependencies = [
{dependencies}
]

"""
RETRAINING = """\
[project.entry-points."airflow.plugins"]
retraining = "retraining_plugin:RetrainingPlugin"

[tool.setuptools]
py-modules = ["retraining_plugin"]

[tool.setuptools.packages.find]
include = ["retraining*"]
exclude = ["retraining.shipped*"]

[tool.setuptools.package-data]
retraining = ["shipped/**/*", "page/static/*", "page/templates/*", "dataset/templates/*"]
"""
LOCAL_SAGEMAKER = """\
[project.scripts]
local-sagemaker = "local_sagemaker.__main__:main"

[tool.setuptools.packages.find]
include = ["local_sagemaker*"]

[tool.setuptools.package-data]
local_sagemaker = ["pages/*.css", "pages/*.js"]
"""
#: Of the dependency group `airflow` in pyproject.toml, what each wheel needs where it runs.
NEEDED = {
    "retraining": (
        "apache-airflow", "apache-airflow-providers-amazon", "apache-airflow-providers-standard", "sagemaker",
        "scikit-learn", "pillow", "pyyaml", "croniter",
    ),
    "local-sagemaker": (
        "boto3", "cbor2", "httptools", "httpx", "numpy", "packaging", "psutil", "starlette", "uvicorn",
    ),
}  # fmt: skip


def build(root: Path, target: Path, say: Callable[[str], None]) -> list[Path]:
    """Both wheels in `target`; raises StackError with what the build said."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    staging = root / ".local" / "release"
    shutil.rmtree(staging, ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    made = []
    for name, stage in (("retraining", _stage_retraining), ("local-sagemaker", _stage_local_sagemaker)):
        folder = staging / name
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(stage(root, folder, project), encoding="utf-8")
        shutil.copy(root / "LICENSE", folder)
        _wheel(root, folder, target)
        made.append(target / f"{name.replace('-', '_')}-{project['project']['version']}-py3-none-any.whl")
        say(f"{made[-1]}")
    shutil.rmtree(staging)
    return made


def _stage_retraining(root: Path, folder: Path, project: dict[str, Any]) -> str:
    _copy(root, "plugins", folder)
    _copy(root, "ml", folder / "retraining/shipped/ml")
    _copy(root, "dags", folder / "retraining/shipped/dags")
    shutil.copy(root / "README.md", folder)
    return _pyproject("retraining", project) + RETRAINING


def _stage_local_sagemaker(root: Path, folder: Path, project: dict[str, Any]) -> str:
    _copy(root, "local_sagemaker", folder / "local_sagemaker")
    shutil.move(folder / "local_sagemaker/README.md", folder / "README.md")
    return _pyproject("local-sagemaker", project) + LOCAL_SAGEMAKER


def _pyproject(name: str, project: dict[str, Any]) -> str:
    said = {"retraining": "Weekly retraining of image classifiers on Amazon SageMaker with Airflow"}
    description = said.get(name, "A SageMaker-compatible server that really executes its jobs")
    version = project["project"]["version"]
    group: list[str] = project["dependency-groups"]["airflow"]
    asked = {re.split(r"[\[=<>;]", line)[0].strip(): line for line in group}
    # A wheel is installed beside others: it asks for what it was tested with, or newer.
    lines = [f'    "{asked.get(needed, needed).replace("==", ">=")}",' for needed in NEEDED[name]]
    return COMMON.format(name=name, version=version, description=description, dependencies="\n".join(lines))


def _copy(root: Path, source: str, target: Path) -> None:
    try:
        command = ["git", "ls-files", "-z", "--", source]
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", b"").decode(errors="replace").strip() or error
        raise StackError(f"A release is made of what git knows, and git does not answer in {root}: {why}") from None
    for name in filter(None, listed.decode().split("\0")):
        path = target / Path(name).relative_to(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, path)


def _wheel(root: Path, folder: Path, target: Path) -> None:
    command = [str(root / ".venv/uv/bin/uv"), "build", "--wheel", "--offline", "--no-build-isolation"]
    command += ["--python", sys.executable, "--out-dir", str(target), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}, check=False)
    if done.returncode:
        raise StackError(f"the wheel of {folder.name} could not be built:\n{done.stdout}{done.stderr}")
