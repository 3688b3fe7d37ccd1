"""A name is no proof: what stands under a run's name is used only when it is what the run asks for."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from retraining.environment import AWS_CONN_ID
from retraining.identity import NameTaken
from retraining.operators.register import RegisterOperator
from retraining.operators.resources import EndpointConfigOperator, ModelOperator
from tests.plugins.task_run import IMAGE, ROLE, archive, context, finish


def test_two_deployments_have_names_of_their_own(make_plan: Any) -> None:
    ours, theirs = make_plan("a-bucket"), make_plan("another-bucket")
    assert ours.run_name != theirs.run_name
    assert ours.run_name == make_plan("a-bucket").run_name


@pytest.fixture
def artifacts(s3: Any, bucket: str) -> list[str]:
    """The addresses of two artifacts."""
    for name in ("ours", "theirs"):
        s3.put_object(Bucket=bucket, Key=f"{name}.tar.gz", Body=archive(weights=name))
    return [f"s3://{bucket}/{name}.tar.gz" for name in ("ours", "theirs")]


def model(name: str, artifact: str) -> Any:
    container = {"Image": IMAGE, "ModelDataUrl": artifact}
    config = {"ModelName": name, "ExecutionRoleArn": ROLE, "PrimaryContainer": container}
    return ModelOperator(task_id="m", config=config, aws_conn_id=AWS_CONN_ID).execute(context())


def test_a_model_of_another_artifact_is_not_adopted(sagemaker: Any, artifacts: list[str]) -> None:
    name = f"model-{uuid4().hex[:8]}"
    ours, theirs = artifacts
    assert model(name, theirs) == model(name, theirs)
    with pytest.raises(NameTaken, match=r"its artifact is .*/theirs.tar.gz, this run's is .*/ours.tar.gz"):
        model(name, ours)


def test_a_configuration_of_another_model_is_not_adopted(sagemaker: Any, artifacts: list[str]) -> None:
    name = f"config-{uuid4().hex[:8]}"

    def configuration(model_name: str) -> Any:
        variant = {
            "VariantName": "v",
            "ModelName": model_name,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
        config = {"EndpointConfigName": name, "ProductionVariants": [variant]}
        return EndpointConfigOperator(task_id="c", config=config, aws_conn_id=AWS_CONN_ID).execute(context())

    for model_name, artifact in zip((f"{name}-ours", f"{name}-theirs"), artifacts, strict=True):
        model(model_name, artifact)
    configuration(f"{name}-theirs")
    with pytest.raises(NameTaken, match=rf"its model of variant v is {name}-theirs, this run's is {name}-ours"):
        configuration(f"{name}-ours")


def test_a_package_of_another_artifact_is_not_adopted(sagemaker: Any, artifacts: list[str]) -> None:
    group = f"group-{uuid4().hex[:8]}"

    def register(artifact: str) -> Any:
        package = {
            "ModelPackageGroupName": group,
            "InferenceSpecification": {
                "Containers": [{"Image": IMAGE, "ModelDataUrl": artifact}],
                "SupportedContentTypes": ["image/png"],
            },
            "CustomerMetadataProperties": {"run_name": "one"},
        }
        config: Any = {"Group": {"ModelPackageGroupName": group}, "Package": package}
        return RegisterOperator(task_id="register", config=config, aws_conn_id=AWS_CONN_ID).execute(context())

    ours, theirs = artifacts
    register(theirs)
    with pytest.raises(NameTaken, match="trigger a new run"):
        register(ours)


def test_a_job_of_another_bucket_is_not_adopted(sagemaker: Any, training: Any) -> None:
    ours, theirs = training("print('ours')"), training("print('theirs')")
    finish(theirs, context())
    ours.config |= {"TrainingJobName": theirs.config["TrainingJobName"]}
    ours.config["OutputDataConfig"] = {"S3OutputPath": "s3://another-bucket/out"}
    with pytest.raises(NameTaken, match=r"its output is s3://test-.*, this run's is s3://another-bucket/out"):
        ours.execute(context())


def test_a_job_on_other_data_is_not_adopted(sagemaker: Any, s3: Any, bucket: str, training: Any) -> None:
    """As when images were added and the whole run was cleared."""

    def channel(name: str) -> dict[str, Any]:
        s3.put_object(Bucket=bucket, Key=f"{name}/one.txt", Body=b"1")
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": f"s3://{bucket}/{name}/",
            "S3DataDistributionType": "FullyReplicated",
        }
        return {"ChannelName": "train", "DataSource": {"S3DataSource": source}}

    operator = training("print('done')", InputDataConfig=[channel("before")])
    finish(operator, context())
    operator.config["InputDataConfig"] = [channel("after")]
    with pytest.raises(NameTaken, match=r"its channel train is .*/before/, this run's is .*/after/"):
        operator.execute(context())
