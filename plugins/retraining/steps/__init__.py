"""The bodies of the DAG's plain tasks: each reads its facts from the run, does one thing, returns a small record.

data, champion, search, comparison, shadow, release   the DAG's own boxes
back                                  the DAG that goes back to a former champion
task_requests                         what the other tasks send to SageMaker
findings                              what all tasks left behind → the report
janitor                               the DAG that deletes endpoints which nobody uses

Whatever raises ValueError or LookupError here is final: Airflow does not retry it.
"""

from retraining.steps.back import choose, go_back
from retraining.steps.comparison import compare
from retraining.steps.data import list_images, needs_retraining, package_source, preflight, sync_dataset
from retraining.steps.findings import outcome, report
from retraining.steps.janitor import look_after
from retraining.steps.release import prune, smoke_test, update_champion
from retraining.steps.search import profiler_report, warm_start
from retraining.steps.shadow import shadow, shadow_requests

__all__ = [
    "choose",
    "compare",
    "go_back",
    "list_images",
    "look_after",
    "needs_retraining",
    "outcome",
    "package_source",
    "preflight",
    "profiler_report",
    "prune",
    "report",
    "shadow",
    "shadow_requests",
    "smoke_test",
    "sync_dataset",
    "update_champion",
    "warm_start",
]
