"""A sync whose images a Processing job verifies makes the version that a worker makes, and survives what jobs die of.

SPREAD=5000 for as many files as that; some dozens in every run of the tests.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from PIL import Image

from retraining.dataset.garbage import Collector
from retraining.dataset.processing.verdicts import VerdictsError
from retraining.dataset.sources.memory import memory_key
from retraining.dataset.versions import version as versions
from retraining.dataset.versions.likeness import thumbs_key
from retraining.dataset.versions.strips import SHOWN
from retraining.dataset.versions.version import DatasetError
from retraining.identity import NameTaken
from retraining.requests import verification
from retraining.steps import sync_dataset
from tests.plugins.planted import FAULTS
from tests.plugins.planted import picture as noise
from tests.plugins.spread import Spread, by_job, facts, look, verify, verifying
from tests.plugins.task_run import ROLE, context, finish
from tests.plugins.test_memory import requests
from tests.plugins.test_sync import picture
from tests.waiting import wait_until

SPREAD = int(os.environ.get("SPREAD", "60"))
PROCESSING = {"where": "processing", "instances": 2}


@pytest.fixture
def spread(s3: Any, sagemaker: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Spread:
    """With a job of two machines for any number of files."""
    for name, value in (("ENVIRONMENT", "local"), ("BUCKET", bucket), ("ROLE_ARN", ROLE)):
        monkeypatch.setenv(f"RETRAINING_{name}", value)
    monkeypatch.setattr(verification, "FILES_EACH", 1)
    return Spread(s3=s3, bucket=bucket)


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **how)
    return body.getvalue()


def plain(count: int) -> dict[str, bytes]:
    return {f"{('cat', 'dog')[shade % 2]}/{shade}.png": picture(shade) for shade in range(count)}


def odd() -> dict[str, bytes]:
    """Good pictures of every kind, copies, near copies, and two labels for one."""
    chance = random.Random(5)
    first, second = noise(chance, (90, 80)), noise(chance, (64, 64))
    grey = Image.frombytes("I;16", (40, 40), chance.randbytes(3200))
    return {
        "cat/wéb + %20.webp": saved(noise(chance), "WEBP", lossless=True),
        "cat/film.gif": saved(noise(chance), "GIF", save_all=True, append_images=[noise(chance)]),
        "dog/bitmap": saved(noise(chance), "BMP"),
        "dog/scan.tif": saved(noise(chance), "TIFF", compression="tiff_lzw"),
        "dog/x-ray.tif": saved(grey, "TIFF"),
        "dog/x-ray.png": saved(grey, "PNG"),
        "dog/ink.jpg": saved(noise(chance, mode="CMYK"), "JPEG"),
        "dog/glass.png": saved(noise(chance, mode="RGBA"), "PNG"),
        "dog/colours.png": saved(noise(chance, mode="P"), "PNG"),
        f"cat/{'long' * 50}.jpg": saved(first, "JPEG", quality=95),
        "cat/again.jpg": saved(first, "JPEG", quality=60),
        "cat/copy.bmp": (copied := saved(noise(chance), "BMP")),
        "cat/deep/er/copy of it.bmp": copied,
        "cat/both.png": (both := saved(second, "PNG")),
        "dog/both.png": both,
    }


def planted() -> dict[str, bytes]:
    chance = random.Random(3)
    return {f"{chance.choice(('cat', 'dog'))}/{what}.jpg": make(chance) for what, make, _ in FAULTS}


def test_a_job_makes_the_version_that_a_worker_makes(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "QUARANTINE_SHARE", 1.0)  # to see all of them in one document
    monkeypatch.setattr(versions, "QUARANTINE_CLASS_SHARE", 1.0)
    spread.put(plain(SPREAD) | odd() | planted())
    worker = sync_dataset(spread.run("worker"))
    run = spread.run("spread", **PROCESSING)
    found = by_job(run)
    assert {**found, "uploaded": 0} == {**worker, "uploaded": 0}
    documents = spread.documents("spread")
    assert documents == spread.documents("worker")
    (kept_out,) = (json.loads(body) for key, body in documents.items() if key.endswith("kept-out.json"))
    assert sum(bool(file["picture"]) for file in kept_out["files"]) > 10  # of files that only the job has read
    assert spread.objects("spread") == spread.objects("worker")
    divided = facts(run)["list_images.return_value"]
    # All but what is refused by its size, or has none.
    assert (divided["files"], divided["in_job"]) == (found["read"], found["read"] - 1)
    job = run.sagemaker.describe_processing_job(ProcessingJobName=run.plan.verification_job)
    assert job["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 2
    told = [key.rpartition("/")[2] for key in spread.keys(f"{run.plan.found_key(divided['digest'])}/")]
    assert {name[:6] for name in told if name.endswith(".jsonl")} == {"algo-1", "algo-2"}


def test_many_corrupt_files_stop_it_before_any_upload(spread: Spread) -> None:
    spread.put(plain(40) | {f"cat/bad{number}.png": b"not an image" for number in range(4)})
    with pytest.raises(DatasetError, match=r"4 of 44 files of the source .*NOT_IMAGE 4"):
        by_job(spread.run("spread", **PROCESSING))
    assert spread.objects("spread") == {}


def test_only_what_is_new_goes_into_a_job(spread: Spread) -> None:
    spread.put(plain(40))
    by_job(spread.run("spread", **PROCESSING))
    spread.put({"cat/new.png": picture(900)})
    second = spread.run("spread", 2, **PROCESSING)
    assert look(second)["in_job"] == 1
    verify(second)
    with requests(second.s3) as asked:
        found = sync_dataset(second)
    assert (found["read"], asked["CopyObject"], found["uploaded"]) == (1, 1, 1 + 5)
    third = spread.run("spread", 3, **PROCESSING)
    assert by_job(third) | {"read": 1, "uploaded": 6} == found
    assert facts(third)["list_images.return_value"]["job"] is False
    jobs = third.sagemaker.list_processing_jobs(NameContains=third.plan.verification_job)
    assert jobs["ProcessingJobSummaries"] == []


@pytest.mark.parametrize(("threshold", "job"), [(40, True), (41, False)])
def test_auto_asks_how_much_is_new(spread: Spread, threshold: int, job: bool) -> None:
    spread.put(plain(40))
    run = spread.run("spread", where="auto", job_from=threshold)
    assert look(run)["job"] is job


def test_what_changed_meanwhile_is_read_by_the_worker(spread: Spread) -> None:
    spread.put(plain(40))
    look(run := spread.run("spread", **PROCESSING))
    verify(run)
    spread.put({"cat/0.png": picture(901), "cat/late.png": picture(902), "dog/1.png": picture(903)})
    spread.s3.delete_object(Bucket=spread.bucket, Key="in/dog/3.png")
    found = sync_dataset(run)
    sync_dataset(spread.run("worker"))
    assert found["fingerprint"] == sync_dataset(spread.run("worker"))["fingerprint"]
    assert spread.documents("spread") == spread.documents("worker")
    assert spread.objects("spread") == spread.objects("worker")


@pytest.mark.parametrize("lost", ["images", "thumbs"])
def test_what_the_bucket_lost_is_found_again_by_a_job(spread: Spread, lost: str) -> None:
    spread.put(plain(40) | odd())
    first = by_job(spread.run("spread", **PROCESSING))
    before = spread.objects("spread")
    if lost == "thumbs":
        spread.put({"cat/new.png": picture(900)})
    for key in (
        before if lost == "images" else [thumbs_key(memory_key("spread", spread.source)).removeprefix("spread/")]
    ):
        spread.s3.delete_object(Bucket=spread.bucket, Key=f"spread/{key}")
    second = spread.run("spread", 2, **PROCESSING)
    assert look(second)["in_job"] == first["read"] + (lost == "thumbs")
    verify(second)
    with requests(second.s3) as asked:
        sync_dataset(second)
    assert before.items() <= spread.objects("spread").items()
    shown = SHOWN if lost == "thumbs" else 0  # cats in their strip, to which one came
    assert asked["GetObject"] < 20 + shown  # no other image
    assert look(spread.run("spread", 3, **PROCESSING))["files"] == 0


def test_what_a_job_left_goes_with_the_garbage(spread: Spread) -> None:
    spread.put(plain(40) | odd())
    run = spread.run("spread", **PROCESSING)
    by_job(run)
    collector = Collector(s3=run.s3, sagemaker=run.sagemaker, plan=run.plan)
    assert not list(collector.find(datetime.now(UTC)).keys)
    garbage = collector.find(datetime.now(UTC) + timedelta(days=8))
    assert set(garbage.keys) == set(spread.keys("spread/data/verified/")) != set()
    collector.delete(garbage)
    assert sync_dataset(spread.run("spread", 2))["uploaded"] == 0


# --- what jobs die of -----------------------------------------------------------------------------------------------


def at_work(run: Any) -> list[psutil.Process]:
    """The containers' programs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            own = any(run.plan.verification_job in value for value in process.environ().values())
            if own and "retraining.dataset.processing.part" in process.cmdline():
                found.append(process)
    return found


