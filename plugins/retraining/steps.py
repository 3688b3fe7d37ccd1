"""The bodies of the DAG's plain tasks: each reads its facts from the run, does one thing, returns a small record.

Whatever raises ValueError or LookupError here is final: Airflow does not retry it.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from typing import Any
from urllib.parse import urlparse

from botocore.exceptions import ClientError

from retraining.champion import Champion, read_champion, replace_champion
from retraining.dataset.sync import sync_dataset as sync
from retraining.debugger_memory import recall_refusal
from retraining.debugger_mode import Decision, decide_mode, in_mode
from retraining.debugger_requests import rule_output_key
from retraining.environment import ConfigurationError
from retraining.images import resolve_images, rule_image
from retraining.job_kinds import is_missing
from retraining.pretrained.staging import require_staged
from retraining.profiler_report import keep_profiler_report
from retraining.promotion import Evaluation, decide, evaluate
from retraining.report import Findings, as_markdown, run_report
from retraining.run import Run, client
from retraining.source import pack_source, source_digest
from retraining.transform_outputs import read_answers

log = logging.getLogger(__name__)

GOLDEN_IMAGES = 5
KEEP_RELEASES = 3
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ClassesChanged(ValueError):
    """The data has other classes than the model that serves."""


class SmokeTestFailed(ValueError):
    """The endpoint does not answer as the same model did in batch."""


def preflight(run: Run) -> dict[str, Any]:
    """Are we where we think we are? Nothing has been paid for yet."""
    environment = run.environment
    address = urlparse(run.sagemaker.meta.endpoint_url).hostname or ""
    on_aws = address.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
    if environment.local == on_aws:
        where = "local" if environment.local else "aws"
        raise ConfigurationError(
            f"RETRAINING_ENVIRONMENT is {where}, but SageMaker's address is {address}. "
            "Set or unset AWS_ENDPOINT_URL (or the endpoint of the Airflow connection aws_default) accordingly."
        )
    owner = {"ExpectedBucketOwner": environment.bucket_owner} if environment.bucket_owner else {}
    try:
        run.s3.head_bucket(Bucket=environment.bucket, **owner)
    except ClientError as error:
        raise ConfigurationError(
            f"Bucket {environment.bucket} cannot be used ({error.response['Error']['Code']}). Create it, grant "
            "s3:ListBucket on it, or correct RETRAINING_BUCKET and RETRAINING_BUCKET_OWNER."
        ) from error
    account = client("sts").get_caller_identity()["Account"]
    if f"::{account}:" not in environment.role_arn:
        raise ConfigurationError(
            f"The credentials belong to account {account}, the role {environment.role_arn} does not. "
            "Correct RETRAINING_ROLE_ARN or the credentials."
        )
    if run.recipe.pretrained is not None:
        require_staged(run.recipe.pretrained, run.s3)
    digest = source_digest(environment.source_dir)
    debugger = _decide_mode(run, account)
    images = resolve_images(in_mode(run.recipe, debugger.mode), environment)
    log.info("Run %s in %s, account %s, bucket %s.", run.plan.run_name, address, account, environment.bucket)
    return {
        "run_name": run.plan.run_name,
        "account": account,
        "code": digest,
        "images": images.as_dict(),
        "debugger": debugger.as_dict(),
    }


def sync_dataset(run: Run) -> dict[str, Any]:
    """The recipe's images, verified and divided, in S3."""
    synced = sync(run.plan, run.s3)
    version = synced.version
    return {
        "fingerprint": version.fingerprint,
        "classes": version.classes,
        "counts": version.counts,
        "quarantined": len(version.quarantined),
        "uploaded": synced.uploaded,
    }


def needs_retraining(run: Run) -> bool:
    """Has anything changed since the champion? False skips the rest of the run."""
    champion = read_champion(run.s3, run.environment.bucket, run.plan.champion_key)
    run.push("champion", {"document": champion.document, "etag": champion.etag})
    changed = run.ingredients.changed_since(champion.document)
    forced = bool(run.params.get("force"))
    if champion.document is None:
        reason = "there is no champion yet"
    elif changed:
        reason = f"changed since champion {champion.document['run_name']}: {', '.join(changed)}"
    else:
        reason = f"data, code and recipe are those of champion {champion.document['run_name']}"
        reason += "; retraining was forced" if forced else "; trigger with force to retrain anyway"
    _check_classes(run, champion)
    needed = bool(changed) or forced
    run.push("need", {"needed": needed, "reason": reason})
    log.info("%s: %s.", "Retraining" if needed else "Nothing to do", reason)
    return needed


