"""Distributions of script mode: which launcher starts the script on each host.

`torch_distributed` and `pytorchddp` are started with torchrun; all hosts are this machine, so every job meets at a port
of its own on the loopback. What needs a cluster's own software (MPI, smdistributed, parameter servers) is not here.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from local_sagemaker.failures import JobFailedError
from local_sagemaker.jobs import cluster, script
from local_sagemaker.jobs.cluster import Host
from local_sagemaker.jobs.script import Script

#: What torchrun can honestly do.
TORCHRUN = ("sagemaker_torch_distributed_enabled", "sagemaker_pytorch_ddp_enabled")

#: What it cannot, with the software it would take.
NOT_HERE = {
    "sagemaker_mpi_enabled": "MPI (mpirun over ssh between the hosts)",
    "sagemaker_distributed_dataparallel_enabled": "the smdistributed data parallel library",
    "sagemaker_parameter_server_enabled": "TensorFlow parameter servers",
    "sagemaker_multi_worker_mirrored_strategy_enabled": "TensorFlow's multi-worker strategy",
    "sagemaker_pytorch_xla_multi_worker_enabled": "PyTorch XLA workers",
}


def enabled(wanted: Script) -> bool:
    return any(wanted.enabled(name) for name in TORCHRUN)


def command(
    interpreter: str, wanted: Script, code: Path, hosts: list[Host], current: Host, *, gpus: int, master_port: int
) -> list[str]:
    """How one host starts the script. Hosts outside the distribution's instance groups run it plainly, as on AWS.

    Raises JobFailedError for a source that torchrun cannot run.
    """
    plain = script.command(interpreter, wanted, code)
    groups = script.distribution_groups(wanted, current)
    members = cluster.in_groups(hosts, groups)
    if not enabled(wanted) or current not in members:
        return plain
    if script.kind(code, wanted.program) != "program":
        raise JobFailedError(
            f"ClientError: torch_distributed runs Python programs only; '{wanted.program}' is a "
            f"{script.kind(code, wanted.program)}: name a .py file in a source without setup.py"
        )
    launcher = ["-m", "torch.distributed.run", "--nnodes", str(len(members)), "--nproc_per_node", str(max(1, gpus))]
    meeting = [
        "--master_addr",
        "127.0.0.1",
        "--master_port",
        str(master_port),
        "--node_rank",
        str(members.index(current)),
    ]
    return [interpreter, *launcher, *meeting, *plain[1:]]


_lock = threading.Lock()
_recent: list[int] = []


def free_port() -> int:
    """A port of the loopback that nothing listens on and that none of the last jobs was given."""
    with _lock:
        for _ in range(100):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in _recent:
                break
        _recent[:] = [*_recent[-200:], port]
        return port
