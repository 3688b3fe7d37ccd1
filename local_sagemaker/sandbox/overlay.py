"""A job's own place for packages: an environment in its folder that sees what its interpreter has.

A script that runs pip (as SageMaker SDK's FrameworkProcessor makes jobs do) finds installed what the interpreter has,
and whatever it adds or removes stays in the job's folder: pip leaves alone what lies outside of the environment it runs
in. Where the interpreter has no pip, the one that Python brings for ensurepip runs straight from its wheel.
"""

from __future__ import annotations

import functools
import os
import shlex
from pathlib import Path
from typing import NamedTuple

from local_sagemaker.sandbox.interpreter import asked

_WHERE = """
import json, os, site, sys
folders = [folder for folder in site.getsitepackages() if os.path.isdir(folder)]
print(json.dumps([folders, "python{0.major}.{0.minor}".format(sys.version_info)]))
"""


class Python(NamedTuple):
    """What an environment over an interpreter needs to know of it."""

    site: list[str]
    """Its folders of packages."""
    version: str
    """As in `lib/python3.11`."""


def make(folder: Path, interpreter: str) -> str:
    """Make the environment; returns its interpreter. Beside it are `python`, `python3`, `pip` and `pip3`.

    Raises JobFailedError when the interpreter does not run.
    """
    real = os.path.realpath(interpreter)
    python, home = _python_of(interpreter, real), Path(real).parent
    # The files that `python -m venv` writes, without the half second that it takes.
    site, programs = folder / "lib" / python.version / "site-packages", folder / "bin"
    for made in (site, programs):
        made.mkdir(parents=True, exist_ok=True)
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(interpreter)
    lines = [f"import site; site.addsitedir({parent!r})\n" for parent in python.site]
    if not any((Path(parent) / "pip").is_dir() for parent in python.site):
        wheels = sorted((home.parent / "lib" / python.version / "ensurepip/_bundled").glob("pip-*.whl"))
        lines += [f"{wheel}\n" for wheel in wheels[-1:]]
    (site / "_parent.pth").write_text("".join(lines))
    for name in ("pip", "pip3"):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(str(programs / "python"))} -m pip "$@"\n')
        (programs / name).chmod(0o755)
    return str(programs / "python")


@functools.cache
def _python_of(interpreter: str, real: str) -> Python:
    """Of the interpreter itself, once while it leads to the same program. To list its packages takes much longer."""
    return Python(*asked(interpreter, _WHERE, f"{interpreter} cannot be started"))
