"""Documents of runs as real ones leave them, for every outcome."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import sklearn.datasets
from PIL import Image

from retraining.dataset.pictures.small import Thumbnails, small
from retraining.epochs import epochs
from retraining.page.airflow_runs import RunRecord, TaskRecord
from retraining.page.documents import Documents
from retraining.promotion.album import album
from retraining.promotion.decision import decide
from retraining.promotion.differences import changed_classes, confused_pairs
from retraining.promotion.scores import evaluate
from retraining.recipe.promotion import Promotion
from retraining.report import Findings, run_report

ADVICE = {"means": "Loss is over `limit` <b>.", "advice": "Stop earlier (`patience`)."}


def doubted(picture: Thumbnails) -> dict[str, Any]:
    """labels.json of a run that doubts three labels."""
    line = {"split": "train", "label": "4", "likely": "9", "gap": 0.97}
    names = {"4/1.png": "four/a.png", "4/2.png": "<script>alert(3)</script>.png", "4/3.png": ""}
    return {
        "count": 5,
        "judged": 1_524,
        "unjudged": ["<b>rare</b>"],
        "sheet": "s3://bucket/digits/data/versions/f1/labels.csv",
        "decisions": "s3://bucket/digits/data/labels.csv",
        "suspects": [line | {"image": image, "file": file, "picture": picture(image)} for image, file in names.items()],
    }


TRAINED = epochs(
    [
        *(
            f"epoch={n}/8 train:loss={2 / n:.4f} train:accuracy={1 - 0.4 / n:.4f} validation:loss={1.8 / n:.4f} "
            f"validation:accuracy={1 - 0.3 / n:.4f} validation:macro_f1={1 - 0.32 / n:.4f} images_per_second=151.2"
            for n in range(1, 9)
        ),
        "best epoch=7/8 validation:accuracy=0.9571",
    ]
)
WARM = {"type": "IdenticalDataAndAlgorithm", "parents": ["digits-before"]}
PROFILED = {
    "html": "s3://bucket/digits/runs/x/profiler-report.html",
    "triggered": ["Dataloader"],
    "usage": {
        "CPU": {"max": 100.0, "p99": 99.0, "p95": 96.1, "p50": 71.4, "min": 3.0},
        "CPU memory": {"max": 42.0, "p99": 41.0, "p95": 40.2, "p50": 31.0, "min": 12.0},
        "Network": {"max": 90210.0, "p99": 80000.0, "p95": 70000.0, "p50": 100.0, "min": 0.0},
    },
    "waiting_percent": 31.5,
    "time": {
        "steps": {"Step:ModeKeys.TRAIN": 71.2, "others": 18.8, "Step:ModeKeys.EVAL": 10.0},
        "phases": {"Backward(post-forward)": 34.0, "DataLoaderIter": 31.5, "Forward": 22.0, "<b>mine</b>": 12.5},
    },
    "advice": [{"rule": "Dataloader", "means": "Steps wait for their data.", "advice": "Keep decoded images (`x`)."}],
}


def trial(job: str, number: int, objective: float | None) -> dict[str, Any]:
    at = number + 0.6 * (job == "digits-before")
    values = {"lr": f"{10 ** -(1 + at * 0.9):.5f}", "batch_size": str(round(16 * 2**at)), "optimizer": "ab"[number % 2]}
    status = "Completed" if objective is not None else "Failed"
    return {"name": f"{job}-00{number}", "status": status, "objective": objective, "hyperparameters": values}


BEGAN = datetime(2026, 11, 30, 3, tzinfo=UTC)
TASKS = ("preflight", "sync_dataset", "tune", "train", "compare", "deploy", "smoke_test", "update_champion")


def evaluated(classes: list[str], wrong: int, each: int = 30) -> Any:
    """A model that takes each `wrong`-th image for the next class."""
    expected = {f"{label}/{number:03}.png": label for label in classes for number in range(each)}
    answers = {}
    for position, (name, label) in enumerate(expected.items()):
        right = classes.index(label)
        given = right if (position + 1) % wrong else (right + 1) % len(classes)
        # A few are hardly sure, most are very; mistakes are made with any certainty.
        part = (position * 37 % 100) / 100
        sure = 0.35 + 0.6 * part if given != right else 0.999 - 0.6 * (1 - part) ** 4
        answers[name] = [sure if place == given else (1 - sure) / (len(classes) - 1) for place in range(len(classes))]
    return evaluate(classes, expected, answers, "f1")


def digit(name: str, most: int) -> bytes:
    """One of scikit-learn's handwritten digits, as sync stores it."""
    digits = sklearn.datasets.load_digits()
    label, _, number = name.removesuffix(".png").rpartition("/")
    of_it = digits.images[digits.target == int(label)] if label in set("0123456789") else digits.images
    pixels = of_it[int(number)]
    body = io.BytesIO()
    Image.fromarray((pixels * 15.9).astype("uint8")).resize((32, 32)).save(body, "PNG")
    return body.getvalue()


def seen(name: str) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(small(digit(name, 0))).decode()}"


def bad(name: str, label: str, code: str, detail: str, picture: str | None = None) -> dict[str, Any]:
    return {"name": name, "class": label, "code": code, "detail": detail, "sha256": "0" * 64, "picture": picture}


