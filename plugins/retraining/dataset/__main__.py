"""Command line: `python -m retraining.dataset import digits TARGET` writes the bundled digits as an image folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from retraining.dataset.digits import write_digits


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m retraining.dataset", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    importing = commands.add_parser("import", help="write a known data set as a folder of class folders")
    importing.add_argument("name", choices=["digits"], help="which data set")
    importing.add_argument("target", type=Path, help="the folder to write; made when it does not exist")
    arguments = parser.parse_args()
    if arguments.target.exists() and not arguments.target.is_dir():
        parser.error(f"{arguments.target} is not a folder; name a new or an empty folder")
    if arguments.target.is_dir() and any(arguments.target.iterdir()):
        parser.error(f"{arguments.target} is not empty; name a new or an empty folder")
    count = write_digits(arguments.target)
    print(f"{count} images in {len(list(arguments.target.iterdir()))} classes in {arguments.target}")


if __name__ == "__main__":
    main()
