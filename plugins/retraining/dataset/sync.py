"""Bring a source into S3 as one version: verify every image, quarantine, split, upload what is missing.

Objects are named by their content, so a second run of the same data uploads nothing, and a run that dies half way is
finished by the next. The version's own files come last: a manifest never names an object that is not there.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

from retraining.dataset.sources import SourceFile, open_source
from retraining.dataset.split import SPLITS
from retraining.dataset.summary import summary
from retraining.dataset.verify import Rejected, VerifiedImage, verify_image
from retraining.dataset.version import Version, as_json, make_version
from retraining.plan import Plan
from retraining.s3.listing import list_keys
from retraining.web_address import without_secrets

log = logging.getLogger(__name__)

UPLOAD_THREADS = 10  # as many connections as a boto3 client keeps
VERIFY_THREADS = 4
CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png"}


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What a sync found and did."""

    version: Version
    uploaded: int
    """Objects written, of every kind; 0 when S3 had everything already."""


def sync_dataset(plan: Plan, s3: Any) -> Synced:
    """The plan's source as a version in the plan's bucket; ValueErrors of this package say what is wrong."""
    source = without_secrets(plan.recipe.source)
    with open_source(plan.recipe.source, s3, plan.recipe.layout) as files:
        log.info("Verifying %d files of %s.", len(files), source)
        layout = files.understood.as_dict()
        version = make_version(_verify(files), source, plan.recipe.split, layout)
        # Before anything is uploaded, and long before anything is paid.
        log.info("%s was understood as:\n%s", source, "\n".join(summary(as_fact(version))))
        if version.groups and version.groups.ungrouped:
            few, examples = version.groups.ungrouped, ", ".join(version.groups.ungrouped_examples)
            log.warning("split.group_by finds nothing in the names of %d images, for example %s.", few, examples)
        for entry in version.quarantined[:20]:
            log.warning("Quarantined %s: %s, %s", entry.file.name, entry.code, entry.detail)
        store = _Store(s3, plan.environment.bucket)
        store.put_missing(plan.images_key, ((image.entry, image.file) for image in version.images))
        # What is no regular file, or was reached over a link and is no image, is named in dataset.json but not copied.
        local = (entry for entry in version.quarantined if entry.file.rejected is None and not entry.file.linked)
        kept = [entry for entry in local if entry.file.path.is_file() and not entry.file.path.is_symlink()]
        store.put_missing(
            plan.quarantine_key, ((f"{entry.code}/{_digest_name(entry.file)}", entry.file) for entry in kept)
        )
    images_uri = plan.uri(plan.images_key)
    for split in SPLITS:
        store.put_changed(plan.manifest_key(version.fingerprint, split), as_json(version.manifest(split, images_uri)))
    store.put_changed(f"{plan.version_key(version.fingerprint)}/dataset.json", as_json(version.document()))
    log.info("Version %s: %d images, %d uploads.", version.fingerprint, len(version.images), store.uploaded)
    return Synced(version=version, uploaded=store.uploaded)


def as_fact(version: Version) -> dict[str, Any]:
    """What later tasks and the report need to know of a version; small, for it goes through XCom."""
    return {
        "fingerprint": version.fingerprint,
        "classes": version.classes,
        "counts": version.counts,
        "quarantined": len(version.quarantined),
        "layout": dict(version.layout),
        "groups": version.groups.as_dict() if version.groups else None,
        "animated": version.animated,
    }


def _verify(files: list[SourceFile]) -> list[tuple[SourceFile, VerifiedImage | Rejected]]:
    def judge(file: SourceFile) -> tuple[SourceFile, VerifiedImage | Rejected]:
        return file, file.rejected or verify_image(file.path)

    with ThreadPoolExecutor(VERIFY_THREADS) as pool:
        return list(pool.map(judge, files))


def _digest_name(file: SourceFile) -> str:
    with file.path.open("rb") as body:
        return hashlib.file_digest(body, "sha256").hexdigest()[:20]


class _Store:
    """Uploads into one bucket, counted."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self.s3, self.bucket, self.uploaded = s3, bucket, 0

    def put_missing(self, prefix: str, files: Iterable[tuple[str, SourceFile]]) -> None:
        """Objects named by content: those S3 has are right by their name. Never relies on the order of a listing."""
        wanted = {f"{prefix}{name}": file for name, file in files}
        if not wanted:
            return
        missing = wanted.keys() - set(list_keys(self.s3, self.bucket, prefix))
        self._run([partial(self._upload, key, wanted[key]) for key in sorted(missing)])

    def put_changed(self, key: str, body: bytes) -> None:
        """A small document, written only when S3 has something else or nothing there."""
        try:
            if self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() == body:
                return
        except self.s3.exceptions.NoSuchKey:
            pass
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="application/json")
        self.uploaded += 1

    def _upload(self, key: str, file: SourceFile) -> None:
        content_type = CONTENT_TYPES.get(key.rsplit(".", 1)[-1], "application/octet-stream")
        with file.path.open("rb") as body:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type)

    def _run(self, uploads: list[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
            for done, future in enumerate(as_completed([pool.submit(upload) for upload in uploads]), start=1):
                future.result()
                if done % 1000 == 0 or done == len(uploads):
                    log.info("Uploaded %d of %d objects.", done, len(uploads))
        self.uploaded += len(uploads)
