"""Judge a training job by its debug tensors and system metrics, as SageMaker's rule containers would.

    python evaluate_rules.py --tensors DIR --profiler DIR --rules rules.json --job job.json --output DIR
    python evaluate_rules.py --tensors DIR … --follow --job-ended FILE          beside the job, while it trains
    python evaluate_rules.py --tensors s3://bucket/debug-output --rules LossNotDecreasing,Overfit        by hand
    python evaluate_rules.py --training-output output.tar.gz …         after a training that watched itself

rules.json is the list of rule configurations of CreateTrainingJob; job.json tells the job's name and times. Each rule
gets <output>/<RuleConfigurationName>/verdict.json, ProfilerReport also profiler-output/ with the report and its data.
Without --output the verdicts are printed as a table. --training-output takes tensors and metrics from what a training
with --debug-hook-config or --profile left: an output.tar.gz, or a folder or s3:// URI with one or with what is in it;
what is missing there makes the rules that need it Error. Runs wherever Debugger itself is not available: beside a local
server, as a SageMaker Processing job, or on anybody's smdebug output.

With --follow a verdict appears as soon as a rule fires, the others when the job has ended: when training_job_end.ts
lies beside the tensors (or beside the system metrics), or the file of --job-ended exists. After a restart verdicts of
issues that were published for the same tensors and parameters stay; everything else is judged again from the first
step.

Exit status: 0 if every rule has a verdict, whichever; 2 if the arguments cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from debugger.rules.catalogue import RULES, USUAL
from debugger.rules.judge import NO_TENSORS, Judge
from debugger.rules.session import RuleSession
from debugger.rules.verdicts import CONDITION_MET, document, line, plain, table, write
from debugger.tensors.stream import TensorStream
from profiler.report.advice import ADVICE
from profiler.report.folder import NothingRecorded, Recorded, judge_alone, write_report
from profiler.rules import SUB_RULES
from recordings.output import DEBUG_OUTPUT, PROFILER_OUTPUT, UnusableOutput, opened
from recordings.storage import END_MARKER, Folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Rules = Mapping[str, Mapping[str, str]]  # RuleConfigurationName -> its RuleParameters

PROFILER_REPORT = "ProfilerReport"
PROFILER_RULES = (PROFILER_REPORT, *SUB_RULES)


def main(arguments: Sequence[str] | None = None) -> int:
    settings = parse(arguments)
    with ExitStack() as stack:
        try:
            rules = read_rules(settings.rules)
            inputs = Inputs(settings, stack)
            stream = TensorStream(inputs.tensors)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"evaluate_rules.py: error: rules or job cannot be read: {error!r}", file=sys.stderr)
            return 2
        evaluate(settings, rules, inputs, stream)
    return 0


def evaluate(settings: argparse.Namespace, rules: Rules, inputs: Inputs, stream: TensorStream) -> None:
    """Give every rule a verdict, of what is there or as it comes."""
    verdicts = Verdicts(settings, rules, str(inputs.tensors))
    if inputs.unusable:
        for name in rules:
            verdicts.publish(document(name, "Error", inputs.unusable))
    judged = {name: given for name, given in rules.items() if name not in verdicts.published}
    debugging = {
        name: given for name, given in judged.items() if given.get("rule_to_invoke", name) not in PROFILER_RULES
    }
    judges = [Judge(name, given, stream, inputs.no_tensors) for name, given in debugging.items()]
    ended = lambda: job_ended(settings)  # noqa: E731
    session = RuleSession(judges, stream, verdicts.publish, ended)
    if settings.follow:
        session.follow(settings.poll, settings.timeout)
    elif judges:
        session.judge_what_is_there()
    reports = {name: given for name, given in judged.items() if name not in debugging}
    if reports and settings.follow:
        wait_for_end(settings, stream)
    for name, given in reports.items():
        verdicts.publish(profiler_verdict(name, given, inputs, settings.output))
    if settings.output is None:
        print(table([verdicts.published[name] for name in rules], {judge.name: judge.advice for judge in judges}))


class Inputs:
    """What a job left behind; what is not the tensors is read when the first rule asks for it.

    `unusable` says why nothing of it can be judged; `no_tensors` and `no_profile` what it means where one is missing.
    """

    def __init__(self, settings: argparse.Namespace, stack: ExitStack) -> None:
        self.job_file = settings.job
        self.read_job()  # an unreadable one is better known now than when the job has ended
        self.tensors, self.profiler_dir = settings.tensors, settings.profiler
        self.unusable, self.no_tensors = "", NO_TENSORS
        self.no_profile: str | None = None
        if settings.training_output is not None:
            self.tensors = settings.training_output
            try:
                self.find(*stack.enter_context(opened(settings.training_output)))
            except UnusableOutput as error:
                self.unusable = str(error)

    def find(self, place: str, folder: Path) -> None:
        """The parts of a training's output in `folder`, which others know as `place`."""
        self.tensors = Folder(folder / DEBUG_OUTPUT, known_as=f"{place}/{DEBUG_OUTPUT}")
        self.profiler_dir = folder / PROFILER_OUTPUT
        self.no_tensors = (
            f"'{place}' holds no tensors in {DEBUG_OUTPUT}/; the training must run with --debug-hook-config, and "
            "come to its first step"
        )
        if not self.profiler_dir.is_dir():
            self.no_profile = f"'{place}' holds no {PROFILER_OUTPUT}/; the training must run with --profile true"

    def read_job(self) -> dict[str, Any]:
        return json.loads(self.job_file.read_text(encoding="utf-8")) if self.job_file else {"TrainingJobName": ""}

    @cached_property
    def job(self) -> dict[str, Any]:
        return self.read_job()

    @cached_property
    def recorded(self) -> Recorded:
        tensors_dir = self.tensors.path if isinstance(self.tensors, Folder) else self.tensors
        return Recorded(self.profiler_dir, tensors_dir)