@pytest.mark.parametrize("victim", ["container", "decoder"])
def test_after_a_kill_the_next_run_makes_the_same_version(spread: Spread, victim: str) -> None:
    spread.put(plain(max(SPREAD, 300)))
    run = spread.run("spread", **PROCESSING)
    look(run)
    operator = verifying(run)
    with pytest.raises(TaskDeferred):
        operator.execute(context())
    (program, *_) = wait_until(lambda: [each for each in at_work(run) if each.children()])
    if victim == "decoder":  # which is started again, and nothing is lost
        program.children()[0].kill()
        verify(run)
    else:
        program.kill()
        with pytest.raises(AirflowFailException, match="exit code 137"):
            finish(verifying(run), context())
        assert spread.made("spread") == []
        run = spread.run("spread", 2, **PROCESSING)
        look(run)
        verify(run)
    found = sync_dataset(run)
    assert found["fingerprint"] == sync_dataset(spread.run("worker"))["fingerprint"]
    assert spread.documents("spread") == spread.documents("worker")
    assert spread.objects("spread") == spread.objects("worker")


def test_a_second_attempt_adopts_the_job(spread: Spread) -> None:
    spread.put(plain(40))
    run = spread.run("spread", **PROCESSING)
    look(run)
    with pytest.raises(TaskDeferred):
        verifying(run).execute(context())
    with requests(run.s3):
        verify(run)
        verify(run)
    assert (
        len(run.sagemaker.list_processing_jobs(NameContains=run.plan.verification_job)["ProcessingJobSummaries"]) == 1
    )


