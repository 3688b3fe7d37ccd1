"""One DAG run as a task sees it: the recipe with this run's parameters, the plan, and what earlier tasks found out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from retraining.account_rules import AccountRules
from retraining.container_images import Images
from retraining.environment import AWS_CONN_ID, Environment
from retraining.fingerprint import Ingredients, recipe_fingerprint
from retraining.intent import Intents
from retraining.plan import Plan
from retraining.recipe import Recipe
from retraining.s3.connections import keeping_many
from retraining.s3.documents import read_document
from retraining.s3.encryption import encrypting

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook


class RecipeChanged(ValueError):
    """What a run would make is not what it began to make."""


class Run:
    """A view, made anew in every task. Names and addresses are the same in each; facts come from XCom."""

    def __init__(self, recipe: Recipe, context: Context) -> None:
        self.context = context
        self.params: dict[str, Any] = dict(context["params"])
        self.recipe = recipe.with_params(self.params)
        self.environment = here()
        dag_run = context["dag_run"]
        # run_after exists for every kind of run; logical_date does not.
        plan = Plan.of(self.recipe, self.environment, dag_run.run_after, dag_run.run_id)
        # The name it began with: an upgrade that names runs otherwise must not lose, and pay again, its jobs.
        self.plan = replace(plan, run_name=(self.find("preflight") or {}).get("run_name") or plan.run_name)

    def find(self, task_id: str, key: str = "return_value") -> Any:
        """What a task of this run returned (or pushed under `key`); None when it has not run."""
        return self.context["ti"].xcom_pull(task_ids=task_id, key=key)

    def fact(self, task_id: str, key: str = "return_value") -> Any:
        """Like find, for what this task cannot do without."""
        value = self.find(task_id, key)
        if value is None:
            raise LookupError(
                f"Task {task_id} of run {self.plan.run_name} left no {key}. Clear it and what follows it."
            )
        return value

    def push(self, key: str, value: Any) -> None:
        self.context["ti"].xcom_push(key=key, value=value)

    # What earlier tasks of the chain found out.
    @property
    def images(self) -> Images:
        return Images(**self.fact("preflight")["images"])

    @property
    def fingerprint(self) -> str:
        return str(self.fact("sync_dataset")["fingerprint"])

    @property
    def source_uri(self) -> str:
        return str(self.fact("package_source")["uri"])

    @property
    def model_data_url(self) -> str:
        return str(self.fact("train")["model_data_url"])

    @property
    def champion(self) -> dict[str, Any] | None:
        """champion.json as it was when this run began; None on the first run."""
        champion = self.fact("needs_retraining", key="champion")["document"]
        return dict(champion) if champion else None

    @property
    def release_intents(self) -> Intents:
        """Where it is written what this run asks of its endpoint."""
        return Intents(s3=self.s3, bucket=self.environment.bucket, key=self.plan.release_key)

    @property
    def comparable_champion(self) -> dict[str, Any] | None:
        """The champion, if it knows a class of this run's images; None when there is none to compare with."""
        return self.champion if self.shared_classes else None

    @property
    def shared_classes(self) -> list[str]:
        """The classes of this run's images that the champion knows too, in their order.

        None of them where other classes and a first promotion were asked for: nothing is compared then.
        """
        classes, known = self.fact("sync_dataset")["classes"], (self.champion or {}).get("classes", ())
        if set(classes) != set(known) and self.params.get("first_promotion"):
            return []
        return [label for label in classes if label in known]

    @property
    def ingredients(self) -> Ingredients:
        """What this run's model is made from; RecipeChanged where that is no longer one thing."""
        self.require_same_recipe()
        return Ingredients(
            dataset=self.fingerprint, code=self.fact("preflight")["code"], recipe=recipe_fingerprint(self.recipe)
        )

    def require_same_recipe(self) -> None:
        """RecipeChanged when the recipe was edited in mid-run: half a run of each would be recorded as one of both."""
        began, now = self.fact("preflight").get("recipe"), recipe_fingerprint(self.recipe)
        if began is not None and began != now:
            raise RecipeChanged(
                f"Recipe {self.recipe.name} was edited while run {self.plan.run_name} was under way: it began with "
                f"{began} and is {now} now. Trigger a new run."
            )

    # Clients. They follow the Airflow connection, and through it AWS_ENDPOINT_URL*.
    @cached_property
    def s3(self) -> Any:
        return client("s3")

    @cached_property
    def sagemaker(self) -> Any:
        return client("sagemaker")

    @cached_property
    def runtime(self) -> Any:
        return client("sagemaker-runtime")

    @cached_property
    def scaling(self) -> Any:
        return client("application-autoscaling")

    def read_json(self, key: str) -> Any:
        return json.loads(self.s3.get_object(Bucket=self.environment.bucket, Key=key)["Body"].read())

    def find_json(self, key: str) -> Any:
        """Like read_json; None where there is no such document."""
        text, _ = read_document(self.s3, self.environment.bucket, key)
        return None if text is None else json.loads(text)

    def write_json(self, key: str, document: Any) -> str:
        """Store a document and return its URI."""
        body = json.dumps(document, indent=1, sort_keys=True).encode()
        self.s3.put_object(Bucket=self.environment.bucket, Key=key, Body=body, ContentType="application/json")
        return self.plan.uri(key)


def here() -> Environment:
    """The environment of this process; its region is that of `client`, also where only the connection names one."""
    return Environment.of(os.environ, lambda: _hook("sts").get_session().region_name)


def client(service: str, config: Any = None) -> Any:
    """A boto3 client of the one AWS connection this package uses; `config` goes before that of the connection."""
    hook = _hook(service)
    ours = keeping_many().merge(hook.config)
    made = hook.get_client_type(config=ours.merge(config) if config else ours)
    return encrypting(made, AccountRules.of(os.environ)) if service == "s3" else made


def _hook(service: str) -> AwsGenericHook[Any]:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    return AwsGenericHook(aws_conn_id=AWS_CONN_ID, client_type=service)


def request(recipe: Recipe, build: Callable[[Run], dict[str, Any]]) -> Any:
    """`build(run)` as the value of an operator's templated `config`: Airflow calls it when the task starts or resumes.

    Requests are built in Python and not in Jinja, because Jinja would turn every number into a text.
    """

    def config(context: Context, jinja_env: Any = None) -> dict[str, Any]:
        return build(Run(recipe, context))

    config.__qualname__ = build.__name__  # what the UI shows as the template
    return config
