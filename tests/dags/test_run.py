"""Whole runs of the DAG, one for every outcome, against the real local server, with programs that take a second."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.waiting import wait_until


@pytest.fixture
def more_colors(tmp_path: Path, colors: Path) -> Path:
    """The same images and one more."""
    folder = shutil.copytree(colors, tmp_path / "more")
    Image.new("RGB", (16, 16), (200, 40, 40)).save(folder / "red" / "more.png")
    return folder


@pytest.mark.slow
def test_a_classifier_lives_through_every_outcome(stack: Any, more_colors: Path) -> None:
    """Withdrawn, promoted, skipped, kept on new data, not tried again, promoted by an update, rolled back, failed.

    And then a person wants the champion before.
    """
    new = {"epochs": 1, "source": str(more_colors)}
    runs = stack.run(
        {"epochs": 4}, {}, {}, new, new, {"epochs": 5}, {"epochs": 4}, {"epochs": 3}, back={"reason": "it is too red"}
    )
    *runs, back = runs
    reports = stack.reports()
    outcomes = ["failed", "promoted", "skipped", "kept", "skipped", "promoted", "failed", "failed"]
    assert [report["outcome"] for report in reports] == outcomes, [report["reason"] for report in reports]
    words = ("Failed.", "Promoted.", "Nothing new.", "The champion stays.", "Nothing new.", "Promoted.")
    assert all(word in page for word, page in zip(words, stack.pages(), strict=False))
    assert len(stack.pages()) == len(reports)
    assert [run["state"] == "failed" for run in runs] == [outcome == "failed" for outcome in outcomes]
    withdrawn, first, unchanged, worse, again, update, wrong, raising = [run["tasks"] for run in runs]

    # Without a champion to go back to, a model that serves wrongly leaves no endpoint: the next run had to create it.
    assert (withdrawn["smoke_test"], withdrawn["rollback"]) == ("failed", "success")
    assert (first["score_champion"], first["approve"], first["rollback"]) == ("skipped", "skipped", "skipped")

    assert unchanged["package_source"] == "skipped"
    assert "data, code and recipe are those of champion" in reports[2]["reason"]

    assert worse["deploy"] == "skipped"
    assert reports[3]["candidate"]["accuracy"] < reports[3]["champion"]["accuracy"] == 1

    assert (again["warm_start"], again["tune"]) == ("skipped", "skipped")
    champion_then, kept = reports[1]["run_name"], reports[3]["run_name"]
    tried = f"run {kept} already tried this data, code and recipe, and champion {champion_then} stayed"
    assert reports[4]["reason"] == f"{tried} ({reports[3]['reason']}); trigger with force to try again"

    assert update["score_champion"] == "success"
    assert back["tasks"] == {"choose": "success", "go_back": "success"}
    champion = stack.champion()
    assert champion["run_name"] == reports[1]["run_name"] == reports[1]["endpoint"]["config"]
    told = (champion["rolled_back"]["from"], champion["previous"]["run_name"], champion["rolled_back"]["reason"])
    assert told == (reports[5]["run_name"], reports[5]["endpoint"]["config"], "it is too red")

    assert (wrong["smoke_test"], wrong["rollback"], wrong["update_champion"]) == (
        "failed",
        "success",
        "upstream_failed",
    )
    assert "Real-time and batch serving differ" in reports[6]["reason"]
    served = stack.server.sagemaker.describe_endpoint(EndpointName="retraining-colors")
    assert (served["EndpointStatus"], served["EndpointConfigName"]) == ("InService", champion["endpoint_config"])

    assert (raising["tune"], raising["rollback"], raising["report"]) == ("failed", "skipped", "success")
    assert [run["tasks"]["outcome"] == "failed" for run in runs] == [outcome == "failed" for outcome in outcomes]
    assert "the story of epochs=3 is a script that raises" in reports[7]["reason"]

    # The champion's search first; of two weeks, the one on the same data with the same values is worth more.
    searches = [report["tuning"] and report["tuning"]["warm_start"] for report in reports]
    names = [report["run_name"] for report in reports]
    assert searches == [
        None,
        {"type": "TransferLearning", "parents": [names[0]]},
        None,
        {"type": "TransferLearning", "parents": [names[1], names[0]]},
        None,
        {"type": "TransferLearning", "parents": [names[1], names[3], names[0]]},
        {"type": "IdenticalDataAndAlgorithm", "parents": [names[0]]},
        None,  # tune failed
    ]

    # Of every run that had jobs, also of one that failed.
    billed = [{row["task"]: row["jobs"] for row in report["billed"]["tasks"]} for report in reports]
    assert billed[1] == {"tune": 2, "train": 1, "score_candidate": 1}
    assert billed[2] == billed[4] == {}
    assert billed[5] == {"tune": 2, "train": 1, "score_candidate": 1, "score_champion": 1}
    assert set(billed[7]) == {"tune"}
    assert all(report["ceiling"]["instance_hours"] > 0 for report in reports)
    assert reports[3]["evidence"]["lost"] > reports[3]["evidence"]["won"] == 0


CANARY = """
serving: {instance_count: 2}
deployment: {strategy: canary, percent: 50, bake_seconds: 600, max_model_error_percent: 1, max_latency_ratio: 50}
"""


@pytest.mark.slow
def test_a_canary_proves_itself_or_goes_back(stack: Any, tmp_path: Path, more_colors: Path) -> None:
    """Asked about golden images while half of the requests are its own; a wrong answer takes it back."""
    with (tmp_path / "recipes/colors.yaml").open("a") as recipe:
        recipe.write(CANARY)
    stack.server.stop()
    stack.server.arguments = ("--time-scale", "0.01")  # ten minutes of baking are six seconds
    stack.server.start()
    *_, wrong = stack.run({}, {"epochs": 5, "source": str(more_colors)}, {"epochs": 4})
    reports = stack.reports()
    assert [report["outcome"] for report in reports] == ["promoted", "promoted", "failed"]
    assert reports[0]["canary"] is None  # nobody served before, and so nothing was shifted
    assert reports[1]["canary"]["wrong"] is None
    # Three classes, an image each; in a pair in both orders and one alone, for the latency is watched.
    ways = {"image/png": 3, "application/json": 3, "application/json (instances)": 3}
    assert reports[1]["canary"]["answered"] == ways

    # SageMaker has taken it back, so nothing was left for rollback.
    assert (wrong["tasks"]["deploy"], wrong["tasks"]["rollback"]) == ("failed", "skipped")
    assert "was taken back" in reports[2]["reason"] and "Real-time and batch serving differ" in reports[2]["reason"]
    served = stack.server.sagemaker.describe_endpoint(EndpointName="retraining-colors")
    assert served["EndpointConfigName"] == stack.champion()["endpoint_config"] == reports[1]["run_name"]
    assert stack.server.client("cloudwatch").describe_alarms()["MetricAlarms"] == []


SHADOW = """
capture: {percent: 100}
deployment: {shadow: {requests: 24, min_agreement: 0.9}}
"""


@pytest.mark.slow
def test_a_candidate_stands_in_the_shadow_first(stack: Any, tmp_path: Path) -> None:
    """Right about the test images, and wrong about what clients send: it is neither registered nor deployed."""
    with (tmp_path / "recipes/colors.yaml").open("a") as recipe:
        recipe.write(SHADOW)
    (first,) = stack.run({})
    told = [first["tasks"][task] for task in ("shadow_requests", "shadow_candidate", "shadow_champion", "shadow")]
    assert told == ["success", "skipped", "skipped", "skipped"]  # nobody serves whose shadow it could be
    for number in range(24):
        body = BytesIO()
        Image.new("RGB", (20, 20), (200, number, 30)).save(body, "PNG")
        stack.server.runtime.invoke_endpoint(
            EndpointName="retraining-colors", ContentType="image/png", Body=body.getvalue()
        )
    captured = {"Bucket": stack.bucket, "Prefix": "colors/captured/retraining-colors/"}
    kept = wait_until(lambda: stack.server.s3.list_objects_v2(**captured).get("Contents"))
    assert kept
    good, refused = stack.run({"epochs": 5}, {"epochs": 6})
    reports = stack.reports()
    assert [report["outcome"] for report in reports] == ["promoted", "promoted", "failed"], reports[1]["reason"]
    assert good["tasks"]["shadow_candidate"] == good["tasks"]["shadow"] == "success"
    assert (reports[1]["shadow"]["source"], reports[1]["shadow"]["agreement"]) == ("captured", 1)
    billed = [{row["task"] for row in report["billed"]["tasks"]} for report in reports]
    assert {"shadow_candidate", "shadow_champion"} <= billed[1] - billed[0]

    assert (refused["tasks"]["shadow"], refused["tasks"]["register"]) == ("failed", "upstream_failed")
    assert (refused["tasks"]["rollback"], reports[2]["model_package_arn"]) == ("skipped", None)
    assert "shadow: Of 24 images that clients sent the candidate answers" in reports[2]["reason"]
    assert "where it was refused" in stack.pages()[2]
    served = stack.server.sagemaker.describe_endpoint(EndpointName="retraining-colors")
    assert served["EndpointConfigName"] == stack.champion()["endpoint_config"] == reports[1]["run_name"]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_run_marked_in_mid_deploy_is_taken_back(stack: Any, more_colors: Path, state: str) -> None:
    """Airflow skips what would have followed; what is served is the champion again, and the run is red."""
    promoted, marked = stack.run({}, {"epochs": 5, "source": str(more_colors)}, mark=f"{state}:deploy")
    champion = stack.champion()
    assert (promoted["state"], marked["state"]) == ("success", "failed")
    tasks = marked["tasks"]
    assert (tasks["smoke_test"], tasks["prune"], tasks["rollback"]) == ("skipped", "skipped", "success")
    assert (tasks["report"], tasks["outcome"]) == ("success", "failed")
    served = stack.server.sagemaker.describe_endpoint(EndpointName="retraining-colors")
    assert (served["EndpointStatus"], served["EndpointConfigName"]) == ("InService", champion["endpoint_config"])
    first, second = stack.reports()
    assert (champion["run_name"], second["outcome"]) == (first["run_name"], "failed")
    approved = stack.server.sagemaker.list_model_packages(
        ModelPackageGroupName="retraining-colors", ModelApprovalStatus="Approved"
    )["ModelPackageSummaryList"]
    assert [package["ModelPackageArn"] for package in approved] == [champion["model_package_arn"]]


@pytest.mark.slow
def test_a_run_marked_while_it_tunes_is_red(stack: Any) -> None:
    (marked,) = stack.run({}, mark="failed:tune")
    assert (marked["state"], marked["tasks"]["tune"], marked["tasks"]["rollback"]) == ("failed", "failed", "skipped")


@pytest.mark.slow
def test_a_job_verifies_what_is_new_of_a_source_in_s3(stack: Any, tmp_path: Path, colors: Path) -> None:
    """Then what follows goes on as ever; in a week without news there is no job; a folder instead is refused."""
    for path in colors.rglob("*.png"):
        stack.server.s3.upload_file(str(path), stack.bucket, f"in/{path.relative_to(colors).as_posix()}")
    recipe = tmp_path / "recipes/colors.yaml"
    in_s3 = recipe.read_text().replace(f"source: {colors}", f"source: s3://{stack.bucket}/in")
    recipe.write_text(in_s3 + "sync: {where: processing, instances: 2}\n")
    first, second, refused = stack.run({}, {}, {"source": str(colors)})
    reports = stack.reports()
    outcomes = [report["outcome"] for report in reports]
    assert outcomes[:2] == ["promoted", "skipped"], [report["reason"] for report in reports]
    tasks = ("list_images", "verify_images", "sync_dataset", "update_champion")
    assert [first["tasks"][task] for task in tasks] == ["success"] * 4
    assert [second["tasks"][task] for task in tasks] == ["success", "skipped", "success", "skipped"]
    assert refused["state"] == "failed"
    assert (refused["tasks"]["preflight"], refused["tasks"]["verify_images"]) == ("failed", "upstream_failed")
    billed = [{row["task"]: row["jobs"] for row in report["billed"]["tasks"]} for report in reports[:2]]
    assert (billed[0]["verify_images"], billed[1]) == (1, {})
    assert (reports[0]["dataset"]["read"], reports[1]["dataset"]["read"]) == (90, 0)
