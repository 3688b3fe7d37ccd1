"""What a user sees of a script that fails, and of one that is stopped."""

import json
import time
from pathlib import Path

from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.pytorch import PyTorch


def estimator(script):
    return PyTorch(
        entry_point=script,
        source_dir=str(Path(__file__).parents[1] / "source"),
        role="arn:aws:iam::000000000000:role/SageMakerRole",
        framework_version="2.3.0",
        py_version="py311",
        instance_count=1,
        instance_type="ml.m5.large",
    )


try:
    estimator("broken.py").fit(logs=False)
except UnexpectedStatusException as error:
    print("RESULT", json.dumps({"failure": str(error)}))

endless = estimator("endless.py")
endless.fit(wait=False)
time.sleep(3)
endless.latest_training_job.stop()
endless.latest_training_job.wait(logs="None")
print("RESULT", json.dumps({"stopped": endless.latest_training_job.describe()["TrainingJobStatus"]}))
