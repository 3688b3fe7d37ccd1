"""Judge one finished training job by its debug tensors and system metrics, as SageMaker's rule containers would.

    python evaluate_rules.py --tensors DIR --profiler DIR --rules rules.json --job job.json --output DIR

rules.json is the list of rule configurations of CreateTrainingJob; job.json tells the job's name and times. Each rule
gets <output>/<RuleConfigurationName>/verdict.json, ProfilerReport also profiler-output/ with the report and its data.
Runs wherever Debugger itself is not available: beside a local server, or as a SageMaker Processing job.

Exit status: 0 if every rule has a verdict, whichever; 2 if the arguments cannot be used.
"""

import argparse
import json
import math
import os
import sys
import traceback
from functools import cached_property
from pathlib import Path

from profiler_rules import profile
from report_html import report_html
from rules import RULES
from tensors import MissingTensors, Tensors
from usage import read_usage

PROFILER_REPORT = "ProfilerReport"
# AWS's own sentence, which clients look for; ours follows on the next line.
CONDITION_MET = "RuleEvaluationConditionMet: Evaluation of the rule {rule}{where} resulted in the condition being met"


def main(arguments=None):
    settings = parse(arguments)
    try:
        configurations = json.loads(settings.rules.read_text(encoding="utf-8"))
        names = [configuration["RuleConfigurationName"] for configuration in configurations]
        job = json.loads(settings.job.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"evaluate_rules.py: error: rules or job cannot be read: {error!r}", file=sys.stderr)
        return 2
    inputs = Inputs(settings.tensors, settings.profiler, job)
    for name, configuration in zip(names, configurations, strict=True):
        folder = settings.output / name
        folder.mkdir(parents=True, exist_ok=True)
        verdict = judge(name, configuration.get("RuleParameters") or {}, inputs, folder)
        write(folder / "verdict.json", json.dumps(verdict, indent=1))
        print(f"{name}: {verdict['RuleEvaluationStatus']} {verdict['StatusDetails']}".strip(), flush=True)
    return 0


class Inputs:
    """What a job left behind; read when the first rule asks for it."""

    def __init__(self, tensors_dir, profiler_dir, job):
        self.tensors_dir, self.profiler_dir, self.job = tensors_dir, profiler_dir, job

    @cached_property
    def tensors(self):
        return Tensors(self.tensors_dir)

    @cached_property
    def usage(self):
        return read_usage(self.profiler_dir)


def judge(name, parameters, inputs, folder):
    """The verdict document of one rule; a rule that cannot judge, or breaks, gets the status Error."""
    rule = parameters.get("rule_to_invoke", name)
    try:
        if rule == PROFILER_REPORT:
            return profiler_report(name, parameters, inputs, folder)
        if rule not in RULES:
            known = ", ".join([*RULES, PROFILER_REPORT])
            return document(name, "Error", f"unknown rule '{rule}'; this engine knows {known}")
        verdict = RULES[rule](inputs.tensors, parameters)
    except MissingTensors as error:
        return document(name, "Error", f"TensorUnavailable: {error}")
    except Exception as error:
        traceback.print_exc()
        return document(name, "Error", f"{type(error).__name__}: {error}")
    evidence = {"step": verdict.step, **verdict.evidence} if verdict.issue else verdict.evidence
    if not verdict.issue:
        return document(name, "NoIssuesFound", "", evidence)
    condition = CONDITION_MET.format(rule=rule, where=f" at step {verdict.step}")
    return document(name, "IssuesFound", f"{condition}\n{verdict.issue}", evidence)


def profiler_report(name, parameters, inputs, folder):
    if not inputs.usage:
        return document(name, "Error", "no system metrics were found; the job must run with its profiler enabled")
    reports = profile(inputs.usage, inputs.job, parameters)
    output = folder / "profiler-output"
    (output / "profiler-reports").mkdir(parents=True, exist_ok=True)
    for sub_rule, report in reports.items():
        write(output / "profiler-reports" / f"{sub_rule}.json", json.dumps(report))
    write(output / "profiler-report.html", report_html(inputs.job, inputs.usage, reports))
    triggered = [sub_rule for sub_rule, report in reports.items() if report["RuleTriggered"]]
    evidence = {"triggered": triggered, "samples": sum(map(len, inputs.usage.values()))}
    if not triggered:
        return document(name, "NoIssuesFound", "", evidence)
    condition = CONDITION_MET.format(rule=PROFILER_REPORT, where="")
    return document(name, "IssuesFound", f"{condition}\ntriggered: {', '.join(triggered)}", evidence)


def document(name, status, details, evidence=None):
    evidence = {key: finite(value) for key, value in (evidence or {}).items()}
    return {
        "RuleConfigurationName": name,
        "RuleEvaluationStatus": status,
        "StatusDetails": details[:1024],
        "Evidence": evidence,
    }


def finite(value):
    """JSON knows no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write(path, text):
    """Whole or not at all: others poll for these files."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensors", type=Path, required=True, help="what smdebug saved; may not exist")
    parser.add_argument("--profiler", type=Path, required=True, help="profiler-output of the job; may not exist")
    parser.add_argument("--rules", type=Path, required=True, help="JSON list of rule configurations")
    parser.add_argument("--job", type=Path, required=True, help="JSON: TrainingJobName, times in epoch seconds, …")
    parser.add_argument("--output", type=Path, required=True, help="gets one folder per rule")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
