"""What a person asks at a terminal about the data of one recipe, with the AWS credentials of their shell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from retraining.dataset.garbage import Busy, Collector, Garbage, NotDeleted
from retraining.dataset.labels.sheet import SheetError
from retraining.dataset.labels.store import DecisionsChanged
from retraining.dataset.labels.terminal import Asked, labels
from retraining.dataset.layouts.groups import GroupError
from retraining.dataset.progress import at_terminal
from retraining.dataset.sources.archive import ArchiveError
from retraining.dataset.sources.source import SourceError
from retraining.dataset.split import SplitError
from retraining.dataset.summary import changed, summary
from retraining.dataset.sync import as_fact, sync_dataset
from retraining.dataset.versions.changes import changes
from retraining.dataset.versions.kept import NoVersion, Versions
from retraining.dataset.versions.version import DatasetError
from retraining.plan import Plan
from retraining.promotion.champion import own_champion
from retraining.telling import tell
from retraining.terminal import REFUSALS, client_of, plan_of

REFUSED = (
    *(*REFUSALS, ArchiveError, Busy, DatasetError, DecisionsChanged, GroupError, NotDeleted, OSError),
    *(SheetError, SourceError, SplitError),
)


def sync(name: str, dags_folder: Path) -> int:
    """The exit status: 0 when the source lies in the bucket as a version."""

    def work(plan: Plan) -> int:
        with at_terminal() as progress:
            synced = sync_dataset(plan, client_of(plan, "s3"), progress)
        tell("\n".join(summary(as_fact(synced.version))))
        tell(f"\n{synced.read} files read, {synced.uploaded} objects uploaded.")
        return 0

    return _refusing(name, dags_folder, work)


def diff(name: str, since: str | None, now: str | None, dags_folder: Path) -> int:
    """The exit status: 0 when two versions hold the same images in the same splits, 1 when not, 2 for an error."""

    def work(plan: Plan) -> int:
        s3 = client_of(plan, "s3")
        versions = Versions(s3=s3, plan=plan)
        champions = ((own_champion(s3, plan).document or {}).get("ingredients") or {}).get("dataset")
        before = since or champions or _known(versions, "champion's version; name one")
        after = now or versions.current() or _known(versions, "version of a last sync; name both")
        found = changes(before, versions.manifests(before), versions.manifests(after))
        lines = changed(found.as_dict())
        tell("\n".join([f"From {before} to {after}:", *(lines or ["no image is other"])]))
        return 1 if lines else 0

    return _refusing(name, dags_folder, work)


def collect(name: str, dags_folder: Path, *, newest: int, days: float, delete: bool) -> int:
    """The exit status: 0 also where there is nothing to delete, or where nothing was to be deleted yet."""

    def work(plan: Plan) -> int:
        s3, sagemaker, older_than = client_of(plan, "s3"), client_of(plan, "sagemaker"), timedelta(days=days)
        collector = Collector(s3=s3, sagemaker=sagemaker, plan=plan, newest=newest, older_than=older_than)
        garbage = collector.find(datetime.now(UTC))
        tell("\n".join(told(garbage)))
        if not any(garbage.keys):
            tell("Nothing can go.")
        elif delete:
            tell(f"{collector.delete(garbage)} objects deleted.")
        else:
            tell("Nothing was deleted. --yes deletes it; do not let a sync run meanwhile.")
        return 0

    return _refusing(name, dags_folder, work)


def doubted(name: str, dags_folder: Path, asked: Asked) -> int:
    """The exit status: 0 when what was asked is done."""

    def work(plan: Plan) -> int:
        for line in labels(client_of(plan, "s3"), plan, asked):
            tell(line)
        return 0

    return _refusing(name, dags_folder, work)


def told(garbage: Garbage) -> Iterator[str]:
    """What stays and why, then what goes."""
    for fingerprint, why in garbage.kept.items():
        yield f"keep    {fingerprint}  {why}"
    for fingerprint in garbage.versions:
        yield f"delete  {fingerprint}"
    if garbage.objects:
        yield f"delete  {len(garbage.objects)} images, quarantined files and what jobs found"
    if garbage.size_bytes:
        yield f"        {garbage.size_bytes / 1e6:,.1f} MB in all"
    if garbage.memories:
        yield f"forget  what syncs of {len(garbage.memories)} other sources remember; they will read all anew"


def _refusing(name: str, dags_folder: Path, work: Callable[[Plan], int]) -> int:
    try:
        return work(plan_of(name, dags_folder))
    except (*REFUSED, NoVersion) as error:
        tell(f"error: {error}", error=True)
        return 2


def _known(versions: Versions, what: str) -> NoReturn:
    known = ", ".join(f"{one.fingerprint} of {one.written:%Y-%m-%d %H:%M}" for one in versions.all()[:10]) or "none"
    raise NoVersion(f"there is no {what}. Versions, the newest first: {known}")
