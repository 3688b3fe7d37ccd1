"""What a training script finds: the /opt/ml tree, the SM_* environment and its command line.

This is the contract of the SageMaker training toolkit (sagemaker-training 5.1, script mode), written anew because the
toolkit and smdebug cannot share an interpreter. The tree lies below a job's own folder; scripts find it by environment.
"""

from __future__ import annotations

import copy
import json
import shlex
import tarfile
from pathlib import Path
from typing import Any

from local_sagemaker.jobs.life import JobFailedError

HOST = "algo-1"
GROUP = "homogeneousCluster"

#: Hyperparameters the toolkit keeps to itself (sagemaker_training/params.py); every other sagemaker_* is a framework
#: parameter.
_RESERVED = {
    "sagemaker_program",
    "sagemaker_submit_directory",
    "sagemaker_region",
    "sagemaker_container_log_level",
    "sagemaker_job_name",
    "sagemaker_enable_cloudwatch_metrics",
    "sagemaker_s3_output",
    "default_user_module_name",
    "_tuning_objective_metric",
}

_MAX_MEMBERS = 10_000
_MAX_BYTES = 2 * 2**30


class OptMl:
    """The folders of one job's /opt/ml."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.config = base / "input/config"
        self.code = base / "code"
        self.model = base / "model"
        self.output = base / "output"
        self.output_data = base / "output/data"
        self.failure = base / "output/failure"
        self.tensors = base / "output/tensors"
        self.profiler = base / "output/profiler"
        self.checkpoints = base / "checkpoints"

    def channel(self, name: str) -> Path:
        return self.base / "input/data" / name

    def make(self) -> None:
        for folder in (self.config, self.base / "input/data", self.code, self.model, self.output_data):
            folder.mkdir(parents=True, exist_ok=True)

    def write_config(self, request: dict[str, Any]) -> None:
        """The files of /opt/ml/input/config that SageMaker writes for this request."""
        channels = {
            channel["ChannelName"]: {
                **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
                "TrainingInputMode": _input_mode(request, channel),
                "S3DistributionType": channel["DataSource"]
                .get("S3DataSource", {})
                .get("S3DataDistributionType", "FullyReplicated"),
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            }
            for channel in request.get("InputDataConfig", [])
        }
        self._write("hyperparameters", request.get("HyperParameters", {}))
        self._write("inputdataconfig", channels)
        self._write("resourceconfig", resource_config(request))
        if hook := request.get("DebugHookConfig"):
            path = self.tensors
            self._write("debughookconfig", {**_hook_defaults(hook), "LocalPath": str(path)})
        if "CheckpointConfig" in request:
            self._write("checkpointconfig", {**request["CheckpointConfig"], "LocalPath": str(self.checkpoints)})
            self.checkpoints.mkdir(exist_ok=True)
        profiler = request.get("ProfilerConfig")
        if profiler and not profiler.get("DisableProfiler"):
            profiler = copy.deepcopy(profiler)
            profiler.setdefault("ProfilingParameters", {})["LocalPath"] = str(self.profiler)
            self._write("profilerconfig", profiler)

    def _write(self, name: str, content: Any) -> None:
        (self.config / f"{name}.json").write_text(json.dumps(content))


def resource_config(request: dict[str, Any]) -> dict[str, Any]:
    instance_type = request["ResourceConfig"]["InstanceType"]
    return {
        "current_host": HOST,
        "current_instance_type": instance_type,
        "current_group_name": GROUP,
        "hosts": [HOST],
        "instance_groups": [{"instance_group_name": GROUP, "instance_type": instance_type, "hosts": [HOST]}],
        "network_interface_name": "lo",
    }


def decode(hyperparameters: dict[str, str]) -> dict[str, Any]:
    """Hyperparameters as the toolkit reads them: JSON where a value is JSON, else the raw string."""
    return {name: _json_or_text(value) for name, value in hyperparameters.items()}


def arguments(hyperparameters: dict[str, Any]) -> list[str]:
    """User hyperparameters as the script's command line, sorted by name (sagemaker_training/mapping.py)."""
    result = []
    for name, value in sorted(hyperparameters.items()):
        result += [f"-{name}" if len(name) == 1 else f"--{name}", _argument(value)]
    return result


