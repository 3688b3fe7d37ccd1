"""The container of an image: which images it refuses, and what every process in one is given."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from local_sagemaker.failures import JobFailedError
from local_sagemaker.sandbox.container import Container, moved
from local_sagemaker.sandbox.images import Image, ImageMap
from local_sagemaker.sandbox.isolation import Isolation
from local_sagemaker.sandbox.process import output_path
from local_sagemaker.settings import Settings

IMAGES = ImageMap([Image(match=("*/pytorch-*",), interpreter=sys.executable)])
NOTHING = Isolation(mounts=False, networks=False)
NOT_KNOWN = "no entry of the image map stands in for image"


def container(root: Path, *, network_isolation: bool = False) -> Container:
    settings = Settings(root=root, access_key_id="id", secret_access_key="secret")
    return Container.of("a/pytorch-training", IMAGES, NOTHING, settings, network_isolation=network_isolation)


def test_image_that_nothing_stands_in_for_is_refused(tmp_path: Path) -> None:
    settings = container(tmp_path).settings
    with pytest.raises(
        JobFailedError, match=rf"ClientError: {NOT_KNOWN} 'a/mxnet' \(it knows: \*/pytorch-\*\); .*toml$"
    ):
        Container.of("a/mxnet", IMAGES, NOTHING, settings)
    with pytest.raises(JobFailedError, match=f"ClientError: {NOT_KNOWN} 'a/mxnet'.*toml with 'serve'$"):
        Container.of("a/mxnet", IMAGES, NOTHING, settings, program="serve")


def test_image_without_the_wanted_program_is_refused(tmp_path: Path) -> None:
    settings = container(tmp_path).settings
    with pytest.raises(JobFailedError, match=r"the entry for \*/pytorch-\* in images.toml has no 'serve'"):
        Container.of("a/pytorch-inference", IMAGES, NOTHING, settings, program="serve")
    with pytest.raises(JobFailedError, match=f"{NOT_KNOWN} 'a/pytorch-rules'.*toml with 'rules'$"):
        Container.of("a/pytorch-rules", IMAGES, NOTHING, settings, program="rules")


def test_without_a_requirements_file_the_interpreter_is_the_images_own(tmp_path: Path) -> None:
    said: list[str] = []
    for requirements in (None, tmp_path / "requirements.txt"):
        assert container(tmp_path).interpreter(requirements, said.append) == sys.executable
    assert said == []


def test_role_is_given_to_those_with_a_network(tmp_path: Path) -> None:
    with_network = container(tmp_path).environment(sys.executable, tmp_path / "job", 3)
    without = container(tmp_path, network_isolation=True).environment(sys.executable, tmp_path / "job", 3)
    assert with_network["AWS_ACCESS_KEY_ID"] == "id" and "AWS_ACCESS_KEY_ID" not in without
    assert {environment["HOME"] for environment in (with_network, without)} == {str(tmp_path / "job")}
    assert {environment["OMP_NUM_THREADS"] for environment in (with_network, without)} == {"3"}
    assert with_network["GOMP_SPINCOUNT"] == "1000"


def test_process_starts_with_the_environment_it_is_given(tmp_path: Path) -> None:
    process = container(tmp_path).start(
        ["/bin/sh", "-c", 'echo "$WORD in $PWD"'],
        environment={"WORD": "here"},
        cwd=tmp_path,
        folder=tmp_path / "process",
        nice=0,
    )
    assert process.wait(20) == 0
    assert output_path(tmp_path / "process").read_text() == f"here in {tmp_path}\n"


def test_only_paths_of_the_container_are_moved() -> None:
    words = ["/opt/ml", "/opt/ml/model", "/opt/mlx", "s3://bucket/opt/ml"]
    assert [moved(word, Path("/job")) for word in words] == ["/job", "/job/model", "/opt/mlx", "s3://bucket/opt/ml"]
