"""From images to one verified version, and whether anything is new about it.

Nothing here is paid for yet, but for a job that verifies where a recipe asks for one.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from retraining.container_images import require_patched, resolve_images, rule_image, verification_obstacle
from retraining.cost.ceiling import ceiling, require_within_budget
from retraining.dataset.labels.store import read_decisions
from retraining.dataset.processing.divide import Division, divide
from retraining.dataset.processing.found import Found, read_found
from retraining.dataset.split import SPLITS
from retraining.dataset.summary import notes_on
from retraining.dataset.sync import as_fact
from retraining.dataset.sync import sync_dataset as sync
from retraining.dataset.versions.changes import Manifests, changes, shrunk
from retraining.debugger.memory import recall_refusal
from retraining.debugger.mode import Decision, decide_mode, in_mode
from retraining.environment import ConfigurationError
from retraining.fingerprint import gate_fingerprint, recipe_fingerprint, shadow_fingerprint
from retraining.pretrained.staging import require_staged
from retraining.promotion.champion import Champion, ChampionUnusable, own_champion
from retraining.promotion.rejections import Rejection, recall_rejections
from retraining.release.alarms import require_alarm_rights, require_alarms
from retraining.release.endpoint import describe_endpoint
from retraining.release.first import UncomparedPromotion
from retraining.release.scaling import SERVICE, require_scaling_rights
from retraining.requests.autoscaling import scaling
from retraining.run import Run, client
from retraining.source import Source
from retraining.steps.champion import (
    FIRST_PROMOTION,
    NothingServes,
    find_champion,
    have_champions_model,
    nothing_serves,
)
from retraining.steps.place import require_buckets, require_machines, require_region, require_side

log = logging.getLogger(__name__)


class DataLost(ValueError):
    """Much of the data that the champion was trained on is gone."""


class ClassesChanged(ValueError):
    """The data has other classes than the model that serves."""


def preflight(run: Run) -> dict[str, Any]:
    """Are we where we think we are? Nothing has been paid for yet."""
    environment = run.environment
    address = run.sagemaker.meta.endpoint_url
    require_side(environment, address)
    require_region(environment, run.sagemaker.meta.region_name)
    require_machines(run.plan)
    require_buckets(run.s3, run.plan)
    account = client("sts").get_caller_identity()["Account"]
    if f"::{account}:" not in environment.role_arn:
        raise ConfigurationError(
            f"The credentials belong to account {account}, the role {environment.role_arn} does not. "
            "Correct RETRAINING_ROLE_ARN or the credentials."
        )
    if run.recipe.pretrained is not None:
        require_staged(run.recipe.pretrained, run.s3)
    read_decisions(run.s3, run.plan)  # a sheet that cannot be gone by is refused before a job verifies images
    _require_alarms(run)
    if asked := scaling(run.plan):
        require_scaling_rights(client(SERVICE), asked)
    source = Source.read(environment.source_dir)
    debugger = _decide_mode(run, account)
    images = resolve_images(in_mode(run.recipe, debugger.mode), environment)
    if run.recipe.may_verify_in_a_job and (obstacle := verification_obstacle(images, environment)):
        if run.recipe.sync.where == "processing":
            raise ConfigurationError(f"sync.where = 'processing': {obstacle}")
        log.warning("The worker verifies the images, however many are new: %s", obstacle)
    require_patched(images, environment, datetime.now(UTC).date())
    log.info("Run %s in %s, account %s, bucket %s.", run.plan.run_name, address, account, environment.bucket)
    most = ceiling(run.plan, images)
    log.info("If every job takes all its time, this run costs %s: %s.", most, "; ".join(map(str, most.items)))
    # Pushed before it can be a reason to stop, so that the report has it then too.
    run.push("ceiling", most.as_dict())
    require_within_budget(most)
    return {
        "run_name": run.plan.run_name,
        "account": account,
        "source": source.digest,
        "code": source.code_digest,
        "recipe": recipe_fingerprint(run.recipe),
        "images": images.as_dict(),
        "debugger": debugger.as_dict(),
        "ceiling": most.as_dict(),
    }


def list_images(run: Run) -> dict[str, Any]:
    """What of the source a job is to verify, where the recipe wants one; written down, and nothing fetched."""
    if verification_obstacle(run.images, run.environment):  # which preflight has told of
        return Division(job=False).as_dict()
    return divide(run.plan, run.s3).as_dict()


def sync_dataset(run: Run) -> dict[str, Any]:
    """The recipe's images, verified and divided, in S3."""
    synced = sync(run.plan, run.s3, found=_found(run))
    run.recipe.require_classes(synced.version.classes)
    counted = {"uploaded": synced.uploaded, "read": synced.read}
    now = {split: synced.version.manifest(split, "")[1:] for split in SPLITS}
    found = None
    if known := _champions_data(run):
        since, before = known
        _require_whole(run, before, now)
        found = changes(since, before, now).as_dict()
        log.info("%s", "\n".join(notes_on({"changes": found})))
    return as_fact(synced.version) | counted | {"changes": found}


