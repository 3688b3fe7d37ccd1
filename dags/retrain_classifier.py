"""A recipe is two DAGs: `recipes/digits.yaml` becomes `retrain_digits`, and `rollback_digits` that takes a model back.

A new classifier is a new YAML file, no Python. `retrain` reads as the table of contents of a run. What each task does
is in `plugins/retraining/steps/` and `operators/`, what it sends in `steps/task_requests.py`. A recipe with an error
makes no DAG; `recipe_errors.py` reports it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

# What a DAG file itself imports of Airflow, Airflow's DAG processor imports once; the rest at every parse of the file.
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerBaseOperator
from airflow.providers.standard.operators.python import PythonOperator, ShortCircuitOperator
from airflow.sdk import (
    DAG,
    Asset,
    AssetAny,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    TaskGroup,
    get_parsing_context,
)
from airflow.sdk.definitions.param import ParamsDict

from retraining import steps
from retraining.environment import AWS_CONN_ID, poll_seconds, recipe_folders
from retraining.operators.approval import OptionalApprovalOperator
from retraining.operators.endpoint import DeployOperator, RollbackOperator
from retraining.operators.jobs import TransformOperator, TuningOperator
from retraining.operators.register import RegisterOperator
from retraining.operators.resources import EndpointConfigOperator, ModelOperator
from retraining.operators.rules import RuleEvaluationOperator
from retraining.operators.training import TrainingOperator
from retraining.operators.verification import VerificationOperator
from retraining.recipe import Recipe, RecipeError, find_recipes, load_recipe
from retraining.recipe.trigger_form import rollback_form, trigger_form
from retraining.release.served import while_serving
from retraining.retries import RETRIES
from retraining.run import Run, request
from retraining.sensors import DebuggerVerdictSensor
from retraining.steps import task_requests
from retraining.web_address import without_secrets

DOC = """
Retrains the **{name}** classifier on Amazon SageMaker, and lets the new model serve only if it is at least as good as
the one that does. {description}

Source `{source}` · endpoint `{endpoint}` · promoted when {gate}.

A run ends early when data, code and recipe are the champion's, or were tried before and the champion stayed; `force`
retrains anyway. Clearing a task looks at its job again and never pays for a second one; to repeat the work, trigger a
new run. `report` says what happened; `outcome` is red when the run failed, and its log says why.
"""

BACK = """
Lets a former champion of **{name}** serve again, now. It asks for a reason and, if it is not to be the one before,
for a run; `python -m retraining champions {name}` lists them. The endpoint is updated without an interruption, golden
images must be answered as they were, and then it is the champion; what it replaces is rejected in the registry and not
trained again. Nothing is changed where something speaks against it; `choose` says what.
"""


NOTICED = timedelta(minutes=15)
"""A first scheduled run may be as late as this, for a scheduler has other things to do.

