"""A lost champion.json, found again by what the endpoint serves and what the registry approved."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from retraining.promotion.champion import own_champion
from retraining.release.rebuild import CannotRebuild, NothingLost, Rebuild
from retraining.release.rollback import Rollback
from retraining.run import Run
from tests.plugins.release_run import Runs, promote, put_artifact, served

SCORES = {"classes": ["a"], "accuracy": 0.9, "macro_f1": 0.8, "log_loss": 0.1, "n": 10, "confusion": [[10]]}


@pytest.fixture
def run(runs: Runs) -> Iterator[Run]:
    """Two were promoted; the second serves, and its pointer is lost."""
    promote(runs(1))
    second = runs(2)
    promote(second)
    second.write_json("evaluation.json", {"candidate": SCORES, "decision": {"reason": "better"}})
    lose(second, second.plan.champion_key)
    yield second
    second.sagemaker.delete_endpoint(EndpointName=second.plan.endpoint)


def lose(run: Run, *keys: str) -> None:
    for key in keys:
        run.s3.delete_object(Bucket=run.environment.bucket, Key=key)


def rebuild(run: Run) -> Rebuild:
    return Rebuild(s3=run.s3, sagemaker=run.sagemaker, plan=run.plan)


def champion(run: Run) -> dict[str, Any]:
    return own_champion(run.s3, run.plan).document or {}


def reject(run: Run) -> None:
    arn = run.fact("register")["arn"]
    run.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Rejected")


def test_a_lost_pointer_is_found_by_what_serves(run: Run) -> None:
    found = rebuild(run).find()
    assert champion(run) == {}  # so far it was only looked
    assert "does not exist" in found.told[0] and "kept at its promotion" in found.told[-1]
    rebuild(run).write(found, "ada")
    assert champion(run)["run_name"] == run.plan.run_name
    assert champion(run)["golden"] == {"a/1.png": "a"}
    assert champion(run)["rebuilt"]["by"] == "ada"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"run_name": "another"}'])
def test_an_unreadable_pointer_is_replaced(run: Run, body: bytes) -> None:
    run.s3.put_object(Bucket=run.environment.bucket, Key=run.plan.champion_key, Body=body)
    rebuild(run).write(rebuild(run).find(), "ada")
    assert champion(run)["endpoint_config"] == served(run)


def test_the_registry_alone_tells_a_champion(run: Run) -> None:
    lose(run, run.plan.past_champion_key(run.plan.run_name))
    rebuild(run).write(rebuild(run).find(), "ada")
    found = champion(run)
    assert (found["run_name"], found["model"]) == (run.plan.run_name, run.plan.model)
    assert (found["classes"], found["metrics"]["accuracy"]) == (["a"], 0.9)
    assert found["ingredients"] == run.ingredients.as_dict()
    assert found["model_package_arn"] == run.fact("register")["arn"]


def test_a_champion_from_the_registry_can_be_returned_to(run: Run, runs: Runs) -> None:
    lose(run, run.plan.past_champion_key(run.plan.run_name))
    rebuild(run).write(rebuild(run).find(), "ada")
    promote(runs(3))
    back = Rollback(s3=run.s3, sagemaker=run.sagemaker, runtime=run.runtime, scaling=run.scaling, plan=run.plan)
    assert back.choose() == run.plan.run_name


def test_a_pointer_that_is_right_is_left_alone(run: Run) -> None:
    rebuild(run).write(rebuild(run).find(), "ada")
    with pytest.raises(NothingLost, match="which the endpoint serves"):
        rebuild(run).find()


def test_a_pointer_to_another_than_serves_is_not_lost(run: Run, runs: Runs) -> None:
    first = runs(1).plan
    run.write_json(run.plan.champion_key, run.read_json(first.past_champion_key(first.run_name)))
    with pytest.raises(CannotRebuild, match=f"names {first.run_name}, while the endpoint serves {run.plan.run_name}"):
        rebuild(run).find()


def test_what_nobody_approved_is_no_champion(run: Run, runs: Runs) -> None:
    reject(run)
    with pytest.raises(CannotRebuild, match=r"no Approved package .* Approved are: arn:.*/1 \(s3://.*/1\.tar\.gz\)"):
        rebuild(run).find()


def test_an_endpoint_that_is_gone_tells_no_champion(run: Run) -> None:
    sagemaker, name = run.sagemaker, run.plan.endpoint
    sagemaker.delete_endpoint(EndpointName=name)
    with pytest.raises(CannotRebuild, match=r"is Deleting, so what|does not exist, so no champion"):
        rebuild(run).find()
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    with pytest.raises(CannotRebuild, match=rf"does not exist, .* champions are: {run.plan.run_name}, "):
        rebuild(run).find()
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=run.plan.endpoint_config)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_classes_that_nobody_knows_are_not_invented(run: Run) -> None:
    lose(run, run.plan.past_champion_key(run.plan.run_name), "evaluation.json")
    with pytest.raises(CannotRebuild, match=r"names the evaluation s3://.*/evaluation\.json, which cannot be read"):
        rebuild(run).find()


def test_a_swapped_artifact_is_no_champion(run: Run) -> None:
    put_artifact(run, weights="2")
    with pytest.raises(CannotRebuild, match=r"was replaced: its .* bytes had the SHA-256"):
        rebuild(run).find()


def test_a_promotion_in_between_is_not_overwritten(run: Run) -> None:
    found = rebuild(run).find()
    run.write_json(run.plan.champion_key, {"run_name": "theirs"})
    with pytest.raises(CannotRebuild, match="was changed by run theirs"):
        rebuild(run).write(found, "ada")


def test_a_terminal_looks_first_and_writes_when_told(run: Run, recipe_data: dict[str, Any], tmp_path: Path) -> None:
    recipe = recipe_data | {"name": run.recipe.name, "endpoint": run.plan.endpoint}
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.yaml").write_text(yaml.safe_dump(recipe))

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path)}
        command = [sys.executable, "-m", "retraining", "champion", run.recipe.name, *arguments]
        cwd = Path(__file__).parents[2] / "plugins"
        return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240)

    looked = ask("--rebuild")
    assert f"would name {run.plan.run_name}; nothing was written" in looked.stdout, looked.stderr
    assert champion(run) == {}
    assert f"names {run.plan.run_name}." in ask("--rebuild", "--yes").stdout
    again = ask("--rebuild")
    assert (again.returncode, again.stdout.endswith("There is nothing to rebuild.\n")) == (0, True)
    lose(run, run.plan.champion_key)
    reject(run)
    refused = ask("--rebuild", "--yes")
    assert refused.returncode == 1 and refused.stderr.startswith("error: The endpoint serves ")
