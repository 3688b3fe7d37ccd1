"""A rollback to try it, against a real server: there and back, and what a kill leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import TaskDeferred

from retraining.promotion.champion import own_champion
from retraining.promotion.rejections import recall_rejections
from retraining.release.drill import Drill
from retraining.release.rollback import NoWayBack, Rollback
from retraining.release.serving import RollbackFailed
from retraining.run import Run
from retraining.steps import choose, go_back
from tests.plugins.release_run import GOLDEN, Runs, approval, deploying, promote, put_artifact, register, served
from tests.plugins.task_run import context, start_job


@pytest.fixture
def champions(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Run]]:
    """Two that were promoted, one after the other."""
    monkeypatch.setenv("RETRAINING_POLL_SECONDS", "0.1")
    promoted = [runs(1), runs(2)]
    for run in promoted:
        promote(run)
    yield promoted
    run.sagemaker.delete_endpoint(EndpointName=run.plan.endpoint)


def drill(run: Run) -> Drill:
    return Drill(
        rollback=Rollback(s3=run.s3, sagemaker=run.sagemaker, runtime=run.runtime, scaling=run.scaling, plan=run.plan)
    )


def perform(run: Run, to: str = "") -> dict[str, Any]:
    return drill(run).perform(drill(run).choose(to), reason="monthly", by="ada")


def champion(run: Run) -> dict[str, Any]:
    return own_champion(run.s3, run.plan).document or {}


def test_the_champion_serves_again_after_a_drill(champions: list[Run]) -> None:
    first, second = champions
    before = champion(second)
    done = perform(second)
    assert (done["drilled"], done["run_name"]) == (first.plan.run_name, second.plan.run_name)
    assert done["away_seconds"] > 0 and done["back_seconds"] > 0
    assert served(second) == second.plan.endpoint_config
    told = champion(second).pop("drill")
    assert (told["run_name"], told["reason"], told["by"]) == (first.plan.run_name, "monthly", "ada")
    assert {key: value for key, value in champion(second).items() if key != "drill"} == before


def test_a_drill_rejects_nobody(champions: list[Run]) -> None:
    run = champions[1]
    perform(run)
    assert [approval(one) for one in champions] == ["Approved", "Approved"]
    assert recall_rejections(run.s3, run.environment.bucket, run.plan.rejections_key, run.recipe.name) == []


def test_a_drill_that_is_over_is_not_performed_again(champions: list[Run]) -> None:
    run = champions[1]
    to, asked = drill(run).choose(), {"reason": "monthly", "by": "ada", "once": "its run"}
    done, kept = drill(run).perform(to, **asked), (champion(run), changed(run))
    assert drill(run).perform(to, **asked) == done
    assert (champion(run), changed(run)) == kept


def changed(run: Run) -> Any:
    """When the endpoint last was."""
    return run.sagemaker.describe_endpoint(EndpointName=run.plan.endpoint)["LastModifiedTime"]


@pytest.mark.parametrize("moment", ["update_endpoint", "put_object"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_killed_drill_is_ended(
    champions: list[Run], moment: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = champions[1]
    to, client, left = drill(run).choose(), run.s3 if moment == "put_object" else run.sagemaker, [times]
    done: Callable[..., Any] = getattr(client, moment)

    def dies_after(**kwargs: Any) -> Any:
        answer = done(**kwargs)
        left[0] -= moment == "update_endpoint" or kwargs["Key"] == run.plan.champion_key
        if not left[0]:
            raise KeyboardInterrupt
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(client, moment, dies_after)
        with pytest.raises(KeyboardInterrupt):
            drill(run).perform(to, reason="monthly", by="ada")
    drill(run).perform(to, reason="monthly", by="ada")
    assert (served(run), champion(run)["run_name"]) == (run.plan.endpoint_config, run.plan.run_name)
    assert champion(run)["drill"]["back_seconds"] > 0


def test_a_drill_that_cannot_come_back_says_so(champions: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    first, run = champions
    bad, answer = drill(run), champion(run) | {"golden": {GOLDEN: "b"}}
    run.write_json(run.plan.champion_key, answer)
    with pytest.raises(RollbackFailed, match=rf"answers 'a'.* {first.plan.run_name} is the champion now"):
        bad.perform(bad.choose(), reason="monthly", by="ada")
    assert (served(run), champion(run)["run_name"]) == (first.plan.endpoint_config, first.plan.run_name)
    assert bad.choose() == first.plan.run_name  # the next attempt ends it


def test_without_a_former_champion_there_is_no_drill(runs: Runs) -> None:
    run = runs(1)
    promote(run)
    with pytest.raises(NoWayBack, match="none came before it"):
        drill(run).choose()
    with pytest.raises(NoWayBack, match="it is the champion itself"):
        drill(run).choose(run.plan.run_name)


def test_a_deployment_under_way_allows_no_drill(champions: list[Run], runs: Runs) -> None:
    other = runs(3)
    register(other)
    with pytest.raises(TaskDeferred):
        deploying(other).execute(context())
    for to in ("", champions[0].plan.run_name):
        with pytest.raises(NoWayBack, match="is Updating"):
            drill(champions[1]).choose(to)
    assert champion(champions[1])["run_name"] == champions[1].plan.run_name
    waiter = other.sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName=other.plan.endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_what_was_rolled_back_serves_in_no_drill(champions: list[Run]) -> None:
    first, second = champions
    back = drill(second).rollback
    back.go_back(back.choose(), reason="it mistakes cats for dogs", by="ada")
    with pytest.raises(NoWayBack, match=r"is Rejected \(Rolled back to .*cats for dogs\).* name another"):
        drill(first).choose(second.plan.run_name)
    with pytest.raises(NoWayBack, match=f"{second.plan.run_name} was turned down, and none came before it"):
        drill(first).choose()


def test_no_drill_beneath_a_run_at_its_work(champions: list[Run]) -> None:
    run = champions[1]
    name = f"{run.plan.run_name}-train"
    start_job(run.sagemaker, run.s3, name, run.environment.bucket)
    with pytest.raises(NoWayBack, match=f"job {name} is at work: its run would find that the champion moved"):
        drill(run).choose()
    run.sagemaker.stop_training_job(TrainingJobName=name)


def test_a_champion_that_could_not_come_back_is_not_left(champions: list[Run]) -> None:
    put_artifact(champions[1], weights="2")
    with pytest.raises(NoWayBack, match=r"the champion could not come back: .* was replaced"):
        drill(champions[1]).choose()


def test_the_dag_drills_when_told(champions: list[Run]) -> None:
    first, second = champions
    facts: Any = second.context["ti"]
    second.params |= {"drill": True, "reason": "monthly"}
    facts.known["choose.return_value"] = choose(second)
    assert go_back(second)["drilled"] == first.plan.run_name
    assert served(second) == second.plan.endpoint_config


def test_a_terminal_drills_and_tells_the_seconds(
    champions: list[Run], recipe_data: dict[str, Any], tmp_path: Path
) -> None:
    run = champions[1]
    recipe = recipe_data | {"name": run.recipe.name, "endpoint": run.plan.endpoint}
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.yaml").write_text(yaml.safe_dump(recipe))

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path)}
        command = [sys.executable, "-m", "retraining", *arguments]
        cwd = Path(__file__).parents[2] / "plugins"
        return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240)

    looked = ask("drill", run.recipe.name, "--reason", "monthly", "--dry-run")
    assert f"can go back to {champions[0].plan.run_name} and return" in looked.stdout, looked.stderr
    assert "drill" not in json.dumps(champion(run))
    done = ask("drill", run.recipe.name, "--reason", "monthly")
    assert f"the champion {run.plan.run_name} again after another" in done.stdout, done.stderr
    assert f"drill to {champions[0].plan.run_name} at" in ask("champions", run.recipe.name).stdout
