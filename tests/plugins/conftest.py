"""A real S3 (SeaweedFS) for the edge, and a plan to work with for all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import boto3
import pytest

# Before anything imports airflow, and only where no other conftest has already done so.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-test-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(Path(__file__).parents[2] / "plugins"))

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

from retraining.environment import AWS_CONN_ID, Environment
from retraining.operators.training import TrainingOperator
from retraining.plan import Plan
from retraining.recipe import Recipe, read_recipe
from retraining.run import Run
from tests.local_sagemaker.harness import Server
from tests.object_store import CLIENT, KEY_ID, SECRET, delete_bucket, free_ports
from tests.plugins.release_run import ARN, IMAGES, Facts, Runs
from tests.plugins.task_run import IMAGE, ROLE, TaskInstance, archive


@pytest.fixture(scope="session", autouse=True)
def kept_clients() -> Iterator[None]:
    """A boto3 client is made once for each address: a task makes its own, and tests would make thousands."""
    made: dict[tuple[Any, ...], Any] = {}
    make = AwsGenericHook.get_client_type

    def kept(hook: Any, region_name: str | None = None, config: Any = None, deferrable: bool = False) -> Any:
        if deferrable:
            return make(hook, region_name, config, deferrable)
        asked = repr(config and sorted(config._user_provided_options.items()))
        variables = (
            *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            *("AWS_DEFAULT_REGION", "AIRFLOW_CONN_AWS_DEFAULT"),
        )
        key = (hook.client_type, hook.aws_conn_id, region_name, asked, *map(os.environ.get, variables))
        if key not in made:
            made[key] = make(hook, region_name, config)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AwsGenericHook, "get_client_type", kept)
        yield


@pytest.fixture(scope="session")
def s3(s3_endpoint: str) -> Any:
    """A boto3 client of the session's SeaweedFS."""
    return boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT)


@pytest.fixture
def bucket(s3: Any) -> Iterator[str]:
    """A bucket of one test's own."""
    name = f"test-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    delete_bucket(s3, name)


@pytest.fixture
def recipe_data() -> dict[str, Any]:
    """A small valid recipe, as YAML would give it; tests break it in one place."""
    return {
        "name": "shapes",
        "source": "bundled://digits",
        "hyperparameters": {"arch": "resnet18", "epochs": 2},
        "tuning": {"ranges": {"lr": {"type": "continuous", "min": 0.001, "max": 0.1, "scaling": "Logarithmic"}}},
    }


@pytest.fixture
def recipe(recipe_data: dict[str, Any]) -> Recipe:
    return read_recipe(recipe_data, where="test")


