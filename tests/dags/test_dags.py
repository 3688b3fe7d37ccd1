"""The DAG files: what they make, what they cost to parse, and what a bad recipe does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.shipped import ROOT, copy_dags

DIGITS = ROOT / "dags" / "recipes" / "digits.yaml"

TASKS = {
    "preflight", "sync_dataset", "needs_retraining", "package_source", "warm_start", "tune", "train", "evaluate_rules",
    "debugger_verdict", "profiler_report", "score_candidate", "score_champion", "compare", "approve", "register",
    "shadow_requests", "shadow_candidate", "shadow_champion", "shadow",
    "create_model", "create_endpoint_config", "deploy", "smoke_test", "update_champion", "rollback", "prune", "report",
    "outcome",
}  # fmt: skip

SHIPPED = {
    f"{kind}_{name}"
    for name in ("digits", "dogs", "cifar100", "cifar100-frozen", "chest-xray")
    for kind in ("retrain", "rollback")
}
SECOND = {"retrain_second", "rollback_second"}

GOOD = """
name: second
source: s3://images/second
hyperparameters: {epochs: 3}
tuning: {ranges: {lr: {type: continuous, min: 0.001, max: 0.1}}}
"""


Parse = Callable[[], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DAG files and the shipped recipes, without what a user of this clone has added."""
    return copy_dags(tmp_path_factory.mktemp("shipped") / "dags")


@pytest.fixture(scope="module")
def parse(folder: Path) -> Parse:
    """parse(): the DAG files as Airflow reads them."""
    from airflow.dag_processing.dagbag import DagBag

    return lambda: DagBag(str(folder))


@pytest.fixture(scope="module")
def dags(parse: Parse) -> Any:
    bag = parse()
    assert bag.import_errors == {}
    return bag.dags


@pytest.fixture(scope="module")
def digits(dags: Any) -> Any:
    return dags["retrain_digits"]


def test_each_recipe_is_a_dag_of_the_same_shape(dags: Any) -> None:
    assert set(dags) == SHIPPED
    for name, dag in dags.items():
        assert set(dag.task_ids) == (TASKS if name.startswith("retrain_") else {"choose", "go_back"})


def test_credentials_are_first_looked_at_by_one_task(dags: Any) -> None:
    """What its retries go by: who never had credentials is told at once."""
    for name, dag in dags.items():
        first = [task.task_id for task in dag.tasks if not task.upstream_task_ids]
        assert first == (["preflight"] if name.startswith("retrain_") else ["choose"])


def test_going_back_asks_for_a_reason(dags: Any) -> None:
    back = dags["rollback_digits"]
    assert back.params.get_param("reason").schema["minLength"] == 1
    assert "null" in back.params.get_param("to").schema["type"]  # what may not be, the form asks for
    assert back.params["drill"] is False
    with pytest.raises(Exception, match="No value passed and Param has no default value"):
        back.params.validate()
    # Who wants a model back now does not look for a switch first.
    assert (back.is_paused_upon_creation, back.max_active_runs, back.schedule) == (False, 1, None)


def test_every_task_of_the_design_is_there(digits: Any) -> None:
    assert set(digits.task_ids) == TASKS


def test_a_run_waits_for_nobody_and_never_overlaps(digits: Any) -> None:
    assert (digits.catchup, digits.max_active_runs, digits.start_date) == (False, 1, None)
    assert digits.timetable.expression == "0 3 * * 1"


