"""The same week with the operators of apache-airflow-providers-amazon, as who knows them well would write it.

Deferrable, `print_log` off and more polls than the default half hour, as their known issues advise; three retries, five
minutes apart (Airflow's own delay), names from the run; the endpoint operator's create, which updates what is there
already; a smoke test, the way back by the endpoint operator, and Airflow's watcher that makes a failed run red.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerEndpointConfigOperator,
    SageMakerEndpointOperator,
    SageMakerModelOperator,
    SageMakerRegisterModelVersionOperator,
    SageMakerTrainingOperator,
    SageMakerTransformOperator,
    SageMakerTuningOperator,
)
from airflow.providers.amazon.aws.triggers.base import AwsBaseWaiterTrigger
from airflow.providers.amazon.aws.utils.waiter_with_logging import wait
from airflow.providers.standard.operators.python import PythonOperator, ShortCircuitOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException

from tests.faults.airflow import DagRun
from tests.faults.world import BUCKET, World

ENDPOINT, GROUP, IMAGE = "colors", "colors", "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu"
ROLE = "arn:aws:iam::000000000000:role/colors"
MANIFEST = "colors/test.manifest"
POLL_S = 200
WAITING: dict[str, Any] = {"deferrable": True, "check_interval": POLL_S}
RESOURCES = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}
STOPPING = {"MaxRuntimeInSeconds": 3600}


def put_images(world: World) -> None:
    """A test set and its manifest: to bring images into the bucket is no operator's part."""
    some = list(world.pictures.items())[::5]
    bodies = {f"{label}/{number}.png": body for number, (body, label) in enumerate(some)}
    world.store.objects |= {f"images/{name}": body for name, body in bodies.items()}
    world.store.objects[MANIFEST] = json.dumps([{"prefix": f"s3://{BUCKET}/images/"}, *bodies]).encode()


def client(service: str) -> Any:
    return AwsGenericHook(client_type=service).conn


def name(context: Mapping[str, Any]) -> str:
    """Of everything that a run makes: at most 32 characters, for tuning."""
    return f"colors-{context['dag_run'].run_after:%y%m%d-%H%M%S}"


def weekly() -> DAG:
    with DAG("weekly_colors", default_args={"retries": 3, "retry_delay": timedelta(minutes=5)}) as dag:
        before = PythonOperator(task_id="before", python_callable=serving)
        tune = SageMakerTuningOperator(task_id="tune", config=tuning, max_ingestion_time=7200, **WAITING)
        train = SageMakerTrainingOperator(
            task_id="train", config=training, print_log=False, max_attempts=60, max_ingestion_time=7200, **WAITING
        )
        create_model = SageMakerModelOperator(task_id="create_model", config=model)
        score_candidate = SageMakerTransformOperator(
            task_id="score_candidate", config=candidate_scoring, max_attempts=60, max_ingestion_time=7200, **WAITING
        )
        score_champion = SageMakerTransformOperator(
            task_id="score_champion", config=champion_scoring, max_attempts=60, max_ingestion_time=7200, **WAITING
        )
        compare = ShortCircuitOperator(task_id="compare", python_callable=is_as_good)
        register = SageMakerRegisterModelVersionOperator(
            task_id="register", image_uri=IMAGE, package_group_name=GROUP,
            model_url="{{ ti.xcom_pull(task_ids='train')['Training']['ModelArtifacts']['S3ModelArtifacts'] }}",
        )  # fmt: skip
        endpoint_config = SageMakerEndpointConfigOperator(task_id="create_endpoint_config", config=configuration)
        deploy = SageMakerEndpointOperator(task_id="deploy", config=deployment, max_ingestion_time=7200, **WAITING)
        smoke_test = PythonOperator(task_id="smoke_test", python_callable=answers_rightly)
        rollback = SageMakerEndpointOperator(
            task_id="rollback", config=way_back, operation="update", trigger_rule="one_failed", **WAITING
        )
        watcher = PythonOperator(task_id="watcher", python_callable=fail, trigger_rule="one_failed", retries=0)
        before >> tune >> train >> create_model >> [score_candidate, score_champion] >> compare
        compare >> register >> endpoint_config >> deploy >> smoke_test >> rollback
        dag.tasks[:-1] >> watcher
    return dag


