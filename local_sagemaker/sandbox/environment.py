"""What every process of a job finds in its environment. Built from nothing: the server's own stays out."""

from __future__ import annotations

import os
from pathlib import Path

from local_sagemaker.sandbox.cores import thread_environment
from local_sagemaker.settings import Settings


def process_environment(interpreter: str, folder: Path, temporary: Path, num_threads: int) -> dict[str, str]:
    """The plain part: paths below the job's `folder`, where it sees its `temporary` folder, its share of threads."""
    return {
        "PATH": ":".join([*_programs(interpreter), os.defpath]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        **thread_environment(num_threads),
    }


def _programs(interpreter: str) -> list[str]:
    """The folders of an interpreter's programs: those of what was installed for the job, and those below it."""
    parent = parent_of(interpreter)
    return [str(Path(name).parent) for name in (interpreter, parent) if name]


def parent_of(interpreter: str) -> str | None:
    """The interpreter whose packages an environment made for a requirements.txt adds to; None for any other one."""
    try:
        return (Path(interpreter).parents[1] / "parent").read_text()
    except (OSError, IndexError, UnicodeDecodeError):
        return None


def role_environment(settings: Settings, *, network_isolation: bool) -> dict[str, str]:
    """The region, and the role's credentials as a container has them. With network isolation SageMaker gives none."""
    region = {"AWS_REGION": settings.region, "SAGEMAKER_REGION": settings.region}
    if network_isolation:
        return region
    return region | {
        "AWS_ACCESS_KEY_ID": settings.access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.secret_access_key,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_ENDPOINT_URL": settings.url,
        **({"AWS_ENDPOINT_URL_S3": settings.s3_endpoint} if settings.s3_endpoint else {}),
    }
