"""Pretrained weights on their way to S3: read without torch, written by the real one."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retraining.pretrained.staging import TargetError
from retraining.pretrained.weights_file import WeightsError, read_weights_file
from retraining.recipe import RecipeError, read_recipe
from retraining.run import Run
from retraining.steps import preflight
from tests.object_store import KEY_ID, REGION, SECRET
from tests.plugins.task_run import TaskInstance
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
ML_PYTHON = ROOT / ".venv/ml/bin/python"

# What torch itself writes, in the forms people have: files by name.
WRITE = """
import collections, sys, torch
torch.manual_seed(0)
folder = sys.argv[1]
state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(8, 2)).state_dict()
save = lambda what, name, **how: torch.save(what, f"{folder}/{name}.pth", **how)
save(state, "plain")
save(state, "legacy", _use_new_zipfile_serialization=False)
save({name: value.bfloat16() for name, value in state.items()}, "half")
save({name: torch.nn.Parameter(value) for name, value in state.items() if value.is_floating_point()}, "parameters")
save({"first": state["2.weight"], "same": state["2.weight"]}, "shared")
save({"epoch": 3, "state_dict": state}, "checkpoint")
save(torch.nn.Linear(2, 2), "module")
save({}, "empty")
torch.jit.script(torch.nn.Linear(2, 2)).save(f"{folder}/script.pth")
"""
SHAPES = {
    "0.weight": (4, 3, 3, 3),
    "0.bias": (4,),
    "1.weight": (4,),
    "1.bias": (4,),
    "1.running_mean": (4,),
    "1.running_var": (4,),
    "1.num_batches_tracked": (),
    "2.weight": (2, 8),
    "2.bias": (2,),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not ML_PYTHON.exists():
        pytest.skip("the ml environment is not made")
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run([str(ML_PYTHON), "-W", "ignore", "-c", WRITE, str(folder)], check=True)
    return folder


@pytest.mark.parametrize("name", ["plain", "legacy", "half"])
def test_names_and_shapes_are_those_torch_wrote(saved: Path, name: str) -> None:
    weights = read_weights_file(saved / f"{name}.pth")
    assert weights.shapes == SHAPES
    assert weights.digest == hashlib.sha256((saved / f"{name}.pth").read_bytes()).hexdigest()


def test_parameters_and_shared_tensors_are_weights_too(saved: Path) -> None:
    assert read_weights_file(saved / "parameters.pth").shapes["2.weight"] == (2, 8)
    assert read_weights_file(saved / "shared.pth").shapes == {"first": (2, 8), "same": (2, 8)}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("checkpoint", r"checkpoint\.pth is no plain state dict: 'epoch' is no tensor\. Write it by torch\.save"),
        ("module", r"it wants to load torch\.nn\.modules\.linear\.Linear, which is no tensor"),
        ("script", r"script\.pth is no plain state dict: it"),
        ("empty", r"empty\.pth holds no tensors"),
    ],
)
def test_what_is_no_state_dict_is_refused(saved: Path, name: str, complaint: str) -> None:
    with pytest.raises(WeightsError, match=complaint):
        read_weights_file(saved / f"{name}.pth")


@pytest.mark.parametrize("name", ["plain", "legacy"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_half_a_file_is_refused(saved: Path, tmp_path: Path, name: str, share: float) -> None:
    body = (saved / f"{name}.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(body[: int(len(body) * share)])
    with pytest.raises(WeightsError, match=r"cut\.pth is no plain state dict"):
        read_weights_file(tmp_path / "cut.pth")


def test_a_damaged_number_is_noticed(saved: Path, tmp_path: Path) -> None:
    body = bytearray((saved / "plain.pth").read_bytes())
    with zipfile.ZipFile(saved / "plain.pth") as archive:
        at = archive.getinfo("plain/data/0").header_offset
    body[at + 200] ^= 1
    (tmp_path / "damaged.pth").write_bytes(body)
    with pytest.raises(WeightsError, match="checksum"):
        read_weights_file(tmp_path / "damaged.pth")


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "ran"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("evil/data.pkl", pickle.dumps({"weight": Evil(mark)}))
    else:
        path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(WeightsError, match=r"it wants to load posix\.system, which is no tensor"):
        read_weights_file(path)
    assert not mark.exists()


def safetensors(path: Path, *, extra: bytes = b"", **changes: Any) -> Path:
    header = {"fc.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes}
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24) + extra)
    return path


def test_safetensors_are_read_from_their_header(tmp_path: Path) -> None:
    assert read_weights_file(safetensors(tmp_path / "a.safetensors")).shapes == {"fc.weight": (2, 3)}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"extra": b"more"}, "it should have .* bytes and has"),
        ({"shape": [2, 4]}, r"'fc\.weight' of shape \[2, 4\] cannot have 24 bytes"),
        ({"data_offsets": [0, 48], "shape": [4, 3]}, "it should have"),
        ({"dtype": "F99"}, "F99"),
    ],
)
def test_incomplete_safetensors_are_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(WeightsError, match=f"is no complete safetensors file: .*{complaint}"):
        read_weights_file(safetensors(tmp_path / "a.safetensors", **changes))


# --- the command ------------------------------------------------------------------------------------------------------


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "retraining.pretrained", *map(str, words)]
    given = {"PYTHONPATH": str(ROOT / "plugins"), "PATH": os.environ["PATH"]} | environment
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@pytest.fixture
def store(s3_endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": REGION,
    }


def test_the_printed_line_is_a_recipes_and_its_object_the_file(
    saved: Path, s3: Any, bucket: str, store: dict[str, str], recipe_data: dict[str, Any]
) -> None:
    ended = run(saved / "plain.pth", f"s3://{bucket}/dogs", "--name", "ResNet 18", **store)
    assert ended.returncode == 0, ended.stderr
    assert "9 tensors" in ended.stderr
    line = ended.stdout.strip()
    key = line.removeprefix(f"pretrained: s3://{bucket}/")
    body = (saved / "plain.pth").read_bytes()
    assert key == f"dogs/pretrained/resnet-18-{hashlib.sha256(body).hexdigest()[:16]}.pth"
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body
    recipe_data["pretrained"] = line.removeprefix("pretrained: ")
    recipe_data["hyperparameters"]["weights"] = "channel"
    assert read_recipe(recipe_data, where="test").pretrained == f"s3://{bucket}/{key}"


def test_the_same_weights_are_uploaded_once(saved: Path, s3: Any, bucket: str, store: dict[str, str]) -> None:
    first = run(saved / "legacy.pth", f"s3://{bucket}/dogs", **store)
    (key,) = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    before = s3.head_object(Bucket=bucket, Key=key)["LastModified"]
    second = run(saved / "legacy.pth", f"s3://{bucket}/dogs/pretrained/", **store)
    assert second.stdout == first.stdout
    assert second.stderr.splitlines()[-1] == "it was there already"
    assert s3.head_object(Bucket=bucket, Key=key)["LastModified"] == before


def stand_in_python(tmp_path: Path, name: str, scheme: str = "https") -> Path:
    """An interpreter whose torchvision publishes one file, on a server that nobody runs."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho {scheme}://127.0.0.1:9/models/{name}\n")
    program.chmod(0o755)
    return program


