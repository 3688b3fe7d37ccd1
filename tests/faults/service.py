"""SageMaker in memory: jobs that end by the clock, a registry, and an endpoint that goes back when an update fails.

Only what the DAG calls. What a model is, its artifact says: {"batch", "serves": "right" | "wrong", "starts": bool}, and
perhaps "captured", how it answers what clients sent, where that is not as "batch", and "rings", the end of the name of
an alarm that goes off some minutes after it has its first requests.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.autoscaling import Autoscaling
from tests.faults.clock import Clock
from tests.faults.cloudwatch import CloudWatch
from tests.faults.processing import processed
from tests.faults.rollout import BACK_S, START_S, Rollout
from tests.faults.store import Store
from tests.faults.wire import Refusal

Document = dict[str, Any]
ARN = "arn:aws:sagemaker:us-east-1:000000000000:"
JOB_S, RINGS_AFTER_S = 600, 150
VARIANT = "AllTraffic"
GOOD: Document = {"batch": "right", "serves": "right", "starts": True}

#: Kind → how Create names a job of it, and where its status stands.
JOBS = {
    "HyperParameterTuningJob": "hyper-parameter-tuning-job",
    "TrainingJob": "training-job",
    "TransformJob": "transform-job",
    "ProcessingJob": "processing-job",
}
MISSING = {
    "HyperParameterTuningJob": ("ResourceNotFound", "Amazon SageMaker can't find a tuning job"),
    "ProcessingJob": ("ValidationException", "Could not find requested job"),
}


@dataclass
class SageMaker:
    """`candidate` is what trainings make; `failures` are the FailureReasons of the trainings that come next."""

    clock: Clock
    store: Store
    cloudwatch: CloudWatch
    scaling: Autoscaling
    bucket: str
    pictures: Mapping[bytes, str]
    """Body → class."""
    candidate: Document = field(default_factory=lambda: dict(GOOD))
    failures: list[str] = field(default_factory=list)
    jobs: dict[str, dict[str, Document]] = field(default_factory=lambda: {kind: {} for kind in JOBS})
    models: dict[str, Document] = field(default_factory=dict)
    configs: dict[str, Document] = field(default_factory=dict)
    endpoints: dict[str, Document] = field(default_factory=dict)
    groups: dict[str, Document] = field(default_factory=dict)
    packages: dict[str, Document] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(operation, endpoint configuration) of each change of an endpoint."""
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    """By the endpoint that is updated."""
    invocations: int = 0
    debugger_open: bool = True
    """Whether the account may have SageMaker Debugger."""

    def answer(self, operation: str, request: Mapping[str, Any]) -> Document:
        self.settle()
        if match := re.fullmatch(r"(Create|Describe|Stop)(\w+)", operation):
            verb, kind = match.groups()
            if kind in JOBS:
                return dict(getattr(self, f"_{verb.lower()}_job")(kind, request))
        if (kind := operation.removeprefix("List").removesuffix("s")) in JOBS:
            return self._list_jobs(kind, request)
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()
        act: Callable[[Mapping[str, Any]], Document] = getattr(self, f"_{name}")
        return act(request)

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _create_job(self, kind: str, request: Mapping[str, Any]) -> Document:
        name, key = request[f"{kind}Name"], f"{kind}Arn"
        if name in self.jobs[kind]:
            raise Refusal(
                "ResourceInUse", "Job name must be unique within an AWS account and region, and a job with this name "
                f"already exists ({self.jobs[kind][name][key]})",
            )  # fmt: skip
        if kind == "TransformJob":
            self._describe_model(request)
        if "DebugHookConfig" in request and not self.debugger_open:
            raise Refusal("ValidationException", "SageMaker Debugger is not available for this account.")
        arn = f"{ARN}{JOBS[kind]}/{name.lower()}"
        reason = self.failures.pop(0) if kind == "TrainingJob" and self.failures else None
        self.jobs[kind][name] = dict(request) | {
            key: arn, f"{kind}Status": "InProgress", "CreationTime": self.clock.now, "Reason": reason,
            "SecondaryStatus": "Training", "ProcessingInputs": request.get("ProcessingInputs", []),
        }  # fmt: skip
        return {key: arn}

    def _describe_job(self, kind: str, request: Mapping[str, Any]) -> Document:
        name = request[f"{kind}Name"]
        if name not in self.jobs[kind]:
            raise Refusal(*MISSING.get(kind, ("ValidationException", "Requested resource not found.")))
        return self.jobs[kind][name]

    def _list_jobs(self, kind: str, request: Mapping[str, Any]) -> Document:
        status, part = request.get("StatusEquals"), request.get("NameContains", "")
        found = [n for n, job in self.jobs[kind].items() if part in n and status in (None, job[f"{kind}Status"])]
        return {f"{kind}Summaries": [{f"{kind}Name": name} for name in reversed(found)]}

    def _stop_job(self, kind: str, request: Mapping[str, Any]) -> Document:
        job = self._describe_job(kind, request)
        if job[f"{kind}Status"] != "InProgress":
            raise Refusal("ValidationException", f"The request was rejected because the job is {job[f'{kind}Status']}")
        job[f"{kind}Status"] = "Stopped"
        return {}

    def running(self) -> list[str]:
        self.settle()
        return [
            name for kind, jobs in self.jobs.items() for name, j in jobs.items() if j[f"{kind}Status"] == "InProgress"
        ]

    def settle(self) -> None:
        """What has ended by now has ended."""
        for kind, jobs in self.jobs.items():
            for name, job in jobs.items():
                if job[f"{kind}Status"] == "InProgress" and self.clock.now >= job["CreationTime"] + JOB_S:
                    self._end(kind, name, job)
        for name, endpoint in list(self.endpoints.items()):
            if rollout := self.rollouts.get(name):
                self._roll(endpoint, rollout)
            if self.clock.now >= endpoint["Until"]:
                self._land(name, endpoint)

    def _end(self, kind: str, name: str, job: Document) -> None:
        failed = job.pop("Reason")
        job[f"{kind}Status"] = "Failed" if failed else "Completed"
        job[f"{kind}EndTime" if kind != "HyperParameterTuningJob" else "HyperParameterTuningEndTime"] = self.clock.now
        if failed:
            job["FailureReason"] = failed
        elif kind == "TrainingJob":
            uri = f"{job['OutputDataConfig']['S3OutputPath']}/{name}/output/model.tar.gz"
            self.store.objects[self._key(uri)] = json.dumps(self.candidate | {"name": name}).encode()
            job["ModelArtifacts"] = {"S3ModelArtifacts": uri}
        elif kind == "HyperParameterTuningJob":
            job["BestTrainingJob"] = {
                "TrainingJobName": f"{name}-001", "TrainingJobArn": f"{ARN}training-job/{name}-001",
                "CreationTime": job["CreationTime"], "TrainingJobStatus": "Completed",
                "TunedHyperParameters": {"lr": "0.01"},
                "FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "validation:accuracy", "Value": 0.9},
            }  # fmt: skip
        elif kind == "TransformJob":
            self._score(job)
        elif kind == "ProcessingJob":
            self.store.objects |= {self._key(uri): body for uri, body in processed(name, job, self.store, self._key)}

    def _score(self, job: Document) -> None:
        model, classes = self.artifact(job["ModelName"]), ["blue", "red"]
        manifest = self._key(job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
        output = self._key(job["TransformOutput"]["S3OutputPath"])
        for entry in json.loads(self.store.objects[manifest])[1:]:
            folder, how = entry.rpartition("/")[0], model["batch"]
            if not folder:  # it was sent by a client
                folder, how = self.pictures[self._sent(manifest, entry)], model.get("captured", how)
            label = _answer(folder, how)
            probabilities = [0.9 if label == one else 0.1 for one in classes]
            self.store.objects[f"{output}/{entry}.out"] = json.dumps({"probabilities": probabilities}).encode()

    def _sent(self, manifest: str, entry: str) -> bytes:
        prefix = json.loads(self.store.objects[manifest])[0]["prefix"]
        return self.store.objects[self._key(f"{prefix}{entry}")]

    def _list_training_jobs_for_hyper_parameter_tuning_job(self, request: Mapping[str, Any]) -> Document:
        return {"TrainingJobSummaries": []}

    # --- models, configurations, registry ---------------------------------------------------------------------------

    def _create_model(self, request: Mapping[str, Any]) -> Document:
        return self._create("model", "Model", self.models, request)

    def _create_endpoint_config(self, request: Mapping[str, Any]) -> Document:
        for variant in request["ProductionVariants"]:
            self._describe_model(variant)
        return self._create("endpoint configuration", "EndpointConfig", self.configs, request)

    def _create(self, noun: str, key: str, known: dict[str, Document], request: Mapping[str, Any]) -> Document:
        name = request[f"{key}Name"]
        arn = f"{ARN}{'model' if key == 'Model' else 'endpoint-config'}/{name}"
        if name in known:
            raise Refusal("ValidationException", f'Cannot create already existing {noun} "{arn}".')
        known[name] = dict(request) | {f"{key}Arn": arn, "CreationTime": self.clock.now}
        return {f"{key}Arn": arn}

    def _describe_model(self, request: Mapping[str, Any]) -> Document:
        return self._find(self.models, request["ModelName"], "model")

    def _describe_endpoint_config(self, request: Mapping[str, Any]) -> Document:
        return self._find(self.configs, request["EndpointConfigName"], "endpoint configuration")

    def _delete_model(self, request: Mapping[str, Any]) -> Document:
        self._describe_model(request)
        del self.models[request["ModelName"]]
        return {}

    def _delete_endpoint_config(self, request: Mapping[str, Any]) -> Document:
        self._describe_endpoint_config(request)
        del self.configs[request["EndpointConfigName"]]
        return {}

    def _list_models(self, request: Mapping[str, Any]) -> Document:
        return {"Models": list(self.models.values())}

    def _list_endpoint_configs(self, request: Mapping[str, Any]) -> Document:
        return {"EndpointConfigs": list(self.configs.values())}

    def _list_tags(self, request: Mapping[str, Any]) -> Document:
        both = {thing.get("ModelArn") or thing["EndpointConfigArn"]: thing for thing in self._tagged()}
        return {"Tags": both[request["ResourceArn"]].get("Tags", [])}

    def _tagged(self) -> list[Document]:
        return [*self.models.values(), *self.configs.values()]

    def _create_model_package_group(self, request: Mapping[str, Any]) -> Document:
        name = request["ModelPackageGroupName"]
        arn = f"{ARN}model-package-group/{name}"
        if name in self.groups:
            raise Refusal("ValidationException", f"Model Package Group already exists: {arn}")
        self.groups[name] = dict(request)
        return {"ModelPackageGroupArn": arn}

    def _create_model_package(self, request: Mapping[str, Any]) -> Document:
        for arn, package in self.packages.items():
            if package["ClientToken"] == request["ClientToken"]:
                return {"ModelPackageArn": arn}
        version = len(self.packages) + 1
        arn = f"{ARN}model-package/{request['ModelPackageGroupName']}/{version}"
        self.packages[arn] = dict(request) | {
            "ModelPackageArn": arn, "ModelPackageVersion": version, "ModelPackageStatus": "Completed",
            "CreationTime": self.clock.now,
        }  # fmt: skip
        return {"ModelPackageArn": arn}

    def _describe_model_package(self, request: Mapping[str, Any]) -> Document:
        return self.packages[request["ModelPackageName"]]

    def _update_model_package(self, request: Mapping[str, Any]) -> Document:
        self.packages[request["ModelPackageArn"]] |= request
        return {"ModelPackageArn": request["ModelPackageArn"]}

    def _list_model_packages(self, request: Mapping[str, Any]) -> Document:
        if request["ModelPackageGroupName"] not in self.groups:
            raise Refusal("ValidationException", "ModelPackageGroup does not exist")
        status = request.get("ModelApprovalStatus")
        found = [p for p in self.packages.values() if status in (None, p["ModelApprovalStatus"])]
        return {"ModelPackageSummaryList": found[::-1]}

    # --- the endpoint -----------------------------------------------------------------------------------------------

    def _list_endpoints(self, request: Mapping[str, Any]) -> Document:
        return {"Endpoints": list(self.endpoints.values())}

    def _create_endpoint(self, request: Mapping[str, Any]) -> Document:
        name, config = request["EndpointName"], request["EndpointConfigName"]
        arn = f"{ARN}endpoint/{name}"
        if name in self.endpoints:
            raise Refusal("ValidationException", f'Cannot create already existing endpoint "{arn}".')
        self._describe_endpoint_config(request)
        self.asked.append(("CreateEndpoint", config))
        self.endpoints[name] = {"EndpointName": name, "EndpointArn": arn, "EndpointConfigName": config}
        self.endpoints[name]["CreationTime"] = self.clock.now
        self._change(name, "Creating", config)
        return {"EndpointArn": arn}

    def _update_endpoint(self, request: Mapping[str, Any]) -> Document:
        name, config = request["EndpointName"], request["EndpointConfigName"]
        endpoint = self._settled(name)
        for variant in self._describe_endpoint_config(request)["ProductionVariants"]:
            self._describe_model(variant)
        if self.scaling.of(name) and self._instance(config) != self._instance(endpoint["EndpointConfigName"]):
            raise Refusal("ValidationException", f"Endpoint {name} has variants that are scalable targets.")
        rollout = Rollout.of(config, self.clock.now, request.get("DeploymentConfig", {}))
        if missing := [alarm for alarm in rollout.alarms if alarm not in self.cloudwatch.alarms]:
            raise Refusal("ValidationException", f"The alarms {missing} do not exist.")
        self.asked.append(("UpdateEndpoint", config))
        self.rollouts[name] = rollout
        self._change(name, "Updating", config)
        return {"EndpointArn": endpoint["EndpointArn"]}

    def _delete_endpoint(self, request: Mapping[str, Any]) -> Document:
        self._settled(request["EndpointName"])
        self.asked.append(("DeleteEndpoint", ""))
        self._change(request["EndpointName"], "Deleting", "")
        return {}

    def _describe_endpoint(self, request: Mapping[str, Any]) -> Document:
        return self._find(self.endpoints, request["EndpointName"], "endpoint")

    def _settled(self, name: str) -> Document:
        endpoint = self._describe_endpoint({"EndpointName": name})
        if endpoint["EndpointStatus"] not in ("InService", "Failed"):
            raise Refusal("ValidationException", f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}"')
        return endpoint

    def _change(self, name: str, status: str, config: str) -> None:
        endpoint = self.endpoints[name]
        endpoint |= {"EndpointStatus": status, "LastModifiedTime": self.clock.now, "Until": self.clock.now + START_S}
        if status == "Updating":
            variants = [{"VariantName": VARIANT, "VariantStatus": [{"Status": "Creating"}]}]
            endpoint["PendingDeploymentSummary"] = {"EndpointConfigName": config, "ProductionVariants": variants}
            if self.served(config)["starts"]:
                endpoint["Until"] = self.rollouts[name].ends

    def _roll(self, endpoint: Document, rollout: Rollout) -> None:
        """An update as far as it has come: it bakes, or an alarm takes it back."""
        now = self.clock.now
        if (
            endpoint["EndpointStatus"] != "Updating"
            or now < rollout.started
            or not self.served(rollout.config)["starts"]
        ):
            return
        rings, own = self.served(rollout.config).get("rings"), rollout.started + RINGS_AFTER_S
        for alarm in rollout.alarms if rings and own <= min(now, rollout.ends) else ():
            if alarm.endswith(rings) and alarm in self.cloudwatch.alarms:
                self.cloudwatch.ring(alarm, "Threshold Crossed: 1 datapoint was greater than the threshold.")
        if now < rollout.ends:
            (variant,) = endpoint["PendingDeploymentSummary"]["ProductionVariants"]
            variant["VariantStatus"] = [{"Status": "Baking"}]
        if ringing := self.cloudwatch.ringing(rollout.alarms):
            endpoint |= {"EndpointStatus": "RollingBack", "Until": min(now, rollout.ends) + BACK_S}
            endpoint["FailureReason"] = f"The CloudWatch alarm(s) {', '.join(ringing)} went into the state ALARM."

    def _land(self, name: str, endpoint: Document) -> None:
        """The end of a change: a fleet that does not start leaves the old one serving."""
        status, endpoint["Until"] = endpoint["EndpointStatus"], float("inf")
        endpoint["LastModifiedTime"] = self.clock.now
        self.rollouts.pop(name, None)
        if status == "Deleting":
            del self.endpoints[name]
            self.scaling.forget(name)
            return
        pending = endpoint.pop("PendingDeploymentSummary", {}).get("EndpointConfigName")
        config = pending or endpoint["EndpointConfigName"]
        if status == "RollingBack":
            endpoint["EndpointStatus"] = "InService"
            return
        if self.served(config)["starts"]:
            endpoint |= {"EndpointStatus": "InService", "EndpointConfigName": config}
            endpoint.pop("FailureReason", None)
            return
        endpoint["EndpointStatus"] = "InService" if pending else "Failed"
        endpoint["FailureReason"] = "The primary container did not pass the ping health check."

    def model_of(self, config: str) -> str:
        return str(self.configs[config]["ProductionVariants"][0]["ModelName"])

    def served(self, config: str) -> Document:
        return self.artifact(self.model_of(config))

    def artifact(self, model: str) -> Document:
        return dict(json.loads(self.store.objects[self._key(self._container(model)["ModelDataUrl"])]))

    def invoke(self, name: str, truths: list[str]) -> tuple[str, list[Document]]:
        """What the endpoint's model says of itself, and answers for pictures whose classes are known."""
        if (endpoint := self.endpoints.get(name)) is None or endpoint["EndpointStatus"] in ("Creating", "Failed"):
            raise Refusal("ValidationError", f"Endpoint {name} of account 000000000000 not found.")
        config, rollout = endpoint["EndpointConfigName"], self.rollouts.get(name)
        self.invocations += 1
        if rollout and endpoint["EndpointStatus"] == "Updating" and self.served(rollout.config)["starts"]:
            # By chance, as a load balancer: in turn the same questions would always meet the same fleet.
            config = rollout.config if _chance(self.invocations) < rollout.share(self.clock.now) else config
        model, says = self.served(config), self._container(self.model_of(config)).get("Environment", {})
        answers = [{"label": _answer(truth, model["serves"])} for truth in truths]
        return says.get("MODEL_CUSTOM_ATTRIBUTES", ""), answers

    # --- parts ------------------------------------------------------------------------------------------------------

    def _find(self, known: dict[str, Document], name: str, noun: str) -> Document:
        if name not in known:
            raise Refusal("ValidationException", f'Could not find {noun} "{name}".')
        return known[name]

    def _container(self, model: str) -> Document:
        return dict(self._describe_model({"ModelName": model})["PrimaryContainer"])

    def _instance(self, config: str) -> str:
        return str(self.configs[config]["ProductionVariants"][0]["InstanceType"])

    def _key(self, uri: str) -> str:
        return uri.removeprefix(f"s3://{self.bucket}/")


def _chance(number: int) -> float:
    """The same for the same request, in each simulation."""
    return random.Random(number).random()


def _answer(truth: str, how: str) -> str:
    return truth if how == "right" else {"red": "blue", "blue": "red"}[truth]
