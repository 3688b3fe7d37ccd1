"""Script mode: what a user's training script is started with, its command line and the SM_* environment.

This is the contract of the SageMaker training toolkit (sagemaker-training 5.1), written anew because the toolkit and
smdebug cannot share an interpreter. Not covered: a source with a setup.py is not installed, its folder is importable
instead (and `src/` in it), so packages it requires must be named in requirements.txt.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

from local_sagemaker.failures import JobFailedError
from local_sagemaker.jobs import cluster, opt_ml
from local_sagemaker.jobs.cluster import Host
from local_sagemaker.jobs.opt_ml import OptMl

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

# sagemaker_training 5.1: relative, no segment `.` or `..`, nothing a shell would read.
_PROGRAM = re.compile(r"(?!-)[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*")


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    """The part of a request that script mode is about, decoded."""

    program: str
    """Path of the script in the source, `train.py`; empty when the request names none."""
    source: str
    """sagemaker_submit_directory: `s3://…/sourcedir.tar.gz`, a folder of a channel, or empty."""
    hyperparameters: dict[str, Any]
    """The user's own."""
    framework: dict[str, Any]
    """sagemaker_* hyperparameters that are not the toolkit's own."""
    settings: dict[str, Any]
    """The toolkit's own hyperparameters."""

    @classmethod
    def of(cls, request: dict[str, Any]) -> Script:
        """From HyperParameters (of a tuning job's definition: StaticHyperParameters), else from Environment."""
        decoded = decode(request.get("HyperParameters") or request.get("StaticHyperParameters") or {})
        environment: dict[str, str] = request.get("Environment", {})
        return cls(
            program=str(decoded.get("sagemaker_program") or environment.get("SAGEMAKER_PROGRAM", "")),
            source=str(decoded.get("sagemaker_submit_directory") or environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")),
            hyperparameters={key: value for key, value in decoded.items() if not _is_framework(key)},
            framework={key: value for key, value in decoded.items() if _is_framework(key) and key not in _RESERVED},
            settings={key: value for key, value in decoded.items() if key in _RESERVED},
        )

    @property
    def arguments(self) -> list[str]:
        return arguments(self.hyperparameters)

    def enabled(self, name: str) -> bool:
        """Whether a framework parameter such as sagemaker_mpi_enabled is on; "true" and "True" are both in use."""
        return str(self.framework.get(name, "")).lower() == "true"

    @property
    def intermediate_output(self) -> str | None:
        """Where output/intermediate goes while the job runs; None when the request asks for no such copy."""
        return self.settings.get("sagemaker_s3_output")


def check_program(program: str) -> None:
    """Raises JobFailedError, as the toolkit does, for a name that could leave the source or be read as an option."""
    if not _PROGRAM.fullmatch(program) or {".", ".."} & set(program.split("/")):
        raise JobFailedError(
            f"ClientError: sagemaker_program '{program}' must be a relative path inside the source, of letters, "
            "digits and . _ + - / with no leading '-' or '/' and no '.' or '..' between slashes"
        )


def decode(hyperparameters: dict[str, str]) -> dict[str, Any]:
    """Hyperparameters as the toolkit reads them: JSON where a value is JSON, else the raw string."""
    return {name: _json_or_text(value) for name, value in hyperparameters.items()}


def arguments(hyperparameters: dict[str, Any]) -> list[str]:
    """User hyperparameters as the script's command line, sorted by name (sagemaker_training/mapping.py)."""
    result = []
    for name, value in sorted(hyperparameters.items()):
        result += [f"-{name}" if len(name) == 1 else f"--{name}", _argument(value)]
    return result


def kind(code: Path, program: str) -> str:
    """How the toolkit runs it: `package` (the source has a setup.py), `program` (*.py), else `command`."""
    if (code / "setup.py").is_file():
        return "package"
    return "program" if program.endswith(".py") else "command"


def command(interpreter: str, script: Script, code: Path) -> list[str]:
    """What a script-mode job runs in the code folder: `python train.py --epochs 3`, or a shell script with them.

    Raises JobFailedError when the program is missing or its name would leave the folder.
    """
    program = script.program
    check_program(program)
    path = code / program
    if not path.is_file() or not path.resolve().is_relative_to(code.resolve()):
        held = ", ".join(sorted(item.name for item in code.iterdir())[:10]) or "nothing"
        raise JobFailedError(f"ClientError: sagemaker_program '{program}' is not in the source archive (it has {held})")
    match kind(code, program):
        case "package":
            return [interpreter, "-m", program.removesuffix(".py").replace("/", "."), *script.arguments]
        case "program":
            return [interpreter, program, *script.arguments]
    path.chmod(0o755)
    return ["/bin/sh", "-c", f"./{shlex.quote(program)} {shlex.join(script.arguments)}".strip()]


def python_path(folders: OptMl) -> str:
    paths = [folders.code, *([folders.code / "src"] if (folders.code / "src").is_dir() else [])]
    return ":".join(folders.as_shown(path) for path in paths)


def environment(
    folders: OptMl,
    request: dict[str, Any],
    *,
    num_cpus: int,
    num_gpus: int,
    hosts: list[Host] | None = None,
    current: Host | None = None,
    master_port: int = 7777,
) -> dict[str, str]:
    """The SM_* variables of script mode on one host, without `hosts` on the job's first one.

    JSON values are compact with sorted keys; strings are raw, not quoted. All hosts are this machine, so the master's
    address is the loopback; the port is the job's own, for several jobs share the machine.
    """
    hosts = hosts or cluster.hosts(request)
    current = current or hosts[0]
    script = Script.of(request)
    resources = cluster.resource_config(hosts, current)
    groups = {group["instance_group_name"]: group for group in resources["instance_groups"]}
    inputs = opt_ml.input_data_config(request, current)
    channels = {name: folders.as_shown(folders.channel(name)) for name in inputs}
    plain: dict[str, Any] = {
        "MODEL_DIR": folders.as_shown(folders.model),
        "OUTPUT_DIR": folders.as_shown(folders.output),
        "OUTPUT_DATA_DIR": folders.as_shown(folders.output_data),
        "OUTPUT_INTERMEDIATE_DIR": folders.as_shown(folders.intermediate),
        "INPUT_DIR": folders.as_shown(folders.base / "input"),
        "INPUT_CONFIG_DIR": folders.as_shown(folders.config),
        "INPUT_DATA_CONFIG": inputs,
        "CHANNELS": sorted(channels),
        "HPS": script.hyperparameters,
        "HOSTS": resources["hosts"],
        "CURRENT_HOST": current.name,
        "CURRENT_INSTANCE_TYPE": current.instance_type,
        "CURRENT_INSTANCE_GROUP": current.group,
        "CURRENT_INSTANCE_GROUP_HOSTS": groups[current.group]["hosts"],
        "INSTANCE_GROUPS": list(groups),
        "INSTANCE_GROUPS_DICT": groups,
        "DISTRIBUTION_INSTANCE_GROUPS": distribution_groups(script, current),
        "IS_HETERO": len(groups) > 1,
        "NETWORK_INTERFACE_NAME": resources["network_interface_name"],
        "RESOURCE_CONFIG": resources,
        "NUM_CPUS": num_cpus,
        "NUM_GPUS": num_gpus,
        "NUM_NEURONS": 0,
        "LOG_LEVEL": script.settings.get("sagemaker_container_log_level", 20),
        "FRAMEWORK_MODULE": "sagemaker_pytorch_container.training:main",
        "FRAMEWORK_PARAMS": script.framework,
        "MODULE_NAME": script.program.removesuffix(".py"),
        "MODULE_DIR": script.source or folders.as_shown(folders.code),
        "USER_ENTRY_POINT": script.program,
        "USER_ARGS": script.arguments,
    }
    name = request.get("TrainingJobName", "")
    details = {
        "channel_input_dirs": channels,
        "additional_framework_parameters": script.framework,
        "hyperparameters": script.hyperparameters,
        "job_name": name,
        "is_master": current == hosts[0],
        "master_hostname": hosts[0].name,
    }
    plain["TRAINING_ENV"] = {key.lower(): value for key, value in plain.items()} | details
    plain |= {f"CHANNEL_{key.upper()}": path for key, path in channels.items()}
    plain |= {f"HP_{key.upper()}": value for key, value in script.hyperparameters.items()}
    variables = {f"SM_{key}": _variable(value) for key, value in plain.items()}
    # The same switches the real containers have; debug and checkpoint libraries read their configuration there.
    for variable, file in (
        ("SMDEBUG_CONFIG_FILE_PATH", "debughookconfig"),
        ("SMPROFILER_CONFIG_PATH", "profilerconfig"),
        ("TENSORBOARD_CONFIG_FILE_PATH", "tensorboardoutputconfig"),
        ("CHECKPOINT_CONFIG_FILE_PATH", "checkpointconfig"),
    ):
        variables[variable] = folders.as_shown(folders.config / f"{file}.json")
    return variables | {
        "SAGEMAKER_BASE_DIR": str(folders.shown),
        "SAGEMAKER_JOB_NAME": name,
        "TRAINING_JOB_NAME": name,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(master_port),
    }


def distribution_groups(script: Script, current: Host) -> list[str]:
    """The instance groups a distribution runs on: as the request says, else the host's own when one is enabled."""
    if named := script.framework.get("sagemaker_distribution_instance_groups"):
        return [str(name) for name in named] if isinstance(named, list) else [str(named)]
    on = any(name.endswith("_enabled") and script.enabled(name) for name in script.framework)
    return [current.group] if on else []


def _is_framework(name: str) -> bool:
    return name in _RESERVED or name.startswith("sagemaker_")


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _argument(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in sorted(value.items()))
    return str(value)


def _variable(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
