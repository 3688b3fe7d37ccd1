"""One host of a running training job: its folder, its process group, its log stream."""

from __future__ import annotations

import time
from pathlib import Path

from local_sagemaker.jobs.cluster import Host
from local_sagemaker.jobs.opt_ml import OptMl
from local_sagemaker.sandbox import cores, left_file, short_path
from local_sagemaker.sandbox.container import Container
from local_sagemaker.sandbox.process import JobProcess, OutputTail, output_path, printed_bytes


class HostProcess:
    """Not thread-safe: the job's thread owns it."""

    def __init__(self, job_folder: Path, host: Host, shown: Path | None, log_stream: str, lines_known: int = 0) -> None:
        """`lines_known` of what it printed are in the log stream already: an earlier server put them there."""
        self.host = host
        self.folder = job_folder / host.name
        self.opt_ml = OptMl(self.folder / "opt/ml", shown)
        self.log_stream = log_stream
        self.last_lines: list[str] = []
        self._process_folder = self.folder / "process"
        self._tail = OutputTail(output_path(self._process_folder))
        self._known = lines_known
        self._process: JobProcess | None = None
        self._code: int | None = None
        self._seen_at = 0.0

    @property
    def was_started(self) -> bool:
        """Whether an attempt, perhaps under an earlier server, came as far as starting a process."""
        return self._process_folder.exists()

    def adopt(self) -> bool:
        """Take over the process that an earlier server started; False when it is gone and left no exit code."""
        self._process = JobProcess.adopt(self._process_folder)
        return self._process is not None

    def environment(self, container: Container, interpreter: str, num_threads: int) -> dict[str, str]:
        """What its processes find whatever the job is; see Container.environment."""
        plain = container.environment(interpreter, self.folder, num_threads, self.opt_ml.base)
        temporary = short_path.of(Path(plain["TMPDIR"]), container.settings.root)
        return plain | {"TMPDIR": str(temporary)}

    def start(
        self,
        container: Container,
        command: list[str],
        environment: dict[str, str],
        *,
        mounts: dict[str, Path],
        hosts: list[HostProcess],
    ) -> None:
        """`hosts` are all hosts of the job, which know each other by name. Raises what Container.start raises."""
        if container.isolation.mounts:
            names = [other.host.name for other in hosts]
            mounts = mounts | {"/etc/hosts": _write_hosts_file(self.folder / "hosts", names)}
        self._process = container.start(
            command,
            environment=environment,
            cwd=self.opt_ml.code,
            folder=self._process_folder,
            nice=cores.NICE_TRAINING,
            mounts=mounts,
        )

    def wait(self, timeout_s: float) -> None:
        if self._process and self._code is None:
            self._code = self._process.wait(timeout_s)
            self._seen_at = time.time()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._code

    @property
    def vanished(self) -> bool:
        """Whether it ended without telling how: it was killed whole, and the script cannot have done that."""
        return self._code is not None and not (self._process_folder / "exit_code").exists()

    @property
    def ended_at(self) -> float:
        """When it told its exit code (epoch seconds), or when it was seen to have ended without."""
        try:
            return (self._process_folder / "exit_code").stat().st_mtime
        except OSError:
            return self._seen_at

    @property
    def printed_bytes(self) -> int:
        """Also what has not been read yet."""
        return printed_bytes(self._process_folder)

    @property
    def read_bytes(self) -> int:
        return self._tail.offset

    def new_lines(self) -> tuple[list[str], list[str]]:
        """What it has printed since the last call: (all lines, those of them that the log stream lacks).

        At most a megabyte at a time: what lies between `read_bytes` and `printed_bytes` is still to come.
        """
        lines = self._tail.lines(final=self._code is not None)
        if not lines:
            return [], []
        fresh = lines[self._known :]
        self._known = max(0, self._known - len(lines))
        self.last_lines = (self.last_lines + [line for line in lines if line.strip()])[-20:]
        return lines, fresh

    def terminate(self) -> None:
        if self._process and self._code is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and whatever it left running."""
        if self._process:
            self._process.kill()

    def failure_file(self) -> str:
        return left_file.head(self.opt_ml.failure, 4096).decode(errors="replace")


def _write_hosts_file(path: Path, names: list[str]) -> Path:
    """The machine's /etc/hosts with the names by which a job's hosts call each other: all of them are this machine."""
    known = Path("/etc/hosts").read_text(errors="replace")
    path.write_text(f"127.0.0.1 {' '.join(names)}\n{known}")
    return path