def environment(opt_ml: OptMl, request: dict[str, Any], name: str, threads: int, gpus: int) -> dict[str, str]:
    """The SM_* variables of script mode. JSON values are compact with sorted keys; strings are raw, not quoted."""
    decoded = decode(request.get("HyperParameters", {}))
    user = {key: value for key, value in decoded.items() if not _is_framework(key)}
    framework = {key: value for key, value in decoded.items() if _is_framework(key) and key not in _RESERVED}
    resources = resource_config(request)
    channels = {
        item["ChannelName"]: str(opt_ml.channel(item["ChannelName"])) for item in request.get("InputDataConfig", [])
    }
    program = str(decoded.get("sagemaker_program", ""))
    plain: dict[str, Any] = {
        "MODEL_DIR": str(opt_ml.model),
        "OUTPUT_DIR": str(opt_ml.output),
        "OUTPUT_DATA_DIR": str(opt_ml.output_data),
        "OUTPUT_INTERMEDIATE_DIR": str(opt_ml.output / "intermediate"),
        "INPUT_DIR": str(opt_ml.base / "input"),
        "INPUT_CONFIG_DIR": str(opt_ml.config),
        "INPUT_DATA_CONFIG": json.loads((opt_ml.config / "inputdataconfig.json").read_text()),
        "CHANNELS": sorted(channels),
        "HPS": user,
        "HOSTS": resources["hosts"],
        "CURRENT_HOST": HOST,
        "CURRENT_INSTANCE_TYPE": resources["current_instance_type"],
        "CURRENT_INSTANCE_GROUP": GROUP,
        "CURRENT_INSTANCE_GROUP_HOSTS": resources["hosts"],
        "INSTANCE_GROUPS": [GROUP],
        "INSTANCE_GROUPS_DICT": {GROUP: resources["instance_groups"][0]},
        "IS_HETERO": False,
        "NETWORK_INTERFACE_NAME": resources["network_interface_name"],
        "RESOURCE_CONFIG": resources,
        "NUM_CPUS": threads,
        "NUM_GPUS": gpus,
        "NUM_NEURONS": 0,
        "LOG_LEVEL": decoded.get("sagemaker_container_log_level", 20),
        "FRAMEWORK_MODULE": "sagemaker_pytorch_container.training:main",
        "FRAMEWORK_PARAMS": framework,
        "MODULE_NAME": program.removesuffix(".py"),
        "MODULE_DIR": decoded.get("sagemaker_submit_directory", str(opt_ml.code)),
        "USER_ENTRY_POINT": program,
        "USER_ARGS": arguments(user),
    }
    everything = {key.lower(): value for key, value in plain.items()} | {"channel_input_dirs": channels}
    plain["TRAINING_ENV"] = everything
    plain |= {f"CHANNEL_{key.upper()}": path for key, path in channels.items()}
    plain |= {f"HP_{key.upper()}": value for key, value in user.items()}
    variables = {f"SM_{key}": value if isinstance(value, str) else _compact(value) for key, value in plain.items()}
    # The same switches the real containers have; debug and checkpoint libraries read their configuration there.
    for variable, file in (
        ("SMDEBUG_CONFIG_FILE_PATH", "debughookconfig"),
        ("SMPROFILER_CONFIG_PATH", "profilerconfig"),
        ("CHECKPOINT_CONFIG_FILE_PATH", "checkpointconfig"),
    ):
        variables[variable] = str(opt_ml.config / f"{file}.json")
    return variables | {
        "SAGEMAKER_BASE_DIR": str(opt_ml.base),
        "SAGEMAKER_JOB_NAME": name,
        "TRAINING_JOB_NAME": name,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "7777",
    }


def command(interpreter: str, request: dict[str, Any], code: Path) -> list[str]:
    """What a script-mode job runs in the code folder: `python train.py --epochs 3`, or a shell script with them.

    Raises JobFailedError when the program is missing or its name would leave the folder.
    """
    decoded = decode(request.get("HyperParameters", {}))
    program = str(decoded.get("sagemaker_program") or request.get("Environment", {}).get("SAGEMAKER_PROGRAM", ""))
    if not program:
        raise JobFailedError(
            "ClientError: hyperparameter 'sagemaker_program' is missing; local_sagemaker runs script mode: name the "
            "training script there and its sourcedir.tar.gz in 'sagemaker_submit_directory'"
        )
    path = (code / program).resolve()
    if not path.is_relative_to(code.resolve()) or program.startswith(("-", "/")):
        raise JobFailedError(f"ClientError: sagemaker_program '{program}' must be a relative path inside the source")
    if not path.is_file():
        held = ", ".join(sorted(item.name for item in code.iterdir())[:10]) or "nothing"
        raise JobFailedError(f"ClientError: sagemaker_program '{program}' is not in the source archive (it has {held})")
    user = arguments({key: value for key, value in decoded.items() if not _is_framework(key)})
    if program.endswith(".py"):
        return [interpreter, program, *user]
    return ["/bin/sh", "-c", f"./{shlex.quote(program)} {shlex.join(user)}".strip()]


def unpack(archive: Path, folder: Path, what: str) -> None:
    """Unpack a .tar.gz of files and folders; anything else in it refuses the archive whole.

    Links, devices and paths that leave the folder are how archives attack (CVE-2007-4559 and its successors), and the
    standard library's own filter has been bypassed repeatedly, so nothing but regular files gets through.
    """
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                target = (folder / member.name).resolve()
                if not (member.isfile() or member.isdir()) or not target.is_relative_to(folder.resolve()):
                    raise JobFailedError(f"ClientError: {what} holds '{member.name}', which is not a plain file inside")
            if len(members) > _MAX_MEMBERS or sum(member.size for member in members) > _MAX_BYTES:
                raise JobFailedError(f"ClientError: {what} is larger than {_MAX_MEMBERS} files or {_MAX_BYTES} bytes")
            tar.extractall(folder, members=members, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise JobFailedError(f"ClientError: {what} is not a readable .tar.gz: {error}") from error


def pack(folder: Path, archive: Path) -> None:
    """`folder` as a .tar.gz with its files at the root."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)


def _is_framework(name: str) -> bool:
    return name in _RESERVED or name.startswith("sagemaker_")


def _input_mode(request: dict[str, Any], channel: dict[str, Any]) -> str:
    return str(channel.get("InputMode") or request["AlgorithmSpecification"].get("TrainingInputMode", "File"))


def _hook_defaults(hook: dict[str, Any]) -> dict[str, Any]:
    return {"HookParameters": None, "CollectionConfigurations": None, **hook}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _argument(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return str(value)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
