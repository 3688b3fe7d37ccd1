"""A container without one: the interpreter that stands in for its image, and a process started as it would start there.

What runs in it, and what it finds in its folders and in its environment beyond this, its job knows.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from local_sagemaker.failures import JobFailedError
from local_sagemaker.sandbox import packages
from local_sagemaker.sandbox.environment import process_environment, role_environment
from local_sagemaker.sandbox.images import Image, ImageMap
from local_sagemaker.sandbox.isolation import CONTAINER_BASE, Isolation
from local_sagemaker.sandbox.process import JobProcess
from local_sagemaker.settings import Settings


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """Of one image. A job has one for all its hosts: what differs between them is given to its methods."""

    image: Image
    isolation: Isolation
    settings: Settings
    network_isolation: bool
    """Neither a network nor the role's credentials."""

    @classmethod
    def of(
        cls,
        uri: str,
        images: ImageMap,
        isolation: Isolation,
        settings: Settings,
        *,
        network_isolation: bool = False,
        program: Literal["serve", "rules"] | None = None,
    ) -> Container:
        """Raises JobFailedError when no entry of the image map stands in for `uri`, or one without the `program`."""
        image = images.find(uri)
        if image is None or (program == "rules" and image.rules is None):
            needed = f" with '{program}'" if program else ""
            raise JobFailedError(f"ClientError: {images.explain(uri)}{needed}")
        if program == "serve" and image.serve is None:
            raise JobFailedError(
                f"ClientError: the entry for {', '.join(image.match)} in images.toml has no 'serve'; add a model server"
            )
        return cls(image=image, isolation=isolation, settings=settings, network_isolation=network_isolation)

    def interpreter(
        self, requirements: Path | None, say: Callable[[str], None], stop: threading.Event | None = None
    ) -> str:
        """The image's interpreter, or one that has what a requirements.txt (if it is there) asks for beyond it.

        Raises JobFailedError when that cannot be installed, packages.StoppedError when `stop` was set meanwhile.
        """
        if requirements is None or not requirements.is_file():
            return self.image.interpreter
        return packages.interpreter_for(
            self.settings.root,
            self.isolation,
            self.image.interpreter,
            requirements,
            say,
            network_isolation=self.network_isolation,
            stop=stop,
        )

    def environment(self, interpreter: str, folder: Path, num_threads: int, base: Path | None = None) -> dict[str, str]:
        """What every process finds: paths below `folder`, its temporary folder, which is made here, and the role.

        `base` is the folder that it is to see as /opt/ml, if any. Temporary files lie there: the socket that
        multiprocessing makes for the workers of a DataLoader may have a path of 107 characters at most.
        """
        temporary = (base or folder) / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        shown = self.isolation.base(base) / "tmp" if base else temporary
        return {
            **process_environment(interpreter, folder, shown, num_threads),
            **role_environment(self.settings, network_isolation=self.network_isolation),
        }

    def start(
        self,
        command: list[str],
        *,
        environment: dict[str, str],
        cwd: Path,
        folder: Path,
        nice: int,
        mounts: Mapping[str, Path] | None = None,
        read_only: Collection[str] = (),
        relay_port: int | None = None,
    ) -> JobProcess:
        """Start a process that sees the `mounts`, where that is possible; `folder` keeps what is known of it.

        See Isolation.command for mounts and `relay_port`. Raises what JobProcess.start raises.
        """
        isolated = self.isolation.command(
            command,
            mounts=mounts or {},
            network_isolation=self.network_isolation,
            read_only=read_only,
            relay_port=relay_port,
        )
        return JobProcess.start(isolated, environment=environment, cwd=cwd, folder=folder, nice=nice)


def moved(word: str, base: Path) -> str:
    """A path below the container's /opt/ml, below `base` instead; any other word as it is."""
    if word == CONTAINER_BASE or word.startswith(f"{CONTAINER_BASE}/"):
        return str(base) + word.removeprefix(CONTAINER_BASE)
    return word
