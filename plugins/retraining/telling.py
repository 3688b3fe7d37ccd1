"""What a command says at a terminal: text of others may hold what a terminal obeys, and is written out there."""

from __future__ import annotations

import logging
import sys

from retraining.printable import printable


def tell(*texts: object, error: bool = False) -> None:
    """Print each text, which may have several lines."""
    for text in texts:
        print(plain(str(text)), file=sys.stderr if error else sys.stdout)


def plain(text: str) -> str:
    """The same lines, with colours, cursors, titles and right-to-left order written as \\x1b."""
    return "\n".join(printable(line) for line in text.split("\n"))


class PlainFormatter(logging.Formatter):
    """Of the log of a command."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))
