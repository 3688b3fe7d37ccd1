"""What the container of a processing job finds: /opt/ml/config, its inputs, its environment and its command.

Where jobs can be given mounts they see their own folder as /opt/ml. Elsewhere the words of ContainerEntrypoint,
ContainerArguments and Environment that start with /opt/ml are rewritten to the folder, and SAGEMAKER_BASE_DIR names it;
a script that has such a path inside itself, as SDK's FrameworkProcessor writes them, cannot run there.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from local_sagemaker.failures import JobFailedError
from local_sagemaker.jobs import channels
from local_sagemaker.jobs.host_process import HostProcess
from local_sagemaker.platform import Platform
from local_sagemaker.s3 import Mirror, Object
from local_sagemaker.sandbox import disk, left_file, overlay
from local_sagemaker.sandbox.container import Container, moved
from local_sagemaker.sandbox.images import Image

BASE = "/opt/ml"
PROCESSING = "/opt/ml/processing"
ROOT = Path(BASE)

MESSAGE_BYTES = 1024
"""What of /opt/ml/output/message becomes the ExitMessage."""

#: A folder of this name is never uploaded.
IGNORED = ".sagemaker-ignore"


def place(base: Path, local_path: str) -> Path:
    """The folder of a LocalPath. Raises ValueError for one outside of /opt/ml/processing."""
    path = PurePosixPath(os.path.normpath(local_path))
    if ".." in PurePosixPath(local_path).parts or not path.is_relative_to(PROCESSING) or "\0" in local_path:
        raise ValueError(f"LocalPath '{local_path}' must be below {PROCESSING}/")
    return base / path.relative_to(BASE)


def defaults(request: dict[str, Any]) -> dict[str, Any]:
    """The members that AWS fills in, for Describe and processingjobconfig.json."""
    s3_input = {
        "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
        "S3CompressionType": "None",
    }
    cluster = {**request["ProcessingResources"]["ClusterConfig"]}
    if preferred := cluster.get("InstancePreferences"):
        count = preferred[0].get("InstanceCount") or cluster.get("InstanceCount", 1)
        cluster |= {"SelectedInstanceType": preferred[0]["InstanceType"], "SelectedInstanceCount": count}
    else:
        cluster.setdefault("InstanceCount", 1)
    filled: dict[str, Any] = {
        "ProcessingResources": {"ClusterConfig": cluster},
        "StoppingCondition": request.get("StoppingCondition") or {"MaxRuntimeInSeconds": 86_400},
    }
    if "ProcessingInputs" in request:
        filled["ProcessingInputs"] = [
            {"AppManaged": False, **item, "S3Input": s3_input | item["S3Input"]} for item in request["ProcessingInputs"]
        ]
    if "ProcessingOutputConfig" in request:
        outputs = [{"AppManaged": False, **item} for item in request["ProcessingOutputConfig"]["Outputs"]]
        filled["ProcessingOutputConfig"] = {**request["ProcessingOutputConfig"], "Outputs": outputs}
    return filled


def instance_type(request: dict[str, Any]) -> str:
    cluster = request["ProcessingResources"]["ClusterConfig"]
    return str(cluster.get("SelectedInstanceType") or cluster.get("InstanceType", "local"))


def instance_count(request: dict[str, Any]) -> int:
    cluster = request["ProcessingResources"]["ClusterConfig"]
    return int(cluster.get("SelectedInstanceCount") or cluster.get("InstanceCount", 1))


def command(request: dict[str, Any], image: Image) -> list[str] | None:
    """As Docker would run the image: its own program is replaced by the entry point, if one is given.

    The only program that an image has here is its evaluator of Debugger rules. None when there is nothing to run.
    """
    specification = request["AppSpecification"]
    own = ["python", *image.rules] if image.rules else None
    words = specification.get("ContainerEntrypoint") or own
    return [*words, *specification.get("ContainerArguments", [])] if words else None


class ProcessingContainer:
    """The containers of one job, one for each host. Its methods raise JobFailedError with the job's FailureReason."""

    def __init__(self, platform: Platform, request: dict[str, Any], hosts: list[HostProcess]) -> None:
        self._platform = platform
        self._request = request
        self._hosts = hosts

    def prepare(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Make the hosts' folders and fill them from S3, until `stopped()`."""
        for process in self._hosts:
            base = process.opt_ml.base
            for folder in (base / "config", base / "output", base / "processing", process.opt_ml.code):
                folder.mkdir(parents=True, exist_ok=True)
            self._write_config(process)
            for output in self._outputs():
                place(base, output["LocalPath"]).mkdir(parents=True, exist_ok=True)
        for item in self._request.get("ProcessingInputs", []):
            if not item.get("AppManaged"):
                self._fetch(item["S3Input"], stopped)

    def start(self, num_threads: int) -> None:
        """Start every host's process; leaves none running when one cannot start."""
        uri = self._request["AppSpecification"]["ImageUri"]
        container = Container.of(
            uri,
            self._platform.images,
            self._platform.isolation,
            self._platform.settings,
            network_isolation=bool(self._request.get("NetworkConfig", {}).get("EnableNetworkIsolation")),
        )
        words = command(self._request, container.image)
        if words is None:
            raise JobFailedError(
                f"ClientError: image '{uri}' has no program of its own here; give a ContainerEntrypoint"
            )
        try:
            for process in self._hosts:
                environment = self._environment(process, container, num_threads)
                if "/" not in words[0] and shutil.which(words[0], path=environment["PATH"]) is None:
                    raise JobFailedError(f"ClientError: program '{words[0]}' of the ContainerEntrypoint does not exist")
                process.start(
                    container,
                    [self._moved(process, word) for word in words],
                    environment,
                    mounts={BASE: process.opt_ml.base},
                    hosts=self._hosts,
                )
        except BaseException as error:
            for process in self._hosts:
                process.kill()
            if isinstance(error, OSError | ValueError):  # too long, or with a NUL in it
                raise JobFailedError(f"ClientError: the container's command cannot be started: {error}") from error
            raise

    def mirrors(self, mode: str) -> list[Mirror]:
        """Copies of the outputs with this S3UploadMode; all hosts write below the same prefix."""
        return [
            Mirror(
                self._platform.objects,
                place(process.opt_ml.base, output["LocalPath"]),
                output["S3Uri"],
                ignored=IGNORED,
            )
            for output in self._outputs()
            if output["S3UploadMode"] == mode
            for process in self._hosts
        ]

    def message(self) -> str | None:
        """What the hosts wrote to /opt/ml/output/message, one after the other."""
        written = b"".join(self._message(process) for process in self._hosts)[:MESSAGE_BYTES]
        try:
            # The cut may have gone through a character.
            return written.decode(errors="strict") or None
        except UnicodeDecodeError as error:
            if len(written) == MESSAGE_BYTES and error.start > MESSAGE_BYTES - 4:
                return written[: error.start].decode()
            raise JobFailedError("ClientError: /opt/ml/output/message is not UTF-8 encoded text") from error

    @staticmethod
    def _message(process: HostProcess) -> bytes:
        return left_file.head(process.opt_ml.output / "message", MESSAGE_BYTES)

    def _outputs(self) -> list[dict[str, Any]]:
        outputs = self._request.get("ProcessingOutputConfig", {}).get("Outputs", [])
        return [output["S3Output"] for output in outputs if not output.get("AppManaged")]

    def _fetch(self, source: dict[str, Any], stopped: Callable[[], bool]) -> None:
        store = self._platform.objects
        objects = store.objects(source["S3DataType"], source["S3Uri"], stopped)
        parts: list[list[Object]] = [objects] * len(self._hosts)
        if source.get("S3DataDistributionType") == "ShardedByS3Key":
            parts = channels.shards(objects, len(self._hosts))
        for process, part in zip(self._hosts, parts, strict=True):
            folder = place(process.opt_ml.base, source["LocalPath"])
            folder.mkdir(parents=True, exist_ok=True)
            if stopped():
                return
            disk.require(folder, sum(item.size_bytes for item in part), f"input {source['S3Uri']}")
            store.download(part, folder, stopped)

    def _write_config(self, process: HostProcess) -> None:
        members = (
            "ProcessingJobArn", "ProcessingJobName", "AppSpecification", "Environment", "ProcessingInputs",
            "ProcessingOutputConfig", "ProcessingResources", "RoleArn", "StoppingCondition", "NetworkConfig",
        )  # fmt: skip
        config = copy.deepcopy({name: self._request[name] for name in members if name in self._request})
        config["AppSpecification"] = {
            "ContainerEntrypoint": None, "ContainerArguments": None, **config["AppSpecification"]
        }  # fmt: skip
        for member, key in (("ProcessingInputs", "S3Input"), ("ProcessingOutputConfig", "S3Output")):
            items = config.get(member, [])
            items = items["Outputs"] if isinstance(items, dict) else items
            for item in items:
                if path := item[key].get("LocalPath"):
                    item[key]["LocalPath"] = self._moved(process, path)
        resources = {"current_host": process.host.name, "hosts": [other.host.name for other in self._hosts]}
        for name, content in (("processingjobconfig", config), ("resourceconfig", resources)):
            (process.opt_ml.base / f"config/{name}.json").write_text(json.dumps(content))

    def _moved(self, process: HostProcess, word: str) -> str:
        """A word as it has to be for the job to find what it means; the same where /opt/ml is its folder."""
        return moved(word, self._platform.isolation.base(process.opt_ml.base))

    def _environment(self, process: HostProcess, container: Container, num_threads: int) -> dict[str, str]:
        """Of SageMaker's own there is little: the region and the role; everything else is in the two files."""
        interpreter = container.image.interpreter
        own = overlay.make(process.folder / "environment", interpreter)
        requested = {name: self._moved(process, value) for name, value in self._request.get("Environment", {}).items()}
        path = f"{Path(own).parent}:{Path(interpreter).parent}:{requested.get('PATH', os.defpath)}"
        return {
            **process.environment(container, own, num_threads),
            **({} if container.isolation.mounts else {"SAGEMAKER_BASE_DIR": str(process.opt_ml.base)}),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            **requested,
            "PATH": path,
        }
