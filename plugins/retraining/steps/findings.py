"""What the tasks of a run left behind, gathered for its report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from retraining.cost.paid_jobs import bill
from retraining.debugger.advice import with_advice
from retraining.debugger.series import read_series
from retraining.epochs import read_epochs
from retraining.fingerprint import gate_fingerprint, shadow_fingerprint
from retraining.promotion.approval import person, rejects
from retraining.promotion.rejections import Rejection, remember_rejection
from retraining.release.lifetime import Lifetime
from retraining.release.package import candidates_rejection
from retraining.report import Findings, as_markdown, gather, judge, run_report
from retraining.requests.debugger import rule_output_key
from retraining.run import RecipeChanged, Run, client

log = logging.getLogger(__name__)

MOST_INHERITED = 100
"""Of their trials, about 20 kB of report.json."""
ENDINGS = ("report", "outcome")  # they tell how a run went, and are no part of it


class RunFailed(ValueError):
    """The run ended without a decision, or with a task that failed."""


def outcome(run: Run) -> str:
    """The run's colour, by what its tasks did.

    Airflow colours a run by its last tasks, and skips those when a person marks a run, so that it would be green.
    """
    found = Findings(
        run_name=run.plan.run_name,
        recipe=run.recipe.name,
        need=run.find("needs_retraining", key="need"),
        comparison=run.find("compare", key="comparison"),
        approval=run.find("approve"),
        **_how_tasks_ended(run),
    )
    name, reason = judge(found)
    if name == "failed":
        raise RunFailed(f"The run failed. {reason}")
    if run.recipe.serving.ttl_hours is not None:
        Lifetime(s3=run.s3, plan=run.plan).extend(datetime.now(UTC))
    return name


def report(run: Run) -> dict[str, Any]:
    """What happened, for every outcome. Runs last, whatever failed, and does not change the run's colour."""
    tuning = run.find("tune")
    _keep_epochs(run)
    verdicts = _verdicts(run)
    _keep_series(run, verdicts)
    found = gather(
        run.plan.run_name,
        run.recipe.name,
        run.find,
        **_how_tasks_ended(run),
        trials=_trials(run.sagemaker, tuning["name"]) if tuning else (),
        inherited=inherited_trials(run.sagemaker, tuning) if tuning else (),
        rules=with_advice(verdicts, run.environment.source_dir),
        debugger=_debugger_found(run),
        billed=bill(run),
    )
    document = run_report(found)
    text = as_markdown(document)
    uri = run.write_json(run.plan.report_key, document)
    page = f"{run.plan.run_key}/report.md"
    run.s3.put_object(Bucket=run.environment.bucket, Key=page, Body=text.encode(), ContentType="text/markdown")
    log.info("%s\n%s", uri, text)
    _keep_page(run, document)
    _remember(run, document, found)
    return {"outcome": document["outcome"], "reason": document["reason"], "uri": uri}


def _keep_epochs(run: Run) -> None:
    """For the run's page alone, also of a training that failed: what goes wrong is told, and decides nothing."""
    try:
        job = run.find("train", key="job")
        if job and (told := read_epochs(client("logs"), job["name"])):
            run.write_json(run.plan.epochs_key, told)
    except Exception:
        log.exception("The epochs of the training of run %s cannot be kept.", run.plan.run_name)


def _keep_series(run: Run, verdicts: Sequence[Mapping[str, Any]]) -> None:
    """For the run's page alone: what goes wrong is told, and decides nothing."""
    try:
        job = run.find("train", key="job")
        if job and any(verdict["status"] == "IssuesFound" for verdict in verdicts):
            prefix = rule_output_key(run.plan, job["name"])
            run.write_json(run.plan.series_key, read_series(run.s3, run.environment.bucket, prefix, verdicts))
    except Exception:
        log.exception("What the rules of run %s judged cannot be kept.", run.plan.run_name)