TWICE = "nearly the same picture is in several classes: 3/scan 17.png, 8/scan 17 (1).png"
KEPT_OUT = {
    "codes": {"NEAR_LABEL_CONFLICT": 2, "NOT_IMAGE": 1, "TRUNCATED": 52},
    "files": [
        bad("3/scan 17.png", "3", "NEAR_LABEL_CONFLICT", TWICE, seen("3/7.png")),
        bad("8/scan 17 (1).png", "8", "NEAR_LABEL_CONFLICT", TWICE, seen("3/7.png")),
        bad(f"{'x' * 180}.jpg", "<b>0</b>" * 12, "NOT_IMAGE", "it begins with b'<html>404</h'"),
        bad("<img src=x onerror=alert(2)>.png", "0", "TRUNCATED", "ends early", "javascript:alert(5)"),
        bad("0/half.png", "0", "TRUNCATED", "812 bytes of the pixels are missing", seen("0/3.png")),
    ],
}


SERIES = {
    "Overfit": {
        "tensor": "CrossEntropyLoss_output_0", "what": "validation loss above training loss, as a share",
        "steps": [*range(9, 90, 10)], "values": [-0.02, 0.01, 0.03, 0.02, 0.06, 0.08, 0.11, 0.14, 0.19],
        "threshold": 0.1, "step": 89,
    },
    "VanishingGradient": {
        "tensor": "<b>gradient</b>/ResNet_conv1.weight", "what": "mean absolute gradient",
        "steps": [*range(12)], "values": [0.03 * 10 ** (-step * 0.6) for step in range(12)], "threshold": 1e-7,
        "step": 11,
    },
    "ExplodingTensor": None,
}  # fmt: skip


def issue(rule: str) -> dict[str, Any]:
    return {"rule": rule, "status": "IssuesFound", "details": "at step 9\nstop earlier", "policy": "warn"}


def documents(
    classes: list[str], *, wrong: int = 40, each: int = 30, state: str = "success", failed: str = "", **changes: Any
) -> Documents:
    """One run against a champion that takes each 30th image for another."""
    candidate, champion = evaluated(classes, wrong, each), evaluated(classes, 30, each)
    decision = decide(candidate, champion, Promotion(min_value=0.5))
    comparison = {
        "decision": decision.as_dict(),
        "changed_classes": changed_classes(candidate, champion),
        "confused_pairs": confused_pairs(candidate, champion),
        "candidate": candidate.summary(),
        "champion": champion.summary(),
    }
    states = dict.fromkeys(TASKS, "success") | ({failed: "failed"} if failed else {})
    found = {
        "run_name": "digits-261130-030000-a1b2c",
        "recipe": "digits",
        "states": states,
        "failures": {failed: "exit code 1: <script>alert(1)</script>"} if failed else {},
        "dataset": {"fingerprint": "f" * 16, "counts": {"train": dict.fromkeys(classes, 90)}, "quarantined": 55},
        "tuning": {"name": "digits", "best": "digits-002", "warm_start": WARM},
        "training": {"name": "digits-train", "metrics": {}},
        "trials": [trial("digits", n, 0.9 + n / 100) for n in range(3)] + [trial("digits", 3, None)],
        "inherited": [trial("digits-before", n, 0.85 + n / 60) for n in range(4)],
        "rules": [issue("Overfit") | ADVICE, *map(issue, ("ExplodingTensor", "VanishingGradient", "Custom"))],
        "profiler": PROFILED,
        "comparison": comparison,
        "endpoint": {"name": "retraining-digits", "config": "digits-261130-030000-a1b2c"},
        "smoke_test": {"image": "0/x.png", "answer": {"label": classes[0]}, "latency_ms": 21.3},
        "ceiling": {"instance_hours": 2.0, "usd": 6.1, "endpoint_usd_per_day": 2.76, "items": []},
        "billed": {"tasks": [], "instance_seconds": {}, "usd": 0.42},
    }  # fmt: skip
    report = run_report(Findings(**(found | changes)))  # type: ignore[arg-type]
    tasks = [
        TaskRecord(task_id=task, state=states[task], start=BEGAN, end=BEGAN + timedelta(seconds=40 + 60 * place))
        for place, task in enumerate(TASKS)
    ]
    record = RunRecord(
        dag_id="retrain_digits",
        run_id="scheduled__2026-11-30T03:00:00+00:00",
        run_after=BEGAN,
        state=state,
        start=BEGAN,
        end=None if state == "running" else BEGAN + timedelta(minutes=31),
        tasks=tuple(tasks),
    )
    if state == "running":
        report |= {"outcome": "running", "reason": "train"}
    compared = {"candidate": candidate.as_dict(), "champion": champion.as_dict()}
    evaluation = compared if report["candidate"] else None
    facts = {"preflight": {"code": "c0de", "recipe": "r3c1pe", "images": {"training": "image:1"}}}
    return Documents(
        record=record,
        report=report,
        evaluation=evaluation,
        kept_out=KEPT_OUT,
        strips={"classes": [{"label": one, "count": 180, "shown": 12, "strip": "0" * 20} for one in classes]},
        album=album(candidate, champion, Thumbnails(digit)) if evaluation else None,
        labels=doubted(Thumbnails(digit)) if evaluation else None,
        training=TRAINED if "train" in states and report["training"] else None,
        series=SERIES,
        facts=facts,
    )