@pytest.mark.parametrize(
    ("now", "first"),
    [
        ("2026-11-30T03:05", "2026-11-30T03:00"),  # a scheduler that had other things to do
        ("2026-11-30T03:20", "2026-12-07T03:00"),
        ("2026-11-30T18:00", "2026-12-07T03:00"),
        ("2026-12-03T12:00", "2026-12-07T03:00"),
    ],
)
def test_who_unpauses_it_trains_nothing(digits: Any, now: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.timetables import trigger
    from airflow.timetables.base import TimeRestriction

    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    monkeypatch.setattr(trigger, "utcnow", lambda: moment)
    never = TimeRestriction(earliest=None, latest=None, catchup=False)
    due = served(digits).timetable.next_dagrun_info(last_automated_data_interval=None, restriction=never)
    assert due.run_after == datetime.fromisoformat(first).replace(tzinfo=UTC)


def served(dag: Any) -> Any:
    """The DAG as the scheduler has it."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(dag))


@pytest.mark.parametrize(
    ("schedule", "asked"),
    [
        ('schedule: "0 3 * * 1"\nassets: [s3://images/second, labelled]\n', ["labelled", "s3://images/second"]),
        ("schedule: null\nassets: [s3://images/second]\n", ["s3://images/second"]),
        ("schedule: null\n", []),
    ],
)
def test_events_of_assets_begin_a_run(
    schedule: str, asked: list[str], write_recipe: Callable[[str, str], Path], parse: Parse
) -> None:
    write_recipe("second.yaml", GOOD + schedule)
    dag = served(parse().dags["retrain_second"])
    assert sorted(asset.uri for _, asset in dag.timetable.asset_condition.iter_assets()) == asked
    assert bool(dag.timetable.can_be_scheduled) == bool(asked)


def test_nothing_that_is_paid_for_starts_before_the_checks(digits: Any) -> None:
    for task in ("tune", "train", "score_candidate", "deploy"):
        assert {"preflight", "sync_dataset", "needs_retraining"} <= digits.get_task(task).get_flat_relative_ids(
            upstream=True
        )


def test_rules_that_sagemaker_evaluates_leave_a_verdict_too(digits: Any) -> None:
    """`evaluate_rules` is skipped then."""
    verdict = digits.get_task("debugger_verdict")
    assert (verdict.upstream_task_ids, verdict.trigger_rule) == ({"evaluate_rules"}, "none_failed")
    assert digits.get_task("evaluate_rules").upstream_task_ids == {"train"}


def test_the_champion_changes_only_after_the_smoke_test(digits: Any) -> None:
    assert digits.get_task("update_champion").upstream_task_ids == {"smoke_test"}


def test_the_report_cannot_make_a_failed_run_green(digits: Any) -> None:
    report = digits.get_task("report")
    assert report.is_teardown
    assert not report.on_failure_fail_dagrun
    assert report.get_flat_relative_ids(upstream=True) == TASKS - {"report", "outcome"}


def test_what_takes_back_and_tells_runs_when_a_run_is_marked(digits: Any) -> None:
    """Airflow skips every task but the teardowns when a person marks a run."""
    assert {task.task_id for task in digits.tasks if task.is_teardown} == {"rollback", "report", "outcome"}
    assert digits.get_task("outcome").on_failure_fail_dagrun
    assert digits.get_task("outcome").upstream_task_ids == {"report"}


def test_every_job_of_a_run_is_in_its_price_ceiling(digits: Any) -> None:
    from retraining.container_images import resolve_images
    from retraining.cost.ceiling import ceiling
    from retraining.environment import Environment
    from retraining.operators.durable import DurableJob
    from retraining.plan import Plan
    from retraining.recipe import load_recipe
    from retraining.recipe.capture import Capture
    from retraining.recipe.deployment import Deployment, Shadow

    known = {"RETRAINING_ENVIRONMENT": "local", "RETRAINING_BUCKET": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    environment = Environment.of(known | {"RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/r"})
    recipe = replace(load_recipe(DIGITS), deployment=Deployment(shadow=Shadow()), capture=Capture(percent=1))
    plan = Plan(recipe=recipe, environment=environment, run_name="r")
    jobs = {task.task_id for task in digits.tasks if isinstance(task, DurableJob)}
    assert jobs == {item.task for item in ceiling(plan, resolve_images(plan.recipe, environment)).items}


def test_a_recipe_may_have_its_images_verified_by_a_job(tmp_path: Path) -> None:
    """Also after a job that was skipped, the sync goes on; and after one that failed, it does not."""
    from airflow.dag_processing.dagbag import DagBag

    from retraining.container_images import resolve_images
    from retraining.cost.ceiling import ceiling
    from retraining.environment import Environment
    from retraining.plan import Plan
    from retraining.recipe import load_recipe

    (path := tmp_path / "second.yaml").write_text(f"{GOOD}sync: {{where: processing, instances: 3}}\n")
    dag = DagBag(str(copy_dags(tmp_path / "dags", [path]))).dags["retrain_second"]
    assert set(dag.task_ids) == TASKS | {"list_images", "verify_images"}
    sync = dag.get_task("sync_dataset")
    assert (sync.upstream_task_ids, sync.trigger_rule) == ({"preflight", "verify_images"}, "none_failed")
    assert dag.get_task("verify_images").upstream_task_ids == {"list_images"}
    known = {"RETRAINING_ENVIRONMENT": "local", "RETRAINING_BUCKET": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    environment = Environment.of(known | {"RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/r"})
    plan = Plan(recipe=load_recipe(path), environment=environment, run_name="r")
    assert "verify_images" in {item.task for item in ceiling(plan, resolve_images(plan.recipe, environment)).items}


def test_who_approves_sees_the_gate(digits: Any) -> None:
    """Also of a run that compared before an upgrade, when there was no table."""
    for gate, told in (({"gate": "| gate |"}, "worse.\n\n| gate |"), ({}, "worse.\n\n")):
        found = {"decision": {"reason": "worse"}} | gate
        for shadow, also in ((None, ""), ({"said": "Of 20 images …"}, "\n\nShadow: Of 20 images …")):
            known = {"compare": found, "shadow": shadow}
            ti = SimpleNamespace(xcom_pull=lambda known=known, *, task_ids, key: known[task_ids])
            assert digits.get_template_env().from_string(digits.get_task("approve").body).render(ti=ti) == told + also


def test_every_wait_is_deferred(digits: Any) -> None:
    from retraining.operators.durable import DurableJob
    from retraining.operators.endpoint import EndpointOperator
    from retraining.sensors import DebuggerVerdictSensor

    waiting = (
        "tune", "train", "evaluate_rules", "debugger_verdict", "score_candidate", "score_champion", "shadow_candidate",
        "shadow_champion", "deploy", "rollback",
    )  # fmt: skip
    assert all(isinstance(digits.get_task(t), DurableJob | EndpointOperator | DebuggerVerdictSensor) for t in waiting)


def test_the_form_shows_five_fields_and_folds_the_others(digits: Any) -> None:
    form = {name: digits.params.get_param(name) for name in digits.params}
    unfolded = [name for name, param in form.items() if not param.schema.get("section")]
    assert unfolded == ["force", "source", "max_jobs", "epochs", "approval"]
    assert {param.schema.get("section") for param in form.values()} == {None, "Tuning", "Training", "Promotion"}
    assert all(param.schema.get("title") for param in form.values())


def test_serialisation_keeps_the_dag(digits: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    serialised = DagSerialization.serialize_dag(digits)
    assert set(DagSerialization.deserialize_dag(serialised).task_dict) == TASKS


def test_parsing_twice_gives_the_same_dag(digits: Any, parse: Parse) -> None:
    """A DAG that differs from parse to parse would become a new version every half minute."""
    from airflow.serialization.serialized_objects import DagSerialization

    again = parse().dags["retrain_digits"]
    first, second = (json.dumps(DagSerialization.serialize_dag(dag), sort_keys=True) for dag in (digits, again))
    assert first == second


def test_another_recipe_is_another_dag(parse: Parse, write_recipe: Callable[[str, str], Path]) -> None:
    write_recipe("second.yaml", GOOD)
    assert set(parse().dags) == SHIPPED | SECOND


@pytest.mark.parametrize("name", ["second", '"\\x73econd"'])
def test_a_task_makes_its_own_dag_alone(
    parse: Parse, write_recipe: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Airflow reads the file anew for each task, and says for which one; however the recipe spells its name."""
    write_recipe("any.yaml", GOOD.replace("second", name, 1))
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "retrain_second")
    assert "retrain_second" in parse().dags
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "retrain_digits")
    assert set(parse().dags) == {"retrain_digits"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD + "trainning: {}\n", "bad.yaml: trainning = {}: is not a key of this section. Did you mean training?"),
        (GOOD + 'schedule: "61 3 * * 1"\n', "bad.yaml: schedule = '61 3 * * 1': must be a cron line"),
        ("{name: [", "bad.yaml: file = 'bad.yaml': is not valid YAML"),
    ],
)
def test_a_bad_recipe_is_an_import_error_and_hides_no_other_dag(
    parse: Parse, write_recipe: Callable[[str, str], Path], text: str, complaint: str
) -> None:
    write_recipe("bad.yaml", text)
    write_recipe("second.yaml", GOOD)
    bag = parse()
    assert set(bag.dags) == SHIPPED | SECOND
    ((file, error),) = bag.import_errors.items()
    assert file.endswith("recipe_errors.py")
    assert complaint in error


