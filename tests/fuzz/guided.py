"""One target under Atheris, which keeps what reaches new code: `python -m tests.fuzz.guided INTERPRETER TARGET …`.

A process of its own for each target: what crashes, hangs or grows takes only itself along. libFuzzer writes the input
that did it into the folder of findings.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import atheris
import psutil

HANG_S = 10
MAX_RSS_MB = 1500
SETTLED = 1000
"""Executions after which memory is measured for the first time: all modules are loaded by then."""


class Measured:
    """The reader, and what it took: written down as it goes, because libFuzzer ends the process without a goodbye."""

    def __init__(self, read, figures: Path) -> None:
        self._read, self._figures = read, figures
        self._executions = 0
        self._slowest_s = 0.0
        self._settled_mb = 0.0
        self._process = psutil.Process()
        self._written = 0.0

    def __call__(self, body: bytes) -> None:
        began = time.process_time()
        self._read(body)
        self._slowest_s = max(self._slowest_s, time.process_time() - began)
        self._executions += 1
        if self._executions == SETTLED:
            self._settled_mb = self._rss_mb()
        if time.monotonic() - self._written > 1:
            self._written = time.monotonic()
            figures = {
                "executions": self._executions,
                "slowest_s": round(self._slowest_s, 3),
                "rss_settled_mb": round(self._settled_mb),
                "rss_mb": round(self._rss_mb()),
            }
            self._figures.write_text(json.dumps(figures))

    def _rss_mb(self) -> float:
        return self._process.memory_info().rss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interpreter")
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--findings", type=Path, required=True)
    parser.add_argument("--figures", type=Path, required=True)
    options = parser.parse_args()
    ours = [
        "retraining",
        "local_sagemaker",
        *(path.stem for path in Path("ml").iterdir() if not path.stem.startswith("_")),
    ]
    with atheris.instrument_imports(include=[*ours, "tarfile", "zipfile", "pickle"]):
        from tests.fuzz.registry import targets

        target = targets(options.interpreter)[options.target]
    for folder in (options.corpus, options.findings):
        folder.mkdir(parents=True, exist_ok=True)
    for number, body in enumerate([*target.seeds(), *target.found()]):
        (options.corpus / f"seed-{number}").write_bytes(body)
    words = options.figures.with_suffix(".dict")
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    settings = [
        f"-max_total_time={options.seconds}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={MAX_RSS_MB}",
        f"-max_len={target.max_bytes}",
        f"-artifact_prefix={options.findings}/",
        "-verbosity=0",
    ]
    if target.words:  # an empty dictionary is an error to libFuzzer
        settings.append(f"-dict={words}")
    atheris.Setup([sys.argv[0], *settings, str(options.corpus)], Measured(target.read, options.figures))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
