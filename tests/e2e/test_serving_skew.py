"""No skew between training and serving: an image has the same logits wherever the model is asked.

In training's own evaluation, in inference.py by the four functions (with OpenVINO and, as in AWS's container, without),
through a running endpoint and through batch transform. Tolerance: 1e-3, for logits of the order of 1; all compute
in float32, so that only the order of summation differs.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.local_sagemaker.harness import REPOSITORY, ROLE, Server
from tests.local_sagemaker.serving import SERVING_IMAGE, create_config, deploy, unique
from tests.object_store import free_ports

BUCKET = "skew-bucket"
TOLERANCE = 1e-3
ML_PYTHON = REPOSITORY / ".venv/ml/bin/python"
ACCEPT = "application/json; logits=1"
SIDE = 24

pytestmark = pytest.mark.slow

Logits = dict[str, list[float]]


def draw(kind: str, seed: int) -> bytes:
    """A picture far larger than the network's, of some aspect, as JPEG or PNG: decoding and resizing matter."""
    noise = random.Random(f"{kind}{seed}")
    small = Image.new("RGB", (6, 4))
    shade = (200, 90, 60) if kind == "warm" else (60, 90, 200)
    small.putdata([tuple(min(255, value + noise.randrange(50)) for value in shade) for _ in range(24)])
    picture = small.resize((noise.randrange(60, 140), noise.randrange(60, 140)), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, noise.choice(["JPEG", "PNG"]))
    return buffer.getvalue()


# The evaluation of train.py, with the artifact's weights; a hook hears what the network answers.
TRAINING = """
import json, sys
import train
from dataset.channel import Channel, class_names
from network import model
from training import distributed, flags, loop
settings = flags.parse(sys.argv[1:], "")
classes = class_names(settings.folders.train_dir)
channel = Channel(settings.folders.validation_dir, classes, settings.images.image_size)
shape = train.network_shape(settings.network, classes)
group = distributed.join()
run = loop.Training(settings, shape, len(classes), channel, group)
run.network.load_state_dict(model.load_artifact(settings.folders.model_dir)[0].state_dict())
seen = []
run.network.register_forward_hook(lambda network, inputs, output: seen.extend(output.tolist()))
run.evaluate(channel)
print(json.dumps(dict(zip([f"{path.parent.name}/{path.name}" for path in channel.paths], seen, strict=True))))
group.close()
"""

# What AWS's toolkit does with a model.tar.gz.
TOOLKIT = """
import json, sys
from pathlib import Path
folder, images, hidden = sys.argv[1:]
if hidden:
    sys.modules[hidden] = None
sys.path.insert(0, folder + "/code")
import inference
loaded = inference.model_fn(folder)
answers = {}
for path in sorted(Path(images).rglob("*.*")):
    request = inference.input_fn(bytearray(path.read_bytes()), "application/x-image")
    answer, _ = inference.output_fn(inference.predict_fn(request, loaded), "application/json; logits=1")
    answers[f"{path.parent.name}/{path.name}"] = json.loads(answer)["logits"]
print(json.dumps(answers))
"""


class Trained:
    """Folders of images and a model that was trained on them in float32 and exported to OpenVINO."""

    def __init__(self, folder: Path) -> None:
        self.images, self.model = folder / "images", folder / "model"
        for channel, count in (("train", 8), ("validation", 4)):
            for kind in ("warm", "cold"):
                (self.images / channel / kind).mkdir(parents=True)
                for seed in range(count):
                    (self.images / channel / kind / f"{seed}.img").write_bytes(draw(kind, seed + 100 * count))
        flags = {
            "stem": "small",
            "image-size": SIDE,
            "epochs": 1,
            "batch-size": 8,
            "precision": "fp32",
            "weights": "none",
        }
        flags |= {"serving": "openvino", "train-dir": self.images / "train", "model-dir": self.model}
        flags |= {"validation-dir": self.images / "validation"}
        self.flags = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        self.run(str(REPOSITORY / "ml/train.py"), *self.flags)
        description = json.loads((self.model / "model.json").read_text())
        assert description["serving"]["runtime"] == "openvino", description["serving"]
        description["serving"]["precision"] = "fp32"  # where bfloat16 was faster
        (self.model / "model.json").write_text(json.dumps(description))

    def run(self, *arguments: str) -> list[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "SAGEMAKER_"))}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "ml")}
        command = [str(ML_PYTHON), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def archive(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
            for path in sorted(self.model.rglob("*")):
                tar.add(path, str(path.relative_to(self.model)), recursive=False)
        return buffer.getvalue()

    @property
    def validation(self) -> dict[str, bytes]:
        folder = self.images / "validation"
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.img"))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("skew"))


@pytest.fixture(scope="module")
def expected(trained: Trained) -> Logits:
    """What training's evaluation computes."""
    logits: Logits = json.loads(trained.run("-c", TRAINING, *trained.flags)[-1])
    assert logits.keys() == trained.validation.keys()
    values = [value for row in logits.values() for value in row]
    assert max(values) - min(values) > 100 * TOLERANCE, "the images must differ by far more than the tolerance"
    return logits


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("sagemaker")
    running = Server(root, free_ports(1)[0], s3_endpoint, REPOSITORY / "stack/images.toml")
    running.start()
    running.s3.create_bucket(Bucket=BUCKET)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def model(server: Server, trained: Trained) -> str:
    server.s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=trained.archive())
    name = unique("Skew")
    container = {"Image": SERVING_IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    server.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    return name


def assert_same(answers: Logits, expected: Logits) -> None:
    assert answers.keys() == expected.keys()
    for name, logits in answers.items():
        assert logits == pytest.approx(expected[name], abs=TOLERANCE), name


@pytest.mark.parametrize("hidden", ["", "openvino"])
def test_the_four_functions_give_trainings_logits(hidden: str, trained: Trained, expected: Logits) -> None:
    log = trained.run("-c", TOOLKIT, str(trained.model), str(trained.images / "validation"), hidden)
    assert log[-2] == f"serving with {'torch' if hidden else 'openvino'} in fp32"
    assert_same(json.loads(log[-1]), expected)


def test_an_endpoint_gives_trainings_logits(server: Server, model: str, trained: Trained, expected: Logits) -> None:
    endpoint = deploy(server, create_config(server, model))
    answers = {}
    for name, body in trained.validation.items():
        answer = server.runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType="application/x-image", Accept=ACCEPT, Body=body
        )
        answers[name] = json.loads(answer["Body"].read())["logits"]
    server.sagemaker.delete_endpoint(EndpointName=endpoint)
    assert_same(answers, expected)


def test_batch_transform_gives_trainings_logits(server: Server, model: str, trained: Trained, expected: Logits) -> None:
    for name, body in trained.validation.items():
        server.s3.put_object(Bucket=BUCKET, Key=f"images/{name}", Body=body)
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/images/"}
    job = unique("Job")
    server.sagemaker.create_transform_job(
        TransformJobName=job,
        ModelName=model,
        TransformInput={"DataSource": {"S3DataSource": source}, "ContentType": "application/x-image"},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out", "Accept": ACCEPT},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    done = server.wait(lambda: server.sagemaker.describe_transform_job(TransformJobName=job), "TransformJobStatus")
    assert done["TransformJobStatus"] == "Completed", done
    answers = {
        name: json.loads(server.s3.get_object(Bucket=BUCKET, Key=f"out/{name}.out")["Body"].read())["logits"]
        for name in trained.validation
    }
    assert_same(answers, expected)
