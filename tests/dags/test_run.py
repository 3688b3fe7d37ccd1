"""Whole runs of the DAG, one for every outcome, against the real local server, with programs that take a second."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.slow
def test_a_classifier_lives_through_every_outcome(stack: Any) -> None:
    """In this order: withdrawn, promoted, skipped, kept, promoted by an update, rolled back, failed in training."""
    runs = stack.run({"epochs": 4}, {}, {}, {"epochs": 1}, {"epochs": 5}, {"epochs": 4}, {"epochs": 3})
    reports = stack.reports()
    outcomes = ["failed", "promoted", "skipped", "kept", "promoted", "failed", "failed"]
    assert [report["outcome"] for report in reports] == outcomes, [report["reason"] for report in reports]
    assert [run["state"] == "failed" for run in runs] == [outcome == "failed" for outcome in outcomes]
    withdrawn, first, unchanged, worse, update, wrong, raising = [run["tasks"] for run in runs]

    # Without a champion to go back to, a model that serves wrongly leaves no endpoint: the next run had to create it.
    assert (withdrawn["smoke_test"], withdrawn["rollback"]) == ("failed", "success")
    assert (first["score_champion"], first["approve"], first["rollback"]) == ("skipped", "skipped", "skipped")

    assert unchanged["package_source"] == "skipped"
    assert "data, code and recipe are those of champion" in reports[2]["reason"]

    assert worse["deploy"] == "skipped"
    assert reports[3]["candidate"]["accuracy"] < reports[3]["champion"]["accuracy"] == 1

    champion = stack.champion()
    assert update["score_champion"] == "success"
    assert champion["run_name"] == reports[4]["run_name"] == reports[4]["endpoint"]["config"]
    assert champion["previous"]["run_name"] == reports[1]["run_name"]

    assert (wrong["smoke_test"], wrong["rollback"], wrong["update_champion"]) == (
        "failed",
        "success",
        "upstream_failed",
    )
    assert "Real-time and batch serving differ" in reports[5]["reason"]
    served = stack.server.sagemaker.describe_endpoint(EndpointName="retraining-colors")
    assert (served["EndpointStatus"], served["EndpointConfigName"]) == ("InService", champion["endpoint_config"])

    assert (raising["tune"], raising["rollback"], raising["report"]) == ("failed", "skipped", "success")
    assert "the story of epochs=3 is a script that raises" in reports[6]["reason"]
