"""Kill the server with SIGKILL at random moments while clients change things; what it acknowledged must be there.

    python -m bench.kill --kills 300          (make kill-test)

Several clients create, update, tag, stop and delete resources of several kinds. Each notes what every call was
answered. After each kill the server starts again on the same folder, and each resource that was touched is looked at:
its state must be the last acknowledged one or, where the kill took the answer away, the one before or after that call.
Ends with status 1 when an acknowledged call is lost, a state is neither, or a restart is refused. n without a failure
bounds the rate of failures below 3/n at 95 %.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions

from bench.local_server import Buckets, LocalServer

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.14-cpu"
ROLE = "arn:aws:iam::000000000000:role/r"
ACCOUNT = "arn:aws:sagemaker:us-east-1:000000000000"
CLIENTS = 6

#: A resource's state as a client can see it; None: it does not exist.
State = Any


class InDoubtError(Exception):
    """The connection ended without an answer: the call was carried out, or not."""


@dataclasses.dataclass
class Resource:
    kind: str
    name: str
    possible: list[State]
    """The states it may be in; more than one after a call in doubt."""

    @property
    def arn(self) -> str:
        return f"{ACCOUNT}:{self.kind}/{self.name}"


class Client:
    """One of the clients: its resources are its own, so it knows what they must look like."""

    def __init__(self, server: LocalServer, number: int, seed: int) -> None:
        self._server = server
        self._api = server.client(max_pool_connections=2)
        self._rng = random.Random(f"{seed}/{number}")
        self._number = number
        self._made = 0
        self.resources: list[Resource] = []
        self.touched: list[Resource] = []
        self.acknowledged: collections.Counter[str] = collections.Counter()
        self.in_doubt = 0
        self.refused: list[str] = []

    def run_until(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._step()
            except InDoubtError:
                self.in_doubt += 1
                stop.wait(1)  # the server is gone; what comes next is the check
            except botocore.exceptions.ClientError as error:
                self.refused.append(f"a call that must succeed was answered: {error}")

    def _step(self) -> None:
        living = [item for item in self.resources[-40:] if item.possible[0] is not None]
        if not living or self._rng.random() < 0.4:
            return self._create()
        resource = self._rng.choice(living)
        self._rng.choice(_CHANGES[resource.kind])(self, resource)

    def _create(self) -> None:
        self._made += 1
        kind = self._rng.choices(list(_CHANGES), (4, 4, 4, 1))[0]
        resource = Resource(kind, f"{kind}-{self._number}-{self._made}", [None])
        self.resources.append(resource)
        if kind == "training-job":
            self._change(resource, "InProgress", self._api.create_training_job, **training_job(resource.name))
        elif kind == "model":
            container = {"Image": IMAGE, "ModelDataUrl": "s3://b/model.tar.gz"}
            self._change(
                resource, {}, self._api.create_model,
                ModelName=resource.name, PrimaryContainer=container, ExecutionRoleArn=ROLE,
            )  # fmt: skip
        elif kind == "endpoint-config":
            variant = {
                "VariantName": "v",
                "ModelName": "base",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
            self._change(
                resource, {}, self._api.create_endpoint_config,
                EndpointConfigName=resource.name, ProductionVariants=[variant],
            )  # fmt: skip
        else:
            self._change(resource, {}, self._api.create_model_package_group, ModelPackageGroupName=resource.name)

    def _tag(self, resource: Resource) -> None:
        key, value = self._rng.choice("abcdef"), str(self._rng.random())
        self._change(
            resource, resource.possible[0] | {key: value}, self._api.add_tags,
            ResourceArn=resource.arn, Tags=[{"Key": key, "Value": value}],
        )  # fmt: skip

    def _untag(self, resource: Resource) -> None:
        key = self._rng.choice("abcdef")
        after = {name: value for name, value in resource.possible[0].items() if name != key}
        self._change(resource, after, self._api.delete_tags, ResourceArn=resource.arn, TagKeys=[key])

    def _delete(self, resource: Resource) -> None:
        call, member = {
            "model": (self._api.delete_model, "ModelName"),
            "endpoint-config": (self._api.delete_endpoint_config, "EndpointConfigName"),
            "model-package-group": (self._api.delete_model_package_group, "ModelPackageGroupName"),
        }[resource.kind]
        self._change(resource, None, call, **{member: resource.name})

    def _version(self, resource: Resource) -> None:
        """A version of a group, made once however often it is asked for, and approved."""
        count = int(resource.possible[0].get("versions", 0)) + 1
        container = {"Image": IMAGE, "ModelDataUrl": "s3://b/model.tar.gz"}
        self._change(
            resource, resource.possible[0] | {"versions": count}, self._api.create_model_package,
            ModelPackageGroupName=resource.name, ClientToken=f"{resource.name}-{count}"[-36:],
            InferenceSpecification={"Containers": [container], "SupportedContentTypes": ["text/csv"]},
        )  # fmt: skip

    def _stop(self, resource: Resource) -> None:
        if resource.possible[0] == "InProgress":
            self._change(resource, "stopped", self._api.stop_training_job, TrainingJobName=resource.name)

    def _change(self, resource: Resource, after: State, call: Callable[..., Any], **request: Any) -> None:
        before = resource.possible[0]
        resource.possible = [before, after]
        if resource not in self.touched:
            self.touched.append(resource)
        try:
            call(**request)
        except botocore.exceptions.ClientError as error:
            if (
                error.response["ResponseMetadata"]["HTTPStatusCode"] < 500
                and after is None
                and "still has" in str(error)
            ):
                resource.possible = [before]  # a group that is not empty
                return
            if after == "stopped" and "because the training job is in status" in str(error):
                resource.possible = [after]  # it has ended by itself since it was looked at
                return
            raise
        except botocore.exceptions.BotoCoreError as error:
            raise InDoubtError from error
        resource.possible = [after]
        self.acknowledged[call.__name__] += 1

    def check(self, resources: list[Resource]) -> list[str]:
        """What is not as it must be; what was in doubt is certain afterwards."""
        wrong = []
        for resource in resources:
            seen = self._look(resource)
            if any(_agrees(expected, seen) for expected in resource.possible):
                resource.possible = (
                    [seen] if resource.kind != "training-job" or seen is None else resource.possible[-1:]
                )
            else:
                wrong.append(f"{resource.kind} '{resource.name}' is {seen!r}; it must be one of {resource.possible!r}")
                resource.possible = [seen]
        return wrong

    def _look(self, resource: Resource) -> State:
        describe, member = {
            "model": (self._api.describe_model, "ModelName"),
            "endpoint-config": (self._api.describe_endpoint_config, "EndpointConfigName"),
            "model-package-group": (self._api.describe_model_package_group, "ModelPackageGroupName"),
            "training-job": (self._api.describe_training_job, "TrainingJobName"),
        }[resource.kind]
        try:
            answer = describe(**{member: resource.name})
        except botocore.exceptions.ClientError:
            return None
        if resource.kind == "training-job":
            return answer["TrainingJobStatus"]
        state = {tag["Key"]: tag["Value"] for tag in self._api.list_tags(ResourceArn=resource.arn)["Tags"]}
        if resource.kind == "model-package-group":
            packages = self._api.list_model_packages(ModelPackageGroupName=resource.name, MaxResults=100)
            if versions := len(packages["ModelPackageSummaryList"]):
                state["versions"] = versions
        return state


_CHANGES: dict[str, tuple[Callable[[Client, Resource], None], ...]] = {
    "model": (Client._tag, Client._tag, Client._untag, Client._delete),
    "endpoint-config": (Client._tag, Client._untag, Client._delete),
    "model-package-group": (Client._version, Client._version, Client._tag, Client._delete),
    "training-job": (Client._stop,),
}


def _agrees(expected: State, seen: State) -> bool:
    if isinstance(expected, str) and isinstance(seen, str):  # a job goes on by itself, but not back from a stop
        return expected == "InProgress" or seen != "InProgress"
    return bool(expected == seen)


def training_job(name: str) -> dict[str, Any]:
    """One that fails when its source is fetched: there is no such bucket."""
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "HyperParameters": {"sagemaker_program": "t.py", "sagemaker_submit_directory": "s3://b/sourcedir.tar.gz"},
        "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


def run(kills: int, seed: int, root: Path) -> int:
    rng = random.Random(seed)
    server = LocalServer(root, s3_endpoint=Buckets.serve(), arguments=("--stop-grace", "1"))
    server.start()
    container = {"Image": IMAGE, "ModelDataUrl": "s3://b/model.tar.gz"}
    server.client().create_model(ModelName="base", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    clients = [Client(server, number, seed) for number in range(CLIENTS)]
    wrong: list[str] = []
    refused, restarts_s = 0, []
    for kill in range(1, kills + 1):
        stop = threading.Event()
        threads = [threading.Thread(target=client.run_until, args=(stop,)) for client in clients]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.02, 0.6))
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
        try:
            restarts_s.append(server.start())
        except RuntimeError as error:
            print(error)
            refused += 1
            break
        for client in clients:
            wrong += client.refused + client.check(client.touched)
            client.touched.clear()
            client.refused.clear()
        if sys.stderr.isatty() or kill % 25 == 0 or kill == kills:
            print(f"\r{kill} kills, {len(wrong)} wrong, {refused} refused", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if not refused:
        for client in clients:
            wrong += client.check(client.resources)
        server.stop()
    acknowledged = sum((client.acknowledged for client in clients), collections.Counter())
    print(f"kills            {len(restarts_s)} (seed {seed})")
    print(f"acknowledged     {acknowledged.total()} calls: {dict(sorted(acknowledged.items()))}")
    print(f"in doubt         {sum(client.in_doubt for client in clients)} calls that the kill left without an answer")
    print(f"lost             {len(wrong)} (target 0)")
    print(f"refused restarts {refused} (target 0)")
    print(f"restart          median {sorted(restarts_s)[len(restarts_s) // 2]:.2f} s, most {max(restarts_s):.2f} s")
    for line in wrong[:20]:
        print(line)
    return 1 if wrong or refused else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="local-sagemaker-kill-"))
    status = run(options.kills, options.seed, folder)
    if status:
        print(f"the server's folder is left in {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(status)
