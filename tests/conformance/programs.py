"""User programs of a client, run beside the tests in the interpreter that a user of the client would have.

Clients poll seldom (the SDK looks at a job every 10 s, at an endpoint every 30 s), so the programs of the chosen tests
all start at once, in the background, and each test waits for the one it is about.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: Client → interpreter, and what each of its programs imports anyway.
CLIENTS = {
    "sdk2": (
        ".venv/sdk2",
        ("sagemaker", "sagemaker.pytorch", "sagemaker.tuner", "sagemaker.processing", "pandas", "schema_once"),
    ),
    "sdk3": (".venv/airflow", ("sagemaker.train.model_trainer", "sagemaker.core.resources")),
    "airflow": (".venv/airflow", ("airflow.providers.amazon.aws.operators.sagemaker",)),
    "smdebug": (".venv/ml", ("torch", "smdebug.pytorch")),
}
PARALLEL = 8
ERROR_LINE = re.compile(r"(\w+: )?[\w.]*(Error|Exception|Unavailable\w*): ")
LIMIT_S = 300.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an ended program printed. A line `RESULT {…}` on its stdout is a result; later ones add to it."""

    program: str
    exit_code: int
    stdout: str
    stderr: str

    @property
    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for line in self.stdout.splitlines():
            if "RESULT {" in line:  # progress bars leave their last line open
                found |= json.loads(line[line.index("RESULT {") + len("RESULT ") :])
        return found

    def __getitem__(self, name: str) -> Any:
        assert name in self.results, self.explain()
        return self.results[name]

    def explain(self) -> str:
        """The program's own last word first: the line that says which exception ended it."""
        why = f"not done within {LIMIT_S:.0f} s" if self.exit_code == -signal.SIGKILL else self._last_error()
        return f"{why}\n{self.program} ended with {self.exit_code}\n{self.stdout[-3000:]}\n{self.stderr[-6000:]}"

    def _last_error(self) -> str:
        """Some clients print their tracebacks to stdout."""
        lines = [line for line in (self.stdout + "\n" + self.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if ERROR_LINE.match(line)]
        return (errors or lines or ["it printed nothing"])[-1]


class Programs:
    """The chosen programs, started when this is made."""

    def __init__(self, programs: Iterable[str], environment: Mapping[str, str], folder: Path) -> None:
        self._outcomes: dict[str, Future[Outcome]] = {program: Future() for program in programs}
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        for client in sorted({program.partition("/")[0] for program in self._outcomes}):
            self._start(client, dict(environment))

    def outcome(self, program: str) -> Outcome:
        """Waits for the program's end."""
        return self._outcomes[program].result(timeout=LIMIT_S * 3)

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _start(self, client: str, environment: dict[str, str]) -> None:
        interpreter, modules = CLIENTS[client]
        python = ROOT / interpreter / "bin/python"
        assert python.exists(), f"{interpreter} is not there; `make {interpreter}/.installed` makes it"
        folder = self._folder / client
        folder.mkdir(parents=True)
        with (folder / "stderr").open("wb") as errors:
            process = subprocess.Popen(
                [str(python), str(HERE / "warm.py"), str(PARALLEL), *modules],
                env=os.environ | environment | {"COLUMNS": "400"},  # the SDK wraps its own error messages
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._processes.append(process)
        mine = [program for program in self._outcomes if program.startswith(f"{client}/")]
        requests = [self._request(program) for program in mine]
        assert process.stdin
        process.stdin.write("".join(json.dumps(request) + "\n" for request in requests).encode())
        process.stdin.close()
        threading.Thread(target=self._collect, args=(process, mine, folder / "stderr"), daemon=True).start()

    def _request(self, program: str) -> dict[str, Any]:
        folder = self._output(program)
        folder.mkdir(parents=True)
        return {"program": str(HERE / program), "folder": str(folder), "limit_s": LIMIT_S}

    def _output(self, program: str) -> Path:
        return self._folder / program.removesuffix(".py")

    def _collect(self, process: subprocess.Popen[bytes], programs: list[str], errors: Path) -> None:
        assert process.stdout
        with process.stdout as printed:
            for line in printed:
                ended = json.loads(line)
                program = str(Path(ended["program"]).relative_to(HERE))
                self._outcomes[program].set_result(self._read(program, ended["exit"]))
        for program in programs:  # the interpreter itself did not even start, or was killed
            if not self._outcomes[program].done():
                message = errors.read_text(errors="replace")
                self._outcomes[program].set_result(Outcome(program, process.wait(), "", message))

    def _read(self, program: str, exit_code: int) -> Outcome:
        folder = self._output(program)
        texts = [(folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        return Outcome(program, exit_code, *texts)
