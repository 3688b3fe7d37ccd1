"""Look at a data set as a sync would, or write a known one as an image folder, without Airflow.

python -m retraining.dataset check SOURCE [--html FILE]       what a sync of it would say; SOURCE may be a recipe's file
python -m retraining.dataset check SOURCE --layout '{classes: Data/Train}'   the same, with what a refusal proposed
python -m retraining.dataset check SOURCE --names             how its folders and tables are understood, and no more
python -m retraining.dataset sync RECIPE                      bring a recipe's source into the bucket, as its DAG does
python -m retraining.dataset diff RECIPE [SINCE [NOW]]        what is other since the champion's data, image by image
python -m retraining.dataset gc RECIPE [--yes]                what nothing needs any more; --yes deletes it
python -m retraining.dataset labels RECIPE                    labels in doubt; --relabel, --keep, --remove decide
python -m retraining.dataset import NAME [SOURCE] TARGET      write a public set, a hub's, or arrays as class folders
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from retraining.dataset.check import check
from retraining.dataset.progress import at_terminal
from retraining.dataset.public.data_sets import IMPORTERS, import_parquet, import_pixels
from retraining.dataset.public.hub_parquet import Columns
from retraining.dataset.sources.archive import ArchiveError
from retraining.dataset.sources.source import SourceError
from retraining.environment import dags_folder
from retraining.recipe import RecipeError, read_layout
from retraining.telling import PlainFormatter, tell


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m retraining.dataset", description="Data sets, without Airflow.")
    commands = parser.add_subparsers(dest="command", required=True)
    importing = commands.add_parser("import", help="write a known data set as a folder of class folders")
    importing.add_argument("name", choices=list(IMPORTERS), help="which data set")
    importing.add_argument(
        "source",
        nargs="?",
        help="an https address, an archive, a folder, or one .parquet, .npz or .csv file (not for digits)",
    )
    importing.add_argument("target", type=Path, help="the folder to write: a new or an empty one")
    importing.add_argument("--image", metavar="COLUMN", help="of parquet files, that of the pictures")
    importing.add_argument(
        "--label", metavar="COLUMN", help="of parquet files and tables of pixels, that of the classes"
    )
    checking = commands.add_parser(
        "check", help="what a sync would say of a source; exit status 1 if it would refuse it"
    )
    checking.add_argument("source", help="a folder, archive, s3:// prefix or https address, or a recipe's file")
    checking.add_argument(
        "--layout", metavar="YAML", help="what a refusal proposes, to be tried: '{classes: Data/Train}'"
    )
    looking = checking.add_mutually_exclusive_group()
    looking.add_argument("--html", type=Path, metavar="FILE", help="also write a contact sheet to look at")
    looking.add_argument("--names", action="store_true", help="look at no picture, only at how they lie")
    syncing = commands.add_parser("sync", help="bring a recipe's source into the bucket, as its DAG does")
    comparing = commands.add_parser("diff", help="what is other in two versions; exit status 1 if anything is")
    collecting = commands.add_parser("gc", help="what nothing needs any more in the bucket; a look, unless --yes")
    doubting = commands.add_parser(
        "labels", help="labels that the last run's models doubt, and what is decided of them"
    )
    for command in (syncing, comparing, collecting, doubting):
        command.add_argument("recipe", help="its name")
    comparing.add_argument("since", nargs="?", help="a version's fingerprint; default: the champion's")
    comparing.add_argument("now", nargs="?", help="another; default: that of the last sync")
    collecting.add_argument("--newest", type=_count, default=4, metavar="N", help="versions that stay (default: 4)")
    collecting.add_argument("--days", type=_days, default=7, metavar="N", help="what is younger stays (default: 7)")
    collecting.add_argument("--yes", action="store_true", help="delete it")
    doubting.add_argument(
        "--relabel", nargs="+", default=[], metavar="IMAGE[=CLASS]", help="into the likely class, or another one"
    )
    doubting.add_argument("--keep", nargs="+", default=[], metavar="IMAGE", help="the label is right")
    doubting.add_argument("--remove", nargs="+", default=[], metavar="IMAGE", help="the picture is in no class")
    doubting.add_argument("--by", metavar="NAME", help="who decides (default: the user)")
    doubting.add_argument("--save", type=Path, metavar="FILE", help="write the sheet, to be filled in")
    doubting.add_argument("--take", type=Path, metavar="FILE", help="go by a sheet that was filled in")
    arguments = parser.parse_args()
    if arguments.command == "check":
        return _check(arguments.source, arguments.html, arguments.layout, names=arguments.names)
    if arguments.command in ("sync", "diff", "gc", "labels"):
        return _of_recipe(arguments)
    return _import(parser, arguments)


def _import(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    _log_to_stderr()
    target: Path = arguments.target
    importer = IMPORTERS[arguments.name]
    if arguments.name == "parquet":
        columns = Columns(image=arguments.image, label=arguments.label)
        importer = functools.partial(import_parquet, columns=columns)
    elif arguments.name == "pixels" and not arguments.image:
        importer = functools.partial(import_pixels, label=arguments.label)
    elif arguments.image or arguments.label:
        parser.error(
            f"{arguments.name} has no such columns; --image and --label are of parquet files, --label of pixels, too"
        )
    if target.exists() and not target.is_dir():
        parser.error(f"{target} is not a folder; name a new or an empty folder")
    if target.is_dir() and any(target.iterdir()):
        parser.error(f"{target} is not empty; name a new or an empty folder")
    # Written beside its place and then renamed: a half-written folder would look like a small data set.
    unfinished = target.absolute().with_name(f".{target.absolute().name}.unfinished")
    try:
        with at_terminal() as progress:
            count = _write(functools.partial(importer, progress=progress), arguments.source, unfinished, target)
    except (SourceError, ArchiveError, OSError) as error:
        tell(f"python -m retraining.dataset: {error}", error=True)
        return 1
    classes = {path.parent.name for path in target.rglob("*.*") if path.is_file()}
    tell(f"{count} images in {len(classes)} classes in {target}")
    return 0


def _check(source: str, html: Path | None, layout: str | None, *, names: bool) -> int:
    _log_to_stderr()
    try:
        said = None if layout is None else read_layout(layout)
        with at_terminal() as progress:
            checked = check(source, said=said, html=html is not None, names=names, progress=progress)
        if html is not None and checked.html is not None:
            html.write_text(checked.html)
    except (RecipeError, OSError, BotoCoreError, ClientError) as error:
        tell(f"python -m retraining.dataset: {error}", error=True)
        return 2
    tell(checked.text)
    if html is not None and checked.html is not None:
        tell(f"To look at: {html}")
    return 0 if checked.good else 1


def _of_recipe(arguments: argparse.Namespace) -> int:
    _log_to_stderr()
    from retraining.dataset import terminal  # boto3, which the other commands do without
    from retraining.dataset.labels.terminal import Asked

    folder = dags_folder(os.environ)
    if arguments.command == "sync":
        return terminal.sync(arguments.recipe, folder)
    if arguments.command == "diff":
        return terminal.diff(arguments.recipe, arguments.since, arguments.now, folder)
    if arguments.command == "labels":
        given = ("relabel", "keep", "remove", "by", "save", "take")
        return terminal.doubted(arguments.recipe, folder, Asked(**{name: getattr(arguments, name) for name in given}))
    return terminal.collect(
        arguments.recipe, folder, newest=arguments.newest, days=arguments.days, delete=arguments.yes
    )


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least the newest version stays")
    return number


def _days(text: str) -> float:
    if not 0 <= (number := float(text)) < 36_500:
        raise argparse.ArgumentTypeError("from 0 to 36,500 days")
    return number


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("botocore").setLevel(logging.WARNING)


def _write(importer: Callable[[str | None, Path], int], source: str | None, unfinished: Path, target: Path) -> int:
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    unfinished.mkdir(parents=True)
    try:
        count = importer(source, unfinished)
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return count


if __name__ == "__main__":
    sys.exit(main())
