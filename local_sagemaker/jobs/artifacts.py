"""What a job leaves in S3: the model and the output data of all its hosts.

The hosts' folders become one, as on AWS. Where two hosts wrote a file of the same name, that of the first host in the
order of their names is kept (AWS does not say which one it keeps), and the job's log says so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_sagemaker import s3
from local_sagemaker.failures import JobFailedError
from local_sagemaker.jobs.opt_ml import OptMl
from local_sagemaker.s3 import ObjectStore
from local_sagemaker.sandbox import archives, left_file

_SHOWN = {"model": "/opt/ml/model (SM_MODEL_DIR)", "output": "/opt/ml/output/data (SM_OUTPUT_DATA_DIR)"}


def model_uri(request: dict[str, Any]) -> str:
    """ModelArtifacts.S3ModelArtifacts, known from the start: model.tar.gz, or with CompressionType NONE a prefix."""
    return _output(request, "model/") if _uncompressed(request) else _output(request, "model.tar.gz")


def upload(
    store: ObjectStore, request: dict[str, Any], hosts: list[OptMl], folder: Path, say: Callable[[str], None]
) -> None:
    """Upload the model and the output data, if there are any. A script that saves nothing leaves no artifact, as on
    AWS, and CreateModel says so. `folder` is room for the archives.

    With CompressionType NONE the files lie below output/model/ and output/data/; the latter could not be verified.
    """
    for name, folders in (("model", [host.model for host in hosts]), ("output", [host.output_data for host in hosts])):
        for left in folders:
            if what := left_file.not_a_folder(left):
                raise JobFailedError(f"AlgorithmError: {_SHOWN[name]} must be a folder, and the job left {what} there")
            left.mkdir(parents=True, exist_ok=True)  # a job may have removed it
        merged = merge(folders, say)
        if not any(merged.iterdir()):
            continue
        if _uncompressed(request):
            target = _output(request, "model" if name == "model" else "data")
            store.upload_files(merged, [path for path, _ in s3.walk(merged)], target)
            continue
        archive = folder / f"{name}.tar.gz"
        archives.pack(merged, archive)
        store.upload_file(archive, _output(request, archive.name))


def merge(folders: list[Path], say: Callable[[str], None]) -> Path:
    """The hosts' folders as one: the files of the others are moved into the first."""
    first, *others = folders
    for other in others:
        kept = 0
        for root, _, names in os.walk(other):
            for name in names:
                path = Path(root, name)
                target = first / path.relative_to(other)
                if target.exists() or target.is_symlink():
                    kept += 1
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target)
        if kept:
            say(f"{kept} files of {other} have the names of files of other hosts and are left out")
    return first


def _uncompressed(request: dict[str, Any]) -> bool:
    return bool(request["OutputDataConfig"].get("CompressionType") == "NONE")


def _output(request: dict[str, Any], name: str) -> str:
    return s3.join(request["OutputDataConfig"]["S3OutputPath"], request["TrainingJobName"], "output", name)
