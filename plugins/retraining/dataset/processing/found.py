"""All that a job found, as if the sync had known it before: then it reads the rest, and decides as it always does."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from retraining.dataset.pictures.rules import rules
from retraining.dataset.processing.verdicts import LINES, MAX_FILE_BYTES, Row, Verdict, VerdictsError, read
from retraining.dataset.processing.work import Work, WorkError
from retraining.dataset.sources.bucket import Origin
from retraining.dataset.sources.memory import Memory
from retraining.dataset.sources.source import SourceFile
from retraining.dataset.stamp import Stamp
from retraining.s3.documents import read_document

log = logging.getLogger(__name__)

MAX_HOSTS = 100


@dataclass(frozen=True, kw_only=True)
class Found:
    """By one job."""

    work: Work
    files: Mapping[str, tuple[Stamp, Verdict]]
    """By the names that the source gives them; the stamps are those by which they were listed."""
    once: Set[str]
    """Names of those that are not remembered: another sync looks at them again."""
    bucket: str
    converted: str
    """The key below which converted pictures lie, under their digests."""

    def beside(self, memory: Memory) -> Memory:
        """What is known of the source, with this."""
        return replace(memory, files={**memory.files, **self.files})

    def origin(self, file: SourceFile, converted: str | None) -> Origin | None:
        """Where S3 has a file's bytes, or those of the picture that it became; None where this job did not judge it."""
        stamp, _ = self.files.get(file.key, (None, None))
        if stamp is None or stamp != file.stamp:
            return None
        if converted:
            return Origin(bucket=self.bucket, key=f"{self.converted}{converted}")
        return self.work.source.origin(file.key, stamp)


def read_found(s3: Any, bucket: str, work_key: str, output_key: str) -> Found:
    """`output_key`: the folder of one job's output. Raises WorkError, VerdictsError."""
    body, _ = read_document(s3, bucket, work_key)
    if body is None:
        raise WorkError(f"s3://{bucket}/{work_key} is gone; trigger a new run.")
    work = Work.unpacked(body)
    files: dict[str, tuple[Stamp, Verdict]] = {}
    once = set[str]()
    for row in _rows(s3, bucket, output_key, len(work.files)):
        stamp = work.files.get(row.name)
        if stamp is None or row.name in files:
            where = f"s3://{bucket}/{output_key}"
            raise VerdictsError(
                f"{where} tells of {row.name!a}, which was not asked about, or twice. Trigger a new run."
            )
        if row.size_bytes is None:
            once.add(row.name)
        elif row.size_bytes != int(stamp.partition(":")[0]):
            continue  # changed since it was listed: the worker reads it
        files[row.name] = (stamp, row.verdict)
    log.info("The job tells of %d of its %d files.", len(files), len(work.files))
    return Found(work=work, files=files, once=once, bucket=bucket, converted=f"{output_key}converted/")


def _rows(s3: Any, bucket: str, output_key: str, count: int) -> Iterator[Row]:
    most, by = count // LINES + MAX_HOSTS, rules()
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=output_key, Delimiter="/")
    found = [(entry["Key"], entry["Size"]) for page in pages for entry in page.get("Contents", [])]
    if len(found) > most:
        raise VerdictsError(f"s3://{bucket}/{output_key} has {len(found)} files of verdicts, at most {most} can be")
    for key, size in sorted(found):
        if size > MAX_FILE_BYTES:
            raise VerdictsError(f"s3://{bucket}/{key} has {size} bytes, at most {MAX_FILE_BYTES} can be")
        body, _ = read_document(s3, bucket, key)
        try:
            yield from read(body or b"", by)
        except VerdictsError as error:
            raise VerdictsError(f"s3://{bucket}/{key} cannot be believed: {error}. Trigger a new run.") from None
