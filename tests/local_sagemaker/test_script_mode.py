"""Script mode: how a source is run, and what its environment says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker.failures import JobFailedError
from local_sagemaker.jobs import opt_ml, script
from local_sagemaker.jobs.script import Script
from tests.local_sagemaker.harness import BUCKET, Server, last_line, training_request
from tests.local_sagemaker.test_processing import wheel
from tests.local_sagemaker.test_training import archive, run

TELL = """
import json, os, sys, pathlib
seen = {"argv": sys.argv, "cwd": os.getcwd(), "path": sys.path, "environment": dict(os.environ)}
pathlib.Path(os.environ["SM_MODEL_DIR"], "seen").write_text(json.dumps(seen))
"""


def with_source(server: Server, name: str, files: dict[str, str], program: str, **more: str) -> dict[str, Any]:
    request = training_request(server, name, "")
    source = server.put_source(files, f"code/{name}/sourcedir.tar.gz")
    request["HyperParameters"] = {"sagemaker_program": program, "sagemaker_submit_directory": source} | more
    return request


def seen(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    job = run(server, request)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    member = archive(server, job["ModelArtifacts"]["S3ModelArtifacts"]).extractfile("seen")
    assert member is not None
    return json.loads(member.read())


@pytest.fixture(scope="module")
def told(server: Server) -> dict[str, Any]:
    """What a script saw that came in a folder of the source, with SDK v2's JSON-encoded hyperparameters."""
    values = {
        "batch-size": "32",
        "tags": '["a","b"]',
        "map": '{"k": 1, "a": 2}',
        "nothing": "null",
        "on": "true",
        "x": '"32"',
    }
    request = with_source(server, "told", {"sub/train.py": TELL}, '"sub/train.py"', **values)
    request["HyperParameters"]["sagemaker_container_log_level"] = "10"
    request["HyperParameters"]["sagemaker_estimator_class_name"] = '"PyTorch"'
    request["Environment"] = {"MY_OWN": "1", "PYTHONPATH": "/my/own"}
    return seen(server, request)


def test_arguments_are_sorted_and_typed_as_the_toolkit_does(told: dict[str, Any]) -> None:
    assert told["argv"] == [
        "sub/train.py", "--batch-size", "32", "--map", "a=2,k=1", "--nothing", "", "--on", "True",
        "--tags", "['a', 'b']", "-x", "32",
    ]  # fmt: skip


def test_every_hyperparameter_is_a_variable_dashes_and_all(told: dict[str, Any]) -> None:
    environment = told["environment"]
    assert environment["SM_HP_BATCH-SIZE"] == "32"
    assert environment["SM_HP_MAP"] == '{"a":2,"k":1}'
    assert environment["SM_HP_X"] == "32"
    assert json.loads(environment["SM_HPS"])["on"] is True


def test_null_hyperparameter_is_an_empty_variable(told: dict[str, Any]) -> None:
    assert told["environment"]["SM_HP_NOTHING"] == ""
    assert json.loads(told["environment"]["SM_HPS"])["nothing"] is None


def test_environment_speaks_of_opt_ml_where_the_machine_can_show_it(told: dict[str, Any]) -> None:
    environment = told["environment"]
    base = environment["SAGEMAKER_BASE_DIR"]
    assert environment["SM_MODEL_DIR"] == f"{base}/model"
    assert environment["SM_OUTPUT_INTERMEDIATE_DIR"] == f"{base}/output/intermediate"
    assert told["cwd"] == f"{base}/code"
    assert (environment["SM_LOG_LEVEL"], environment["MY_OWN"]) == ("10", "1")
    assert json.loads(environment["SM_FRAMEWORK_PARAMS"]) == {"sagemaker_estimator_class_name": "PyTorch"}
    assert {f"{base}/code", "/my/own"} <= set(told["path"])


# What the workers of a DataLoader do with the tensors that they send.
SHARE = """
import multiprocessing, multiprocessing.connection
if __name__ == "__main__":
    listener = multiprocessing.connection.Listener()
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert pool.map(len, ["abc"]) == [3]
"""


@pytest.mark.parametrize("isolation", ["auto", "off"])
def test_processes_of_a_script_can_share_objects(make_server: Callable[..., Server], isolation: str) -> None:
    """However long the path of the job's folder is: a socket's own may have 107 bytes."""
    server = make_server("--isolation", isolation)
    job = run(server, training_request(server, f"share-{isolation}-{'x' * 40}", SHARE))
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]


# How people bring what a container lacks, from inside of train.py.
INSTALL = """
import os, subprocess, sys
wheel = os.path.join(os.environ["SM_CHANNEL_TRAIN"], "tinything-1.0-py3-none-any.whl")
subprocess.check_call([sys.executable, "-m", "pip", "install", "--no-index", wheel])
subprocess.check_call("pip install --no-index " + wheel, shell=True)
import botocore, tinything
print("installed at", tinything.WHERE)
"""


def test_script_installs_into_its_job_alone(server: Server) -> None:
    server.s3.put_object(Bucket=BUCKET, Key="wheels/tinything-1.0-py3-none-any.whl", Body=wheel("tinything"))
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/wheels/"}
    request = training_request(server, "installs", INSTALL)
    request["InputDataConfig"] = [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}]
    job = run(server, request)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert last_line(server, "installs").startswith(f"installed at {server.root}")
    with pytest.raises(ImportError):
        __import__("tinything")


def test_training_env_holds_everything_in_one(told: dict[str, Any]) -> None:
    everything = json.loads(told["environment"]["SM_TRAINING_ENV"])
    assert everything["job_name"] == "told"
    assert everything["hyperparameters"]["batch-size"] == 32
    assert everything["user_entry_point"] == "sub/train.py"
    assert everything["is_master"] is True


