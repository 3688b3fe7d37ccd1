"""A quota of the account that a request to SageMaker ran into, by SageMaker's own words: how much it is, and in use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from botocore.exceptions import ClientError

# "The account-level service limit 'ml.m5.large for transform job usage' is 1 Instances, with current utilization of 1
# Instances and a request delta of 1 Instances. Please use AWS Service Quotas to request an increase for this quota."
WORDS = re.compile(
    r"service limit '(?P<name>[^']+)' is (?P<limit>[\d,]+).* current utilization of (?P<used>[\d,]+).*"
    r" request delta of (?P<asked>[\d,]+)",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Quota:
    """In the quota's own unit, mostly instances."""

    name: str
    """As Service Quotas lists it, such as "ml.m5.large for transform job usage"."""
    limit: int
    used: int
    asked: int

    @property
    def never_enough(self) -> bool:
        """Whether the request cannot be granted however long it waits."""
        return self.asked > self.limit

    @property
    def of_endpoints(self) -> bool:
        """Whether endpoints use it, which do not end as jobs do."""
        return "endpoint" in self.name

    @property
    def way_out(self) -> str:
        return (
            f"Ask for {self.asked if self.never_enough else self.used + self.asked} or more of '{self.name}' in "
            "Service Quotas (Amazon SageMaker), or choose another instance type, or fewer instances, in the recipe."
        )


def quota_of(error: BaseException) -> Quota | None:
    """The quota that an error of boto3 tells of; None where it tells of none, or not in these words."""
    if not isinstance(error, ClientError) or error.response.get("Error", {}).get("Code") != "ResourceLimitExceeded":
        return None
    found = WORDS.search(str(error.response["Error"].get("Message", "")))
    if found is None:
        return None
    limit, used, asked = (int(found[part].replace(",", "")) for part in ("limit", "used", "asked"))
    return Quota(name=found["name"], limit=limit, used=used, asked=asked)
