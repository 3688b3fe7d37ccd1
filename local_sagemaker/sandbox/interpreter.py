"""What an interpreter says of itself."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from local_sagemaker.failures import JobFailedError

_PATIENCE_S = 60.0


def asked(interpreter: str, question: str, failing: str) -> Any:
    """The JSON that `question`, a program, prints there: alone, with nothing of this server's environment.

    Raises JobFailedError, with `failing` for what then cannot be done.
    """
    try:
        said = subprocess.run(
            [interpreter, "-I", "-c", question],
            capture_output=True,
            timeout=_PATIENCE_S,
            check=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
        ).stdout
        return json.loads(said)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise JobFailedError(f"InternalServerError: {failing}: {error}") from error
