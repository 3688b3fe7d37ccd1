"""The evaluation of a training job's rules beside one attempt of it, in a thread of its own.

A verdict is published as soon as it is written, after what belongs to it has been uploaded. Between the end of an
attempt and the moment it is known whether another one follows nothing is published: the next attempt may find what this
one did not, and only issues that were found stay. An evaluator that an earlier server started is ended and begun again;
issues it had found it finds again, for its output is kept.

Everything lies beside the job's own folder, so that it is not counted to the job's volume.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from local_sagemaker import s3
from local_sagemaker.background import log
from local_sagemaker.failures import InternalFailureError, JobFailedError
from local_sagemaker.jobs import rule_actions, rule_records
from local_sagemaker.jobs.opt_ml import OptMl
from local_sagemaker.jobs.rule_evaluator import Evaluator, Inputs, Verdict, failed
from local_sagemaker.jobs.rule_records import TIMEOUT_S, Rule
from local_sagemaker.jobs.training_record import END_MARKER, KIND, TrainingRecord
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox.container import Container
from local_sagemaker.sandbox.merged_folder import MergedFolder
from local_sagemaker.sandbox.process import JobProcess
from local_sagemaker.settings import Settings

_POLL_S = 0.2

_MAX_NAME_BYTES = 255

# Merging the hosts' folders takes at most a twentieth of the time.
_MERGE_INTERVAL_S = 1.0
_MERGE_SHARE = 20


def folder_of(settings: Settings, job: str) -> Path:
    return settings.folder("rule-evaluation", job)


class RuleEvaluation:
    """Of one attempt. The job's thread calls the methods without underscore; all may be called at any time."""

    def __init__(self, platform: Platform, job: str, request: dict[str, Any], hosts: list[OptMl], epoch: int) -> None:
        self._platform = platform
        self._job = job
        self._training = TrainingRecord(platform.store, platform.logs, job)
        self._folder = folder_of(platform.settings, job) / str(epoch)
        tensors, profilers = [host.tensors(request) for host in hosts], [host.profiler for host in hosts]
        self._merged: list[MergedFolder] = []
        if len(hosts) > 1:
            pairs = {"tensors": tensors, "profiler": profilers}
            self._merged = [MergedFolder(self._folder / name, found, END_MARKER) for name, found in pairs.items()]
        self._inputs = Inputs(
            tensors=self._merged[0].path if self._merged else tensors[0],
            profiler=self._merged[1].path if self._merged else profilers[0],
            job=self._folder / "job.json",
            ended=self._folder / "ended",
            output=self._folder / "output",
        )
        self._merging = threading.Lock()
        self._next_merge = 0.0
        self._evaluators: list[Evaluator] = []
        self._num_evaluators = 0
        self._seen: set[str] = set()
        self._over, self._again = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    def follow(self, describe: dict[str, Any]) -> None:
        """Begin as soon as the job trains and has rules to be judged, also rules that were added meanwhile."""
        running = self._thread is not None and self._thread.is_alive()
        if running or self._closed or describe["SecondaryStatus"] != "Training" or not rule_records.pending(describe):
            return
        self._thread = threading.Thread(target=self._beside, name=f"rules of {self._job}", daemon=True)
        self._thread.start()

    def no_more_tensors(self) -> None:
        """The attempt's processes have ended; to be called before the end markers are written."""
        self._closed = True
        if self._thread is None:
            return
        try:
            self._tell_end(time.time())
        except OSError:  # no reason for the training to fail; `finish` tells it again
            log.exception("rules of training job '%s'", self._job)

    def cut_off(self) -> None:
        """Another attempt follows: keep the issues that were found and end the evaluation."""
        self._again.set()
        self._join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def finish(self) -> None:
        """The job is over: return when every rule has its status, or when the server is being shut down."""
        if not self._shutting_down:
            if self._pending():
                self._tell_end(self._training.read().describe.get("TrainingEndTime"))
            self._over.set()
        self._join()
        if not self._shutting_down and self._pending():
            self._carry()
        if not self._shutting_down:  # else the next server goes on
            shutil.rmtree(self._folder.parent, ignore_errors=True)

    # -- the evaluation's own thread ------------------------------------------------------------------------------

    def _beside(self) -> None:
        try:
            self._carry()
        except Exception:
            self._closed = True  # `finish` tries once more
            log.exception("rules of training job '%s'", self._job)

    def _carry(self) -> None:
        self._evaluators, self._seen = [], set()
        for left in self._folder.parent.glob("*/evaluator-*"):
            if orphan := JobProcess.adopt(left):
                orphan.kill()  # an earlier server's, which would write the same files
        if not self._inputs.ended.exists():
            self._write_job(None)
        try:
            while not self._shutting_down and not self._look():
                time.sleep(_POLL_S)
        finally:
            for evaluator in self._evaluators:
                evaluator.kill()

    def _look(self) -> bool:
        """One look at everything; whether there is nothing more to do."""
        over, again = self._over.is_set(), self._again.is_set()
        describe = self._training.read().describe
        wanted = rule_records.pending(describe)
        if over and self._deadline == float("inf"):
            self._deadline = time.monotonic() + TIMEOUT_S
        self._merge()
        if not again:
            self._take_up(describe, wanted, over)
        names = {rule.evaluation for rule in wanted}
        for evaluator in self._evaluators:
            mine = [rule for rule in evaluator.rules if rule.evaluation in names]
            if mine:
                self._publish(describe, evaluator, mine, over, again)
            else:
                evaluator.kill()
        if time.monotonic() > self._deadline:
            self._give_up()
        return again or not self._pending()

    def _take_up(self, describe: dict[str, Any], wanted: list[Rule], over: bool) -> None:
        """Give rules that no evaluator has to a new one for each image, and start those whose time has come."""
        taken = {rule.evaluation for evaluator in self._evaluators for rule in evaluator.rules}
        by_image: dict[str, list[Rule]] = {}
        for rule in wanted:
            if rule.name in {".", ".."} or "/" in rule.name or len(rule.name.encode()) > _MAX_NAME_BYTES:
                why = f"ClientError: RuleConfigurationName '{rule.name}' cannot be the name of a folder"
                self._end_all([rule], {"RuleEvaluationStatus": "Error", "StatusDetails": why})
            elif rule.evaluation not in taken:
                by_image.setdefault(rule.configuration["RuleEvaluatorImage"], []).append(rule)
        if by_image:
            rule_records.create(self._platform.store, self._platform.settings, self._job)
        for uri, rules in by_image.items():
            platform = self._platform
            try:
                container = Container.of(uri, platform.images, platform.isolation, platform.settings, program="rules")
            except JobFailedError as error:
                self._end_all(rules, {"RuleEvaluationStatus": "Error", "StatusDetails": str(error)})
                continue
            folder = self._folder / f"evaluator-{self._num_evaluators}"
            self._num_evaluators += 1
            self._evaluators.append(Evaluator(platform, container, rules, folder, self._inputs))
        for evaluator in self._evaluators:
            if not evaluator.started and (evaluator.follows or over):
                try:
                    evaluator.start(rule_records.max_runtime_s(describe))
                except OSError as error:
                    self._end_all(evaluator.rules, failed(f"the rule evaluator cannot be started: {error}"))

    def _publish(
        self, describe: dict[str, Any], evaluator: Evaluator, rules: list[Rule], over: bool, again: bool
    ) -> None:
        ended = evaluator.look(rules)
        for rule in rules:
            verdict = evaluator.verdict(rule)
            if verdict is None:
                continue
            if rule.evaluation not in self._seen and not ended and not again:
                self._seen.add(rule.evaluation)  # until the next look its last lines are in its log too
            elif again:
                if verdict["RuleEvaluationStatus"] == "IssuesFound":
                    self._end(describe, rule, verdict)
            elif over or not self._inputs.ended.exists():
                self._end(describe, rule, verdict)

    def _end(self, describe: dict[str, Any], rule: Rule, verdict: Verdict) -> None:
        """Upload what a rule wrote, then publish its verdict and do what that asks for."""
        uri = s3.join(rule_records.target(describe, rule), rule.name)
        try:
            s3.Mirror(self._platform.objects, self._inputs.output / rule.name, uri).sync()
        except InternalFailureError as error:  # the next look tries again
            log.warning("rule '%s' of training job '%s': %s", rule.name, self._job, error)
            return
        except JobFailedError as error:
            verdict = {"RuleEvaluationStatus": "Error", "StatusDetails": str(error)}
        stopped: list[str] = []
        rule_records.end(
            self._platform.store,
            self._job,
            rule.evaluation,
            verdict,
            lambda: stopped.extend(
                rule_actions.carry_out(self._platform.store, self._platform.logs, self._job, rule, verdict)
            ),
        )
        for name in stopped:
            self._platform.background.stop(KIND, name)

    def _end_all(self, rules: list[Rule], verdict: Verdict) -> None:
        for rule in rules:
            rule_records.end(self._platform.store, self._job, rule.evaluation, verdict)

    def _give_up(self) -> None:
        self._end_all(self._pending(), failed(f"rule evaluation did not end within {TIMEOUT_S:.0f} s"))

    # -- what the evaluators are told -----------------------------------------------------------------------------

    def _tell_end(self, ended_at: float | None) -> None:
        if self._inputs.ended.exists():
            return
        self._merge(now=True)
        self._write_job(ended_at)
        self._inputs.ended.touch()

    def _write_job(self, ended_at: float | None) -> None:
        """What an evaluator has to know of the job; whole at every moment, for it is read again at the end."""
        describe = self._training.read().describe
        members = ("TrainingJobName", "CreationTime", "TrainingStartTime", "HyperParameters")
        job = {name: describe.get(name) for name in members} | {"TrainingEndTime": ended_at}
        job["InstanceType"] = describe["ResourceConfig"].get("InstanceType", "")
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._inputs.job.with_suffix(".part")
        part.write_text(json.dumps(job))
        part.replace(self._inputs.job)

    def _merge(self, *, now: bool = False) -> None:
        with self._merging:
            began = time.monotonic()
            if self._merged and (now or began >= self._next_merge):
                for folder in self._merged:
                    folder.sync()
                self._next_merge = time.monotonic() + max(_MERGE_INTERVAL_S, _MERGE_SHARE * (time.monotonic() - began))

    # -- how it stands --------------------------------------------------------------------------------------------

    def _pending(self) -> list[Rule]:
        return rule_records.pending(self._training.read().describe)

    @property
    def _shutting_down(self) -> bool:
        return self._platform.background.shutdown.is_set()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
