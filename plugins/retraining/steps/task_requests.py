"""What the operators of the DAG send: each reads its facts from the run and returns the request of one task.

An empty request means that there is nothing to do in this run; its task is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from retraining.debugger.mode import in_mode
from retraining.intent import Intent
from retraining.job_kinds import is_missing
from retraining.promotion.approval import person, rejects
from retraining.promotion.champion import ChampionUnusable, own_champion
from retraining.recipe.debugger import Mode
from retraining.release.artifact import require_own_model, require_unchanged
from retraining.release.endpoint import describe_endpoint, pending_config
from retraining.release.package import require_not_rejected
from retraining.requests import champion as champion_requests
from retraining.requests import debugger as debugger_requests
from retraining.requests import sagemaker as requests
from retraining.requests import verification as verification_requests
from retraining.requests.autoscaling import retained, scaling
from retraining.run import Run


class NotPromoted(ValueError):
    """The candidate was compared and found wanting."""


def verification_request(run: Run) -> dict[str, Any]:
    """Empty, so that the task is skipped, where the worker verifies what is new, or nothing is."""
    divided = run.fact("list_images")
    return verification_requests.verification_job(run.plan, run.images, divided) if divided["job"] else {}


def tuning_request(run: Run) -> dict[str, Any]:
    """Decided before it is sent: an attempt that follows another sends the same."""
    run.require_same_recipe()
    return requests.tuning_job(run.plan, run.images, run.fingerprint, run.source_uri, run.find("warm_start"))


def training_request(run: Run) -> dict[str, Any]:
    return _training(run, run.fact("preflight")["debugger"]["mode"])


def refused_training(run: Run) -> dict[str, Any]:
    """What to do when SageMaker refuses the training because of Debugger."""
    wanted, account = run.recipe.debugger.mode, run.fact("preflight")["account"]
    request = _training(run, "self_hosted") if wanted == "auto" else {}
    return {"Request": request, "Bucket": run.environment.bucket, "Account": account}


def evaluation_request(run: Run) -> dict[str, Any]:
    """Empty, so that the task is skipped, unless the training is one whose rules we evaluate ourselves."""
    training = run.fact("train")
    if training["debugger"] != "self_hosted":
        return {}
    return debugger_requests.evaluation_job(run.plan, run.images, run.source_uri, training["name"])


def evaluation_documents(run: Run) -> dict[str, Any]:
    training = run.fact("train")
    if training["debugger"] != "self_hosted":
        return {}
    job = run.sagemaker.describe_training_job(TrainingJobName=training["name"])
    return debugger_requests.evaluation_documents(run.plan, job)


def verdict_request(run: Run) -> dict[str, Any]:
    evaluation = None
    if evaluated := run.find("evaluate_rules"):
        rules = debugger_requests.rule_names(run.plan)
        evaluation = {"Output": evaluated["output_uri"], "Rules": rules, "Problem": evaluated["problem"]}
    return {
        "TrainingJobName": run.fact("train")["name"],
        "Policies": dict(run.recipe.debugger.rules),
        "Evaluation": evaluation,
    }


def model_request(run: Run) -> dict[str, Any]:
    return requests.model(run.plan, run.plan.model, run.images.serving, run.model_data_url)


def candidate_scoring_request(run: Run) -> dict[str, Any]:
    return requests.transform_job(run.plan, run.plan.candidate_scoring_job, run.plan.model, _test_manifest(run))


def champion_scoring_request(run: Run) -> dict[str, Any]:
    """Empty, so that the task is skipped, when there is no champion that can be compared."""
    champion = run.comparable_champion
    if champion is None:
        return {}
    return requests.transform_job(run.plan, run.plan.champion_scoring_job, champion["model"], _test_manifest(run))


def shadow_candidate_request(run: Run) -> dict[str, Any]:
    return _shadow(run, run.plan.shadow_candidate_job, run.plan.model)


def shadow_champion_request(run: Run) -> dict[str, Any]:
    champion = run.comparable_champion
    return _shadow(run, run.plan.shadow_champion_job, champion["model"]) if champion else {}


def registration_request(run: Run) -> dict[str, Any]:
    """NotPromoted where `register` was cleared by itself: Airflow runs it then, whatever was skipped before."""
    comparison, training = run.fact("compare", key="comparison"), run.fact("train")
    if not comparison["decision"]["promote"]:
        raise NotPromoted(f"The candidate stays out: {comparison['decision']['reason']}. Nothing is registered.")
    if run.find("shadow_requests", key="chosen") and not (run.find("shadow", key="found") or {}).get("accepted"):
        raise NotPromoted("The candidate was refused in the shadow, or never stood there. Nothing is registered.")
    answer = run.find("approve")
    if run.recipe.approval and not answer:
        raise NotPromoted(
            "Nobody answered: `approve` was marked as a success, which says nothing of who decided. Clear it, and "
            "answer it. Nothing is registered."
        )
    if rejects(answer):
        raise NotPromoted("A person rejected the candidate, or nobody approved it in time. Nothing is registered.")
    facts = run.ingredients.as_dict() | {"test_accuracy": f"{comparison['candidate']['accuracy']:.6f}"}
    facts["tuning_job"] = run.fact("tune")["name"]
    if who := person(answer):
        facts["approved_by"] = who
    if artifact := comparison.get("artifact"):
        require_unchanged(run.s3, artifact, "when it was scored")
        facts["artifact_sha256"] = artifact["sha256"]
    package = requests.model_package(
        run.plan, run.images.serving, run.model_data_url, comparison["evaluation_uri"], training["arn"], facts
    )
    return {"Group": requests.model_package_group(run.plan), "Package": package}


def endpoint_config_request(run: Run) -> dict[str, Any]:
    return requests.endpoint_config(run.plan)


def endpoint_request(run: Run) -> dict[str, Any]:
    """Checked before the update and, since it is built again with every resumption, during it.

    PackageRejected when a person said no in the registry; ArtifactChanged or NameTaken when it is another model now.
    """
    require_not_rejected(run.sagemaker, run.fact("register")["arn"])
    require_scored_model(run)
    return requests.endpoint(run.plan, run.plan.endpoint_config) | {
        "DeploymentConfig": requests.deployment_config(run.recipe.deployment),
        "Intent": run.release_intents.address,
        "Began": run.find("needs_retraining", key="serves"),
        "Watch": _watch(run) if run.recipe.deployment.bake else None,
        "Retained": retained(run.plan),
        "Scaling": scaling(run.plan),
    }


def require_scored_model(run: Run) -> None:
    """ArtifactChanged or NameTaken unless the run's Model is made of just the bytes that were scored."""
    require_own_model(run.sagemaker, model_request(run))
    if artifact := run.fact("compare", key="comparison").get("artifact"):
        require_unchanged(run.s3, artifact, "when it was scored")


