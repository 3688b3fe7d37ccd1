"""What the search begins from, and what is kept of the watched training."""

from __future__ import annotations

import logging
from typing import Any

from retraining.debugger.advice import read_profiler_advice
from retraining.debugger.profiler_report import keep_profiler_report
from retraining.requests import sagemaker as requests
from retraining.requests.debugger import rule_output_key
from retraining.run import Run
from retraining.tuning.history import earlier_searches
from retraining.tuning.warm_start import WarmStart, choose

log = logging.getLogger(__name__)


def warm_start(run: Run) -> dict[str, Any]:
    """Decided here, once: a second attempt of `tune` must not find other parents than the first."""
    decided = _decide_warm_start(run)
    for name, why in decided.left_out.items():
        log.info("The search does not begin from %s: it %s.", name, why)
    if decided.parents:
        log.info("The search begins from %s (%s: %s).", ", ".join(decided.parents), decided.type, decided.reason)
    else:
        log.info("The search begins from nothing: %s.", decided.reason)
    return decided.as_dict()


def profiler_report(run: Run) -> dict[str, Any] | None:
    """The profiler's report under a stable key; None when the job was not profiled. Never a reason to fail a run."""
    training = run.find("train")
    if training is None:
        return None
    prefix = rule_output_key(run.plan, training["name"])
    kept = keep_profiler_report(run.s3, run.environment.bucket, prefix, f"{run.plan.run_key}/profiler-report.html")
    log.info("%s", kept or "This job has no profiler report.")
    if kept is None:
        return None
    known = read_profiler_advice(run.environment.source_dir)
    return kept | {"advice": [{"rule": rule, **known.get(rule, {})} for rule in kept["triggered"]]}


# --- parts ----------------------------------------------------------------------------------------------------------


def _decide_warm_start(run: Run) -> WarmStart:
    tuning = run.recipe.tuning
    if tuning.warm_start == "off":
        return WarmStart(reason="tuning.warm_start is off")
    if tuning.strategy == "Random":
        return WarmStart(reason="a Random search learns nothing from earlier trials")
    request = requests.tuning_job(run.plan, run.images, run.fingerprint, run.source_uri)
    champions = (run.champion or {}).get("tuning_job")
    return choose(request, earlier_searches(run.sagemaker, run.plan, champions))