def _keep_page(run: Run, document: Mapping[str, Any]) -> None:
    """The page as one file, for e-mail and archives; what goes wrong with it is told, and decides nothing."""
    from retraining.page.archive import archived  # no DAG needs it to be parsed

    try:
        body = archived(run, document)
        run.s3.put_object(
            Bucket=run.environment.bucket, Key=run.plan.page_key, Body=body, ContentType="text/html; charset=utf-8"
        )
    except Exception:
        log.exception("The page of run %s cannot be kept as a file.", run.plan.run_name)


def _remember(run: Run, document: Mapping[str, Any], found: Findings) -> None:
    """A decision against the candidate, so that the same is not trained again next week: a gate's or the shadow's for
    the champion that stayed, or a person's, in the run or in the registry. Failures are none."""
    by, reason, gate = None, document["reason"], gate_fingerprint(run.recipe)
    arn = document["model_package_arn"]
    if document["outcome"] != "promoted" and arn and (said := candidates_rejection(run.sagemaker, arn)):
        by, reason = "a person in the registry", said
    elif document["outcome"] == "kept" and rejects(found.approval):
        by = person(found.approval)
        if by is None:  # the time to answer ran out: nobody has decided anything
            return
    elif found.shadow and not found.shadow.get("accepted"):
        gate = shadow_fingerprint(run.recipe)
    elif document["outcome"] != "kept":
        return
    try:
        ingredients = run.ingredients.as_dict()
    except RecipeChanged as error:
        log.warning("%s What was decided of its model is not remembered.", error)
        return
    rejection = Rejection(
        run_name=run.plan.run_name,
        ingredients=ingredients,
        gate=gate,
        champion=(run.champion or {}).get("run_name"),
        reason=reason,
        by=by,
    )
    remember_rejection(run.s3, run.environment.bucket, run.plan.rejections_key, run.recipe.name, rejection)


def _verdicts(run: Run) -> list[dict[str, str]]:
    """Of all rules; after a training that failed, of those that had ended by then."""
    if verdicts := run.find("debugger_verdict", key="verdicts"):
        return list(verdicts)
    policies = run.recipe.debugger.rules
    return [v | {"policy": policies.get(v["rule"], "warn")} for v in run.find("train", key="verdicts") or ()]


def _debugger_found(run: Run) -> dict[str, str] | None:
    """How the training was really watched, and why so."""
    decided, training = (run.find("preflight") or {}).get("debugger"), run.find("train")
    if training is None or decided is None or training["debugger"] == decided["mode"]:
        return dict(decided) if decided else None
    return {"mode": training["debugger"], "reason": "SageMaker refused Debugger to this training"}


def _how_tasks_ended(run: Run) -> dict[str, Any]:
    states = _task_states(run)
    failures = {task: text for task in states if (text := run.find(task, key="failure"))}
    return {"states": states, "failures": failures}


def _task_states(run: Run) -> dict[str, str | None]:
    """Task id → state, in the order of the DAG, without what tells how it went."""
    dag: Any = run.context["dag"]
    ti: Any = run.context["ti"]
    states = ti.get_task_states(dag_id=dag.dag_id, run_ids=[run.context["dag_run"].run_id])
    known = states.get(run.context["dag_run"].run_id, {})
    return {task.task_id: known.get(task.task_id) for task in dag.topological_sort() if task.task_id not in ENDINGS}


def inherited_trials(sagemaker: Any, tuning: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those with a result, of the searches that this one began from, the best last; for the page alone."""
    found = []
    try:
        for parent in (tuning.get("warm_start") or {}).get("parents", ()):
            found += [trial for trial in _trials(sagemaker, parent) if trial["objective"] is not None]
    except (BotoCoreError, ClientError) as error:
        log.warning("The trials that the search began from cannot be listed: %s", error)
    return sorted(found, key=lambda trial: float(trial["objective"]))[-MOST_INHERITED:]


def _trials(sagemaker: Any, tuning_job: str) -> list[dict[str, Any]]:
    pages = sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName=tuning_job
    )
    return [
        {
            "name": trial["TrainingJobName"],
            "status": trial["TrainingJobStatus"],
            "objective": trial.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value"),
            "hyperparameters": trial.get("TunedHyperParameters", {}),
        }
        for page in pages
        for trial in page["TrainingJobSummaries"]
    ]
