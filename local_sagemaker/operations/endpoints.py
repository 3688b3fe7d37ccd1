"""Endpoints: create, describe, list, update, delete. What they do is carried out by `hosting`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from local_sagemaker.hosting import autoscaling, deployment
from local_sagemaker.hosting.deployment import DATA_PLANE, IN_PROGRESS, KIND, Deployment
from local_sagemaker.hosting.endpoint import Endpoints
from local_sagemaker.hosting.plan import Plan
from local_sagemaker.hosting.variant import Variant
from local_sagemaker.operations import endpoint_configs, listing
from local_sagemaker.settings import Settings
from local_sagemaker.state.alarms import Alarms
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from local_sagemaker.wire.errors import validation


def create_endpoint(
    request: dict[str, Any], *, endpoints: Endpoints, store: Store, settings: Settings, alarms: Alarms
) -> dict[str, Any]:
    name = request["EndpointName"]
    arn = settings.arn(KIND, name)
    wanted = _deployment(store, settings, alarms, request["EndpointConfigName"], request.get("DeploymentConfig"))
    now = time.time()
    record = Record(
        kind=KIND,
        name=name,
        describe={"EndpointName": name, "EndpointArn": arn, "CreationTime": now, "LastModifiedTime": now},
        internal={"tags": request.get("Tags", [])},
        parent=None,
        created=now,
        modified=now,
    )
    deployment.request(record, wanted)
    try:
        endpoints.carry(store.insert(KIND, name, record.describe, record.internal))
    except AlreadyExistsError:
        raise validation(f'Cannot create already existing endpoint "{arn}".') from None
    return {"EndpointArn": arn}


def describe_endpoint(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    return _find(store, settings, request["EndpointName"]).describe


def list_endpoints(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return listing.page(store.list(KIND), request, member="Endpoints", summary=_summary)


def update_endpoint(
    request: dict[str, Any], *, endpoints: Endpoints, store: Store, settings: Settings, alarms: Alarms
) -> dict[str, Any]:
    """The answer comes at once with the endpoint Updating, while the workers that serve go on."""
    found = _find(store, settings, request["EndpointName"])
    policy = request.get("DeploymentConfig")
    if request.get("RetainDeploymentConfig"):
        if policy:
            raise validation("Give either DeploymentConfig or RetainDeploymentConfig, not both.")
        policy = found.describe.get("LastDeploymentConfig")
    wanted = _deployment(store, settings, alarms, request["EndpointConfigName"], policy)

    def change(record: Record) -> None:
        _check_changeable(record)
        if record.describe["EndpointConfigName"] == wanted.config:
            raise validation(
                f'Cannot update endpoint with the currently in use endpoint configuration "{wanted.config}" '
                f'(endpoint "{record.describe["EndpointArn"]}"); create a configuration of another name.'
            )
        _check_scaled(store, record, wanted)
        _check_variants(record, wanted)
        deployment.request(record, _retaining(record, wanted, request))

    return {"EndpointArn": _change(store, settings, endpoints, found.name, change).describe["EndpointArn"]}


def update_endpoint_weights_and_capacities(
    request: dict[str, Any], *, endpoints: Endpoints, store: Store, settings: Settings
) -> dict[str, Any]:
    """Weights hold at once; instances are started and ended behind the answer, without losing a request."""
    found = _find(store, settings, request["EndpointName"])

    def change(record: Record) -> None:
        _check_changeable(record)
        serving = {variant.name: variant for variant in deployment.serving(record)}
        changes: dict[str, dict[str, Any]] = {}
        for item in request["DesiredWeightsAndCapacities"]:
            name = item["VariantName"]
            if name not in serving:
                raise validation(f'Variant "{name}" is not one of endpoint "{record.describe["EndpointArn"]}".')
            if name in changes:
                raise validation(f'Variant "{name}" is there twice.')
            changes[name] = _capacities(serving[name], item)
        deployment.request_capacities(record, changes)

    return {"EndpointArn": _change(store, settings, endpoints, found.name, change).describe["EndpointArn"]}


def delete_endpoint(
    request: dict[str, Any], *, endpoints: Endpoints, store: Store, settings: Settings
) -> dict[str, Any]:
    """New requests find no endpoint. Those in flight are answered, but for what takes longer than a minute.

    Its variants are no scalable targets any more, as on AWS.
    """
    found = _find(store, settings, request["EndpointName"])

    def change(record: Record) -> None:
        _refuse_in_progress(record)
        record.describe["EndpointStatus"] = "Deleting"

    _change(store, settings, endpoints, found.name, change)
    for target in autoscaling.targets_of(store, found.name):
        store.delete(autoscaling.KIND, target.name)
    return {}


def _deployment(
    store: Store, settings: Settings, alarms: Alarms, config_name: str, policy: dict[str, Any] | None
) -> Deployment:
    """Raises a ValidationException when the configuration, a model of it or an alarm of the policy does not exist."""
    config = endpoint_configs.find(store, settings, config_name)
    isolated = config.describe.get("EnableNetworkIsolation", False)
    variants = [
        Variant.of(store, settings, variant, isolated=isolated) for variant in config.describe["ProductionVariants"]
    ]
    plan = Plan.of(policy, [variant.instance_count or 1 for variant in variants])
    for alarm in plan.alarms:
        if alarms.get(alarm) is None:
            raise validation(
                f"AutoRollbackConfiguration: there is no CloudWatch alarm '{alarm}' in this account and region; "
                "create it with PutMetricAlarm."
            )
    data_plane = {member: config.describe[member] for member in DATA_PLANE if member in config.describe}
    return Deployment(config=config.name, variants=variants, policy=policy, data_plane=data_plane)


def _retaining(record: Record, wanted: Deployment, request: dict[str, Any]) -> Deployment:
    """The deployment with what RetainAllVariantProperties keeps of the one that serves."""
    if not request.get("RetainAllVariantProperties"):
        return wanted
    excluded = {item["VariantPropertyType"] for item in request.get("ExcludeRetainedVariantProperties", [])}
    return deployment.retaining(wanted, record, excluded)


def _check_scaled(store: Store, record: Record, wanted: Deployment) -> None:
    """As on AWS, a variant that is a scalable target keeps its instance type."""
    types = {variant.name: variant.instance_type for variant in wanted.variants}
    for target in autoscaling.targets_of(store, record.name):
        _, name = autoscaling.endpoint_and_variant(target.name)
        before = {variant.name: variant.instance_type for variant in deployment.serving(record)}.get(name)
        if before != types.get(name):
            raise validation(
                f"Variant '{name}' of endpoint \"{record.describe['EndpointArn']}\" is a scalable target, and would "
                f"get the instance type {types.get(name)} instead of {before}; deregister it first, with "
                "DeregisterScalableTarget of Application Auto Scaling."
            )


def _check_variants(record: Record, wanted: Deployment) -> None:
    """What an update cannot change, as AWS documents; that names may change without a policy is not documented."""
    before = {variant.name: variant for variant in deployment.serving(record)}
    arn = record.describe["EndpointArn"]
    if any(one.serverless for one in wanted.variants) and not any(one.serverless for one in before.values()):
        raise validation(
            f'Cannot update endpoint "{arn}", which has instances, to a serverless variant; create an endpoint of its '
            "own for it."
        )
    names = {variant.name for variant in wanted.variants}
    guarded = {"BlueGreenUpdatePolicy", "RollingUpdatePolicy"} & (wanted.policy or {}).keys()
    if guarded and names != before.keys():
        raise validation(
            f'{guarded.pop()}: endpoint "{arn}" has the variants {", ".join(sorted(before))}, and configuration '
            f'"{wanted.config}" has {", ".join(sorted(names))}; traffic is shifted between variants of the same names.'
        )


def _capacities(variant: Variant, item: dict[str, Any]) -> dict[str, Any]:
    """A DesiredWeightAndCapacity as changes of a variant."""
    changes: dict[str, Any] = {}
    if "DesiredWeight" in item:
        changes["weight"] = item["DesiredWeight"]
    if "DesiredInstanceCount" in item:
        if variant.serverless is not None or item["DesiredInstanceCount"] < 1:
            raise validation(
                f"DesiredInstanceCount of variant '{variant.name}' is {item['DesiredInstanceCount']}; "
                "it must be at least 1, and a serverless variant has none."
            )
        changes["instance_count"] = item["DesiredInstanceCount"]
    if "ServerlessUpdateConfig" in item:
        if variant.serverless is None:
            raise validation(f"Variant '{variant.name}' is not serverless; it has no ServerlessUpdateConfig.")
        changes["serverless"] = variant.serverless | item["ServerlessUpdateConfig"]
        endpoint_configs.check_serverless(variant.name, changes["serverless"])
    if not changes:
        raise validation(f"Nothing is to be changed of variant '{variant.name}'; give a weight or a count.")
    return changes


def _change(
    store: Store, settings: Settings, endpoints: Endpoints, name: str, change: Callable[[Record], None]
) -> Record:
    """Change an endpoint's record and have its thread act on it."""
    try:
        record = store.update(KIND, name, change)
    except KeyError:  # deleted in this very moment
        record = _find(store, settings, name)
    endpoints.wake(name)
    return record


def _check_changeable(record: Record) -> None:
    _refuse_in_progress(record)
    if record.status == "Failed":
        arn = record.describe["EndpointArn"]
        raise validation(f'Cannot update endpoint "{arn}" that is Failed; delete it and create it again.')


def _refuse_in_progress(record: Record) -> None:
    if record.status in IN_PROGRESS:
        raise validation(f'Cannot update in-progress endpoint "{record.describe["EndpointArn"]}".')


def _find(store: Store, settings: Settings, name: str) -> Record:
    record = store.get(KIND, name)
    if record is None:
        raise validation(f'Could not find endpoint "{settings.arn(KIND, name)}".')
    return record


def _summary(record: Record) -> dict[str, Any]:
    members = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
    return {name: record.describe[name] for name in members}
