"""The file that torchvision means by a network's name, from its cache or from its makers' server."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from retraining.download import download
from retraining.environment import REPOSITORY
from retraining.pretrained.weights_file import MAX_BYTES, WeightsError

# The very weights that `weights: imagenet` takes: ml/network/model.py asks for DEFAULT too.
ASK = "import sys; from torchvision.models import get_model_weights as w; print(w(sys.argv[1]).DEFAULT.url)"
ALTERNATIVE = "Download the file where there is a network, and name it instead."


def default_python() -> Path:
    """An interpreter with torchvision: that of ml/ in this checkout, else this one."""
    of_ml = REPOSITORY / ".venv/ml/bin/python"
    return of_ml if of_ml.exists() else Path(sys.executable)


def fetch_torchvision(architecture: str, folder: Path, python: Path) -> Path:
    """The file, checked by the digest in its name; WeightsError or DownloadError say what is in the way."""
    url = _address(architecture, python)
    name = PurePosixPath(urlparse(url).path).name
    cached = _cache() / name
    if cached.is_file() and _is_whole(cached):
        return cached
    target = folder / name
    download(url, target, MAX_BYTES)
    if not _is_whole(target):
        raise WeightsError(f"{url} has not the digest that its name promises. {ALTERNATIVE}")
    return target


def _address(architecture: str, python: Path) -> str:
    answer = subprocess.run([str(python), "-c", ASK, architecture], capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        return answer.stdout.strip()
    why = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
    if "ModuleNotFoundError" in why:
        raise WeightsError(f"{python} has no torchvision; name an interpreter that has by --python. {ALTERNATIVE}")
    raise WeightsError(f"torchvision has no weights of {architecture!r} ({why}). Name a network such as resnet34.")


def _cache() -> Path:
    """Where torch.hub keeps downloads."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torch"
    return Path(home) / "hub/checkpoints"


def _is_whole(path: Path) -> bool:
    """torch.hub's rule: a name such as resnet34-b627a593.pth holds the beginning of the sha256."""
    promised = re.search(r"-([0-9a-f]{8,})\.", path.name)
    with path.open("rb") as body:
        return promised is not None and hashlib.file_digest(body, "sha256").hexdigest().startswith(promised[1])
