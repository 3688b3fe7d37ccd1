"""The candidate in the champion's shadow, before it has any traffic."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from retraining.dataset.pictures.pool import verify_files
from retraining.dataset.pictures.verdict import VerifiedImage
from retraining.dataset.source_error import SourceError
from retraining.promotion.transform_outputs import read_answers
from retraining.recipe.deployment import MIN_SHADOW
from retraining.release.captured import Captured
from retraining.release.shadow import Shadow, ShadowRefused, labels
from retraining.run import Run
from retraining.s3.documents import write_document

log = logging.getLogger(__name__)

TOGETHER = 200
"""Images that are held at once."""
JOBS = {
    "captured": {"candidate": "shadow_candidate", "champion": "shadow_champion"},
    "test": {"candidate": "score_candidate", "champion": "score_champion"},
}
"""The tasks whose jobs answer."""


def shadow_requests(run: Run) -> bool:
    """What both models are going to be asked, decided once in a run. False where the recipe asks for no shadow."""
    rule = run.recipe.deployment.shadow
    if rule is None or run.comparable_champion is None:
        log.info("%s", "There is no champion to compare with." if rule else "The recipe asks for no shadow.")
        return False
    plan, bucket = run.plan, run.environment.bucket
    if run.find_json(plan.shadow_choice_key) is None:
        # Last of all, and never written over: an attempt that comes after this one asks the same.
        write_document(run.s3, bucket, plan.shadow_choice_key, _choose(run, rule.requests), etag=None)
    chosen = run.read_json(plan.shadow_choice_key)
    log.info("%d %s images, of %d wanted.", len(chosen["images"]), chosen["source"], rule.requests)
    run.push("chosen", {key: chosen[key] for key in ("source", "captured", "left_out")})
    return True


def shadow(run: Run) -> dict[str, Any]:
    """How alike both answer; ShadowRefused where it is less than the recipe asks for."""
    source, images = run.fact("shadow_requests", key="chosen")["source"], run.read_json(run.plan.shadow_choice_key)
    champion = run.comparable_champion
    rule = run.recipe.deployment.shadow
    assert champion is not None and rule is not None  # shadow_requests has left nothing otherwise
    classes = {"candidate": run.fact("sync_dataset")["classes"], "champion": champion["classes"]}
    jobs = {who: run.fact(task) for who, task in JOBS[source].items()}
    answered = {
        who: labels(read_answers(run.s3, job["output_uri"], images["images"]), classes[who], images["images"])
        for who, job in jobs.items()
    }
    seconds = {who: _seconds(run, job["name"]) for who, job in jobs.items()}
    found = Shadow(source=source, min_agreement=rule.min_agreement, seconds=seconds, **answered)
    run.write_json(run.plan.shadow_key, found.as_dict())
    run.push("found", found.summary())
    log.info("%s", found.said)
    if not found.accepted:
        raise ShadowRefused(
            f"{found.said} The candidate is neither registered nor deployed, the champion serves on; "
            f"{run.plan.uri(run.plan.shadow_key)} names the images. If that is how it is meant to answer, lower "
            "deployment.shadow.min_agreement and trigger a new run."
        )
    return {"agreement": found.agreement}


def _choose(run: Run, most: int) -> dict[str, Any]:
    captured, left_out = _stage_captured(run, most) if run.recipe.capture.keeps_images else ([], 0)
    told = {"captured": len(captured), "left_out": left_out}
    if len(captured) >= MIN_SHADOW:
        run.write_json(run.plan.shadow_manifest_key, [{"prefix": run.plan.uri(run.plan.shadow_images_key)}, *captured])
        return {"source": "captured", "images": captured} | told
    _, *entries = run.read_json(run.plan.manifest_key(run.fingerprint, "test"))
    # Files are named by their content: some of each class, and the same ones in each attempt.
    mixed = sorted(entries, key=lambda entry: entry.rsplit("/", 1)[-1])
    return {"source": "test", "images": mixed[:most]} | told


def _stage_captured(run: Run, most: int) -> tuple[list[str], int]:
    """The newest images that clients sent, each an object of its own, as a batch transform job takes them.

    Without those that no model could answer: one broken picture would fail the whole job.
    """
    bucket, plan = run.environment.bucket, run.plan
    captured = Captured(s3=run.s3, bucket=bucket, prefix=f"{plan.captured_key}/{plan.endpoint}/AllTraffic/")
    names, broken, sent = list[str](), 0, captured.images()
    while len(names) < most and (some := list(islice(sent, min(TOGETHER, most - len(names))))):
        good = list(_whole(some))
        broken += len(some) - len(good)
        for name, body in good:
            run.s3.put_object(Bucket=bucket, Key=f"{plan.shadow_images_key}{name}", Body=body)
            names.append(name)
    return names, captured.left_out + broken


def _whole(images: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Those that decode to the last pixel, found out where a decoder can do no harm."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name, _ in images]
        for path, (_, body) in zip(paths, images, strict=True):
            path.write_bytes(body)
        try:
            judged = verify_files(paths, Path(folder))
        except SourceError as error:  # clients who send what ends decoders shall not end the run
            log.warning("%d images of clients are left out: %s", len(images), error)
            return
        for image, (verdict, _) in zip(images, judged, strict=True):
            if isinstance(verdict, VerifiedImage):
                yield image


def _seconds(run: Run, job_name: str) -> float | None:
    job = run.sagemaker.describe_transform_job(TransformJobName=job_name)
    if not (job.get("TransformStartTime") and job.get("TransformEndTime")):
        return None
    return round(float((job["TransformEndTime"] - job["TransformStartTime"]).total_seconds()), 1)
