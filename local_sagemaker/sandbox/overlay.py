"""A job's own place for packages: an environment in its folder that sees what its interpreter has.

A script that runs pip (as SageMaker SDK's FrameworkProcessor makes jobs do) finds installed what the interpreter has,
and whatever it adds or removes stays in the job's folder: pip leaves alone what lies outside of the environment it runs
in. Where the interpreter has no pip, the one that Python brings for ensurepip runs straight from its wheel.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from local_sagemaker.sandbox.requirements import Packages


def make(folder: Path, interpreter: str) -> str:
    """Make the environment; returns its interpreter. Beside it are `python`, `python3`, `pip` and `pip3`.

    Raises JobFailedError when the interpreter does not run.
    """
    packages = Packages.of(interpreter)
    # The files that `python -m venv` writes, without the half second that it takes.
    home = Path(os.path.realpath(interpreter)).parent
    version = f"python{packages.markers['python_version']}"
    site, programs = folder / "lib" / version / "site-packages", folder / "bin"
    for made in (site, programs):
        made.mkdir(parents=True, exist_ok=True)
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(interpreter)
    lines = [f"import site; site.addsitedir({parent!r})\n" for parent in packages.site]
    if "pip" not in packages.distributions:
        wheels = sorted((home.parent / "lib" / version / "ensurepip/_bundled").glob("pip-*.whl"))
        lines += [f"{wheel}\n" for wheel in wheels[-1:]]
    (site / "_parent.pth").write_text("".join(lines))
    for name in ("pip", "pip3"):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(str(programs / "python"))} -m pip "$@"\n')
        (programs / name).chmod(0o755)
    return str(programs / "python")