@pytest.fixture
def make_plan(recipe_data: dict[str, Any]) -> Callable[..., Plan]:
    """make_plan(bucket, source=…, …): a plan of the small recipe with some keys replaced."""

    def make(bucket: str = "a-bucket", **changes: Any) -> Plan:
        environment = Environment.of(
            {
                "RETRAINING_ENVIRONMENT": "local",
                "RETRAINING_BUCKET": bucket,
                "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/local-sagemaker",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        )
        recipe = read_recipe(recipe_data | changes, where="test")
        return Plan.of(recipe, environment, datetime(2026, 11, 21, 3, tzinfo=UTC), "manual__1")

    return make


@pytest.fixture(scope="session")
def sagemaker(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A boto3 client of a local_sagemaker for the session, whose only image is this interpreter.

    The provider's hooks reach it through AWS_ENDPOINT_URL, as they do in a real installation.
    """
    with local_sagemaker(tmp_path_factory.mktemp("sagemaker"), s3_endpoint) as client:
        yield client


@pytest.fixture
def closed(s3_endpoint: str, tmp_path: Path) -> Iterator[Any]:
    """The same for an account that SageMaker Debugger is closed to."""
    with local_sagemaker(tmp_path, s3_endpoint, LOCAL_SAGEMAKER_DEBUGGER="closed") as client:
        yield client


@contextmanager
def local_sagemaker(folder: Path, s3_endpoint: str, **environment: str) -> Iterator[Any]:
    (port,), images = free_ports(1), folder / "images.toml"
    python = f'interpreter = "{sys.executable}"'
    images.write_text(
        f'[[image]]\nmatch = ["*debugger-rules*"]\n{python}\nrules = ["{folder / "judge.py"}"]\nfollow = true\n'
        f'[[image]]\nmatch = ["*"]\n{python}\nserve = ["{folder / "serve.py"}"]\n'
    )
    (folder / "serve.py").write_text(SERVE)
    (folder / "judge.py").write_text(JUDGE)
    server = Server(folder / "state", port, s3_endpoint, images)
    environment |= {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
    }
    patched = pytest.MonkeyPatch()
    for name, value in environment.items():
        patched.setenv(name, value)
    try:
        server.start()
        yield server.sagemaker
    finally:
        patched.undo()
        server.stop()


@pytest.fixture
def training(s3: Any, bucket: str) -> Callable[[str], TrainingOperator]:
    """training(script, refused={…}, Member=…): the operator of a job that runs a script."""

    def make(script: str, refused: dict[str, Any] | None = None, **members: Any) -> TrainingOperator:
        s3.put_object(Bucket=bucket, Key="sourcedir.tar.gz", Body=archive(train_py=script))
        name = f"job-{uuid4().hex[:8]}"
        config = {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            "HyperParameters": {
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": f"s3://{bucket}/sourcedir.tar.gz",
            },
            "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        }
        return TrainingOperator(
            task_id="train", config=config | members, refused=refused, aws_conn_id=AWS_CONN_ID, poll_seconds=0.1
        )

    return make


@pytest.fixture
def run_of(bucket: str, recipe_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """run_of(params, budget=…): a run of the small recipe that nothing has been done for."""
    monkeypatch.setenv("RETRAINING_ENVIRONMENT", "local")
    monkeypatch.setenv("RETRAINING_BUCKET", bucket)
    monkeypatch.setenv("RETRAINING_ROLE_ARN", ROLE)

    def make(params: dict[str, Any] | None = None, **changes: Any) -> Run:
        recipe: Recipe = read_recipe(recipe_data | changes, where="test")
        dag_run = SimpleNamespace(run_after=datetime(2026, 11, 21, 3, tzinfo=UTC), run_id=f"manual__{bucket}")
        context: Any = {"ti": TaskInstance(), "params": params or {}, "dag_run": dag_run}
        return Run(recipe, context)

    return make


@pytest.fixture
def runs(sagemaker: Any, bucket: str, recipe_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Runs:
    """runs(number): a run of one recipe up to `compare`, with an endpoint of this test's own."""
    for name, value in (("ENVIRONMENT", "local"), ("BUCKET", bucket), ("ROLE_ARN", ROLE)):
        monkeypatch.setenv(f"RETRAINING_{name}", value)
    own = uuid4().hex[:8]
    recipe = read_recipe(recipe_data | {"name": f"r{own}", "endpoint": f"ep-{own}"}, where="test")

    def make(number: int) -> Run:
        dag_run = SimpleNamespace(run_after=datetime(2026, 11, number, tzinfo=UTC), run_id=f"manual__{number}")
        ti: Any = Facts(**{"needs_retraining.champion": {"document": None, "etag": None}})
        fake: Any = {"ti": ti, "params": {}, "dag_run": dag_run}
        run = Run(recipe, fake)
        ti.known["preflight.return_value"] = {"code": "c", "images": dict.fromkeys(IMAGES, IMAGE)}
        ti.known["sync_dataset.return_value"] = {"fingerprint": "f", "classes": ["a"]}
        ti.known["train.return_value"] = {"name": "t", "arn": ARN, "model_data_url": run.plan.uri(f"{number}.tar.gz")}
        ti.known["tune.return_value"] = {"name": "t"}
        ti.known["compare.comparison"] = {
            "decision": {"promote": True, "reason": "better"},
            "candidate": {"accuracy": 1.0},
            "evaluation_uri": run.plan.uri("evaluation.json"),
        }
        return run

    return make


# An evaluator of rules: those that can stop a training find an issue at once, the others none.
JUDGE = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--rules", type=pathlib.Path)
parser.add_argument("--output", type=pathlib.Path)
given, _ = parser.parse_known_args()
for rule in json.loads(given.rules.read_text()):
    name, action = rule["RuleConfigurationName"], rule["RuleParameters"].get("action_json")
    found = {"RuleEvaluationStatus": "IssuesFound", "StatusDetails": "the loss stands still at step 9"}
    found["Actions"] = [json.loads((action or "null").replace("\\\\", ""))]
    verdict = found if action else {"RuleEvaluationStatus": "NoIssuesFound", "StatusDetails": ""}
    (given.output / name).mkdir(parents=True, exist_ok=True)
    (given.output / name / "verdict.json.new").write_text(json.dumps({"RuleConfigurationName": name} | verdict))
    (given.output / name / "verdict.json.new").rename(given.output / name / "verdict.json")
"""

# A model server that starts only for a model that wants to, and gives every picture the model's one label, or that of
# its names (base64 -> label).
SERVE = """
import base64, http.server, json, os, pathlib, sys, time, zlib
model = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"]) / "model"
if (model / "refuses").exists():
    sys.exit("this model refuses to start")
label = (model / "label").read_text() if (model / "label").exists() else "a"
names = json.loads((model / "names").read_text()) if (model / "names").exists() else {}
contrary = int((model / "contrary").read_text()) if (model / "contrary").exists() else None
def probabilities(body):
    # Of two classes, by the picture's bytes; a contrary model answers otherwise in one picture of so many.
    digest = zlib.crc32(body)
    second = digest % 2 if contrary is None or digest // 2 % contrary else 1 - digest % 2
    return {"probabilities": [0.1, 0.9] if second else [0.9, 0.1]}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"", 200 if self.path == "/ping" else 404)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_json = self.headers["Content-Type"] == "application/json"
        if is_json and (model / "picky").exists():
            self.send_error(500, "only pictures")
            return
        several = json.loads(body).get("instances") if is_json else None
        if several and (model / "forgets").exists():
            several.pop()
        text = json.loads(body).get("image") if is_json else base64.b64encode(body).decode()
        one = {"label": names.get(text, label)} | probabilities(body)
        if (model / "answer").exists():
            one = json.loads((model / "answer").read_text())
        if (model / "crashes").exists():
            self.send_error(500, "this model crashes")
            return
        if (model / "breaks").exists():
            said = {"error": "this model breaks", "answered_by": os.environ.get("MODEL_CUSTOM_ATTRIBUTES", "")}
            self.answer(json.dumps(said).encode(), 500)
            return
        time.sleep(float((model / "slow").read_text()) if (model / "slow").exists() else 0)
        if (model / "mumbles").exists():
            self.answer(b"mumbled")
            return
        listed = [one | ({"label": names[text]} if text in names else {}) for text in several or ()]
        if (model / "sorts").exists():
            listed.sort(key=lambda each: each["label"])
        self.answer(json.dumps({"predictions": listed} if several else one).encode())
    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", os.environ.get("MODEL_CUSTOM_ATTRIBUTES", ""))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""
