"""One evaluator process: it judges some rules of a training job, all of one image.

An evaluator that can follow (`follow` in the image map) runs beside the training; any other one when it has ended. It
is told of the end by a file that appears. Verdicts are the files that it writes, one for each rule, each at once.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from local_sagemaker.jobs import rule_records
from local_sagemaker.jobs.rule_records import Rule
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import cores
from local_sagemaker.sandbox.container import Container
from local_sagemaker.sandbox.process import JobProcess, OutputTail, output_path

_LAST_LINES = 5

Verdict = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What every evaluator of an attempt is given."""

    tensors: Path
    profiler: Path
    job: Path
    """A JSON file that tells of the training job; TrainingEndTime is added at its end."""
    ended: Path
    """This file appears when the job writes no more."""
    output: Path


class Evaluator:
    """Not thread-safe: the thread that carries the evaluation owns it."""

    def __init__(
        self, platform: Platform, container: Container, rules: list[Rule], folder: Path, inputs: Inputs
    ) -> None:
        self.rules = rules
        self._platform = platform
        self._container = container
        self._folder = folder
        self._inputs = inputs
        self._tail = OutputTail(output_path(folder))
        self._last = [""]
        self._process: JobProcess | None = None
        self._code: int | None = None
        self._killed = False

    @property
    def follows(self) -> bool:
        return self._container.image.follow

    @property
    def started(self) -> bool:
        return self._process is not None

    def start(self, max_runtime_s: int) -> None:
        """`max_runtime_s` bounds its life should this server never come back."""
        self._folder.mkdir(parents=True, exist_ok=True)
        output_path(self._folder).unlink(missing_ok=True)  # of one that an earlier server started
        members = ("RuleConfigurationName", "RuleParameters")
        wanted = [{key: rule.configuration.get(key) for key in members} for rule in self.rules]
        (self._folder / "rules.json").write_text(json.dumps(wanted))
        image = self._container.image
        self._process = self._container.start(
            [image.interpreter, *(image.rules or ()), *self._arguments(max_runtime_s)],
            environment=self._container.environment(image.interpreter, self._folder, num_threads=1),
            cwd=self._folder,
            folder=self._folder,
            nice=cores.NICE_RULES,
        )
        for rule in self.rules:
            rule_records.begun(self._platform.store, rule)

    def look(self, wanted: list[Rule]) -> bool:
        """Take what it has printed into the logs of the rules that are still wanted; whether it has ended."""
        if self._process is None:
            return False
        if self._code is None:
            self._code = self._process.wait(0.0)
        while lines := self._tail.lines(final=self._code is not None):
            self._last = [*self._last, *lines][-_LAST_LINES:]
            for rule in wanted:
                rule_records.say(self._platform.store, self._platform.logs, rule.evaluation, lines)
        return self._code is not None

    def verdict(self, rule: Rule) -> Verdict | None:
        """What it has written of a rule; None while there is nothing. Of an ended one there is always something."""
        try:
            verdict = json.loads((self._inputs.output / rule.name / "verdict.json").read_text())
            if str(verdict["RuleEvaluationStatus"]) not in _VERDICTS:
                raise ValueError(f"RuleEvaluationStatus '{verdict['RuleEvaluationStatus']}'")
            return dict(verdict)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if self._code is None:
                return None
            if self._code:
                return failed(f"rule evaluator ended with exit code {self._code}: {' '.join(self._last).strip()}")
            return failed(f"no verdict: {error!r}")

    def kill(self) -> None:
        if self._process and not self._killed:
            self._process.kill()
            self._killed = True

    def _arguments(self, max_runtime_s: int) -> list[str]:
        paths = {
            "tensors": self._inputs.tensors,
            "profiler": self._inputs.profiler,
            "rules": self._folder / "rules.json",
            "job": self._inputs.job,
            "output": self._inputs.output,
        }
        words = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
        if self.follows:
            words += ["--follow", "--job-ended", str(self._inputs.ended), "--timeout", str(max_runtime_s)]
        return words


def failed(why: str) -> Verdict:
    return {"RuleEvaluationStatus": "Error", "StatusDetails": f"InternalServerError: {why}"}


_VERDICTS = {"NoIssuesFound", "IssuesFound", "Error"}