class Verdicts:
    """Where verdicts go: a file and a line of the log each."""

    def __init__(self, settings: argparse.Namespace, rules: Rules, tensors: str) -> None:
        self.settings, self.rules, self.tensors = settings, rules, tensors
        self.published = {}
        if settings.follow and settings.output:
            self.published = {name: kept for name in rules if (kept := self.published_before(name))}

    def published_before(self, name: str) -> dict[str, Any] | None:
        """An issue that an evaluator which was killed has already told of; whoever read it may have acted on it."""
        try:
            verdict = json.loads((self.settings.output / name / "verdict.json").read_text(encoding="utf-8"))
            same = verdict["RuleParameters"] == self.rules[name] and verdict["Tensors"] == self.tensors
            return verdict if same and verdict["RuleEvaluationStatus"] == "IssuesFound" else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def publish(self, verdict: dict[str, Any]) -> None:
        name = verdict["RuleConfigurationName"]
        verdict |= {"RuleParameters": self.rules[name], "Tensors": self.tensors}
        self.published[name] = verdict
        if self.settings.output:
            folder = self.settings.output / name
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / "verdict.json", json.dumps(plain(verdict), indent=1, allow_nan=False))
        if self.settings.output or self.settings.follow:
            print(line(verdict), flush=True)


def read_rules(text: str) -> dict[str, dict[str, str]]:
    """{RuleConfigurationName: RuleParameters} of a file of configurations, or of names with commas between them."""
    if text.strip() and not (path := Path(text)).is_file() and path.suffix != ".json":
        names = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := [name for name in names if name not in RULES and name not in PROFILER_RULES]:
            raise ValueError(f"'{unknown[0]}' is neither a file nor a rule; the rules are {', '.join(RULES)}")
        return {name: {} for name in names}
    configurations = json.loads(Path(text).read_text(encoding="utf-8"))
    names = [configuration["RuleConfigurationName"] for configuration in configurations]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"RuleConfigurationName '{twice[0]}' occurs twice")
    if bad := [name for name in names if not name or name in (".", "..") or "/" in name]:
        raise ValueError(f"RuleConfigurationName '{bad[0]}' cannot be the name of a folder")
    return {name: dict(rule.get("RuleParameters") or {}) for name, rule in zip(names, configurations, strict=True)}