# --- what its tasks ask for -------------------------------------------------------------------------------------------


def tuning(context: Any, jinja_env: Any) -> dict[str, Any]:
    definition = {
        "StaticHyperParameters": {"epochs": "2"}, "AlgorithmSpecification": algorithm(), "RoleArn": ROLE,
        "InputDataConfig": channels(), "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/colors/tuning"},
        "ResourceConfig": RESOURCES, "StoppingCondition": STOPPING,
    }  # fmt: skip
    limits = {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2}
    searched = {"Strategy": "Bayesian", "ResourceLimits": limits}
    return {
        "HyperParameterTuningJobName": name(context), "HyperParameterTuningJobConfig": searched,
        "TrainingJobDefinition": definition,
    }  # fmt: skip


def training(context: Any, jinja_env: Any) -> dict[str, Any]:
    best = context["ti"].xcom_pull(task_ids="tune")["Tuning"]["BestTrainingJob"]
    return {
        "TrainingJobName": name(context), "HyperParameters": {"epochs": "2"} | best["TunedHyperParameters"],
        "AlgorithmSpecification": algorithm(), "RoleArn": ROLE, "InputDataConfig": channels(),
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/colors/training"}, "ResourceConfig": dict(RESOURCES),
        "StoppingCondition": dict(STOPPING),
    }  # fmt: skip


def model(context: Any, jinja_env: Any) -> dict[str, Any]:
    trained = context["ti"].xcom_pull(task_ids="train")["Training"]["ModelArtifacts"]["S3ModelArtifacts"]
    container = {"Image": IMAGE, "ModelDataUrl": trained}
    return {"ModelName": name(context), "ExecutionRoleArn": ROLE, "PrimaryContainer": container}


def candidate_scoring(context: Any, jinja_env: Any) -> dict[str, Any]:
    made = context["ti"].xcom_pull(task_ids="create_model")["Model"]["ModelName"]
    return scoring(f"{name(context)}-candidate", made)


def champion_scoring(context: Any, jinja_env: Any) -> dict[str, Any]:
    return scoring(f"{name(context)}-champion", context["ti"].xcom_pull(task_ids="before")["model"])


