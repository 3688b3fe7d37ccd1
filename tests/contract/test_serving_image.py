"""docker/serving.Dockerfile against what it copies, installs and starts. Builds nothing: that takes Docker."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from retraining.requests.sagemaker import SERVING_ENVIRONMENT

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
    """The programs and wings of ml/ that are copied, each to a place of its own name."""
    pairs = [line.split() for line in instructions("COPY") if line.startswith("ml/")]
    for source, target in pairs:
        name = source.removeprefix("ml/")
        assert target in ("/opt/program/", f"/opt/program/{name}") and (target[-1] != "/") == (ML / name).is_dir()
    return {source.removeprefix("ml/") for source, _ in pairs}


def imported(parts: set[str]) -> set[str]:
    """The first names of all that these programs and wings import, at their top or inside of functions."""
    names = set()
    for part in parts:
        for file in (ML / part).rglob("*.py") if (ML / part).is_dir() else [ML / part]:
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names)


def with_wings(parts: set[str]) -> set[str]:
    """These programs and wings and all of ml/ that they import, directly or not."""
    names = imported(parts)
    more = {name for name in names if (ML / name).is_dir()} | {f"{n}.py" for n in names if (ML / f"{n}.py").exists()}
    return parts if more <= parts else with_wings(parts | more)


def serving_code() -> set[str]:
    """What an artifact brings along: the programs and the wings that network/artifact.py names."""
    for node in ast.walk(ast.parse((ML / "network/artifact.py").read_text())):
        if isinstance(node, ast.Assign) and "WINGS" in ast.unparse(node.targets[0]):
            return {leaf.value for leaf in ast.walk(node.value) if isinstance(leaf, ast.Constant)}
    raise AssertionError("artifact.py has no WINGS")


def installed() -> set[str]:
    (command,) = (line for line in instructions("RUN") if "uv pip install" in line)
    words = command.partition("--constraints /pins/ml.txt")[2].partition("&&")[0].split()
    return {word for word in words if not word.startswith("$")}


def test_the_image_has_all_of_the_server_and_nothing_else() -> None:
    assert copied() == with_wings({"serve.py"})


def test_an_artifact_brings_all_of_its_code() -> None:
    assert serving_code() == with_wings(ENTRIES)


def test_an_artifact_brings_what_ray_serve_starts() -> None:
    module, _, application = SERVING_ENVIRONMENT["SM_RAYSERVE_APP"].partition(":")
    tree = ast.parse((ML / f"{module}.py").read_text())
    assigned = [target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    assert (f"{module}.py" in serving_code(), application in assigned) == (True, True)


def test_what_server_and_artifact_import_is_installed() -> None:
    own = {path.stem for path in ML.iterdir()}
    needed = imported(copied() | serving_code()) - own - OPTIONAL
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
