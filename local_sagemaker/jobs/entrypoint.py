"""A container's own command: ContainerEntrypoint and ContainerArguments, run without the container.

This is how SDK v3's ModelTrainer starts training: its channels `code` and `sm_drivers` bring scripts that find
everything below /opt/ml, so such a job needs a machine that can show it its folder there. `python` and `pip` are those
of the job's own environment over the interpreter that stands in for the image. Requirements that ModelTrainer would
install are provided beforehand, once for all jobs that ask for the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from local_sagemaker.jobs.opt_ml import OptMl

_DRIVERS = "sm_drivers"


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