def rollback_request(run: Run) -> dict[str, Any]:
    """Back to whoever is champion now, or to what served before.

    Without an endpoint when this run asked nothing, or was promoted: there is at most the watch of its update to end.
    """
    watch = {"Watched": run.plan.endpoint_config} if run.recipe.deployment.bake else {}
    intent = run.release_intents.read() or _unwritten_intent(run)
    if intent is None or intent.promoted:
        return watch
    champion = _champion_now(run)
    if champion.get("run_name") == run.plan.run_name:
        return watch
    back_to, resources = _way_back(run, champion, intent.before)
    return watch | {
        "EndpointName": intent.endpoint,
        "EndpointConfigName": back_to,
        "Resources": resources,
        "Artifact": champion.get("artifact") if back_to == champion.get("endpoint_config") else None,
        "Recipe": run.recipe.name,
        "Failed": intent.config,
        "Created": intent.before is None,
        "Package": (run.find("register") or {}).get("arn"),
        "DeploymentConfig": requests.deployment_config(run.recipe.deployment),
        "Intent": run.release_intents.address,
        "Retained": retained(run.plan),
        "Scaling": scaling(run.plan),
    }


# --- parts ----------------------------------------------------------------------------------------------------------


def _test_manifest(run: Run) -> str:
    return run.plan.manifest_key(run.fingerprint, "test")


