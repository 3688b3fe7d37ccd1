"""Write a known data set as an image folder that a recipe can name as its source."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from retraining.dataset.archive import ArchiveError
from retraining.dataset.public import IMPORTERS
from retraining.dataset.sources import SourceError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m retraining.dataset", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    importing = commands.add_parser("import", help="write a known data set as a folder of class folders")
    importing.add_argument("name", choices=list(IMPORTERS), help="which data set")
    importing.add_argument("source", nargs="?", help="an https address, an archive or a folder (not for digits)")
    importing.add_argument("target", type=Path, help="the folder to write: a new or an empty one")
    arguments = parser.parse_args()
    target: Path = arguments.target
    if target.exists() and not target.is_dir():
        parser.error(f"{target} is not a folder; name a new or an empty folder")
    if target.is_dir() and any(target.iterdir()):
        parser.error(f"{target} is not empty; name a new or an empty folder")
    # Written beside its place and then renamed: a half-written folder would look like a small data set.
    unfinished = target.absolute().with_name(f".{target.absolute().name}.unfinished")
    try:
        count = _write(arguments.name, arguments.source, unfinished, target)
    except (SourceError, ArchiveError, OSError) as error:
        print(f"python -m retraining.dataset: {error}", file=sys.stderr)
        return 1
    classes = {path.parent.name for path in target.rglob("*.*") if path.is_file()}
    print(f"{count} images in {len(classes)} classes in {target}")
    return 0


def _write(name: str, source: str | None, unfinished: Path, target: Path) -> int:
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    unfinished.mkdir(parents=True)
    try:
        count = IMPORTERS[name](source, unfinished)
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return count


if __name__ == "__main__":
    sys.exit(main())
