"""Bring a source into S3 as one version: verify what is new, quarantine, split, upload what is missing.

Objects are named by their content, so a second run of the same data uploads nothing, and a run that dies half way is
finished by the next. The version's own files come last: a manifest never names an object that is not there. What was
found is remembered last of all (`memory`), so that an unchanged source costs a look at its names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from retraining.dataset.labels.corrections import corrected, forgotten
from retraining.dataset.labels.store import read_decisions
from retraining.dataset.near.thumbs import Thumbs
from retraining.dataset.pictures.pool import verify_files
from retraining.dataset.processing.found import Found
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.sources.bucket import Origin
from retraining.dataset.sources.memory import Forgotten, Memory, Verdict, memory_key, recall, remember
from retraining.dataset.sources.source import SourceFile, SourceFiles, open_source
from retraining.dataset.split import SPLITS
from retraining.dataset.stamp import is_files
from retraining.dataset.summary import summary
from retraining.dataset.versions.kept import Versions
from retraining.dataset.versions.kept_out import keep_kept_out
from retraining.dataset.versions.likeness import keep_thumbs, likeness, thumbs_key
from retraining.dataset.versions.shards import keep_shards
from retraining.dataset.versions.store import Store
from retraining.dataset.versions.strips import keep_strips
from retraining.dataset.versions.version import Version, as_json, make_version
from retraining.plan import Plan
from retraining.web_address import without_secrets

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What a sync found and did."""

    version: Version
    uploaded: int
    """Objects of the version that were written, and its documents; 0 when S3 had everything already."""
    read: int
    """Files that were read; 0 when all are those of the sync before."""


def sync_dataset(plan: Plan, s3: Any, progress: Progress = in_log, found: Found | None = None) -> Synced:
    """The plan's source as a version in the plan's bucket; ValueErrors of this package say what is wrong.

    `found`: by a job that has looked at files before; what it does not tell of is read here.
    """
    key = memory_key(plan.root, plan.recipe.source)
    memory = recall(s3, plan.environment.bucket, key)
    try:
        return _sync(plan, s3, memory, key, progress, found)
    except Forgotten as error:
        log.warning("%s: everything is read and compared again.", error)
        return _sync(plan, s3, Memory(), key, progress, found)


def _sync(plan: Plan, s3: Any, memory: Memory, key: str, progress: Progress, found: Found | None) -> Synced:
    source, bucket = without_secrets(plan.recipe.source), plan.environment.bucket
    known = found.beside(memory) if found else memory
    with ExitStack() as held:
        files = held.enter_context(open_source(plan.recipe.source, s3, plan.recipe.layout, known))
        thumbs = held.enter_context(closing(Thumbs(files.scratch / "thumbs")))
        judged, seen = verify(files, known, thumbs, progress)
        decisions = read_decisions(s3, plan)
        unknown = forgotten(judged, decisions)
        originals = Versions(s3=s3, plan=plan).originals(unknown) if unknown else {}
        judged, corrections = corrected(judged, decisions, originals)
        alike = likeness((verdict for _, verdict in judged), thumbs, memory, s3, bucket, thumbs_key(key))
        version = make_version(judged, source, plan.recipe.split, files.understood.as_dict(), alike.clusters)
        version = replace(version, corrections=corrections)
        # Before anything is uploaded, and long before anything is paid.
        log.info("%s was understood as:\n%s", source, "\n".join(summary(as_fact(version))))
        _say(version)
        store = Store(s3, bucket, plan.data_key, memory.stored, progress)
        places = objects(version, files.scratch, found)
        store.put_missing(places)
        keep_kept_out(version, store, files.scratch)
        keep_strips(version, store, places)
        if plan.recipe.sync.shards != "off":
            keep_shards(version, store, places, files.scratch)
        images_uri, folder = plan.uri(plan.images_key), f"versions/{version.fingerprint}"
        documents: dict[str, Any] = {f"{split}.manifest": version.manifest(split, images_uri) for split in SPLITS}
        documents |= {"originals.json": version.originals} if version.originals else {}
        documents |= {"names.json": version.names, "dataset.json": version.document()}
        store.put_changed({f"{folder}/{name}": as_json(document) for name, document in documents.items()})
        seen = {name: what for name, what in seen.items() if found is None or name not in found.once}
        now = Memory(taken_ns=files.taken_ns, files=seen, stored=store.stored, whole=files.whole, near=alike.near)
        keep_thumbs(alike, s3, bucket, thumbs_key(key))
        if not now.says_the_same(memory):
            remember(s3, bucket, key, now)
    read = len(files.unread(memory))
    log.info(
        "Version %s: %d images, %d read, %d uploads.", version.fingerprint, len(version.images), read, store.uploaded
    )
    return Synced(version=version, uploaded=store.uploaded, read=read)


def as_fact(version: Version) -> dict[str, Any]:
    """What later tasks and the report need to know of a version; small, for it goes through XCom."""
    return {
        "fingerprint": version.fingerprint,
        "classes": version.classes,
        "counts": version.counts,
        "split": asdict(version.shares),
        "quarantined": len(version.quarantined),
        "layout": dict(version.layout),
        "groups": version.groups.as_dict() if version.groups else None,
        "animated": version.animated,
        "converted": version.converted,
        "near_duplicates": version.near.as_dict() if version.near else None,
        "corrections": version.corrections.counts() if version.corrections else None,
    }


def verify(
    files: SourceFiles, memory: Memory, thumbs: Thumbs, progress: Progress = in_log
) -> tuple[list[tuple[SourceFile, Verdict]], dict[str, tuple[str, Verdict]]]:
    """Each file with what it is found to be, read or remembered; and what may be remembered of them, by their keys."""
    known = {file.key: file.rejected or memory.verdict(file.key, file.stamp) for file in files}
    unknown = [file for file in files if known[file.key] is None]
    log.info("Verifying %d files; %d are those of the last sync.", len(unknown), len(files) - len(unknown))
    unchanged = known.keys() - {file.key for file in unknown}
    answers = verify_files([file.path for file in unknown], files.scratch, progress=progress, keep=thumbs.taken)
    for file, (found, stamp) in zip(unknown, answers, strict=True):
        known[file.key] = found
        # Of a copy that was fetched, the stamp is that of where it came from.
        if stamp == file.stamp or (stamp and file.stamp and not is_files(file.stamp)):
            unchanged.add(file.key)
    judged = [(file, verdict) for file in files if (verdict := known[file.key]) is not None]
    seen = {
        file.key: (file.stamp, verdict)
        for file, verdict in judged
        if file.stamp and not file.rejected and file.key in unchanged
    }
    return judged, seen


def objects(version: Version, scratch: Path, found: Found | None = None) -> Mapping[str, Path | Origin]:
    """What a version has in S3 besides its documents: keys below `data/`, and who has their bytes."""

    def place(file: SourceFile, converted: str | None = None) -> Path | Origin:
        there = found.origin(file, converted) if found else None
        return there or (scratch / converted if converted else file.path)

    images = {
        f"images/{image.entry}": place(image.file, image.sha256 if image.original else None) for image in version.images
    }
    quarantined = {entry.key: place(entry.file) for entry in version.quarantined if entry.key}
    return images | quarantined


def _say(version: Version) -> None:
    if version.groups and version.groups.ungrouped:
        few, examples = version.groups.ungrouped, ", ".join(version.groups.ungrouped_examples)
        log.warning("split.group_by finds nothing in the names of %d images, for example %s.", few, examples)
    for entry in version.quarantined[:20]:
        log.warning("Quarantined %s: %s, %s", entry.file.name, entry.code, entry.detail)
