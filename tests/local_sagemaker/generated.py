"""Requests made from the service model: valid ones, ones at the bounds, and broken ones.

Request number n of a seed is always the same, so a failure is named by two numbers.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import re
import re._constants as sre
import re._parser as sre_parser
import urllib.parse
from typing import Any

from local_sagemaker.wire import java_pattern, service_model

#: Names that many requests share, so that they meet what others have made.
NAMES = ("alpha", "beta-2", "Gamma", "delta-delta", "e")
BUCKETS = ("s3://test-bucket/generated/here", "s3://no-such-bucket/x", "s3://test-bucket/")
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cpu-amzn2023-sagemaker"
KINDS = (
    "training-job", "hyper-parameter-tuning-job", "transform-job", "processing-job", "model", "endpoint-config",
    "endpoint", "model-package-group",
)  # fmt: skip

#: What keeps a valid request cheap to obey: few instances, short times, few children.
_SMALL = {
    "InstanceCount": 1, "InitialInstanceCount": 1, "MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 1,
    "MaxRuntimeInSeconds": 20, "MaxWaitTimeInSeconds": 20, "MaxConcurrentTransforms": 1, "MaximumRetryAttempts": 1,
    "TerminationWaitInSeconds": 0, "WaitIntervalInSeconds": 0, "ModelDataDownloadTimeoutInSeconds": 60,
    "ContainerStartupHealthCheckTimeoutInSeconds": 60, "KeepAlivePeriodInSeconds": 0,
}  # fmt: skip
_TEXTS = (
    "", " ", "é", "日本語", "a" * 300, "a" * 70_000, "\x00", "\n", "'; DROP TABLE records; --", "../../etc/passwd",
    "{{7*7}}", "\u202e", "%s%n", "<script>alert(1)</script>", "-", "A" * 64, "NaN", "0", "true", "null",
)  # fmt: skip
_NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**400, 0.1, -0.0, 1e308, 5e-324)
_JSON = (None, True, 1, 1.5, "text", [], {}, [[]], {"a": {}}, [None], ["x"])


@dataclasses.dataclass(frozen=True)
class Generated:
    seed: int
    number: int
    service: str
    operation: str
    kind: str
    """valid, bound, broken (one thing wrong in a valid request), or garbage (the bytes themselves)."""
    body: bytes

    def __str__(self) -> str:
        return (
            f"generated.request({self.seed}, {self.number}): {self.kind} {self.service} {self.operation}\n"
            f"{self.body[:3000]!r}"
        )


def request(seed: int, number: int, implemented: dict[str, list[str]]) -> Generated:
    rng = random.Random(f"{seed}/{number}")
    service = rng.choices(list(implemented), [0.7 if name == "sagemaker" else 0.1 for name in implemented])[0]
    names = implemented[service]
    if rng.random() < 0.1:
        names = sorted(service_model.service(service).operation_names)
    # More is made than deleted, so that there is something to describe.
    operation = rng.choices(
        names, [3 if name in LIKELY else 0.5 if name.startswith("Delete") else 1 for name in names]
    )[0]
    kind = rng.choices(("valid", "bound", "broken", "garbage"), (0.35, 0.25, 0.37, 0.03))[0]
    model = service_model.operation(service, operation)
    shape = model.input_shape if model else None
    content = Values(rng, at_bounds=kind == "bound").of(shape) if shape is not None else {}
    if operation in LIKELY and rng.random() < 0.8:
        content = likely(rng, operation, content)
    if kind == "broken":
        content = broken(rng, content)
    body = json.dumps(content).encode()
    return Generated(seed, number, service, operation, kind, garbage(rng, body) if kind == "garbage" else body)


_ROLE = "arn:aws:iam::000000000000:role/r"
_CHANNEL = {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": BUCKETS[0]}}}
_CONTAINER = {"Image": IMAGE, "ModelDataUrl": f"{BUCKETS[0]}/model.tar.gz"}
_RESOURCES = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
_TRAINING = {
    "RoleArn": _ROLE,
    "AlgorithmSpecification": {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
    },
    "OutputDataConfig": {"S3OutputPath": BUCKETS[0]},
    "ResourceConfig": _RESOURCES,
    "StoppingCondition": {"MaxRuntimeInSeconds": 20},
}

#: What a client would send: the members that one made up at random would hardly ever have right together. A NAME is
#: one of those that all requests share.
LIKELY: dict[str, dict[str, Any]] = {
    "CreateTrainingJob": _TRAINING
    | {
        "TrainingJobName": "NAME",
        "HyperParameters": {
            "sagemaker_program": "train.py", "sagemaker_submit_directory": f"{BUCKETS[0]}/sourcedir.tar.gz",
        },
        "InputDataConfig": [_CHANNEL],
    },
    "CreateHyperParameterTuningJob": {
        "HyperParameterTuningJobName": "NAME",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 1},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "lr", "MinValue": "0.1", "MaxValue": "1"}]},
        },
        "TrainingJobDefinition": _TRAINING | {"StaticHyperParameters": {"sagemaker_program": "train.py"}},
    },
    "CreateTransformJob": {
        "TransformJobName": "NAME",
        "ModelName": "NAME",
        "TransformInput": {"DataSource": _CHANNEL["DataSource"]},
        "TransformOutput": {"S3OutputPath": BUCKETS[0]},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    },
    "CreateProcessingJob": {
        "ProcessingJobName": "NAME",
        "RoleArn": _ROLE,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["false"]},
        "ProcessingResources": {"ClusterConfig": _RESOURCES},
        "StoppingCondition": {"MaxRuntimeInSeconds": 20},
    },
    "CreateModel": {"ModelName": "NAME", "PrimaryContainer": _CONTAINER, "ExecutionRoleArn": _ROLE},
    "CreateEndpointConfig": {
        "EndpointConfigName": "NAME",
        "ProductionVariants": [
            {"VariantName": "v", "ModelName": "NAME", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
        ],
    },
    "CreateEndpoint": {"EndpointName": "NAME", "EndpointConfigName": "NAME"},
    "UpdateEndpoint": {"EndpointName": "NAME", "EndpointConfigName": "NAME"},
    "CreateModelPackageGroup": {"ModelPackageGroupName": "NAME"},
    "CreateModelPackage": {
        "ModelPackageGroupName": "NAME",
        "InferenceSpecification": {"Containers": [_CONTAINER], "SupportedContentTypes": ["text/csv"]},
    },
    "AddTags": {
        "ResourceArn": "arn:aws:sagemaker:us-east-1:000000000000:model/NAME", "Tags": [{"Key": "k", "Value": "v"}],
    },
}  # fmt: skip


def likely(rng: random.Random, operation: str, generated: dict[str, Any]) -> dict[str, Any]:
    """What a client would send, with a few of the generated members in it."""

    def named(value: Any) -> Any:
        match value:
            case dict():
                return {key: named(item) for key, item in value.items()}
            case list():
                return [named(item) for item in value]
            case str() if value.endswith("NAME"):
                return value.replace("NAME", rng.choice(NAMES))
        return value

    content = named(LIKELY[operation])
    extra = [name for name in generated if name not in content or rng.random() < 0.1]
    return content | {name: generated[name] for name in rng.sample(extra, min(len(extra), rng.choice((0, 0, 1, 2))))}


class Values:
    """Values of the model's shapes; with `at_bounds`, the longest, shortest, largest and smallest that are allowed."""

    def __init__(self, rng: random.Random, *, at_bounds: bool) -> None:
        self._rng = rng
        self._at_bounds = at_bounds
        self._many = 0

    def of(self, shape: Any, name: str = "", depth: int = 0) -> Any:
        rng = self._rng
        match shape.type_name:
            case "structure":
                return self._structure(shape, depth)
            case "list":
                return [self.of(shape.member, name, depth + 1) for _ in range(self._count(shape, depth))]
            case "map":
                entries = range(self._count(shape, depth))
                return {self.of(shape.key, "", depth + 1): self.of(shape.value, "", depth + 1) for _ in entries}
            case "integer" | "long" | "float" | "double":
                return self._number(shape, name)
            case "boolean":
                return rng.random() < 0.5
            case "timestamp":
                return rng.choice((0, 1_700_000_000, 1_763_700_000.25, 4_000_000_000))
            case "blob":
                return "aGVsbG8="
            case _:
                return self._text(shape, name)

    def _structure(self, shape: Any, depth: int) -> dict[str, Any]:
        rng = self._rng
        optional = [name for name in shape.members if name not in shape.required_members]
        wanted = [name for name in optional if rng.random() < (0.4 if depth < 3 else 0.1)]
        names = [*shape.required_members, *wanted]
        if getattr(shape, "is_tagged_union", False):
            names = [rng.choice(list(shape.members))]
        return {name: self.of(shape.members[name], name, depth + 1) for name in names}

    def _count(self, shape: Any, depth: int) -> int:
        least, most = int(shape.metadata.get("min", 0)), int(shape.metadata.get("max", 3))
        if self._at_bounds and self._rng.random() < 0.3 and depth < 4 and most <= 50 and self._many < 2:
            self._many += (
                1  # one or two long lists make a request of some kilobytes; lists of lists would make megabytes
            )
            return most
        return self._rng.randint(least, max(least, min(most, 2 if depth < 4 else 1)))

    def _number(self, shape: Any, name: str) -> float:
        least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 1_000)
        if name in _SMALL and self._rng.random() < 0.9:
            return min(max(_SMALL[name], least), most)
        if shape.type_name in ("float", "double"):
            return self._rng.choice((float(least), float(most), (least + most) / 2))
        return int(self._rng.choice((least, most) if self._at_bounds else (least, self._rng.randint(least, most))))

    def _text(self, shape: Any, name: str) -> str:
        rng = self._rng
        if shape.enum:
            return str(rng.choice(shape.enum))
        for likely in self._likely(name):
            if rng.random() < 0.8 and self._fits(shape, likely):
                return likely
        for _ in range(20):
            text = self._any_text(shape)
            if self._fits(shape, text):
                return text
        return next((name for name in NAMES if self._fits(shape, name)), "x")

    def _likely(self, name: str) -> tuple[str, ...]:
        rng = self._rng
        if name.endswith("Arn"):
            version = "model-package/alpha/1"
            resource = rng.choice((f"{rng.choice(KINDS)}/{rng.choice(NAMES).lower()}", version))
            return (f"arn:aws:sagemaker:us-east-1:000000000000:{resource}",)
        if name == "ModelPackageName":
            return ("arn:aws:sagemaker:us-east-1:000000000000:model-package/alpha/1",)
        if "Image" in name or name.endswith(("EcrRepository", "EcrImage")):
            return (IMAGE,)
        if name == "NextToken" or name == "nextToken":
            return ("W1wiYVwiLCAxXQ==",)
        return (
            rng.choice(NAMES),
            rng.choice(BUCKETS),
            "arn:aws:iam::000000000000:role/r",
            "/aws/sagemaker/TrainingJobs",
        )

    def _any_text(self, shape: Any) -> str:
        least, most = int(shape.metadata.get("min", 0)), int(shape.metadata.get("max", 64))
        pattern = shape.metadata.get("pattern")
        if pattern and pattern not in (".*", "[\\s\\S]*"):
            text = Written(self._rng).of(sre_parser.parse(java_pattern._translate(pattern), re.ASCII))
            return text[:most] if len(text) > most else text
        length = (
            self._rng.choice((least, min(most, 5_000)))
            if self._at_bounds
            else self._rng.randint(least, max(least, min(most, 24)))
        )
        return "".join(self._rng.choice("abcXYZ019-_/ .é") for _ in range(max(length, least)))

    @staticmethod
    def _fits(shape: Any, text: str) -> bool:
        least, most = float(shape.metadata.get("min", 0)), float(shape.metadata.get("max", 2**31))
        pattern = shape.metadata.get("pattern")
        return least <= len(text) <= most and (not pattern or java_pattern.compiled(pattern)(text))


