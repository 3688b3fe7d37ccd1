"""The program in each container of the job: its part of the files, judged as a worker judges them.

SageMaker has put the files below one folder, by the names that the source gives them, and takes what is left in another
one when all containers have ended well. A file of verdicts is written beside its place and renamed: there is no half
one. Needs Python, Pillow and NumPy.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from retraining.dataset.pictures.pool import Judged, verify_files
from retraining.dataset.pictures.rules import rules
from retraining.dataset.pictures.verdict import VerifiedImage
from retraining.dataset.processing.verdicts import LINES, Row, written
from retraining.dataset.source_error import SourceError

UNREAD = ("UNREADABLE", "NOT_REGULAR")
"""Of a file that SageMaker has just put there: no fault of the picture."""


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  of the container, where whole pictures would be taken for broken
        sys.exit(f"The container has Python {sys.version.split()[0]}; name an image with Python 3.11 or newer.")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=Path, required=True, help="the folder of what is to be judged")
    parser.add_argument("--output", type=Path, required=True, help="the folder for what is found")
    parser.add_argument("--job", type=Path, required=True, help="processingjobconfig.json")
    parser.add_argument("--hosts", type=Path, required=True, help="resourceconfig.json")
    parser.add_argument("--rules", required=True, help="by which the worker would judge")
    parser.add_argument("--pillow", required=True, help="its version there")
    given = parser.parse_args()
    _require_same_rules(given.rules, given.pillow)
    job, host = json.loads(given.job.read_text())["ProcessingJobName"], json.loads(given.hosts.read_text())
    try:
        judge(given.files, given.output / job, host["current_host"])
    except SourceError as error:
        sys.exit(str(error))


def judge(files: Path, output: Path, host: str) -> None:
    """Every file below `files`. Raises SourceError where they cannot be read, or many end their process."""
    (output / "converted").mkdir(parents=True, exist_ok=True)
    paths = sorted(_files(files))
    judged = verify_files(paths, output / "converted")
    rows = [_row(path.relative_to(files).as_posix(), found) for path, found in zip(paths, judged, strict=True)]
    _keep_only(output / "converted", {row.verdict.sha256 for row in rows if isinstance(row.verdict, VerifiedImage)})
    for number, start in enumerate(range(0, len(rows), LINES)):
        _write(output / f"{host}-{number:05}.jsonl", written(rules(), rows[start : start + LINES]))


def _require_same_rules(wanted: str, pillow: str) -> None:
    import PIL

    if rules() != wanted:
        sys.exit(
            f"The container has Pillow {PIL.__version__}, the Airflow worker {pillow}: they may judge pictures "
            "differently, and a version of the data must not depend on where it was made. Name an image with the "
            "worker's Pillow by RETRAINING_PROCESSING_IMAGE (docker/processing.Dockerfile makes one), or let the "
            "worker verify (sync.where: worker)."
        )


def _files(folder: Path) -> Iterator[Path]:
    for above, _, names in os.walk(folder):
        yield from (Path(above) / name for name in names)


def _row(name: str, judged: Judged) -> Row:
    verdict, stamp = judged
    if not isinstance(verdict, VerifiedImage) and verdict.code in UNREAD:
        raise SourceError(f"{name!a} cannot be read where SageMaker has put it: {verdict.detail}.")
    return Row(name=name, size_bytes=int(stamp.partition(":")[0]) if stamp else None, verdict=verdict)


def _keep_only(folder: Path, digests: set[str]) -> None:
    """What processes leave beside the converted pictures is nobody's."""
    for path in folder.iterdir():
        if path.name not in digests:
            path.unlink()


def _write(path: Path, body: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(body)
    unfinished.rename(path)


if __name__ == "__main__":
    main()
