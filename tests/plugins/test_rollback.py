"""Going back to a former champion, against a real server: what a person may ask for, and what a kill leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError, ConnectionClosedError

from retraining.creation import delete_once
from retraining.promotion.champion import own_champion
from retraining.promotion.history import past_champions
from retraining.promotion.rejections import recall_rejections
from retraining.recipe.capture import Capture
from retraining.recipe.machines import Serving
from retraining.release.drill import Drill
from retraining.release.rollback import NoWayBack, Rollback
from retraining.release.serving import RollbackFailed
from retraining.run import Run
from retraining.steps import prune
from tests.plugins.release_run import (
    GOLDEN,
    Runs,
    approval,
    between_look_and_request,
    delete_endpoint,
    deploy,
    promote,
    put_artifact,
    served,
)
from tests.plugins.task_run import archive


@dataclasses.dataclass
class Promoted:
    """Two models of one recipe, one after the other."""

    first: Run
    second: Run

    def back(self, **changes: Any) -> Rollback:
        run = self.second
        plan = dataclasses.replace(run.plan, environment=dataclasses.replace(run.environment, poll_seconds=0.1))
        clients = {"s3": run.s3, "sagemaker": run.sagemaker, "runtime": run.runtime, "scaling": run.scaling}
        return Rollback(**{"plan": plan} | clients | changes)

    def go_back(self, to: str = "", **changes: Any) -> dict[str, Any]:
        back = self.back(**changes)
        return back.go_back(back.choose(to), reason="it mistakes cats for dogs", by="ada")

    @property
    def champion(self) -> dict[str, Any]:
        return own_champion(self.first.s3, self.first.plan).document or {}


@pytest.fixture
def promoted(runs: Runs) -> Iterator[Promoted]:
    first, second = runs(1), runs(2)
    promote(first)
    promote(second)
    yield Promoted(first, second)
    delete_once(second.sagemaker.delete_endpoint, {"EndpointName": second.plan.endpoint})


def test_the_champion_before_serves_again(promoted: Promoted) -> None:
    done = promoted.go_back()
    assert done["run_name"] == promoted.first.plan.run_name == promoted.champion["run_name"]
    assert served(promoted.first) == promoted.first.plan.endpoint_config
    assert done["tried"]["requests"] == 3


def test_who_went_back_and_why_is_recorded(promoted: Promoted) -> None:
    promoted.go_back()
    told = promoted.champion["rolled_back"]
    assert (told["by"], told["reason"], told["from"]) == (
        "ada", "it mistakes cats for dogs", promoted.second.plan.run_name,
    )  # fmt: skip


def test_the_registry_follows_the_endpoint(promoted: Promoted) -> None:
    promoted.go_back()
    assert (approval(promoted.first), approval(promoted.second)) == ("Approved", "Rejected")
    promoted.go_back(promoted.second.plan.run_name)
    assert (approval(promoted.first), approval(promoted.second)) == ("Rejected", "Approved")


@pytest.mark.parametrize("to", ["", "named"])
@pytest.mark.parametrize("gone", ["first", "second"])
def test_a_deleted_package_stops_no_rollback(promoted: Promoted, gone: str, to: str) -> None:
    run: Run = getattr(promoted, gone)
    arn = run.fact("register")["arn"]
    run.sagemaker.delete_model_package(ModelPackageName=arn)
    done = promoted.go_back(promoted.first.plan.run_name if to else "")
    assert done["registry"] == [f"The registry was not told: ModelPackage {arn} does not exist."]
    assert served(promoted.first) == promoted.first.plan.endpoint_config
    assert promoted.champion["run_name"] == promoted.first.plan.run_name


def test_a_closed_registry_stops_no_rollback(promoted: Promoted, monkeypatch: pytest.MonkeyPatch) -> None:
    back = promoted.back()

    def denied(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "UpdateModelPackage")

    monkeypatch.setattr(back.sagemaker, "update_model_package", denied)
    done = back.go_back(back.choose(), reason="bad", by="ada")
    assert done["registry"] == ["The registry was not told: no"] * 2
    assert promoted.champion["run_name"] == promoted.first.plan.run_name


def test_a_no_while_it_changes_names_what_serves(promoted: Promoted) -> None:
    back, first = promoted.back(), promoted.first

    def reject() -> None:
        arn = first.fact("register")["arn"]
        first.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Rejected")

    with (
        between_look_and_request(back.sagemaker, "UpdateEndpoint", reject),
        pytest.raises(RollbackFailed, match=r"is Rejected.*serves r\S+ now, and champion.json does not name it"),
    ):
        back.go_back(back.choose(), reason="bad", by="ada")


def test_what_was_left_is_not_trained_again(promoted: Promoted) -> None:
    promoted.go_back()
    run = promoted.second
    (known,) = recall_rejections(run.s3, run.environment.bucket, run.plan.rejections_key, run.recipe.name)
    assert (known.run_name, known.champion) == (run.plan.run_name, promoted.first.plan.run_name)
    assert known.ingredients == run.ingredients.as_dict()


def test_a_pruned_model_serves_again(promoted: Promoted, runs: Runs) -> None:
    for number in range(3, 7):
        promote(runs(number))
    prune(runs(6))
    with pytest.raises(ClientError, match="Could not find model"):
        promoted.first.sagemaker.describe_model(ModelName=promoted.first.plan.model)
    promoted.go_back(promoted.first.plan.run_name)
    assert served(promoted.first) == promoted.first.plan.endpoint_config


# --- machines -------------------------------------------------------------------------------------------------------

TODAY = Serving(instance_type="ml.c5.xlarge", instance_count=2)


def today(promoted: Promoted, told: list[str]) -> Rollback:
    """By a recipe that asks for other machines than when its models were promoted."""
    plan = promoted.back().plan
    recipe = dataclasses.replace(plan.recipe, serving=TODAY)
    return promoted.back(plan=dataclasses.replace(plan, recipe=recipe), say=told.append)


def machines(run: Run) -> list[tuple[str, int]]:
    config = run.sagemaker.describe_endpoint_config(EndpointConfigName=run.plan.endpoint_config)
    return [(variant["InstanceType"], variant["InitialInstanceCount"]) for variant in config["ProductionVariants"]]


def test_going_back_takes_the_machines_of_today(promoted: Promoted) -> None:
    told: list[str] = []
    today(promoted, told).go_back("", reason="bad", by="ada")
    assert served(promoted.first) == promoted.first.plan.endpoint_config
    assert (machines(promoted.first), machines(promoted.second)) == ([("ml.c5.xlarge", 2)], [("ml.m5.large", 1)])
    name = promoted.first.plan.endpoint_config
    assert f"{name} is of 1 x ml.m5.large, the recipe asks for 2 x ml.c5.xlarge: it is made anew." in told


def test_requests_are_kept_as_the_recipe_says_today(promoted: Promoted) -> None:
    """A model of before that kept them does not begin to do so again."""
    plan, told = promoted.back().plan, list[str]()
    keeping = dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, capture=Capture(percent=10)))
    promoted.back(plan=keeping, say=told.append).go_back("", reason="bad", by="ada")
    first = {"EndpointConfigName": promoted.first.plan.endpoint_config}
    assert "DataCaptureConfig" in promoted.first.sagemaker.describe_endpoint_config(**first)
    assert "keeping 10 % of the requests: it is made anew." in " ".join(told)
    promoted.go_back(promoted.second.plan.run_name)
    promoted.go_back(promoted.first.plan.run_name)
    assert "DataCaptureConfig" not in promoted.first.sagemaker.describe_endpoint_config(**first)


def test_machines_that_another_endpoint_has_stay(promoted: Promoted) -> None:
    sagemaker, name = promoted.first.sagemaker, f"{promoted.first.plan.endpoint}-demo"
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=promoted.first.plan.endpoint_config)
    told: list[str] = []
    today(promoted, told).go_back("", reason="bad", by="ada")
    assert (served(promoted.first), machines(promoted.first)) == (
        promoted.first.plan.endpoint_config, [("ml.m5.large", 1)],
    )  # fmt: skip
    assert f"it stays as it is, for {name} serves it." in " ".join(told)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    sagemaker.delete_endpoint(EndpointName=name)


def test_a_drill_comes_back_to_the_machines_of_today(promoted: Promoted) -> None:
    drill = Drill(rollback=today(promoted, []))
    drill.perform(drill.choose(), reason="monthly", by="ada")
    assert served(promoted.second) == promoted.second.plan.endpoint_config
    assert machines(promoted.first) == machines(promoted.second) == [("ml.c5.xlarge", 2)]


def test_a_deleted_endpoint_is_made_again(promoted: Promoted) -> None:
    sagemaker, name = promoted.first.sagemaker, promoted.first.plan.endpoint
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    promoted.go_back()
    assert served(promoted.first) == promoted.first.plan.endpoint_config


def test_a_lost_pointer_is_written_again(promoted: Promoted) -> None:
    run = promoted.second
    run.s3.delete_object(Bucket=run.environment.bucket, Key=run.plan.champion_key)
    with pytest.raises(NoWayBack, match=r"has no champion.*Name the run"):
        promoted.back().choose()
    promoted.go_back(run.plan.run_name)
    assert promoted.champion["run_name"] == run.plan.run_name
    assert approval(run) == "Approved"


def test_a_wrong_answer_is_taken_back_at_once(promoted: Promoted) -> None:
    run = promoted.second
    recalled = promoted.first.plan.past_champion_key(promoted.first.plan.run_name)
    document = promoted.first.read_json(recalled) | {"golden": {GOLDEN: "b"}}
    run.write_json(recalled, document)
    with pytest.raises(RollbackFailed, match=r"answers 'a' for a/1.png.*serves r.* as before"):
        promoted.go_back()
    assert served(run) == run.plan.endpoint_config
    assert promoted.champion["run_name"] == run.plan.run_name
    assert approval(run) == "Approved"


def test_a_swapped_champion_is_not_gone_back_to(promoted: Promoted) -> None:
    run = promoted.second
    recalled = promoted.first.plan.past_champion_key(promoted.first.plan.run_name)
    run.write_json(recalled, promoted.first.read_json(recalled) | {"golden": {GOLDEN: "b"}})
    put_artifact(run, label="z")
    with pytest.raises(
        RollbackFailed, match=r"answers 'a' for .* serves .* still, .*was replaced.*rollback .*--to RUN"
    ):
        promoted.go_back()
    assert served(run) == promoted.first.plan.endpoint_config


def test_an_endpoint_deleted_meanwhile_is_asked_nothing(promoted: Promoted) -> None:
    back = promoted.back()
    with (
        between_look_and_request(back.sagemaker, "UpdateEndpoint", lambda: delete_endpoint(promoted.second)),
        pytest.raises(RollbackFailed, match=r"was asked to serve .* and is deleted"),
    ):
        back.go_back(back.choose(), reason="bad", by="ada")


def test_a_lost_answer_is_asked_for_no_more(promoted: Promoted, monkeypatch: pytest.MonkeyPatch) -> None:
    back, asked = promoted.back(), []
    session = back.sagemaker._endpoint.http_session
    send = session.send

    def lose(request: Any) -> Any:
        answer = send(request)
        if request.headers["X-Amz-Target"] != b"SageMaker.UpdateEndpoint":
            return answer
        asked.append(answer.status_code)
        raise ConnectionClosedError(endpoint_url=request.url)

    monkeypatch.setattr(session, "send", lose)
    back.go_back(back.choose(), reason="bad", by="ada")
    assert (asked, served(promoted.first)) == ([200], promoted.first.plan.endpoint_config)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("refuses", r"was asked to serve .* and is InService on .*refuses to start"),
        ("breaks", r"(?s)\(ModelError\).* The endpoint serves r.* as before"),
    ],
)
def test_a_model_that_has_gone_bad_changes_nothing(promoted: Promoted, fault: str, told: str) -> None:
    run, bad = promoted.second, promoted.first.model_data_url.rsplit("/", 1)[-1]
    key = promoted.first.plan.past_champion_key(promoted.first.plan.run_name)
    run.write_json(key, promoted.first.read_json(key) | {"artifact": None})
    run.s3.put_object(Bucket=run.environment.bucket, Key=bad, Body=archive(**{fault: "x"}))
    with pytest.raises(RollbackFailed, match=told):
        promoted.go_back()
    assert (served(run), promoted.champion["run_name"]) == (run.plan.endpoint_config, run.plan.run_name)


def test_weather_does_not_take_a_rollback_back(promoted: Promoted, monkeypatch: pytest.MonkeyPatch) -> None:
    back = promoted.back()

    def throttled(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "InvokeEndpoint")

    with monkeypatch.context() as patch:
        patch.setattr(back.runtime, "invoke_endpoint", throttled)
        with pytest.raises(ClientError, match="slow down"):
            back.go_back(back.choose(), reason="bad", by="ada")
    back.go_back(promoted.first.plan.run_name, reason="bad", by="ada")
    assert promoted.champion["run_name"] == promoted.first.plan.run_name


def test_a_rejection_after_a_rollback_is_a_persons(promoted: Promoted) -> None:
    """In SageMaker's console, which keeps the description."""
    promoted.go_back()
    promoted.go_back(promoted.second.plan.run_name)
    arn = promoted.second.fact("register")["arn"]
    promoted.second.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Rejected")
    with pytest.raises(NoWayBack, match=r"is Rejected \(Serves again, by ada"):
        promoted.back().choose(promoted.second.plan.run_name)


