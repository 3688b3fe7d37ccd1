"""The hosts of a training job: algo-1 to algo-N, their instance groups and resourceconfig.json. Pure.

Here every host is this machine: a folder, a log stream and a process group of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

#: The name SageMaker gives the one group of a job without InstanceGroups.
HOMOGENEOUS = "homogeneousCluster"

#: The name of the host of a job with one instance, and of the first one of a bigger job.
FIRST = "algo-1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    name: str
    instance_type: str
    group: str = HOMOGENEOUS


def hosts(request: dict[str, Any]) -> list[Host]:
    """The hosts of a CreateTrainingJob request, numbered through the groups, sorted by name.

    The order is that of text, as in SageMaker's own files: algo-10 comes before algo-2. A host's rank is its index.
    """
    resources = request["ResourceConfig"]
    groups = resources.get("InstanceGroups") or [_only_group(resources)]
    kinds = [group for group in groups for _ in range(group["InstanceCount"])]
    numbered = (
        Host(name=f"algo-{number}", instance_type=kind["InstanceType"], group=kind["InstanceGroupName"])
        for number, kind in enumerate(kinds, start=1)
    )
    return sorted(numbered, key=lambda host: host.name)


def count(request: dict[str, Any]) -> int:
    """How many hosts a request asks for."""
    resources = request["ResourceConfig"]
    return sum(group["InstanceCount"] for group in resources.get("InstanceGroups") or [_only_group(resources)])


def in_groups(members: Iterable[Host], names: list[str] | None) -> list[Host]:
    """The hosts that belong to one of these instance groups; all of them when no group is named."""
    return [host for host in members if not names or host.group in names]


def resource_config(members: list[Host], current: Host) -> dict[str, Any]:
    """What resourceconfig.json says on one of the hosts."""
    groups: dict[str, dict[str, Any]] = {}
    for host in members:
        entry = {"instance_group_name": host.group, "instance_type": host.instance_type, "hosts": []}
        groups.setdefault(host.group, entry)["hosts"].append(host.name)
    return {
        "current_host": current.name,
        "current_instance_type": current.instance_type,
        "current_group_name": current.group,
        "hosts": [host.name for host in members],
        "instance_groups": list(groups.values()),
        "network_interface_name": "lo",
    }


def _only_group(resources: dict[str, Any]) -> dict[str, Any]:
    preferred = resources.get("InstancePreferences", [{}])[0]
    return {
        "InstanceGroupName": HOMOGENEOUS,
        "InstanceType": resources.get("InstanceType") or preferred.get("InstanceType", "local"),
        "InstanceCount": resources.get("InstanceCount") or preferred.get("InstanceCount", 1),
    }