def test_a_job_on_other_files_is_not_adopted(spread: Spread) -> None:
    spread.put(plain(40))
    run = spread.run("spread", **PROCESSING)
    look(run)
    verify(run)
    spread.put({"cat/new.png": picture(900)})
    look(run)
    with pytest.raises(NameTaken, match="trigger a new run"):
        verify(run)


def test_a_stopped_job_makes_no_version(spread: Spread) -> None:
    spread.put(plain(300))
    run = spread.run("spread", **PROCESSING)
    look(run)
    operator = verifying(run)
    with pytest.raises(TaskDeferred):
        operator.execute(context())
    run.sagemaker.stop_processing_job(ProcessingJobName=run.plan.verification_job)
    with pytest.raises(AirflowFailException, match="Stopped"):
        finish(verifying(run), context())
    assert spread.made("spread") == []


def test_a_container_with_another_pillow_is_refused(spread: Spread) -> None:
    spread.put(plain(40))
    run = spread.run("spread", **PROCESSING)
    divided = look(run)
    facts(run)["list_images.return_value"] = divided | {"rules": "other", "pillow": "1.0"}
    with pytest.raises(AirflowFailException, match=r"the Airflow worker 1\.0: they may judge pictures differently"):
        verify(run)


def corrupt(spread: Spread, run: Any, change: Callable[[bytes], bytes]) -> None:
    """The first file of verdicts, changed."""
    divided = facts(run)["list_images.return_value"]
    key = min(key for key in spread.keys(f"{run.plan.found_key(divided['digest'])}/") if key.endswith(".jsonl"))
    body = spread.s3.get_object(Bucket=spread.bucket, Key=key)["Body"].read()
    spread.s3.put_object(Bucket=spread.bucket, Key=key, Body=change(body))


@pytest.mark.parametrize(
    "change",
    [lambda body: body[:-300], lambda body: b"", lambda body: body.replace(b"png", b"exe", 1)],
    ids=["cut", "empty", "changed"],
)
def test_verdicts_that_were_cut_or_changed_are_refused(spread: Spread, change: Callable[[bytes], bytes]) -> None:
    spread.put(plain(40))
    run = spread.run("spread", **PROCESSING)
    look(run)
    verify(run)
    corrupt(spread, run, change)
    with pytest.raises(VerdictsError, match=r"jsonl cannot be believed: .*cut, or changed.*Trigger a new run"):
        sync_dataset(run)
    assert spread.made("spread") == []