@pytest.mark.parametrize("moment", ["update_endpoint", "update_model_package", "put_object"])
def test_a_killed_attempt_is_gone_on_with(promoted: Promoted, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    back = promoted.back()
    target = back.choose()
    client = back.s3 if moment == "put_object" else back.sagemaker
    done: Callable[..., Any] = getattr(client, moment)

    def dies_after(**kwargs: Any) -> Any:
        done(**kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client, moment, dies_after)
        with pytest.raises(KeyboardInterrupt):
            back.go_back(target, reason="bad", by="ada")
    promoted.back().go_back(target, reason="bad", by="ada")
    assert served(promoted.first) == promoted.first.plan.endpoint_config
    assert promoted.champion["run_name"] == target
    assert (approval(promoted.first), approval(promoted.second)) == ("Approved", "Rejected")


def test_what_a_person_rejected_stays_out(promoted: Promoted) -> None:
    run = promoted.first
    run.sagemaker.update_model_package(
        ModelPackageArn=run.fact("register")["arn"],
        ModelApprovalStatus="Rejected",
        ApprovalDescription="trained on patients who did not consent",
    )
    with pytest.raises(NoWayBack, match=r"is Rejected \(trained on patients who did not consent\)"):
        promoted.back().choose()
    assert served(promoted.second) == promoted.second.plan.endpoint_config


def test_who_could_serve_instead_is_named(promoted: Promoted, runs: Runs) -> None:
    first, second, third = promoted.first, promoted.second, runs(3)
    promote(third)
    second.sagemaker.update_model_package(
        ModelPackageArn=second.fact("register")["arn"], ModelApprovalStatus="Rejected", ApprovalDescription="biased"
    )
    with pytest.raises(NoWayBack, match=rf"\(biased\).* Nothing speaks against {first.plan.run_name}\.$"):
        promoted.back().choose()


def test_a_swapped_artifact_stays_out(promoted: Promoted) -> None:
    run = promoted.first
    key = run.model_data_url.rsplit("/", 1)[-1]
    run.s3.put_object(Bucket=run.environment.bucket, Key=key, Body=b"another")
    with pytest.raises(NoWayBack, match=r"was replaced: its .* bytes had the SHA-256"):
        promoted.back().choose()


def test_an_unknown_run_is_told_with_the_known(promoted: Promoted) -> None:
    names = f"{promoted.second.plan.run_name}, {promoted.first.plan.run_name}"
    with pytest.raises(NoWayBack, match=f"run nonsense is not known as a champion.*known are: {names}"):
        promoted.back().choose("nonsense")


def test_before_the_first_champion_there_is_none(runs: Runs) -> None:
    run = runs(1)
    promote(run)
    with pytest.raises(NoWayBack, match=r"is the first champion .*: none came before it"):
        Promoted(run, run).back().choose()


def test_a_foreign_configuration_asks_which_way_is_back(promoted: Promoted, runs: Runs) -> None:
    deploy(runs(3))
    with pytest.raises(NoWayBack, match="to put the endpoint back on the champion"):
        promoted.back().choose()
    promoted.go_back(promoted.second.plan.run_name)
    assert served(promoted.second) == promoted.second.plan.endpoint_config
    assert "rolled_back" not in promoted.champion


def test_a_promotion_in_between_is_not_undone(promoted: Promoted, monkeypatch: pytest.MonkeyPatch) -> None:
    back, bucket = promoted.back(), promoted.second.environment.bucket
    written, key = back.s3.put_object, promoted.second.plan.champion_key

    def after_another(**kwargs: Any) -> Any:
        if kwargs["Key"] == key:
            written(Bucket=bucket, Key=key, Body=json.dumps(promoted.champion | {"run_name": "theirs"}))
        return written(**kwargs)

    monkeypatch.setattr(back.s3, "put_object", after_another)
    with pytest.raises(RollbackFailed, match="was changed by run theirs"):
        back.go_back(back.choose(), reason="bad", by="ada")
    assert promoted.champion["run_name"] == "theirs"


def test_a_champion_of_an_earlier_version_is_kept_too(promoted: Promoted, runs: Runs) -> None:
    run = promoted.first
    for name in (promoted.first.plan.run_name, promoted.second.plan.run_name):
        run.s3.delete_object(Bucket=run.environment.bucket, Key=run.plan.past_champion_key(name))
    promote(runs(3))
    assert [past["run_name"] for past in past_champions(run.s3, run.plan)] == [
        runs(3).plan.run_name, promoted.second.plan.run_name,
    ]  # fmt: skip
    promoted.go_back()
    assert served(run) == promoted.second.plan.endpoint_config


def test_a_terminal_shows_and_goes_back(promoted: Promoted, recipe_data: dict[str, Any], tmp_path: Path) -> None:
    run = promoted.second
    recipe = recipe_data | {"name": run.recipe.name, "endpoint": run.plan.endpoint}
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.yaml").write_text(yaml.safe_dump(recipe))

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path), "RETRAINING_POLL_SECONDS": "0.1"}
        command = [sys.executable, "-m", "retraining", *arguments]
        cwd = Path(__file__).parents[2] / "plugins"
        return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240)

    names = [run.plan.run_name, promoted.first.plan.run_name]
    shown = ask("champions", run.recipe.name)
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["*", names[1]], shown.stderr
    looked = ask("rollback", run.recipe.name, "--reason", "bad", "--dry-run")
    assert (looked.returncode, served(run)) == (0, run.plan.endpoint_config), looked.stderr
    done = ask("rollback", run.recipe.name, "--reason", "bad", "--by", "ada")
    assert f"serves {names[1]} after" in done.stdout, done.stderr
    assert "rolled back to by ada: bad" in ask("champions", run.recipe.name).stdout
    assert "needs a reason" in ask("rollback", run.recipe.name, "--reason", " ").stderr
    refused = ask("rollback", run.recipe.name, "--reason", "bad", "--to", "nonsense")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: ") and "known are: " in refused.stderr