def _found(run: Run) -> Found | None:
    """What a job of this run has found; None where there was none."""
    job = run.find("verify_images")
    if job is None:
        return None
    output = job["output_uri"].removeprefix(run.plan.uri(""))
    return read_found(run.s3, run.environment.bucket, run.plan.work_key(run.fact("list_images")["digest"]), output)


def _champions_data(run: Run) -> tuple[str, Manifests] | None:
    """Its fingerprint and what is in it. Whether there is a champion to trust is decided later, and by others."""
    try:
        document = own_champion(run.s3, run.plan).document
        if document is None:
            return None
        since = document["ingredients"]["dataset"]
        return since, {split: run.read_json(run.plan.manifest_key(since, split))[1:] for split in SPLITS}
    except (ChampionUnusable, ClientError, KeyError, TypeError, ValueError) as error:
        log.info("What changed since the champion is not known: %s: %s.", type(error).__name__, error)
        return None


def _require_whole(run: Run, before: Manifests, now: Manifests) -> None:
    """DataLost where so much of the champion's data is gone that the source is more likely broken than smaller."""
    share = run.recipe.sync.min_share
    if lost := shrunk(before, now, share):
        raise DataLost(
            f"The source has {'; '.join(lost)} when the champion was trained: less than sync.min_share of the recipe, "
            f"{share:g}. Is it mounted, uploaded, unpacked whole? Nothing was paid for. If it is meant to be so small, "
            "set sync.min_share lower."
        )


def needs_retraining(run: Run) -> bool:
    """Is anything new since the champion, and not yet tried in vain? False skips the rest of the run.

    NothingServes where nothing is new and the champion has no endpoint, unless the janitor deleted it.
    """
    endpoint = describe_endpoint(run.sagemaker, run.plan.endpoint)
    champion, uncompared = find_champion(run, endpoint)
    run.push("champion", {"document": champion.document, "etag": champion.etag})
    run.push("serves", {"config": endpoint and endpoint["EndpointConfigName"]})
    changed = run.ingredients.changed_since(champion.document)
    tried = _tried_in_vain(run, champion) if changed else None
    forced = bool(run.params.get("force"))
    if tried is not None:
        stayed = f"champion {tried.champion} stayed" if tried.champion else "it was not good enough to serve"
        stayed = f"{tried.by} turned its model down" if tried.by else stayed
        reason = f"run {tried.run_name} already tried this data, code and recipe, and {stayed} ({tried.reason})"
        reason += "; retraining was forced" if forced else "; trigger with force to try again"
    elif champion.document is None:
        reason = "there is no champion yet"
    elif changed:
        reason = f"changed since champion {champion.document['run_name']}: {', '.join(changed)}"
    else:
        reason = f"data, code and recipe are those of champion {champion.document['run_name']}"
        reason += " (rules, gates and machines make no other model)"
        reason += "; retraining was forced" if forced else "; trigger with force to retrain anyway"
    needed = forced or (bool(changed) and tried is None)
    if needed:
        uncompared += _changed_classes(run, champion)
    absent, meant = nothing_serves(run, champion.document, endpoint)
    if absent and not needed:
        reason = f"{reason}; {absent}"
    if needed and not uncompared:
        have_champions_model(run, champion.document)
    need = {"needed": needed, "reason": reason, "uncompared": uncompared, "nothing_serves": absent}
    run.push("need", need)
    log.log(logging.WARNING if absent else logging.INFO, "%s: %s.", "Retraining" if needed else "Nothing to do", reason)
    if absent and needed:
        log.warning("%s.", absent[0].upper() + absent[1:])
    if absent and not needed and not meant:
        raise NothingServes(f"{absent[0].upper()}{absent[1:]}. Nothing is trained: {reason.removesuffix(absent)[:-2]}.")
    return needed


