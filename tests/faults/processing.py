"""What processing jobs leave behind: verdicts about the pictures of a sync, or about the rules of a training."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from retraining.dataset.processing.part import judge
from tests.faults.store import Store


def processed(
    name: str, job: Mapping[str, Any], store: Store, key: Callable[[str], str]
) -> Iterator[tuple[str, bytes]]:
    """URI and bytes of each file of a job's output. `key`: where an URI is in the store."""
    inputs = {one["InputName"]: key(one["S3Input"]["S3Uri"]) for one in job["ProcessingInputs"]}
    (output,) = job["ProcessingOutputConfig"]["Outputs"]
    uri = output["S3Output"]["S3Uri"].rstrip("/")
    if "files" in inputs:
        head, *entries = json.loads(store.objects[inputs["files"]])
        files = tuple((entry, store.objects[key(f"{head['prefix']}{entry}")]) for entry in entries)
        found = judged(files)
        yield from ((f"{uri}/{name}/{path}", body) for path, body in found.items())
    else:
        for rule in json.loads(store.objects[f"{inputs['rules']}rules.json"]):
            verdict = {"RuleEvaluationStatus": "NoIssuesFound", "StatusDetails": ""}
            yield f"{uri}/{rule['RuleConfigurationName']}/verdict.json", json.dumps(verdict).encode()


@lru_cache(maxsize=4)
def judged(files: tuple[tuple[str, bytes], ...]) -> dict[str, bytes]:
    """By the program that runs in the container."""
    with tempfile.TemporaryDirectory() as folder:
        given, output = Path(folder, "given"), Path(folder, "output")
        for name, body in files:
            (given / name).parent.mkdir(parents=True, exist_ok=True)
            (given / name).write_bytes(body)
        judge(given, output, "algo-1")
        return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}