Left to itself, Airflow would at once run the last one as long as a tenth of the interval has not passed since: who
unpauses a weekly DAG on a Monday would pay for a training that nobody asked for.
"""


def schedule_of(recipe: Recipe) -> Any:
    """When it runs by itself: at the moments of its cron line, and whenever an event tells of new data."""
    told = AssetAny(*map(Asset, recipe.assets)) if recipe.assets else None
    if recipe.schedule is None:
        return told
    weekly = CronTriggerTimetable(recipe.schedule, timezone="UTC", interval=timedelta(weeks=1), run_immediately=NOTICED)
    return AssetOrTimeSchedule(timetable=weekly, assets=told) if told else weekly


def rollback(recipe: Recipe) -> DAG:
    with DAG(
        dag_id=f"rollback_{recipe.name}",
        description=f"Lets a former champion of {recipe.name} serve again",
        doc_md=BACK.format(name=recipe.name),
        schedule=None,
        catchup=False,
        is_paused_upon_creation=False,  # it runs only when a person asks for it, and at once then
        max_active_runs=1,
        default_args=RETRIES,
        params=rollback_form(),
        tags=["retraining", "sagemaker", recipe.name],
    ) as dag:
        step(recipe, steps.choose) >> step(recipe, steps.go_back)
    return dag


def step(
    recipe: Recipe, body: Callable[[Run], Any], operator: type[PythonOperator] = PythonOperator, **kwargs: Any
) -> PythonOperator:
    """A task of the same name as its function in `steps`."""
    return operator(task_id=body.__name__, python_callable=lambda **context: body(Run(recipe, context)), **kwargs)


def retrain(recipe: Recipe) -> DAG:
    waiting = {"poll_seconds": poll_seconds(os.environ)}

    def sagemaker(
        operator: type[SageMakerBaseOperator], task_id: str, build: Callable[[Run], dict[str, Any]], **kwargs: Any
    ) -> Any:
        """A task that sends `build(run)` to SageMaker."""
        return operator(task_id=task_id, config=request(recipe, build), aws_conn_id=AWS_CONN_ID, **kwargs)

    def section(name: str, tooltip: str) -> TaskGroup:
        """One box of the graph; the tasks in it keep their plain names."""
        return TaskGroup(name, tooltip=tooltip, prefix_group_id=False)

    with DAG(
        dag_id=f"retrain_{recipe.name}",
        description=recipe.description or f"Retrains the {recipe.name} classifier",
        doc_md=DOC.format(
            name=recipe.name,
            description=recipe.description,
            source=without_secrets(recipe.source),
            endpoint=recipe.endpoint,
            gate=recipe.promotion.in_words,
        ),
        # No start_date: with one, unpausing the DAG would at once run, and pay for, the last missed week.
        schedule=schedule_of(recipe),
        catchup=False,
        max_active_runs=1,
        default_args=RETRIES,
        tags=["retraining", "sagemaker", recipe.name],
    ) as dag:
        with section("data", "From images to one verified version"):
            preflight = step(recipe, steps.preflight)
            if recipe.sync.may_have_a_job:
                list_images = step(recipe, steps.list_images)
                verify_images = sagemaker(
                    VerificationOperator, "verify_images", task_requests.verification_request, **waiting
                )
            # verify_images is skipped where nothing is new, or too little for a job.
            sync_dataset = step(recipe, steps.sync_dataset, trigger_rule="none_failed")
            needs_retraining = step(recipe, steps.needs_retraining, ShortCircuitOperator)
            package_source = step(recipe, steps.package_source)
        with section("training", "The best of several trials, once more and watched"):
            warm_start = step(recipe, steps.warm_start)
            tune = sagemaker(TuningOperator, "tune", task_requests.tuning_request, **waiting)
            refused = request(recipe, task_requests.refused_training)
            train = sagemaker(TrainingOperator, "train", task_requests.training_request, refused=refused, **waiting)
            documents = request(recipe, task_requests.evaluation_documents)
            evaluate_rules = sagemaker(
                RuleEvaluationOperator,
                "evaluate_rules",
                task_requests.evaluation_request,
                documents=documents,
                **waiting,
            )
            # evaluate_rules is skipped where SageMaker Debugger evaluates them.
            debugger_verdict = DebuggerVerdictSensor(
                task_id="debugger_verdict",
                config=request(recipe, task_requests.verdict_request),
                trigger_rule="none_failed",
                **waiting,
            )
            profiler_report = step(recipe, steps.profiler_report, trigger_rule="all_done")
        with section("evaluation", "Candidate against champion on the same images"):
            create_model = sagemaker(ModelOperator, "create_model", task_requests.model_request)
            score_candidate = sagemaker(
                TransformOperator, "score_candidate", task_requests.candidate_scoring_request, **waiting
            )
            score_champion = sagemaker(
                TransformOperator, "score_champion", task_requests.champion_scoring_request, **waiting
            )
            # score_champion is skipped on the first run.
            compare = step(recipe, steps.compare, ShortCircuitOperator, trigger_rule="none_failed")
            # Where no shadow is asked for, the next three are skipped with it, and approve goes on.
            shadow_requests = step(
                recipe, steps.shadow_requests, ShortCircuitOperator, ignore_downstream_trigger_rules=False
            )
            shadow_candidate = sagemaker(
                TransformOperator, "shadow_candidate", task_requests.shadow_candidate_request, **waiting
            )
            shadow_champion = sagemaker(
                TransformOperator, "shadow_champion", task_requests.shadow_champion_request, **waiting
            )
            # Both jobs are skipped where it is test images.
            shadow = step(recipe, steps.shadow, trigger_rule="none_failed")
        with section("release", "Register, deploy, try, and go back if it fails"):
            approve = OptionalApprovalOperator(
                task_id="approve",
                subject=f"Let the new {recipe.name} model serve?",
                body="{% set found = ti.xcom_pull(task_ids='compare', key='comparison') %}"
                "{{ found['decision']['reason'] }}.\n\n{{ found.get('gate', '') }}"
                "{% set shadow = ti.xcom_pull(task_ids='shadow', key='found') %}"
                "{% if shadow %}\n\nShadow: {{ shadow['said'] }}{% endif %}",
                response_timeout=timedelta(days=3),
                defaults="Reject",
                trigger_rule="none_failed",
            )
            # approve is skipped unless somebody asked for it.
            register = sagemaker(
                RegisterOperator, "register", task_requests.registration_request, trigger_rule="none_failed"
            )
            create_endpoint_config = sagemaker(
                EndpointConfigOperator, "create_endpoint_config", task_requests.endpoint_config_request
            )
            deploy = sagemaker(DeployOperator, "deploy", task_requests.endpoint_request, **waiting)
            smoke_test = step(recipe, while_serving(steps.smoke_test))
            update_champion = step(recipe, steps.update_champion)
            # Teardowns run whatever happened before them, also after a person marked the run or a task: then Airflow
            # skips all other tasks. Whether there is something to take back, rollback asks SageMaker and S3.
            rollback = sagemaker(RollbackOperator, "rollback", task_requests.rollback_request, **waiting).as_teardown()
            prune = step(recipe, steps.prune)
        report = step(recipe, steps.report).as_teardown()
        # The one teardown that gives the run its colour: it fails when the run did, for skipped tasks would be green.
        outcome = step(recipe, steps.outcome).as_teardown(on_failure_fail_dagrun=True)

        if recipe.sync.may_have_a_job:
            preflight >> list_images >> verify_images >> sync_dataset
        preflight >> sync_dataset >> needs_retraining >> package_source >> warm_start >> tune >> train
        train >> evaluate_rules >> debugger_verdict >> profiler_report
        # Batch scoring needs a Model too: the very Model that is scored is the one that later serves.
        train >> create_model >> [score_candidate, score_champion]
        [debugger_verdict, profiler_report, score_candidate, score_champion] >> compare
        compare >> shadow_requests >> [shadow_candidate, shadow_champion] >> shadow
        shadow_requests >> shadow
        [compare, shadow] >> approve
        approve >> register >> create_endpoint_config >> deploy >> smoke_test >> update_champion >> prune
        [deploy, smoke_test, update_champion] >> rollback
        [debugger_verdict, profiler_report, score_candidate, score_champion, prune, rollback] >> report >> outcome
    # Only now: Airflow copies what the DAG has by then into each task, several times over, and stores it with each.
    dag.params = ParamsDict(trigger_form(recipe))
    return dag


def make_dags() -> None:
    # A task, or a command, tells which DAG it wants of this file: only that one is made.
    kind, _, wanted = (get_parsing_context().dag_id or "").partition("_")
    made: set[str] = set()
    for path in find_recipes(recipe_folders(os.environ, Path(__file__).parent), wanted):
        try:
            recipe = load_recipe(path)
        except RecipeError:
            continue  # recipe_errors.py turns it into an import error that leaves the other DAGs alone
        if recipe.name not in made:  # a second recipe of one name is an error too, reported there
            made.add(recipe.name)
            for make in (retrain, rollback):
                if kind in ("", make.__name__):
                    globals()[f"{make.__name__}_{recipe.name}"] = make(recipe)


make_dags()
