"""One model package version per run, with its measurements and where it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerBaseOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from retraining.creation import create_once
from retraining.identity import require_own


class RegisterOperator(SageMakerBaseOperator):
    """`config` holds two requests: {"Group": CreateModelPackageGroup, "Package": CreateModelPackage}.

    The stock operator registers again with every retry, has text/csv for content types and deletes the group when
    something fails; hence this one, on the same base.
    """

    def __init__(self, *, config: Callable[..., dict[str, Any]], **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)  # type: ignore[arg-type]  # rendered to a dict before execute

    def execute(self, context: Context) -> dict[str, Any]:
        group, package = self.config["Group"], self.config["Package"]
        create_once(self.hook.conn.create_model_package_group, group)
        registered = self._registered(package)
        if registered is None:
            self.log.info("Registering %s.", package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"])
            registered = self.hook.conn.create_model_package(**package)["ModelPackageArn"]
        description = self.hook.conn.describe_model_package(ModelPackageName=registered)
        if description["ModelPackageStatus"] == "Failed":
            raise AirflowFailException(f"Model package {registered} failed: {description['ModelPackageStatusDetails']}")
        require_own("model package", registered, package, description)
        return {"arn": registered, "version": description.get("ModelPackageVersion")}

    def _registered(self, package: dict[str, Any]) -> str | None:
        """The version an earlier attempt of this run made: the newest ones are enough to look at."""
        newest = self.hook.conn.list_model_packages(
            ModelPackageGroupName=package["ModelPackageGroupName"],
            SortBy="CreationTime",
            SortOrder="Descending",
            MaxResults=5,
        )["ModelPackageSummaryList"]
        run_name = package["CustomerMetadataProperties"]["run_name"]
        for summary in newest:
            arn = str(summary["ModelPackageArn"])
            description = self.hook.conn.describe_model_package(ModelPackageName=arn)
            if description.get("CustomerMetadataProperties", {}).get("run_name") == run_name:
                return arn
        return None
