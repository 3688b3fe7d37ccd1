"""A container's own command: ContainerEntrypoint and ContainerArguments, run without the container.

This is how SDK v3's ModelTrainer starts training: its channels `code` and `sm_drivers` bring scripts that find
everything below /opt/ml, so such a job needs a machine that can show it its folder there. `python` and `pip` are the
interpreter that stands in for the image. Requirements that ModelTrainer would install are provided beforehand, in an
environment of their own, so that nothing is installed into the shared interpreter.
"""

from __future__ import annotations

import functools
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

from local_sagemaker.jobs.opt_ml import OptMl

_DRIVERS = "sm_drivers"

_PROBE = """
import glob, importlib.util, os, sys
found = []
if importlib.util.find_spec("pip") is None and (bundled := importlib.util.find_spec("ensurepip")):
    found = glob.glob(os.path.join(os.path.dirname(bundled.origin), "_bundled", "pip-*.whl"))
print(f"python{sys.version_info[0]}.{sys.version_info[1]}", *found[:1])
"""


def command(request: dict[str, Any]) -> list[str] | None:
    """The container's command, or None when the image's own program (script mode) is to run."""
    algorithm = request["AlgorithmSpecification"]
    if "ContainerEntrypoint" not in algorithm:
        return None
    return [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]


def needs_opt_ml(request: dict[str, Any]) -> bool:
    """Whether a job can only run where it sees its folder at /opt/ml."""
    words = command(request) or []
    channels = {channel["ChannelName"] for channel in request.get("InputDataConfig", [])}
    return bool(words) and (_DRIVERS in channels or any("/opt/ml" in word for word in words))


def requirements(folders: OptMl) -> Path | None:
    """The requirements file that SDK v3's drivers would install, where it lies now."""
    try:
        source = json.loads((folders.channel(_DRIVERS) / "sourcecode.json").read_text())
    except (OSError, ValueError):
        return None
    named = source.get("requirements") if isinstance(source, dict) else None
    code = folders.channel("code")
    path = (code / ("requirements.txt" if named == "auto" else str(named or ""))).resolve()
    return path if path.is_file() and path.is_relative_to(code.resolve()) else None


def write_programs(folder: Path, interpreter: str) -> Path:
    """A folder for the front of PATH with python and pip of this interpreter. Returns it.

    They are small programs, not links: a virtual environment is recognised by the path it is started by.
    """
    folder.mkdir(parents=True, exist_ok=True)
    python = f'#!/bin/sh\nexec {shlex.quote(interpreter)} "$@"\n'
    pip = f'#!/bin/sh\nexec {shlex.quote(interpreter)} -m pip "$@"\n'
    for names, text in ((("python", "python3"), python), (("pip", "pip3"), pip)):
        for name in names:
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
    return folder


def pip_environment(interpreter: str, folder: Path) -> dict[str, str]:
    """Variables by which pip works in a job and installs into the job's own folder, not into the interpreter.

    An interpreter without pip gets the one that Python itself brings.
    """
    version, wheel = _probe(interpreter)
    packages = folder / "packages"
    paths = [str(packages / "lib" / version / "site-packages"), *([wheel] if wheel else [])]
    return {"PIP_PREFIX": str(packages), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": ":".join(paths)}


@functools.cache
def _probe(interpreter: str) -> tuple[str, str]:
    """(`python3.11`, path of the bundled pip) of an interpreter; no path where it has a pip or none is bundled."""
    answer = subprocess.run([interpreter, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False)
    version, _, wheel = answer.stdout.strip().partition(" ")
    return version, wheel