def package_source(run: Run) -> dict[str, Any]:
    """ml/ as sourcedir.tar.gz, under its digest."""
    folder = run.environment.source_dir
    digest = source_digest(folder)
    if digest != run.fact("preflight")["code"]:
        raise ConfigurationError(f"{folder} changed while this run was under way; trigger a new run.")
    key = run.plan.source_key(digest)
    body = pack_source(folder)
    run.s3.put_object(Bucket=run.environment.bucket, Key=key, Body=body, ContentType="application/gzip")
    return {"uri": run.plan.uri(key), "digest": digest, "size_bytes": len(body)}


def profiler_report(run: Run) -> dict[str, Any] | None:
    """The profiler's report under a stable key; None when the job was not profiled. Never a reason to fail a run."""
    training = run.find("train")
    if training is None:
        return None
    prefix = rule_output_key(run.plan, training["name"])
    kept = keep_profiler_report(run.s3, run.environment.bucket, prefix, f"{run.plan.run_key}/profiler-report.html")
    log.info("%s", kept or "This job has no profiler report.")
    return kept


def compare(run: Run) -> bool:
    """Promote or keep, and why. False skips the rest of the run."""
    fingerprint = run.fingerprint
    classes = run.read_json(f"{run.plan.version_key(fingerprint)}/dataset.json")["classes"]
    _, *entries = run.read_json(run.plan.manifest_key(fingerprint, "test"))
    expected = {entry: entry.rsplit("/", 1)[0] for entry in entries}
    answers = read_answers(run.s3, run.fact("score_candidate")["output_uri"])
    candidate = evaluate(classes, expected, answers, fingerprint)
    champion = _evaluate_champion(run, classes, expected)
    decision = decide(candidate, champion, run.recipe.promotion)
    log.info("%s: %s.", "Promote" if decision.promote else "Keep", decision.reason)
    both = {"candidate": candidate.as_dict(), "champion": champion.as_dict() if champion else None}
    evaluation_uri = run.write_json(f"{run.plan.run_key}/evaluation.json", both | _console_metrics(candidate))
    run.push(
        "comparison",
        {
            "decision": {"promote": decision.promote, "reason": decision.reason},
            "candidate": _summary(candidate),
            "champion": _summary(champion) if champion else None,
            "evaluation_uri": evaluation_uri,
            "golden": _golden_images(classes, expected, answers),
        },
    )
    return decision.promote


def smoke_test(run: Run) -> dict[str, Any]:
    """The endpoint, asked about images the candidate got right in batch, in every way clients ask."""
    golden = run.fact("compare", key="comparison")["golden"]
    bodies = {entry: _image(run, entry) for entry in golden}
    shown: dict[str, Any] = {}
    for entry, label in golden.items():
        content_type = "image/png" if entry.endswith(".png") else "image/jpeg"
        as_text = json.dumps({"image": base64.b64encode(bodies[entry]).decode()}).encode()
        for kind, body in ((content_type, bodies[entry]), ("application/json", as_text)):
            began = time.perf_counter()
            answer = _ask(run, kind, body)
            latency_ms = 1000 * (time.perf_counter() - began)
            _check_answer(entry, label, kind, answer)
            shown = shown or {"image": entry, "expected": label, "answer": answer, "latency_ms": round(latency_ms, 1)}
    together = {"instances": [base64.b64encode(body).decode() for body in bodies.values()]}
    predictions = _ask(run, "application/json", json.dumps(together).encode())["predictions"]
    for (entry, label), answer in zip(golden.items(), predictions, strict=True):
        _check_answer(entry, label, "application/json (instances)", answer)
    return shown | {"requests": 2 * len(golden) + 1}


