"""What is new of a source, written down for a job: before it, the worker looks at names alone."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from retraining.archive_names import is_prefix
from retraining.dataset.pictures.rules import rules
from retraining.dataset.processing.code import code
from retraining.dataset.processing.work import Work
from retraining.dataset.sources.archived import require_restored
from retraining.dataset.sources.bucket import ObjectSource
from retraining.dataset.sources.memory import Forgotten, Memory, memory_key, recall, remember
from retraining.dataset.sources.source import SourceFile, SourceFiles, open_source
from retraining.dataset.versions.likeness import thumbs_key
from retraining.dataset.versions.store import Store
from retraining.plan import Plan
from retraining.web_address import without_secrets

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Division:
    """Of one run; small, for it goes through XCom."""

    job: bool
    """Whether a job is to verify the files; else the worker does."""
    files: int = 0
    """Files that are new."""
    in_job: int = 0
    size_bytes: int = 0
    """Of those in the job."""
    digest: str = ""
    """Of the work, the code and the rules."""
    code_digest: str = ""
    rules: str = ""
    pillow: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def divide(plan: Plan, s3: Any) -> Division:
    """Writes the work and its code into the bucket, where there is any. Raises SourceError, as a sync does."""
    source, sync = plan.recipe.source, plan.recipe.sync
    if not is_prefix(source):
        log.info("%s is no S3 prefix: the worker verifies it.", without_secrets(source))
        return Division(job=False)
    with open_source(source, s3, plan.recipe.layout, fetch=False) as files:
        unread = _unread(plan, s3, files)
        require_restored(without_secrets(source), files.archived.intersection(file.key for file in unread))
        work = Work.of(ObjectSource.of(source), unread)
        known = len(files) - len(unread)
    log.info("%d files are new, %d known; a job can take %d of the new ones.", len(unread), known, len(work.files))
    if not work.files or (sync.where == "auto" and len(work.files) < sync.job_from):
        log.info("The worker verifies them.")
        return Division(job=False, files=len(unread))
    return _written(plan, s3, work, len(unread))


def _written(plan: Plan, s3: Any, work: Work, count: int) -> Division:
    import PIL

    shipped, by = code(), rules()
    division = Division(
        job=True,
        files=count,
        in_job=len(work.files),
        size_bytes=work.size_bytes,
        digest=work.digest(shipped.digest, by),
        code_digest=shipped.digest,
        rules=by,
        pillow=PIL.__version__,
    )
    for key, body, kind in (
        (plan.source_key(shipped.digest), shipped.packed(), "application/gzip"),
        (plan.work_key(division.digest), work.packed(), "application/gzip"),
        (plan.work_manifest_key(division.digest), work.manifest(), "application/json"),
    ):
        s3.put_object(Bucket=plan.environment.bucket, Key=key, Body=body, ContentType=kind)
    return division


def _unread(plan: Plan, s3: Any, files: SourceFiles) -> list[SourceFile]:
    """What earlier syncs do not tell about. They count for nothing where what they stored is gone."""
    bucket, key = plan.environment.bucket, memory_key(plan.root, plan.recipe.source)
    memory = recall(s3, bucket, key)
    unread = files.unread(memory)
    # New images are compared with the thumbs of all others.
    thumbs = thumbs_key(key) if memory.near and unread else None
    try:
        Store(s3, bucket, plan.data_key, memory.stored).require(thumbs)
    except Forgotten as error:
        log.warning("%s: everything is verified and compared again.", error)
        remember(s3, bucket, key, Memory())  # so that the sync does not believe it either
        return files.unread(Memory())
    return unread