def scoring(job: str, scored: str) -> dict[str, Any]:
    source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/{MANIFEST}"}
    return {
        "TransformJobName": job, "ModelName": scored,
        "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "application/x-image"},
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/colors/scores/{job}"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }  # fmt: skip


def configuration(context: Any, jinja_env: Any) -> dict[str, Any]:
    variant = {
        "VariantName": "AllTraffic", "ModelName": name(context), "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }  # fmt: skip
    return {"EndpointConfigName": name(context), "ProductionVariants": [variant]}


def deployment(context: Any, jinja_env: Any) -> dict[str, Any]:
    return {"EndpointName": ENDPOINT, "EndpointConfigName": name(context)}


def way_back(context: Any, jinja_env: Any) -> dict[str, Any]:
    return {"EndpointName": ENDPOINT, "EndpointConfigName": context["ti"].xcom_pull(task_ids="before")["config"]}


def algorithm() -> dict[str, Any]:
    return {"TrainingImage": IMAGE.replace("inference", "training"), "TrainingInputMode": "File"}


def channels() -> list[dict[str, Any]]:
    source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/{MANIFEST}"}
    return [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}]


# --- its Python tasks -------------------------------------------------------------------------------------------------


def serving() -> dict[str, str]:
    """What the endpoint serves before the run."""
    sagemaker = client("sagemaker")
    config = sagemaker.describe_endpoint(EndpointName=ENDPOINT)["EndpointConfigName"]
    (variant,) = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    return {"config": config, "model": variant["ModelName"]}


def is_as_good(ti: Any) -> bool:
    accuracies = [accuracy(ti.xcom_pull(task_ids=task)["Transform"]) for task in ("score_candidate", "score_champion")]
    return accuracies[0] >= accuracies[1]


def accuracy(job: Mapping[str, Any]) -> float:
    folder, right, labels = job["TransformOutput"]["S3OutputPath"].removeprefix(f"s3://{BUCKET}/"), 0, tested_images()
    for entry in labels:
        probabilities = json.loads(read(f"{folder}/{entry}.out"))["probabilities"]
        right += ("blue", "red")[probabilities.index(max(probabilities))] == entry.partition("/")[0]
    return right / len(labels)


def tested_images() -> list[str]:
    return list(json.loads(read(MANIFEST)))[1:]


def answers_rightly() -> None:
    for entry in tested_images()[::2]:
        body = json.dumps({"image": base64.b64encode(read(f"images/{entry}")).decode()})
        answer = client("sagemaker-runtime").invoke_endpoint(
            EndpointName=ENDPOINT, ContentType="application/json", Body=body
        )
        said = json.loads(answer["Body"].read())["label"]
        if said != entry.partition("/")[0]:
            raise AirflowException(f"The endpoint answers {said} for {entry}.")


def read(key: str) -> bytes:
    return bytes(client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())


def fail() -> None:
    raise AirflowException("Some task failed.")


# --- how it is judged -------------------------------------------------------------------------------------------------


def harms(world: World, run: DagRun, ends: str, promotes: bool, platform_failures: int, before: World) -> Iterator[str]:
    """The invariants that hold for any such week; `ends` and `promotes` as of a Scenario."""
    for job in world.sagemaker.running():
        yield f"I5: job {job} is left running"
    for kind, jobs in world.sagemaker.jobs.items():
        new = jobs.keys() - before.sagemaker.jobs[kind].keys()
        allowed = {"TransformJob": 2, "TrainingJob": 1 + platform_failures}.get(kind, 1)
        if len(new) > allowed:
            yield f"I1: {len(new)} jobs: {sorted(new)}"
    if len(world.sagemaker.packages) - len(before.sagemaker.packages) > 1:
        yield "I1: one model was registered more than once"
    world.clock.sleep(3600)  # the endpoint may still have changed when the run ended
    world.sagemaker.settle()
    endpoint = world.sagemaker.endpoints[ENDPOINT]
    served = world.sagemaker.served(endpoint["EndpointConfigName"])
    moved = endpoint["EndpointConfigName"] != before.sagemaker.endpoints[ENDPOINT]["EndpointConfigName"]
    if "wrong" in (served["batch"], served["serves"]) or not served["starts"]:
        yield "I6: a bad model serves"
    if run.state == "success" and moved != promotes:
        yield f"I10: the run is green, and its candidate does {'' if moved else 'not '}serve"
    if run.state == "success" and ends == "failed":
        yield "I10: the run is green, and its work was not done"


def fired(trigger: AwsBaseWaiterTrigger) -> dict[str, Any]:
    """The event of a trigger of the provider's; its loop in the form that waits for no event loop."""
    try:
        wait(
            trigger.hook().get_waiter(trigger.waiter_name), trigger.waiter_delay, trigger.attempts,
            trigger.waiter_args, trigger.failure_message, trigger.status_message, trigger.status_queries,
        )  # fmt: skip
    except AirflowException as error:
        return dict(trigger._event_from_exception(error).payload)
    return {"status": "success", trigger.return_key: trigger.return_value}


def put_champion(world: World) -> None:
    """What the week before left."""
    put_images(world)
    world.store.objects["colors/champion.tar.gz"] = json.dumps(world.sagemaker.candidate).encode()
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/colors/champion.tar.gz"}
    variant = {"VariantName": "AllTraffic", "ModelName": "champion", "InstanceType": "ml.m5.large"}
    ask = world.sagemaker.answer
    ask("CreateModel", {"ModelName": "champion", "PrimaryContainer": container})
    ask("CreateEndpointConfig", {"EndpointConfigName": "champion", "ProductionVariants": [variant]})
    ask("CreateEndpoint", {"EndpointName": ENDPOINT, "EndpointConfigName": "champion"})
    world.clock.sleep(3600)
    world.sagemaker.settle()
