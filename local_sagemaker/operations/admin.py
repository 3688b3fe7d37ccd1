"""What AWS does by itself and somebody who tests wants to trigger: operations of a service of our own, LocalSageMaker.

Same protocol and signature as SageMaker, with `X-Amz-Target: LocalSageMaker.<Operation>`; `python -m local_sagemaker
interrupt <training job>` calls the first one.
"""

from __future__ import annotations

from typing import Any

from local_sagemaker.jobs import training_job
from local_sagemaker.state.store import Store
from local_sagemaker.wire.errors import validation


def interrupt_training_job(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    """Interrupt a managed spot training job: SIGTERM, the grace, SIGKILL; then it starts again from its checkpoints."""
    name = request.get("TrainingJobName")
    if not isinstance(name, str) or store.get(training_job.KIND, name) is None:
        raise validation("Requested resource not found.")
    try:
        training_job.interrupt(store, name)
    except ValueError as error:
        raise validation(str(error)) from None
    return {}


SERVICE = "local-sagemaker"

OPERATIONS = {"InterruptTrainingJob": interrupt_training_job}
