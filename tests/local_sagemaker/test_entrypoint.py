"""ContainerEntrypoint and ContainerArguments, above all as SDK v3's ModelTrainer sends them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.local_sagemaker.harness import BUCKET, IMAGE, REPOSITORY, ROLE, Server, training_request
from tests.local_sagemaker.test_packages import wheel
from tests.local_sagemaker.test_training import archive, run, wait
from tests.object_store import KEY_ID, SECRET
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="showing a job its folder at /opt/ml is sure only for root")


def entrypoint(server: Server, name: str, command: str, **changes: Any) -> dict[str, Any]:
    request = training_request(server, name, "", **changes)
    del request["HyperParameters"]
    request["AlgorithmSpecification"] |= {"ContainerEntrypoint": ["/bin/bash", "-c"], "ContainerArguments": [command]}
    return request


def lines(server: Server, job: str, host: str = "algo-1") -> list[str]:
    found = server.logs.filter_log_events(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{job}/{host}"
    )["events"]
    return [event["message"] for event in found]


def test_command_sees_its_own_folder_at_opt_ml(server: Server) -> None:
    server.s3.put_object(Bucket=BUCKET, Key="entry/code/hello.sh", Body=b"echo hello > /opt/ml/model/said")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/entry/code/"}
    request = entrypoint(server, "entry", "set -e; cd /opt/ml/input/data/code; chmod +x hello.sh; ./hello.sh")
    request["InputDataConfig"] = [{"ChannelName": "code", "DataSource": {"S3DataSource": source}}]
    job = run(server, request)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert archive(server, job["ModelArtifacts"]["S3ModelArtifacts"]).getnames() == ["said"]
    assert not Path("/opt/ml/model/said").exists()


def test_python_and_pip_are_those_of_the_image(server: Server) -> None:
    command = "python -c 'import sys; print(sys.version)'; python3 -c 'import pytest; print(pytest)'; pip --version"
    assert run(server, entrypoint(server, "pythons", command))["TrainingJobStatus"] == "Completed"
    version, imported, pip = lines(server, "pythons")
    assert (version, imported) == (sys.version, str(pytest))
    assert pip.startswith("pip ")


def test_pip_of_a_command_leaves_the_interpreter_alone(make_server: Callable[..., Server], tmp_path: Path) -> None:
    """SageMaker SDK's @remote upgrades what is there: pip removes what it replaces, but in the job's own place."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "image")], check=True)
    (site,) = (tmp_path / "image").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel(tmp_path, "tinyshared")) as installed:
        installed.extractall(site)
    (site / "tinyshared-1.0.dist-info/RECORD").write_text("tinyshared.py,,\n")
    images = tmp_path / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*/pytorch:*"]\ninterpreter = "{tmp_path}/image/bin/python"\n')
    server = make_server("--images", str(images))

    seen = "python -c 'import tinyshared; print(tinyshared.VERSION)'"
    newer, away = wheel(tmp_path, "tinyshared", "2.0"), "pip uninstall -q --yes tinyshared"
    program = tmp_path / "upgrade.sh"
    program.write_text(f"python -m pip install -q -U --no-index {newer}; {seen}; {away}; {away}; {seen}")
    job = run(server, entrypoint(server, "upgrades", f"bash {program}"))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    told = lines(server, "upgrades")
    assert (told[0], told[-1]) == ("2.0", "1.0")
    assert "VERSION = '1.0'" in (site / "tinyshared.py").read_text()


def test_hosts_of_a_job_find_each_other_by_name(server: Server) -> None:
    request = entrypoint(server, "names", "getent hosts algo-1 algo-2")
    request["ResourceConfig"]["InstanceCount"] = 2
    assert run(server, request)["TrainingJobStatus"] == "Completed"
    assert all(line.startswith("127.0.0.1") for line in lines(server, "names", "algo-2"))


def test_failing_command_fails_the_job_with_its_words(server: Server) -> None:
    job = run(server, entrypoint(server, "no-luck", "echo no luck today; exit 9"))
    assert "no luck today" in job["FailureReason"]
    assert job["FailureReason"].endswith("exit code: 9")


def test_command_that_is_not_there_is_named(server: Server) -> None:
    request = entrypoint(server, "no-command", "ls")
    request["AlgorithmSpecification"]["ContainerEntrypoint"] = ["/no/such/program"]
    assert "/no/such/program" in run(server, request)["FailureReason"]


def test_machine_that_cannot_show_opt_ml_refuses_what_needs_it(make_server: Callable[..., Server]) -> None:
    server = make_server("--isolation", "off")
    with pytest.raises(botocore.exceptions.ClientError, match="cannot show a job its own"):
        server.sagemaker.create_training_job(**entrypoint(server, "refused", "ls /opt/ml"))
    assert (
        run(server, entrypoint(server, "needs-nothing", 'echo x > "$SM_MODEL_DIR/x"'))["TrainingJobStatus"]
        == "Completed"
    )


MODEL_TRAINER = """
import sys
from sagemaker.core.helper.session_helper import Session
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, OutputDataConfig, SourceCode, StoppingCondition
bucket, image, role, folder, name = sys.argv[1:]
trainer = ModelTrainer(
    sagemaker_session=Session(default_bucket=bucket),
    training_image=image,
    role=role,
    base_job_name=name,
    source_code=SourceCode(source_dir=folder, entry_script="train.py", requirements="requirements.txt"),
    compute=Compute(instance_type="ml.m5.large", instance_count=2, volume_size_in_gb=5),
    hyperparameters={"batch-size": 32, "name": "some text"},
    output_data_config=OutputDataConfig(s3_output_path=f"s3://{bucket}/jobs"),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=300),
)
data = f"s3://{bucket}/trainer/data/"
trainer.train(input_data_config=[InputData(channel_name="train", data_source=data)], wait=False, logs=False)
print("job", trainer._latest_training_job.training_job_name)
"""

TRAIN = """
import json, os, pathlib, sys
files = sorted(path.name for path in pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir())
seen = [sys.argv[1:], files, os.environ["SM_HP_BATCH_SIZE"], os.environ["SM_MODEL_DIR"], os.environ["SM_MASTER_ADDR"]]
pathlib.Path(os.environ["SM_MODEL_DIR"], os.environ["SM_CURRENT_HOST"]).write_text(json.dumps(seen))
"""


@pytest.mark.slow
def test_model_trainer_of_sdk_v3_trains(server: Server, tmp_path: Path) -> None:
    server.s3.put_object(Bucket=BUCKET, Key="trainer/data/1.txt", Body=b"x")
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text(TRAIN)
    (source / "requirements.txt").write_text("botocore\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ENDPOINT_URL_S3": server.s3_endpoint,
    }
    answer = subprocess.run(
        [sys.executable, "-c", MODEL_TRAINER, BUCKET, IMAGE, ROLE, str(source), "trainer"],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    job = wait(server, answer.stdout.strip().splitlines()[-1].split()[1])
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    tar = archive(server, job["ModelArtifacts"]["S3ModelArtifacts"])
    assert sorted(tar.getnames()) == ["algo-1", "algo-2"]
    told = tar.extractfile("algo-2").read().decode()  # type: ignore[union-attr]
    arguments = '["--batch-size", "32", "--name", "some text"]'
    assert told == f'[{arguments}, ["1.txt"], "32", "/opt/ml/model", "algo-1"]'