def update_champion(run: Run) -> dict[str, Any]:
    """From here on this run is what serves. Compare-and-swap: two runs cannot both believe that."""
    known = run.fact("needs_retraining", key="champion")
    before = Champion(document=known["document"], etag=known["etag"])
    comparison, previous = run.fact("compare", key="comparison"), before.document
    document = {
        "format": 1,
        "recipe": run.recipe.name,
        "run_name": run.plan.run_name,
        "run_after": run.context["dag_run"].run_after.isoformat(),
        "ingredients": run.ingredients.as_dict(),
        "classes": run.fact("sync_dataset")["classes"],
        "metrics": comparison["candidate"],
        "tuning_job": run.fact("tune")["name"],
        "training_job": run.fact("train")["name"],
        "model": run.plan.model,
        "model_data_url": run.model_data_url,
        "image": run.images.serving,
        "model_package_arn": run.fact("register")["arn"],
        "endpoint": run.plan.endpoint,
        "endpoint_config": run.plan.endpoint_config,
        "previous": {k: previous[k] for k in ("run_name", "model", "endpoint_config")} if previous else None,
    }
    replace_champion(run.s3, run.environment.bucket, run.plan.champion_key, before, document)
    return {"run_name": document["run_name"], "previous": (previous or {}).get("run_name")}


def prune(run: Run) -> dict[str, Any]:
    """Remove old models and endpoint configurations of this recipe; never what serves or what a rollback needs."""
    sagemaker, plan = run.sagemaker, run.plan
    champion = read_champion(run.s3, run.environment.bucket, plan.champion_key).document or {}
    served = sagemaker.describe_endpoint(EndpointName=plan.endpoint)["EndpointConfigName"]
    needed = {plan.run_name, served, champion.get("model"), champion.get("endpoint_config")}
    needed |= set((champion.get("previous") or {}).values())
    served_variants = sagemaker.describe_endpoint_config(EndpointConfigName=served)["ProductionVariants"]
    needed |= {variant["ModelName"] for variant in served_variants}
    removed: dict[str, list[str]] = {}
    for noun, listing, delete in (
        ("EndpointConfig", "list_endpoint_configs", sagemaker.delete_endpoint_config),
        ("Model", "list_models", sagemaker.delete_model),
    ):
        pages = sagemaker.get_paginator(listing).paginate(NameContains=f"{plan.run_name.rsplit('-', 3)[0]}-")
        names = {item[f"{noun}Name"] for page in pages for item in page[f"{noun}s"]}
        # The names of a recipe's runs sort by time.
        old = sorted((name for name in names if plan.owns(name)), reverse=True)[KEEP_RELEASES:]
        removed[noun] = [name for name in old if name not in needed]
        for name in removed[noun]:
            log.info("Deleting %s %s.", noun, name)
            _delete(delete, f"{noun}Name", name)
    return removed


def report(run: Run) -> dict[str, Any]:
    """What happened, for every outcome. Runs last, whatever failed, and does not change the run's colour."""
    states = _task_states(run)
    tuning = run.find("tune")
    found = Findings(
        run_name=run.plan.run_name,
        recipe=run.recipe.name,
        states=states,
        failures={task: text for task in states if (text := run.find(task, key="failure"))},
        need=run.find("needs_retraining", key="need"),
        dataset=run.find("sync_dataset"),
        tuning=tuning,
        trials=_trials(run, tuning["name"]) if tuning else (),
        training=run.find("train"),
        rules=_verdicts(run),
        debugger=_debugger_found(run),
        profiler=run.find("profiler_report"),
        comparison=run.find("compare", key="comparison"),
        approval=run.find("approve"),
        endpoint=run.find("deploy"),
        smoke_test=run.find("smoke_test"),
        model_package=run.find("register"),
    )
    document = run_report(found)
    text = as_markdown(document)
    uri = run.write_json(run.plan.report_key, document)
    page = f"{run.plan.run_key}/report.md"
    run.s3.put_object(Bucket=run.environment.bucket, Key=page, Body=text.encode(), ContentType="text/markdown")
    log.info("%s\n%s", uri, text)
    return {"outcome": document["outcome"], "reason": document["reason"], "uri": uri}


# --- parts ----------------------------------------------------------------------------------------------------------