def test_what_torch_has_downloaded_before_needs_no_network(
    saved: Path, tmp_path: Path, s3: Any, bucket: str, store: dict[str, str]
) -> None:
    body = (saved / "plain.pth").read_bytes()
    name = f"tiny-{hashlib.sha256(body).hexdigest()[:8]}.pth"
    cache = tmp_path / "torch/hub/checkpoints"
    cache.mkdir(parents=True)
    (cache / name).write_bytes(body)
    python = stand_in_python(tmp_path, name)
    where = {"TORCH_HOME": str(tmp_path / "torch")}
    ended = run("torchvision:tiny", f"s3://{bucket}/dogs", "--python", python, **store, **where)
    assert ended.stdout.startswith(f"pretrained: s3://{bucket}/dogs/pretrained/tiny-"), ended.stderr

    (cache / name).write_bytes(body[:-1])  # a download that broke off: fetched anew, which fails here
    ended = run("torchvision:tiny", f"s3://{bucket}/dogs", "--python", python, **store, **where)
    assert ended.returncode == 1
    assert f"https://127.0.0.1:9/models/{name} cannot be downloaded" in ended.stderr
    assert "Download the file where there is a network, and name it instead." in ended.stderr


def test_weights_are_never_fetched_over_plain_http(tmp_path: Path, bucket: str) -> None:
    python = stand_in_python(tmp_path, "tiny-0123abcd.pth", scheme="http")
    ended = run("torchvision:tiny", f"s3://{bucket}/dogs", "--python", python, TORCH_HOME=str(tmp_path))
    assert ended.returncode == 1
    assert "plain http can be changed on the way" in ended.stderr