def _shadow(run: Run, job: str, model: str) -> dict[str, Any]:
    """Empty, so that the task is skipped, where it is test images: both models have answered these already."""
    if run.fact("shadow_requests", key="chosen")["source"] != "captured":
        return {}
    return requests.transform_job(run.plan, job, model, run.plan.shadow_manifest_key)


def _watch(run: Run) -> dict[str, Any]:
    """A `release.watch.Watch`, as an operator's configuration can hold it."""
    return {
        "endpoint": run.plan.endpoint,
        "config": run.plan.endpoint_config,
        "model": run.plan.model,
        "bounds": run.recipe.deployment.bounds,
        "golden": run.fact("compare", key="comparison").get("golden") or {},
        "bucket": run.environment.bucket,
        "images_key": run.plan.images_key,
        "tags": run.plan.tags,
    }


def _champion_now(run: Run) -> dict[str, Any]:
    """Empty where there is none that this deployment could go back to: a rollback must not fail for that."""
    try:
        return own_champion(run.s3, run.plan).document or {}
    except ChampionUnusable:
        return {}


def _unwritten_intent(run: Run) -> Intent | None:
    """What was asked all the same, by a version of this package that wrote nothing down: an upgrade in mid-release."""
    config, endpoint = run.plan.endpoint_config, describe_endpoint(run.sagemaker, run.plan.endpoint)
    if endpoint is None:
        return None
    served = endpoint["EndpointConfigName"]
    if config not in (served, pending_config(endpoint)):
        return None
    # A run makes its configuration first; an endpoint that is older was there before the run.
    made = run.sagemaker.describe_endpoint_config(EndpointConfigName=config)["CreationTime"]
    before = None if endpoint["CreationTime"] >= made else str(served)
    return Intent(endpoint=run.plan.endpoint, config=config, before=before, last_modified=None)


def _way_back(
    run: Run, champion: Mapping[str, Any], before: str | None
) -> tuple[str | None, dict[str, dict[str, Any]] | None]:
    """The endpoint configuration to go back to, and what makes it and its Model again where they were removed."""
    if before and before != champion.get("endpoint_config") and _given_up(run):
        return before, None
    if champion:
        try:
            model = champion_requests.model(run.plan, champion)
        except ValueError:  # a document of an early version
            pass
        else:
            config = champion_requests.endpoint_config(run.plan, champion)
            return str(champion["endpoint_config"]), {"Model": model, "EndpointConfig": config}
    return _first_existing(run, champion.get("endpoint_config"), before), None


def _given_up(run: Run) -> bool:
    """Whether this run was told to count as a first one, although there was the champion.json that still is there.

    What served then was not that champion, or nobody knew; a release that failed gives it back.
    """
    known = run.find("needs_retraining", key="champion") or {}
    if known.get("document") is not None or not known.get("etag"):
        return False
    try:
        return bool(own_champion(run.s3, run.plan).etag == known["etag"])
    except ChampionUnusable:
        return False


def _first_existing(run: Run, *configs: str | None) -> str | None:
    """The first endpoint configuration that SageMaker still has; where it has none, the first, so that it is named."""
    named = [config for config in configs if config]
    for config in named:
        try:
            run.sagemaker.describe_endpoint_config(EndpointConfigName=config)
        except ClientError as error:
            if not is_missing(error):
                raise
        else:
            return config
    return named[0] if named else None


def _training(run: Run, mode: Mode) -> dict[str, Any]:
    run.require_same_recipe()
    plan = replace(run.plan, recipe=in_mode(run.recipe, mode))
    best = run.fact("tune")["hyperparameters"]
    return requests.training_job(plan, run.images, run.fingerprint, run.source_uri, best)