class Written:
    """A text that a parsed regular expression may match (assertions are left to the caller's check)."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def of(self, parsed: Any) -> str:
        return "".join(self._one(operator, argument) for operator, argument in parsed)

    def _one(self, operator: Any, argument: Any) -> str:
        rng = self._rng
        if operator is sre.LITERAL:
            return chr(argument)
        if operator is sre.IN:
            return self._in(argument)
        if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            least, most, inner = argument
            times = rng.randint(least, min(most if most is not sre.MAXREPEAT else least + 6, least + 12))
            return "".join(self.of(inner) for _ in range(times))
        if operator is sre.SUBPATTERN:
            return self.of(argument[3])
        if operator is sre.BRANCH:
            return self.of(rng.choice(argument[1]))
        if operator is sre.ANY or operator is sre.NOT_LITERAL:
            return rng.choice("ab1-/")
        return ""

    def _in(self, items: Any) -> str:
        operator, argument = self._rng.choice(items)
        if operator is sre.LITERAL:
            return chr(argument)
        if operator is sre.RANGE:
            return chr(self._rng.randint(argument[0], min(argument[1], argument[0] + 60)))
        if operator is sre.CATEGORY:
            return {sre.CATEGORY_DIGIT: "7", sre.CATEGORY_SPACE: " "}.get(argument, "w")
        return self._rng.choice("aZ3")  # a negated class: most leave these in


def broken(rng: random.Random, content: Any) -> Any:
    """The same with one to three values changed into something that is not asked for."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(content))
        if not places:
            return {"Surprise": copy.deepcopy(rng.choice(_JSON))}
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 | 0:
                holder[key] = rng.choice(_TEXTS)
            case 2:
                holder[key] = rng.choice(_NUMBERS)
            case 3:
                holder[key] = copy.deepcopy(rng.choice(_JSON))
            case 4 if isinstance(holder, dict):
                holder[f"{key}x"] = copy.deepcopy(rng.choice(_JSON))
            case 5 if isinstance(holder[key], list) and holder[key]:
                holder[key] = holder[key] * rng.choice((2, 60))
            case 6 if isinstance(holder[key], str):
                holder[key] = holder[key] + rng.choice(_TEXTS)
            case _:
                holder[key] = [holder[key]]
    return content


