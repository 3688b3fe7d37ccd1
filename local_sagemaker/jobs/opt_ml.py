"""One host's /opt/ml: its folders, and the files of /opt/ml/input/config that SageMaker writes for a request.

The tree lies below the job's own folder. Where a job's processes can be given mounts they see it as /opt/ml, else under
its real path; everything that is told to a job (files, environment) says the path that the job sees.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from local_sagemaker.jobs import cluster
from local_sagemaker.jobs.cluster import Host

MOUNT = Path("/opt/ml")

#: The host of every job that has one instance.
HOST = cluster.FIRST


class OptMl:
    """The folders of one host. `shown` is where its processes see `base`; None where they see it where it is.

    All paths are lower-case if `base` is: smdebug lower-cases the paths in its configuration.
    """

    def __init__(self, base: Path, shown: Path | None = None) -> None:
        self.base = base
        self.shown = shown or base
        self.config = base / "input/config"
        self.data = base / "input/data"
        self.code = base / "code"
        self.model = base / "model"
        self.output = base / "output"
        self.output_data = base / "output/data"
        self.intermediate = base / "output/intermediate"
        self.failure = base / "output/failure"
        self.profiler = base / "output/profiler"

    def channel(self, name: str) -> Path:
        return self.data / name

    def tensors(self, request: dict[str, Any]) -> Path:
        return self._place(request.get("DebugHookConfig"), "output/tensors")

    def tensorboard(self, request: dict[str, Any]) -> Path:
        return self._place(request.get("TensorBoardOutputConfig"), "output/tensorboard")

    def checkpoints(self, request: dict[str, Any]) -> Path:
        return self._place(request.get("CheckpointConfig"), "checkpoints")

    def mounts(self, request: dict[str, Any]) -> dict[str, Path]:
        """What the job has to see where: /opt/ml itself, and LocalPaths outside of it."""
        found = {str(MOUNT): self.base}
        for place in (self.tensors(request), self.tensorboard(request), self.checkpoints(request)):
            if not place.is_relative_to(self.base):
                found[f"/{place.relative_to(self._outside)}"] = place
        return found

    def as_shown(self, path: Path) -> str:
        """How the job's processes call one of these folders."""
        if path.is_relative_to(self.base):
            return str(self.shown / path.relative_to(self.base))
        return str(path) if self.shown == self.base else f"/{path.relative_to(self._outside)}"

    def make(self, request: dict[str, Any]) -> None:
        for folder in (self.config, self.data, self.code, self.model, self.output_data, self.intermediate):
            folder.mkdir(parents=True, exist_ok=True)
        for member, folder in (
            ("CheckpointConfig", self.checkpoints(request)),
            ("TensorBoardOutputConfig", self.tensorboard(request)),
            ("DebugHookConfig", self.tensors(request).parent),
        ):
            if member in request:
                folder.mkdir(parents=True, exist_ok=True)

    def write_config(
        self, request: dict[str, Any], hosts: list[Host] | None = None, current: Host | None = None
    ) -> None:
        """The files of /opt/ml/input/config for one host; without `hosts` those of the job's first one."""
        hosts = hosts or cluster.hosts(request)
        current = current or hosts[0]
        self._write("hyperparameters", request.get("HyperParameters", {}))
        self._write("inputdataconfig", input_data_config(request, current))
        self._write("resourceconfig", cluster.resource_config(hosts, current))
        if hook := request.get("DebugHookConfig"):
            path = self.as_shown(self.tensors(request))
            self._write("debughookconfig", {**_HOOK_DEFAULTS, **hook, "LocalPath": path})
        if tensorboard := request.get("TensorBoardOutputConfig"):
            path = self.as_shown(self.tensorboard(request))
            self._write("tensorboardoutputconfig", {**tensorboard, "LocalPath": path})
        if checkpoints := request.get("CheckpointConfig"):
            path = self.as_shown(self.checkpoints(request))
            self._write("checkpointconfig", {**checkpoints, "LocalPath": path})
        profiler = request.get("ProfilerConfig")
        if profiler and not profiler.get("DisableProfiler"):
            profiler = copy.deepcopy(profiler)
            profiler.setdefault("ProfilingParameters", {})["LocalPath"] = self.as_shown(self.profiler)
            self._write("profilerconfig", profiler)
        self._write("upstreamoutputdataconfig", [])

    def _place(self, config: dict[str, Any] | None, default: str) -> Path:
        """The folder of a LocalPath: in this tree when it names one of /opt/ml, else beside it."""
        wanted = PurePosixPath(
            os.path.normpath("/" + (config or {}).get("LocalPath", str(MOUNT / default)).lstrip("/"))
        )
        if wanted.is_relative_to(MOUNT) and str(wanted) != str(MOUNT):
            return self.base / wanted.relative_to(MOUNT)
        return self._outside / str(wanted).lstrip("/")

    @property
    def _outside(self) -> Path:
        return self.base.parent.parent / "outside"

    def _write(self, name: str, content: Any) -> None:
        (self.config / f"{name}.json").write_text(json.dumps(content))


def input_data_config(request: dict[str, Any], current: Host) -> dict[str, dict[str, str]]:
    """inputdataconfig.json of a host: the channels that reach its instance group."""
    found = {}
    for channel in request.get("InputDataConfig", []):
        source = channel["DataSource"].get("S3DataSource", {})
        if not cluster.in_groups([current], source.get("InstanceGroupNames")):
            continue
        found[channel["ChannelName"]] = {
            **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
            "TrainingInputMode": input_mode(request, channel),
            "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        }
    return found


def input_mode(request: dict[str, Any], channel: dict[str, Any]) -> str:
    """File, FastFile or Pipe: the channel's own, else the algorithm's."""
    return str(channel.get("InputMode") or request["AlgorithmSpecification"].get("TrainingInputMode", "File"))


# smdebug reads these two members even when a request leaves them out.
_HOOK_DEFAULTS = {"HookParameters": None, "CollectionConfigurations": None}
