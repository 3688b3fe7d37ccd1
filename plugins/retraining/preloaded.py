"""`python -m retraining.preloaded scheduler …`: an `airflow` command that has imported what its children would.

Tasks of the LocalExecutor are forked from the scheduler, and each look at the DAGs from the DAG processor: libraries
that these have imported once, hundreds of children do not import anew. This package itself they do: an edit counts with
the next task, without a restart. An Airflow of your own may be started by it too, or not.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import pkgutil
import sys

import retraining

APART = ("retraining.page.",)
"""Of this package: the API server's. What a task writes of a page is among OTHERS."""
OTHERS = (
    "PIL.Image",
    "airflow.providers.amazon.aws.hooks.base_aws",
    "airflow.providers.standard.operators.python",
    "boto3",
    "retraining.page.archive",
    "sagemaker.core.image_uris",
)
"""What tasks import within functions, or Airflow for them."""


def preload() -> None:
    """All libraries that this package uses. What is not installed is left out: tasks will say what they miss."""
    own = (module.name for module in pkgutil.walk_packages(retraining.__path__, "retraining."))
    wanted = [name for name in own if not name.startswith(APART) and not name.endswith(".__main__")]
    for name in (*OTHERS, *wanted):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "retraining"]:
        del sys.modules[name]
    gc.freeze()  # a child that looks for garbage would copy all of it


def main() -> None:
    preload()
    from airflow.__main__ import main as airflow

    sys.argv[0] = "airflow"
    airflow()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
