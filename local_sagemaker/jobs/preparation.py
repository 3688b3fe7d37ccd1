"""What happens before a training job's processes run: folders, code, channels, checkpoints, commands, environments."""

from __future__ import annotations

import glob
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_sagemaker.failures import JobFailedError
from local_sagemaker.jobs import channels, distribution, entrypoint, script
from local_sagemaker.jobs.checkpoints import Checkpoints
from local_sagemaker.jobs.host_process import HostProcess
from local_sagemaker.jobs.opt_ml import OptMl
from local_sagemaker.jobs.script import Script
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import archives, overlay
from local_sagemaker.sandbox.container import Container

_GPU_FOLDERS = "/proc/driver/nvidia/gpus/*"
_INPUT_FOLDER = "/opt/ml/input/data/"


class Preparation:
    """Of one attempt. Its methods raise JobFailedError with the job's FailureReason."""

    def __init__(
        self,
        platform: Platform,
        request: dict[str, Any],
        hosts: list[HostProcess],
        say: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        """`say` writes a line of the platform's own into the job's log; `stop` cuts an installation of packages off."""
        self._platform = platform
        self._request = request
        self._hosts = hosts
        self._say = say
        self._stop = stop
        self._script = Script.of(request)
        self._entrypoint = entrypoint.command(request)
        self.master_port = distribution.free_port()

    def fetch(self, checkpoints: Checkpoints | None, stopped: Callable[[], bool]) -> None:
        """Fill the hosts' folders from S3; gives up, wherever it is, when `stopped()`."""
        store = self._platform.objects
        store.require_bucket(self._request["OutputDataConfig"]["S3OutputPath"])
        hosts = [(process.host, process.opt_ml) for process in self._hosts]
        for host, folders in hosts:
            folders.make(self._request)
            folders.write_config(self._request, [other for other, _ in hosts], host)
        steps: list[Callable[[], None]] = [
            lambda channel=channel: channels.fetch(store, channel, hosts, stopped)  # type: ignore[misc]
            for channel in self._request.get("InputDataConfig", [])
        ]
        steps.append(lambda: self._fetch_code(stopped))
        if checkpoints:
            steps.append(lambda: checkpoints.restore(stopped))
        for step in steps:
            if stopped():
                return
            step()

    def start(self, num_threads: int) -> list[str]:
        """Start every host's process; returns the first host's command. Leaves none running when one cannot start.

        Each has an environment of its own over the interpreter's, where pip of the job installs.
        """
        container = Container.of(
            self._request["AlgorithmSpecification"].get("TrainingImage", ""),
            self._platform.images,
            self._platform.isolation,
            self._platform.settings,
            network_isolation=bool(self._request.get("EnableNetworkIsolation")),
        )
        interpreter = container.interpreter(self._requirements(), self._say, self._stop)
        commands = [self._command(process, container, interpreter) for process in self._hosts]
        try:
            for process, command in zip(self._hosts, commands, strict=True):
                environment = self._environment(process, container, interpreter, num_threads)
                own = overlay.make(process.folder / "environment", interpreter)
                command = [own if word == interpreter else word for word in command]
                environment["PATH"] = f"{Path(own).parent}:{environment['PATH']}"
                mounts = process.opt_ml.mounts(self._request)
                process.start(container, command, environment, mounts=mounts, hosts=self._hosts)
        except BaseException as error:
            for process in self._hosts:
                process.kill()
            if isinstance(error, OSError | ValueError):  # an environment too large, a name with = or NUL in it
                raise JobFailedError(f"ClientError: the training command cannot be started: {error}") from error
            raise
        return commands[0]

    # -- code -----------------------------------------------------------------------------------------------------

    def _fetch_code(self, stopped: Callable[[], bool]) -> None:
        """The source to the first host, and its copy to the others. As the toolkit does, a folder of a channel too."""
        source, first = self._script.source, self._hosts[0].opt_ml
        if self._entrypoint or not source:
            return
        if source.startswith("s3://"):
            archives.fetch_archive(self._platform.objects, source, first.code, archives.SOURCE, stopped)
        else:
            _take_local_source(source, first)
        for process in self._hosts[1:]:
            shutil.copytree(first.code, process.opt_ml.code, symlinks=True, dirs_exist_ok=True)

    def _requirements(self) -> Path | None:
        first = self._hosts[0].opt_ml
        return entrypoint.requirements(first) if self._entrypoint else first.code / "requirements.txt"

    # -- processes ------------------------------------------------------------------------------------------------

    def _command(self, process: HostProcess, container: Container, interpreter: str) -> list[str]:
        if self._entrypoint:
            return self._entrypoint
        if not self._script.program:
            return self._own_program(container, interpreter)
        return distribution.command(
            interpreter,
            self._script,
            process.opt_ml.code,
            [other.host for other in self._hosts],
            process.host,
            gpus=len(self._gpus(process)),
            master_port=self.master_port,
        )

    def _own_program(self, container: Container, interpreter: str) -> list[str]:
        """What stands in for the image's own training program."""
        uri = self._request["AlgorithmSpecification"]["TrainingImage"]
        if container.image.train is None:
            raise JobFailedError(
                "ClientError: hyperparameter 'sagemaker_program' is missing; local_sagemaker runs script mode: name "
                "the training script there and its sourcedir.tar.gz in 'sagemaker_submit_directory', or give the "
                f"image map an entry with 'train' for image '{uri}'"
            )
        return [interpreter, *container.image.train]

    def _environment(
        self, process: HostProcess, container: Container, interpreter: str, num_threads: int
    ) -> dict[str, str]:
        requested: dict[str, str] = self._request.get("Environment", {})
        plain = process.environment(container, interpreter, num_threads)
        environment = {
            **plain,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "TRAINING_JOB_ARN": self._request["TrainingJobArn"],
            **script.environment(
                process.opt_ml,
                self._request,
                num_cpus=num_threads,
                num_gpus=len(self._gpus(process)),
                hosts=[other.host for other in self._hosts],
                current=process.host,
                master_port=self.master_port,
            ),
            **self._several(process),
            **requested,
        }
        paths = script.python_path(process.opt_ml), requested.get("PYTHONPATH")
        environment["PYTHONPATH"] = ":".join(filter(None, paths))
        if "PATH" in requested:
            environment["PATH"] = f"{plain['PATH']}:{requested['PATH']}"
        return environment

    def _several(self, process: HostProcess) -> dict[str, str]:
        """What hosts need that are one machine: their share of its GPUs, and the interface by which they meet."""
        if len(self._hosts) == 1:
            return {}
        gpus = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, self._gpus(process)))} if _gpu_count() else {}
        return gpus | {"GLOO_SOCKET_IFNAME": "lo", "TP_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}

    def _gpus(self, process: HostProcess) -> list[int]:
        """The GPUs of one host: an equal part of the machine's; all of them where there are fewer than hosts."""
        gpus = list(range(_gpu_count()))
        share = len(gpus) // len(self._hosts)
        index = self._hosts.index(process)
        return gpus[index * share : (index + 1) * share] if share else gpus


def _take_local_source(source: str, folders: OptMl) -> None:
    """A source that came in a channel: its folder is copied, its archive unpacked."""
    relative = source.removeprefix(_INPUT_FOLDER)
    path = (folders.data / relative).resolve()
    if not source.startswith(_INPUT_FOLDER) or not path.is_relative_to(folders.data.resolve()) or not path.exists():
        raise JobFailedError(
            f"ClientError: sagemaker_submit_directory '{source}' is neither an s3:// URI nor a folder below "
            f"{_INPUT_FOLDER} that a channel has brought; there is no image here that could hold it"
        )
    if path.is_dir():
        shutil.copytree(path, folders.code, dirs_exist_ok=True)
    else:
        archives.unpack(path, folders.code, source)


def _gpu_count() -> int:
    return len(glob.glob(_GPU_FOLDERS))
