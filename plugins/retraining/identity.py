"""What makes a job or resource that stands under a run's name this run's own: where it reads, writes, and what it runs.

A name is no proof. Another deployment of the account, an earlier run of the same run_id, or this run before its data
or code changed may have taken it; such a thing must be neither adopted nor paid for a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]
"""A Create request, or the answer of the Describe operation to it: SageMaker gives these members back as they came."""


class NameTaken(ValueError):
    """Something else stands under this run's name."""


def require_own(kind: str, name: str, request: Document, description: Document) -> None:
    """NameTaken unless the described thing is what the request would have made. `kind` is one of IDENTITIES."""
    identity = IDENTITIES[kind]
    found = dict(identity(description))
    different = [
        f"its {what} is {found.get(what) or 'not set'}, this run's is {wanted}"
        for what, wanted in identity(request)
        if wanted and found.get(what) != wanted
    ]
    if different:
        raise NameTaken(
            f"{name} ({kind}) exists already and is not what this run asks for: {'; '.join(different)}. Another "
            "deployment of this account made it, or data or code changed since this run began. It is not used, and "
            "nothing is paid for; trigger a new run."
        )


def _training(document: Document, hyperparameters: str = "HyperParameters") -> Iterator[tuple[str, Any]]:
    yield "output", document.get("OutputDataConfig", {}).get("S3OutputPath")
    yield "source code", document.get(hyperparameters, {}).get("sagemaker_submit_directory")
    for channel in document.get("InputDataConfig", ()):
        yield f"channel {channel['ChannelName']}", channel["DataSource"].get("S3DataSource", {}).get("S3Uri")


def _tuning(document: Document) -> Iterator[tuple[str, Any]]:
    return _training(document.get("TrainingJobDefinition", {}), "StaticHyperParameters")


def _transform(document: Document) -> Iterator[tuple[str, Any]]:
    yield "model", document.get("ModelName")
    yield "input", document.get("TransformInput", {}).get("DataSource", {}).get("S3DataSource", {}).get("S3Uri")
    yield "output", document.get("TransformOutput", {}).get("S3OutputPath")


def _processing(document: Document) -> Iterator[tuple[str, Any]]:
    for entry in document.get("ProcessingInputs", ()):
        yield f"input {entry['InputName']}", entry.get("S3Input", {}).get("S3Uri")
    for entry in document.get("ProcessingOutputConfig", {}).get("Outputs", ()):
        yield f"output {entry['OutputName']}", entry.get("S3Output", {}).get("S3Uri")


def _model(document: Document) -> Iterator[tuple[str, Any]]:
    yield "artifact", document.get("PrimaryContainer", {}).get("ModelDataUrl")
    yield "image", document.get("PrimaryContainer", {}).get("Image")


def _endpoint_config(document: Document) -> Iterator[tuple[str, Any]]:
    for variant in document.get("ProductionVariants", ()):
        yield f"model of variant {variant['VariantName']}", variant.get("ModelName")


def _model_package(document: Document) -> Iterator[tuple[str, Any]]:
    for container in document.get("InferenceSpecification", {}).get("Containers", ()):
        yield "artifact", container.get("ModelDataUrl")


IDENTITIES: dict[str, Callable[[Document], Iterator[tuple[str, Any]]]] = {
    "training": _training,
    "tuning": _tuning,
    "transform": _transform,
    "processing": _processing,
    "model": _model,
    "endpoint config": _endpoint_config,
    "model package": _model_package,
}