@pytest.mark.slow  # torchvision is slow to import
def test_a_network_that_torchvision_does_not_know_is_named(bucket: str) -> None:
    if not ML_PYTHON.exists():
        pytest.skip("the ml environment is not made")
    ended = run("torchvision:resnet19", f"s3://{bucket}/dogs")
    assert ended.returncode == 1
    assert "torchvision has no weights of 'resnet19'" in ended.stderr


@pytest.mark.parametrize(
    ("source", "target", "complaint"),
    [
        ("torchvision:resnet18", "s3://bucket/dogs", "has no torchvision; name an interpreter that has by --python"),
        ("nowhere.pth", "s3://bucket/dogs", "nowhere.pth is no file of this machine"),
        ("weights.onnx", "s3://bucket/dogs", "weights.onnx: weights are a .pth or a .safetensors file"),
        ("nowhere.pth", "bucket/dogs", "bucket/dogs: must look like s3://bucket/recipe"),
    ],
)
def test_the_command_says_what_is_wrong(source: str, target: str, complaint: str) -> None:
    ended = run(source, target, "--python", sys.executable)
    assert ended.returncode == 1
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bucket_that_is_not_there_is_named(saved: Path, store: dict[str, str]) -> None:
    ended = run(saved / "plain.pth", "s3://no-such-bucket-here/dogs", **store)
    assert ended.returncode == 1
    assert "s3://no-such-bucket-here cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_recipe_with_a_local_file_is_told_the_command(recipe_data: dict[str, Any]) -> None:
    recipe_data["pretrained"] = "~/weights/resnet18.pth"
    recipe_data["hyperparameters"]["weights"] = "channel"
    with pytest.raises(RecipeError, match=r"must look like s3://.*`python -m retraining\.pretrained FILE s3://bucket"):
        read_recipe(recipe_data, where="test")


def test_a_run_whose_weights_are_not_there_stops_before_any_job(
    sagemaker: Any, s3: Any, bucket: str, recipe_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRAINING_ENVIRONMENT", "local")
    monkeypatch.setenv("RETRAINING_BUCKET", bucket)
    monkeypatch.setenv("RETRAINING_ROLE_ARN", "arn:aws:iam::000000000000:role/local-sagemaker")
    recipe_data["pretrained"] = f"s3://{bucket}/shapes/pretrained/resnet18.pth"
    recipe_data["hyperparameters"]["weights"] = "channel"
    dag_run = SimpleNamespace(run_after=datetime(2026, 11, 21, tzinfo=UTC), run_id="manual__1")
    ti = TaskInstance()
    context = {"params": {}, "dag_run": dag_run, "ti": ti}
    run = Run(read_recipe(recipe_data, where="test"), context)  # type: ignore[arg-type]
    with pytest.raises(
        TargetError, match=r"resnet18\.pth: there is no such object\. `python -m retraining\.pretrained"
    ):
        preflight(run)
    s3.put_object(Bucket=bucket, Key="shapes/pretrained/resnet18.pth", Body=b"x")
    assert preflight(run)["run_name"] == run.plan.run_name
