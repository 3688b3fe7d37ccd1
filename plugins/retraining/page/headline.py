"""The verdict in one sentence, before anything else. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.figures import images, score, sentence

WORDS = {
    "promoted": "Promoted.",
    "kept": "The champion stays.",
    "skipped": "Nothing new.",
    "failed": "Failed.",
    "running": "Running.",
    "waiting": "Waiting.",
}


def headline(report: Mapping[str, Any]) -> tuple[str, str]:
    """The one word that tells the outcome, and the sentence beside it."""
    outcome = report["outcome"]
    tell = {"promoted": _promoted, "kept": _kept, "skipped": _skipped, "failed": _failed, "waiting": _waiting}
    return WORDS.get(outcome, sentence(outcome)), tell.get(outcome, _running)(report)


def _promoted(report: Mapping[str, Any]) -> str:
    evidence, candidate = report.get("evidence"), report.get("candidate") or {}
    if not evidence:
        return f"Accuracy {score(candidate.get('accuracy'))}, with no champion to compare it with."
    net, n = evidence["won"] - evidence["lost"], evidence["n"]
    if net == 0:
        return f"Right on as many of {n:,} test images as the champion."
    return f"Right on {images(abs(net))} {'more' if net > 0 else 'fewer'} of {n:,} than the champion."


def _kept(report: Mapping[str, Any]) -> str:
    failed = [check for check in report.get("gate") or () if check["verdict"] == "failed"]
    if not failed:
        return sentence(report["reason"])
    rules = ", ".join(check["rule"] for check in failed)
    return f"{len(failed)} of {len(report['gate'])} rules failed: {rules}."


def _skipped(report: Mapping[str, Any]) -> str:
    return "No job was started, and nothing was paid."


def _failed(report: Mapping[str, Any]) -> str:
    task, colon, _ = report["reason"].partition(":")
    return f"It ended at {task}." if colon else sentence(report["reason"])


def _running(report: Mapping[str, Any]) -> str:
    return sentence(f"Now: {report['reason']}")


def _waiting(report: Mapping[str, Any]) -> str:
    return sentence(report["reason"])
