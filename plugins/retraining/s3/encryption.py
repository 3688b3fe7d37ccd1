"""Objects that are written with the account's own key."""

from __future__ import annotations

from typing import Any

from retraining.account_rules import AccountRules

WRITING = ("PutObject", "CopyObject", "CreateMultipartUpload")


def encrypting(s3: Any, rules: AccountRules) -> Any:
    """The client, which asks for encryption in all that it writes. Without a key it is the bucket's own setting."""

    def add(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return rules.of_object(params)

    if rules.kms_key:
        for operation in WRITING:
            s3.meta.events.register(
                f"provide-client-params.s3.{operation}", add, unique_id=f"retraining-kms-{operation}"
            )
    return s3
