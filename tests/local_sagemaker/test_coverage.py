"""The table in its README of what is implemented is the code's."""

from __future__ import annotations

from local_sagemaker import app, coverage
from local_sagemaker.wire import service_model
from tests.local_sagemaker.harness import REPOSITORY

BEGIN, END = "<!-- coverage -->", "<!-- /coverage -->"


def test_readme_shows_what_the_code_implements() -> None:
    _, _, rest = (REPOSITORY / "local_sagemaker" / "README.md").read_text().partition(BEGIN)
    shown, end, _ = rest.partition(END)
    assert end, f"local_sagemaker/README.md has no section between {BEGIN} and {END}"
    assert shown.strip() == coverage.as_markdown(), (
        "paste what `python -m local_sagemaker --operations=markdown` prints"
    )


def test_every_implemented_operation_is_in_the_table() -> None:
    table = coverage.as_markdown()
    told = {word for line in table.splitlines() for word in line.replace("|", " ").replace(",", " ").split()}
    for service, functions in app.operations().items():
        for name in functions:
            assert name in told or service == "sagemaker"
    nouns = coverage._nouns(sorted(app.operations()["sagemaker"]))
    assert sum(len(verbs) for verbs in nouns.values()) == len(app.operations()["sagemaker"])


def test_every_implemented_operation_is_one_of_aws() -> None:
    for service, names in coverage.implemented().items():
        if service not in app.operations():
            continue
        assert set(names) <= set(service_model.service(service).operation_names)
