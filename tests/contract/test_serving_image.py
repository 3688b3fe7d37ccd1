"""docker/serving.Dockerfile against what it copies, installs and starts. Builds nothing: that takes Docker."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from retraining.sagemaker_requests import SERVING_ENVIRONMENT

ROOT = Path(__file__).parents[2]
ML = ROOT / "ml"
LINES = (ROOT / "docker/serving.Dockerfile").read_text().replace("\\\n", " ").splitlines()
#: What a module is called where it is not the name of its package.
PACKAGES = {"PIL": "pillow"}
#: Imported only where torch computes, which the image leaves to ALSO, or by what another container starts.
OPTIONAL = {"torch", "torchvision", "sagemaker_inference", "ray"}
#: What starts an artifact: our server and AWS's PyTorch containers the first, AWS's Ray Serve containers the second.
ENTRIES = {"inference.py", "ray_app.py"}


def instructions(name: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in LINES if line.startswith(f"{name} ")]


def copied() -> set[str]:
    """The files of ml/ that are copied."""
    words = [word for line in instructions("COPY") for word in line.split()[:-1]]
    return {word.removeprefix("ml/") for word in words if word.startswith("ml/")}


def imported(files: set[str]) -> set[str]:
    """The first names of all that these files of ml/ import, at their top or inside of functions."""
    names = set()
    for file in files:
        for node in ast.walk(ast.parse((ML / file).read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names)


def with_siblings(files: set[str]) -> set[str]:
    """These files of ml/ and all of ml/ that they import, directly or not."""
    more = {f"{name}.py" for name in imported(files) if (ML / f"{name}.py").exists()}
    return files if more <= files else with_siblings(files | more)


def serving_code() -> set[str]:
    """What an artifact brings along."""
    for node in ast.walk(ast.parse((ML / "artifact.py").read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SERVING_CODE":
            return {leaf.value for leaf in ast.walk(node.value) if isinstance(leaf, ast.Constant)}
    raise AssertionError("artifact.py has no SERVING_CODE")


def installed() -> set[str]:
    (command,) = (line for line in instructions("RUN") if "uv pip install" in line)
    words = command.partition("--constraints /pins.txt")[2].partition("&&")[0].split()
    return {word for word in words if not word.startswith("$")}


def test_the_image_has_all_of_the_server_and_nothing_else() -> None:
    assert copied() == with_siblings({"serve.py"})


def test_an_artifact_brings_all_of_its_code() -> None:
    assert serving_code() == with_siblings(ENTRIES)


def test_an_artifact_brings_what_ray_serve_starts() -> None:
    module, _, application = SERVING_ENVIRONMENT["SM_RAYSERVE_APP"].partition(":")
    tree = ast.parse((ML / f"{module}.py").read_text())
    assigned = [target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    assert (f"{module}.py" in serving_code(), application in assigned) == (True, True)


def test_what_server_and_artifact_import_is_installed() -> None:
    siblings = {file.stem for file in ML.glob("*.py")}
    needed = imported(copied() | serving_code()) - siblings - OPTIONAL
    assert {PACKAGES.get(name, name) for name in needed} | {"httptools"} == installed()


def test_what_is_installed_is_pinned() -> None:
    pins = (ROOT / "requirements/ml.txt").read_text()
    assert [package for package in installed() if not re.search(rf"^{package}==", pins, re.MULTILINE)] == []


def test_what_is_copied_reaches_the_build() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    assert [word for words in sources for word in words if word.partition("/")[0] not in allowed] == []


def test_sagemakers_command_line_starts_the_server() -> None:
    (entry,), (command,) = instructions("ENTRYPOINT"), instructions("CMD")
    program = [word.replace("/opt/program", str(ML)) for word in json.loads(entry) + json.loads(command)]
    assert program == ["python", str(ML / "serve.py"), "serve"]
    # SageMaker gives the word itself; a setting that is wrong shows that the word was understood.
    environment = os.environ | {"SAGEMAKER_BIND_TO_PORT": "not a port"}
    done = subprocess.run([sys.executable, *program[1:]], env=environment, capture_output=True, text=True, check=False)
    assert "invalid int value: 'not a port'" in done.stderr


def test_the_server_runs_without_rights_and_on_sagemakers_port() -> None:
    assert instructions("USER") == ["50000:0"]
    assert instructions("EXPOSE") == ["8080"]
    assert instructions("LABEL") == ["com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true"]