def job_ended(settings: argparse.Namespace) -> bool:
    """A job's output is packed when it has ended; a job that was killed has left no other sign of it."""
    if settings.training_output is not None:
        return True
    return settings.job_ended is not None and settings.job_ended.exists()


def wait_for_end(settings: argparse.Namespace, stream: TensorStream) -> None:
    """Until the job is over, though no debugger rule waits for it any more."""
    marker = settings.profiler and settings.profiler / "system" / END_MARKER
    deadline = time.monotonic() + settings.timeout
    while not stream.ended and not job_ended(settings) and time.monotonic() < deadline:
        if (marker and marker.exists()) or stream.files.ended_at() is not None:
            return
        time.sleep(settings.poll)


def profiler_verdict(name: str, parameters: Mapping[str, str], inputs: Inputs, output: Path | None) -> dict[str, Any]:
    rule = parameters.get("rule_to_invoke", name)
    try:
        if rule == PROFILER_REPORT:
            return profiler_report(name, parameters, inputs, output)
        return profiler_rule(name, rule, parameters, inputs)
    except NothingRecorded as error:
        return document(name, "Error", inputs.no_profile or str(error))
    except Exception as error:
        traceback.print_exc()
        return document(name, "Error", f"{type(error).__name__}: {error}")


def profiler_report(name: str, parameters: Mapping[str, str], inputs: Inputs, output: Path | None) -> dict[str, Any]:
    if output is None:
        return document(name, "Error", "the report needs a place to be written to: --output")
    evidence = write_report(output / name, inputs.recorded, inputs.job, parameters)
    if not evidence["triggered"]:
        return document(name, "NoIssuesFound", "", evidence)
    condition = CONDITION_MET.format(rule=PROFILER_REPORT, where="")
    return document(name, "IssuesFound", f"{condition}\ntriggered: {', '.join(evidence['triggered'])}", evidence)


def profiler_rule(name: str, rule: str, parameters: Mapping[str, str], inputs: Inputs) -> dict[str, Any]:
    """One of the report's sub-rules, configured as a rule of its own."""
    report = judge_alone(rule, inputs.recorded, inputs.job, parameters)
    evidence = {key: report[key] for key in ("RuleTriggered", "Violations", "Datapoints", "RuleParameters")}
    if not report["RuleTriggered"]:
        return document(name, "NoIssuesFound", "", evidence)
    condition = CONDITION_MET.format(rule=rule, where="")
    return document(name, "IssuesFound", f"{condition}\n{ADVICE[rule][0]}", evidence)


def place(text: str) -> Path | str:
    return text if text.startswith("s3://") else Path(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tensors", type=place, help="folder or s3:// URI; may not exist yet")
    what.add_argument(
        "--training-output", type=place, help="output.tar.gz, or a folder or s3:// URI with it, or unpacked"
    )
    parser.add_argument("--rules", default=",".join(USUAL), help="JSON list of rule configurations, or names: A,B")
    parser.add_argument("--profiler", type=Path, help="profiler-output of the job; may not exist")
    parser.add_argument("--job", type=Path, help="JSON: TrainingJobName, times in epoch seconds, …")
    parser.add_argument("--output", type=Path, help="gets one folder per rule")
    parser.add_argument("--follow", action="store_true", help="judge beside the job until it has ended")
    parser.add_argument("--job-ended", type=Path, help="with --follow: the job has ended once this file exists")
    parser.add_argument(
        "--timeout", type=float, default=3600, help="with --follow: seconds without a step to give up after"
    )
    parser.add_argument(
        "--poll", type=float, help="with --follow: seconds between looks; 0.25, at S3 (which bills them) 1"
    )
    settings = parser.parse_args(arguments)
    if settings.training_output is not None and (settings.follow or settings.profiler):
        parser.error("--training-output is of a training that has ended, and holds the profiler's files too")
    if settings.poll is None:
        settings.poll = 0.25 if isinstance(settings.tensors, Path) else 1.0
    return settings


if __name__ == "__main__":
    sys.exit(main())