def test_a_time_to_live_brings_the_janitor(
    parse: Parse, write_recipe: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe("second.yaml", GOOD + "serving: {ttl_hours: 48}\n")
    bag = parse()
    assert set(bag.dags) == SHIPPED | SECOND | {"retraining_janitor"}
    found = bag.dags["retraining_janitor"]
    assert found.task_ids == ["second"]
    assert (found.catchup, found.max_active_runs) == (False, 1)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "retraining_janitor")
    assert set(parse().dags) == {"retraining_janitor"}


def test_two_recipes_of_one_name_are_an_import_error(parse: Parse, write_recipe: Callable[[str, str], Path]) -> None:
    write_recipe("one.yaml", GOOD)
    write_recipe("two.yaml", GOOD)
    bag = parse()
    assert set(bag.dags) == SHIPPED | SECOND
    assert "Give each recipe its own name" in next(iter(bag.import_errors.values()))


def test_parsing_is_quick_and_imports_nothing_heavy(folder: Path) -> None:
    """Every task parses the file anew, so each second here is twenty seconds of a run."""
    script = f"""
import sys, time
import airflow.providers.amazon.aws.operators.sagemaker
from airflow.dag_processing.dagbag import DagBag
began = time.process_time()
bag = DagBag({str(folder)!r})
seconds = time.process_time() - began
assert not bag.import_errors, bag.import_errors
heavy = {{"torch", "pandas", "sagemaker", "numpy", "sklearn", "PIL", "aiobotocore"}} & set(sys.modules)
print("PARSED", seconds, sorted(heavy))
sys.exit(bool(heavy) or seconds > 2)
"""
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]


