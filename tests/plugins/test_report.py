"""Every run ends with one report that tells its outcome and why."""

from __future__ import annotations

from dataclasses import replace

from retraining.release.canary import MISSED
from retraining.report import Findings, as_markdown, run_report

GREEN = {"preflight": "success", "train": "success", "update_champion": "success", "rollback": "skipped"}
PROMOTED = Findings(
    run_name="r",
    recipe="digits",
    states=GREEN,
    failures={},
    need={"needed": True, "reason": "changed: dataset"},
    dataset={"fingerprint": "f", "counts": {"test": {"0": 3}}, "quarantined": 1},
    tuning={"name": "r", "best": "r-001"},
    trials=[{"name": "r-001", "status": "Completed", "objective": 0.98, "hyperparameters": {"lr": "0.01"}}],
    training={"name": "r-train", "metrics": {"validation:accuracy": 0.98}},
    rules=[{"rule": "Overfit", "status": "IssuesFound", "details": "at step 9\n", "policy": "warn"}],
    profiler={"html": "s3://b/report.html", "triggered": [], "usage": {}},
    comparison={
        "decision": {"promote": True, "reason": "better"},
        "candidate": {"accuracy": 0.98, "macro_f1": 0.97, "log_loss": 0.1, "n": 3},
        "champion": None,
    },
    endpoint={"name": "e", "config": "r", "arn": "a"},
    smoke_test={"image": "0/x.png", "expected": "0", "answer": {"label": "0"}, "latency_ms": 12.0},
    model_package={"arn": "arn:aws:sagemaker:x", "version": 1},
)
UPSTREAM = GREEN | {"train": "failed", "update_champion": "upstream_failed", "rollback": "upstream_failed"}


def outcome(found: Findings) -> tuple[str, str]:
    report = run_report(found)
    return report["outcome"], report["reason"]


def test_promoted() -> None:
    assert outcome(PROMOTED) == ("promoted", "better")


def test_a_release_taken_back_is_no_promotion() -> None:
    """As where a person marked `update_champion` as a success while it failed or waited for its next attempt."""
    taken_back = replace(PROMOTED, states=GREEN | {"rollback": "success"})
    assert outcome(taken_back)[0] == "failed"


def test_kept_by_the_gate() -> None:
    kept = replace(PROMOTED, comparison={"decision": {"promote": False, "reason": "worse"}})
    assert outcome(replace(kept, states=GREEN | {"update_champion": "skipped"})) == ("kept", "worse")


def test_kept_by_a_person() -> None:
    approval = {"chosen_options": ["Reject"], "responded_by_user": {"id": "1", "name": "ada"}}
    rejected = replace(PROMOTED, approval=approval, states=GREEN | {"update_champion": "skipped"})
    assert outcome(rejected) == ("kept", "rejected by ada")
    unanswered = replace(rejected, approval=approval | {"responded_by_user": None})
    assert outcome(unanswered) == ("kept", "nobody approved it in time")


def test_who_approved_is_told() -> None:
    answer = {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "ada"}}
    report = run_report(replace(PROMOTED, approval=answer))
    assert (report["outcome"], report["approved_by"]) == ("promoted", "ada")
    assert "Approved by ada." in as_markdown(report)
    assert run_report(PROMOTED)["approved_by"] is None


def test_all_rules_of_the_gate_are_told() -> None:
    check = {"rule": "min_value", "value": "accuracy 0.98", "bound": "at least 0.9", "verdict": "passed", "reason": ""}
    decision = {"promote": True, "reason": "better", "gate": [check]}
    report = run_report(replace(PROMOTED, comparison={**(PROMOTED.comparison or {}), "decision": decision}))
    assert report["gate"] == [check]
    assert "| `min_value` | accuracy 0.98 | at least 0.9 | **passed** |" in as_markdown(report)


def test_skipped() -> None:
    assert outcome(replace(PROMOTED, need={"needed": False, "reason": "unchanged"})) == ("skipped", "unchanged")


def test_a_run_that_kept_tells_that_nothing_serves() -> None:
    need = {"needed": True, "reason": "new", "nothing_serves": "nothing serves: endpoint e does not exist"}
    kept = replace(PROMOTED, need=need, endpoint=None, states=GREEN | {"update_champion": "skipped"})
    assert "**Endpoint** nothing serves: endpoint e does not exist." in as_markdown(run_report(kept))
    assert run_report(replace(PROMOTED, need=need))["nothing_serves"] == ""


