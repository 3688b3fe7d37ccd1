"""One DAG from an image folder to an answering endpoint: real Airflow, real server, real training, nothing faked.

Two classes of 16 px images that a few steps of training tell apart. The DAG runs as by `airflow dags test`,
which carries its triggers in the same process, so that no scheduler is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retraining.epochs import read_epochs
from tests import airflow_database
from tests.e2e.laptop import BUCKET, Laptop, draw
from tests.local_sagemaker.harness import REPOSITORY, Server
from tests.object_store import delete_bucket, free_ports

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Laptop]:
    folder = tmp_path_factory.mktemp("laptop")
    server = Server(folder / "sagemaker", free_ports(1)[0], s3_endpoint, REPOSITORY / "stack/images.toml")
    server.start()
    server.s3.create_bucket(Bucket=BUCKET)
    prepared = Laptop(folder, server)
    airflow_database.make(folder / "airflow")
    yield prepared
    server.stop()
    delete_bucket(server.s3, BUCKET)  # the store is the session's, and another stack makes it again


@pytest.fixture(scope="module")
def first(laptop: Laptop) -> dict[str, Any]:
    report, output = laptop.run()
    assert report["outcome"] == "promoted", f"{report['reason']}\n{output[-6000:]}"
    return report


def test_model_is_promoted_on_images_it_never_saw(first: dict[str, Any]) -> None:
    assert first["candidate"]["accuracy"] >= 0.6
    assert first["candidate"]["n"] == sum(first["dataset"]["counts"]["test"].values())
    assert len(first["tuning"]["trials"]) == 2
    assert {rule["rule"] for rule in first["rules"]} >= {"LossNotDecreasing", "VanishingGradient", "ProfilerReport"}
    assert not [rule for rule in first["rules"] if rule["status"] == "Error"]


def test_endpoint_tells_the_classes_apart(laptop: Laptop, first: dict[str, Any]) -> None:
    answers = [
        json.loads(
            laptop.server.runtime.invoke_endpoint(
                EndpointName="tiny-endpoint", ContentType="image/png", Body=draw(kind, 100 + seed)
            )["Body"].read()
        )["label"]
        == kind
        for kind in ("sky", "ground")
        for seed in range(5)
    ]
    assert sum(answers) >= 7


def test_profiler_report_shows_this_jobs_curves(laptop: Laptop, first: dict[str, Any]) -> None:
    bucket, _, key = first["profiler_report"].removeprefix("s3://").partition("/")
    page = laptop.server.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    assert first["training"]["job"] in page
    assert "<svg" in page


def test_every_label_of_the_run_was_looked_at(laptop: Laptop, first: dict[str, Any]) -> None:
    read = lambda key: laptop.server.s3.get_object(Bucket=BUCKET, Key=f"tiny/{key}")["Body"].read().decode()  # noqa: E731
    found = json.loads(read(f"runs/{first['run_name']}/page/labels.json"))
    assert found["judged"] == sum(sum(of_class.values()) for of_class in first["dataset"]["counts"].values())
    sheet = read(f"data/versions/{first['dataset']['fingerprint']}/labels.csv").splitlines()
    assert sheet[0].startswith("image,file,split,class,likely") and len(sheet) == 1 + found["count"]


def test_page_of_the_run_draws_what_its_log_tells(laptop: Laptop, first: dict[str, Any]) -> None:
    job = first["training"]["job"]
    prefix = f"tiny/runs/{first['run_name']}"
    kept = laptop.server.s3.get_object(Bucket=BUCKET, Key=f"{prefix}/page/training.json")["Body"].read()
    assert json.loads(kept) == read_epochs(laptop.server.logs, job)
    best = json.loads(kept)["metrics"]["validation:accuracy"][json.loads(kept)["best"] - 1]
    assert best == pytest.approx(first["training"]["metrics"]["validation:accuracy"])
    page = laptop.server.s3.get_object(Bucket=BUCKET, Key=f"{prefix}/report.html")["Body"].read().decode()
    assert job in page and '<polyline class="validation"' in page and "<script" not in page
    assert read_epochs(laptop.server.logs, "no-such-job") is None


def test_unchanged_data_skips_and_force_updates_the_serving_endpoint(laptop: Laptop, first: dict[str, Any]) -> None:
    report, _ = laptop.run()
    assert report["outcome"] == "skipped", report["reason"]
    before = laptop.server.sagemaker.describe_endpoint(EndpointName="tiny-endpoint")
    report, output = laptop.run(force=True, debugger="self_hosted")
    after = laptop.server.sagemaker.describe_endpoint(EndpointName="tiny-endpoint")
    assert report["outcome"] in {"promoted", "kept"}, output[-6000:]
    assert report["champion"]["n"] == report["candidate"]["n"]
    assert (after["EndpointConfigName"] != before["EndpointConfigName"]) == (report["outcome"] == "promoted")
    assert after["CreationTime"] == before["CreationTime"]
    # The first run was watched by SageMaker Debugger, this one by our own rules.
    assert (first["debugger"]["mode"], first["tasks"]["evaluate_rules"]) == ("managed", "skipped")
    assert (report["debugger"]["mode"], report["tasks"]["evaluate_rules"]) == ("self_hosted", "success")
    assert [rule["rule"] for rule in report["rules"]] == [rule["rule"] for rule in first["rules"]]
    assert not [rule for rule in report["rules"] if rule["status"] == "Error"], report["rules"]
    assert report["profiler_report"].endswith(f"{report['run_name']}/profiler-report.html")


def test_folder_of_one_class_stops_before_any_job(laptop: Laptop, first: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    for seed in range(8):
        (tmp_path / "only" / f"{seed}.png").write_bytes(draw("sky", seed))
    jobs = laptop.server.sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"]
    report, output = laptop.run(source=str(tmp_path))
    assert report["outcome"] == "failed"
    assert "class" in report["reason"], output[-3000:]
    assert laptop.server.sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"] == jobs
