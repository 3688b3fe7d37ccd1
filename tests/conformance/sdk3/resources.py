"""The SDK's resource classes: a job, a model, an endpoint and its answer, by their API names."""

import json
import tarfile
from pathlib import Path

from sagemaker.core.helper.session_helper import Session
from sagemaker.core.resources import Endpoint, EndpointConfig, Model, TrainingJob
from sagemaker.core.shapes import (
    AlgorithmSpecification,
    ContainerDefinition,
    OutputDataConfig,
    ProductionVariant,
    ResourceConfig,
    StoppingCondition,
)

ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
TRAINING = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cpu-amzn2023-sagemaker"
SERVING = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312-ubuntu22.04-sagemaker"

session = Session()
bucket = session.default_bucket()
source = Path(__file__).parents[1] / "source"
Path("make_model.py").write_text(
    "import json, os, pathlib, shutil\n"
    "model = pathlib.Path(os.environ['SM_MODEL_DIR'])\n"
    "(model / 'slope.json').write_text('5.0')\n"
    "(model / 'code').mkdir()\n"
    "shutil.copy('inference.py', model / 'code')\n"
    "print('model written')\n"
)
with tarfile.open("sourcedir.tar.gz", "w:gz") as tar:
    tar.add("make_model.py")
    tar.add(source / "inference.py", "inference.py")
code = session.upload_data("sourcedir.tar.gz", key_prefix="v3-resources")

job = TrainingJob.create(
    training_job_name="v3-resources-job",
    role_arn=ROLE,
    algorithm_specification=AlgorithmSpecification(training_image=TRAINING, training_input_mode="File"),
    hyper_parameters={"sagemaker_program": "make_model.py", "sagemaker_submit_directory": code},
    output_data_config=OutputDataConfig(s3_output_path=f"s3://{bucket}/v3-resources/output"),
    resource_config=ResourceConfig(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=1),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=300),
)
job.wait(poll=1, logs=True)
again = TrainingJob.get("v3-resources-job")
print("RESULT", json.dumps({"training": again.training_job_status}))
listed = [found.training_job_name for found in TrainingJob.get_all(name_contains="v3-resources-job")]
print("RESULT", json.dumps({"listed": listed}))

Model.create(
    model_name="v3-model",
    primary_container=ContainerDefinition(image=SERVING, model_data_url=again.model_artifacts.s3_model_artifacts),
    execution_role_arn=ROLE,
)
EndpointConfig.create(
    endpoint_config_name="v3-config",
    production_variants=[
        ProductionVariant(
            variant_name="AllTraffic", model_name="v3-model", instance_type="ml.m5.large", initial_instance_count=1
        )
    ],
)
endpoint = Endpoint.create(endpoint_name="v3-endpoint", endpoint_config_name="v3-config")
endpoint.wait_for_status("InService", poll=1)
answer = endpoint.invoke(body="[1, 2]", content_type="application/json", accept="application/json")
print("RESULT", json.dumps({"answer": json.loads(answer.body.read())}))
endpoint.delete()
endpoint.wait_for_delete(poll=1)
print("RESULT", json.dumps({"deleted": True}))
