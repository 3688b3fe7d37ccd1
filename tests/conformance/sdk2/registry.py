"""Registers a model that was trained elsewhere, and approves it."""

import json
import tarfile
from pathlib import Path

import sagemaker
from sagemaker.pytorch import PyTorchModel

session = sagemaker.Session()
Path("slope.json").write_text("4.0")
with tarfile.open("model.tar.gz", "w:gz") as tar:
    tar.add("slope.json")
model_data = session.upload_data("model.tar.gz", key_prefix="to-register")

model = PyTorchModel(
    model_data=model_data,
    role="arn:aws:iam::000000000000:role/SageMakerRole",
    entry_point="inference.py",
    source_dir=str(Path(__file__).parents[1] / "source"),
    framework_version="2.3.0",
    py_version="py311",
    sagemaker_session=session,
)
package = model.register(
    content_types=["application/json"],
    response_types=["application/json"],
    inference_instances=["ml.m5.large"],
    transform_instances=["ml.m5.large"],
    model_package_group_name="sdk2-line",
    approval_status="PendingManualApproval",
    description="y = 4x",
)
package.update_approval_status("Approved")
found = session.sagemaker_client.describe_model_package(ModelPackageName=package.model_package_arn)
print("RESULT", json.dumps({"approval": found["ModelApprovalStatus"], "version": found["ModelPackageVersion"]}))
