"""What is implemented, told from the code: for a terminal, and as the README's table."""

from __future__ import annotations

import re
from collections import defaultdict

from local_sagemaker import app
from local_sagemaker.hosting.invocation import OPERATIONS as RUNTIME
from local_sagemaker.operations import admin
from local_sagemaker.wire import service_model

_TITLES = {
    "sagemaker": "SageMaker",
    "sagemaker-runtime": "SageMaker Runtime",
    "logs": "CloudWatch Logs",
    "cloudwatch": "CloudWatch",
    "application-autoscaling": "Application Auto Scaling",
    "sts": "STS",
    "iam": "IAM",
    admin.SERVICE: "LocalSageMaker (of this server's own)",
}
_VERB = re.compile(r"(Batch)?[A-Z][a-z]+")


def implemented() -> dict[str, list[str]]:
    """Service → its implemented operations, sorted."""
    found = {service: sorted(functions) for service, functions in app.operations().items()}
    runtime = sorted(str(name) for name in RUNTIME.values())
    return (
        {"sagemaker": found.pop("sagemaker"), "sagemaker-runtime": runtime}
        | found
        | {admin.SERVICE: sorted(admin.OPERATIONS)}
    )


def as_text() -> str:
    return "\n".join(f"{service:18} {name}" for service, names in implemented().items() for name in names)


def as_markdown() -> str:
    """One table row for each noun of SageMaker and for each other service, and how much of each that is."""
    services = implemented()
    rows = [f"| {noun} | {', '.join(verbs)} |" for noun, verbs in sorted(_nouns(services["sagemaker"]).items())]
    others = [
        f"| {_TITLES.get(service, service)} | {_share(service, names)} | {', '.join(names)} |"
        for service, names in services.items()
        if service != "sagemaker"
    ]
    return "\n".join(
        [
            f"{_share('sagemaker', services['sagemaker'])} operations of SageMaker. Every other one answers with an "
            "error that names it.",
            "",
            "| of SageMaker | operations |",
            "|---|---|",
            *rows,
            "",
            "| other service | operations | which |",
            "|---|---|---|",
            *others,
        ]
    )


def _nouns(names: list[str]) -> dict[str, list[str]]:
    """`TrainingJob` → Create, Describe, …; what is about a part of it stands with it under its whole name."""
    made = {name.removeprefix("Create") for name in names if name.startswith("Create")} | {"Tags"}
    nouns: dict[str, list[str]] = defaultdict(list)
    for name in names:
        verb = _VERB.match(name)
        assert verb, name
        whole = name[verb.end() :]
        noun = whole.partition("For")[2] or whole
        owner = max((other for other in made if noun.startswith(other)), key=len, default=noun)
        nouns[owner].append(verb.group() if whole in (owner, f"{owner}s") else name)
    return nouns


def _share(service: str, names: list[str]) -> str:
    if service == admin.SERVICE:
        return str(len(names))
    return f"{len(names)} of {len(service_model.service(service).operation_names)}"
