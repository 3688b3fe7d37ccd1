"""Whatever one job prints, leaves or is called: it alone pays for it, and everybody else is answered meanwhile."""

from __future__ import annotations

import errno
import functools
import io
import os
import subprocess
import tarfile
import threading
import time
import urllib.request
from typing import Any

import pytest

from local_sagemaker.jobs.status import fault_of_job
from tests.local_sagemaker.harness import BUCKET, IMAGE, ROLE, Server, training_request
from tests.waiting import PATIENCE_S

# A server that is held up answers after minutes, or never; one that shares two cores with 16 floods within seconds.
SLOWEST_S = 30.0

#: What a script does → how its job has to end.
BAD: dict[str, tuple[str, str]] = {
    "one line of 60 MB": ("import sys\nfor _ in range(60): sys.stdout.write('x' * 10**6)", "Completed"),
    "nul, no utf-8, escapes": (
        "import sys; sys.stdout.buffer.write((b'\\0' * 99 + bytes(range(128, 256)) + b'\\x1b[2J\\x1b]0;x\\x07') * 999)",
        "Completed",
    ),
    "300,000 lines": ("import sys\nfor n in range(3): sys.stdout.write('loss=0.5\\n' * 10**5)", "Completed"),
    "progress bar": ("print('\\r 3%|##  | 13/400 [00:01<00:30, 12.5it/s]' * 20_000)", "Completed"),
    "bait of a pattern": ("print('b' * 60 + '!')", "Completed"),
    "20,000 files": (
        "import os\nfor n in range(20_000): open(os.environ['SM_MODEL_DIR'] + f'/{n}', 'w').close()",
        "Completed",
    ),
    "fifo as log": ("import os; p = os.readlink('/proc/self/fd/1'); os.unlink(p); os.mkfifo(p)", "Completed"),
    "link as log": (
        "import os, sys; p = os.readlink('/proc/self/fd/1'); os.unlink(p); os.symlink(sys.executable, p)", "Completed"
    ),
    "fifo as failure": ("import os; os.mkfifo(os.environ['SM_OUTPUT_DIR'] + '/failure'); raise SystemExit(1)", "Algo"),
    "link as failure": (
        "import os; os.symlink('/dev/zero', os.environ['SM_OUTPUT_DIR'] + '/failure'); raise SystemExit(1)", "Algo"
    ),
    "folder as failure": ("import os; os.mkdir(os.environ['SM_OUTPUT_DIR'] + '/failure'); raise SystemExit(1)", "Algo"),
    "fifo as model": (
        "import os; m = os.environ['SM_MODEL_DIR']; os.rmdir(m); os.mkfifo(m)", "AlgorithmError: /opt/ml/model"
    ),
    "link as model": (
        "import os; m = os.environ['SM_MODEL_DIR']; os.rmdir(m); os.symlink('/usr', m)", "AlgorithmError: /opt/ml/model"
    ),
    "file as model": (
        "import os; m = os.environ['SM_MODEL_DIR']; os.rmdir(m); open(m, 'w').close()", "AlgorithmError: /opt/ml/model"
    ),
    "file as output": (
        "import os, shutil; o = os.environ['SM_OUTPUT_DIR']; shutil.rmtree(o); open(o, 'w').close()", "ClientError"
    ),
    "link to nothing as output": (
        "import os, shutil; o = os.environ['SM_OUTPUT_DIR']; shutil.rmtree(o); os.symlink('/nowhere', o)", "ClientError"
    ),
    "fifo as output data": (
        "import os; d = os.environ['SM_OUTPUT_DATA_DIR']; os.rmdir(d); os.mkfifo(d)", "AlgorithmError: /opt/ml/output"
    ),
    "no model folder": ("import os; os.rmdir(os.environ['SM_MODEL_DIR'])", "Completed"),
    "deep folders": (
        "import os; os.chdir(os.environ['SM_MODEL_DIR'])\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')",
        "ClientError",
    ),
    "name that is no utf-8": (
        "import os; open(os.environb[b'SM_MODEL_DIR'] + b'/\\xff\\xfe', 'w').close(); raise SystemExit('bad \\udcff')",
        "Algo",
    ),
    "words of a foreign script": ("import sys; sys.stderr.buffer.write(b'\\xff\\xfe\\0<script>'); sys.exit(3)", "Algo"),
}  # fmt: skip


@pytest.mark.parametrize("kind", [PermissionError, FileExistsError])
def test_what_a_job_did_to_its_own_folders_is_its_fault(kind: type[OSError]) -> None:
    """An InternalServerError would be begun again, and paid for again; what happens elsewhere is one."""
    number = {PermissionError: errno.EACCES, FileExistsError: errno.EEXIST}[kind]
    reason = fault_of_job(kind(number, os.strerror(number), "/state/jobs/a/opt/ml/model"))
    assert reason is not None and reason.startswith("ClientError: the job names or has left a file that cannot be one")
    assert fault_of_job(kind(number, os.strerror(number), "/state/state.db")) is None


def name_of(what: str) -> str:
    return "flood-" + "".join(c if c.isalnum() else "-" for c in what)


