"""What trackers keep of a training, read back with their own readers; and that a training never depends on them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S, wait_until
from training import tracking

ML = Path(tracking.__file__).parents[1]
EPOCH = {"train:loss": 0.5, "validation:loss": 0.4, "validation:accuracy": 0.75, "images_per_second": 10.0}


@pytest.fixture(scope="module")
def tracked(images, environment, tmp_path_factory):
    """A training with both trackers, each in its local form."""
    base = tmp_path_factory.mktemp("tracked")
    output = base / "output"
    (base / "dataset").mkdir()
    (base / "dataset/dataset.json").write_text('{"classes": ["red", "green", "blue"], "fingerprint": "f00d"}')
    variables = {
        "SM_MODEL_DIR": str(base / "model"),
        "SM_OUTPUT_DATA_DIR": str(output),
        "SM_CHANNEL_TRAIN": str(images / "train"),
        "SM_CHANNEL_VALIDATION": str(images / "validation"),
        "SM_CHANNEL_DATASET": str(base / "dataset"),
        "TRAINING_JOB_NAME": "search-003-1a2b3c4d",
        "WANDB_PROJECT": "colours",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(base),
        "MLFLOW_TRACKING_URI": str(base / "mlruns"),
        "MLFLOW_EXPERIMENT_NAME": "colours",
    }
    given = {"stem": "small", "image-size": 16, "batch-size": 8, "epochs": 2, "lr": 0.002, "serving": "torch"}
    flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, str(ML / "train.py"), *flags],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    done.base, done.history = base, json.loads((output / "history.json").read_text())
    done.best = max(done.history, key=lambda epoch: (epoch["validation:accuracy"], -epoch["validation:loss"]))
    return done


def wandb_records(folder):
    """The records of one offline run, as dicts by kind."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    store, found = DataStore(), {}
    store.open_for_scan(str(path))
    while (body := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record.FromString(body)
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


def items(updates):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


@pytest.mark.slow
def test_wandb_keeps_what_was_trained_and_how(tracked):
    records = wandb_records(tracked.base)
    config = items(records["run"][0].config.update)
    assert config["lr"] == 0.002 and config["dataset_fingerprint"] == "f00d" and config["tuning_job"] == "search"
    assert (records["run"][0].project, records["run"][0].run_group) == ("colours", "search")
    assert list(records["run"][0].tags) == ["search-003-1a2b3c4d", "search"]
    logged = [items(entry.item) for entry in records["history"]]
    assert [entry["_step"] for entry in logged] == [1, 2]
    assert [entry["validation/loss"] for entry in logged] == [epoch["validation:loss"] for epoch in tracked.history]
    summary = {name: value for entry in records["summary"] for name, value in items(entry.update).items()}
    assert summary["best/validation/accuracy"] == tracked.best["validation:accuracy"]
    assert (summary["status"], records["exit"][0].exit_code) == ("finished", 0)


def mlflow_client(folder):
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow import MlflowClient

    return MlflowClient(str(folder))


def only_run(client, name):
    experiment = client.get_experiment_by_name(name).experiment_id
    (run,) = client.search_runs([experiment])
    return run


@pytest.mark.slow
def test_mlflow_keeps_what_was_trained_and_how(tracked):
    client = mlflow_client(tracked.base / "mlruns")
    run = only_run(client, "colours")
    assert run.info.status == "FINISHED"
    assert run.data.params["lr"] == "0.002"
    assert run.data.tags["training_job"] == "search-003-1a2b3c4d" and run.data.tags["dataset_fingerprint"] == "f00d"
    kept = client.get_metric_history(run.info.run_id, "validation/loss")
    assert [(entry.step, entry.value) for entry in kept] == [
        (epoch["epoch"], epoch["validation:loss"]) for epoch in tracked.history
    ]
    assert run.data.metrics["best/validation/loss"] == tracked.best["validation:loss"]


@pytest.mark.slow
def test_the_log_says_where_the_runs_are(tracked):
    assert len([line for line in tracked.stderr.splitlines() if line.startswith("tracking: ")]) == 2
    assert "WARNING" not in tracked.stderr
    assert tracked.stdout.splitlines()[-1].startswith("best epoch=")


FOLLOW = """
import json, os, signal, sys
from types import SimpleNamespace
from training import tracking

end, resumed, numbers = sys.argv[1], sys.argv[2] == "resumed", sys.argv[3:]
tracking.FINISH_S = float(os.environ.get("FINISH_S", 60))
tracking.EARLY_FINISH_S = tracking.FINISH_S
with tracking.Tracking("abc123") as following:
    following.start({"lr": 0.1}, {"training_job": "job"}, None, resumed)
    for number in numbers:
        values = json.loads(os.environ["EPOCH"])
        following.epoch(values, SimpleNamespace(epoch=int(number), best=values))
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    following.stopped = end == "stopped"
    if end == "failed":
        raise ValueError("no such class")
print("the training goes on")
"""


@pytest.fixture
def follow(environment, tmp_path):
    """follow(end, *epochs, …) -> a process that was a training with trackers, in seconds."""

    def run(end, *epochs, resumed=False, options=(), **variables):
        command = [sys.executable, *options, "-c", FOLLOW, end, "resumed" if resumed else "new", *map(str, epochs)]
        variables = {"PYTHONPATH": str(ML), "EPOCH": json.dumps(EPOCH), "WANDB_DIR": str(tmp_path)} | variables
        return subprocess.run(
            command, env=environment | variables, capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path
        )

    return run


@pytest.mark.slow
def test_a_killed_training_is_closed_and_goes_on_in_its_run(follow, tmp_path):
    store = {"MLFLOW_TRACKING_URI": f"file://{tmp_path}/mlruns"}
    follow("killed", 1, **store)
    client = mlflow_client(tmp_path / "mlruns")
    wait_until(lambda: client.search_runs(["0"], filter_string="status = 'KILLED'"), every_s=0.2)
    assert only_run(client, "Default").info.status == "KILLED"
    assert "the training goes on" in follow("done", 2, resumed=True, **store).stdout
    run = only_run(client, "Default")
    assert run.info.status == "FINISHED"
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2]