def test_an_endpoint_of_another_name_is_told_of() -> None:
    report = run_report(replace(PROMOTED, elsewhere=[{"endpoint": "old", "config": "r-1"}]))
    assert "Endpoint old serves r-1, a model of this recipe, and is paid" in as_markdown(report)


def test_failed_names_the_task_that_failed_first() -> None:
    failed = replace(PROMOTED, states=UPSTREAM, failures={"train": "exit code 1"})
    assert outcome(failed) == ("failed", "train: exit code 1")


def test_a_run_that_never_got_far_still_has_a_report() -> None:
    early = Findings(run_name="r", recipe="digits", states={"preflight": "failed"}, failures={"preflight": "no bucket"})
    report = run_report(early)
    assert (report["outcome"], report["tuning"], report["endpoint"], report["rules"]) == ("failed", None, None, [])
    assert "no bucket" in as_markdown(report)


def test_the_page_shows_what_people_ask_for() -> None:
    page = as_markdown(run_report(PROMOTED))
    for wanted in (
        "digits: promoted",
        "0.9800",
        "r-001 ★",
        "Overfit: IssuesFound at step 9",
        "s3://b/report.html",
        "12 ms",
    ):
        assert wanted in page


CEILING = {"instance_hours": 17.7, "usd": 2.595, "endpoint_usd_per_day": 2.76, "items": []}
BILLED = {
    "tasks": [{"task": "tune", "jobs": 4, "instance_type": "ml.m5.xlarge", "instance_seconds": 900}],
    "instance_seconds": {"ml.m5.xlarge": 900, "ml.m5.large": 90},
    "usd": 0.0604,
}


def cost(**changes: object) -> str:
    page = as_markdown(run_report(replace(PROMOTED, **changes)))  # type: ignore[arg-type]
    return next((line for line in page.splitlines() if line.startswith("**Cost**")), "")


def test_the_report_tells_what_a_run_could_cost_and_what_it_did() -> None:
    assert cost(ceiling=CEILING, billed=BILLED) == (
        "**Cost** at most 17.70 instance-hours (2.60 USD), had every job taken all its time; billed 0.28 "
        "instance-hours (0.06 USD): 900 s of ml.m5.xlarge, 90 s of ml.m5.large; the endpoint costs 2.76 USD a day."
    )
    report = run_report(replace(PROMOTED, ceiling=CEILING, billed=BILLED))
    assert (report["ceiling"], report["billed"]) == (CEILING, BILLED)


def test_without_prices_the_cost_is_told_in_instance_hours() -> None:
    unpriced = CEILING | {"usd": None, "endpoint_usd_per_day": None}
    assert cost(ceiling=unpriced, billed=BILLED | {"usd": None}) == (
        "**Cost** at most 17.70 instance-hours, had every job taken all its time; billed 0.28 instance-hours: "
        "900 s of ml.m5.xlarge, 90 s of ml.m5.large."
    )


def test_a_run_that_paid_for_nothing_has_no_bill() -> None:
    nothing = {"tasks": [], "instance_seconds": {}, "usd": 0.0}
    assert cost(ceiling=CEILING, billed=nothing, need={"needed": False, "reason": "unchanged"}) == ""
    assert cost(ceiling=CEILING, billed=None).startswith("**Cost** at most 17.70")
    assert cost() == ""


def test_the_report_tells_how_the_data_were_understood() -> None:
    dataset = {
        "fingerprint": "f",
        "counts": {"train": {"a|b": 4, "c": 5}, "test": {"a|b": 1, "c": 2}},
        "quarantined": 0,
        "animated": 2,
        "layout": {"splits": {}, "ignored": {"notes": {"files": 3, "examples": ["a.txt"]}}, "links_followed": 7},
    }
    page = as_markdown(run_report(replace(PROMOTED, dataset=dataset)))
    for wanted in (
        "| class | train | test |\n|---|---|---|\n| a\\|b | 4 | 1 |\n| c | 5 | 2 |",
        "- Ignored, notes: 3 (a.txt).",
        "- Links followed: 7.",
        "- Of 2 animated pictures the first frame counts.",
    ):
        assert wanted in page


def test_a_report_of_many_classes_stays_short() -> None:
    counts = {"test": {f"class {number:03}": 1 for number in range(300)}}
    page = as_markdown(run_report(replace(PROMOTED, dataset={"fingerprint": "f", "counts": counts, "quarantined": 0})))
    assert "| 240 more classes | … |" in page