@pytest.fixture(scope="module")
def flooded(server: Server) -> dict[str, Any]:
    """All of it at once; how long the slowest answers took meanwhile, and how the jobs ended."""
    slowest: dict[str, float] = {}
    errors: list[str] = []
    over = threading.Event()

    def ask(what: str, call: Any) -> None:
        while not over.wait(0.02):
            began = time.monotonic()
            try:
                call()
            except Exception as error:
                errors.append(f"{what}: {error}")
            slowest[what] = max(slowest.get(what, 0.0), time.monotonic() - began)

    for what, (script, _) in BAD.items():
        request = training_request(server, name_of(what), script)
        definitions = [{"Name": "loss", "Regex": ".*loss=([0-9.]+).*"}, {"Name": "endless", "Regex": "(b+)+$"}]
        request["AlgorithmSpecification"]["MetricDefinitions"] = definitions
        server.sagemaker.create_training_job(**request)
    client = server.client("sagemaker")
    first = name_of(next(iter(BAD)))
    asking = {
        "list": lambda: client.list_training_jobs(),
        "describe": lambda: client.describe_training_job(TrainingJobName=first),
        "page": lambda: urllib.request.urlopen(f"{server.url}/", timeout=PATIENCE_S).read(),
    }
    threads = [threading.Thread(target=ask, args=item) for item in asking.items()]
    for thread in threads:
        thread.start()
    try:
        ends = {
            what: server.wait(
                functools.partial(server.sagemaker.describe_training_job, TrainingJobName=name_of(what)),
                "TrainingJobStatus",
            )
            for what in BAD
        }
    finally:
        over.set()
        for thread in threads:
            thread.join()
        # Python 3.11 cannot remove what is nested so deeply, and pytest tries to at the end of every later run.
        subprocess.run(["rm", "-rf", *server.root.glob(f"*/{name_of('deep folders')}*")], check=True)
    return {"ends": ends, "slowest": slowest, "errors": errors}


def test_everybody_else_is_answered_meanwhile(flooded: dict[str, Any]) -> None:
    assert flooded["errors"] == []
    assert max(flooded["slowest"].values()) < SLOWEST_S, flooded["slowest"]


@pytest.mark.parametrize("what", BAD)
def test_job_ends_for_its_own_reason(flooded: dict[str, Any], what: str) -> None:
    job, (_, end) = flooded["ends"][what], BAD[what]
    assert str(job.get("FailureReason", job["TrainingJobStatus"])).startswith(end)
    assert not str(job.get("FailureReason", "")).startswith("InternalServerError")


@pytest.mark.parametrize("what", BAD)
def test_page_of_the_job_is_shown(server: Server, flooded: dict[str, Any], what: str) -> None:
    with urllib.request.urlopen(f"{server.url}/jobs/training/{name_of(what)}", timeout=PATIENCE_S) as answer:
        assert answer.status == 200
        assert b"\x1b" not in answer.read()


@pytest.mark.parametrize(
    ("what", "member"),
    [
        ("name", b"\xff\xfe.py"), ("escape", b"../../x"), ("unnamed", b"../\xff\xfe.py"),
        ("absolute", b"/etc/x"), ("nul", b"a\0b"), ("blank", b" "),
    ],
)  # fmt: skip
def test_odd_source_archive_is_the_users_fault(server: Server, what: str, member: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", errors="surrogateescape") as tar:
        for name, content in ((member.decode("utf-8", "surrogateescape"), b"x"), ("train.py", b"raise SystemExit(3)")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    request = training_request(server, f"archive-{what}", "")
    server.s3.put_object(Bucket=BUCKET, Key=f"code/archive-{what}/sourcedir.tar.gz", Body=buffer.getvalue())
    server.sagemaker.create_training_job(**request)
    job = server.wait(
        lambda: server.sagemaker.describe_training_job(TrainingJobName=f"archive-{what}"), "TrainingJobStatus"
    )
    assert job["FailureReason"].startswith(("ClientError", "AlgorithmError"))
    for page in (f"/jobs/training/archive-{what}", "/"):  # the second is what compose takes for a sign of life
        with urllib.request.urlopen(f"{server.url}{page}", timeout=PATIENCE_S) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("make", ["os.mkfifo(x)", "os.symlink('/etc/hostname', x)", "os.mkdir(x)"])
def test_message_or_output_of_a_processing_job_that_is_none(server: Server, make: str) -> None:
    name = f"left-{make[3:8]}"
    script = f"import os; y = '/opt/ml/processing/y'; os.rmdir(y); [{make} for x in ('/opt/ml/output/message', y)]"
    output = {"S3Uri": f"s3://{BUCKET}/{name}", "LocalPath": "/opt/ml/processing/y", "S3UploadMode": "EndOfJob"}
    server.sagemaker.create_processing_job(
        ProcessingJobName=name,
        RoleArn=ROLE,
        AppSpecification={"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", "-c", script]},
        ProcessingOutputConfig={"Outputs": [{"OutputName": "y", "S3Output": output}]},
        ProcessingResources={"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}},
    )
    job = server.wait(lambda: server.sagemaker.describe_processing_job(ProcessingJobName=name), "ProcessingJobStatus")
    assert (job["ProcessingJobStatus"], job.get("ExitMessage")) == ("Completed", None)
    assert server.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/")["KeyCount"] == 0
