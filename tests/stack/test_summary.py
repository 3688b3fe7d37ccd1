import copy

from stack.progress import Task
from stack.summary import summary, table

REPORT = {
    "run_name": "digits-261121-030000-a1b2c",
    "recipe": "digits",
    "outcome": "promoted",
    "reason": "accuracy 0.9852 is at least the champion's 0.9815",
    "dataset": {
        "fingerprint": "5f0c1d2e3a4b5c6d7e8f",
        "counts": {"train": {"0": 125, "1": 126}, "validation": {"0": 27, "1": 27}, "test": {"0": 26, "1": 29}},
        "quarantined": 1,
    },
    "tuning": {
        "job": "digits-261121-030000-a1b2c",
        "best": "trial-002",
        "trials": [
            {"name": "trial-001", "status": "Completed", "objective": 0.95, "hyperparameters": {"lr": "0.0091234567"}},
            {"name": "trial-002", "status": "Completed", "objective": 0.981, "hyperparameters": {"lr": "0.001"}},
            {"name": "trial-003", "status": "Failed", "objective": None, "hyperparameters": {"batch-size": "64"}},
        ],
    },
    "training": {"job": "digits-261121-030000-a1b2c-train", "metrics": {"validation:accuracy": 0.981}},
    "rules": [{"rule": "LossNotDecreasing", "status": "NoIssuesFound", "details": ""}],
    "profiler_report": None,
    "candidate": {"accuracy": 0.9852, "macro_f1": 0.9849, "log_loss": 0.05, "n": 270},
    "champion": {"accuracy": 0.9815, "macro_f1": 0.9811, "log_loss": 0.06, "n": 270},
    "endpoint": {"name": "retraining-digits", "config": "digits-261121-030000-a1b2c"},
    "smoke_test": {
        "image": "3/1f2e.png",
        "expected": "3",
        "answer": {"label": "3", "score": 0.998},
        "latency_ms": 12.4,
    },
    "model_package_arn": "arn:aws:sagemaker:us-east-1:000000000000:model-package/retraining-digits/2",
}
TASKS = [
    Task(name="tune", state="success", seconds=61.25, try_number=1),
    Task(name="approve", state="skipped", seconds=None, try_number=0),
]


def test_the_verdict_comes_first_with_its_reason() -> None:
    lines = summary(REPORT, TASKS, 200).splitlines()
    assert lines[0] == "PROMOTED: the new model serves"
    assert lines[1].strip() == REPORT["reason"]


def test_both_models_are_told_with_the_number_of_test_images() -> None:
    text = summary(REPORT, TASKS, 200)
    assert "test accuracy 0.9852, macro F1 0.9849, log loss 0.0500 on 270 images it was not trained on" in text
    assert "test accuracy 0.9815" in text


def test_trials_stand_best_first_and_the_winner_is_marked() -> None:
    lines = summary(REPORT, TASKS, 200).splitlines()
    start = lines.index("Tuning  3 trials, best first")
    assert lines[start + 1].split() == ["trial", "objective", "batch-size", "lr", "status"]
    assert lines[start + 2].split() == ["*", "trial-002", "0.9810", "-", "0.001", "Completed"]
    assert lines[start + 3].split() == ["trial-001", "0.9500", "-", "0.009123", "Completed"]
    assert lines[start + 4].split() == ["trial-003", "-", "64", "-", "Failed"]


def test_the_endpoints_answer_is_told() -> None:
    assert "3/1f2e.png (a 3) → 3 with 99.8% in 12 ms" in summary(REPORT, TASKS, 200)


def test_quarantined_files_are_mentioned() -> None:
    text = summary(REPORT, TASKS, 200)
    assert "251 train, 54 validation, 55 test images of 2 classes" in text
    assert "1 file could not be used" in text


def test_wall_time_leaves_out_what_never_ran() -> None:
    text = summary(REPORT, TASKS, 200)
    assert "Wall time  200 s in all\n  tune  61.2 s  success" in text
    assert "approve" not in text


def test_a_skipped_run_needs_no_more_than_its_reason() -> None:
    report = {"outcome": "skipped", "reason": "data, code and recipe are the champion's", "recipe": "digits"}
    assert summary(report, [], 9) == (
        "SKIPPED: nothing to retrain\n  data, code and recipe are the champion's\n\nWall time  9 s in all"
    )


def test_a_report_full_of_nulls_is_still_told() -> None:
    report = dict.fromkeys(copy.deepcopy(REPORT)) | {"outcome": "failed", "reason": "sync_dataset: no images"}
    assert summary(report, [], 9).startswith("FAILED\n  sync_dataset: no images")


def test_columns_line_up() -> None:
    assert table([["a", "1 s"], ["bcd", "10 s"]], right=(1,)) == ["  a     1 s", "  bcd  10 s"]