def test_shell_script_gets_the_arguments(server: Server) -> None:
    files = {"train.sh": '#!/bin/sh\npython3 tell.py "$@"\n', "tell.py": TELL}
    found = seen(server, with_source(server, "shell", files, "train.sh", label="some text"))
    assert found["argv"][1:] == ["--label", "some text"]


def test_source_with_a_setup_py_is_run_as_a_module(server: Server) -> None:
    files = {"setup.py": "raise SystemExit('not installed')", "mine/__init__.py": "", "mine/train.py": TELL}
    found = seen(server, with_source(server, "package", files, "mine/train.py", epochs="1"))
    assert found["argv"][0].endswith("mine/train.py")
    assert found["argv"][1:] == ["--epochs", "1"]


def test_environment_can_name_the_script(server: Server) -> None:
    request = with_source(server, "by-environment", {"train.py": TELL}, "x")
    source = request.pop("HyperParameters")["sagemaker_submit_directory"]
    request["Environment"] = {"SAGEMAKER_PROGRAM": "train.py", "SAGEMAKER_SUBMIT_DIRECTORY": source}
    assert seen(server, request)["argv"] == ["train.py"]


def test_source_can_come_in_a_channel(server: Server) -> None:
    server.s3.put_object(Bucket=BUCKET, Key="code-channel/train.py", Body=TELL.encode())
    request = training_request(server, "by-channel", "")
    request["HyperParameters"]["sagemaker_submit_directory"] = "/opt/ml/input/data/code"
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/code-channel/"}
    request["InputDataConfig"] = [{"ChannelName": "code", "DataSource": {"S3DataSource": source}}]
    assert seen(server, request)["argv"] == ["train.py"]


def test_intermediate_output_is_in_s3_under_the_job(server: Server) -> None:
    script = """
import os, pathlib
pathlib.Path(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"], "plot.txt").write_text("x")
"""
    request = training_request(server, "intermediate", script)
    request["HyperParameters"]["sagemaker_s3_output"] = f"s3://{BUCKET}/live"
    assert run(server, request)["TrainingJobStatus"] == "Completed"
    assert server.s3.head_object(Bucket=BUCKET, Key="live/intermediate/output/intermediate/plot.txt")


def test_requirements_that_cannot_be_read_are_named(server: Server) -> None:
    files = {"train.py": "print(1)", "requirements.txt": "-r missing.txt\n"}
    job = run(server, with_source(server, "requirements", files, "train.py"))
    assert job["TrainingJobStatus"] == "Failed"
    assert "missing.txt" in job["FailureReason"]


def test_image_map_can_bring_the_training_program(
    server: Server, make_server: Callable[..., Server], tmp_path: Path
) -> None:
    request = training_request(server, "own-program", "")
    del request["HyperParameters"]
    assert "an entry with 'train'" in run(server, request)["FailureReason"]
    (tmp_path / "algorithm.py").write_text(TELL)
    images = tmp_path / "images.toml"
    images.write_text(
        f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\ntrain = ["algorithm.py", "train"]\n'
    )
    other = make_server("--images", str(images))
    assert seen(other, request)["argv"] == [str(tmp_path / "algorithm.py"), "train"]


def test_arguments_follow_the_toolkit() -> None:
    decoded = script.decode({"lr": "0.1", "n": "3", "flag": "true", "text": "a b", "quoted": '"32"', "none": "null"})
    assert script.arguments(decoded) == [
        "--flag", "True", "--lr", "0.1", "-n", "3", "--none", "", "--quoted", "32", "--text", "a b",
    ]  # fmt: skip


def test_program_that_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("")
    wanted = Script.of({"HyperParameters": {"sagemaker_program": "missing.py"}})
    with pytest.raises(JobFailedError, match=r"'missing.py' is not in the source archive \(it has other.py\)"):
        script.command("python", wanted, tmp_path)


@pytest.mark.parametrize(
    "program",
    [
        "../x.py",
        "/x.py",
        "-c",
        "a/../x.py",
        "./x.py",
        "a//x.py",
        "x y.py",
        "x;y.py",
        "x.py/",
        "$(x).py",
        "x\n.py",
        "é.py",
    ],
)
def test_program_the_toolkit_refuses_is_refused(program: str) -> None:
    with pytest.raises(JobFailedError, match="must be a relative path"):
        script.check_program(program)


@pytest.mark.parametrize("program", ["train.py", "a/b-c/train_1.py", "a+b.sh", "_x"])
def test_program_the_toolkit_takes_is_taken(program: str) -> None:
    script.check_program(program)


def test_link_that_leaves_the_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "secret.py").write_text("")
    (tmp_path / "code/train.py").symlink_to(tmp_path / "secret.py")
    wanted = Script.of({"HyperParameters": {"sagemaker_program": "train.py"}})
    with pytest.raises(JobFailedError, match="not in the source archive"):
        script.command("python", wanted, tmp_path / "code")


def test_local_paths_lie_in_the_tree_or_beside_it(tmp_path: Path) -> None:
    folders = opt_ml.OptMl(tmp_path / "opt/ml", opt_ml.MOUNT)
    inside = {"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/my/checkpoints"}}
    outside = {"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/checkpoints"}}
    assert folders.checkpoints(inside) == tmp_path / "opt/ml/my/checkpoints"
    assert folders.mounts(inside) == {"/opt/ml": tmp_path / "opt/ml"}
    assert folders.mounts(outside) == {"/opt/ml": tmp_path / "opt/ml", "/checkpoints": tmp_path / "outside/checkpoints"}
    assert folders.as_shown(folders.checkpoints(outside)) == "/checkpoints"