def test_a_class_name_cannot_break_a_table() -> None:
    pairs = [{"class": "a|b", "taken_for": "c", "candidate": 2, "champion": None}]
    page = as_markdown(run_report(replace(PROMOTED, comparison={**PROMOTED.comparison, "confused_pairs": pairs})))  # type: ignore[dict-item]
    assert "| a\\|b | c | 2 |  |" in page


def test_the_report_tells_what_the_search_began_from() -> None:
    assert "**Tuning** `r`, begun from nothing." in as_markdown(run_report(PROMOTED))
    warm = {"name": "r", "best": "r-001", "warm_start": {"type": "TransferLearning", "parents": ["p", "q"]}}
    text = as_markdown(run_report(replace(PROMOTED, tuning=warm)))
    assert "**Tuning** `r`, begun from `p`, `q` (TransferLearning)." in text


def test_the_report_tells_who_watched_and_what_was_ignored() -> None:
    rule = {"rule": "Overfit", "status": "IssuesFound", "details": "at step 9\n", "policy": "ignore"}
    watched = {"mode": "self_hosted", "reason": "SageMaker refused Debugger to this training"}
    report = run_report(replace(PROMOTED, debugger=watched, rules=[rule]))
    assert (report["debugger"], report["rules"][0]["policy"]) == (watched, "ignore")
    text = as_markdown(report)
    assert "**Debugger** `self_hosted`: SageMaker refused Debugger to this training" in text
    assert "- Overfit: IssuesFound (ignored) at step 9" in text


def test_a_promotion_without_comparison_says_so() -> None:
    need = {"needed": True, "reason": "there is no champion yet", "uncompared": ["endpoint shop is InService on mine"]}
    report = run_report(replace(PROMOTED, need=need))
    assert report["uncompared"] == need["uncompared"]
    assert "**Compared with nothing**, as this run was told to" in as_markdown(report)
    assert "- endpoint shop is InService on mine" in as_markdown(report)
    assert "Compared with nothing" not in as_markdown(run_report(PROMOTED))


def test_a_watched_update_tells_its_answers() -> None:
    canary = {"requests": 31, "answered": {"image/png": 2, "application/json": 1}, "wrong": None}
    canary["unanswered"] = {"image/png": 0, "application/json": 1}
    report = run_report(replace(PROMOTED, canary=canary))
    assert report["canary"] == canary
    assert "golden images rightly: 2 as image/png, 1 as application/json (31 requests sent)." in as_markdown(report)
    assert "By 1 as application/json it was not reached" in as_markdown(report)


def test_a_bake_that_was_missed_is_told() -> None:
    text = as_markdown(run_report(replace(PROMOTED, canary=MISSED)))
    assert "**Canary** The update ended before golden images could be asked" in text


def test_a_canary_that_was_wrong_is_told() -> None:
    wrong = "The endpoint answers 'b' for a/1.png, sent as application/json."
    canary = {"requests": 4, "answered": {"image/png": 2, "application/json": 0}, "others_failed": 0, "wrong": wrong}
    canary["unanswered"] = {"image/png": 0, "application/json": 1}
    text = as_markdown(run_report(replace(PROMOTED, endpoint=None, smoke_test=None, canary=canary)))
    assert f"rightly: 2 as image/png (4 requests sent). {wrong}" in text
    assert "the smoke test was the first" not in text


def test_a_search_that_was_stopped_tells_how_far_it_came() -> None:
    stopped = {"name": "r", "best": "r-001", "stopped": "after 3 of 8 trials"}
    text = as_markdown(run_report(replace(PROMOTED, tuning=stopped)))
    assert "begun from nothing, stopped after 3 of 8 trials." in text


def test_a_release_taken_back_tells_what_serves() -> None:
    states = PROMOTED.states | {"smoke_test": "failed", "rollback": "success"}
    back = replace(PROMOTED, states=states, serves={"name": "shop", "config": "before"})
    text = as_markdown(run_report(back))
    assert "The endpoint shop serves before, not this run's model." in text
    assert f"serves `{PROMOTED.endpoint['config'] if PROMOTED.endpoint else ''}`" not in text
    untold = replace(back, serves={"name": "shop", "config": "before", "registry": "It was not told."})
    assert "not this run's model. It was not told." in as_markdown(run_report(untold))
    gone = replace(back, serves={"name": "shop", "config": None})
    assert "There is no endpoint shop: none served before this run." in as_markdown(run_report(gone))
