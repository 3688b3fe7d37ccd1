"""Airflow in a temporary home, and a local stack whose jobs take a second instead of minutes."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"

# Before anything imports airflow, and only where no other conftest has already done so.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-test-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(ROOT / "plugins"))

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "retraining-local"


class Stack:
    """A store, a SageMaker server and an Airflow database, for the DAG `retrain_colors`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.s3_port, self.master, self.volume, self.filer, self.admin = free_ports(5)
        self.sagemaker_port = free_ports(1)[0]
        self.environment = os.environ | KEYS | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.sagemaker_port}",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.s3_port}",
            "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "RETRAINING_ENVIRONMENT": "local",
            "RETRAINING_BUCKET": BUCKET,
            "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/local-sagemaker",
            "RETRAINING_SOURCE_DIR": str(PROGRAMS),
            "RETRAINING_RECIPES": str(folder / "recipes"),
            "RETRAINING_POLL_SECONDS": "0.2",
        }  # fmt: skip

    def start(self) -> None:
        store = [
            str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "mini", f"-dir={self.folder}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={self.s3_port}", f"-master.port={self.master}",
            f"-volume.port={self.volume}", f"-filer.port={self.filer}", f"-admin.port={self.admin}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false",
            "-master.telemetry=false", "-disableHttp", "-s3.autoCreateBucket=false",
        ]  # fmt: skip
        images = self.folder / "images.toml"
        images.write_text(
            f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nserve = ["{PROGRAMS / "serve.py"}"]\n'
        )
        server = [sys.executable, "-m", "local_sagemaker", "--port", str(self.sagemaker_port)]
        self._spawn("store", store)
        self._spawn("server", [*server, "--root", str(self.folder / "sagemaker"), "--images", str(images)])
        subprocess.run(
            [str(Path(sys.executable).with_name("airflow")), "db", "migrate"],
            env=self.environment, check=True, capture_output=True,
        )  # fmt: skip
        self._wait_for_store()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def client(self, service: str) -> Any:
        port = self.s3_port if service == "s3" else self.sagemaker_port
        return boto3.client(
            service,
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )

    def run(self, *confs: dict[str, Any]) -> list[dict[str, Any]]:
        """Trigger retrain_colors once per configuration → state and task states of each run."""
        command = [sys.executable, str(PROGRAMS / "run_dag.py"), "retrain_colors", *map(json.dumps, confs)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300)
        runs = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("RUN ")]
        assert len(runs) == len(confs), done.stdout[-3000:] + done.stderr[-3000:]
        return runs

    def reports(self) -> list[dict[str, Any]]:
        """Every run's report.json, oldest first."""
        s3 = self.client("s3")
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="colors/runs/").get("Contents", [])
        keys = sorted(entry["Key"] for entry in listed if entry["Key"].endswith("/report.json"))
        return [json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for key in keys]

    def champion(self) -> dict[str, Any] | None:
        s3 = self.client("s3")
        try:
            return json.loads(s3.get_object(Bucket=BUCKET, Key="colors/champion.json")["Body"].read())
        except s3.exceptions.NoSuchKey:
            return None

    def _spawn(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=log, stderr=log)
        self.processes.append(process)

    def _wait_for_store(self) -> None:
        s3, deadline = self.client("s3"), time.monotonic() + 40
        while True:
            try:
                if not s3.list_buckets()["Buckets"]:
                    s3.create_bucket(Bucket=BUCKET)
                s3.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
                s3.get_object(Bucket=BUCKET, Key="ready")["Body"].read()
                return
            except Exception:
                assert time.monotonic() < deadline, (self.folder / "store.log").read_text(errors="replace")[-2000:]
                time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that are free together with the gRPC port SeaweedFS opens 10,000 above each."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1]
            if port + 10_000 > 65_535 or port in ports:
                continue
            try:
                high.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            ports.append(port)
    return ports


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    """Thirty noisy squares each of red, green and blue, as class folders."""
    chance = random.Random(1)
    for label, (red, green, blue) in {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}.items():
        folder = tmp_path / "colors" / label
        folder.mkdir(parents=True)
        for number in range(30):
            shade = tuple(value + chance.randint(-25, 25) for value in (red, green, blue))
            image = Image.new("RGB", (16, 16), shade)
            image.putpixel((number % 16, number // 16), (255, 255, 255))
            image.save(folder / f"{number}.png")
    return tmp_path / "colors"


@pytest.fixture
def stack(tmp_path: Path, colors: Path) -> Iterator[Stack]:
    running = Stack(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "colors.yaml").write_text(
        f"""
name: colors
source: {colors}
hyperparameters: {{epochs: 2}}
tuning: {{max_jobs: 2, max_parallel_jobs: 2, ranges: {{lr: {{type: continuous, min: 0.001, max: 0.1}}}}}}
debugger: {{mode: "off"}}
promotion: {{min_value: 0.2}}
"""
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def write_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """write_recipe(name, text): a recipe file that the DAG files find beside dags/recipes."""
    folder = tmp_path / "extra-recipes"
    folder.mkdir()
    monkeypatch.setenv("RETRAINING_RECIPES", str(folder))

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(text)
        return path

    return write