def test_parsing_imports_no_client_anew(folder: Path) -> None:
    """The DAG processor parses each file every 30 s, in a fork that has what the file itself names of Airflow."""
    script = f"""
import importlib, sys
from airflow.utils.file import iter_airflow_imports
for name in iter_airflow_imports({str(folder / "retrain_classifier.py")!r}):
    importlib.import_module(name)
before = set(sys.modules)
from airflow.dag_processing.dagbag import DagBag
assert DagBag({str(folder)!r}).dags
print(sorted(name for name in sys.modules.keys() - before if name.startswith(("airflow.providers.amazon", "boto"))))
"""
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout[-2000:] + done.stderr[-2000:]


def test_parsing_asks_nobody(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment of ours, no network: a DAG file is read far more often than it is run."""
    for name in [name for name in os.environ if name.startswith(("RETRAINING_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the DAG file opened a connection"))
    assert parse().import_errors == {}


def test_a_presigned_source_is_not_shown(folder: Path, parse: Parse) -> None:
    """Airflow keeps a DAG's words in its database, and shows them to whoever sees the DAG."""
    from airflow.serialization.serialized_objects import DagSerialization

    recipe = folder / "recipes" / "secret.yaml"
    recipe.write_text(GOOD.replace("second", "secret").replace("s3://images/secret", "https://h.example/x.zip?sig=TOP"))
    try:
        dag = parse().dags["retrain_secret"]
    finally:
        recipe.unlink()
    assert "https://h.example/x.zip" in dag.doc_md
    assert "TOP" not in json.dumps(DagSerialization.to_dict(dag), default=str)
