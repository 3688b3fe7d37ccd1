"""Tiny pictures, and the scripts of ml/ started as SageMaker starts them."""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch
from PIL import Image

from tests.waiting import PATIENCE_S, wait_until

ML = Path(__file__).parents[2] / "ml"
COLLECTIONS = [
    {"CollectionName": "losses", "CollectionParameters": {"save_interval": "1"}},
    {"CollectionName": "gradients", "CollectionParameters": {"save_interval": "3", "reductions": "min,max,abs_mean"}},
    {
        "CollectionName": "relu_input",
        "CollectionParameters": {"save_interval": "3", "include_regex": ".*relu_input", "reductions": "variance"},
    },
]


def pytest_collection_modifyitems(config, items):
    """What is marked `matrix` repeats other tests over more seeds, for minutes: it runs only with -m matrix."""
    if "matrix" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("matrix")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


SMALL = ["--stem", "small", "--image-size", "16", "--batch-size", "8", "--epochs", "2", "--lr", "0.002"]
SMALL += ["--serving", "torch"]  # choosing how to serve takes longer than these trainings
COLOURS = {"blue": (20, 20, 230), "green": (20, 230, 20), "red": (230, 20, 20)}


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Channels train and validation: noisy 16 px squares in three colours, which are the classes."""
    root, noise = tmp_path_factory.mktemp("images"), random.Random(5)
    for channel, count in (("train", 8), ("validation", 3)):
        for name, colour in COLOURS.items():
            folder = root / channel / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = bytes(min(255, value + noise.randrange(25)) for _ in range(256) for value in colour)
                Image.frombytes("RGB", (16, 16), pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """A folder with weights for the network of SMALL, where less than all of it is to learn."""
    from network import model

    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    torch.save(model.build("resnet18", 3, "small").state_dict(), folder / "weights.pth")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory):
    """Where trainings share what they decode; the user's own folder for that is left alone."""
    os.environ["RETRAINING_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def environment(cache_dir):
    """The tests' own environment, without anything a surrounding SageMaker job may have set."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SM_", "SAGEMAKER_", "SMDEBUG_"))}
    return clean | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class Job:
    """One training job's sandbox: folders, environment, command."""

    launcher = ()

    def __init__(self, base, images, environment):
        self.model_dir, self.output_dir = base / "model", base / "output"
        self.environment = environment | {
            "SM_MODEL_DIR": str(self.model_dir),
            "SM_OUTPUT_DIR": str(self.output_dir),
            "SM_OUTPUT_DATA_DIR": str(self.output_dir / "data"),
            "SM_CHANNEL_TRAIN": str(images / "train"),
            "SM_CHANNEL_VALIDATION": str(images / "validation"),
        }

    def start(self, **hyperparameters):
        given = {"stem": "small", "image-size": 16, "batch-size": 8, "epochs": 2, "lr": 0.002, "serving": "torch"}
        given |= hyperparameters
        flags = [text for name, value in sorted(given.items()) for text in (f"--{name}", str(value))]
        command = [sys.executable, *self.launcher, str(ML / "train.py"), *flags]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True, cwd=ML)

    def run(self, **hyperparameters):
        """-> (exit status, stdout, stderr)"""
        process = self.start(**hyperparameters)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        return process.returncode, stdout, stderr

    @property
    def failure(self):
        return (self.output_dir / "failure").read_text()


@pytest.fixture(scope="session")
def job_class():
    return Job


@pytest.fixture
def job(tmp_path, images, environment):
    return Job(tmp_path, images, environment)


@pytest.fixture(scope="session")
def debugged_job(images, environment, tmp_path_factory):
    """debugged_job(**hyperparameters) -> a job that ran to its end with the Debugger hook on."""

    def run(launcher=(), **hyperparameters):
        base = tmp_path_factory.mktemp("debugged")
        job = Job(base, images, environment)
        job.launcher = launcher
        job.tensors_dir = base / "tensors"
        hook = {"LocalPath": str(job.tensors_dir), "S3OutputPath": "s3://bucket/x", "HookParameters": None}
        (base / "hook.json").write_text(json.dumps(hook | {"CollectionConfigurations": COLLECTIONS}))
        (base / "dataset").mkdir()
        dataset = {"classes": ["red", "green", "blue"], "fingerprint": "f00d"}
        (base / "dataset" / "dataset.json").write_text(json.dumps(dataset))
        job.environment |= {
            "SMDEBUG_CONFIG_FILE_PATH": str(base / "hook.json"),
            "TRAINING_JOB_NAME": "debugged",
            "SM_CHANNEL_DATASET": str(base / "dataset"),
        }
        job.status, job.stdout, job.stderr = job.run(**hyperparameters)
        assert job.status == 0, job.stderr
        (job.tensors_dir / "training_job_end.ts").touch()  # the platform does this
        return job

    return run


@pytest.fixture(scope="session")
def finished(debugged_job):
    """A good training, with classes in the order of its dataset channel."""
    return debugged_job(epochs=3, seed=7, augment="shift")


@pytest.fixture
def serve(environment, tmp_path):
    """serve(model_dir, **environment) -> (httpx client, process) once /ping answers. Stopped after the test."""
    with servers(environment, tmp_path) as start:
        yield start


@contextlib.contextmanager
def servers(environment, folder):
    started, clients = [], []

    def start(model_dir, **variables):
        command = [sys.executable, str(ML / "serve.py"), "--host", "127.0.0.1"]
        settings = environment | {"SM_MODEL_DIR": str(model_dir), "SAGEMAKER_BIND_TO_PORT": "0"} | variables
        log = (folder / f"serve-{len(started)}.log").open("w")
        process = subprocess.Popen(command, env=settings, stdout=log, stderr=subprocess.STDOUT)
        started.append((process, log))
        port = port_in(folder / f"serve-{len(started) - 1}.log", process)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S)
        clients.append(client)
        wait_for_ping(process, client)
        return client, process

    try:
        yield start
    finally:
        for client in clients:
            client.close()
        for process, log in started:
            process.kill()
            process.wait()
            log.close()


def weights_of(folder):
    """Of an artifact, by their names in the network."""
    from network import model

    return {name: tensor.clone() for name, tensor in model.load_artifact(folder)[0].state_dict().items()}


@pytest.fixture
def main(job, monkeypatch):
    """train.main with a job's environment: for what ends before the first step, cheaper than a process."""
    import train

    for name, value in job.environment.items():
        if name.startswith(("SM_", "OMP_")):
            monkeypatch.setenv(name, value)
    return train.main


@pytest.fixture(scope="module")
def serve_once(environment, tmp_path_factory):
    """`serve` for a server that all tests of a file share."""
    with servers(environment, tmp_path_factory.mktemp("served")) as start:
        yield start


def port_in(log, process):
    """The port that a server took by itself, as its log says: one found free before could be taken meanwhile."""

    def said():
        return f"the server did not start (exit status {process.poll()}): {log.read_text()[-2000:]}"

    def found():
        running = process.poll() is None
        port = re.search(r"; port (\d+)$", log.read_text(), re.MULTILINE)
        assert port or running, said()
        return port

    return int(wait_until(found, said, every_s=0.05)[1])


def wait_for_ping(process, client):
    def ready():
        assert process.poll() is None, f"the server did not become ready (exit status {process.poll()})"
        with contextlib.suppress(httpx.TransportError):
            return client.get("/ping").status_code == 200

    wait_until(ready, "the server did not become ready", every_s=0.05)