STUB = """
import json, os, time
SEEN = os.environ["SEEN"]
class Settings(dict): pass
class Run:
    url, dir, summary = None, "here", {}
    def log(self, values, step): pass
    def finish(self, exit_code):
        open(SEEN, "w").write(json.dumps([self.summary, exit_code]))
def init(**given):
    REACTION
    return Run()
"""


@pytest.fixture
def stub(tmp_path):
    """stub(reaction) -> variables under which `import wandb` finds a library that does it when a run begins."""

    def make(reaction="pass"):
        (tmp_path / "stubs").mkdir()
        (tmp_path / "stubs/wandb.py").write_text(STUB.replace("REACTION", reaction))
        return {
            "PYTHONPATH": f"{ML}:{tmp_path / 'stubs'}",
            "WANDB_PROJECT": "p",
            "SEEN": str(tmp_path / "seen.json"),
        }

    return make


@pytest.mark.parametrize(("end", "status", "code"), [("stopped", "stopped", 0), ("failed", "failed", 1)])
def test_a_run_ends_as_its_training_did(follow, stub, tmp_path, end, status, code):
    follow(end, 1, **stub())
    summary, exit_code = json.loads((tmp_path / "seen.json").read_text())
    assert (summary["status"], exit_code) == (status, code)
    assert summary["best/validation/accuracy"] == 0.75


@pytest.mark.parametrize(
    ("reaction", "complaint"),
    [
        ("raise ConnectionError('https://me:pa55word@host/api and sk-canary refused')", "wandb failed and records no"),
        ("time.sleep(600)", "wandb did not finish within 2 s and was ended"),
        ("os.kill(os.getpid(), 9)", "wandb was ended by signal 9"),
    ],
)
def test_a_failing_tracker_is_a_warning(follow, stub, reaction, complaint):
    patience = "2" if "sleep" in reaction else "60"
    done = follow("done", *range(300), FINISH_S=patience, WANDB_API_KEY="sk-canary", **stub(reaction))
    assert (done.returncode, done.stdout) == (0, "the training goes on\n")
    assert complaint in done.stderr and done.stderr.count("WARNING: tracking") == 1
    assert "pa55word" not in done.stderr and "canary" not in done.stderr


def test_an_unreachable_server_is_a_warning(follow):
    done = follow("done", 1, MLFLOW_TRACKING_URI="http://me:pa55word@127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert (done.returncode, done.stdout) == (0, "the training goes on\n")
    assert "mlflow failed and records no more" in done.stderr and "pa55word" not in done.stderr


def test_a_library_that_is_absent_is_a_warning(follow):
    done = follow("done", 1, options=["-S"], WANDB_PROJECT="p", MLFLOW_TRACKING_URI="mlruns")  # no site-packages
    assert done.stdout == "the training goes on\n"
    assert "WANDB_PROJECT is set, but the library 'wandb' is not installed" in done.stderr
    assert "MLFLOW_TRACKING_URI is set, but the library 'mlflow' is not installed" in done.stderr


@pytest.mark.parametrize(
    ("variables", "trackers"),
    [
        ({}, {}),
        ({"WANDB_PROJECT": "p", "WANDB_MODE": "disabled"}, {}),
        ({"WANDB_MODE": "offline"}, {"wandb": "WANDB_MODE"}),
        ({"MLFLOW_TRACKING_URI": "runs"}, {"mlflow": "MLFLOW_TRACKING_URI"}),
    ],
)
def test_trackers_are_asked_for_by_variables(variables, trackers):
    assert tracking.wanted(variables) == trackers


def test_a_link_to_the_console_is_for_aws_alone():
    job = {"TRAINING_JOB_NAME": "job", "AWS_REGION": "eu-west-1"}
    assert tracking.tags(job, None)["console"].endswith("#/jobs/job")
    assert "console" not in tracking.tags(job | {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}, None)
