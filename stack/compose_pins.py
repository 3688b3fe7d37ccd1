"""Which build of a base image docker-compose.yaml builds on: written down in `.env` by digest, where it names a tag."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from stack.errors import StackError

# ${POSTGRES_IMAGE:-postgres:16}
NAMED = re.compile(r"\$\{(\w+_IMAGE):-([^}\s]+)\}")
PULL_WITHIN_S = 1800


def write_pins(compose_file: Path, environment_file: Path, say: Callable[[str], None]) -> int:
    """Fetches each base image, as `docker compose` would, and sets its variable to what was fetched.

    StackError where there is no `.env`, no Docker, or an image that was made on this machine and has no digest.
    """
    if not environment_file.exists():
        raise StackError(f"There is no {environment_file} yet. Write it by `make compose-env`.")
    pins = {name: digest_of(tag) for name, tag in NAMED.findall(compose_file.read_text())}
    kept = [line for line in environment_file.read_text().splitlines() if line.partition("=")[0] not in pins]
    environment_file.write_text("\n".join([*kept, *(f"{name}={digest}" for name, digest in pins.items()), ""]))
    for name, digest in pins.items():
        say(f"{name}={digest}")
    say("Next: docker compose up --build --wait. A newer build is taken when this is run again.")
    return 0


def digest_of(tag: str) -> str:
    """`postgres:16` → `postgres@sha256:…`, the manifest that the tag stands for now."""
    _docker("pull", "--quiet", tag)
    digests = json.loads(_docker("image", "inspect", "--format", "{{json .RepoDigests}}", tag))
    if not digests:
        raise StackError(f"{tag} was made on this machine: it comes from no registry, and has no digest to name it by.")
    return str(digests[0])


def _docker(*arguments: str) -> str:
    command = ["docker", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PULL_WITHIN_S, check=False)
    except FileNotFoundError as error:
        raise StackError("There is no `docker` on this machine, which knows the digests of images.") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"`{' '.join(command)}` took more than {PULL_WITHIN_S} seconds.") from error
    if done.returncode:
        raise StackError(f"`{' '.join(command)}` failed: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout
