"""What must be true after a run, whatever was killed: the invariants of the simulator, as the real stack shows them.

I1 a job is paid once, I2 an endpoint is brought to a configuration once, I3 clients are answered, I4 what is named is
there, I5 nothing is left running, I6 who serves was judged, I7 what failed is not Approved, I10 the run's state tells
the truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from retraining.job_kinds import IN_PROGRESS, is_platform_failure
from tests.faults.real.client import Answer
from tests.faults.real.evidence import TRIALS, Evidence, Job


def harms(found: Evidence) -> list[str]:
    """What is wrong after a run; empty when all is well."""
    return [*_jobs(found), *_registry(found), *_endpoint(found), *_objects(found), *_told(found)]


def unanswered(failures: Sequence[Answer]) -> list[str]:
    """The harm in requests that failed where nothing had been killed that answers them."""
    return (
        [f"I3: {len(failures)} requests failed beside any outage, the first: {failures[0].wrong}"] if failures else []
    )


def _jobs(found: Evidence) -> Iterator[str]:
    for job in found.jobs:
        if job.status in IN_PROGRESS:
            yield f"I5: {job.kind} job {job.name} is left {job.status}"
    for process in found.processes:
        yield f"I5: a process is left running: {process}"
    by_purpose: dict[tuple[str, str], list[Job]] = {}
    for job in found.jobs:
        if job.name.startswith(found.run):
            by_purpose.setdefault((job.kind, re.sub(r"-g\d+$", "", job.name)), []).append(job)
    for (kind, purpose), of_it in by_purpose.items():
        *earlier, _last = sorted(of_it, key=lambda job: (len(job.name), job.name))
        for job in earlier:
            if not (job.status == "Failed" and is_platform_failure(job.reason)):
                yield f"I1: {kind} {purpose} was paid again after one that is {job.status}: {job.reason or 'no reason'}"

    trials = [
        job.name for job in found.jobs if re.match(rf"{found.run}-\d{{3}}-", job.name) and job.status == "Completed"
    ]
    if len(trials) > TRIALS:
        yield f"I1: {len(trials)} trials of {TRIALS} were paid to their end: {trials}"


def _registry(found: Evidence) -> Iterator[str]:
    mine = [package for package in found.packages if package.run == found.run]
    if len(mine) > 1:
        yield f"I1: the model was registered {len(mine)} times"
    for package in found.packages:
        if package.run == found.champion.get("run_name") and package.status != "Approved":
            yield f"I7: the package of the champion is {package.status}"
    moved = found.champion.get("run_name") == found.run
    for package in mine:
        if package.status == "Approved" and not moved:
            yield "I7: the package of a run that promoted nothing is Approved"


def _endpoint(found: Evidence) -> Iterator[str]:
    named, endpoint = found.champion.get("endpoint_config"), found.endpoint
    served = endpoint.config if endpoint else None
    if served != named:
        yield f"I10: {served} serves, the champion is {named}"
    if endpoint and endpoint.status != "InService":
        yield f"I10: the endpoint is {endpoint.status}"
    if endpoint and endpoint.model is None:
        yield f"I4: configuration {endpoint.config} serves, and it or its model was deleted"
    for label, answered in found.golden:
        if answered != label:
            yield f"I6: the champion is known to tell {label}, the endpoint says {answered}"
    for config in set(found.served):
        if found.served.count(config) > 1 and config == found.run:
            yield f"I2: the endpoint was brought to {config} more than once: {list(found.served)}"
    if found.champion.get("run_name") not in (found.before.get("run_name"), found.run):
        yield f"I6: the champion is {found.champion.get('run_name')}, of another run than this one"


def _objects(found: Evidence) -> Iterator[str]:
    for key in found.missing:
        yield f"I4: missing or damaged: {key}"


def _told(found: Evidence) -> Iterator[str]:
    moved = found.champion.get("run_name") == found.run
    if found.report is None:
        yield "I10: nobody wrote a report"
        return
    outcome = found.report["outcome"]
    if (found.state == "success") != (outcome != "failed"):
        yield f"I10: the run is {found.state}, its report says {outcome}: {found.report['reason']}"
    if moved != (outcome == "promoted"):
        yield f"I10: the report says {outcome}, and the candidate is {'' if moved else 'not '}the champion"
    if found.state == "success" and outcome not in ("promoted", "kept"):
        yield f"I10: the run is green, and its work was not done: {outcome}"