def _decide_mode(run: Run, account: str) -> Decision:
    """Who will watch the training, as far as it can be known before anything is paid for."""
    recipe, environment = run.recipe, run.environment
    asks_aws = recipe.debugger.mode in ("auto", "managed")
    decision = decide_mode(
        recipe,
        environment.region,
        rule_image=rule_image(environment) if asks_aws else None,
        refusal=recall_refusal(run.s3, environment.bucket, account) if asks_aws else None,
    )
    log.info("Debugger mode %s: %s.", decision.mode, decision.reason)
    if recipe.debugger.stop_training and decision.mode == "self_hosted":
        log.warning(
            "debugger.stop_training (%s) has no effect: self_hosted rules are evaluated after the training.",
            ", ".join(recipe.debugger.stop_training),
        )
    return decision


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


def _check_classes(run: Run, champion: Champion) -> None:
    if champion.document is None or run.params.get("accept_class_change"):
        return
    before, now = set(champion.document["classes"]), set(run.fact("sync_dataset")["classes"])
    if before != now:
        raise ClassesChanged(
            f"The classes changed since champion {champion.document['run_name']}: added {sorted(now - before)}, "
            f"removed {sorted(before - now)}. Clients of {run.plan.endpoint} would see other answers. "
            "If that is intended, trigger the DAG with accept_class_change."
        )


def _evaluate_champion(run: Run, classes: list[str], expected: dict[str, str]) -> Evaluation | None:
    champion, scored = run.comparable_champion, run.find("score_champion")
    if champion is None or scored is None:
        return None
    # The digest of the test set this job really read, from its own input address.
    digest = scored["input_uri"].rsplit("/", 2)[-2]
    return evaluate(classes, expected, read_answers(run.s3, scored["output_uri"]), digest, champion["classes"])


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    return {key: getattr(evaluation, key) for key in ("accuracy", "macro_f1", "log_loss", "n")}


def _console_metrics(candidate: Evaluation) -> dict[str, Any]:
    """The form SageMaker's console draws."""
    return {
        "multiclass_classification_metrics": {"accuracy": {"value": candidate.accuracy, "standard_deviation": "NaN"}}
    }


def _golden_images(classes: list[str], expected: dict[str, str], answers: dict[str, list[float]]) -> dict[str, str]:
    """Test image → class: for the first few classes, the image the candidate was surest about and right."""
    golden: dict[str, str] = {}
    for index, label in enumerate(classes):
        right = [e for e in expected if expected[e] == label and max(answers[e]) == answers[e][index]]
        if right and len(golden) < GOLDEN_IMAGES:
            golden[max(right, key=lambda entry: (answers[entry][index], entry))] = label
    return golden


def _image(run: Run, entry: str) -> bytes:
    key = f"{run.plan.images_key}{entry}"
    return bytes(run.s3.get_object(Bucket=run.environment.bucket, Key=key)["Body"].read())


def _ask(run: Run, content_type: str, body: bytes) -> dict[str, Any]:
    answer = run.runtime.invoke_endpoint(
        EndpointName=run.plan.endpoint, ContentType=content_type, Accept="application/json", Body=body
    )
    return dict(json.loads(answer["Body"].read()))


def _check_answer(entry: str, label: str, kind: str, answer: dict[str, Any]) -> None:
    if answer.get("label") != label:
        raise SmokeTestFailed(
            f"The endpoint answers {answer.get('label')!r} for {entry}, sent as {kind}; in batch the same model "
            f"answered {label!r}, which is right. Real-time and batch serving differ."
        )


def _delete(delete: Any, key: str, name: str) -> None:
    try:
        delete(**{key: name})
    except ClientError as error:
        if not is_missing(error.response["Error"]["Code"], error.response["Error"]["Message"]):
            raise


def _task_states(run: Run) -> dict[str, str | None]:
    """Task id → state, in the order of the DAG, without the report itself."""
    dag: Any = run.context["dag"]
    ti: Any = run.context["ti"]
    states = ti.get_task_states(dag_id=dag.dag_id, run_ids=[run.context["dag_run"].run_id])
    known = states.get(run.context["dag_run"].run_id, {})
    return {task.task_id: known.get(task.task_id) for task in dag.topological_sort() if task.task_id != ti.task_id}


def _trials(run: Run, tuning_job: str) -> list[dict[str, Any]]:
    pages = run.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
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