def package_source(run: Run) -> dict[str, Any]:
    """The code folder as sourcedir.tar.gz, under its digest."""
    folder = run.environment.source_dir
    source = Source.read(folder)
    digest = source.digest
    if digest != run.fact("preflight").get("source"):
        raise ConfigurationError(f"{folder} changed while this run was under way; trigger a new run.")
    key = run.plan.source_key(digest)
    body = source.packed()
    run.s3.put_object(Bucket=run.environment.bucket, Key=key, Body=body, ContentType="application/gzip")
    return {"uri": run.plan.uri(key), "digest": digest, "size_bytes": len(body)}


def _require_alarms(run: Run) -> None:
    """Both kinds that an update may be watched by: the user's, and those that the run is going to make."""
    deployment, plan = run.recipe.deployment, run.plan
    if deployment.own_alarms or deployment.alarms:
        cloudwatch = client("cloudwatch")
        require_alarms(cloudwatch, deployment.alarms)
        if deployment.own_alarms:
            require_alarm_rights(cloudwatch, plan.endpoint, plan.tags)


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


def _tried_in_vain(run: Run, champion: Champion) -> Rejection | None:
    """The newest rejection of just this candidate, by this gate and against this champion."""
    known = recall_rejections(run.s3, run.environment.bucket, run.plan.rejections_key, run.recipe.name)
    serving = (champion.document or {}).get("run_name")
    gates = (gate_fingerprint(run.recipe), shadow_fingerprint(run.recipe))
    about = (run.ingredients.as_dict(), gates, serving)
    return next((one for one in reversed(known) if one.is_about(*about)), None)


def _changed_classes(run: Run, champion: Champion) -> list[str]:
    """Other classes than the champion's, where they are accepted: what then serves was compared on those it knows too.

    ClassesChanged where nobody accepted them, UncomparedPromotion where there are none that both know. Returns what is
    not compared at all, for a first promotion was asked for as well.
    """
    if champion.document is None:
        return []
    before, now = set(champion.document["classes"]), set(run.fact("sync_dataset")["classes"])
    if before == now:
        return []
    shared = len(before & now)
    change = (
        f"the classes changed since champion {champion.document['run_name']}: added {sorted(now - before)}, "
        f"removed {sorted(before - now)}"
    )
    if not run.params.get("accept_class_change"):
        raise ClassesChanged(
            f"{change[0].upper()}{change[1:]}. Clients of {run.plan.endpoint} would see other answers. If that is "
            "meant, trigger the DAG with accept_class_change: candidate and champion are compared on the classes that "
            f"both know ({shared}), and new ones have the floors of the recipe to pass."
        )
    if run.params.get("first_promotion"):
        return [change]
    if not shared:
        raise UncomparedPromotion(
            f"accept_class_change is set, and {change}. The candidate shares no class with that champion, so it cannot "
            f"be compared, and would replace it without. If that is meant too, {FIRST_PROMOTION}."
        )
    log.warning("%s%s; compared on the %d classes that both know.", change[0].upper(), change[1:], shared)
    return []