def _places(content: Any) -> Any:
    """Every (container, key) in a value."""
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from _places(content[key])


def garbage(rng: random.Random, body: bytes) -> bytes:
    return rng.choice(
        (
            b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"\xed\xa0\x80", body[: len(body) // 2], b"{\"a\": NaN}",
            body.replace(b'"', b"'"), b"[" * 100_000, b'{"a":' * 20_000, body[:-1] + b', "X": 1e999}',
            b'{"TrainingJobName": "\\ud800"}', b'{"MaxResults": Infinity}', b'{"a": ' + b"9" * 10_000 + b"}",
            b'{"TrainingJobName": "a", "TrainingJobName": "b"}', body + body, b"\x1f\x8b\x08garbage",
        )
    )  # fmt: skip


def form(rng: random.Random, service: str, names: list[str]) -> bytes:
    """A request of the Query protocol, mostly of members the operation has, nested as it may not be."""
    name = rng.choice([*names, *names, *names, "Nothing", ""])
    operation = service_model.operation(service, name)
    members = list(operation.input_shape.members) if operation and operation.input_shape else []
    fields = {"Action": name, "Version": "2010-08-01"}
    for _ in range(rng.randrange(6)):
        steps = rng.choices(
            ["member", "1", "2", "x", "entry", "key", "Name", "Value", "", "-1", "999999999"], k=rng.randrange(4)
        )
        key = ".".join([rng.choice([*members, "Surprise"]), *steps])
        fields[key] = rng.choice([*_TEXTS[:4], "1", "1e999", "true", "2026-01-01T00:00:00Z", "\x00", "9" * 400])
    return urllib.parse.urlencode(fields).encode() + rng.choice(
        [b"", b"", b"&", b"&=", b"&%zz=%ff", b"&Action=GetRole"]
    )


def cbor(rng: random.Random) -> bytes:
    """Bytes that are CBOR, or were: small maps, wrong lengths, deep nesting, tags, all sorts of numbers."""
    whole = (
        b"\xa2\x69Namespace\x61N\x6aMetricData\x81\xa2\x6aMetricName\x61m\x65Value\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00"
    )
    return rng.choice(
        (
            whole,
            whole[: rng.randrange(len(whole))],
            bytes(rng.randrange(256) for _ in range(rng.randrange(60))),
            whole.replace(b"\xfb\x3f\xf0", b"\xfb\x7f\xf8"),
            b"\x81" * 50_000,
            b"\xbf" * 5_000,
            b"\x9b" + b"\xff" * 8,
            b"\x5b" + b"\xff" * 8 + b"x",
            b"\xa1\x69Namespace\xf6",
            b"\xa1\x01\x02",
            b"\xa1\x81\x01\x02",
            b"\xc1\xfb\x7f\xf0" + bytes(6),
            b"\xa1\x69Namespace\x62\xff\xfe",
            b"\xc2\x49" + b"\xff" * 9,
        )
    )
